"""How far a long step is: a bar with the time that is left on a terminal, a plain line now and then in a log.

Both go to standard error, so that what a command prints stays clean for the next one.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
EVERY = 10.0  # seconds between two lines of a log
PACE = 3600.0  # seconds that a bar looks back to estimate: an epoch can take many minutes


def count(number: float) -> str:
    return f"{number:.0f}"


@contextmanager
def progress(
    description: str, total: int, quiet: bool = False, done: int = 0, shown: Callable[[float], str] = count
) -> Iterator[Callable[[int], None]]:
    """Gives ``advance(n)``, to be called when n more of ``total`` are done. ``quiet`` shows nothing, as scripts want it.

    ``done`` of them were done before, and say nothing about the pace. ``shown`` writes a number of them, as in "3 of 40".
    """
    if quiet:
        yield lambda n: None
    elif sys.stderr.isatty():
        with _bar(shown) as bar:
            task = bar.add_task(description, total=total, completed=done)
            yield lambda n: bar.advance(task, n)
    else:
        yield Lines(description, total, done, shown).advance


def track(items: Iterable[T], description: str, total: int, quiet: bool = False) -> Iterator[T]:
    """``items`` one by one, each counted when the next one is asked for."""
    with progress(description, total, quiet) as advance:
        for item in items:
            yield item
            advance(1)


class Lines:
    """Progress as plain lines, at most one every ten seconds; what ends sooner says nothing."""

    def __init__(
        self,
        description: str,
        total: int,
        done: int = 0,
        shown: Callable[[float], str] = count,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.description, self.total, self.shown, self.clock = description, total, shown, clock
        self.before, self.done = done, done
        self.start = self.told = clock()

    def advance(self, n: int) -> None:
        self.done += n
        now = self.clock()
        if now - self.told < EVERY or self.done >= self.total:
            return
        self.told = now
        left = (now - self.start) / (self.done - self.before) * (self.total - self.done)
        line = f"{self.description}: {self.shown(self.done)} of {self.shown(self.total)}, about {readable_time(left)} left"
        print(line, file=sys.stderr, flush=True)


def readable_time(seconds: float) -> str:
    """A time for people: "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class _Amount(ProgressColumn):
    """How many of how many, written by ``shown``."""

    def __init__(self, shown: Callable[[float], str]):
        super().__init__()
        self.shown = shown

    def render(self, task) -> Text:
        return Text(f"{self.shown(task.completed)} of {self.shown(task.total)}")


def _bar(shown: Callable[[float], str]) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),  # it may hold the name of a file, in which [ is a bracket
        BarColumn(),
        _Amount(shown),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True, soft_wrap=True),
        redirect_stdout=sys.stdout.isatty(),  # else what was meant for a file would come to the terminal
        transient=True,  # what is printed stays
        speed_estimate_period=PACE,
    )
