"""A step that Snakemake starts again after a failure, which it does whatever the failure was.

What ends in a sentence of ours, as wrong input or a training that diverged, would end so again, only later: the first attempt
keeps its sentence in the step's folder, and the next ones say it at once. What ends otherwise, as for want of memory or killed
from outside, keeps nothing and is tried again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bgad.errors import BgadError
from bgad.io import write_text

NAME = ".failed"


@contextmanager
def attempt(number: int | None, folder: Path) -> Iterator[None]:
    """Attempt ``number``, from 1, of the step that writes to ``folder``; None, as by hand, keeps nothing."""
    sentence = folder / NAME
    if number is None:
        yield
        return
    if number > 1 and sentence.exists():
        raise BgadError(sentence.read_text(encoding="utf-8"))
    forget(folder)
    try:
        yield
    except BgadError as error:
        with suppress(BgadError):  # as on a full disk
            write_text(sentence, str(error))
        raise


def forget(folder: Path) -> None:
    """Has the step in ``folder`` tried again whatever it ended in."""
    with suppress(OSError):  # where it cannot be taken away, the step cannot write either, and says so
        (folder / NAME).unlink(missing_ok=True)
