"""Do the explicit boundary and the known anomalies help? Differences between methods, paired over seeds, with intervals."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from bgad.report.collect import DONE, Collected
from bgad.report.interval import SHOWN, Interval, Line, category_lines, mean_lines
from bgad.report.summary import Setting, settings
from bgad.report.table_format import NAMES, Section, markdown, record_of, signed

HEADING = "## Do the explicit boundary and the known anomalies help?"
# What is asked: the method that has it, and the one that does not, always at k = 0.
COMPARISONS = {
    "the explicit boundary": ("bgad-wo", "nf"),
    "the known anomalies": ("bgad", "bgad-wo"),
    "both together": ("bgad", "nf"),
}
HELPS, HURTS, NO_DIFFERENCE, NOT_MEASURED = "helps", "hurts", "no difference seen", "not measured"
PAIR = ["category", "split", "seed"]


@dataclass(frozen=True)
class Difference:
    """``setting`` minus ``against`` at k0, over the test images that ``types`` names ("" for all of them)."""

    asks: str
    setting: Setting
    against: str
    types: str
    means: list[Line]
    categories: list[Line]


def claim_section(collected: Collected) -> Section:
    """The differences of each recipe and data set, over the categories and for each; then the levels themselves."""
    figures = collected.figures[collected.figures["metric"].isin(SHOWN)]
    groups = [(key, list(differences(of, collected.by_type))) for key, of in figures.groupby(["recipe", "dataset"], sort=False)]
    found = [one for _, of_group in groups for one in of_group]
    if not found:
        reason = "This suite has no two of nf, bgad-wo and bgad on the same categories, splits and seeds: nothing to compare."
        return [HEADING, "", reason], []
    if not any(interval.n for one in found for line in one.means + one.categories for interval in line.of.values()):
        return [HEADING, "", "No pair of cells that could be compared is measured yet."], []

    lines, records = [], []
    for (recipe, dataset), of_group in groups:
        if of_group:
            lines += ["", f"### Differences: {dataset}, recipe {recipe}", "", *_table(of_group, "means", records)]
            several = [one for one in of_group if len(one.categories) > 1]
            if several:
                lines += ["", "For each category:", "", *_table(several, "categories", records)]
            of = figures[(figures["recipe"] == recipe) & (figures["dataset"] == dataset)]
            lines += ["", f"### Levels: {dataset}, recipe {recipe}", "", *_levels(of, records)]
    return [HEADING, "", *_introduction(found, records), *lines], records


def differences(of_group: pd.DataFrame, by_type: pd.DataFrame) -> Iterator[Difference]:
    """Every comparison that the figures of one recipe and data set have cells for, measured or not."""
    for asks, (method, against) in COMPARISONS.items():
        base = of_group[(of_group["method"] == against) & (of_group["k"] == 0)]
        for setting, part in settings(of_group[of_group["method"] == method]):
            pairs = part.merge(base, on=["kind", *PAIR, "metric"], suffixes=("", "_base"))
            if not pairs.empty:
                done = (pairs["status"] == DONE) & (pairs["status_base"] == DONE)
                pairs = pairs.assign(last=pairs["last"] - pairs["last_base"], status=done.map({True: DONE, False: ""}))
                yield _difference(asks, setting, against, "", pairs)
                for known, of_types in _known_apart(setting, against, pairs, by_type).items():
                    yield _difference(asks, setting, against, "known types" if known else "unseen types", of_types)


def judgement(interval: Interval) -> str:
    """One word for a difference, from its interval as it is printed; "" where one seed, or none, allows none."""
    if math.isnan(interval.low):
        return ""
    low, high = round(interval.low, 2), round(interval.high, 2)
    return HELPS if low > 0 else HURTS if high < 0 else NO_DIFFERENCE


def _difference(asks: str, setting: Setting, against: str, types: str, pairs: pd.DataFrame) -> Difference:
    return Difference(asks, setting, against, types, mean_lines(pairs, "last"), category_lines(pairs, "last"))


def _known_apart(setting: Setting, against: str, pairs: pd.DataFrame, by_type: pd.DataFrame) -> dict[bool, pd.DataFrame]:
    """The pairs of a seen split for the types that training knew and for those it did not; {} unless there are both.

    A pair's difference is the mean over its types. It has no AUPRO, which cells do not report by type.
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
        for metric in SHOWN[:2]:
            by_pair = of_known.assign(last=of_known[metric] - of_known[f"{metric}_base"]).groupby(PAIR)["last"]
            means = by_pair.agg(lambda of_types: of_types.mean(skipna=False))
            # A category without such types has no part in the comparison; one whose cell is missing has.
            asked = pairs[(pairs["metric"] == metric) & pairs["category"].isin(of_known["category"])]
            parts.append(asked.drop(columns="last").merge(means.reset_index(), on=PAIR, how="left"))
        result[known] = pd.concat(parts)
    return result


def _table(found: list[Difference], which: str, records: list[dict]) -> list[str]:
    """The Markdown of the lines ``which`` of every difference, whose records are added to ``records``."""
    shown = []
    for one in found:
        for line in getattr(one, which):
            splits = f"{one.setting.kind}, {one.types}" if one.types else one.setting.kind
            what = [one.asks, f"{one.setting.method} - {one.against}", splits, one.setting.k, line.over + " †" * line.missing]
            shown.append([*what, line.seeds, *(_cell(line, metric) for metric in SHOWN)])
            row = f"{line.over}, {one.types}" if one.types else line.over
            for metric, interval in line.of.items():
                record = record_of("claim", one.setting, row, metric) | interval.record("difference", signed)
                verdict = {"verdict_difference": _verdict(line, metric)}
                records.append(record | {"asked": line.asked, "against": one.against} | verdict)
    heads = ["what helps?", "difference", "split", "k", "over", "seeds", *(NAMES[metric] for metric in SHOWN)]
    return markdown(heads, shown, left=5)


def _cell(line: Line, metric: str) -> str:
    figure = line.of[metric].text(signed) if metric in line.of else ""
    return f"{figure} {_verdict(line, metric)}".strip()


def _verdict(line: Line, metric: str) -> str:
    """Not measured, rather than not defined, is a line that lacks every metric."""
    if not any(interval.n for interval in line.of.values()):
        return NOT_MEASURED if metric in line.of else ""
    return judgement(line.of[metric]) if metric in line.of else ""


def _levels(of_group: pd.DataFrame, records: list[dict]) -> list[str]:
    """A row for each kind of split, method and k."""
    shown = []
    for setting, part in settings(of_group):
        for line in mean_lines(part, "last"):
            what = [setting.kind, setting.method, setting.k, line.over + " †" * line.missing, line.seeds]
            shown.append([*what, *(line.of[m].text() if m in line.of else "" for m in SHOWN)])
            for metric, interval in line.of.items():
                record = record_of("claim, levels", setting, line.over, metric) | {"asked": line.asked}
                records.append(record | interval.record("last"))
    heads = ["split", "method", "k", "over", "seeds", *(f"{NAMES[metric]}, last" for metric in SHOWN)]
    return markdown(heads, shown, left=4)


def _introduction(found: list[Difference], records: list[dict]) -> list[str]:
    lines = [
        "Differences of the last epochs, where no epoch is chosen, in percentage points; both methods' cells have the same "
        "recipe, category, split and seed. The difference of a seed is the mean over the types that are known in their turn "
        "(hard splits), then over the categories of which every pair is there; brackets are the 95 % interval of Student's t "
        f"over seeds. **{HELPS}**: the interval lies above 0. **{HURTS}**: below 0. **{NO_DIFFERENCE}**: it contains 0, which "
        "does not prove that there is none. A single seed allows no judgement. In hard splits every type that is tested is "
        "unseen; known and unseen types of seen splits are each taken against all normal test images. bgad-wo has the focal "
        "weights beside the boundary, and nf has neither.",
        "",
    ]
    for asks, (method, against) in COMPARISONS.items():
        of = [i for one in found if one.asks == asks for line in one.means for i in line.of.values()]
        words = [word for word in map(judgement, of) if word]
        counts = ", ".join(f"{word} in {words.count(word)}" for word in (HELPS, HURTS, NO_DIFFERENCE))
        text = f"{counts} of the {len(words)} mean differences below" if words else "no mean difference has an interval"
        lines.append(f"- **{asks.capitalize()}** ({method} - {against}): {text}.")
    intervals = sum(record["section"] == "claim" and bool(record["difference_low"]) for record in records)
    if intervals:
        lines += [
            "",
            f"The tables hold {intervals} such intervals at 95 %. Where nothing differs at all, one in twenty of them still "
            "excludes 0 by chance, so a single word proves little.",
        ]
    return lines
