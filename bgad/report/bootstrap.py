"""A bootstrap over test images: what other images could make of each cell's metrics at its last epoch.

Cells of a category share most of their test images. A replicate therefore draws the images of a category once, for every seed,
k and method: chance that all seeds share stays in their mean, and cancels in a difference of two methods as far as both depend
on it. Normal and anomalous images are drawn apart, since every metric counts them apart. Each image is drawn a number of times
of its own, by its path (Poisson, with mean 1), so that cells with slightly different test images, such as those whose known
anomalies have left, agree about the rest. Categories are drawn independently of each other; they are no sample from others, so
they are not drawn themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from bgad.config.cells import Cell
from bgad.errors import BgadError
from bgad.evaluation.curves import Curves
from bgad.evaluation.metrics import METRICS
from bgad.randomness import numpy_generator
from bgad.report.collect import DONE, Collected, Score, scores_of
from bgad.report.statistics import Chance, least_half_width

REPLICATES = 2000
IMAGE_AUROC, PIXEL_AUROC, AUPRO, _ = METRICS  # the released PRO has no bootstrap: its thresholds change with the images


@dataclass(frozen=True, eq=False)
class Moved:
    """A metric of a cell, or the difference of two, in the replicates: ``deviations`` (R,) in percentage points.

    ``least`` is the half-width of its interval if no replicate deviates.
    """

    deviations: np.ndarray
    least: float

    def __sub__(self, other: "Moved") -> "Moved":
        return Moved(self.deviations - other.deviations, max(self.least, other.least))

    @property
    def floor(self) -> float:
        return 0.0 if np.nanmax(np.abs(self.deviations), initial=0) > 1e-9 else self.least


def with_images(collected: Collected) -> Collected:
    """``collected`` with a column ``moved`` in metrics, and moved_image_auroc and moved_pixel_auroc in by_type: a Moved, or
    None for what has no bootstrap: a metric that is not defined, the released PRO, and a cell whose scores.csv is missing or
    damaged or, for pixels, its curves.npz, as of older cells."""
    cells = [cell for cell, status in collected.status.items() if status == DONE]
    types = collected.by_type.groupby(list(vars(cells[0])) if cells else ["type"])["type"].agg(tuple).to_dict()
    # Threads, since NumPy does the work and holds no lock meanwhile.
    found = Parallel(n_jobs=-1, prefer="threads")(
        delayed(_of_cell)(cell, collected.root, types.get(tuple(vars(cell).values()), ())) for cell in cells
    )
    moved = {(*vars(cell).values(), *key): value for cell, of in zip(cells, found, strict=True) for key, value in of.items()}

    def column(table: pd.DataFrame, *ends: Sequence[str]) -> pd.Series:
        keys = zip(*(table[name] for name in Cell.__dataclass_fields__), *ends, strict=True)
        return pd.Series([moved.get(key) for key in keys], index=table.index, dtype=object)

    metrics, by_type = collected.metrics, collected.by_type
    for_types = {f"moved_{m}": column(by_type, [m] * len(by_type), by_type["type"]) for m in (IMAGE_AUROC, PIXEL_AUROC)}
    of_all = column(metrics, metrics["metric"], [""] * len(metrics))
    return replace(collected, metrics=metrics.assign(moved=of_all), by_type=by_type.assign(**for_types))


def chance_of(part: pd.DataFrame) -> Chance | None:
    """Of the mean over the cells in ``part`` (one metric; columns category and moved), each category's cells having equal
    weight and each category too. None unless all of them have a bootstrap."""
    if "moved" not in part or part.empty or not part["moved"].map(_is_there).all():
        return None
    categories = [list(of) for _, of in part.groupby("category", sort=False)["moved"]]
    deviations = np.mean([np.mean([one.deviations for one in of], axis=0) for of in categories], axis=0)
    # Cells of a category have the same images, so their floors are averaged; categories have different ones.
    floors = [np.mean([one.floor for one in of]) for of in categories]
    return Chance(float(np.nanstd(deviations)), float(np.sqrt(np.sum(np.square(floors))) / len(floors)))


def differences(some: pd.Series, others: pd.Series) -> pd.Series:
    """One minus the other, row by row; None unless both have a bootstrap."""
    pairs = zip(some, others, strict=True)
    found = [one - other if _is_there(one) and _is_there(other) else None for one, other in pairs]
    return pd.Series(found, index=some.index, dtype=object)


def mean_moved(values: pd.Series) -> Moved | None:
    """Of the mean of a cell's defect types; None unless all have a bootstrap."""
    if not values.map(_is_there).all():
        return None
    return Moved(np.mean([one.deviations for one in values], axis=0), float(np.mean([one.least for one in values])))


def _is_there(value: object) -> bool:
    return isinstance(value, Moved)  # else None, or the nan of a row that a merge found nothing for


def _of_cell(cell: Cell, root, types: Sequence[str]) -> dict[tuple[str, str], Moved]:
    """By metric and defect type ("" for all)."""
    folder = root / cell.folder
    try:
        rows = scores_of(folder)
    except BgadError:
        return {}
    drawn = np.stack([draws(cell.dataset, cell.category, row.path) for row in rows], axis=1)  # (R, N)
    try:
        curves = Curves.load(folder / "curves.npz")
    except BgadError:
        curves = None
    if curves is not None and len(curves.normal) != len(rows):
        curves = None
    found = dict(_of_images(rows, drawn, curves, ""))
    for kind in types:
        chosen = np.array([row.type in ("good", kind) for row in rows])
        of_type = [row for row in rows if row.type in ("good", kind)]
        found |= _of_images(of_type, drawn[:, chosen], curves and curves.only(chosen), kind)
    return found


def _of_images(rows: Sequence[Score], drawn: np.ndarray, curves: Curves | None, kind: str) -> dict[tuple[str, str], Moved]:
    anomalous = np.array([row.anomalous for row in rows])
    if anomalous.all() or not anomalous.any():
        return {}
    least = 100 * least_half_width(int((~anomalous).sum()), int(anomalous.sum()))
    everything = np.vstack([np.ones(len(rows)), drawn])  # first the images as they are
    values = {IMAGE_AUROC: image_aurocs(anomalous, np.array([row.score for row in rows]), everything)}
    if curves is not None:
        values[PIXEL_AUROC] = curves.pixel_auroc(everything)
        if not kind:
            values[AUPRO] = curves.aupro(everything)
    there = {metric: of for metric, of in values.items() if np.isfinite(of[0])}
    return {(metric, kind): Moved(100 * (of[1:] - of[0]), least) for metric, of in there.items()}


def image_aurocs(anomalous: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) image AUROC, in 0..1, of images counted ``weights`` (R, N) times; nan where a class is not drawn."""
    positive, negative = scores[anomalous], scores[~anomalous]
    won = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    one, other = weights[:, anomalous], weights[:, ~anomalous]
    with np.errstate(invalid="ignore"):
        return ((one @ won) * other).sum(axis=1) / (one.sum(axis=1) * other.sum(axis=1))


@lru_cache(maxsize=20_000)
def draws(dataset: str, category: str, path: str) -> np.ndarray:
    """(REPLICATES,) how often each replicate draws a test image."""
    return numpy_generator("bootstrap", dataset, category, path).poisson(1, REPLICATES).astype(np.uint8)
