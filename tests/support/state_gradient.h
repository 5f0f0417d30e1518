/* state_gradient: runs one window that receives the gradients of its final state, so that tests can
 * compare backends. */
#ifndef PLSTM_TESTS_STATE_GRADIENT_H
#define PLSTM_TESTS_STATE_GRADIENT_H

#include <stdlib.h>

#include "host/train/model.h"
#include "kernels/philox.h"

/* Returns n drawn values between -1 and 1, or NULL; the caller frees them. */
static inline float *state_gradient_drawn(uint32_t seed, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; x && i < n; i++)
        x[i] = ldexpf((float)(int32_t)philox_block(seed, 1, (uint64_t)i).word[0], -31);
    return x;
}

/* Returns how many of state_gradients' numbers belong to the state; they come first. */
static inline int64_t state_gradients_state(const BackendConfig *g)
{
    return 2 * g->shape.L * g->B * g->shape.H;
}

/* Returns how many numbers state_gradients returns. */
static inline int64_t state_gradients_all(const BackendConfig *g)
{
    int64_t n = state_gradients_state(g);
    for (int k = 0; k < params_count(&g->shape); k++) n += param_info(&g->shape, k).n;
    return n;
}

/* Returns dh_0 and dc_0 (L,B,H), then every parameter's gradient, for a window of drawn ids,
 * weights, state, dh_n and dc_n; the caller frees it. Returns NULL if a call failed; *e then has
 * the sentence. */
static inline double *state_gradients(const BackendOps *ops, const BackendConfig *g, Error *e)
{
    int64_t n = g->T * g->B, state = state_gradients_state(g), all = state_gradients_all(g);
    float *in = state_gradient_drawn(21, state), *carried = state_gradient_drawn(22, state);
    float *out = malloc((size_t)state * sizeof *out);
    double *result = malloc((size_t)all * sizeof *result);
    int32_t *ids = malloc((size_t)(2 * n) * sizeof *ids);
    for (int64_t i = 0; i < 2 * n; i++)
        ids[i] = (int32_t)(philox_block(23, 1, (uint64_t)i).word[0] % (uint64_t)g->shape.V_out);
    Model m;
    Params p, d;
    WindowResult r;
    Window w = {.batch = batch_of_tokens(g->T, g->B, ids, ids + n), .train = true, .step = 77};
    int code =
        model_open(&m, ops, g, e) || params_init(&p, &g->shape) || params_init(&d, &g->shape);
    params_draw(&p, 5, 0.3);
    if (!code) code = model_set_params(&m, &p, e);
    if (!code) code = ops->state_set(m.backend, g->B, carried, carried + state / 2, e);
    if (!code) code = ops->state_grad_set(m.backend, g->B, in, in + state / 2, true, e);
    if (!code) code = model_gradients(&m, &w, &r, e);
    if (!code) code = ops->state_grad_get(m.backend, g->B, out, out + state / 2, e);
    if (!code) code = model_get_grads(&m, &d, e);
    for (int64_t i = 0; !code && i < all; i++) result[i] = i < state ? out[i] : 0;
    for (int k = 0, at = 0; !code && k < d.count; k++)
        for (int64_t i = d.offset[k]; i < d.offset[k + 1]; i++) result[state + at++] = d.data[i];
    model_close(&m), params_free(&p), params_free(&d);
    free(in), free(carried), free(out), free(ids);
    if (!code) return result;
    free(result);
    return NULL;
}

#endif
