"""Whether a figure of ours meets a published number: the interval over seeds, the tolerance, and the word for it."""

from bgad.report.summary import Spread

REPRODUCED = "reproduced"  # a number of BGAD's own
LEVEL = "level"  # another method's number, which ours cannot reproduce
ABOVE, BELOW, NOT_MEASURED = "above", "below", "not measured"

# Percentage points. Half of the last published digit: what is printed as 99.3 may be anything from 99.25 to 99.35.
TOLERANCE = 0.05
_ROUNDING = 1e-9  # so that 93.9 - 93.85 is 0.05 in floating point too


def verdict(ours: Spread | None, published: float, met: str = REPRODUCED) -> str:
    """``met`` where ``published`` (percent) lies in our interval or within TOLERANCE of our mean; else whether ours is
    ABOVE or BELOW it; NOT_MEASURED without a figure of ours. With one seed, the tolerance alone decides.
    """
    if ours is None or ours.n == 0:
        return NOT_MEASURED
    low, high = ours.interval
    if low <= published <= high or abs(ours.mean - published) <= TOLERANCE + _ROUNDING:
        return met
    return ABOVE if ours.mean > published else BELOW
