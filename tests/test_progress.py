"""Progress: a bar on a terminal, a line now and then in a log, nothing for scripts."""

import os
import pty
import re
import subprocess
import sys
from itertools import islice

import pytest
from folders import make_category

from bgad import cli
from bgad.config.settings import Dataset
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.progress import progress, track


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [100.0]
    monkeypatch.setattr("bgad.progress.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


@pytest.mark.parametrize(
    ("done", "lines"),
    [
        # An image takes 4 s: after 12 s three are done and seven left, and so on with every third image.
        (0, ["images: 3 of 10, 0:00:28 left", "images: 6 of 10, 0:00:16 left", "images: 9 of 10, 0:00:04 left"]),
        (5, ["images: 8 of 10, 0:00:08 left"]),  # those done before do not count for the pace
    ],
)
def test_a_log_gets_a_line_every_ten_seconds_with_the_time_left(capsys, clock, done, lines):
    with progress("images", 10, done=done) as advance:
        for _ in range(10 - done):
            clock(4)
            advance(1)
    assert capsys.readouterr().err.splitlines() == lines


def test_without_a_total_a_log_gets_the_amount_only(capsys, clock):
    with progress("archive (MB)", None) as advance:
        clock(20)
        advance(1.2)
    assert capsys.readouterr().err == "archive (MB): 1\n"


def test_a_short_step_prints_nothing_in_a_log(capsys):
    assert list(track("abc", "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_consumer_may_stop_early():
    assert list(islice(track(range(10), "numbers", 10), 2)) == [0, 1]


def test_the_steps_of_the_backbone_count_their_images(tmp_path, monkeypatch, capsys):
    """16 images go through at once, so of 18 the log reports 16."""
    make_category(tmp_path, train=11, good=3, types={"cut": 4})
    index = build_index("own", "bottle", tmp_path, Dataset(path=tmp_path))
    index.save(tmp_path / "index.json")
    draw(index, "seen", 0, 3).save(tmp_path / "split.json")
    monkeypatch.setattr("bgad.progress.EVERY", -1)
    options = ("--index", tmp_path / "index.json", "--root", tmp_path, "--device", "cpu", "--output", tmp_path / "cache")
    options += ("--backbone", "tf_efficientnet_lite0", "--image-size", "32")
    pool = ("synthetic", "pseudo", "--split", tmp_path / "split.json", "--known", 3, "--each", 6)
    for words, name in (("features",), "images"), (pool, "pseudo images"):
        monkeypatch.setattr(sys, "argv", ["bgad", *map(str, words + options)])
        with pytest.raises(SystemExit):
            cli.main()
        assert re.fullmatch(rf"{name}: 16 of 18, 0:\d\d:\d\d left\n", capsys.readouterr().err)


def on_a_terminal(quiet: bool) -> tuple[str, str]:
    """What reaches a terminal on standard error, and a file on standard output."""
    code = f"from bgad.progress import track\nfor name in track('ab', 'files [x]', 2, quiet={quiet}): print('did', name)"
    terminal, end = pty.openpty()
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=end, text=True, check=True)
    os.close(end)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux's sign that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    return shown.decode(), run.stdout


def test_a_terminal_gets_a_bar_and_standard_output_stays_clean():
    shown, printed = on_a_terminal(quiet=False)
    assert "files [x]" in shown and "2/2" in shown
    assert "did" not in shown
    assert printed == "did a\ndid b\n"


def test_quiet_shows_nothing_anywhere(capsys, clock):
    assert on_a_terminal(quiet=True) == ("", "did a\ndid b\n")
    with progress("numbers", 5, quiet=True) as advance:
        clock(20)
        advance(3)
    assert capsys.readouterr() == ("", "")
