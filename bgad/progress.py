"""The progress of a long step: a bar on a terminal, a line now and then in a log. Both go to standard error."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
EVERY = 10.0  # seconds between two lines of a log


@contextmanager
def progress(description: str, total: float | None, quiet: bool = False, done: float = 0) -> Iterator[Callable[[float], None]]:
    """Yields ``advance(n)``: call it when ``n`` more of ``total`` (None: unknown) are done; ``done`` were done before.

    ``quiet`` shows nothing, for scripts. Whatever is printed meanwhile appears above the bar.
    """
    if quiet:
        yield lambda n: None
    elif not sys.stderr.isatty():
        yield _lines(description, total, done)
    else:
        from rich.console import Console  # slow to import
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(
            *columns,
            console=Console(stderr=True, soft_wrap=True),
            redirect_stdout=sys.stdout.isatty(),
            speed_estimate_period=3600,  # the estimate looks back an hour, because an epoch can take many minutes
            transient=True,
        ) as bar:
            task = bar.add_task(description, total=total, completed=int(done))
            yield lambda n: bar.advance(task, n)


def track(items: Iterable[T], description: str, total: int, quiet: bool = False) -> Iterator[T]:
    """Yields ``items``; each counts as done when the next one is asked for."""
    with progress(description, total, quiet) as advance:
        for item in items:
            yield item
            advance(1)


def _lines(description: str, total: float | None, before: float) -> Callable[[float], None]:
    """An ``advance`` that prints how much is done, and estimates the time left, at most every ten seconds."""
    done, start = before, time.monotonic()
    told = start

    def advance(n: float) -> None:
        nonlocal done, told
        done, now = done + n, time.monotonic()
        if now - told >= EVERY and (total is None or done < total):
            told, left = now, ""
            if total is not None and done > before:
                seconds = (now - start) / (done - before) * (total - done)
                left = f" of {total:.0f}, {timedelta(seconds=round(seconds))} left"
            print(f"{description}: {done:.0f}{left}", file=sys.stderr, flush=True)

    return advance
