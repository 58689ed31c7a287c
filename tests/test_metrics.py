"""Each metric against a worked value and against a slow version that follows its definition word by word."""

import math
from itertools import pairwise

import numpy as np
import pytest
from skimage.measure import label, regionprops
from sklearn.metrics import f1_score, roc_auc_score

from bgad.errors import BgadError
from bgad.evaluation.metrics import aupro, auroc, best_f1_threshold, released_pro


def slow_regions(masks):
    """(image, region as a boolean (H, W)) of every 8-connected region."""
    for i, mask in enumerate(masks):
        numbered = label(mask, connectivity=2)
        for number in range(1, numbered.max() + 1):
            yield i, numbered == number


def slow_aupro(masks, scores, max_fpr):
    """One threshold after the other; the last trapezoid is cut where it crosses the limit."""
    regions = list(slow_regions(masks))
    x0, y0, area = 0.0, 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        x1 = np.mean(found[~masks])
        y1 = np.mean([np.mean(found[i][region]) for i, region in regions])
        if x1 > max_fpr:
            y1 = y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
            x1 = max_fpr
        area += (x1 - x0) * (y0 + y1) / 2
        x0, y0 = x1, y1
        if x1 == max_fpr:
            break
    return area / max_fpr


def slow_released_pro(masks, scores):
    """The recipe of the released code, a thousand rounds over all regions."""
    kind = scores.dtype.type
    highest = float(scores.max())
    step = float(scores.max() - scores.min()) / 1000
    regions = [
        (i, region.slice, region.image_filled, region.image.sum())
        for i, mask in enumerate(masks)
        for region in regionprops(label(mask, connectivity=2))
    ]
    curve = []
    for k in range(1000):
        found = scores > kind(highest - k * step)
        overlaps = [(found[i][box] & filled).sum() / area for i, box, filled, area in regions]
        curve.append((found[~masks].mean(), np.mean(overlaps)))
    curve = [(x, y) for x, y in curve if x <= 0.3]
    low, high = min(x for x, _ in curve), max(x for x, _ in curve)
    curve = [((x - low) / (high - low), y) for x, y in curve]
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(curve))


def blobs(seed, dtype=np.float64, levels=None):
    """Five images, two of them normal: regions of several sizes, one with a hole, two that touch at a corner."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((5, 24, 24), dtype=bool)
    masks[1, 2:6, 3:9] = True
    masks[1, 6:8, 9:11] = True  # touches the region above at one corner
    masks[1, 20, 20] = True
    masks[2, 4:15, 4:13] = True
    masks[2, 7:11, 6:10] = False
    masks[2, 8, 8] = True  # a region inside the hole of another
    masks[4, :, 0:3] = True
    masks[4, 23, 23] = True
    scores = rng.normal(size=masks.shape) + 1.5 * masks * rng.random(masks.shape)
    if levels:
        scores = np.round(scores * levels) / levels
    return masks, scores.astype(dtype)


# Two regions in one row, A A . B . . . , and the curve by hand, as (FPR, PRO) from the highest score down:
# 0.9 (0, .25)  0.8 (.25, .25)  0.7 (.25, .75)  0.5 (.5, .75)  0.4, a tie of A with normal (.75, 1)  0.1 (1, 1)
ROW_MASK = np.array([[[1, 1, 0, 1, 0, 0, 0]]], dtype=bool)
ROW_SCORES = np.array([[[0.9, 0.4, 0.8, 0.7, 0.5, 0.4, 0.1]]])


def test_auroc_by_hand():
    # 2 beats 1 and ties with 2 and 2, 3 beats all three: 2 + 3 of 6 pairs.
    assert auroc([0, 0, 0, 1, 1], [1.0, 2.0, 2.0, 2.0, 3.0]) == 5 / 6
    assert auroc([[False, True]], [[0.2, 0.1]]) == 0.0
    assert auroc([0, 1, 0, 1], [7.0, 7.0, 7.0, 7.0]) == 0.5
    assert auroc([1, 0], [0.0, -0.0]) == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [2, 20, 10**9])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.97])
def test_auroc_is_that_of_sklearn(dtype, levels, share):
    rng = np.random.default_rng(3)
    labels = rng.random((4, 30, 25)) < share
    scores = (rng.integers(levels, size=labels.shape) / levels + 0.2 * labels).astype(dtype)
    expected = roc_auc_score(labels.ravel(), scores.ravel())
    assert auroc(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert auroc(labels.astype(int), scores) == auroc(labels, scores)


@pytest.mark.parametrize(
    ("max_fpr", "expected"),
    # .25 * .25 + .25 * .75 = .25 up to FPR .5; half of the ramp of the tie adds .125 * (.75 + .875) / 2;
    # all of it .25 * .875; the last quarter .25.
    [(0.25, 0.25), (0.5, 0.5), (0.625, 0.3515625 / 0.625), (0.75, 0.46875 / 0.75), (1.0, 0.71875)],
)
def test_aupro_by_hand(max_fpr, expected):
    assert aupro(ROW_MASK, ROW_SCORES, max_fpr) == pytest.approx(expected, abs=1e-15)
    assert slow_aupro(ROW_MASK, ROW_SCORES, max_fpr) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("levels", [None, 1, 8])
@pytest.mark.parametrize("max_fpr", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_aupro_is_its_definition(levels, max_fpr, dtype):
    masks, scores = blobs(11, dtype, levels)
    assert aupro(masks, scores, max_fpr) == pytest.approx(slow_aupro(masks, scores, max_fpr), abs=1e-12)


def test_aupro_of_a_limit_between_points():
    masks, scores = blobs(12, levels=1)
    rates = [np.mean(scores[~masks] >= threshold) for threshold in np.unique(scores)]
    assert min(abs(rate - 0.3) for rate in rates) > 0.01  # so that the cut has something to do
    assert aupro(masks, scores) == pytest.approx(slow_aupro(masks, scores, 0.3), abs=1e-12)


def test_pixels_that_touch_at_a_corner_are_one_region():
    masks = np.zeros((1, 5, 5), dtype=bool)
    masks[0, 1, 1:4] = masks[0, 2, 4] = True
    scores = masks.astype(float)
    scores[0, 2, 4] = -1.0  # missed: one region found by 3/4, not one found and one missed
    assert aupro(masks, scores, max_fpr=0.5) == pytest.approx(0.75, abs=1e-15)


def test_regions_end_with_their_image():
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, 0, 0] = masks[1, 0, :3] = True
    scores = np.zeros(masks.shape)
    scores[0, 0, 0], scores[1, 0, :3] = 1.0, -1.0  # one of two regions found, though one of four pixels
    assert aupro(masks, scores) == pytest.approx(0.5, abs=1e-15)


def test_a_perfect_detector_has_1():
    masks, noise = blobs(13)
    scores = noise - noise.min() + masks * (np.ptp(noise) + 1)
    assert auroc(masks, scores) == 1.0
    assert aupro(masks, scores) == 1.0
    assert aupro(masks, scores, max_fpr=0.001) == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [21, 22])
def test_auroc_and_aupro_depend_on_the_order_of_scores_only(dtype, seed):
    masks, scores = blobs(seed, dtype, levels=8)
    for monotone in (lambda s: 4 * s - 16, np.exp, lambda s: s.astype(np.float64) ** 3):
        assert np.unique(monotone(scores)).size == np.unique(scores).size
        assert auroc(masks, monotone(scores)) == auroc(masks, scores)
        assert aupro(masks, monotone(scores)) == aupro(masks, scores)


def test_released_pro_by_hand():
    # A ring of 8 pixels at 0.5 round a hole at 1, one normal pixel at 0.25, all else 0; 17 normal pixels.
    # (FPR, PRO): (0, 0), the hole (1/17, 1/8), the ring too (1/17, 9/8), the stray pixel (2/17, 9/8); FPR by 17/2.
    masks = np.zeros((1, 5, 5), dtype=bool)
    masks[0, 1:4, 1:4] = True
    masks[0, 2, 2] = False
    scores = 0.5 * masks
    scores[0, 2, 2], scores[0, 0, 0] = 1.0, 0.25
    assert released_pro(masks, scores) == pytest.approx(0.5 * (0 + 1 / 8) / 2 + 0.5 * 9 / 8, abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("seed", "levels"), [(31, None), (32, 1), (33, 250)])
def test_released_pro_is_its_recipe(dtype, seed, levels):
    masks, scores = blobs(seed, dtype, levels)
    assert released_pro(masks, scores) == pytest.approx(slow_released_pro(masks, scores), abs=1e-12)


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_released_pro_with_scores_on_the_thresholds(dtype, unit):
    masks, scores = blobs(34)
    scores = np.clip(np.round(scores * 125 + 500), 0, 1000)
    scores[0, 0, :2] = 0, 1000  # so that every score is a threshold, and "above" differs from "at or above"
    scores = (scores / unit).astype(dtype)  # in thousandths, what is a tie depends on the rounding of thresholds
    assert released_pro(masks, scores) == pytest.approx(slow_released_pro(masks, scores), abs=1e-12)


def test_best_f1_threshold_by_hand():
    # F1 at 0.9: 2/4, at 0.8: 2/5, at 0.7: 4/6, at 0.6: 4/7, at 0.5: 6/8, at 0.4: 6/9.
    labels, scores = [1, 0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert best_f1_threshold(labels, scores) == 0.5
    # F1 at 4: 2/3, at 2 and below 2 * 2 / (4 + 2) = 2/3 again: the higher of the two.
    assert best_f1_threshold([1, 0, 0, 1], [4, 3, 2, 2]) == 4.0


@pytest.mark.parametrize("levels", [3, 40])
@pytest.mark.parametrize("seed", range(5))
def test_best_f1_threshold_is_the_best_of_all(levels, seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(300) < 0.2
    scores = (np.round((rng.normal(size=300) + labels) * levels) / levels).astype(np.float32)
    thresholds = np.unique(scores)
    f1 = np.array([f1_score(labels, scores >= threshold) for threshold in thresholds])
    assert best_f1_threshold(labels, scores) == thresholds[np.isclose(f1, f1.max(), rtol=0, atol=1e-12)].max()


def test_undefined_figures_are_nan():
    scores = np.arange(18.0).reshape(2, 3, 3)
    for masks in (np.zeros(scores.shape, dtype=bool), np.ones(scores.shape, dtype=bool)):
        assert math.isnan(auroc(masks, scores))
        assert math.isnan(aupro(masks, scores))
        assert math.isnan(released_pro(masks, scores))
    assert math.isnan(auroc([], []))
    assert math.isnan(best_f1_threshold([0, 0], [1.0, 2.0]))
    assert best_f1_threshold([1, 1], [1.0, 2.0]) == 1.0
    assert math.isnan(released_pro(ROW_MASK, np.ones(ROW_MASK.shape)))


@pytest.mark.parametrize("metric", [auroc, aupro, released_pro, best_f1_threshold])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_that_are_not_finite_are_named(metric, value, dtype):
    scores = ROW_SCORES.astype(dtype)
    scores[0, 0, 5] = value
    with pytest.raises(BgadError, match=rf"scores hold 1 .* the first {value} at \(0, 0, 5\)"):
        metric(ROW_MASK, scores)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(BgadError, match=r"shape \(2,\) but scores have shape \(3,\)"):
        auroc([0, 1], [1.0, 2.0, 3.0])
    with pytest.raises(BgadError, match="labels hold other values than 0 and 1"):
        auroc([0.3, 0.4], [0, 1])  # the two swapped
    with pytest.raises(BgadError, match=r"\(images, height, width\)"):
        aupro(ROW_MASK[0], ROW_SCORES[0])
    for limit in (0, 1.5, math.nan):
        with pytest.raises(BgadError, match="max_fpr"):
            aupro(ROW_MASK, ROW_SCORES, limit)
