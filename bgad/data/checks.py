"""What is odd about a category or a test set, though a cell can be made of it: said in the log of the first step that can see
it, and as ``notes`` in metrics.json, which the table and the page show.

A note is one sentence that names no image and no category, so that all cells that it concerns can be named beside it.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from bgad.data.layouts import Index
from bgad.data.splits import Split, one_of_each

# How path and reason begin of a test image that is a training image.
ACROSS = "test/", "byte-identical to train/"


def of_index(index: Index) -> list[str]:
    tested = [image for image in index.images if image.part == "test"]
    copies = _of_copies(one_of_each(index.images)[1])
    return [*_of_classes(image.type for image in tested), *copies, *_of_masks(sum(image.empty_mask for image in tested))]


def of_split(split: Split) -> list[str]:
    """What the split's test set comes to; its copies are those of the index."""
    return _of_classes(["good"] * len(split.test_normal) + ["defect"] * len(split.test_anomalous))


def of_cell(split: Split, types: Sequence[str], masks: np.ndarray | None, scores: np.ndarray) -> list[str]:
    """Of the ``types`` ("good" where normal), ``masks`` (N, S, S) and ``scores`` (N,) of a cell's test images."""
    anomalous = np.array([kind != "good" for kind in types])
    empty = 0 if masks is None else int((anomalous & ~masks.any(axis=(1, 2))).sum())
    equal = len(scores) > 1 and np.ptp(scores) == 0
    constant = ["All test images have the same score, so that image AUROC is 50 and means nothing."] if equal else []
    return [*_of_classes(types), *_of_copies(split.excluded), *_of_masks(empty), *constant]


def _of_classes(types: Iterable[str]) -> list[str]:
    normal = {kind == "good" for kind in types}
    missing = [name for name, is_normal in (("normal", True), ("anomalous", False)) if is_normal not in normal]
    return [f"No test image is {name}, so that there is no AUROC." for name in missing]


def _of_copies(left_out: Iterable[tuple[str, str]]) -> list[str]:
    """Of images that are left out as copies, as (path, reason)."""
    across = unsure = others = 0
    for path, why in left_out:
        if path.startswith(ACROSS[0]) and why.startswith(ACROSS[1]):
            across += 1
        elif why.endswith("labelled differently"):
            unsure += 1
        else:
            others += 1
    return [
        *_counted(across, "test image", "byte-identical to training images: left out of the test set"),
        *_counted(unsure, "test image", "byte-identical to one that has another type: left out"),
        *_counted(others, "image", "byte-identical to another beside it: left out, so that each counts once"),
    ]


def _of_masks(empty: int) -> list[str]:
    return _counted(empty, "anomalous test image", "without an anomalous pixel in the mask: anomalous as a whole only")


def _counted(number: int, what: str, are: str) -> list[str]:
    return [] if number == 0 else [f"1 {what} is {are}." if number == 1 else f"{number} {what}s are {are}."]
