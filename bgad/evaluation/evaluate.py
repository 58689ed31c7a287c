"""Evaluating a method on a test set: anomaly maps, and the paper's metrics in percent."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.errors import BgadError, TrainingError
from bgad.evaluation.metrics import METRICS, aupro, auroc, released_pro
from bgad.features.cache import FeatureCache
from bgad.memory import in_smaller_batches
from bgad.model.scoring import ScoreScale, image_scores, scored

IMAGES_AT_ONCE = 8  # brought to full size; bounds memory, and is halved where memory does not suffice


@dataclass(frozen=True)
class TestSet:
    """Test images of a cache, in order: ``paths``, their defect ``types`` ("good" where normal) and ``masks`` or None.

    ``has_mask`` (N,): whether an image counts in pixel metrics; None if all do.
    """

    paths: tuple[str, ...]
    types: tuple[str, ...]
    rows: Tensor
    masks: np.ndarray | None
    has_mask: np.ndarray | None = None

    @classmethod
    def of(cls, cache: FeatureCache, paths: tuple[str, ...], index: Index) -> "TestSet":
        rows, types = cache.rows_of(paths), {image.path: image.type for image in index.images}
        masks = None if cache.masks is None or not index.has_masks else cache.masks[rows].numpy()
        has_mask = np.array([path not in index.unmasked for path in paths], dtype=bool) if index.unmasked else None
        return cls(paths, tuple(types[path] for path in paths), rows, masks, has_mask)

    @property
    def is_anomalous(self) -> np.ndarray:
        return np.array([kind != "good" for kind in self.types], dtype=bool)


@dataclass(frozen=True)
class Evaluation:
    """``maps`` (N, S, S) and image ``scores`` (N,) of a test set, and its ``metrics`` in percent, None where undefined.

    A flow's maps come from ``likelihoods``, l of each level, (N, h, w), by way of ``scale``.
    """

    maps: np.ndarray
    scores: np.ndarray
    metrics: dict[str, float | None]
    likelihoods: list[Tensor] = field(default_factory=list)
    scale: ScoreScale | None = None


def test_sets(cache: FeatureCache, index: Index, split: Split, k: int) -> dict[str, TestSet]:
    """What a cell is tested on: ``test``, and with k 0 also ``full_test``, the whole test set."""
    paths = {"test": split.test(k)} | ({"full_test": split.full_test()} if k == 0 else {})
    return {name: TestSet.of(cache, of, index) for name, of in paths.items()}


def together(tests: dict[str, TestSet]) -> tuple[Tensor, dict[str, list[int]]]:
    """The rows of all test sets, each once, and where each set's images are among them."""
    rows = torch.unique(torch.cat([test.rows for test in tests.values()]))
    where = {row: place for place, row in enumerate(rows.tolist())}
    return rows, {name: [where[row] for row in test.rows.tolist()] for name, test in tests.items()}


def check_finite(likelihoods: list[Tensor], where: str, advice: str) -> None:
    """TrainingError "<where> the likelihoods of level ... are not finite; <advice>.": a map of -inf would pass for a score."""
    for level, maps in enumerate(likelihoods, start=1):
        spoilt = int((~maps.isfinite()).any(dim=(1, 2)).sum())
        if spoilt:
            raise TrainingError(
                f"{where} the likelihoods of level {level} are not finite in {spoilt} of {len(maps)} images; {advice}."
            )


def evaluate(likelihoods: list[Tensor], test: TestSet, size: int) -> Evaluation:
    """Scores ``test`` from its log-likelihoods, (N, h, w) a level, as maps of ``size`` pixels a side."""
    maps, scale = in_smaller_batches(partial(scored, likelihoods, size, None), IMAGES_AT_ONCE)
    return replace(evaluate_maps(maps, test), likelihoods=likelihoods, scale=scale)


def evaluate_maps(on_device: Tensor, test: TestSet) -> Evaluation:
    """Scores ``test`` from its anomaly maps (N, S, S)."""
    scores, maps = image_scores(on_device).cpu().numpy(), on_device.cpu().numpy()
    metrics: dict[str, float | None] = dict.fromkeys(METRICS)
    metrics["image_auroc"] = _metric("image_auroc", auroc, test.is_anomalous, scores)
    if test.masks is not None:
        chosen = slice(None) if test.has_mask is None else test.has_mask
        masks, of_masks = test.masks[chosen], maps[chosen]
        metrics["pixel_auroc"] = _metric("pixel_auroc", auroc, masks, of_masks)
        metrics["aupro"] = _metric("aupro", aupro, masks, of_masks)
        metrics["released_pro"] = _metric("released_pro", released_pro, masks, of_masks)
    return Evaluation(maps, scores, metrics)


def _metric(name: str, metric: Callable[..., float], labels: np.ndarray, scores: np.ndarray) -> float | None:
    try:
        return percent(metric(labels, scores))
    except BgadError as error:
        raise TrainingError(f"{name}: {error}") from error


def by_type(test: TestSet, evaluation: Evaluation, known: set[str]) -> dict[str, dict]:
    """Each defect type against all normal test images: image and pixel AUROC, count, and whether the type was known in
    training."""
    types = np.array(test.types)
    result = {}
    for kind in sorted(set(test.types) - {"good"}):
        chosen = (types == kind) | (types == "good")
        pixels = chosen if test.has_mask is None else chosen & test.has_mask
        masks = None if test.masks is None else test.masks[pixels]
        result[kind] = {
            "image_auroc": percent(auroc(types[chosen] == kind, evaluation.scores[chosen])),
            "pixel_auroc": None if masks is None else percent(auroc(masks, evaluation.maps[pixels])),
            "n": int((types == kind).sum()),
            "known": kind in known,
        }
    return result


def percent(fraction: float) -> float | None:
    """A fraction in percent; None where it is undefined (nan)."""
    return None if math.isnan(fraction) else round(100 * fraction, 4)
