#include "decode.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 16 }; /* positions of the inputs per window */

/* The state of some columns of one model, each (L,columns,H). */
typedef struct State {
    float *h, *c;
} State;

typedef struct Member {
    Model *model;
    State now, next;
    float *logits; /* (columns,V) */
} Member;

struct Decoder {
    DecodeOptions o;
    int64_t V, columns; /* columns = batch * width */
    int n;
    Member *member;
    Beam *beam;             /* (batch) */
    int64_t *order;         /* (batch) inputs, shortest first */
    int32_t *ids, *targets; /* (CHUNK,batch) or (columns) */
    float *features;        /* (features * batch,F) */
    int64_t *from;          /* (columns) previous column that each continues */
    double *logp;           /* (V) */
};

BatchLimits decode_limits(const DecodeOptions *o)
{
    int64_t columns = o->batch * o->width;
    return (BatchLimits){
        .T = CHUNK, .B = columns, .scored = columns, .features = o->features * o->batch};
}

int decode_open(Decoder **out, Model *models, int n_models, const DecodeOptions *o, Error *e)
{
    Decoder *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, EXIT_FAILED, "memory ran out for the beam");
    d->o = *o;
    d->n = n_models;
    d->V = models[0].config.shape.V_out;
    d->columns = o->batch * o->width;
    int64_t grid = d->columns > CHUNK * o->batch ? d->columns : CHUNK * o->batch;
    d->member = calloc((size_t)n_models, sizeof *d->member);
    d->beam = calloc((size_t)o->batch, sizeof *d->beam);
    d->order = calloc((size_t)o->batch, sizeof *d->order);
    d->ids = calloc((size_t)grid, sizeof *d->ids);
    d->targets = calloc((size_t)grid, sizeof *d->targets);
    d->from = calloc((size_t)d->columns, sizeof *d->from);
    d->logp = calloc((size_t)d->V, sizeof *d->logp);
    d->features = malloc(sizeof *d->features *
                         (size_t)(o->features * o->batch * models[0].config.shape.F + 1));
    int code = d->member && d->beam && d->order && d->ids && d->targets && d->from && d->logp &&
                       d->features
                   ? EXIT_DONE
                   : error_set(e, EXIT_FAILED, "memory ran out for the beam");
    for (int k = 0; !code && k < n_models; k++) {
        Member *m = &d->member[k];
        const ModelShape *shape = &models[k].config.shape;
        size_t state = (size_t)(shape->L * d->columns * shape->H);
        assert(shape->V_out == d->V && shape->F == models[0].config.shape.F);
        m->model = &models[k];
        m->now.h = malloc(state * sizeof(float)), m->now.c = malloc(state * sizeof(float));
        m->next.h = malloc(state * sizeof(float)), m->next.c = malloc(state * sizeof(float));
        m->logits = malloc((size_t)(d->columns * d->V) * sizeof *m->logits);
        if (!m->now.h || !m->now.c || !m->next.h || !m->next.c || !m->logits)
            code = error_set(e, EXIT_FAILED, "memory ran out for the beam");
    }
    for (int64_t i = 0; !code && i < o->batch; i++)
        code = beam_init(&d->beam[i], d->V, o->width, o->end, e);
    if (code) decode_close(d);
    else *out = d;
    return code;
}

void decode_close(Decoder *d)
{
    if (!d) return;
    for (int k = 0; d->member && k < d->n; k++) {
        Member *m = &d->member[k];
        free(m->now.h), free(m->now.c), free(m->next.h), free(m->next.c), free(m->logits);
    }
    for (int64_t i = 0; d->beam && i < d->o.batch; i++) beam_free(&d->beam[i]);
    free(d->member), free(d->beam), free(d->order), free(d->ids), free(d->targets), free(d->from),
        free(d->logp), free(d->features);
    free(d);
}

const Beam *decode_beam(const Decoder *d, int64_t i) { return &d->beam[i]; }

/* ---- states ---- */

/* Copies column `from` of one state to column `to` of another; (L,B,H). */
static void column_copy(const ModelShape *shape, State to, int64_t to_B, int64_t to_b, State from,
                        int64_t from_B, int64_t from_b)
{
    size_t bytes = (size_t)shape->H * sizeof(float);
    for (int64_t l = 0; l < shape->L; l++) {
        int64_t a = (l * to_B + to_b) * shape->H, b = (l * from_B + from_b) * shape->H;
        memcpy(to.h + a, from.h + b, bytes);
        memcpy(to.c + a, from.c + b, bytes);
    }
}

/* ---- reading the inputs ---- */

/* Returns the row of features of position `at` of an input. */
static const float *row_at(const DecodeInput *in, int64_t at, int64_t F)
{
    int64_t row = 0;
    for (int64_t i = 0; i < at; i++) row += in->ids[i] == ID_FEATURES;
    return in->features + row * F;
}

/* Reads T positions of the inputs in d->order, beginning with position `from`, but never the last
 * position of an input. */
static int read_chunk(Decoder *d, Model *m, const DecodeInput *input, int64_t n, int64_t from,
                      int64_t T, Error *e)
{
    int64_t rows = 0, F = m->config.shape.F;
    for (int64_t t = 0; t < T; t++)
        for (int64_t b = 0; b < n; b++) {
            const DecodeInput *in = &input[d->order[b]];
            int32_t id = from + t < in->n - 1 ? in->ids[from + t] : ID_PADDING;
            d->ids[t * n + b] = id;
            d->targets[t * n + b] = TARGET_NONE;
            if (id == ID_FEATURES)
                memcpy(d->features + rows++ * F, row_at(in, from + t, F),
                       (size_t)F * sizeof *d->features);
        }
    assert(rows <= d->o.features * d->o.batch);
    WindowResult r;
    Window w = {.batch = {.T = T,
                          .B = n,
                          .ids = d->ids,
                          .targets = d->targets,
                          .features = rows ? d->features : NULL,
                          .n_features = rows,
                          .carry = true}};
    return model_forward(m, &w, NULL, NULL, &r, e);
}

/* Leaves in member->now the state of each input before its last position; columns are in the
 * inputs' own order. */
static int read_inputs(Decoder *d, Member *m, const DecodeInput *input, int64_t n, Error *e)
{
    const ModelShape *shape = &m->model->config.shape;
    int code = m->model->ops->state_set(m->model->backend, n, NULL, NULL, e);
    int64_t at = 0;
    for (int64_t b = 0; !code && b < n;) {
        int64_t length = input[d->order[b]].n - 1;
        while (!code && at < length) {
            int64_t T = length - at < CHUNK ? length - at : CHUNK;
            code = read_chunk(d, m->model, input, n, at, T, e);
            at += T;
        }
        if (!code) code = m->model->ops->state_get(m->model->backend, n, m->next.h, m->next.c, e);
        for (; !code && b < n && input[d->order[b]].n - 1 == length; b++)
            column_copy(shape, m->now, n, d->order[b], m->next, n, b);
    }
    return code;
}

static void order_by_length(Decoder *d, const DecodeInput *input, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        for (; at > 0 && input[d->order[at - 1]].n > input[i].n; at--)
            d->order[at] = d->order[at - 1];
        d->order[at] = i;
    }
}

/* ---- one word of every live hypothesis ---- */

/* Reads d->ids (columns) and leaves the logits and states that follow in m->logits and m->now. */
static int read_words(Decoder *d, Member *m, int64_t columns, Error *e)
{
    const BackendOps *ops = m->model->ops;
    Backend *backend = m->model->backend;
    WindowResult r;
    Window w = {.batch = {.T = 1,
                          .B = columns,
                          .ids = d->ids,
                          .targets = d->targets,
                          .n_scored = columns,
                          .carry = true}};
    int code = ops->state_set(backend, columns, m->now.h, m->now.c, e);
    if (!code) code = model_forward(m->model, &w, NULL, NULL, &r, e);
    if (!code) code = ops->logits_get(backend, 0, columns, m->logits, e);
    if (!code) code = ops->state_get(backend, columns, m->now.h, m->now.c, e);
    return code;
}

/* Computes the log of the mean of the members' probabilities of every word in a column. */
static int column_logp(Decoder *d, int64_t column, Error *e)
{
    for (int k = 0; k < d->n; k++) {
        const float *logits = d->member[k].logits + column * d->V;
        float top = logits[0];
        double sum = 0;
        for (int64_t v = 1; v < d->V; v++) top = logits[v] > top ? logits[v] : top;
        for (int64_t v = 0; v < d->V; v++) sum += exp((double)logits[v] - top);
        if (!isfinite(sum))
            return error_set(e, EXIT_FAILED, "a model assigns the next word no finite probability");
        double norm = top + log(sum);
        if (d->n == 1)
            for (int64_t v = 0; v < d->V; v++) d->logp[v] = logits[v] - norm;
        else
            for (int64_t v = 0; v < d->V; v++)
                d->logp[v] = (k ? d->logp[v] : 0) + exp(logits[v] - norm);
    }
    for (int64_t v = 0; d->n > 1 && v < d->V; v++) d->logp[v] = log(d->logp[v] / d->n);
    return EXIT_DONE;
}

/* Finds the columns of the continuing hypotheses among the previous columns. */
static void columns_follow(Decoder *d, int64_t before, int64_t columns)
{
    for (int k = 0; k < d->n; k++) {
        Member *m = &d->member[k];
        for (int64_t i = 0; i < columns; i++)
            column_copy(&m->model->config.shape, m->next, columns, i, m->now, before, d->from[i]);
        State now = m->now;
        m->now = m->next;
        m->next = now;
    }
}

static int step(Decoder *d, int64_t n, int64_t *columns, Error *e)
{
    int code = EXIT_DONE;
    int64_t column = 0, next = 0;
    for (int k = 0; !code && k < d->n; k++) code = read_words(d, &d->member[k], *columns, e);
    for (int64_t i = 0; !code && i < n; i++) {
        Beam *b = &d->beam[i];
        int64_t first = column;
        for (int64_t h = 0; !code && h < b->live; h++) {
            code = column_logp(d, column++, e);
            if (!code) beam_offer(b, h, d->logp);
        }
        if (code || !b->live) continue;
        beam_advance(b);
        for (int64_t h = 0; h < b->live; h++) {
            d->from[next] = first + b->parent[h];
            d->ids[next++] = d->o.feedback + b->word[h];
        }
    }
    if (!code) columns_follow(d, *columns, next);
    *columns = next;
    return code;
}

int decode_run(Decoder *d, const DecodeInput *input, int64_t n, Error *e)
{
    assert(n <= d->o.batch);
    int code = EXIT_DONE;
    order_by_length(d, input, n);
    for (int k = 0; !code && k < d->n; k++) code = read_inputs(d, &d->member[k], input, n, e);
    for (int64_t i = 0; !code && i < n; i++) {
        code = beam_begin(&d->beam[i], input[i].most, e);
        d->ids[i] = input[i].ids[input[i].n - 1];
    }
    /* Any class will do as a target: only scored positions have logits. */
    memset(d->targets, 0, (size_t)d->columns * sizeof *d->targets);
    for (int64_t columns = n; !code && columns;) code = step(d, n, &columns, e);
    for (int64_t i = 0; !code && i < n; i++) beam_end(&d->beam[i], d->o.penalty);
    return code;
}
