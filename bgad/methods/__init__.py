"""The contract for methods: a method is one file here, bgad/methods/<name>.py, with two functions.

    fit(images, rng) -> model       from the normal training images; ``rng`` is the cell's own torch.Generator, on the CPU
    score(model, images) -> maps    (N, h, w), of any resolution, higher is more anomalous; each image independently

The file's name is the method's in suites and results. ``NAME = "..."`` in it is its name in tables and plots, and
``KNOWS_ANOMALIES = True`` says that it can be given known anomalies (k > 0). docs/own-method.md is the guide.

One runner runs all methods (runner.py). BGAD, in bgad.py, uses three extensions:

    fit(images, rng, epochs)        training in epochs; ``epochs`` evaluates, logs and saves checkpoints
    score(...) -> list              log-likelihoods, (N, h, w) a level; bgad/model/scoring.py turns them into maps
    save(model), restore(...)       for a model that is more than tensors and plain values: to model.pt and back
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from bgad.anomalies.synthetic import SyntheticMaker
from bgad.config import methods
from bgad.config.cells import Cell
from bgad.config.settings import Recipe
from bgad.errors import ConfigError
from bgad.features.cache import FeatureCache


@dataclass(frozen=True)
class Images:
    """Images as a method sees them.

    ``levels``: their features from the frozen backbone, at strides 4, 8 and 16, (N, h, w, C) float32 each, finest first. They
    can be mapped from disk: read the rows you need, and do not write to them. ``files``: the image files; ``size``: the side S
    that they were resized to, and that maps will have. In ``fit``, ``setting`` is the cell's, and with k > 0 ``known`` has the
    k known anomalies, with their ``masks`` (k, S, S) bool; all three are None everywhere else.
    """

    levels: list[Tensor]
    files: list[Path]
    size: int
    masks: Tensor | None = None
    known: Images | None = None
    setting: Setting | None = None

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Setting:
    """The setting of a fit: the cell, its recipe and device, and where its synthetic anomalies come from."""

    cell: Cell
    recipe: Recipe
    device: torch.device
    maker: SyntheticMaker
    known: tuple[str, ...]  # paths of the known anomalies, in the category's folder
    weights_sha256: str  # of the backbone that made the features
    pools: dict[str, FeatureCache] = field(default_factory=dict)  # of synthetic images, by kind
    weights: Path | None = None  # a local file of the backbone's weights
    workers: int = 0  # processes that make synthetic images


def smoothed(maps: Tensor, size: int, sigma: float = 4.0) -> Tensor:
    """``maps`` (N, h, w) resized bilinearly to (N, size, size), then smoothed by a Gaussian of ``sigma`` pixels; on the CPU."""
    large = interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    return torch.from_numpy(gaussian_filter(large.cpu().numpy(), (0, sigma, sigma)))


def load(name: str) -> ModuleType:
    """The module of a method; ConfigError if there is no such method, or if its file does not define one."""
    if name not in methods.names():
        raise ConfigError(f"there is no method {name}; use one of {', '.join(methods.names())}, or add bgad/methods/{name}.py.")
    name = "bgad" if name in methods.PAPER_METHODS else name
    file = f"bgad/methods/{name}.py"
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except (ImportError, SyntaxError, NameError) as error:
        raise ConfigError(f"{file}: cannot be imported ({error}); correct the file.") from error
    for function in ("fit", "score"):
        if not callable(getattr(module, function, None)):
            raise ConfigError(f"{file}: has no function {function}; define fit(images, rng) and score(model, images).")
    return module
