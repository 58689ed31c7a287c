"""scored.pt of a cell with k 0 on ``seen``: how its model scored the whole test set, in every evaluation.

A training without known anomalies does not depend on the split, so there is one for a category and seed. The cells of its
hard-<type> splits evaluate these scores on their own test images, to the metrics that trainings of their own would have given.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from bgad.config.cells import Cell
from bgad.config.paths import SCORED
from bgad.config.settings import Recipe
from bgad.errors import FileError
from bgad.features.cache import FeatureCache
from bgad.tensors import load_tensors, save_tensors

Found = list[Tensor] | Tensor  # of N images: log-likelihoods, (N, h, w) a level, or maps (N, S, S)


@dataclass(frozen=True)
class Scored:
    """``history``: the rows of history.csv; ``seconds``: of training; ``found``: the scores of the N images of the whole test
    set, in the order of the feature cache, by epoch."""

    history: list[dict]
    seconds: float
    found: dict[int, Found]

    def save(self, folder: Path, cell: Cell, recipe: Recipe, cache: FeatureCache) -> None:
        save_tensors(folder / SCORED, {**_made_with(cell, recipe, cache), **vars(self)})

    @classmethod
    def load(cls, folder: Path, cell: Cell, recipe: Recipe, cache: FeatureCache, device: torch.device) -> "Scored":
        """Of the ``cell`` in ``folder``; FileError if the file is missing, damaged, or made with another recipe or features."""
        path = folder / SCORED
        try:
            content = load_tensors(path, device)
            found = cls(**{name: content.pop(name) for name in ("history", "seconds", "found")})
        except FileNotFoundError as error:
            raise FileError(f"{path}: cannot be read; run its cell first.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(f"{path}: damaged; run its cell again.") from error
        if content != _made_with(cell, recipe, cache):
            raise FileError(f"{path}: of another cell, or made with another recipe or other features; run its cell again.")
        return found


def on_cpu(found: Found) -> Found:
    return found.cpu() if isinstance(found, Tensor) else [level.cpu() for level in found]


def _made_with(cell: Cell, recipe: Recipe, cache: FeatureCache) -> dict:
    return {"cell": asdict(cell), "recipe_sha256": recipe.sha256, "features_sha256": cache.sha256}
