"""One process at a time in a folder. The system releases a lock when its process ends, however it ends."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bgad.errors import FileError

TEMPORARY = re.compile(r"\.\w+\.\d+(\.\w+)?")  # the names that io.whole gives files while it writes them


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process works in ``folder``, such as one that outlived its killed run, and removes the temporary
    files that a killed process left there. FileError if the folder cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"{folder}: another process is working here; waiting for it to end.", flush=True)
            lock.acquire()
    except OSError as error:
        raise FileError(f"{folder}: cannot be written ({error.strerror}); make room there or choose another place.") from error
    try:
        _sweep(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink()  # while it is locked: those who wait for it see that it is gone, and make a new one
        lock.release()


def _sweep(folder: Path) -> None:
    for path in [*folder.glob(".*"), *folder.glob("*/.*")]:
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
