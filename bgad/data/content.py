"""The content of a category's folder as one hash: it decides what is made again, instead of dates and places.

A file is read again only when its size or its times have changed since the last reading, which a record remembers. So a folder
that was moved or touched keeps its hash, and an image that was replaced changes it, however old the new file is.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bgad.data.files import walk
from bgad.errors import FileError
from bgad.io import read_json, write_json

PARTS = ("train", "test", "ground_truth")
Readings = dict[str, tuple[str, str]]  # {path in the category's folder: (size and times, SHA-256 or why there is none)}


def content_sha256(folder: Path, record: Path | None = None) -> str:
    """The hash of names and contents of all files in the PARTS of ``folder``, except those of systems.

    A file that cannot be read counts with the reason; DataError for a folder that cannot be. ``record`` keeps the readings, if
    it can be written.
    """
    names = [f"{place}/{name}" for part in PARTS for place, name in walk(folder / part, part)]
    paths = {name: folder / name for name in names}
    states = {name: _state(path) for name, path in paths.items()}
    before = _recorded(record)
    known = before[1] if before else {}
    changed = [name for name, state in states.items() if name not in known or known[name][0] != state]
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # hashing releases Python's lock
        hashes = dict(zip(changed, threads.map(_sha256, [paths[name] for name in changed]), strict=True))
    readings = {name: (state, hashes.get(name) or known[name][1]) for name, state in states.items()}
    if record and before != (os.fspath(folder), readings):
        with suppress(FileError, ValueError):  # a project that cannot be written, a name that is not UTF-8
            write_json(record, {"folder": os.fspath(folder), "files": readings})
    lines = "".join(f"{readings[name][1]} {name}\n" for name in sorted(readings))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def recorded_folder(record: Path) -> Path | None:
    """The folder whose readings are in ``record``; None without a record."""
    found = _recorded(record)
    return Path(found[0]) if found else None


def _recorded(record: Path | None) -> tuple[str, Readings] | None:
    """The folder and its readings; None if there are none, or if they are damaged, so that everything is read again."""
    if record is None or not record.is_file():
        return None
    try:
        values = read_json(record)
        return values["folder"], TypeAdapter(Readings).validate_python(values["files"])
    except (FileError, KeyError, TypeError, ValidationError):
        return None


def _state(path: Path) -> str:
    """Changes with the content: size and times in ns, the last of which, the inode's, nobody can set."""
    try:
        status = path.stat()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _sha256(path: Path) -> str:
    try:
        if not path.is_file():
            return "not a file"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return os.strerror(error.errno or 0)
