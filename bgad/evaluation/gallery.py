"""A cell's test images as three sheets of tiles, in the order of scores.csv, and what their gray levels mean.

    images.jpg   thumbnails              maps.png       anomaly maps, a gray level a score
    masks.png    the true defects        gallery.json   tiles, scale, and the threshold of the verdicts

Sheets, because a report of many cells then has a few files instead of thousands.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d

from bgad.io import whole, write_json

COLUMNS = 10
QUALITY = 80  # of the JPEG: some 3 kB a thumbnail


def write_gallery(folder: Path, thumbnails: np.ndarray, masks: np.ndarray | None, maps: np.ndarray, threshold: float) -> None:
    """``thumbnails`` (N, T, T, 3) uint8, ``masks`` (N, S, S) bool or None, anomaly ``maps`` (N, S, S), of N test images.

    A tile's pixel is the maximum of the map's pixels that it covers, and a defect if any of the mask's pixels is one, so no
    peak that decides an image's score is averaged away. ``threshold`` is on the maps' scale, nan where there is none.
    """
    side = thumbnails.shape[1]
    low, high = float(maps.min()), float(maps.max())
    grays = np.rint((_shrunk(maps, side) - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    defects = np.zeros(grays.shape, bool) if masks is None else _shrunk(masks, side) > 0
    sheets: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "images.jpg": (Image.fromarray(sheet(thumbnails)), {"quality": QUALITY}),
        "masks.png": (Image.fromarray(sheet(defects)), {"optimize": True}),
        "maps.png": (Image.fromarray(sheet(grays)), {"optimize": True}),
    }
    for name, (picture, options) in sheets.items():
        with whole(folder / name) as temporary:
            picture.save(temporary, **options)
    write_json(
        folder / "gallery.json",
        {
            "count": len(maps),
            "columns": COLUMNS,
            "tile": side,
            "has_masks": masks is not None,
            "score_of_black": low,
            "score_of_white": high,
            # As scores.csv writes its scores, of which one is the threshold.
            "threshold": None if np.isnan(threshold) else float(f"{threshold:.7g}"),
        },
    )


def sheet(tiles: np.ndarray) -> np.ndarray:
    """``tiles`` (N, T, T, ...) row by row, COLUMNS of them in each: (rows T, COLUMNS T, ...), empty places 0."""
    count, side = tiles.shape[:2]
    rows = -(-count // COLUMNS)
    whole_rows = np.zeros((rows * COLUMNS, *tiles.shape[1:]), tiles.dtype)
    whole_rows[:count] = tiles
    in_rows = whole_rows.reshape(rows, COLUMNS, side, side, *tiles.shape[3:]).swapaxes(1, 2)
    return in_rows.reshape(rows * side, COLUMNS * side, *tiles.shape[3:])


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """(N, S, S) to (N, side, side) float, each the maximum of what it covers."""
    return adaptive_max_pool2d(torch.from_numpy(pixels).float(), side).numpy()
