"""A suite's results as one tidy table, one metric a row, in CSV and Parquet.

    recipe .. seed            the cell
    test_set                  test; full_test: the complete test set, for k0 cells; released_test_command: with known anomalies
    type, known               one defect type against all normal test images, and whether training knew it; empty for all types
    metric, rule, value       in percent; rule last: the last epoch's; best: the maximum over the evaluations on the test set
    epoch                     the value's epoch, from 0; empty without history.csv
    n                         number of anomalous images; empty if metrics.json does not have it
    device .. weights_sha256  where the value comes from

Undefined metrics (such as pixel AUROC without masks) and cells without metrics have no rows.
"""

from pathlib import Path

import pandas as pd

from bgad.config.cells import Cell
from bgad.errors import FileError
from bgad.evaluation.metrics import METRICS
from bgad.io import several, write_text
from bgad.report.averages import RULES
from bgad.report.collect import CELL as CELL_AND_KIND
from bgad.report.collect import DONE, ORIGINS, Collected, collect

CELL = CELL_AND_KIND[:7]
VALUE = ["test_set", "type", "known", "metric", "rule", "value", "epoch", "n"]
ORIGIN = ORIGINS[len(CELL_AND_KIND) :]
COLUMNS = [*CELL, *VALUE, *ORIGIN]
# Other columns are text. The capitalised types are pandas' own, which can be empty.
TYPES = {"k": "int64", "seed": "int64", "known": "boolean", "value": "float64", "epoch": "Int64", "n": "Int64"}


def write_results(suite_name: str, cells: list[Cell], folder: Path, root: Path = Path()) -> dict[Cell, str]:
    """Writes ``folder / results.csv`` and ``results.parquet`` from the cells whose folders are under ``root``.

    Returns the cells without rows, each with the reason. FileError if no cell has any.
    """
    collected = collect(cells, root)
    missing = {cell: status for cell, status in collected.status.items() if status != DONE}
    if len(missing) == len(cells):
        raise FileError(
            f"suite {suite_name}: none of its {len(cells)} cells has metrics; "
            f"run snakemake --cores all reports/{suite_name}/table.md first."
        )
    table = tidy(collected)
    with several(folder) as staging:  # both or neither
        write_text(staging / "results.csv", table.to_csv(index=False, lineterminator="\n"))
        table.to_parquet(staging / "results.parquet", index=False)
    return missing


def tidy(collected: Collected) -> pd.DataFrame:
    """One row per metric with the columns COLUMNS, cells in the order of the suite."""
    last_epoch = collected.history.groupby(CELL, sort=False)["epoch"].max().rename("last_epoch").reset_index()
    anomalous = collected.by_type.groupby(CELL, sort=False)["n"].sum().reset_index()
    parts = [
        _by_rule(collected.metrics, "test").merge(anomalous, "left", CELL),
        _by_rule(collected.full_test, "full_test"),
        _by_rule(collected.released_test, "released_test_command"),
        _by_type(collected.by_type),
    ]
    table = pd.concat([part for part in parts if len(part)]).dropna(subset="value")
    origins = collected.origins[[*CELL, *ORIGIN]]
    table = table.merge(last_epoch, "left", CELL).merge(origins.mask(origins == ""), "left", CELL)
    table["epoch"] = table["best_epoch"].where(table["rule"] == "best", table["last_epoch"])
    place = {tuple(vars(cell).values()): number for number, cell in enumerate(collected.status)}
    in_order = sorted(range(len(table)), key=[place[of] for of in table[CELL].itertuples(index=False, name=None)].__getitem__)
    return table.iloc[in_order].reindex(columns=COLUMNS).astype({name: TYPES.get(name, "string") for name in COLUMNS})


def _by_rule(metrics: pd.DataFrame, test_set: str) -> pd.DataFrame:
    names = [*CELL, "metric", "best_epoch"]
    return metrics.melt(names, [*RULES], "rule", "value").assign(test_set=test_set)


def _by_type(metrics: pd.DataFrame) -> pd.DataFrame:
    long = metrics.melt([*CELL, "type", "known", "n"], [*METRICS[:2]], "metric", "value")
    return long.assign(test_set="test", rule="last")
