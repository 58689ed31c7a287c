"""The results as papers print them: categories and their mean, a column for each method and k."""

from collections.abc import Sequence

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import Setting, rows, settings
from bgad.report.collect import Collected
from bgad.report.statistics import COVERS
from bgad.report.tables.format import (
    NAMES,
    SHOWN,
    Section,
    column_names,
    column_of,
    literal,
    markdown,
    metric_record,
    with_interval,
)

INTRODUCTION = (
    f"Each entry is **last**, what you get without looking at the test set, with its interval in square brackets: "
    f"{COVERS} In round brackets is **best**, the maximum over the evaluations on the test set: optimistic, but the rule "
    "behind BGAD's published numbers. Both are means over seeds, in percent; a detector has only last. A mean over categories "
    "is taken for each seed first."
)
HARD = "A hard split knows one defect type and is tested on the others. Its categories are means over the known types."
MISSING = "† Cells are missing. A mean over categories needs all of them; table.csv also has the mean over the complete ones."


def results_section(collected: Collected) -> Section:
    """A table for each kind of split and metric. The records also have each hard type, and PRO (released)."""
    tables = [(setting, rows(setting, part)) for setting, part in settings(collected.metrics)]
    records = [metric_record("setting", setting, row, m) for setting, table in tables for row in table for m in METRICS]
    hard = [HARD] if any(record["kind"] == "hard" for record in records) else []
    missing = ["", MISSING] if any(map(_lacks_cells, records)) else []
    return ["## Results", "", " ".join([INTRODUCTION, *hard]), *missing, *result_tables(records)], records


def result_tables(records: Sequence[dict]) -> list[str]:
    """The Markdown of records of results_section (or of a CSV with them), each table after a blank line."""
    kinds = list(dict.fromkeys(record["kind"] for record in records))
    lines: list[str] = []
    for kind in kinds:
        for metric in SHOWN:
            of_table = [record for record in records if record["kind"] == kind and record["metric"] == metric]
            if of_table:
                head = f"{NAMES[metric]}, {kind} splits" if len(kinds) > 1 else NAMES[metric]
                lines += ["", *_table(of_table, head)]
    return lines


def _table(records: list[dict], head: str) -> list[str]:
    """The categories of each data set, then the mean over them."""
    of_setting = [(_setting(record), record) for record in records if _is_shown(record["row"])]
    names = column_names([setting for setting, _ in of_setting])
    datasets = list(dict.fromkeys(setting.dataset for setting, _ in of_setting))
    shown: dict[str, dict[tuple, str]] = {}
    seeds: dict[tuple, set[int]] = {column: set() for column in names}
    # A data set's means come after its categories.
    for setting, record in sorted(of_setting, key=lambda of: (datasets.index(of[0].dataset), _is_mean(of[1]["row"]))):
        if record["row"] != "mean over 1 category":
            label = record["row"] if len(datasets) == 1 else f"{setting.dataset}: {record['row']}"
            shown.setdefault(label, {})[column_of(setting)] = _entry(setting, record)
            seeds[column_of(setting)].add(int(record["asked"]))
    heads = [f"{name} ({' or '.join(map(str, sorted(seeds[column])))} seeds)" for column, name in names.items()]
    # What a column was not asked for stays blank.
    body = [[literal(label), *(entries.get(column, " ") for column in names)] for label, entries in shown.items()]
    return markdown([head, *(head.replace("(1 seeds)", "(1 seed)") for head in heads)], body)


def _setting(record: dict) -> Setting:
    return Setting(record["recipe"], record["dataset"], record["kind"], int(record["k"]), record["method"])


def _is_mean(row: str) -> bool:
    return row.startswith("mean over ")


def _is_shown(row: str) -> bool:
    """Not the hard types of a category, and not the mean over its complete categories."""
    return " / hard-" not in row and not row.startswith("mean over the ")


def _lacks_cells(record: dict) -> bool:
    return int(record["n"]) < int(record["asked"])


def _entry(setting: Setting, record: dict) -> str:
    """ "98.50 [97.91, 99.02] (99.20)", with † if cells are missing and a note if hard types are."""
    if not record["last"]:
        return "†" * _lacks_cells(record)
    best = [f"({record['best']})"] if setting.method in PAPER_METHODS else []
    types = [f"({note})" for note in record["note"].split("; ") if note.startswith("over ")]
    return " ".join([with_interval(record, "last"), *best, *types, *["†"] * _lacks_cells(record)])
