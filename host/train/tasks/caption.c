/* The caption model reads an image's features and predicts the words of its caption (TASKS 4). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/buckets.h"
#include "host/data/captions.h"
#include "host/data/scenes.h"
#include "host/store/image_features.h"
#include "host/train/task.h"

struct TaskData {
    Captions captions;
    ImageFeatures features;
    char image_features_sha256[65]; /* "" if nothing is trained */
};

/* A key of the metadata: a resumed run must find the same features. */
static const char key_features[] = "image_features_sha256";

/* ---- opening ---- */

static int no_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while the data was read");
}

/* Checks that the data is that of the resumed run. */
static int agrees(const TaskData *d, const Settings *s, const Checkpoint *c, Error *e)
{
    char here[65], there[65];
    const char *features = st_meta(&c->file, key_features);
    vocab_sha256(&d->captions.vocab, here);
    vocab_sha256(&c->vocab, there);
    if (strcmp(here, there))
        return error_set(e, EXIT_USAGE,
                         "--data %s is not what %s was trained on: its vocabulary differs", s->data,
                         s->resume);
    if (strcmp(d->captions.sha256, c->corpus_sha256))
        return error_set(
            e, EXIT_USAGE,
            "--data %s is not what %s was trained on: the hash of its captions begins with "
            "%.16s, the file's with %.16s",
            s->data, s->resume, d->captions.sha256, c->corpus_sha256);
    if (!features || strcmp(d->image_features_sha256, features))
        return error_set(
            e, EXIT_USAGE,
            "--data %s is not what %s was trained on: its features or their order differ", s->data,
            s->resume);
    return EXIT_DONE;
}

/* Checks that the model can read the data. */
static int fits(const TaskData *d, const Settings *s, const Checkpoint *c, Error *e)
{
    if (c->vocab.V != c->shape.V_in || c->vocab.V != c->shape.V_out || !c->shape.F)
        return error_set(e, EXIT_BAD_DATA,
                         "the checkpoint lacks the vocabulary or the sizes of a caption model");
    if (c->shape.F != d->features.F)
        return error_set(e, EXIT_BAD_DATA,
                         "--data %s has %lld features per image, but the model was "
                         "trained on %lld",
                         s->data, (long long)d->features.F, (long long)c->shape.F);
    return EXIT_DONE;
}

static void caption_close(TaskData *d)
{
    captions_free(&d->captions);
    image_features_close(&d->features);
    free(d);
}

static int caption_open(const TaskOpen *o, TaskData **out, Error *e)
{
    const Settings *s = o->settings;
    const Checkpoint *from = o->from;
    TaskData *d = calloc(1, sizeof *d);
    if (!d) return no_memory(e);
    int code =
        captions_load(&d->captions, s->data, s->min_count, o->split ? &from->vocab : NULL, e);
    if (!code) code = image_features_load(&d->features, s->data, &d->captions, e);
    if (!code) captions_take_features(&d->captions, d->features.rows, d->features.F);
    if (!code && !o->split) image_features_sha256(&d->features, d->image_features_sha256);
    if (!code && from && !o->split) code = agrees(d, s, from, e);
    if (!code && from) code = fits(d, s, from, e);
    if (code) caption_close(d);
    else *out = d;
    return code;
}

static int caption_inputs(const Settings *s, CorpusPaths *paths, Error *e)
{
    static const char *const what[] = {"the captions of --data", "the features of --data"};
    const char *const name[] = {captions_file, captions_features_file};
    *paths = (CorpusPaths){.n = 0};
    for (int i = 0; s->data && strcmp(s->data, captions_builtin) && i < 2; i++) {
        char *path = paths->path[i] = captions_path(s->data, name[i]);
        if (!path) {
            corpus_paths_free(paths);
            return no_memory(e);
        }
        paths->file[paths->n++] = (OtherFile){what[i], path, NULL};
    }
    return EXIT_DONE;
}

static size_t caption_bytes(const TaskData *d)
{
    const Vocab *v = &d->captions.vocab;
    size_t bytes = (size_t)(v->V ? v->offset[v->V] + 8 * v->V + 4 * v->n_slots : 0);
    for (int i = 0; i < IMAGE_SPLITS; i++) {
        const CaptionSplit *s = &d->captions.split[i];
        bytes +=
            (size_t)(8 * s->rows.cap + 8 * s->rows.cap_positions + 8 * s->rows.n + 8 * s->images);
    }
    return bytes + (size_t)(d->features.n * d->features.F) * sizeof(float);
}

static void caption_remarks(const TaskData *d, FILE *out)
{
    for (int i = 0; i < IMAGE_SPLITS; i++) {
        const CaptionSplit *s = &d->captions.split[i];
        if (s->bare)
            fprintf(out, "plstm: %lld of %lld %s images have no caption\n", (long long)s->bare,
                    (long long)s->images, image_split_name[i]);
    }
}

static ModelShape caption_shape(const TaskData *d)
{
    int64_t V = d->captions.vocab.V;
    return (ModelShape){.V_in = V, .F = d->features.F, .V_out = V};
}

static const char *caption_split_name(const TaskData *d, int i)
{
    (void)d;
    return i < IMAGE_SPLITS ? image_split_name[i] : NULL;
}

/* ---- sources ---- */

static int caption_train(TaskData *d, const Settings *s, Source **source, Error *e)
{
    return buckets_train(source, &d->captions.split[IMAGES_TRAIN].rows, s->max_length, s->batch,
                         s->seed, e);
}

static int caption_score(TaskData *d, const Settings *s, int split, Source **source, Error *e)
{
    const Sequences *rows = &d->captions.split[split].rows;
    if (!rows->n)
        return error_set(
            e, EXIT_BAD_DATA,
            "%s has no caption of split %s (called %s in %s); --eval chooses what is scored",
            s->data, image_split_name[split], split == IMAGES_VALID ? "val" : "test",
            captions_file);
    return buckets_score(source, rows, s->max_length, s->batch, e);
}

/* ---- reports ---- */

static int caption_figures(const TaskData *d, const Settings *s, int split, const Totals *t,
                           Figure *f)
{
    static const char *const key[] = {"train_ppl", "valid_ppl", "test_ppl"}, *const heading[] = {
                                                                                 "train ppl",
                                                                                 "valid ppl",
                                                                                 "test ppl"};
    (void)d, (void)s;
    f[0] = (Figure){key[split], heading[split], split == IMAGES_TRAIN ? "(as trained)" : "(words)",
                    FIGURE_PPL, NULL,           t ? totals_ppl(t) : NAN};
    if (split != IMAGES_VALID) return 1;
    f[1] = (Figure){.key = "valid_ppl_paper", .kind = FIGURE_PPL, .value = NAN};
    return 2;
}

/* Returns the perplexity of the annotator of the built-in scenes, who sees the scene; NAN if the
 * captions are not built in, or have words that the vocabulary lacks. */
static double best_ppl(const TaskData *d, int split)
{
    const CaptionSplit *s = &d->captions.split[split];
    if (!d->captions.scenes || s->unknown) return NAN;
    return exp(scenes_best((ImageSplit)split) / (double)(s->words + s->rows.n));
}

static void caption_print_data(const TaskData *d, const Settings *s, FILE *out)
{
    const Captions *c = &d->captions;
    int64_t left_out = sequences_longer(&c->split[IMAGES_TRAIN].rows, s->max_length);
    fprintf(out, "data       %s: images", s->data);
    for (int i = 0; i < IMAGE_SPLITS; i++)
        fprintf(out, "%s %s %lld", i ? "," : "", image_split_name[i],
                (long long)c->split[i].images);
    fprintf(out, "; %lld features each\ncaptions  ", (long long)d->features.F);
    for (int i = 0; i < IMAGE_SPLITS; i++)
        fprintf(out, "%s %s %lld", i ? "," : "", image_split_name[i],
                (long long)c->split[i].rows.n);
    fprintf(out, "\nwords      %lld types;", (long long)c->vocab.V);
    for (int i = 0; i < IMAGE_SPLITS; i++) {
        fprintf(out, "%s %s %lld", i ? "," : "", image_split_name[i], (long long)c->split[i].words);
        if (c->split[i].unknown) fprintf(out, " (%lld unknown)", (long long)c->split[i].unknown);
    }
    fprintf(out, "\n");
    if (left_out)
        fprintf(out, "left out   %lld of %lld training captions, longer than %lld positions\n",
                (long long)left_out, (long long)c->split[IMAGES_TRAIN].rows.n,
                (long long)s->max_length);
}

static void caption_log_run(const TaskData *d, const Settings *s, JsonLine *l)
{
    const Captions *c = &d->captions;
    line_string(l, "corpus", c->scenes ? captions_builtin : NULL);
    line_string(l, "corpus_sha256", c->sha256);
    line_string(l, key_features, d->image_features_sha256);
    line_int(l, "V", c->vocab.V);
    line_int(l, "F", d->features.F);
    static const char *const key[] = {"images", "captions", "words", "unknown"};
    for (int k = 0; k < 4; k++) {
        line_open(l, key[k], '{');
        for (int i = 0; i < IMAGE_SPLITS; i++) {
            const CaptionSplit *one = &c->split[i];
            const int64_t count[] = {one->images, one->rows.n, one->words, one->unknown};
            line_int(l, image_split_name[i], count[k]);
        }
        line_close(l, '}');
    }
    line_int(l, "left_out", sequences_longer(&c->split[IMAGES_TRAIN].rows, s->max_length));
}

static void caption_print_test(const TaskData *d, int split, const Totals *t, FILE *out)
{
    double best = best_ppl(d, split);
    (void)t;
    if (!isnan(best))
        fprintf(out, "best possible %8.3f (the annotator of the built-in scenes, same words)\n",
                best);
}

static void caption_log_test(const TaskData *d, int split, const Totals *t, JsonLine *l)
{
    (void)t;
    if (d->captions.scenes) line_double(l, "best_ppl", best_ppl(d, split));
}

static void caption_print_eval(const TaskData *d, const Settings *s, int split, const Totals *t,
                               FILE *out)
{
    const CaptionSplit *c = &d->captions.split[split];
    fprintf(out, "%s of %s: %lld images, %lld captions, %lld words and ends scored, %lld unknown\n",
            image_split_name[split], s->data, (long long)c->images, (long long)c->rows.n,
            (long long)t->scored, (long long)c->unknown);
}

static void caption_log_eval(const TaskData *d, const Settings *s, int split, JsonLine *l)
{
    const CaptionSplit *c = &d->captions.split[split];
    line_string(l, "corpus", d->captions.scenes ? captions_builtin : NULL);
    line_int(l, "images", c->images);
    line_int(l, "captions", c->rows.n);
    line_int(l, "unknown", c->unknown);
    line_int(l, "batch", s->batch);
}

/* ---- checkpoints ---- */

static void caption_meta(const TaskData *d, CheckpointData *m)
{
    m->name = d->captions.scenes ? captions_builtin : NULL;
    m->corpus_sha256 = d->captions.sha256;
    m->train_sha256 = d->captions.train_sha256;
    m->vocab = &d->captions.vocab;
    m->extra[m->n_extra++] = (StMeta){key_features, d->image_features_sha256};
}

const Task task_caption = {
    .name = "caption",
    .summary = "describe images: features, then words",
    .takes = "a folder with dataset.json and features.npy, or scenes",
    .marks = "dataset.json",
    .builtin = captions_builtin,
    .unit = "words",
    .open = caption_open,
    .close = caption_close,
    .inputs = caption_inputs,
    .bytes = caption_bytes,
    .remarks = caption_remarks,
    .shape = caption_shape,
    .split_name = caption_split_name,
    .train = caption_train,
    .score = caption_score,
    .figures = caption_figures,
    .meta = caption_meta,
    .print_data = caption_print_data,
    .log_run = caption_log_run,
    .print_test = caption_print_test,
    .log_test = caption_log_test,
    .print_eval = caption_print_eval,
    .log_eval = caption_log_eval,
};
