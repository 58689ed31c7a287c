"""A project with one real cell, small enough to train in a second: three meta epochs on images of 32 pixels."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from folders import make_category

from bgad import cli
from bgad.anomalies.synthetic import compute_synthetic
from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.settings import Dataset, load_recipe
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.features.backbone import load_backbone
from bgad.features.cache import compute, load
from bgad.methods.runner import run_cell

CPU = torch.device("cpu")
CELL = Cell("tiny", "own", "part", "seen", 3, "bgad", 0)
SUITE = """
title: A small suite
question: Does it work?
grid:
  - {recipe: tiny, dataset: own, splits: [seen], k: [3], methods: [bgad], seeds: [0, 1]}
"""


@dataclass(frozen=True)
class TinyProject:
    """``folder`` has config, resources and results, like a project's root; ``cell`` is the folder of the trained cell."""

    folder: Path

    @property
    def cell(self) -> Path:
        return self.folder / CELL.folder

    @property
    def images(self) -> Path:
        return self.folder / "data" / CELL.category

    def bgad(self, *arguments: object) -> int:
        """Runs a command in the project's folder and returns its exit status."""
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["bgad", *map(str, arguments)])
            cli.main()
        return end.value.code or 0


def make_project(folder: Path) -> TinyProject:
    """The project, with the cell CELL trained; of the suite ``tiny`` it is one of two."""
    shutil.copytree(ROOT / "config", folder / "config")
    config = folder / "config"
    recipe = yaml.safe_load((config / "recipes/demo.yaml").read_text())
    recipe["image_size"], recipe["flow"]["blocks"], recipe["sampling"]["level_steps"] = 32, 2, [3, 2, 1]
    (config / "recipes/tiny.yaml").write_text(yaml.safe_dump(recipe))
    (config / "suites/tiny.yaml").write_text(SUITE)
    root = folder / "data"
    (config / "config.yaml").write_text(yaml.safe_dump({"datasets": {"own": {"path": str(root)}}, "suites": ["tiny"]}))

    make_category(root, CELL.category, types={"cut": 8, "hole": 8}, train=6, good=4)
    index = build_index(CELL.dataset, CELL.category, root, Dataset(path=root))
    split = draw(index, CELL.split, CELL.seed)
    split.save(folder / paths.SPLIT.format(draws="own", **vars(CELL)))
    backbone = load_backbone(recipe["backbone"], CPU)
    compute(index, root, backbone, 32, folder / "features")
    compute_synthetic("cutpaste", index, split, root, backbone, 32, 10, recipe["anomalies"]["pool"], folder / "cutpaste")
    pools = {"cutpaste": load(folder / "cutpaste")}
    settings = load_recipe(config / "recipes/tiny.yaml")
    inputs = (settings, index, split, load(folder / "features"), pools, root, CPU)
    run_cell(CELL, *inputs, folder / CELL.folder, log=lambda line: None)
    return TinyProject(folder)
