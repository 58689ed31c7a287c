"""What each test image adds to the pixel metrics' curves, so that a bootstrap can draw the images again without the maps.

All images share a falling row of thresholds. Between two of them an image has some normal pixels, some defective ones, and
some share of its regions. Added up over any weighted images, from the highest scores down, these are the points of their ROC
and PRO curves.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bgad.errors import FileError
from bgad.evaluation.metrics import WITHIN_IMAGE
from bgad.io import content_of, whole

STEPS = 250  # of each kind: thresholds at quantiles of the normal and of the defective pixels
SAMPLED = 500_000  # pixels of each kind that these quantiles are taken from; sorting all of them would take longest
MAX_FPR = 0.3  # of AUPRO, as in metrics.aupro
MOST_VALUES = 10**8  # of an array of a file


@dataclass(frozen=True)
class Curves:
    """Of N images, in the order of scores.csv, with B score ranges from the highest to the lowest.

    ``normal``, ``defective`` (N, B) uint32: pixels of that kind with a score in that range
    ``overlap`` (N, B) float32: over the image's regions, the sum of the share of each that lies in that range
    """

    normal: np.ndarray
    defective: np.ndarray
    overlap: np.ndarray

    @classmethod
    def of(cls, masks: np.ndarray | None, maps: np.ndarray, has_mask: np.ndarray | None = None) -> "Curves":
        """From boolean ``masks`` and finite ``maps``, both (N, H, W). An image without ``has_mask`` (N,) counts for nothing.

        Without ``masks`` at all there are no curves, and N is 0.
        """
        if masks is None:
            masks = np.zeros((0, *maps.shape[1:]), dtype=bool)
        counted = np.ones(len(masks), dtype=bool) if has_mask is None else has_mask[: len(masks)]
        thresholds = _thresholds(masks[counted], maps[: len(masks)][counted])
        ranges = len(thresholds) + 1
        normal, defective = np.zeros((2, len(masks), ranges), dtype=np.uint32)
        overlap = np.zeros((len(masks), ranges), dtype=np.float32)
        for i in np.flatnonzero(counted):
            # A score is above a threshold if it is greater; range 0 is above all of them.
            place = len(thresholds) - np.searchsorted(thresholds, maps[i].ravel(), side="left")
            everything = np.bincount(place, minlength=ranges)
            regions, n_regions = ndimage.label(masks[i], structure=WITHIN_IMAGE[1])
            if n_regions:
                region = regions.ravel()
                inside = region > 0
                defective[i] = np.bincount(place[inside], minlength=ranges)
                shares = 1 / np.bincount(region[inside])[region[inside]]
                overlap[i] = np.bincount(place[inside], weights=shares, minlength=ranges)
            normal[i] = everything - defective[i]
        return cls(normal, defective, overlap)

    def save(self, path: Path) -> None:
        """Writes a compressed npz, the same bytes for the same values; FileError if it cannot be written."""
        with whole(path) as temporary:
            np.savez_compressed(temporary, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Curves | None":
        """None if there is no file, as of an older cell, or it has no images, as of a category without masks.

        FileError if it is damaged.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content_of(path))) as archive:
                normal, defective, overlap = (_array(archive, name) for name in ("normal", "defective", "overlap"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise FileError(f"{path}: damaged ({error}); run its cell again.") from error
        finite = np.isfinite(overlap).all() and (overlap >= 0).all()
        if not finite or not normal.shape == defective.shape == overlap.shape:
            raise FileError(f"{path}: damaged (its values are impossible); run its cell again.")
        return cls(normal, defective, overlap) if len(normal) else None

    def only(self, chosen: np.ndarray) -> "Curves":
        """Of the images ``chosen`` (N,), bool."""
        return Curves(self.normal[chosen], self.defective[chosen], self.overlap[chosen])

    def pixel_auroc(self, weights: np.ndarray) -> np.ndarray:
        """(R,) pixel AUROC, in 0..1, of the images counted ``weights`` (R, N) times; nan without pixels of both kinds.

        Within 1e-4 of metrics.auroc if each image counts once, for drawn ones within 2e-4: between thresholds the curve is
        a straight line.
        """
        has_any = self.defective.any(axis=1)
        # Pairs of a defective and a normal pixel in which the first has the higher score; half of those in one range.
        normal = self.normal.astype(np.float64)
        lower = normal.sum(axis=1, keepdims=True) - np.cumsum(normal, axis=1) + normal / 2
        won = self.defective[has_any] @ lower.T
        one, other = weights[:, has_any], weights
        pairs = (one @ self.defective[has_any].sum(axis=1)) * (other @ normal.sum(axis=1))
        with np.errstate(invalid="ignore"):
            return ((one @ won) * other).sum(axis=1) / pairs

    def aupro(self, weights: np.ndarray) -> np.ndarray:
        """(R,) AUPRO up to MAX_FPR, in 0..1, as pixel_auroc and as close to metrics.aupro."""
        return _area(_cumulated(weights @ self.normal), _cumulated(weights @ self.overlap), MAX_FPR)


def _thresholds(masks: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Ascending: at quantiles of the defective pixels' scores, and of the normal ones', denser towards high scores, where the
    curves are steep. The highest normal score is one, so that the curves' first point is right too."""
    chosen = []
    for values, shares in ((maps[~masks], np.linspace(0, 1, STEPS) ** 3), (maps[masks], np.linspace(0, 1, STEPS))):
        if values.size:
            some = values[:: max(values.size // SAMPLED, 1)]
            # Between two pixels: at one's own score every point would leave out that pixel, which counts where they are few.
            chosen += [np.quantile(some, 1 - shares, method="midpoint").astype(maps.dtype), values.max(keepdims=True)]
    return np.unique(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=maps.dtype)


def _cumulated(ranges: np.ndarray) -> np.ndarray:
    """(R, B + 1) from 0 at no score to 1 at all of them; nan where there is nothing."""
    sums = np.cumsum(ranges, axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.pad(sums / sums[:, -1:], ((0, 0), (1, 0)))


def _area(across: np.ndarray, up: np.ndarray, limit: float) -> np.ndarray:
    """(R,) area under straight lines through the points, cut at ``limit`` of ``across`` and divided by it."""
    start, end = across[:, :-1], across[:, 1:]
    width = np.clip(limit - start, 0, end - start)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(width > 0, width / (end - start), 0)
    height = up[:, :-1] + share * (up[:, 1:] - up[:, :-1]) / 2
    # nan where either has no total: the last point tells.
    return np.where(np.isnan(across[:, -1] + up[:, -1]), np.nan, (width * height).sum(axis=1) / limit)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array (N, B) of an npz file, whose header is checked before memory is taken for it; ValueError if it is another."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > MOST_VALUES * 4:
        raise ValueError(f"{name} claims {entry.file_size} bytes")
    content = io.BytesIO(archive.read(entry))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{name} has another format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    expected = np.dtype(np.float32 if name == "overlap" else np.uint32)
    rest = content.getbuffer()[content.tell() :]
    if len(shape) != 2 or fortran or dtype != expected or shape[0] * shape[1] * 4 != len(rest):
        raise ValueError(f"{name} has another shape or type")
    return np.frombuffer(rest, dtype).reshape(shape)
