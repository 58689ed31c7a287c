"""CutPaste: a known anomaly, augmented, is cut out along its mask and pasted onto the object of a normal image.

docs/protocol.md, CutPaste; RandAugment is in augment.py. Differences from the released code:
* Its foreground masks are not public, so Otsu's threshold replaces them.
* An augmentation that loses the complete mask is drawn again. The released code trains on a clean image labelled anomalous.
* A region moves by the middle of its box. The released code moves it by its moments and loses its last row and column.
* Each region stays half its own size away from the border, not half the largest region's.
* The released code crops the images of BTAD's 03 to columns 100 to 700 first; ours does not.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from bgad.anomalies.augment import rand_augment

REDRAWS = 10  # of an augmentation that moves the whole defect out of the image
SMALLEST_FOREGROUND = 0.01  # of the image; a smaller one is specks, not an object


def cut_paste(
    normal: np.ndarray,
    foreground: np.ndarray,
    anomalous: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """``normal`` with the RandAugmented anomaly pasted in: (H, W, 3) uint8, and where it was pasted: (H, W) bool.

    ``normal`` (H, W, 3) uint8 and its ``foreground`` (H, W) bool; ``anomalous`` (h, w, 3) uint8 and its ``mask`` (h, w)
    bool. The returned mask is empty only if ``mask`` is. The inputs stay unchanged.
    """
    image, moved = augmented(anomalous, mask, normal.shape[:2], rng)
    return paste(normal, foreground, image, moved, rng)


def augmented(
    anomalous: np.ndarray, mask: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The RandAugmented anomaly at ``shape`` (H, W), the normal image's: (H, W, 3) uint8, and its mask: (H, W) bool.

    If the mask becomes empty, the augmentation is drawn again, up to REDRAWS times, then left out. Nothing is drawn for
    an empty ``mask`` (h, w).
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
        # Nearest can skip a defect of a few pixels when it shrinks the mask: mark where its pixels end up.
        rows, columns = np.nonzero(mask)
        unmoved[rows * shape[0] // mask.shape[0], columns * shape[1] // mask.shape[1]] = True
    return _at_shape(anomalous, shape, Image.Resampling.LANCZOS), unmoved


def paste(
    normal: np.ndarray, foreground: np.ndarray, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``normal`` with ``image`` pasted in along ``mask``, all of one size, and where it was pasted: (H, W) bool.

    With more than 2/3 of the mask in the ``foreground`` the anomaly keeps its place, else each of its connected regions moves
    to a random foreground point.
    """
    if 3 * np.count_nonzero(mask & foreground) > 2 * np.count_nonzero(mask):
        return _in_place(normal, image, mask)
    pasted, where = _scattered(normal, foreground, image, mask, rng)
    # There is no foreground, or all pixels of the moved regions fell outside the image.
    return (pasted, where) if where.any() else _in_place(normal, image, mask)


def foreground(image: np.ndarray, texture: bool) -> np.ndarray:
    """Where the object is in a normal ``image`` (H, W, 3) uint8, by Otsu's threshold on its gray values: (H, W) bool.

    The complete image for a ``texture``, or if the threshold finds next to nothing.
    """
    everywhere = np.ones(image.shape[:2], dtype=bool)
    if texture:
        return everywhere
    from skimage.filters import threshold_otsu  # slow to import, and not needed by cells that draw from a pool

    gray = np.asarray(Image.fromarray(image).convert("L"))
    bright = gray > threshold_otsu(gray)
    # Objects are photographed completely, on a ground that continues beyond the image: most of the border is ground, whether
    # brighter or darker than the object.
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    found = ~bright if border.mean() > 0.5 else bright
    return found if SMALLEST_FOREGROUND <= found.mean() < 1 else everywhere


def _at_shape(pixels: np.ndarray, shape: tuple[int, int], how: Image.Resampling = Image.Resampling.NEAREST) -> np.ndarray:
    """An image or a mask resized to ``shape`` (H, W), unless it has that size."""
    if pixels.shape[:2] == shape:
        return pixels
    return np.array(Image.fromarray(pixels).resize(shape[::-1], how))


def _in_place(normal: np.ndarray, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pasted = normal.copy()
    if mask.any():
        [box] = ndimage.find_objects(mask.astype(np.uint8))  # most of the image stays as it is
        pasted[box] = np.where(mask[box][:, :, None], image[box], normal[box])
    return pasted, mask.copy()


def _scattered(
    normal: np.ndarray, foreground: np.ndarray, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each connected region of the mask at its own random foreground point; later regions cover earlier ones."""
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

    It is half a region away from the border, which keeps the region inside the image; if there is none, any foreground point.
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
