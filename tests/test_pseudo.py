"""Pseudo anomalies: where a patch is cut and lands, what is blended, and what the mask then says, against NSA's rules."""

import numpy as np
import pytest
from PIL import Image

from bgad import pseudo
from bgad.errors import BgadError
from bgad.pseudo import pseudo_anomaly
from bgad.randomness import numpy_generator

SHAPE = (200, 300)


def noise(name, shape=SHAPE, low=0, high=256):
    return numpy_generator("pseudo", name).integers(low, high, (*shape, 3), dtype=np.uint8)


def smooth(name, shape=SHAPE):
    """Blobs of some 20 pixels, as photographs have them."""
    small = Image.fromarray(noise(name, (shape[0] // 20, shape[1] // 20)))
    return np.array(small.resize(shape[::-1], Image.Resampling.BICUBIC))


def patches(count=3000, shape=SHAPE):
    rng = numpy_generator("patches")
    return [pseudo.draw_patch(shape, rng) for _ in range(count)]


def sides(box):
    return np.array([part.stop - part.start for part in box])


def test_what_is_cut_out_has_the_sizes_of_nsa():
    """Half sides uniform in 5 % to 20 % of a side, less what lies outside of the image."""
    cuts = np.array([sides(cut) for cut, _ in patches()]) / SHAPE
    assert cuts.max() < 0.4
    # The centre stays 5 % off the border, so no less than 5 % + 5 % is left.
    assert cuts.min() >= 0.1
    for axis in (0, 1):
        inside = [sides(cut)[axis] / SHAPE[axis] for cut, _ in patches() if 0 < cut[axis].start and cut[axis].stop < SHAPE[axis]]
        # Away from the border the mean side would be 0.25; larger ones reach the border more often: with a uniform centre a
        # half side h stays inside with probability (1 - 2 h) / 0.9, so the mean is 2 (E h - 2 E h^2) / (1 - 2 E h).
        h = np.arange(round(0.05 * SHAPE[axis]), round(0.2 * SHAPE[axis])) / SHAPE[axis]
        expected = 2 * (h.mean() - 2 * (h**2).mean()) / (1 - 2 * h.mean())
        assert np.mean(inside) == pytest.approx(expected, abs=0.005)


def test_a_patch_lands_inside_the_image_with_at_most_a_fifth_of_each_side():
    for cut, place in patches():
        for part, part_of_cut, length in zip(place, cut, SHAPE, strict=True):
            assert 0 <= part_of_cut.start < part_of_cut.stop <= length
            assert 1 <= part.start < part.stop <= length
            assert round(0.05 * length) <= part.stop - part.start <= round(0.2 * length)


def test_one_factor_resizes_both_sides_between_0_7_and_1_3():
    """Where no factor could take a side to its bounds, height and width have grown by the same one, up to a pixel."""
    factors, bounds = [], np.round(np.outer([0.05, 0.2], SHAPE))
    for cut, place in patches(20000):
        old, new = sides(cut), sides(place)
        if ((0.7 * old > bounds[0]) & (1.3 * old < bounds[1])).all():
            low, high = (new - 0.5) / old, (new + 1.5) / old  # rounded down, and from one another
            assert low.max() <= high.min()
            assert (new + 2 > 0.7 * old).all() and (new <= 1.3 * old).all()
            factors.append((new[0] + 0.75) / old[0])
    assert len(factors) > 100
    # normal(1, 0.5), clipped: P(z < -0.6) = 0.2743 lie at 0.7, as many at 1.3.
    assert np.mean(np.array(factors) < 0.75) == pytest.approx(0.2743 + 0.0342, abs=0.07)
    assert np.mean(np.array(factors) > 1.25) == pytest.approx(0.2743 + 0.0342, abs=0.07)


@pytest.mark.parametrize("images", [noise, smooth])
def test_outside_the_patch_the_image_is_the_normal_one_and_inside_the_mask_it_differs(images):
    normal, source = images("normal"), images("source")
    before = normal.copy(), source.copy()
    for number in range(20):
        image, mask = pseudo_anomaly(normal, source, numpy_generator("one", number))
        assert image.dtype == np.uint8 and image.shape == normal.shape and mask.shape == normal.shape[:2]
        assert mask.any()
        rows, columns = np.nonzero(mask)
        changed_rows, changed_columns = np.nonzero((image != normal).any(axis=2))
        # All change is in one patch of at most a fifth of each side, and so is the mask.
        assert np.ptp(changed_rows) < 0.2 * SHAPE[0] and np.ptp(changed_columns) < 0.2 * SHAPE[1]
        assert set(rows) <= set(range(changed_rows.min() - 2, changed_rows.max() + 3))
        assert set(columns) <= set(range(changed_columns.min() - 2, changed_columns.max() + 3))
        # The median fills single pixels, so nearly all of the mask differs.
        difference = np.abs(image.astype(int) - normal).mean(axis=2)
        assert (difference[mask] > 1).mean() > 0.9
    assert np.array_equal(normal, before[0]) and np.array_equal(source, before[1])


def test_the_mask_is_a_median_over_where_the_mean_difference_is_above_one():
    """A slow version: at each pixel of the patch, whether 13 or more of the 25 around it (the edge repeated) differ."""
    normal = np.full((40, 50, 3), 100, dtype=np.uint8)
    place = (slice(5, 25), slice(10, 40))
    image = normal.copy()
    image[place] += numpy_generator("mask").integers(0, 4, (20, 30, 3), dtype=np.uint8)
    found = pseudo.differing(normal, image, place, 5)
    above = (image[place].astype(int) - normal[place]).sum(axis=2) > 3
    padded = np.pad(above, 2, mode="edge")
    slow = np.zeros((40, 50), dtype=bool)
    for row in range(20):
        for column in range(30):
            slow[5 + row, 10 + column] = padded[row : row + 5, column : column + 5].sum() >= 13
    assert np.array_equal(found, slow)
    assert 0 < slow.sum() < 600


def test_blending_takes_the_patchs_gradients_and_the_images_level():
    """A flat patch of another colour vanishes; a step in it stays a step."""
    normal = np.full((100, 100, 3), 100, dtype=np.uint8)
    place = (slice(30, 60), slice(20, 60))
    flat = np.full((30, 40, 3), 200, dtype=np.uint8)
    assert np.abs(pseudo.blended(normal, flat, place).astype(int) - 100).max() <= 1
    step = flat.copy()
    step[10:20, 15:25] -= 60
    image = pseudo.blended(normal, step, place)
    inside, around = image[42:48, 37:43].mean(), image[32:36, 24:56].mean()
    assert inside - around == pytest.approx(-60, abs=20)
    outside = np.ones((100, 100), dtype=bool)
    outside[place] = False
    assert (image[outside] == 100).all()


def test_a_patch_of_odd_sides_is_in_its_place():
    normal = np.full((100, 100, 3), 100, dtype=np.uint8)
    for height, width in ((20, 20), (21, 20), (20, 21), (21, 21)):
        patch = noise("odd", (height, width), 60, 180)
        place = (slice(40, 40 + height), slice(50, 50 + width))
        rows, columns = np.nonzero((pseudo.blended(normal, patch, place) != normal).any(axis=2))
        assert (rows.min(), rows.max()) == (42, 40 + height - 3), (height, width)
        assert (columns.min(), columns.max()) == (52, 50 + width - 3), (height, width)


def test_one_generator_gives_one_image_and_another_another():
    normal, source = smooth("normal"), smooth("source")
    first, again, other = (pseudo_anomaly(normal, source, numpy_generator("draw", seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_a_source_of_another_size_is_brought_to_the_normal_images():
    normal, source = smooth("normal"), smooth("source", (100, 120))
    resized = np.array(Image.fromarray(source).resize(SHAPE[::-1], Image.Resampling.LANCZOS))
    found, expected = (pseudo_anomaly(normal, of, numpy_generator("size")) for of in (source, resized))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(8, 8), (32, 32), (33, 47)])
def test_a_small_image_gets_a_sharp_patch_with_its_every_differing_pixel(shape):
    normal, source = noise("small", shape), noise("small source", shape)
    image, mask = pseudo_anomaly(normal, source, numpy_generator("small"))
    difference = np.abs(image.astype(int) - normal)
    assert mask.any()
    assert np.array_equal(mask, difference.sum(axis=2) > 3)


def test_two_plain_colours_get_a_sharp_patch_and_one_colour_is_refused():
    dark, bright = np.full((100, 100, 3), 50, dtype=np.uint8), np.full((100, 100, 3), 200, dtype=np.uint8)
    image, mask = pseudo_anomaly(dark, bright, numpy_generator("plain"))
    assert (image[mask] == 200).all() and (image[~mask] == 50).all()
    with pytest.raises(BgadError, match="both seem to be one plain colour"):
        pseudo_anomaly(dark, dark.copy(), numpy_generator("plain"))
