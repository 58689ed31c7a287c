"""CutPaste: a known anomaly, augmented, is cut out along its mask and pasted onto the object of a normal image.

Protocol: "CutPaste" and "foreground". RandAugment itself is in augment.py. Where the released code is not followed to the
letter: its foreground masks are not public, so Otsu's threshold stands for them; an augmentation that loses the whole mask is
drawn again, where it goes on with a clean image called anomalous; a region moves by the middle of its box and keeps its last
row and column, where it moves by its moments and loses them; each region keeps its own half away from the border, not the
largest's. On BTAD's 03 it cuts images to their columns 100 to 700 first.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from bgad.anomalies.augment import rand_augment

REDRAWS = 10  # of an augmentation that moved the whole defect out of the image
SMALLEST_FOREGROUND = 0.01  # of the image; below it the threshold has found specks, not an object


def cut_paste(
    normal: np.ndarray,
    foreground: np.ndarray,
    anomalous: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """``normal`` with the RandAugmented anomaly pasted in: (H, W, 3) uint8, and where it was pasted: (H, W) bool.

    ``normal`` (H, W, 3) uint8 and its ``foreground`` (H, W) bool; ``anomalous`` (h, w, 3) uint8 and its ``mask`` (h, w)
    bool. The returned mask is empty only if ``mask`` is. The inputs stay as they are.
    """
    image, moved = augmented(anomalous, mask, normal.shape[:2], rng)
    return paste(normal, foreground, image, moved, rng)


def augmented(
    anomalous: np.ndarray, mask: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The RandAugmented anomaly at ``shape`` (H, W), the normal image's: (H, W, 3) uint8, and its mask: (H, W) bool.

    A mask that comes out empty is drawn again, at last without augmentation; nothing is drawn for a ``mask`` (h, w) that is
    empty itself.
    """
    if not mask.any():
        return _at_shape(anomalous, shape, Image.Resampling.LANCZOS), np.zeros(shape, dtype=bool)
    for _ in range(1 + REDRAWS):
        image, moved = rand_augment(anomalous, mask, rng)
        image, moved = _at_shape(image, shape, Image.Resampling.LANCZOS), _at_shape(moved, shape)
        if moved.any():
            return image, moved
    unmoved = _at_shape(mask, shape)
    if not unmoved.any():
        # Nearest can step over a defect of a few pixels when it makes the mask smaller: mark where its pixels end up.
        rows, columns = np.nonzero(mask)
        unmoved[rows * shape[0] // mask.shape[0], columns * shape[1] // mask.shape[1]] = True
    return _at_shape(anomalous, shape, Image.Resampling.LANCZOS), unmoved


def paste(
    normal: np.ndarray, foreground: np.ndarray, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``normal`` with ``image`` pasted in along ``mask``, all of one size, and where it was pasted: (H, W) bool.

    With more than 2/3 of the mask in the ``foreground`` the anomaly keeps its place, else each of its connected regions
    moves to a foreground point of its own.
    """
    if 3 * np.count_nonzero(mask & foreground) > 2 * np.count_nonzero(mask):
        return _in_place(normal, image, mask)
    pasted, where = _scattered(normal, foreground, image, mask, rng)
    # No foreground at all, or the moved regions' pixels all fell outside the image.
    return (pasted, where) if where.any() else _in_place(normal, image, mask)


def foreground(image: np.ndarray, texture: bool) -> np.ndarray:
    """Where the object is in a normal ``image`` (H, W, 3) uint8, by Otsu's threshold on its gray values: (H, W) bool.

    The whole image for a ``texture``, and where the threshold finds next to nothing.
    """
    everywhere = np.ones(image.shape[:2], dtype=bool)
    if texture:
        return everywhere
    from skimage.filters import threshold_otsu  # slow to import, and a cell that draws from a pool needs none of it

    gray = np.asarray(Image.fromarray(image).convert("L"))
    bright = gray > threshold_otsu(gray)
    # Objects are photographed whole, on a ground that runs on beyond the picture: along the border the ground prevails,
    # whether it is the brighter or the darker of the two.
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    found = ~bright if border.mean() > 0.5 else bright
    return found if SMALLEST_FOREGROUND <= found.mean() < 1 else everywhere


def _at_shape(pixels: np.ndarray, shape: tuple[int, int], how: Image.Resampling = Image.Resampling.NEAREST) -> np.ndarray:
    """An image or a mask resized to ``shape`` (H, W), or itself if that is its size."""
    if pixels.shape[:2] == shape:
        return pixels
    return np.array(Image.fromarray(pixels).resize(shape[::-1], how))


def _in_place(normal: np.ndarray, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(mask[:, :, None], image, normal), mask.copy()


def _scattered(
    normal: np.ndarray, foreground: np.ndarray, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each connected region of the mask at a foreground point of its own; later regions cover earlier ones."""
    pasted, where = normal.copy(), np.zeros_like(mask)
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        point = _foreground_point(foreground, height, width, rng)
        if point is None:
            continue
        from_y, from_x = np.nonzero(regions[rows, columns] == number)
        to_y, to_x = from_y + point[0] - (height - 1) // 2, from_x + point[1] - (width - 1) // 2
        inside = (to_y >= 0) & (to_y < mask.shape[0]) & (to_x >= 0) & (to_x < mask.shape[1])
        to = to_y[inside], to_x[inside]
        pasted[to] = image[rows, columns][from_y[inside], from_x[inside]]
        where[to] = True
    return pasted, where


def _foreground_point(foreground: np.ndarray, height: int, width: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """A random foreground point (row, column) for the centre of a region's bounding box; None without a foreground.

    Half a region away from the border, so that all of the region stays in the image; if the foreground has no such
    point, any of its points.
    """
    top, left = (height - 1) // 2, (width - 1) // 2
    rows, columns = foreground.shape[0] - height + 1, foreground.shape[1] - width + 1
    points = np.flatnonzero(foreground[top : top + rows, left : left + columns])
    if not len(points):
        top, left, columns = 0, 0, foreground.shape[1]
        points = np.flatnonzero(foreground)
    if not len(points):
        return None
    row, column = divmod(int(points[rng.integers(len(points))]), columns)
    return top + row, left + column
