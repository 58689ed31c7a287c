"""The sections of table.csv that the Markdown leaves out: the whole test set, the released test command, defect types."""

import math

import pandas as pd

from bgad.evaluation.metrics import METRICS
from bgad.report.averages import rows, settings, types_against_k0
from bgad.report.collect import Collected
from bgad.report.statistics import number, signed
from bgad.report.tables.format import metric_record, record_of
from bgad.report.tables.published import OTHERS, other_records


def full_test_records(collected: Collected) -> list[dict]:
    """The k0 cells on the whole test set, no known anomaly taken out, then the published numbers of unsupervised methods.

    On the whole test set all splits are the same, so only the seen ones are counted if there are any.
    """
    seen = collected.full_test[collected.full_test["kind"] == "seen"]
    records, others = [], []
    for setting, part in settings(collected.full_test if seen.empty else seen):
        table = rows(setting, part)
        records += [metric_record("full_test", setting, row, metric) for row in table for metric in METRICS]
        others += other_records(f"{OTHERS}, whole test set", setting, table, "unsupervised", collected.margin)
    return records + others


def released_records(collected: Collected) -> list[dict]:
    """The last epoch as the released test command counts it, which leaves the known anomalies in the test set.

    ``difference`` is it minus our last on the test set without them. Only recipes with the quirk
    test_command_keeps_known have these metrics.
    """
    records = []
    metrics = dict(settings(collected.metrics))
    for setting, part in settings(collected.released_test):
        if part["last"].isna().all():
            continue
        ours = {row.label: row for row in rows(setting, metrics[setting])}
        for row in rows(setting, part):
            for metric in METRICS:
                gain = row.of(metric, "last").mean - ours[row.label].of(metric, "last").mean if row.label in ours else math.nan
                record = metric_record("released_test_command", setting, row, metric)
                records.append(record | {"against": "last", "difference": signed(gain)})
    return records


def type_records(collected: Collected) -> list[dict]:
    """Defect types that training knew and those that it did not, next to the same types at k = 0: the mean over a cell's types,
    then over cells. In hard splits every tested type is unseen."""
    with_k = collected.metrics[(collected.metrics["k"] > 0) & (collected.metrics["metric"] == METRICS[0])]
    types, records = types_against_k0(collected), []
    for setting, part in settings(with_k):
        of_setting = types[(types[[*vars(setting)]] == pd.Series(vars(setting))).all(axis=1)]
        for known in (True, False) if setting.kind == "seen" else (False,):
            row = "known types" if known else "unseen types"
            for metric in METRICS[:2]:
                of_types = of_setting[of_setting["known"] == known].dropna(subset=[metric])
                record = record_of("known_unseen", setting, row, metric) | {"asked": len(part)}
                records.append(record | _types_mean(of_types, metric))
    return records


def _types_mean(of_types: pd.DataFrame, metric: str) -> dict:
    cells = of_types.groupby(["category", "split", "seed"], sort=False)[[metric, f"{metric}_k0"]]
    means = cells.mean().mean()
    # Compared only if every type of every cell has its k0 counterpart.
    at_k0 = math.nan if of_types[f"{metric}_k0"].isna().any() else means[f"{metric}_k0"]
    return {
        "n": cells.ngroups,
        "types": len(of_types[["category", "type"]].drop_duplicates()),
        "last": number(means[metric]),
        "last_at_k0": number(at_k0),
        "last_minus_k0": signed(means[metric] - at_k0),
    }
