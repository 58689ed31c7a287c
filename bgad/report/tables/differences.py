"""Differences between cells that differ in one thing, at the last epoch and paired over seeds, as rows of a table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from bgad.report.averages import Row, Setting, category_rows, measured_means
from bgad.report.statistics import COVERS, HELPS, HURTS, NO_DIFFERENCE, NOT_MEASURED, judgement, signed
from bgad.report.tables.format import NAMES, SHOWN, literal, markdown, record_of

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


def any_measured(found: Iterable[Difference]) -> bool:
    return any(row.seeds for one in found for row in one.means + one.categories)


def difference_table(
    found: list[Difference], fields: dict[str, str], what: Callable[[Difference], dict[str, str]]
) -> list[str]:
    """The mean differences. ``what(difference)`` gives the first cells of a row by their heads, ``fields`` (format.several) the
    fields of the setting before them."""
    shown = []
    for one in found:
        lead = {head: getattr(one.setting, field) for field, head in fields.items()} | what(one)
        lead |= {"split": f"{one.setting.kind}, {one.types}" if one.types else one.setting.kind, "k": one.setting.k}
        for row in one.means:
            lead |= {"over": literal(row.full_label) + " †" * bool(row.missing), "seeds": row.seeds_text}
            values = [f"{row.of(metric, 'last').text(signed)} {_word(row, metric)}".strip() for metric in SHOWN]
            shown.append([*lead.values(), *values])
    return markdown([*lead, *(NAMES[metric] for metric in SHOWN)], shown, left=len(lead) - 1)


def difference_records(section: str, found: list[Difference]) -> list[dict]:
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


def counted(found: Iterable[Difference]) -> str:
    """How many mean differences get each judgement."""
    words = [judgement(row.of(metric, "last")) for one in found for row in one.means for metric in SHOWN]
    words = [word for word in words if word]
    counts = ", ".join(f"{word} in {words.count(word)}" for word in (HELPS, HURTS, NO_DIFFERENCE))
    return (
        f"{counts} of the {len(words)} mean differences"
        if words
        else "no mean difference has an interval over seeds and test images"
    )


def chance(records: list[dict]) -> str:
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
