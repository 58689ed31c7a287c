"""A finished cell on single pictures: each one's anomaly map, score, and verdict at the cell's threshold."""

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bgad.backbones import STRIDES, load_backbone
from bgad.datasets import IMAGE_ENDINGS
from bgad.errors import BgadError
from bgad.images import resized_image
from bgad.randomness import frozen_generator, torch_generator
from bgad.scoring import ScoreScale, image_scores, scored
from bgad.settings import Recipe
from bgad.train import build_flows


@dataclass(frozen=True)
class Prediction:
    """``anomaly_map`` (S, S), higher is more anomalous, on the scale of the cell's test set; ``score`` is its maximum.

    ``highest`` is the scale's end, which no score can pass. ``threshold`` is nan where the cell's test set has no anomalies to
    set one by; then there is no verdict.
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


def predict(images: list[Path], cell: Path, device: torch.device, weights: Path | None = None) -> list[Prediction]:
    """Scores ``images`` with the model of the folder ``cell``, as ``predictions`` does, and keeps all the maps."""
    return list(predictions(images, cell, device, weights))


def predictions(images: list[Path], cell: Path, device: torch.device, weights: Path | None = None) -> Iterator[Prediction]:
    """The same one after the other, so that memory does not grow with the pictures.

    The threshold is the one of the best F1 on the cell's own test set. BgadError if the folder has no model, at once, or if a
    picture cannot be read, when it is its turn.
    """
    model = _load(cell / "model.pt", device)
    recipe = Recipe.model_validate(model["recipe"])
    backbone = load_backbone(recipe.backbone, device, weights)
    if backbone.weights_sha256 != model["weights_sha256"]:
        raise BgadError(
            f"{cell / 'model.pt'}: trained on features of other weights (SHA-256 {model['weights_sha256'][:12]}...) than those "
            f"that are loaded now ({backbone.weights_sha256[:12]}...); name the file of its weights, or run the cell again."
        )
    sides = [recipe.image_size // stride for stride in STRIDES]
    # The draws are only there to be overwritten.
    flows = build_flows(recipe, list(backbone.channels), sides, torch_generator("model"), frozen_generator("model"))
    for flow, state in zip(flows, model["flows"], strict=True):
        flow.load_state_dict(state)
        flow.to(device)
    scale = ScoreScale(tuple(model["scale"]["level_maxima"]), model["scale"]["sum_maximum"])

    @torch.inference_mode()
    def scored_picture(path: Path) -> Prediction:
        # One at a time: a score then depends on no other picture, and a CPU is faster so than with batches.
        levels = backbone.features(np.stack([resized_image(path, recipe.image_size)]))
        likelihoods = [flow.log_likelihood_maps(level) for flow, level in zip(flows, levels, strict=True)]
        maps, _ = scored(likelihoods, recipe.image_size, scale)
        return Prediction(path, maps[0].cpu().numpy(), image_scores(maps).item(), model["threshold"], scale.sum_maximum)

    return map(scored_picture, images)


def _load(path: Path, device: torch.device) -> dict:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise BgadError(
            f"{path}: there is no model; run the cell first: snakemake --cores all {path.parent}/metrics.json."
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BgadError(f"{path}: not a model of this project, or damaged; run the cell again.") from error
