/* oracle: what single kernels compute, as plain loops in REAL, under names that end in SUFFIX. Included once
 * with double, the reference, and once with float, whose error is the measure (plain_f32.h). No include
 * guard, for that reason. */
#include <math.h>
#include <stdint.h>
#include <tgmath.h>

#include "host/plan/precision.h"
#include "kernels/philox.h"

#ifndef ORACLE_ONCE
#define ORACLE_ONCE
/* A dropout site at one step; on = 0 passes everything. */
typedef struct OracleMask {
    MaskKey key;
    double keep;
    int on;
} OracleMask;
/* What the activations and gradients of a recurrent product are rounded to; the caller rounds the weights. */
static LstmPrecision oracle_precision;
#define ORACLE_JOIN_(a, b) a##b
#define ORACLE_JOIN(a, b)  ORACLE_JOIN_(a, b)
#define ORACLE(name)       ORACLE_JOIN(name, SUFFIX)
#endif

static REAL ORACLE(factor_)(const OracleMask *m, int64_t row, int64_t H, int64_t u)
{
    if (!m->on) return 1;
    return mask_quad(&m->key, row, H, u & ~(int64_t)3) >> (u & 3) & 1 ? (REAL)(1 / m->keep) : 0;
}

static REAL ORACLE(operand_)(REAL x)
{
    return oracle_precision == PRECISION_F32 ? x : (REAL)precision_round(oracle_precision, (float)x);
}

/* gates: x_proj on entry, i, f, g, o on exit; h, c: row 0 on entry. */
static void ORACLE(forward_)(int64_t T, int64_t B, int64_t H, const REAL *w_hh, const REAL *b_ih,
                             const REAL *b_hh, REAL *gates, REAL *h, REAL *c, REAL *y, REAL *h_masked,
                             const OracleMask *output, const OracleMask *recurrent)
{
    for (int64_t n = 0; n < T * B; n++) {
        REAL *a = gates + n * 4 * H, *hm = h_masked + n * H;
        for (int64_t u = 0; u < H; u++) hm[u] = h[n * H + u] * ORACLE(factor_)(recurrent, n, H, u);
        for (int64_t j = 0; j < 4 * H; j++) {
            REAL sum = a[j] + (b_ih[j] + b_hh[j]);
            for (int64_t k = 0; k < H; k++) sum += w_hh[j * H + k] * ORACLE(operand_)(hm[k]);
            a[j] = j / H == 2 ? tanh(sum) : 1 / (1 + exp(-sum));
        }
        for (int64_t u = 0; u < H; u++) {
            int64_t now = (n + B) * H + u;
            c[now] = a[H + u] * c[n * H + u] + a[u] * a[2 * H + u];
            h[now] = a[3 * H + u] * tanh(c[now]);
            y[n * H + u] = h[now] * ORACLE(factor_)(output, n, H, u);
        }
    }
}

/* gates: i, f, g, o on entry, dgates on exit; carry (2,B,H): dh_n, dc_n on entry, dh_0, dc_0 on exit. */
static void ORACLE(backward_)(int64_t T, int64_t B, int64_t H, const REAL *w_hh, const REAL *c,
                              const REAL *dy, REAL *gates, REAL *carry, const OracleMask *output,
                              const OracleMask *recurrent)
{
    REAL *const state = carry + B * H;
    for (int64_t n = T * B - 1; n >= 0; n--)
        for (int64_t u = 0; u < H; u++) {
            int last = n + B >= T * B;
            REAL *a = gates + n * 4 * H + u, *flow = state + n % B * H + u, sum = 0;
            REAL i = a[0], f = a[H], g = a[2 * H], o = a[3 * H], tc = tanh(c[(n + B) * H + u]);
            for (int64_t j = 0; !last && j < 4 * H; j++)
                sum += w_hh[j * H + u] * ORACLE(operand_)(gates[(n + B) * 4 * H + j]);
            REAL dh = dy[n * H + u] * ORACLE(factor_)(output, n, H, u);
            dh += last ? carry[n % B * H + u] : sum * ORACLE(factor_)(recurrent, n + B, H, u);
            REAL dc = dh * o * (1 - tc * tc) + *flow;
            a[0] = dc * g * i * (1 - i);
            a[H] = dc * c[n * H + u] * f * (1 - f);
            a[2 * H] = dc * i * (1 - g * g);
            a[3 * H] = dh * tc * o * (1 - o);
            *flow = dc * f;
        }
    for (int64_t n = 0; n < B * H; n++) {
        REAL sum = 0;
        for (int64_t j = 0; j < 4 * H; j++)
            sum += w_hh[j * H + n % H] * ORACLE(operand_)(gates[n / H * 4 * H + j]);
        carry[n] = sum * ORACLE(factor_)(recurrent, n / H, H, n % H);
    }
}

/* logits (N,V) become (softmax - onehot) / B where train, logits + bias otherwise. */
static void ORACLE(softmax_)(int64_t N, int64_t V, const REAL *bias, const int32_t *targets, int train,
                             REAL B, REAL *logits, REAL *nats)
{
    for (int64_t n = 0; n < N; n++) {
        REAL *z = logits + n * V, top = -INFINITY, sum = 0;
        for (int64_t v = 0; v < V; v++) {
            z[v] += bias[v];
            top = fmax(top, z[v]);
        }
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - top);
        nats[n] = top + log(sum) - z[targets[n]];
        for (int64_t v = 0; train && v < V; v++) z[v] = (exp(z[v] - top) / sum - (v == targets[n])) / B;
    }
}

/* rows (N,H): where first[n], the sum over all positions with that id. */
static void ORACLE(embedding_)(int64_t N, int64_t H, const int32_t *ids, const REAL *dx,
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

static void ORACLE(columns_)(int64_t rows, int64_t cols, const REAL *m, REAL *out)
{
    for (int64_t j = 0; j < cols; j++) {
        out[j] = 0;
        for (int64_t r = 0; r < rows; r++) out[j] += m[r * cols + j];
    }
}

/* Norm of all gradients; the weights move. first and ids as in embedding_. */
static REAL ORACLE(sgd_)(int64_t dense, REAL *weights, const REAL *grads, int64_t N, int64_t H,
                         const int32_t *ids, const int32_t *first, REAL *encoder, const REAL *rows, double lr,
                         double clip)
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
