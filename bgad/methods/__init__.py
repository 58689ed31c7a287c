"""The contract for methods: a method is one file here, bgad/methods/<name>.py, with two functions.

    fit(images, rng) -> model       from the normal training images; ``rng`` is the cell's own torch.Generator, on the CPU
    score(model, images) -> maps    (N, h, w), of any resolution, higher is more anomalous; each image on its own

The file's name is the method's in suites and results. ``NAME = "..."`` in it is its name in tables and plots, and
``KNOWS_ANOMALIES = True`` says that it can be given known anomalies (k > 0). docs/own-method.md is the guide.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from bgad.config import methods
from bgad.errors import ConfigError


@dataclass(frozen=True)
class Images:
    """Images as a method sees them.

    ``levels``: what the frozen backbone makes of them, at strides 4, 8 and 16, (N, h, w, C) float32 each, finest first. They
    can be mapped from disk: take the rows that are needed, and leave them unchanged. ``files``: the images themselves;
    ``size``: the side S that they were resized to, and that maps will have. In ``fit`` of a cell with k > 0 ``known`` holds
    the k known anomalies, with their ``masks`` (k, S, S) bool; both are None everywhere else.
    """

    levels: list[Tensor]
    files: list[Path]
    size: int
    masks: Tensor | None = None
    known: Images | None = None

    def __len__(self) -> int:
        return len(self.files)


def smoothed(maps: Tensor, size: int, sigma: float = 4.0) -> Tensor:
    """``maps`` (N, h, w) brought to (N, size, size) bilinearly, then through a Gaussian of ``sigma`` pixels; on the CPU."""
    large = interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    return torch.from_numpy(gaussian_filter(large.cpu().numpy(), (0, sigma, sigma)))


def load(name: str) -> ModuleType:
    """The module of a method; ConfigError if there is none of that name, or if its file is not one of a method."""
    file = f"bgad/methods/{name}.py"
    if name not in methods.other_names():
        raise ConfigError(f"there is no method {name}; use one of {', '.join(methods.names())}, or add {file}.")
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except (ImportError, SyntaxError, NameError) as error:
        raise ConfigError(f"{file}: cannot be imported ({error}); put the file right.") from error
    for function in ("fit", "score"):
        if not callable(getattr(module, function, None)):
            raise ConfigError(
                f"{file}: has no function {function}; a method is two, fit(images, rng) and score(model, images)."
            )
    return module
