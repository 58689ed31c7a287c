"""Exports for other tools: `bgad export results` and `bgad export model`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from bgad.cli.app import app
from bgad.cli.options import Datasets, SuiteName, Weights, data_root, suite_cells

export = typer.Typer(
    help="Exports a suite's metrics or a cell's model for other tools.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(export, name="export")

CellFolder = Annotated[Path, Argument(metavar="CELL", help="Folder of a finished cell.")]


@export.command()
def model(
    cell: CellFolder,
    output: Annotated[Path, Option("--out", help="ONNX file to write.")],
    weights: Weights = None,
    datasets: Datasets = None,
) -> None:
    """Writes a cell's model as one ONNX file, and checks its scores on some of the cell's test images.

    Images in, anomaly maps and scores out; the file's metadata describes both. Needs the extra export: pip install '.[export]'

    Example: bgad export model results/demo/mini/brick/seen/k10/bgad/seed0 --out brick.onnx
    """
    from bgad import devices
    from bgad.config.origins import located, origin_of
    from bgad.report.export.onnx import export_model

    devices.choose("cpu")
    (of_folder, project), origin = located(cell), origin_of(cell)
    root = Path(origin.images) if origin else data_root(datasets, of_folder.dataset, project)
    count, from_predict, from_scores = export_model(cell, root, output, weights)
    print(
        f"{output}: on {count} test images the scores differ by at most {from_predict:.1e} from those of `bgad predict`, which "
        f"differ by {from_scores:.1e} from scores.csv."
    )


@export.command()
def results(
    suite: SuiteName,
    folder: Annotated[Path, Option("--out", help="Folder to write results.csv and results.parquet to.")],
    datasets: Datasets = None,
) -> None:
    """Writes a suite's metrics as one tidy table, in CSV and Parquet, from its finished cells.

    Example: bgad export results demo --out reports/demo
    """
    from bgad.report.export.tidy import write_results

    wanted = suite_cells(suite, datasets)[1]
    missing = write_results(suite, wanted, folder)
    if missing:
        first, reason = next(iter(missing.items()))
        count = f"{len(missing)} of {len(wanted)} cells have no metrics and no rows"
        print(f"note: {count}; the first is {first.folder} ({reason}).", file=sys.stderr)
