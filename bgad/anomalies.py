"""The known anomalies as training data: the k real images, and the synthetic images of the recipe's data strategy.

Each kind of entry comes ``repeat * k`` times a pass (protocol: "anomaly entries"; released code: ``data_strategy``):

    repeat            the real images (released as 0, with k of each type)
    repeat+cutpaste   and RandAugmented CutPaste of them onto random normal images (0,1; the published results)
    repeat+pseudo     and pseudo anomalies, made of normal images alone (0,2; released without the real images)
    all               and both (0,1,2; released with an index that runs out of its list)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from bgad.backbones import Backbone
from bgad.cutpaste import cut_paste, foreground
from bgad.datasets import Index
from bgad.errors import BgadError
from bgad.images import read_image, read_mask
from bgad.pseudo import pseudo_anomaly
from bgad.splits import Split


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
    sides = [round(level.shape[1] ** 0.5) for level in levels]
    small = [interpolate(masks[:, None].float(), size=(side, side), mode="nearest") for side in sides]
    return AnomalousImages(levels, [level.flatten(1) > 0 for level in small])


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
            masks = {image.path: image.mask for image in self.index.images}
            self._read[anomaly] = (read_image(self.category / anomaly), read_mask(self.category / masks[anomaly]))
        return self._read[anomaly]


def fresh(
    maker: SyntheticMaker, kind: str, known: tuple[str, ...], count: int, backbone: Backbone, rng: np.random.Generator
) -> AnomalousImages:
    """``count`` new images of a kind, going round the known anomalies in turn, through the backbone."""
    pictures, masks = zip(*(maker.make(kind, known[number % len(known)], rng) for number in range(count)), strict=True)
    # Made in inference mode, whose tensors autograd refuses; a copy is an ordinary one.
    levels = [level.clone() for level in backbone.features(np.stack(pictures))]
    return with_defects(levels, torch.from_numpy(np.stack(masks)).to(backbone.device))


Entries = Callable[[], list[AnomalousImages]]
