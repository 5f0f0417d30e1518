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
#include "host/train/scorer.h"

/* What the log records about a minibatch, kept until the result is returned, which on a device is a
 * few minibatches later (backend.h). */
enum { RUNNING = 8 };
typedef struct Submitted {
    Counters at; /* before the minibatch */
    double start;
    int64_t B, scored; /* rows and scored positions */
} Submitted;

typedef struct Trainer {
    Settings settings; /* backend is resolved: this is what a checkpoint records */
    const Task *task;
    TaskData *data;
    Source *train; /* NULL: nothing is trained */
    /* the backend has a copy of the stream whose windows are the training batches */
    bool on_device;
    Source *split[TASK_SPLITS]; /* the scored splits; NULL: not scored */
    ModelShape shape;
    Model model;
    Params params; /* host copy, for checkpoints */
    /* step and minibatch: submitted so far; nats and tokens: of the results returned so far */
    Counters at;
    Submitted running[RUNNING]; /* [step % RUNNING] */
    int64_t oldest;             /* step of the result that is returned next */
    double last_result;         /* seconds */
    Report *report;
    float *h, *c;            /* (L,B,H) for checkpoints inside an epoch */
    int64_t first_step;      /* first step of this process */
    int64_t first_epoch;     /* first epoch of this process */
    bool best_saved;         /* --save-best was written */
    int64_t saved_step;      /* step of the newest --save of this run; -1: none */
    int64_t scored_step;     /* step at which valid was last scored; -1: never */
    double saved_at;         /* seconds */
    double epoch_seconds;    /* of the current epoch, in this process */
    char note[WEIGHTS_NOTE]; /* about --init-weights */
    bool unheard; /* the log or standard output cannot be written: nothing more is reported */
} Trainer;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- set-up ---- */

static int64_t batches(const Trainer *t) { return t->train ? t->train->batches : 0; }

/* Returns the total number of minibatches that the run will have done when it ends. */
static int64_t steps_wanted(const Trainer *t)
{
    int64_t all = t->settings.epochs * batches(t);
    return t->settings.max_steps >= 0 && t->settings.max_steps < all ? t->settings.max_steps : all;
}

/* Opens the sources of everything that is trained on or scored, so that a split that is too short
 * is reported before the first step and not after the last. */
static int sources_open(Trainer *t, Error *e)
{
    const Settings *s = &t->settings;
    int code = EXIT_DONE;
    if (s->epochs > 0 && s->max_steps != 0) code = t->task->train(t->data, s, &t->train, e);
    for (int i = 1; !code && t->task->split_name(t->data, i); i++) {
        assert(i < TASK_SPLITS);
        if (s->eval & (i == 1 ? EVAL_VALID : EVAL_TEST))
            code = t->task->score(t->data, s, i, &t->split[i], e);
    }
    return code;
}

/* Returns the limits for the backend: those of the sources, and at least one window of the
 * settings. */
static BatchLimits limits_of(const Trainer *t)
{
    const Settings *s = &t->settings;
    BatchLimits limits = {.T = settings_of_task(settings_find("seq"), s->task) ? s->seq : 1,
                          .B = s->batch};
    if (t->train) limits = limits_of_both(limits, t->train->limits);
    for (int i = 1; i < TASK_SPLITS; i++)
        if (t->split[i]) limits = limits_of_both(limits, t->split[i]->limits);
    return limits;
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
        CheckpointData data = {.vocab = NULL};
        t->task->meta(t->data, &data);
        int code = weights_read(&t->params, t->task->name, data.vocab, t->settings.init_weights,
                                t->note, e);
        if (code) return code;
    } else {
        params_draw(&t->params, t->settings.seed, t->settings.init);
    }
    int code = model_set_params(&t->model, &t->params, e);
    const Batcher *stream = t->train ? t->train->stream : NULL;
    t->on_device = stream && t->model.ops->train_stream;
    if (!code && t->on_device)
        code = t->model.ops->train_stream(t->model.backend, stream->ids, stream->N, stream->T,
                                          stream->B, e);
    if (!code && resume && resume->h)
        code =
            t->model.ops->state_set(t->model.backend, t->settings.batch, resume->h, resume->c, e);
    return code;
}

static int trainer_open(Trainer *t, const Checkpoint *resume, bool quiet, Error *e)
{
    Settings *s = &t->settings;
    const BackendOps *ops;
    int code = backend_find(s->backend, &ops, e);
    if (!code) code = sources_open(t, e);
    if (code) return code;
    s->backend = ops->name;
    t->shape = t->task->shape(t->data);
    t->shape.H = s->hidden, t->shape.L = s->layers;
    BatchLimits limits = limits_of(t);
    if (s->threads == 0) s->threads = backend_threads();

    BackendConfig config = backend_config(s, &t->shape, true);
    config.T = limits.T, config.B = limits.B, config.scored = limits.scored,
    config.features = limits.features;
    config.hits = t->task->hits;
    if (resume && !(settings_given(s, "kernel"))) config.plan = st_meta(&resume->file, "plan");
    if (resume) config.algorithms = st_meta(&resume->file, "algorithms");
    size_t host = (size_t)params_elements(&t->shape) * sizeof(float);
    code = machine_fits(host + (ops->bytes ? ops->bytes(&config) : 0), e);
    if (code) return code;
    size_t state = (size_t)(s->layers * s->batch * s->hidden);
    t->h = malloc(state * sizeof *t->h), t->c = malloc(state * sizeof *t->c);
    if (!t->h || !t->c || params_init(&t->params, &t->shape))
        return error_set(e, EXIT_FAILED, "the trainer ran out of memory");
    code = model_open(&t->model, ops, &config, e);
    if (!code) code = weights_start(t, resume, e);
    if (code) return code;
    BackendInfo backend;
    ops->info(t->model.backend, &backend);
    if (backend.kernel) s->kernel = backend.kernel; /* the kernel in use, never "auto" */
    t->model.interrupt = signals_caught();

    t->at = resume ? resume->counters : (Counters){.epoch = 1, .lr = s->lr, .best_valid = INFINITY};
    t->oldest = t->first_step = t->at.step, t->first_epoch = t->at.epoch;
    t->saved_step = t->scored_step = -1;
    if (resume && t->at.minibatch == 0)
        t->scored_step = t->at.step; /* its epoch line is in the log */
    RunInfo info = {.settings = s,
                    .task = t->task,
                    .data = t->data,
                    .kernel = backend.kernel != NULL,
                    .device = backend.device,
                    .parameters = params_elements(&t->shape),
                    .bytes = host + backend.bytes + t->task->bytes(t->data),
                    .shape = t->shape,
                    .windows = batches(t),
                    .resumed = resume ? &resume->counters : NULL};
    return report_open(&t->report, &info, quiet, e);
}

static void trainer_close(Trainer *t)
{
    if (t->report) report_close(t->report);
    model_close(&t->model);
    params_free(&t->params);
    source_close(t->train);
    for (int i = 0; i < TASK_SPLITS; i++) source_close(t->split[i]);
    free(t->h), free(t->c);
}

/* ---- checkpoints ---- */

static int save_to(Trainer *t, const char *path, Error *e)
{
    bool inside = t->at.minibatch > 0 && t->task->carries;
    CheckpointData data = {.carries = t->task->carries, .hits = t->task->hits};
    int code = model_get_params(&t->model, &t->params, e);
    if (!code && inside)
        code = t->model.ops->state_get(t->model.backend, t->settings.batch, t->h, t->c, e);
    if (code) return code;
    BackendInfo info;
    StMeta extra[BACKEND_NOTES];
    t->model.ops->info(t->model.backend, &info);
    for (int i = 0; i < info.notes; i++) extra[i] = (StMeta){info.note[i].key, info.note[i].value};
    t->task->meta(t->data, &data);
    return checkpoint_save(path, &t->settings, &t->at, &data, &t->params, inside ? t->h : NULL,
                           inside ? t->c : NULL, extra, info.notes, e);
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

/* Call after a timeout on the device, or after a report that could not be written. Saves the state
 * from before it if --save is given, and then adds to the error's sentence where it is saved. */
static void save_and_say(Trainer *t, Error *e)
{
    Error ignored; /* the first error is the one to report */
    bool saved = t->saved_step == t->at.step;
    if (!t->settings.save || (!saved && save_to(t, t->settings.save, &ignored))) return;
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n,
             "; the %lld minibatches before it are saved: --resume %s", (long long)t->at.step,
             t->settings.save);
}

static int score_split(Trainer *t, int split, Totals *totals, Error *e)
{
    bool fault = false;
    const char *name = t->task->split_name(t->data, split);
    if (t->task->score_begin) t->task->score_begin(t->data, split);
    int code = score_source(&t->model, t->split[split], t->task->visit, t->data, totals, &fault, e);
    /* a finite sum of nats may still overflow as a perplexity */
    if (code && fault) save_and_say(t, e);
    if (!code && !isfinite(totals_ppl(totals)))
        code = error_set(e, EXIT_DIVERGED,
                         "diverged: the %s split's perplexity is not finite after step %lld", name,
                         (long long)t->at.step);
    return code;
}

/* Appends the figures of a split's totals (NULL: not scored) to the n figures in f, and returns
 * their new number. */
static int figures(const Trainer *t, int split, const Totals *totals, Figure *f, int n)
{
    return n + t->task->figures(t->data, &t->settings, split, totals, f + n);
}

/* ---- training ---- */

/* Notes whether a report could be written, and returns code. */
static int note_failure(Trainer *t, int code)
{
    t->unheard |= code != EXIT_DONE;
    return code;
}

/* Handles a result: counts and reports it, and stops if it is not finite. */
static int take_result(Trainer *t, const WindowResult *r, Error *e)
{
    if (r->step < 0) return EXIT_DONE;
    assert(r->step == t->oldest && t->oldest < t->at.step);
    const Submitted *step = &t->running[t->oldest++ % RUNNING];
    const Settings *s = &t->settings;
    int64_t tokens = step->scored;
    double now = seconds_now(), took = now - fmax(step->start, t->last_result);
    t->last_result = now;
    t->epoch_seconds += took;
    t->at.nats += r->nats;
    t->at.tokens += tokens;
    t->at.hits += r->hits;
    StepInfo info = {.step = r->step,
                     .epoch = step->at.epoch,
                     .minibatch = step->at.minibatch,
                     .loss = r->nats / (double)step->B,
                     .nats = r->nats,
                     .tokens = tokens,
                     .grad_norm = r->grad_norm,
                     .lr = step->at.lr,
                     .words_per_s = (double)tokens / took,
                     .epoch_nats = t->at.nats,
                     .epoch_tokens = t->at.tokens};
    int code = note_failure(
        t, t->unheard ? EXIT_DONE : report_step(t->report, &info, r->step % s->log_every == 0, e));
    /* a loss of 710 nats per word overflows as a perplexity */
    bool finite = isfinite(exp(r->nats / (double)tokens));
    if (!code && !(finite && isfinite(r->grad_norm)))
        return error_set(
            e, EXIT_DIVERGED,
            "diverged at step %lld: the %s is not finite; a smaller --lr or --clip may help",
            (long long)r->step,
            finite              ? "gradient norm"
            : isfinite(r->nats) ? "perplexity"
                                : "loss");
    return code;
}

/* A step timed out on the device and so did nothing, nor did the steps after it. Puts the run back
 * to where that step began and saves it, so that it can resume from there. */
static int save_before_fault(Trainer *t, const WindowResult *r, int code, Error *e)
{
    const Submitted *step = &t->running[r->step % RUNNING];
    Counters results = t->at;
    t->at = step->at;
    t->at.nats = results.nats, t->at.tokens = results.tokens, t->at.hits = results.hits;
    t->oldest = t->at.step;
    save_and_say(t, e);
    return code;
}

/* Waits for the results of all minibatches so far. Call it before anything is saved, scored or
 * ended. */
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
        t->at.nats = 0, t->at.tokens = 0, t->at.hits = 0;
        t->epoch_seconds = 0;
    }
    Window w = {.index = t->at.minibatch, .train = true, .step = t->at.step};
    if (t->on_device) {
        w.batch = batch_of_tokens(t->train->stream->T, t->train->stream->B, NULL, NULL);
        w.batch.carry = w.index > 0;
    } else {
        t->train->get(t->train, t->at.epoch, w.index, &w.batch);
    }
    assert(t->at.step - t->oldest < RUNNING);
    t->running[t->at.step % RUNNING] = (Submitted){t->at, start, w.batch.B, w.batch.n_scored};
    WindowResult r;
    code = model_train_step(&t->model, &w, t->at.lr, s->clip, &r, e);
    if (code && r.fault) return save_before_fault(t, &r, code, e);
    if (code) return code;
    t->at.step++;
    t->at.minibatch++;
    return take_result(t, &r, e);
}

/* Ends an epoch: scores it, reports it, advances the schedule and saves. */
static int end_epoch(Trainer *t, Error *e)
{
    const Settings *s = &t->settings;
    Totals trained, valid = {0};
    bool scores = s->eval & EVAL_VALID;
    int code = settle(t, e);
    double start = seconds_now();
    trained = (Totals){t->at.nats, t->at.tokens, t->at.hits};
    if (!code && scores) code = score_split(t, 1, &valid, e);
    if (code) return code;
    t->scored_step = t->at.step;
    EpochInfo info = {.epoch = t->at.epoch, .lr = t->at.lr};
    info.n = figures(t, 0, &trained, info.figure, 0);
    info.n = figures(t, 1, scores ? &valid : NULL, info.figure, info.n);
    info.seconds = t->epoch_seconds + seconds_now() - start;
    code = note_failure(t, report_epoch(t->report, &info, e));
    if (code) return code;

    if (t->at.epoch > s->hold) t->at.lr /= s->decay;
    t->at.epoch++;
    t->at.minibatch = 0;
    t->at.nats = 0, t->at.tokens = 0, t->at.hits = 0;
    double cost = task_cost(t->task, &valid);
    if (scores && cost < t->at.best_valid) {
        t->at.best_valid = cost;
        if (s->save_best) code = save_to(t, s->save_best, e), t->best_saved = !code;
    }
    t->saved_step = -1; /* a file that was saved inside the epoch at this step differs */
    if (!code) code = save(t, e);
    return code ? code : note_failure(t, report_epoch_row(t->report, &info, e));
}

static int train(Trainer *t, Error *e)
{
    int code = EXIT_DONE;
    t->saved_at = seconds_now();
    int64_t wanted = steps_wanted(t);
    for (;;) {
        if (*signals_caught()) return (code = settle(t, e)) ? code : 128 + *signals_caught();
        if (t->at.minibatch > 0 && t->at.minibatch == batches(t)) code = end_epoch(t, e);
        else if (t->at.step < wanted) code = train_minibatch(t, e);
        else return settle(t, e);
        if (code) return code;
        if (t->settings.save_every > 0 &&
            seconds_now() - t->saved_at >= 60 * t->settings.save_every &&
            ((code = settle(t, e)) || (code = save(t, e))))
            return code;
    }
}

/* Completes a finished run: scores the splits, saves the checkpoint, then reports the scores. It
 * saves after scoring, since a run that diverged in its last steps must not replace a good file. */
static int finish(Trainer *t, Error *e)
{
    struct {
        Totals totals;
        Figure figure[TASK_FIGURES];
        int n; /* 0: not scored */
    } scored[TASK_SPLITS] = {{.n = 0}};
    int code = EXIT_DONE;
    for (int i = 1; !code && i < TASK_SPLITS; i++) {
        if (!t->split[i] || (i == 1 && t->scored_step == t->at.step)) continue;
        code = score_split(t, i, &scored[i].totals, e);
        scored[i].n = figures(t, i, &scored[i].totals, scored[i].figure, 0);
    }
    if (!code) code = save(t, e);
    if (!code && t->settings.save_best && !t->best_saved)
        report_say(t->report, "--save-best %s is not written: %s", t->settings.save_best,
                   t->at.epoch == t->first_epoch
                       ? "the run ends before the first epoch does, at whose end valid is scored"
                       : "no epoch was better than the best one before --resume");
    for (int i = 1; !code && i < TASK_SPLITS; i++)
        if (scored[i].n)
            code = note_failure(
                t, report_split(t->report, i, scored[i].figure, scored[i].n, &scored[i].totals, e));
    return code;
}

/* Reports the backend's remark, and what has changed since the checkpoint of a resumed run in a way
 * that may change the bits of its results. */
static void report_backend(Trainer *t, const Checkpoint *resume)
{
    BackendInfo info;
    t->model.ops->info(t->model.backend, &info);
    if (info.remark[0]) report_say(t->report, "%s", info.remark);
    if (t->note[0]) report_say(t->report, "%s", t->note);
    for (int i = 0; resume && i < info.notes; i++) {
        const char *key = info.note[i].key, *before = st_meta(&resume->file, key);
        bool remarked = !strcmp(key, "plan") || !strcmp(key, "algorithms");
        if (before && strcmp(before, info.note[i].value) && !remarked)
            report_say(t->report,
                       "%s was trained with %s '%s' and continues with '%s': its last bits may "
                       "differ from those of an uninterrupted run",
                       t->settings.resume, key, before, info.note[i].value);
    }
}

/* Ends a run after a signal, with a checkpoint and a sentence that says how to continue. */
static int interrupted(Trainer *t, int code, Error *e)
{
    const char *name = signals_name(code - 128), *path = t->settings.save;
    bool nothing = t->at.step == t->first_step; /* then no file is replaced */
    int failed = nothing ? EXIT_DONE : save(t, e);
    if (failed) return failed;
    if (nothing)
        report_say(t->report, "stopped by %s before the first minibatch; nothing was saved", name);
    else if (path)
        report_say(t->report, "stopped by %s after %lld minibatches; continue with --resume %s",
                   name, (long long)t->at.step, path);
    else
        report_say(t->report,
                   "stopped by %s after %lld minibatches; nothing was saved, since --save "
                   "was not given",
                   name, (long long)t->at.step);
    e->code = EXIT_DONE; /* already reported */
    return code;
}

int trainer_run(const Settings *settings, const Task *task, TaskData *data,
                const Checkpoint *resume, bool quiet, Error *e)
{
    Trainer t = {.settings = *settings, .task = task, .data = data};
    SignalHandlers old;
    signals_catch(&old, quiet ? NULL
                        : isatty(STDERR_FILENO)
                            ? "\nplstm: stopping after this step; a second signal stops at once\n"
                            : "plstm: stopping after this step; a second signal stops at once\n");
    int code = trainer_open(&t, resume, quiet, e);
    if (!code) report_backend(&t, resume);
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
