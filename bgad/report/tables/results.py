"""The results as papers print them: categories and their mean, a column for each method and k."""

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import MEAN, Row, Setting, rows, settings
from bgad.report.collect import Collected
from bgad.report.statistics import number
from bgad.report.tables.format import NAMES, SHOWN, Section, column_names, column_of, literal, markdown, metric_record

INTRODUCTION = (
    "Each entry is **last**, what you get without looking at the test set, with its 95 % interval over seeds (Student's t; one "
    "seed has none). In round brackets is **best**, the maximum over the evaluations on the test set: optimistic, but the rule "
    "behind BGAD's published numbers. Both are means over seeds, in percent; a detector has only last. A mean over categories "
    "is taken for each seed first."
)
HARD = "A hard split knows one defect type and is tested on the others. Its categories are means over the known types."
MISSING = "† Cells are missing. A mean over categories needs all of them; table.csv also has the mean over the complete ones."


def results_section(collected: Collected) -> Section:
    """A table for each kind of split and metric. The records also have each hard type, and PRO (released)."""
    tables = [(setting, rows(setting, part)) for setting, part in settings(collected.metrics)]
    records = [metric_record("setting", setting, row, m) for setting, table in tables for row in table for m in METRICS]
    kinds = list(dict.fromkeys(setting.kind for setting, _ in tables))
    lines = ["## Results", "", " ".join([INTRODUCTION, *([HARD] if "hard" in kinds else [])])]
    if any(row.missing for _, table in tables for row in table):
        lines += ["", MISSING]
    for kind in kinds:
        of_kind = [(setting, table) for setting, table in tables if setting.kind == kind]
        for metric in SHOWN:
            head = f"{NAMES[metric]}, {kind} splits" if len(kinds) > 1 else NAMES[metric]
            lines += ["", *_table(of_kind, metric, head)]
    return lines, records


def _table(tables: list[tuple[Setting, list[Row]]], metric: str, head: str) -> list[str]:
    """The categories of each data set, then the mean over them."""
    names = column_names([setting for setting, _ in tables])
    datasets = list(dict.fromkeys(setting.dataset for setting, _ in tables))
    shown: dict[str, dict[tuple, str]] = {}
    seeds: dict[tuple, set[int]] = {column: set() for column in names}
    for dataset in datasets:
        of_dataset = [(setting, table) for setting, table in tables if setting.dataset == dataset]
        for part in (_categories, _mean):
            for setting, table in of_dataset:
                for row in part(table):
                    label = row.label if len(datasets) == 1 else f"{dataset}: {row.label}"
                    shown.setdefault(label, {})[column_of(setting)] = _entry(setting, row, metric)
                    seeds[column_of(setting)].add(row.asked)
    heads = [f"{name} ({' or '.join(map(str, sorted(seeds[column])))} seeds)" for column, name in names.items()]
    # What a column was not asked for stays blank.
    body = [[literal(label), *(entries.get(column, " ") for column in names)] for label, entries in shown.items()]
    return markdown([head, *(head.replace("(1 seeds)", "(1 seed)") for head in heads)], body)


def _categories(table: list[Row]) -> list[Row]:
    return [row for row in table if row.label == row.category]  # not the hard types


def _mean(table: list[Row]) -> list[Row]:
    return [row for row in table if row.category == MEAN and len(_categories(table)) > 1]


def _entry(setting: Setting, row: Row, metric: str) -> str:
    """ "98.50 [97.91, 99.02] (99.20)", with † if cells are missing and a note if hard types are."""
    last, best = row.of(metric, "last"), row.of(metric, "best")
    if not last.n:
        return "†" * bool(row.missing)
    evaluated_often = setting.method in PAPER_METHODS
    notes = [f"({number(best.mean)})"] * evaluated_often + [f"({row.types})"] * bool(row.types) + ["†"] * bool(row.missing)
    return " ".join([last.text(number), *notes])
