"""A scored picture to look at: the anomaly map over it in colour, a contour at the threshold, and the verdict below."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke
from PIL import Image

from bgad.data.images import read_image
from bgad.io import whole
from bgad.methods.predict import Prediction

# Their steps look equal, to colour-blind eyes too; over gray, since a picture's own colours would be taken for theirs.
COLOURS = "viridis"
STRENGTH = 0.7  # of the colour over the picture, where the map is highest; 0 where it is lowest
POWER = 4  # with which it rises: normal pixels often lie in the middle of the scale, and should let the picture be seen
SIDES = (480, 1600)  # pixels: the longer side of the picture is brought into this range
STRIP = 84  # pixels below the picture
LEAST_WIDTH = 420  # pixels: what the verdict takes in its strip
DOTS_PER_INCH = 100
HALO: list[AbstractPathEffect] = [
    withStroke(linewidth=2.6, foreground="black")
]  # a line between the two is seen on any picture


def write_overlay(found: Prediction, path: Path) -> None:
    """Writes a PNG. The colours of all pictures of a cell mean the same: from 0 to the highest score that there can be
    (of a detector: in its test set).

    The picture has its own resolution, but for SIDES. BgadError if it cannot be read or ``path`` cannot be written.
    """
    figure = draw(found)
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def draw(found: Prediction) -> Figure:
    """The picture with its map, and the strip below."""
    picture = _in_range(read_image(found.path))
    height, width = picture.shape[:2]
    page = max(width, LEAST_WIDTH), height + STRIP
    figure = Figure(figsize=(page[0] / DOTS_PER_INCH, page[1] / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)

    def part(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / page[0], bottom / page[1], width / page[0], height / page[1]))

    axes = part((page[0] - width) / 2, STRIP, width, height)
    axes.set_axis_off()
    extent = (0, width, height, 0)
    gray = np.asarray(Image.fromarray(picture).convert("L"))
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent)
    low, high = _scale(found)
    strength = STRENGTH * np.clip((found.anomaly_map - low) / (high - low), 0, 1) ** POWER
    axes.imshow(found.anomaly_map, COLOURS, alpha=strength, extent=extent, vmin=low, vmax=high, interpolation="bilinear")
    if found.anomalous:
        rows, columns = ((np.arange(side) + 0.5) / side for side in found.anomaly_map.shape)
        level = [found.threshold]
        lines = axes.contour(columns * width, rows * height, found.anomaly_map, level, colors="white", linewidths=1.2)
        lines.set_path_effects(HALO)
    axes.set(xlim=(0, width), ylim=(height, 0))

    bar = part(20, 26, page[0] - 40, 10)
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=COLOURS, aspect="auto", extent=(low, high, 0, 1))
    # A detector's score can pass the highest of its test set.
    bar.plot([np.clip(found.score, low, high)], [1.5], marker="v", color="black", clip_on=False)
    bar.set(xlim=(low, high), ylim=(0, 1), yticks=[], xticks=[])
    says = f"{found.verdict or 'no verdict'}, score {found.score:.3f}"
    if found.anomalous is not None:
        bar.axvline(found.threshold, ymin=-0.6, ymax=1, color="black", clip_on=False)
        says += f" (threshold {found.threshold:.3f})"
    figure.text(20 / page[0], 60 / page[1], says)
    for place, label, side in ((low, f"{low:.3f}" if low else "0", "left"), (high, f"{high:.3f}", "right")):
        bar.annotate(label, (place, 0), (0, -5), textcoords="offset points", va="top", ha=side)
    return figure


def _scale(found: Prediction) -> tuple[float, float]:
    """What the colours go from and to. A detector's scores may lie below 0; they then begin at the lowest of this picture."""
    from_zero = found.highest > 0 and not found.threshold < 0
    low = 0.0 if from_zero else float(np.nanmin([found.anomaly_map.min(), found.threshold]))
    return low, max(found.highest, low + 1e-6)


def _in_range(picture: np.ndarray) -> np.ndarray:
    longer = max(picture.shape[:2])
    wanted = min(max(longer, SIDES[0]), SIDES[1])
    if longer == wanted:
        return picture
    size = [max(1, round(side * wanted / longer)) for side in picture.shape[1::-1]]
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
