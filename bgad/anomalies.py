"""The known anomalies as training data: the k real images, and CutPaste images made from them.

Of the ``repeat * k`` anomaly entries of a pass, the first half are the real images, the other half RandAugmented CutPaste
onto random normal images (protocol: "anomaly entries").
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
from bgad.datasets import Index, read_image, read_mask


@dataclass(frozen=True)
class AnomalousImages:
    """Feature vectors of images with defects: ``levels`` (N, h * w, C) each, ``defects`` (N, h * w) bool each."""

    levels: list[Tensor]
    defects: list[Tensor]

    def __len__(self) -> int:
        return len(self.levels[0])

    def to(self, device: torch.device) -> "AnomalousImages":
        return AnomalousImages([level.to(device) for level in self.levels], [flags.to(device) for flags in self.defects])

    def repeated(self, count: int) -> "AnomalousImages":
        """The images over and over in their order, ``count`` in all."""
        turn = torch.arange(count) % len(self)
        return AnomalousImages([level[turn] for level in self.levels], [flags[turn] for flags in self.defects])


def defects_at_levels(masks: Tensor, sides: list[int]) -> list[Tensor]:
    """Masks (N, S, S) bool brought to each level's size with nearest: a list of (N, h * w) bool."""
    small = [interpolate(masks[:, None].float(), size=(side, side), mode="nearest") for side in sides]
    return [level.flatten(1) > 0 for level in small]


@dataclass
class CutPasteMaker:
    """Makes CutPaste images of the known anomalies, and their features.

    ``known`` are (image, mask) paths, ``normal`` the paths of normal training images. Every image is made at the full
    resolution of its normal image and resized afterwards.
    """

    index: Index
    category: Path
    image_size: int
    known: list[tuple[str, str]]
    normal: list[str]
    backbone: Callable[[], Backbone]  # called on first use: a recipe without CutPaste never loads it
    rng: np.random.Generator
    _loaded: dict = field(default_factory=dict)

    def make(self, count: int) -> AnomalousImages:
        """``count`` new images, going round the known anomalies in turn."""
        pictures, masks = zip(*(self._one(number % len(self.known)) for number in range(count)), strict=True)
        backbone = self._once("backbone", self.backbone)
        levels = [level.cpu().clone() for level in backbone.features(np.stack(pictures))]
        sides = [int(level.shape[1] ** 0.5) for level in levels]
        return AnomalousImages(levels, defects_at_levels(torch.from_numpy(np.stack(masks)), sides))

    def _one(self, which: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.known[which]
        image = self._once(image, lambda: read_image(self.category / image))
        mask = self._once(mask, lambda: read_mask(self.category / mask))
        normal = read_image(self.category / self.normal[self.rng.integers(len(self.normal))])
        pasted, pasted_mask = cut_paste(normal, foreground(normal, self.index.texture), image, mask, self.rng)
        size = (self.image_size, self.image_size)
        small = Image.fromarray(pasted).resize(size, Image.Resampling.LANCZOS)
        small_mask = Image.fromarray(pasted_mask).resize(size, Image.Resampling.NEAREST)
        return np.asarray(small), np.asarray(small_mask)

    def _once(self, key: str, make: Callable):
        if key not in self._loaded:
            self._loaded[key] = make()
        return self._loaded[key]
