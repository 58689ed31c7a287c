"""What Snakemake starts again: a killed cell gets less to do at once and more memory; what would fail again does not run."""

import os
import re
import shutil
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
test ! -e {failed} || echo 0 an earlier run failed >> started
case "$*" in *"--attempt $(cat ends-well-at)"*) touch {output}; exit 0;; esac
echo "epoch 1/3"
kill -9 $$
"""


@pytest.fixture(scope="module")
def without_work(project):
    """The project with a stand-in for every step's work, so that only the workflow itself is at work; the cell's is cell.sh."""
    project.stand_in_for("data", "features")
    rule = project.folder / "workflow" / "rules" / "train.smk"
    rule.write_text(rule.read_text().replace('"bgad cell ', '"sh ../cell.sh {resources.mem_mb} '))
    outputs = [f"{CELL}/{name}" for name in ("metrics.json", "history.csv", "scores.csv", "model.pt", "likelihoods.json")]
    outputs += [f"{CELL}/gallery/{name}" for name in ("images.jpg", "masks.png", "maps.png", "gallery.json")]
    (project.folder.parent / "cell.sh").write_text(STAND_IN.format(output=" ".join(outputs), failed=f"{CELL}/{NAME}"))
    return project


@pytest.fixture
def standing_in(without_work):
    """The same, with nothing left of a cell that another test has made."""
    folder = without_work.folder
    shutil.rmtree(folder / CELL, ignore_errors=True)
    (folder / CELL).mkdir(parents=True)
    (folder / "started").unlink(missing_ok=True)
    return without_work


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


def test_the_snakemake_of_a_cluster_s_job_tries_once(standing_in):
    (standing_in.folder / "ends-well-at").write_text("none")
    standing_in.snakemake("--mode", "remote", "--force", f"{CELL}/metrics.json", check=False)
    assert started(standing_in) == [("4000", "1")]


def test_what_an_earlier_run_failed_with_is_forgotten(standing_in):
    # By the run, since on a cluster a cell's first attempt can have the number of its group's second.
    folder = standing_in.folder / CELL
    (folder / NAME).write_text("training diverged.")
    (standing_in.folder / "ends-well-at").write_text("1")
    standing_in.snakemake("--force", f"{CELL}/metrics.json")
    assert started(standing_in) == [("4000", "1")]


def test_a_cell_whose_inputs_could_not_be_made_anew_is_handed_to_the_reports(standing_in):
    (standing_in.folder / "ends-well-at").write_text("1")
    standing_in.snakemake(f"{CELL}/metrics.json")
    rules = standing_in.folder / "workflow/rules/features.smk"
    text = rules.read_text()
    rules.write_text(text.replace("touch", "exit 1 #", 1))
    standing_in.snakemake(f"{CELL}/metrics.json", "--forcerun", "features", check=False)
    rules.write_text(text)
    assert (standing_in.folder / CELL / "metrics.json").exists()
    assert (standing_in.folder / ".snakemake/outdated").read_text() == f"{CELL}\n"


def test_results_that_cannot_be_written_end_the_run_at_its_start(standing_in):
    results, aside = standing_in.folder / "results", standing_in.folder / "aside"
    results.rename(aside)
    results.write_text("")
    try:
        said = standing_in.snakemake(f"{CELL}/metrics.json", check=False)
    finally:
        results.unlink()
        aside.rename(results)
    assert "results/.room." in said and "cannot be written" in said and "Traceback" not in said


ON_A_GPU = """Traceback (most recent call last):
  File "x.py", line 1, in x
torch.AcceleratorError: CUDA error: an illegal memory access was encountered
Search for `cudaErrorIllegalAddress' in the documentation for more information.

Device-side assertion tracking was not enabled by user.
"""


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (ON_A_GPU, "failed: torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (f"epoch 1/3\n{ON_A_GPU}", "failed: torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (f"{ON_A_GPU}epoch 2/3\n", "interrupted"),
        ("Traceback (most recent call last):\n  File\nKeyboardInterrupt\n", "interrupted"),
    ],
)
def test_an_error_of_many_lines_is_one(tmp_path, log, status):
    (tmp_path / "train.log").write_text(log)
    assert status_without_metrics(tmp_path / "train.log") == status


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
        try:
            assert job_counts(project.snakemake("-n", request)) == {}
        finally:  # or the next test's inputs would lie in the future
            for path in made:
                os.utime(path)
