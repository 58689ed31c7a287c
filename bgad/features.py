"""The feature cache: what the frozen backbone makes of a category's images, computed once and shared by all its cells.

A folder for each (backbone, size, data set, category): level1.npy .. level3.npy hold the vectors of every image, (N, h * w,
C) float32, memory-mapped by those who read them; masks.npy the masks of the test images; features.json the order.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgad.backbones import LEVELS, STRIDES, Backbone
from bgad.datasets import Index, resized_image, resized_mask
from bgad.errors import BgadError
from bgad.files import read_json, whole, write_json


@dataclass(frozen=True)
class FeatureCache:
    """The cache of one category, as it lies on disk.

    ``levels``: (N, h * w, C) float32 each, finest first; ``rows``: image path to N's index; ``masks``: (N, S, S) bool, all
    false for normal images, or None in a category without masks.
    """

    image_size: int
    rows: dict[str, int]
    levels: list[Tensor]
    masks: Tensor | None
    seconds: float

    def side(self, level: int) -> int:
        """Height and width of that level's map."""
        return self.image_size // STRIDES[level]

    def rows_of(self, paths: tuple[str, ...]) -> Tensor:
        return torch.tensor([self.rows[path] for path in paths], dtype=torch.long)


def compute(index: Index, root: Path, backbone: Backbone, name: str, image_size: int, folder: Path) -> None:
    """Writes the cache of ``index`` to ``folder``; images are streamed, so memory does not grow with the category."""
    start = time.perf_counter()
    category = root / index.category
    images = (resized_image(category / image.path, image_size) for image in index.images)
    folder.mkdir(parents=True, exist_ok=True)
    outputs = [_Growing(folder / f"level{level}.npy", len(index.images)) for level in LEVELS]
    try:
        for levels in backbone.in_batches(images):
            for output, level in zip(outputs, levels, strict=True):
                output.append(level.cpu().numpy())
        for output in outputs:
            output.finish()
    finally:
        for output in outputs:
            output.discard()

    masks = np.zeros((len(index.images) if index.has_masks else 0, image_size, image_size), dtype=bool)
    for row, image in enumerate(index.images):
        if image.mask:
            masks[row] = resized_mask(category / image.mask, image_size)
    with whole(folder / "masks.npy") as temporary:
        np.save(temporary, masks)

    write_json(
        folder / "features.json",
        {
            "backbone": name,
            "weights_sha256": backbone.weights_sha256,
            "image_size": image_size,
            "channels": backbone.channels,
            "images": [asdict(image) for image in index.images],
            "seconds": round(time.perf_counter() - start, 3),
        },
    )


def load(folder: Path) -> FeatureCache:
    """The cache in ``folder``; BgadError if a part is missing or does not fit the others."""
    record = read_json(folder / "features.json")
    paths = [image["path"] for image in record["images"]]
    levels = [_mapped(folder / f"level{level}.npy") for level in LEVELS]
    masks = _mapped(folder / "masks.npy")
    if any(len(level) != len(paths) for level in levels) or len(masks) not in (0, len(paths)):
        raise BgadError(f"{folder}: its parts do not fit together; delete the folder and run again.")
    rows = {path: row for row, path in enumerate(paths)}
    return FeatureCache(record["image_size"], rows, levels, masks if len(masks) else None, record["seconds"])


class _Growing:
    """A .npy file that takes batches of rows, under a temporary name until all are there."""

    def __init__(self, path: Path, rows: int):
        self.path, self.rows, self.filled, self.array = path, rows, 0, None
        self.temporary = path.with_name(f".{path.name}")

    def append(self, batch: np.ndarray) -> None:
        if self.array is None:
            shape = (self.rows, *batch.shape[1:])
            self.array = np.lib.format.open_memmap(self.temporary, mode="w+", dtype=np.float32, shape=shape)
        self.array[self.filled : self.filled + len(batch)] = batch
        self.filled += len(batch)

    def finish(self) -> None:
        self.array.flush()
        self.array = None
        self.temporary.replace(self.path)

    def discard(self) -> None:
        self.array = None
        self.temporary.unlink(missing_ok=True)


def _mapped(path: Path) -> Tensor:
    try:
        # Copy-on-write: nothing writes to it, but torch warns about memory it could not write to.
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except (OSError, ValueError) as error:
        raise BgadError(f"{path}: the feature cache is missing or damaged; delete its folder and run again.") from error
