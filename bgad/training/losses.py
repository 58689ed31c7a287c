"""BGAD's losses: maximum likelihood, the explicit boundary, the boundary guided semi-push-pull, and the focal weights.

Throughout, ``log_likelihood`` is l = logp / C, the log-likelihood of each feature vector divided by its number of
channels, shape (N,). The boundary and the weights are defined on L = l / normalizer. As in the released code, the weights'
normalizer is always 10, whatever the boundary's is. ``is_anomaly`` is (N,) boolean or 0/1. Source: BGAD, sections 3.2 and 3.3,
with the constants of the released code.

Sets of vectors are masks, never indices, so nothing waits for a number from the device and a step can be recorded as a CUDA
graph. For the same reason constants enter through operations that take a number, not as tensors made on the CPU.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bgad_loss(
    log_likelihood: Tensor,
    is_anomaly: Tensor | None,
    beta: float,
    tau: float,
    normalizer: float = 10.0,
    push_pull_weight: float = 1.0,
    focal: bool = True,
) -> Tensor:
    """The loss of a mini-batch with known anomalies: ML + lambda (pull + push), or only ML if it has none."""
    if is_anomaly is None:
        weights = normal_focal_weights(log_likelihood) if focal else None
        return maximum_likelihood(log_likelihood, weights)

    is_anomaly = is_anomaly.bool()
    weights = focal_weights(log_likelihood, is_anomaly) if focal else None
    boundary = explicit_boundary(log_likelihood, is_anomaly, beta, tau, normalizer)
    pull, push = semi_push_pull(log_likelihood, is_anomaly, boundary, normalizer, weights)
    push_pull = (push_pull_weight * (pull + push)).masked_fill(~is_anomaly.any(), 0)
    return maximum_likelihood(log_likelihood, weights, is_anomaly) + push_pull


def bgad_without_anomalies_loss(
    log_likelihood: Tensor,
    beta: float,
    tau: float,
    normalizer: float = 10.0,
    push_pull_weight: float = 1.0,
    focal: bool = True,
) -> Tensor:
    """The loss of the paper's "without anomalies" row: ML + lambda pull, with all vectors normal."""
    is_anomaly = torch.zeros_like(log_likelihood, dtype=torch.bool)
    weights = normal_focal_weights(log_likelihood) if focal else None
    boundary = explicit_boundary(log_likelihood, is_anomaly, beta, tau, normalizer)
    pull, _ = semi_push_pull(log_likelihood, is_anomaly, boundary, normalizer, weights)
    return maximum_likelihood(log_likelihood, weights) + push_pull_weight * pull


def maximum_likelihood(log_likelihood: Tensor, weights: Tensor | None = None, is_anomaly: Tensor | None = None) -> Tensor:
    """Mean of -log sigmoid(l) over the normal vectors, each times its weight; without ``is_anomaly`` all vectors are normal."""
    loss = -logsigmoid(log_likelihood)
    if is_anomaly is not None:
        return _mean_over(loss, ~is_anomaly.bool(), weights)
    return (loss if weights is None else loss * weights).mean()


def explicit_boundary(
    log_likelihood: Tensor, is_anomaly: Tensor, beta: float, tau: float, normalizer: float = 10.0
) -> tuple[Tensor, Tensor]:
    """The normal boundary b_n and the anomaly boundary b_a = b_n - tau, both detached scalars on the scale of L.

    b_n is the value at rank floor(beta N_n) (from 0) of the normal vectors' L in ascending order (BGAD, section 3.2).
    """
    is_anomaly = is_anomaly.bool()
    normal = (log_likelihood.detach() / normalizer).masked_fill(is_anomaly, math.inf)
    # In double precision, so the rank is Python's int(beta * N_n) for every beta and count.
    rank = ((~is_anomaly).sum().double() * beta).long()
    # No rank exceeds that of a batch without anomalies, so this many of the lowest values suffice.
    lowest = normal.topk(int(beta * len(normal)) + 1, largest=False).values
    b_n = lowest.gather(0, rank[None])[0]
    return b_n, b_n - tau


def semi_push_pull(
    log_likelihood: Tensor,
    is_anomaly: Tensor,
    boundary: tuple[Tensor, Tensor],
    normalizer: float = 10.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The two halves of the boundary guided semi-push-pull loss (BGAD, section 3.3), scalars >= 0.

    pull is the mean of w (b_n - L) over the normal vectors with L <= b_n; push is the mean of w (L - b_a) over the
    anomalous vectors with L >= b_a. An empty set contributes 0. ``weights`` is (N,) or None.
    """
    b_n, b_a = boundary
    scaled = log_likelihood / normalizer
    is_anomaly = is_anomaly.bool()
    pull = _mean_over(b_n - scaled, ~is_anomaly & (scaled <= b_n), weights)
    push = _mean_over(scaled - b_a, is_anomaly & (scaled >= b_a), weights)
    return pull, push


def focal_weights(log_likelihood: Tensor, is_anomaly: Tensor, normalizer: float = 10.0) -> Tensor:
    """Each vector's focal weight, (N,): the normal rule for normal vectors, the abnormal one for anomalous vectors."""
    return torch.where(
        is_anomaly.bool(),
        abnormal_focal_weights(log_likelihood, normalizer),
        normal_focal_weights(log_likelihood, normalizer),
    )


def normal_focal_weights(log_likelihood: Tensor, normalizer: float = 10.0) -> Tensor:
    """1 where L > -0.2, else 11.7 (1 - e^L)^0.5 |L|: normal vectors that the flow finds unlikely count more. (N,)"""
    scaled = log_likelihood.detach() / normalizer
    # Above -0.2 the root's argument can be negative (L > 0); that branch is not taken, so its argument is clamped.
    unlikely = 11.7 * (1 - scaled.exp()).clamp(min=0).sqrt() * scaled.abs()
    return torch.where(scaled > -0.2, torch.ones_like(scaled), unlikely)


def abnormal_focal_weights(log_likelihood: Tensor, normalizer: float = 10.0) -> Tensor:
    """1 where L <= -1, else 0.53 (1 + e^L)^2 / |L|: anomalous vectors that the flow finds likely count more. (N,)"""
    scaled = log_likelihood.detach() / normalizer
    likely = 0.53 * (1 + scaled.exp()).square() / scaled.abs()
    return torch.where(scaled <= -1, torch.ones_like(scaled), likely)


def _mean_over(values: Tensor, chosen: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of the chosen values, each times its weight; 0 if none is chosen. The others get no gradient."""
    left_out = ~chosen
    values = values.masked_fill(left_out, 0)
    if weights is not None:
        # The weights are masked too: in the backward pass a zero times an infinite weight would be NaN.
        values = values * weights.masked_fill(left_out, 0)
    return values.sum() / chosen.sum().clamp(min=1)
