"""Locks of dead processes are nobody's: of a run of the workflow, and of a cell."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import STAND_IN

from bgad.errors import BgadError
from bgad.locks import alone, nobody_runs

IMPORTS = "import sys, time; from pathlib import Path; from bgad.locks import alone, begin_run\n"
RUN = IMPORTS + "begin_run(Path(sys.argv[1])); print('on', flush=True); time.sleep(600)"
MAKE_CELL = IMPORTS + "with alone(Path(sys.argv[1])): print('in', flush=True); time.sleep(float(sys.argv[2]))"


@pytest.fixture
def run(tmp_path):
    """Starts a run that keeps its records in tmp_path and goes on until it is killed."""
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", RUN, tmp_path], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "on\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def snakemake_locks(state):
    (state / "locks").mkdir(exist_ok=True)
    (state / "locks/0.output.lock").write_text("results/x\n")
    return state / "locks"


def test_a_dead_run_s_locks_go_and_a_living_one_s_stay(tmp_path, run):
    locks = snakemake_locks(tmp_path)
    first = run()
    assert not locks.exists(), "left by a run before there was this one"
    snakemake_locks(tmp_path)
    second = run()  # of other cells, beside it
    assert locks.exists()
    assert not nobody_runs(tmp_path)
    first.kill()
    first.wait()
    run()
    assert locks.exists(), "the second is alive"
    for process in (first, second):
        process.kill()
        process.wait()


def test_whether_a_run_is_alive(tmp_path, run):
    assert not nobody_runs(tmp_path), "not known"
    process = run()
    assert not nobody_runs(tmp_path)
    process.kill()
    process.wait()
    assert nobody_runs(tmp_path)
    assert nobody_runs(tmp_path), "looking changes nothing"


def test_a_cell_waits_for_the_process_that_makes_it(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", MAKE_CELL, tmp_path / "cell", "600"], stdout=subprocess.PIPE, text=True)
    second = None
    try:
        assert first.stdout.readline() == "in\n"
        second = subprocess.Popen([sys.executable, "-c", MAKE_CELL, tmp_path / "cell", "0"], stdout=subprocess.PIPE, text=True)
        assert second.stdout.readline().endswith("another process is at work here; waiting for its end.\n")
        time.sleep(0.2)
        assert second.poll() is None
        first.kill()
        assert second.stdout.readline() == "in\n"
        assert second.wait(60) == 0
        assert not list((tmp_path / "cell").iterdir())
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()
            process.stdout.close()


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    half = [".level1.4711.npy", "gallery/.maps.12.png", ".metrics.1.json", ".finished.13/key"]
    others = ["level1.npy", ".finished/key", ".failed", "gallery/maps.png", ".hidden"]
    for name in (*half, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with alone(tmp_path):
        assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
            [*others, ".lock"]
        )
    assert not (tmp_path / ".finished.13").exists()


INDEX = "resources/index/mini/{}.json"


def test_of_two_runs_that_make_the_same_the_second_ends_and_a_dead_one_locks_nobody_out(project):
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
        assert "Directory cannot be locked" in said
        assert "Traceback" not in said
        project.snakemake(INDEX.format("coins"))  # which the first does not make
        first.kill()
        first.wait()
        (project.folder / "ready").touch()
        project.snakemake(INDEX.format("brick"))  # without --unlock
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BgadError, match=r"file/cell: cannot be written \(Not a directory\)"), alone(tmp_path / "file/cell"):
        pass
