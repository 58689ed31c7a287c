"""A scored image to look at: the anomaly map over it in colour, a contour at the threshold, and the verdict below."""

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

# Equal steps look equal, to colour-blind eyes too. The image is gray, or its own colours could be mistaken for scores.
COLOURS = "viridis"
STRENGTH = 0.7  # opacity of the colour at the map's highest score; 0 at the lowest
POWER = 4  # of its rise: normal pixels often have scores in the middle of the scale and should not hide the image
SIDES = (480, 1600)  # pixels: the image is scaled until its longer side is in this range
STRIP = 84  # pixels below the image
LEAST_WIDTH = 420  # pixels, for the verdict in the strip
DOTS_PER_INCH = 100
HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.6, foreground="black")]  # visible on any image


def write_overlay(found: Prediction, path: Path) -> None:
    """Writes a PNG in the image's own resolution, within SIDES.

    Colours mean the same in all images of a cell: they go from 0 to the highest possible score (for a detector, the highest in
    its test set). DataError if the image cannot be read, FileError if ``path`` cannot be written.
    """
    figure = draw(found)
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def draw(found: Prediction) -> Figure:
    """The image with its map, and the strip below."""
    image = _in_range(read_image(found.path, found.bit_depth))
    height, width = image.shape[:2]
    page = max(width, LEAST_WIDTH), height + STRIP
    figure = Figure(figsize=(page[0] / DOTS_PER_INCH, page[1] / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)

    def part(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / page[0], bottom / page[1], width / page[0], height / page[1]))

    axes = part((page[0] - width) / 2, STRIP, width, height)
    axes.set_axis_off()
    extent = (0, width, height, 0)
    gray = np.asarray(Image.fromarray(image).convert("L"))
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
    # A detector's score can exceed the highest in its test set.
    bar.plot([np.clip(found.score, low, high)], [1.5], marker="v", color="black", clip_on=False)
    bar.set(xlim=(low, high), ylim=(0, 1), yticks=[], xticks=[])
    text = f"{found.verdict or 'no verdict'}, score {found.score:.3f}"
    if found.anomalous is not None:
        bar.axvline(found.threshold, ymin=-0.6, ymax=1, color="black", clip_on=False)
        text += f" (threshold {found.threshold:.3f})"
    figure.text(20 / page[0], 60 / page[1], text)
    for place, label, side in ((low, f"{low:.3f}" if low else "0", "left"), (high, f"{high:.3f}", "right")):
        bar.annotate(label, (place, 0), (0, -5), textcoords="offset points", va="top", ha=side)
    return figure


def _scale(found: Prediction) -> tuple[float, float]:
    """The scores at both ends of the colours. If a detector's scores can be below 0, they begin at this image's lowest."""
    from_zero = found.highest > 0 and not found.threshold < 0
    low = 0.0 if from_zero else float(np.nanmin([found.anomaly_map.min(), found.threshold]))
    return low, max(found.highest, low + 1e-6)


def _in_range(image: np.ndarray) -> np.ndarray:
    longer = max(image.shape[:2])
    wanted = min(max(longer, SIDES[0]), SIDES[1])
    if longer == wanted:
        return image
    size = [max(1, round(side * wanted / longer)) for side in image.shape[1::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
