"""From log-likelihoods to anomaly maps and image scores (BGAD, section 3.4, as released)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class ScoreScale:
    """Turns likelihoods into scores: the maximum of l per level, and the maximum of the summed map.

    Both are maxima over the complete test set, so a score depends on the other images. A model keeps its scale, to score
    single images later.
    """

    level_maxima: tuple[float, ...]
    sum_maximum: float


def anomaly_maps(log_likelihoods: Sequence[Tensor], size: int | tuple[int, int]) -> Tensor:
    """The anomaly maps of a complete test set: higher is more anomalous, and the most normal pixel of the set is 0.

    ``log_likelihoods`` holds l per level, (N, h, w), finest first. Per level: subtract the maximum over the test
    set, exponentiate to 0..1, upsample bilinearly with aligned corners to ``size``; sum the levels; maximum - sum.
    Returns (N, H, W).
    """
    return scored(log_likelihoods, size)[0]


def scored(
    log_likelihoods: Sequence[Tensor],
    size: int | tuple[int, int],
    scale: ScoreScale | None = None,
    images_at_once: int | None = None,
) -> tuple[Tensor, ScoreScale]:
    """``anomaly_maps`` and their scale. On a given ``scale``, maps may fall below 0.

    ``images_at_once`` only limits the memory used on top of the maps; None takes all images together.
    """
    maxima = scale.level_maxima if scale else tuple(level.max().item() for level in log_likelihoods)
    size = (size, size) if isinstance(size, int) else size
    batches = (
        zip(*(level.split(images_at_once) for level in log_likelihoods), strict=True) if images_at_once else [log_likelihoods]
    )
    total = torch.cat([_summed(levels, maxima, size) for levels in batches])
    scale = scale or ScoreScale(maxima, total.max().item())
    return scale.sum_maximum - total, scale


def image_scores(maps: Tensor) -> Tensor:
    """The maximum of each map: (N, H, W) to (N,)."""
    return maps.flatten(1).max(dim=1).values


def _summed(log_likelihoods: Sequence[Tensor], maxima: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    levels = (_upsampled(torch.exp(level - top), size) for level, top in zip(log_likelihoods, maxima, strict=True))
    return sum(levels, torch.zeros(()))


def _upsampled(probability: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(probability[:, None], size=size, mode="bilinear", align_corners=True)[:, 0]
