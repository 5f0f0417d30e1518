#include "host/train/scorer.h"

#include <math.h>

double totals_ppl(const Totals *t) { return t->scored ? exp(t->nats / (double)t->scored) : NAN; }

static int stopped(const Model *m, Error *e)
{
    int signal_number = m->interrupt ? (int)*m->interrupt : 0;
    return signal_number ? error_set(e, 128 + signal_number, "stopped by signal %d", signal_number)
                         : EXIT_DONE;
}

static void visit_batch(const Model *m, const Source *source, const Batch *b, ScoreVisitor visit,
                        void *user)
{
    for (int64_t t = 0; t < b->T; t++)
        for (int64_t row = 0; row < b->B; row++) {
            int64_t n = t * b->B + row;
            if (b->targets[n] != TARGET_NONE)
                visit(user, source->place(source, t, row), b->targets[n], m->token_best[n],
                      m->token_nats[n]);
        }
}

static int score_batches(Model *m, Source *source, ScoreVisitor visit, void *user, Totals *totals,
                         bool *fault, Error *e)
{
    int code = EXIT_DONE;
    for (int64_t i = 0; !code && i < source->batches; i++) {
        WindowResult r = {0}; /* a window that fails early does not set it */
        Window w = {0};
        if ((code = stopped(m, e))) break;
        source->get(source, 1, i, &w.batch);
        code =
            model_forward(m, &w, visit ? m->token_nats : NULL, visit ? m->token_best : NULL, &r, e);
        if (fault) *fault = r.fault;
        if (code) break;
        totals->nats += r.nats, totals->hits += r.hits;
        totals->scored += w.batch.n_scored;
        if (visit) visit_batch(m, source, &w.batch, visit, user);
    }
    return code;
}

int score_source(Model *m, Source *source, ScoreVisitor visit, void *user, Totals *totals,
                 bool *fault, Error *e)
{
    bool keep = m->config.train;
    int code = EXIT_DONE;
    *totals = (Totals){0};
    if (fault) *fault = false;
    if (keep && (code = m->ops->state_get(m->backend, m->config.B, m->kept_h, m->kept_c, e)))
        return code;
    code = score_batches(m, source, visit, user, totals, fault, e);
    if (keep) {
        Error restore; /* the first error is the one to report */
        int again =
            m->ops->state_set(m->backend, m->config.B, m->kept_h, m->kept_c, code ? &restore : e);
        if (!code) code = again;
    }
    return code;
}
