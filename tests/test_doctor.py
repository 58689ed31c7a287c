"""What a machine lacks and how long suites take on it, for made-up machines."""

import json
import re
import shutil
import sys
from collections import namedtuple

import pytest
import torch
from conftest import ROOT
from synthetic import metrics, write_cell

from bgad import cli, devices
from bgad.cli import doctor
from bgad.cli.doctor import TRAINING_MB, as_text, as_values, examine
from bgad.config.cells import Cell
from bgad.config.settings import Config, Dataset, load_recipe

SUITE = """title: Small
question: '?'
grid:
  - {recipe: demo, dataset: mini, categories: [brick], splits: [seen], k: [0], methods: [bgad-wo], seeds: [0, 1, 2]}
  - {recipe: demo, dataset: mini, categories: [brick], splits: [seen], k: [10], methods: [bgad], seeds: [0]}
"""
GB = 10**9
Memory = namedtuple("Memory", "total available")


class Machine:
    """A made-up machine, with a project that has the suites small (embedded data) and paper."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        shutil.copytree(ROOT / "config", folder / "config")
        (folder / "config/suites/small.yaml").write_text(SUITE)
        monkeypatch.chdir(folder)
        self.config = Config(datasets={"mini": Dataset(), "mvtec": Dataset()}, suites=["small", "paper"])
        monkeypatch.setattr(doctor, "MEMORY_LIMIT", folder / "memory.max")
        self.is_like(cores=4, memory=32 * GB, disk_mb=500_000, gpus=[], weights=None)

    def is_like(self, **values):
        places = {
            "cores": (doctor.joblib, "cpu_count"),
            "memory": (doctor.psutil, "virtual_memory"),
            "disk_mb": (doctor, "_free_mb"),
            "gpus": (devices, "gpus"),
            "weights": (doctor, "at_hand"),
        }
        for name, value in values.items():
            value = Memory(value, value) if name == "memory" else value
            self.monkeypatch.setattr(*places[name], lambda *_, value=value: value)

    def found(self):
        return examine(self.config, self.config.suites)

    def suite(self, name):
        return next(need for need in self.found().suites if need.suite == name)

    def download_mvtec(self):
        (self.folder / "resources/datasets").mkdir(parents=True)
        (self.folder / "resources/datasets/mvtec.complete").touch()

    def finish(self, cell, seconds, **where):
        write_cell(
            self.folder,
            cell,
            metrics((90.0, 90.0)),
            timing={"total_s": seconds},
            recipe_sha256=load_recipe(ROOT / f"config/recipes/{cell.recipe}.yaml").sha256,
            environment=devices.describe(torch.device("cpu")) | {"threads": 1} | where,
        )


@pytest.fixture
def here(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def brick(k=0, seed=0):
    return Cell("demo", "mini", "brick", "seen", k, "bgad" if k else "bgad-wo", seed)


def test_a_complete_machine_lacks_nothing(here):
    here.is_like(weights="/weights")
    here.download_mvtec()
    found = here.found()
    assert not any(one.remedy for one in (*found.machine, *found.datasets, *found.weights))
    assert [(need.cannot, need.downloads) for need in found.suites] == [([], []), ([], [])]


def test_hours_are_the_mean_times_of_cells_measured_here(here):
    here.finish(brick(seed=0), 60)
    here.finish(brick(seed=1), 120)
    need = here.suite("small")
    # One bgad-wo cell is left, and nothing is known of bgad; four run at once.
    assert (need.cells, need.finished, need.not_measured) == (4, 2, 1)
    assert need.hours == pytest.approx(90 / 3600 / 4)
    assert "+ 1 cells not measured" in as_text(here.found())


@pytest.mark.parametrize("where", [{"cpu": "another processor"}, {"device": "a GPU"}, {"threads": 2}])
def test_cells_measured_elsewhere_say_nothing_about_hours(here, where):
    here.finish(brick(seed=0), 60, **where)
    need = here.suite("small")
    assert (need.finished, need.hours, need.not_measured) == (1, None, 3)
    assert re.search(r"small +4 +3 +not measured +yes", as_text(here.found()))


def test_a_gpu_is_shared_by_its_memory(here, monkeypatch):
    here.is_like(gpus=[("a GPU", 80_000)])
    monkeypatch.setattr(devices, "choose", lambda *_: torch.device("cpu"))
    monkeypatch.setattr(devices, "describe", lambda _: {"device": "a GPU", "cpu": "a processor"})
    monkeypatch.setattr(doctor, "percent_of_gpu", lambda _: 50)
    here.finish(brick(), 36, device="a GPU", cpu="a processor")
    assert here.suite("small").hours == pytest.approx(2 * 36 / 3600 / 2)


def test_downloads_are_named_and_do_not_block(here):
    need = here.suite("paper")
    assert need.cannot == []
    assert need.downloads == ["data set mvtec", "weights of tf_efficientnet_b6.aa_in1k"]
    text = as_text(here.found())
    assert "5.3 GB" in text and "datasets.mvtec.path" in text
    assert re.search(r"paper .* after downloads", text)


@pytest.mark.parametrize(
    ("config", "of", "named"),
    [
        ({"datasets": {"mini": Dataset(), "mvtec": Dataset(path="/nowhere")}}, {}, r"datasets\.mvtec\.path .*/nowhere"),
        ({"datasets": {"mini": Dataset()}}, {}, "no data set mvtec"),
        ({"weights": {"tf_efficientnet_b6.aa_in1k": "/no.pth"}}, {}, r"weights\.tf_efficientnet_b6\.aa_in1k .*/no\.pth"),
        ({"device": "cuda"}, {}, r"GPU: .*cuda; .*config\.yaml"),
        ({}, {"memory": GB}, r"memory: 1\.0 GB .* 4 GB"),
        ({}, {"disk_mb": 3}, r"disk: .* 10\.5 GB .*0\.0 GB"),
    ],
)
def test_the_reason_why_a_suite_cannot_run_is_named(here, config, of, named):
    here.config = Config.model_validate(here.config.model_dump() | config)
    here.is_like(**of)
    need = here.suite("paper")
    assert any(re.search(named, why) for why in need.cannot), need.cannot
    assert f"paper: {need.cannot[0]}" in as_text(here.found())


def test_a_finished_suite_needs_nothing(here):
    here.is_like(memory=GB)
    for cell in [*(brick(seed=seed) for seed in range(3)), brick(k=10)]:
        here.finish(cell, 1)
    need = here.suite("small")
    assert (need.finished, need.hours, need.cannot) == (4, 0, [])
    json.dumps(as_values(here.found()), allow_nan=False)
    # A cell trained by other code is stale, and one with a damaged file is not finished.
    file = here.folder / brick(seed=1).folder / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"source_sha256": "0" * 64}))
    (here.folder / brick(seed=2).folder / "metrics.json").write_text("[]")
    assert here.suite("small").finished == 2


@pytest.mark.parametrize(("disk_mb", "status"), [(500_000, 0), (3, 1)])
def test_the_exit_status_says_whether_the_suite_can_run(here, capsys, monkeypatch, disk_mb, status):
    here.is_like(disk_mb=disk_mb)
    (here.folder / "config/config.yaml").write_text("datasets: {mini: {}, mvtec: {}}\nsuites: [small]\n")
    monkeypatch.setattr(sys, "argv", ["bgad", "doctor", "--check", "paper", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == status
    suites = {suite["suite"]: suite for suite in json.loads(capsys.readouterr().out)["suites"]}
    assert [*suites] == ["small", "paper"]
    assert bool(suites["paper"]["cannot"]) == bool(status)
    assert suites["paper"]["cells"] == 90


def test_the_memory_is_that_of_the_container(here):
    limit = here.folder / "memory.max"
    for text, free in {"max\n": "32.0", f"{8 * GB}\n": "8.0"}.items():
        limit.write_text(text)
        assert f"{free} GB free" in as_text(here.found())


def test_the_memory_of_a_training_is_what_the_rule_asks_for():
    rule = (ROOT / "workflow/rules/train.smk").read_text()
    asked = r"mem_mb=lambda wildcards, attempt: \((\d+) \+ 600 \* workers_of\(wildcards\)\) \* attempt"
    assert re.findall(asked, rule) == [str(TRAINING_MB)]
