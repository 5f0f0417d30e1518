#include "model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/batcher.h"

int model_open(Model *m, const BackendOps *ops, const BackendConfig *config, Error *e)
{
    size_t state = (size_t)(config->shape.L * config->B * config->shape.H),
           window = (size_t)(config->T * config->B);
    memset(m, 0, sizeof *m);
    m->ops = ops;
    m->config = *config;
    m->kept_h = calloc(state, sizeof(float)), m->kept_c = calloc(state, sizeof(float));
    m->window_x = calloc(window, sizeof(int32_t)), m->window_y = calloc(window, sizeof(int32_t));
    m->token_nats = calloc(window, sizeof(double));
    int code = EXIT_DONE;
    if (!m->kept_h || !m->kept_c || !m->window_x || !m->window_y || !m->token_nats)
        code = error_set(e, EXIT_FAILED, "the model ran out of memory");
    else code = ops->open(config, &m->backend, e);
    if (code) model_close(m);
    return code;
}

void model_close(Model *m)
{
    if (m->backend) m->ops->close(m->backend);
    free(m->kept_h), free(m->kept_c), free(m->window_x), free(m->window_y), free(m->token_nats);
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

static int forward(Model *m, const Window *w, Error *e)
{
    int code = m->ops->window_begin(m->backend, w, e);
    if (!code) code = m->ops->embedding_forward(m->backend, e);
    for (int64_t l = 0; !code && l < m->config.shape.L; l++) code = m->ops->layer_forward(m->backend, l, e);
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
    *r = (WindowResult){.step = -1};
    int code = forward(m, w, e);
    if (!code) code = backward(m, e);
    if (!code) code = m->ops->update(m->backend, lr, clip, e);
    if (!code) code = m->ops->window_end(m->backend, r, NULL, e);
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
    int code = forward(m, w, e);
    if (!code) code = backward(m, e);
    if (!code) code = m->ops->window_end(m->backend, r, NULL, e);
    return code;
}

int model_forward(Model *m, const Window *w, double *token_nats, WindowResult *r, Error *e)
{
    assert(!w->train);
    int code = forward(m, w, e);
    if (!code) code = m->ops->window_end(m->backend, r, token_nats, e);
    return code;
}

/* ---- a split ---- */

int64_t score_rows(int64_t protocol, int split, int64_t batch)
{
    return protocol == PROTOCOL_ZAREMBA && split == SPLIT_VALID ? batch : 0;
}

static int stopped(const Model *m, Error *e)
{
    int signal_number = m->interrupt ? (int)*m->interrupt : 0;
    return signal_number ? error_set(e, 128 + signal_number, "stopped by signal %d", signal_number)
                         : EXIT_DONE;
}

static int scored(Model *m, const Window *w, WindowResult *r, Score *score, Error *e)
{
    *r = (WindowResult){0}; /* a window that fails early leaves it */
    int code = model_forward(m, w, m->token_nats, r, e);
    score->fault = r->fault;
    return code;
}

static int score_batched(Model *m, const Batcher *b, ScoreVisitor visit, void *user, Score *score, Error *e)
{
    int code = EXIT_DONE;
    for (int64_t n = 0; !code && n < b->windows; n++) {
        WindowResult r;
        batcher_window(b, n, m->window_x, m->window_y);
        Window w = {.T = b->T, .B = b->B, .x = m->window_x, .y = m->window_y};
        if ((code = stopped(m, e)) || (code = scored(m, &w, &r, score, e))) break;
        score->nats += r.nats;
        score->tokens += b->T * b->B;
        if (!visit) continue;
        for (int64_t t = 0; t < b->T; t++)
            for (int64_t row = 0; row < b->B; row++) {
                int64_t i = t * b->B + row;
                visit(user, batcher_row_start(b, row) + n * b->T + t + 1, m->window_y[i], m->token_nats[i]);
            }
    }
    return code;
}

static int score_sequential(Model *m, const Stream *s, ScoreVisitor visit, void *user, Score *score, Error *e)
{
    int64_t longest = m->config.T * m->config.B;
    int code = EXIT_DONE;
    for (int64_t at = 0; !code && at < s->n - 1; at += longest) {
        WindowResult r;
        int64_t n = s->n - 1 - at < longest ? s->n - 1 - at : longest;
        Window w = {.T = n, .B = 1, .x = s->ids + at, .y = s->ids + at + 1};
        if ((code = stopped(m, e)) || (code = scored(m, &w, &r, score, e))) break;
        score->nats += r.nats;
        score->tokens += n;
        for (int64_t i = 0; visit && i < n; i++)
            visit(user, at + 1 + i, s->ids[at + 1 + i], m->token_nats[i]);
    }
    return code;
}

int model_score(Model *m, const Stream *stream, const char *what, int64_t rows, int64_t seq,
                ScoreVisitor visit, void *user, Score *score, Error *e)
{
    Batcher b;
    int code = EXIT_DONE;
    *score = (Score){.ppl = NAN, .ppl_paper = NAN};
    assert(rows <= m->config.B && rows * seq <= m->config.T * m->config.B);
    if (rows > 0) code = batcher_init(&b, stream->ids, stream->n, rows, seq, what, e);
    else if (stream->n < 2)
        code = error_set(e, EXIT_BAD_DATA, "the %s split has %lld token%s; scoring it needs at least 2", what,
                         (long long)stream->n, stream->n == 1 ? "" : "s");
    if (code) return code;

    bool keep = m->config.train;
    if (keep && (code = m->ops->state_get(m->backend, m->config.B, m->kept_h, m->kept_c, e))) return code;
    code = m->ops->state_set(m->backend, rows > 0 ? rows : 1, NULL, NULL, e);
    if (!code && rows > 0) code = score_batched(m, &b, visit, user, score, e);
    else if (!code) code = score_sequential(m, stream, visit, user, score, e);
    if (!code) {
        score->ppl = exp(score->nats / (double)score->tokens);
        if (rows > 0) score->ppl_paper = exp(score->nats / (double)(rows * (b.columns - 1)));
    }
    if (keep) {
        Error restore; /* the first fault is the one to tell */
        int again = m->ops->state_set(m->backend, m->config.B, m->kept_h, m->kept_c, code ? &restore : e);
        if (!code) code = again;
    }
    return code;
}
