"""Training: the learning rate by hand, which loss sees what and when, the two quirks, and that it learns and repeats."""

import math
from itertools import repeat
from pathlib import Path

import pytest
import torch

from bgad.anomalies.synthetic import AnomalousImages
from bgad.config.settings import Recipe, read_yaml
from bgad.errors import TrainingError
from bgad.methods.bgad import build_flows
from bgad.randomness import frozen_generator, torch_generator
from bgad.training import losses, train
from bgad.training.losses import maximum_likelihood
from bgad.training.sampling import MiniBatch, mini_batches

RECIPES = Path(__file__).parents[1] / "config" / "recipes"
SIDES, CHANNELS = [8, 4, 2], [4, 5, 6]


def tiny(name="paper", **changes):
    """The recipe ``name`` at a size that trains in a moment; ``changes`` are sections with their changed keys."""
    values = read_yaml(RECIPES / f"{name}.yaml")
    values["image_size"] = 32
    values["flow"] |= {"blocks": 2, "position_channels": 8}
    values["schedule"] |= {"meta_epochs": 2, "sub_epochs": 2}
    values["sampling"] |= {"images": 4, "vectors": 16} if name == "paper" else {"vectors": 16, "level_steps": [5, 3, 2]}
    for section, change in changes.items():
        values[section] |= change
    return Recipe.model_validate(values)


def make_flows(recipe):
    return build_flows(recipe, CHANNELS, SIDES, torch_generator("test"), frozen_generator("test"))


def normal_images(count=6):
    rng = torch.Generator().manual_seed(1)
    return [
        2 + 0.5 * torch.randn(count, side**2, channels, generator=rng) for side, channels in zip(SIDES, CHANNELS, strict=True)
    ]


def anomaly_entries(count=2):
    rng = torch.Generator().manual_seed(2)
    levels, defects = [], []
    for side, channels in zip(SIDES, CHANNELS, strict=True):
        levels.append(torch.randn(count, side**2, channels, generator=rng))
        defects.append(torch.rand(count, side**2, generator=rng) < 0.5)
    return [AnomalousImages(levels, defects)]


def run(recipe, method="bgad", entries=None, seed=0, normal=None):
    """The trained flows, and the history's rows without their times."""
    flows, epochs = make_flows(recipe), train.Epochs(lambda flows, epoch: {"evaluated": epoch}, log=lambda line: None)
    entries = repeat(anomaly_entries()) if entries is None else entries
    train.train(recipe, method, flows, normal or normal_images(), entries, torch_generator("run", seed), epochs)
    return flows, [{name: value for name, value in row.items() if name != "seconds"} for row in epochs.history]


# --- the learning rate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "overshoots"), [("bgad", True), ("bgad-wo", False), ("nf", False)])
def test_each_step_is_taken_at_its_rate(monkeypatch, method, overshoots):
    # The released loop without anomalies has a single loader and counts its batches rightly.
    recipe = tiny(schedule={"sub_epochs": 1})
    asked = []

    class Spy(train.Adam):
        def step(self):
            asked.append(self._rate)
            return super().step()

    monkeypatch.setattr(train, "Adam", Spy)
    _, rows = run(recipe, method, normal=normal_images(20))
    # 5 batches of 4 in a pass, also with the 2 entries; 16 + 4 + 1 steps in each, of one rate.
    assert recipe.quirks.warm_up_counts_loaders
    off = recipe.model_copy(update={"quirks": recipe.quirks.model_copy(update={"warm_up_counts_loaders": False})})
    expected = [
        train.learning_rate(recipe if overshoots else off, epoch, batch, 5)
        for epoch in range(2)
        for batch in range(5)
        for _ in range(21)
    ]
    assert asked == expected
    assert [row["learning_rate"] for row in rows] == [expected[104], expected[209]]
    # The warm-up ends where the cosine over 2 meta epochs does, at 2e-7, so that "over" is below.
    assert (min(expected) < 2e-7) == overshoots


# --- which loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "later"), [("bgad", "with_anomalies"), ("bgad-wo", "without"), ("nf", "likelihood")])
def test_the_loss_is_the_methods_from_meta_epoch_1_on(monkeypatch, method, later):
    changed = {"beta": 0.2, "tau": 0.3, "normalizer": 7.0, "push_pull_weight": 0.5, "focal": True}
    # At this rate the flows stay as they are.
    recipe = tiny(loss=changed, schedule={"meta_epochs": 3, "sub_epochs": 1, "learning_rate": 1e-12})
    rng = torch.Generator().manual_seed(6)
    batches = []
    for level, (side, channels) in enumerate(zip(SIDES, CHANNELS, strict=True)):
        features, position = 1 + torch.randn(40, channels, generator=rng), torch.randint(side**2, (40,), generator=rng)
        batches.append(MiniBatch(level, features, position, torch.arange(40) % 4 == 0, level, 3))
    monkeypatch.setattr(train, "mini_batches", lambda *_: batches)
    _, rows = run(recipe, method)
    for flow, batch in zip(make_flows(recipe), batches, strict=True):
        log_likelihood = flow.log_likelihood(batch.features, batch.position)
        expected = {
            "likelihood": losses.maximum_likelihood(log_likelihood),
            "with_anomalies": losses.bgad_loss(log_likelihood, batch.is_anomaly, **changed),
            "without": losses.bgad_without_anomalies_loss(log_likelihood, **changed),
        }
        assert len({round(value.item(), 5) for value in expected.values()}) == 3
        # Meta epoch 0 is plain maximum likelihood: no focal weights, no boundary.
        found = [row[f"loss_{batch.level + 1}"] for row in rows]
        assert found == pytest.approx([expected[name].item() for name in ("likelihood", later, later)], rel=1e-5)


@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_bgad_uses_the_entries_from_meta_epoch_1_on(monkeypatch, name):
    seen, asked = [], []

    def batches(*arguments):
        for batch in mini_batches(*arguments):
            seen.append(batch)
            yield batch

    def entries():
        while True:
            asked.append(len(seen))
            yield anomaly_entries()

    monkeypatch.setattr(train, "mini_batches", batches)
    run(tiny(name), "bgad", entries())
    # Asked for again in each of the two passes of meta epoch 1, and never before.
    assert len(asked) == 2
    first, second = seen[: asked[0]], seen[asked[0] :]
    assert first and all(batch.is_anomaly is None for batch in first)
    assert all(batch.is_anomaly is not None for batch in second)
    assert any(batch.is_anomaly.any() for batch in second)


@pytest.mark.parametrize("method", ["nf", "bgad-wo"])
@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_the_other_methods_never_ask_for_the_entries(method, name):
    _, rows = run(tiny(name), method, iter(()))
    assert [row["epoch"] for row in rows] == [0, 1]


def test_meta_epoch_0_is_the_same_for_all_methods():
    recipe = tiny(quirks={"warm_up_counts_loaders": False}, schedule={"meta_epochs": 1})  # a slip of the loop with anomalies
    flows = {method: run(recipe, method)[0] for method in ("bgad", "bgad-wo", "nf")}
    for method in ("bgad-wo", "nf"):
        for flow, other in zip(flows["bgad"], flows[method], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(flow.parameters(), other.parameters(), strict=True))


def test_an_epoch_is_evaluated_when_it_is_due_and_the_last_one_always():
    _, rows = run(tiny("cpu", schedule={"meta_epochs": 5, "evaluate_every": 2}), "nf")
    assert [row.get("evaluated") for row in rows] == [None, 1, None, 3, 4]


# --- the quirk of idle levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", [True, False])
def test_idle_levels_keep_their_momentum_only_as_a_quirk(monkeypatch, quirk):
    recipe = tiny(
        quirks={"idle_levels_keep_momentum": quirk},
        schedule={"meta_epochs": 1, "sub_epochs": 1, "warm_up_epochs": 0},
    )
    flows, normal = make_flows(recipe), normal_images()
    offset = flows[0].module_list[0].global_offset
    places, gradients = [], []

    def batches(recipe, normal, entries, sub_epoch, rng):
        for level in range(3):
            places.append(offset.detach().clone())
            features = normal[level][0]
            yield MiniBatch(level, features, torch.arange(len(features)), None, level, 3)
            if level == 0:
                gradients.append(offset.grad.clone())
        places.append(offset.detach().clone())

    monkeypatch.setattr(train, "mini_batches", batches)
    epochs = train.Epochs(lambda flows, epoch: {}, log=lambda line: None)
    train.train(recipe, "nf", flows, normal, iter(()), torch_generator("run"), epochs)
    assert gradients[0].abs().min() > 1e-5  # well above Adam's epsilon of 1e-8
    moves = [places[1] - places[0], places[2] - places[1], places[3] - places[2]]
    # Level 1's own step: Adam's first, a rate in the direction of the gradient.
    rate = 2e-4
    torch.testing.assert_close(moves[0], -rate * gradients[0].sign(), rtol=0.01, atol=0)
    if quirk:
        # The step of level 2, with gradient 0 here: m = 0.9 * 0.1 g over 1 - 0.9^2, v = 0.999 * 0.001 g^2 over
        # 1 - 0.999^2: 0.473684 g / (0.706930 |g|) = 0.670059 of the rate. Then 0.9^2 * 0.1 / (1 - 0.9^3) = 0.298893 and
        # the root of 0.999^2 * 0.001 / (1 - 0.999^3) = 0.577061: 0.517957 of it.
        torch.testing.assert_close(moves[1], -0.670059 * rate * gradients[0].sign(), rtol=0.01, atol=1e-9)
        torch.testing.assert_close(moves[2], -0.517957 * rate * gradients[0].sign(), rtol=0.01, atol=1e-9)
    else:
        assert not moves[1].any()
        assert not moves[2].any()


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_equal_generators_give_equal_flows_to_the_bit(name):
    runs = [run(tiny(name), seed=seed) for seed in (0, 0, 1)]
    states = [[value for flow in flows for value in flow.state_dict().values()] for flows, _ in runs]
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert runs[0][1] == runs[1][1]
    assert not all(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))


@pytest.mark.parametrize("name", ["paper", "cpu"])
def test_training_lowers_the_loss_of_every_level(name):
    changed = {"meta_epochs": 6, "sub_epochs": 4, "learning_rate": 1e-2}
    recipe = tiny(name, schedule=changed)
    flows, rows = run(recipe, "nf")
    assert len(rows) == 6
    for level in range(3):
        course = [row[f"loss_{level + 1}"] for row in rows]
        assert course[-1] < 0.9 * course[0], course
    # The reported loss is that of the flows: unseen draws of the same distribution are likelier than before.
    rng = torch.Generator().manual_seed(9)
    for level, fresh in enumerate(make_flows(recipe)):
        features = 2 + 0.5 * torch.randn(SIDES[level] ** 2, CHANNELS[level], generator=rng)
        position = torch.arange(len(features))
        with torch.no_grad():
            assert flows[level].log_likelihood(features, position).mean() > fresh.log_likelihood(features, position).mean()


def test_known_anomalies_become_less_likely():
    # The defects are normal vectors with a shift of two standard deviations. The same steps with and without push.
    schedule = {"meta_epochs": 8, "sub_epochs": 4, "learning_rate": 5e-3}
    recipe = tiny("cpu", schedule=schedule, sampling={"level_steps": [6, 2, 1], "vectors": 64})
    normal, entries = normal_images(), anomaly_entries(4)
    for level in range(3):
        entries[0].levels[level][:] = normal[level][:4]
        entries[0].levels[level][entries[0].defects[level]] += 1.0
    gaps = {}
    for method in ("bgad", "nf"):
        flows, _ = run(recipe, method, repeat(entries), normal=normal)
        with torch.no_grad():
            maps = flows[0].log_likelihood_maps(entries[0].levels[0]).flatten(1)
        flags = entries[0].defects[0]
        gaps[method] = (maps[~flags].mean() - maps[flags].mean()).item()
    assert gaps["bgad"] > 1.5 * gaps["nf"] > 0


def test_rotations_stay_as_drawn():
    recipe = tiny()
    flows, _ = run(recipe)
    for flow, fresh in zip(flows, make_flows(recipe), strict=True):
        for block, of_fresh in zip(flow.module_list, fresh.module_list, strict=True):
            assert torch.equal(block.w_perm, of_fresh.w_perm)
            assert not torch.equal(block.subnet[0].weight, of_fresh.subnet[0].weight)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "steps"), [("paper", 8), ("cpu", 6)])
def test_diverged_training_is_an_error_that_names_meta_epoch_level_and_step(monkeypatch, name, steps, value):
    """Level 2 has ``steps`` in a meta epoch; in its third of the second, the loss is ``value``."""
    taken, batches = [], []

    def counted(*arguments):
        for batch in mini_batches(*arguments):
            batches.append(batch.level)
            yield batch

    def spoilt(log_likelihood):
        taken.append(batches[-1])
        loss = maximum_likelihood(log_likelihood)
        return loss + value if taken.count(1) == steps + 3 and batches[-1] == 1 else loss

    monkeypatch.setattr(train, "mini_batches", counted)
    monkeypatch.setattr(train, "maximum_likelihood", spoilt)
    with pytest.raises(TrainingError, match=rf"meta epoch 1 .*level 2 .*step 3 of {steps} .*schedule\.learning_rate"):
        run(tiny(name), "nf")


def test_gradients_are_scaled_down_to_the_norm_of_a_recipe(monkeypatch):
    norms = []

    def kept(adam):
        gradients = [parameter.grad for parameter in adam.parameters if parameter.grad is not None]
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())

    monkeypatch.setattr(train.Adam, "step", kept)
    run(tiny("cpu", schedule={"gradient_norm": None}), "nf")
    free = norms.copy()
    norms.clear()
    bound = sorted(free)[len(free) // 2]  # some steps are above it
    run(tiny("cpu", schedule={"gradient_norm": bound}), "nf")
    # The weights never move, so the gradients are the same but for the bound.
    assert norms == pytest.approx([min(norm, bound) for norm in free], rel=1e-4)
    assert max(free) > 1.01 * bound


def test_flows_of_a_recipe():
    flows = make_flows(tiny(flow={"blocks": 3, "position_channels": 12, "clamp": 1.5}))
    assert [(flow.channels, flow.height, flow.width) for flow in flows] == [(4, 8, 8), (5, 4, 4), (6, 2, 2)]
    for flow in flows:
        assert len(flow.module_list) == 3
        assert {block.clamp for block in flow.module_list} == {1.5}
        assert flow.columns.shape[1] == 6
