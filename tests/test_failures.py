"""Failed cells: their status, and what stays for the next run. Runs after a clock was set, or without a folder to write to."""

import os
import time

import pytest
from conftest import job_counts

from bgad.config.paths import CELL_FILES, SCORED
from bgad.report.collect import WHY_KILLED, status_without_metrics

CELL = "results/demo/mini/brick/seen/k0/bgad-wo/seed0"
REQUEST = f"{CELL}/metrics.json"
# Writes how much memory it may use and a checkpoint, and is killed, as by a system out of memory, unless a file `well` exists.
STAND_IN = f"""
echo $1 >> memory
touch {CELL}/checkpoint.pt
echo "epoch 1/3"
test -e well || kill -9 $$
touch {" ".join(f"{CELL}/{name}" for name in (*CELL_FILES, SCORED))}
"""


@pytest.fixture(scope="module")
def stood_in(project):
    """The project with a stand-in for the work of every step."""
    project.stand_in_for("data", "features")
    rule = project.folder / "workflow/rules/train.smk"
    rule.write_text(rule.read_text().replace('"bgad cell ', '"sh ../cell.sh {resources.mem_mb} '))
    (project.folder.parent / "cell.sh").write_text(STAND_IN)
    return project


@pytest.fixture
def finished(stood_in):
    """The same with a cell that is finished."""
    (stood_in.folder / "well").touch()
    stood_in.snakemake(REQUEST)
    return stood_in


def test_a_killed_cell_keeps_its_checkpoint_until_a_run_ends_with_it_finished(stood_in):
    folder = stood_in.folder
    stood_in.snakemake(REQUEST, "--retries", "1", check=False)
    assert (folder / "memory").read_text().split() == ["4000", "8000"]
    log = folder / CELL / "train.log"
    assert log.read_text() == "epoch 1/3\nerror: killed\n"
    assert status_without_metrics(log) == f"failed: {WHY_KILLED}"
    assert (folder / CELL / "checkpoint.pt").exists()

    (folder / "well").touch()
    stood_in.snakemake(REQUEST)
    assert not (folder / CELL / "checkpoint.pt").exists()


def test_checkpoints_of_finished_cells_go_when_a_run_ends_with_errors_too(finished):
    checkpoint = finished.folder / CELL / "checkpoint.pt"
    checkpoint.touch()
    finished.snakemake("-n", REQUEST)
    assert checkpoint.exists()
    rules = finished.folder / "workflow/rules/data.smk"
    text = rules.read_text()
    rules.write_text(text.replace("for path in {output}", "exit 1; for path in {output}"))
    finished.snakemake(REQUEST.replace("brick", "grass"), check=False)
    rules.write_text(text)
    assert not checkpoint.exists()


def test_results_that_cannot_be_written_end_the_run_at_its_start(stood_in):
    results, aside = stood_in.folder / "results", stood_in.folder / "aside"
    results.rename(aside)
    results.write_text("")
    try:
        said = stood_in.snakemake("-n", REQUEST, check=False)
    finally:
        results.unlink()
        aside.rename(results)
    assert "results/.room." in said and "cannot be written" in said and "Traceback" not in said


def test_times_that_a_set_clock_has_mixed_up_make_nothing_again(finished):
    made = [path for top in ("resources", "results") for path in (finished.folder / top).rglob("*.json")]
    assert {path.name for path in made} >= {"brick.json", "seed0.json", "features.json", "metrics.json"}
    day = 24 * 3600
    for shift in ({"metrics.json": -day}, {"features.json": day, "seed0.json": day}):  # outputs too old, inputs from the future
        for path in made:
            os.utime(path, (time.time() + shift.get(path.name, 0),) * 2)
        assert job_counts(finished.snakemake("-n", REQUEST)) == {}


ON_A_GPU = """Traceback (most recent call last):
  File "x.py", line 1, in x
torch.AcceleratorError: CUDA error: an illegal memory access was encountered
Search for `cudaErrorIllegalAddress' in the documentation for more information.

Device-side assertion tracking was not enabled by user.
"""


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (f"epoch 1/3\n{ON_A_GPU}", "failed: torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (f"{ON_A_GPU}epoch 2/3\n", "interrupted"),
        ("Traceback (most recent call last):\n  File\nKeyboardInterrupt\n", "interrupted"),
    ],
)
def test_an_error_of_many_lines_is_one(tmp_path, log, status):
    (tmp_path / "train.log").write_text(log)
    assert status_without_metrics(tmp_path / "train.log") == status
