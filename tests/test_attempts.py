"""What Snakemake starts again: a killed cell gets less to do at once and more memory; what would fail again does not run."""

import os
import re
import time

import pytest
from conftest import job_counts

from bgad.attempts import NAME, attempt
from bgad.errors import BgadError
from bgad.report.collect import WHY_KILLED, status_without_metrics

CELL = "results/demo/mini/brick/seen/k0/bgad-wo/seed0"


def test_a_failure_with_a_sentence_is_said_again_without_its_work(tmp_path):
    with pytest.raises(BgadError, match=r"^training diverged\.$"), attempt(1, tmp_path / "cell"):
        raise BgadError("training diverged.")
    for number in (2, 3):
        with pytest.raises(BgadError, match=r"^training diverged\.$"), attempt(number, tmp_path / "cell"):
            pytest.fail("its work was done again")
    # Another run of the workflow begins with the first attempt.
    with attempt(1, tmp_path / "cell"):
        pass
    assert not (tmp_path / "cell" / NAME).exists()


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, KeyboardInterrupt])
def test_other_failures_are_tried_again(tmp_path, error):
    with pytest.raises(error), attempt(1, tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []
    with attempt(2, tmp_path):
        pass


def test_by_hand_nothing_is_kept(tmp_path):
    with pytest.raises(BgadError), attempt(None, tmp_path):
        raise BgadError("wrong.")
    assert list(tmp_path.iterdir()) == []


# Each attempt says how it was started and is killed, as where memory has run out, but for the one that is told to end well.
STAND_IN = """
echo "$@" >> started
case "$*" in *"--attempt $(cat ends-well-at)"*) touch {output}; exit 0;; esac
echo "epoch 1/3"
kill -9 $$
"""


@pytest.fixture(scope="module")
def standing_in(project):
    """The project with a stand-in for every step's work, so that only the workflow itself is at work; the cell's is cell.sh."""
    project.stand_in_for("data", "features")
    rule = project.folder / "workflow" / "rules" / "train.smk"
    rule.write_text(rule.read_text().replace('"bgad cell ', '"sh ../cell.sh {resources.mem_mb} '))
    outputs = [f"{CELL}/{name}" for name in ("metrics.json", "history.csv", "scores.csv", "model.pt", "likelihoods.json")]
    outputs += [f"{CELL}/gallery/{name}" for name in ("images.jpg", "masks.png", "maps.png", "gallery.json")]
    (project.folder.parent / "cell.sh").write_text(STAND_IN.replace("{output}", " ".join(outputs)))
    return project


def started(project) -> list[tuple[str, str]]:
    """Memory and number of each attempt."""
    path = project.folder / "started"
    found = [re.fullmatch(r"(\d+) .* --attempt (\d)\b.*", line).groups() for line in path.read_text().splitlines()]
    path.unlink()
    return found


def test_a_killed_cell_is_tried_with_more_memory_and_in_the_end_named(standing_in):
    project, log = standing_in, standing_in.folder / CELL / "train.log"
    (project.folder / "ends-well-at").write_text("none")
    project.snakemake(f"{CELL}/metrics.json", check=False)
    assert started(project) == [("4000", "1"), ("8000", "2"), ("12000", "3")]
    assert log.read_text() == "epoch 1/3\nerror: killed\n"
    assert status_without_metrics(log) == f"failed: {WHY_KILLED}"
    assert "out of memory" in WHY_KILLED

    (project.folder / "ends-well-at").write_text("2")
    project.snakemake(f"{CELL}/metrics.json")
    assert started(project) == [("4000", "1"), ("8000", "2")]


def test_times_that_a_set_clock_has_mixed_up_make_nothing_anew(standing_in):
    project, request = standing_in, f"{CELL}/metrics.json"
    (project.folder / "ends-well-at").write_text("1")
    project.snakemake(request)
    made = [path for top in ("resources", "results") for path in (project.folder / top).rglob("*.json")]
    assert {path.name for path in made} >= {"brick.json", "seed0.json", "features.json", "metrics.json"}
    day = 24 * 3600
    for shift in ({"metrics.json": -day}, {"features.json": day, "seed0.json": day}):  # outputs too old, inputs from the future
        for path in made:
            os.utime(path, (time.time() + shift.get(path.name, 0),) * 2)
        assert job_counts(project.snakemake("-n", request)) == {}
