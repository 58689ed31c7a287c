"""How far a long step is: a bar with the time that is left on a terminal, a plain line now and then in a log.

Both go to standard error, so that what a command prints stays clean for the next one.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
EVERY = 10.0  # seconds between two lines of a log
PACE = 3600.0  # seconds that a bar looks back to estimate: an epoch can take many minutes


def count(number: float) -> str:
    return f"{number:.0f}"


def amount(done: float, total: float | None, shown: Callable[[float], str]) -> str:
    return shown(done) + ("" if total is None else f" of {shown(total)}")


class Advance(Protocol):
    """Called when ``n`` more are done, or when something else is done ``now``."""

    def __call__(self, n: int, now: str | None = None) -> None: ...


@contextmanager
def progress(
    description: str,
    total: int | None,
    quiet: bool = False,
    done: int = 0,
    shown: Callable[[float], str] = count,
    alike: bool = True,
) -> Iterator[Advance]:
    """Gives ``advance(n)``, to be called when n more of ``total`` are done. ``quiet`` shows nothing, as scripts want it.

    ``done`` of them were done before, and say nothing about the pace. ``shown`` writes a number of them, as in "3 of 40".
    No time is estimated where ``total`` is not known (None), or where the things are not ``alike`` in the time that they take.
    """
    if quiet:
        yield lambda n, now=None: None
    elif sys.stderr.isatty():
        with _bar(shown, alike) as bar:
            task = bar.add_task(description, total=total, completed=done)
            yield lambda n, now=None: bar.update(task, advance=n, **({"description": now} if now else {}))
    else:
        yield Lines(description, total, done, shown, alike).advance


def track(items: Iterable[T], description: str, total: int, quiet: bool = False) -> Iterator[T]:
    """``items`` one by one, each counted when the next one is asked for."""
    with progress(description, total, quiet) as advance:
        for item in items:
            yield item
            advance(1)


class Lines:
    """Progress as plain lines: what is done now, and how far it is, at most once in ten seconds."""

    def __init__(
        self,
        description: str,
        total: int | None,
        done: int = 0,
        shown: Callable[[float], str] = count,
        alike: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.description, self.total, self.shown, self.alike, self.clock = description, total, shown, alike, clock
        self.before, self.done = done, done
        self.start = self.told = clock()

    def advance(self, n: int, now: str | None = None) -> None:
        self.done += n
        if now and now != self.description:
            self.description = now
            print(now, file=sys.stderr, flush=True)
        seconds = self.clock()
        if not self.alike or seconds - self.told < EVERY or self.done == self.total:
            return
        self.told = seconds
        left = ""
        if self.total is not None:
            pace = (seconds - self.start) / (self.done - self.before)
            left = f", about {readable_time(pace * (self.total - self.done))} left"
        print(f"{self.description}: {amount(self.done, self.total, self.shown)}{left}", file=sys.stderr, flush=True)


def readable_time(seconds: float) -> str:
    """A time for people: "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _bar(shown: Callable[[float], str], alike: bool) -> "Progress":
    # Only a terminal has a bar, and thousands of steps write to logs.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Amount(ProgressColumn):
        """How many of how many, written by ``shown``."""

        def render(self, task) -> Text:
            return Text(amount(task.completed, task.total, shown))

    times = (TimeRemainingColumn(), TextColumn("left")) if alike else (TimeElapsedColumn(),)
    return Progress(
        # It may hold the name of a file, in which [ is a bracket; where it is too long, it is the one to be cut.
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=20),
        Amount(),
        *times,
        console=Console(stderr=True, soft_wrap=True),
        redirect_stdout=sys.stdout.isatty(),  # else what was meant for a file would come to the terminal
        transient=True,  # what is printed stays
        expand=True,
        speed_estimate_period=PACE,
    )
