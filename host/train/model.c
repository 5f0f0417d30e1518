#include "model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int model_open(Model *m, const BackendOps *ops, const BackendConfig *config, Error *e)
{
    size_t state = (size_t)(config->shape.L * config->B * config->shape.H),
           window = (size_t)(config->T * config->B);
    memset(m, 0, sizeof *m);
    m->ops = ops;
    m->config = *config;
    m->kept_h = calloc(state, sizeof(float)), m->kept_c = calloc(state, sizeof(float));
    m->token_nats = calloc(window, sizeof(double)), m->token_best = calloc(window, sizeof(int32_t));
    int code = EXIT_DONE;
    if (!m->kept_h || !m->kept_c || !m->token_nats || !m->token_best)
        code = error_set(e, EXIT_FAILED, "the model ran out of memory");
    else code = ops->open(config, &m->backend, e);
    if (code) model_close(m);
    return code;
}

void model_close(Model *m)
{
    if (m->backend) m->ops->close(m->backend);
    free(m->kept_h), free(m->kept_c), free(m->token_nats), free(m->token_best);
    memset(m, 0, sizeof *m);
}

int model_set_params(Model *m, const Params *p, Error *e)
{
    int code = EXIT_DONE;
    for (int k = 0; !code && k < p->count; k++)
        code = m->ops->param_set(m->backend, k, p->data + p->offset[k], e);
    return code;
}

int model_get_params(Model *m, Params *p, Error *e)
{
    int code = EXIT_DONE;
    for (int k = 0; !code && k < p->count; k++)
        code = m->ops->param_get(m->backend, k, p->data + p->offset[k], e);
    return code;
}

int model_get_grads(Model *m, Params *p, Error *e)
{
    int code = EXIT_DONE;
    for (int k = 0; !code && k < p->count; k++)
        code = m->ops->grad_get(m->backend, k, p->data + p->offset[k], e);
    return code;
}

/* ---- one window ---- */

static int forward(Model *m, const Window *w, bool *replayed, Error *e)
{
    int code = m->ops->window_begin(m->backend, w, replayed, e);
    if (code || *replayed) return code;
    code = m->ops->embedding_forward(m->backend, e);
    for (int64_t l = 0; !code && l < m->config.shape.L; l++)
        code = m->ops->layer_forward(m->backend, l, e);
    if (!code) code = m->ops->softmax_forward(m->backend, e);
    return code;
}

static int backward(Model *m, Error *e)
{
    int code = m->ops->softmax_backward(m->backend, e);
    for (int64_t l = m->config.shape.L - 1; !code && l >= 0; l--)
        code = m->ops->layer_backward(m->backend, l, e);
    if (!code) code = m->ops->embedding_backward(m->backend, e);
    return code;
}

int model_train_step(Model *m, const Window *w, double lr, double clip, WindowResult *r, Error *e)
{
    assert(w->train);
    Window updated = *w;
    updated.update = true;
    *r = (WindowResult){.step = -1};
    bool replayed;
    int code = forward(m, &updated, &replayed, e);
    if (!code && !replayed) code = backward(m, e);
    if (!code) code = m->ops->update(m->backend, lr, clip, e);
    if (!code) code = m->ops->window_end(m->backend, r, NULL, NULL, e);
    return code;
}

int model_drain(Model *m, WindowResult *r, Error *e)
{
    *r = (WindowResult){.step = -1};
    return m->ops->drain ? m->ops->drain(m->backend, r, e) : EXIT_DONE;
}

int model_gradients(Model *m, const Window *w, WindowResult *r, Error *e)
{
    assert(w->train);
    bool replayed; /* a window is replayed only with an update */
    int code = forward(m, w, &replayed, e);
    if (!code) code = backward(m, e);
    if (!code) code = m->ops->window_end(m->backend, r, NULL, NULL, e);
    return code;
}

int model_forward(Model *m, const Window *w, double *token_nats, int32_t *token_best,
                  WindowResult *r, Error *e)
{
    assert(!w->train);
    bool replayed;
    int code = forward(m, w, &replayed, e);
    if (!code) code = m->ops->window_end(m->backend, r, token_nats, token_best, e);
    return code;
}
