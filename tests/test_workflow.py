"""The plan without running it: how many jobs a request needs, and what an edit makes again."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from conftest import ROOT, Project, job_counts
from folders import make_category, write_image

CELL = "results/demo/mini/brick/seen/k10/bgad/seed0"


def test_the_paper_suite_plans_every_category_and_seed(project):
    jobs = job_counts(project.snakemake("-n", "reports/table.md"))
    assert jobs == {
        "download": 1,
        "index": 15,
        "split": 15 * 3,
        "features": 15,
        "train": 15 * 3,  # bgad with ten known anomalies
        "train_k0": 15 * 3,  # bgad-wo
        "plots": 1,
        "examples": 1,
        "paper_table": 1,
    }


def test_the_default_target_is_the_demo_which_needs_no_download_and_shares_splits_features_and_pools(project):
    assert job_counts(project.snakemake("-n")) == {
        "mini": 4,
        "index": 4,
        "split": 4 + 2,  # seen, and hard-scratch of two categories
        "features": 4,
        "synthetic": 4 + 2,
        "train": 4 * 2 + 2,  # seen: k 1, 10; hard-scratch: k 10
        "train_k0": 4 * 4,  # bgad-wo, nf, patchcore, padim
        "evaluate_k0": 2,  # hard-scratch
        "plots": 1,
        "examples": 1,
        "table": 1,
        "page": 1,
        "all": 1,
    }


def test_without_known_anomalies_a_category_and_seed_are_trained_once_for_all_splits(project):
    """MVTec AD has 73 defect types. Toothbrush has only one, which leaves none to test on; two have fewer than ten images."""
    jobs = job_counts(project.snakemake("-n", "reports/unseen/table.md"))
    assert jobs["train_k0"] == 14 * 3
    assert jobs["evaluate_k0"] == 72 * 3
    assert jobs["train"] == (72 + 70) * 3


@pytest.mark.parametrize(("cell", "others"), [("k10/bgad", {"train": 1, "synthetic": 1}), ("k0/padim", {"train_k0": 1})])
def test_one_cell_by_its_path_needs_only_its_own_inputs(project, cell, others):
    jobs = job_counts(project.snakemake("-n", f"{CELL}/metrics.json".replace("k10/bgad", cell)))
    assert jobs == {"mini": 1, "index": 1, "split": 1, "features": 1, **others}


@pytest.mark.parametrize(
    ("cells", "indexes", "splits"),
    [
        # Bottle and cable are drawn before capsule. k 0 has the same test images.
        (["paper/mvtec/capsule/seen/k10/bgad", "paper/mvtec/capsule/seen/k0/bgad-wo"], 3, 1),
        (["corrected/mvtec/capsule/seen/k10/bgad"], 1, 1),
        # Bottle is the first category, and the released code has no hard splits.
        (["paper/mvtec/bottle/seen/k10/bgad", "paper/mvtec/bottle/hard-contamination/k10/bgad"], 1, 2),
        (["paper/mvtec/capsule/hard-crack/k10/bgad"], 1, 1),
    ],
)
def test_a_category_is_drawn_after_those_before_it_if_the_recipe_says_so(project, cells, indexes, splits):
    jobs = job_counts(project.snakemake("-n", *(f"results/{cell}/seed0/metrics.json" for cell in cells)))
    trainings = Counter("train_k0" if "/k0/" in cell else "train" for cell in cells)
    assert jobs == {"download": 1, "index": indexes, "split": splits, "features": 1, **trainings}


def test_a_strategy_has_a_pool_for_each_of_its_kinds(project):
    recipes = project.folder / "config" / "recipes"
    for strategies, pools in {("repeat", "repeat+pseudo"): 1, ("all",): 2}.items():
        names = [f"own-{strategy.replace('+', '-')}" for strategy in strategies]
        for name, strategy in zip(names, strategies, strict=True):
            (recipes / f"{name}.yaml").write_text(f"base: demo\nanomalies: {{strategy: {strategy}}}\n")
        jobs = job_counts(project.snakemake("-n", *(f"{CELL}/metrics.json".replace("demo", name) for name in names)))
        assert jobs == {"mini": 1, "index": 1, "split": 1, "features": 1, "synthetic": pools, "train": len(names)}


def test_a_user_s_copy_needs_no_download(project, tmp_path):
    for path in ("train/good/0.png", "test/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png"):
        (tmp_path / "bottle" / path).parent.mkdir(parents=True)
        (tmp_path / "bottle" / path).touch()
    path = "results/cpu/mvtec/bottle/seen/k0/bgad-wo/seed0/metrics.json"
    jobs = job_counts(project.snakemake("-n", path, "--config", f"datasets={{mvtec: {{path: '{tmp_path}'}}}}"))
    assert jobs == {"index": 1, "split": 1, "features": 1, "train_k0": 1}


def test_content_decides_what_is_made_again_not_dates_places_or_the_pool(tmp_path):
    (tmp_path / "p").mkdir()
    project, folder = Project(tmp_path / "p"), make_category(tmp_path / "data", "bottle", types={"cut": 2})
    project.stand_in_for("data", "features", "train")
    image, ahead = folder / "test/cut/000.png", time.time() + 3600
    os.utime(image, (ahead, ahead))  # by the clock of a file server
    (folder / "train/good/<b>.png").symlink_to("nowhere")  # a step says so, not Snakemake

    def jobs(*, run=False, root=tmp_path / "data", pool=1):
        path = f"results/cpu/own/bottle/{'seen' if pool == 1 else 'hard-cut'}/k0/bgad-wo/seed0/metrics.json"
        said = project.snakemake(
            *([] if run else ["-n"]), path, "--config", f"datasets={{own: {{path: '{root}', pool: {pool}}}}}"
        )
        return job_counts(said)

    assert jobs(run=True) == {"index": 1, "split": 1, "features": 1, "train_k0": 1}
    # Another split. With all anomalies in the pool there is none on seen, so the cell trains for itself.
    assert jobs(run=True, pool=2) == {"split": 1, "evaluate_k0": 1}
    assert jobs() == {}
    image.touch()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert jobs(root=tmp_path / "moved") == {}
    write_image(tmp_path / "moved/bottle/test/cut/000.png", "another")
    os.utime(tmp_path / "moved/bottle/test/cut/000.png", (0, 0))
    assert jobs(root=tmp_path / "moved") == {"index": 1, "split": 1, "features": 1, "train_k0": 1}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--config", "datasets={mvtec: {pth: x}}"), ["datasets.mvtec.pth"]),
        (
            ("reports/table.md", "--config", "datasets={mvtec: {path: /no/such/folder}}"),
            ["datasets.mvtec.path", "/no/such/folder"],
        ),
        (("results/paper/mvtec/botle/seen/k10/bgad/seed0/metrics.json",), ["mvtec", "botle"]),
        (("results/paper/mvtec/bottle/seen/k0/bgad/seed0/metrics.json",), ["method bgad"]),
        (("results/paper/mvtec/bottle/hard-dent/k1/bgad/seed0/metrics.json",), ["bottle", "hard-dent"]),
    ],
)
def test_a_wrong_request_ends_in_a_sentence(project, arguments, names):
    said = project.snakemake("-n", *arguments, check=False)
    sentence = said[said.index("error: ") :]
    assert all(name in sentence for name in names) and "Traceback" not in said


def test_a_wrong_key_in_a_recipe_is_named(project):
    recipe = project.folder / "config" / "recipes" / "demo.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("image_size:", "image_sise:"))
    said = project.snakemake("-n", f"{CELL}/metrics.json", check=False)
    recipe.write_text(text)
    assert "config/recipes/demo.yaml" in said
    assert "image_sise" in said or "image_size is missing" in said


@pytest.fixture(scope="module")
def edited(tmp_path_factory) -> Project:
    """A project with its own copy of the package to edit, and a suite of three cells whose files were touched, not trained."""
    folder = tmp_path_factory.mktemp("an edited copy")
    shutil.copytree(ROOT / "bgad", folder / "bgad", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(folder)
    suite = folder / "config" / "suites" / "demo.yaml"
    suite.write_text(
        "title: t\nquestion: q\ngrid:\n"
        "  - {recipe: demo, dataset: mini, categories: [brick], splits: [seen], k: [10], methods: [bgad], seeds: [0]}\n"
        "  - recipe: demo\n    dataset: mini\n    categories: [brick]\n    splits: [seen]\n    k: [0]\n"
        "    methods: [patchcore, padim]\n    seeds: [0]\n"
    )
    # Snakemake records all steps with today's parameters.
    project.stand_in_for("data", "features", "train", "report")
    project.snakemake("reports/demo/table.md")
    return project


def jobs_after_edit(edited, module: str, edit) -> dict[str, int]:
    """The jobs that the demo's table needs after ``edit`` (text -> text) of a module of the package, which is then restored."""
    source = edited.folder / "bgad" / f"{module}.py"
    text = source.read_text()
    source.write_text(edit(text))
    said = edited.snakemake("-n", "reports/demo/table.md")
    source.write_text(text)
    return job_counts(said)


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("report/tables/suite", {"plots": 1, "table": 1}),
        ("report/plots/examples", {"examples": 1, "table": 1}),
        ("methods/patchcore", {"train_k0": 1, "plots": 1, "table": 1}),
        ("methods/runner", {"train": 1, "train_k0": 2, "plots": 1, "table": 1}),
        ("data/splits", {"split": 1, "synthetic": 1, "train": 1, "train_k0": 2, "plots": 1, "examples": 1, "table": 1}),
    ],
)
def test_an_edit_makes_again_what_depends_on_it_and_nothing_else(edited, module, jobs):
    assert jobs_after_edit(edited, module, lambda text: text + "\nEDITED = True\n") == jobs


def test_a_comment_or_docstring_makes_nothing_again(edited):
    jobs = jobs_after_edit(edited, "training/losses", lambda text: text.replace('"""', '"""Well: ', 1) + "\n# A remark.\n")
    assert jobs == {}


def test_a_plan_is_made_without_what_takes_seconds_to_load():
    imports = [line for line in (ROOT / "workflow/rules/common.smk").read_text().splitlines() if line.startswith("from bgad")]
    assert len(imports) >= 4
    program = "\n".join([*imports, "import sys", "print({'torch', 'timm', 'pandas', 'matplotlib'} & {*sys.modules})"])
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found == "set()\n"
