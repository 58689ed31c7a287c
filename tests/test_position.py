"""The position code against its definition, one value at a time, and against values worked by hand."""

import math

import pytest
import torch

from bgad.model.position import sincos_1d, sincos_2d


def slow_code(dim, height, width):
    """As docs/protocol.md says, in double precision: column in the first half, row in the last; sin at even, cos at odd."""
    code = torch.zeros(dim, height, width, dtype=torch.float64)
    half = dim // 2
    for channel in range(dim):
        within = channel % half
        frequency = math.exp(-math.log(1e4) * (within - within % 2) / half)
        for row in range(height):
            for column in range(width):
                place = column if channel < half else row
                wave = math.sin if within % 2 == 0 else math.cos
                code[channel, row, column] = wave(place * frequency)
    return code


@pytest.mark.parametrize(("dim", "height", "width"), [(128, 5, 9), (8, 16, 3), (4, 2, 64)])
def test_equals_the_slow_version(dim, height, width):
    code = sincos_2d(dim, height, width)
    assert code.shape == (dim, height, width)
    assert code.dtype == torch.float32
    # Single precision: an angle of 63 has an error of about 4e-6.
    torch.testing.assert_close(code.double(), slow_code(dim, height, width), rtol=0, atol=1e-5)


def test_worked_value():
    # 8 channels, 4 in a half, at frequencies 1 and exp(-log(1e4) * 2 / 4) = 0.01. At row 1, column 2:
    expected = [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]
    expected += [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]
    torch.testing.assert_close(sincos_2d(8, 3, 4)[:, 1, 2], torch.tensor(expected))


def test_the_first_half_is_the_columns_code_and_the_last_the_rows():
    code = sincos_2d(128, 6, 7)
    assert torch.equal(code[:64], code[:64, :1].expand(-1, 6, -1))
    assert torch.equal(code[64:], code[64:, :, :1].expand(-1, -1, 7))
    # ... and both tell their positions apart.
    assert len(torch.unique(code[:64, 0].T, dim=0)) == 7
    assert len(torch.unique(code[64:, :, 0].T, dim=0)) == 6


def test_one_axis_is_a_half_of_the_code():
    code = sincos_2d(16, 5, 7)
    assert torch.equal(sincos_1d(8, 7).T, code[:8, 0])
    assert torch.equal(sincos_1d(8, 5).T, code[8:, :, 0])


@pytest.mark.parametrize("dim", [2, 6, 127])
def test_dim_must_be_a_multiple_of_4(dim):
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(dim, 4, 4)
