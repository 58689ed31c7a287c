"""Who is at work: locks that the system takes back when their process ends, however it ends.

Snakemake's own locks are files that a killed run leaves behind, after which no run starts until somebody has looked that none
is alive and removed them. Here the system knows.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bgad.errors import BgadError

_run: int | None = None  # of this process, which has it as long as it lives
HALF_WRITTEN = re.compile(r"\.\w+\.\d+(\.\w+)?")  # as files.whole and finished.keep call what is not whole yet
LOOK = 0.05  # seconds; longer than nobody_runs has the lock


def begin_run(state: Path) -> None:
    """Marks a run of the workflow whose Snakemake keeps its records in ``state``, and removes the locks of dead runs there.

    Where another run is alive nothing is removed: Snakemake itself stops a run that would make what that one makes.
    """
    global _run
    if _run is not None:
        return
    with suppress(OSError):  # where there are no locks, or not for this user: what a dead run left is then removed by hand
        _run = _opened(state / "alive")
        if _taken(_run, LOOK):
            shutil.rmtree(state / "locks", ignore_errors=True)
        fcntl.flock(_run, fcntl.LOCK_SH)


def nobody_runs(state: Path) -> bool:
    """Whether it is known that no run is alive whose Snakemake keeps its records in ``state``."""
    try:
        lock = os.open(state / "alive", os.O_RDWR)
    except OSError:
        return False
    try:
        return _taken(lock)
    except OSError:
        return False
    finally:
        os.close(lock)


def _taken(lock: int, patience: float = 0) -> bool:
    """Whether the lock could be had for this process alone, at once or after ``patience`` seconds."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(patience)
        return patience > 0 and _taken(lock)
    return True


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Waits until no other process makes what belongs into ``folder``, a cell or a cache: one that outlived its run may still
    be at it. What a process was writing there when it was killed is removed.

    Gives whether there was one to wait for.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock, waited = _of_this_process(path)
    except OSError as error:
        raise BgadError(f"{folder}: cannot be written ({error.strerror}); make room there or choose another place.") from error
    try:
        yield waited
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(lock)


def _of_this_process(path: Path) -> tuple[int, bool]:
    """The file ``path``, open and locked, and whether another process had it locked before."""
    waited = False
    while True:
        lock = _opened(path)
        try:
            if not _taken(lock):
                waited = True
                print(f"{path.parent}: another process is at work here; waiting for its end.", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system that knows no locks: two at once make the same files twice, and no others
            return lock, waited
        # Who had the lock has taken the file away; where that was another, this is a lock that nobody else sees.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                _sweep(path.parent)
                return lock, waited
        os.close(lock)


def _sweep(folder: Path) -> None:
    for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
        if HALF_WRITTEN.fullmatch(path.name):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
