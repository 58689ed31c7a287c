"""How far a suite is: the state of each cell, what its log says last, and the time that the rest will take.

    done         metrics.json is there, and no lock of Snakemake's that is younger lists it, as it does if it is to be made anew
    running      a lock of Snakemake's lists it among the outputs of the run, and since then Snakemake has marked it incomplete
    failed       its log ends in `error:` or a Python error, and is no older than a lock that lists it
    queued       a lock lists it, and it is none of the above
    interrupted  no lock lists it, and its log ends in the middle
    not run      no lock lists it, and it has no log

Known from files that are only read, so that no running Snakemake is disturbed. A killed run's locks count until `snakemake
--unlock` removes them. Not seen are a Snakemake with --nolock and `bgad cell` on its own.
"""

import time
from base64 import urlsafe_b64decode
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bgad.config.cells import Cell
from bgad.config.methods import PAPER_METHODS
from bgad.io import end_of
from bgad.report.collect import DONE, FAILED, INTERRUPTED, NOT_RUN, status_without_metrics

RUNNING, QUEUED = "running", "queued"
FAILS = FAILED.removesuffix(": ")
STATES = (DONE, RUNNING, QUEUED, FAILS, INTERRUPTED, NOT_RUN)
LINES = 6  # of a log
TAIL = 4096  # bytes of a log that they are looked for in


@dataclass(frozen=True)
class Running:
    """A cell in training: seconds since it began, and since its log last grew."""

    for_s: float
    quiet_s: float


@dataclass(frozen=True)
class Status:
    """The state of each cell; those in training; and the seconds that the cells asked for will take, None if not known."""

    states: dict[Cell, str]
    running: dict[Cell, Running]
    remaining_s: float | None

    def as_json(self, root: Path = Path()) -> dict:
        """Counts by state, the time left, and of cells that run or failed the last lines of their logs."""
        counts = Counter(self.states.values())
        shown = []
        for cell, state in self.states.items():
            if state in (RUNNING, FAILS):
                of = self.running.get(cell)
                times = {"for_s": round(of.for_s), "quiet_s": round(of.quiet_s)} if of else {}
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
    locks, marks = _locks(root), _marks(root)
    states, running = {}, {}
    for cell in cells:
        metrics, log = cell.folder / "metrics.json", root / cell.folder / "train.log"
        made = _modified(root / metrics)
        locked = locks.get(metrics.as_posix())
        begun = marks.get(metrics.as_posix())
        if made is not None and (locked is None or made >= locked):
            states[cell] = DONE
        elif locked is not None and begun is not None and begun >= locked:
            states[cell] = RUNNING
            last = max(begun, _modified(log) or begun)
            running[cell] = Running(max(now - begun, 0), max(now - last, 0))  # above 0 though a clock was set back
        else:
            said = status_without_metrics(log)
            if locked is not None and not (said.startswith(FAILED) and (_modified(log) or 0) >= locked):
                states[cell] = QUEUED
            else:
                states[cell] = FAILS if said.startswith(FAILED) else said
    return Status(states, running, _remaining(states, running, root))


def _locks(root: Path) -> dict[str, float]:
    """Outputs that running Snakemakes have locked, each with the time of the lock."""
    found: dict[str, float] = {}
    for path in (root / ".snakemake" / "locks").glob("*.output.lock"):
        with suppress(OSError):  # released meanwhile
            found |= dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").splitlines(), path.stat().st_mtime)
    return found


def _marks(root: Path) -> dict[str, float]:
    """Outputs that Snakemake has marked incomplete, with the time of the mark: a file each, named by the output in base64,
    a long name over folders that begin with @."""
    found, folder = {}, root / ".snakemake" / "incomplete"
    for path in folder.rglob("*"):
        name = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts)
        with suppress(OSError, ValueError):  # gone meanwhile, or not such a file
            if path.is_file():
                found[urlsafe_b64decode(name).decode()] = path.stat().st_mtime
    return found


def _remaining(states: dict[Cell, str], running: dict[Cell, Running], root: Path) -> float | None:
    """Of each cell to come the mean time of its kind's finished ones, less what the running have behind them, over how many
    run at once. Features and pools that are still to be made are not in it. None where a kind has no finished cell yet, or
    none runs that would bring an end nearer."""
    taken = defaultdict(list)
    for cell, state in states.items():
        if state == DONE and (seconds := _seconds(root / cell.folder / "benchmark.tsv")) is not None:
            taken[_kind(cell)].append(seconds)
    mean = {kind: fmean(seconds) for kind, seconds in taken.items()}
    to_come = [cell for cell, state in states.items() if state in (QUEUED, RUNNING)]
    if not running or any(_kind(cell) not in mean for cell in to_come):
        return None
    behind = {cell: of.for_s for cell, of in running.items()}
    return sum(max(mean[_kind(cell)] - behind.get(cell, 0), 0) for cell in to_come) / len(running)


def _kind(cell: Cell) -> tuple:
    """Cells that take about as long: of one recipe, with or without known anomalies; each detector on its own."""
    return cell.recipe, cell.k > 0, "" if cell.method in PAPER_METHODS else cell.method


def _seconds(benchmark: Path) -> float | None:
    """Wall time of a cell, from Snakemake's record of it."""
    try:
        return float(benchmark.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])
    except (OSError, ValueError, IndexError):
        return None


def last_lines(log: Path) -> list[str]:
    """What a log says last; [] where there is none."""
    try:
        return end_of(log, TAIL).splitlines()[-LINES:]
    except OSError:
        return []


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
