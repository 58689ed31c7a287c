"""The learning rate against values worked out by hand, with the released warm-up and the right one."""

from pathlib import Path

import pytest

from bgad.config.settings import load_recipe
from bgad.training import train

RECIPES = Path(__file__).parents[1] / "config" / "recipes"


def paper(warm_up_counts_loaders):
    recipe = load_recipe(RECIPES / "paper.yaml")
    return recipe.model_copy(
        update={"quirks": recipe.quirks.model_copy(update={"warm_up_counts_loaders": warm_up_counts_loaders})}
    )


@pytest.mark.parametrize("quirk", [True, False])
def test_rate_after_the_warm_up_is_a_cosine_over_the_meta_epochs(quirk):
    # 2e-7 + (2e-4 - 2e-7) (1 + cos(pi epoch / 25)) / 2, the same throughout a meta epoch
    recipe = paper(quirk)
    for epoch, expected in (
        (2, 1.968615e-4),  # 1 + cos(0.251327) = 1.968583
        (12, 1.063731e-4),  # 1 + cos(1.507964) = 1.062791
        (24, 9.878e-7),  # 1 + cos(3.015929) = 0.007885
    ):
        for step in (0, 100, 223):
            assert train.learning_rate(recipe, epoch, step, 224) == pytest.approx(expected, rel=1e-4)
    assert train.learning_rate(recipe, 2, 0, 224) == pytest.approx(1.96861e-4, abs=5e-10)


def test_warm_up_is_a_line_to_the_cosines_value():
    # From 2e-5 to 1.9686146e-4 over 2 meta epochs of 72 steps: a step adds 1.7686146e-4 / 144 = 1.228205e-6.
    recipe = paper(warm_up_counts_loaders=False)
    for epoch, step, expected in (
        (0, 0, 2e-5),
        (0, 36, 6.4215365e-5),  # a quarter of the way: 2e-5 + 4.4215365e-5
        (1, 0, 1.0843073e-4),  # half: 2e-5 + 8.843073e-5
        (1, 71, 1.9563325e-4),  # one step before the end
    ):
        assert train.learning_rate(recipe, epoch, step, 72) == pytest.approx(expected, rel=1e-6)
    rates = [train.learning_rate(recipe, epoch, step, 72) for epoch in range(3) for step in range(72)]
    assert rates == sorted(rates)
    assert max(rates) == train.learning_rate(recipe, 2, 0, 72) < 2e-4


def test_released_warm_up_overshoots():
    # bottle: 209 normal images and 100 entries are 309, 9 batches of 32; the released loop counts 2 for the 9. In the
    # last batch (8) of the last pass (7) of meta epoch 1 that is step 8 + 2 * 7 = 22 of 16, so that the warm-up is
    # (1 + 22 / 16) / 2 = 1.1875 done: 2e-5 + 1.1875 * 1.7686146e-4 = 2.300230e-4.
    recipe = paper(warm_up_counts_loaders=True)
    assert train.learning_rate(recipe, 1, 71, 72) == pytest.approx(2.300230e-4, rel=1e-6)
    # Meta epoch 0, pass 3, batch 5 of 6 (209 // 32): step 5 + 2 * 3 = 11 of 16, 0.34375 done.
    assert train.learning_rate(recipe, 0, 3 * 6 + 5, 48) == pytest.approx(2e-5 + 0.34375 * 1.7686146e-4, rel=1e-6)
    # It starts where it should, and after the warm-up nothing is left of it.
    assert train.learning_rate(recipe, 0, 0, 48) == pytest.approx(2e-5)
    assert train.learning_rate(recipe, 2, 71, 72) == train.learning_rate(paper(False), 2, 71, 72)
    # The passes begin as in a right warm-up: pass s of 8 starts at s / 8 of its meta epoch in both.
    for sub_epoch in range(8):
        both = [train.learning_rate(paper(quirk), 1, 9 * sub_epoch, 72) for quirk in (True, False)]
        assert both[0] == pytest.approx(both[1])


def test_rate_per_step_falls_within_a_meta_epoch_and_goes_on_where_it_was():
    recipe = load_recipe(RECIPES / "cpu.yaml")
    schedule = recipe.schedule.model_copy(update={"meta_epochs": 4, "warm_up_epochs": 1})
    recipe = recipe.model_copy(update={"schedule": schedule})
    # Half through meta epoch 2 of 4: cos(pi 2.5 / 4) = -0.382683; 6e-6 + 5.994e-3 * 0.617317 / 2
    assert train.learning_rate(recipe, 2, 5, 10) == pytest.approx(6e-6 + 5.994e-3 * 0.3086583, rel=1e-6)
    rates = [train.learning_rate(recipe, epoch, step, 10) for epoch in range(1, 4) for step in range(10)]
    assert rates == sorted(rates, reverse=True)
    # Without a warm-up it starts at the top.
    bare = recipe.model_copy(update={"schedule": schedule.model_copy(update={"warm_up_epochs": 0})})
    assert train.learning_rate(bare, 0, 0, 10) == pytest.approx(6e-3)
