"""A folder has one process at a time, a dead process's lock is nobody's, and Snakemake locks what a run is making."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import STAND_IN

from bgad.errors import FileError
from bgad.locks import alone

WORK = """
import sys, time
from pathlib import Path
from bgad.locks import alone
with alone(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def work(tmp_path):
    """Starts a process that works for some seconds in the folder ``cell``."""
    started = []

    def start(seconds: float) -> subprocess.Popen:
        command = [sys.executable, "-c", WORK, tmp_path / "cell", str(seconds)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_cell_waits_for_the_process_that_makes_it(tmp_path, work):
    first = work(600)
    assert first.stdout.readline() == "in\n"
    others = [work(0), work(0)]
    for other in others:
        assert "waiting" in other.stdout.readline()
    time.sleep(0.2)
    assert [other.poll() for other in others] == [None, None]
    first.kill()
    for other in others:
        assert other.stdout.readline() == "in\n"
        assert other.wait(60) == 0
    assert not list((tmp_path / "cell").iterdir())


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    temporary = [".level1.4711.npy", "gallery/.maps.12.png", ".metrics.1.json"]
    others = ["level1.npy", "checkpoint.pt", "gallery/maps.png", ".hidden"]
    for name in (*temporary, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with alone(tmp_path):
        left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
        assert sorted(left) == sorted([*others, ".lock"])
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file/cell: cannot be written \(Not a directory\)"), alone(tmp_path / "file/cell"):
        pass


INDEX = "resources/index/mini/{}.json"


def test_a_second_run_of_the_same_ends_at_once_and_a_killed_one_is_unlocked(project):
    project.stand_in_for("data")
    rules = project.folder / "workflow/rules/data.smk"
    before, index = rules.read_text().split("rule index:")
    waiting = "case {wildcards.category} in brick) test -e ready || sleep 600;; esac; touch {output}"
    rules.write_text(before + "rule index:" + index.replace(STAND_IN, waiting, 1))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", INDEX.format("brick")]
    log = project.folder / "first.log"
    with log.open("w") as said:
        first = subprocess.Popen(command, cwd=project.folder, stdout=said, stderr=said, start_new_session=True)
    try:
        while "Checking the images of mini/brick" not in log.read_text():
            assert first.poll() is None, log.read_text()
            time.sleep(0.1)
        said = project.snakemake(INDEX.format("brick"), check=False)
        assert "Directory cannot be locked" in said and "Traceback" not in said
        project.snakemake(INDEX.format("coins"))  # which the first does not make
        first.kill()
        first.wait()
        (project.folder / "ready").touch()
        project.snakemake("--unlock")
        project.snakemake(INDEX.format("brick"))
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
