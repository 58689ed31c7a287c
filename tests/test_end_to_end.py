"""A small suite from nothing to its table, through Snakemake: every step runs for real, on two cores."""

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
  - {recipe: tiny, dataset: mini, categories: [gravel], splits: [seen, hard-scratch], k: [1], methods: [bgad], seeds: [0, 1]}
"""
WILD = [("wild", "bgad-wo"), ("tiny", "bgad-wo"), ("tiny", "nf")]
CELL = "results/tiny/mini/gravel/seen/k1/bgad/seed0"


@pytest.fixture(scope="module")
def small(project):
    """The project with a suite of five quick cells, run to its table."""
    config = project.folder / "config"
    recipe = yaml.safe_load((config / "recipes" / "demo.yaml").read_text())
    recipe["image_size"], recipe["flow"]["blocks"] = 64, 2
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
    assert "5 of 5 cells" in table
    for name in ("auroc-by-k", "known-unseen", "by-category", "best-epoch", "training-curves"):
        assert (folder / f"{name}.svg").stat().st_size > 1000
        with Image.open(folder / f"{name}.png") as picture:
            picture.load()
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    # A setting with a single seed shows that cell's own figures.
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
    plots = [f"{name}.svg" for name in ("auroc-by-k", "known-unseen", "by-category", "training-curves", "best-epoch")]
    assert set(carried) == {*plots, "cutpaste.png", "table.md", "table.csv", "report.html"}
    for name, content in carried.items():
        assert content == (small.folder / "reports/tiny" / name).read_bytes()
    for said in (
        "BGAD (Yao et al., CVPR 2023)",
        "AUROC against known anomalies",
        "Intervals are 95",
        "the last and the best epoch",
    ):
        assert said in page


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
        figures = found[metric]
        assert 0 <= figures["last"] <= figures["best"] <= 100
        assert figures["best_epoch"] in (1, 2)  # evaluated every second meta epoch, and at the last
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
    for name, k in (("seen", 1), ("hard-scratch", 1)):
        for seed in (0, 1):
            split = json.loads((small.folder / f"resources/splits/own/mini/gravel/{name}/seed{seed}.json").read_text())
            scores = small.folder / f"results/tiny/mini/gravel/{name}/k{k}/bgad/seed{seed}/scores.csv"
            with scores.open() as file:
                tested = [row["path"] for row in csv.DictReader(file)]
            assert sorted(tested) == sorted(split["test_normal"] + split["test_anomalous"])
            assert not set(tested) & set(split["pool"])


def test_again_there_is_nothing_to_be_done(small):
    assert job_counts(small.snakemake("-n", "reports/tiny/table.md")) == {}


def test_a_cell_made_again_alone_is_bitwise_the_same(small):
    before = {name: (small.folder / CELL / name).read_bytes() for name in ("scores.csv", "model.pt")}
    first = metrics(small)
    said = small.snakemake("-f", f"{CELL}/metrics.json")
    assert job_counts(said) == {"train": 1}
    second = metrics(small)
    for record in (first, second):
        record.pop("timing")
    assert first == second
    assert before == {name: (small.folder / CELL / name).read_bytes() for name in before}


def test_a_cell_that_fails_stops_no_other_is_named_and_not_trained_again(small):
    wild = "results/wild/mini/gravel/seen/k0/bgad-wo/seed0"
    config = small.folder / "config"
    (config / "recipes/wild.yaml").write_text("base: tiny\nschedule: {learning_rate: 1.0e+30}\n")
    block = "{recipe: RECIPE, dataset: mini, categories: [gravel], splits: [seen], k: [0], methods: [METHOD], seeds: [0]}"
    blocks = [block.replace("RECIPE", recipe).replace("METHOD", method) for recipe, method in WILD]
    (config / "suites/tiny.yaml").write_text("\n  - ".join(["title: t\nquestion: q\ngrid:", *blocks]))
    said = small.snakemake("reports/tiny/table.md", check=False)
    assert "error: " in said and "diverged" in said
    assert said.count("Trying to restart job") == 2  # whatever failed; here only to say the same again
    log = (small.folder / wild / "train.log").read_text().strip()
    assert log.startswith("error: ") and "\n" not in log, "the last attempt did nothing else"
    table = (small.folder / "reports/tiny/table.md").read_text()
    assert "**2 of 3 cells measured; 1 failed, 0 not run.**" in table
    assert f"| `{wild}/metrics.json` | failed: {log.removeprefix('error: ')} |" in table


def test_a_failed_cell_is_named_in_the_table_and_leaves_nothing_half_done(small):
    # A data set of one's own: a copy of the category, in which one image is cut short.
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
    assert "0 of 5 cells" in table
    assert not (small.folder / "resources/index/mine").exists() or not list((small.folder / "resources/index/mine").iterdir())
