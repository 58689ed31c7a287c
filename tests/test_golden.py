"""A stored cell computed again from scratch: embedded data set, index, split, features, synthetic images, training, metrics.

It is golden/cell.json. After an intended change, `python benchmarks/same_everywhere.py --golden` writes it again.
"""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from same_everywhere import CELLS, GOLDEN, GOLDEN_CELL, PAGE, RECORD, TOLERANCE, computed, difference, name_of, page

STORED = json.loads((GOLDEN / "cell.json").read_text())
MEASURED = json.loads(RECORD.read_text())


def test_the_golden_cell_comes_out_again(tmp_path):
    found = computed(GOLDEN_CELL, CELLS[GOLDEN_CELL], tmp_path)
    assert (found["cell"], found["split_sha256"]) == (STORED["cell"], STORED["split_sha256"])
    apart = difference(STORED, found)
    assert all(apart[what] <= TOLERANCE[what] for what in TOLERANCE), apart


def test_a_difference_is_the_largest_of_its_kind():
    one = {"metrics": dict.fromkeys(("image_auroc", "pixel_auroc", "aupro", "released_pro"), 90.0)}
    one |= {"losses": [[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]], "scores": {"a": 1.0, "b": 3.0}}
    other = {"metrics": one["metrics"] | {"aupro": 89.5}, "losses": [[1.0, 2.0, 5.0], [1.1, 1.0, 1.0]]}
    other["scores"] = {"a": 1.0, "b": 2.5}
    assert difference(one, other) == pytest.approx({"points": 0.5, "losses": 0.25, "scores": 0.25})
    assert set(difference(one, one).values()) == {0}


def test_the_tolerance_holds_for_all_that_was_measured_and_for_little_more():
    runs = MEASURED["runs"]
    worst = {what: max(run["cells"][name_of(cell)][what] for run in runs.values() for cell in CELLS) for what in TOLERANCE}
    assert len(runs) >= 9 and MEASURED["reference"]["split_sha256"][name_of(GOLDEN_CELL)] == STORED["split_sha256"]
    assert all(worst[what] <= TOLERANCE[what] <= 20 * worst[what] for what in TOLERANCE), worst


def test_the_page_is_written_from_the_record():
    assert page(MEASURED) == PAGE.read_text(encoding="utf-8")
