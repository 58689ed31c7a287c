"""Files that are there whole or not at all: each is written under a temporary name and renamed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bgad.errors import BgadError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it becomes ``path`` at the end, or nothing stays if writing fails.

    BgadError where the place cannot be written to, as on a full disk.
    """
    path = Path(path)
    # The ending stays last: some writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise BgadError(
            f"{path}: cannot be written ({error.strerror or error}); make room there or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, values: Any) -> None:
    """``values`` as indented JSON; NaN and infinity are refused, since JSON has none."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file; BgadError if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BgadError(f"{path}: cannot be read ({error.strerror}); make it first or check the path.") from error
    except ValueError as error:
        raise BgadError(f"{path}: not valid JSON ({error}); delete it and run again.") from error
