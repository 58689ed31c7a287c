"""The conditional normalizing flow of one feature level: FrEIA 0.2's AllInOneBlocks, conditioned on the position code.

FrEIA's own forward is the reference. Faster versions use the same parameters: compiled code on a CPU (cpu/chain.py), and on
a GPU fewer operations (gpu/blocks.py) or, if $BGAD_TRITON is set, Triton kernels (gpu/chain.py). $BGAD_PLAIN switches all off.
"""

import math

import numpy as np
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from torch import Tensor, nn

from bgad.model.cpu import chain as cpu_chain
from bgad.model.gpu import blocks as gpu_blocks
from bgad.model.gpu import chain as gpu_chain
from bgad.model.position import sincos_1d

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class ConditionalFlow(SequenceINN):
    """p(x | position) for feature vectors x of one level (docs/protocol.md, Model).

    ``channels`` C of a vector, ``height`` and ``width`` of the feature map, ``position_channels`` P of the position code, a
    multiple of 4. Weights are drawn from ``torch_rng`` and soft permutations from ``frozen_rng``: one seed gives one network.
    """

    columns: Tensor  # (width, P / 2)
    rows: Tensor  # (height, P / 2)

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
        super().__init__(channels)
        self.channels, self.height, self.width = channels, height, width
        for _ in range(blocks):
            self._append_block(position_channels, clamp, torch_rng, frozen_rng)
        self.register_buffer("columns", sincos_1d(position_channels // 2, width), persistent=False)
        self.register_buffer("rows", sincos_1d(position_channels // 2, height), persistent=False)

    def log_likelihood(self, features: Tensor, position: Tensor) -> Tensor:
        """l = logp / C of single vectors: ``features`` (N, C) at ``position`` (N,), row * width + column. Returns (N,)."""
        row, column = position // self.width, position % self.width
        if cpu_chain.available(features):
            z, log_det = cpu_chain.through_blocks(features, column, row, self.columns, self.rows, self.module_list)
        elif gpu_chain.available(features):
            z, log_det = gpu_chain.through_blocks(features, column, row, self.columns, self.rows, self.module_list)
        else:
            code = torch.cat([self.columns[column], self.rows[row]], dim=1)
            if gpu_blocks.available(features.device):
                z, log_det = gpu_blocks.through_blocks(features, code, self.module_list)
            else:
                z, log_det = self(features, [code])
        # logp = -C/2 log(2 pi) - |z|^2 / 2 + log |det J|
        return (log_det - 0.5 * z.square().sum(1)) / self.channels - HALF_LOG_TWO_PI

    def log_likelihood_maps(self, features: Tensor) -> Tensor:
        """l of complete maps: ``features`` (N, height * width, C), row by row. Returns (N, height, width)."""
        position = torch.arange(self.height * self.width, device=features.device)
        exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()
        if features.device.type == "cpu" and not exporting and not cpu_chain.available(features):
            # A product's rounding depends on its number of rows. One image at a time has the same bits in any batch.
            flat = torch.stack([self.log_likelihood(image, position) for image in features])
        else:
            flat = self.log_likelihood(features.flatten(0, 1), position.repeat(features.shape[0]))
        return flat.view(-1, self.height, self.width)

    def _append_block(
        self, position_channels: int, clamp: float, torch_rng: torch.Generator, frozen_rng: np.random.RandomState
    ) -> None:
        """Appends BGAD's block: FrEIA's with a soft permutation, but weights and rotation drawn from the given generators."""

        def subnet(inputs: int, outputs: int) -> nn.Sequential:
            hidden = 2 * inputs
            return nn.Sequential(_linear(inputs, hidden, torch_rng), nn.ReLU(), _linear(hidden, outputs, torch_rng))

        numpys_own = np.random.get_state()  # FrEIA draws a permutation from the global generator
        self.append(
            AllInOneBlock,
            cond=0,
            cond_shape=(position_channels,),
            subnet_constructor=subnet,
            affine_clamping=clamp,
            global_affine_type="SOFTPLUS",
            permute_soft=False,  # only decides what FrEIA draws; our rotation replaces it
        )
        np.random.set_state(numpys_own)
        rotation = torch.from_numpy(random_rotation(self.channels, frozen_rng)).float()
        self.module_list[-1].w_perm.data = rotation
        self.module_list[-1].w_perm_inv.data = rotation.T.contiguous()


def describe(device: torch.device) -> str:
    """How flows run on ``device``, for a result's record: compiled (CPU), fused or triton (GPU), or plain (FrEIA's own).

    With triton, levels too wide for the kernels are fused.
    """
    if device.type == "cpu":
        return cpu_chain.describe()
    if gpu_chain.switched_on(device):
        return "triton"
    return "fused" if gpu_blocks.available(device) else "plain"


def random_rotation(size: int, rng: np.random.RandomState) -> np.ndarray:
    """A rotation drawn uniformly (Haar) from SO(size), ``(size, size)`` float64 with determinant +1.

    The QR factors of a Gaussian matrix, made unique by a positive diagonal of R, are Haar on O(size) (Mezzadri 2007,
    section 5); flipping one column where the determinant is -1 gives SO(size). FrEIA draws with scipy, whose draw changed
    between versions.
    """
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    q *= np.sign(np.diag(r))
    if np.linalg.slogdet(q)[0] < 0:
        q[:, 0] = -q[:, 0]
    return q


class _Undrawn(nn.Linear):
    """A Linear whose parameters are not drawn yet. (nn.utils.skip_init imports sympy, which takes a second.)"""

    def reset_parameters(self) -> None:
        pass


def _linear(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    """A Linear with PyTorch's default initialization, drawn from ``rng`` instead of the global generator."""
    layer = _Undrawn(inputs, outputs)
    bound = 1 / math.sqrt(inputs)  # kaiming_uniform with a = sqrt(5), for weight and bias
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=rng)
        layer.bias.uniform_(-bound, bound, generator=rng)
    return layer
