"""The anomaly entries of each pass: real known anomalies and synthetic images of them (docs/protocol.md, Anomaly entries).

Each kind comes ``repeat * k`` times a pass; the recipe's data strategy says which kinds there are (released:
``data_strategy``):

    repeat            the real images (released as 0, with k of each type)
    repeat+cutpaste   also RandAugmented CutPaste of them onto random normal images (0,1; the published results)
    repeat+pseudo     also pseudo anomalies, made of normal images only (0,2; released without the real images)
    all               both (0,1,2; where the released code indexes past the end of a list)
"""

from collections.abc import Callable, Iterator
from itertools import repeat

import torch

from bgad.anomalies.synthetic import AnomalousImages, FreshImages, SyntheticMaker, features_of, with_defects
from bgad.config.settings import Recipe, VectorDraws
from bgad.errors import ConfigError, FileError
from bgad.features.backbone import Backbone
from bgad.features.cache import FeatureCache
from bgad.randomness import permuted, torch_generator

AnomalyEntries = list[AnomalousImages]  # of one pass: the real images, then the synthetic ones of each kind


def anomaly_entries(
    recipe: Recipe,
    names: tuple,
    known: tuple[str, ...],
    real: AnomalousImages,
    weights_sha256: str,
    pools: dict[str, FeatureCache],
    maker: SyntheticMaker,
    backbone: Callable[[], Backbone],
    workers: int = 0,
    passes: int = 0,
) -> Iterator[AnomalyEntries]:
    """Yields the entries of each pass.

    ``names`` of the cell seed all draws. ``known`` are the paths of the known anomalies, ``real`` their features, made with
    weights of that SHA-256. ``pools`` are the cached synthetic images by kind, for a recipe with pools; otherwise ``maker``
    makes each pass's images, in ``workers`` processes during training, and ``backbone()`` computes their features. The first
    ``passes``, trained on before a checkpoint, are skipped. ConfigError if a pool is missing, FileError if it was made with
    other weights.
    """
    kinds, count = recipe.anomalies.kinds, recipe.anomalies.repeat * len(known)
    repeated = real.repeated(count)
    if recipe.anomalies.synthetic == "every_pass" and kinds:
        loaded = backbone()
        _check_weights(weights_sha256, loaded.weights_sha256, "the ones that are loaded now")
        of_all = range(passes, recipe.schedule.sub_epochs * (recipe.schedule.meta_epochs - 1))
        fresh = FreshImages(maker, kinds, known, count, names, of_all, workers)
        return ([repeated, *(features_of(loaded, images) for images in fresh())] for _ in of_all)

    of_known = {kind: _of_pool(kind, pools, known, weights_sha256, real.levels[0].device) for kind in kinds}
    if isinstance(recipe.sampling, VectorDraws):
        return repeat([repeated, *of_known.values()])  # vectors are drawn from the whole pool
    return _chosen(repeated, of_known, count, names, passes)


def _of_pool(
    kind: str, pools: dict[str, FeatureCache], known: tuple[str, ...], weights_sha256: str, device: torch.device
) -> AnomalousImages:
    """The images of a pool that are made of the known anomalies."""
    if kind not in pools:
        raise ConfigError(f"the recipe draws from a pool of {kind} images: name its folder with --{kind}.")
    pool = pools[kind]
    _check_weights(weights_sha256, pool.weights_sha256, f"those of its pool of {kind} images")
    assert pool.masks is not None  # a synthetic image always has one
    rows = torch.tensor([row for row, path in enumerate(pool.paths) if path in set(known)])
    return with_defects([level[rows] for level in pool.levels], pool.masks[rows]).to(device)


def _chosen(
    real: AnomalousImages, pools: dict[str, AnomalousImages], count: int, names: tuple, passes: int
) -> Iterator[AnomalyEntries]:
    """For each pass ``count`` images of each pool, drawn without repetition for as long as the pool lasts."""
    rngs = {kind: torch_generator(kind, *names) for kind in pools}
    number = 0
    while True:
        rows = {kind: permuted(count, len(pool), rngs[kind]) for kind, pool in pools.items()}
        if number >= passes:
            yield [real, *(pool[rows[kind]] for kind, pool in pools.items())]
        number += 1


def _check_weights(weights_sha256: str, other: str, whose: str) -> None:
    if weights_sha256 != other:
        raise FileError(
            f"the cached features were made with other weights (SHA-256 {weights_sha256[:12]}...) than {whose} "
            f"({other[:12]}...); delete resources/features, resources/cutpaste and resources/pseudo and run again."
        )
