"""Adam against torch.optim.Adam, to the bit, also while parameters have no gradient."""

import pytest
import torch

from bgad.training.adam import Adam

SHAPES = [(3,), (4, 5), (1, 7)]


def parameters():
    rng = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=rng)) for shape in SHAPES]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_equals_pytorchs_own(set_to_none):
    ours, theirs = parameters(), parameters()
    optimizer, reference = Adam(ours), torch.optim.Adam(theirs, fused=True)
    rng = torch.Generator().manual_seed(1)
    # The parameters that a step's loss depends on: the last one late, the first one not always.
    for number, used in enumerate([[0], [0, 1], [1], [2], [0, 1, 2], []]):
        rate = 0.1 / (number + 1)
        optimizer.set_rate(rate)
        for group in reference.param_groups:
            group["lr"] = rate
        factors = [torch.randn(shape, generator=rng) for shape in SHAPES]
        for parameters_of, method in ((ours, optimizer), (theirs, reference)):
            method.zero_grad(set_to_none=set_to_none)
            if used:
                sum((parameters_of[which].sin() * factors[which]).sum() for which in used).backward()
            method.step()
        for found, expected in zip(ours, theirs, strict=True):
            assert torch.equal(found, expected)
    for found, start in zip(ours, parameters(), strict=True):
        assert (found - start).abs().min() > 1e-3  # all have moved
