"""Differences of the last epochs between cells that are alike but for one thing, paired over seeds, as rows of a table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from bgad.report.collect import DONE, SHOWN
from bgad.report.statistics import Row, Setting, category_rows, measured_means, signed
from bgad.report.tables.format import NAMES, markdown, record_of
from bgad.report.verdict import HELPS, HURTS, NO_DIFFERENCE, NOT_MEASURED, judgement

READING = (
    "The difference of a seed is the mean over the types that are known in their turn (hard splits), then over the categories "
    "of which every pair is there; brackets are the 95 % interval of Student's t over seeds. "
    f"**{HELPS}**: the interval lies above 0. **{HURTS}**: below 0. **{NO_DIFFERENCE}**: it contains 0, which does not prove "
    "that there is none. A single seed allows no judgement. PRO (released) is in the CSV alone."
)


@dataclass(frozen=True)
class Difference:
    """Cells of ``setting`` minus those of ``against`` (a method or a recipe), over the test images that ``types`` names ("" for
    all of them); ``asks`` is the question that they answer."""

    asks: str
    setting: Setting
    against: str
    types: str
    means: list[Row]
    categories: list[Row]

    @classmethod
    def of(cls, asks: str, setting: Setting, against: str, types: str, pairs: pd.DataFrame) -> "Difference":
        """Of ``pairs`` as paired() makes them."""
        return cls(
            asks, setting, against, types, measured_means(setting, pairs, ["last"]), category_rows(setting, pairs, ["last"])
        )


def paired(part: pd.DataFrame, base: pd.DataFrame, same: list[str]) -> pd.DataFrame:
    """The figures of the cells that both have by the columns ``same``: ``last`` is part - base, ``status`` is done where both
    cells are, and ``measured`` says whether that of ``part`` is."""
    pairs = part.merge(base, on=[*same, "metric"], suffixes=("", "_base"))
    measured = pairs["status"] == DONE
    status = (measured & (pairs["status_base"] == DONE)).map({True: DONE, False: ""})
    return pairs.assign(last=pairs["last"] - pairs["last_base"], status=status, measured=measured)


def any_measured(found: Iterable[Difference]) -> bool:
    return any(row.seeds for one in found for row in one.means + one.categories)


def difference_tables(
    section: str, found: list[Difference], heads: list[str], what: Callable[[Difference], list[str]], records: list[dict]
) -> list[str]:
    """The mean differences, then those of each category, where there are several; all metrics are added to ``records``.

    ``what(difference)`` is the first cells of a row, under ``heads``.
    """
    lines = _table(section, [(one, one.means) for one in found], heads, what, records)
    several = [(one, one.categories) for one in found if len(one.categories) > 1]
    if several:
        lines += ["", "For each category:", "", *_table(section, several, heads, what, records)]
    return lines


def counted(found: Iterable[Difference]) -> str:
    """How many of the mean differences have which word."""
    words = [judgement(row.of(metric, "last")) for one in found for row in one.means for metric in SHOWN]
    words = [word for word in words if word]
    counts = ", ".join(f"{word} in {words.count(word)}" for word in (HELPS, HURTS, NO_DIFFERENCE))
    return f"{counts} of the {len(words)} mean differences below" if words else "no mean difference has an interval"


def chance(section: str, records: list[dict]) -> list[str]:
    """What so many intervals mean for a single word, as lines; none without intervals."""
    of_section = [record for record in records if record["section"] == section and record["metric"] in SHOWN]
    intervals = sum(bool(record["difference_low"]) for record in of_section)
    text = (
        f"The tables hold {intervals} such intervals at 95 %. Where nothing differs at all, one in twenty of them still "
        "excludes 0 by chance, so a single word proves little."
    )
    return ["", text] if intervals else []


def _table(section: str, found: list[tuple[Difference, list[Row]]], heads: list[str], what, records: list[dict]) -> list[str]:
    shown = []
    for one, rows in found:
        splits = f"{one.setting.kind}, {one.types}" if one.types else one.setting.kind
        for row in rows:
            over = row.full_label + " †" * bool(row.missing)
            figures = [f"{row.of(metric, 'last').text(signed)} {_word(row, metric)}".strip() for metric in SHOWN]
            shown.append([*what(one), splits, one.setting.k, over, row.seeds_text, *figures])
            for metric, _ in row.spread:
                record = record_of(section, one.setting, f"{row.label}, {one.types}" if one.types else row.label, metric)
                record |= row.of(metric, "last").record("difference", signed) | {"asked": row.asked, "against": one.against}
                records.append(record | {"verdict_difference": _word(row, metric), "note": row.types})
    return markdown([*heads, "split", "k", "over", "seeds", *(NAMES[m] for m in SHOWN)], shown, left=len(heads) + 3)


def _word(row: Row, metric: str) -> str:
    """Not measured, rather than not defined, is a row that lacks every metric."""
    if not row.seeds:
        return NOT_MEASURED if (metric, "last") in row.spread else ""
    return judgement(row.of(metric, "last"))
