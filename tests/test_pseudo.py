"""Pseudo anomalies: sizes and places against direct formulas, both pastes against slow and obvious versions."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from bgad.anomalies import pseudo
from bgad.anomalies.pseudo import Box, blended, differing, draw_patch, pseudo_anomaly, resized, sharp
from bgad.errors import DataError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def box(top: int, left: int, height: int, width: int) -> Box:
    return slice(top, top + height), slice(left, left + width)


def extent(place: Box) -> tuple[int, int]:
    return place[0].stop - place[0].start, place[1].stop - place[1].start


def fit(values: np.ndarray, probabilities: np.ndarray) -> float:
    """The largest distance between the distribution of ``values`` >= 0 and ``probabilities`` of 0, 1, 2, ..., in units of
    Kolmogorov's standard: one draw in a hundred lies above 1.63."""
    found = np.bincount(values, minlength=len(probabilities)) / len(values)
    assert len(found) == len(probabilities), "a value that cannot be"
    return abs(np.cumsum(found - probabilities)).max() * np.sqrt(len(values))


def cut_out(side: int) -> np.ndarray:
    """The probability of each length cut out along a side: every half length and every centre, counted."""
    least, most = round(0.05 * side), round(0.2 * side)
    counts = np.zeros(2 * most)
    for half in range(least, most):
        for centre in range(least, side - least):
            counts[min(side, centre + half) - max(0, centre - half)] += 1
    return counts / counts.sum()


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Box, Box]]:
    generator = rng()
    return [draw_patch((120, 200), generator) for _ in range(20_000)]


def test_what_is_cut_out_follows_the_direct_count(drawn):
    sizes = np.array([extent(cut) for cut, _ in drawn])
    assert fit(sizes[:, 0], cut_out(120)) < 1.63
    assert fit(sizes[:, 1], cut_out(200)) < 1.63
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 3 / np.sqrt(len(sizes))  # each side on its own
    # half of 6 .. 23 and 10 .. 39 pixels; at the border up to the whole half is left away, but for the 0.05
    assert sizes.min(axis=0).tolist() == [12, 20]
    assert sizes.max(axis=0).tolist() == [46, 78]


def test_what_is_cut_out_lies_anywhere_in_the_image(drawn):
    starts = np.array([[axis.start for axis in cut] for cut, _ in drawn])
    stops = np.array([[axis.stop for axis in cut] for cut, _ in drawn])
    assert starts.min(axis=0).tolist() == [0, 0]
    assert stops.max(axis=0).tolist() == [120, 200]
    assert np.allclose((starts == 0).mean(axis=0), (stops == (120, 200)).mean(axis=0), atol=0.015)


def test_sizes_in_place_follow_the_formula(drawn):
    """Each height, width and factor that can be drawn, with its probability, through the resizing rule."""
    heights, widths = cut_out(120), cut_out(200)
    edges = np.linspace(0.7, 1.3, 601)
    middles = (edges[1:] + edges[:-1]) / 2
    factors = np.concatenate([[0.7], middles, [1.3]])
    weights = np.diff(norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]), 1, 0.5))
    expected_heights, expected_widths = np.zeros(25), np.zeros(41)
    for height in np.flatnonzero(heights):
        width = np.flatnonzero(widths)[:, None]
        tall = np.minimum(np.maximum(factors * height, 6), 24)
        wide = np.minimum(np.maximum(np.floor(tall / height * width), 10), 40)
        tall = np.minimum(np.maximum(np.floor(wide / width * height), 6), 24)
        probability = heights[height] * widths[width] * weights
        expected_heights += np.bincount(tall.ravel().astype(int), probability.ravel(), 25)
        expected_widths += np.bincount(wide.ravel().astype(int), probability.ravel(), 41)
    sizes = np.array([extent(place) for _, place in drawn])
    assert fit(sizes[:, 0], expected_heights) < 1.63
    assert fit(sizes[:, 1], expected_widths) < 1.63


class Scripted:
    """A generator whose draws are given."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def integers(self, low, high):
        assert (np.array(low) <= self.draws[0]).all() and (self.draws[0] < np.array(high)).all()
        return np.array(self.draws.pop(0))

    def normal(self, mean, spread):
        assert (mean, spread) == (1, 0.5)
        return self.draws.pop(0)


@pytest.mark.parametrize(
    "halves, factor, size",
    [
        ((6, 12), 1.0, (12, 24)),
        ((6, 12), 1.25, (15, 30)),
        ((6, 12), -1.0, (8, 16)),  # 0.7: 8.4, then 16.8
        ((6, 12), 2.5, (15, 31)),  # 1.3: 15.6, then 31.2, then 15.5
        ((18, 11), 0.8, (19, 12)),  # 28.8 clipped to 20, then 22 * 20 / 36 = 12.2, then 36 * 12 / 22 = 19.6
        ((5, 30), 1.0, (6, 40)),  # 60 clipped to 40, then 10 * 40 / 60 = 6.7
    ],
)
def test_resizing_worked_by_hand(halves, factor, size):
    cut, place = draw_patch((100, 200), Scripted(halves, (50, 100), factor, (7, 9)))
    assert cut == box(50 - halves[0], 100 - halves[1], 2 * halves[0], 2 * halves[1])
    assert place == box(7, 9, *size)


def test_place_is_uniform_inside_the_image(drawn):
    for axis, side in enumerate((120, 200)):
        corners = np.array([place[axis].start for _, place in drawn])
        lengths = np.array([extent(place)[axis] for _, place in drawn])
        most = np.flatnonzero(np.bincount(lengths) > 400)  # lengths often enough seen
        assert len(most)
        for length in most:
            # one pixel or more from either border; a patch of odd length keeps one more from the far one
            last = side - 1 - length - (length % 2 == 0)
            possible = np.zeros(last + 1)
            possible[1:] = 1 / last
            assert fit(corners[lengths == length], possible) < 1.95  # one in a thousand, some forty times


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (32, 32), (47, 300), (256, 256)])
def test_patches_stay_within_the_bounds(shape):
    generator = rng()
    least = [max(1, round(0.05 * side)) for side in shape]
    most = [round(0.2 * side) for side in shape]
    for _ in range(2000):
        cut, place = draw_patch(shape, generator)
        for axis, side in enumerate(shape):
            assert 0 <= cut[axis].start < cut[axis].stop <= side
            assert 1 <= place[axis].start < place[axis].stop <= side - 1
            assert least[axis] <= extent(place)[axis] <= most[axis]


def test_sharp_paste_equals_a_slow_one():
    normal, source = noise(40, 50), noise(40, 50, seed=1)
    place = box(3, 7, 9, 13)
    expected = normal.astype(float)
    for row in range(9):
        for column in range(13):
            # where the new pixel's centre lies in a patch of 16 x 10, and its four neighbours there
            y, x = (row + 0.5) * 16 / 9 - 0.5, (column + 0.5) * 10 / 13 - 0.5
            for at_y in range(int(np.floor(y)), int(np.floor(y)) + 2):
                for at_x in range(int(np.floor(x)), int(np.floor(x)) + 2):
                    share = (1 - abs(y - at_y)) * (1 - abs(x - at_x))
                    pixel = source[20 + min(max(at_y, 0), 15), 30 + min(max(at_x, 0), 9)]
                    expected[3 + row, 7 + column] += share * pixel
            expected[3 + row, 7 + column] -= normal[3 + row, 7 + column]
    pasted = sharp(normal, resized(source[box(20, 30, 16, 10)], place), place)
    assert abs(pasted - expected).max() < 1  # OpenCV's weights for 8 bits are multiples of 1/2048
    outside = np.ones((40, 50), dtype=bool)
    outside[place] = False
    assert (pasted[outside] == normal[outside]).all()


@pytest.mark.parametrize("height, width", [(14, 19), (19, 14), (9, 30), (16, 16), (17, 17)])
def test_blend_solves_poissons_equation(height, width):
    """The image whose differences are the patch's inside and the normal image's along the rim, solved for directly."""
    # smooth and far from black and white, where the solution would be cut off
    rows, columns = np.mgrid[:60, :70]
    normal = np.stack([90 + rows, 80 + columns, 150 - rows], axis=-1).astype(np.uint8)
    bumps = 120 + 30 * np.sin(rows / 2) * np.cos(columns / 3)
    patch = np.stack([bumps, 250 - bumps, bumps * 0 + 20], axis=-1)[:height, :width].astype(np.uint8)
    place = box(20, 31, height, width)

    here, there = normal[place].astype(float), patch.astype(float)
    unknown = [(row, column) for row in range(2, height - 2) for column in range(2, width - 2)]
    number = {point: index for index, point in enumerate(unknown)}
    equations, right = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), 3))
    for index, (row, column) in enumerate(unknown):
        for one, two in [
            ((row, column), (row + 1, column)),
            ((row, column), (row, column + 1)),
            ((row - 1, column), (row, column)),
            ((row, column - 1), (row, column)),
        ]:
            patched = 4 <= one[0] < height - 4 and 4 <= one[1] < width - 4
            step = (there if patched else here)[two] - (there if patched else here)[one]
            neighbour, step = (two, step) if one == (row, column) else (one, -step)
            equations[index, index] += 1
            right[index] -= step
            if neighbour in number:
                equations[index, number[neighbour]] -= 1
            else:
                right[index] += here[neighbour]
    solution = np.linalg.solve(equations, right)
    assert solution.min() > 1 and solution.max() < 254
    assert abs(solution - here[2:-2, 2:-2].reshape(-1, 3)).max() > 5

    image = blended(normal, patch, place)
    inner = image[place][2:-2, 2:-2].reshape(-1, 3)
    # OpenCV cuts the fraction off; single precision may put a whole number just below itself
    assert ((inner > solution - 1.01) & (inner < solution + 0.01)).all()
    outside = np.ones((60, 70), dtype=bool)
    outside[22 : 20 + height - 2, 33 : 31 + width - 2] = False
    assert (image[outside] == normal[outside]).all()


@pytest.mark.parametrize("height, width", [(4, 40), (40, 4), (9, 9), (5, 18), (1, 1)])
def test_too_few_pixels_are_not_blended(height, width):
    normal = noise(60, 60)
    image = blended(normal, noise(height, width, seed=1), box(5, 6, height, width))
    assert (image == normal).all()
    assert image is not normal


def test_mask_worked_by_hand():
    normal, image = plain(20, 30, 100), plain(20, 30, 100)
    image[4:11, 5:14, 0] += 4  # 4 / 3 over the channels: visible
    image[4:11, 14:20, 1] += 3  # 3 / 3: not
    image[15, 8] = 0  # a grain
    image[6, 9] = 100  # a hole
    image[1, 1] = 0  # outside the patch
    place = box(3, 4, 14, 20)
    expected = np.zeros((20, 30), dtype=bool)
    expected[4:11, 5:14] = True
    # The median: 13 or more of the 25 around. At a rectangle's corner it sees 9, next to a corner 12, a step further 15;
    # one step in from the corner 16. The hole is filled, and the grain is gone.
    for row in (4, 10):
        for column in (5, 6, 12, 13):
            expected[row, column] = False
    for row in (5, 9):
        for column in (5, 13):
            expected[row, column] = False
    assert (differing(normal, image, place) == expected).all()


def test_only_the_patch_changes_and_the_mask_says_where():
    areas = []
    for seed in range(60):
        normal, source = noise(120, 96, seed), noise(120, 96, seed + 1000)
        image, mask = pseudo_anomaly(normal, source, rng(seed))
        cut, place = draw_patch((120, 96), rng(seed))  # noise is always visible: the first draw, unless too small to blend
        if min(extent(place)) < 10:
            continue
        inside = np.zeros((120, 96), dtype=bool)
        inside[place[0].start + 2 : place[0].stop - 2, place[1].start + 2 : place[1].stop - 2] = True
        assert (image[~inside] == normal[~inside]).all()
        assert not mask[~inside].any()
        assert (mask == differing(normal, image, place)).all()
        assert (image[mask] != normal[mask]).any(axis=-1).mean() > 0.99  # all but holes that the median filled
        assert mask.sum() > 0.7 * inside.sum()  # all but the corners, which the median rounds off
        assert (image == blended(normal, resized(source[cut], place), place)).all()
        areas.append(mask.mean())
    assert len(areas) > 40
    assert max(areas) <= 0.04


def test_same_seed_same_anomaly():
    normal, source = noise(100, 100), noise(100, 100, seed=1)
    image, mask = pseudo_anomaly(normal, source, rng(5))
    again, mask_again = pseudo_anomaly(normal, source, rng(5))
    other, other_mask = pseudo_anomaly(normal, source, rng(6))
    assert (image == again).all() and (mask == mask_again).all()
    assert (image != other).any() and (mask != other_mask).any()


def test_inputs_stay_as_they_are():
    normal, source = noise(100, 100), noise(80, 90, seed=1)
    for pixels in (normal, source):
        pixels.setflags(write=False)
    before = normal.copy(), source.copy()
    for seed in range(20):
        image, _ = pseudo_anomaly(normal, source, rng(seed))
        image[:] = 0
    assert (normal == before[0]).all() and (source == before[1]).all()


def test_a_source_of_another_size_is_resized():
    normal, source = noise(100, 130), noise(70, 61, seed=1)
    same_size = np.array(Image.fromarray(source).resize((130, 100), Image.Resampling.LANCZOS))
    for seed in range(5):
        image, mask = pseudo_anomaly(normal, source, rng(seed))
        expected, expected_mask = pseudo_anomaly(normal, same_size, rng(seed))
        assert (image == expected).all() and (mask == expected_mask).all()


def test_gray_stays_gray():
    normal, source = (np.repeat(noise(100, 100, seed)[:, :, :1], 3, axis=2) for seed in (0, 1))
    image, mask = pseudo_anomaly(normal, source, rng())
    assert (image == image[:, :, :1]).all()
    assert mask.any()


def test_one_image_as_both():
    image, mask = pseudo_anomaly(noise(100, 100), noise(100, 100), rng())
    assert ((image != noise(100, 100)).any(axis=-1) & mask).any()


def test_a_patch_that_shows_nothing_is_drawn_again():
    """Two plain halves: blended into plain ground, a patch from either half changes nothing; one across the edge does."""
    normal, source = plain(100, 100, 90), plain(100, 100, 200)
    source[:, :50] = 150
    redrawn = 0
    for seed in range(30):
        image, mask = pseudo_anomaly(normal, source, rng(seed))
        generator = rng(seed)
        cut, place = draw_patch((100, 100), generator)
        redrawn += not cut[1].start < 50 < cut[1].stop
        while not differing(normal, blended(normal, resized(source[cut], place), place), place).any():
            cut, place = draw_patch((100, 100), generator)
        assert cut[1].start < 50 < cut[1].stop
        assert mask[place].sum() == mask.sum() > 0
        assert (image == blended(normal, resized(source[cut], place), place)).all()
    assert 10 < redrawn < 30


def test_plain_images_of_different_colours_are_pasted_sharply():
    normal, source = plain(100, 100, 90), plain(100, 100, 92)
    for seed in range(10):
        image, mask = pseudo_anomaly(normal, source, rng(seed))
        generator = rng(seed)
        for _ in range(pseudo.DRAWS + 1):
            _, place = draw_patch((100, 100), generator)
        assert mask[place].all() and mask.sum() == np.prod(extent(place))
        assert (image[mask] == 92).all() and (image[~mask] == 90).all()


def test_images_too_small_to_blend_are_pasted_sharply():
    for shape in [(32, 32), (8, 8), (47, 47)]:
        for seed in range(20):
            normal, source = plain(*shape, 90), noise(*shape, seed)
            image, mask = pseudo_anomaly(normal, source, rng(seed))
            changed = abs(image.astype(int) - 90).sum(axis=-1) > 3
            assert mask.any() and (mask == changed).all()


@pytest.mark.parametrize("value", [90, 91])  # one gray value is not a visible difference
def test_the_same_plain_colour_is_an_error(value):
    with pytest.raises(DataError, match="one plain colour"):
        pseudo_anomaly(plain(64, 64, 90), plain(64, 64, value), rng())
