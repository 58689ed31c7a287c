"""benchmarks/gpu.py runs to its end at tiny shapes on a CPU; on a GPU the same script runs at full size."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_gpu_benchmark_measures_all_at_tiny_shapes(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--quick", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    run = subprocess.run(
        [*command, "--output", tmp_path / "gpu.json"], capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["machine"]["device"] == "cpu"
    assert found["recorded"] is False
    assert "random" in found["what"]
    assert "mean nothing" in found["what"]
    shapes = [(row["backbone"], row["level"]) for row in found["steps"]]
    assert shapes == [(backbone, level) for backbone in ("tf_efficientnet_b6", "tf_efficientnet_lite0") for level in (1, 2, 3)]
    for row in found["steps"]:
        assert row["freia_ms"] > 0
        assert row["eager_ms"] > 0
        assert row["recorded_ms"] is None  # only a GPU has these
        assert row["triton_ms"] is None
    assert found["cell_triton"] == {}
    cell = found["cell"]
    # The paper's 25 meta epochs of 8 passes, of which a pass was measured.
    assert math.isclose(cell["extrapolated_steps_s"], 200 * cell["pass_s"])
    assert math.isclose(cell["extrapolated_evaluations_s"], 25 * cell["evaluation_s"])
    assert "200" in cell["extrapolated"]
    # 5 CutPaste images of the one known anomaly in each of the 24 * 8 passes that have any.
    assert math.isclose(
        cell["extrapolated_making_fresh_images_core_s"], 192 * 5 * found["images"]["cutpaste_ms_an_image_and_core"] / 1e3
    )
    assert cell["cells_that_fit"] == int(cell["memory_mb"] // cell["peak_memory_mb"]) >= 1
    alone, two = found["cells_at_once"]
    assert [row["cells"] for row in (alone, two)] == [1, 2]
    assert all(math.isclose(row["a_cell_s"], row["wall_s"] / row["cells"]) for row in (alone, two))
    whole = cell["extrapolated_steps_s"] + cell["extrapolated_evaluations_s"]
    assert math.isclose(alone["extrapolated_suite_s"], 15 * whole)
    assert math.isclose(two["extrapolated_suite_s"], 15 * whole * two["a_cell_s"] / alone["a_cell_s"])
