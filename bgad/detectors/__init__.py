"""The seat of other methods: a detector is one file here, bgad/detectors/<name>.py, with two functions.

    fit(images, rng) -> model       from the normal training images; ``rng`` is the cell's own torch.Generator, on the CPU
    score(model, images) -> maps    (N, h, w), of any resolution, higher is more anomalous; each image on its own

The file's name is the method's in suites and results. ``NAME = "..."`` in it is its name in tables and plots, and
``KNOWS_ANOMALIES = True`` says that it can be given known anomalies (k > 0). docs/own-method.md is the guide.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bgad.errors import BgadError

if TYPE_CHECKING:  # a workflow asks for the names alone, and torch takes seconds
    from torch import Tensor

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Images:
    """Images as a detector sees them.

    ``levels``: what the frozen backbone makes of them, at strides 4, 8 and 16, (N, h, w, C) float32 each, finest first. They
    can be mapped from disk: take the rows that are needed, and leave them unchanged. ``files``: the pictures themselves;
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
    import torch
    from scipy.ndimage import gaussian_filter
    from torch.nn.functional import interpolate

    large = interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    return torch.from_numpy(gaussian_filter(large.cpu().numpy(), (0, sigma, sigma)))


def names() -> list[str]:
    """The detectors there are, by their files: letters, digits, - and _, which does not come first."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", path.stem))


def display_name(method: str) -> str:
    """A method's name in tables and plots: a detector's NAME, and for any other method the name that it has."""
    return _constant(method, "NAME", method)


def knows_anomalies(name: str) -> bool:
    return bool(_constant(name, "KNOWS_ANOMALIES", False))


def load(name: str) -> ModuleType:
    """The module of a detector; BgadError if there is none of that name, or if its file is not one of a detector."""
    if name not in names():
        raise BgadError(f"there is no detector {name}; use one of {', '.join(names())}, or add bgad/detectors/{name}.py.")
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except (ImportError, SyntaxError, NameError) as error:
        raise BgadError(f"bgad/detectors/{name}.py: cannot be imported ({error}); put the file right.") from error
    for function in ("fit", "score"):
        if not callable(getattr(module, function, None)):
            raise BgadError(
                f"bgad/detectors/{name}.py: has no function {function}; a detector is two, fit(images, rng) and "
                "score(model, images)."
            )
    return module


def _constant(name: str, constant: str, default: Any) -> Any:
    """The value of ``constant = <literal>`` in a detector's file, read without running it; ``default`` where there is none."""
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        return default
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [constant]:
                return ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise BgadError(f"bgad/detectors/{name}.py: {constant} cannot be read ({error}); put the file right.") from error
    return default
