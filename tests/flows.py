"""What the tests of a flow share."""

import torch

from bgad.model.flow import ConditionalFlow
from bgad.randomness import frozen_generator, torch_generator


def make_flow(channels, position_channels=128, height=3, width=5, blocks=8, clamp=1.9, seed=0, moved=True) -> ConditionalFlow:
    rngs = torch_generator("flow test", seed), frozen_generator("flow test", seed)
    flow = ConditionalFlow(channels, height, width, blocks, position_channels, clamp, *rngs)
    return moved_away(flow) if moved else flow


def moved_away(flow):
    """The flow as after long training: a fresh one has couplings of almost 1, offset 0 and scale 1, which hides mistakes."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "global" in name:
                parameter += torch.randn(parameter.shape, generator=rng)
            elif "w_perm" not in name:
                parameter *= 2
    return flow


def values_and_gradients(log_likelihood, flow, x, weights) -> dict[str, torch.Tensor]:
    """l of ``log_likelihood(x)``, and the gradients of its weighted sum in x and in the trained parameters of ``flow``."""
    x = x.clone().requires_grad_()
    found = log_likelihood(x)
    trained = {name: parameter for name, parameter in flow.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad((found * weights).sum(), [x, *trained.values()])
    return {"log-likelihood": found.detach(), **dict(zip(["x", *trained], gradients, strict=True))}


def assert_equal(found, expected, tolerance):
    """Equal up to ``tolerance`` of each tensor's largest value."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        difference = (found[name] - value).abs().max() / value.abs().max()
        assert difference < tolerance, f"{name}: {difference:.1e}"
