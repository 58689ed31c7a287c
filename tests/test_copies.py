"""Byte-identical images count as one: the training image stays, and no copy is known and tested."""

from collections import Counter
from dataclasses import replace

import pytest
from test_splits import BOTTLE, record

from bgad.data.layouts import Index
from bgad.data.splits import Split, draw


def with_copy(of: str, as_: str, **labels) -> Split:
    """The split of bottle after a byte-identical copy of image ``of`` has come in as ``as_``."""
    content = next(image.sha256 for image in BOTTLE.images if image.path == of)
    part = as_.split("/")[0]
    return draw(replace(BOTTLE, images=(record(as_, part, content=content, **labels), *BOTTLE.images)), "seen", 0)


def everywhere(split: Split) -> list[str]:
    """Every image that the split uses, as often as it does."""
    return [*split.train_normal, *split.full_test()]


COPIES = {  # of an image: which of the two is left out
    ("train/good/007.png", "train/good/900.png"): "train/good/900.png",
    ("train/good/007.png", "test/good/900.png"): "test/good/900.png",
    ("test/good/007.png", "train/good/900.png"): "test/good/007.png",
    ("test/good/007.png", "test/good/003a.png"): "test/good/007.png",
    ("test/contamination/007.png", "test/contamination/900.png"): "test/contamination/900.png",
}


@pytest.mark.parametrize(("of", "as_"), COPIES)
def test_byte_identical_images_count_as_one_and_training_keeps_it(of, as_):
    split, left_out = with_copy(of, as_), COPIES[of, as_]
    stays = of if left_out == as_ else as_
    assert split.excluded == ((left_out, f"byte-identical to {stays}"),)
    assert Counter(everywhere(split)) == Counter({image.path for image in BOTTLE.images} - {left_out} | {stays})


@pytest.mark.parametrize("of", ["train/good/007.png", "test/good/007.png", "test/broken_large/007.png"])
def test_copies_of_different_types_leave_both_sides(of):
    split = with_copy(of, as_ := "test/contamination/900.png")
    reason = "byte-identical to {}, labelled differently"
    assert sorted(split.excluded) == sorted(((as_, reason.format(of)), (of, reason.format(as_))))
    assert Counter(everywhere(split)) == Counter({image.path for image in BOTTLE.images} - {of})


def test_many_copies_at_once():
    names = [f"test/good/{number}.png" for number in (900, 901)] + ["train/good/900.png", "train/good/901.png"]
    copies = tuple(record(name, name.split("/")[0], content="the same") for name in names)
    split = draw(replace(BOTTLE, images=copies + BOTTLE.images), "seen", 0)
    assert Counter(everywhere(split)) == Counter({image.path for image in BOTTLE.images} | {"train/good/900.png"})
    assert sorted(path for path, _ in split.excluded) == sorted(set(names) - {"train/good/900.png"})


def test_copies_are_never_known_and_tested():
    """Every anomaly has a copy: whatever is drawn, the other one must not be in the test set."""
    content = {f"test/a/{number}{twin}.png": f"content {number}" for twin in ("", "b") for number in range(20)}
    content |= {f"test/c/{number}.png": f"content {number} of c" for number in range(5)}
    images = [record(path, content=text) for path, text in content.items()]
    index = Index("own", "copies", False, True, (*images, record("train/good/0.png", "train"), record("test/good/0.png")))
    for split, seed in [(split, seed) for split in ("seen", "hard-a", "hard-c") for seed in range(10)]:
        drawn = draw(index, split, seed)
        for k in (0, 1, 5) if split == "hard-c" else (0, 1, 10, 15):
            known = {content[path] for path in drawn.known(k)}
            tested = [content[path] for path in drawn.test(k) if path in content]
            assert not known & set(tested)
            assert len(set(tested)) == len(tested)
