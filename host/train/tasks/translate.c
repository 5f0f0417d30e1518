/* Translation by a language model that reads the source and then the target, and is scored on the
 * target only (TASKS 4). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/buckets.h"
#include "host/data/pairs.h"
#include "host/data/parallel.h"
#include "host/train/task.h"

struct TaskData {
    Pairs pairs;
};

/* Checks that the data is that of the resumed run. */
static int agrees(const Pairs *p, const Settings *s, const Checkpoint *c, Error *e)
{
    const Vocab *file[SIDES] = {&c->vocab_source, &c->vocab};
    for (int side = 0; side < SIDES; side++) {
        char here[65], there[65];
        vocab_sha256(&p->vocab[side], here);
        vocab_sha256(file[side], there);
        if (strcmp(here, there))
            return error_set(
                e, EXIT_USAGE,
                "--data %s is not the text pair that %s was trained on: the %s vocabulary differs",
                s->data, s->resume, side_name[side]);
    }
    bool whole = c->corpus_sha256[0];
    const char *ours = whole ? p->sha256 : p->train_sha256,
               *theirs = whole ? c->corpus_sha256 : c->train_sha256;
    if (strcmp(ours, theirs))
        return error_set(e, EXIT_USAGE,
                         "--data %s is not the text that %s was trained on: its hash begins with "
                         "%.16s, the file's "
                         "with %.16s",
                         s->data, s->resume, ours, theirs);
    return EXIT_DONE;
}

static PairsOptions options_of(const Settings *s)
{
    /* A checkpoint's languages do not apply to the built-in corpus; languages given by options are
     * refused. */
    bool folder = strcmp(s->data, "synthetic") != 0;
    return (PairsOptions){.dir = s->data,
                          .language = {folder || settings_given(s, "source") ? s->source : NULL,
                                       folder || settings_given(s, "target") ? s->target : NULL},
                          .forward = s->source_order == ORDER_FORWARD,
                          .min_count = s->min_count,
                          .wanted = (unsigned)s->eval};
}

/* Reads the split of that name, if there is one. The caller refuses a name that no split has
 * (split_name in task.h). */
static int read_named(Pairs *p, const char *name, Error *e)
{
    int split = !strcmp(name, "valid") ? PAIRS_VALID : !strcmp(name, "test") ? PAIRS_TEST : -1;
    for (int i = PAIRS_VALID; i < p->n_splits; i++)
        if (!strcmp(p->split[i].name, name)) split = i;
    return split >= 0 ? pairs_read(p, split, e) : EXIT_DONE;
}

static int translate_open(const TaskOpen *o, TaskData **out, Error *e)
{
    const Checkpoint *from = o->from;
    PairsOptions options = options_of(o->settings);
    Vocab vocab[SIDES];
    if (from && (!from->vocab.V || !from->vocab_source.V))
        return error_set(e, EXIT_BAD_DATA,
                         "the checkpoint lacks the vocabularies of a translation model");
    if (o->split) {
        vocab[SIDE_SOURCE] = from->vocab_source, vocab[SIDE_TARGET] = from->vocab;
        options.vocab = vocab;
    } else if (from && from->corpus_sha256[0]) {
        options.wanted = EVAL_ALL; /* that hash covers every split */
    }
    TaskData *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, EXIT_FAILED, "memory ran out while the data was read");
    int code = pairs_load(&d->pairs, &options, e);
    d->pairs.o.vocab = NULL; /* the vocabularies were copied */
    if (!code && o->split) code = read_named(&d->pairs, o->split, e);
    if (!code && from && !o->split) code = agrees(&d->pairs, o->settings, from, e);
    if (code) {
        pairs_free(&d->pairs);
        free(d);
    } else *out = d;
    return code;
}

static void translate_close(TaskData *d)
{
    pairs_free(&d->pairs);
    free(d);
}

static int translate_inputs(const Settings *s, CorpusPaths *paths, Error *e)
{
    static const Vocab none[SIDES];
    PairsOptions o = options_of(s);
    Pairs p;
    *paths = (CorpusPaths){.n = 0};
    if (!s->data || !strcmp(s->data, "synthetic")) return EXIT_DONE;
    o.vocab = none; /* nothing is read */
    int code = pairs_load(&p, &o, e);
    if (code) return code;
    for (int i = 0; i < p.n_splits; i++)
        for (int side = 0; side < SIDES && paths->n < CORPUS_PATHS; side++) {
            char *path = paths->path[paths->n] = pairs_path(&p, i, side);
            paths->file[paths->n++] = (OtherFile){"a text of --data", path, NULL};
        }
    pairs_free(&p);
    return EXIT_DONE;
}

static size_t translate_bytes(const TaskData *d)
{
    size_t bytes = 0;
    for (int side = 0; side < SIDES; side++) {
        const Vocab *v = &d->pairs.vocab[side];
        bytes += (size_t)(v->V ? v->offset[v->V] + 8 * v->V + 4 * v->n_slots : 0);
    }
    for (int i = 0; i < d->pairs.n_splits; i++) {
        const Sequences *s = &d->pairs.split[i].rows;
        bytes += (size_t)(8 * s->cap + 8 * s->cap_positions);
    }
    return bytes;
}

static void translate_remarks(const TaskData *d, FILE *out)
{
    for (int i = 0; i < d->pairs.n_splits; i++)
        for (int side = 0; side < SIDES; side++)
            if (d->pairs.split[i].bom[side])
                fprintf(out, "plstm: a byte-order mark was removed from the %s text of %s\n",
                        side_name[side], d->pairs.split[i].name);
}

static ModelShape translate_shape(const TaskData *d)
{
    const Vocab *v = d->pairs.vocab;
    return (ModelShape){.V_in = v[SIDE_SOURCE].V + v[SIDE_TARGET].V, .V_out = v[SIDE_TARGET].V};
}

static const char *translate_split_name(const TaskData *d, int i)
{
    return i < d->pairs.n_splits ? d->pairs.split[i].name : NULL;
}

/* ---- sources ---- */

static int translate_train(TaskData *d, const Settings *s, Source **source, Error *e)
{
    return buckets_train(source, &d->pairs.split[PAIRS_TRAIN].rows, s->max_length, s->batch,
                         s->seed, e);
}

static int translate_score(TaskData *d, const Settings *s, int split, Source **source, Error *e)
{
    int code = pairs_read(&d->pairs, split, e);
    return code ? code
                : buckets_score(source, &d->pairs.split[split].rows, s->max_length, s->batch, e);
}

/* ---- reports ---- */

static int translate_figures(const TaskData *d, const Settings *s, int split, const Totals *t,
                             Figure *f)
{
    double ppl = t ? totals_ppl(t) : NAN;
    (void)d, (void)s;
    if (split == PAIRS_TRAIN) {
        f[0] = (Figure){"train_ppl", "train ppl", "(as trained)", FIGURE_PPL, NULL, ppl};
        return 1;
    }
    if (split != PAIRS_VALID) {
        f[0] = (Figure){"test_ppl", "test ppl", "(target words)", FIGURE_PPL, NULL, ppl};
        return 1;
    }
    f[0] = (Figure){"valid_ppl", "valid ppl", "(target words)", FIGURE_PPL, NULL, ppl};
    f[1] = (Figure){.key = "valid_ppl_paper", .kind = FIGURE_PPL, .value = NAN};
    return 2;
}

/* Returns the perplexity of the translator of the built-in corpus, whose distribution is known; NAN
 * if the text is not built in, or has words that the vocabularies lack. */
static double best_ppl(const TaskData *d, int split)
{
    const PairSplit *s = &d->pairs.split[split];
    double nats;
    Error e;
    if (!d->pairs.synthetic || s->unknown[0] || s->unknown[1] || parallel_best(split, &nats, &e))
        return NAN;
    return exp(nats / (double)(s->words[SIDE_TARGET] + s->rows.n));
}

static void print_side(const TaskData *d, const Settings *s, int side, FILE *out)
{
    const char *language = d->pairs.synthetic ? "built in" : d->pairs.o.language[side];
    fprintf(out, "%-10s %s%s: %lld types, words", side_name[side], language,
            side != SIDE_SOURCE                 ? ""
            : s->source_order == ORDER_REVERSED ? " reversed"
                                                : " in order",
            (long long)d->pairs.vocab[side].V);
    for (int i = 0; i < d->pairs.n_splits; i++) {
        const PairSplit *split = &d->pairs.split[i];
        if (!split->read) continue;
        fprintf(out, "%s %s %lld", i ? "," : "", split->name, (long long)split->words[side]);
        if (split->unknown[side]) fprintf(out, " (%lld unknown)", (long long)split->unknown[side]);
    }
    fprintf(out, "\n");
}

static void translate_print_data(const TaskData *d, const Settings *s, FILE *out)
{
    const Sequences *train = &d->pairs.split[PAIRS_TRAIN].rows;
    int64_t left_out = sequences_longer(train, s->max_length);
    fprintf(out, "data       %s: pairs", s->data);
    for (int i = 0; i < d->pairs.n_splits; i++)
        if (d->pairs.split[i].read)
            fprintf(out, "%s %s %lld", i ? "," : "", d->pairs.split[i].name,
                    (long long)d->pairs.split[i].rows.n);
    fprintf(out, "\n");
    for (int side = 0; side < SIDES; side++) print_side(d, s, side, out);
    if (left_out)
        fprintf(out, "left out   %lld of %lld training pairs, longer than %lld positions\n",
                (long long)left_out, (long long)train->n, (long long)s->max_length);
}

static void log_counts(const TaskData *d, JsonLine *l, const char *key, bool unknown)
{
    line_open(l, key, '{');
    for (int i = 0; i < d->pairs.n_splits; i++) {
        const PairSplit *s = &d->pairs.split[i];
        if (!s->read) continue;
        line_open(l, s->name, '{');
        for (int side = 0; side < SIDES; side++)
            line_int(l, side_name[side], unknown ? s->unknown[side] : s->words[side]);
        line_close(l, '}');
    }
    line_close(l, '}');
}

static const char *hash_or_null(const Pairs *p) { return p->sha256[0] ? p->sha256 : NULL; }

static void translate_log_run(const TaskData *d, const Settings *s, JsonLine *l)
{
    line_string(l, "corpus", d->pairs.synthetic ? "synthetic" : NULL);
    line_string(l, "corpus_sha256", hash_or_null(&d->pairs));
    line_int(l, "V_source", d->pairs.vocab[SIDE_SOURCE].V);
    line_int(l, "V", d->pairs.vocab[SIDE_TARGET].V);
    line_open(l, "pairs", '{');
    for (int i = 0; i < d->pairs.n_splits; i++)
        line_int(l, d->pairs.split[i].name, d->pairs.split[i].rows.n);
    line_close(l, '}');
    log_counts(d, l, "words", false);
    log_counts(d, l, "unknown", true);
    line_int(l, "left_out", sequences_longer(&d->pairs.split[PAIRS_TRAIN].rows, s->max_length));
}

static void translate_print_test(const TaskData *d, int split, const Totals *t, FILE *out)
{
    double best = best_ppl(d, split);
    (void)t;
    if (!isnan(best))
        fprintf(out, "best possible %8.3f (the translator of the built-in corpus, same words)\n",
                best);
}

static void translate_log_test(const TaskData *d, int split, const Totals *t, JsonLine *l)
{
    (void)t;
    line_string(l, "test", d->pairs.split[split].name);
    if (d->pairs.synthetic) line_double(l, "best_ppl", best_ppl(d, split));
}

static void translate_print_eval(const TaskData *d, const Settings *s, int split, const Totals *t,
                                 FILE *out)
{
    const PairSplit *p = &d->pairs.split[split];
    fprintf(out, "%s of %s: %lld pairs, %lld target words and ends scored", p->name, s->data,
            (long long)p->rows.n, (long long)t->scored);
    fprintf(out, " (unknown: source %lld, target %lld)\n", (long long)p->unknown[SIDE_SOURCE],
            (long long)p->unknown[SIDE_TARGET]);
}

static void translate_log_eval(const TaskData *d, const Settings *s, int split, JsonLine *l)
{
    const PairSplit *p = &d->pairs.split[split];
    line_string(l, "corpus", d->pairs.synthetic ? "synthetic" : NULL);
    line_int(l, "pairs", p->rows.n);
    line_open(l, "unknown", '{');
    for (int side = 0; side < SIDES; side++) line_int(l, side_name[side], p->unknown[side]);
    line_close(l, '}');
    line_int(l, "batch", s->batch);
}

/* ---- checkpoints ---- */

static void translate_meta(const TaskData *d, CheckpointData *m)
{
    m->name = d->pairs.synthetic ? "synthetic" : NULL;
    m->corpus_sha256 = hash_or_null(&d->pairs);
    m->train_sha256 = d->pairs.train_sha256;
    m->vocab = &d->pairs.vocab[SIDE_TARGET];
    m->vocab_source = &d->pairs.vocab[SIDE_SOURCE];
}

const Task task_translate = {
    .name = "translate",
    .summary = "translate sentences: a language model over source, then target",
    .takes = "a folder with train.SOURCE, train.TARGET and so on, or synthetic",
    .marks = "train.[!t]*|train.t[!x]*",
    .builtin = "synthetic",
    .unit = "target words",
    .open = translate_open,
    .close = translate_close,
    .inputs = translate_inputs,
    .bytes = translate_bytes,
    .remarks = translate_remarks,
    .shape = translate_shape,
    .split_name = translate_split_name,
    .train = translate_train,
    .score = translate_score,
    .figures = translate_figures,
    .meta = translate_meta,
    .print_data = translate_print_data,
    .log_run = translate_log_run,
    .print_test = translate_print_test,
    .log_test = translate_log_test,
    .print_eval = translate_print_eval,
    .log_eval = translate_log_eval,
};
