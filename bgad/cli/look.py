"""Commands that look at what there is: two results side by side, where a result came from, what this machine can do."""

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
    best: Annotated[bool, Option("--best", help="Best epochs, chosen on the test set, instead of last ones.")] = False,
    stale: Annotated[bool, Option("--stale", help="Stale cells too: what changed may be what is compared.")] = False,
    as_json: AsJson = False,
    datasets: Datasets = None,
) -> None:
    """Compares two cells or two sets of cells: differences of their figures, paired over seeds, with 95 % intervals.

    Cells make a pair that agree in data set, category and seed, and in those of recipe, split, k and method of which A and B
    have a value in common.

    Example: bgad compare results/demo/mini/brick/seen/k10/bgad/seed0 results/demo/mini/brick/seen/k0/bgad-wo/seed0
    """
    from bgad.report.compare import compare as compare_sides
    from bgad.report.compare_text import as_text, as_values

    sides = _side(a, datasets), _side(b, datasets)
    rule = "best" if best else "last"
    found = compare_sides(*sides, rule, stale)
    _print(as_values(*sides, rule, found) if as_json else as_text(*sides, rule, found))


@app.command()
def explain(
    cell: Annotated[Path, Argument(help="Folder of a cell.")],
    image: Annotated[str | None, Option(help="A test image of the cell: its score, rank and verdict as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Says where a cell's figures came from, whether that is still the same today, and how to make the cell again.

    Example: bgad explain results/demo/mini/brick/seen/k10/bgad/seed0
    """
    from bgad.report.explain import explain as explain_cell
    from bgad.report.explain import explain_image
    from bgad.report.explain_text import as_text

    found = explain_cell(cell)
    of_image = explain_image(cell, image) if image else None
    _print(found | ({"image": asdict(of_image)} if of_image else {}) if as_json else as_text(found, of_image))


@app.command()
def doctor(
    check: Annotated[str | None, Option(metavar="SUITE", help="End with status 1 if that suite cannot run here.")] = None,
    as_json: AsJson = False,
    datasets: Datasets = None,
) -> None:
    """Says what this machine has and lacks, and what each suite of config/config.yaml would take on it.

    Looks at files and devices, not at the network: what is to be downloaded counts as no lack.

    Example: bgad doctor --check demo
    """
    from bgad.cli.doctor.doctor import examine
    from bgad.cli.doctor.doctor_text import as_text, as_values
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
