"""PatchCore against plain definitions: loops over patches, neighbours and distances, in double precision."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bgad.methods import Images, patchcore, smoothed
from bgad.randomness import torch_generator

SIZE = 32


def images(count=5, seed=0) -> Images:
    """Features of the shape that a backbone computes for images of 32 pixels."""
    draws = np.random.default_rng(seed)
    levels = [draws.normal(size=(count, side, side, channels)) for side, channels in ((8, 3), (4, 5), (2, 7))]
    return Images([torch.from_numpy(level).float() for level in levels], [Path(f"{n}.png") for n in range(count)], SIZE)


def test_a_patch_is_the_mean_of_its_neighbourhood():
    of = images(2)
    found = patchcore.patch_features(of)
    assert found.shape == (2, 4, 4, 5 + 7)
    for y in range(4):
        for x in range(4):
            neighbours = [
                of.levels[1][:, j, i] for j in range(y - 1, y + 2) for i in range(x - 1, x + 2) if {i, j} <= set(range(4))
            ]
            torch.testing.assert_close(found[:, y, x, :5], torch.stack(neighbours).mean(dim=0))
    # All four coarse vectors are neighbours of each other, so that their means are equal, and so is all between them.
    mean = of.levels[2].flatten(1, 2).mean(dim=1)
    torch.testing.assert_close(found[..., 5:], mean[:, None, None].expand(2, 4, 4, 7))


def test_the_coarse_level_is_brought_to_the_finer_grid():
    levels = [torch.zeros(1, 16, 16, 1), torch.zeros(1, 8, 8, 1), torch.zeros(1, 4, 4, 1)]
    levels[2] += torch.arange(4.0)[:, None]  # a ramp from left to right; the means at its ends lose their outer neighbour
    found = patchcore.patch_features(Images(levels, [Path("a")], 64))[0, 0, :, 1]
    ends = np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), [0.5, 1, 2, 2.5])
    np.testing.assert_allclose(found, ends, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_the_core_set_is_that_of_the_plain_greedy_selection(count):
    vectors = np.random.default_rng(1).normal(size=(40, 6)) + 3
    chosen = [0]
    while len(chosen) < count:
        gaps = [min(np.linalg.norm(vector - vectors[other]) for other in chosen) for vector in vectors]
        chosen.append(int(np.argmax(gaps)))
    assert patchcore.greedy_k_centre(torch.from_numpy(vectors), count).tolist() == chosen


def test_the_memory_is_a_tenth_of_the_patches_and_repeats():
    of = images(10)
    memory = patchcore.fit(of, torch_generator("a"))
    patches = {tuple(patch) for patch in patchcore.patch_features(of).flatten(0, 2).tolist()}
    assert len(memory) == 16  # of 10 x 4 x 4
    assert {tuple(patch) for patch in memory.tolist()} < patches
    assert len({tuple(patch) for patch in memory.tolist()}) == 16
    assert torch.equal(memory, patchcore.fit(of, torch_generator("a")))
    assert not torch.equal(memory, patchcore.fit(of, torch_generator("b")))


def test_the_memory_and_what_it_is_chosen_from_are_bounded(monkeypatch):
    monkeypatch.setattr(patchcore, "MEMORY_MOST", 5)
    monkeypatch.setattr(patchcore, "CANDIDATES_MOST", 20)
    monkeypatch.setattr(patchcore, "PROJECTED", 8)
    asked = []
    real = patchcore.greedy_k_centre
    monkeypatch.setattr(patchcore, "greedy_k_centre", lambda *of: (asked.append(of), real(*of))[1])
    assert len(patchcore.fit(images(10), torch_generator("a"))) == 5
    ((vectors, count),) = asked
    assert (vectors.shape, count) == ((20, 8), 5)


def test_the_projection_nearly_keeps_distances_and_depends_on_its_seed():
    vectors = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 400))).float()
    found = patchcore.projected(vectors, 7)
    assert found.shape == (30, 128) and found.dtype == torch.float32
    ratios = torch.pdist(found) / torch.pdist(vectors)
    assert 0.9 < ratios.mean() < 1.1 and ratios.std() < 0.1  # 1 and 1 / sqrt(2 * 128) = 0.06 are expected
    assert torch.equal(found, patchcore.projected(vectors, 7)) and not torch.equal(found, patchcore.projected(vectors, 8))
    assert torch.equal(patchcore.projected(vectors[:, :128], 7), vectors[:, :128])


def test_the_model_is_a_tensor_and_scores_the_same_for_one_image_and_many():
    of = images(6)
    memory = patchcore.fit(of, torch_generator("a"))
    assert type(memory) is torch.Tensor
    together = patchcore.score(memory, of)
    for number in range(6):
        alone = Images([level[number : number + 1] for level in of.levels], of.files[number : number + 1], SIZE)
        assert torch.equal(patchcore.score(memory, alone)[0], together[number])


def test_a_patch_is_as_anomalous_as_it_is_far_from_memory():
    of, memory = images(3, seed=1), torch.from_numpy(np.random.default_rng(2).normal(size=(9, 12))).float()
    patches = patchcore.patch_features(of).double()
    maps = torch.zeros(3, 4, 4, dtype=torch.double)
    for place in np.ndindex(3, 4, 4):
        maps[place] = min((patches[place] - one).norm() for one in memory.double())
    torch.testing.assert_close(patchcore.score(memory, of), smoothed(maps.float(), SIZE), atol=1e-4, rtol=1e-4)


def test_smoothing_is_a_gaussian_of_the_large_map():
    maps = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 64, 64))).float()
    offsets = np.arange(-16, 17)
    weights = np.exp(-(offsets**2) / (2 * 4.0**2))
    weights /= weights.sum()
    padded = np.pad(maps.numpy().astype(float), ((0, 0), (16, 16), (16, 16)), mode="symmetric")
    rows = sum(weight * padded[:, 16 + offset : 80 + offset] for weight, offset in zip(weights, offsets, strict=True))
    plain = sum(weight * rows[:, :, 16 + offset : 80 + offset] for weight, offset in zip(weights, offsets, strict=True))
    np.testing.assert_allclose(smoothed(maps, 64), plain, atol=1e-6)
    assert smoothed(maps, 128).shape == (2, 128, 128)
