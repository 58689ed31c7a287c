"""The position code that conditions each flow on where a feature vector sits in the map (as in CFLOW)."""

import math

import torch


def sincos_2d(dim: int, height: int, width: int) -> torch.Tensor:
    """The 2-D sine/cosine code of every position, ``(dim, height, width)`` float32 in -1..1.

    The first ``dim / 2`` channels depend only on the column, the others only on the row. In both halves even channels are sines
    and odd channels cosines, at frequencies ``exp(-log(1e4) i / (dim / 2))`` for i = 0, 2, ... (docs/protocol.md, Model).
    ValueError unless ``dim`` is a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"the position code needs a multiple of 4 channels, not {dim}")
    columns, rows = sincos_1d(dim // 2, width), sincos_1d(dim // 2, height)
    return torch.cat(
        [
            columns.T[:, None, :].expand(-1, height, -1),
            rows.T[:, :, None].expand(-1, -1, width),
        ]
    )


def sincos_1d(dim: int, length: int) -> torch.Tensor:
    """The code along one axis, ``(length, dim)`` float32 in -1..1."""
    frequencies = torch.exp(torch.arange(0, dim, 2) * (-math.log(1e4) / dim))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(length, dim)
