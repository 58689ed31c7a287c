"""The mini-batches of a pass, over features that say where they are from: every vector is (level, image, row, column)."""

from pathlib import Path

import pytest
import torch

from bgad.anomalies.synthetic import AnomalousImages
from bgad.config.settings import Recipe, read_yaml
from bgad.errors import BgadError
from bgad.training.sampling import mini_batches

RECIPES = Path(__file__).parents[1] / "config" / "recipes"
SIDES = (8, 4, 2)  # of the three levels, at 32 pixels
PARTS = (range(100, 103), range(200, 202))  # the images of the two parts of the anomaly entries
ROWS = [4, 9, 0, 7, 1, 5, 8]  # the numbers of the normal training images


def recipe(name, **sampling):
    values = read_yaml(RECIPES / f"{name}.yaml")
    values["image_size"] = 32
    values["schedule"]["sub_epochs"] = 2
    if {"level_shares", "level_steps"} & {*sampling}:  # a recipe has one of the two
        values["sampling"] = {key: value for key, value in values["sampling"].items() if not key.startswith("level_")}
    values["sampling"].pop("level_noise", None)  # here a vector has to say where it is from
    values["sampling"].update(sampling)
    return Recipe.model_validate(values)


def maps_of(images, level):
    """(images, h * w, 4) float32."""
    side = SIDES[level]
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    return torch.stack(
        [torch.cat([torch.tensor([[level, image]]).float().expand(side**2, -1), places], dim=1) for image in images]
    )


def is_defect(level, image, row, column):
    """Any rule that depends on all of them."""
    return image >= 100 and (image + row + 2 * column) % 3 == 0 and column < SIDES[level] - 1


def normal_images():
    return [maps_of(ROWS, level) for level in range(3)]


def anomaly_entries():
    parts = []
    for images in PARTS:
        levels = [maps_of(images, level) for level in range(3)]
        flags = [torch.tensor([[is_defect(*map(int, vector)) for vector in image] for image in level]) for level in levels]
        parts.append(AnomalousImages(levels, flags))
    return parts


def one_pass(recipe, entries, sub_epoch=0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return list(mini_batches(recipe, normal_images(), entries, sub_epoch, rng))


def check(batch):
    """Level, position and flag of each vector are those that it carries."""
    assert (batch.features[:, 0] == batch.level).all()
    row, column = batch.features[:, 2], batch.features[:, 3]
    assert torch.equal(batch.position, (row * SIDES[batch.level] + column).long())
    expected = torch.tensor([is_defect(*map(int, vector)) for vector in batch.features])
    if batch.is_anomaly is None:
        assert not expected.any()
    else:
        assert batch.is_anomaly.dtype == torch.bool
        assert torch.equal(batch.is_anomaly, expected)


def vectors_of(batches, level):
    return [tuple(map(int, vector)) for batch in batches if batch.level == level for vector in batch.features]


# --- image_batches --------------------------------------------------------------------------------------------------


def test_image_batches_bring_every_vector_once_when_nothing_is_left_over():
    # 7 normal images and 5 entries: 3 batches of 4. A batch has 4 * 64, 4 * 16 and 4 * 4 vectors, all whole sixteens.
    batches = one_pass(recipe("paper", images=4, vectors=16), anomaly_entries())
    for level, side in enumerate(SIDES):
        found = vectors_of(batches, level)
        everything = [*ROWS, *PARTS[0], *PARTS[1]]
        wanted = [(level, i, row, column) for i in everything for row in range(side) for column in range(side)]
        assert sorted(found) == sorted(wanted)
    for batch in batches:
        check(batch)
        assert len(batch.features) == 16
    assert any(batch.is_anomaly.any() for batch in batches)


def test_image_batches_drop_what_is_left_over():
    # 12 images in batches of 5: 2 batches, 2 images dropped. 5 * (64, 16, 4) = 320, 80, 20 vectors, in steps of 20:
    # 16, 4 and 1 steps; then in steps of 18: 17, 4 and 1 steps, with 14, 8 and 2 vectors dropped.
    for vectors, steps in ((20, (16, 4, 1)), (18, (17, 4, 1))):
        batches = one_pass(recipe("paper", images=5, vectors=vectors), anomaly_entries())
        assert [batch.level for batch in batches] == 2 * ([0] * steps[0] + [1] * steps[1] + [2] * steps[2])
        for level in range(3):
            found = vectors_of(batches, level)
            assert len(found) == 2 * steps[level] * vectors
            assert len(set(found)) == len(found)
            images = {image for _, image, _, _ in found}
            assert len(images) <= 10
            assert images <= {*ROWS, *PARTS[0], *PARTS[1]}


def test_image_batches_mix_images_and_positions():
    # Of 4 * 64 shuffled vectors, the first 16 all from one image has a chance of 4^-15.
    batches = [batch for batch in one_pass(recipe("paper", images=4, vectors=16), []) if batch.level == 0]
    for batch in batches:
        assert len(torch.unique(batch.features[:, 1])) > 1
        assert batch.position.tolist() != sorted(batch.position.tolist())


def test_image_batches_of_normal_images_alone_carry_no_flags():
    # 7 normal images: 1 batch of 4, 3 images dropped.
    batches = one_pass(recipe("paper", images=4, vectors=16), [])
    assert all(batch.is_anomaly is None for batch in batches)
    assert {image for _, image, _, _ in vectors_of(batches, 0)} < set(ROWS)
    for batch in batches:
        check(batch)


def test_steps_count_the_image_batches_of_a_meta_epoch():
    # 3 batches a pass, 2 passes: 6. All steps of an image batch share its number, as the released rate is set per batch.
    chosen = recipe("paper", images=4, vectors=16)
    for sub_epoch, numbers in ((0, [0, 1, 2]), (1, [3, 4, 5])):
        batches = one_pass(chosen, anomaly_entries(), sub_epoch)
        a_batch = 16 + 4 + 1
        assert [batch.step for batch in batches] == [number for number in numbers for _ in range(a_batch)]
        assert {batch.steps_per_epoch for batch in batches} == {6}


def test_fewer_images_than_a_batch_are_an_error():
    with pytest.raises(BgadError, match=r"sampling\.images is 8, more than the 7 images"):
        one_pass(recipe("paper", images=8, vectors=16), [])


@pytest.mark.parametrize(("name", "sampling"), [("paper", {"images": 4, "vectors": 16}), ("cpu", {"vectors": 20})])
def test_the_generator_decides_the_pass(name, sampling):
    chosen, entries = recipe(name, **sampling), anomaly_entries()
    first, again = one_pass(chosen, entries, seed=1), one_pass(chosen, entries, seed=1)
    assert [batch.features.tolist() for batch in first] == [batch.features.tolist() for batch in again]
    other = one_pass(chosen, entries, seed=2)
    assert [batch.features.tolist() for batch in first] != [batch.features.tolist() for batch in other]
    # Passes of one generator differ too.
    rng = torch.Generator().manual_seed(1)
    passes = [list(mini_batches(chosen, normal_images(), entries, 0, rng)) for _ in range(2)]
    assert vectors_of(passes[0], 0) != vectors_of(passes[1], 0)


@pytest.mark.parametrize(
    ("name", "sampling", "with_entries"),
    [
        ("paper", {"images": 4, "vectors": 16}, True),
        ("paper", {"images": 4, "vectors": 16}, False),
        ("cpu", {"vectors": 20}, False),
    ],
)
def test_batches_are_made_without_waiting_for_the_device_of_the_features(name, sampling, with_entries):
    # Tensors without values refuse whatever depends on one, and picking by a mask is that.
    normal, entries = normal_images(), anomaly_entries() if with_entries else []
    chosen, rng = recipe(name, **sampling), torch.Generator().manual_seed(0)
    expected = [batch.features.shape for batch in mini_batches(chosen, normal, entries, 0, rng)]
    normal = [level.to("meta") for level in normal]
    batches = list(mini_batches(chosen, normal, [part.to(torch.device("meta")) for part in entries], 0, rng))
    assert [batch.features.shape for batch in batches] == expected
    assert all(batch.features.is_meta and batch.position.is_meta for batch in batches)
    with pytest.raises((RuntimeError, NotImplementedError)):
        normal[0][normal[0] > 0]


# --- vector_draws ---------------------------------------------------------------------------------------------------


def test_vector_draws_without_anomalies():
    # 7 * (64, 16, 4) = 448, 112, 28 vectors; shares 1/4, 1/2, 1 are 112, 56, 28; in steps of 10: 11, 5 and 2 steps.
    batches = one_pass(recipe("cpu", vectors=10, level_shares=[0.25, 0.5, 1.0]), [])
    assert [batch.level for batch in batches] == [0] * 11 + [1] * 5 + [2] * 2
    for level in range(3):
        found = vectors_of(batches, level)
        assert len(set(found)) == len(found)  # none twice within a pass
        assert {image for _, image, _, _ in found} <= set(ROWS)
    assert len({image for _, image, _, _ in vectors_of(batches, 0)}) == 7
    for batch in batches:
        check(batch)
        assert len(batch.features) == 10
        assert batch.is_anomaly is None


def test_vector_draws_top_up_each_step_with_vectors_of_the_entries():
    # Of 20 vectors a step, round(20 * 0.3) = 6 are from the entries: 3 from each of the two parts; round(3 * 2 / 3) = 2
    # of them on a defect. The other 14 are normal: 448 // 14 = 32 steps, and (112 / 2) // 14 = 4, 28 // 14 = 2.
    chosen = recipe("cpu", vectors=20, level_shares=[1.0, 0.5, 1.0], anomaly_share=0.3, defect_share=2 / 3)
    batches = one_pass(chosen, anomaly_entries())
    assert [batch.level for batch in batches] == [0] * 32 + [1] * 4 + [2] * 2
    for batch in batches:
        check(batch)
        images = batch.features[:, 1]
        assert len(images) == 20
        assert int((images < 100).sum()) == 14
        for start in (100, 200):
            of_part = (images >= start) & (images < start + 100)
            assert int(of_part.sum()) == 3
            assert int((of_part & batch.is_anomaly).sum()) == 2
    # At level 0 the normal vectors of a pass are all of them, each once.
    normal = [vector for vector in vectors_of(batches, 0) if vector[1] < 100]
    assert len(normal) == len(set(normal)) == 448
    # The vectors of the entries are drawn from all their images and places.
    drawn = {vector for vector in vectors_of(batches, 0) if vector[1] >= 100}
    assert {image for _, image, _, _ in drawn} == {*PARTS[0], *PARTS[1]}
    assert len(drawn) > 100


def test_vector_draws_share_an_odd_number_out():
    # round(20 * 0.25) = 5: 3 from the first part, 2 from the second; round(3 / 2) = round(1.5) = 2 and 1 on a defect.
    chosen = recipe("cpu", vectors=20, level_shares=[1.0, 1.0, 1.0], anomaly_share=0.25, defect_share=0.5)
    for batch in one_pass(chosen, anomaly_entries()):
        check(batch)
        images = batch.features[:, 1]
        counts = [int(((images >= start) & (images < start + 100)).sum()) for start in (100, 200)]
        assert counts == [3, 2]
        assert int(batch.is_anomaly.sum()) == 2 + 1


def test_vector_draws_of_entries_whose_defect_a_level_does_not_see():
    # A small defect can fall between the pixels of a coarse level: all of the part's vectors are then normal ones.
    entries = anomaly_entries()
    entries[0].defects[2][:] = False
    chosen = recipe("cpu", vectors=20, level_shares=[1.0, 1.0, 1.0], anomaly_share=0.3, defect_share=1.0)
    batches = [batch for batch in one_pass(chosen, entries) if batch.level == 2]
    for batch in batches:
        images = batch.features[:, 1]
        first = (images >= 100) & (images < 200)
        assert int(first.sum()) == 3
        assert not batch.is_anomaly[first].any()
        assert batch.is_anomaly[images >= 200].all()


def test_vector_draws_make_a_step_even_of_a_small_share():
    # 1/100 of 28 vectors is not one step of 10; every level is trained all the same.
    batches = one_pass(recipe("cpu", vectors=10, level_shares=[0.01, 0.01, 0.01]), [])
    assert [batch.level for batch in batches] == [0, 1, 2]
    assert [len(batch.features) for batch in batches] == [10, 10, 10]


def test_steps_count_the_draws_of_each_level():
    # 11, 5 and 2 steps a pass, 2 passes.
    chosen = recipe("cpu", vectors=10, level_shares=[0.25, 0.5, 1.0])
    for sub_epoch in range(2):
        batches = one_pass(chosen, [], sub_epoch)
        for level, steps in enumerate((11, 5, 2)):
            of_level = [batch for batch in batches if batch.level == level]
            assert [batch.step for batch in of_level] == list(range(sub_epoch * steps, (sub_epoch + 1) * steps))
            assert {batch.steps_per_epoch for batch in of_level} == {2 * steps}


def test_stated_steps_do_not_depend_on_the_number_of_images():
    # 448, 112 and 28 vectors in steps of 10: level 3 goes through its 28 vectors more than three times.
    batches = one_pass(recipe("cpu", vectors=10, level_steps=[5, 11, 9]), [])
    assert [batch.level for batch in batches] == [0] * 5 + [1] * 11 + [2] * 9
    coarsest = vectors_of(batches, 2)
    assert len(coarsest) == 90
    for start in (0, 28, 56):
        assert len(set(coarsest[start : start + 28])) == 28  # all of them before any repeats
    assert len(set(vectors_of(batches, 1))) == 110


def test_noise_moves_the_vectors_of_its_level_and_nothing_else():
    entries = anomaly_entries()
    plain = one_pass(recipe("cpu", vectors=400, level_steps=[1, 1, 1]), entries)
    noisy = one_pass(recipe("cpu", vectors=400, level_steps=[1, 1, 1], level_noise=[0, 0, 0.5]), entries)
    for one, other in zip(plain[:2], noisy[:2], strict=True):
        assert torch.equal(one.features, other.features)
    assert torch.equal(plain[2].position, noisy[2].position) and torch.equal(plain[2].is_anomaly, noisy[2].is_anomaly)
    moved = noisy[2].features - plain[2].features
    flat = normal_images()[2].flatten(0, 1)
    assert (moved[:, flat.std(0) == 0] == 0).all()  # the level, which all its vectors share
    varied = flat.std(0) > 0
    # The standard error of a standard deviation of 400 draws is 3.5 %.
    expected = 0.5 * flat.std(0, correction=0)[varied]
    torch.testing.assert_close(moved[:, varied].std(0), expected, rtol=0.15, atol=0)
    assert (moved[:, varied].mean(0).abs() < 4 * expected / 20).all()
    again = one_pass(recipe("cpu", vectors=400, level_steps=[1, 1, 1], level_noise=[0, 0, 0.5]), entries)
    assert torch.equal(again[2].features, noisy[2].features)
