/* The arithmetic of chain.c: a tile of vectors times a matrix, a weight's gradient, e^x and tanh x.

   Sums stay in ROWS x WIDE registers, which reuses every number read. This sets the layout: matrices are stored in panels as wide
   as the registers, and tiles have TILE rows padded to full panels. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define WIDE 3   /* registers in a row: a panel of columns */
#define ROWS 4   /* rows at a time */
#define TILE 64  /* vectors at a time; a multiple of ROWS */
#define COLUMNS (WIDE * LANES)
#define INLINE static inline __attribute__((always_inline))
#define EACH(i, end) for (int64_t i = 0; i < (end); i++)

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* A matrix is stored in panels of COLUMNS columns, row by row, padded with zeros. Rows of a tile have the same padding. */
static int64_t round_up(int64_t size, int64_t to) { return (size + to - 1) / to * to; }
static int64_t wide(int64_t columns) { return round_up(columns, COLUMNS); }

/* to (rows, columns), in panels, = factor * from, which has the given strides. */
static void pack(float *to, const float *from, int64_t rows, int64_t columns, int64_t row_stride, int64_t stride, float factor) {
    for (int64_t start = 0; start < columns; start += COLUMNS)
        EACH(row, rows) EACH(c, COLUMNS)
            *to++ = start + c < columns ? factor * from[row * row_stride + (start + c) * stride] : 0;
}

/* to (rows, columns), with the given strides, = factor * from, in panels of panel_rows. */
static void unpack(float *to, const float *from, int64_t panel_rows, int64_t rows, int64_t columns, int64_t row_stride,
                   int64_t stride, float factor) {
    for (int64_t start = 0; start < columns; start += COLUMNS, from += panel_rows * COLUMNS)
        EACH(row, rows) EACH(c, COLUMNS)
            if (start + c < columns) to[row * row_stride + (start + c) * stride] = factor * from[row * COLUMNS + c];
}

/* Forces a value into a register for ROWS products; otherwise the compiler reads it from memory for each. */
INLINE lanes loaded(const float *from) {
    lanes value = *(const lanes *)from;
#if defined(__x86_64__)
    __asm__("" : "+v"(value));
#endif
    return value;
}

INLINE void add_product_panel(int registers, float *out, int64_t out_stride, const float *x, int64_t stride, const float *w,
                              int64_t inner) {
    for (int64_t i = 0; i < TILE; i += ROWS, x += ROWS * stride, out += ROWS * out_stride) {
        lanes sums[ROWS][WIDE];
        EACH(r, ROWS) EACH(v, registers) sums[r][v] = ((const lanes *)(out + r * out_stride))[v];
        EACH(k, inner) {
            lanes row[WIDE];
            EACH(v, registers) row[v] = loaded(w + k * COLUMNS + v * LANES);
            EACH(r, ROWS) EACH(v, registers) sums[r][v] += x[r * stride + k] * row[v];
        }
        EACH(r, ROWS) EACH(v, registers) ((lanes *)(out + r * out_stride))[v] = sums[r][v];
    }
}

/* out (TILE, columns) += x (TILE, inner) w, where w (inner, columns) is in panels. */
static void add_product(float *out, int64_t out_stride, const float *x, int64_t stride, const float *w, int64_t inner,
                        int64_t columns) {
    for (; columns > 0; columns -= COLUMNS, out += COLUMNS, w += inner * COLUMNS) {
        if (columns > 2 * LANES) add_product_panel(3, out, out_stride, x, stride, w, inner);
        else if (columns > LANES) add_product_panel(2, out, out_stride, x, stride, w, inner);
        else add_product_panel(1, out, out_stride, x, stride, w, inner);
    }
}

INLINE void add_outer_product_panel(int registers, float *sum, const float *a, int64_t a_stride, int64_t rows, const float *b,
                                    int64_t b_stride) {
    for (int64_t k = 0; k < rows; k += ROWS) {
        lanes sums[ROWS][WIDE];
        EACH(r, ROWS) EACH(v, registers) sums[r][v] = ((const lanes *)(sum + (k + r) * COLUMNS))[v];
        EACH(i, TILE) {
            lanes row[WIDE];
            EACH(v, registers) row[v] = loaded(b + i * b_stride + v * LANES);
            EACH(r, ROWS) EACH(v, registers) sums[r][v] += a[i * a_stride + k + r] * row[v];
        }
        EACH(r, ROWS) EACH(v, registers) ((lanes *)(sum + (k + r) * COLUMNS))[v] = sums[r][v];
    }
}

/* sum (rows, columns), in panels, += a (TILE, rows)^T b (TILE, columns); rows is a multiple of ROWS. */
static void add_outer_product(float *sum, const float *a, int64_t a_stride, int64_t rows, const float *b, int64_t b_stride,
                              int64_t columns) {
    for (; columns > 0; columns -= COLUMNS, b += COLUMNS, sum += rows * COLUMNS) {
        if (columns > 2 * LANES) add_outer_product_panel(3, sum, a, a_stride, rows, b, b_stride);
        else if (columns > LANES) add_outer_product_panel(2, sum, a, a_stride, rows, b, b_stride);
        else add_outer_product_panel(1, sum, a, a_stride, rows, b, b_stride);
    }
}

/* e^x to float's precision, in operations that vectorize (Cephes' expf). */
INLINE float exponential(float x) {
    x = x < -87 ? -87 : x > 88 ? 88 : x;  /* NaN stays NaN */
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r +
               1.6666665459e-1f) * r + 5.0000001201e-1f;
    union { int32_t bits; float power; } two = {.bits = ((int32_t)n + 127) << 23};
    return (p * r * r + r + 1) * two.power;
}

INLINE float hyperbolic_tangent(float x) { return 1 - 2 / (exponential(2 * x) + 1); }
