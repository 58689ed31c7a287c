"""From the figures of cells to those of a table: over hard types, seeds and categories, in this order.

Nothing that is missing is averaged away: a seed of which a hard type is missing has no value, and a mean over
categories is only over categories of which every cell is there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from bgad.report import published
from bgad.report.collect import DONE, METRICS, Collected

SETTING = ["recipe", "dataset", "kind", "k", "method"]
RULES = ("last", "best")
CONFIDENCE = 0.95
MEAN = "mean"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over ``n`` seeds; nan without seeds, and the latter with one."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values) -> "Spread":
        values = np.asarray(values, dtype=float)
        values = values[~np.isnan(values)]
        n = len(values)
        return cls(values.mean() if n else math.nan, values.std(ddof=1) if n > 1 else math.nan, n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean, by Student's t: mean ± t(0.975, n - 1) sd / sqrt(n); nan, nan below two seeds.

        Of percentages it may reach past 100, and is not cut there; of equal values it has no width.
        """
        if self.n < 2:
            return math.nan, math.nan
        half = stdtrit(self.n - 1, (1 + CONFIDENCE) / 2) * self.sd / math.sqrt(self.n)
        return float(self.mean - half), float(self.mean + half)


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

    ``category`` and ``known_type`` are what published.lookup calls it. ``spread[metric, rule]`` is None where a mean is
    not to be had. ``seeds`` of ``asked`` are whole; ``missing`` names the cells that are not there. ``lacks`` says for
    each metric, in words, why this row cannot be held against a published mean; "" if it can.
    """

    label: str
    category: str
    known_type: str
    seeds: int
    asked: int
    spread: dict[tuple[str, str], Spread | None]
    missing: list[str] = field(default_factory=list)
    lacks: dict[str, str] = field(default_factory=dict)


def settings(figures: pd.DataFrame) -> Iterator[tuple[Setting, pd.DataFrame]]:
    """The settings of a suite in its order, each with its rows of ``figures``."""
    for values, part in figures.groupby(SETTING, sort=False):
        yield Setting(*values), part


def rows(setting: Setting, part: pd.DataFrame) -> list[Row]:
    """The rows of a setting: its categories, each with its hard types, then the means over categories."""
    result = []
    for category, of_category in part.groupby("category", sort=False):
        result.append(_category_row(setting, category, of_category))
        if setting.kind == "hard":
            for known_type, of_type in of_category.groupby("known_type", sort=False):
                label = f"{category} / hard-{known_type}"
                result.append(_row(label, category, known_type, of_type))
    return result + mean_rows(setting, part)


def mean_rows(setting: Setting, part: pd.DataFrame) -> list[Row]:
    """The mean over all categories; then, where a category is missing, the mean over the complete ones, labelled so."""
    categories = list(part["category"].unique())
    seeds = part["seed"].nunique()
    complete = {metric: complete_categories(of) for metric, of in part.groupby("metric", sort=False)}
    groups = [categories, *(group for group in complete.values() if group and group != categories)]
    result = []
    for group in dict.fromkeys(tuple(group) for group in groups):
        of_group = part[part["category"].isin(group)]
        spread = dict.fromkeys([(metric, rule) for metric in METRICS for rule in RULES])
        for metric, of_metric in of_group.groupby("metric", sort=False):
            if tuple(complete[metric]) == group:
                for rule in RULES:
                    spread[metric, rule] = Spread.of(over_categories(of_metric, list(group), rule))
        used = max((s.n for s in spread.values() if s), default=0)
        label = f"mean over {_count(len(group), 'category', 'categories')}"
        row = Row(label, MEAN, "", used, seeds, spread, _missing(of_group))
        if group != tuple(categories):
            label = f"mean over the {len(group)} complete of {len(categories)} categories{which(group, categories)}"
            row = Row(label, "", "", used, seeds, spread, _missing(part))
        for metric in METRICS:
            row.lacks[metric] = _lacks(complete[metric], published.categories_of_mean(setting.dataset), "categories")
        result.append(row)
    return result


def by_seed(part: pd.DataFrame, rule: str) -> pd.DataFrame:
    """One metric of one setting, category x seed: the mean over the hard types; nan where any cell has no figure."""
    values = _means(part.groupby(["category", "seed"], sort=False)[rule])
    return values.unstack("seed").reindex(index=part["category"].unique(), columns=sorted(part["seed"].unique()))


def complete_categories(part: pd.DataFrame) -> list[str]:
    """The categories of which every cell of one metric and setting has its figure."""
    whole = part["last"].notna().groupby(part["category"], sort=False).all()
    return list(whole[whole].index)


def over_categories(part: pd.DataFrame, categories: list[str], rule: str) -> pd.Series:
    """The mean over ``categories`` of each seed that all of them have, for one metric of one setting."""
    return by_seed(part[part["category"].isin(categories)], rule).mean(axis=0, skipna=False).dropna()


def types_against_k0(collected: Collected) -> pd.DataFrame:
    """by_type of the cells with k >= 1, with the AUROC of the same type in the k0 cell of the same split and seed as
    image_auroc_k0 and pixel_auroc_k0 (nan without such a cell; bgad-wo before nf)."""
    same = ["recipe", "dataset", "category", "split", "seed", "type"]
    k0 = collected.by_type[collected.by_type["k"] == 0].sort_values("method", kind="stable").drop_duplicates(same)
    with_k = collected.by_type[collected.by_type["k"] > 0]
    return with_k.merge(k0[[*same, "image_auroc", "pixel_auroc"]], on=same, how="left", suffixes=("", "_k0"))


def _means(groups) -> pd.Series:
    """Of each group of a pandas groupby; nan where any of it is."""
    return groups.mean().where(groups.count() == groups.size())


def _row(label: str, category: str, known_type: str, part: pd.DataFrame) -> Row:
    spread = {}
    for rule in RULES:
        for metric, of_metric in _means(part.groupby(["metric", "seed"], sort=False)[rule]).groupby("metric", sort=False):
            spread[metric, rule] = Spread.of(of_metric)
    of_seed = (part["status"] == DONE).groupby(part["seed"]).all()
    return Row(label, category, known_type, int(of_seed.sum()), len(of_seed), spread, _missing(part))


def _category_row(setting: Setting, category: str, part: pd.DataFrame) -> Row:
    row = _row(category, category, MEAN if setting.kind == "hard" else "", part)
    if setting.kind == "hard":
        needed = published.types_of_mean(setting.dataset, category)
        for metric, of_metric in part.groupby("metric", sort=False):
            whole = of_metric["last"].notna().groupby(of_metric["known_type"]).all()
            row.lacks[metric] = _lacks(list(whole[whole].index), needed, "types")
    return row


def _lacks(there: list[str], needed: tuple[str, ...], what: str) -> str:
    further = [name for name in there if needed and name not in needed]
    if further:
        return f"not measured ({len(there)} {what}, published over {len(needed)}, without {', '.join(further)})"
    found = [name for name in needed if name in there]
    if len(found) == len(needed):
        return ""
    return f"not measured ({len(found)} of {len(needed)} {what}{which(found, needed)})"


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
