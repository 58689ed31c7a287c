"""Progress: a bar on a terminal, a plain line now and then in a log, nothing for scripts."""

import os
import pty
import subprocess
import sys
from itertools import islice

import pytest

from bgad.progress import Lines, progress, readable_time, track


class Clock:
    """A time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("done", "lines"),
    [
        # A picture takes 4 s: after 12 s three are done and seven left, and so on every third picture.
        (0, ["pictures: 3 of 10, about 28 s left", "pictures: 6 of 10, about 16 s left", "pictures: 9 of 10, about 4 s left"]),
        # Of those done before, the time of the others says nothing.
        (5, ["pictures: 8 of 10, about 8 s left"]),
    ],
)
def test_a_log_has_a_line_every_ten_seconds_with_the_time_that_is_left(capsys, done, lines):
    clock = Clock()
    shown = Lines("pictures", 10, done, clock=clock)
    for _ in range(10 - done):
        clock.now += 4
        shown.advance(1)
    assert capsys.readouterr().err.splitlines() == lines


def test_a_short_step_says_nothing_in_a_log(capsys):
    assert list(track("abc", "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_amounts_are_written_as_asked(capsys):
    clock = Clock()
    shown = Lines("archive", 4_000_000, shown=lambda number: f"{number / 1e6:.0f} MB", clock=clock)
    clock.now += 20
    shown.advance(1_000_000)
    assert capsys.readouterr().err == "archive: 1 MB of 4 MB, about 60 s left\n"


def test_a_consumer_that_stops_early_is_no_error():
    assert list(islice(track(range(10), "numbers", 10), 2)) == [0, 1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (36000, "10.0 h")]
)
def test_a_time_for_people(seconds, text):
    assert readable_time(seconds) == text


CODE = """
from bgad.progress import track
for name in track(["a", "b"], "files [x]", 2, quiet={quiet}):
    print("did", name)
"""


def on_a_terminal(quiet: bool) -> tuple[str, str]:
    """What goes to a terminal that is standard error alone, and to a file that is standard output."""
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", CODE.format(quiet=quiet)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, text=True, check=True)
    os.close(end)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    return shown.decode(), run.stdout


def test_a_terminal_has_a_bar_and_what_is_printed_goes_where_it_should():
    shown, printed = on_a_terminal(quiet=False)
    assert "files [x]" in shown and "2 of 2" in shown and "left" in shown
    assert "did" not in shown
    assert printed == "did a\ndid b\n"


def test_quiet_shows_nothing_anywhere(capsys):
    assert on_a_terminal(quiet=True) == ("", "did a\ndid b\n")
    with progress("numbers", 5, quiet=True) as advance:
        advance(5)
    assert capsys.readouterr() == ("", "")
