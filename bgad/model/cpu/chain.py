"""The flow's chain of AllInOneBlocks on a CPU as compiled code, chain.c.

In PyTorch a block moves its hidden layer, some 300 numbers per vector, to and from memory a dozen times. Compiled code takes a
few vectors at a time, which stay in the processor's cache. It uses the parameters of FrEIA's blocks. Values and gradients
equal those of FrEIA's own forward to 1e-5 (tests/test_chain.py).
"""

import ctypes
import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bgad.model.cpu.compiler import compiled

if TYPE_CHECKING:
    from FrEIA.modules import AllInOneBlock  # importing it takes 0.7 s, which `bgad doctor` can save

SOURCES = (Path(__file__).with_name("chain.c"), Path(__file__).with_name("products.h"))
# A block's parameters in chain.c's order; all but the rotation are trained.
PARAMETERS = ("first", "first_bias", "last", "last_bias", "global_scale", "global_offset", "rotation")
SMALLEST_SHARE = 256  # vectors per thread: fewer are not worth a thread


def available(x: Tensor) -> bool:
    """Whether compiled code can take ``x``: float32 on a CPU, with a compiler or a library built earlier.

    Not while PyTorch records operations for an export.
    """
    exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()
    return x.device.type == "cpu" and x.dtype == torch.float32 and not exporting and _library() is not None


def describe() -> str:
    """How flows run on a CPU, for a result's record: compiled or plain."""
    return "compiled" if _library() else "plain"


def through_blocks(
    x: Tensor, column: Tensor, row: Tensor, columns: Tensor, rows: Tensor, blocks: Iterable["AllInOneBlock"]
) -> tuple[Tensor, Tensor]:
    """z (N, C) and the log-determinant (N,) of ``x`` (N, C) at ``column`` and ``row``, (N,).

    ``columns`` (width, D) and ``rows`` (height, D) are the halves of the position code, together the blocks' condition.
    """
    blocks = list(blocks)
    parameters = [parameter for block in blocks for parameter in _parameters(block)]
    return _Chain.apply(x, column.int(), row.int(), columns, rows, blocks[0].clamp, *parameters)


def _parameters(block: "AllInOneBlock") -> tuple[Tensor, ...]:
    """As PARAMETERS names them: (H, P + 2 D), (H), (O, H), (O), (1, C), (1, C) and (C, C)."""
    first, _, last = block.subnet
    return first.weight, first.bias, last.weight, last.bias, block.global_scale, block.global_offset, block.w_perm


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, column, row, columns, rows, clamp, *parameters):
        tensors = [tensor.contiguous() for tensor in (x, column, row, columns, rows, *parameters)]
        x, column, row, columns, rows, *of_blocks = tensors
        flow, blocks = _flow(x, columns, rows, of_blocks, clamp)
        library = _library()
        assert library is not None  # see available()
        z, log_det, kept = torch.empty_like(x), x.new_empty(len(x)), []
        if any(ctx.needs_input_grad):
            kept = [x.new_empty(flow.blocks, len(x), size) for size in (x.shape[1], flow.active, flow.active)]
            z = kept[0][-1]
        pointers = _pointers(x, column, row, z, log_det, *(kept or [None] * 3))

        def forward(start: int, count: int, _: int) -> int:
            return library.bgad_chain_forward(flow, blocks, len(x), start, count, *pointers)

        _in_threads(forward, _shares(len(x)))
        ctx.save_for_backward(*tensors, *kept)
        ctx.clamp = clamp
        return z, log_det

    @staticmethod
    def backward(ctx, d_z, d_log_det):
        x, column, row, columns, rows, *parameters = ctx.saved_tensors[:-3]
        flow, blocks = _flow(x, columns, rows, parameters, ctx.clamp)
        library = _library()
        assert library is not None
        d_x, d_log_det = d_z.clone(memory_format=torch.contiguous_format), d_log_det.contiguous()
        pointers = _pointers(x, column, row, *ctx.saved_tensors[-3:], d_x, d_log_det)
        want_x = ctx.needs_input_grad[0]

        sizes = [0 if name == "rotation" else p.numel() for name, p in zip(PARAMETERS * flow.blocks, parameters, strict=True)]
        shares = _shares(len(x))
        sums = torch.empty(len(shares), sum(sizes))

        def backward(start: int, count: int, share: int) -> int:
            gradients = _blocks(sums[share].split(sizes))
            return library.bgad_chain_backward(flow, blocks, len(x), start, count, *pointers, want_x, gradients)

        _in_threads(backward, shares)
        parts = (sums[0] if len(sums) == 1 else sums.sum(0)).split(sizes)
        gradients = [part.view_as(p) if len(part) else None for part, p in zip(parts, parameters, strict=True)]
        return d_x if want_x else None, None, None, None, None, None, *gradients


def _shares(count: int) -> list[tuple[int, int]]:
    """Each thread's share of ``count`` vectors: its start and its size."""
    threads = max(1, min(torch.get_num_threads(), count // SMALLEST_SHARE))
    share = -(-count // threads)
    return [(start, min(share, count - start)) for start in range(0, count, share)]


def _in_threads(function: Callable[[int, int, int], int], shares: list[tuple[int, int]]) -> None:
    """Calls ``function(start, size, number of the share)`` for all shares at once; it returns nonzero if memory runs out."""
    arguments = (*zip(*shares, strict=True), range(len(shares)))
    # Python releases its lock while compiled code runs.
    if any(_pool().map(function, *arguments) if len(shares) > 1 else map(function, *arguments)):
        raise MemoryError("out of memory in the compiled flow")


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="flow")


def _flow(x: Tensor, columns: Tensor, rows: Tensor, parameters: list[Tensor], clamp: float):
    outputs, hidden = parameters[PARAMETERS.index("last")].shape
    code, active = columns.shape[1], outputs // 2
    shape = (len(parameters) // len(PARAMETERS), x.shape[1] - active, active, hidden, code, len(columns), len(rows))
    return _Flow(*shape, *_pointers(columns, rows), clamp), _blocks(parameters)


def _blocks(tensors):
    size = len(PARAMETERS)
    blocks = [_Block(*_pointers(*tensors[start : start + size])) for start in range(0, len(tensors), size)]
    return (_Block * len(blocks))(*blocks)


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


class _Flow(ctypes.Structure):
    """chain.c's Flow."""

    _fields_ = (
        [(name, c_int64) for name in ("blocks", "passive", "active", "hidden", "code", "width", "height")]
        + [(name, c_void_p) for name in ("columns", "rows")]
        + [("clamp", c_float)]
    )


class _Block(ctypes.Structure):
    """chain.c's Block."""

    _fields_ = [(name, c_void_p) for name in PARAMETERS]


@functools.cache
def _library() -> ctypes.CDLL | None:
    library = compiled(*SOURCES)
    if library:
        shares = (POINTER(_Flow), POINTER(_Block), c_int64, c_int64, c_int64)
        library.bgad_chain_forward.argtypes = [*shares, *[c_void_p] * 8]
        library.bgad_chain_backward.argtypes = [*shares, *[c_void_p] * 8, c_int, POINTER(_Block)]
        library.bgad_chain_forward.restype = library.bgad_chain_backward.restype = c_int
    return library
