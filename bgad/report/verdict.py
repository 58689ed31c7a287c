"""The words of a report: whether a figure of ours meets a published number, and whether a difference is one.

Both are chosen from the mean and its interval as they are printed, so that no word contradicts what stands beside it.
"""

from bgad.report.statistics import Spread

REPRODUCED = "reproduced"  # a number of BGAD's own, with its published recipe
LEVEL = "level"  # any other number, which ours cannot reproduce
ABOVE, BELOW, NOT_MEASURED = "above", "below", "not measured"
HELPS, HURTS, NO_DIFFERENCE = "helps", "hurts", "no difference seen"

# Percentage points. Half of the last published digit: what is printed as 99.3 may be anything from 99.25 to 99.35.
TOLERANCE = 0.05
_ROUNDING = 1e-9  # so that 93.9 - 93.85 is 0.05 in floating point too


def verdict(ours: Spread, published: float, met: str = REPRODUCED) -> str:
    """``met`` where ``published`` (percent) lies in our interval or within TOLERANCE of our mean; else whether ours is
    ABOVE or BELOW it; NOT_MEASURED without a figure of ours. With one seed, the tolerance alone decides.
    """
    if ours.n == 0:
        return NOT_MEASURED
    within = abs(ours.printed[0] - published) <= TOLERANCE + _ROUNDING
    return met if within else _side(ours, published) or met


def judgement(difference: Spread) -> str:
    """HELPS or HURTS where the interval lies above or below 0, else NO_DIFFERENCE; "" below two seeds, which allow none."""
    if difference.n < 2:
        return ""
    return {ABOVE: HELPS, BELOW: HURTS, "": NO_DIFFERENCE}[_side(difference, 0)]


def _side(ours: Spread, value: float) -> str:
    """ABOVE or BELOW where all of our interval is that of ``value``, "" where it contains it; one seed is its own."""
    mean, low, high = ours.printed
    if ours.n == 1:
        low = high = mean
    return ABOVE if low > value else BELOW if high < value else ""
