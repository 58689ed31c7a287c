"""CutPaste by hand, with an augmentation that changes nothing; and its invariants, with the real one."""

import numpy as np
import pytest
from PIL import Image

from bgad.anomalies import cutpaste
from bgad.anomalies.cutpaste import augmented, cut_paste, foreground, paste


@pytest.fixture
def unaugmented(monkeypatch):
    monkeypatch.setattr(cutpaste, "rand_augment", lambda image, mask, rng: (image, mask))


def plain(height: int, width: int, value: int = 7) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def numbered(height: int, width: int) -> np.ndarray:
    """An image in which no two pixels have the same colour, nor that of ``plain``."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows + 100, columns + 100, rows * 0], axis=-1).astype(np.uint8)


def points(shape: tuple[int, int], *where: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for point in where:
        mask[point] = True
    return mask


def box(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_in_place_when_more_than_two_thirds_lie_in_the_foreground(unaugmented):
    mask = box((12, 12), slice(0, 1), slice(0, 10))
    seven_of_ten = box((12, 12), slice(0, 12), slice(3, 12))
    image, where = cut_paste(plain(12, 12), seven_of_ten, numbered(12, 12), mask, rng())
    assert (where == mask).all()
    assert (image[mask] == numbered(12, 12)[mask]).all()
    assert (image[~mask] == 7).all()


def test_in_place_without_any_pixel():
    nothing = np.zeros((4, 4), dtype=bool)
    image, where = cutpaste._in_place(plain(4, 4), numbered(4, 4), nothing)
    assert (image == 7).all() and not where.any()


def test_exactly_two_thirds_move(unaugmented):
    mask = box((12, 12), slice(0, 1), slice(0, 3))
    two_of_three = points((12, 12), (0, 0), (0, 1), (8, 7))
    starts = set()
    for seed in range(40):
        image, where = cut_paste(plain(12, 12), two_of_three, numbered(12, 12), mask, rng(seed))
        starts.add(int(np.flatnonzero(where)[0]))
        assert (image[where] == numbered(12, 12)[mask]).all()
        assert (image[~where] == 7).all()
    # centred on (0, 1), where it was, or on (8, 7); (0, 0) is less than half a region away from the border
    assert starts == {0, 8 * 12 + 6}
    three_of_three = two_of_three | mask
    assert all(
        (cut_paste(plain(12, 12), three_of_three, numbered(12, 12), mask, rng(seed))[1] == mask).all() for seed in range(40)
    )


def test_two_regions_land_on_independent_foreground_points(unaugmented):
    shape, colours = (40, 40), numbered(40, 40)
    mask = box(shape, slice(0, 3), slice(0, 3)) | box(shape, slice(30, 31), slice(2, 9))
    centres = [(20, 10), (20, 30), (33, 20)]
    possible = {}
    for one in centres:
        for two in centres:
            image, where = plain(*shape), np.zeros(shape, dtype=bool)
            square = np.s_[one[0] - 1 : one[0] + 2, one[1] - 1 : one[1] + 2]
            bar = np.s_[two[0] : two[0] + 1, two[1] - 3 : two[1] + 4]
            image[square], image[bar] = colours[0:3, 0:3], colours[30:31, 2:9]
            where[square] = where[bar] = True
            possible[image.tobytes()] = where
    landed = set()
    for seed in range(100):
        image, where = cut_paste(plain(*shape), points(shape, *centres), colours, mask, rng(seed))
        assert (where == possible[image.tobytes()]).all()
        landed.add(image.tobytes())
    assert landed == set(possible)


@pytest.mark.parametrize("size", [(4, 5), (5, 4), (1, 1), (10, 10)])
def test_regions_stay_half_their_size_away_from_the_border(unaugmented, size):
    shape, (height, width) = (10, 10), size
    mask = box(shape, slice(0, height), slice(0, width))
    # everything is foreground but for the place of the defect; where all of it is the defect, one point is left
    ground = ~mask if height < 10 else points(shape, (4, 4))
    corners = set()
    for seed in range(300):
        image, where = cut_paste(plain(*shape), ground, numbered(*shape), mask, rng(seed))
        assert (image[where] == numbered(*shape)[mask]).all()
        (y, x) = np.argwhere(where)[0].tolist()
        assert (where == box(shape, slice(y, y + height), slice(x, x + width))).all()
        corners.add((y, x))
    possible = {
        (y, x) for y in range(11 - height) for x in range(11 - width) if ground[y + (height - 1) // 2, x + (width - 1) // 2]
    }
    assert corners <= possible and len(corners) >= 0.8 * len(possible)


def test_pixels_outside_the_image_are_dropped(unaugmented):
    shape = (9, 9)
    mask = box(shape, slice(4, 7), slice(4, 7))
    image, where = cut_paste(plain(*shape), points(shape, (0, 0)), numbered(*shape), mask, rng())
    assert (where == box(shape, slice(0, 2), slice(0, 2))).all()
    assert (image[:2, :2] == numbered(*shape)[5:7, 5:7]).all()
    assert (image[~where] == 7).all()


@pytest.mark.parametrize("ground", [(), ((0, 0),)], ids=["no foreground", "all of it outside"])
def test_an_anomaly_that_can_go_nowhere_stays_in_place(unaugmented, ground):
    shape = (9, 9)
    # an angle: its centre (4, 4) is empty, and centred on the corner both its arms lie outside
    mask = box(shape, slice(2, 3), slice(2, 7)) | box(shape, slice(2, 7), slice(2, 3))
    image, where = cut_paste(plain(*shape), points(shape, *ground), numbered(*shape), mask, rng())
    assert (where == mask).all()
    assert (image[mask] == numbered(*shape)[mask]).all() and (image[~mask] == 7).all()


def test_pixels_that_touch_at_a_corner_are_one_region(unaugmented):
    shape = (20, 20)
    mask = points(shape, (0, 0), (1, 1), (2, 2))
    for seed in range(20):
        ground = box(shape, slice(8, 20), slice(8, 20))
        where = cut_paste(plain(*shape), ground, numbered(*shape), mask, rng(seed))[1]
        (y, x) = np.argwhere(where)[0].tolist()
        assert (where == points(shape, (y, x), (y + 1, x + 1), (y + 2, x + 2))).all()


def test_another_size_is_brought_to_the_normal_image(unaugmented):
    mask = box((6, 10), slice(1, 3), slice(4, 5))
    image, where = cut_paste(plain(12, 30), np.ones((12, 30), dtype=bool), plain(6, 10, 200), mask, rng())
    assert image.shape == (12, 30, 3)
    assert (where == box((12, 30), slice(2, 6), slice(12, 15))).all()
    assert (image[where] == 200).all() and (image[~where] == 7).all()


@pytest.mark.parametrize("drawn", [True, False], ids=["augmented", "unaugmented"])
def test_images_are_resized_with_lanczos(monkeypatch, drawn):
    monkeypatch.setattr(cutpaste, "rand_augment", lambda image, mask, rng: (image, mask & drawn))
    step = plain(4, 8, 50)
    step[:, 4:] = 200
    mask = np.ones((4, 8), dtype=bool)
    image, _ = cut_paste(plain(8, 16), np.ones((8, 16), dtype=bool), step, mask, rng())
    assert image.min() < 50 and image.max() > 200  # nearest and linear do not overshoot


def test_a_small_defect_survives_a_smaller_image(unaugmented):
    image, where = cut_paste(plain(8, 8), np.ones((8, 8), dtype=bool), plain(64, 64, 200), points((64, 64), (16, 41)), rng())
    assert (where == points((8, 8), (2, 5))).all()
    assert (image[where] == 200).all() and (image[~where] == 7).all()


def test_an_augmentation_that_moved_the_defect_out_is_drawn_again(monkeypatch):
    moved = points((6, 6), (5, 5))
    calls = []

    def augmentation(image, mask, rng):
        calls.append(1)
        return plain(6, 6, 99), moved if len(calls) == works_at else np.zeros_like(mask)

    monkeypatch.setattr(cutpaste, "rand_augment", augmentation)
    mask, everywhere = points((6, 6), (1, 2)), np.ones((6, 6), dtype=bool)
    for works_at in (1, 4, 11):
        calls.clear()
        image, where = cut_paste(plain(6, 6), everywhere, plain(6, 6, 200), mask, rng())
        assert len(calls) == works_at
        assert (where == moved).all() and (image[where] == 99).all() and (image[~where] == 7).all()
    works_at = 12
    calls.clear()
    image, where = cut_paste(plain(6, 6), everywhere, plain(6, 6, 200), mask, rng())
    assert len(calls) == 11
    assert (where == mask).all() and (image[where] == 200).all() and (image[~where] == 7).all()


def test_no_defect_pastes_nothing():
    nothing = np.zeros((6, 6), dtype=bool)
    image, where = cut_paste(plain(6, 6), ~nothing, plain(6, 6, 200), nothing, rng())
    assert (image == 7).all() and not where.any()


def photograph() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A normal image, its foreground (a disc), an anomalous image of another shape, its mask: all read-only."""
    noise = np.random.default_rng(3)
    rows, columns = np.mgrid[:70, :70]
    normal, disc = noise.integers(0, 60, (70, 70, 3), dtype=np.uint8), (rows - 35) ** 2 + (columns - 35) ** 2 < 28**2
    anomalous = noise.integers(120, 250, (60, 90, 3), dtype=np.uint8)
    mask = box((60, 90), slice(8, 23), slice(12, 32)) | box((60, 90), slice(40, 44), slice(60, 80))
    for array in (normal, disc, anomalous, mask):
        array.flags.writeable = False
    return normal, disc, anomalous, mask


def test_what_holds_for_every_augmentation(monkeypatch):
    normal, disc, anomalous, mask = photograph()
    before = [array.tobytes() for array in (normal, disc, anomalous, mask)]
    drawn = {}
    real = cutpaste.rand_augment

    def remembered(*arguments):
        drawn["image"], drawn["mask"] = real(*arguments)
        return drawn["image"], drawn["mask"]

    monkeypatch.setattr(cutpaste, "rand_augment", remembered)
    kinds = {"in place": 0, "moved": 0}
    for seed in range(80):
        image, where = cut_paste(normal, disc, anomalous, mask, rng(seed))
        assert where.any() and where.dtype == bool and image.dtype == np.uint8
        assert (image[~where] == normal[~where]).all()
        shown = np.asarray(Image.fromarray(drawn["image"]).resize((70, 70), Image.Resampling.LANCZOS))
        cut = np.asarray(Image.fromarray(drawn["mask"]).resize((70, 70), Image.Resampling.NEAREST))
        if (cut & disc).sum() / cut.sum() > 2 / 3:
            kinds["in place"] += 1
            assert (where == cut).all() and (image[where] == shown[where]).all()
        else:
            kinds["moved"] += 1
            assert set(map(tuple, image[where].tolist())) <= set(map(tuple, shown[cut].tolist()))
    assert min(kinds.values()) >= 15
    assert before == [array.tobytes() for array in (normal, disc, anomalous, mask)]


def test_cut_paste_is_augmented_then_paste_with_the_same_draws():
    normal, disc, anomalous, mask = photograph()
    for seed in range(20):
        one, two = rng(seed), rng(seed)
        image, where = cut_paste(normal, disc, anomalous, mask, one)
        stage, moved = augmented(anomalous, mask, (70, 70), two)
        pasted, pasted_where = paste(normal, disc, stage, moved, two)
        assert image.tobytes() == pasted.tobytes() and where.tobytes() == pasted_where.tobytes()
        assert one.random() == two.random()
        assert stage.shape == (70, 70, 3) and moved.shape == (70, 70) and moved.any()


def test_augmented_is_a_lanczos_image_and_a_nearest_mask_at_the_size_asked_for(unaugmented):
    _, _, anomalous, mask = photograph()
    image, moved = augmented(anomalous, mask, (30, 45), rng())
    assert np.array_equal(image, np.asarray(Image.fromarray(anomalous).resize((45, 30), Image.Resampling.LANCZOS)))
    # at half the size, nearest takes every second pixel, the odd ones
    assert np.array_equal(moved, mask[1::2, 1::2])


def test_nothing_is_drawn_for_an_empty_mask():
    _, _, anomalous, mask = photograph()
    used, fresh = rng(4), rng(4)
    image, moved = augmented(anomalous, np.zeros_like(mask), (60, 90), used)
    assert np.array_equal(image, anomalous) and not moved.any()
    assert used.random() == fresh.random()


def test_equal_generators_give_equal_bytes():
    one, two, results = rng(9), rng(9), set()
    for _ in range(20):
        first, second = cut_paste(*photograph(), one), cut_paste(*photograph(), two)
        assert first[0].tobytes() == second[0].tobytes() and first[1].tobytes() == second[1].tobytes()
        results.add(first[0].tobytes())
    assert len(results) > 8  # an augmentation that is not applied leaves the same image


@pytest.mark.parametrize(("disc_gray", "ground_gray"), [(110, 50), (150, 220)], ids=["bright disc", "dark disc"])
@pytest.mark.parametrize("radius", [12, 38], ids=["small", "most of the image"])
def test_foreground_is_the_disc_not_the_ground(disc_gray, ground_gray, radius):
    rows, columns = np.mgrid[:80, :80]
    disc = (rows - 40) ** 2 + (columns - 40) ** 2 < radius**2
    gray = np.where(disc, disc_gray, ground_gray) + np.random.default_rng(0).integers(-20, 21, (80, 80))
    image = np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
    assert (foreground(image, texture=False) == disc).all()
    assert foreground(image, texture=True).all()


def test_foreground_reads_colours_by_their_brightness():
    image = plain(20, 20, 0)
    image[:, :, 2] = 255  # blue is dark, green is bright, both are 255 in one channel
    image[5:15, 5:15] = (0, 255, 0)
    assert (foreground(image, texture=False) == box((20, 20), slice(5, 15), slice(5, 15))).all()


@pytest.mark.parametrize(("pixels", "whole"), [(0, True), (3, True), (4, False)])
def test_foreground_of_next_to_nothing_is_the_whole_image(pixels, whole):
    image = plain(20, 20, 50)
    image[10, 5 : 5 + pixels] = 220  # 4 of 400 pixels are 1 %
    found = foreground(image, texture=False)
    assert found.all() if whole else (found == box((20, 20), slice(10, 11), slice(5, 9))).all()
