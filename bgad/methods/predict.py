"""A finished cell on new images: each one's anomaly map, score, and verdict at the cell's threshold."""

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, FiniteFloat, model_validator
from torch import Tensor

from bgad import methods
from bgad.config.cells import Cell
from bgad.config.methods import PAPER_METHODS
from bgad.config.origins import command_for
from bgad.config.settings import Recipe
from bgad.data.files import IMAGE_ENDINGS, is_image
from bgad.data.images import resized_image
from bgad.errors import BgadError, ConfigError, DataError, FileError
from bgad.evaluation.evaluate import check_finite
from bgad.features.backbone import STRIDES, Backbone, load_backbone
from bgad.io import opened
from bgad.methods.runner import images_of_levels, score_images
from bgad.model.scoring import ScoreScale, image_scores, scored
from bgad.tensors import load_tensors


@dataclass(frozen=True)
class Prediction:
    """``anomaly_map`` (S, S), higher is more anomalous, on the scale of the cell's test set; ``score`` is its maximum.

    ``highest`` is the scale's end: for a flow, the highest possible score; for other methods, the highest in the test set.
    ``threshold`` is nan if the cell's test set has no anomalies to set one by; then there is no verdict.
    """

    path: Path
    anomaly_map: np.ndarray
    score: float
    threshold: float
    highest: float
    bit_depth: int | None = None  # to read the image with, if it has 16 bits a channel

    @property
    def anomalous(self) -> bool | None:
        return None if math.isnan(self.threshold) else self.score >= self.threshold

    @property
    def verdict(self) -> str | None:
        return {True: "anomalous", False: "normal", None: None}[self.anomalous]

    @property
    def row(self) -> dict[str, float | str | None]:
        """Score, verdict and threshold as plain values, as precise as a cell's scores.csv; None where undefined."""
        threshold = None if self.anomalous is None else float(f"{self.threshold:.7g}")
        return {"score": float(f"{self.score:.7g}"), "verdict": self.verdict, "threshold": threshold}


@dataclass(frozen=True)
class Model:
    """The content of a cell's model.pt, ready to score: the method and its model, the backbone, and the scale of scores.

    ``threshold`` gives the best F1 on the cell's own test set. ``scale`` is a flow's; other methods have none.
    """

    method: ModuleType
    model: Any
    recipe: Recipe
    backbone: Backbone
    threshold: float
    highest: float
    scale: ScoreScale | None
    file: Path
    bit_depth: int | None = None  # of 16-bit images, as in training

    @torch.inference_mode()
    def predict(self, path: Path) -> Prediction:
        """Scores one image on its own: a score depends on no other image, and a CPU is faster so than with batches."""
        size = self.recipe.image_size
        levels = self.backbone.features(np.stack([resized_image(path, size, self.bit_depth)]))
        try:
            found = score_images(self.method, self.model, images_of_levels(levels, [path], size))
        except BgadError:
            raise
        except Exception as error:  # of any kind, by what the file holds in place of what fit returned
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            name = self.method.__name__.rpartition(".")[2]
            raise FileError(f"{self.file}: the method {name} cannot use it ({said}); run the cell again.") from error
        if isinstance(found, list):
            check_finite(found, f"{path}: by {self.file}", "run the cell again")
            found = scored(found, size, self.scale)[0]
        return Prediction(
            path, found[0].cpu().numpy(), image_scores(found).item(), self.threshold, self.highest, self.bit_depth
        )


def predict(images: list[Path], cell: Path, device: torch.device, weights: Path | None = None) -> list[Prediction]:
    """Scores ``images`` with the model of the folder ``cell``, and keeps all the maps. DataError for the first that cannot be
    read."""
    return list(map(load_model(cell, device, weights).predict, images))


def predictions(
    images: list[Path], cell: Path, device: torch.device, weights: Path | None = None
) -> Iterator[Prediction | DataError]:
    """The same one after the other, so that memory does not grow with the number of images, and with the error in place of an
    image that cannot be read.

    FileError at once if the folder has no model; TrainingError for a score that is not finite, when its turn comes.
    """
    model = load_model(cell, device, weights)

    def one(path: Path) -> Prediction | DataError:
        try:
            return model.predict(path)
        except DataError as error:
            return error

    return map(one, images)


def images_in(given: list[Path]) -> list[Path]:
    """The images that files and folders stand for, in their order: of a folder those directly in it, by name, without the
    overlays that a former run of `bgad predict` left there.

    DataError if there is nothing at a path, or no image in a folder.
    """
    found = []
    for path in given:
        if not path.exists():
            raise DataError(f"{path}: no such image or folder; check the path.")
        if path.is_dir():
            overlays = overlays_in(path)
            inside = sorted(p for p in path.iterdir() if is_image(p.name) and p.name not in overlays)
            if not inside:
                raise DataError(f"{path}: holds no images ({', '.join(sorted(IMAGE_ENDINGS))}); name a folder that does.")
            found += inside
        else:
            found.append(path)
    return found


def overlays_in(folder: Path) -> set[str]:
    """The names of the overlays that `bgad predict --out folder` left, by its scores.csv; none without one."""
    try:
        with opened(folder / "scores.csv") as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        return {name for row in rows if re.fullmatch(r"\d{4,}-[^/]*\.png", name := row.get("overlay") or "")}
    except (OSError, ValueError, csv.Error):  # none, or not ours
        return set()


def load_model(cell: Path, device: torch.device, weights: Path | None = None) -> Model:
    """The model of the folder ``cell`` on ``device``.

    FileError if there is none, if it is damaged, or if the backbone's weights (of the file ``weights``, where one is named) are
    not those that it was trained on."""
    content, file = read_model(cell, device), cell / "model.pt"
    name = content["cell"]["method"]
    method, recipe = methods.load(name), Recipe.model_validate(content["recipe"])
    if content.get("model") is None:
        raise FileError(
            f"{file}: the method {name} could not keep its model, so it scores no images; let its fit return tensors and plain "
            "values and run the cell again."
        )
    backbone = _backbone(recipe, content["weights_sha256"], file, device, weights)
    model = content["model"]
    if hasattr(method, "restore"):
        sides = [recipe.image_size // stride for stride in STRIDES]
        try:
            model = method.restore(model, recipe, backbone.channels, sides, backbone.device)
        except FileError as error:
            raise FileError(f"{file}: {error}; run the cell again.") from error
    scale = content["scale"] and ScoreScale(tuple(content["scale"]["level_maxima"]), content["scale"]["sum_maximum"])
    highest = scale.sum_maximum if scale else content["highest"]
    return Model(method, model, recipe, backbone, content["threshold"], highest, scale, file, content.get("bit_depth"))


def read_model(cell: Path, device: torch.device) -> dict:
    """The content of model.pt in the folder ``cell``; FileError if it is missing, damaged, or holds anything else."""
    path = cell / "model.pt"
    try:
        content = load_tensors(path, device)
        if isinstance(content, dict) and "flows" in content:  # as it was written before all methods were saved alike
            content = {"highest": content["scale"]["sum_maximum"], **content, "model": content.pop("flows")}
        _Content.model_validate(content)
    except FileNotFoundError as error:
        raise FileError(f"{path}: there is no model; {_how_to_make(cell)}.") from error
    except (ValueError, KeyError, TypeError) as error:  # pydantic's too
        raise FileError(f"{path}: not a model of this project, or damaged; {_how_to_make(cell)}.") from error
    return {"scale": None, "model": None, **content}


def _how_to_make(cell: Path) -> str:
    try:
        return f"make it with: {command_for(cell, 'model.pt')}"
    except ConfigError:
        return "name the folder of a finished cell"


def _backbone(recipe: Recipe, trained_on: str, file: Path, device: torch.device, weights: Path | None) -> Backbone:
    backbone = load_backbone(recipe.backbone, device, weights)
    if backbone.weights_sha256 != trained_on:
        raise FileError(
            f"{file}: trained on features of other weights (SHA-256 {trained_on[:12]}...) than those that are loaded now "
            f"({backbone.weights_sha256[:12]}...); name the file of its weights, or run the cell again."
        )
    return backbone


class _Scale(BaseModel, strict=True):
    level_maxima: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    sum_maximum: FiniteFloat


class _Content(BaseModel, arbitrary_types_allowed=True):
    """model.pt: ``scale`` of flows only; ``model`` is missing where it could not be kept."""

    cell: Cell
    recipe: Recipe
    weights_sha256: str
    threshold: float = Field(strict=True)  # nan: none
    highest: FiniteFloat = Field(strict=True)
    scale: _Scale | None = None
    model: Any = None
    bit_depth: Literal[10, 12, 14, 16] | None = None

    @model_validator(mode="after")
    def _is_complete(self):
        is_flow = self.cell.method in PAPER_METHODS
        states = self.model if isinstance(self.model, list) else []
        are_states = len(states) == 3 and all(isinstance(state, dict) for state in states)
        if math.isinf(self.threshold) or is_flow != (self.scale is not None) or (is_flow and not are_states):
            raise ValueError("an infinite threshold, flows without a scale, or no flow for each level")
        if is_flow and not all(isinstance(value, Tensor) for state in states for value in state.values()):
            raise ValueError("a flow's state that is not tensors")
        return self
