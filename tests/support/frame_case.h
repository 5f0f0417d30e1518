/* frame_case: what every backend must do with the batches of a task (TASKS 1 and 5). The tests of
 * all backends call these functions, which fail the test if the backend does not. Include it after
 * program.h. */
#ifndef PLSTM_TESTS_FRAME_CASE_H
#define PLSTM_TESTS_FRAME_CASE_H

#include <math.h>

#include "host/backend/backend_reference.h"
#include "host/data/batcher.h"
#include "host/data/source.h"
#include "host/train/trainer.h"
#include "tests/support/plain_f32.h"
#include "tests/support/toy.h"

enum { TOY_STEPS = 7, TOY_BATCHES = 3 };

/* ---- some steps over the toy's batches ---- */

typedef struct ToyRun {
    double loss[TOY_STEPS], norm[TOY_STEPS];
    int64_t hits[TOY_STEPS];
    Params weights;
} ToyRun;

/* Stores the result of step *next, if r is one (r->step >= 0), and increments *next. */
static inline void toy_run_keep(ToyRun *run, const WindowResult *r, int *next)
{
    if (r->step < 0) return;
    assert_int_equal(r->step, *next);
    run->loss[*next] = r->nats, run->norm[*next] = r->grad_norm, run->hits[*next] = r->hits;
    ++*next;
}

/* Opens a model with drawn weights. The returned model is static, so only one can be open; the
 * caller closes it. */
static inline Model *toy_model(const BackendOps *ops, const BackendConfig *config)
{
    static Model m;
    Params p;
    Error e;
    if (model_open(&m, ops, config, &e)) fail_msg("%s", e.text);
    assert_int_equal(params_init(&p, &config->shape), 0);
    params_draw(&p, 4, 0.3);
    assert_int_equal(model_set_params(&m, &p, &e), 0);
    params_free(&p);
    return &m;
}

/* Trains TOY_STEPS steps and stores their losses, gradient norms and hits, and the final weights,
 * which the caller frees with params_free(&run->weights). */
static inline void toy_steps(const BackendOps *ops, ToyKind kind, const BackendConfig *config,
                             ToyRun *run)
{
    Error e;
    WindowResult r;
    int next = 0;
    Model *m = toy_model(ops, config);
    Source *source = toy_source(kind, 0);
    for (int step = 0; step < TOY_STEPS; step++) {
        Window w = {.index = step % TOY_BATCHES, .train = true, .step = step};
        source->get(source, 1 + step / TOY_BATCHES, w.index, &w.batch);
        if (model_train_step(m, &w, 0.5, 2, &r, &e)) fail_msg("%s", e.text);
        toy_run_keep(run, &r, &next);
    }
    do {
        assert_int_equal(model_drain(m, &r, &e), 0);
        toy_run_keep(run, &r, &next);
    } while (r.step >= 0);
    assert_int_equal(next, TOY_STEPS);
    assert_int_equal(params_init(&run->weights, &config->shape), 0);
    assert_int_equal(model_get_params(m, &run->weights, &e), 0);
    source_close(source);
    model_close(m);
}

static inline void toy_same_bits(const ToyRun *a, const ToyRun *b)
{
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_memory_equal(a->norm, b->norm, sizeof a->norm);
    assert_memory_equal(a->hits, b->hits, sizeof a->hits);
    assert_memory_equal(a->weights.data, b->weights.data,
                        (size_t)a->weights.offset[a->weights.count] * sizeof(float));
}

/* ---- comparison with the double reference (bounds: plain_f32.h) ---- */

/* Fails the test if `error` exceeds `times` times the plain loop's error plus 4 ulp of
 * `largest`. */
static inline void toy_check(const char *what, double error, double plain, double times,
                             double largest)
{
    double bound = f32_bound(times, plain, largest);
    if (!(error <= bound))
        fail_msg("%s errs %.3g, the plain loop %.3g, the bound is %.3g", what, error, plain, bound);
}

/* Checks n values of the backend: the largest error against `exact` counts, for `plain` as well. */
static inline void toy_check_loop(const char *what, const double *exact, const double *plain,
                                  const double *ours, int n, double times)
{
    double largest, plain_error = f32_error(plain, exact, n, &largest);
    toy_check(what, f32_error(ours, exact, n, &largest), plain_error, times, largest);
}

/* Trains with the reference, the plain float32 loops and the backend, and checks losses, norms and
 * weights: factor 2 for the first loss, 3 for what follows from gradients. */
static inline void toy_follows_reference(const BackendOps *ops, ToyKind kind,
                                         const BackendConfig *config)
{
    ToyRun exact, plain, ours;
    toy_steps(&backend_reference, kind, config, &exact);
    toy_steps(&backend_plain_f32, kind, config, &plain);
    toy_steps(ops, kind, config, &ours);
    assert_int_equal(ours.hits[0], exact.hits[0]); /* no two logits are nearly equal */
    toy_check_loop("the first loss", exact.loss, plain.loss, ours.loss, 1, 2);
    toy_check_loop("a loss", exact.loss, plain.loss, ours.loss, TOY_STEPS, 3);
    toy_check_loop("a gradient norm", exact.norm, plain.norm, ours.norm, TOY_STEPS, 3);
    for (int k = 0; k < exact.weights.count; k++) {
        int64_t from = exact.weights.offset[k];
        double error = 0, plain_error = 0, top = 0;
        for (int64_t i = from; i < exact.weights.offset[k + 1]; i++) {
            double want = exact.weights.data[i];
            plain_error = fmax(plain_error, fabs(plain.weights.data[i] - want));
            double off = fabs(ours.weights.data[i] - want);
            if (!(off <= error)) error = off;
            top = fmax(top, fabs(want));
        }
        toy_check(param_info(&exact.weights.shape, k).name, error, plain_error, 3, top);
    }
    params_free(&exact.weights), params_free(&plain.weights), params_free(&ours.weights);
}

/* ---- padded positions change no bit ---- */

/* Overwrites the input of layer 0 at padded positions with finite values; each backend's test has
 * its own version. */
typedef void ToyPoison(Backend *b, const int32_t *ids, int64_t N, int64_t H);

static struct {
    const BackendOps *ops;
    ToyPoison *poison;
    Batch batch;
    int64_t H, padded;
} toy_poisoned;

static inline float toy_poison_value(int64_t i) { return (float)(i % 17) - 8.25f; }

static inline int toy_poisoned_begin(Backend *b, const Window *w, bool *replayed, Error *e)
{
    toy_poisoned.batch = w->batch;
    return toy_poisoned.ops->window_begin(b, w, replayed, e);
}

static inline int toy_poisoned_embedding(Backend *b, Error *e)
{
    int code = toy_poisoned.ops->embedding_forward(b, e);
    int64_t N = toy_poisoned.batch.T * toy_poisoned.batch.B;
    for (int64_t n = 0; n < N; n++) toy_poisoned.padded += toy_poisoned.batch.ids[n] == ID_PADDING;
    toy_poisoned.poison(b, toy_poisoned.batch.ids, N, toy_poisoned.H);
    return code;
}

/* Trains twice, the second time with `poison` called after each embedding; both runs must give the
 * same bits, and more than 20 positions must have been padded. */
static inline void toy_padding_changes_nothing(const BackendOps *ops, ToyKind kind,
                                               const BackendConfig *config, ToyPoison *poison)
{
    ToyRun clean, poisoned;
    BackendOps with = *ops;
    with.window_begin = toy_poisoned_begin, with.embedding_forward = toy_poisoned_embedding;
    toy_poisoned.ops = ops, toy_poisoned.poison = poison, toy_poisoned.H = config->shape.H;
    toy_poisoned.padded = 0;
    toy_steps(ops, kind, config, &clean);
    toy_steps(&with, kind, config, &poisoned);
    assert_true(toy_poisoned.padded > 20);
    toy_same_bits(&clean, &poisoned);
    params_free(&clean.weights), params_free(&poisoned.weights);
}

/* ---- scoring ---- */

typedef struct ToyVisit {
    double nats[TOY_SEQUENCES * TOY_LONGEST];
    int32_t best[TOY_SEQUENCES * TOY_LONGEST];
    int count[TOY_SEQUENCES * TOY_LONGEST];
} ToyVisit;

static inline void toy_visit(void *user, int64_t place, int32_t target, int32_t best, double nats)
{
    ToyVisit *v = user;
    assert_true(target >= 0 && target < TOY_V_OUT && best >= 0 && best < TOY_V_OUT);
    v->nats[place] = nats, v->best[place] = best, v->count[place]++;
}

/* Scores whole sequences and windows with carried state, some of which have no scored position:
 * both must visit each scored position once and give the same nats. Then compares the logits of
 * scored rows with the nats and the best classes of model_forward. */
static inline void toy_scores(const BackendOps *ops, ToyKind kind, const BackendConfig *config)
{
    Error e;
    Totals whole, cut;
    static ToyVisit a, b;
    Model *m = toy_model(ops, config);
    Source *source = toy_source(kind, 0), *windows = toy_source(kind, 2);
    memset(&a, 0, sizeof a), memset(&b, 0, sizeof b);
    if (score_source(m, source, toy_visit, &a, &whole, NULL, &e)) fail_msg("%s", e.text);
    if (score_source(m, windows, toy_visit, &b, &cut, NULL, &e)) fail_msg("%s", e.text);
    int64_t hits = 0, scored = 0;
    double nats = 0;
    for (int q = 0; q < TOY_SEQUENCES; q++)
        for (int64_t t = 0; t < TOY_LONGEST; t++) {
            int64_t at = q * TOY_LONGEST + t, length = toy_length(q);
            bool wanted = t < length && (kind != TOY_PAIRS || t >= length / 2);
            assert_int_equal(a.count[at], wanted);
            assert_int_equal(b.count[at], wanted);
            assert_true(fabs(a.nats[at] - b.nats[at]) < 1e-5);
            scored += wanted, nats += a.nats[at];
            hits += wanted && a.best[at] == (int32_t)(toy_draw(q, t, 1) % TOY_V_OUT);
        }
    assert_int_equal(whole.scored, scored);
    assert_int_equal(cut.scored, scored);
    assert_int_equal(whole.hits, hits);
    assert_true(hits > 0 && fabs(whole.nats - nats) < 1e-9 * nats &&
                fabs(cut.nats - nats) < 1e-5 * nats);

    Window w = {.train = false};
    WindowResult r;
    double token[TOY_POSITIONS];
    int32_t best[TOY_POSITIONS];
    float logits[2 * TOY_V_OUT];
    source->get(source, 1, 0, &w.batch);
    assert_int_equal(model_forward(m, &w, token, best, &r, &e), 0);
    for (int64_t n = 0, row = 0; n < w.batch.T * w.batch.B; n++) {
        if (w.batch.targets[n] == TARGET_NONE) {
            assert_true(token[n] == 0 && best[n] == -1);
            continue;
        }
        int64_t rows = row + 1 < w.batch.n_scored ? 2 : 1, top = 0;
        double sum = 0;
        assert_int_equal(ops->logits_get(m->backend, row++, rows, logits, &e), 0);
        for (int64_t v = 0; v < TOY_V_OUT; v++) {
            sum += exp((double)logits[v]);
            if (logits[v] > logits[top]) top = v;
        }
        assert_int_equal(best[n], top);
        assert_true(fabs(log(sum) - (double)logits[w.batch.targets[n]] - token[n]) < 1e-5);
    }
    source_close(source), source_close(windows);
    model_close(m);
}

/* ---- the trainer ---- */

/* Trains with these settings, from `resume` if it is not NULL. Returns an exit code and prints the
 * sentence of a failure; the trainer's standard output is discarded. */
static inline int frame_train(const Settings *s, const Task *task, const Checkpoint *resume)
{
    Error e = {0};
    TaskData *d;
    TaskOpen how = {.settings = s, .from = resume};
    fflush(stdout);
    int out = dup(1), nowhere = open("/dev/null", O_WRONLY), code = task->open(&how, &d, &e);
    dup2(nowhere, 1);
    if (!code) {
        code = trainer_run(s, task, d, resume, true, &e);
        task->close(d);
    }
    fflush(stdout);
    dup2(out, 1);
    close(out), close(nowhere);
    if (code) print_error("%s\n", e.text);
    return code;
}

/* Returns the defaults, but with this backend and kernel, 2 threads, 2 layers of 10 units and keep
 * 0.6. */
static inline Settings frame_settings(const char *backend, const char *kernel)
{
    Settings s;
    settings_defaults(&s);
    s.backend = backend, s.kernel = kernel, s.threads = 2, s.hidden = 10, s.layers = 2,
    s.keep = 0.6;
    return s;
}

/* Returns a log without its first line (the run line) and without times and speeds, malloc'd. */
static inline char *log_timeless(const char *path)
{
    char *text = file_read(path, NULL), *to = text, *line = strchr(text, '\n') + 1;
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        char *stop = strstr(line, ",\"words_per_s\"");
        if (!stop || stop > end) stop = strstr(line, ",\"seconds\"");
        if (!stop || stop > end) stop = end;
        memmove(to, line, (size_t)(stop - line));
        to += stop - line;
        *to++ = '\n';
    }
    *to = 0;
    return text;
}

/* Trains 8 steps without interruption, and again with a stop after 5, inside an epoch: the resumed
 * run must have the same files and logs. */
static inline void toy_resumes(const char *backend, const char *kernel, ToyKind kind)
{
    char data[] = {(char)('0' + kind), 0};
    Error e;
    Checkpoint c;
    Settings s = frame_settings(backend, kernel);
    s.task = "toy", s.preset = "toy", s.data = data, s.batch = TOY_ROWS, s.epochs = 3,
    s.max_steps = 8;
    s.save = in_folder("whole.st"), s.save_best = in_folder("whole-best.st"),
    s.log_json = in_folder("whole.json");
    assert_int_equal(frame_train(&s, &toy_task, NULL), 0);
    s.save = in_folder("cut.st"), s.save_best = in_folder("cut-best.st"),
    s.log_json = in_folder("cut.json");
    s.max_steps = 5;
    assert_int_equal(frame_train(&s, &toy_task, NULL), 0);
    if (checkpoint_open(&c, in_folder("cut.st"), &e)) fail_msg("%s", e.text);
    assert_string_equal(c.task, "toy");
    assert_null(c.h); /* the task carries no state */
    assert_true(c.counters.minibatch == 2 && c.counters.epoch == 2 && c.counters.hits > 0);
    Settings again = c.settings;
    again.data = data, again.threads = 2, again.max_steps = 8, again.backend = backend;
    again.save = s.save, again.save_best = s.save_best, again.log_json = s.log_json,
    again.resume = s.save;
    assert_int_equal(frame_train(&again, &toy_task, &c), 0);
    checkpoint_close(&c);
    assert_files_equal(in_folder("whole.st"), in_folder("cut.st"));
    assert_files_equal(in_folder("whole-best.st"), in_folder("cut-best.st"));
    char *a = log_timeless(in_folder("whole.json")), *b = log_timeless(in_folder("cut.json"));
    assert_string_equal(a, b);
    assert_contains(a, "{\"event\":\"epoch\",\"epoch\":2,\"train_acc\":");
    assert_contains(a, "{\"event\":\"test\",\"split\":\"test_b\",");
    free(a), free(b);
}

/* ---- the language model ---- */

/* Writes a drawn text of 19 words to the test's folder, unless it is there, and returns the
 * folder's path. */
static inline const char *frame_text(void)
{
    static const char *const name[] = {"text/train.txt", "text/valid.txt", "text/test.txt"};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3800s/text", folder);
    if (mkdir(path, 0700)) return in_folder("text");
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%.3800s/%s", folder, name[i]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        for (int n = 0; n < (i ? 60 : 420); n++)
            fprintf(f, "w%u%c", philox_block(5, (uint64_t)i, (uint64_t)n).word[0] % 19,
                    n % 7 == 6 ? '\n' : ' ');
        fclose(f);
    }
    return in_folder("text");
}

static int64_t frame_step; /* step whose result the direct loop expects next */
static double frame_nats[64], frame_norm[64];

static inline void frame_keep(const WindowResult *r)
{
    if (r->step < 0) return;
    assert_int_equal(r->step, frame_step);
    frame_nats[frame_step] = r->nats, frame_norm[frame_step++] = r->grad_norm;
}

/* Trains a language model through task, source, trainer and checkpoint, and again with a direct
 * loop over the backend: losses, norms and weights must be the same, bit for bit. */
static inline void lm_is_a_direct_loop(const BackendOps *ops, const char *kernel)
{
    /* 40 steps end in the second epoch. */
    enum { STEPS = 40, B = 3, T = 5 };
    Settings s = frame_settings(ops->name, kernel);
    s.data = frame_text(), s.batch = B, s.seq = T, s.hold = 1, s.decay = 1.7, s.max_steps = STEPS,
    s.epochs = 3;
    s.save = in_folder("lm.st"), s.log_json = in_folder("lm.json");
    assert_int_equal(frame_train(&s, tasks[0], NULL), 0);

    Error e;
    Corpus corpus;
    Batcher batcher;
    Model m;
    Params p;
    WindowResult r;
    Checkpoint c;
    if (corpus_load(&corpus, s.data, NULL, &e)) fail_msg("%s", e.text);
    const Stream *train = &corpus.split[SPLIT_TRAIN];
    assert_int_equal(batcher_init(&batcher, train->ids, train->n, B, T, "train", &e), 0);
    assert_true(batcher.windows < STEPS - 5);
    BackendConfig config = {.shape = model_shape_of_words(corpus.vocab.V, s.hidden, s.layers),
                            .T = T,
                            .B = B,
                            .train = true,
                            .keep = s.keep,
                            .sites = s.sites,
                            .seed = s.seed,
                            .threads = 2,
                            .kernel = kernel};
    if (model_open(&m, ops, &config, &e)) fail_msg("%s", e.text);
    assert_int_equal(params_init(&p, &config.shape), 0);
    params_draw(&p, s.seed, s.init);
    assert_int_equal(model_set_params(&m, &p, &e), 0);
    int32_t x[T * B], y[T * B];
    frame_step = 0;
    for (int step = 0; step < STEPS; step++) {
        int64_t n = step % batcher.windows;
        if (!n) assert_int_equal(ops->state_set(m.backend, B, NULL, NULL, &e), 0);
        batcher_window(&batcher, n, x, y);
        Window w = {.batch = batch_of_tokens(T, B, x, y), .index = n, .train = true, .step = step};
        assert_int_equal(model_train_step(&m, &w, 1, s.clip, &r, &e), 0);
        frame_keep(&r);
    }
    do {
        assert_int_equal(model_drain(&m, &r, &e), 0);
        frame_keep(&r);
    } while (r.step >= 0);
    assert_int_equal(model_get_params(&m, &p, &e), 0);
    model_close(&m);

    if (checkpoint_open(&c, in_folder("lm.st"), &e)) fail_msg("%s", e.text);
    for (int k = 0; k < p.count; k++)
        assert_memory_equal(checkpoint_param(&c, k), p.data + p.offset[k],
                            (size_t)(p.offset[k + 1] - p.offset[k]) * sizeof(float));
    checkpoint_close(&c);
    char *log = file_read(in_folder("lm.json"), NULL), *line = log;
    for (int step = 0; step < STEPS; step++) {
        char wanted[160];
        snprintf(wanted, sizeof wanted, "\"nats\":%.17g,\"tokens\":%d,\"grad_norm\":%.17g,",
                 frame_nats[step], T * B, frame_norm[step]);
        line = strstr(line + 1, "{\"event\":\"step\"");
        assert_non_null(line);
        char *found = strstr(line, wanted), *end = strchr(line, '\n');
        if (!found || found > end)
            fail_msg("step %d: %s is not in %.*s", step, wanted, (int)(end - line), line);
    }
    free(log);
    params_free(&p);
    corpus_free(&corpus);
}

#endif
