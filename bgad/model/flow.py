"""The conditional normalizing flow of one feature level: eight coupling blocks conditioned on the position code.

A block is FrEIA 0.2's AllInOneBlock as BGAD uses it, with the same parameters under the same names, so that checkpoints
load both ways (tests/test_flow.py compares the two). On a CPU a block runs in compiled code, bgad/model/cpu/coupling.py; the
operations here are what it must equal, and what runs elsewhere. A GPU's time goes by how many they are, not by their
arithmetic: they are kept few.
"""

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from bgad.model.cpu import coupling
from bgad.model.position import sincos_1d

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class ConditionalFlow(nn.Module):
    """p(x | position) for feature vectors x of one level, as a chain of coupling blocks.

    ``channels`` C of a vector, ``height`` and ``width`` of the feature map. Weights are drawn from ``torch_rng`` and the
    soft permutations from ``frozen_rng``: one seed gives one network, under any scipy.
    """

    columns: Tensor
    rows: Tensor

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        blocks: int,
        position_channels: int,
        clamp: float,
        torch_rng: torch.Generator,
        frozen_rng: np.random.RandomState,
    ):
        super().__init__()
        self.channels, self.height, self.width = channels, height, width
        self.module_list = nn.ModuleList(
            CouplingBlock(channels, position_channels, clamp, torch_rng, frozen_rng) for _ in range(blocks)
        )
        self.register_buffer("columns", sincos_1d(position_channels // 2, width), persistent=False)
        self.register_buffer("rows", sincos_1d(position_channels // 2, height), persistent=False)

    def log_likelihood(self, features: Tensor, position: Tensor) -> Tensor:
        """l = logp / C of single vectors: ``features`` (N, C) at ``position`` (N,), row * width + column. Returns (N,)."""
        row, column = position // self.width, position % self.width
        if coupling.available(features):
            blocks = self._blocks()
            parameters, clamp = [block.parameters_in_order() for block in blocks], blocks[0].clamp
            places = (column.int(), row.int(), self.columns, self.rows)
            z_and_log_det = coupling.through_blocks(features, *places, parameters, clamp)
            return self._normal(*z_and_log_det)
        return self._in_operations(features, torch.cat([self.columns[column], self.rows[row]], dim=1))

    def log_likelihood_maps(self, features: Tensor) -> Tensor:
        """l of whole maps: ``features`` (N, height * width, C), row by row. Returns (N, height, width)."""
        if coupling.available(features):
            position = torch.arange(self.height * self.width).repeat(len(features))
            flat = self.log_likelihood(features.flatten(0, 1), position)
        else:
            code = torch.cat([self.columns.repeat(self.height, 1), self.rows.repeat_interleave(self.width, dim=0)], dim=1)
            if features.device.type == "cpu" and not torch.jit.is_tracing():
                # Products round by how many rows they have: taken by itself, an image has the same bits in any batch.
                flat = torch.stack([self._in_operations(image, code) for image in features])
            else:
                flat = self._in_operations(features, code.expand(features.shape[0], -1, -1))
        return flat.view(-1, self.height, self.width)

    def _in_operations(self, x: Tensor, code: Tensor) -> Tensor:
        log_det = x.new_zeros(())
        for block in self._blocks():
            x, block_log_det = block(x, code)
            log_det = log_det + block_log_det
        return self._normal(x, log_det)

    def _blocks(self) -> list["CouplingBlock"]:
        return cast(list[CouplingBlock], list(self.module_list))

    def _normal(self, z: Tensor, log_det: Tensor) -> Tensor:
        # logp = -C/2 log(2 pi) - |z|^2 / 2 + log |det J|
        return (log_det - 0.5 * z.square().sum(-1)) / self.channels - HALF_LOG_TWO_PI


class CouplingBlock(nn.Module):
    """Affine coupling with soft clamping, then a global affine map and a fixed rotation (FrEIA 0.2, AllInOneBlock).

    u = [x1, x2 exp(s) + t] with s = clamp tanh(0.1 a_s), t = 0.1 a_t and (a_s, a_t) = subnet(x1, position);
    y = R (softplus-scale * u + offset). The log-determinant is sum(s) + sum(log scale).
    """

    def __init__(
        self,
        channels: int,
        position_channels: int,
        clamp: float,
        torch_rng: torch.Generator,
        frozen_rng: np.random.RandomState,
    ):
        super().__init__()
        self.clamp = clamp
        self.passive, self.active = channels - channels // 2, channels // 2  # x1 and x2
        inputs = self.passive + position_channels
        self.subnet = nn.Sequential(
            _linear(inputs, 2 * inputs, torch_rng), nn.ReLU(), _linear(2 * inputs, 2 * self.active, torch_rng)
        )
        # The value whose scale is 1, given scale = 0.1 softplus(global_scale) with softplus's beta 0.5.
        self.global_scale = nn.Parameter(torch.full((1, channels), 2 * math.log(math.exp(0.5 * 10) - 1)))
        self.global_offset = nn.Parameter(torch.zeros(1, channels))
        rotation = torch.from_numpy(random_rotation(channels, frozen_rng)).float()
        self.w_perm = nn.Parameter(rotation, requires_grad=False)
        self.w_perm_inv = nn.Parameter(rotation.T.contiguous(), requires_grad=False)

    def forward(self, x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` (..., C) and each vector's position code (..., P). Returns y (..., C) and the log-determinant (...)."""
        x1, x2 = x.split([self.passive, self.active], dim=-1)
        s, t = self._coefficients(x1, code)
        u = torch.cat([x1, torch.addcmul(t, x2, s.exp())], dim=-1)
        scale = self._scale()
        # R (scale * u + offset) in one product: R's columns carry the scale.
        y = linear(u, self.w_perm * scale, (self.w_perm @ self.global_offset.T).squeeze(1))
        return y, s.sum(-1) + scale.log().sum()

    def parameters_in_order(self) -> tuple[Tensor, ...]:
        """As coupling.PARAMETERS names them."""
        first, last = self._layers()
        return first.weight, first.bias, last.weight, last.bias, self.global_scale, self.global_offset, self.w_perm

    def inverse(self, y: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """The way back: x of y, and the log-determinant of the inverse."""
        scale = self._scale()
        u1, u2 = ((linear(y, self.w_perm_inv) - self.global_offset) / scale).split([self.passive, self.active], dim=-1)
        s, t = self._coefficients(u1, code)
        return torch.cat([u1, (u2 - t) * (-s).exp()], dim=-1), -s.sum(-1) - scale.log().sum()

    def _coefficients(self, x1: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        first, last = self._layers()
        hidden = linear(torch.cat([x1, code], dim=-1), first.weight, first.bias)
        a_s, a_t = (0.1 * linear(hidden.relu_(), last.weight, last.bias)).chunk(2, dim=-1)
        return self.clamp * torch.tanh(a_s), a_t

    def _layers(self) -> tuple[nn.Linear, nn.Linear]:
        first, _, last = self.subnet
        return cast(nn.Linear, first), cast(nn.Linear, last)

    def _scale(self) -> Tensor:
        return 0.1 * softplus(self.global_scale, beta=0.5)


def random_rotation(size: int, rng: np.random.RandomState) -> np.ndarray:
    """A rotation drawn uniformly (Haar) from SO(size), ``(size, size)`` float64 with determinant +1.

    The QR factors of a Gaussian matrix, made unique by a positive diagonal of R, are Haar on O(size) (Mezzadri 2007,
    section 5); flipping one column where the determinant is -1 gives SO(size). Our own draw, because scipy's changed
    between versions.
    """
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    q *= np.sign(np.diag(r))
    if np.linalg.slogdet(q)[0] < 0:
        q[:, 0] = -q[:, 0]
    return q


class _Undrawn(nn.Linear):
    """A Linear whose parameters are not drawn yet. (nn.utils.skip_init would load a second's worth of symbolic algebra.)"""

    def reset_parameters(self) -> None:
        pass


def _linear(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    """A Linear with torch's default initialization, drawn from ``rng`` and not from the global generator."""
    layer = _Undrawn(inputs, outputs)
    bound = 1 / math.sqrt(inputs)  # what kaiming_uniform with a = sqrt(5) comes to, for weight and bias
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=rng)
        layer.bias.uniform_(-bound, bound, generator=rng)
    return layer
