"""Splits: which anomalies can be known in training, and what the test set then is.

For (data set, category, split, seed) a pool of known anomalies is drawn once. A cell with k knows the first k of it, and
the whole pool leaves the test set whatever k is, so k0, k1 and k10 are tested on the same images. ``seen`` draws the pool
over all defect types; ``hard-<type>`` draws it from one type and takes all of that type out of the test set (DRA, CVPR
2022). Draws depend on these names and the files' names alone, unless the released code's draws in a row are asked for.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bgad.config import paths
from bgad.config.settings import Recipe
from bgad.data.layouts import ImageRecord, Index
from bgad.data.released_draws import released_order
from bgad.errors import BgadError
from bgad.io import read_json, write_json
from bgad.randomness import shuffled


@dataclass(frozen=True)
class Split:
    """A drawn split; every list holds paths relative to the category's folder.

    ``pool``: the known anomalies in their order; ``further``: the order in which k > len(pool) draws on; ``held_out``:
    images of a hard split's type that leave the test set without being known; ``test_normal`` and ``test_anomalous``: the
    test set of every k up to the pool's size; ``excluded``: images left out everywhere, each with the reason. An image whose
    mask is empty is neither in ``pool`` nor in ``further``.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # for `load`

    dataset: str
    category: str
    split: str
    seed: int
    train_normal: tuple[str, ...]
    pool: tuple[str, ...]
    further: tuple[str, ...]
    held_out: tuple[str, ...]
    test_normal: tuple[str, ...]
    test_anomalous: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def known(self, k: int) -> tuple[str, ...]:
        """The k anomalies that a cell knows; BgadError if there are fewer."""
        order = self.pool + self.further
        if k > len(order):
            which = "anomalous images" if self.split == "seen" else f"images of type {self.split.removeprefix('hard-')}"
            others = self.test_anomalous if self.split == "seen" else self.held_out
            marked = " whose mask is not empty" if len(others) > len(self.further) else ""
            raise BgadError(
                f"{self.dataset}/{self.category}: k {k} is more than its {len(order)} {which}{marked}; ask for a smaller k."
            )
        return order[:k]

    def test(self, k: int) -> tuple[str, ...]:
        """The test set of a cell with k: normal images, then anomalous ones, none of them known."""
        known = set(self.known(k))
        anomalous = tuple(path for path in self.test_anomalous if path not in known)
        if known and not anomalous:
            raise BgadError(f"{self.dataset}/{self.category}: k {k} leaves no anomalous image to test on; ask for a smaller k.")
        return self.test_normal + anomalous

    def full_test(self) -> tuple[str, ...]:
        """The whole test set, nothing taken out, which is what unsupervised methods publish."""
        return self.test_normal + tuple(sorted(self.test_anomalous + self.pool + self.held_out))

    def save(self, path: Path) -> None:
        write_json(path, {**asdict(self), "sha256": self.sha256})

    @classmethod
    def load(cls, path: Path) -> "Split":
        values = read_json(path)
        try:
            recorded = values.pop("sha256", None)
            split = TypeAdapter(cls).validate_python(values)
        except (AttributeError, TypeError, ValidationError) as error:
            raise BgadError(f"{path}: not the file of a split; delete it and run again, or check the path.") from error
        if split.sha256 != recorded:
            raise BgadError(f"{path}: its content does not fit its hash, so it was changed; delete it and run again.")
        lists = (split.train_normal, split.pool, split.further, split.held_out, split.test_normal, split.test_anomalous)
        paths.check_inside([split.category, *chain(*lists)], path)
        return split


def draw(index: Index, split: str, seed: int, pool_size: int = 10, before: Sequence[Index] | None = None) -> Split:
    """The split of that name and seed. BgadError if the category cannot have it.

    By default a split is drawn from its own names alone. With ``before``, the indexes of the categories that come before this
    one (none for the first), the ``seen`` draw is the released code's, in which a category's draw depends on theirs. Images
    that are left out here (copies, empty masks) are part of that draw and then passed over. A hard split, which the released
    code does not have, is always drawn on its own.
    """
    images, excluded = one_of_each(index.images)
    normal = [image.path for image in images if not image.anomalous and image.part == "train"]
    test_normal = [image.path for image in images if not image.anomalous and image.part == "test"]
    anomalous = [image.path for image in images if image.anomalous]
    drawable = _drawable(images)

    names = (index.dataset, index.category, split, seed)
    if split == "seen":
        if before is None:
            order = _spread(drawable, pool_size, names)
        else:
            known = {path for paths in drawable.values() for path in paths}
            order = [path for path in released_order(index, before, seed, pool_size) if path in known]
        leaves = set(order[:pool_size])
    else:
        kind = split.removeprefix("hard-")
        if split != f"hard-{kind}" or kind not in drawable:
            raise BgadError(
                f"{index.dataset}/{index.category}: there is no split {split}; use seen or "
                f"hard-<type> with one of {', '.join(sorted(drawable))}."
            )
        order = shuffled(drawable[kind], "pool", *names)
        leaves = {image.path for image in images if image.type == kind}

    pool, further = order[:pool_size], order[pool_size:]
    test_anomalous = [path for path in anomalous if path not in leaves]
    if anomalous and not test_anomalous:
        smaller = f"set datasets.{index.dataset}.pool to a smaller number"
        raise BgadError(
            f"{index.dataset}/{index.category}: split {split} leaves no anomalous image to test on, since it takes all "
            f"{len(anomalous)}; {smaller if split == 'seen' else 'use seen'} or add images."
        )
    return Split(
        index.dataset,
        index.category,
        split,
        seed,
        train_normal=tuple(normal),
        pool=tuple(pool),
        further=tuple(further),
        held_out=tuple(sorted(leaves - set(pool))),
        test_normal=tuple(test_normal),
        test_anomalous=tuple(test_anomalous),
        excluded=tuple(excluded),
    )


def _drawable(images: list[ImageRecord]) -> dict[str, list[str]]:
    """Each defect type with its images that can be known: those whose mask, where there are masks, is not empty."""
    by_type: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.anomalous:
            by_type[image.type] += [] if image.empty_mask else [image.path]
    return by_type


def draws(recipe: Recipe, split: str) -> str:
    """How a recipe draws a split: "in-a-row", each category after the ones before it, or each on its "own"."""
    return "in-a-row" if split == "seen" and recipe.quirks.draws_follow_one_another else "own"


def file_of(recipe: Recipe, names: Mapping[str, object]) -> str:
    """The file of the split that a cell of these ``names`` (its fields) takes."""
    return paths.SPLIT.format(**names, draws=draws(recipe, str(names["split"])))


def _spread(by_type: dict[str, list[str]], pool_size: int, names: tuple) -> list[str]:
    """All anomalies in the order in which they become known: pool_size // types of each type first, the rest at random.

    The first part goes round the types, each round in an order of its own, so that every prefix is spread over the types as
    evenly as can be (protocol: "k // types from each defect type, the rest at random from what is left").
    """
    each = pool_size // len(by_type) if by_type else 0
    queues = {kind: shuffled(paths, "pool", *names, kind) for kind, paths in by_type.items()}
    rounds = [
        queues[kind][turn]
        for turn in range(each)
        for kind in shuffled(queues, "round", *names, turn)
        if turn < len(queues[kind])
    ]
    rest = [path for queue in queues.values() for path in queue[each:]]
    return rounds + shuffled(rest, "rest", *names)


def one_of_each(images: tuple[ImageRecord, ...]) -> tuple[list[ImageRecord], list[tuple[str, str]]]:
    """Byte-identical images count as one: the training image stays, else the first; the others are left out, with the reason.

    Where test images that are the same have different types, none of the labels can be trusted and all leave.
    """
    groups = defaultdict(list)
    for image in images:
        groups[image.sha256].append(image)
    kept, excluded = [], []
    for group in groups.values():
        group.sort(key=lambda image: (image.part != "train", image.path))
        first, others = group[0], group[1:]
        if first.part == "test" and any(image.type != first.type for image in others):
            excluded += [(image.path, f"byte-identical to {first.path}, labelled differently") for image in others]
            excluded.append((first.path, f"byte-identical to {others[-1].path}, labelled differently"))
            continue
        kept.append(first)
        excluded += [(image.path, f"byte-identical to {first.path}") for image in others]
    return sorted(kept, key=lambda image: image.path), sorted(excluded)
