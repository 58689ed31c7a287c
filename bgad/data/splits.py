"""Splits: which anomalies can be known in training, and what the test set then is.

A pool of known anomalies is drawn once for each (data set, category, split, seed). A cell with k knows the first k of the pool.
The whole pool leaves the test set whatever k is, so k0, k1 and k10 are tested on the same images. ``seen`` draws the pool over
all defect types; ``hard-<type>`` draws it from one type and takes all of that type out of the test set (DRA, CVPR 2022). Draws
depend only on these names and the names of the files, unless the recipe follows the released code, which draws in a row.
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
from bgad.errors import ConfigError, DataError, FileError
from bgad.io import read_json, write_json
from bgad.randomness import shuffled


@dataclass(frozen=True)
class Split:
    """A drawn split; every list holds paths relative to the category's folder.

    ``pool``: the known anomalies in their order; ``further``: those that follow for k > len(pool); ``held_out``: images of a
    hard split's type that leave the test set without being known; ``test_normal`` and ``test_anomalous``: the test set of every
    k up to the pool's size; ``excluded``: images left out everywhere, with the reason. An image with an empty mask is neither
    in ``pool`` nor in ``further``, and neither is one without a mask in a category with masks.
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
        """The k anomalies that a cell knows; DataError if there are fewer."""
        order = self.pool + self.further
        if k > len(order):
            which = "anomalous images" if self.split == "seen" else f"images of type {self.split.removeprefix('hard-')}"
            others = self.test_anomalous if self.split == "seen" else self.held_out
            marked = " with a mask that marks something" if len(others) > len(self.further) else ""
            raise DataError(
                f"{self.dataset}/{self.category}: k {k} is more than its {len(order)} {which}{marked}; ask for a smaller k."
            )
        return order[:k]

    def test(self, k: int) -> tuple[str, ...]:
        """The test set of a cell with k: normal images, then unknown anomalous ones; DataError if no anomalous one is left."""
        known = set(self.known(k))
        anomalous = tuple(path for path in self.test_anomalous if path not in known)
        if known and not anomalous:
            raise DataError(f"{self.dataset}/{self.category}: k {k} leaves no anomalous image to test on; ask for a smaller k.")
        return self.test_normal + anomalous

    def full_test(self) -> tuple[str, ...]:
        """The whole test set, on which unsupervised methods publish their metrics."""
        return self.test_normal + tuple(sorted(self.test_anomalous + self.pool + self.held_out))

    def save(self, path: Path) -> None:
        write_json(path, {**asdict(self), "sha256": self.sha256})

    @classmethod
    def load(cls, path: Path) -> "Split":
        """FileError if the file is missing, damaged or changed, or names something outside its folder."""
        values = read_json(path)
        try:
            recorded = values.pop("sha256", None)
            split = TypeAdapter(cls).validate_python(values)
        except (AttributeError, TypeError, ValidationError) as error:
            raise FileError(f"{path}: not the file of a split; delete it and run again, or check the path.") from error
        if split.sha256 != recorded:
            raise FileError(f"{path}: its content does not match its hash, so somebody changed it; delete it and run again.")
        lists = (split.train_normal, split.pool, split.further, split.held_out, split.test_normal, split.test_anomalous)
        paths.check_inside([split.category, *chain(*lists)], path)
        return split


def draw(index: Index, split: str, seed: int, pool_size: int = 10, before: Sequence[Index] | None = None) -> Split:
    """The split of that name and seed; ConfigError or DataError if the category cannot have it.

    By default a split's draw depends only on its own names. With ``before``, the indexes of the categories that come before
    this one (none for the first), the ``seen`` draw is the released code's, which depends on theirs. Images that are left out
    here (copies, empty or missing masks) take part in that draw and are skipped afterwards. A hard split, which the released
    code does not have, never depends on ``before``.
    """
    images, excluded = one_of_each(index.images)
    normal = [image.path for image in images if not image.anomalous and image.part == "train"]
    test_normal = [image.path for image in images if not image.anomalous and image.part == "test"]
    anomalous = [image.path for image in images if image.anomalous]
    drawable = _drawable(images, index.unmasked)
    if not normal:
        raise DataError(
            f"{index.dataset}/{index.category}: no normal image is left to train on; all are copies, so add others."
        )

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
            raise ConfigError(
                f"{index.dataset}/{index.category}: there is no split {split}; use seen or "
                f"hard-<type> with one of {', '.join(sorted(drawable))}."
            )
        order = shuffled(drawable[kind], "pool", *names)
        leaves = {image.path for image in images if image.type == kind}

    pool, further = order[:pool_size], order[pool_size:]
    test_anomalous = [path for path in anomalous if path not in leaves]
    if anomalous and not test_anomalous:
        smaller = f"set datasets.{index.dataset}.pool to a smaller number"
        raise DataError(
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


def _drawable(images: list[ImageRecord], unmasked: frozenset[str]) -> dict[str, list[str]]:
    """The images of each defect type that can be known: those whose mask is not empty, nor missing while others have one."""
    by_type: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.anomalous:
            by_type[image.type] += [] if image.empty_mask or image.path in unmasked else [image.path]
    return by_type


def draws(recipe: Recipe, split: str) -> str:
    """How a recipe draws a split: "in-a-row", after the categories before it, or on its "own"."""
    return "in-a-row" if split == "seen" and recipe.quirks.draws_follow_one_another else "own"


def file_of(recipe: Recipe, names: Mapping[str, object]) -> str:
    """The split file of a cell; ``names`` are the cell's fields."""
    return paths.SPLIT.format(**names, draws=draws(recipe, str(names["split"])))


def _spread(by_type: dict[str, list[str]], pool_size: int, names: tuple) -> list[str]:
    """All anomalies in the order in which they become known: pool_size // types of each type first, the rest at random.

    The first part takes turns over the types, in a new order each round, so that every prefix is spread over the types as
    evenly as possible (docs/protocol.md: k // types from each defect type, the rest at random).
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
    """The images without copies, and the copies (byte-identical files) with the reason why they are left out.

    Of several copies the training image stays, else the first. If copies have different types, none of their labels can be
    trusted and all are left out, a training image too.
    """
    groups = defaultdict(list)
    for image in images:
        groups[image.sha256].append(image)
    kept, excluded = [], []
    for group in groups.values():
        group.sort(key=lambda image: (image.part != "train", image.path))
        first, others = group[0], group[1:]
        if any(image.type != first.type for image in others):
            excluded += [(image.path, f"byte-identical to {first.path}, labelled differently") for image in others]
            excluded.append((first.path, f"byte-identical to {others[-1].path}, labelled differently"))
            continue
        kept.append(first)
        excluded += [(image.path, f"byte-identical to {first.path}") for image in others]
    return sorted(kept, key=lambda image: image.path), sorted(excluded)
