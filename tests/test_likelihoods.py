"""The histograms of log-likelihoods: which vector is in which group and bin, and where the boundaries lie."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bgad.config.settings import load_recipe
from bgad.errors import TrainingError
from bgad.evaluation.likelihoods import BINS, GROUPS, groups_of, histograms

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(ROOT / "config/recipes/demo.yaml")  # beta 0.01, tau 0.1, normalizer 10


def test_the_boundaries_are_those_of_the_loss_on_the_axis_of_l(recipe):
    # 200 values 0 .. -199: rank floor(0.01 * 200) = 2 of the ascending ones is -197; tau 0.1 is 1 on l.
    training = -torch.arange(200.0)
    found = histograms(recipe, training, {"normal": np.zeros(3, np.float32)})
    assert found["b_n"] == pytest.approx(-197)
    assert found["b_a"] == pytest.approx(-198)


def test_shares_by_hand(recipe):
    training = torch.zeros(100)  # b_n 0, b_a -1
    values = np.array([-60.0, -60.0, 0.0, 0.0, 0.0, 0.0], np.float32)
    found = histograms(recipe, training, {"normal": values, "unseen types": np.empty(0, np.float32)})
    assert list(found["groups"]) == ["normal"]  # an empty group is left out
    assert (found["low"], found["high"]) == (-60.0, 0.0)  # bins of 1
    share = found["groups"]["normal"]["share"]
    assert len(share) == BINS and found["groups"]["normal"]["count"] == 6
    assert share[0] == pytest.approx(2 / 6, abs=1e-6) and share[-1] == pytest.approx(4 / 6, abs=1e-6)


def test_what_is_below_the_axis_is_in_the_first_bin(recipe):
    values = np.concatenate([np.full(1, -1e6), np.linspace(-10, 0, 9999)]).astype(np.float32)
    found = histograms(recipe, torch.zeros(10), {"normal": values})
    assert -10 < found["low"] < -9.9  # the 0.2 % quantile, not the one far away
    share = found["groups"]["normal"]["share"]
    assert sum(share) == pytest.approx(1, abs=1e-4)
    assert share[0] > share[1]


def test_the_axis_reaches_the_boundaries(recipe):
    found = histograms(recipe, torch.full((10,), -50.0), {"normal": np.zeros(5, np.float32)})
    assert found["low"] == pytest.approx(-51) and found["b_a"] == pytest.approx(-51)


def test_a_likelihood_that_is_not_finite_is_an_error(recipe):
    with pytest.raises(TrainingError, match="not finite"):
        histograms(recipe, torch.tensor([0.0, float("nan")]), {"normal": np.zeros(2)})


def test_vectors_go_to_the_group_of_their_image_and_their_place():
    # Three images of 2 x 2 vectors: a normal one, one of a known type, one of an unseen type; defects in the left column.
    level = torch.arange(12.0).view(3, 2, 2)
    masks = np.zeros((3, 4, 4), bool)
    masks[1:, :, :2] = True
    normal, known_type = np.array([True, False, False]), np.array([False, True, False])
    (found,) = groups_of([level], masks, normal, known_type)
    assert found["normal"].tolist() == [0, 1, 2, 3]
    assert found["unseen images of known types"].tolist() == [4, 6]
    assert found["unseen types"].tolist() == [8, 10]
    assert set(found) < set(GROUPS)


def test_without_masks_all_vectors_of_an_anomalous_image_count():
    level = torch.arange(8.0).view(2, 2, 2)
    (found,) = groups_of([level], None, np.array([True, False]), np.array([False, False]))
    assert found["unseen types"].tolist() == [4, 5, 6, 7]
