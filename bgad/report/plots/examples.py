"""A page of examples of RandAugmented CutPaste: a known anomaly, its mask, the augmented image and the pasted one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from PIL import Image
from scipy.ndimage import distance_transform_edt

from bgad.anomalies.cutpaste import augmented, foreground, paste
from bgad.data.download import presets
from bgad.data.images import read_image, read_mask
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.io import whole
from bgad.randomness import numpy_generator
from bgad.report.plots.style import DOTS_PER_INCH, INK, finish, handle, nothing_to_show, panels, style

Category = tuple[Index, Split, Path]

COLUMNS = ("known anomaly", "its mask", "augmented", "pasted onto\na normal image")
EXPLANATION = (
    "Three of ten augmentations change a known anomaly together with its mask. If more than 2/3 of the augmented mask is in "
    "the foreground of the normal image, it is pasted in place; otherwise each of its regions moves to a foreground point. A "
    "texture is all foreground and has no line. Lines around masks are drawn slightly outside."
)
PANEL = 200  # pixels: the longer side of a panel
COLOURS = 256  # of the page; full colour would make it several times as large
AWAY = 2.5  # pixels between a defect and its line, which would otherwise hide a scratch
# Their halos make them visible on any image.
DEFECT = {"color": "#ff00c8", "linewidth": 0.75, "path_effects": [withStroke(linewidth=1.7, foreground="white")]}
OBJECT = {"color": "#ffe600", "linewidth": 0.7, "path_effects": [withStroke(linewidth=1.4, foreground="black")]}


@dataclass(frozen=True)
class Example:
    """The stages of one CutPaste image, each at full resolution.

    ``known`` (h, w, 3) uint8 and its ``mask`` (h, w) bool; at the size of the normal image, ``augmented`` and ``pasted``
    (H, W, 3) uint8, and as (H, W) bool ``moved``, the augmented mask, ``ground``, the foreground, and ``where`` it was
    pasted. ``paths``: of the anomaly and the normal image, in the category's folder.
    """

    known: np.ndarray
    mask: np.ndarray
    augmented: np.ndarray
    moved: np.ndarray
    ground: np.ndarray
    pasted: np.ndarray
    where: np.ndarray
    paths: tuple[str, str]


def write_examples(title: str, categories: list[Category], output: Path, rows_per_category: int = 2) -> None:
    """Writes a PNG page with ``rows_per_category`` known anomalies from each category (index, split, folder of the category).

    The page is the same each time. It names categories without masks or known anomalies. DataError if an image cannot be read,
    FileError if ``output`` cannot be written; nothing half-written stays.
    """
    with style():
        page = few_colours(pixels(draw(title, categories, rows_per_category)))
    with whole(output) as temporary:
        page.save(temporary, format="png", optimize=True)


def draw(title: str, categories: list[Category], rows_per_category: int = 2) -> Figure:
    """The page: a row for each example, a column for each stage."""
    title = f"{title}: RandAugmented CutPaste"
    rows = [(category, path) for category in categories for path in chosen(*category[:2], rows_per_category)]
    lacking = [f"{index.category} ({_lack(index)})" for index, split, _ in categories if not chosen(index, split, 1)]
    none = f" No example of {', '.join(lacking)}." if lacking else ""
    if not rows:
        return nothing_to_show(title, none.strip() or "No category was asked for.")
    figure, axes = panels(len(rows), len(COLUMNS), 1.7, [1.5] * len(rows))
    figure.dpi = DOTS_PER_INCH
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(name, loc="left", fontweight="bold")
    for of_row, ((index, split, folder), path) in zip(axes, rows, strict=True):
        kind = next(image.type for image in index.images if image.path == path)
        _draw_row(of_row, f"{index.category} /\n{kind}", example(index, split, folder, path), index.texture)
    credits = dict.fromkeys(_credit(index.dataset) for (index, _, _), _ in rows)
    handles = [handle("the anomaly's mask", **DEFECT), handle("foreground of the normal image", **OBJECT)]
    finish(figure, title, EXPLANATION + none + "".join(credits), handles)
    _settle(figure, axes)
    return figure


def chosen(index: Index, split: Split, count: int) -> list[str]:
    """``count`` known anomalies: the first of each type, then the others."""
    if not index.has_masks:
        return []
    types = {image.path: image.type for image in index.images}
    first = {types[path]: path for path in reversed(split.pool)}.values()
    return sorted(split.pool, key=lambda path: path not in first)[:count]


def example(index: Index, split: Split, folder: Path, anomaly: str) -> Example:
    """CutPaste of ``anomaly``. The draws depend only on the names of the split and the anomaly."""
    rng = numpy_generator("examples", split.dataset, split.category, split.split, split.seed, anomaly)
    masks = {image.path: image.mask for image in index.images if image.mask}
    known = read_image(folder / anomaly, index.bit_depth)
    mask = read_mask(folder / masks[anomaly], known.shape[:2])
    onto = split.train_normal[rng.integers(len(split.train_normal))]
    normal = read_image(folder / onto, index.bit_depth)
    ground = foreground(normal, index.texture)
    image, moved = augmented(known, mask, normal.shape[:2], rng)
    return Example(known, mask, image, moved, ground, *paste(normal, ground, image, moved, rng), (anomaly, onto))


def pixels(figure: Figure) -> np.ndarray:
    """The page as (H, W, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def few_colours(page: np.ndarray) -> Image.Image:
    """The page in COLOURS colours."""
    # The median cut would turn the thin yellow line gray on a page of gray images. k-means, which goes on until less than a
    # hundredth of the pixels change, keeps it.
    return Image.fromarray(page).quantize(COLOURS, kmeans=page.size // 300)


def _draw_row(axes: list[Axes], label: str, of: Example, texture: bool) -> None:
    for axis, image in zip(axes, (of.known, of.mask, of.augmented, of.pasted), strict=True):
        height, width = image.shape[:2]
        # In the image's own coordinates the outlines are exact at any panel size.
        axis.imshow(_small(image), extent=(0, width, height, 0), aspect="auto", cmap="gray", interpolation="nearest")
        axis.set(xticks=[], yticks=[], frame_on=False)
    if not texture:
        _outline(axes[3], of.ground, 0, OBJECT)
    _outline(axes[2], of.moved, AWAY, DEFECT)
    _outline(axes[3], of.where, AWAY, DEFECT)
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", color=INK)


def _small(image: np.ndarray) -> np.ndarray:
    """An image (Lanczos) or a mask (nearest), shrunk until its longer side has PANEL pixels."""
    height, width = image.shape[:2]
    shrink = PANEL / max(height, width)
    if shrink >= 1:
        return image
    how = Image.Resampling.NEAREST if image.dtype == bool else Image.Resampling.LANCZOS
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return np.asarray(Image.fromarray(image).resize(size, how))


def _outline(axis: Axes, mask: np.ndarray, away: float, look: dict) -> None:
    """A closed line around ``mask``, ``away`` pixels outside it."""
    height, width = mask.shape
    away *= max(height, width) / PANEL
    margin = int(away) + 2
    lines = axis.contour(
        np.arange(-margin, width + margin) + 0.5,
        np.arange(-margin, height + margin) + 0.5,
        distance_transform_edt(np.pad(~mask, margin, constant_values=True)),
        levels=[0.5 + away],  # the first pixel outside is 1 away from the last inside
        colors=look["color"],
        linewidths=look["linewidth"],
        clip_on=False,
    )
    lines.set_path_effects(look["path_effects"])
    axis.set(xlim=(0, width), ylim=(height, 0))


def _settle(figure: Figure, axes: list[list[Axes]]) -> None:
    """Makes the figure large enough for its panels, then gives each its exact pixels where the layout put it."""
    figure.draw_without_rendering()
    size = figure.get_size_inches() * figure.dpi
    lacks = PANEL - np.multiply(axes[0][0].get_position().size, size)
    figure.set_size_inches(*(size + lacks * (len(axes[0]), len(axes))).round() / figure.dpi)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    size = figure.get_size_inches() * figure.dpi
    for axis in (axis for row in axes for axis in row):
        height, width = axis.images[0].get_size()
        panel = np.array([width, height]) * max(1, PANEL // max(width, height))
        corner = (axis.get_position().get_points().mean(axis=0) * size - panel / 2).round()
        axis.set_position(Bbox.from_bounds(*corner / size, *panel / size))


def _lack(index: Index) -> str:
    return "no known anomaly" if index.has_masks else "no masks"


def _credit(dataset: str) -> str:
    preset = presets.dataset(dataset)
    if preset is None:
        return ""
    licence = preset.licence.partition(";")[0]
    return f" {licence} ({preset.landing_page}); the images here are changed as described and under the same licence."
