"""The checkpoint of a cell: what its training goes on from when it was stopped, to the same bits on a CPU."""

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
from bgad.model.cpu import coupling
from bgad.tensors import NoTensors, load_tensors, save_tensors


def key_of(
    cell: Cell,
    recipe: Recipe,
    index: Index,
    split: Split,
    cache: FeatureCache,
    pools: dict[str, FeatureCache],
    device: torch.device,
) -> str:
    """A hash of what decides the bits of a cell: its inputs, the code, and the kind of machine that computes."""
    caches = [cache.sha256, cache.weights_sha256, {kind: pool.sha256 for kind, pool in pools.items()}]
    inputs = [asdict(cell), recipe.sha256, asdict(index), split.sha256, caches]
    parts = [*inputs, method_sha256(cell.method), device.type, torch.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """checkpoint.pt in the cell's ``folder``, due ``every`` seconds.

    It counts for nothing under another ``key`` than its own, or where steps would round otherwise than before: with another
    number of threads, or without the compiled code. It is to go once the cell is whole.
    """

    def __init__(self, folder: Path, key: str, every: float):
        self._path, self._every = folder / "checkpoint.pt", every
        self._key = f"{key}, {coupling.describe()}, {torch.get_num_threads()} threads"
        self._saved = time.monotonic()

    def load(self) -> dict | None:
        """What was saved last; None where there is nothing, or nothing whole, or it was saved under another key."""
        try:
            found = load_tensors(self._path, torch.device("cpu"))
        except (FileNotFoundError, NoTensors):
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

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
