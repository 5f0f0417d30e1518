/* oracle: the LSTM and the other layers in plain loops over the type REAL, with names that end in
 * SUFFIX. Tests and benchmarks compare kernels with it. oracle_both.h includes it twice, with
 * double as the reference and with float, whose error bounds that of a kernel; so it has no include
 * guard. It compiles as C and as C++. Sums run in the order of the index. All tensors belong to the
 * caller, are row-major and have the names and shapes of kernels/lstm.h; a failed allocation
 * aborts. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#include "host/plan/precision.h"
#include "kernels/philox.h"

#ifndef ORACLE_ONCE
#define ORACLE_ONCE
/* A dropout site at one step; on = 0 means that nothing is masked. */
typedef struct OracleMask {
    MaskKey key;
    double keep;
    int on;
} OracleMask;

/* oracle_operand rounds the operands of the recurrent product (weights, h, dgates), oracle_stored
 * the saved tensors. NULL, the initial value, rounds nothing. */
typedef float (*OracleRound)(float x);
static OracleRound oracle_operand, oracle_stored;

static inline float oracle_tf32(float x) { return precision_round(PRECISION_TF32, x); }
static inline float oracle_bf16(float x) { return precision_round(PRECISION_BF16, x); }

/* Returns the rounding of our kernels' tensor-core operands, which is to nearest, or NULL for
 * float32. */
static inline OracleRound oracle_round(LstmPrecision p)
{
    return p == PRECISION_TF32 ? oracle_tf32 : p == PRECISION_BF16 ? oracle_bf16 : NULL;
}

/* Returns the tf32 value that a tensor core reads from an unrounded float32: ten bits of the
 * fraction are kept, the others are truncated. A library that does not round its operands gives a
 * result between the one for these values and the one for oracle_tf32's. */
static inline float oracle_tf32_cut(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xffffe000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define ORACLE_JOIN_(a, b) a##b
#define ORACLE_JOIN(a, b)  ORACLE_JOIN_(a, b)
#define ORACLE(name)       ORACLE_JOIN(name, SUFFIX)
/* Define ORACLE_PRODUCT before the include to replace the matrix product by another function with
 * the same arguments. */
#ifndef ORACLE_PRODUCT
#define ORACLE_PRODUCT ORACLE(product_)
#endif
#endif

/* Returns the factor that site m applies to unit u of a row: 0 or 1 / keep, or 1 without a mask. */
static inline REAL ORACLE(factor_)(const OracleMask *m, int64_t row, int64_t H, int64_t u)
{
    if (!m->on) return 1;
    return mask_nibble(&m->key, row, H, u & ~(int64_t)3) >> (u & 3) & 1 ? (REAL)(1 / m->keep) : 0;
}

static inline REAL ORACLE(rounded_)(OracleRound by, REAL x) { return by ? (REAL)by((float)x) : x; }

/* Adds x (B,m) * w (m,n) to out (B,n); the inner loop runs along a row of the result. */
static inline void ORACLE(product_)(int64_t B, int64_t m, int64_t n, const REAL *x, const REAL *w,
                                    REAL *out)
{
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) out[b * n + j] += x[b * m + i] * w[i * n + j];
}

/* Returns n uninitialised elements; the caller frees them. */
static inline REAL *ORACLE(room_)(int64_t n)
{
    REAL *room = (REAL *)malloc((size_t)n * sizeof *room);
    if (!room) abort();
    return room;
}

/* Returns w_hh (4H,H) rounded by oracle_operand, transposed to (H,4H) if `transposed`; the caller
 * frees it. */
static inline REAL *ORACLE(weights_)(int64_t H, const REAL *w_hh, int transposed)
{
    REAL *w = ORACLE(room_)(4 * H * H);
    for (int64_t j = 0; j < 4 * H; j++)
        for (int64_t k = 0; k < H; k++)
            w[transposed ? k * 4 * H + j : j * H + k] =
                ORACLE(rounded_)(oracle_operand, w_hh[j * H + k]);
    return w;
}

/* Runs the forward recurrence. gates (T,B,4H) is x_proj on entry and i, f, g, o on exit; row 0 of h
 * and c (T+1,B,H) is the initial state. y (T,B,H) receives the output after the output mask,
 * h_masked (T,B,H) the recurrent input after the recurrent mask. */
static inline void ORACLE(forward_)(int64_t T, int64_t B, int64_t H, const REAL *w_hh,
                                    const REAL *b_ih, const REAL *b_hh, REAL *gates, REAL *h,
                                    REAL *c, REAL *y, REAL *h_masked, const OracleMask *output,
                                    const OracleMask *recurrent)
{
    REAL *w = ORACLE(weights_)(H, w_hh, 1), *x = ORACLE(room_)(B * H);
    for (int64_t t = 0; t < T; t++) {
        REAL *hm = h_masked + t * B * H, *step = gates + t * B * 4 * H;
#pragma omp parallel for
        for (int64_t b = 0; b < B; b++) {
            for (int64_t u = 0; u < H; u++)
                hm[b * H + u] =
                    h[(t * B + b) * H + u] * ORACLE(factor_)(recurrent, t * B + b, H, u);
            for (int64_t j = 0; j < 4 * H; j++) step[b * 4 * H + j] += b_ih[j] + b_hh[j];
        }
        for (int64_t n = 0; n < B * H; n++) x[n] = ORACLE(rounded_)(oracle_operand, hm[n]);
        ORACLE_PRODUCT(B, H, 4 * H, x, w, step);
#pragma omp parallel for
        for (int64_t b = 0; b < B; b++)
            for (int64_t u = 0; u < H; u++) {
                int64_t n = t * B + b, now = (n + B) * H + u;
                REAL *a = step + b * 4 * H + u;
                for (int gate = 0; gate < 4; gate++) {
                    REAL sum = a[gate * H], one = 1;
                    sum = gate == 2 ? tanh(sum) : one / (one + exp(-sum));
                    a[gate * H] = ORACLE(rounded_)(oracle_stored, sum);
                }
                c[now] = ORACLE(rounded_)(oracle_stored, a[H] * c[n * H + u] + a[0] * a[2 * H]);
                h[now] = ORACLE(rounded_)(oracle_stored, a[3 * H] * tanh(c[now]));
                y[n * H + u] = h[now] * ORACLE(factor_)(output, n, H, u);
            }
    }
    free(w), free(x);
}

/* Runs the backward recurrence. gates (T,B,4H) is i, f, g, o on entry and dgates on exit; carry
 * (2,B,H) is dh_n and dc_n on entry and dh_0 and dc_0 on exit. dy (T,B,H) is the gradient of y. */
static inline void ORACLE(backward_)(int64_t T, int64_t B, int64_t H, const REAL *w_hh,
                                     const REAL *c, const REAL *dy, REAL *gates, REAL *carry,
                                     const OracleMask *output, const OracleMask *recurrent)
{
    REAL *w = ORACLE(weights_)(H, w_hh, 0),
         *x = ORACLE(room_)(4 * B * H), *const state = carry + B * H;
    for (int64_t t = T - 1; t >= 0; t--) {
        REAL *step = gates + t * B * 4 * H;
#pragma omp parallel for
        for (int64_t b = 0; b < B; b++)
            for (int64_t u = 0; u < H; u++) {
                int64_t n = t * B + b;
                REAL *a = step + b * 4 * H + u, *flow = state + b * H + u;
                REAL i = a[0], f = a[H], g = a[2 * H], o = a[3 * H], tc = tanh(c[(n + B) * H + u]);
                REAL dh = dy[n * H + u] * ORACLE(factor_)(output, n, H, u) + carry[b * H + u];
                REAL dc = dh * o * (1 - tc * tc) + *flow;
                a[0] = ORACLE(rounded_)(oracle_stored, dc * g * i * (1 - i));
                a[H] = ORACLE(rounded_)(oracle_stored, dc * c[n * H + u] * f * (1 - f));
                a[2 * H] = ORACLE(rounded_)(oracle_stored, dc * i * (1 - g * g));
                a[3 * H] = ORACLE(rounded_)(oracle_stored, dh * tc * o * (1 - o));
                *flow = dc * f;
                carry[b * H + u] = 0;
            }
        for (int64_t n = 0; n < 4 * B * H; n++) x[n] = ORACLE(rounded_)(oracle_operand, step[n]);
        ORACLE_PRODUCT(B, 4 * H, H, x, w, carry);
        for (int64_t n = 0; n < B * H; n++)
            carry[n] *= ORACLE(factor_)(recurrent, t * B + n / H, H, n % H);
    }
    free(w), free(x);
}

/* Stores each position's -log p of its target in nats (N). logits (N,V), to which bias (V) is
 * added, become (softmax - onehot) / B if `train`. */
static inline void ORACLE(softmax_)(int64_t N, int64_t V, const REAL *bias, const int32_t *targets,
                                    int train, REAL B, REAL *logits, REAL *nats)
{
    for (int64_t n = 0; n < N; n++) {
        REAL *z = logits + n * V, top = -INFINITY, sum = 0;
        for (int64_t v = 0; v < V; v++) {
            z[v] += bias[v];
            top = fmax(top, z[v]);
        }
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - top);
        nats[n] = top + log(sum) - z[targets[n]];
        for (int64_t v = 0; train && v < V; v++)
            z[v] = (exp(z[v] - top) / sum - (v == targets[n])) / B;
    }
}

/* Computes the embedding's gradient. first[n] is 1 if position n is the first with its id; rows
 * (N,H) then holds at n the sum of dx (N,H), masked by `site`, over all positions with that id.
 * Other rows are not written. */
static inline void ORACLE(embedding_)(int64_t N, int64_t H, const int32_t *ids, const REAL *dx,
                                      const OracleMask *site, REAL *rows, int32_t *first)
{
    for (int64_t n = 0; n < N; n++) {
        first[n] = 1;
        for (int64_t m = 0; m < n; m++)
            if (ids[m] == ids[n]) first[n] = 0;
        for (int64_t u = 0; first[n] && u < H; u++) {
            REAL sum = 0;
            for (int64_t m = n; m < N; m++)
                if (ids[m] == ids[n]) sum += dx[m * H + u] * ORACLE(factor_)(site, m, H, u);
            rows[n * H + u] = sum;
        }
    }
}

/* Sums the columns of m (rows,cols) into out (cols). */
static inline void ORACLE(columns_)(int64_t rows, int64_t cols, const REAL *m, REAL *out)
{
    for (int64_t j = 0; j < cols; j++) {
        out[j] = 0;
        for (int64_t r = 0; r < rows; r++) out[j] += m[r * cols + j];
    }
}

/* Makes one SGD step with clipping and returns the norm of all gradients: `dense` weights and their
 * gradients, and the rows of encoder (V,H) whose gradients embedding_ computed. */
static inline REAL ORACLE(sgd_)(int64_t dense, REAL *weights, const REAL *grads, int64_t N,
                                int64_t H, const int32_t *ids, const int32_t *first, REAL *encoder,
                                const REAL *rows, double lr, double clip)
{
    REAL sum = 0;
    for (int64_t i = 0; i < dense; i++) sum += grads[i] * grads[i];
    for (int64_t i = 0; i < N * H; i++)
        if (first[i / H]) sum += rows[i] * rows[i];
    REAL norm = sqrt(sum), scale = norm > (REAL)clip ? (REAL)clip / norm : 1;
    for (int64_t i = 0; i < dense; i++) weights[i] -= (REAL)lr * (scale * grads[i]);
    for (int64_t i = 0; i < N * H; i++)
        if (first[i / H]) encoder[ids[i / H] * H + i % H] -= (REAL)lr * (scale * rows[i]);
    return norm;
}
