/* backend_reference: SPEC 1, 2 and 5 as plain loops in double. Nothing here is optimised: every
 * other backend is compared with this one, which itself is checked against finite differences.
 *
 * All arithmetic is double. What a checkpoint holds (parameters after an update, carried state) is
 * rounded to float32 when it is stored, so that here, too, a resumed run equals the uninterrupted
 * one bit for bit. */
#include "backend_reference.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#include "kernels/philox.h"

typedef REFERENCE_REAL real;

struct Backend {
    BackendConfig config;
    Window w;      /* the window between begin and end */
    real **param;  /* [count] tensors, params.h's order */
    real **grad;   /* [count], NULL unless config.train */
    real **h, **c; /* [L] (T+1,B,H), row 0 the carried state */
    real **gates;  /* [L] (T,B,4H): i, f, g, o after the nonlinearity; backward: their gradients */
    real **x;      /* [L+1] (T,B,H): masked input of layer l; x[L]: that of the softmax */
    real *hm;      /* (T,B,H): scratch, h_{t-1} as the input of W_hh */
    real *dy;      /* (T,B,H): gradient into the output of the layer that backward reaches next */
    real *logits;  /* (scored,V): one row per scored position; training: their gradient */
    real *nats;    /* (scored) */
    int32_t *best; /* (scored) id of the largest logit; NULL unless config.hits */
    int32_t *scored; /* (scored) the scored positions, in order; NULL if every position is scored */
    real *state_h, *state_c; /* (L,B,H) carried */
    real *state_grad[4];     /* (L,B,H) dh_n, dc_n, dh_0, dc_0; NULL unless config.train */
    double grad_norm;
};

/* ---- masks ---- */

/* Returns D_site as a factor for unit u at step t in batch row `row`: 0 or 1/keep, or 1 if nothing
 * is masked. */
static real mask_factor(const Backend *b, int site, int64_t t, int64_t row, int64_t u)
{
    const BackendConfig *g = &b->config;
    if (!b->w.train || g->sites == SITES_NONE) return 1;
    int sites = sites_count(g->sites, g->shape.L);
    if (site >= sites) return 1; /* a recurrent site under nonrecurrent */
    MaskKey key = mask_key(g->seed, b->w.step, sites, site, g->keep);
    unsigned kept = mask_nibble(&key, t * b->w.batch.B + row, g->shape.H, u & ~(int64_t)3);
    return kept >> (u & 3) & 1 ? 1 / g->keep : 0;
}

static int recurrent_site(const Backend *b, int64_t l) { return (int)(b->config.shape.L + 1 + l); }

static int in_layer(const Backend *b, int64_t l, int which)
{
    return param_of_layer(&b->config.shape, l, which);
}

/* ---- opening and closing ---- */

static int64_t positions(const BackendConfig *g) { return g->T * g->B; }
static int64_t scored_rows(const BackendConfig *g) { return g->scored ? g->scored : positions(g); }

static size_t reference_bytes(const BackendConfig *g)
{
    int64_t H = g->shape.H, L = g->shape.L, N = positions(g), P = params_elements(&g->shape);
    int64_t n = P * (g->train ? 2 : 1) + L * (2 * (N + g->B) * H + 4 * N * H) + (L + 3) * N * H +
                scored_rows(g) * (g->shape.V_out + 1) + (g->train ? 6 : 2) * L * g->B * H;
    return (size_t)n * sizeof(real) +
           (size_t)(g->scored + (g->hits ? scored_rows(g) : 0)) * sizeof(int32_t);
}

static void reference_close(Backend *b)
{
    if (!b) return;
    const ModelShape *s = &b->config.shape;
    for (int k = 0; k < params_count(s); k++) {
        if (b->param) free(b->param[k]);
        if (b->grad) free(b->grad[k]);
    }
    for (int64_t l = 0; l <= s->L; l++) {
        if (b->x) free(b->x[l]);
        if (l == s->L) break;
        if (b->h) free(b->h[l]);
        if (b->c) free(b->c[l]);
        if (b->gates) free(b->gates[l]);
    }
    free(b->param), free(b->grad), free(b->h), free(b->c), free(b->gates), free(b->x);
    free(b->hm), free(b->dy), free(b->logits), free(b->nats), free(b->state_h), free(b->state_c);
    free(b->best), free(b->scored);
    for (int i = 0; i < 4; i++) free(b->state_grad[i]);
    free(b);
}

static real *reals(int64_t n, bool *ok)
{
    real *p = calloc((size_t)(n ? n : 1), sizeof *p);
    if (!p) *ok = false;
    return p;
}

static int32_t *ids_of(int64_t n, bool *ok)
{
    int32_t *p = calloc((size_t)n, sizeof *p);
    if (!p) *ok = false;
    return p;
}

static real **pointers(int64_t n, bool *ok)
{
    real **p = calloc((size_t)n, sizeof *p);
    if (!p) *ok = false;
    return p;
}

static int reference_open(const BackendConfig *g, Backend **out, Error *e)
{
    int64_t H = g->shape.H, L = g->shape.L, N = positions(g);
    int count = params_count(&g->shape);
    bool ok = true;
    Backend *b = calloc(1, sizeof *b);
    if (!b) return error_set(e, EXIT_FAILED, "the reference backend ran out of memory");
    b->config = *g;
    b->param = pointers(count, &ok), b->grad = pointers(count, &ok);
    b->h = pointers(L, &ok), b->c = pointers(L, &ok), b->gates = pointers(L, &ok),
    b->x = pointers(L + 1, &ok);
    for (int k = 0; ok && k < count; k++) {
        b->param[k] = reals(param_info(&g->shape, k).n, &ok);
        if (g->train) b->grad[k] = reals(param_info(&g->shape, k).n, &ok);
    }
    for (int64_t l = 0; ok && l < L; l++) {
        b->h[l] = reals((N + g->B) * H, &ok), b->c[l] = reals((N + g->B) * H, &ok);
        b->gates[l] = reals(4 * N * H, &ok);
    }
    for (int64_t l = 0; ok && l <= L; l++) b->x[l] = reals(N * H, &ok);
    b->hm = reals(N * H, &ok), b->dy = reals(N * H, &ok);
    int64_t scored = scored_rows(g);
    b->logits = reals(scored * g->shape.V_out, &ok), b->nats = reals(scored, &ok);
    if (g->hits) b->best = ids_of(scored, &ok);
    if (g->scored) b->scored = ids_of(scored, &ok);
    b->state_h = reals(L * g->B * H, &ok), b->state_c = reals(L * g->B * H, &ok);
    for (int i = 0; i < 4 && g->train; i++) b->state_grad[i] = reals(L * g->B * H, &ok);
    if (!ok) {
        reference_close(b);
        return error_set(e, EXIT_FAILED, "the reference backend could not allocate %zu bytes",
                         reference_bytes(g));
    }
    *out = b;
    return EXIT_DONE;
}

static void reference_info(const Backend *b, BackendInfo *info)
{
    *info = (BackendInfo){.device = "CPU, plain loops in double, 1 thread",
                          .bytes = reference_bytes(&b->config),
                          .remark = ""};
}

/* ---- parameters and state ---- */

real *reference_param(Backend *b, int k) { return b->param[k]; }
const real *reference_grad(const Backend *b, int k) { return b->grad[k]; }
real *reference_input(Backend *b) { return b->x[0]; }

static void widen(real *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = from ? from[i] : 0;
}

static void narrow(float *to, const real *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = (float)from[i];
}

static int reference_param_set(Backend *b, int k, const float *src, Error *e)
{
    (void)e;
    widen(b->param[k], src, param_info(&b->config.shape, k).n);
    return EXIT_DONE;
}

static int reference_param_get(Backend *b, int k, float *dst, Error *e)
{
    (void)e;
    narrow(dst, b->param[k], param_info(&b->config.shape, k).n);
    return EXIT_DONE;
}

static int reference_grad_get(Backend *b, int k, float *dst, Error *e)
{
    (void)e;
    narrow(dst, b->grad[k], param_info(&b->config.shape, k).n);
    return EXIT_DONE;
}

static int reference_state_set(Backend *b, int64_t B, const float *h, const float *c, Error *e)
{
    (void)e;
    assert(B <= b->config.B);
    widen(b->state_h, h, b->config.shape.L * B * b->config.shape.H);
    widen(b->state_c, c, b->config.shape.L * B * b->config.shape.H);
    return EXIT_DONE;
}

static int reference_state_get(Backend *b, int64_t B, float *h, float *c, Error *e)
{
    (void)e;
    narrow(h, b->state_h, b->config.shape.L * B * b->config.shape.H);
    narrow(c, b->state_c, b->config.shape.L * B * b->config.shape.H);
    return EXIT_DONE;
}

/* layer_backward computes the gradients of the state whether they are wanted or not. */
static int reference_state_grad_set(Backend *b, int64_t B, const float *dh_n, const float *dc_n,
                                    bool wanted, Error *e)
{
    (void)wanted, (void)e;
    assert(B <= b->config.B && b->config.train);
    widen(b->state_grad[0], dh_n, b->config.shape.L * B * b->config.shape.H);
    widen(b->state_grad[1], dc_n, b->config.shape.L * B * b->config.shape.H);
    return EXIT_DONE;
}

static int reference_state_grad_get(Backend *b, int64_t B, float *dh_0, float *dc_0, Error *e)
{
    (void)e;
    narrow(dh_0, b->state_grad[2], b->config.shape.L * B * b->config.shape.H);
    narrow(dc_0, b->state_grad[3], b->config.shape.L * B * b->config.shape.H);
    return EXIT_DONE;
}

/* ---- forward ---- */

/* Returns the position of scored position number i. */
static int64_t position_of(const Backend *b, int64_t i) { return b->scored ? b->scored[i] : i; }

static int reference_window_begin(Backend *b, const Window *w, bool *replayed, Error *e)
{
    (void)e;
    *replayed = false;
    const Batch *batch = &w->batch;
    int64_t scored = 0;
    assert(batch->B <= b->config.B && batch->T * batch->B <= positions(&b->config));
    assert(batch->n_scored <= scored_rows(&b->config));
    assert(!w->train || (b->config.train && batch->n_scored > 0));
    for (int32_t n = 0; n < batch->T * batch->B; n++)
        if (batch->targets[n] != TARGET_NONE) {
            if (b->scored) b->scored[scored] = n;
            scored++;
        }
    assert(scored == batch->n_scored && (b->scored || scored == batch->T * batch->B));
    b->w = *w;
    b->grad_norm = 0;
    if (!batch->carry) reference_state_set(b, batch->B, NULL, NULL, e);
    return EXIT_DONE;
}

static int reference_embedding_forward(Backend *b, Error *e)
{
    (void)e;
    const ModelShape *s = &b->config.shape;
    const Batch *batch = &b->w.batch;
    const float *features = batch->features;
    int64_t H = s->H, B = batch->B;
    for (int64_t t = 0; t < batch->T; t++)
        for (int64_t row = 0; row < B; row++) {
            int64_t n = t * B + row;
            int32_t id = batch->ids[n];
            for (int64_t u = 0; u < H; u++) {
                real x = 0;
                if (id >= 0) {
                    x = b->param[param_encoder(s)][id * H + u];
                } else if (id == ID_FEATURES) {
                    const real *w = b->param[param_input_weight(s)] + u * s->F;
                    x = b->param[param_input_bias(s)][u];
                    for (int64_t f = 0; f < s->F; f++) x += w[f] * features[f];
                }
                b->x[0][n * H + u] = x * mask_factor(b, 0, t, row, u);
            }
            if (id == ID_FEATURES) features += s->F;
        }
    return EXIT_DONE;
}

static real sigmoid(real a) { return 1 / (1 + exp(-a)); }

static int reference_layer_forward(Backend *b, int64_t l, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, T = b->w.batch.T, B = b->w.batch.B;
    const real *w_ih = b->param[in_layer(b, l, PARAM_W_IH)],
               *w_hh = b->param[in_layer(b, l, PARAM_W_HH)];
    const real *b_ih = b->param[in_layer(b, l, PARAM_B_IH)],
               *b_hh = b->param[in_layer(b, l, PARAM_B_HH)];
    real *h = b->h[l], *c = b->c[l];
    memcpy(h, b->state_h + l * B * H, (size_t)(B * H) * sizeof *h);
    memcpy(c, b->state_c + l * B * H, (size_t)(B * H) * sizeof *c);
    for (int64_t t = 0; t < T; t++)
        for (int64_t row = 0; row < B; row++) {
            int64_t n = t * B + row; /* row of h at step t-1; h of step t is row n + B */
            const real *x = b->x[l] + n * H;
            real *gates = b->gates[l] + n * 4 * H, *hm = b->hm + n * H;
            for (int64_t u = 0; u < H; u++)
                hm[u] = h[n * H + u] * mask_factor(b, recurrent_site(b, l), t, row, u);
            for (int64_t j = 0; j < 4 * H; j++) {
                real a = b_ih[j] + b_hh[j];
                for (int64_t k = 0; k < H; k++)
                    a += w_ih[j * H + k] * x[k] + w_hh[j * H + k] * hm[k];
                gates[j] = j / H == 2 ? tanh(a) : sigmoid(a);
            }
            for (int64_t u = 0; u < H; u++) {
                real i = gates[u], f = gates[H + u], g = gates[2 * H + u], o = gates[3 * H + u];
                c[(n + B) * H + u] = f * c[n * H + u] + i * g;
                h[(n + B) * H + u] = o * tanh(c[(n + B) * H + u]);
                b->x[l + 1][n * H + u] = h[(n + B) * H + u] * mask_factor(b, (int)l + 1, t, row, u);
            }
        }
    for (int64_t i = 0; i < B * H; i++) {
        b->state_h[l * B * H + i] = (float)h[T * B * H + i];
        b->state_c[l * B * H + i] = (float)c[T * B * H + i];
    }
    return EXIT_DONE;
}

static int reference_softmax_forward(Backend *b, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, V = b->config.shape.V_out;
    const real *w = b->param[param_decoder_weight(&b->config.shape)];
    const real *bias = b->param[param_decoder_bias(&b->config.shape)];
    for (int64_t i = 0; i < b->w.batch.n_scored; i++) {
        const real *x = b->x[b->config.shape.L] + position_of(b, i) * H;
        int32_t target = b->w.batch.targets[position_of(b, i)];
        real *z = b->logits + i * V, top = -INFINITY, sum = 0;
        int32_t best = 0;
        for (int64_t v = 0; v < V; v++) {
            z[v] = bias[v];
            for (int64_t k = 0; k < H; k++) z[v] += w[v * H + k] * x[k];
            if (!(z[v] <= top)) top = z[v], best = (int32_t)v; /* a NaN propagates */
        }
        if (b->best) b->best[i] = best;
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - top);
        b->nats[i] = top + log(sum) - z[target];
        if (!b->w.train) continue;
        /* The loss is a mean over B (SPEC 5). */
        for (int64_t v = 0; v < V; v++)
            z[v] = (exp(z[v] - top) / sum - (v == target)) / (real)b->w.batch.B;
    }
    return EXIT_DONE;
}

static int reference_logits_get(Backend *b, int64_t row, int64_t rows, float *dst, Error *e)
{
    (void)e;
    narrow(dst, b->logits + row * b->config.shape.V_out, rows * b->config.shape.V_out);
    return EXIT_DONE;
}

/* ---- backward ---- */

static int reference_softmax_backward(Backend *b, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, V = b->config.shape.V_out, L = b->config.shape.L,
            B = b->w.batch.B;
    const real *w = b->param[param_decoder_weight(&b->config.shape)];
    real *dw = b->grad[param_decoder_weight(&b->config.shape)],
         *db = b->grad[param_decoder_bias(&b->config.shape)];
    memset(dw, 0, (size_t)(V * H) * sizeof *dw);
    memset(db, 0, (size_t)V * sizeof *db);
    memset(b->dy, 0, (size_t)(b->w.batch.T * B * H) * sizeof *b->dy);
    for (int64_t i = 0; i < b->w.batch.n_scored; i++) {
        int64_t n = position_of(b, i);
        const real *x = b->x[L] + n * H, *dz = b->logits + i * V;
        real *dy = b->dy + n * H;
        for (int64_t v = 0; v < V; v++) {
            db[v] += dz[v];
            for (int64_t k = 0; k < H; k++) {
                dw[v * H + k] += dz[v] * x[k];
                dy[k] += dz[v] * w[v * H + k];
            }
        }
        for (int64_t k = 0; k < H; k++) dy[k] *= mask_factor(b, (int)L, n / B, n % B, k);
    }
    return EXIT_DONE;
}

static int reference_layer_backward(Backend *b, int64_t l, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, T = b->w.batch.T, B = b->w.batch.B;
    const real *w_ih = b->param[in_layer(b, l, PARAM_W_IH)],
               *w_hh = b->param[in_layer(b, l, PARAM_W_HH)];
    real *dw_ih = b->grad[in_layer(b, l, PARAM_W_IH)], *dw_hh = b->grad[in_layer(b, l, PARAM_W_HH)];
    real *db_ih = b->grad[in_layer(b, l, PARAM_B_IH)], *db_hh = b->grad[in_layer(b, l, PARAM_B_HH)];
    const real *h = b->h[l], *c = b->c[l];
    memset(dw_ih, 0, (size_t)(4 * H * H) * sizeof *dw_ih);
    memset(dw_hh, 0, (size_t)(4 * H * H) * sizeof *dw_hh);
    memset(db_ih, 0, (size_t)(4 * H) * sizeof *db_ih);

    for (int64_t row = 0; row < B; row++) {
        real *state_grad[4]; /* of this row */
        for (int i = 0; i < 4; i++) state_grad[i] = b->state_grad[i] + (l * B + row) * H;
        for (int64_t t = T - 1; t >= 0; t--) {
            int64_t n = t * B + row, later = n + B;
            /* Activations on entry, gradients of the pre-activations on exit. */
            real *da = b->gates[l] + n * 4 * H;
            const real *dh_above = b->dy + n * H;
            /* dc_next is dc of step t+1 times its f. It uses rows of hm, which is computed again
             * below. */
            real *dc_next = b->hm + row * H;
            for (int64_t u = 0; u < H; u++) {
                real i = da[u], f = da[H + u], g = da[2 * H + u], o = da[3 * H + u];
                real tc = tanh(c[later * H + u]);
                real dh = dh_above[u];
                if (t < T - 1) { /* dh of step t+1, through W_hh and its mask */
                    const real *da_next = b->gates[l] + later * 4 * H;
                    real sum = 0;
                    for (int64_t j = 0; j < 4 * H; j++) sum += w_hh[j * H + u] * da_next[j];
                    dh += sum * mask_factor(b, recurrent_site(b, l), t + 1, row, u);
                } else {
                    dh += state_grad[0][u];
                }
                real dc = dh * o * (1 - tc * tc) + (t < T - 1 ? dc_next[u] : state_grad[1][u]);
                da[u] = dc * g * i * (1 - i);
                da[H + u] = dc * c[n * H + u] * f * (1 - f);
                da[2 * H + u] = dc * i * (1 - g * g);
                da[3 * H + u] = dh * tc * o * (1 - o);
                dc_next[u] = dc * f;
            }
        }
        for (int64_t u = 0; u < H; u++) {
            real sum = 0;
            for (int64_t j = 0; j < 4 * H; j++)
                sum += w_hh[j * H + u] * b->gates[l][row * 4 * H + j];
            state_grad[2][u] = sum * mask_factor(b, recurrent_site(b, l), 0, row, u);
            state_grad[3][u] = b->hm[row * H + u];
        }
    }

    for (int64_t t = 0; t < T; t++)
        for (int64_t row = 0; row < B; row++) {
            int64_t n = t * B + row;
            const real *da = b->gates[l] + n * 4 * H, *x = b->x[l] + n * H;
            real *dy = b->dy + n * H, *hm = b->hm + n * H;
            for (int64_t u = 0; u < H; u++)
                hm[u] = h[n * H + u] * mask_factor(b, recurrent_site(b, l), t, row, u);
            memset(dy, 0, (size_t)H * sizeof *dy);
            for (int64_t j = 0; j < 4 * H; j++) {
                db_ih[j] += da[j];
                for (int64_t k = 0; k < H; k++) {
                    dw_ih[j * H + k] += da[j] * x[k];
                    dw_hh[j * H + k] += da[j] * hm[k];
                    dy[k] += da[j] * w_ih[j * H + k];
                }
            }
            for (int64_t k = 0; k < H; k++) dy[k] *= mask_factor(b, (int)l, t, row, k);
        }
    memcpy(db_hh, db_ih, (size_t)(4 * H) * sizeof *db_hh);
    return EXIT_DONE;
}

static int reference_embedding_backward(Backend *b, Error *e)
{
    (void)e;
    const ModelShape *s = &b->config.shape;
    const Batch *batch = &b->w.batch;
    const float *features = batch->features;
    int64_t H = s->H, F = s->F;
    real *dw = s->V_in ? b->grad[param_encoder(s)] : NULL, *dw_input = NULL, *db_input = NULL;
    if (dw) memset(dw, 0, (size_t)(s->V_in * H) * sizeof *dw);
    if (F) {
        dw_input = b->grad[param_input_weight(s)], db_input = b->grad[param_input_bias(s)];
        memset(dw_input, 0, (size_t)(H * F) * sizeof *dw_input);
        memset(db_input, 0, (size_t)H * sizeof *db_input);
    }
    for (int64_t n = 0; n < batch->T * batch->B; n++) {
        int32_t id = batch->ids[n];
        const real *dx = b->dy + n * H;
        for (int64_t u = 0; id >= 0 && u < H; u++) dw[id * H + u] += dx[u];
        if (id != ID_FEATURES) continue;
        for (int64_t u = 0; u < H; u++) {
            db_input[u] += dx[u];
            for (int64_t f = 0; f < F; f++) dw_input[u * F + f] += dx[u] * features[f];
        }
        features += F;
    }
    return EXIT_DONE;
}

static int reference_update(Backend *b, double lr, double clip, Error *e)
{
    (void)e;
    const ModelShape *s = &b->config.shape;
    double sum = 0;
    for (int k = 0; k < params_count(s); k++)
        for (int64_t i = 0; i < param_info(s, k).n; i++) sum += b->grad[k][i] * b->grad[k][i];
    b->grad_norm = sqrt(sum);
    double scale = b->grad_norm > clip ? clip / b->grad_norm : 1;
    for (int k = 0; k < params_count(s); k++)
        for (int64_t i = 0; i < param_info(s, k).n; i++)
            b->param[k][i] = (float)(b->param[k][i] - lr * (scale * b->grad[k][i]));
    return EXIT_DONE;
}

static int reference_window_end(Backend *b, WindowResult *r, double *token_nats,
                                int32_t *token_best, Error *e)
{
    (void)e;
    *r = (WindowResult){.step = b->w.step, .grad_norm = b->grad_norm};
    for (int64_t n = 0; n < b->w.batch.T * b->w.batch.B; n++) {
        if (token_nats) token_nats[n] = 0;
        if (token_best) token_best[n] = -1;
    }
    for (int64_t i = 0; i < b->w.batch.n_scored; i++) {
        int64_t n = position_of(b, i);
        r->nats += b->nats[i];
        if (token_nats) token_nats[n] = b->nats[i];
        if (!b->best) continue;
        r->hits += b->best[i] == b->w.batch.targets[n];
        if (token_best) token_best[n] = b->best[i];
    }
    return EXIT_DONE;
}

const BackendOps backend_reference = {
    .name = "reference",
    .f32_only = true,
    .summary = "plain loops in double: slow, the oracle of every test",
    .bytes = reference_bytes,
    .open = reference_open,
    .close = reference_close,
    .info = reference_info,
    .param_set = reference_param_set,
    .param_get = reference_param_get,
    .grad_get = reference_grad_get,
    .state_set = reference_state_set,
    .state_get = reference_state_get,
    .state_grad_set = reference_state_grad_set,
    .state_grad_get = reference_state_grad_get,
    .window_begin = reference_window_begin,
    .embedding_forward = reference_embedding_forward,
    .layer_forward = reference_layer_forward,
    .softmax_forward = reference_softmax_forward,
    .softmax_backward = reference_softmax_backward,
    .layer_backward = reference_layer_backward,
    .embedding_backward = reference_embedding_backward,
    .update = reference_update,
    .window_end = reference_window_end,
    .logits_get = reference_logits_get,
};
