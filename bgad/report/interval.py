"""Means over seeds with their 95 % interval, for categories and over them: by the rules of bgad.report.summary."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bgad.report.collect import DONE, METRICS
from bgad.report.summary import Spread, by_seed, complete_categories, over_categories, which
from bgad.report.table_format import number

# Those that every evaluation of a training has, in the order of the tables.
SHOWN = METRICS[:3]


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds with its 95 % interval; nan without seeds, and the interval also with one."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Interval":
        """Of the values that are not nan."""
        spread = Spread.of(values)
        return cls(spread.mean, *spread.interval, spread.n)

    def texts(self, write=number) -> tuple[str, str, str]:
        """Mean, low and high with two decimals; "" where there is no figure."""
        # 0.0 is added because a rounded -0.001 is -0.0, which would show its sign.
        mean, low, high = (write(round(value, 2) + 0.0) for value in (self.mean, self.low, self.high))
        return mean, low, high

    def text(self, write=number) -> str:
        """ "1.20 [0.80, 1.60]", "1.20" with a single seed, "" without a figure."""
        mean, low, high = self.texts(write)
        return f"{mean} [{low}, {high}]" if low else mean

    def record(self, column: str, write=number) -> dict:
        """The mean in ``column`` of the CSV, its interval in those beside it."""
        return {"n": self.n, **dict(zip((column, f"{column}_low", f"{column}_high"), self.texts(write), strict=True))}


@dataclass(frozen=True)
class Line:
    """What a table's row says of each metric. ``over`` is a category, or how many a mean is over; ``asked`` counts seeds,
    and ``missing`` says that there are cells without figures. A metric that the row cannot have is not in ``of``."""

    over: str
    asked: int
    missing: bool
    of: dict[str, Interval]

    @property
    def seeds(self) -> str:
        n = max((interval.n for interval in self.of.values()), default=0)
        return str(n) if n == self.asked else f"{n} of {self.asked}"


def mean_lines(part: pd.DataFrame, column: str) -> list[Line]:
    """The means over the categories of which every cell is there, for one setting: each seed's mean first.

    ``part`` has category, seed, metric, status, last and ``column``. Mostly one line; several where the metrics are
    defined for different categories, and one without figures where no category is whole. A single category is its own mean,
    over the seeds that it has.
    """
    asked = list(part["category"].unique())
    if len(asked) == 1:
        return category_lines(part, column)
    groups = {}
    for metric, of_metric in part.groupby("metric", sort=False):
        whole = complete_categories(of_metric)
        if whole:
            means = over_categories(of_metric, whole, column)
            groups.setdefault(tuple(whole), {})[metric] = Interval.of(means)
    seeds, missing = part["seed"].nunique(), bool((part["status"] != DONE).any())
    groups = groups or {tuple(asked): {metric: Interval.of([]) for metric in part["metric"].unique()}}
    return [Line(_over(group, asked), seeds, missing, of) for group, of in groups.items()]


def category_lines(part: pd.DataFrame, column: str) -> list[Line]:
    """A line for each category of one setting, over the seeds of which it has every cell."""
    lines = []
    for category, of_category in part.groupby("category", sort=False):
        groups = of_category.groupby("metric", sort=False)
        of = {metric: Interval.of(by_seed(of_metric, column).to_numpy().ravel()) for metric, of_metric in groups}
        lines.append(Line(category, of_category["seed"].nunique(), bool((of_category["status"] != DONE).any()), of))
    return lines


def _over(group: tuple[str, ...], asked: list[str]) -> str:
    if len(group) == len(asked):
        return f"mean over {len(asked)} categories"
    return f"mean over the {len(group)} complete of {len(asked)} categories{which(group, asked)}"
