"""Differences between cells that differ in one thing, at the last epoch and paired over seeds, as rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bgad.report.averages import Row, Setting, category_rows, measured_means
from bgad.report.statistics import COVERS, HELPS, HURTS, NO_DIFFERENCE, NOT_MEASURED, judgement, signed
from bgad.report.tables.format import NAMES, SHOWN, Section, literal, markdown, record_of, several

READING = (
    "Each seed's difference is a mean over hard types first, then over the categories that have every pair. Brackets are "
    f"{COVERS} **{HELPS}**: the interval is above 0. **{HURTS}**: it is below 0. **{NO_DIFFERENCE}**: it contains 0, which "
    "does not prove that there is no difference. An interval that covers only seeds or only images gets no such word, nor "
    "do seeds that all have the same difference."
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


def difference_section(
    heading: str,
    section: str,
    found: list[Difference],
    introduction: str,
    if_none: str,
    fields: Sequence[str],
    hidden: str = "",
) -> Section:
    """How many mean differences of each question get each judgement, and their table. The records also have each category.

    ``if_none`` says why nothing was ``found``; ``fields`` (format.several) tell rows apart. The table leaves out the question
    ``hidden``.
    """
    if not found:
        return [heading, "", if_none], []
    if not any(row.seeds for one in found for row in one.means + one.categories):
        return [heading, "", "No pair of cells is measured yet, so there is nothing to compare."], []
    records = _records(section, found)
    questions = list(dict.fromkeys(one.asks for one in found))
    counts = [f"- **{asks}**: {_counted([one for one in found if one.asks == asks])}." for asks in questions]
    shown = [one for one in found if one.asks != hidden] or found
    text = f"{introduction} {READING}{_chance(records)}"
    return [heading, "", text, "", *counts, "", *_table(shown, several([one.setting for one in found], fields))], records


def _table(found: list[Difference], fields: dict[str, str]) -> list[str]:
    shown = []
    for one in found:
        lead = [*(getattr(one.setting, field) for field in fields), one.asks]
        lead += [f"{one.setting.kind}, {one.types}" if one.types else one.setting.kind, one.setting.k]
        for row in one.means:
            over = literal(row.full_label) + " †" * bool(row.missing)
            values = [f"{row.of(metric, 'last').text(signed)} {_word(row, metric)}".strip() for metric in SHOWN]
            shown.append([*lead, over, row.seeds_text, *values])
    heads = [*fields.values(), "difference", "split", "k", "over", "seeds"]
    return markdown([*heads, *(NAMES[metric] for metric in SHOWN)], shown, left=len(heads) - 1)


def _records(section: str, found: list[Difference]) -> list[dict]:
    """The mean differences of all metrics, then those of each category if there are several."""
    every = [(one, row) for one in found for row in one.means]
    every += [(one, row) for one in found if len(one.categories) > 1 for row in one.categories]
    records = []
    for one, row in every:
        for metric, _ in row.spread:
            record = record_of(section, one.setting, f"{row.label}, {one.types}" if one.types else row.label, metric)
            record |= row.of(metric, "last").record("difference", signed) | {"asked": row.asked, "against": one.against}
            records.append(record | {"verdict_difference": _word(row, metric), "note": row.types})
    return records


def _counted(found: list[Difference]) -> str:
    words = list(filter(None, (judgement(row.of(metric, "last")) for one in found for row in one.means for metric in SHOWN)))
    if not words:
        return "no mean difference has an interval over seeds and test images"
    counts = ", ".join(f"{word} in {words.count(word)}" for word in (HELPS, HURTS, NO_DIFFERENCE))
    return f"{counts} of the {len(words)} mean differences"


def _chance(records: list[dict]) -> str:
    """How many of ``records`` have an interval, and that some of these exclude 0 by chance; "" if none has one."""
    intervals = sum(bool(record["difference_low"]) for record in records if record["metric"] in SHOWN)
    if not intervals:
        return ""
    return (
        f" With those of single categories in table.csv there are {intervals} such intervals. Even if nothing differs, one in "
        "twenty excludes 0 by chance, so a single judgement proves little."
    )


def _word(row: Row, metric: str) -> str:
    """A row that lacks every metric is not measured; one that lacks only this metric leaves it undefined."""
    if not row.seeds:
        return NOT_MEASURED if (metric, "last") in row.spread else ""
    return judgement(row.of(metric, "last"))
