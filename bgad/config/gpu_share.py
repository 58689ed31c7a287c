"""How many trainings share a GPU, by its memory. Called while a workflow is planned, so it does not load PyTorch."""

import math
import subprocess
from pathlib import Path


def has_gpu() -> bool:
    """Whether the system has an NVIDIA device."""
    return Path("/dev/nvidia0").exists()


def percent_of_gpu(needed_mb: int) -> int:
    """``needed_mb`` as a share of the first GPU's memory, in whole percent, 1 to 100.

    100, so that trainings run one at a time, if they need more than the GPU has or its memory is unknown.
    """
    total = _memory_mb()
    return min(100, max(1, math.ceil(100 * needed_mb / total))) if total else 100


def _memory_mb() -> int | None:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
        return int(done.stdout.splitlines()[0])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return None
