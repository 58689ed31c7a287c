"""The losses against values worked by hand and against a plain Python version; gradients against finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from bgad.training.losses import (
    abnormal_focal_weights,
    bgad_loss,
    bgad_without_anomalies_loss,
    explicit_boundary,
    focal_weights,
    maximum_likelihood,
    normal_focal_weights,
    semi_push_pull,
)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def anomalous(*values):
    return torch.tensor(values, dtype=torch.bool)


# --- a plain version, vector by vector, from the protocol's "Loss" --------------------------------------------------


def slow_normal_weight(scaled):
    return 1.0 if scaled > -0.2 else 11.7 * (1 - math.exp(scaled)) ** 0.5 * abs(scaled)


def slow_abnormal_weight(scaled):
    return 1.0 if scaled <= -1 else 0.53 * (1 + math.exp(scaled)) ** 2 / abs(scaled)


def mean(values):
    return sum(values) / len(values) if values else 0.0


def slow_loss(log_likelihood, is_anomaly, beta, tau, normalizer, weight, focal, push=True):
    normal = [v for v, a in zip(log_likelihood, is_anomaly, strict=True) if not a]
    anomalies = [v for v, a in zip(log_likelihood, is_anomaly, strict=True) if a]
    w_n = (lambda v: slow_normal_weight(v / 10)) if focal else (lambda v: 1.0)  # whatever the normalizer is, as released
    w_a = (lambda v: slow_abnormal_weight(v / 10)) if focal else (lambda v: 1.0)
    likelihood = mean([w_n(v) * math.log(1 + math.exp(-v)) for v in normal])
    if push and not anomalies:
        return likelihood
    b_n = sorted(v / normalizer for v in normal)[math.floor(beta * len(normal))]
    b_a = b_n - tau
    pulled = mean([w_n(v) * (b_n - v / normalizer) for v in normal if v / normalizer <= b_n])
    pushed = mean([w_a(v) * (v / normalizer - b_a) for v in anomalies if v / normalizer >= b_a])
    return likelihood + weight * (pulled + pushed)


# --- maximum likelihood ---------------------------------------------------------------------------------------------


def test_maximum_likelihood_by_hand():
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4: the mean of log 2 = 0.693147 and log(4/3) = 0.287682 is 0.490415.
    log_likelihood = tensor(0, math.log(3))
    assert maximum_likelihood(log_likelihood).item() == pytest.approx(0.490415, abs=1e-6)
    # Weights 2 and 1/2: (1.386294 + 0.143841) / 2 = 0.765068; the mean is over the vectors, not over the weights.
    assert maximum_likelihood(log_likelihood, tensor(2, 0.5)).item() == pytest.approx(0.765068, abs=1e-6)


def test_maximum_likelihood_of_very_unlikely_vectors_is_finite():
    # -log sigmoid(l) tends to -l; the exponential itself would overflow.
    log_likelihood = torch.tensor([-1e4], requires_grad=True)
    loss = maximum_likelihood(log_likelihood)
    loss.backward()
    assert loss.item() == 1e4
    assert log_likelihood.grad.item() == -1


# --- the explicit boundary ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "beta", "rank"),
    [
        (250, 0.01, 2),  # floor(2.5)
        (100, 0.01, 1),
        (99, 0.01, 0),  # floor(0.99): the smallest value
        (4096, 0.01, 40),  # floor(40.96)
        (4096, 0.05, 204),  # floor(204.8)
        (5, 0.0, 0),
        (1, 0.99, 0),
        (10, 0.999, 9),
    ],
)
def test_boundary_is_the_value_at_rank_floor_beta_n(count, beta, rank):
    # The normal l are -10, -20, ..., -10 count in disorder: L are the integers -1 .. -count, and rank r is -count + r.
    normal = -10.0 * (1 + torch.randperm(count, generator=torch.Generator().manual_seed(1)))
    # Anomalies take no part, wherever they stand.
    log_likelihood = torch.cat([torch.tensor([-1e6, 1e6]), normal, torch.tensor([-1e6])])
    is_anomaly = torch.zeros(count + 3, dtype=torch.bool)
    is_anomaly[[0, 1, -1]] = True
    b_n, b_a = explicit_boundary(log_likelihood, is_anomaly, beta, tau=0.25)
    assert b_n.item() == -count + rank
    assert b_a.item() == -count + rank - 0.25


def test_boundary_takes_another_normalizer_and_flags_of_0_and_1():
    # L = l / 4: -1, -2, -3 for the normal ones; rank floor(0.5 * 3) = 1 from below is -2.
    b_n, b_a = explicit_boundary(tensor(-4, 100, -8, -12), torch.tensor([0, 1, 0, 0]), 0.5, 1.0, normalizer=4.0)
    assert (b_n.item(), b_a.item()) == (-2, -3)


def test_boundary_is_detached():
    log_likelihood = tensor(-1, -2, -3).requires_grad_()
    b_n, b_a = explicit_boundary(log_likelihood, anomalous(0, 0, 0), 0.5, 0.1)
    assert not b_n.requires_grad
    assert not b_a.requires_grad


# --- the semi-push-pull ---------------------------------------------------------------------------------------------


def test_semi_push_pull_by_hand():
    # normal L:    -0.4 (above b_n = -0.5, left alone), -0.5 (on it: 0), -0.7 (0.2 below)   pull = (0 + 0.2) / 2 = 0.1
    # anomalous L: -0.55 (0.05 above b_a = -0.6), -0.6 (on it: 0), -0.9 (below, left alone) push = (0.05 + 0) / 2 = 0.025
    log_likelihood = tensor(-4, -5.5, -5, -6, -7, -9)
    is_anomaly = anomalous(0, 1, 0, 1, 0, 1)
    boundary = torch.tensor(-0.5, dtype=torch.float64), torch.tensor(-0.6, dtype=torch.float64)
    pull, push = semi_push_pull(log_likelihood, is_anomaly, boundary)
    assert pull.item() == pytest.approx(0.1, abs=1e-12)
    assert push.item() == pytest.approx(0.025, abs=1e-12)

    # weights of the same six: pull = (2 * 0 + 3 * 0.2) / 2 = 0.3, push = (4 * 0.05 + 5 * 0) / 2 = 0.1
    weights = tensor(9, 4, 2, 5, 3, 6)
    pull, push = semi_push_pull(log_likelihood, is_anomaly, boundary, weights=weights)
    assert pull.item() == pytest.approx(0.3, abs=1e-12)
    assert push.item() == pytest.approx(0.1, abs=1e-12)

    # flags of 0 and 1, and normalizer 5: L = -0.8, -1.1, -1.0, -1.2, -1.4, -1.8
    # normal: 0.3, 0.5 and 0.9 below -0.5, mean 1.7 / 3; no anomaly reaches -0.6
    pull, push = semi_push_pull(log_likelihood, is_anomaly.int(), boundary, normalizer=5.0)
    assert pull.item() == pytest.approx(1.7 / 3, abs=1e-12)
    assert push.item() == 0


@pytest.mark.parametrize("weights", [None, tensor(2, 3, 4)])
@pytest.mark.parametrize(
    ("is_anomaly", "why"),
    [
        (anomalous(0, 0, 0), "no anomalies, and no normal vector below b_n"),
        (anomalous(1, 1, 1), "no normal vectors, and no anomaly above b_a"),
    ],
)
def test_empty_sets_give_zero_and_zero_gradients(is_anomaly, why, weights):
    log_likelihood = tensor(-20, -21, -22).requires_grad_()
    # All normal: L of about -2 lies above b_n = -3. All anomalous: below b_a = -1.
    boundary = (tensor(-3)[0], tensor(-4)[0]) if not is_anomaly.any() else (tensor(-0.5)[0], tensor(-1)[0])
    pull, push = semi_push_pull(log_likelihood, is_anomaly, boundary, weights=weights)
    (pull + push).backward()
    assert pull.item() == 0
    assert push.item() == 0
    assert log_likelihood.grad.tolist() == [0, 0, 0], why


# --- the focal weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaled", "weight"),
    [
        (0.5, 1.0),  # likelier than likely: the root's argument would be negative
        (0.0, 1.0),
        (-0.199, 1.0),
        # 1 - e^-0.2 = 0.181269, its root 0.425757, times 11.7 * 0.2
        (-0.2, 0.996271),
        # 1 - e^-0.201 = 0.182088, its root 0.426717, times 11.7 * 0.201
        (-0.201, 1.003509),
        # 1 - e^-1 = 0.632121, its root 0.795060, times 11.7
        (-1.0, 9.302202),
    ],
)
def test_normal_focal_weight(scaled, weight):
    assert normal_focal_weights(tensor(10 * scaled)).item() == pytest.approx(weight, abs=2e-6)
    assert normal_focal_weights(tensor(4 * scaled), normalizer=4.0).item() == pytest.approx(weight, abs=2e-6)


@pytest.mark.parametrize(
    ("scaled", "weight"),
    [
        (-3.0, 1.0),
        (-1.001, 1.0),
        (-1.0, 1.0),
        # 1 + e^-0.999 = 1.368247, squared 1.872101, times 0.53 / 0.999
        (-0.999, 0.993206),
        # 1 + e^-0.5 = 1.606531, squared 2.580941, times 0.53 / 0.5
        (-0.5, 2.735797),
        # 1 + e^0.5 = 2.648721, squared 7.015724, times 0.53 / 0.5
        (0.5, 7.436668),
    ],
)
def test_abnormal_focal_weight(scaled, weight):
    assert abnormal_focal_weights(tensor(10 * scaled)).item() == pytest.approx(weight, abs=2e-6)
    assert abnormal_focal_weights(tensor(4 * scaled), normalizer=4.0).item() == pytest.approx(weight, abs=2e-6)


def test_break_points_in_single_precision():
    # -2 / 10 and -10 / 10 fall on the break points, where the normal rule bends and the abnormal one does not.
    assert normal_focal_weights(torch.tensor([-2.0])).item() == pytest.approx(0.996271, abs=2e-6)
    assert abnormal_focal_weights(torch.tensor([-10.0])).item() == 1


def test_focal_weights_take_each_vector_by_its_own_rule_and_are_detached():
    log_likelihood = tensor(-5, -5, -1, -20).requires_grad_()
    weights = focal_weights(log_likelihood, anomalous(0, 1, 0, 1))
    expected = [slow_normal_weight(-0.5), slow_abnormal_weight(-0.5), 1.0, 1.0]
    assert weights.tolist() == pytest.approx(expected, abs=1e-12)
    assert not weights.requires_grad


# --- the totals -----------------------------------------------------------------------------------------------------

NORMAL_AND_ANOMALOUS = tensor(-1, -2.5, -2, -3, -4), anomalous(0, 1, 0, 0, 0)


def test_total_by_hand():
    # -log sigmoid(l) = log(1 + e^-l) of the normal l -1, -2, -3, -4: 1.313262, 2.126928, 3.048587, 4.018150
    #   sum 10.506927, mean 2.626732
    # normal L ascending: -0.4 -0.3 -0.2 -0.1; rank floor(0.25 * 4) = 1: b_n = -0.3, b_a = -0.4 with tau 0.1
    #   pull = (0 + 0.1) / 2 = 0.05; push = -0.25 + 0.4 = 0.15
    # lambda 2: 2.626732 + 2 * (0.05 + 0.15) = 3.026732
    total = bgad_loss(*NORMAL_AND_ANOMALOUS, beta=0.25, tau=0.1, push_pull_weight=2.0, focal=False)
    assert total.item() == pytest.approx(3.026732, abs=2e-6)


def test_total_with_focal_weights_by_hand():
    # weights of the normal L: -0.1: 1, -0.2: 0.996271, -0.3: 11.7 * 0.509099 * 0.3 = 1.786938,
    #   -0.4: 11.7 * 0.574178 * 0.4 = 2.687153; of the anomalous L -0.25: 0.53 * 1.778801^2 / 0.25 = 6.707961
    # ML = (1.313262 + 2.118997 + 5.447637 + 10.797384) / 4 = 4.919320
    # pull = (1.786938 * 0 + 2.687153 * 0.1) / 2 = 0.134358; push = 6.707961 * 0.15 = 1.006194
    total = bgad_loss(*NORMAL_AND_ANOMALOUS, beta=0.25, tau=0.1)
    assert total.item() == pytest.approx(4.919320 + 0.134358 + 1.006194, abs=5e-6)


@pytest.mark.parametrize("focal", [True, False])
def test_totals_equal_the_plain_version(focal):
    rng = torch.Generator().manual_seed(5)
    for count in (30, 257):
        log_likelihood = 6 * torch.randn(count, generator=rng, dtype=torch.float64) - 6
        is_anomaly = torch.rand(count, generator=rng) < 0.2
        constants = 0.07, 0.3, 8.0, 0.5, focal
        expected = slow_loss(log_likelihood.tolist(), is_anomaly.tolist(), *constants)
        assert bgad_loss(log_likelihood, is_anomaly, *constants).item() == pytest.approx(expected, rel=1e-12)
        assert bgad_loss(log_likelihood, is_anomaly.int(), *constants).item() == pytest.approx(expected, rel=1e-12)

        expected = slow_loss(log_likelihood.tolist(), [False] * count, *constants, push=False)
        assert bgad_without_anomalies_loss(log_likelihood, *constants).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("focal", [True, False])
@pytest.mark.parametrize("is_anomaly", [None, anomalous(0, 0, 0)])
def test_without_an_anomalous_vector_maximum_likelihood_stands_alone(is_anomaly, focal):
    log_likelihood = tensor(-1, -3, -9)
    total = bgad_loss(log_likelihood, is_anomaly, beta=0.5, tau=0.1, focal=focal)
    weights = normal_focal_weights(log_likelihood) if focal else None
    assert total.item() == maximum_likelihood(log_likelihood, weights).item()
    # The pull, which the row without anomalies keeps, is not 0 here, so it was left out: b_n = L = -0.3 at rank 1.
    assert bgad_without_anomalies_loss(log_likelihood, 0.5, 0.1, focal=focal).item() > total.item() + 0.1


# --- masks in place of indices -----------------------------------------------------------------------------------------


def indexed_loss(log_likelihood, is_anomaly, beta, tau, normalizer, weight, focal):
    """The same in the obvious way: each set of vectors picked out, for values and for autograd's gradients."""
    normal, anomalies = log_likelihood[~is_anomaly], log_likelihood[is_anomaly]
    w_n = torch.tensor([slow_normal_weight(v / 10) if focal else 1.0 for v in normal.tolist()], dtype=torch.float64)
    w_a = torch.tensor([slow_abnormal_weight(v / 10) if focal else 1.0 for v in anomalies.tolist()], dtype=torch.float64)
    likelihood = -(w_n * torch.sigmoid(normal).log()).mean()
    if not len(anomalies):
        return likelihood
    b_n = (normal.detach() / normalizer).sort().values[int(beta * len(normal))]
    total = likelihood
    for scaled, w, excess in (
        (normal / normalizer, w_n, lambda v: b_n - v),
        (anomalies / normalizer, w_a, lambda v: v - b_n + tau),
    ):
        chosen = excess(scaled.detach()) >= 0
        if chosen.any():
            total = total + weight * (w * excess(scaled))[chosen].mean()
    return total


def flags(count, anomalies, seed=3):
    """``anomalies`` of ``count`` vectors, anywhere among them."""
    result = torch.zeros(count, dtype=torch.bool)
    result[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:anomalies]] = True
    return result


@pytest.mark.parametrize("focal", [True, False])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("anomalies", [0, 1, 30, 150, 198, 199])
@pytest.mark.parametrize("beta", [0.0, 0.01, 0.3])
def test_values_and_gradients_equal_those_of_sets_picked_out(beta, anomalies, ties, focal):
    log_likelihood = 6 * torch.randn(200, generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 6
    # Eight values in all: many vectors lie on the boundary, among them anomalous ones on the normal boundary.
    log_likelihood = (log_likelihood / 4).round().clamp(-5, 2) * 4 if ties else log_likelihood
    log_likelihood[log_likelihood == 0] = 0.5  # where an anomalous vector's weight has its pole
    is_anomaly, constants = flags(200, anomalies), (beta, 0.3, 8.0, 0.5, focal)
    ours, theirs = (log_likelihood.clone().requires_grad_() for _ in range(2))
    total, expected = bgad_loss(ours, is_anomaly, *constants), indexed_loss(theirs, is_anomaly, *constants)
    total.backward()
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-15)


def test_the_rank_is_that_of_python_for_every_count():
    # 0.29 * 100 is 28.999999999999996 in double precision and 29 in single: rank 28.
    values = torch.arange(400, dtype=torch.float64)
    for beta in (0.01, 0.05, 0.07, 0.29, 0.57, 1 / 3, 0.999):
        for normals in range(1, 401):
            is_anomaly = values >= normals  # the normal values are 0 .. normals - 1, each its own rank
            assert explicit_boundary(values, is_anomaly, beta, 0.1, 1.0)[0].item() == int(beta * normals), (beta, normals)


@pytest.mark.parametrize("focal", [True, False])
@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0])
def test_an_infinite_value_outside_a_set_leaves_no_trace_in_its_gradient(value, focal):
    # An anomalous vector at -inf is in no set; at 0, where its focal weight is infinite, it lies below this b_a.
    # A normal vector at +inf is as likely as can be: no pull, and a maximum likelihood loss of 0.
    is_anomaly = anomalous(0, 0, 0, value != math.inf)
    values = [30.0, 31.0, 32.0] if value == 0 else [-3.0, -4.0, -5.0]
    log_likelihood, plain = tensor(*values, value).requires_grad_(), tensor(*values, -300.0).requires_grad_()
    total = bgad_loss(log_likelihood, is_anomaly, 0.4, 0.1, focal=focal)
    total.backward()
    assert math.isfinite(total.item())
    assert log_likelihood.grad.isfinite().all()
    assert log_likelihood.grad[3] == 0
    if value != math.inf:
        bgad_loss(plain, is_anomaly, 0.4, 0.1, focal=focal).backward()
        assert torch.equal(log_likelihood.grad, plain.grad)


def test_a_batch_without_normal_vectors_adds_nothing():
    log_likelihood = tensor(-3, 4, -5).requires_grad_()
    total = bgad_loss(log_likelihood, anomalous(1, 1, 1), 0.01, 0.1)
    total.backward()
    assert total.item() == 0
    assert log_likelihood.grad.tolist() == [0, 0, 0]


def test_no_loss_waits_for_a_number_from_the_device():
    # A tensor without values refuses whatever depends on one: item(), if, and picking by a mask.
    log_likelihood = torch.empty(50, device="meta", requires_grad=True)
    is_anomaly = torch.empty(50, device="meta", dtype=torch.bool)
    with pytest.raises(RuntimeError):
        log_likelihood[is_anomaly]
    for focal in (True, False):
        for total in (
            bgad_loss(log_likelihood, is_anomaly, 0.01, 0.1, focal=focal),
            bgad_loss(log_likelihood, None, 0.01, 0.1, focal=focal),
            bgad_without_anomalies_loss(log_likelihood, 0.01, 0.1, focal=focal),
        ):
            total.backward()


# --- gradients ------------------------------------------------------------------------------------------------------


def test_gradients_of_the_parts():
    log_likelihood = tensor(-4.1, -5.6, -5.2, -6.3, -7.4, -9.5).requires_grad_()
    is_anomaly, weights = anomalous(0, 1, 0, 1, 0, 1), tensor(9, 4, 2, 5, 3, 6)
    boundary = tensor(-0.5)[0], tensor(-0.65)[0]  # no vector lies on a boundary, where the loss has a kink
    assert gradcheck(lambda x: maximum_likelihood(x, weights), log_likelihood)
    assert gradcheck(lambda x: semi_push_pull(x, is_anomaly, boundary), log_likelihood)
    assert gradcheck(lambda x: semi_push_pull(x, is_anomaly, boundary, 10.0, weights), log_likelihood)


@pytest.mark.parametrize("focal", [True, False])
def test_gradient_of_the_total_holds_boundary_and_weights_fixed(focal):
    # d ML / dl = -w sigmoid(-l) / N_n for each normal l; d pull / dl = -w / (10 * 2) for the two normals at or below b_n,
    # one of which lies on it; d push / dl = w / 10 for the one anomaly. b_n and the weights are constants.
    log_likelihood, is_anomaly = NORMAL_AND_ANOMALOUS[0].clone().requires_grad_(), NORMAL_AND_ANOMALOUS[1]
    bgad_loss(log_likelihood, is_anomaly, beta=0.25, tau=0.1, focal=focal).backward()
    normal = [-1, None, -2, -3, -4]
    w = [slow_normal_weight(v / 10) if focal else 1.0 for v in (-1, -2.5, -2, -3, -4)]
    w[1] = slow_abnormal_weight(-0.25) if focal else 1.0
    expected = [0.0 if v is None else -w[i] / (1 + math.exp(v)) / 4 for i, v in enumerate(normal)]
    expected[1] += w[1] / 10
    expected[3] -= w[3] / 20
    expected[4] -= w[4] / 20
    assert log_likelihood.grad.tolist() == pytest.approx(expected, rel=1e-12)
