"""The order in which feature vectors reach the optimizer: the mini-batches of one pass over the data.

Two kinds, named by a recipe's ``sampling.kind``: ``image_batches`` as in the released code (docs/protocol.md, Training), and
``vector_draws``, which draws from the cached vectors of all images. Shuffling happens on the generator's device; within a pass
nothing waits for a number from the features' device, except at the start of a level's draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bgad.anomalies.entries import AnomalyEntries
from bgad.anomalies.synthetic import AnomalousImages
from bgad.config.settings import ImageBatches, Recipe, VectorDraws
from bgad.errors import ConfigError
from bgad.randomness import permuted


@dataclass(frozen=True)
class MiniBatch:
    """The vectors of one optimizer step: ``features`` (V, C) of one level at ``position`` (V,), ``is_anomaly`` (V,) or None.

    ``step`` counts the schedule's steps within the meta epoch, and ``steps_per_epoch`` is their number.
    """

    level: int
    features: Tensor
    position: Tensor
    is_anomaly: Tensor | None
    step: int
    steps_per_epoch: int


def mini_batches(
    recipe: Recipe,
    normal: list[Tensor],
    entries: AnomalyEntries,
    sub_epoch: int,
    rng: torch.Generator,
) -> Iterator[MiniBatch]:
    """The mini-batches of pass ``sub_epoch`` of a meta epoch.

    ``normal``: vectors of the normal images, (N, h * w, C) per level. ``entries``: the pass's anomaly entries, empty when
    training on normal images only.
    """
    of_pass = (recipe.schedule.sub_epochs, normal, entries, sub_epoch, rng)
    if isinstance(recipe.sampling, ImageBatches):
        return _image_batches(recipe.sampling, *of_pass)
    return _vector_draws(recipe.sampling, *of_pass)


def _image_batches(
    sampling: ImageBatches,
    sub_epochs: int,
    normal: list[Tensor],
    entries: AnomalyEntries,
    sub_epoch: int,
    rng: torch.Generator,
) -> Iterator[MiniBatch]:
    """Shuffled batches of images; per batch and level, all vectors shuffled and cut into steps, remainders dropped."""
    total = len(normal[0]) + sum(len(part) for part in entries)
    batches = total // sampling.images
    if batches == 0:
        raise ConfigError(
            f"sampling.images is {sampling.images}, more than the {total} images of a pass; use a recipe with smaller batches."
        )
    order = torch.randperm(total, generator=rng, device=rng.device)[: batches * sampling.images].cpu()
    for batch, rows in enumerate(_rows(order.split(sampling.images), normal, entries)):
        for level in range(len(normal)):
            maps, defects = _images(rows, normal, entries, level)
            count, channels = maps.shape[1], maps.shape[2]
            vectors, flags = maps.reshape(-1, channels), defects.flatten()
            shuffled = torch.randperm(len(vectors), generator=rng, device=rng.device).to(vectors.device)
            for chunk in shuffled[: len(vectors) // sampling.vectors * sampling.vectors].split(sampling.vectors):
                yield MiniBatch(
                    level,
                    vectors[chunk],
                    chunk % count,
                    flags[chunk] if entries else None,
                    step=sub_epoch * batches + batch,
                    steps_per_epoch=batches * sub_epochs,
                )


def _rows(batches: Sequence[Tensor], normal: list[Tensor], entries: AnomalyEntries) -> list[list[Tensor]]:
    """Each batch's images as rows of ``normal`` and of each part of the entries; ``batches`` numbers them in that order."""
    found = []
    for chosen in batches:
        start = 0
        for count in (len(normal[0]), *map(len, entries)):
            found.append(chosen[(chosen >= start) & (chosen < start + count)] - start)
            start += count
    # Copied to the device in one piece: small copies, and sets whose size only the device knows, would make every batch wait.
    on_device = torch.cat(found).to(normal[0].device).split([len(rows) for rows in found])
    kinds = 1 + len(entries)
    return [list(on_device[place : place + kinds]) for place in range(0, len(found), kinds)]


def _images(rows: list[Tensor], normal: list[Tensor], entries: AnomalyEntries, level: int) -> tuple[Tensor, Tensor]:
    """The images of ``rows``: their vectors (n, h * w, C) and defects (n, h * w)."""
    of_normal, *of_entries = rows
    maps = [normal[level][of_normal]]
    defects = [torch.zeros(maps[0].shape[:2], dtype=torch.bool, device=maps[0].device)]
    for part, inside in zip(entries, of_entries, strict=True):
        maps.append(part.levels[level][inside])
        defects.append(part.defects[level][inside])
    return torch.cat(maps), torch.cat(defects)


def _vector_draws(
    sampling: VectorDraws,
    sub_epochs: int,
    normal: list[Tensor],
    entries: AnomalyEntries,
    sub_epoch: int,
    rng: torch.Generator,
) -> Iterator[MiniBatch]:
    """Each level's steps of normal vectors, which repeat only once all have been drawn; each step adds some of the entries.

    A recipe's noise, on normal and anomalous vectors alike, keeps a long training from memorizing a level's few vectors
    (Rothfuss et al., "Noise Regularization for Conditional Density Estimation", 2019).
    """
    from_entries = min(round(sampling.vectors * sampling.anomaly_share), sampling.vectors - 1) if entries else 0
    from_normal = sampling.vectors - from_entries
    for level in range(len(normal)):
        images, count, channels = normal[level].shape
        steps = _steps(sampling, level, images * count, from_normal)
        flat = normal[level].reshape(-1, channels)
        order = permuted(steps * from_normal, len(flat), rng).to(flat.device)
        pools, noise = _defect_pools(sampling, entries, level, from_entries), sampling.level_noise[level]
        spread = noise * flat.std(0, correction=0) if noise else None
        for step, chunk in enumerate(order.split(from_normal)):
            vectors, positions, flags = [flat[chunk]], [chunk % count], [torch.zeros_like(chunk, dtype=torch.bool)]
            for part, pool, size in pools:
                drawn = pool[torch.randint(len(pool), (size,), generator=rng, device=rng.device).to(pool.device)]
                vectors.append(part.levels[level].view(-1, channels)[drawn])
                positions.append(drawn % count)
                flags.append(part.defects[level].flatten()[drawn])
            features = torch.cat(vectors)
            if spread is not None:
                features += spread * torch.randn(features.shape, generator=rng, device=rng.device).to(flat.device)
            yield MiniBatch(
                level,
                features,
                torch.cat(positions),
                torch.cat(flags) if entries else None,
                step=sub_epoch * steps + step,
                steps_per_epoch=steps * sub_epochs,
            )


def _steps(sampling: VectorDraws, level: int, vectors: int, in_a_step: int) -> int:
    """The steps of a level in a pass: as the recipe states them, or as many as a share of the level's ``vectors`` fills."""
    if sampling.level_steps is not None:
        return sampling.level_steps[level]
    assert sampling.level_shares is not None  # the recipe has one of the two
    return max(1, int(vectors * sampling.level_shares[level]) // in_a_step)


def _defect_pools(
    sampling: VectorDraws, entries: AnomalyEntries, level: int, size: int
) -> list[tuple[AnomalousImages, Tensor, int]]:
    """How a step's ``size`` vectors are divided: equally among the parts of the entries, and within each by the share on
    defects."""
    pools = []
    for number, part in enumerate(entries):
        of_part = size // len(entries) + (number < size % len(entries))
        flags = part.defects[level].flatten()
        # At a coarse level small defects vanish from the mask; and a defect can fill its images.
        on_defects = 0 if not flags.any() else of_part if flags.all() else round(of_part * sampling.defect_share)
        pools.append((part, flags.nonzero().squeeze(1), on_defects))
        pools.append((part, (~flags).nonzero().squeeze(1), of_part - on_defects))
    return [(part, pool, count) for part, pool, count in pools if count]
