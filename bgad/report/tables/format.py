"""How a suite's metrics are written: the same text in Markdown and in the CSV."""

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from bgad.config.methods import display_name
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import RULES, Row, Setting
from bgad.report.statistics import number

NAMES = dict(zip(METRICS, ("image AUROC", "pixel AUROC", "AUPRO", "PRO (released)"), strict=True))
SHOWN = METRICS[:3]  # in plots and wide tables, which have no room for a fourth; the CSV has all four
NONE = "—"
# Markdown lines, and records of the CSV.
Section = tuple[list[str], list[dict]]


def title(setting: Setting) -> str:
    return f"{setting.dataset}, {setting.kind}, k = {setting.k}, {display_name(setting.method)}, recipe {setting.recipe}"


def with_sd(record: dict, rule: str) -> str:
    """ "99.12 ± 0.30", "99.12" with a single seed, "" without a value."""
    sd = record[f"{rule}_sd"]
    return record[rule] + (f" ± {sd}" if sd else "")


def with_interval(record: dict, rule: str) -> str:
    """ "99.12 ± 0.30 [98.37, 99.87]": with the 95 % interval over seeds if there are at least two."""
    low, high = record[f"{rule}_low"], record[f"{rule}_high"]
    return with_sd(record, rule) + (f" [{low}, {high}]" if low else "")


def record_of(section: str, setting: Setting, row: str, metric: str) -> dict:
    return {"section": section, **vars(setting), "row": row, "metric": metric}


def metric_record(section: str, setting: Setting, row: Row, metric: str) -> dict:
    """One metric of a row for the CSV: last and best with deviation and interval over seeds, and what is missing."""
    record = record_of(section, setting, row.label, metric) | {"asked": row.asked}
    for rule in RULES:
        spread = row.of(metric, rule)
        record |= spread.record(rule, number) | {f"{rule}_sd": number(spread.sd), "n": row.seeds}
    return record | {"note": "; ".join(filter(None, [row.types, *row.missing]))}


def are_missing(missing: int, cells: int) -> str:
    return f"{missing} of {cells} cells {'is' if missing == 1 else 'are'} missing"


def escaped(line: str) -> str:
    """A line of Markdown in which nothing becomes HTML."""
    text_and_code = re.split(r"((?<!\\)`[^`]*`)", line)  # alternating
    return "".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(text_and_code))


def literal(text: str) -> str:
    """A user's name, or text from a log or a result, for a line of Markdown, where it stays text. ``escaped`` does the <."""
    return re.sub(r"[\\`*\[\]$&~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def paragraphs(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in ("", text)]


def markdown(heads: list[str], body: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """A table in plain Markdown. The first ``left`` columns and the source are left-aligned, the rest right; "" is a dash."""
    texts = [[str(cell).replace("|", "\\|").replace("\n", " ") or NONE for cell in row] for row in body]
    align = ["left" if i < left or head == "source" else "right" for i, head in enumerate(heads)]
    return tabulate(texts, heads, tablefmt="pipe", colalign=align, disable_numparse=True).splitlines()
