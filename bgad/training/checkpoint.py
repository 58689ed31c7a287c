"""The checkpoint of a cell: interrupted training resumes from it, to the same bits on a CPU.

The last one is the trained model: a cell killed after training only repeats its evaluation and output. The workflow deletes
checkpoints when a run ends (workflow/Snakefile), so a forced run trains again.
"""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from bgad.config.cells import Cell
from bgad.config.provenance import method_sha256
from bgad.config.settings import Recipe
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.features.cache import FeatureCache
from bgad.model.cpu import chain
from bgad.tensors import load_tensors, save_tensors


def key_of(
    cell: Cell,
    recipe: Recipe,
    index: Index,
    split: Split,
    cache: FeatureCache,
    pools: dict[str, FeatureCache],
    device: torch.device,
) -> str:
    """A hash of everything that decides a cell's bits: its inputs, the code, PyTorch's version and the kind of device."""
    caches = [cache.sha256, cache.weights_sha256, {kind: pool.sha256 for kind, pool in pools.items()}]
    inputs = [asdict(cell), recipe.sha256, asdict(index), split.sha256, caches]
    parts = [*inputs, method_sha256(cell.method), device.type, torch.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """checkpoint.pt in the cell's ``folder``, due every ``every`` seconds.

    Ignored unless the ``key`` matches, and the number of threads and the way blocks are computed, which affect rounding.
    """

    def __init__(self, folder: Path, key: str, every: float):
        self._path, self._every = folder / "checkpoint.pt", every
        self._key = f"{key}, {chain.describe()}, {torch.get_num_threads()} threads"
        self._saved = time.monotonic()

    def load(self) -> dict | None:
        """The last saved state; None if there is none, if it is damaged, or if its key differs."""
        try:
            found = load_tensors(self._path, torch.device("cpu"))
        except (FileNotFoundError, ValueError):
            return None
        state = found.get("state") if isinstance(found, dict) and found.get("key") == self._key else None
        return state if isinstance(state, dict) else None

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._saved >= self._every

    def save(self, state: dict) -> None:
        """``state``: tensors and plain values."""
        save_tensors(self._path, {"key": self._key, "state": state})
        self._saved = time.monotonic()
