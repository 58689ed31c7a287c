"""From log-likelihoods to anomaly maps and image scores (BGAD, section 3.4, as released)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class ScoreScale:
    """What turns likelihoods into scores: each level's maximum of l, and the maximum of the summed map.

    Both are taken over a whole test set, so a score depends on its company; kept with a model so that a single picture
    can be scored on the same scale.
    """

    level_maxima: tuple[float, ...]
    sum_maximum: float


def anomaly_maps(log_likelihoods: Sequence[Tensor], size: int | tuple[int, int]) -> Tensor:
    """The anomaly maps of a whole test set: higher is more anomalous, 0 at the most normal pixel of all.

    ``log_likelihoods`` holds l of each level, (N, h, w), finest first. Per level: subtract the maximum over the test
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
    """``anomaly_maps`` with the scale it used; with a ``scale`` given, on that one (maps may then fall below 0).

    ``images_at_once`` bounds the memory beside the maps and changes nothing else; without it all are taken together.
    """
    maxima = scale.level_maxima if scale else tuple(level.max().item() for level in log_likelihoods)
    size = (size, size) if isinstance(size, int) else size
    some = (
        zip(*(level.split(images_at_once) for level in log_likelihoods), strict=True) if images_at_once else [log_likelihoods]
    )
    total = torch.cat([_summed(levels, maxima, size) for levels in some])
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
