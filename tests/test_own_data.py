"""`bgad train` on your own images: the cell that a folder gives, why it gives none, and the guide's commands in order."""

import csv
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, Project
from folders import make_category, truncate, write_image

from bgad import cli
from bgad.cli.images import train
from bgad.cli.own_data import copy_of, origin, plan, summary
from bgad.cli.run_snakemake import damaged_files, failure
from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.paths import project_root
from bgad.config.settings import Dataset
from bgad.data.content import content_sha256
from bgad.data.layouts import build_index
from bgad.data.splits import draw
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
        ({"cut": 1}, True, 0, 0),  # the only one is tested on
        ({}, False, 0, 0),
    ],
)
def test_as_many_anomalies_are_known_as_leave_half_to_be_tested_on(tmp_path, types, masks, k, pool):
    folder = make_category(tmp_path / "data", "bolt", types=types, masks=masks)
    cell, dataset = planned(folder)
    assert cell == Cell("cpu", "data", "bolt", "seen", k, "bgad" if k else "bgad-wo", 0)
    assert dataset == {"layout": "mvtec", "path": str(tmp_path / "data"), "pool": pool}


def test_no_more_anomalies_are_known_than_have_masks(tmp_path):
    folder = make_category(tmp_path, "bolt", types={"cut": 8, "hole": 2})
    shutil.rmtree(folder / "ground_truth/cut")
    cell, dataset = planned(folder)
    assert (cell.k, dataset["pool"]) == (2, 5)
    assert planned(folder, split="hard-cut")[0].k == 0


def test_without_normal_test_images_a_share_of_the_others_is_held_out(tmp_path):
    folder = make_category(tmp_path, "bolt", train=10, good=0)
    with pytest.raises(DataError, match=r"test/good.*10 in train/good.*--hold-out"):
        planned(folder)
    with pytest.raises(ConfigError, match=r"bit_depth.* 12"):
        plan(folder, "cpu", None, "seen", 0, None, ROOT, 0.2, 11)
    cell, dataset = plan(folder, "cpu", None, "seen", 0, None, ROOT, 0.2, 12)
    assert (dataset["hold_out"], dataset["bit_depth"]) == (0.2, 12)
    assert origin(cell, dataset, ROOT).command[-4:] == ("--hold-out", "0.2", "--bit-depth", "12")
    index = build_index(cell.dataset, "bolt", tmp_path, Dataset(**dataset))
    held_out = [image.path for image in index.images if image.part == "test" and image.type == "good"]
    assert len(held_out) == 2 and all(path.startswith("train/good/") for path in held_out)
    assert "10 normal images to train on, 2 are tested on" in index.notes[0]
    split = draw(index, "seen", 0, dataset["pool"])
    assert len(split.train_normal) == 8 and split.test_normal == tuple(held_out)


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
        (remove("test/cut"), {"k": 2}, DataError, "k 2 needs at least 3 .* 2;"),
        (None, {"seed": 10**9}, ConfigError, "seeds"),
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
    for name in ("a\\b", ".hidden", "-x"):
        with pytest.raises(BgadError, match=re.escape(name)):
            planned(make_category(tmp_path, name))


def test_a_link_is_called_as_the_user_called_it(tmp_path):
    link = tmp_path / "links/nut"
    link.parent.mkdir()
    link.symlink_to(make_category(tmp_path, "bolt"))
    cell, dataset = planned(link, seed=20261128)
    assert (cell.category, cell.dataset, dataset["path"]) == ("nut", "links", str(link.parent))
    assert Cell.of_folder(cell.folder) == cell


def test_two_data_sets_of_one_name_do_not_replace_each_other(tmp_path):
    (tmp_path / "project").mkdir()
    Project(tmp_path / "project")
    folders = [make_category(tmp_path / place / "data", "bolt") for place in ("a", "b", "c")]
    write_image(folders[1] / "train/good/000.png", "another")

    def planned_here(folder, **options):
        return plan(folder, "cpu", None, "seen", 0, options.get("name"), tmp_path / "project")[0]

    record = tmp_path / "project" / paths.CONTENT.format(dataset="data", category="bolt")
    content_sha256(folders[0], record)
    planned_here(folders[1])  # nothing was made from the other yet
    for name in ("data", "mvtec"):
        index = tmp_path / "project" / paths.INDEX.format(dataset=name, category="bolt")
        index.parent.mkdir(parents=True)
        index.touch()
    with pytest.raises(ConfigError, match=rf"{folders[1]}.*{folders[0]}.*--name"):
        planned_here(folders[1])
    assert planned_here(folders[1], name="other").dataset == "other"
    planned_here(folders[2])  # a copy
    shutil.rmtree(folders[0])
    planned_here(folders[1])
    with pytest.raises(ConfigError, match=r"mvtec/bolt .*--name"):
        planned_here(folders[1], name="mvtec")  # of config/config.yaml, and downloaded


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
    found = failure(said, Path("/p"))
    assert type(found) is kind and re.search(named, str(found))


class Run(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Reader:
    """Follows the guide in a copy of the project, on small images and with a small recipe."""

    def __init__(self, folder: Path):
        self.project, self.folder = Project(folder), folder
        make_category(folder / "data", "bolt", types={"scratch": 12, "dent": 12}, train=6, good=4)
        recipe = folder / "config/recipes/cpu.yaml"
        text = recipe.read_text()
        for old, new in {
            "image_size: 256": "image_size: 32",
            "blocks: 8": "blocks: 2",
            "meta_epochs: 8 ": "meta_epochs: 2 ",
            "level_steps: [800, 800, 400]": "level_steps: [3, 2, 1]",
        }.items():
            assert old in text
            text = text.replace(old, new)
        recipe.write_text(text)

    def bgad(self, *arguments: str, at: Path | None = None) -> Run:
        """Runs a command in the project's folder, or ``at`` another one."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            patch.chdir(at or self.folder)
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
    monkeypatch.setattr("bgad.cli.run_snakemake.make", lambda *_, quiet: metrics if quiet else None)
    run = reader.bgad("train", "data/bolt", "--json", "--out", str(tmp_path / "a copy"))
    assert run.stderr == ""
    assert json.loads(run.stdout) == {"folder": str(tmp_path / "a copy"), **metrics}
    assert (tmp_path / "a copy/model.pt").read_bytes() == (reader.folder / CELLS / "k10/bgad/seed0/model.pt").read_bytes()


def test_explain_and_export_need_no_data_set_for_a_cell_or_its_copy(reader, tmp_path, monkeypatch):
    """Wherever they are started; the copy has the record of where its images are."""
    cell = reader.folder / CELLS / "k10/bgad/seed0"
    copy = copy_of(cell, tmp_path / "copy")
    roots = []
    monkeypatch.setattr("bgad.report.export.onnx.export_model", lambda folder, root, *_: roots.append(root) or (1, 0.0, 0.0))
    for place in (cell, copy):
        run = reader.bgad("explain", str(place), "--image", "test/good/000.png", at=tmp_path)
        assert run.status == 0, run.stderr
        again = run.stdout.partition("make it again")[2].split("\n")[0]
        assert shlex.split(again)[:3] == ["bgad", "train", str(reader.folder / "data/bolt")]
        assert reader.bgad("export", "model", str(place), "--out", "x.onnx", at=tmp_path).status == 0
    assert roots == [reader.folder / "data"] * 2


def test_a_damaged_or_missing_file_is_noticed_and_predict_says_what_makes_it_again(reader, monkeypatch):
    cell = Cell.of_folder(Path(CELLS) / "k10/bgad/seed0")
    folder = reader.folder / cell.folder
    assert damaged_files(cell, folder) == []
    for name in paths.CELL_FILES:
        content = (folder / name).read_bytes()
        truncate(folder / name)
        assert damaged_files(cell, folder) == [folder / name]
        (folder / name).write_bytes(content)
    truncate(folder / "model.pt")
    said = reader.bgad("predict", "data/bolt/test/good", "--cell", str(cell.folder)).stderr
    assert said.startswith(f"error: {cell.folder}/model.pt: ") and "bgad train" in said
    command = shlex.split(said[said.index("bgad train") :].strip(". \n"))
    (folder / "gallery/maps.png").unlink()
    # The same command, now without Snakemake, is asked for every file, and finds no damaged one.
    asked = []
    monkeypatch.setattr("subprocess.Popen", lambda command, **_: asked.append(command) or pytest.fail("not started"))
    with pytest.raises(pytest.fail.Exception):
        reader.bgad(*command[1:])
    assert {(cell.folder / name).as_posix() for name in paths.CELL_FILES} <= {*asked[0]}
    assert not (folder / "model.pt").exists()
    monkeypatch.undo()
    assert reader.bgad(*command[1:]).status == 0
    assert damaged_files(cell, folder) == [] and all((folder / name).is_file() for name in paths.CELL_FILES)


METRICS = {
    "cell": {"seed": 3},
    "counts": {"train_normal": 6, "train_anomalous": 1, "test_normal": 2, "test_anomalous": 1},
    "notes": ["1 image is byte-identical to another one."],
    "image_auroc": {"last": 50.0},
    "pixel_auroc": {"last": None},
    "aupro": {"last": None},
}


def test_the_last_lines_say_what_the_metrics_mean_and_what_to_do_next():
    said = summary(METRICS, Path("a cell"), 11)
    assert "10 of the 11 images" in said and "note: 1 image is byte-identical" in said
    last = said.splitlines()[-1]
    assert "50 %" in last and "2 normal images and 1 anomalous image" in last
    many = {**METRICS, "counts": {**METRICS["counts"], "test_normal": 3, "test_anomalous": 3}}
    assert "--seed 4" in summary(many, Path("a cell"), 11).splitlines()[-1]


HANGING = """#!/bin/sh
echo $$ > up
exec sleep 600
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_alone_ends_everything_in_one_line(reader, tmp_path, number):
    folder = make_category(tmp_path / "data", "nut", types={"cut": 4})
    rules, up = reader.folder / "workflow/rules/data.smk", reader.folder / "up"
    text = rules.read_text()
    rules.write_text(text.replace('"bgad index --dataset', '"sh hanging.sh --dataset'))  # a step that would take minutes
    (reader.folder / "hanging.sh").write_text(HANGING)
    up.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bgad", "train", str(folder)]
    try:
        process = subprocess.Popen(command, cwd=reader.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not (up.exists() and up.read_text().strip()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        rules.write_text(text)
    assert (process.returncode, out) == (128 + number, "")
    assert re.fullmatch(r"stopped: .* kept; the same command .*", err.splitlines()[-1]), err
    with pytest.raises(ProcessLookupError):
        os.kill(int(up.read_text()), 0)
    assert not [*(reader.folder / ".snakemake/locks").glob("*")]


def test_the_message_of_a_failed_step_is_all_that_is_printed_whatever_the_user_s_profile_and_home_are(
    reader, tmp_path, monkeypatch
):
    victim = make_category(tmp_path / "data", "nut", types={"cut": 4}) / "ground_truth/cut/001_mask.png"
    truncate(victim)
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet/config.yaml").write_text("quiet: all\nshow-failed-logs: false\n")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(tmp_path / "quiet"))
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    run = reader.bgad("train", str(victim.parents[2]), "--json")
    assert (run.status, run.stdout) == (1, "")
    assert re.fullmatch(rf"error: {victim}: not a complete image.*\n", run.stderr)


def test_a_full_disk_under_out_is_a_sentence(reader, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(FileError, match=rf"^{tmp_path}/copy: cannot be written \(No space left on device\)"):
        copy_of(reader.folder / CELLS / "k10/bgad/seed0", tmp_path / "copy")
    assert not [*tmp_path.iterdir()]


def test_an_existing_folder_is_never_overwritten(tmp_path):
    with pytest.raises(ConfigError, match=f"--out {tmp_path}"):
        train(tmp_path / "data", out=tmp_path)
