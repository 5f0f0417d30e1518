/* toy: a task for the tests of what all tasks share: a few drawn sequences of 1 to 9 positions with
 * padding, feature rows and positions that are not scored, in minibatches whose T and B vary. */
#ifndef PLSTM_TESTS_TOY_H
#define PLSTM_TESTS_TOY_H

#include <stdlib.h>
#include <string.h>

#include "host/train/task.h"
#include "kernels/philox.h"

/* The kinds of sequences, named after the tasks that they imitate. */
typedef enum ToyKind {
    TOY_PAIRS,   /* ids, of which the first half is not scored (translation) */
    TOY_FRAMES,  /* a feature row at every position, all scored (speech) */
    TOY_CAPTION, /* a feature row, then ids, all scored */
    TOY_KINDS
} ToyKind;

enum { TOY_SEQUENCES = 11, TOY_ROWS = 4, TOY_LONGEST = 9, TOY_V_IN = 13, TOY_F = 5, TOY_V_OUT = 7 };
enum { TOY_POSITIONS = TOY_ROWS * TOY_LONGEST };

static inline ModelShape toy_shape(ToyKind kind, int64_t H, int64_t L)
{
    return (ModelShape){.V_in = kind == TOY_FRAMES ? 0 : TOY_V_IN,
                        .F = kind == TOY_PAIRS ? 0 : TOY_F,
                        .V_out = TOY_V_OUT,
                        .H = H,
                        .L = L};
}

typedef struct ToySource {
    Source source;
    ToyKind kind;
    int64_t window; /* length of the windows of a batch, with carried state; 0: whole batches */
    int64_t first;  /* first step of the last returned window */
    int sequence[TOY_ROWS];
    int32_t ids[TOY_POSITIONS], targets[TOY_POSITIONS];
    float features[TOY_POSITIONS * TOY_F];
} ToySource;

/* Returns the draw number `what` (0 to 3) of a position. */
static inline uint32_t toy_draw(int sequence, int64_t t, int what)
{
    return philox_block(20, (uint64_t)sequence, (uint64_t)t).word[what];
}

/* Returns the length of a sequence: 9 5 1 6 2 7 3 8 4 9 5. */
static inline int64_t toy_length(int sequence) { return (sequence * 5 + 8) % TOY_LONGEST + 1; }

/* Returns a position's place, whether it is scored or not: its number in all sequences, padded to
 * TOY_LONGEST. */
static inline int64_t toy_place(const Source *source, int64_t t, int64_t b)
{
    const ToySource *s = (const ToySource *)source;
    return s->sequence[b] * TOY_LONGEST + s->first + t;
}

/* Fills a batch with B sequences' positions from `first`, T of them; *b points into *s. */
static inline void toy_fill(ToySource *s, int64_t first, int64_t T, int64_t B, Batch *b)
{
    int64_t n = 0;
    memset(b, 0, sizeof *b);
    for (int64_t t = 0; t < T; t++)
        for (int64_t row = 0; row < B; row++) {
            int q = s->sequence[row];
            int64_t at = first + t, length = toy_length(q), i = t * B + row;
            bool feature = s->kind == TOY_FRAMES || (s->kind == TOY_CAPTION && at == 0);
            bool scored = s->kind != TOY_PAIRS || at >= length / 2;
            s->ids[i] = at >= length ? ID_PADDING
                        : feature    ? ID_FEATURES
                                     : (int32_t)(toy_draw(q, at, 0) % TOY_V_IN);
            s->targets[i] =
                at < length && scored ? (int32_t)(toy_draw(q, at, 1) % TOY_V_OUT) : TARGET_NONE;
            for (int f = 0; s->ids[i] == ID_FEATURES && f < TOY_F; f++)
                s->features[n++] = (float)(toy_draw(q, at * TOY_F + f, 2) % 1000) / 500 - 1;
        }
    b->T = T, b->B = B, b->ids = s->ids, b->targets = s->targets, b->features = s->features;
    batch_count(b);
    b->carry = first > 0;
}

static inline int64_t toy_longest(const ToySource *s, int64_t B)
{
    int64_t T = 0;
    for (int64_t row = 0; row < B; row++)
        if (toy_length(s->sequence[row]) > T) T = toy_length(s->sequence[row]);
    return T;
}

/* Gets batch i of 3, of 4, 4 and 3 sequences; which sequences are in it changes from epoch to
 * epoch. */
static inline void toy_get(Source *source, int64_t epoch, int64_t i, Batch *b)
{
    ToySource *s = (ToySource *)source;
    int64_t B = i < 2 ? TOY_ROWS : TOY_SEQUENCES - 2 * TOY_ROWS;
    for (int64_t row = 0; row < B; row++)
        s->sequence[row] = (int)((i * TOY_ROWS + row + 3 * epoch) * 4 % TOY_SEQUENCES);
    s->first = 0;
    toy_fill(s, 0, toy_longest(s, B), B, b);
}

/* Gets window i of the batches of epoch 1, each of which is cut into windows that cover TOY_LONGEST
 * positions. */
static inline void toy_get_window(Source *source, int64_t epoch, int64_t i, Batch *b)
{
    ToySource *s = (ToySource *)source;
    int64_t windows = (TOY_LONGEST + s->window - 1) / s->window, left;
    (void)epoch;
    toy_get(source, 1, i / windows, b);
    s->first = i % windows * s->window;
    left = TOY_LONGEST - s->first;
    toy_fill(s, s->first, left < s->window ? left : s->window, b->B, b);
}

static inline void toy_source_close(Source *source) { free(source); }

/* Returns a source of whole sequences if `window` is 0, otherwise of windows of that length.
 * source_close frees it. */
static inline Source *toy_source(ToyKind kind, int64_t window)
{
    ToySource *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->kind = kind, s->window = window;
    s->source = (Source){.batches = 3 * (window ? (TOY_LONGEST + window - 1) / window : 1),
                         .limits = {.T = TOY_LONGEST,
                                    .B = TOY_ROWS,
                                    .scored = TOY_POSITIONS,
                                    .features = kind == TOY_PAIRS     ? 0
                                                : kind == TOY_CAPTION ? TOY_ROWS
                                                                      : TOY_POSITIONS},
                         .get = window ? toy_get_window : toy_get,
                         .place = toy_place,
                         .places = TOY_SEQUENCES * TOY_LONGEST,
                         .close = toy_source_close};
    return &s->source;
}

/* Returns the configuration of a model of this kind, with H units, L layers and room for the task's
 * batches. */
static inline BackendConfig toy_config(ToyKind kind, int64_t H, int64_t L)
{
    Source *source = toy_source(kind, 0);
    BackendConfig config = {.shape = toy_shape(kind, H, L),
                            .T = source->limits.T,
                            .B = source->limits.B,
                            .scored = source->limits.scored,
                            .features = source->limits.features,
                            .hits = true,
                            .train = true,
                            .keep = 0.6,
                            .sites = SITES_NONRECURRENT,
                            .seed = 42,
                            .threads = 2,
                            .kernel = "cublas"};
    source_close(source);
    return config;
}

/* ---- the task ---- */

struct TaskData {
    ToyKind kind;
};

static inline int toy_open(const TaskOpen *o, TaskData **d, Error *e)
{
    (void)e;
    *d = calloc(1, sizeof **d);
    (*d)->kind = (ToyKind)(o->settings->data[0] - '0');
    return EXIT_DONE;
}

static inline void toy_close(TaskData *d) { free(d); }

static inline int toy_inputs(const Settings *s, CorpusPaths *p, Error *e)
{
    (void)s, (void)e;
    memset(p, 0, sizeof *p);
    return EXIT_DONE;
}

static inline size_t toy_bytes(const TaskData *d)
{
    (void)d;
    return 0;
}

static inline ModelShape toy_task_shape(const TaskData *d) { return toy_shape(d->kind, 0, 0); }

static inline const char *toy_split_name(const TaskData *d, int i)
{
    static const char *const name[] = {"train", "valid", "test_a", "test_b"};
    (void)d;
    return i < 4 ? name[i] : NULL;
}

static inline int toy_train(TaskData *d, const Settings *s, Source **source, Error *e)
{
    (void)s, (void)e;
    *source = toy_source(d->kind, 0);
    return EXIT_DONE;
}

static inline int toy_score(TaskData *d, const Settings *s, int split, Source **source, Error *e)
{
    (void)s, (void)e;
    *source = toy_source(d->kind, split > 2 ? 4 : 0);
    return EXIT_DONE;
}

static inline int toy_figures(const TaskData *d, const Settings *s, int split, const Totals *t,
                              Figure *f)
{
    static const char *const key[] = {"train_acc", "valid_acc", "test_acc", "test_acc"};
    (void)d, (void)s;
    f[0] = (Figure){key[split],   "accuracy", "(toy)",
                    FIGURE_SHARE, NULL,       t ? (double)t->hits / (double)t->scored : NAN};
    f[1] = (Figure){"nats", NULL, NULL, FIGURE_NATS, "nats", t ? t->nats : NAN};
    return 2;
}

static inline void toy_meta(const TaskData *d, CheckpointData *m)
{
    (void)d;
    m->corpus_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
}

static inline void toy_print_data(const TaskData *d, const Settings *s, FILE *out)
{
    (void)d, (void)s;
    fprintf(out, "data       toy\n");
}

static inline void toy_log_run(const TaskData *d, const Settings *s, JsonLine *l)
{
    (void)d, (void)s;
    line_string(l, "corpus", "toy");
}

static const Task toy_task = {.name = "toy",
                              .summary = "drawn sequences",
                              .takes = "a kind",
                              .unit = "positions",
                              .hits = true,
                              .open = toy_open,
                              .close = toy_close,
                              .inputs = toy_inputs,
                              .bytes = toy_bytes,
                              .shape = toy_task_shape,
                              .split_name = toy_split_name,
                              .train = toy_train,
                              .score = toy_score,
                              .figures = toy_figures,
                              .meta = toy_meta,
                              .print_data = toy_print_data,
                              .log_run = toy_log_run};

#endif
