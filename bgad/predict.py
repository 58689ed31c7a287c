"""A finished cell on single pictures: each one's anomaly map, score, and verdict at the cell's threshold."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgad import detectors
from bgad.backbones import STRIDES, Backbone, load_backbone
from bgad.detect import images_of_levels, score_images
from bgad.errors import BgadError
from bgad.images import resized_image
from bgad.randomness import frozen_generator, torch_generator
from bgad.scoring import ScoreScale, image_scores, scored
from bgad.settings import Recipe
from bgad.train import build_flows


@dataclass(frozen=True)
class Prediction:
    """``anomaly_map`` (S, S), higher is more anomalous, on the scale of the cell's test set; ``score`` is its maximum."""

    path: Path
    anomaly_map: np.ndarray
    score: float
    threshold: float

    @property
    def anomalous(self) -> bool:
        return self.score >= self.threshold


def predict(images: list[Path], cell: Path, device: torch.device, weights: Path | None = None) -> list[Prediction]:
    """Scores ``images`` with the model of the folder ``cell``.

    The threshold is the one of the best F1 on the cell's own test set. BgadError if the folder has no model.
    """
    model = _load(cell / "model.pt", device)
    recipe = Recipe.model_validate(model["recipe"])
    backbone = load_backbone(recipe.backbone, device, weights)
    if backbone.weights_sha256 != model["weights_sha256"]:
        raise BgadError(
            f"{cell / 'model.pt'}: trained on features of other weights (SHA-256 {model['weights_sha256'][:12]}...) than those "
            f"that are loaded now ({backbone.weights_sha256[:12]}...); name the file of its weights, or run the cell again."
        )
    maps_of = _by_flows if "flows" in model else _by_detector
    map_of = maps_of(model, recipe, backbone, cell)

    predictions = []
    with torch.inference_mode():
        for path in images:
            levels = backbone.features(np.stack([resized_image(path, recipe.image_size)]))
            maps = map_of(path, levels)
            predictions.append(Prediction(path, maps[0].cpu().numpy(), image_scores(maps).item(), model["threshold"]))
    return predictions


# A picture's file and the backbone's levels to its anomaly map, (1, S, S).
MapOf = Callable[[Path, list[Tensor]], Tensor]


def _by_flows(model: dict, recipe: Recipe, backbone: Backbone, _cell: Path) -> MapOf:
    sides = [recipe.image_size // stride for stride in STRIDES]
    # The draws are only there to be overwritten.
    flows = build_flows(recipe, list(backbone.channels), sides, torch_generator("model"), frozen_generator("model"))
    for flow, state in zip(flows, model["flows"], strict=True):
        flow.load_state_dict(state)
        flow.to(backbone.device)
    scale = ScoreScale(tuple(model["scale"]["level_maxima"]), model["scale"]["sum_maximum"])

    def map_of(_path: Path, levels: list[Tensor]) -> Tensor:
        likelihoods = [flow.log_likelihood_maps(level) for flow, level in zip(flows, levels, strict=True)]
        return scored(likelihoods, recipe.image_size, scale)[0]

    return map_of


def _by_detector(model: dict, recipe: Recipe, _backbone: Backbone, cell: Path) -> MapOf:
    method = model["cell"]["method"]
    if "model" not in model:
        raise BgadError(
            f"{cell / 'model.pt'}: the detector {method} could not keep its model, so that it scores no pictures; let its fit "
            "return tensors and plain values and run the cell again."
        )
    detector = detectors.load(method)
    return lambda path, levels: score_images(detector, model["model"], images_of_levels(levels, [path], recipe.image_size))


def _load(path: Path, device: torch.device) -> dict:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise BgadError(
            f"{path}: there is no model; run the cell first: snakemake --cores all {path.parent}/metrics.json."
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BgadError(f"{path}: not a model of this project, or damaged; run the cell again.") from error
