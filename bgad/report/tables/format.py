"""How a suite's metrics are written: the same text in Markdown and in the CSV."""

import re
from collections.abc import Sequence

from tabulate import tabulate

from bgad.config.methods import PAPER_METHODS, display_name
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import RULES, Row, Setting
from bgad.report.statistics import number

NAMES = dict(zip(METRICS, ("image AUROC", "pixel AUROC", "AUPRO", "PRO (released)"), strict=True))
SHOWN = METRICS[:3]  # in plots and wide tables, which have no room for a fourth; the CSV has all four
NONE = "—"
ORDER = PAPER_METHODS[::-1]  # each adds a part of BGAD; detectors come before
# Markdown lines, and records of the CSV.
Section = tuple[list[str], list[dict]]


def title(setting: Setting) -> str:
    return f"{setting.dataset}, {setting.kind}, k = {setting.k}, {display_name(setting.method)}, recipe {setting.recipe}"


def column_of(setting: Setting) -> tuple[str, int, str]:
    return setting.recipe, setting.k, setting.method


def column_names(settings: Sequence[Setting]) -> dict[tuple[str, int, str], str]:
    """The (recipe, k, method) of ``settings`` by k and ORDER, named by method and k, and by the recipe if there are several."""
    several = len({setting.recipe for setting in settings}) > 1
    return {
        column_of(s): f"{display_name(s.method)}, k = {s.k}" + (f", {s.recipe}" if several else "")
        for s in sorted(settings, key=lambda s: (s.k, ORDER.index(s.method) if s.method in ORDER else -1))
    }


def several(settings: Sequence[Setting], fields: Sequence[str] = ("dataset", "recipe")) -> dict[str, str]:
    """Which of ``fields`` have several values in ``settings`` and so need a column, each with its head."""
    heads = {"dataset": "data set", "recipe": "recipe", "method": "method"}
    return {field: heads[field] for field in fields if len({getattr(setting, field) for setting in settings}) > 1}


def with_interval(record: dict, rule: str) -> str:
    """ "99.12 [98.37, 99.87]", "99.12" without an interval, "" without a value."""
    low, high = record[f"{rule}_low"], record[f"{rule}_high"]
    return record[rule] + (f" [{low}, {high}]" if low else "")


def record_of(section: str, setting: Setting, row: str, metric: str) -> dict:
    return {"section": section, **vars(setting), "row": row, "metric": metric}


def metric_record(section: str, setting: Setting, row: Row, metric: str) -> dict:
    """One metric of a row for the CSV: last and best with deviation and interval over seeds, and what is missing."""
    record = record_of(section, setting, row.label, metric) | {"asked": row.asked}
    for rule in RULES:
        spread = row.of(metric, rule)
        record |= spread.record(rule, number) | {f"{rule}_sd": number(spread.sd), "n": row.seeds}
    return record | {"note": "; ".join(filter(None, [row.types, *row.missing]))}


def escaped(line: str) -> str:
    """A line of Markdown in which nothing becomes HTML."""
    text_and_code = re.split(r"((?<!\\)`[^`]*`)", line)  # alternating
    return "".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(text_and_code))


def literal(text: str) -> str:
    """A user's name, or text from a log or a result, for a line of Markdown, where it stays text. ``escaped`` does the <."""
    return re.sub(r"[\\`*\[\]$&~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def markdown(heads: list[str], body: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """A table in plain Markdown. The first ``left`` columns and the source are left-aligned, the rest right; "" is a dash."""
    texts = [[str(cell).replace("|", "\\|").replace("\n", " ") or NONE for cell in row] for row in body]
    align = ["left" if i < left or head == "source" else "right" for i, head in enumerate(heads)]
    return tabulate(texts, heads, tablefmt="pipe", colalign=align, disable_numparse=True).splitlines()
