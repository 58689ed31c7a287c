"""Every draw hangs on its names alone: literal values that may never change, and no trace of the global generators."""

import hashlib
import random

import numpy as np
import torch

from bgad.randomness import frozen_generator, numpy_generator, seed_of, shuffled, torch_generator


def test_seed_is_the_first_63_bits_of_the_hash_of_the_names():
    digest = hashlib.sha256(b"flow/mvtec/bottle/0").hexdigest()
    assert seed_of("flow", "mvtec", "bottle", 0) == int(digest[:16], 16) // 2
    assert seed_of("flow", "mvtec", "bottle", 0) == 5863223471881046797
    assert seed_of("flow", "mvtec", "bottle", 1) != 5863223471881046797


def test_streams_of_a_seed_never_change():
    # Splits and networks on disk rest on these values.
    np.testing.assert_allclose(
        frozen_generator("rotation", 0).standard_normal(3),
        [-0.2744647996144867, 0.4299164299065905, -0.5287689482390034],
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        torch.rand(3, generator=torch_generator("train", 0)).tolist(),
        [0.26575374603271484, 0.9104602336883545, 0.7189396619796753],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        numpy_generator("cutpaste", 0).random(3),
        [0.6512506073191547, 0.2155726284585795, 0.37790863283687126],
        rtol=1e-12,
    )


def test_equal_names_give_equal_streams_and_others_others():
    for make, draw in (
        (torch_generator, lambda rng: torch.rand(4, generator=rng).tolist()),
        (numpy_generator, lambda rng: rng.random(4).tolist()),
        (frozen_generator, lambda rng: rng.random_sample(4).tolist()),
    ):
        first = draw(make("train", "bottle", 0))
        assert draw(make("train", "bottle", 0)) == first
        assert draw(make("train", "bottle", 1)) != first
        assert draw(make("train", "cable", 0)) != first


def test_global_generators_are_neither_read_nor_moved():
    def everything():
        return (
            torch.rand(2, generator=torch_generator("a", 1)).tolist(),
            numpy_generator("a", 1).random(2).tolist(),
            frozen_generator("a", 1).random_sample(2).tolist(),
            shuffled("abcdef", "a", 1),
        )

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before, values = states(), everything()
    assert states() == before
    random.random(), np.random.random(), torch.rand(1)
    assert everything() == values


def test_shuffled_ranks_items_by_their_own_hash():
    items = [f"{number:03}.png" for number in range(40)]
    order = shuffled(items, "pool", "mvtec", 0)
    assert order == sorted(items, key=lambda item: hashlib.sha256(f"pool/mvtec/0/{item}".encode()).digest())
    assert shuffled(reversed(items), "pool", "mvtec", 0) == order
    assert shuffled(items, "pool", "mvtec", 1) != order
    assert shuffled("abcde", "pool", "mvtec", 0) == ["b", "a", "c", "d", "e"]
    # A new item finds its place and leaves the others in their order.
    assert [item for item in shuffled([*items, "new.png"], "pool", "mvtec", 0) if item != "new.png"] == order


def test_shuffled_puts_each_item_anywhere():
    # The mean place of an item over 400 draws of 9 is 4 with standard deviation sqrt(60 / 9 / 400) = 0.13.
    items = "abcdefghi"
    for item in items:
        places = [shuffled(items, "anywhere", draw).index(item) for draw in range(400)]
        assert abs(np.mean(places) - 4) < 4 * 0.13, item
