"""What other tools take from a finished run: `bgad export results`, `model` and `card`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from bgad.cli.app import app
from bgad.cli.options import Datasets, SuiteName, Weights, data_root, suite_cells

export = typer.Typer(
    help="Takes results out, for other tools: a suite's figures, a cell's model and its card.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(export, name="export")

CellFolder = Annotated[Path, Argument(metavar="CELL", help="Folder of a finished cell.")]


@export.command()
def model(
    cell: CellFolder,
    output: Annotated[Path, Option("--out", help="TorchScript file to write.")],
    weights: Weights = None,
    datasets: Datasets = None,
) -> None:
    """Writes a cell's model as one TorchScript file, and checks that it scores the cell's test images as the cell did.

    Example: bgad export model results/demo/mini/brick/seen/k10/bgad/seed0 --out brick.pt
    """
    from bgad import devices
    from bgad.config.cells import Cell
    from bgad.report.export.torchscript import export_model

    devices.choose("cpu")
    of = Cell.of_folder(cell)
    root = data_root(datasets, of.dataset)
    count, from_predict, from_scores = export_model(cell, root, output, weights)
    print(
        f"{output}: on {count} test images its scores differ by at most {from_predict:.1e} from those of `bgad predict`, "
        f"and by {from_scores:.1e} from those in scores.csv."
    )


@export.command()
def results(
    suite: SuiteName,
    folder: Annotated[Path, Option("--out", help="Folder to write results.csv and results.parquet to.")],
    datasets: Datasets = None,
) -> None:
    """Writes a suite's figures as one tidy table, in CSV and Parquet, from the cells that are there.

    Example: bgad export results demo --out reports/demo
    """
    from bgad.report.export.tidy import write_results

    wanted = suite_cells(suite, datasets)[1]
    missing = write_results(suite, wanted, folder)
    if missing:
        first, reason = next(iter(missing.items()))
        count = f"{len(missing)} of {len(wanted)} cells without figures, and so without rows"
        print(f"note: {count}; the first is {first.folder} ({reason}).", file=sys.stderr)


@export.command()
def card(
    cell: CellFolder,
    output: Annotated[Path, Option("--out", help="Markdown file to write.")],
) -> None:
    """Writes a cell's model card as Hugging Face reads it: what it is, its limits, data, figures and where it comes from.

    Example: bgad export card results/demo/mini/brick/seen/k10/bgad/seed0 --out card.md
    """
    from bgad.report.export.card import write_card

    write_card(cell, output)
