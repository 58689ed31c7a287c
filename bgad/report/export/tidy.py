"""A suite's results as one tidy table, a row a figure, in CSV and Parquet.

    recipe .. seed            the cell
    test_set                  test; full_test: nothing taken out, of k0 cells; released_test_command: known anomalies left in
    type, known               one defect type against all normal test images, and whether training knew it; empty: all types
    metric, rule, value       in percent; rule last: of the last epoch; best: the maximum over the evaluations on the test set
    epoch                     that the value is of, from 0; empty where history.csv is missing
    n                         anomalous images behind the value; empty where metrics.json does not say
    device .. weights_sha256  where the value comes from

A figure that is undefined, as pixel AUROC is without masks, and a cell without figures have no rows.
"""

from pathlib import Path

import pandas as pd

from bgad.config.cells import Cell
from bgad.errors import BgadError
from bgad.io import several, write_text
from bgad.report.collect import CELL as CELL_AND_KIND
from bgad.report.collect import DONE, METRICS, ORIGINS, Collected, collect

CELL = CELL_AND_KIND[:7]
RULES = ("last", "best")
FIGURE = ["test_set", "type", "known", "metric", "rule", "value", "epoch", "n"]
ORIGIN = ORIGINS[len(CELL_AND_KIND) :]
COLUMNS = [*CELL, *FIGURE, *ORIGIN]
# The types of the columns that are not text; the capital ones are pandas' own, which can be empty.
TYPES = {"k": "int64", "seed": "int64", "known": "boolean", "value": "float64", "epoch": "Int64", "n": "Int64"}


def write_results(suite_name: str, cells: list[Cell], folder: Path, root: Path = Path()) -> dict[Cell, str]:
    """Writes ``folder / results.csv`` and ``results.parquet`` from the cells whose folders are under ``root``.

    Returns the cells that have no rows, each with the reason. BgadError where none has any.
    """
    collected = collect(cells, root)
    missing = {cell: status for cell, status in collected.status.items() if status != DONE}
    if len(missing) == len(cells):
        raise BgadError(
            f"suite {suite_name}: none of its {len(cells)} cells is measured; "
            f"run snakemake --cores all reports/{suite_name}/table.md first."
        )
    table = tidy(collected)
    with several(folder) as staging:  # both or none, since they say the same
        write_text(staging / "results.csv", table.to_csv(index=False, lineterminator="\n"))
        table.to_parquet(staging / "results.parquet", index=False)
    return missing


def tidy(collected: Collected) -> pd.DataFrame:
    """The rows of all cells, in the order of the suite, with the columns COLUMNS."""
    last_epoch = collected.history.groupby(CELL, sort=False)["epoch"].max().rename("last_epoch").reset_index()
    anomalous = collected.by_type.groupby(CELL, sort=False)["n"].sum().reset_index()
    parts = [
        _by_rule(collected.figures, "test").merge(anomalous, "left", CELL),
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


def _by_rule(figures: pd.DataFrame, test_set: str) -> pd.DataFrame:
    names = [*CELL, "metric", "best_epoch"]
    return figures.melt(names, [*RULES], "rule", "value").assign(test_set=test_set)


def _by_type(figures: pd.DataFrame) -> pd.DataFrame:
    long = figures.melt([*CELL, "type", "known", "n"], [*METRICS[:2]], "metric", "value")
    return long.assign(test_set="test", rule="last")
