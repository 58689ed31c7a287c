"""A small suite from nothing to its table, through Snakemake: every step really runs, on two cores."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import job_counts
from PIL import Image

SUITE = """
title: A small suite
question: Does every step work?
grid:
  - {recipe: tiny, dataset: mini, categories: [gravel], splits: [seen], k: [0], methods: [bgad-wo], seeds: [0]}
  - {recipe: tiny, dataset: mini, categories: [gravel], splits: [seen, hard-scratch], k: [1], methods: [bgad], seeds: [0]}
"""
WILD = """
title: t
question: q
grid:
  - {recipe: wild, dataset: mini, categories: [gravel], splits: [seen], k: [0], methods: [bgad-wo], seeds: [0]}
  - {recipe: tiny, dataset: mini, categories: [gravel], splits: [seen], k: [0], methods: [bgad-wo, padim], seeds: [0]}
"""
CELL = "results/tiny/mini/gravel/seen/k1/bgad/seed0"


@pytest.fixture(scope="module")
def small(project):
    """The project with a suite of three quick cells, run to its table and page."""
    config = project.folder / "config"
    recipe = yaml.safe_load((config / "recipes" / "demo.yaml").read_text())
    recipe["image_size"], recipe["flow"]["blocks"], recipe["sampling"]["level_steps"] = 64, 2, [40, 20, 10]
    recipe["schedule"] |= {"meta_epochs": 3, "evaluate_every": 2}
    (config / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    (config / "suites" / "tiny.yaml").write_text(SUITE)
    text = (config / "config.yaml").read_text()
    (config / "config.yaml").write_text(text.replace("suites: [", "suites: [tiny, "))
    project.snakemake("reports/tiny/table.md", "reports/tiny/report.html")
    return project


def metrics(project, cell: str = CELL) -> dict:
    return json.loads((project.folder / cell / "metrics.json").read_text())


def test_the_table_and_the_plots_are_there(small):
    folder = small.folder / "reports" / "tiny"
    table = (folder / "table.md").read_text()
    assert "3 of 3 cells" in table
    plots = {path.stem for path in folder.glob("*.svg")}
    assert plots >= {"auroc-by-k", "known-unseen", "by-category", "best-epoch", "training-curves"}
    for name in plots:
        assert (folder / f"{name}.svg").stat().st_size > 1000
        with Image.open(folder / f"{name}.png") as image:
            image.load()
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    # A setting with a single seed shows that cell's own metrics.
    shown = {row["metric"]: row for row in rows if (row["section"], row["k"], row["row"]) == ("setting", "0", "gravel")}
    cell = metrics(small, "results/tiny/mini/gravel/seen/k0/bgad-wo/seed0")
    for metric in ("image_auroc", "pixel_auroc", "aupro"):
        assert shown[metric]["last"] == f"{cell[metric]['last']:.2f}"
        assert shown[metric]["best"] == f"{cell[metric]['best']:.2f}"
        assert shown[metric]["last"] in table


def test_snakemake_s_own_report_carries_tables_plots_and_captions(small):
    small.snakemake("reports/tiny/table.md", "reports/tiny/report.html", "--report", "report.zip")
    with zipfile.ZipFile(small.folder / "report.zip") as archive:
        page = archive.read("report/report.html").decode()
        carried = {Path(name).name: archive.read(name) for name in archive.namelist() if name.startswith("report/data/raw/")}
    plots = [path.name for path in (small.folder / "reports/tiny").glob("*.svg")]
    assert set(carried) == {*plots, "cutpaste.png", "table.md", "table.csv", "report.html"}
    for name, content in carried.items():
        assert content == (small.folder / "reports/tiny" / name).read_bytes()
    for caption in ("workflow", "auroc-by-k", "training-curves", "best-epoch"):
        assert (small.folder / f"workflow/report/{caption}.rst").read_text()[:30] in page


def test_metrics_hold_what_the_contract_says(small):
    found = metrics(small)
    assert found["cell"] == {
        "recipe": "tiny",
        "dataset": "mini",
        "category": "gravel",
        "split": "seen",
        "k": 1,
        "method": "bgad",
        "seed": 0,
    }
    for metric in ("image_auroc", "pixel_auroc", "aupro", "released_pro"):
        values = found[metric]
        assert 0 <= values["last"] <= values["best"] <= 100
        assert values["best_epoch"] in (1, 2)  # evaluated every second meta epoch, and at the last
    assert "full_test" not in found
    assert sum(kind["n"] for kind in found["by_type"].values()) == found["counts"]["test_anomalous"]
    assert sum(kind["known"] for kind in found["by_type"].values()) == 1
    assert found["counts"]["train_anomalous"] == 1
    split = json.loads((small.folder / "resources/splits/own/mini/gravel/seen/seed0.json").read_text())
    assert found["split_sha256"] == split["sha256"]
    assert {"features_s", "train_s", "evaluate_s", "total_s", "peak_rss_mb", "peak_gpu_mb"} == set(found["timing"])
    assert {"python", "torch", "timm", "FrEIA", "device", "cpu", "threads", "blocks", "git_commit"} == set(found["environment"])
    without = metrics(small, "results/tiny/mini/gravel/seen/k0/bgad-wo/seed0")
    assert set(without["full_test"]) == {"image_auroc", "pixel_auroc", "aupro", "released_pro"}
    assert {key: without["counts"][key] for key in ("test_normal", "test_anomalous")} == {
        key: found["counts"][key] for key in ("test_normal", "test_anomalous")
    }


def test_no_test_image_was_known_in_training(small):
    for name in ("seen", "hard-scratch"):
        split = json.loads((small.folder / f"resources/splits/own/mini/gravel/{name}/seed0.json").read_text())
        with (small.folder / f"results/tiny/mini/gravel/{name}/k1/bgad/seed0/scores.csv").open() as file:
            tested = [row["path"] for row in csv.DictReader(file)]
        assert sorted(tested) == sorted(split["test_normal"] + split["test_anomalous"])
        assert not set(tested) & set(split["pool"])


def test_a_finished_suite_leaves_nothing_to_do_and_no_checkpoint(small):
    assert not list((small.folder / "results").rglob("checkpoint.pt"))
    assert job_counts(small.snakemake("-n", "reports/tiny/table.md")) == {}


def test_a_cell_that_is_forced_trains_again_to_the_same_bits(small):
    before = {name: (small.folder / CELL / name).read_bytes() for name in ("scores.csv", "model.pt")}
    first = metrics(small)
    said = small.snakemake("-f", f"{CELL}/metrics.json")
    assert job_counts(said) == {"train": 1}
    assert "epoch 3/3" in (small.folder / CELL / "train.log").read_text()
    second = metrics(small)
    for record in (first, second):
        record.pop("timing")
    assert first == second
    assert before == {name: (small.folder / CELL / name).read_bytes() for name in before}


def test_a_cell_that_fails_stops_no_other_and_is_named(small):
    wild = "results/wild/mini/gravel/seen/k0/bgad-wo/seed0"
    (small.folder / "config/recipes/wild.yaml").write_text("base: tiny\nschedule: {learning_rate: 1.0e+30}\n")
    (small.folder / "config/suites/tiny.yaml").write_text(WILD)
    said = small.snakemake("reports/tiny/table.md", check=False)
    assert "error: " in said and "diverged" in said
    log = (small.folder / wild / "train.log").read_text().strip().splitlines()
    assert log[-1].startswith("error: ")
    table = (small.folder / "reports/tiny/table.md").read_text()
    assert "**2 of 3 cells measured; 1 failed, 0 not run.**" in table
    assert f"| `{wild}/metrics.json` | failed: {log[-1].removeprefix('error: ')} |" in table


def test_a_step_that_fails_leaves_nothing_half_done(small):
    # The user's data set: a copy of the category in which one image is truncated.
    own = small.folder / "a data set" / "gravel"
    shutil.copytree(small.folder / "resources/datasets/mini/gravel", own)
    victim = sorted((own / "test" / "good").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:1000])
    (small.folder / "config/suites/tiny.yaml").write_text(SUITE.replace("mini", "mine"))
    setting = f"datasets={{mine: {{path: '{own.parent}'}}}}"
    said = small.snakemake("reports/tiny/table.md", "--config", setting, check=False)
    assert "error: " in said and victim.name in said and "replace the file or remove it" in said
    assert "Traceback" not in said
    table = (small.folder / "reports/tiny/table.md").read_text()
    assert "0 of 3 cells" in table
    assert not (small.folder / "resources/index/mine").exists() or not list((small.folder / "resources/index/mine").iterdir())
