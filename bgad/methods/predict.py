"""A finished cell on single pictures: each one's anomaly map, score, and verdict at the cell's threshold."""

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator
from torch import Tensor

from bgad import methods
from bgad.config.cells import Cell
from bgad.config.settings import Recipe
from bgad.data.images import resized_image
from bgad.data.layouts import IMAGE_ENDINGS
from bgad.errors import BgadError
from bgad.evaluation.evaluate import check_finite
from bgad.features.backbone import STRIDES, Backbone, load_backbone
from bgad.methods.runner import images_of_levels, score_images
from bgad.model.flow import ConditionalFlow
from bgad.model.scoring import ScoreScale, image_scores, scored
from bgad.randomness import frozen_generator, torch_generator
from bgad.tensors import NoTensors, load_tensors
from bgad.training.train import build_flows


@dataclass(frozen=True)
class Prediction:
    """``anomaly_map`` (S, S), higher is more anomalous, on the scale of the cell's test set; ``score`` is its maximum.

    ``highest`` is the scale's end: of flows, what no score can pass; of a detector, the highest in its test set. ``threshold``
    is nan where the cell's test set has no anomalies to set one by; then there is no verdict.
    """

    path: Path
    anomaly_map: np.ndarray
    score: float
    threshold: float
    highest: float

    @property
    def anomalous(self) -> bool | None:
        return None if math.isnan(self.threshold) else self.score >= self.threshold

    @property
    def verdict(self) -> str | None:
        return {True: "anomalous", False: "normal", None: None}[self.anomalous]

    @property
    def figures(self) -> dict[str, float | str | None]:
        """Score, verdict and threshold as plain values, as precise as a cell's scores.csv; None where there is none."""
        threshold = None if self.anomalous is None else float(f"{self.threshold:.7g}")
        return {"score": float(f"{self.score:.7g}"), "verdict": self.verdict, "threshold": threshold}


def pictures_in(given: list[Path]) -> list[Path]:
    """The pictures that files and folders stand for, in their order: of a folder those right in it, by name.

    BgadError if there is nothing at a path, or no picture in a folder.
    """
    found = []
    for path in given:
        if not path.exists():
            raise BgadError(f"{path}: there is no such picture or folder; check the path.")
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and not p.name.startswith("."))
            if not inside:
                raise BgadError(
                    f"{path}: no pictures right in this folder ({', '.join(sorted(IMAGE_ENDINGS))}); name one that has."
                )
            found += inside
        else:
            found.append(path)
    return found


@dataclass(frozen=True)
class Model:
    """What model.pt of a cell comes to: its recipe, the backbone, a flow of each level, and the scale and threshold of scores.

    The threshold is the one of the best F1 on the cell's own test set.
    """

    recipe: Recipe
    backbone: Backbone
    flows: list[ConditionalFlow]
    scale: ScoreScale
    threshold: float


def predict(images: list[Path], cell: Path, device: torch.device, weights: Path | None = None) -> list[Prediction]:
    """Scores ``images`` with the model of the folder ``cell``, as ``predictions`` does, and keeps all the maps."""
    return list(predictions(images, cell, device, weights))


def predictions(images: list[Path], cell: Path, device: torch.device, weights: Path | None = None) -> Iterator[Prediction]:
    """The same one after the other, so that memory does not grow with the pictures.

    BgadError if the folder has no model, at once, or, when it is its turn, if a picture cannot be read or its score is not
    finite.
    """
    content = read_model(cell, device)
    recipe, backbone = _recipe_and_backbone(content, cell, device, weights)
    map_of, highest = (_by_flows if "flows" in content else _by_detector)(content, recipe, backbone, cell)

    @torch.inference_mode()
    def scored_picture(path: Path) -> Prediction:
        # One at a time: a score then depends on no other picture, and a CPU is faster so than with batches.
        maps = map_of(path, backbone.features(np.stack([resized_image(path, recipe.image_size)])))
        return Prediction(path, maps[0].cpu().numpy(), image_scores(maps).item(), content["threshold"], highest)

    return map(scored_picture, images)


def load_model(cell: Path, device: torch.device, weights: Path | None = None) -> Model:
    """The model of the folder ``cell`` on ``device``.

    BgadError if there is none, if it is a detector's, or if the backbone's weights (of the file ``weights``, where one is
    named) are not those that it was trained on.
    """
    content = read_model(cell, device)
    if "flows" not in content:
        raise BgadError(
            f"{cell / 'model.pt'}: has no flows, as the models of bgad, bgad-wo and nf have; choose a cell of these."
        )
    return _model(content, *_recipe_and_backbone(content, cell, device, weights), cell)


# A picture's file and the backbone's levels to its anomaly map, (1, S, S); and the end of the maps' scale.
MapOf = tuple[Callable[[Path, list[Tensor]], Tensor], float]


def _by_flows(content: dict, recipe: Recipe, backbone: Backbone, cell: Path) -> MapOf:
    model = _model(content, recipe, backbone, cell)

    def map_of(path: Path, levels: list[Tensor]) -> Tensor:
        likelihoods = [flow.log_likelihood_maps(level) for flow, level in zip(model.flows, levels, strict=True)]
        check_finite(likelihoods, f"{path}: by {cell / 'model.pt'}", "run the cell again")
        return scored(likelihoods, recipe.image_size, model.scale)[0]

    return map_of, model.scale.sum_maximum


def _by_detector(content: dict, recipe: Recipe, _backbone: Backbone, cell: Path) -> MapOf:
    method = content["cell"]["method"]
    if "model" not in content:
        raise BgadError(
            f"{cell / 'model.pt'}: the detector {method} could not keep its model, so that it scores no pictures; let its fit "
            "return tensors and plain values and run the cell again."
        )
    detector, model = methods.load(method), content["model"]

    def map_of(path: Path, levels: list[Tensor]) -> Tensor:
        try:
            return score_images(detector, model, images_of_levels(levels, [path], recipe.image_size))
        except BgadError:
            raise
        except Exception as error:  # of any kind, by what the file holds instead of what the detector's fit returned
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise BgadError(
                f"{cell / 'model.pt'}: the detector {method} cannot use it ({said}); run the cell again."
            ) from error

    return map_of, content["highest"]


def _model(content: dict, recipe: Recipe, backbone: Backbone, cell: Path) -> Model:
    sides = [recipe.image_size // stride for stride in STRIDES]
    if not all(_fits(state, recipe, channels) for state, channels in zip(content["flows"], backbone.channels, strict=True)):
        raise BgadError(f"{cell / 'model.pt'}: its flows do not fit its recipe; run the cell again.")
    # The draws are only there to be overwritten.
    flows = build_flows(recipe, list(backbone.channels), sides, torch_generator("model"), frozen_generator("model"))
    try:
        for flow, state in zip(flows, content["flows"], strict=True):
            flow.load_state_dict(state)
            flow.to(backbone.device)
    except Exception as error:  # RuntimeError for another shape, and others for what is no state at all
        raise BgadError(f"{cell / 'model.pt'}: its flows do not fit its recipe; run the cell again.") from error
    scale = ScoreScale(tuple(content["scale"]["level_maxima"]), content["scale"]["sum_maximum"])
    return Model(recipe, backbone, flows, scale, content["threshold"])


def _fits(state: dict[str, Tensor], recipe: Recipe, channels: int) -> bool:
    """Whether a flow's state has the blocks and the width that the recipe says: seen before memory is taken for them."""
    first = state.get("module_list.0.subnet.0.weight")
    inputs = channels - channels // 2 + recipe.flow.position_channels
    blocks = {key.split(".")[1] for key in state if key.startswith("module_list.")}
    return len(blocks) == recipe.flow.blocks and first is not None and first.shape == (2 * inputs, inputs)


def _recipe_and_backbone(content: dict, cell: Path, device: torch.device, weights: Path | None) -> tuple[Recipe, Backbone]:
    recipe = Recipe.model_validate(content["recipe"])
    backbone = load_backbone(recipe.backbone, device, weights)
    if backbone.weights_sha256 != content["weights_sha256"]:
        trained_on = content["weights_sha256"][:12]
        raise BgadError(
            f"{cell / 'model.pt'}: trained on features of other weights (SHA-256 {trained_on}...) than those "
            f"that are loaded now ({backbone.weights_sha256[:12]}...); name the file of its weights, or run the cell again."
        )
    return recipe, backbone


def read_model(cell: Path, device: torch.device) -> dict:
    """What model.pt of the folder ``cell`` holds, as records.py wrote it; BgadError if it is missing, damaged, or holds
    anything else."""
    path = cell / "model.pt"
    try:
        content = load_tensors(path, device)
        _Content.model_validate(content)
    except FileNotFoundError as error:
        target = shlex.quote(f"{path.parent}/metrics.json")
        raise BgadError(f"{path}: there is no model; run the cell first: snakemake --cores all {target}.") from error
    except (NoTensors, ValidationError) as error:
        raise BgadError(f"{path}: not a model of this project, or damaged; run the cell again.") from error
    return content


class _Scale(BaseModel, strict=True):
    level_maxima: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    sum_maximum: FiniteFloat


class _Content(BaseModel, arbitrary_types_allowed=True):
    """Of flows, ``flows`` and ``scale``; of a detector, ``highest`` and, where it could be kept, ``model``."""

    cell: Cell
    recipe: Recipe
    weights_sha256: str
    threshold: float = Field(strict=True)  # nan: none
    flows: list[dict[str, Tensor]] = Field(default=[], min_length=3, max_length=3)
    scale: _Scale | None = None
    highest: FiniteFloat | None = Field(default=None, strict=True)

    @model_validator(mode="after")
    def _is_whole(self):
        if math.isinf(self.threshold) or (self.scale if self.flows else self.highest) is None:
            raise ValueError("an infinite threshold, flows without a scale, or a detector without its highest score")
        return self
