"""From the figures of cells to those of a table: over hard types, seeds and categories, in this order.

Nothing that is missing is averaged away: a seed of which a hard type is missing has no value, and a mean over
categories is only over categories of which every cell is there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from bgad.config.methods import PAPER_METHODS
from bgad.report import published
from bgad.report.collect import DONE, METRICS, Collected

SETTING = ["recipe", "dataset", "kind", "k", "method"]
RULES = ("last", "best")
CONFIDENCE = 0.95
DECIMALS = 2
MEAN = "mean"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over ``n`` seeds; nan without seeds, and the latter with one."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values) -> "Spread":
        """Of the values that are not nan."""
        values = np.asarray(values, dtype=float)
        values = values[~np.isnan(values)]
        n = len(values)
        return cls(float(values.mean()) if n else math.nan, float(values.std(ddof=1)) if n > 1 else math.nan, n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean, by Student's t: mean ± t(0.975, n - 1) sd / sqrt(n); nan, nan below two seeds.

        Of percentages it may reach past 100, and is not cut there; of equal values it has no width.
        """
        if self.n < 2:
            return math.nan, math.nan
        half = stdtrit(self.n - 1, (1 + CONFIDENCE) / 2) * self.sd / math.sqrt(self.n)
        return float(self.mean - half), float(self.mean + half)

    @property
    def printed(self) -> tuple[float, float, float]:
        """Mean and ends of the interval with the two decimals of the tables, by which every word about them is chosen."""
        mean, low, high = (round(value, DECIMALS) for value in (self.mean, *self.interval))
        return mean, low, high

    def text(self, write: Callable[[float], str]) -> str:
        """ "1.20 [0.80, 1.60]", "1.20" with a single seed, "" without a figure; ``write`` is number or signed."""
        mean, low, high = map(write, self.printed)
        return f"{mean} [{low}, {high}]" if low else mean

    def record(self, column: str, write: Callable[[float], str]) -> dict:
        """The mean in ``column`` of the CSV, its interval in those beside it."""
        columns = (column, f"{column}_low", f"{column}_high")
        return {"n": self.n, **dict(zip(columns, map(write, self.printed), strict=True))}


@dataclass(frozen=True)
class Setting:
    """What the cells of one table have in common."""

    recipe: str
    dataset: str
    kind: str
    k: int
    method: str


@dataclass(frozen=True)
class Row:
    """A row of a table: a category, a hard type of one, or a mean over categories.

    ``category`` and ``known_type`` are what published.lookup calls it. ``spread[metric, column]`` has n = 0 where a mean is
    not to be had. ``asked`` counts seeds; ``missing`` names the cells that are not there. ``types`` says that another k or
    method has more hard types: "over 6 of 7 types". ``lacks`` says for each metric, in words, why this row cannot be held
    against a published mean; "" if it can.
    """

    label: str
    category: str
    known_type: str
    asked: int
    spread: dict[tuple[str, str], Spread]
    missing: list[str]
    types: str = ""
    lacks: dict[str, str] = field(default_factory=dict)

    def of(self, metric: str, column: str) -> Spread:
        return self.spread.get((metric, column), Spread.of([]))

    @property
    def seeds(self) -> int:
        return max((spread.n for spread in self.spread.values()), default=0)

    @property
    def seeds_text(self) -> str:
        return str(self.seeds) if self.seeds == self.asked else f"{self.seeds} of {self.asked}"

    @property
    def full_label(self) -> str:
        return f"{self.label} ({self.types})" if self.types else self.label


def settings(figures: pd.DataFrame) -> Iterator[tuple[Setting, pd.DataFrame]]:
    """The settings of a suite in its order, each with its rows of ``figures`` and, as ``of_types``, how many splits of its
    kind a row's category has at any k and with any method."""
    splits = figures.groupby(["recipe", "dataset", "kind", "category"])["split"]
    for values, part in figures.assign(of_types=splits.transform("nunique")).groupby(SETTING, sort=False):
        yield Setting(*values), part


def rows(setting: Setting, part: pd.DataFrame) -> list[Row]:
    """The rows of a setting: its categories, each with its hard types, then the means over categories."""
    result = []
    for row in category_rows(setting, part, RULES):
        result.append(row)
        if setting.kind == "hard":
            of_category = part[part["category"] == row.category]
            for known_type, of_type in of_category.groupby("known_type", sort=False):
                result.append(_row(f"{row.category} / hard-{known_type}", row.category, known_type, of_type, RULES))
    return result + mean_rows(setting, part, RULES)


def category_rows(setting: Setting, part: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """A row for each category: over the seeds of which it has every hard type."""
    result = []
    for category, of_category in part.groupby("category", sort=False):
        result.append(_row(category, category, MEAN if setting.kind == "hard" else "", of_category, columns))
        if setting.kind == "hard":
            result[-1] = replace(result[-1], types=types_text(of_category))
            needed = published.types_of_mean(setting.dataset, category)
            for metric, of_metric in of_category.groupby("metric", sort=False):
                whole = of_metric["last"].notna().groupby(of_metric["known_type"]).all()
                result[-1].lacks[metric] = _lacks(list(whole[whole].index), needed, "types")
    return result


def mean_rows(setting: Setting, part: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """The mean over all categories; then, where a category is missing, the mean over the complete ones, labelled so."""
    categories = tuple(part["category"].unique())
    complete = {metric: tuple(complete_categories(of)) for metric, of in part.groupby("metric", sort=False)}
    needed = published.categories_of_mean(setting.dataset)
    lacks = {metric: _lacks(group, needed, "categories") for metric, group in complete.items()}
    result = []
    for group in dict.fromkeys([categories, *filter(None, complete.values())]):
        of_group, spread = part[part["category"].isin(group)], {}
        for metric, of_metric in of_group.groupby("metric", sort=False):
            for column in columns:
                whole = complete[metric] == group
                spread[metric, column] = Spread.of(over_categories(of_metric, group, column) if whole else [])
        category, label = MEAN, f"mean over {_count(len(group), 'category', 'categories')}"
        if group != categories:
            category = ""
            label = f"mean over the {len(group)} complete of {len(categories)} categories{which(group, categories)}"
        asked = part["seed"].nunique()
        result.append(Row(label, category, "", asked, spread, _missing(part), types_text(of_group), lacks))
    return result


def measured_means(setting: Setting, part: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """The mean rows that have figures, or the first where none has; a single category is its own mean, over its seeds."""
    if part["category"].nunique() == 1:
        return category_rows(setting, part, columns)
    means = mean_rows(setting, part, columns)
    return [row for row in means if row.seeds] or means[:1]


def types_text(part: pd.DataFrame) -> str:
    """Over how many hard types ``part`` (of settings) is, where others of its recipe are over more; else ""."""
    of_category = part.groupby("category")
    there, asked = of_category["split"].nunique().sum(), of_category["of_types"].first().sum()
    return "" if there == asked else f"over {there} of {asked} types"


def by_seed(part: pd.DataFrame, rule: str) -> pd.DataFrame:
    """One metric of one setting, category x seed: the mean over the hard types; nan where any cell has no figure."""
    values = _means(part.groupby(["category", "seed"], sort=False)[rule])
    return values.unstack("seed").reindex(index=part["category"].unique(), columns=sorted(part["seed"].unique()))


def complete_categories(part: pd.DataFrame) -> list[str]:
    """The categories of which every cell of one metric and setting has its figure."""
    whole = part["last"].notna().groupby(part["category"], sort=False).all()
    return list(whole[whole].index)


def over_categories(part: pd.DataFrame, categories: Sequence[str], rule: str) -> pd.Series:
    """The mean over ``categories`` of each seed that all of them have, for one metric of one setting."""
    return by_seed(part[part["category"].isin(categories)], rule).mean(axis=0, skipna=False).dropna()


def types_against_k0(collected: Collected) -> pd.DataFrame:
    """by_type of the cells with k >= 1, with the AUROC of the same type in the k0 cell of the same split and seed as
    image_auroc_k0 and pixel_auroc_k0 (nan without such a cell): bgad's of bgad-wo, or else of nf, a detector's of itself."""
    same = ["recipe", "dataset", "category", "split", "seed", "type", "method"]
    k0 = collected.by_type[collected.by_type["k"] == 0].sort_values("method", kind="stable")
    k0 = k0.assign(method=k0["method"].where(~k0["method"].isin(PAPER_METHODS), "bgad")).drop_duplicates(same)
    with_k = collected.by_type[collected.by_type["k"] > 0]
    return with_k.merge(k0[[*same, "image_auroc", "pixel_auroc"]], on=same, how="left", suffixes=("", "_k0"))


def _means(groups) -> pd.Series:
    """Of each group of a pandas groupby; nan where any of it is."""
    return groups.mean().where(groups.count() == groups.size())


def _row(label: str, category: str, known_type: str, part: pd.DataFrame, columns: Sequence[str]) -> Row:
    spread = {}
    for column in columns:
        of_seed = _means(part.groupby(["metric", "seed"], sort=False)[column])
        for metric, of_metric in of_seed.groupby("metric", sort=False):
            spread[metric, column] = Spread.of(of_metric)
    return Row(label, category, known_type, part["seed"].nunique(), spread, _missing(part))


def _lacks(there: Sequence[str], needed: tuple[str, ...], what: str) -> str:
    further = [name for name in there if needed and name not in needed]
    if further:
        return f"not measured ({len(there)} {what}, published over {len(needed)}, without {', '.join(further)})"
    found = [name for name in needed if name in there]
    if len(found) == len(needed):
        return ""
    return f"not measured ({len(found)} of {len(needed)} {what}{which(found, needed)})"


def number(value: float) -> str:
    """Percent with two decimals; "" where there is no figure."""
    # 0.0 is added because a rounded -0.001 is -0.0, which would show its sign.
    return "" if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:.{DECIMALS}f}"


def signed(value: float) -> str:
    return "" if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:+.{DECIMALS}f}"


def which(found: Sequence[str], of: Sequence[str]) -> str:
    """What is there or what is not, whichever are fewer: ": carpet, tile" or ", without zipper"; "" for none."""
    absent = [name for name in of if name not in found]
    if len(absent) < len(found):
        return f", without {', '.join(absent)}"
    return f": {', '.join(found)}" if found else ""


def _missing(part: pd.DataFrame) -> list[str]:
    """Each cell without figures, in a few words: "bottle, seed 1: failed"."""
    once = part[part["metric"] == METRICS[0]]
    return [
        f"{row.category}{f' / {row.split}' if row.kind == 'hard' else ''}, seed {row.seed}: {row.status.split(':')[0]}"
        for row in once[once["status"] != DONE].itertuples()
    ]


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
