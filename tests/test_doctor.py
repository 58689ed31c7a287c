"""What a machine has and lacks, and what suites would take on it: on machines made up for the purpose."""

import json
import re
import shutil
import sys
from collections import namedtuple

import pytest
import torch
from bgad.cli.doctor import doctor, machine
from conftest import ROOT
from synthetic import figures, write_cell

from bgad import cli, devices
from bgad.cli.doctor.doctor import TRAINING_MB, examine
from bgad.cli.doctor.doctor_text import as_text, as_values
from bgad.cli.doctor.hours import recipe_of, shared_work, step_times, work_of
from bgad.cli.doctor.needs import counted
from bgad.config.cells import Cell
from bgad.config.settings import Config, Dataset, load_recipe

SUITE = """title: Small
question: '?'
grid:
  - {recipe: demo, dataset: mini, categories: [brick], splits: [seen], k: [0], methods: [bgad-wo], seeds: [0, 1, 2]}
  - {recipe: demo, dataset: mini, categories: [brick], splits: [seen], k: [10], methods: [bgad], seeds: [0]}
"""
GB = 10**9
Virtual = namedtuple("Virtual", "total available")


class Machine:
    """A machine of one's choice, and a project on it with the suites small (embedded data) and paper."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        shutil.copytree(ROOT / "config", folder / "config")
        (folder / "config/suites/small.yaml").write_text(SUITE)
        monkeypatch.chdir(folder)
        self.config = Config(datasets={"mini": Dataset(), "mvtec": Dataset()}, suites=["small", "paper"])
        self.is_like(cores=4, memory=32 * GB, disk_mb=500_000, gpus=[], weights=None)

    def is_like(self, **of):
        answers = {"cores": (machine, "cores"), "disk_mb": (machine, "disk_free"), "gpus": (devices, "gpus")}
        for name, value in of.items():
            if name == "memory":
                self.monkeypatch.setattr(machine, "memory", lambda value=value: machine.Memory(value // 10**6, value // 10**6))
            elif name == "weights":
                self.monkeypatch.setattr(doctor, "at_hand", lambda *_, value=value: value)
            else:
                self.monkeypatch.setattr(*answers[name], lambda *_, value=value: value)

    def found(self):
        return examine(self.config, self.config.suites)

    def suite(self, name):
        return next(need for need in self.found().suites if need.suite == name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def brick(k=0, seed=0):
    return Cell("demo", "mini", "brick", "seen", k, "bgad" if k else "bgad-wo", seed)


def finish(root, of, seconds, **where):
    described = devices.describe(torch.device("cpu")) | {"threads": 1} | where
    recipe_sha256 = load_recipe(ROOT / f"config/recipes/{of.recipe}.yaml").sha256
    timing = {"total_s": seconds}
    write_cell(root, of, figures((90.0, 90.0)), timing=timing, recipe_sha256=recipe_sha256, environment=described)


def test_a_machine_that_has_all_lacks_nothing(here):
    here.is_like(weights="/weights")
    (here.folder / "resources/datasets").mkdir(parents=True)
    (here.folder / "resources/datasets/mvtec.complete").touch()
    found = here.found()
    assert not any(one.blocks for one in (*found.machine, *found.datasets, *found.weights))
    assert not any(one.remedy for one in (*found.datasets, *found.weights))
    assert [(need.cannot, need.downloads) for need in found.suites] == [([], []), ([], [])]


def test_hours_come_from_steps_and_the_times_of_the_file_where_nothing_is_measured(here):
    need = here.suite("small")
    assert (need.cells, need.finished) == (4, 0)
    counts = counted(here.config)
    cells = [brick(seed=seed) for seed in range(3)] + [brick(k=10)]
    alone = sum(step_times().seconds(work_of(one, counts)) for one in cells) + step_times().seconds(shared_work(cells, counts))
    assert need.hours.hours == pytest.approx(alone / 3600 / 4)  # four cores
    assert need.hours.basis == f"4 cells by their counted steps at the times of {step_times().machine}"


def test_hours_come_from_cells_measured_on_such_a_machine(here, monkeypatch):
    (here.folder / "resources/features/tf_efficientnet_lite0/128/mini/brick").mkdir(parents=True)
    (here.folder / "resources/features/tf_efficientnet_lite0/128/mini/brick/features.json").touch()
    finish(here.folder, brick(seed=0), 60)
    finish(here.folder, brick(seed=1), 120)
    finish(here.folder, brick(k=10), 300, cpu="another processor")
    need = here.suite("small")
    assert (need.cells, need.finished) == (4, 3)
    assert need.hours.hours == pytest.approx(90 / 3600 / 4)
    assert need.hours.basis == "1 cell by 2 measured with demo bgad-wo k0 on such a machine"
    assert "small: hours of 1 cell by 2 measured" in as_text(here.found())
    # Cells of another recipe's values, threads or device say nothing.
    (here.folder / brick(k=10).folder / "metrics.json").unlink()
    here.config = here.config.model_copy(update={"threads": 2})
    assert "measured with" not in here.suite("small").hours.basis


def test_on_a_gpu_hours_are_known_from_measured_cells_alone(here, monkeypatch):
    here.is_like(gpus=[("a GPU", 80_000)])
    here.config = here.config.model_copy(update={"device": "cpu"})
    assert here.suite("small").hours.hours is not None
    here.config = here.config.model_copy(update={"device": "auto"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "choose", lambda *_: torch.device("cpu"))
    monkeypatch.setattr(devices, "describe", lambda _: {"device": "a GPU", "cpu": "a processor", "threads": 1})
    hours = here.suite("small").hours
    assert (hours.hours, hours.more) == (None, 4)
    assert hours.basis.startswith("not known: no demo bgad-wo k0 cell was measured on such a machine (a GPU); no demo bgad k10")
    assert "not known" in as_text(here.found())
    for of in (brick(), brick(k=10)):
        finish(here.folder, of, 36, device="a GPU", cpu="a processor")
    assert here.suite("small").hours.hours == pytest.approx(2 * 36 / 3600)


def test_a_detector_counts_where_it_is_measured_and_else_is_left_out_and_said(here):
    small = here.folder / "config/suites/small.yaml"
    small.write_text(SUITE.replace("[bgad-wo]", "[bgad-wo, patchcore]"))
    without = here.suite("small").hours
    assert without.more == 3
    assert "; 3 not counted: no demo patchcore k0 cell was measured on such a machine (cpu)" in without.basis
    assert re.search(r"small .* > \d", as_text(here.found()))
    patchcore = [Cell("demo", "mini", "brick", "seen", 0, "patchcore", seed) for seed in range(3)]
    finish(here.folder, patchcore[0], 36)
    assert here.suite("small").hours.hours - without.hours == pytest.approx(2 * 36 / 3600 / 4)


def test_disk_is_downloads_features_and_models(here):
    network = step_times().of(recipe_of("demo"))
    # Brick's features, its pool of 10 x 4 images, and four models; images have 128 x 128 masks.
    images = sum(counted(here.config)("mini", "brick")) + 40
    expected = images * (network.image_bytes + 128**2) + 4 * network.model_bytes
    assert here.suite("small").disk_mb == round(expected / 1e6)
    assert here.suite("paper").disk_mb > 2 * 5264
    (here.folder / "resources/datasets").mkdir(parents=True)
    (here.folder / "resources/datasets/mvtec.complete").touch()
    assert here.suite("paper").disk_mb < 2 * 5264
    here.is_like(disk_mb=3)
    (why,) = here.suite("paper").cannot
    assert re.fullmatch(r"disk: it fills at least \d+\.\d GB and 0\.0 are free; make room", why)


def test_what_is_to_be_downloaded_is_said_and_is_no_lack(here):
    need = here.suite("paper")
    assert need.cannot == []
    assert need.downloads == ["data set mvtec", "weights of tf_efficientnet_b6.aa_in1k"]
    text = as_text(here.found())
    assert "the workflow downloads it (5.3 GB), or set datasets.mvtec.path to a copy" in text
    assert re.search(r"paper .* after downloads", text)
    assert re.search(r"small .* yes", text)


@pytest.mark.parametrize(
    ("config", "of", "why"),
    [
        (
            {"datasets": {"mini": Dataset(), "mvtec": Dataset(path="/nowhere")}},
            {},
            "datasets.mvtec.path is /nowhere, which is not",
        ),
        ({"datasets": {"mini": Dataset()}}, {}, "there is no data set mvtec; add it to datasets"),
        ({"weights": {"tf_efficientnet_b6.aa_in1k": "/no.pth"}}, {}, "is /no.pth, which is not a file; correct the path"),
        ({"device": "cuda"}, {}, "GPU: none, but config/config.yaml asks for cuda; set device: cpu or auto"),
        ({}, {"memory": GB}, "memory: 1.0 of 1.0 GB free; a training is given 4 GB"),
    ],
)
def test_why_a_suite_cannot_run(here, config, of, why):
    here.config = Config.model_validate(here.config.model_dump() | config)
    here.is_like(**of)
    need = here.suite("paper")
    assert any(why in one for one in need.cannot), need.cannot
    assert need.hours.hours is None
    assert f"paper: {need.cannot[0]}" in as_text(here.found())


def test_a_finished_suite_needs_nothing(here):
    here.is_like(memory=GB)
    for of in [*(brick(seed=seed) for seed in range(3)), brick(k=10)]:
        finish(here.folder, of, 1)
    need = here.suite("small")
    assert (need.finished, need.hours.hours, need.disk_mb, need.cannot) == (4, 0, 0, [])
    json.dumps(as_values(here.found()), allow_nan=False)
    # One that other code has trained is made again.
    file = here.folder / brick(seed=1).folder / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"source_sha256": "0" * 64}))
    assert here.suite("small").finished == 3


@pytest.mark.parametrize(("disk_mb", "status"), [(500_000, 0), (3, 1)])
def test_the_command_ends_with_1_where_the_suite_cannot_run(here, capsys, monkeypatch, disk_mb, status):
    here.is_like(disk_mb=disk_mb)
    monkeypatch.setattr(sys, "argv", ["bgad", "doctor", "--check", "paper", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == status
    suites = {of["suite"]: of for of in json.loads(capsys.readouterr().out)["suites"]}
    assert bool(suites["paper"]["cannot"]) == bool(status)
    assert suites["paper"]["cells"] == 90


def test_cores_and_memory_are_those_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: Virtual(64 * GB, 60 * GB))
    assert machine.cores(tmp_path) == 8
    assert machine.memory(tmp_path) == (64_000, 60_000)
    for name, text in {"cpu.max": "max 100000\n", "memory.max": "max\n"}.items():
        (tmp_path / name).write_text(text)
    assert machine.cores(tmp_path) == 8
    assert machine.memory(tmp_path) == (64_000, 60_000)
    for name, text in {"cpu.max": "250000 100000\n", "memory.max": f"{8 * GB}\n", "memory.current": f"{3 * GB}\n"}.items():
        (tmp_path / name).write_text(text)
    assert machine.cores(tmp_path) == 2
    assert machine.memory(tmp_path) == (8_000, 5_000)
    (tmp_path / "memory.stat").write_text(f"anon {GB}\nfile {2 * GB}\nactive_file {GB // 2}\ninactive_file {3 * GB // 2}\n")
    assert machine.memory(tmp_path) == (8_000, 6_500)


def test_cores_and_memory_with_the_older_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: Virtual(64 * GB, 60 * GB))
    files = {
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": str(2**63 - 4096),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.cores(tmp_path) == 8
    assert machine.memory(tmp_path) == (64_000, 60_000)
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000")
    assert machine.cores(tmp_path) == 1


def test_the_memory_of_a_training_is_what_the_rule_asks_for():
    rule = (ROOT / "workflow/rules/train.smk").read_text()
    assert re.findall(r"mem_mb=lambda wildcards, attempt: (\d+) \* attempt", rule) == [str(TRAINING_MB)]
