"""Images made anew for every pass: of which anomaly, by which draws, and the same whoever makes them."""

import numpy as np
import pytest
from folders import make_category

from bgad.anomalies.synthetic import FreshPictures, SyntheticMaker
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


def equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_image_depends_on_its_kind_pass_and_number_alone(maker):
    known = maker.split.known(2)
    fresh = FreshPictures(maker, KINDS, known, 5, NAMES, passes=range(3))
    found = [fresh() for _ in range(3)]
    for a_pass, of_kinds in enumerate(found):
        assert [len(pictures) for pictures in of_kinds] == [5, 5]
        for kind, pictures in zip(KINDS, of_kinds, strict=True):
            for number, picture in enumerate(pictures):
                # The known anomalies in turn: 0, 1, 0, 1, 0.
                alone = maker.make(kind, known[number % 2], numpy_generator(kind, *NAMES, a_pass, number))
                assert equal(picture, alone)
    everything = [picture[0].tobytes() for of_kinds in found for pictures in of_kinds for picture in pictures]
    assert len(set(everything)) == 30
    later = FreshPictures(maker, KINDS, known, 5, NAMES, passes=range(1, 3))
    for of_kinds in found[1:]:
        assert all(equal(*pair) for one, other in zip(later(), of_kinds, strict=True) for pair in zip(one, other, strict=True))


def test_workers_change_nothing(maker):
    known = maker.split.known(2)
    alone, beside = (FreshPictures(maker, KINDS, known, 3, NAMES, range(3), workers) for workers in (0, 2))
    for _ in range(3):
        for one, other in zip(alone(), beside(), strict=True):
            assert len(one) == 3
            assert all(map(equal, one, other))


def test_without_kinds_there_is_nothing_to_make(maker):
    assert FreshPictures(maker, (), maker.split.known(2), 5, NAMES, range(2), workers=2)() == []
