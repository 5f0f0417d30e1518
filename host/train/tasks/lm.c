/* The language model of SPEC reads windows of a stream with carried state and is scored at every
 * position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/corpus.h"
#include "host/data/stream.h"
#include "host/data/source.h"
#include "host/train/report.h"
#include "host/train/run_corpus.h"
#include "host/train/task.h"

struct TaskData {
    Corpus corpus;
    const KnownText *known; /* NULL if the true distribution of its ids is not known */
    int split;              /* the split that is being scored */
    double *nats;           /* of each of its positions, NAN: not scored; NULL unless known */
};

static int lm_open(const TaskOpen *o, TaskData **out, Error *e)
{
    const Settings *s = o->settings;
    TaskData *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, EXIT_FAILED, "memory ran out while the data was read");
    int code;
    if (o->split) {
        CorpusRead how = {.vocab = &o->from->vocab, .final_eos = s->final_eos};
        for (int i = 0; i < SPLITS; i++)
            if (!strcmp(split_name[i], o->split)) how.needed = 1u << i;
        code = corpus_read(&d->corpus, s->data, &how, e);
    } else {
        code = run_corpus(&d->corpus, s, o->from, e);
    }
    d->known = !code && (!o->split || o->from->data) ? d->corpus.known : NULL;
    int64_t longest = 0;
    for (int i = 0; d->known && i < SPLITS; i++)
        if (d->corpus.split[i].n > longest) longest = d->corpus.split[i].n;
    if (d->known && !(d->nats = malloc((size_t)longest * sizeof *d->nats))) {
        code = error_set(e, EXIT_FAILED, "memory ran out while the data was read");
        corpus_free(&d->corpus);
    }
    if (code) free(d);
    else *out = d;
    return code;
}

static void lm_close(TaskData *d)
{
    corpus_free(&d->corpus);
    free(d->nats);
    free(d);
}

static int lm_inputs(const Settings *s, CorpusPaths *p, Error *e)
{
    return corpus_paths(p, s->data, s->vocab, e);
}

static size_t lm_bytes(const TaskData *d) { return corpus_bytes(&d->corpus); }

static void lm_remarks(const TaskData *d, FILE *out) { print_remarks(&d->corpus, out); }

static ModelShape lm_shape(const TaskData *d)
{
    return model_shape_of_words(d->corpus.vocab.V, 0, 0);
}

static const char *lm_split_name(const TaskData *d, int i)
{
    (void)d;
    return i < SPLITS ? split_name[i] : NULL;
}

/* ---- sources ---- */

static int lm_train(TaskData *d, const Settings *s, Source **source, Error *e)
{
    const Stream *train = &d->corpus.split[SPLIT_TRAIN];
    return stream_rows(train->ids, train->n, s->batch, s->seq, split_name[SPLIT_TRAIN], source, e);
}

/* Returns the rows of a split under a protocol: zaremba cuts valid into rows; everything else is
 * one stream. */
static int64_t rows_of(const Settings *s, int split)
{
    return s->protocol == PROTOCOL_ZAREMBA && split == SPLIT_VALID ? s->batch : 0;
}

static int lm_score(TaskData *d, const Settings *s, int split, Source **source, Error *e)
{
    const Stream *stream = &d->corpus.split[split];
    int64_t rows = rows_of(s, split);
    if (rows)
        return stream_rows(stream->ids, stream->n, rows, s->seq, split_name[split], source, e);
    return stream_sequential(stream->ids, stream->n, s->seq * s->batch, split_name[split], source,
                             e);
}

static void lm_score_begin(TaskData *d, int split)
{
    d->split = split;
    for (int64_t i = 0; d->nats && i < d->corpus.split[split].n; i++) d->nats[i] = NAN;
}

static void lm_visit(void *user, int64_t place, int32_t target, int32_t best, double nats)
{
    TaskData *d = user;
    (void)target, (void)best;
    if (d->nats) d->nats[place] = nats;
}

/* ---- reports ---- */

static int64_t lm_paper_tokens(const TaskData *d, const Settings *s, int split)
{
    int64_t rows = rows_of(s, split);
    return rows ? rows * (d->corpus.split[split].n / rows - 1) : 0;
}

/* Returns the perplexity of the authors' script (SPEC 6): the same sum over the scored windows,
 * divided by a count that includes words outside them. */
static double paper_ppl(const TaskData *d, const Settings *s, int split, const Totals *t)
{
    int64_t tokens = lm_paper_tokens(d, s, split);
    return t && tokens ? exp(t->nats / (double)tokens) : NAN;
}

static int lm_figures(const TaskData *d, const Settings *s, int split, const Totals *t, Figure *f)
{
    double ppl = t ? totals_ppl(t) : NAN;
    const char *note = s->protocol == PROTOCOL_ZAREMBA ? "(zaremba)" : "(sequential)";
    if (split == SPLIT_TRAIN) {
        f[0] = (Figure){"train_ppl", "train ppl", "(as trained)", FIGURE_PPL, NULL, ppl};
        return 1;
    }
    bool test = split == SPLIT_TEST;
    f[0] = (Figure){test ? "test_ppl" : "valid_ppl",
                    test ? "test ppl" : "valid ppl",
                    note,
                    FIGURE_PPL,
                    NULL,
                    ppl};
    f[1] = (Figure){test ? "test_ppl_paper" : "valid_ppl_paper",
                    test ? "test ppl" : "valid ppl",
                    "(paper's count)",
                    FIGURE_PPL,
                    "as the paper counts",
                    paper_ppl(d, s, split, t)};
    return 2;
}

static void lm_print_data(const TaskData *d, const Settings *s, FILE *out)
{
    const Stream *split = d->corpus.split;
    fprintf(out, "data       %s: words",
            d->corpus.known_as ? d->corpus.known_as
            : s->data          ? s->data
                               : "text");
    for (int i = 0, told = 0; i < SPLITS; i++) {
        if (!split[i].n) continue; /* not read */
        fprintf(out, "%s %s %lld", told++ ? "," : "", split_name[i], (long long)split[i].n);
        if (split[i].unknown) fprintf(out, " (%lld unknown)", (long long)split[i].unknown);
    }
    const TextFile *file = d->corpus.file;
    for (int i = 0, told = 0; i < SPLITS; i++)
        if (file[i].path) fprintf(out, "%s%s", told++ ? ", " : "\nfiles      ", file[i].path);
    fprintf(out, "\n");
}

/* Writes n as a member with the name of a split, or null if the split was not read. */
static void split_count(JsonLine *l, const Corpus *c, int split, int64_t n)
{
    if (c->split[split].n) line_int(l, split_name[split], n);
    else line_string(l, split_name[split], NULL);
}

static const char *hash_or_null(const Corpus *c) { return c->sha256[0] ? c->sha256 : NULL; }

static void lm_log_run(const TaskData *d, const Settings *s, JsonLine *l)
{
    (void)s;
    line_string(l, "corpus", d->corpus.known_as);
    line_string(l, "corpus_sha256", hash_or_null(&d->corpus));
    line_int(l, "V", d->corpus.vocab.V);
    line_open(l, "tokens", '{');
    for (int i = 0; i < SPLITS; i++) split_count(l, &d->corpus, i, d->corpus.split[i].n);
    line_close(l, '}');
    line_open(l, "unknown", '{');
    for (int i = 0; i < SPLITS; i++) split_count(l, &d->corpus, i, d->corpus.split[i].unknown);
    line_close(l, '}');
}

static bool nats_of(const void *user, int64_t position, double *nats)
{
    *nats = ((const double *)user)[position];
    return !isnan(*nats);
}

/* Computes the scores by position class of the split that was scored last. Returns false if its
 * true distribution is not known. */
static bool classes_of(const TaskData *d, int split, ClassScore *classes)
{
    Error ignored; /* everything else is reported without them */
    return d->known && split == d->split &&
           classes_score(classes, d->known, &d->corpus.split[split], nats_of, d->nats, &ignored) ==
               EXIT_DONE;
}

static void lm_print_test(const TaskData *d, int split, const Totals *t, FILE *out)
{
    ClassScore classes;
    (void)t;
    if (classes_of(d, split, &classes)) report_classes(out, &classes);
}

static void lm_log_test(const TaskData *d, int split, const Totals *t, JsonLine *l)
{
    ClassScore classes;
    (void)t;
    if (classes_of(d, split, &classes)) report_classes_json(l, &classes);
}

static void lm_print_eval(const TaskData *d, const Settings *s, int split, const Totals *t,
                          FILE *out)
{
    const Stream *stream = &d->corpus.split[split];
    fprintf(out, "%s of %s: %lld words, %lld unknown\n", split_name[split],
            d->corpus.known_as ? d->corpus.known_as : s->data, (long long)stream->n,
            (long long)stream->unknown);
    fprintf(out, "%lld words scored, protocol %s: ", (long long)t->scored,
            protocol_name(s->protocol));
    if (rows_of(s, split))
        fprintf(out, "%lld rows, windows of %lld\n", (long long)s->batch, (long long)s->seq);
    else fprintf(out, "one sequential stream\n");
}

static void lm_log_eval(const TaskData *d, const Settings *s, int split, JsonLine *l)
{
    line_string(l, "corpus", d->corpus.known_as);
    line_string(l, "corpus_sha256", hash_or_null(&d->corpus));
    line_int(l, "words", d->corpus.split[split].n);
    line_int(l, "unknown", d->corpus.split[split].unknown);
    line_int(l, "batch", s->batch);
    line_int(l, "seq", s->seq);
}

/* ---- checkpoints ---- */

static void lm_meta(const TaskData *d, CheckpointData *m)
{
    m->name = d->corpus.synthetic ? "synthetic" : NULL;
    m->corpus_sha256 = hash_or_null(&d->corpus);
    m->train_sha256 = d->corpus.train_sha256;
    m->vocab = &d->corpus.vocab;
}

const Task task_lm = {
    .name = "lm",
    .summary = "predict the next word of a text",
    .takes = "a folder with train.txt, valid.txt and test.txt, or synthetic",
    .marks = "train.txt|ptb.train.txt|wiki.train.tokens",
    .builtin = "synthetic",
    .unit = "words",
    .carries = true,
    .open = lm_open,
    .close = lm_close,
    .inputs = lm_inputs,
    .bytes = lm_bytes,
    .remarks = lm_remarks,
    .shape = lm_shape,
    .split_name = lm_split_name,
    .train = lm_train,
    .score = lm_score,
    .score_begin = lm_score_begin,
    .visit = lm_visit,
    .figures = lm_figures,
    .paper_tokens = lm_paper_tokens,
    .meta = lm_meta,
    .print_data = lm_print_data,
    .log_run = lm_log_run,
    .print_test = lm_print_test,
    .log_test = lm_log_test,
    .print_eval = lm_print_eval,
    .log_eval = lm_log_eval,
};
