"""The flow's chain of AllInOneBlocks on a GPU, as the two Triton kernels of kernels.py and a few products.

The parameters of FrEIA's blocks are stacked, so a product serves all blocks. In Triton's interpreter, values and gradients
equal those of FrEIA's own forward to 1e-5 (tests/test_gpu_chain.py).

The kernels compile for NVIDIA's cards but have not run on one, so they are off unless $BGAD_TRITON is set (docs/speed.md).
"""

import functools
import os
from collections.abc import Iterable
from importlib.util import find_spec
from types import ModuleType

import torch
from FrEIA.modules import AllInOneBlock
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

TILE, CHUNK = 16, 16  # vectors of a program, and hidden numbers that it computes at a time
WARPS = 4
# Three TensorFloat-32 products for one in single precision. "ieee" takes more registers than there are at 36 active channels.
PRECISION = "tf32x3"
WIDEST = 128  # channels; a program keeps its vectors and a block's rotation in registers


def switched_on(device: torch.device) -> bool:
    """Whether flows on ``device`` use this version: on a CUDA GPU with $BGAD_TRITON set and Triton installed."""
    wanted = os.environ.get("BGAD_TRITON") and not os.environ.get("BGAD_PLAIN")
    return device.type == "cuda" and bool(wanted) and find_spec("triton") is not None


def available(x: Tensor) -> bool:
    """Whether the kernels take ``x`` (N, C): switched on, single precision and not too wide."""
    return switched_on(x.device) and x.dtype == torch.float32 and x.shape[1] <= WIDEST


def through_blocks(
    x: Tensor, column: Tensor, row: Tensor, columns: Tensor, rows: Tensor, blocks: Iterable[AllInOneBlock]
) -> tuple[Tensor, Tensor]:
    """z (N, C) and the log-determinant (N,) of ``x`` (N, C) at ``column`` and ``row``, (N,).

    ``columns`` (width, D) and ``rows`` (height, D) are the halves of the position code, together the blocks' condition.
    """
    blocks = list(blocks)
    layers = [block.subnet for block in blocks]
    first, last = torch.stack([first.weight for first, _, _ in layers]), torch.stack([last.weight for *_, last in layers])
    first_bias, last_bias = torch.stack([first.bias for first, _, _ in layers]), torch.stack([last.bias for *_, last in layers])
    scale = 0.1 * softplus(torch.cat([block.global_scale for block in blocks]), beta=0.5)
    rotation = torch.stack([block.w_perm for block in blocks])
    shift = (rotation @ torch.cat([block.global_offset for block in blocks])[:, :, None]).squeeze(2)
    stacked = first, first_bias, last, last_bias, scale, shift, rotation
    z, sum_of_s = _Chain.apply(x, column.int(), row.int(), columns, rows, blocks[0].clamp, *stacked)
    return z, sum_of_s + scale.log().sum()


class _Chain(torch.autograd.Function):
    """``first`` (B, H, P + 2 D), ``first_bias`` (B, H), ``last`` (B, 2 A, H), ``last_bias`` (B, 2 A), ``scale`` and ``shift``
    (B, C), ``rotation`` (B, C, C), for B blocks."""

    @staticmethod
    def forward(ctx, x, column, row, columns, rows, clamp, first, first_bias, last, last_bias, scale, shift, rotation):
        x, passive, code = x.contiguous(), x.shape[1] - last.shape[1] // 2, columns.shape[1]
        by_column = torch.baddbmm(first_bias[:, None], columns.expand(len(first), -1, -1), first[:, :, passive:-code].mT)
        by_row = torch.matmul(rows, first[:, :, -code:].mT)
        tensors = column, row, first, by_column, by_row, last, scale, rotation
        z, log_det, keep = torch.empty_like(x), x.new_empty(len(x)), any(ctx.needs_input_grad)
        kept = [x.new_empty(len(first), len(x), size) if keep else z for size in (x.shape[1], *2 * [x.shape[1] - passive])]
        read = x, column, row, first, by_column, by_row, last, last_bias, scale, shift, rotation
        sizes, of_flow = (len(x), len(first), len(columns), len(rows)), shape(passive, x.shape[1] - passive, *first.shape[1:])
        with torch.cuda.device_of(x):  # Triton launches on the current device
            _kernels().forward[_grid(x)](*read, z, log_det, *kept, *sizes, clamp, **of_flow, KEEP=keep, num_warps=WARPS)
        ctx.save_for_backward(columns, rows, *tensors, *kept)
        ctx.clamp = clamp
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx, d_z, d_log_det):
        columns, rows, column, row, first, by_column, by_row, last, scale, rotation, *kept = ctx.saved_tensors
        passive = d_z.shape[1] - last.shape[1] // 2
        d_x, tiles = torch.empty_like(d_z, memory_format=torch.contiguous_format), _grid(d_z)[0]
        blocks, vectors = len(first), len(d_z)
        hidden, d_hidden = d_z.new_empty(2, blocks, vectors, first.shape[1])
        d_out, sums = d_z.new_empty(blocks, vectors, last.shape[1]), d_z.new_empty(2, tiles, *scale.shape)
        read = d_z.contiguous(), d_log_det.contiguous(), column, row, first, by_column, by_row, last, scale, rotation, *kept
        sizes = vectors, blocks, len(columns), len(rows)
        of_flow = shape(passive, d_z.shape[1] - passive, *first.shape[1:])
        written = d_x, hidden, d_hidden, d_out, *sums
        with torch.cuda.device_of(d_z):
            _kernels().backward[(tiles,)](*read, *written, *sizes, ctx.clamp, **of_flow, num_warps=WARPS)

        code = torch.cat([columns[column], rows[row]], dim=1)
        from_x, from_code = d_hidden.mT @ kept[0][:, :, :passive], d_hidden.mT @ code
        d_scale, d_shift = sums.sum(1)
        of_first = torch.cat([from_x, from_code], dim=2), d_hidden.sum(1)
        return d_x, None, None, None, None, None, *of_first, d_out.mT @ hidden, d_out.sum(1), d_scale, d_shift, None


def shape(passive: int, active: int, hidden: int, inputs: int) -> dict[str, int | str]:
    """What the kernels are compiled for."""
    padded = {"PP": _padded(passive), "AP": _padded(active)}
    sizes = {"P": passive, "A": active, "H": hidden, "INPUTS": inputs, **padded}
    return {**sizes, "TILE": TILE, "CHUNK": CHUNK, "PRECISION": PRECISION}


def _grid(x: Tensor) -> tuple[int]:
    return (-(-len(x) // TILE),)


def _padded(size: int) -> int:
    """The next power of two, at least 16: what Triton multiplies."""
    return max(16, 1 << (size - 1).bit_length())


@functools.cache
def _kernels() -> ModuleType:
    from bgad.model.gpu import kernels  # Triton takes a second to import, and is not on every machine

    return kernels
