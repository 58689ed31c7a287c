"""How many trainings a GPU takes at once, by its memory; asked while a workflow is planned, so without loading PyTorch."""

import math
import subprocess
from pathlib import Path


def has_gpu() -> bool:
    """Whether the system has an NVIDIA device."""
    return Path("/dev/nvidia0").exists()


def percent_of_gpu(needed_mb: int) -> int:
    """The share of the first GPU's memory that ``needed_mb`` is, in whole percent, 1 to 100.

    100, so that trainings run one at a time, where they need more than there is or nobody says how much there is.
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
