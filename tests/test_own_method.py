"""The guide docs/own-method.md: its method, suite and recipe, run in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, Project

PAGE = (ROOT / "docs/own-method.md").read_text(encoding="utf-8")
CELLS = [f"results/{of}/seed0" for of in ("demo/mini/brick/seen/k0/bgad-wo", "demo/mini/brick/seen/k0/mean_distance")]
OF_OTHER_BACKBONE = "results/lite1/mini/brick/seen/k0/mean_distance/seed0"


def block(file: str) -> str:
    """The page's first block after the name of that file."""
    return re.search(rf"`{re.escape(file)}`.*?```\w+\n(.*?)```", PAGE, flags=re.DOTALL)[1]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A copy of the project and its package with the page's three files and finished cells."""
    folder = tmp_path_factory.mktemp("own") / "the project"
    folder.mkdir()
    project = Project(folder)
    shutil.copytree(ROOT / "bgad", folder / "bgad", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("bgad/methods/mean_distance.py", "config/suites/own.yaml", "config/recipes/lite1.yaml"):
        (folder / file).write_text(block(file), encoding="utf-8")
    for file, old, new in (
        ("config/config.yaml", "suites: [", "suites: [own, "),
        ("config/recipes/demo.yaml", "image_size: 256", "image_size: 64"),
        ("config/recipes/demo.yaml", "level_steps: [300, 200, 130]", "level_steps: [40, 20, 10]"),
        ("config/recipes/demo.yaml", "blocks: 4", "blocks: 2"),
    ):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        project.snakemake(*(f"{cell}/metrics.json" for cell in (*CELLS, OF_OTHER_BACKBONE)))
        command = [sys.executable, "-m", "bgad", "table", "own", "--output", "table.md", "--plots", "."]
        subprocess.run(command, cwd=folder, check=True)
    return folder


def test_the_page_s_method_is_in_the_table_with_bgad(ran):
    table = (ran / "table.md").read_text()
    assert "2 of 2 cells measured" in table
    heads = next(line for line in table.splitlines() if line.startswith("| image AUROC"))
    assert [head.split(",")[0].strip() for head in heads.split("|")[2:4]] == ["Mean distance", "bgad-wo"]


def test_it_is_tested_on_the_same_images_as_bgad(ran):
    ours, theirs = (json.loads((ran / cell / "metrics.json").read_text()) for cell in CELLS)
    for key in ("counts", "split_sha256", "recipe_sha256", "weights_sha256"):
        assert ours[key] == theirs[key]
    assert ours["source_sha256"] != theirs["source_sha256"]
    assert 50 < theirs["pixel_auroc"]["last"] <= 100


def test_the_page_s_recipe_has_another_backbone(ran):
    first, other = (json.loads((ran / cell / "metrics.json").read_text()) for cell in (CELLS[1], OF_OTHER_BACKBONE))
    assert first["weights_sha256"] != other["weights_sha256"]
    assert (ran / "resources/features/tf_efficientnet_lite1/64/mini/brick/features.json").exists()
