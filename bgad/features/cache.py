"""The feature cache: the frozen backbone's features of a category's images, computed once and shared by all its cells.

A folder has level1.npy .. level3.npy, the vectors of every image, (N, h * w, C) float32, which readers memory-map; masks.npy,
(N, S, S) bool; thumbnails.npy, (N, 96, 96, 3) uint8; and the record in features.json, written last. There is one for the images
of each (backbone, size, data set, category), and one for each pool of synthetic images.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from bgad.config.paths import check_inside
from bgad.data.images import THUMBNAIL, resized_image, resized_mask, thumbnail
from bgad.data.layouts import Index
from bgad.errors import FileError
from bgad.features import LEVELS, STRIDES
from bgad.features.backbone import Backbone
from bgad.io import read_json, whole, write_json
from bgad.memory import is_out_of_memory

# An image (S, S, 3) uint8, and its mask (S, S) bool or None
Images = Iterator[tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class FeatureCache:
    """A cache on disk.

    ``levels``: (N, h * w, C) float32 each, finest first; ``paths``: the image of each of the N rows (of a synthetic one: its
    known anomaly); ``masks``: (N, S, S) bool, or None in a category without masks; ``seconds``: the time to compute it;
    ``weights_sha256``: of the backbone; ``thumbnails``: (N, 96, 96, 3) uint8; ``sha256``: of levels and masks.
    """

    image_size: int
    paths: list[str]
    levels: list[Tensor]
    masks: Tensor | None
    seconds: float
    weights_sha256: str = ""
    thumbnails: Tensor | None = None
    sha256: str = ""

    def side(self, level: int) -> int:
        """Height and width of the level's map."""
        return self.image_size // STRIDES[level]

    def rows_of(self, paths: tuple[str, ...]) -> Tensor:
        """The first row of each path, (len(paths),)."""
        row = {path: number for number, path in reversed(list(enumerate(self.paths)))}
        try:
            return torch.tensor([row[path] for path in paths], dtype=torch.long)
        except KeyError as error:
            raise FileError(
                f"the cached features lack the image {error.args[0]}, which the split names; delete both and run again."
            ) from error


def compute(index: Index, root: Path, backbone: Backbone, image_size: int, folder: Path) -> None:
    """Writes the cache of all images of ``index``, as a stream, so memory does not grow with the category."""
    category = root / index.category
    images = (
        (
            resized_image(category / image.path, image_size, index.bit_depth),
            resized_mask(category / image.mask, image_size) if image.mask else None,
        )
        for image in index.images
    )
    write(folder, [image.path for image in index.images], images, index.has_masks, backbone, image_size)


def load(folder: Path) -> FeatureCache:
    """The cache in ``folder``; FileError if a part is missing, does not fit the others, or does not match the recorded hash.

    The check reads every level once: 0.13 s for the 196 MB of bottle at 256 pixels, and the
    training then finds the files in the system's cache.
    """
    try:
        record = _Record.model_validate(read_json(folder / "features.json"))
    except ValidationError as error:
        raise FileError(
            f"{folder / 'features.json'}: not the record of a feature cache; delete the folder and run again."
        ) from error
    check_inside(record.paths, folder / "features.json")
    size, count = record.image_size, len(record.paths)
    levels = [_mapped(folder / f"level{level}.npy", np.float32) for level in LEVELS]
    masks, thumbnails = _mapped(folder / "masks.npy", np.bool_), _mapped(folder / "thumbnails.npy", np.uint8)
    vectors = [(count, (size // stride) ** 2) for stride in STRIDES]
    fit = [level.ndim == 3 and level.shape[:2] == shape for level, shape in zip(levels, vectors, strict=True)]
    fit += [masks.shape in ((0, size, size), (count, size, size)), thumbnails.ndim == 4, len(thumbnails) == count]
    if not all(fit):
        raise FileError(f"{folder}: its parts do not fit together; delete the folder and run again.")
    if sha256_of(folder) != record.sha256:
        raise FileError(f"{folder}: its content does not match its recorded hash; delete the folder and run again.")
    of_record = (record.seconds, record.weights_sha256, thumbnails, record.sha256)
    return FeatureCache(size, record.paths, levels, masks if len(masks) else None, *of_record)


class _Record(BaseModel):
    image_size: int = Field(ge=1, le=4096)
    paths: list[str]
    seconds: float
    weights_sha256: str
    sha256: str


def write(folder: Path, paths: list[str], images: Images, has_masks: bool, backbone: Backbone, image_size: int) -> None:
    """Writes the cache of the stream ``images``, one for each of ``paths``."""
    start = time.perf_counter()
    masks = np.zeros((len(paths) if has_masks else 0, image_size, image_size), dtype=bool)
    thumbnails = np.zeros((len(paths), THUMBNAIL, THUMBNAIL, 3), dtype=np.uint8)

    def rows() -> Iterator[np.ndarray]:
        for row, (image, mask) in enumerate(images):
            if mask is not None:
                masks[row] = mask
            thumbnails[row] = thumbnail(image)
            yield image

    with ExitStack() as stack:
        outputs = [_Rows(stack.enter_context(whole(folder / f"level{level}.npy")), len(paths)) for level in LEVELS]
        for levels in backbone.in_batches(rows()):
            for output, level in zip(outputs, levels, strict=True):
                output.append(level.cpu().numpy())
        for output in outputs:
            output.finish()
        for name, array in (("masks", masks), ("thumbnails", thumbnails)):
            np.save(stack.enter_context(whole(folder / f"{name}.npy")), array)
    record = {
        "backbone": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "image_size": image_size,
        "channels": backbone.channels,
        "seconds": round(time.perf_counter() - start, 3),
        "sha256": _combined(hashlib.sha256(masks.data), [output.digest for output in outputs]),
        "paths": paths,
    }
    write_json(folder / "features.json", record)


class _Rows:
    """A .npy file that is written in batches of its ``rows``."""

    def __init__(self, path: Path, rows: int):
        self.path, self.rows, self.filled = path, rows, 0
        self.array: np.memmap | None = None
        self.digest = hashlib.sha256()

    def append(self, batch: np.ndarray) -> None:
        if self.array is None:
            self.array = self._made((self.rows, *batch.shape[1:]))
        self.array[self.filled : self.filled + len(batch)] = batch
        self.digest.update(np.ascontiguousarray(batch).data)
        self.filled += len(batch)

    def finish(self) -> None:
        assert self.array is not None  # no category and no pool is empty
        self.array.flush()
        self.array = None

    def _made(self, shape: tuple[int, ...]) -> np.memmap:
        array = np.lib.format.open_memmap(self.path, mode="w+", dtype=np.float32, shape=shape)
        # Reserved at once: if the disk fills up behind a mapped file, the system kills the process.
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with self.path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self.path.stat().st_size)
        return array


def _combined(masks, levels: list) -> str:
    """The hash of a cache from those of its masks and levels."""
    for level in levels:
        masks.update(level.digest())
    return masks.hexdigest()


def sha256_of(folder: Path) -> str:
    """The hash of the cache's content on disk, read in small parts: mapped memory would count as the process's own."""

    def of_array(name: str):
        offset = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r").offset
        with (folder / f"{name}.npy").open("rb") as file:
            file.seek(offset)
            return hashlib.file_digest(file, "sha256")

    return _combined(of_array("masks"), [of_array(f"level{level}") for level in LEVELS])


def _mapped(path: Path, dtype: type) -> Tensor:
    try:
        # Copy-on-write, since torch warns about read-only memory.
        array = np.lib.format.open_memmap(path, mode="c")
        if array.dtype != dtype or not array.ndim:
            raise ValueError(f"{array.dtype} instead of {dtype}")
        return torch.from_numpy(array)
    except Exception as error:  # of many kinds, depending on the damage; objects, which would run code, are refused
        if is_out_of_memory(error):
            raise
        raise FileError(f"{path}: the feature cache is missing or damaged; delete its folder and run again.") from error
