"""From the cells' metrics to the rows of a table: means over hard types, then seeds, then categories.

A missing cell is never averaged away: a seed that lacks a hard type has no value, and a mean over categories only covers
categories that have every cell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report import published
from bgad.report.bootstrap import chance_of, differences
from bgad.report.collect import DONE, Collected
from bgad.report.statistics import Spread

SETTING = ["recipe", "dataset", "kind", "k", "method"]
RULES = ("last", "best")
MEAN = "mean"


@dataclass(frozen=True)
class Setting:
    """What the cells of one table share."""

    recipe: str
    dataset: str
    kind: str
    k: int
    method: str


@dataclass(frozen=True)
class Row:
    """A row of a table: a category, a hard type of one, or a mean over categories.

    ``category`` and ``known_type``: the row's key in published.lookup
    ``asked``: how many seeds the suite has
    ``spread[metric, column]``: n is 0 if there is no mean
    ``missing``: the cells that are missing, in words
    ``types``: "over 6 of 7 types" if another k or method has more hard types
    ``lacks[metric]``: why this row cannot be compared with a published mean; "" if it can
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


def settings(metrics: pd.DataFrame) -> Iterator[tuple[Setting, pd.DataFrame]]:
    """The settings of a suite in its order, each with its rows of ``metrics``.

    An extra column, ``of_types``, counts the splits of the same kind that the row's category has over all k and methods.
    """
    splits = metrics.groupby(["recipe", "dataset", "kind", "category"])["split"]
    for values, part in metrics.assign(of_types=splits.transform("nunique")).groupby(SETTING, sort=False):
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
    """A row for each category, over the seeds that have all of its hard types."""
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
    """The mean over all categories and, if one is missing, the mean over the complete ones, labelled as such."""
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
                values = over_categories(of_metric, group, column) if whole else pd.Series(dtype=float)
                spread[metric, column] = _spread(of_metric, values, column)
        category, label = MEAN, f"mean over {_count(len(group), 'category', 'categories')}"
        if group != categories:
            category = ""
            label = f"mean over the {len(group)} complete of {len(categories)} categories{which(group, categories)}"
        asked = part["seed"].nunique()
        result.append(Row(label, category, "", asked, spread, _missing(part), types_text(of_group), lacks))
    return result


def measured_means(setting: Setting, part: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """The mean rows with a value, or else the first one. A single category is its own mean."""
    if part["category"].nunique() == 1:
        return category_rows(setting, part, columns)
    means = mean_rows(setting, part, columns)
    return [row for row in means if row.seeds] or means[:1]


def types_text(part: pd.DataFrame) -> str:
    """ "over 6 of 7 types" if ``part`` (from settings) has fewer hard types than other settings of its recipe, else ""."""
    of_category = part.groupby("category")
    there, asked = of_category["split"].nunique().sum(), of_category["of_types"].first().sum()
    return "" if there == asked else f"over {there} of {asked} types"


def by_seed(part: pd.DataFrame, rule: str) -> pd.DataFrame:
    """One metric of one setting, category x seed: the mean over hard types; nan if any of their cells has no value."""
    values = _means(part.groupby(["category", "seed"], sort=False)[rule])
    return values.unstack("seed").reindex(index=part["category"].unique(), columns=sorted(part["seed"].unique()))


def complete_categories(part: pd.DataFrame) -> list[str]:
    """The categories with a value in every cell, for one metric of one setting."""
    whole = part["last"].notna().groupby(part["category"], sort=False).all()
    return list(whole[whole].index)


def over_categories(part: pd.DataFrame, categories: Sequence[str], rule: str) -> pd.Series:
    """The mean over ``categories`` for each seed that all of them have, for one metric of one setting."""
    return by_seed(part[part["category"].isin(categories)], rule).mean(axis=0, skipna=False).dropna()


def paired(part: pd.DataFrame, base: pd.DataFrame, same: list[str]) -> pd.DataFrame:
    """The metrics of the cells of ``part`` that have a counterpart in ``base``, with equal values in the columns ``same``.

    ``last`` is part - base, ``status`` is done if both cells are, and ``measured`` says whether the cell of ``part`` is.
    """
    pairs = part.merge(base, on=[*same, "metric"], suffixes=("", "_base"))
    measured = pairs["status"] == DONE
    status = (measured & (pairs["status_base"] == DONE)).map({True: DONE, False: ""})
    if "moved" in pairs:
        pairs = pairs.assign(moved=differences(pairs["moved"], pairs["moved_base"]))
    return pairs.assign(last=pairs["last"] - pairs["last_base"], status=status, measured=measured)


def types_against_k0(collected: Collected) -> pd.DataFrame:
    """by_type for the cells with k >= 1, next to the same type's AUROC at k = 0 in the same split and seed: image_auroc_k0 and
    pixel_auroc_k0, nan without such a cell. bgad is compared with bgad-wo, or else nf; a detector with itself."""
    same = ["recipe", "dataset", "category", "split", "seed", "type", "method"]
    k0 = collected.by_type[collected.by_type["k"] == 0].sort_values("method", kind="stable")
    k0 = k0.assign(method=k0["method"].where(~k0["method"].isin(PAPER_METHODS), "bgad")).drop_duplicates(same)
    with_k = collected.by_type[collected.by_type["k"] > 0]
    return with_k.merge(k0[[*same, "image_auroc", "pixel_auroc"]], on=same, how="left", suffixes=("", "_k0"))


def _means(groups) -> pd.Series:
    """The mean of each group of a pandas groupby; nan if any of its values is."""
    return groups.mean().where(groups.count() == groups.size())


def _spread(of_metric: pd.DataFrame, of_seed: pd.Series, column: str) -> Spread:
    """Of the seeds' values in ``column``, from the cells behind them. Only the last epoch has a bootstrap over test images."""
    there = of_seed.dropna()
    chance = chance_of(of_metric[of_metric["seed"].isin(there.index)]) if column == "last" else None
    is_level = column in RULES and "last_base" not in of_metric  # else a difference
    return Spread.of(there, chance, is_level)


def _row(label: str, category: str, known_type: str, part: pd.DataFrame, columns: Sequence[str]) -> Row:
    spread = {}
    for metric, of_metric in part.groupby("metric", sort=False):
        for column in columns:
            of_seed = _means(of_metric.groupby("seed", sort=False)[column])
            spread[metric, column] = _spread(of_metric, of_seed, column)
    return Row(label, category, known_type, part["seed"].nunique(), spread, _missing(part))


def _lacks(there: Sequence[str], needed: tuple[str, ...], what: str) -> str:
    further = [name for name in there if needed and name not in needed]
    if further:
        return f"not measured ({len(there)} {what}, published over {len(needed)}, without {', '.join(further)})"
    found = [name for name in needed if name in there]
    if len(found) == len(needed):
        return ""
    return f"not measured ({len(found)} of {len(needed)} {what}{which(found, needed)})"


def which(found: Sequence[str], of: Sequence[str]) -> str:
    """Lists what is there or what is missing, whichever is shorter: ": carpet, tile" or ", without zipper"; "" for none."""
    absent = [name for name in of if name not in found]
    if len(absent) < len(found):
        return f", without {', '.join(absent)}"
    return f": {', '.join(found)}" if found else ""


def _missing(part: pd.DataFrame) -> list[str]:
    """Each cell without metrics, in a few words: "bottle, seed 1: failed"."""
    once = part[part["metric"] == METRICS[0]]
    return [
        f"{row.category}{f' / {row.split}' if row.kind == 'hard' else ''}, seed {row.seed}: {row.status.split(':')[0]}"
        for row in once[once["status"] != DONE].itertuples()
    ]


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
