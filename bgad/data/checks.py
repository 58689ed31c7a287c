"""Notes on a category or a test set that is odd but usable.

The first step that can see an oddity prints it to its log; a cell keeps its notes in metrics.json, and the table and the page
show them. A note is one sentence; it names images only where the user has to look at them, so that a report can list all the
cells that it concerns.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from bgad.data.files import named
from bgad.data.layouts import Index
from bgad.data.splits import Split, one_of_each

# How path and reason begin for a test image that is a copy of a training image.
ACROSS = "test/", "byte-identical to train/"


def of_index(index: Index) -> list[str]:
    tested = [image for image in index.images if image.part == "test"]
    copies = _of_copies(one_of_each(index.images)[1])
    empty = sum(image.empty_mask for image in tested)
    return [*_of_classes(image.type for image in tested), *copies, *_of_masks(empty), *index.notes]


def of_split(split: Split) -> list[str]:
    """Notes on the split's test set; its copies are noted with the index."""
    return _of_classes(["good"] * len(split.test_normal) + ["defect"] * len(split.test_anomalous))


def of_cell(
    split: Split, types: Sequence[str], masks: np.ndarray | None, scores: np.ndarray, has_mask: np.ndarray | None = None
) -> list[str]:
    """Notes on a cell's test images, by their ``types`` (normal: "good"), ``masks`` (N, S, S), whether they have a usable one
    (N,), and ``scores`` (N,)."""
    anomalous = np.array([kind != "good" for kind in types]) & (True if has_mask is None else has_mask)
    empty = 0 if masks is None else int((anomalous & ~masks.any(axis=(1, 2))).sum())
    equal = len(scores) > 1 and np.ptp(scores) == 0
    constant = ["All test images have the same score, so image AUROC is 50 and means nothing."] if equal else []
    return [*_of_classes(types), *_of_copies(split.excluded), *_of_masks(empty), *constant]


def _of_classes(types: Iterable[str]) -> list[str]:
    normal = {kind == "good" for kind in types}
    missing = [name for name, is_normal in (("normal", True), ("anomalous", False)) if is_normal not in normal]
    return [f"No test image is {name}, so there is no AUROC." for name in missing]


def _of_copies(left_out: Iterable[tuple[str, str]]) -> list[str]:
    """Notes on the copies that are left out, given as (path, reason)."""
    across = others = 0
    unsure = []
    for path, why in left_out:
        if why.endswith("labelled differently"):
            unsure.append(path)
        elif path.startswith(ACROSS[0]) and why.startswith(ACROSS[1]):
            across += 1
        else:
            others += 1
    return [
        *_counted(across, "test image", "byte-identical to training images: left out of the test set"),
        *_counted(len(unsure), "image", f"byte-identical to one with another type: left out ({named(unsure)})"),
        *_counted(others, "image", "byte-identical to another one: left out, so that each counts once"),
    ]


def _of_masks(empty: int) -> list[str]:
    return _counted(empty, "anomalous test image", "without an anomalous pixel in the mask: only the image counts as anomalous")


def _counted(number: int, what: str, are: str) -> list[str]:
    return [] if number == 0 else [f"1 {what} is {are}." if number == 1 else f"{number} {what}s are {are}."]
