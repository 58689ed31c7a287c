"""What the tests of a flow share."""

import torch


def moved_away(flow):
    """The flow as after much training: a fresh one has couplings of almost 1, offset 0 and scale 1, and hides mistakes."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "global" in name:
                parameter += torch.randn(parameter.shape, generator=rng)
            elif "w_perm" not in name:
                parameter *= 2
    return flow
