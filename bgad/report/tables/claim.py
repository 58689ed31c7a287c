"""Do the explicit boundary and the known anomalies help? Differences between methods, paired over seeds, with intervals."""

from collections.abc import Iterator

import pandas as pd

from bgad.evaluation.metrics import METRICS
from bgad.report.averages import Setting, paired, settings
from bgad.report.bootstrap import differences, mean_moved
from bgad.report.collect import Collected
from bgad.report.tables.differences import Difference, difference_section
from bgad.report.tables.format import Section

HEADING = "## What helps, on known and on unseen types"
IF_NONE = "Nothing to compare: this suite has no two of nf, bgad-wo and bgad on the same categories, splits and seeds."
TOGETHER = "both together"  # is counted; table.csv has the differences
# Each part of BGAD: the method that has it, and the one that lacks it (always at k = 0).
COMPARISONS = {
    "the explicit boundary": ("bgad-wo", "nf"),
    "the known anomalies": ("bgad", "bgad-wo"),
    TOGETHER: ("bgad", "nf"),
}
PAIR = ["category", "split", "seed"]


def claim_section(collected: Collected) -> Section:
    """The differences over the categories of each recipe and data set. The records also have those of each category."""
    groups = [of_group for _, of_group in collected.metrics.groupby(["recipe", "dataset"], sort=False)]
    found = [one for of_group in groups for one in _differences(of_group, collected.by_type)]
    types = "In seen splits, known and unseen types are each tested against all normal images."
    if not any(one.types for one in found) and any(one.setting.kind == "seen" for one in found):
        types = "In this suite's seen splits, no category has both known and unseen types."
    introduction = (
        "Differences of the last epochs in percentage points, so no epoch is chosen on the test set. Both methods' cells share "
        f"recipe, category, split and seed. In hard splits every tested type is unseen. {types} If a recipe has focal weights, "
        "bgad-wo uses them and nf does not."
    )
    hidden = _asks(TOGETHER)
    return difference_section(HEADING, "claim", found, introduction, IF_NONE, ("dataset", "recipe"), hidden)


def _asks(what: str) -> str:
    return f"{what} ({' - '.join(COMPARISONS[what])})"


def _differences(of_group: pd.DataFrame, by_type: pd.DataFrame) -> Iterator[Difference]:
    """Every comparison that one recipe and data set have cells for, measured or not."""
    for what, (method, against) in COMPARISONS.items():
        base = of_group[(of_group["method"] == against) & (of_group["k"] == 0)]
        for setting, part in settings(of_group[of_group["method"] == method]):
            pairs = paired(part, base, ["kind", *PAIR])
            if not pairs.empty:
                yield Difference.of(_asks(what), setting, against, "", pairs)
                for known, of_types in _by_known(setting, against, pairs, by_type).items():
                    yield Difference.of(_asks(what), setting, against, "known types" if known else "unseen types", of_types)


def _by_known(setting: Setting, against: str, pairs: pd.DataFrame, by_type: pd.DataFrame) -> dict[bool, pd.DataFrame]:
    """The pairs of a seen split, once for the types that training knew and once for the rest; {} unless there are both.

    A pair's difference is the mean over its types. There is no AUPRO, which cells do not report by type.
    """
    of_setting = by_type[(by_type[[*vars(setting)]] == pd.Series(vars(setting))).all(axis=1)]
    if setting.kind != "seen" or of_setting["known"].nunique() < 2:
        return {}
    same = ["recipe", "dataset", *PAIR, "type"]
    base = by_type[(by_type["method"] == against) & (by_type["k"] == 0)]
    types = of_setting.merge(base, on=same, how="left", suffixes=("", "_base"))
    result = {}
    for known in (True, False):
        of_known, parts = types[types["known"] == known], []
        # A measured category without such types is left out; one that is not measured may have them and counts as missing.
        lacking = set(pairs.loc[pairs["measured"], "category"]) - set(of_known["category"])
        for metric in METRICS[:2]:
            of_metric = of_known.assign(last=of_known[metric] - of_known[f"{metric}_base"])
            means = {"last": ("last", lambda of_types: of_types.mean(skipna=False))}
            if "moved" in pairs:
                of_metric = of_metric.assign(moved=differences(of_known[f"moved_{metric}"], of_known[f"moved_{metric}_base"]))
                means["moved"] = ("moved", mean_moved)
            asked = pairs[(pairs["metric"] == metric) & ~pairs["category"].isin(lacking)]
            by_pair = of_metric.groupby(PAIR).agg(**means).reset_index()
            parts.append(asked.drop(columns=list(means)).merge(by_pair, on=PAIR, how="left"))
        result[known] = pd.concat(parts)
    return result
