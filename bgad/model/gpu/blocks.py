"""FrEIA's AllInOneBlock in fewer operations. A GPU's time depends on the number of launches, not on the arithmetic.

The global affine map and the rotation become one product, and so do the coupling's multiplication and addition. Values
and gradients equal those of FrEIA's own forward to 1e-5 (tests/test_flow.py).
"""

import os
from collections.abc import Iterable

import torch
from FrEIA.modules import AllInOneBlock
from torch import Tensor
from torch.nn.functional import linear, softplus


def available(device: torch.device) -> bool:
    """Whether flows on ``device`` use this version: not on a CPU, and not if $BGAD_PLAIN is set."""
    return device.type != "cpu" and not os.environ.get("BGAD_PLAIN")


def through_blocks(x: Tensor, code: Tensor, blocks: Iterable[AllInOneBlock]) -> tuple[Tensor, Tensor]:
    """z (N, C) and the log-determinant (N,) of ``x`` (N, C) with position ``code`` (N, P)."""
    log_det = x.new_zeros(())
    for block in blocks:
        x, of_block = _through_block(x, code, block)
        log_det = log_det + of_block
    return x, log_det


def _through_block(x: Tensor, code: Tensor, block: AllInOneBlock) -> tuple[Tensor, Tensor]:
    """y = R (scale u + offset) with u = [x1, x2 exp(s) + t], s = clamp tanh(0.1 a_s), t = 0.1 a_t.

    (a_s, a_t) = subnet(x1, code).
    """
    x1, x2 = x.split(block.splits, dim=1)
    first, _, last = block.subnet
    hidden = linear(torch.cat([x1, code], dim=1), first.weight, first.bias)
    a_s, t = (0.1 * linear(hidden.relu_(), last.weight, last.bias)).chunk(2, dim=1)
    s = block.clamp * torch.tanh(a_s)
    u = torch.cat([x1, torch.addcmul(t, x2, s.exp())], dim=1)
    scale = 0.1 * softplus(block.global_scale, beta=0.5)
    # R's columns carry the scale.
    y = linear(u, block.w_perm * scale, (block.w_perm @ block.global_offset.T).squeeze(1))
    return y, s.sum(1) + scale.log().sum()
