/* The flow of bgad/model/flow.py on a CPU: its chain of FrEIA blocks, forward and backward. Built and called by chain.py.

   Each block processes all vectors, a tile at a time, so its weights and the tile's hidden layer stay in the processor's cache.
   Shapes: C channels = P passive + A active, H hidden, O = 2 A outputs of the subnet, D = half a code, N vectors in total. */

#include "products.h"

/* A block's parameters, or their gradients: the subnet's layers (H, P + 2 D), (H), (O, H), (O), and (C), (C), (C, C). */
typedef struct {
    float *first, *first_bias, *last, *last_bias, *global_scale, *global_offset, *rotation;
} Block;

/* A position's code is columns[column] followed by rows[row], D numbers each. */
typedef struct {
    int64_t blocks, passive, active, hidden, code, width, height;
    const float *columns, *rows;
    float clamp;
} Flow;

/* A call's memory: one allocation, initially zero. */
typedef struct {
    float *memory; /* NULL on the first pass, which only counts */
    int64_t used;
} Arena;

static float *take(Arena *arena, int64_t size) {
    float *start = arena->memory ? arena->memory + arena->used : NULL;
    arena->used += round_up(size, 16);
    return start;
}

/* A prepared block: its matrices in panels, its tables, and the tile's hidden layer. */
typedef struct {
    float *first, *last, *mixing, *first_back, *last_back, *rotation; /* W1, 0.1 W2, R scale; then for backward */
    float *by_column, *by_row; /* (width, H), (height, H): the position's and the bias's terms of the hidden layer */
    float *last_bias, *scale, *mixed_offset;
    float *code, *code_weight; /* only used to compute the tables */
    float *u, *out, *mixed, *hidden;
    float log_scale;
    int64_t stride, out_stride, hidden_stride;
} Prepared;

static Prepared prepared_memory(Arena *arena, const Flow *f) {
    const int64_t P = f->passive, C = P + f->active, O = 2 * f->active, H = f->hidden;
    Prepared r = {.stride = wide(C), .out_stride = wide(O), .hidden_stride = wide(H)};
    r.first = take(arena, wide(H) * P), r.last = take(arena, wide(O) * H), r.mixing = take(arena, wide(C) * C);
    r.first_back = take(arena, wide(P) * H), r.last_back = take(arena, wide(H) * O), r.rotation = take(arena, wide(C) * C);
    r.by_column = take(arena, round_up(f->width, TILE) * wide(H)), r.by_row = take(arena, round_up(f->height, TILE) * wide(H));
    r.last_bias = take(arena, wide(O)), r.scale = take(arena, wide(C)), r.mixed_offset = take(arena, wide(C));
    r.code = take(arena, TILE * round_up(f->code, ROWS)), r.code_weight = take(arena, wide(H) * f->code);
    r.u = take(arena, TILE * wide(C)), r.out = take(arena, TILE * wide(O)), r.mixed = take(arena, TILE * wide(C));
    r.hidden = take(arena, TILE * wide(H));
    return r;
}

static void code_tile(const Flow *f, const Prepared *r, const float *code, int64_t count) {
    EACH(i, count) memcpy(r->code + i * round_up(f->code, ROWS), code + i * f->code, 4 * f->code);
}

/* table (length, H) = code (length, D) times the transpose of the first layer's columns starting at `from`, plus bias. */
static void make_table(float *table, const Flow *f, const Prepared *r, const Block *b, int64_t from, const float *code,
                       int64_t length, const float *bias) {
    const int64_t inputs = f->passive + 2 * f->code;
    pack(r->code_weight, b->first + from, f->code, f->hidden, 1, inputs, 1);
    for (int64_t start = 0; start < length; start += TILE) {
        const int64_t count = length - start < TILE ? length - start : TILE;
        code_tile(f, r, code + start * f->code, count);
        EACH(i, TILE) EACH(j, f->hidden) table[(start + i) * r->hidden_stride + j] = bias ? bias[j] : 0;
        add_product(table + start * r->hidden_stride, r->hidden_stride, r->code, round_up(f->code, ROWS), r->code_weight,
                    f->code, f->hidden);
    }
}

static void prepare(Prepared *r, const Flow *f, const Block *b, int for_backward) {
    const int64_t P = f->passive, C = P + f->active, O = 2 * f->active, H = f->hidden, inputs = P + 2 * f->code;
    pack(r->first, b->first, P, H, 1, inputs, 1);
    make_table(r->by_column, f, r, b, P, f->columns, f->width, b->first_bias);
    make_table(r->by_row, f, r, b, P + f->code, f->rows, f->height, NULL);
    r->log_scale = 0;
    EACH(c, C) { /* 0.1 softplus with beta 0.5 */
        const double g = 0.5 * b->global_scale[c];
        r->scale[c] = 0.1 * 2 * (g > 20 ? g : log1p(exp(g)));
        r->log_scale += logf(r->scale[c]);
    }
    if (for_backward) {
        pack(r->first_back, b->first, H, P, inputs, 1, 1);
        pack(r->last_back, b->last, O, H, H, 1, 0.1f);
        pack(r->rotation, b->rotation, C, C, C, 1, 1);
        return;
    }
    pack(r->last, b->last, H, O, 1, H, 0.1f);
    EACH(j, O) r->last_bias[j] = 0.1f * b->last_bias[j];
    /* R (scale u + offset) = (R scale) u + R offset */
    pack(r->mixing, b->rotation, C, C, 1, C, 1);
    EACH(j, C) r->mixed_offset[j] = 0;
    EACH(c, C) EACH(j, C) {
        float *m = r->mixing + j / COLUMNS * COLUMNS * C + c * COLUMNS + j % COLUMNS;
        r->mixed_offset[j] += *m * b->global_offset[c];
        *m *= r->scale[c];
    }
}

/* The tile's hidden layer, relu(W x1 + by_column[column] + by_row[row]); x1 is r->u's first P channels. */
static void hidden_layer(const Flow *f, const Prepared *r, const int32_t *column, const int32_t *row, int64_t count) {
    EACH(i, count) {
        const float *of_column = r->by_column + column[i] * r->hidden_stride, *of_row = r->by_row + row[i] * r->hidden_stride;
        EACH(j, r->hidden_stride) r->hidden[i * r->hidden_stride + j] = of_column[j] + of_row[j];
    }
    add_product(r->hidden, r->hidden_stride, r->u, r->stride, r->first, f->passive, f->hidden);
    /* In this form a NaN stays NaN. */
    EACH(i, count * r->hidden_stride) r->hidden[i] = r->hidden[i] <= 0 ? 0 : r->hidden[i];
}

/* Computes y (n, C) from x (n, C), which may alias, and adds to log_det (n). Keeps s and u2, (n, A), unless NULL. */
static void block_forward(const Flow *f, const Prepared *r, int64_t n, const float *x, const int32_t *column, const int32_t *row,
                          float *y, float *log_det, float *kept_s, float *kept_u2) {
    const int64_t P = f->passive, A = f->active, C = P + A, O = 2 * A;
    for (int64_t start = 0; start < n; start += TILE) {
        const int64_t count = n - start < TILE ? n - start : TILE;
        EACH(i, count) memcpy(r->u + i * r->stride, x + (start + i) * C, 4 * C);
        hidden_layer(f, r, column + start, row + start, count);
        EACH(i, TILE) memcpy(r->out + i * r->out_stride, r->last_bias, 4 * O);
        add_product(r->out, r->out_stride, r->hidden, r->hidden_stride, r->last, f->hidden, O);
        EACH(i, count) { /* u2 = x2 exp(s) + t, s = clamp tanh(0.1 a_s), t = 0.1 a_t */
            float *s = r->out + i * r->out_stride, *t = s + A, *u2 = r->u + i * r->stride + P, sum = 0;
            EACH(j, A) s[j] = f->clamp * hyperbolic_tangent(s[j]);
            EACH(j, A) u2[j] = u2[j] * exponential(s[j]) + t[j];
            EACH(j, A) sum += s[j];
            log_det[start + i] += sum + r->log_scale;
            if (kept_s) memcpy(kept_s + (start + i) * A, s, 4 * A);
            if (kept_u2) memcpy(kept_u2 + (start + i) * A, u2, 4 * A);
        }
        EACH(i, TILE) memcpy(r->mixed + i * r->stride, r->mixed_offset, 4 * C);
        add_product(r->mixed, r->stride, r->u, r->stride, r->mixing, C, C);
        EACH(i, count) memcpy(y + (start + i) * C, r->mixed + i * r->stride, 4 * C);
    }
}

/* Computes z (N, C) and log_det (N) of vectors start .. start + n of x (N, C) at column, row (N). Unless NULL, keeps for backward
   ys (blocks, N, C), the output of every block (the last is z), and s and u2 (blocks, N, A). Returns 1 if out of memory. */
int bgad_chain_forward(const Flow *f, const Block *blocks, int64_t N, int64_t start, int64_t n, const float *x,
                       const int32_t *column, const int32_t *row, float *z, float *log_det, float *ys, float *s, float *u2) {
    const int64_t A = f->active, C = f->passive + A;
    Arena arena = {0};
    prepared_memory(&arena, f);
    arena = (Arena){calloc(arena.used, sizeof(float)), 0};
    if (!arena.memory) return 1;
    Prepared r = prepared_memory(&arena, f);
    EACH(i, n) log_det[start + i] = 0;
    EACH(k, f->blocks) {
        float *y = (ys ? ys + k * N * C : z) + start * C;
        prepare(&r, f, blocks + k, 0);
        block_forward(f, &r, n, k ? (ys ? y - N * C : y) : x + start * C, column + start, row + start, y, log_det + start,
                      s ? s + (k * N + start) * A : NULL, u2 ? u2 + (k * N + start) * A : NULL);
    }
    free(arena.memory);
    return 0;
}

/* A block's gradients while they accumulate, laid out like its parameters, and the gradients of a tile. */
typedef struct {
    float *first, *last, *code_weight, *by_column, *by_row, *scale, *offset, *last_bias;
    float *y, *u, *x1, *hidden, *out;
} Sums;

static Sums sums_memory(Arena *arena, const Flow *f) {
    const int64_t P = f->passive, C = P + f->active, O = 2 * f->active, H = wide(f->hidden);
    Sums d;
    d.first = take(arena, round_up(P, ROWS) * H), d.last = take(arena, round_up(O, ROWS) * H);
    d.code_weight = take(arena, round_up(f->code, ROWS) * H);
    d.by_column = take(arena, round_up(f->width, TILE) * H), d.by_row = take(arena, round_up(f->height, TILE) * H);
    d.scale = take(arena, C), d.offset = take(arena, C), d.last_bias = take(arena, O);
    d.y = take(arena, TILE * wide(C)), d.u = take(arena, TILE * wide(C)), d.x1 = take(arena, TILE * wide(C));
    d.hidden = take(arena, TILE * H), d.out = take(arena, TILE * wide(O));
    return d;
}

/* Adds the gradients of n vectors to d. Replaces d_y (n, C) by the gradient of x if want_x. x, s and u2 are from forward. */
static void block_backward(const Flow *f, const Prepared *r, Sums *d, int64_t n, const float *x, const int32_t *column,
                           const int32_t *row, const float *kept_s, const float *kept_u2, float *d_y, const float *d_log_det,
                           int want_x) {
    const int64_t P = f->passive, A = f->active, C = P + A, O = 2 * A, H = f->hidden;
    for (int64_t start = 0; start < n; start += TILE) {
        const int64_t count = n - start < TILE ? n - start : TILE;
        if (count < TILE) memset(d->out, 0, 4 * TILE * r->out_stride); /* missing vectors must add nothing */
        EACH(i, count) memcpy(r->u + i * r->stride, x + (start + i) * C, 4 * P);
        EACH(i, count) memcpy(d->y + i * r->stride, d_y + (start + i) * C, 4 * C);

        /* y = R (scale u + offset) */
        memset(d->u, 0, 4 * TILE * r->stride);
        add_product(d->u, r->stride, d->y, r->stride, r->rotation, C, C);
        EACH(i, count) {
            const float *x1 = r->u + i * r->stride, *u2 = kept_u2 + (start + i) * A;
            float *d_u = d->u + i * r->stride;
            EACH(j, C) d->offset[j] += d_u[j];
            EACH(j, P) d->scale[j] += d_u[j] * x1[j];
            EACH(j, A) d->scale[P + j] += d_u[P + j] * u2[j];
            EACH(j, C) d_u[j] *= r->scale[j];
        }
        /* u2 = x2 exp(s) + t; d_u2 becomes d_x2 */
        EACH(i, count) {
            const float *x2 = x + (start + i) * C + P, *s = kept_s + (start + i) * A, of_log_det = d_log_det[start + i];
            float *d_u2 = d->u + i * r->stride + P, *d_s = d->out + i * r->out_stride, *d_t = d_s + A;
            EACH(j, A) {
                const float power = exponential(s[j]);
                d_t[j] = d_u2[j];
                d_s[j] = (d_u2[j] * x2[j] * power + of_log_det) * (f->clamp - s[j] * s[j] / f->clamp);
                d_u2[j] *= power;
            }
            EACH(j, O) d->last_bias[j] += d_s[j];
        }
        /* the subnet: recomputing its hidden layer is faster than keeping it */
        hidden_layer(f, r, column + start, row + start, count);
        add_outer_product(d->last, d->out, r->out_stride, round_up(O, ROWS), r->hidden, r->hidden_stride, H);
        memset(d->hidden, 0, 4 * TILE * r->hidden_stride);
        add_product(d->hidden, r->hidden_stride, d->out, r->out_stride, r->last_back, O, H);
        EACH(i, TILE * r->hidden_stride) d->hidden[i] = r->hidden[i] <= 0 ? 0 : d->hidden[i];
        add_outer_product(d->first, r->u, r->stride, round_up(P, ROWS), d->hidden, r->hidden_stride, H);
        EACH(i, count) {
            float *of_column = d->by_column + column[start + i] * r->hidden_stride;
            float *of_row = d->by_row + row[start + i] * r->hidden_stride;
            EACH(j, r->hidden_stride) of_column[j] += d->hidden[i * r->hidden_stride + j];
            EACH(j, r->hidden_stride) of_row[j] += d->hidden[i * r->hidden_stride + j];
        }
        if (!want_x) continue;
        EACH(i, count) memcpy(d->x1 + i * r->stride, d->u + i * r->stride, 4 * P);
        add_product(d->x1, r->stride, d->hidden, r->hidden_stride, r->first_back, H, P);
        EACH(i, count) memcpy(d_y + (start + i) * C, d->x1 + i * r->stride, 4 * P);
        EACH(i, count) memcpy(d_y + (start + i) * C + P, d->u + i * r->stride + P, 4 * A);
    }
}

/* Gradient of the first layer's columns starting at `from`: the transpose of code (length, D)^T times their table's gradient. */
static void table_backward(const Flow *f, const Prepared *r, Sums *d, const float *d_table, int64_t from, const float *code,
                           int64_t length, float *d_first) {
    const int64_t rows = round_up(f->code, ROWS), inputs = f->passive + 2 * f->code;
    memset(d->code_weight, 0, 4 * rows * r->hidden_stride);
    for (int64_t start = 0; start < length; start += TILE) {
        const int64_t count = length - start < TILE ? length - start : TILE;
        code_tile(f, r, code + start * f->code, count);
        add_outer_product(d->code_weight, r->code, rows, rows, d_table + start * r->hidden_stride, r->hidden_stride, f->hidden);
    }
    unpack(d_first + from, d->code_weight, rows, f->code, f->hidden, 1, inputs, 1);
}

static void write_gradients(const Flow *f, const Prepared *r, Sums *d, const Block *b, float sum_of_d_log_det, const Block *to) {
    const int64_t P = f->passive, C = P + f->active, O = 2 * f->active, H = f->hidden;
    unpack(to->first, d->first, round_up(P, ROWS), P, H, 1, P + 2 * f->code, 1);
    table_backward(f, r, d, d->by_column, P, f->columns, f->width, to->first);
    table_backward(f, r, d, d->by_row, P + f->code, f->rows, f->height, to->first);
    memset(to->first_bias, 0, 4 * H);
    EACH(i, f->width) EACH(j, H) to->first_bias[j] += d->by_column[i * r->hidden_stride + j];
    unpack(to->last, d->last, round_up(O, ROWS), O, H, H, 1, 0.1f);
    EACH(j, O) to->last_bias[j] = 0.1f * d->last_bias[j];
    EACH(j, C) to->global_offset[j] = d->offset[j];
    EACH(j, C) to->global_scale[j] = (d->scale[j] + sum_of_d_log_det / r->scale[j]) * 0.1 / (1 + exp(-0.5 * b->global_scale[j]));
}

/* Gradients of vectors start .. start + n. d_y (N, C) holds those of z, and of x afterwards if want_x; d_log_det (N) those of
   log_det. `gradients` receives these vectors' part of every parameter's. Returns 1 if out of memory. */
int bgad_chain_backward(const Flow *f, const Block *blocks, int64_t N, int64_t start, int64_t n, const float *x,
                        const int32_t *column, const int32_t *row, const float *ys, const float *s, const float *u2, float *d_y,
                        const float *d_log_det, int want_x, const Block *gradients) {
    const int64_t A = f->active, C = f->passive + A;
    Arena arena = {0};
    prepared_memory(&arena, f), sums_memory(&arena, f);
    arena = (Arena){calloc(arena.used, sizeof(float)), 0};
    if (!arena.memory) return 1;
    Prepared r = prepared_memory(&arena, f);
    const int64_t before_sums = arena.used;
    Sums d = sums_memory(&arena, f);
    const int64_t after_sums = d.last_bias + 2 * A - arena.memory;
    float sum_of_d_log_det = 0;
    EACH(i, n) sum_of_d_log_det += d_log_det[start + i];
    for (int64_t k = f->blocks - 1; k >= 0; k--) {
        const float *block_x = (k ? ys + (k - 1) * N * C : x) + start * C;
        prepare(&r, f, blocks + k, 1);
        memset(arena.memory + before_sums, 0, 4 * (after_sums - before_sums));
        block_backward(f, &r, &d, n, block_x, column + start, row + start, s + (k * N + start) * A, u2 + (k * N + start) * A,
                       d_y + start * C, d_log_det + start, k || want_x);
        write_gradients(f, &r, &d, blocks + k, sum_of_d_log_det, gradients + k);
    }
    free(arena.memory);
    return 0;
}
