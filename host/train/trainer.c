#include "trainer.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/data/batcher.h"
#include "model.h"
#include "report.h"
#include "host/base/machine.h"
#include "host/base/signals.h"
#include "host/store/weights.h"
#include "host/data/synthetic.h"

/* What the log says of a minibatch, kept until its result comes back (backend.h: a few minibatches later,
 * where a device computes). */
enum { RUNNING = 8 };
typedef struct Submitted {
    Counters at; /* before it */
    double start;
} Submitted;

typedef struct Trainer {
    Settings settings; /* backend resolved: what a checkpoint records */
    const Corpus *corpus;
    ModelShape shape;
    Model model;
    Params params; /* host copy, for checkpoints */
    Batcher batcher;
    Counters at; /* step and minibatch: submitted so far; nats and tokens: of the results that are back */
    Submitted running[RUNNING]; /* [step % RUNNING] */
    int64_t oldest;             /* step of the result that comes back next */
    double last_result;         /* seconds */
    Report *report;
    int32_t *x, *y;          /* (T,B) window, where the backend takes it from here */
    float *h, *c;            /* (L,B,H) for checkpoints inside an epoch */
    int64_t first_step;      /* of this process */
    int64_t saved_step;      /* of the newest --save of this run, -1: none */
    int64_t scored_step;     /* at which valid was scored last, -1: never */
    double saved_at;         /* seconds */
    double epoch_seconds;    /* of the present epoch, in this process */
    char note[WEIGHTS_NOTE]; /* about --init-weights */
    bool unheard;            /* the log or standard output cannot be written: nothing more is reported */
} Trainer;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- set-up ---- */

/* Minibatches that the run is to have done in all when it ends. */
static int64_t steps_wanted(const Trainer *t)
{
    int64_t all = t->settings.epochs * t->batcher.windows;
    return t->settings.max_steps >= 0 && t->settings.max_steps < all ? t->settings.max_steps : all;
}

/* Splits that will be trained on or scored must be long enough before the first step, not after the last. */
static int streams_check(Trainer *t, Error *e)
{
    const Settings *s = &t->settings;
    const Stream *train = &t->corpus->split[SPLIT_TRAIN];
    int code = EXIT_DONE;
    bool trains = s->epochs > 0 && s->max_steps != 0;
    if (trains)
        code = batcher_init(&t->batcher, train->ids, train->n, s->batch, s->seq, split_name[SPLIT_TRAIN], e);
    for (int split = SPLIT_VALID; !code && split < SPLITS; split++) {
        const Stream *stream = &t->corpus->split[split];
        int64_t rows = score_rows(s->protocol, split, s->batch);
        Batcher probe;
        if (!(s->eval & (split == SPLIT_VALID ? EVAL_VALID : EVAL_TEST))) continue;
        if (rows > 0) code = batcher_init(&probe, stream->ids, stream->n, rows, s->seq, split_name[split], e);
        else if (stream->n < 2)
            code = error_set(e, EXIT_BAD_DATA, "the %s split has %lld token%s; scoring it needs at least 2",
                             split_name[split], (long long)stream->n, stream->n == 1 ? "" : "s");
    }
    return code;
}

static int weights_start(Trainer *t, const Checkpoint *resume, Error *e)
{
    if (resume) {
        for (int k = 0; k < t->params.count; k++) {
            memcpy(t->params.data + t->params.offset[k], checkpoint_param(resume, k),
                   (size_t)(t->params.offset[k + 1] - t->params.offset[k]) * sizeof(float));
            st_forget(&resume->file);
        }
    } else if (t->settings.init_weights) {
        int code = weights_read(&t->params, &t->corpus->vocab, t->settings.init_weights, t->note, e);
        if (code) return code;
    } else {
        params_draw(&t->params, t->settings.seed, t->settings.init);
    }
    int code = model_set_params(&t->model, &t->params, e);
    if (!code && t->model.ops->train_stream && t->batcher.windows > 0)
        code = t->model.ops->train_stream(t->model.backend, t->batcher.ids, t->batcher.N, t->batcher.T,
                                          t->batcher.B, e);
    if (!code && resume && resume->h)
        code = t->model.ops->state_set(t->model.backend, t->settings.batch, resume->h, resume->c, e);
    return code;
}

static int trainer_open(Trainer *t, const Checkpoint *resume, bool quiet, Error *e)
{
    Settings *s = &t->settings;
    const BackendOps *ops;
    int code = backend_find(s->backend, &ops, e);
    if (!code) code = streams_check(t, e);
    if (code) return code;
    s->backend = ops->name;
    t->shape = (ModelShape){.V = t->corpus->vocab.V, .H = s->hidden, .L = s->layers};
    if (s->threads == 0) s->threads = backend_threads();

    BackendConfig config = {.shape = t->shape,
                            .T = s->seq,
                            .B = s->batch,
                            .train = true,
                            .keep = s->keep,
                            .sites = s->sites,
                            .seed = s->seed,
                            .threads = (int)s->threads,
                            .kernel = s->kernel,
                            .precision = s->precision};
    if (resume && !(s->given >> settings_find("kernel") & 1)) config.plan = st_meta(&resume->file, "plan");
    if (resume) config.algorithms = st_meta(&resume->file, "algorithms");
    size_t host = (size_t)params_elements(&t->shape) * sizeof(float);
    code = machine_fits(host + (ops->bytes ? ops->bytes(&config) : 0), e);
    if (code) return code;
    size_t state = (size_t)(s->layers * s->batch * s->hidden), window = (size_t)(s->batch * s->seq);
    t->x = malloc(window * sizeof *t->x), t->y = malloc(window * sizeof *t->y);
    t->h = malloc(state * sizeof *t->h), t->c = malloc(state * sizeof *t->c);
    if (!t->x || !t->y || !t->h || !t->c || params_init(&t->params, &t->shape))
        return error_set(e, EXIT_FAILED, "the trainer ran out of memory");
    code = model_open(&t->model, ops, &config, e);
    if (!code) code = weights_start(t, resume, e);
    if (code) return code;
    if (ops->kernel) s->kernel = ops->kernel(t->model.backend); /* that runs, never "auto" */
    t->model.interrupt = signals_caught();

    t->at = resume ? resume->counters : (Counters){.epoch = 1, .lr = s->lr, .best_valid = INFINITY};
    t->oldest = t->first_step = t->at.step;
    t->saved_step = t->scored_step = -1;
    if (resume && t->at.minibatch == 0) t->scored_step = t->at.step; /* its epoch line is in the log */
    char device[128];
    ops->describe(t->model.backend, device, sizeof device);
    RunInfo info = {.settings = s,
                    .corpus = t->corpus,
                    .backend = ops->name,
                    .kernel = ops->kernel ? s->kernel : NULL,
                    .device = device,
                    .threads = (int)s->threads,
                    .parameters = params_elements(&t->shape),
                    .bytes = host + ops->held(t->model.backend) + corpus_bytes(t->corpus),
                    .windows = t->batcher.windows,
                    .resumed = resume ? &resume->counters : NULL};
    return report_open(&t->report, &info, quiet, e);
}

static void trainer_close(Trainer *t)
{
    if (t->report) report_close(t->report);
    model_close(&t->model);
    params_free(&t->params);
    free(t->x), free(t->y), free(t->h), free(t->c);
}

/* ---- checkpoints ---- */

static int save_to(Trainer *t, const char *path, Error *e)
{
    bool inside = t->at.minibatch > 0;
    int code = model_get_params(&t->model, &t->params, e);
    if (!code && inside) code = t->model.ops->state_get(t->model.backend, t->settings.batch, t->h, t->c, e);
    if (code) return code;
    BackendNote note[BACKEND_NOTES];
    StMeta extra[BACKEND_NOTES];
    int n = t->model.ops->notes ? t->model.ops->notes(t->model.backend, note) : 0;
    for (int i = 0; i < n; i++) extra[i] = (StMeta){note[i].key, note[i].value};
    return checkpoint_save(path, &t->settings, &t->at, t->corpus, &t->params, inside ? t->h : NULL,
                           inside ? t->c : NULL, extra, n, e);
}

static int save(Trainer *t, Error *e)
{
    t->saved_at = seconds_now();
    if (!t->settings.save || t->saved_step == t->at.step) return EXIT_DONE;
    int code = save_to(t, t->settings.save, e);
    if (!code) t->saved_step = t->at.step;
    return code;
}

/* ---- scoring ---- */

typedef struct ClassVisit {
    SyntheticScan scan;
    ClassScore score;
} ClassVisit;

static void visit_class(void *user, int64_t position, int32_t id, double nats)
{
    ClassVisit *v = user;
    double best;
    (void)position; /* sequential scoring comes in order */
    PositionClass class = synthetic_scan_next(&v->scan, id, &best);
    v->score.nats[class] += nats;
    v->score.best_nats[class] += best;
    v->score.tokens[class]++;
}

/* The device gave up, or nobody hears the run any more, and what it was before that is there: it is saved and the sentence
 * says so. */
static void save_and_say(Trainer *t, Error *e)
{
    Error ignored; /* the fault is what there is to tell */
    bool saved = t->saved_step == t->at.step;
    if (!t->settings.save || (!saved && save_to(t, t->settings.save, &ignored))) return;
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, "; the %lld minibatches before it are saved: --resume %s",
             (long long)t->at.step, t->settings.save);
}

static int score_split(Trainer *t, int split, ScoreVisitor visit, void *user, Score *score, Error *e)
{
    const Settings *s = &t->settings;
    int code = model_score(&t->model, &t->corpus->split[split], split_name[split],
                           score_rows(s->protocol, split, s->batch), s->seq, visit, user, score, e);
    if (code && score->fault) save_and_say(t, e);
    if (!code && !isfinite(score->ppl)) /* a finite sum of nats may still be no perplexity */
        code =
            error_set(e, EXIT_DIVERGED, "diverged: the %s split's perplexity is not finite after step %lld",
                      split_name[split], (long long)t->at.step);
    return code;
}

/* A test score, with what is known of the built-in corpus. */
typedef struct TestScore {
    Score score;
    ClassVisit visit;
} TestScore;

static int score_test(Trainer *t, TestScore *test, Error *e)
{
    const Stream *stream = &t->corpus->split[SPLIT_TEST];
    bool synthetic = t->corpus->synthetic;
    double first;
    *test = (TestScore){.score = {0}};
    if (synthetic) {
        synthetic_scan_init(&test->visit.scan);
        synthetic_scan_next(&test->visit.scan, stream->ids[0], &first); /* given, not scored */
    }
    return score_split(t, SPLIT_TEST, synthetic ? visit_class : NULL, &test->visit, &test->score, e);
}

static int tell_test(Trainer *t, const TestScore *test, Error *e)
{
    const Stream *stream = &t->corpus->split[SPLIT_TEST];
    bool synthetic = t->corpus->synthetic;
    return report_test(t->report, test->score.ppl, t->settings.protocol, test->score.tokens,
                       synthetic ? synthetic_best_ppl(stream->ids, stream->n) : NAN,
                       synthetic ? &test->visit.score : NULL, e);
}

/* ---- training ---- */

/* What a report came to. */
static int heard(Trainer *t, int code)
{
    t->unheard |= code != EXIT_DONE;
    return code;
}

/* A result is back: count it, tell it, and stop where it is none. */
static int take_result(Trainer *t, const WindowResult *r, Error *e)
{
    if (r->step < 0) return EXIT_DONE;
    assert(r->step == t->oldest && t->oldest < t->at.step);
    const Submitted *step = &t->running[t->oldest++ % RUNNING];
    const Settings *s = &t->settings;
    int64_t tokens = s->seq * s->batch;
    double now = seconds_now(), took = now - fmax(step->start, t->last_result);
    t->last_result = now;
    t->epoch_seconds += took;
    t->at.nats += r->nats;
    t->at.tokens += tokens;
    StepInfo info = {.step = r->step,
                     .epoch = step->at.epoch,
                     .minibatch = step->at.minibatch,
                     .loss = r->nats / (double)s->batch,
                     .nats = r->nats,
                     .tokens = tokens,
                     .grad_norm = r->grad_norm,
                     .lr = step->at.lr,
                     .words_per_s = (double)tokens / took,
                     .epoch_nats = t->at.nats,
                     .epoch_tokens = t->at.tokens};
    int code =
        heard(t, t->unheard ? EXIT_DONE : report_step(t->report, &info, r->step % s->log_every == 0, e));
    bool finite = isfinite(exp(r->nats / (double)tokens)); /* a loss of 710 nats a word is no perplexity */
    if (!code && !(finite && isfinite(r->grad_norm)))
        return error_set(e, EXIT_DIVERGED,
                         "diverged at step %lld: the %s is not finite; a smaller --lr or --clip may help",
                         (long long)r->step,
                         finite              ? "gradient norm"
                         : isfinite(r->nats) ? "perplexity"
                                             : "loss");
    return code;
}

/* A step gave up on the device, and so did nothing, nor did those behind it: the run is put back to where
 * that step was to begin, and saved so that it can go on from there. */
static int save_before_fault(Trainer *t, const WindowResult *r, int code, Error *e)
{
    const Submitted *step = &t->running[r->step % RUNNING];
    double nats = t->at.nats;
    int64_t tokens = t->at.tokens;
    t->at = step->at;
    t->at.nats = nats, t->at.tokens = tokens;
    t->oldest = t->at.step;
    save_and_say(t, e);
    return code;
}

/* Waits for the results of all minibatches so far: nothing is saved, scored or ended before. */
static int settle(Trainer *t, Error *e)
{
    int code = EXIT_DONE;
    while (!code && t->oldest < t->at.step) {
        WindowResult r;
        code = model_drain(&t->model, &r, e);
        if (code && r.fault) return save_before_fault(t, &r, code, e);
        assert(code || r.step >= 0);
        if (!code) code = take_result(t, &r, e);
    }
    return code;
}

static int train_minibatch(Trainer *t, Error *e)
{
    const Settings *s = &t->settings;
    double start = seconds_now();
    int code = EXIT_DONE;
    if (t->at.minibatch == 0) {
        t->at.nats = 0, t->at.tokens = 0;
        t->epoch_seconds = 0;
        code = t->model.ops->state_set(t->model.backend, s->batch, NULL, NULL, e);
    }
    Window w = {.T = s->seq, .B = s->batch, .index = t->at.minibatch, .train = true, .step = t->at.step};
    if (!t->model.ops->train_stream) {
        batcher_window(&t->batcher, t->at.minibatch, t->x, t->y);
        w.x = t->x, w.y = t->y;
    }
    assert(t->at.step - t->oldest < RUNNING);
    t->running[t->at.step % RUNNING] = (Submitted){t->at, start};
    WindowResult r;
    if (!code) {
        code = model_train_step(&t->model, &w, t->at.lr, s->clip, &r, e);
        if (code && r.fault) return save_before_fault(t, &r, code, e);
    }
    if (code) return code;
    t->at.step++;
    t->at.minibatch++;
    return take_result(t, &r, e);
}

/* An epoch's minibatches are done: score, report, step the schedule, save. */
static int end_epoch(Trainer *t, Error *e)
{
    const Settings *s = &t->settings;
    Score valid = {.ppl = NAN, .ppl_paper = NAN};
    int code = settle(t, e);
    double start = seconds_now();
    if (!code && s->eval & EVAL_VALID) code = score_split(t, SPLIT_VALID, NULL, NULL, &valid, e);
    if (code) return code;
    t->scored_step = t->at.step;
    EpochInfo info = {.epoch = t->at.epoch,
                      .train_ppl = exp(t->at.nats / (double)t->at.tokens),
                      .valid_ppl = valid.ppl,
                      .valid_ppl_paper = valid.ppl_paper,
                      .lr = t->at.lr,
                      .seconds = t->epoch_seconds + seconds_now() - start};
    code = heard(t, report_epoch(t->report, &info, e));
    if (code) return code;

    if (t->at.epoch > s->hold) t->at.lr /= s->decay;
    t->at.epoch++;
    t->at.minibatch = 0;
    t->at.nats = 0, t->at.tokens = 0;
    double per_token = valid.nats / (double)valid.tokens;
    if (s->eval & EVAL_VALID && per_token < t->at.best_valid) {
        t->at.best_valid = per_token;
        if (s->save_best) code = save_to(t, s->save_best, e);
    }
    t->saved_step = -1; /* a file of this step taken inside the epoch is not this one */
    if (!code) code = save(t, e);
    return code ? code : heard(t, report_epoch_row(t->report, &info, e));
}

static int train(Trainer *t, Error *e)
{
    int code = EXIT_DONE;
    t->saved_at = seconds_now();
    int64_t wanted = steps_wanted(t);
    for (;;) {
        if (*signals_caught()) return (code = settle(t, e)) ? code : 128 + *signals_caught();
        if (t->at.minibatch > 0 && t->at.minibatch == t->batcher.windows) code = end_epoch(t, e);
        else if (t->at.step < wanted) code = train_minibatch(t, e);
        else return settle(t, e);
        if (code) return code;
        if (t->settings.save_every > 0 && seconds_now() - t->saved_at >= 60 * t->settings.save_every &&
            ((code = settle(t, e)) || (code = save(t, e))))
            return code;
    }
}

/* What a finished run still owes: the scores, then its checkpoint (one that has diverged in the last steps takes no good
 * file's place), then the words about them. */
static int finish(Trainer *t, Error *e)
{
    const Settings *s = &t->settings;
    bool score_valid = s->eval & EVAL_VALID && t->scored_step != t->at.step;
    Score valid;
    TestScore test;
    int code = score_valid ? score_split(t, SPLIT_VALID, NULL, NULL, &valid, e) : EXIT_DONE;
    if (!code && s->eval & EVAL_TEST) code = score_test(t, &test, e);
    if (!code) code = save(t, e);
    if (!code && score_valid)
        code = heard(t, report_valid(t->report, valid.ppl, valid.ppl_paper, s->protocol, valid.tokens, e));
    if (!code && s->eval & EVAL_TEST) code = heard(t, tell_test(t, &test, e));
    return code;
}

/* Says what the backend has to tell, and what has changed under a run that goes on, as far as it may change the
 * bits of its results. */
static void tell_backend(Trainer *t, const Checkpoint *resume)
{
    BackendNote note[BACKEND_NOTES];
    const char *remark = t->model.ops->remark ? t->model.ops->remark(t->model.backend) : NULL;
    if (remark && remark[0]) report_say(t->report, "%s", remark);
    if (t->note[0]) report_say(t->report, "%s", t->note);
    int n = resume && t->model.ops->notes ? t->model.ops->notes(t->model.backend, note) : 0;
    for (int i = 0; i < n; i++) {
        const char *before = st_meta(&resume->file, note[i].key);
        bool remarked = !strcmp(note[i].key, "plan") || !strcmp(note[i].key, "algorithms");
        if (before && strcmp(before, note[i].value) && !remarked)
            report_say(t->report,
                       "%s was trained with %s '%s', and goes on with '%s': its last bits may differ from "
                       "those of an uninterrupted run",
                       t->settings.resume, note[i].key, before, note[i].value);
    }
}

/* A signal ends the run with a checkpoint and a sentence that says how to go on. */
static int interrupted(Trainer *t, int code, Error *e)
{
    const char *name = signals_name(code - 128), *path = t->settings.save;
    bool nothing = t->at.step == t->first_step; /* and nothing takes an old file's place */
    int failed = nothing ? EXIT_DONE : save(t, e);
    if (failed) return failed;
    if (nothing) report_say(t->report, "stopped by %s before the first minibatch; nothing is saved", name);
    else if (path)
        report_say(t->report, "stopped by %s after %lld minibatches; go on with --resume %s", name,
                   (long long)t->at.step, path);
    else
        report_say(t->report, "stopped by %s after %lld minibatches; nothing is saved without --save", name,
                   (long long)t->at.step);
    e->code = EXIT_DONE; /* said */
    return code;
}

int trainer_run(const Settings *settings, const Corpus *corpus, const Checkpoint *resume, bool quiet,
                Error *e)
{
    Trainer t = {.settings = *settings, .corpus = corpus};
    SignalHandlers old;
    signals_catch(&old, quiet ? NULL
                        : isatty(STDERR_FILENO)
                            ? "\nplstm: stopping after this step; a second signal ends it at once\n"
                            : "plstm: stopping after this step; a second signal ends it at once\n");
    int code = trainer_open(&t, resume, quiet, e);
    if (!code) tell_backend(&t, resume);
    if (!code) code = train(&t, e);
    if (!code) code = finish(&t, e);
    if (t.unheard && *signals_caught()) { /* SIGPIPE */
        Error ignored;
        code = settle(&t, &ignored) ? code : 128 + *signals_caught();
    } else if (t.unheard) {
        Error ignored;
        if (!settle(&t, &ignored)) save_and_say(&t, e);
    }
    if (code > 128) code = interrupted(&t, code, e);
    trainer_close(&t);
    signals_restore(&old);
    return code;
}
