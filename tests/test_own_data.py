"""One's own pictures: the cell that a folder gives, the sentences where it gives none, and the guide's commands in order."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project
from folders import make_category

from bgad.cli.own_data import _reason, plan
from bgad.config.cells import Cell
from bgad.config.paths import project_root
from bgad.errors import BgadError

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


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda folder: shutil.rmtree(folder), {}, "there is no such folder"),
        (lambda folder: shutil.rmtree(folder / "train"), {}, r"train/good: no pictures found; put normal pictures to train on"),
        (lambda folder: shutil.rmtree(folder / "test/good"), {}, r"test/good: no pictures found"),
        (lambda folder: shutil.rmtree(folder / "ground_truth"), {"k": 1}, "no ground_truth, .* or take --k 0"),
        (lambda folder: None, {"k": 5}, "k 5 needs at least 6 anomalous pictures in test, and it has 5"),
        (lambda folder: shutil.rmtree(folder / "test/cut"), {"k": 3}, "k 3 needs at least 4 .* it has 2"),
        (lambda folder: None, {"split": "hard-dent"}, "category bottle has no split hard-dent; use seen"),
        (lambda folder: None, {"split": "hard-cut", "k": 4}, "bottle has no hard-cut with k 4: the type has 3 images"),
        (lambda folder: None, {"recipe": "cqu"}, "--recipe cqu: there is no such recipe; use one of .*cpu, .*demo"),
        (lambda folder: None, {"name": "my data"}, "my data"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(tmp_path, change, options, sentence):
    folder = make_category(tmp_path)
    change(folder)
    with pytest.raises(BgadError, match=sentence):
        planned(folder, **options)


def test_the_folder_above_and_a_name_that_cannot_be(tmp_path):
    folder = make_category(tmp_path)
    with pytest.raises(BgadError, match=f"a folder of categories; give one of them, as in {folder}"):
        planned(tmp_path)
    for name in ("a{b}", ".hidden", "-x"):
        with pytest.raises(BgadError, match="rename the folder"):
            planned(make_category(tmp_path, name))


def test_the_project_is_where_one_is_or_where_the_package_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_root() == ROOT
    (tmp_path / "config").mkdir()
    for name in ("Snakefile", "config/config.yaml"):
        (tmp_path / name).touch()
    assert project_root() == tmp_path


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Job 1\n    error: a.png: not a whole image; replace it.\nerror: another", "a.png: not a whole image; replace it."),
        (
            "LockException:\nError: Directory cannot be locked.",
            "/p: another run that makes the same is under way there; wait for its end.",
        ),
        ("Oh\nNo space left\nComplete log(s): /p/x.log\n", "the training failed: /p/x.log says why (No space left)."),
        ("  TypeError: oh\nWorkflowError:\nA job failed.", "the training failed: /p/.snakemake/log says why (TypeError: oh)."),
        ("ImportError: no such thing\n\n", "the training failed: /p/.snakemake/log says why (ImportError: no such thing)."),
    ],
)
def test_why_snakemake_stopped_is_one_sentence(said, sentence):
    assert _reason(said, Path("/p")).startswith(sentence)


class Reader:
    """Somebody who follows the guide in a copy of the project, on small pictures and with a small recipe."""

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

    def bgad(self, *arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
        command = ["bgad", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Reader:
    """One who is through with the guide."""
    folder = tmp_path_factory.mktemp("a reader") / "the project"
    folder.mkdir()
    reader = Reader(folder)
    reader.said = {}
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in "".join(blocks).splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "bgad"
        reader.said[" ".join(words)] = run = reader.bgad(*words[1:])
        assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
    return reader


def steps(said: subprocess.CompletedProcess) -> list[str]:
    """The first words of the steps that a log names, without the lines of a slow step."""
    return sorted(line.split()[0] for line in said.stderr.splitlines() if not line.endswith(" left"))


def test_the_guide_s_commands_run_in_their_order(reader):
    first, second, overlays, as_json = reader.said.values()
    for said, k, method in ((first, 10, "bgad"), (second, 0, "bgad-wo")):
        cell = f"{CELLS}/k{k}/{method}/seed0"
        metrics = json.loads((reader.folder / cell / "metrics.json").read_text())
        assert f"image AUROC:      {metrics['image_auroc']['last']:.2f} %" in said.stdout
        assert f"--cell {cell} " in said.stdout
        assert metrics["counts"] == {"train_normal": 6, "train_anomalous": k, "test_normal": 4, "test_anomalous": 14}
    # A log has a line for each step, two of which go side by side; the second training finds all but itself there.
    assert steps(first) == ["Checking", "Drawing", "Features", "Pool", "Training"]
    assert steps(second) == ["Training"]
    with (reader.folder / "overlays/scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12 == len(overlays.stdout.splitlines())
    assert len(json.loads(as_json.stdout)) == 4


def test_a_finished_cell_is_not_made_again_and_can_be_copied(reader, tmp_path):
    run = reader.bgad("train", "data/bolt", "--json", "--out", str(tmp_path / "a copy"))
    assert run.stderr == ""
    found = json.loads(run.stdout)
    assert found.pop("folder") == str(tmp_path / "a copy")
    assert found == json.loads((reader.folder / CELLS / "k10/bgad/seed0/metrics.json").read_text())
    assert (tmp_path / "a copy/model.pt").read_bytes() == (reader.folder / CELLS / "k10/bgad/seed0/model.pt").read_bytes()
    again = reader.bgad("train", "data/bolt", "--out", str(tmp_path / "a copy"))
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("error: --out ") and again.stderr.count("\n") == 1


def test_a_step_that_fails_ends_in_its_own_sentence(reader):
    folder = make_category(reader.folder / "data 2", "nut", types={"cut": 4})
    victim = folder / "ground_truth/cut/001_mask.png"
    victim.unlink()
    run = reader.bgad("train", str(folder), "--json")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"error: {folder / 'test/cut/001.png'}: its mask 001_mask.png is missing")
    assert run.stderr.count("\n") == 1
