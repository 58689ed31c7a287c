"""The one owner of randomness: every draw comes from a generator made here, seeded by the names of what is drawn.

Nothing here touches a global generator, so a cell's numbers depend only on its own names and seed, never on what ran before it
in the same process.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*names: object) -> int:
    """A seed in 0 .. 2**63 - 1 from any names: the first 63 bits of the SHA-256 of the names joined by "/"."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(*names: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device``, seeded from ``names``."""
    import torch  # takes seconds to import, and drawing a split does not need it

    return torch.Generator(device=device).manual_seed(seed_of(*names))


def on_device(rng: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator with the seed of ``rng`` on ``device``."""
    import torch

    return torch.Generator(device).manual_seed(rng.initial_seed())


def permuted(count: int, size: int, rng: torch.Generator) -> torch.Tensor:
    """``count`` of the numbers below ``size``, (count,) int64 on the device of ``rng``: none repeats before all have come."""
    import torch

    rounds = -(-count // size)
    return torch.cat([torch.randperm(size, generator=rng, device=rng.device) for _ in range(rounds)])[:count]


def numpy_generator(*names: object) -> np.random.Generator:
    """A numpy generator seeded from ``names``, for draws within one run (augmentation, CutPaste)."""
    return np.random.default_rng(seed_of(*names))


def frozen_generator(*names: object) -> np.random.RandomState:
    """A numpy generator whose stream never changes between numpy versions (NEP 19), for draws that must never change."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed_of(*names))))


def released_generator(seed: int) -> random.Random:
    """Python's own generator, seeded with the number itself, as the released code does. Only for its draws."""
    return random.Random(seed)


def shuffled(items: Iterable[str], *names: object) -> list[str]:
    """``items`` in a random order that depends only on ``names`` and on each item's own text.

    Each item is ranked by the SHA-256 of the names and the item. The order of arrival, the platform and library versions
    change nothing, and a new item leaves the order of the others as it was.
    """
    prefix = "/".join(map(str, names))
    return sorted(items, key=lambda item: hashlib.sha256(f"{prefix}/{item}".encode()).hexdigest())
