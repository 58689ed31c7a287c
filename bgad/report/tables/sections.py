"""The sections of a suite's table with its own metrics: settings, known and unseen types, the whole test set."""

import math

import pandas as pd

from bgad.config.methods import display_name
from bgad.evaluation.metrics import METRICS
from bgad.report.averages import MEAN, RULES, Row, Setting, mean_rows, rows, settings, types_against_k0
from bgad.report.collect import DONE, Collected
from bgad.report.statistics import number, signed
from bgad.report.tables.format import (
    NAMES,
    SHOWN,
    Section,
    are_missing,
    markdown,
    metric_record,
    paragraphs,
    record_of,
    title,
    with_sd,
)
from bgad.report.tables.published import OTHERS, OWN, compared, numbers_of, others_lines, others_tables

BOTH_PROS = (
    f"**{NAMES['aupro']}** is exact, as in MVTec's own evaluation: the mean overlap per region at every threshold, with "
    "straight lines between the points, up to a false positive rate of 0.3. "
    f"**{NAMES['released_pro']}** is what the released code prints: it takes 1000 evenly spaced thresholds, keeps the points "
    "up to that rate and stretches them over the range, without interpolation. The two differ, and no column mixes them."
)


def glance_section(collected: Collected) -> Section:
    """A row for each setting: the mean over its categories. The tables that follow have the details and the CSV records."""
    shown, missing = [], False
    for setting, part in settings(collected.metrics):
        mean = mean_rows(setting, part, RULES)[0]
        of_row = [metric_record("glance", setting, mean, metric) for metric in SHOWN]
        what = [setting.recipe, setting.dataset, setting.kind, display_name(setting.method), setting.k, _over(mean, part)]
        shown.append([*what, mean.seeds_text, *(with_sd(record, rule) for record in of_row for rule in RULES)])
        missing |= bool(mean.missing)
    heads = ["recipe", "data set", "split", "method", "k", "mean over", "seeds"]
    heads += [f"{NAMES[metric]}, {rule}" for metric in SHOWN for rule in RULES]
    note = ["A setting with a missing cell has no mean here; its own table shows what is measured."] if missing else []
    return ["## At a glance", "", *markdown(heads, shown, left=4), *paragraphs(note)], []


def settings_section(collected: Collected) -> Section:
    """A table for each recipe, data set, kind of split, k and method: its categories, then the means over them."""
    lines, records = ["## Every setting", "", BOTH_PROS], []
    for setting, part in settings(collected.metrics):
        table_lines, table_records = _table("setting", setting, rows(setting, part), part)
        lines += ["", f"### {title(setting)}", "", *table_lines]
        records += table_records
    return lines, records


def full_test_section(collected: Collected) -> Section:
    """The k0 cells on the whole test set, next to the published numbers of unsupervised methods."""
    lines, records, context, others = ["## The whole test set", ""], [], [], []
    if collected.full_test.empty:
        return [*lines, "This suite has no cell with k = 0. Only those are also tested on the whole test set."], []
    lines.append(
        "Without known anomalies (k = 0), on the whole test set: no image is taken out, which is how unsupervised methods are "
        "evaluated."
    )
    # The k0 cells of hard splits are the same trainings; only their other test set differs.
    seen = collected.full_test[collected.full_test["kind"] == "seen"]
    for setting, part in settings(collected.full_test if seen.empty else seen):
        table = rows(setting, part)
        table_lines, table_records = _table("full_test", setting, table, part)
        lines += [
            "",
            f"### {setting.dataset}, whole test set, k = 0, {display_name(setting.method)}, recipe {setting.recipe}",
            "",
            *table_lines,
        ]
        records += table_records
        tables, of_others = others_tables(f"{OTHERS}, whole test set", setting, table, "unsupervised")
        context += tables
        others += of_others
    return [*lines, *others_lines(context, "Unsupervised methods on the whole test set")], records + others


def types_section(collected: Collected) -> Section:
    """Defect types that training knew against those it did not, next to the same types at k = 0."""
    lines = ["## Known against unseen defect types", ""]
    with_k = collected.metrics[(collected.metrics["k"] > 0) & (collected.metrics["metric"] == METRICS[0])]
    if with_k.empty:
        return [*lines, "No cell of this suite knows an anomaly, so every defect type is unseen."], []
    lines += [
        "Each defect type against all normal test images, at the last epoch: the mean over a cell's types, then over cells. "
        "`at k = 0` has the same types, splits and seeds, without known anomalies. In hard splits every tested type is unseen.",
        "",
    ]
    types, shown, records, notes = types_against_k0(collected), [], [], []
    for setting, part in settings(with_k):
        asked, done = len(part), int((part["status"] == DONE).sum())
        mark = " †" if done < asked else ""
        if mark:
            notes.append(f"† {title(setting)}: {are_missing(asked - done, asked)}.")
        of_setting = types[(types[[*vars(setting)]] == pd.Series(vars(setting))).all(axis=1)]
        for known in (True, False) if setting.kind == "seen" else (False,):
            of = of_setting[of_setting["known"] == known]
            row = "known types" if known else "unseen types"
            first, second = (_types_record(setting, row, metric, of, asked) for metric in METRICS[:2])
            shown.append([title(setting), row, str(first["types"]), f"{first['n']} of {asked}"])
            for record in (first, second):
                last = record["last"] + (mark if record["last"] else "")
                shown[-1] += [record["last_at_k0"], last, record["last_minus_k0"]]
            records += [first, second]
    heads = ["setting", "types", "n types", "in cells", "image AUROC, at k = 0", "image AUROC", "gain"]
    heads += ["pixel AUROC, at k = 0", "pixel AUROC", "gain"]
    return [*lines, *markdown(heads, shown, left=2), *paragraphs(notes)], records


def _types_record(setting: Setting, row: str, metric: str, of: pd.DataFrame, asked: int) -> dict:
    """The mean over each cell's types, then over cells; types without the metric are left out."""
    of = of.dropna(subset=[metric])
    cells = of.groupby(["category", "split", "seed"], sort=False)[[metric, f"{metric}_k0"]]
    means = cells.mean().mean()
    # Compared only if every type of every cell has its k0 counterpart.
    at_k0 = math.nan if of[f"{metric}_k0"].isna().any() else means[f"{metric}_k0"]
    return record_of("known_unseen", setting, row, metric) | {
        "n": cells.ngroups,
        "asked": asked,
        "types": len(of[["category", "type"]].drop_duplicates()),
        "last": number(means[metric]),
        "last_at_k0": number(at_k0),
        "last_minus_k0": signed(means[metric] - at_k0),
    }


def _table(section: str, setting: Setting, table: list[Row], part: pd.DataFrame) -> Section:
    """Last next to best for each metric and row, and a column of BGAD's published numbers if there are any."""
    records, shown = [], []
    numbers = {(row.label, metric): numbers_of(setting, row, metric) for row in table for metric in METRICS}
    with_published = [metric for metric in METRICS if section == "setting" and any(numbers[r.label, metric] for r in table)]
    for row in table:
        mark, texts, sources = " †" if row.missing else "", [], []
        for metric in METRICS:
            record = metric_record(section, setting, row, metric)
            records.append(record)
            for rule in RULES:
                texts.append(with_sd(record, rule) + (mark if record[rule] else ""))
            if metric in with_published:
                of = [compared(OWN, setting, row, metric, one) for one in numbers[row.label, metric]]
                texts.append("; ".join(_published_cell(record) for record in of))
                sources += [one.paper for one in numbers[row.label, metric]]
        label = row.full_label + (mark if row.category in (MEAN, "") else "")
        source = ["; ".join(dict.fromkeys(sources))] if with_published else []
        shown.append([label, row.seeds_text, *texts, *source])
    if not (part["status"] == DONE).any():
        return [f"None of its {len(part) // len(METRICS)} cells is measured (see Missing, stale and failed cells)."], records

    heads = ["category", "seeds"]
    for metric in METRICS:
        heads += [f"{NAMES[metric]}, {rule}" for rule in RULES]
        heads += ["published (last, best against it)"] * (metric in with_published)
    return markdown([*heads, *["source"] * bool(with_published)], shown) + _notes(table, part), records


def _notes(table: list[Row], part: pd.DataFrame) -> list[str]:
    """Why a metric is missing."""
    notes = []
    missing = next(row.missing for row in table if row.category == MEAN)
    if missing:
        notes.append(
            f"† {are_missing(len(missing), len(part) // len(METRICS))}, so there is no mean over all categories: "
            f"{'; '.join(missing)}."
        )
    null = part[(part["status"] == DONE) & part["last"].isna()]
    for metric, of in null.groupby("metric", sort=False):
        notes.append(f"{NAMES[metric]} is not defined for {', '.join(of['category'].unique())}.")
    return paragraphs(notes)


def _over(mean: Row, part: pd.DataFrame) -> str:
    """What a mean is over: the number of categories, and their names if there are at most two."""
    names = list(part["category"].unique())
    text = mean.label.removeprefix("mean over ") + (f": {', '.join(names)}" if len(names) < 3 else "")
    return f"{text}; {mean.types}" if mean.types else text


def _published_cell(record: dict) -> str:
    if record["note"] and not record["last"]:
        return f"{record['published']} ({record['note']})"
    against = (f"{record[f'{rule}_minus_published']} {record[f'verdict_{rule}']}" for rule in RULES)
    return f"{record['published']} ({', '.join(against)})"
