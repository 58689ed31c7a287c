"""DeLong's interval against the definition of its parts."""

import math

import numpy as np
import pytest
from delong import difference_of_aurocs
from sklearn.metrics import roc_auc_score


def drawn(rng, normal=60, anomalous=90):
    """Labels, and two scores that partly agree, coarse enough for ties."""
    labels = np.r_[np.zeros(normal), np.ones(anomalous)]
    common = rng.normal(size=labels.size) + labels
    return labels, np.round(common + 0.3 * labels + rng.normal(size=labels.size), 1), np.round(common, 1)


def by_pairs(labels, one, other):
    """psi of ``one`` minus psi of ``other`` for each pair of an anomalous and a normal image; its mean is the difference."""

    def psi(scores):
        x, y = scores[labels == 1][:, None], scores[labels == 0][None]
        return (x > y) + 0.5 * (x == y)

    return psi(one) - psi(other)


def test_it_is_the_definition_pair_by_pair():
    labels, one, other = drawn(np.random.default_rng(1))
    pairs = by_pairs(labels, one, other)
    variance = pairs.mean(1).var(ddof=1) / pairs.shape[0] + pairs.mean(0).var(ddof=1) / pairs.shape[1]
    half = 1.959963984540054 * math.sqrt(variance)
    found = difference_of_aurocs(labels, one, other)
    assert found == pytest.approx((pairs.mean(), pairs.mean() - half, pairs.mean() + half), abs=1e-12)
    assert found[0] == pytest.approx(roc_auc_score(labels, one) - roc_auc_score(labels, other), abs=1e-12)
