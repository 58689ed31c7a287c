"""Anomaly maps against a slow version in numpy and a 2 x 2 example by hand."""

import math

import numpy as np
import pytest
import torch

from bgad.model.scoring import ScoreScale, anomaly_maps, image_scores, scored


def slow_resize(grid, height, width):
    """Bilinear with aligned corners: the corner pixels of both grids coincide."""
    rows, columns = grid.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i * (rows - 1) / (height - 1), j * (columns - 1) / (width - 1)
            top, left = min(int(y), rows - 2), min(int(x), columns - 2)
            dy, dx = y - top, x - left
            upper = grid[top, left] * (1 - dx) + grid[top, left + 1] * dx
            lower = grid[top + 1, left] * (1 - dx) + grid[top + 1, left + 1] * dx
            result[i, j] = upper * (1 - dy) + lower * dy
    return result


def slow_maps(levels, height, width):
    total = np.zeros((len(levels[0]), height, width))
    for level in levels:
        likelihood = np.exp(level - level.max())
        for n in range(len(level)):
            total[n] += slow_resize(likelihood[n], height, width)
    return total.max() - total


def three_levels(images=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(images, side, side, generator=rng) - 1 for side in (8, 4, 2)]


def test_worked_example():
    # exp(l - max):  1     0.5      to 3 x 3:  1      0.75    0.5       1 - that:  0      0.25    0.5
    #                0.25  1                   0.625  0.6875  0.75                 0.375  0.3125  0.25
    #                                          0.25   0.625   1                    0.75   0.375   0
    level = torch.tensor([[[0, math.log(0.5)], [math.log(0.25), 0]]]) + 7  # the maximum is subtracted
    expected = torch.tensor([[[0, 0.25, 0.5], [0.375, 0.3125, 0.25], [0.75, 0.375, 0]]])
    torch.testing.assert_close(anomaly_maps([level], 3), expected, rtol=0, atol=1e-6)
    assert image_scores(anomaly_maps([level], 3)).tolist() == [0.75]


def test_the_most_normal_pixel_of_the_set_is_0():
    # A second image, everywhere at half the likelihood of the first one's best: 1 - 0.5 everywhere.
    level = torch.stack([torch.tensor([[0, math.log(0.5)], [math.log(0.25), 0]]), torch.full((2, 2), math.log(0.5))])
    maps = anomaly_maps([level], 3)
    torch.testing.assert_close(maps[1], torch.full((3, 3), 0.5), rtol=0, atol=1e-6)
    assert maps[0].min() == 0


@pytest.mark.parametrize("size", [16, (9, 21)])
def test_equals_the_slow_version(size):
    levels = three_levels()
    height, width = (size, size) if isinstance(size, int) else size
    maps = anomaly_maps(levels, size)
    assert maps.shape == (3, height, width)
    expected = slow_maps([level.double().numpy() for level in levels], height, width)
    np.testing.assert_allclose(maps.numpy(), expected, rtol=0, atol=1e-5)


def test_each_level_is_shifted_by_its_own_maximum_over_the_set():
    levels = three_levels()
    shifted = [level + shift for level, shift in zip(levels, (5, -3, 40), strict=True)]
    torch.testing.assert_close(anomaly_maps(shifted, 16), anomaly_maps(levels, 16), rtol=0, atol=1e-4)


def test_inputs_stay_as_they_are():
    levels = three_levels()
    before = [level.clone() for level in levels]
    anomaly_maps(levels, 16)
    assert all(torch.equal(level, kept) for level, kept in zip(levels, before, strict=True))


def test_a_kept_scale_scores_single_images_as_in_their_set():
    levels = three_levels(images=5)
    maps, scale = scored(levels, 16)
    assert torch.equal(maps, anomaly_maps(levels, 16))
    assert scale.level_maxima == pytest.approx([level.max().item() for level in levels])
    again, same = scored(levels, 16, scale)
    assert torch.equal(again, maps)
    assert same == scale
    for n in range(5):
        alone, _ = scored([level[n : n + 1] for level in levels], 16, scale)
        torch.testing.assert_close(alone[0], maps[n], rtol=0, atol=1e-6)
        assert not torch.allclose(anomaly_maps([level[n : n + 1] for level in levels], 16)[0], maps[n], atol=1e-3)


def test_an_image_likelier_than_the_set_falls_below_zero():
    # exp(1 - 0) = e everywhere on a scale whose sum reaches 1.
    maps, _ = scored([torch.full((1, 2, 2), 1.0)], 4, ScoreScale((0.0,), 1.0))
    torch.testing.assert_close(maps, torch.full((1, 4, 4), 1 - math.e))


def test_image_score_is_the_maximum_of_its_own_map():
    maps = torch.tensor([[[0.1, 0.2], [0.9, 0.3]], [[0.4, 0.1], [0.2, 0.0]]])
    assert image_scores(maps).tolist() == pytest.approx([0.9, 0.4])
