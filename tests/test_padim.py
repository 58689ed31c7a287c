"""PaDiM against a plain definition: a Gaussian for each position, with a full inverse, in double precision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from bgad.methods import Images, padim, smoothed
from bgad.randomness import torch_generator

SIZE = 32
CHANNELS = (3, 5, 7)


def images(count, seed=0, scale=1.0) -> Images:
    """Features of the shape that a backbone computes for images of 32 pixels."""
    draws = np.random.default_rng(seed)
    levels = [draws.normal(size=(count, side, side, of), scale=scale) for side, of in zip((8, 4, 2), CHANNELS, strict=True)]
    return Images([torch.from_numpy(level).float() for level in levels], [Path(f"{n}.png") for n in range(count)], SIZE)


def embedding(of: Images, y: int, x: int) -> np.ndarray:
    """All channels at a position of the finest grid, (N, 15): of the coarse levels those that cover it."""
    return torch.cat([level[:, y // step, x // step] for level, step in zip(of.levels, (1, 2, 4), strict=True)], dim=1).numpy()


@pytest.mark.parametrize(("normals", "limit"), [(30, 6), (30, 100), (4, 100)])  # with 4 the covariance alone has no inverse
def test_a_patch_is_as_anomalous_as_its_mahalanobis_distance(monkeypatch, normals, limit):
    monkeypatch.setattr(padim, "CHANNELS", limit)
    normal, tested = images(normals), images(3, seed=1, scale=2.0)
    model = padim.fit(normal, torch_generator("a"))
    channels = model["channels"].numpy()
    assert len(set(channels)) == len(channels) == min(limit, sum(CHANNELS))
    maps = np.zeros((3, 8, 8))
    for y, x in np.ndindex(8, 8):
        vectors = embedding(normal, y, x)[:, channels].astype(float)
        inverse = np.linalg.inv(np.cov(vectors, rowvar=False) + 0.01 * np.eye(len(channels)))
        for number, vector in enumerate(embedding(tested, y, x)[:, channels].astype(float)):
            maps[number, y, x] = mahalanobis(vector, vectors.mean(axis=0), inverse)
    found = padim.score(model, tested)
    torch.testing.assert_close(found, smoothed(torch.from_numpy(maps).float(), SIZE), atol=1e-3, rtol=1e-4)


def test_the_model_is_a_mean_and_a_triangle_for_each_position():
    model = padim.fit(images(5), torch_generator("a"))
    assert {name: tuple(values.shape) for name, values in model.items()} == {
        "channels": (15,),
        "mean": (64, 15),
        "whitening": (64, 15 * 16 // 2),
    }


def test_an_image_has_the_same_map_alone_and_among_others():
    # With less memory, a cell scores fewer images at once, and must end in the same bits.
    draws = np.random.default_rng(2)
    levels = [torch.from_numpy(draws.normal(size=(40, side, side, 60))).float() for side in (8, 4, 2)]
    some = Images(levels, [Path(f"{n}.png") for n in range(40)], SIZE)
    model = padim.fit(some, torch_generator("a"))
    together = padim.score(model, some)
    for number in (0, 17, 39):
        alone = Images([level[number : number + 1] for level in levels], some.files[number : number + 1], SIZE)
        assert torch.equal(padim.score(model, alone)[0], together[number])


def test_the_channels_depend_on_the_generator():
    first, again, other = (padim.fit(images(5), torch_generator(name))["channels"] for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_single_normal_image_is_enough_to_fit():
    model = padim.fit(images(1), torch_generator("a"))
    assert padim.score(model, images(2, seed=1)).isfinite().all()
