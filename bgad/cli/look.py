"""Commands that only look: compare results, explain where one came from, check this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from bgad.cli.app import app
from bgad.cli.options import AsJson, Datasets, configuration, data_sets, suite_cells
from bgad.config.names import shown

Cells = Annotated[str, Argument(help="A cell's folder, a folder that holds cells, or the name of a suite.")]


@app.command()
def compare(
    a: Cells,
    b: Cells,
    best: Annotated[bool, Option("--best", help="Compare best epochs, chosen on the test set, instead of last ones.")] = False,
    stale: Annotated[bool, Option("--stale", help="Include stale cells, to compare what changed.")] = False,
    as_json: AsJson = False,
    datasets: Datasets = None,
) -> None:
    """Compares two cells or two sets of cells: differences of their metrics, paired over seeds, with 95 % intervals.

    Cells are paired by data set, category and seed, and by recipe, split, k and method where A and B share a value.

    Example: bgad compare results/demo/mini/brick/seen/k10/bgad/seed0 results/demo/mini/brick/seen/k0/bgad-wo/seed0
    """
    from bgad.report.compare import as_text, as_values
    from bgad.report.compare import compare as compare_sides

    sides = _side(a, datasets), _side(b, datasets)
    rule = "best" if best else "last"
    found = compare_sides(*sides, rule, stale)
    _print(as_values(*sides, rule, found) if as_json else as_text(*sides, rule, found))


@app.command()
def explain(
    cell: Annotated[Path, Argument(help="Folder of a cell.")],
    image: Annotated[str | None, Option(help="A test image of the cell, to add its score, rank and verdict.")] = None,
    as_json: AsJson = False,
) -> None:
    """Says where a cell's metrics came from, what has changed since, and how to make the cell again.

    Example: bgad explain results/demo/mini/brick/seen/k10/bgad/seed0
    """
    from bgad.report.explain import as_text, explain_image
    from bgad.report.explain import explain as explain_cell

    found = explain_cell(cell)
    of_image = explain_image(cell, image) if image else None
    _print(found | ({"image": asdict(of_image)} if of_image else {}) if as_json else as_text(found, of_image))


@app.command()
def doctor(
    check: Annotated[str | None, Option(metavar="SUITE", help="Exit with status 1 if that suite cannot run here.")] = None,
    as_json: AsJson = False,
    datasets: Datasets = None,
) -> None:
    """Says what this machine lacks, and how long each suite would take on it, from the cells measured here.

    Uses no network: what the workflow can download does not count as missing.

    Example: bgad doctor --check demo
    """
    from bgad.cli.doctor import as_text, as_values, examine
    from bgad.config import paths
    from bgad.config.settings import load_suite

    config = configuration().model_copy(update={"datasets": data_sets(datasets)})
    if check:
        load_suite(paths.suite_file(check))  # a wrong name ends here
    found = examine(config, dict.fromkeys([*config.suites, *filter(None, [check])]))
    _print(as_values(found) if as_json else as_text(found))
    if any(need.suite == check and need.cannot for need in found.suites):
        raise Exit(1)


def _side(name: str, datasets: str | None):
    from bgad.config import paths
    from bgad.report.compare import Side, cells_below

    if Path(name).name == name and paths.suite_file(name).is_file():
        return Side(f"suite {name}", suite_cells(name, datasets)[1], Path())
    return cells_below(Path(name))


def _print(found: str | dict) -> None:
    if isinstance(found, str):
        print(*(shown(line) for line in found.split("\n")), sep="\n")
    else:
        print(json.dumps(found, indent=1, allow_nan=False))
