"""A suite killed with signal 9 at three random moments; `make kills` does it fifty times."""

import os
import random
import sys

import pytest
from conftest import ROOT


@pytest.mark.skipif(not os.environ.get("BGAD_KILLS"), reason="takes two minutes; set BGAD_KILLS=1 to run it")
def test_a_killed_suite_ends_in_the_same_table(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from kills import compare  # which has the assertions
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    found = compare(tmp_path, kills=3, seeds=1, rng=random.Random(0), say=lambda line: None)
    assert found["cells"] == 3
    assert found["kills that hit a running suite"] >= 1
