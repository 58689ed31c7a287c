"""The progress of a suite, from the files in its cells' folders: each cell's state, its log, and the time left.

done     has metrics.json
running  another process holds the folder's lock, or its log grew within the last minute
failed   its log ends in `error:` or a Python error
queued   anything else, including the unfinished cells of a suite that is not running
"""

import fcntl
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bgad.config.cells import Cell
from bgad.config.methods import PAPER_METHODS
from bgad.io import end_of, opened
from bgad.report.collect import DONE, FAILED, status_without_metrics

RUNNING, QUEUED, FAILS = "running", "queued", FAILED.removesuffix(": ")
STATES = (DONE, RUNNING, FAILS, QUEUED)
RECENT = 60.0  # seconds: covers a cell that has not taken its lock yet, and locks that another machine does not see
LINES, TAIL = 6, 4096  # the last lines of a log, in its last bytes


@dataclass(frozen=True)
class Status:
    """The state of each cell; for the running ones, the seconds since they started and since their log last grew; and the
    seconds until all are done, None if unknown."""

    states: dict[Cell, str]
    running: dict[Cell, tuple[float, float]]
    remaining_s: float | None

    def as_json(self, root: Path = Path()) -> dict:
        """Counts by state, the time left, and the last log lines of running and failed cells."""
        counts, shown = Counter(self.states.values()), []
        for cell, state in self.states.items():
            if state in (RUNNING, FAILS):
                times = dict(zip(("for_s", "quiet_s"), map(round, self.running.get(cell, ())), strict=False))
                lines = last_lines(root / cell.folder / "train.log")
                shown.append({"cell": cell.folder.as_posix(), "state": state, **times, "log": lines})
        return {
            "cells": len(self.states),
            "counts": {state: counts[state] for state in STATES},
            "remaining_s": None if self.remaining_s is None else round(self.remaining_s),
            "shown": shown,
        }


def status_of(cells: Iterable[Cell], root: Path = Path(), now: float | None = None) -> Status:
    """The status of ``cells``, whose folders are under ``root``; ``now`` in seconds of the epoch, by default the clock's."""
    now = time.time() if now is None else now
    states, running = {}, {}
    for cell in cells:
        folder = root / cell.folder
        if (folder / "metrics.json").exists():
            states[cell] = DONE
            continue
        locked, written = _modified(folder / ".lock"), _modified(folder / "train.log")
        if locked is not None and _is_held(folder / ".lock"):
            states[cell] = RUNNING
        elif status_without_metrics(folder / "train.log").startswith(FAILED):
            states[cell] = FAILS
        else:
            states[cell] = RUNNING if written is not None and now - written < RECENT else QUEUED
        if states[cell] == RUNNING:
            started = locked or written or now  # the lock is made when the cell starts
            running[cell] = max(now - started, 0), max(now - max(started, written or 0), 0)  # a clock can be set back
    return Status(states, running, _remaining(states, running, root))


def last_lines(log: Path) -> list[str]:
    """The last lines of a log; [] if there is none."""
    try:
        return end_of(log, TAIL).splitlines()[-LINES:]
    except OSError:
        return []


def _is_held(lock: Path) -> bool:
    """Whether a process holds the lock of bgad.locks; a killed process leaves the file but not the lock."""
    try:
        with opened(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # gone meanwhile, or a file system without locks
        return False
    return False


def _remaining(states: dict[Cell, str], running: dict[Cell, tuple[float, float]], root: Path) -> float | None:
    """The mean time of finished cells of its kind for each unfinished cell, less what the running cells have done, divided by
    the number that run at once. None if nothing is running, or no cell of a kind has finished. Excludes shared features and
    pools."""
    seconds = defaultdict(list)
    for cell, state in states.items():
        if state == DONE and (took := _seconds(root / cell.folder / "benchmark.tsv")) is not None:
            seconds[_kind(cell)].append(took)
    to_come = [cell for cell, state in states.items() if state in (QUEUED, RUNNING)]
    if not running or any(_kind(cell) not in seconds for cell in to_come):
        return None
    mean = {kind: fmean(of_kind) for kind, of_kind in seconds.items()}
    return sum(max(mean[_kind(cell)] - running.get(cell, (0, 0))[0], 0) for cell in to_come) / len(running)


def _kind(cell: Cell) -> tuple:
    """Cells that take about equally long: the same recipe, with or without known anomalies; other methods separately."""
    return cell.recipe, cell.k > 0, "" if cell.method in PAPER_METHODS else cell.method


def _seconds(benchmark: Path) -> float | None:
    """A cell's wall time."""
    try:
        return float(benchmark.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])
    except (OSError, ValueError, IndexError):
        return None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
