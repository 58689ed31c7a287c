"""The metrics of a cell: AUROC, exact AUPRO, the released code's PRO, and the threshold of the best F1.

All four rest on one sort of the normal scores: the rank of an anomalous score among them is the number of false positives above
it, which is all that any of the curves needs. Higher scores mean more anomalous throughout.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from bgad.errors import BgadError

# In the order of tables: what an evaluation computes.
METRICS = ("image_auroc", "pixel_auroc", "aupro", "released_pro")
RELEASED_THRESHOLDS = 1000
RELEASED_MAX_FPR = 0.3
# For maps (N, H, W): 8-connectivity inside an image, none from image to image.
WITHIN_IMAGE = np.pad(np.ones((1, 3, 3), dtype=bool), ((1, 1), (0, 0), (0, 0)))


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, in 0..1, exact: the Mann-Whitney statistic, where a tied pair counts one half.

    ``labels`` (bool or 0/1, True = anomalous) and ``scores`` (finite) have the same shape, whatever it is: images or
    pixels. ``nan`` if only one class is present. BgadError for other labels, another shape or non-finite scores.
    """
    labels, scores = _checked(labels, scores)
    normal, anomalous = np.sort(scores[~labels]), np.sort(scores[labels])
    if normal.size == 0 or anomalous.size == 0:
        return float("nan")
    won = int(np.searchsorted(normal, anomalous, side="left").sum())
    won_or_tied = int(np.searchsorted(normal, anomalous, side="right").sum())
    return (won + won_or_tied) / (2 * normal.size * anomalous.size)


def aupro(masks: ArrayLike, scores: ArrayLike, max_fpr: float = 0.3) -> float:
    """Area under the per-region overlap curve for FPR in 0..``max_fpr``, divided by ``max_fpr``: in 0..1, exact.

    The metric of MVTec AD's own evaluation (Bergmann et al., IJCV 2021): regions are the 8-connected
    components of each mask, PRO is the mean over all regions of the share of the region that is found, FPR is over
    every normal pixel of every image, and the curve has a point at each distinct score, straight lines between the
    points, and is cut at ``max_fpr`` on such a line.

    ``masks`` (N, H, W) bool or 0/1, ``scores`` (N, H, W) finite. ``nan`` without a region or without a normal pixel.
    BgadError for other masks, another shape, non-finite scores or ``max_fpr`` outside 0 < max_fpr <= 1.
    """
    if not 0 < max_fpr <= 1:
        raise BgadError(f"max_fpr is {max_fpr}, but it must lie above 0 and be at most 1: choose such a limit.")
    masks, scores = _checked(masks, scores, maps=True)
    regions, n_regions = ndimage.label(masks, structure=WITHIN_IMAGE)
    normal, anomalous = np.sort(scores[~masks]), scores[masks]
    if n_regions == 0 or normal.size == 0:
        return float("nan")
    # Each anomalous pixel adds to the curve a step at its own FPR, or, where it ties with normal pixels, a ramp over
    # the FPR that they span. The area is the mean of the areas under these; FPR is counted in pixels until the end.
    limit = max_fpr * normal.size
    start = normal.size - np.searchsorted(normal, anomalous, side="right")
    end = normal.size - np.searchsorted(normal, anomalous, side="left")
    whole = limit - (start + end) / 2
    cut = np.clip(limit - start, 0, None) ** 2 / (2 * np.maximum(end - start, 1))
    area = np.where(end <= limit, whole, cut) / limit
    region = regions[masks] - 1
    return float(np.mean(np.bincount(region, weights=area) / np.bincount(region)))


def released_pro(masks: ArrayLike, scores: ArrayLike) -> float:
    """The PRO that BGAD's released code prints (repository xcyao00/BGAD, ``calculate_pro_metric``), as a fraction.

    Same arguments and errors as ``aupro``. It differs from it in four ways:

    * the curve has 1000 points, at thresholds spaced evenly from the highest score down to just above the lowest (a
      pixel is anomalous when its score is *above* the threshold), so that an outlier coarsens it;
    * points with FPR <= 0.3 are kept, and nothing is interpolated at 0.3;
    * the kept FPRs are stretched to 0..1, so that the area is over 0..(largest kept FPR), whatever that is;
    * holes of a region are filled before the overlap is counted but not in the area it is divided by, and count as
      normal in the FPR too, so that a region with a hole can overlap by more than 1.

    ``nan`` without a region or a normal pixel, and when every kept point has FPR 0, with nothing to stretch.
    """
    masks, scores = _checked(masks, scores, maps=True)
    regions, n_regions = ndimage.label(masks, structure=WITHIN_IMAGE)
    normal = np.sort(scores[~masks])
    if n_regions == 0 or normal.size == 0:
        return float("nan")
    thresholds = _released_thresholds(scores)
    pro = np.zeros(RELEASED_THRESHOLDS)
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        region = regions[box] == number
        filled = ndimage.binary_fill_holes(region, structure=WITHIN_IMAGE)
        pro += _count_above(thresholds, np.sort(scores[box][filled])) / np.count_nonzero(region)
    pro /= n_regions
    fpr = _count_above(thresholds, normal) / normal.size
    kept = fpr <= RELEASED_MAX_FPR
    fpr, pro = fpr[kept], pro[kept]
    if fpr[-1] == 0:  # FPR starts at 0 and never falls
        return float("nan")
    return float(np.trapezoid(pro, fpr / fpr[-1]))


def best_f1_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The score at which calling ``score >= threshold`` anomalous has the highest F1; of equals, the highest score.

    ``labels`` and ``scores`` as for ``auroc``, with the same errors. ``nan`` when nothing is anomalous, where F1 is 0
    at every threshold.
    """
    labels, scores = _checked(labels, scores)
    normal, anomalous = np.sort(scores[~labels]), np.sort(scores[labels])
    if anomalous.size == 0:
        return float("nan")
    # Going down, F1 can only rise where an anomalous score is taken in, so no other score can be the best.
    candidates = np.unique(anomalous)[::-1]
    true_positives = anomalous.size - np.searchsorted(anomalous, candidates, side="left")
    false_positives = normal.size - np.searchsorted(normal, candidates, side="left")
    f1 = 2 * true_positives / (true_positives + false_positives + anomalous.size)
    return float(candidates[np.argmax(f1)])


def _released_thresholds(scores: np.ndarray) -> np.ndarray:
    """The 1000 thresholds, falling, rounded as NumPy 1 did for the released code: range in the type of the scores,
    steps in float64, comparison in the type of the scores again."""
    top = scores.max()
    step = float(top - scores.min()) / RELEASED_THRESHOLDS
    return (float(top) - np.arange(RELEASED_THRESHOLDS) * step).astype(scores.dtype)


def _count_above(thresholds: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    return ascending.size - np.searchsorted(ascending, thresholds, side="right")


def _checked(labels: ArrayLike, scores: ArrayLike, maps: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, labels as bool and scores as float32 or float64, or a BgadError that says what is wrong."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    names = "masks" if maps else "labels"
    if labels.shape != scores.shape:
        raise BgadError(f"{names} have shape {labels.shape} but scores have shape {scores.shape}: give one for one.")
    if maps and scores.ndim != 3:
        raise BgadError(f"masks and scores have shape {scores.shape}: give them as (images, height, width).")
    if labels.dtype != bool:
        if not np.isin(labels, (0, 1)).all():
            raise BgadError(f"{names} hold other values than 0 and 1: give 1 for anomalous and 0 for normal.")
        labels = labels.astype(bool)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float64)
    finite = np.isfinite(scores)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise BgadError(
            f"scores hold {np.count_nonzero(~finite)} non-finite values, the first {scores[place]} at {place}: only "
            "finite scores can be ranked, so look for a training that diverged."
        )
    return labels, scores
