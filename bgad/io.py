"""Files that are complete or absent: each is written under a temporary name, then renamed."""

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from bgad.errors import FileError

MOST_BYTES = 10**8  # of a file that is read at once; our largest, an index, has a hundredth of it
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # JSON writes a character beyond 16 bits as two halves


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name next to ``path`` to write to. It becomes ``path`` at the end, or is removed if writing fails.

    FileError if it cannot be written, as on a full disk.
    """
    path = Path(path)
    # The ending stays: some writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _to_disk(temporary)
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def several(folder: Path) -> Iterator[Path]:
    """A temporary folder to write files to. They go to ``folder`` at the end, or are removed if anything fails before.

    Other files in ``folder`` stay. FileError if it cannot be written.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".", dir=folder))
    try:
        yield staging
        with _writing(folder):
            for path in sorted(staging.iterdir()):
                _to_disk(path)
                path.replace(folder / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                folder.rmdir()  # if it is empty


def check_room(folder: Path) -> None:
    """FileError if a MB cannot be written to ``folder``, as on a full disk."""
    probe = Path(folder) / f".room.{os.getpid()}"
    write_text(probe, " " * 2**20)
    probe.unlink()


def _to_disk(path: Path) -> None:
    """Puts a file's content on the disk before the file gets its name; after a power cut it could be empty otherwise."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # NumPy and others only say how many bytes they wrote.
        why = error.strerror or f"the disk is full or fails: {error}"
        raise FileError(f"{path}: cannot be written ({why}); make room there or choose another place.") from error


def write_text(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """``rows``, with the keys of the first as the header; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, values: Any) -> None:
    """``values`` as indented JSON; ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def opened(path: Path) -> BinaryIO:
    """The file, open for reading; OSError if there is none, or if it is a folder, a pipe (which could block) or a device."""
    if Path(path).exists() and not Path(path).is_file():
        raise OSError(errno.EINVAL, "not a file")
    return Path(path).open("rb")


def content_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file; OSError if it cannot be opened or has more than ``most``."""
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most // 10**6} MB")
    return content


def end_of(path: Path, most: int) -> str:
    """The last ``most`` bytes of a file as text; OSError if there is none."""
    with opened(path) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - most, 0))
        return file.read(most).decode("utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """The content of a JSON file. FileError if it is missing or damaged, or has values that no file of this project has and
    that break its readers: NaN and infinity, integers beyond 64 bits, half characters, endless nesting."""
    try:
        text = content_of(path).decode()
        values = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_of_64_bits)
        if HALF_CHARACTER.search(text):
            json.dumps(values, ensure_ascii=False).encode()  # ValueError unless every half has its other half
        return values
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); make it first or check the path.") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: not valid JSON ({error}); delete it and run again.") from error


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits[:30]} is not a finite number")
    return number


def _of_64_bits(digits: str) -> int:
    if len(digits) > 18:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
