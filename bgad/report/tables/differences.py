"""Differences between cells that differ in one thing, at the last epoch and paired over seeds, as rows of a table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from bgad.report.averages import Row, Setting, category_rows, measured_means
from bgad.report.statistics import HELPS, HURTS, NO_DIFFERENCE, NOT_MEASURED, judgement, signed
from bgad.report.tables.format import NAMES, SHOWN, markdown, record_of

READING = (
    "Each seed's difference is a mean over hard types first, then over the categories that have every pair. Brackets are 95 % "
    f"intervals over seeds (Student's t). **{HELPS}**: the interval is above 0. **{HURTS}**: it is below 0. "
    f"**{NO_DIFFERENCE}**: it contains 0, which does not prove that there is no difference. A single seed gets no judgement. "
    f"{NAMES['released_pro']} is only in the CSV."
)


@dataclass(frozen=True)
class Difference:
    """Cells of ``setting`` minus those of ``against`` (a method or a recipe), over the defect types that ``types`` names (""
    for all); ``asks`` is the question that they answer."""

    asks: str
    setting: Setting
    against: str
    types: str
    means: list[Row]
    categories: list[Row]

    @classmethod
    def of(cls, asks: str, setting: Setting, against: str, types: str, pairs: pd.DataFrame) -> "Difference":
        """From ``pairs`` as averages.paired returns them."""
        rows = measured_means(setting, pairs, ["last"]), category_rows(setting, pairs, ["last"])
        return cls(asks, setting, against, types, *rows)


def any_measured(found: Iterable[Difference]) -> bool:
    return any(row.seeds for one in found for row in one.means + one.categories)


def difference_tables(
    section: str, found: list[Difference], heads: list[str], what: Callable[[Difference], list[str]], records: list[dict]
) -> list[str]:
    """The mean differences, then those of each category if there are several; all metrics are added to ``records``.

    ``what(difference)`` gives the first cells of a row, under ``heads``.
    """
    lines = _table(section, [(one, one.means) for one in found], heads, what, records)
    several = [(one, one.categories) for one in found if len(one.categories) > 1]
    if several:
        lines += ["", "For each category:", "", *_table(section, several, heads, what, records)]
    return lines


def counted(found: Iterable[Difference]) -> str:
    """How many mean differences get each judgement."""
    words = [judgement(row.of(metric, "last")) for one in found for row in one.means for metric in SHOWN]
    words = [word for word in words if word]
    counts = ", ".join(f"{word} in {words.count(word)}" for word in (HELPS, HURTS, NO_DIFFERENCE))
    return f"{counts} of the {len(words)} mean differences below" if words else "no mean difference has an interval"


def chance(section: str, records: list[dict]) -> list[str]:
    """A reminder that some intervals exclude 0 by chance; no lines without intervals."""
    of_section = [record for record in records if record["section"] == section and record["metric"] in SHOWN]
    intervals = sum(bool(record["difference_low"]) for record in of_section)
    text = (
        f"The tables have {intervals} such intervals at 95 %. Even if nothing differs, one in twenty excludes 0 by chance, so "
        "a single judgement proves little."
    )
    return ["", text] if intervals else []


def _table(section: str, found: list[tuple[Difference, list[Row]]], heads: list[str], what, records: list[dict]) -> list[str]:
    shown = []
    for one, rows in found:
        splits = f"{one.setting.kind}, {one.types}" if one.types else one.setting.kind
        for row in rows:
            over = row.full_label + " †" * bool(row.missing)
            values = [f"{row.of(metric, 'last').text(signed)} {_word(row, metric)}".strip() for metric in SHOWN]
            shown.append([*what(one), splits, one.setting.k, over, row.seeds_text, *values])
            for metric, _ in row.spread:
                record = record_of(section, one.setting, f"{row.label}, {one.types}" if one.types else row.label, metric)
                record |= row.of(metric, "last").record("difference", signed) | {"asked": row.asked, "against": one.against}
                records.append(record | {"verdict_difference": _word(row, metric), "note": row.types})
    return markdown([*heads, "split", "k", "over", "seeds", *(NAMES[m] for m in SHOWN)], shown, left=len(heads) + 3)


def _word(row: Row, metric: str) -> str:
    """A row that lacks every metric is not measured; one that lacks only this metric leaves it undefined."""
    if not row.seeds:
        return NOT_MEASURED if (metric, "last") in row.spread else ""
    return judgement(row.of(metric, "last"))
