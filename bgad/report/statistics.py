"""The statistics of a report: intervals over seeds and over test images, and the words that follow from them.

Every word is chosen from the mean and the interval as they are printed, so it never contradicts the numbers next to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, stdtrit

CONFIDENCE = 0.95
Z = float(ndtri((1 + CONFIDENCE) / 2))
DECIMALS = 2
# Percentage points. Half of the last published digit: what is printed as 99.3 may be anything from 99.25 to 99.35.
ROUNDING = 0.05
_CLOSE = 1e-9  # makes 99.6 - 99.3 at most 0.3 in floating point too

REPRODUCED, CONSISTENT, ABOVE, BELOW, NOT_MEASURED = "reproduced", "consistent", "above", "below", "not measured"
HELPS, HURTS, NO_DIFFERENCE = "helps", "hurts", "no difference seen"
# What an interval covers; "" where there is none.
SEEDS_AND_IMAGES, IMAGES, SEEDS = "seeds and test images", "test images", "seeds"
# What a table says of its intervals.
COVERS = (
    "95 % intervals over seeds (Student's t) and test images (a bootstrap, the same images for all seeds and methods). With "
    "one seed they cover the images only; the categories are fixed in any case. A cell without `scores.csv` or, for pixels, "
    "`curves.npz` leaves an interval over the seeds only (columns `_covers` of table.csv)."
)


@dataclass(frozen=True)
class Chance:
    """What other test images could make of a mean, in percentage points.

    ``sd``: of the mean over the replicates of a bootstrap over images
    ``floor``: the half-width of the categories in which no replicate differs from another, as under perfect separation
    """

    sd: float
    floor: float = 0.0


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over ``n`` seeds, and the 95 % interval of the mean with what it ``covers``.

    The mean is nan without seeds, the deviation below two; the ends are nan where there is no interval.
    """

    mean: float
    sd: float
    n: int
    low: float = math.nan
    high: float = math.nan
    covers: str = ""

    @classmethod
    def of(cls, values: ArrayLike, chance: Chance | None = None, is_level: bool = False) -> "Spread":
        """Of the ``values`` of the seeds, in percent, that are not nan. ``chance`` adds the test images, which seeds share.

        The parts of a half-width add in quadrature. Of the seeds: Student's t. Of the images: the bootstrap's standard error
        times 1.96; for a metric itself (``is_level``) on the scale of logits, since near 100 the way down is longer than the
        way up, and an interval that ignores this covers too little. With one seed there are only the images. Seeds that agree
        to the last digit are no evidence that all would: alone, they give no interval. No end is above 100 or, of a level,
        below 0.
        """
        array = np.asarray(values, dtype=float)
        array = array[~np.isnan(array)]
        n = len(array)
        mean = float(array.mean()) if n else math.nan
        sd = float(array.std(ddof=1)) if n > 1 else math.nan
        sd = 0.0 if sd < _CLOSE else sd  # equal values whose mean is rounded
        if not n or (chance is None and not sd > 0):
            return cls(mean, sd, n)
        down = up = _half_width(sd, n) if n > 1 else 0.0
        covers = SEEDS
        if chance is not None:
            low, high = _over_images(mean, chance.sd, is_level)
            down, up = math.hypot(down, mean - low, chance.floor), math.hypot(up, high - mean, chance.floor)
            covers = SEEDS_AND_IMAGES if n > 1 else IMAGES
        return cls(mean, sd, n, max(mean - down, 0.0 if is_level else -100.0), min(mean + up, 100.0), covers)

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def over_seeds(self) -> "Spread":
        """The same seeds with the interval over them alone: for a number that was measured on the same test images."""
        if not self.sd > 0:
            return Spread(self.mean, self.sd, self.n)
        half = _half_width(self.sd, self.n)
        return Spread(self.mean, self.sd, self.n, max(self.mean - half, 0.0), min(self.mean + half, 100.0), SEEDS)

    @property
    def printed(self) -> tuple[float, float, float]:
        """The mean and the ends of the interval, rounded as the tables print them."""
        mean, low, high = (round(value, DECIMALS) for value in (self.mean, *self.interval))
        return mean, low, high

    def text(self, write: Callable[[float], str]) -> str:
        """ "1.20 [0.80, 1.60]", "1.20" without an interval, "" without a value; ``write`` is number or signed."""
        mean, low, high = map(write, self.printed)
        return f"{mean} [{low}, {high}]" if low else mean

    def record(self, column: str, write: Callable[[float], str]) -> dict:
        """The mean in ``column`` of the CSV, the ends of its interval in ``column``_low and ``column``_high, and what that
        covers in ``column``_covers."""
        columns = (column, f"{column}_low", f"{column}_high")
        written = dict(zip(columns, map(write, self.printed), strict=True))
        return {"n": self.n, **written, f"{column}_covers": self.covers}


def number(value: float) -> str:
    """Percent with two decimals; "" for nan."""
    # 0.0 is added because a rounded -0.001 is -0.0, which would show its sign.
    return "" if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:.{DECIMALS}f}"


def signed(value: float) -> str:
    """A difference in percentage points with two decimals and its sign; "" for nan."""
    return "" if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:+.{DECIMALS}f}"


def verdict(values: ArrayLike | Spread, published: float, margin: float, published_sd: float | None = None) -> str:
    """What the ``values``, one a seed, say about a ``published`` number; all in percent, ``margin`` in percentage points.

    The published number was measured on the same test images, so the seeds are the chance here and not the images: the
    interval is Student's t over seeds, cut at 100. It is widened, in quadrature, by the published digit's rounding, or if a
    spread is published by the 95 % interval of a single run of theirs, since not everyone says how many runs there were.

    reproduced    all of the interval is within ``margin`` of the published number
    consistent    the interval reaches that far and beyond: it is too wide to tell
    above, below  all of the interval is on that side, more than ``margin`` away
    not measured  no value; or a single one more than ``margin`` away, which has no interval and so proves no difference

    A single value within the margin is consistent. Of several equal ones, the interval is as wide as the rounding.
    """
    ours = (values if isinstance(values, Spread) else Spread.of(values)).over_seeds
    mean, low, high = ours.printed
    if ours.n < 2:
        return CONSISTENT if abs(mean - published) <= margin + _CLOSE else NOT_MEASURED  # a nan is not within it
    theirs = Z * published_sd if published_sd else ROUNDING
    if math.isnan(low):
        low = high = mean
    low = mean - math.hypot(mean - low, theirs) - published
    high = mean + math.hypot(high - mean, theirs) - published
    if low > margin + _CLOSE:
        return ABOVE
    if high < -margin - _CLOSE:
        return BELOW
    return REPRODUCED if low >= -margin - _CLOSE and high <= margin + _CLOSE else CONSISTENT


def judgement(difference: Spread) -> str:
    """HELPS or HURTS if the interval over seeds and test images is above or below 0, else NO_DIFFERENCE.

    "" without such an interval, and where all seeds have the same difference: neither justifies a word.
    """
    if difference.covers != SEEDS_AND_IMAGES or not difference.sd > 0:
        return ""
    _, low, high = difference.printed
    return HELPS if low > 0 else HURTS if high < 0 else NO_DIFFERENCE


def least_half_width(normal: int, anomalous: int) -> float:
    """In 0..1: how far below 1 the 95 % interval of an AUROC of 1 reaches, from so many images.

    Perfect separation leaves a bootstrap, and DeLong's method, without variance. Newcombe's method 5 for the Mann-Whitney
    statistic (Statistics in Medicine 25, 2006, 559-573) is defined there: the end solves (1 - a)^2 = z^2 V(a), V being
    Hanley and McNeil's variance with both sample sizes replaced by their mean where they count pairs of pairs.
    """
    pairs, more = normal * anomalous, (normal + anomalous) / 2 - 1

    def excess(a: float) -> float:
        return (1 - a) * pairs - Z**2 * a * (1 + more * ((1 - a) / (2 - a) + a / (1 + a)))

    return 1 - float(brentq(excess, 0, 1)) if pairs else 1.0


def _half_width(sd: float, n: int) -> float:
    """Of the 95 % interval of a mean over ``n`` seeds, by Student's t."""
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)


def _over_images(mean: float, sd: float, is_level: bool) -> tuple[float, float]:
    """The ends of the 95 % interval of a mean in percent, from its standard error."""
    if not is_level or not 0 < mean < 100:
        return mean - Z * sd, mean + Z * sd
    share = mean / 100
    logits = logit(share) + np.array([-1, 1]) * Z * sd / 100 / (share * (1 - share))
    low, high = 100 * expit(logits)
    return float(low), float(high)
