"""`bgad train` on your own images: the cell that a folder gives, why it gives none, and the guide's commands in order."""

import csv
import io
import json
import re
import shlex
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, Project
from folders import make_category

from bgad import cli
from bgad.cli.images import train
from bgad.cli.own_data import _failure, plan
from bgad.config.cells import Cell
from bgad.config.paths import project_root
from bgad.errors import BgadError, ConfigError, DataError, FileError, TrainingError

GUIDE = ROOT / "docs" / "own-data.md"
CELLS = "results/cpu/data/bolt/seen"


def planned(folder: Path, recipe="cpu", k=None, split="seen", seed=0, name=None):
    return plan(folder, recipe, k, split, seed, name, ROOT)


@pytest.mark.parametrize(
    ("types", "masks", "k", "pool"),
    [
        ({"cut": 30, "hole": 2}, True, 10, 10),
        ({"cut": 4, "hole": 3}, True, 3, 3),  # at most half
        ({"cut": 4, "hole": 3}, False, 0, 3),  # but those of the pool leave the test set all the same
        ({"cut": 2}, True, 1, 1),
        ({}, False, 0, 1),
    ],
)
def test_as_many_anomalies_are_known_as_leave_half_to_be_tested_on(tmp_path, types, masks, k, pool):
    folder = make_category(tmp_path / "data", "bolt", types=types, masks=masks)
    cell, dataset = planned(folder)
    assert cell == Cell("cpu", "data", "bolt", "seen", k, "bgad" if k else "bgad-wo", 0)
    assert dataset == {"layout": "mvtec", "path": str(tmp_path / "data"), "pool": pool}


def test_the_pool_is_the_same_whatever_k_is(tmp_path):
    folder = make_category(tmp_path, "bolt", types={"cut": 9})
    assert [planned(folder, k=k)[1]["pool"] for k in (0, 1, 4, 8)] == [4] * 4


def test_a_hard_split_may_know_all_of_its_type(tmp_path):
    folder = make_category(tmp_path, "bolt", types={"cut": 3, "hole": 2})
    assert planned(folder, split="hard-cut")[0].k == 3


@pytest.mark.parametrize(("above", "name"), [("my data é", "my-data"), ("_parts_", "parts"), ("é", "own"), ("a.b-c", "a.b-c")])
def test_a_data_set_is_named_after_the_folder_above(tmp_path, above, name):
    assert planned(make_category(tmp_path / above, "my bolt's"))[0].dataset == name
    assert planned(tmp_path / above / "my bolt's", name="mine")[0].dataset == "mine"


def remove(part: str):
    return lambda folder: shutil.rmtree(folder / part)


@pytest.mark.parametrize(
    ("change", "options", "kind", "named"),
    [
        (remove("."), {}, DataError, "bottle"),
        (remove("train"), {}, DataError, "train/good"),
        (remove("test/good"), {}, DataError, "test/good"),
        (remove("ground_truth"), {"k": 1}, DataError, "ground_truth.*--k 0"),
        (None, {"k": 5}, DataError, "k 5 .* 6 .* 5;.*--k"),
        (remove("test/cut"), {"k": 3}, DataError, "k 3 .* 4 .* 2;.*--k"),
        (None, {"split": "hard-dent"}, ConfigError, "bottle .*hard-dent"),
        (None, {"split": "hard-cut", "k": 4}, ConfigError, "hard-cut .*k 4.* 3 images"),
        (None, {"recipe": "cqu"}, ConfigError, "--recipe cqu.*cpu.*demo"),
        (None, {"name": "my data"}, ConfigError, "my data"),
    ],
)
def test_a_cell_that_cannot_be_trained_is_refused_before_anything_runs(tmp_path, change, options, kind, named):
    folder = make_category(tmp_path)
    if change:
        change(folder)
    with pytest.raises(kind, match=named):
        planned(folder, **options)


def test_the_folder_above_and_impossible_names_are_refused(tmp_path):
    folder = make_category(tmp_path)
    with pytest.raises(DataError, match=f"such as {folder}"):
        planned(tmp_path)
    for name in ("a{b}", ".hidden", "-x"):
        with pytest.raises(BgadError, match=re.escape(name)):
            planned(make_category(tmp_path, name))


def test_the_project_is_where_one_is_or_where_the_package_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_root() == ROOT
    (tmp_path / "config").mkdir()
    for name in ("Snakefile", "config/config.yaml"):
        (tmp_path / name).touch()
    assert project_root() == tmp_path


@pytest.mark.parametrize(
    ("said", "kind", "named"),
    [
        ("Job 1\n    error: a.png: not a whole image.\nerror: another", TrainingError, r"^a\.png: not a whole image\.$"),
        ("LockException:\nError: Directory cannot be locked.", FileError, "^/p: .*snakemake --unlock"),
        ("Oh\nNo space left\nComplete log(s): /p/x.log\n", TrainingError, "No space left.*/p/x.log"),
        ("  TypeError: oh\nWorkflowError:\nA job failed.", TrainingError, "TypeError: oh.*/p/.snakemake/log"),
        ("ImportError: no such thing\n\n", TrainingError, "ImportError: no such thing.*/p/.snakemake/log"),
    ],
)
def test_a_failure_of_snakemake_is_one_sentence(said, kind, named):
    failure = _failure(said, Path("/p"))
    assert type(failure) is kind and re.search(named, str(failure))


class Run(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Reader:
    """Follows the guide in a copy of the project, on small images and with a small recipe."""

    def __init__(self, folder: Path):
        Project(folder)
        self.folder = folder
        make_category(folder / "data", "bolt", types={"scratch": 12, "dent": 12}, train=6, good=4)
        recipe = folder / "config/recipes/cpu.yaml"
        text = recipe.read_text()
        for old, new in {
            "image_size: 256": "image_size: 32",
            "blocks: 8": "blocks: 2",
            "meta_epochs: 4 ": "meta_epochs: 2 ",
        }.items():
            assert old in text
            text = text.replace(old, new)
        recipe.write_text(text)

    def bgad(self, *arguments: str) -> Run:
        """Runs a command in the project's folder."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["bgad", *arguments])
            cli.main()
        return Run(end.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    """A reader who has run every command of the guide."""
    folder = tmp_path_factory.mktemp("a reader") / "the project"
    folder.mkdir()
    reader = Reader(folder)
    reader.said = {}
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in "".join(blocks).splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "bgad"
        reader.said[" ".join(words)] = run = reader.bgad(*words[1:])
        assert run.status == 0, f"{line}\n{run.stdout}{run.stderr}"
    return reader


def steps(said: Run) -> list[str]:
    """The first words of the steps that a log names, without its progress lines."""
    return sorted(line.split()[0] for line in said.stderr.splitlines() if not line.endswith(" left"))


def test_the_commands_of_the_guide_run_in_order(reader):
    first, second, overlays, as_json = reader.said.values()
    for said, k, method in ((first, 10, "bgad"), (second, 0, "bgad-wo")):
        cell = f"{CELLS}/k{k}/{method}/seed0"
        metrics = json.loads((reader.folder / cell / "metrics.json").read_text())
        assert re.search(rf"image AUROC: +{metrics['image_auroc']['last']:.2f} %", said.stdout)
        assert f"--cell {cell} " in said.stdout
        assert metrics["counts"] == {"train_normal": 6, "train_anomalous": k, "test_normal": 4, "test_anomalous": 14}
    # The second training finds every other step done.
    assert steps(first) == ["Checking", "Drawing", "Features", "Pool", "Training"]
    assert steps(second) == ["Training"]
    with (reader.folder / "overlays/scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12 == len(overlays.stdout.splitlines())
    assert len(json.loads(as_json.stdout)) == 4


def test_a_finished_cell_can_be_copied(reader, tmp_path, monkeypatch):
    """Instead of running Snakemake once more, which the second training has shown to repeat nothing."""
    metrics = json.loads((reader.folder / CELLS / "k10/bgad/seed0/metrics.json").read_text())
    monkeypatch.setattr("bgad.cli.own_data.make", lambda *_, quiet: metrics if quiet else None)
    run = reader.bgad("train", "data/bolt", "--json", "--out", str(tmp_path / "a copy"))
    assert run.stderr == ""
    assert json.loads(run.stdout) == {"folder": str(tmp_path / "a copy"), **metrics}
    assert (tmp_path / "a copy/model.pt").read_bytes() == (reader.folder / CELLS / "k10/bgad/seed0/model.pt").read_bytes()


def test_an_existing_folder_is_never_overwritten(tmp_path):
    with pytest.raises(ConfigError, match=f"--out {tmp_path}"):
        train(tmp_path / "data", out=tmp_path)


def test_the_message_of_a_failed_step_is_all_that_is_printed(reader):
    folder = make_category(reader.folder / "data 2", "nut", types={"cut": 4})
    victim = folder / "ground_truth/cut/001_mask.png"
    victim.unlink()
    run = reader.bgad("train", str(folder), "--json")
    assert (run.status, run.stdout) == (1, "")
    assert run.stderr.startswith(f"error: {folder / 'test/cut/001.png'}: its mask 001_mask.png")
    assert run.stderr.count("\n") == 1
