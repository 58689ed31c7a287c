"""Where normal and anomalous vectors lie relative to the explicit boundary of a trained cell: likelihoods.json.

For each level, histograms of l = logp / C and, on the same axis, the boundaries b_n and b_a (BGAD, section 3.2), which the loss
defines on l / normalizer.
"""

import numpy as np
import torch
from torch import Tensor

from bgad.anomalies.synthetic import defects_at
from bgad.config.settings import Recipe
from bgad.errors import TrainingError
from bgad.evaluation.evaluate import Evaluation, TestSet
from bgad.training.losses import explicit_boundary

BINS = 60
TAIL = 0.002  # share of a group's vectors that the axis may cut off to the left
BOUNDARY_IMAGES = 32  # normal training images for the boundary: thousands of vectors a level
GROUPS = ("normal", "known anomalies", "unseen images of known types", "unseen types")


def histograms_of_levels(
    recipe: Recipe,
    training: list[Tensor],
    known: tuple[list[Tensor], Tensor] | None,
    types_known: set[str],
    test: TestSet,
    evaluation: Evaluation,
) -> dict:
    """The content of likelihoods.json.

    ``training``: l of normal training images, (n, h, w) a level, which the boundaries are taken from. ``known``: l of the known
    anomalies and their masks (k, S, S). ``types_known``: their defect types. TrainingError if a likelihood is not finite.
    """
    groups = groups_of(evaluation.likelihoods, test.masks, ~test.is_anomalous, np.isin(test.types, [*types_known]))
    if known:
        for of_level, level in zip(groups, known[0], strict=True):
            defects = defects_at(known[1], level.shape[1])
            of_level["known anomalies"] = level.flatten(1).cpu()[defects].numpy()
    flat = [level.flatten().cpu() for level in training]
    levels = [histograms(recipe, *of_level) for of_level in zip(flat, groups, strict=True)]
    return {"bins": BINS, "beta": recipe.loss.beta, "tau": recipe.loss.tau, "levels": levels}


def groups_of(levels: list[Tensor], masks: np.ndarray | None, normal: np.ndarray, known_type: np.ndarray) -> list[dict]:
    """Each level's l of test images by group: ``levels`` (N, h, w), ``masks`` (N, S, S), ``normal`` and ``known_type`` (N,).

    Normal vectors are those of normal images. Of an anomalous image only the vectors on the defect count, or all of them in a
    category without masks.
    """
    found = []
    for level in levels:
        values, inside = level.flatten(1).cpu(), torch.tensor(True)
        if masks is not None:
            inside = defects_at(torch.from_numpy(masks), level.shape[1])
        chosen = {
            "normal": torch.from_numpy(normal)[:, None],
            "unseen images of known types": torch.from_numpy(~normal & known_type)[:, None] & inside,
            "unseen types": torch.from_numpy(~normal & ~known_type)[:, None] & inside,
        }
        found.append({name: values[where.expand_as(values)].numpy() for name, where in chosen.items()})
    return found


def histograms(recipe: Recipe, training: Tensor, groups: dict[str, np.ndarray]) -> dict:
    """A level's axis, boundaries and shares, from l of normal training vectors (N,) and of each group of vectors.

    ``share`` is the share of a group's vectors in each bin; the first bin also has those below the axis. Groups without vectors
    are omitted.
    """
    present = {name: groups[name] for name in GROUPS if name in groups and len(groups[name])}
    everything = np.concatenate([training.numpy(), *present.values()])
    if not np.isfinite(everything).all():
        raise TrainingError("a log-likelihood of the trained flows is not finite; lower schedule.learning_rate in the recipe.")
    loss = recipe.loss
    boundary = explicit_boundary(training, torch.zeros_like(training, dtype=torch.bool), loss.beta, loss.tau, loss.normalizer)
    b_n, b_a = (float(value) * loss.normalizer for value in boundary)
    low = min(b_a, *(float(np.quantile(values, TAIL)) for values in present.values()))
    high = max(float(everything.max()), low + 1e-6)
    shares = {}
    for name, values in present.items():
        counts, _ = np.histogram(np.maximum(values, low), np.linspace(low, high, BINS + 1))
        shares[name] = {"count": len(values), "share": [round(float(share), 6) for share in counts / len(values)]}
    return {"low": low, "high": high, "b_n": b_n, "b_a": b_a, "groups": shares}
