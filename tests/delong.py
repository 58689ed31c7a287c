"""DeLong's interval, which the bootstrap is checked against."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from bgad.report.statistics import Z


def difference_of_aurocs(labels: ArrayLike, one: ArrayLike, other: ArrayLike) -> tuple[float, float, float]:
    """AUROC of the scores ``one`` minus that of ``other``, and the ends of its 95 % interval over images, as fractions.

    The interval is DeLong's (DeLong et al., Biometrics 44, 1988), which takes the difference as normal. ``labels``, ``one``,
    ``other``: (N,), 1 for an anomalous image, higher scores more anomalous.
    """
    labels = np.asarray(labels, dtype=bool)
    differences = [a - b for a, b in zip(_shares(labels, one), _shares(labels, other), strict=True)]
    mean = float(differences[0].mean())
    half = Z * math.sqrt(sum(part.var(ddof=1) / len(part) for part in differences))
    return mean, float(mean - half), float(mean + half)


def _shares(labels: np.ndarray, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """For each anomalous image the share of normal ones that score lower, for each normal one the share of anomalous ones that
    score higher. Ties count half. The mean of either is the AUROC."""
    scores = np.asarray(scores, dtype=float)
    ranks, positive, negative = rankdata(scores), scores[labels], scores[~labels]
    lower = (ranks[labels] - rankdata(positive)) / len(negative)
    return lower, 1 - (ranks[~labels] - rankdata(negative)) / len(positive)
