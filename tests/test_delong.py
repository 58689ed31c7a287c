"""DeLong's interval against the definition of its parts, and against a bootstrap over images."""

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


def test_the_interval_is_about_a_bootstrap_s():
    rng = np.random.default_rng(2)
    labels, one, other = drawn(rng)
    pairs = by_pairs(labels, one, other)
    again = [pairs[np.ix_(*(rng.integers(size, size=size) for size in pairs.shape))].mean() for _ in range(4000)]
    bootstrap = np.quantile(again, [0.025, 0.975])
    _, low, high = difference_of_aurocs(labels, one, other)
    assert (low, high) == pytest.approx(tuple(bootstrap), abs=0.1 * (high - low))


def test_where_it_is_not_defined():
    nan = pytest.approx(math.nan, nan_ok=True)
    assert difference_of_aurocs([1, 1], [1, 2], [2, 1]) == (nan, nan, nan)
    assert difference_of_aurocs([0, 1, 1], [1, 2, 0], [0, 2, 1]) == (-0.5, nan, nan)
    assert difference_of_aurocs([0, 0, 1, 1], [1, 2, 3, 4], [0, 1, 8, 9]) == (0, 0, 0)
