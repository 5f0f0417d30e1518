/* oracle: the LSTM and the other layers in plain loops in REAL, under names that end in SUFFIX.
 * Tests and benchmarks compare kernels with this copy. It is included once with double, the
 * reference, and once with float, whose error bounds that of a kernel (oracle_both.h), so it has no
 * include guard. It is C and C++. Sums run in the order of the index. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#include "host/plan/precision.h"
#include "kernels/philox.h"

#ifndef ORACLE_ONCE
#define ORACLE_ONCE
/* A dropout site at one step; on = 0 means no mask. */
typedef struct OracleMask {
    MaskKey key;
    double keep;
    int on;
} OracleMask;

/* The rounding of the operands of the recurrent product (weights, h, dgates) and of the saved
 * tensors; NULL: none. */
typedef float (*OracleRound)(float x);
static OracleRound oracle_operand, oracle_stored;

static inline float oracle_tf32(float x) { return precision_round(PRECISION_TF32, x); }
static inline float oracle_bf16(float x) { return precision_round(PRECISION_BF16, x); }

/* The rounding of our kernels' tensor-core operands: to nearest. */
static inline OracleRound oracle_round(LstmPrecision p)
{
    return p == PRECISION_TF32 ? oracle_tf32 : p == PRECISION_BF16 ? oracle_bf16 : NULL;
}

/* The tf32 value that a tensor core reads from an unrounded float32: ten bits of the fraction, the
 * others truncated. A library's result for unrounded operands is between this and oracle_tf32. */
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
/* Define this before the include to use another product with these arguments. */
#ifndef ORACLE_PRODUCT
#define ORACLE_PRODUCT ORACLE(product_)
#endif
#endif

static inline REAL ORACLE(factor_)(const OracleMask *m, int64_t row, int64_t H, int64_t u)
{
    if (!m->on) return 1;
    return mask_nibble(&m->key, row, H, u & ~(int64_t)3) >> (u & 3) & 1 ? (REAL)(1 / m->keep) : 0;
}

static inline REAL ORACLE(rounded_)(OracleRound by, REAL x) { return by ? (REAL)by((float)x) : x; }

/* out (B,n) += x (B,m) * w (m,n); the inner loop runs along a row of the result. */
static inline void ORACLE(product_)(int64_t B, int64_t m, int64_t n, const REAL *x, const REAL *w,
                                    REAL *out)
{
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) out[b * n + j] += x[b * m + i] * w[i * n + j];
}

static inline REAL *ORACLE(room_)(int64_t n)
{
    REAL *room = (REAL *)malloc((size_t)n * sizeof *room);
    if (!room) abort();
    return room;
}

/* Returns w_hh (4H,H) rounded, and transposed on request; the caller frees it. */
static inline REAL *ORACLE(weights_)(int64_t H, const REAL *w_hh, int transposed)
{
    REAL *w = ORACLE(room_)(4 * H * H);
    for (int64_t j = 0; j < 4 * H; j++)
        for (int64_t k = 0; k < H; k++)
            w[transposed ? k * 4 * H + j : j * H + k] =
                ORACLE(rounded_)(oracle_operand, w_hh[j * H + k]);
    return w;
}

/* gates: x_proj on entry, i, f, g, o on exit; h, c: row 0 on entry. */
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

/* gates: i, f, g, o on entry, dgates on exit; carry (2,B,H): dh_n, dc_n on entry, dh_0, dc_0 on
 * exit. */
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

/* With train, logits (N,V) become (softmax - onehot) / B, otherwise logits + bias. */
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

/* rows (N,H): at first[n], the sum over all positions with that id. */
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

static inline void ORACLE(columns_)(int64_t rows, int64_t cols, const REAL *m, REAL *out)
{
    for (int64_t j = 0; j < cols; j++) {
        out[j] = 0;
        for (int64_t r = 0; r < rows; r++) out[j] += m[r * cols + j];
    }
}

/* Computes the norm of all gradients and updates the weights. first and ids as in embedding_. */
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
