#include "captions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataset_json.h"
#include "scenes.h"

const char *const image_split_name[IMAGE_SPLITS] = {"train", "valid", "test"};
const char captions_builtin[] = "scenes", captions_file[] = "dataset.json",
           captions_features_file[] = "features.npy";

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while captions were read");
}

char *captions_path(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", dir, name);
    return path;
}

/* ---- words of a caption ---- */

/* Finds the next word of a caption, in which a space precedes every word, and moves *at to the end
 * of the word. Returns its length; 0: there are no more words. */
static size_t next_word(const ImageTexts *t, int64_t *at, int64_t end, const char **word)
{
    if (*at >= end) return 0;
    const char *first = t->bytes + *at + 1, *next = memchr(first, ' ', (size_t)(end - *at - 1));
    size_t length = next ? (size_t)(next - first) : (size_t)(end - *at - 1);
    *word = first;
    *at += (int64_t)length + 1;
    return length;
}

static int count_words(const ImageTexts *t, int64_t min_count, Vocab *v, Error *e)
{
    VocabCount count;
    int code = vocab_count_init(&count, e);
    if (code) return code;
    for (int64_t i = 0; i < t->images; i++) {
        if (t->split[i] != IMAGES_TRAIN) continue;
        int64_t at = t->offset ? t->offset[t->first[i]] : 0,
                end = t->offset ? t->offset[t->first[i + 1]] : 0;
        const char *word;
        for (size_t length; !code && (length = next_word(t, &at, end, &word));)
            code = vocab_count_add(&count, word, length, e);
    }
    if (!code) return vocab_count_finish(&count, min_count, v, e);
    vocab_count_free(&count);
    return code;
}

/* ---- rows ---- */

static int add_row(CaptionSplit *s, const ImageTexts *t, int64_t caption, const Vocab *v, Error *e)
{
    int64_t from = t->offset[caption], end = t->offset[caption + 1], n = 0;
    const char *word;
    for (int64_t at = from; next_word(t, &at, end, &word);) n++;
    int code = sequences_append(&s->rows, n + 2, e);
    if (code) return code;
    int64_t first = s->rows.offset[s->rows.n - 1];
    int32_t *ids = s->rows.ids + first, *targets = s->rows.targets + first;
    ids[0] = ID_FEATURES, ids[1] = ID_EOS;
    targets[0] = TARGET_NONE;
    int64_t at = from;
    for (int64_t i = 0; i < n; i++) {
        size_t length = next_word(t, &at, end, &word);
        int32_t id = vocab_find(v, word, length);
        s->unknown += id < 0;
        targets[1 + i] = id < 0 ? ID_UNKNOWN : id;
        ids[2 + i] = targets[1 + i];
    }
    targets[1 + n] = ID_EOS;
    s->words += n;
    s->empty += !n;
    if (n > s->longest) s->longest = n;
    return EXIT_DONE;
}

static int split_rows(CaptionSplit *s, ImageSplit split, const ImageTexts *t, const Vocab *v,
                      Error *e)
{
    int64_t captions = 0;
    for (int64_t i = 0; i < t->images; i++) {
        if (t->split[i] != split) continue;
        s->images++;
        captions += t->first[i + 1] - t->first[i];
    }
    s->image = malloc((size_t)(s->images + 1) * sizeof *s->image);
    s->row_image = malloc((size_t)(captions + 1) * sizeof *s->row_image);
    if (!s->image || !s->row_image) return out_of_memory(e);
    int64_t image = 0;
    for (int64_t i = 0; i < t->images; i++) {
        if (t->split[i] != split) continue;
        s->image[image++] = i;
        s->bare += t->first[i] == t->first[i + 1];
        for (int64_t k = t->first[i]; k < t->first[i + 1]; k++) {
            int code = add_row(s, t, k, v, e);
            if (code) return code;
            s->row_image[s->rows.n - 1] = i;
        }
    }
    return EXIT_DONE;
}

/* ---- hashes ---- */

static void hash(Captions *c)
{
    SHA2_CTX all, train;
    SHA256Init(&all), SHA256Init(&train);
    for (int i = 0; i < IMAGE_SPLITS; i++) sequences_hash(&c->split[i].rows, &all);
    sequences_hash(&c->split[IMAGES_TRAIN].rows, &train);
    SHA256End(&all, c->sha256);
    SHA256End(&train, c->train_sha256);
}

/* ---- a folder ---- */

static int read_texts(ImageTexts *t, const char *dir, Error *e)
{
    char *path = captions_path(dir, captions_file);
    int code = path ? dataset_json_read(t, path, e) : out_of_memory(e);
    free(path);
    return code;
}

int captions_load(Captions *c, const char *dir, int64_t min_count, const Vocab *vocab, Error *e)
{
    ImageTexts texts = {0};
    memset(c, 0, sizeof *c);
    c->scenes = !strcmp(dir, captions_builtin);
    int code = c->scenes ? scenes_texts(&texts, e) : read_texts(&texts, dir, e);
    c->images = texts.images;
    if (!code && vocab) code = vocab_copy(&c->vocab, vocab) ? out_of_memory(e) : EXIT_DONE;
    else if (!code) code = count_words(&texts, min_count, &c->vocab, e);
    for (int i = 0; !code && i < IMAGE_SPLITS; i++)
        code = split_rows(&c->split[i], (ImageSplit)i, &texts, &c->vocab, e);
    if (!code && !vocab && !c->split[IMAGES_TRAIN].rows.n)
        code = error_set(e, EXIT_BAD_DATA, "%s/%s has no training caption (split train or restval)",
                         dir, captions_file);
    image_texts_free(&texts);
    if (code) captions_free(c);
    else hash(c);
    return code;
}

void captions_take_features(Captions *c, const float *features, int64_t F)
{
    for (int i = 0; i < IMAGE_SPLITS; i++) {
        Sequences *rows = &c->split[i].rows;
        rows->features = features, rows->F = F, rows->first_row = c->split[i].row_image;
    }
}

void captions_free(Captions *c)
{
    vocab_free(&c->vocab);
    for (int i = 0; i < IMAGE_SPLITS; i++) {
        sequences_free(&c->split[i].rows);
        free(c->split[i].row_image), free(c->split[i].image);
    }
    memset(c, 0, sizeof *c);
}
