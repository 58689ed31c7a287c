"""The embedded data set ``mini`` in MVTec AD's layout, made from photographs in the scikit-image wheel.

Three textures (brick, grass, gravel) and one object (coins). Every normal image is a view of its photograph at another
position, scale, rotation and light, with sensor noise; every anomalous one is such a view with a painted defect and its exact
mask. An image depends only on its names: ("mini", category, seed, split, type, index).

Licences, according to scikit-image: brick, grass, gravel, coffee and chelsea are CC0; coins (Brooklyn Museum) has no known
copyright restrictions.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import scipy  # scipy.ndimage loads at its first use: the categories' names do without
from PIL import Image

from bgad.errors import ConfigError, FileError
from bgad.randomness import numpy_generator

SIZE = 256  # pixels, height and width of every image
COUNTS = {("train", "good"): 40, ("test", "good"): 12, ("test", "defect"): 16}  # images, a defect's for each type
TEXTURES = {"brick", "grass", "gravel"}  # the other category, coins, is an object
# Pixels of the photograph for one of an image, and the share of its contrast that stays: most defects would hide from any
# detector among the sharp shadows of blades and stones.
VIEWS = {"brick": (0.9, 1.0), "grass": (0.7, 0.65), "gravel": (0.65, 0.65)}
VISIBLE = 3  # grey levels of 255: the mask has no smaller changes


def generate(root: Path, category: str, seed: int = 0) -> None:
    """Writes ``root / category``: train/good, test/good, test/<type> and ground_truth/<type>, and replaces an older folder.

    Images are SIZE x SIZE 8-bit RGB PNG files (grey, repeated), masks SIZE x SIZE 8-bit grey with 0 and 255. The folder is
    built under a temporary name and renamed, so it is never incomplete. ConfigError for an unknown category; FileError if a
    photograph is missing.
    """
    if category not in CATEGORIES:
        raise ConfigError(f"data set mini has no category {category}; choose one of {', '.join(CATEGORIES)}.")
    folder = Path(root) / category
    building, old = (folder.with_name(f".{category}.{os.getpid()}.{suffix}") for suffix in ("new", "old"))
    shutil.rmtree(building, ignore_errors=True)  # from a killed run with the same process number
    try:
        _write(building, category, seed)
        if folder.exists():
            folder.replace(old)
        building.replace(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, category: str, seed: int) -> None:
    for part, kind in [("train", "good"), ("test", "good"), *(("test", kind) for kind in CATEGORIES[category])]:
        for index in range(COUNTS[part, "good" if kind == "good" else "defect"]):
            _, image, mask = _image(category, seed, part, kind, index)
            files = {folder / part / kind / f"{index:03}.png": Image.fromarray(image).convert("RGB")}
            if kind != "good":
                files[folder / "ground_truth" / kind / f"{index:03}_mask.png"] = Image.fromarray(mask.astype(np.uint8) * 255)
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                content.save(path, compress_level=2)  # twice as fast as the default, and no larger


def _image(category: str, seed: int, part: str, kind: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image without and with its defect, both (SIZE, SIZE) uint8, and the defect's mask, (SIZE, SIZE) bool.

    Both come from the same camera with the same noise. The mask is where the defect shows (by VISIBLE grey levels, with small
    gaps closed); outside it the images are equal.
    """
    rng = numpy_generator("mini", category, seed, part, kind, index)
    scene = _texture(rng, category) if category in TEXTURES else _coin(rng, index)
    camera = _camera(rng)
    clean = camera(scene.surface)
    if kind == "good":
        return clean, clean, np.zeros(clean.shape, bool)
    defect = DEFECTS[category][kind]
    alpha = defect.shape(rng, scene.object, np.exp(rng.uniform(*np.log(defect.share))))
    changed = defect.filling(rng, scene, alpha, rng.uniform(*defect.strength))
    defective = camera(np.where(alpha > 0, changed, scene.surface))
    visible = np.abs(defective.astype(int) - clean) >= VISIBLE
    mask = scipy.ndimage.binary_closing(visible & (alpha > 0.1), iterations=2) & (alpha > 0.1)
    return clean, np.where(mask, defective, clean), mask


@dataclass(frozen=True)
class Scene:
    """What the camera sees, each (SIZE, SIZE) in 0..1: the surface, the object's share of a pixel, the background."""

    surface: np.ndarray
    object: np.ndarray
    behind: np.ndarray


def _texture(rng: np.random.Generator, category: str) -> Scene:
    photograph = _photograph(f"{category}.png")
    scale, contrast = VIEWS[category]
    surface = _crop(rng, photograph, scale * rng.uniform(0.93, 1.07))
    surface = photograph.mean() + contrast * (surface - photograph.mean())
    return Scene(surface, np.ones_like(surface), surface)


def _coin(rng: np.random.Generator, index: int) -> Scene:
    """The coin with that index (modulo their number), near the middle, on the photograph's ground, without its neighbours."""
    ground, outlines = _coins()
    outline = outlines[index % len(outlines)]
    photograph = np.where(scipy.ndimage.binary_dilation(outline, iterations=3), _photograph("coins.png"), ground)
    soft = scipy.ndimage.gaussian_filter(outline.astype(float), 0.7)  # a coin's edge fades over a pixel
    diameter = 2 * np.sqrt(outline.sum() / np.pi)
    scale = diameter / SIZE / rng.uniform(0.6, 0.66)
    centre = scipy.ndimage.center_of_mass(outline) + rng.uniform(-7, 7, 2) * scale
    view = partial(_view, centre=centre, scale=scale, angle=np.radians(rng.uniform(-8, 8)))
    return Scene(np.clip(view(photograph), 0, 1), view(soft, order=1), view(ground, order=1))


@cache
def _coins() -> tuple[np.ndarray, list[np.ndarray]]:
    """The coins' photograph without coins, and each coin's outline: (H, W) in 0..1, and (H, W) bool in reading order."""
    from skimage.filters import sobel  # slow to import
    from skimage.segmentation import watershed

    photograph = _photograph("coins.png")
    surely = np.where(photograph > 0.6, 2, np.where(photograph < 0.11, 1, 0))
    flooded = watershed(sobel(photograph), surely) == 2
    smooth = scipy.ndimage.binary_opening(scipy.ndimage.binary_fill_holes(flooded), iterations=2)
    labels, count = scipy.ndimage.label(scipy.ndimage.binary_closing(smooth, iterations=3))
    free = scipy.ndimage.binary_erosion(labels == 0, iterations=4, border_value=1).astype(float)
    ground = scipy.ndimage.gaussian_filter(photograph * free, 9) / np.maximum(scipy.ndimage.gaussian_filter(free, 9), 1e-6)
    return np.where(free > 0, photograph, ground), [labels == label for label in range(1, count + 1)]


def _camera(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """A camera with random light, blur and noise, which are the same for every surface."""
    gain, gamma, blur = rng.uniform(0.94, 1.06), rng.uniform(0.95, 1.06), rng.uniform(0.4, 0.6)
    slope_y, slope_x = rng.uniform(-0.05, 0.05, 2)
    noise = rng.normal(0, rng.uniform(0.005, 0.009), (SIZE, SIZE))
    along = np.linspace(-1, 1, SIZE)
    light = gain * (1 + slope_y * along[:, None] + slope_x * along)

    def photograph(surface: np.ndarray) -> np.ndarray:
        seen = scipy.ndimage.gaussian_filter(np.clip(surface, 0, 1), blur) ** gamma * light + noise
        return np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)

    return photograph


@cache
def _photograph(name: str) -> np.ndarray:
    """A photograph of the scikit-image wheel in grey, (H, W) in 0..1, read from its file and never downloaded."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    try:
        return np.asarray(Image.open(path).convert("L"), dtype=float) / 255
    except OSError as error:
        raise FileError(f"{path}: scikit-image's photograph cannot be read; reinstall scikit-image.") from error


def _crop(rng: np.random.Generator, photograph: np.ndarray, scale: float) -> np.ndarray:
    """A view of a random place, turned by up to 5 degrees, inside the photograph if that is large enough."""
    angle = np.radians(rng.uniform(-5, 5))
    margin = scale * SIZE / 2 * (np.cos(angle) + abs(np.sin(angle)))
    centre = [rng.uniform(min(margin, side / 2), max(side - margin, side / 2)) for side in photograph.shape]
    return np.clip(_view(photograph, centre, scale, angle), 0, 1)


def _view(photograph: np.ndarray, centre: Sequence[float], scale: float, angle: float, order: int = 3) -> np.ndarray:
    """(SIZE, SIZE) of the photograph around ``centre`` (row, column), ``scale`` of its pixels for one of the view."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (SIZE - 1) / 2
    offset = [centre[row] - middle * (turn[row, 0] + turn[row, 1]) for row in (0, 1)]
    return scipy.ndimage.affine_transform(photograph, turn, offset, (SIZE, SIZE), order=order, mode="mirror")


# Shapes: where a defect is, as its opacity, (SIZE, SIZE) in 0..1, on about ``share`` of the pixels


def _blob(rng: np.random.Generator, inside: np.ndarray, share: float, at_edge: bool = False) -> np.ndarray:
    """An irregular patch with a soft edge, on the object or, ``at_edge``, across its outline."""
    (row,), (column,) = _place(rng, (inside > 0.2) & (inside < 0.8) if at_edge else inside > 0.95)
    y, x = np.arange(SIZE)[:, None] - row, np.arange(SIZE) - column
    if at_edge:
        inside = scipy.ndimage.maximum_filter(inside, 9)  # the faded rim is part of the piece
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    pixels = int(share * SIZE * SIZE)
    ragged = np.exp(0.2 * _clouds(rng, 0.5 * np.sqrt(pixels)) + 0.07 * _clouds(rng, 3))
    distance = np.where(inside > 0.5, np.hypot(along / stretch, across * stretch) * ragged, np.inf)
    radius = np.partition(distance, pixels, axis=None)[pixels]
    return np.clip((radius - distance) / rng.uniform(1, 3) + 0.5, 0, 1) * inside


def _line(rng: np.random.Generator, inside: np.ndarray, share: float, widths: tuple[float, float]) -> np.ndarray:
    """A thin curve of uneven depth that tapers at both ends, through a place on the object."""
    width = rng.uniform(*widths)
    length = min(share * SIZE * SIZE / width, 0.8 * SIZE)
    place = _place(rng, scipy.ndimage.binary_erosion(inside > 0.95, iterations=20))
    steps = np.linspace(-0.5, 0.5, int(2 * length))  # half a pixel each
    heading = rng.uniform(0, 2 * np.pi) + rng.uniform(-1.2, 1.2) * steps
    path = np.cumsum([np.sin(heading), np.cos(heading)], axis=1) * 0.5
    path = np.rint(path - path[:, [len(steps) // 2]] + place).astype(int)
    kept = ((path >= 0) & (path < SIZE)).all(axis=0)
    taper = np.zeros((SIZE, SIZE))
    taper[tuple(path[:, kept])] = np.sqrt(1 - (2 * np.abs(steps[kept])) ** 2)
    distance, nearest = scipy.ndimage.distance_transform_edt(taper == 0, return_indices=True)
    depth = np.clip(0.85 + 0.25 * _clouds(rng, 8), 0.3, 1)
    return np.clip(width / 2 * taper[tuple(nearest)] - distance + 0.5, 0, 1) * depth * inside


def _place(rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Row and column, (2, 1), of a random pixel among the true ones."""
    rows_and_columns = np.array(np.nonzero(places))
    return rows_and_columns[:, [rng.integers(rows_and_columns.shape[1])]]


def _clouds(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Smooth noise with mean 0 and standard deviation 1."""
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


# Fillings: the changed surface, (SIZE, SIZE), hardly visible at ``strength`` 0 and clearly at 1


def _groove(rng: np.random.Generator, scene: Scene, alpha: np.ndarray, strength: float) -> np.ndarray:
    """Ploughed smooth, darker in the groove, with one flank in the light and the other in shadow."""
    smooth = scipy.ndimage.gaussian_filter(scene.surface, 1.5)
    angle = rng.uniform(0, 2 * np.pi)
    flank_y, flank_x = np.gradient(scipy.ndimage.gaussian_filter(alpha, 0.7))
    relief = np.cos(angle) * flank_x + np.sin(angle) * flank_y
    return scene.surface + alpha * (0.8 * (smooth - scene.surface) + strength * (0.9 * relief - 0.6 * smooth))


def _matter(rng: np.random.Generator, scene: Scene, alpha: np.ndarray, strength: float, name: str) -> np.ndarray:
    """Foreign matter: another photograph's texture, lighter or darker than its surroundings."""
    texture = _crop(rng, _photograph(name), rng.uniform(0.4, 0.8))
    inside = alpha > 0.5
    tone = scene.surface[inside].mean() + rng.choice([-1, 1]) * 0.25 * strength
    laid = tone + (texture - texture[inside].mean()) * 0.6
    return scene.surface + alpha * min(0.4 + 0.6 * strength, 1) * (laid - scene.surface)


def _stain(rng: np.random.Generator, scene: Scene, alpha: np.ndarray, strength: float) -> np.ndarray:
    """A mottled dark film through which the surface still shows."""
    return scene.surface * (1 - alpha * strength * np.clip(0.75 + 0.25 * _clouds(rng, 3), 0, 1.5))


def _smear(rng: np.random.Generator, scene: Scene, alpha: np.ndarray, strength: float) -> np.ndarray:
    """Smeared in one direction: the surface's texture, averaged over a line of pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, 13) * (6 + 22 * strength)
    moves = [(step * np.sin(angle), step * np.cos(angle)) for step in steps]
    dragged = np.mean([scipy.ndimage.shift(scene.surface, move, order=1, mode="mirror") for move in moves], axis=0)
    return scene.surface + alpha * (dragged - scene.surface)


def _gone(rng: np.random.Generator, scene: Scene, alpha: np.ndarray, strength: float) -> np.ndarray:
    """A missing piece: the background shows."""
    return scene.surface + alpha * strength * (scene.behind - scene.surface)


@dataclass(frozen=True)
class Defect:
    """A defect type: its shape and filling, and the ranges of its share of the pixels (log-uniform) and strength (uniform)."""

    shape: Callable
    filling: Callable
    share: tuple[float, float]
    strength: tuple[float, float]


_fine, _wide = partial(_line, widths=(4, 7)), partial(_line, widths=(6, 12))
DEFECTS = {
    "brick": {
        "crumble": Defect(_blob, partial(_matter, name="gravel.png"), (0.005, 0.05), (0.3, 1.0)),
        "scratch": Defect(_fine, _groove, (0.006, 0.02), (0.4, 1.0)),
        "stain": Defect(_blob, _stain, (0.005, 0.06), (0.2, 0.7)),
    },
    "grass": {
        "bald": Defect(_blob, partial(_matter, name="gravel.png"), (0.008, 0.06), (0.5, 1.2)),
        "foreign": Defect(_blob, partial(_matter, name="coffee.png"), (0.008, 0.06), (0.6, 1.4)),
        "scratch": Defect(_wide, _groove, (0.01, 0.04), (0.7, 1.2)),
    },
    "gravel": {
        "foreign": Defect(_blob, partial(_matter, name="chelsea.png"), (0.006, 0.06), (0.6, 1.4)),
        "scratch": Defect(_wide, _groove, (0.01, 0.04), (0.7, 1.2)),
        "smear": Defect(_blob, _smear, (0.01, 0.06), (0.4, 1.0)),
    },
    "coins": {
        "chip": Defect(partial(_blob, at_edge=True), _gone, (0.005, 0.05), (0.9, 1.0)),
        "corrosion": Defect(_blob, _stain, (0.006, 0.06), (0.4, 0.8)),
        "scratch": Defect(_fine, _groove, (0.008, 0.02), (0.5, 1.0)),
    },
}
CATEGORIES = {category: tuple(defects) for category, defects in DEFECTS.items()}
