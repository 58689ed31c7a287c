"""A suite killed with -9 at random moments, short enough for every day; `python benchmarks/kills.py` does it fifty times."""

import random
import sys

from conftest import ROOT


def test_a_killed_suite_ends_in_the_same_table(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from kills import compare  # which holds all that must be so
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    found = compare(tmp_path, kills=4, seeds=2, rng=random.Random(0), say=lambda line: None)
    assert found["cells"] == 6
    assert found["kills that met a run at work"] >= 1
