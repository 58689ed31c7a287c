"""Pseudo anomalies: natural synthetic anomalies (NSA; Schlüter et al., ECCV 2022), a patch of one normal image pasted onto
another. They are the second data strategy of BGAD's released code, which calls NSA with its defaults on complete images.

The released code's copy of NSA is not public; these are the defaults of NSA's public code, with sizes as fractions of the side:
* One patch, wherever the object is: NSA's background thresholds are off by default.
* Half the height and half the width of the patch are independent and uniform in [0.05, 0.2); its centre is uniform at 0.05 or
  more from the border; the part outside the image is dropped.
* It is resized, bilinear, by one factor for both sides: normal(1, 0.5), clipped to 0.7 .. 1.3. Then the sides are clipped to
  0.05 .. 0.2, though NSA calls these the bounds of half the sides: no patch covers more than 4 % of the image.
* It lands uniformly anywhere in the image and is Poisson blended (OpenCV's seamlessClone, NORMAL_CLONE). The solver keeps the
  normal image's values on the outermost two pixels of the place and its gradients on the outermost four; further in, the
  gradients are the patch's.
* The mask: where the mean absolute difference of the channels is above 1, then a 5 x 5 median against grain.

Differences:
* If nothing is visible (a plain patch on plain ground, or one too small to blend), NSA returns an empty mask and the released
  code trains on a normal image labelled anomalous. Ours draws the patch again.
* NSA blends a patch of odd width one column too far to the right.
* NSA assumes images of one size. Ours resizes the source to the normal image's size.
* No side is shorter than a pixel, so small images work too.
"""

import cv2
import numpy as np
from PIL import Image

from bgad.errors import DataError

BOUNDS = 0.05, 0.2
SCALE_SPREAD, SCALE_BOUNDS = 0.5, (0.7, 1.3)
TOLERANCE = 1  # gray values
GRAIN = 5  # pixels
SMALLEST_BLENDED = 50  # pixels; NSA does not blend fewer
DRAWS = 50  # of a patch to blend, then of one to paste unblended

Box = tuple[slice, slice]  # rows, columns


def pseudo_anomaly(normal: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``normal`` with a patch of ``source`` blended in: (H, W, 3) uint8, and where it differs visibly: (H, W) bool.

    ``normal`` (H, W, 3) uint8, with sides of 8 pixels or more; ``source`` (h, w, 3) uint8, resized to (H, W) with Lanczos if
    needed. The mask is never empty: up to ``DRAWS`` patches are drawn until one is visible, then up to ``DRAWS`` are pasted
    sharply, without blending, as happens to images below 48 x 48 pixels and to two plain images of different colours. DataError
    if none of those is visible either, as with two images of the same plain colour. The inputs stay unchanged.
    """
    if source.shape != normal.shape:
        source = np.array(Image.fromarray(source).resize(normal.shape[1::-1], Image.Resampling.LANCZOS))
    for paste in (blended, sharp):
        for _ in range(DRAWS):
            cut, place = draw_patch(normal.shape[:2], rng)
            image = paste(normal, resized(source[cut], place), place)
            mask = differing(normal, image, place)
            if mask.any():
                return image, mask
    raise DataError(
        f"no pseudo anomaly can be made: {2 * DRAWS} patches of one normal image changed nothing in another, so both seem to "
        "have one plain colour; remove such images or choose a data strategy without pseudo anomalies."
    )


def draw_patch(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Box, Box]:
    """Where a patch is cut out of an image of ``shape`` (H, W), and where it lands, which also is its new size."""
    least = [max(1, round(BOUNDS[0] * side)) for side in shape]
    most = [max(low + 1, round(BOUNDS[1] * side)) for low, side in zip(least, shape, strict=True)]
    halves = rng.integers(least, most)
    centres = rng.integers(least, np.subtract(shape, least))
    starts, stops = np.maximum(centres - halves, 0), np.minimum(centres + halves, shape)

    height, width = stops - starts
    scale = np.clip(rng.normal(1, SCALE_SPREAD), *SCALE_BOUNDS)
    # The height's factor after clipping applies to the width, and then the width's to the height.
    new_height = np.clip(scale * height, least[0], most[0])
    new_width = np.clip(int(new_height / height * width), least[1], most[1])
    new_height = np.clip(int(new_width / width * height), least[0], most[0])

    size = np.array([new_height, new_width])
    corner = rng.integers(1, np.array(shape) - size // 2 * 2 - 1)
    return _box(starts, stops), _box(corner, corner + size)


def resized(patch: np.ndarray, place: Box) -> np.ndarray:
    """``patch`` (h, w, 3) uint8 at the size of ``place``, bilinear."""
    rows, columns = place
    return cv2.resize(patch, (columns.stop - columns.start, rows.stop - rows.start), interpolation=cv2.INTER_LINEAR)


def blended(normal: np.ndarray, patch: np.ndarray, place: Box) -> np.ndarray:
    """``normal`` with ``patch`` Poisson blended in at ``place``; unchanged if the patch is too small to blend."""
    height, width = patch.shape[:2]
    # OpenCV fails if a side has fewer than three pixels to blend; NSA keeps the image then as well.
    if min(height, width) < 5 or (height - 2) * (width - 2) < SMALLEST_BLENDED:
        return normal.copy()
    inner = np.zeros((height, width), dtype=np.uint8)  # seamlessClone overwrites it
    inner[1:-1, 1:-1] = 255
    centre = place[1].start + width // 2, place[0].start + height // 2
    return cv2.seamlessClone(patch, normal, inner, centre, cv2.NORMAL_CLONE)


def sharp(normal: np.ndarray, patch: np.ndarray, place: Box) -> np.ndarray:
    """``normal`` with ``patch`` at ``place``, unblended."""
    image = normal.copy()
    image[place] = patch
    return image


def differing(normal: np.ndarray, image: np.ndarray, place: Box) -> np.ndarray:
    """Where in ``place`` the two images differ by more than ``TOLERANCE``, after the median: (H, W) bool."""
    difference = np.abs(normal[place].astype(np.int16) - image[place]).mean(axis=-1)
    mask = np.zeros(normal.shape[:2], dtype=bool)
    # The median sees only the place, whose border pixels it repeats: a blended patch has an unchanged rim anyway, and a sharp
    # one of a few pixels would vanish among the unchanged pixels around it.
    mask[place] = cv2.medianBlur((difference > TOLERANCE).astype(np.uint8), GRAIN) > 0
    return mask


def _box(starts: np.ndarray, stops: np.ndarray) -> Box:
    return slice(int(starts[0]), int(stops[0])), slice(int(starts[1]), int(stops[1]))
