"""The plots of a suite: five figures, each as SVG and PNG, from the cells' folders alone; the same bytes each time."""

from pathlib import Path

from bgad.config.cells import Cell
from bgad.config.settings import Suite
from bgad.report.collect import collect
from bgad.report.plots.cells import by_category, training_curves
from bgad.report.plots.epochs import best_epoch
from bgad.report.plots.means import auroc_by_k, known_unseen
from bgad.report.plots.style import save, style

# Each with its caption in the table.
DRAWINGS = {
    "auroc-by-k": (auroc_by_k, "Every metric against the number of known anomalies"),
    "known-unseen": (known_unseen, "Defect types that training knew and did not know, with and without known anomalies"),
    "by-category": (by_category, "Every category: each seed, and the mean over seeds"),
    "training-curves": (training_curves, "Training curves: every metric against the meta epoch, for each category"),
    "best-epoch": (best_epoch, "What choosing the epoch on the test set adds: best minus last, for every category"),
}


def write_plots(suite: Suite, cells: list[Cell], folder: Path, root: Path = Path()) -> None:
    """Draws the cells (their folders under ``root``) to ``folder``/<name>.svg and .png.

    A plot with nothing to show says so. BgadError if a cell's metrics.json is another cell's.
    """
    collected = collect(cells, root)
    with style():
        for name, (draw, _) in DRAWINGS.items():
            save(draw(collected, suite.title), Path(folder) / name)
