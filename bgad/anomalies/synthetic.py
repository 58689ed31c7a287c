"""Synthetic images of the known anomalies: making one, the new ones of each pass, and pools of them as a feature cache.

CutPaste images come from cutpaste.py, pseudo anomalies from pseudo.py; entries.py says when each kind is used.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from bgad.anomalies.cutpaste import cut_paste, foreground
from bgad.anomalies.pseudo import pseudo_anomaly
from bgad.data.images import read_image, read_mask
from bgad.data.layouts import Index
from bgad.data.splits import Split
from bgad.errors import DataError
from bgad.features.backbone import Backbone
from bgad.features.cache import write
from bgad.randomness import numpy_generator

KEPT = 500_000_000  # bytes of normal images and their foregrounds that a process keeps
_kept: OrderedDict[tuple, np.ndarray] = OrderedDict()  # the least recently used first
IDLE = 60  # seconds until an idle worker ends, such as one whose training was killed

Pair = tuple[np.ndarray, np.ndarray]  # an image (H, W, 3) uint8 and its mask (H, W) bool


@dataclass(frozen=True)
class AnomalousImages:
    """Feature vectors of images with defects: ``levels`` (N, h * w, C) each, ``defects`` (N, h * w) bool each."""

    levels: list[Tensor]
    defects: list[Tensor]

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, chosen: Tensor) -> "AnomalousImages":
        return AnomalousImages([level[chosen] for level in self.levels], [flags[chosen] for flags in self.defects])

    def to(self, device: torch.device) -> "AnomalousImages":
        return AnomalousImages([level.to(device) for level in self.levels], [flags.to(device) for flags in self.defects])

    def repeated(self, count: int) -> "AnomalousImages":
        """``count`` images: these in their order, over and over."""
        return self[torch.arange(count) % len(self)]


def with_defects(levels: list[Tensor], masks: Tensor) -> AnomalousImages:
    """The vectors ``levels`` of images with ``masks`` (N, S, S) bool, which are resized to each level with nearest."""
    return AnomalousImages(levels, [defects_at(masks, round(level.shape[1] ** 0.5)) for level in levels])


def defects_at(masks: Tensor, side: int) -> Tensor:
    """Masks (N, S, S) bool resized with nearest to a level's map of ``side``: (N, side * side) bool."""
    # As bytes: as floats, the masks of a large pool would take more memory than its features.
    return interpolate(masks[:, None].byte(), size=(side, side), mode="nearest").flatten(1) > 0


@dataclass(frozen=True)
class SyntheticMaker:
    """Makes the synthetic images of a split, each at the full resolution of a random normal training image."""

    index: Index
    split: Split
    category: Path  # folder
    image_size: int

    def make(self, kind: str, anomaly: str, rng: np.random.Generator) -> Pair:
        """One image, (S, S, 3) uint8, and its mask, (S, S) bool, where S is the image size.

        ``kind`` is cutpaste, which cuts ``anomaly`` out, or pseudo, which ignores it. DataError if an image cannot be read, or
        if no pseudo anomaly can be made.
        """
        normal = self._normal(rng)
        if kind == "cutpaste":
            ground = _foreground(normal, self.index.bit_depth, self.index.texture)
            mask = next(image.mask for image in self.index.images if image.path == anomaly)
            assert mask is not None  # compute_synthetic and the runner refuse a category without masks
            known = _anomaly(self.category / anomaly, self.category / mask, self.index.bit_depth)
            pasted, pasted_mask = cut_paste(_image(normal, self.index.bit_depth), ground, *known, rng)
        else:
            target, source = _image(normal, self.index.bit_depth), _image(self._normal(rng), self.index.bit_depth)
            try:
                pasted, pasted_mask = pseudo_anomaly(target, source, rng)
            except DataError as error:
                raise DataError(f"{self.category}: {error}") from error
        size = (self.image_size, self.image_size)
        small = Image.fromarray(pasted).resize(size, Image.Resampling.LANCZOS)
        small_mask = Image.fromarray(pasted_mask).resize(size, Image.Resampling.NEAREST)
        return np.asarray(small), np.asarray(small_mask)

    def make_all(self, tasks: list[tuple[str, str, tuple]], workers: int = 0) -> Iterator[Pair]:
        """The image of each task (kind, anomaly, names of its draws), in order.

        ``workers`` processes start on them now; without workers, each image is made when it is asked for. An image depends on
        its task only, so ``workers`` changes nothing else.
        """
        if not workers:
            return starmap(self._task, tasks)
        from joblib.externals.loky import get_reusable_executor  # joblib.Parallel(n_jobs=1) would start no process

        one_thread = {"OPENCV_FOR_THREADS_NUM": "1", "OMP_NUM_THREADS": "1"}
        return get_reusable_executor(workers, timeout=IDLE, env=one_thread).map(self._task, *zip(*tasks, strict=True))

    def _task(self, kind: str, anomaly: str, names: tuple) -> Pair:
        return self.make(kind, anomaly, numpy_generator(*names))

    def _normal(self, rng: np.random.Generator) -> Path:
        return self.category / self.split.train_normal[rng.integers(len(self.split.train_normal))]


class FreshImages:
    """New synthetic images for each pass: each call returns the next pass's, a list of images with masks for each kind.

    A pass has ``count`` images of each of ``kinds``, of the ``known`` anomalies in turn. With ``workers``, processes make the
    images of the next pass while the device trains on those of this one. ``passes`` are the numbers of the passes to come; an
    image depends on ``names``, its kind, its pass and its number only.
    """

    def __init__(
        self,
        maker: SyntheticMaker,
        kinds: tuple[str, ...],
        known: tuple[str, ...],
        count: int,
        names: tuple,
        passes: range,
        workers: int = 0,
    ):
        self._maker, self._kinds, self._names = maker, kinds, names
        self._anomalies = [known[number % len(known)] for number in range(count)]
        self._passes, self._workers = iter(passes), workers
        self._ahead = self._start()

    def __call__(self) -> list[list[Pair]]:
        made, count = list(self._ahead), len(self._anomalies)
        self._ahead = self._start()
        return [made[start : start + count] for start in range(0, len(made), count)]

    def _start(self) -> Iterator[Pair]:
        number = next(self._passes, None)
        if number is None or not self._kinds:
            return iter(())
        tasks = [
            (kind, anomaly, (kind, *self._names, number, place))
            for kind in self._kinds
            for place, anomaly in enumerate(self._anomalies)
        ]
        return self._maker.make_all(tasks, self._workers)


def features_of(backbone: Backbone, images: list[Pair]) -> AnomalousImages:
    """The backbone's features of images with their masks."""
    pixels, masks = zip(*images, strict=True)
    # Cloned, since autograd refuses tensors that were made in inference mode.
    levels = [level.clone() for level in backbone.features(np.stack(pixels))]
    return with_defects(levels, torch.from_numpy(np.stack(masks)).to(backbone.device))


def compute_synthetic(
    kind: str,
    index: Index,
    split: Split,
    root: Path,
    backbone: Backbone,
    image_size: int,
    known: int,
    each: int,
    folder: Path,
    workers: int = 0,
) -> None:
    """Writes the feature cache of a pool: ``each`` images of a ``kind`` for each of the split's first ``known`` anomalies.

    Every image depends on the names of the split, its anomaly and its number only, so a pool of fewer anomalies is the start of
    a larger one. DataError if the category has no masks.
    """
    if not index.has_masks:
        raise DataError(
            f"{index.dataset}/{index.category} has no masks, so its anomalies cannot be known: "
            "use k 0 (methods bgad-wo and nf) or add ground_truth."
        )
    anomalies = (split.pool + split.further)[:known]
    names = (kind, split.dataset, split.category, split.split, split.seed)
    tasks = [(kind, anomaly, (*names, anomaly, number)) for anomaly in anomalies for number in range(each)]
    images = SyntheticMaker(index, split, root / index.category, image_size).make_all(tasks, workers)
    write(folder, [anomaly for _, anomaly, _ in tasks], images, True, backbone, image_size)


# A cell of the paper's recipe makes 9,600 images from a few hundred normal ones.
def _image(path: Path, bit_depth: int | None) -> np.ndarray:
    return _remembered(("image", path, bit_depth), lambda: read_image(path, bit_depth))


def _foreground(path: Path, bit_depth: int | None, texture: bool) -> np.ndarray:
    return _remembered(("foreground", path, bit_depth, texture), lambda: foreground(_image(path, bit_depth), texture))


def _remembered(key: tuple, make: Callable[[], np.ndarray]) -> np.ndarray:
    if key not in _kept:
        _kept[key] = _read_only(make())
    _kept.move_to_end(key)
    while len(_kept) > 1 and sum(values.nbytes for values in _kept.values()) > KEPT:
        _kept.popitem(last=False)
    return _kept[key]


@lru_cache(maxsize=16)  # most cells know 10 anomalies, and each is used many times
def _anomaly(image: Path, mask: Path, bit_depth: int | None) -> Pair:
    pixels = read_image(image, bit_depth)
    return _read_only(pixels), _read_only(read_mask(mask, pixels.shape[:2]))


def _read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False
    return values
