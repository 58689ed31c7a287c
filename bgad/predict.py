"""A finished cell on single pictures: each one's anomaly map, score, and verdict at the cell's threshold."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bgad.backbones import STRIDES, Backbone, load_backbone
from bgad.errors import BgadError
from bgad.flow import ConditionalFlow
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
    """Scores ``images`` with the model of the folder ``cell``. BgadError if the folder has no model."""
    model = load_model(cell, device, weights)
    size, predictions = model.recipe.image_size, []
    with torch.inference_mode():
        for path in images:
            levels = model.backbone.features(np.stack([resized_image(path, size)]))
            likelihoods = [flow.log_likelihood_maps(level) for flow, level in zip(model.flows, levels, strict=True)]
            maps, _ = scored(likelihoods, size, model.scale)
            score = image_scores(maps).item()
            predictions.append(Prediction(path, maps[0].cpu().numpy(), score, model.threshold))
    return predictions


def load_model(cell: Path, device: torch.device, weights: Path | None = None) -> Model:
    """The model of the folder ``cell`` on ``device``.

    BgadError if there is none, or if the backbone's weights (of the file ``weights``, where one is named) are not those that
    it was trained on.
    """
    content = read_model(cell, device)
    if "flows" not in content:
        raise BgadError(
            f"{cell / 'model.pt'}: has no flows, as the models of bgad, bgad-wo and nf have; choose a cell of these."
        )
    recipe = Recipe.model_validate(content["recipe"])
    backbone = load_backbone(recipe.backbone, device, weights)
    if backbone.weights_sha256 != content["weights_sha256"]:
        trained_on = content["weights_sha256"][:12]
        raise BgadError(
            f"{cell / 'model.pt'}: trained on features of other weights (SHA-256 {trained_on}...) than those "
            f"that are loaded now ({backbone.weights_sha256[:12]}...); name the file of its weights, or run the cell again."
        )
    sides = [recipe.image_size // stride for stride in STRIDES]
    # The draws are only there to be overwritten.
    flows = build_flows(recipe, list(backbone.channels), sides, torch_generator("model"), frozen_generator("model"))
    for flow, state in zip(flows, content["flows"], strict=True):
        flow.load_state_dict(state)
        flow.to(device)
    scale = ScoreScale(tuple(content["scale"]["level_maxima"]), content["scale"]["sum_maximum"])
    return Model(recipe, backbone, flows, scale, content["threshold"])


def read_model(cell: Path, device: torch.device) -> dict:
    """What model.pt of the folder ``cell`` holds, as results.py wrote it; BgadError if it is missing or damaged."""
    path = cell / "model.pt"
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise BgadError(
            f"{path}: there is no model; run the cell first: snakemake --cores all {path.parent}/metrics.json."
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BgadError(f"{path}: not a model of this project, or damaged; run the cell again.") from error
