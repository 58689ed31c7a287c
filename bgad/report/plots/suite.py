"""Draws the plots of a suite, each as SVG and PNG. They depend only on the cells' folders: same cells, same bytes."""

from pathlib import Path

from bgad.config import paths
from bgad.config.cells import Cell
from bgad.config.settings import Suite
from bgad.report.bootstrap import with_images
from bgad.report.collect import collect
from bgad.report.plots.cells import by_category, curves, training_curves
from bgad.report.plots.epochs import best_epoch
from bgad.report.plots.means import auroc_by_k, known_unseen
from bgad.report.plots.methods import methods
from bgad.report.plots.style import save, style

DRAW = (methods, auroc_by_k, known_unseen, by_category, curves, training_curves, best_epoch)
DRAWINGS = dict(zip(paths.PLOTS, DRAW, strict=True))


def write_plots(suite: Suite, cells: list[Cell], folder: Path, root: Path = Path()) -> None:
    """Draws the cells (their folders under ``root``) to ``folder``/<name>.svg and .png.

    A plot with nothing to show says so. FileError if a metrics.json belongs to another cell.
    """
    collected = with_images(collect(cells, root))
    with style():
        for name, draw in DRAWINGS.items():
            save(draw(collected, suite.title), Path(folder) / name)
