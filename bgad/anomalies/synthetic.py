"""The known anomalies as training data: the k real images, and the synthetic images of the recipe's data strategy.

Each kind of entry comes ``repeat * k`` times a pass (protocol: "anomaly entries"; released code: ``data_strategy``):

    repeat            the real images (released as 0, with k of each type)
    repeat+cutpaste   and RandAugmented CutPaste of them onto random normal images (0,1; the published results)
    repeat+pseudo     and pseudo anomalies, made of normal images alone (0,2; released without the real images)
    all               and both (0,1,2; released with an index that runs out of its list)
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
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
from bgad.errors import BgadError
from bgad.features.backbone import Backbone
from bgad.features.cache import write
from bgad.randomness import numpy_generator


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
        """The images over and over in their order, ``count`` in all."""
        return self[torch.arange(count) % len(self)]


def with_defects(levels: list[Tensor], masks: Tensor) -> AnomalousImages:
    """Images' ``levels`` with their masks (N, S, S) bool brought to each level's size with nearest."""
    return AnomalousImages(levels, [defects_at(masks, round(level.shape[1] ** 0.5)) for level in levels])


def defects_at(masks: Tensor, side: int) -> Tensor:
    """Masks (N, S, S) bool on a level's map of ``side``, by nearest: (N, side * side) bool."""
    # As bytes: as floats, masks of a large pool would take more memory than its features.
    return interpolate(masks[:, None].byte(), size=(side, side), mode="nearest").flatten(1) > 0


@dataclass
class SyntheticMaker:
    """Makes the synthetic images of a split, each at the full resolution of a random normal training image."""

    index: Index
    split: Split
    category: Path  # folder
    image_size: int
    _read: dict = field(default_factory=dict)

    def make(self, kind: str, anomaly: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One image, (S, S, 3) uint8, and its mask (S, S) bool, S being the image size.

        ``kind`` is cutpaste, of ``anomaly``, or pseudo, which has nothing of it.
        """
        normal = self._normal(rng)
        if kind == "cutpaste":
            pasted, pasted_mask = cut_paste(normal, foreground(normal, self.index.texture), *self._known(anomaly), rng)
        else:
            try:
                pasted, pasted_mask = pseudo_anomaly(normal, self._normal(rng), rng)
            except BgadError as error:
                raise BgadError(f"{self.category}: {error}") from error
        size = (self.image_size, self.image_size)
        small = Image.fromarray(pasted).resize(size, Image.Resampling.LANCZOS)
        small_mask = Image.fromarray(pasted_mask).resize(size, Image.Resampling.NEAREST)
        return np.asarray(small), np.asarray(small_mask)

    def _normal(self, rng: np.random.Generator) -> np.ndarray:
        return read_image(self.category / self.split.train_normal[rng.integers(len(self.split.train_normal))])

    def _known(self, anomaly: str) -> tuple[np.ndarray, np.ndarray]:
        if anomaly not in self._read:
            masks = {image.path: image.mask for image in self.index.images if image.mask}
            self._read[anomaly] = (read_image(self.category / anomaly), read_mask(self.category / masks[anomaly]))
        return self._read[anomaly]


def compute_synthetic(
    kind: str, index: Index, split: Split, root: Path, backbone: Backbone, image_size: int, known: int, each: int, folder: Path
) -> None:
    """Writes the cache of a pool: ``each`` images of a ``kind`` for each of the split's first ``known`` anomalies.

    Every image depends on the names of the split, its anomaly and its number alone, so a cell with fewer known anomalies
    uses the start of the same pool.
    """
    if not index.has_masks:
        raise BgadError(
            f"{index.dataset}/{index.category} has no masks, so its anomalies cannot be known: k must be 0 "
            "(methods bgad-wo and nf); add ground_truth to use its anomalies."
        )
    anomalies = (split.pool + split.further)[:known]
    paths = [anomaly for anomaly in anomalies for _ in range(each)]
    maker = SyntheticMaker(index, split, root / index.category, image_size)
    names = (kind, split.dataset, split.category, split.split, split.seed)
    images = (
        maker.make(kind, anomaly, numpy_generator(*names, anomaly, number)) for anomaly in anomalies for number in range(each)
    )
    write(folder, paths, images, True, backbone, image_size)


class FreshPictures:
    """The synthetic images of one pass after another, made anew for each; a call gives those of the next pass.

    ``count`` images of each of ``kinds`` a pass, going round ``known`` in turn. With ``workers``, so many processes make them
    while the device trains on those of the pass before; with 0 they are made when asked for. ``passes`` are the numbers of
    those to come. Each picture depends on ``names``, its kind, its pass and its number alone, so the number of workers
    changes nothing.
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
        self._maker, self._kinds, self._names, self._passes = maker, kinds, names, iter(passes)
        self._anomalies = [known[number % len(known)] for number in range(count)]
        # Spawned, since a process that has used a GPU cannot be forked.
        spawn = get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, spawn, _start_worker, (maker,)) if workers and kinds else None
        self._ahead = self._next()

    def __call__(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """For each kind its images, (S, S, 3) uint8, each with its mask, (S, S) bool."""
        made, count = list(self._ahead), len(self._anomalies)
        self._ahead = self._next()
        return [made[start : start + count] for start in range(0, len(made), count)]

    def _next(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        of_pass = next(self._passes, None)
        if of_pass is None:
            if self._pool:
                self._pool.shutdown(wait=False)
            return iter(())
        tasks = [
            (kind, anomaly, (kind, *self._names, of_pass, number))
            for kind in self._kinds
            for number, anomaly in enumerate(self._anomalies)
        ]
        if self._pool:
            return self._pool.map(_made_by_worker, tasks)  # begins at once
        return map(partial(_made, self._maker), tasks)  # begins when the first is asked for


def seen_by(backbone: Backbone, pictures: list[tuple[np.ndarray, np.ndarray]]) -> AnomalousImages:
    """Images with their masks, through the backbone."""
    images, masks = zip(*pictures, strict=True)
    # Made in inference mode, whose tensors autograd refuses; a copy is an ordinary one.
    levels = [level.clone() for level in backbone.features(np.stack(images))]
    return with_defects(levels, torch.from_numpy(np.stack(masks)).to(backbone.device))


def _made(maker: SyntheticMaker, task: tuple[str, str, tuple]) -> tuple[np.ndarray, np.ndarray]:
    kind, anomaly, names = task
    return maker.make(kind, anomaly, numpy_generator(*names))


_maker: SyntheticMaker  # of a worker


def _start_worker(maker: SyntheticMaker) -> None:
    # Sent once, and kept with the known anomalies that it has read.
    global _maker
    _maker = maker
    cv2.setNumThreads(1)  # each worker is one of many


def _made_by_worker(task: tuple[str, str, tuple]) -> tuple[np.ndarray, np.ndarray]:
    return _made(_maker, task)


Entries = Callable[[], list[AnomalousImages]]
