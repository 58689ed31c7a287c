"""The chain of AllInOneBlocks as two Triton kernels: a program takes a tile of vectors through all blocks, forward or back.

A vector x = [x1, x2] has P passive and A active channels, C = P + A; a subnet has H hidden numbers. Per block, with the
position's and the bias's part of the hidden layer from two tables:

    h = relu(W x1 + by_column[column] + by_row[row])        (H)
    (a_s, a_t) = 0.1 (V h + v)                              (A, A)
    s = clamp tanh(a_s);  u = [x1, x2 exp(s) + a_t]
    y = R (scale u) + shift                                 (C)

No program adds to what another wrote, so the same input gives the same bits. backward stores the factors of the weights'
gradients; chain.py multiplies them. A program has TILE vectors and computes CHUNK hidden numbers at a time. PP and AP are P
and A rounded up to powers of two.
"""

import triton
import triton.language as tl


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _matrix(start, row, column, stride, rows, columns):
    """The entries (row, column) of a matrix with ``stride`` numbers a row; 0 beyond its ``rows`` and ``columns``."""
    inside = (row < rows) & (column < columns)
    return tl.load(start + row * stride + column, mask=inside, other=0.0)


@triton.jit
def forward(
    x, column, row, weight, by_column, by_row, last, last_bias, scale, shift, rotation,  # read
    z, log_det, kept_x, kept_s, kept_t,  # written: (N, C), (N,), (blocks, N, C), (blocks, N, A), (blocks, N, A)
    vectors, blocks, width, height, clamp,
    P: tl.constexpr, A: tl.constexpr, H: tl.constexpr, INPUTS: tl.constexpr,
    PP: tl.constexpr, AP: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr, KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """z and the sum over blocks of s of ``vectors`` vectors. KEEP also stores each block's input, s and t for `backward`."""
    C: tl.constexpr = P + A
    n = (tl.program_id(0) * TILE + tl.arange(0, TILE))[:, None]
    p, a, hidden = tl.arange(0, PP)[None, :], tl.arange(0, AP)[None, :], tl.arange(0, CHUNK)[None, :]
    x1, x2 = _matrix(x, n, p, C, vectors, P), _matrix(x + P, n, a, C, vectors, A)
    of_column = tl.load(column + n, mask=n < vectors, other=0)
    of_row = tl.load(row + n, mask=n < vectors, other=0)
    sum_of_s = tl.zeros([TILE], tl.float32)

    for block in range(blocks):
        if KEEP:
            tl.store(kept_x + (block * vectors + n) * C + p, x1, mask=(n < vectors) & (p < P))
            tl.store(kept_x + (block * vectors + n) * C + P + a, x2, mask=(n < vectors) & (a < A))
        a_s = tl.zeros([TILE, AP], tl.float32) + _matrix(last_bias + block * 2 * A, 0, a, 0, 1, A)
        a_t = tl.zeros([TILE, AP], tl.float32) + _matrix(last_bias + block * 2 * A + A, 0, a, 0, 1, A)
        for start in range(0, H, CHUNK):
            h = start + hidden
            first = _matrix(weight + block * H * INPUTS, tl.trans(h), p, INPUTS, H, P)
            at_position = _matrix(by_column + block * width * H, of_column, h, H, width, H)
            at_position += _matrix(by_row + block * height * H, of_row, h, H, height, H)
            activated = tl.maximum(tl.dot(x1, tl.trans(first), acc=at_position, input_precision=PRECISION), 0)
            for_s = _matrix(last + block * 2 * A * H, tl.trans(a), h, H, A, H)
            for_t = _matrix(last + (block * 2 + 1) * A * H, tl.trans(a), h, H, A, H)
            a_s = tl.dot(activated, tl.trans(for_s), acc=a_s, input_precision=PRECISION)
            a_t = tl.dot(activated, tl.trans(for_t), acc=a_t, input_precision=PRECISION)
        s, t = clamp * _tanh(0.1 * a_s), 0.1 * a_t
        if KEEP:
            tl.store(kept_s + (block * vectors + n) * A + a, s, mask=(n < vectors) & (a < A))
            tl.store(kept_t + (block * vectors + n) * A + a, t, mask=(n < vectors) & (a < A))
        sum_of_s += tl.sum(s, 1)

        v1 = x1 * _matrix(scale + block * C, 0, p, 0, 1, P)
        v2 = (x2 * tl.exp(s) + t) * _matrix(scale + block * C + P, 0, a, 0, 1, A)
        of_block = rotation + block * C * C
        x1 = tl.dot(v1, tl.trans(_matrix(of_block, tl.trans(p), p, C, P, P)), input_precision=PRECISION)
        x1 = tl.dot(v2, tl.trans(_matrix(of_block + P, tl.trans(p), a, C, P, A)), acc=x1, input_precision=PRECISION)
        x2 = tl.dot(v1, tl.trans(_matrix(of_block + P * C, tl.trans(a), p, C, A, P)), input_precision=PRECISION)
        x2 = tl.dot(v2, tl.trans(_matrix(of_block + P * C + P, tl.trans(a), a, C, A, A)), acc=x2, input_precision=PRECISION)
        x1 += _matrix(shift + block * C, 0, p, 0, 1, P)
        x2 += _matrix(shift + block * C + P, 0, a, 0, 1, A)

    tl.store(z + n * C + p, x1, mask=(n < vectors) & (p < P))
    tl.store(z + n * C + P + a, x2, mask=(n < vectors) & (a < A))
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(log_det + n, sum_of_s, mask=n < vectors)


@triton.jit
def backward(
    d_z, d_log_det, column, row, weight, by_column, by_row, last, scale, rotation, kept_x, kept_s, kept_t,  # read
    d_x, activated, d_hidden, d_out, d_scale, d_shift,  # written: (N, C), (blocks, N, H) twice, (blocks, N, 2 A), sums a tile
    vectors, blocks, width, height, clamp,
    P: tl.constexpr, A: tl.constexpr, H: tl.constexpr, INPUTS: tl.constexpr,
    PP: tl.constexpr, AP: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of x, and per block: h, the gradients of the hidden layer before its relu and of the subnet's outputs, and
    each tile's sums of the gradients of scale and shift, (tiles, blocks, C).
    """
    C: tl.constexpr = P + A
    tile = tl.program_id(0)
    n = (tile * TILE + tl.arange(0, TILE))[:, None]
    p, a, hidden = tl.arange(0, PP)[None, :], tl.arange(0, AP)[None, :], tl.arange(0, CHUNK)[None, :]
    d1, d2 = _matrix(d_z, n, p, C, vectors, P), _matrix(d_z + P, n, a, C, vectors, A)
    of_log_det = tl.load(d_log_det + n, mask=n < vectors, other=0.0)
    of_column = tl.load(column + n, mask=n < vectors, other=0)
    of_row = tl.load(row + n, mask=n < vectors, other=0)

    for back in range(blocks):
        block = blocks - 1 - back
        x1 = _matrix(kept_x + block * vectors * C, n, p, C, vectors, P)
        x2 = _matrix(kept_x + block * vectors * C + P, n, a, C, vectors, A)
        s = _matrix(kept_s + block * vectors * A, n, a, A, vectors, A)
        t = _matrix(kept_t + block * vectors * A, n, a, A, vectors, A)
        exp_s = tl.exp(s)

        sums = (tile * blocks + block) * C
        tl.store(d_shift + sums + tl.arange(0, PP), tl.sum(d1, 0), mask=tl.arange(0, PP) < P)
        tl.store(d_shift + sums + P + tl.arange(0, AP), tl.sum(d2, 0), mask=tl.arange(0, AP) < A)
        of_block = rotation + block * C * C
        v1 = tl.dot(d1, _matrix(of_block, tl.trans(p), p, C, P, P), input_precision=PRECISION)
        v1 = tl.dot(d2, _matrix(of_block + P * C, tl.trans(a), p, C, A, P), acc=v1, input_precision=PRECISION)
        v2 = tl.dot(d1, _matrix(of_block + P, tl.trans(p), a, C, P, A), input_precision=PRECISION)
        v2 = tl.dot(d2, _matrix(of_block + P * C + P, tl.trans(a), a, C, A, A), acc=v2, input_precision=PRECISION)
        tl.store(d_scale + sums + tl.arange(0, PP), tl.sum(v1 * x1, 0), mask=tl.arange(0, PP) < P)
        of_active = tl.sum(v2 * (x2 * exp_s + t), 0)
        tl.store(d_scale + sums + P + tl.arange(0, AP), of_active, mask=tl.arange(0, AP) < A)

        d1 = v1 * _matrix(scale + block * C, 0, p, 0, 1, P)
        d_t = v2 * _matrix(scale + block * C + P, 0, a, 0, 1, A)
        d2 = d_t * exp_s
        tanh = s / clamp
        d_s = (d_t * x2 * exp_s + of_log_det) * clamp * (1 - tanh * tanh)
        d_s = tl.where(a < A, 0.1 * d_s, 0.0)
        d_t = 0.1 * d_t
        outputs = d_out + (block * vectors + n) * 2 * A + a
        tl.store(outputs, d_s, mask=(n < vectors) & (a < A))
        tl.store(outputs + A, d_t, mask=(n < vectors) & (a < A))

        for start in range(0, H, CHUNK):
            h = start + hidden
            first = _matrix(weight + block * H * INPUTS, tl.trans(h), p, INPUTS, H, P)
            at_position = _matrix(by_column + block * width * H, of_column, h, H, width, H)
            at_position += _matrix(by_row + block * height * H, of_row, h, H, height, H)
            layer = tl.dot(x1, tl.trans(first), acc=at_position, input_precision=PRECISION)
            for_s = _matrix(last + block * 2 * A * H, tl.trans(a), h, H, A, H)
            for_t = _matrix(last + (block * 2 + 1) * A * H, tl.trans(a), h, H, A, H)
            d_layer = tl.dot(d_s, for_s, input_precision=PRECISION)
            d_layer = tl.where(layer > 0, tl.dot(d_t, for_t, acc=d_layer, input_precision=PRECISION), 0.0)
            places = (block * vectors + n) * H + h
            tl.store(activated + places, tl.maximum(layer, 0), mask=(n < vectors) & (h < H))
            tl.store(d_hidden + places, d_layer, mask=(n < vectors) & (h < H))
            d1 = tl.dot(d_layer, first, acc=d1, input_precision=PRECISION)

    tl.store(d_x + n * C + p, d1, mask=(n < vectors) & (p < P))
    tl.store(d_x + n * C + P + a, d2, mask=(n < vectors) & (a < A))
