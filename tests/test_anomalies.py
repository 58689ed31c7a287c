"""Synthetic images of each pass: of which anomaly, by which draws, and the same from any number of workers."""

from itertools import chain

import numpy as np
import pytest
from folders import make_category

from bgad.anomalies import synthetic
from bgad.anomalies.synthetic import FreshImages, SyntheticMaker
from bgad.config.settings import Dataset
from bgad.data.layouts import build_index
from bgad.data.splits import draw
from bgad.randomness import numpy_generator

NAMES = ("a recipe", "own", "part", 3)
KINDS = ("cutpaste", "pseudo")


@pytest.fixture(scope="module")
def maker(tmp_path_factory) -> SyntheticMaker:
    root = tmp_path_factory.mktemp("data")
    make_category(root, "part", types={"cut": 8, "hole": 8}, train=6, good=2)
    index = build_index("own", "part", root, Dataset(path=root))
    return SyntheticMaker(index, draw(index, "seen", 0), root / "part", 32)


def passes_of(maker, passes: range, workers=0) -> list[bytes]:
    """Image and mask of all the passes, in order."""
    fresh = FreshImages(maker, KINDS, maker.split.known(2), 5, NAMES, passes, workers)
    found = [fresh() for _ in passes]
    assert [len(images) for of_kinds in found for images in of_kinds] == [5, 5] * len(passes)
    return [pixels.tobytes() + mask.tobytes() for pixels, mask in chain(*chain(*found))]


def test_each_image_depends_on_its_kind_pass_and_number_only(maker):
    found = passes_of(maker, range(3))
    assert len(set(found)) == 30
    known = maker.split.known(2)
    places = [(number, kind, place) for number in range(3) for kind in KINDS for place in range(5)]
    for (number, kind, place), made in zip(places, found, strict=True):
        # The known anomalies in turn: 0, 1, 0, 1, 0.
        pixels, mask = maker.make(kind, known[place % 2], numpy_generator(kind, *NAMES, number, place))
        assert (pixels.dtype, pixels.shape, mask.dtype, mask.shape) == (np.uint8, (32, 32, 3), bool, (32, 32))
        assert made == pixels.tobytes() + mask.tobytes()
    assert passes_of(maker, range(1, 3)) == found[10:]  # as after a checkpoint


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(maker, workers):
    assert passes_of(maker, range(2), workers) == passes_of(maker, range(2))


def test_images_are_read_once_and_stay_as_they_are(maker, monkeypatch):
    synthetic._kept.clear()
    synthetic._anomaly.cache_clear()
    read, exact = [], synthetic.read_image
    monkeypatch.setattr(synthetic, "read_image", lambda path, bit_depth: read.append(path) or exact(path, bit_depth))
    passes_of(maker, range(4))
    assert len(read) == len(set(read)) == 6 + 2  # normal images and known anomalies; 40 synthetic images
    bit_depth = maker.index.bit_depth
    assert all((synthetic._image(path, bit_depth) == exact(path, bit_depth)).all() for path in read[:6])
    assert not synthetic._image(read[0], bit_depth).flags.writeable


def test_what_is_kept_of_images_is_bounded(maker, monkeypatch):
    expected = passes_of(maker, range(2))
    synthetic._kept.clear()
    sizes, limit = [], 3 * synthetic._image(maker.category / maker.split.train_normal[0], None).nbytes
    monkeypatch.setattr(synthetic, "KEPT", limit)
    exact = synthetic._remembered
    monkeypatch.setattr(
        synthetic, "_remembered", lambda *of: (exact(*of), sizes.append(sum(v.nbytes for v in synthetic._kept.values())))[0]
    )
    assert passes_of(maker, range(2)) == expected
    assert limit / 2 < max(sizes) <= limit


def test_without_kinds_nothing_is_made(maker):
    assert FreshImages(maker, (), maker.split.known(2), 5, NAMES, range(2), workers=2)() == []
