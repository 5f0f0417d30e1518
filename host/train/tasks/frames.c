/* The frames model predicts a phonetic state for every frame of an utterance (TASKS 4). Every
 * position reads a feature row and is scored; the metric is the share of correct frames. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/output.h"
#include "host/base/replace.h"
#include "host/data/buckets.h"
#include "host/data/frames.h"
#include "host/data/speech.h"
#include "host/train/task.h"

enum { CONFUSIONS_SHOWN = 5 };

struct TaskData {
    Frames frames;
    /* frames without silence of the split that is being scored, and the hits among them */
    int64_t voiced, voiced_hits;
    /* (V,V) frames of each target that were taken for each label; NULL: not counted */
    int64_t *confusion;
    char feature_size[24], labels[24];
    /* training frames of each label, separated by blanks; NULL if training was not read */
    char *counts;
};

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while the data was read");
}

/* Checks that the data is that of the resumed run. */
static int agrees(const Frames *f, const Settings *s, const Checkpoint *c, Error *e)
{
    if (f->F != c->shape.F || f->V != c->shape.V_out)
        return error_set(e, EXIT_USAGE,
                         "--data %s has %" PRId64 " features per frame and %" PRId64
                         " labels, but %s was trained on %" PRId64 " and %" PRId64,
                         s->data, f->F, f->V, s->resume, c->shape.F, c->shape.V_out);
    bool whole = c->corpus_sha256[0];
    const char *ours = whole ? f->sha256 : f->train_sha256,
               *theirs = whole ? c->corpus_sha256 : c->train_sha256;
    if (strcmp(ours, theirs))
        return error_set(
            e, EXIT_USAGE,
            "--data %s is not what %s was trained on: the hash of its labels begins with %.16s, "
            "the file's with "
            "%.16s",
            s->data, s->resume, ours, theirs);
    return EXIT_DONE;
}

/* Reads the split of that name, if there is one. The caller refuses a name that no split has
 * (split_name in task.h). */
static int read_named(Frames *f, const char *name, Error *e)
{
    for (int i = FRAMES_VALID; i < FRAMES_SPLITS; i++)
        if (!strcmp(name, frames_split_name[i])) return frames_read(f, i, e);
    return EXIT_DONE;
}

/* Returns the number of frames of each label as text, which the caller frees; NULL if memory ran
 * out. */
static char *counts_text(const Frames *f)
{
    size_t n = 0, size = (size_t)f->V * 21 + 1;
    char *text = malloc(size);
    if (!text) return NULL;
    text[0] = 0;
    for (int64_t id = 0; id < f->V; id++)
        n += (size_t)snprintf(text + n, size - n, "%s%" PRId64, id ? " " : "", f->count[id]);
    return text;
}

static int frames_open(const TaskOpen *o, TaskData **out, Error *e)
{
    const Settings *s = o->settings;
    const Checkpoint *from = o->from;
    FramesOptions options = {
        .dir = s->data, .normalise = s->cmvn == CMVN_UTTERANCE, .wanted = (unsigned)s->eval};
    if (from && (from->shape.V_in || !from->shape.F))
        return error_set(e, EXIT_BAD_DATA,
                         "the checkpoint does not have the tensors of a model that reads "
                         "features only");
    if (o->split) options.F = from->shape.F, options.V = from->shape.V_out;
    else if (from && from->corpus_sha256[0])
        options.wanted = EVAL_ALL; /* that hash covers every split */
    TaskData *d = calloc(1, sizeof *d);
    if (!d) return out_of_memory(e);
    int code = frames_load(&d->frames, &options, e);
    if (!code && o->split) code = read_named(&d->frames, o->split, e);
    if (!code && from && !o->split) code = agrees(&d->frames, s, from, e);
    if (!code && d->frames.count && !(d->counts = counts_text(&d->frames))) code = out_of_memory(e);
    if (code) {
        frames_free(&d->frames);
        free(d);
        return code;
    }
    snprintf(d->feature_size, sizeof d->feature_size, "%" PRId64, d->frames.F);
    snprintf(d->labels, sizeof d->labels, "%" PRId64, d->frames.V);
    *out = d;
    return EXIT_DONE;
}

static void frames_close(TaskData *d)
{
    frames_free(&d->frames);
    free(d->confusion), free(d->counts);
    free(d);
}

static int frames_inputs(const Settings *s, CorpusPaths *paths, Error *e)
{
    static const char *const file[] = {"feats.scp", "feats.ark", "labels"};
    Frames f = {.o.dir = s->data};
    *paths = (CorpusPaths){.n = 0};
    if (!s->data || !strcmp(s->data, "synthetic")) return EXIT_DONE;
    for (int i = 0; i <= 3 * FRAMES_SPLITS; i++) {
        bool phones = i == 3 * FRAMES_SPLITS; /* one file for all splits, beside their folders */
        char *path = phones ? frames_path(&f, 0, "../phones") : frames_path(&f, i / 3, file[i % 3]);
        if (!path) {
            corpus_paths_free(paths);
            return out_of_memory(e);
        }
        const char *what = phones       ? "the phones of --data"
                           : i % 3 == 2 ? "the labels of --data"
                                        : "the features of --data";
        paths->path[paths->n] = path;
        paths->file[paths->n++] = (OtherFile){what, path, NULL};
    }
    return EXIT_DONE;
}

static size_t frames_bytes(const TaskData *d)
{
    size_t bytes = d->confusion ? (size_t)(d->frames.V * d->frames.V) * sizeof *d->confusion : 0;
    for (int i = 0; i < FRAMES_SPLITS; i++) {
        const FramesSplit *s = &d->frames.split[i];
        bytes +=
            (size_t)(16 * s->rows.cap + 8 * s->rows.cap_positions + 4 * s->frames * d->frames.F);
    }
    return bytes;
}

static void frames_remarks(const TaskData *d, FILE *out)
{
    for (int i = 0; i < FRAMES_SPLITS; i++) {
        const FramesSplit *s = &d->frames.split[i];
        if (s->no_labels + s->no_features + s->empty)
            fprintf(out,
                    "plstm: %" PRId64 " utterances of %s are left out: %" PRId64
                    " without labels, %" PRId64 " without features, %" PRId64 " without a frame\n",
                    s->no_labels + s->no_features + s->empty, frames_split_name[i], s->no_labels,
                    s->no_features, s->empty);
    }
}

static ModelShape frames_shape(const TaskData *d)
{
    return (ModelShape){.F = d->frames.F, .V_out = d->frames.V};
}

static const char *split_name_of(const TaskData *d, int i)
{
    (void)d;
    return i < FRAMES_SPLITS ? frames_split_name[i] : NULL;
}

/* ---- sources ---- */

static int frames_train(TaskData *d, const Settings *s, Source **source, Error *e)
{
    return buckets_train(source, &d->frames.split[FRAMES_TRAIN].rows, s->max_length, s->batch,
                         s->seed, e);
}

static int frames_score(TaskData *d, const Settings *s, int split, Source **source, Error *e)
{
    int code = frames_read(&d->frames, split, e);
    return code ? code
                : buckets_score(source, &d->frames.split[split].rows, s->max_length, s->batch, e);
}

static void frames_score_begin(TaskData *d, int split)
{
    (void)split;
    d->voiced = d->voiced_hits = 0;
    if (d->confusion)
        memset(d->confusion, 0, (size_t)(d->frames.V * d->frames.V) * sizeof *d->confusion);
}

static void frames_visit(void *user, int64_t place, int32_t target, int32_t best, double nats)
{
    TaskData *d = user;
    (void)place, (void)nats;
    if (!d->frames.silence[target]) d->voiced++, d->voiced_hits += best == target;
    if (d->confusion && best >= 0) d->confusion[target * d->frames.V + best]++;
}

/* ---- confusion ---- */

static int confusion_begin(TaskData *d, Error *e)
{
    d->confusion = calloc((size_t)d->frames.V, (size_t)d->frames.V * sizeof *d->confusion);
    return d->confusion ? EXIT_DONE : error_set(e, EXIT_FAILED, "memory ran out for --confusion");
}

/* Writes a line of the table: the first field, then a column per label, separated by tabs. */
static bool put_row(Replacement *r, const TaskData *d, const char *first, const int64_t *row)
{
    int64_t V = d->frames.V;
    char text[KALDI_NAME + 8], number[24];
    int n = snprintf(text, sizeof text, "%s", first);
    bool ok = !replace_write(r, text, (size_t)n);
    for (int64_t id = 0; ok && id < V; id++) {
        if (row) n = snprintf(text, sizeof text, "\t%" PRId64, row[id]);
        else n = snprintf(text, sizeof text, "\t%s", frames_label(&d->frames, id, number));
        ok = !replace_write(r, text, (size_t)n);
    }
    return ok && !replace_write(r, "\n", 1);
}

static int confusion_write(const TaskData *d, const char *path, Error *e)
{
    Replacement r;
    char what[4200], number[24];
    snprintf(what, sizeof what, "--confusion %.4000s", path);
    int code = replace_open(&r, path, what, e);
    if (code) return code;
    bool ok = !replace_begin(&r) && put_row(&r, d, kind_confusion.opening, NULL);
    for (int64_t id = 0; ok && id < d->frames.V; id++)
        ok = put_row(&r, d, frames_label(&d->frames, id, number), d->confusion + id * d->frames.V);
    return replace_finish(&r, ok, what, e);
}

/* Prints the labels that were most often taken for another. */
static void print_confusions(const TaskData *d, FILE *out)
{
    int64_t V = d->frames.V, shown[CONFUSIONS_SHOWN], n = 0;
    char target[24], taken[24];
    for (; n < CONFUSIONS_SHOWN; n++) {
        int64_t most = -1;
        for (int64_t i = 0; i < V * V; i++) {
            bool told = i / V == i % V;
            for (int64_t k = 0; k < n; k++) told |= shown[k] == i;
            if (!told && (most < 0 || d->confusion[i] > d->confusion[most])) most = i;
        }
        if (most < 0 || !d->confusion[most]) return;
        fprintf(out, "%s%s taken for %s in %" PRId64 " frames", n ? ", " : "most often ",
                frames_label(&d->frames, most / V, target),
                frames_label(&d->frames, most % V, taken), d->confusion[most]);
        if (n + 1 == CONFUSIONS_SHOWN) fprintf(out, "\n");
        shown[n] = most;
    }
}

/* ---- reports ---- */

static double share(int64_t part, int64_t whole)
{
    return whole && part >= 0 ? (double)part / (double)whole : NAN;
}

static int frames_figures(const TaskData *d, const Settings *s, int split, const Totals *t,
                          Figure *f)
{
    static const char *const acc[] = {"train_acc", "valid_acc", "test_acc"},
                             *const nosil[] = {NULL, "valid_acc_nosil", "test_acc_nosil"},
                             *const nats[] = {NULL, "valid_nats", "test_nats"},
                             *const heading[] = {"train accuracy", "valid accuracy",
                                                 "test accuracy"};
    (void)s;
    f[0] = (Figure){acc[split],   heading[split], split ? "" : "(as trained)",
                    FIGURE_SHARE, NULL,           t ? share(t->hits, t->scored) : NAN};
    if (!split) return 1;
    bool counted = t && t->hits >= 0 && d->frames.phones;
    f[1] =
        (Figure){nosil[split], "valid accuracy",  "without silence",
                 FIGURE_SHARE, "without silence", counted ? share(d->voiced_hits, d->voiced) : NAN};
    f[2] = (Figure){nats[split], "valid nats",     "per frame",
                    FIGURE_NATS, "nats per frame", t ? t->nats / (double)t->scored : NAN};
    return 3;
}

static void frames_print_data(const TaskData *d, const Settings *s, FILE *out)
{
    const Frames *f = &d->frames;
    int n = 0;
    int64_t silent = 0, left_out = sequences_longer(&f->split[FRAMES_TRAIN].rows, s->max_length);
    fprintf(out, "data       %s: utterances", s->data);
    for (int i = 0; i < FRAMES_SPLITS; i++)
        if (f->split[i].read)
            fprintf(out, "%s %s %" PRId64 " (%" PRId64 " frames)", n++ ? "," : "",
                    frames_split_name[i], f->split[i].rows.n, f->split[i].frames);
    for (int64_t id = 0; id < f->V; id++) silent += f->silence[id];
    fprintf(out,
            "\nfeatures   %" PRId64 " per frame, %s; %" PRId64 " labels, %" PRId64
            " of them silence\n",
            f->F, s->cmvn == CMVN_UTTERANCE ? "normalised in each utterance" : "as they are", f->V,
            silent);
    if (left_out)
        fprintf(out,
                "left out   %" PRId64 " of %" PRId64 " training utterances, longer than %" PRId64
                " frames\n",
                left_out, f->split[FRAMES_TRAIN].rows.n, s->max_length);
}

static const char *hash_or_null(const Frames *f) { return f->sha256[0] ? f->sha256 : NULL; }

static void frames_log_run(const TaskData *d, const Settings *s, JsonLine *l)
{
    const Frames *f = &d->frames;
    line_string(l, "corpus", f->synthetic ? "synthetic" : NULL);
    line_string(l, "corpus_sha256", hash_or_null(f));
    line_int(l, "F", f->F);
    line_int(l, "V", f->V);
    for (int what = 0; what < 3; what++) {
        static const char *const key[] = {"utterances", "frames", "silent"};
        line_open(l, key[what], '{');
        for (int i = 0; i < FRAMES_SPLITS; i++) {
            const FramesSplit *split = &f->split[i];
            if (split->read)
                line_int(l, frames_split_name[i],
                         !what       ? split->rows.n
                         : what == 1 ? split->frames
                                     : split->silent);
        }
        line_close(l, '}');
    }
    line_int(l, "left_out", sequences_longer(&f->split[FRAMES_TRAIN].rows, s->max_length));
}

/* Computes the score that the generator's own posterior reaches. Returns false if the data is not
 * built in. */
static bool best_of(const TaskData *d, int split, SpeechBest *best)
{
    Error ignored; /* everything else is reported without it */
    return d->frames.synthetic && speech_best(split, best, &ignored) == EXIT_DONE;
}

static void frames_print_test(const TaskData *d, int split, const Totals *t, FILE *out)
{
    SpeechBest best;
    (void)t;
    if (d->confusion) print_confusions(d, out);
    if (best_of(d, split, &best))
        fprintf(out,
                "best possible %.2f %%, %.2f %% without silence, %.4f nats per frame (the "
                "generator's own posterior)\n",
                100 * share(best.hits, best.frames), 100 * share(best.voiced_hits, best.voiced),
                best.nats / (double)best.frames);
}

static void frames_log_test(const TaskData *d, int split, const Totals *t, JsonLine *l)
{
    SpeechBest best;
    (void)t;
    if (!best_of(d, split, &best)) return;
    line_double(l, "best_acc", share(best.hits, best.frames));
    line_double(l, "best_acc_nosil", share(best.voiced_hits, best.voiced));
    line_double(l, "best_nats", best.nats / (double)best.frames);
}

static void frames_print_eval(const TaskData *d, const Settings *s, int split, const Totals *t,
                              FILE *out)
{
    const FramesSplit *p = &d->frames.split[split];
    fprintf(out,
            "%s of %s: %" PRId64 " utterances, %" PRId64 " frames scored, %" PRId64
            " of them silence\n",
            frames_split_name[split], s->data, p->rows.n, t->scored, p->silent);
}

static void frames_log_eval(const TaskData *d, const Settings *s, int split, JsonLine *l)
{
    const FramesSplit *p = &d->frames.split[split];
    line_string(l, "corpus", d->frames.synthetic ? "synthetic" : NULL);
    line_int(l, "utterances", p->rows.n);
    line_int(l, "silent", p->silent);
    line_int(l, "batch", s->batch);
}

/* ---- checkpoints ---- */

static void frames_meta(const TaskData *d, CheckpointData *m)
{
    m->name = d->frames.synthetic ? "synthetic" : NULL;
    m->corpus_sha256 = hash_or_null(&d->frames);
    m->train_sha256 = d->frames.train_sha256;
    m->extra[m->n_extra++] = (StMeta){"feature_size", d->feature_size};
    m->extra[m->n_extra++] = (StMeta){"labels", d->labels};
    if (d->counts) m->extra[m->n_extra++] = (StMeta){"label_counts", d->counts};
}

const Task task_frames = {
    .name = "frames",
    .summary = "name the phonetic state of every frame of an utterance",
    .takes = "a folder with train, valid and test, each with feats.scp or feats.ark and labels, or "
             "synthetic",
    .marks = "train/feats.scp|train/feats.ark|train/labels",
    .builtin = "synthetic",
    .unit = "frames",
    .hits = true,
    .open = frames_open,
    .close = frames_close,
    .inputs = frames_inputs,
    .bytes = frames_bytes,
    .remarks = frames_remarks,
    .shape = frames_shape,
    .split_name = split_name_of,
    .train = frames_train,
    .score = frames_score,
    .score_begin = frames_score_begin,
    .visit = frames_visit,
    .confusion_begin = confusion_begin,
    .confusion_write = confusion_write,
    .figures = frames_figures,
    .meta = frames_meta,
    .print_data = frames_print_data,
    .log_run = frames_log_run,
    .print_test = frames_print_test,
    .log_test = frames_log_test,
    .print_eval = frames_print_eval,
    .log_eval = frames_log_eval,
};
