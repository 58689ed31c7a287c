"""DeLong's interval for the difference of two AUROCs on the same images (DeLong et al., Biometrics 44, 1988)."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import rankdata

from bgad.report.statistics import CONFIDENCE


def difference_of_aurocs(labels: ArrayLike, one: ArrayLike, other: ArrayLike) -> tuple[float, float, float]:
    """AUROC of the scores ``one`` minus that of ``other``, and the ends of its 95 % interval over images, as fractions.

    ``labels``, ``one``, ``other``: (N,), 1 for an anomalous image, higher scores more anomalous. All three are nan without
    images of both classes, the ends also with a single image of one. The interval takes the difference as normal; where both
    separate the classes perfectly it has no width, which says nothing about other images.
    """
    labels = np.asarray(labels, dtype=bool)
    if labels.all() or not labels.any():
        return math.nan, math.nan, math.nan
    differences = [a - b for a, b in zip(_shares(labels, one), _shares(labels, other), strict=True)]
    mean = float(differences[0].mean())
    if min(map(len, differences)) < 2:
        return mean, math.nan, math.nan
    half = ndtri((1 + CONFIDENCE) / 2) * math.sqrt(sum(part.var(ddof=1) / len(part) for part in differences))
    return mean, float(mean - half), float(mean + half)


def _shares(labels: np.ndarray, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Of each anomalous image the share of normal ones that score lower, of each normal one that of anomalous ones that score
    higher; ties count half. The mean of either is the AUROC."""
    scores = np.asarray(scores, dtype=float)
    ranks, positive, negative = rankdata(scores), scores[labels], scores[~labels]
    lower = (ranks[labels] - rankdata(positive)) / len(negative)
    return lower, 1 - (ranks[~labels] - rankdata(negative)) / len(positive)
