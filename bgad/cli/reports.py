"""Reports of a suite's cells. Each command is one rule of the workflow."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from bgad.cli.app import app
from bgad.cli.options import Datasets, Margin, SuiteName, check_in_project, configuration, data_root, suite_cells


@app.command()
def cells(suite: SuiteName, datasets: Datasets = None) -> None:
    """Lists the folders of a suite's cells.

    Example: bgad cells demo
    """
    for cell in suite_cells(suite, datasets)[1]:
        print(cell.folder.as_posix())


@app.command()
def table(
    suite: SuiteName,
    output: Annotated[Path, Option(help="Markdown file to write; a CSV file goes next to it.")],
    plots: Annotated[Path, Option(help="Folder of the plots that the table links to.")],
    datasets: Datasets = None,
    margin: Margin = None,
) -> None:
    """Writes a suite's table from its finished cells, and names the others.

    Example: bgad table demo --output reports/demo/table.md --plots reports/demo
    """
    from bgad.report.tables.suite import write_table

    definition, wanted, left_out = suite_cells(suite, datasets)
    write_table(
        suite, definition, wanted, output, output.with_suffix(".csv"), plots, Path(), left_out, margin or configuration().margin
    )


@app.command()
def report(
    suite: SuiteName,
    output: Annotated[Path, Option(help="HTML file to write.")],
    datasets: Datasets = None,
    margin: Margin = None,
) -> None:
    """Writes a suite's report from its finished cells, as one HTML file that opens offline.

    Example: bgad report demo --output reports/demo/report.html
    """
    from bgad.report.page.page import write_page

    definition, wanted, left_out = suite_cells(suite, datasets)
    write_page(suite, definition, wanted, output, Path(), left_out, margin or configuration().margin)


@app.command()
def results_page(datasets: Datasets = None) -> None:
    """Keeps what is measured in reports/measured, and writes the tables of README.md and reports/README.md from it.

    Example: bgad results-page --datasets '{"mvtec": {"path": "/data/mvtec"}}'
    """
    from bgad.report.results_page import PAGES, store, suites_of, write_pages

    check_in_project()
    pages = [Path(name) for name in PAGES]
    if Path("results").is_dir():
        for suite in suites_of(pages):
            print(store(suite, suite_cells(suite, datasets)[1]))
    write_pages(pages)


@app.command()
def plots(
    suite: SuiteName,
    output: Annotated[Path, Option(help="Folder to write to.")],
    datasets: Datasets = None,
) -> None:
    """Draws a suite's plots, as SVG and PNG.

    Example: bgad plots demo --output reports/demo
    """
    from bgad.report.plots.suite import write_plots

    definition, wanted, _ = suite_cells(suite, datasets)
    write_plots(definition, wanted, output, Path())


@app.command()
def examples(
    suite: SuiteName,
    output: Annotated[Path, Option(help="PNG file to write.")],
    datasets: Datasets = None,
) -> None:
    """Draws CutPaste images of each category's known anomalies on one page.

    Example: bgad examples demo --output reports/demo/cutpaste.png
    """
    from bgad.config import paths
    from bgad.config.cells import with_examples
    from bgad.config.settings import load_recipe
    from bgad.data.layouts import Index
    from bgad.data.splits import Split, file_of
    from bgad.report.plots.examples import write_examples

    definition, wanted, _ = suite_cells(suite, datasets)
    categories = []
    for cell in with_examples(wanted):
        names = asdict(cell)
        split = file_of(load_recipe(paths.recipe_file(cell.recipe)), names)
        root = data_root(datasets, cell.dataset)
        index = Index.load(Path(paths.INDEX.format(**names)))
        categories.append((index, Split.load(Path(split)), root / cell.category))
    write_examples(definition.title, categories, output)
