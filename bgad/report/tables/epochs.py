"""What choosing the epoch on the test set adds to a metric: the best evaluation minus the last, in percentage points."""

import pandas as pd

from bgad.config.methods import PAPER_METHODS
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import Row, Setting, category_rows, measured_means, settings
from bgad.report.collect import CELL, DONE, Collected
from bgad.report.statistics import Spread, number
from bgad.report.tables.format import NAMES, SHOWN, Section, literal, markdown, record_of, several

HEADING = "## What choosing the epoch adds"
RELEASED_EVALUATIONS = 25  # one after each meta epoch


def epochs_section(collected: Collected) -> Section:
    """A sentence for each recipe and data set, then the mean gain of each setting. The records also have each category's.

    Detectors, which are evaluated once, are left out.
    """
    lines = [HEADING, ""]
    table = gains(collected)
    reason = nothing_to_choose(table)
    if reason:
        return [*lines, reason], []
    table = table[table["method"].isin(PAPER_METHODS)]
    groups = list(table.groupby(["recipe", "dataset"], sort=False))
    for (recipe, dataset), of_group in groups:
        sentence = _sentence(of_group)
        lines += [sentence] if len(groups) == 1 else [f"- {dataset}, recipe {recipe}: {sentence[0].lower()}{sentence[1:]}"]
    reading = (
        "A gain is a cell's best evaluation minus its last: the advantage of choosing the epoch on the test set. Brackets are "
        "95 % intervals over seeds (Student's t), each seed averaged over its cells first. A gain is never negative; an "
        f"interval that reaches below 0 only shows how uncertain its mean is. {few_evaluations(table)}"
    )
    lines += ["", reading.strip()]
    parts = list(settings(table))
    fields = several([setting for setting, _ in parts])
    shown, records = [], []
    for setting, part in parts:
        lead = [getattr(setting, field) for field in fields]
        rows = category_rows(setting, part, ["gain"])
        means = measured_means(setting, part, ["gain"])
        shown += [lead + _cells(setting, row, part) for row in means]
        records += _records(setting, rows + means if len(rows) > 1 else rows, part)
    heads = [*fields.values(), "split", "method", "k", "over", "seeds", "evaluations"]
    lines += ["", *markdown([*heads, *(f"{NAMES[m]}, best - last" for m in SHOWN)], shown, left=len(fields) + 4)]
    return lines, records


def gains(collected: Collected) -> pd.DataFrame:
    """The rows of ``collected.metrics`` with ``gain`` = best - last (percentage points, at least 0, nan if not measured) and
    ``evaluations``, the length of the cell's history (nan without one)."""
    counts = collected.history.groupby(CELL).size().rename("evaluations").reset_index()
    metrics = collected.metrics.merge(counts, on=CELL, how="left")
    return metrics.assign(gain=metrics["best"] - metrics["last"])


def nothing_to_choose(of: pd.DataFrame) -> str:
    """Why no epoch could be chosen, as a sentence; "" if one could. ``of`` is what gains() returns."""
    measured = of[of["gain"].notna()]
    if measured.empty:
        return "No cell of this suite is measured yet, so there is nothing to show."
    if (measured["evaluations"] == 1).all():
        return "Every cell was evaluated once, at its last epoch, so there was no epoch to choose: best equals last."
    return ""


def evaluations_text(of: pd.DataFrame) -> str:
    """How many evaluations the measured cells of ``of`` had: "25", "5 to 25", "unknown"."""
    counts = of.loc[of["gain"].notna(), "evaluations"]
    there = counts.dropna().astype(int)
    if there.empty:
        return "unknown"
    low, high = there.min(), there.max()
    text = str(low) if low == high else f"{low} to {high}"
    return text + (" (of some unknown)" if counts.isna().any() else "")


def few_evaluations(of: pd.DataFrame) -> str:
    """What few evaluations mean, as a sentence; "" unless some cell has fewer than the released code's."""
    if not (of.loc[of["gain"].notna(), "evaluations"] < RELEASED_EVALUATIONS).any():
        return ""
    return (
        "Few evaluations leave little to choose from. With more evaluations of the same training, the best could only be equal "
        f"or higher; the released protocol has {RELEASED_EVALUATIONS}."
    )


def _sentence(of_group: pd.DataFrame) -> str:
    """Over the cells of one recipe and data set."""
    measured = of_group[of_group["gain"].notna()]
    if measured.empty:
        return "No cell is measured yet."
    n = len(measured[CELL].drop_duplicates())
    cells = "one cell" if n == 1 else f"{n} cells"
    evaluations = evaluations_text(of_group)
    if evaluations == "1":
        return f"{cells[0].upper()}{cells[1:]} with one evaluation each had no epoch to choose."
    many = "an unknown number of evaluations" if evaluations == "unknown" else f"{evaluations} evaluations each"
    averages, largest, unequal = [], [], False
    for metric in SHOWN:
        of_metric = measured[measured["metric"] == metric]
        if not of_metric.empty:
            by_cell = of_metric.pivot(index=["kind", "k", "method", "category", "split"], columns="seed", values="gain")
            equal = not by_cell.isna().any(axis=None)
            unequal |= not equal
            mean = Spread.of(by_cell.mean()).text(number) if equal else number(of_metric["gain"].mean())
            averages.append(f"{mean} in {NAMES[metric]}")
            largest.append(f"{number(of_metric['gain'].max())} in {NAMES[metric]}")
    text = (
        f"Over {cells} with {many}, taking the best evaluation on the test set instead of the last adds {_listed(averages)} on "
        f"average (percentage points), and at most {_listed(largest)} in a single cell."
    )
    return f"{text} The seeds have different cells, so this mean has no interval; those below do." if unequal else text


def _cells(setting: Setting, row: Row, part: pd.DataFrame) -> list[object]:
    what = [setting.kind, setting.method, setting.k, literal(row.full_label) + " †" * bool(row.missing), row.seeds_text]
    return [*what, _evaluations(row, part), *(row.of(metric, "gain").text(number) for metric in SHOWN)]


def _records(setting: Setting, rows: list[Row], part: pd.DataFrame) -> list[dict]:
    records = []
    for row in rows:
        note = "; ".join(filter(None, [f"{_evaluations(row, part) or 'no'} evaluations", row.types]))
        for metric in METRICS:
            record = record_of("epoch_choice", setting, row.label, metric) | row.of(metric, "gain").record("difference", number)
            records.append(record | {"asked": row.asked, "note": note})
    return records


def _evaluations(row: Row, part: pd.DataFrame) -> str:
    """How many evaluations the row's cells had; "" if none is measured."""
    of_row = part[part["category"] == row.category] if row.category in set(part["category"]) else part
    return evaluations_text(of_row) if (of_row["status"] == DONE).any() else ""


def _listed(texts: list[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
