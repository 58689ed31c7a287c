"""The statistics of a report: intervals over seeds and over test images, and the verdicts that follow from them.

Every word is chosen from the mean and the interval as they are printed, so it never contradicts the numbers next to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit
from scipy.stats import rankdata

CONFIDENCE = 0.95
DECIMALS = 2
# Percentage points. Half of the last published digit: what is printed as 99.3 may be anything from 99.25 to 99.35.
TOLERANCE = 0.05
_ROUNDING = 1e-9  # makes 93.9 - 93.85 at most 0.05 in floating point too

REPRODUCED = "reproduced"  # a number of BGAD's own, with its published recipe
LEVEL = "level"  # any other number, which ours cannot reproduce
ABOVE, BELOW, NOT_MEASURED = "above", "below", "not measured"
HELPS, HURTS, NO_DIFFERENCE = "helps", "hurts", "no difference seen"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over ``n`` seeds. The mean is nan without seeds, the deviation below two."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: ArrayLike) -> "Spread":
        """Of the values that are not nan."""
        array = np.asarray(values, dtype=float)
        array = array[~np.isnan(array)]
        n = len(array)
        return cls(float(array.mean()) if n else math.nan, float(array.std(ddof=1)) if n > 1 else math.nan, n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean by Student's t, mean ± t(0.975, n - 1) sd / sqrt(n); nan, nan below two seeds.

        An interval of percentages can reach past 100 and is not cut there. Equal values give an interval of width 0.
        """
        if self.n < 2:
            return math.nan, math.nan
        half = stdtrit(self.n - 1, (1 + CONFIDENCE) / 2) * self.sd / math.sqrt(self.n)
        return float(self.mean - half), float(self.mean + half)

    @property
    def printed(self) -> tuple[float, float, float]:
        """The mean and the ends of the interval, rounded as the tables print them."""
        mean, low, high = (round(value, DECIMALS) for value in (self.mean, *self.interval))
        return mean, low, high

    def text(self, write: Callable[[float], str]) -> str:
        """ "1.20 [0.80, 1.60]", "1.20" with a single seed, "" without a value; ``write`` is number or signed."""
        mean, low, high = map(write, self.printed)
        return f"{mean} [{low}, {high}]" if low else mean

    def record(self, column: str, write: Callable[[float], str]) -> dict:
        """The mean in ``column`` of the CSV, the ends of its interval in ``column``_low and ``column``_high."""
        columns = (column, f"{column}_low", f"{column}_high")
        return {"n": self.n, **dict(zip(columns, map(write, self.printed), strict=True))}


def number(value: float) -> str:
    """Percent with two decimals; "" for nan."""
    # 0.0 is added because a rounded -0.001 is -0.0, which would show its sign.
    return "" if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:.{DECIMALS}f}"


def signed(value: float) -> str:
    """A difference in percentage points with two decimals and its sign; "" for nan."""
    return "" if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:+.{DECIMALS}f}"


def verdict(ours: Spread, published: float, met: str = REPRODUCED) -> str:
    """``met`` if ``published`` (percent) is in our interval or within TOLERANCE of our mean, else ABOVE or BELOW for ours.

    NOT_MEASURED without a value of ours. With one seed there is no interval and the tolerance decides.
    """
    if ours.n == 0:
        return NOT_MEASURED
    within = abs(ours.printed[0] - published) <= TOLERANCE + _ROUNDING
    return met if within else _side(ours, published) or met


def judgement(difference: Spread) -> str:
    """HELPS or HURTS if the interval is above or below 0, else NO_DIFFERENCE; "" below two seeds, which justify no word."""
    if difference.n < 2:
        return ""
    return {ABOVE: HELPS, BELOW: HURTS, "": NO_DIFFERENCE}[_side(difference, 0)]


def _side(ours: Spread, value: float) -> str:
    """ABOVE or BELOW if all of our interval is, "" if it contains ``value``; a single seed is its own interval."""
    mean, low, high = ours.printed
    if ours.n == 1:
        low = high = mean
    return ABOVE if low > value else BELOW if high < value else ""


def difference_of_aurocs(labels: ArrayLike, one: ArrayLike, other: ArrayLike) -> tuple[float, float, float]:
    """AUROC of the scores ``one`` minus that of ``other``, and the ends of its 95 % interval over images, as fractions.

    The interval is DeLong's (DeLong et al., Biometrics 44, 1988), which takes the difference as normal. ``labels``, ``one``,
    ``other``: (N,), 1 for an anomalous image, higher scores more anomalous. All three results are nan unless there are images
    of both classes, and the ends are nan if a class has a single image. If both scores separate the classes perfectly, the
    interval has width 0, which says nothing about other images.
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
    """For each anomalous image the share of normal ones that score lower, for each normal one the share of anomalous ones that
    score higher. Ties count half. The mean of either is the AUROC."""
    scores = np.asarray(scores, dtype=float)
    ranks, positive, negative = rankdata(scores), scores[labels], scores[~labels]
    lower = (ranks[labels] - rankdata(positive)) / len(negative)
    return lower, 1 - (ranks[~labels] - rankdata(negative)) / len(positive)
