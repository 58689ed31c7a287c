"""The DAG without running it: how many jobs a request plans, and what an edit makes anew."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, Project, job_counts

CELL = "results/demo/mini/brick/seen/k10/bgad/seed0"


def test_the_paper_suite_plans_every_category_and_seed(project):
    jobs = job_counts(project.snakemake("-n", "reports/table.md"))
    assert jobs == {
        "download": 1,
        "index": 15,
        "split": 15 * 3,
        "features": 15,
        "train": 15 * 3 * 2,  # bgad with ten known anomalies, and bgad-wo
        "plots": 1,
        "examples": 1,
        "paper_table": 1,
    }


def test_the_demo_suite_needs_no_download_and_shares_splits_features_and_pools(project):
    jobs = job_counts(project.snakemake("-n", "reports/demo/table.md"))
    assert jobs == {
        "mini": 4,
        "index": 4,
        "split": (4 + 2) * 2,  # seen, and hard-scratch of two categories; two seeds
        "features": 4,
        "synthetic": (4 + 2) * 2,
        # seen: bgad-wo, nf, k 1, 10; patchcore, padim of one seed; hard-scratch: bgad-wo, k 10
        "train": 4 * 2 * 4 + 4 * 2 + 2 * 2 * 2,
        "plots": 1,
        "examples": 1,
        "table": 1,
    }


def test_the_default_target_is_the_demo(project):
    asked = "reports/demo/table.md", "reports/demo/report.html"
    assert job_counts(project.snakemake("-n")) == job_counts(project.snakemake("-n", *asked)) | {"all": 1}


def test_one_cell_by_its_path_needs_its_own_inputs_alone(project):
    jobs = job_counts(project.snakemake("-n", f"{CELL}/metrics.json"))
    assert jobs == {"mini": 1, "index": 1, "split": 1, "features": 1, "synthetic": 1, "train": 1}


def test_a_detector_needs_features_and_a_split_alone(project):
    jobs = job_counts(project.snakemake("-n", f"{CELL}/metrics.json".replace("k10/bgad", "k0/padim")))
    assert jobs == {"mini": 1, "index": 1, "split": 1, "features": 1, "train": 1}


@pytest.mark.parametrize(
    ("cell", "indexes"),
    [
        ("paper/mvtec/capsule/seen/k10/bgad", 3),  # bottle and cable are drawn before it
        ("paper/mvtec/capsule/seen/k0/bgad-wo", 3),  # on the same test images
        ("paper/mvtec/bottle/seen/k10/bgad", 1),
        ("corrected/mvtec/capsule/seen/k10/bgad", 1),
        ("paper/mvtec/capsule/hard-crack/k10/bgad", 1),  # the released code has no hard splits
    ],
)
def test_a_category_is_drawn_after_those_before_it_where_the_recipe_says_so(project, cell, indexes):
    jobs = job_counts(project.snakemake("-n", f"results/{cell}/seed0/metrics.json"))
    assert jobs == {"download": 1, "index": indexes, "split": 1, "features": 1, "train": 1}


def test_a_strategy_has_a_pool_for_each_of_its_kinds(project):
    recipes = project.folder / "config" / "recipes"
    for strategy, pools in {"repeat": 0, "repeat+pseudo": 1, "all": 2}.items():
        name = f"own-{strategy.replace('+', '-')}"
        (recipes / f"{name}.yaml").write_text(f"base: demo\nanomalies: {{strategy: {strategy}}}\n")
        jobs = job_counts(project.snakemake("-n", f"{CELL}/metrics.json".replace("demo", name)))
        expected = {"mini": 1, "index": 1, "split": 1, "features": 1, "synthetic": pools, "train": 1}
        assert jobs == {rule: count for rule, count in expected.items() if count}


def test_a_copy_that_is_there_needs_no_download(project, tmp_path):
    for path in ("train/good/0.png", "test/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png"):
        (tmp_path / "bottle" / path).parent.mkdir(parents=True)
        (tmp_path / "bottle" / path).touch()
    path = "results/cpu/mvtec/bottle/seen/k0/bgad-wo/seed0/metrics.json"
    jobs = job_counts(project.snakemake("-n", path, "--config", f"datasets={{mvtec: {{path: '{tmp_path}'}}}}"))
    assert jobs == {"index": 1, "split": 1, "features": 1, "train": 1}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--config", "sede=1"), "config: unknown key sede"),
        (("--config", "datasets={mvtec: {pth: x}}"), "config: unknown key datasets.mvtec.pth"),
        (
            ("reports/table.md", "--config", "datasets={mvtec: {path: /no/such/folder}}"),
            "datasets.mvtec.path is /no/such/folder, which is not a folder",
        ),
        (("results/paper/mvtec/botle/seen/k10/bgad/seed0/metrics.json",), "data set mvtec has no category botle"),
        (("results/paper/mvtec/bottle/seen/k0/bgad/seed0/metrics.json",), "method bgad learns from known anomalies"),
        (("results/paper/mvtec/bottle/hard-dent/k1/bgad/seed0/metrics.json",), "category bottle has no split hard-dent"),
    ],
)
def test_a_wrong_request_ends_in_a_sentence(project, arguments, sentence):
    said = project.snakemake("-n", *arguments, check=False)
    assert sentence in said
    assert "Traceback" not in said


def test_a_wrong_key_in_a_recipe_is_named(project):
    recipe = project.folder / "config" / "recipes" / "demo.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("image_size:", "image_sise:"))
    said = project.snakemake("-n", f"{CELL}/metrics.json", check=False)
    recipe.write_text(text)
    assert "config/recipes/demo.yaml" in said
    assert "image_sise" in said or "image_size is missing" in said


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A project with a package of its own to edit, whose demo suite counts as finished (touched, not trained)."""
    folder = tmp_path_factory.mktemp("an edited copy")
    shutil.copytree(ROOT / "bgad", folder / "bgad")
    project = Project(folder)
    suite = folder / "config" / "suites" / "demo.yaml"
    suite.write_text(
        "title: t\nquestion: q\ngrid:\n"
        "  - {recipe: demo, dataset: mini, categories: [brick], splits: [seen], k: [10], methods: [bgad], seeds: [0]}\n"
        "  - recipe: demo\n    dataset: mini\n    categories: [brick]\n    splits: [seen]\n    k: [0]\n"
        "    methods: [patchcore, padim]\n    seeds: [0]\n"
    )
    # So that Snakemake records all as done with today's parameters.
    project.stand_in_for("data", "features", "train", "report")
    project.snakemake("reports/demo/table.md")
    return project


def jobs_after_edit(finished, module: str, edit) -> dict[str, int]:
    """The jobs of the demo's table that ``edit`` (text -> text) of a module of the package plans; the file is put back."""
    source = finished.folder / "bgad" / f"{module}.py"
    text = source.read_text()
    source.write_text(edit(text))
    said = finished.snakemake("-n", "reports/demo/table.md")
    source.write_text(text)
    return job_counts(said)


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("report/plots", {"plots", "table"}),
        ("report/table", {"plots", "table"}),
        ("losses", {"train", "plots", "table"}),
        ("flow", {"train", "plots", "table"}),
        ("splits", {"split", "synthetic", "train", "plots", "examples", "table"}),
        ("cutpaste", {"synthetic", "train", "plots", "examples", "table"}),
        ("examples", {"examples", "table"}),
    ],
)
def test_an_edit_makes_anew_what_depends_on_it_and_nothing_else(finished, module, rules):
    assert set(jobs_after_edit(finished, module, lambda text: text + "\nEDITED = True\n")) == rules
    assert job_counts(finished.snakemake("-n", "reports/demo/table.md")) == {}


@pytest.mark.parametrize(("module", "cells"), [("losses", 1), ("detectors/patchcore", 1), ("detect", 2), ("metrics", 3)])
def test_an_edit_of_a_method_makes_its_own_cells_anew(finished, module, cells):
    jobs = jobs_after_edit(finished, module, lambda text: text + "\nEDITED = True\n")
    assert jobs == {"train": cells, "plots": 1, "table": 1}


def test_a_comment_or_docstring_makes_nothing_anew(finished):
    jobs = jobs_after_edit(finished, "losses", lambda text: text.replace('"""BGAD', '"""Well: BGAD') + "\n# A remark.\n")
    assert jobs == {}


def test_a_plan_is_made_without_what_takes_seconds_to_load():
    imports = [line for line in (ROOT / "workflow/rules/common.smk").read_text().splitlines() if line.startswith("from bgad")]
    assert len(imports) >= 4
    program = "\n".join([*imports, "import sys", "print({'torch', 'timm', 'pandas', 'matplotlib'} & {*sys.modules})"])
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found == "set()\n"
