"""On a full or read-only disk, every command ends in a sentence, leaves nothing half-written, and works once there is room."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import CELL, TinyProject, make_project

from bgad.config import paths
from bgad.config.settings import Dataset
from bgad.data.layouts import build_index
from bgad.errors import FileError
from bgad.features import STRIDES
from bgad.features import cache as features
from bgad.io import check_room

FULL, READ_ONLY = "No space left on device", "Read-only file system"
FOLDER = CELL.folder.as_posix()


class Disk:
    """A small file system in memory, mounted on ``folder``."""

    def __init__(self, folder: Path):
        self.folder = folder

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir())


@pytest.fixture
def disk(tmp_path):
    """One of 16 KB."""
    folder = tmp_path / "a disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("needs mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk, which is not allowed here: {mounted.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> TinyProject:
    project = make_project(tmp_path_factory.mktemp("project"))
    root = project.folder / "data"
    build_index(CELL.dataset, CELL.category, root, Dataset(path=root)).save(project.folder / "index.json")
    return project


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        # Room for a mapped file is allocated at once: if there were none as it is filled, the system would kill the process.
        ("16k", rf"level3\.npy: .*{FULL}"),
        ("144k", r"masks\.npy: .*the disk is full"),
    ],
)
def test_features_are_complete_or_not_there(disk, size, sentence):
    levels = [torch.rand(1, (32 // stride) ** 2, 24) for stride in STRIDES]  # 136 KB for 16 images
    backbone = SimpleNamespace(
        name="b", weights_sha256="", channels=[24] * 3, in_batches=lambda images: (levels for _ in images)
    )

    def write():
        images = ((np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), bool)) for _ in range(16))
        features.write(disk.folder / "cache", [f"{n}.png" for n in range(16)], images, True, backbone, 32)

    disk.remount(f"size={size}")
    with pytest.raises(FileError, match=sentence):
        write()
    assert disk.files() == []
    disk.remount("size=10m")
    write()
    assert torch.equal(features.load(disk.folder / "cache").levels[0], levels[0].expand(16, -1, -1))


def refused(project, capsys, *arguments) -> str:
    """The sentence in which a command ends."""
    capsys.readouterr()
    assert project.bgad(*arguments) == 1
    said = capsys.readouterr().err
    *before, last = said.splitlines()
    assert last.startswith("error: ") and not any("Traceback" in line for line in before), said
    return last


def test_a_cell_is_complete_or_not_there(disk, project, capsys):
    inputs = ("--index", "index.json", "--split", paths.SPLIT.format(draws="own", **vars(CELL)), "--features", "features")
    command = ("cell", disk.folder / FOLDER, "--recipe", "config/recipes/tiny.yaml", *inputs, "--root", "data")
    command += ("--cutpaste", "cutpaste", "--device", "cpu")
    disk.remount("ro")
    assert f"cannot be written ({READ_ONLY})" in refused(project, capsys, *command)
    disk.remount("rw")
    assert f"checkpoint.pt: cannot be written ({FULL})" in refused(project, capsys, *command)
    assert disk.files() == []
    disk.remount(f"size={3 * (project.cell / 'model.pt').stat().st_size // 2}")  # the checkpoint has as many tensors
    assert f"model.pt: cannot be written ({FULL})" in refused(project, capsys, *command)
    assert not [name for name in disk.files() if "metrics.json" in name or "model" in name]
    disk.remount("size=10m")
    capsys.readouterr()
    assert project.bgad(*command) == 0
    assert "resuming after epoch 4" in capsys.readouterr().out
    for name in ("scores.csv", "curves.npz", "model.pt", "likelihoods.json"):
        assert (disk.folder / FOLDER / name).read_bytes() == (project.cell / name).read_bytes()


@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize(
    "command",
    [
        "predict data/part/test/cut/000.png --cell {cell} --device cpu --out {disk}/overlays",
        "export model {cell} --out {disk}/model.onnx",
        "export results tiny --out {disk}/results",
        "table tiny --output {disk}/table.md --plots {disk}",
        "plots tiny --output {disk}/plots",
        "report tiny --output {disk}/report.html",
    ],
    ids=lambda command: "-".join(command.split()[: 2 if command.startswith("export") else 1]),
)
def test_whatever_writes_ends_in_a_sentence_and_leaves_nothing(disk, project, capsys, monkeypatch, command, state):
    monkeypatch.setattr("bgad.report.export.onnx._serialized", lambda *_: bytes(2**20))  # the export itself takes seconds
    filled = []
    if state == "read-only":
        disk.remount("ro")
    else:
        filled = ["filled"]
        (disk.folder / "filled").write_bytes(bytes(16 * 2**10))
    said = refused(project, capsys, *(part.format(cell=FOLDER, disk=disk.folder) for part in command.split()))
    assert f"{disk.folder}/" in said and f"cannot be written ({FULL if filled else READ_ONLY})" in said
    assert disk.files() == filled


def test_a_run_of_the_workflow_says_at_its_start_that_there_is_no_room(disk):
    with pytest.raises(FileError, match=rf"^{disk.folder}/\.room\.\d+: cannot be written \({FULL}\)"):
        check_room(disk.folder)
    disk.remount("size=2m")
    check_room(disk.folder)
    assert disk.files() == []
