#include "frames.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/map_file.h"
#include "host/base/settings.h"
#include "speech.h"

const char *const frames_split_name[FRAMES_SPLITS] = {"train", "valid", "test"};

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while reading the data");
}

char *frames_path(const Frames *f, int split, const char *file)
{
    char folder[4400];
    size_t size = sizeof folder + 300;
    snprintf(folder, sizeof folder, "%s/%s", f->o.dir, frames_split_name[split]);
    if (!file) return features_path(folder);
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", folder, file);
    return path;
}

const char *frames_label(const Frames *f, int64_t id, char out[24])
{
    if (f->name && f->name[id]) return f->name[id];
    snprintf(out, 24, "%" PRId64, id);
    return out;
}

/* ---- utterances by name ---- */

/* A line of labels, kept until its features are read. */
typedef struct Utterance {
    KaldiLabels labels; /* labels.name NULL: the slot is free */
    bool with_labels, with_features;
} Utterance;

typedef struct Names {
    Utterance *slot;  /* (slots) open addressing, at most half full */
    int64_t slots, n; /* slots, a power of two; utterances */
} Names;

static uint64_t hash_of(const char *name, size_t bytes)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) h = (h ^ (unsigned char)name[i]) * 1099511628211u;
    return h;
}

static Utterance *slot_of(const Names *names, const char *name, size_t bytes)
{
    for (uint64_t i = hash_of(name, bytes);; i++) {
        Utterance *u = &names->slot[i & (uint64_t)(names->slots - 1)];
        if (!u->labels.name ||
            (u->labels.name_bytes == bytes && !memcmp(u->labels.name, name, bytes)))
            return u;
    }
}

/* Returns the utterance of that name, which is added if it is new; NULL: memory ran out. The name
 * must live as long as the table. */
static Utterance *names_take(Names *names, const char *name, size_t bytes)
{
    if (2 * (names->n + 1) > names->slots) {
        Names wider = {.slots = names->slots ? 2 * names->slots : 1024};
        if (!(wider.slot = calloc((size_t)wider.slots, sizeof *wider.slot))) return NULL;
        for (int64_t i = 0; i < names->slots; i++) {
            const KaldiLabels *l = &names->slot[i].labels;
            if (l->name) *slot_of(&wider, l->name, l->name_bytes) = names->slot[i];
        }
        wider.n = names->n;
        free(names->slot);
        *names = wider;
    }
    Utterance *u = slot_of(names, name, bytes);
    if (u->labels.name) return u;
    names->n++;
    u->labels.name = name, u->labels.name_bytes = bytes;
    return u;
}

/* ---- one split ---- */

typedef struct Reader {
    Frames *f;
    FramesSplit *s;
    MappedFile labels;
    Features features;
    Names names;
    int64_t room; /* frames for which s->features is allocated */
} Reader;

static int read_labels(Reader *r, Error *e)
{
    KaldiText text = {r->labels.bytes, (const char *)r->labels.bytes + r->labels.n, r->labels.path,
                      0};
    for (;;) {
        KaldiLabels l;
        int code = kaldi_labels_next(&text, &l, e);
        if (code || !l.name) return code;
        Utterance *u = names_take(&r->names, l.name, l.name_bytes);
        if (!u) return out_of_memory(e);
        if (u->with_labels)
            return error_set(e, EXIT_BAD_DATA, "%s: line %" PRId64 " repeats utterance %.*s",
                             text.path, text.line, (int)l.name_bytes, l.name);
        u->labels = l;
        u->with_labels = true;
    }
}

/* Makes room for one more utterance of `frames` frames and sets its first row of features. */
static int grow(Reader *r, int64_t frames, Error *e)
{
    FramesSplit *s = r->s;
    int64_t F = r->f->F;
    int code = sequences_append(&s->rows, frames, e);
    if (code) return code;
    if (s->frames + frames > r->room) {
        int64_t room = r->room + r->room / 2 + frames + 4096;
        float *features = realloc(s->features, (size_t)(room * F) * sizeof *features);
        if (!features) return out_of_memory(e);
        s->features = features;
        r->room = room;
    }
    int64_t *first = realloc(s->first_row, (size_t)s->rows.cap * sizeof *first);
    if (!first) return out_of_memory(e);
    s->first_row = first;
    first[s->rows.n - 1] = s->frames;
    return EXIT_DONE;
}

/* Completes the last row once the features and labels of its `frames` frames have been stored. */
static void row_done(Reader *r, int64_t frames, int32_t largest)
{
    FramesSplit *s = r->s;
    int64_t from = s->rows.offset[s->rows.n - 1];
    for (int64_t t = 0; t < frames; t++) s->rows.ids[from + t] = ID_FEATURES;
    if (r->f->o.normalise) features_normalise(s->features + s->frames * r->f->F, frames, r->f->F);
    s->frames += frames;
    if (frames > s->longest) s->longest = frames;
    if (largest > s->largest) s->largest = largest;
}

static int utterance_add(Reader *r, const KaldiEntry *entry, const KaldiLabels *l, Error *e)
{
    const KaldiMatrix *m = &entry->matrix;
    Frames *f = r->f;
    if (l->n != m->rows)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: utterance %.*s has %" PRId64 " labels and %" PRId64
                         " frames of features",
                         r->labels.path, (int)l->name_bytes, l->name, l->n, m->rows);
    if (!m->rows) {
        r->s->empty++;
        return EXIT_DONE;
    }
    if (!f->F) f->F = m->cols;
    if (m->cols != f->F)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: utterance %.*s has %" PRId64 " features per frame, but %s %" PRId64,
                         r->features.table.path, (int)l->name_bytes, l->name, m->cols,
                         f->o.V ? "the model reads" : "those before it have", f->F);
    int code = grow(r, m->rows, e);
    if (!code) code = features_read(&r->features, entry, r->s->features + r->s->frames * f->F, e);
    if (code) return code;
    kaldi_labels_read(l, r->s->rows.targets + r->s->rows.offset[r->s->rows.n - 1]);
    row_done(r, m->rows, l->largest);
    return EXIT_DONE;
}

static int read_features(Reader *r, Error *e)
{
    for (;;) {
        KaldiEntry entry;
        int code = features_next(&r->features, &entry, e);
        if (code || !entry.name) return code;
        Utterance *u = names_take(&r->names, entry.name, entry.name_bytes);
        if (!u) return out_of_memory(e);
        if (u->with_features)
            return error_set(e, EXIT_BAD_DATA, "%s has utterance %.*s twice",
                             r->features.table.path, (int)entry.name_bytes, entry.name);
        u->with_features = true;
        if (!u->with_labels) r->s->no_labels++;
        else if ((code = utterance_add(r, &entry, &u->labels, e))) return code;
    }
}

static int labels_open(Reader *r, int split, Error *e)
{
    if (!(r->labels.path = frames_path(r->f, split, "labels"))) return out_of_memory(e);
    int code = map_file(r->labels.path, "a file of labels", &r->labels.bytes, &r->labels.n, e);
    if (code) r->labels.bytes = NULL;
    return code;
}

static int files_read(Reader *r, int split, Error *e)
{
    char *path = frames_path(r->f, split, NULL);
    if (!path) return out_of_memory(e);
    int code = features_open(&r->features, path, e);
    free(path);
    if (code) return code;
    code = labels_open(r, split, e);
    if (!code) code = read_labels(r, e);
    if (!code) code = read_features(r, e);
    if (code) return code;
    for (int64_t i = 0; i < r->names.slots; i++) {
        const Utterance *u = &r->names.slot[i];
        r->s->no_features += u->labels.name && !u->with_features;
    }
    if (!r->s->rows.n)
        return error_set(e, EXIT_BAD_DATA,
                         "%s and %s have no utterance in common (%" PRId64
                         " without labels, %" PRId64 " without features, "
                         "%" PRId64 " without a frame)",
                         r->features.table.path, r->labels.path, r->s->no_labels, r->s->no_features,
                         r->s->empty);
    return EXIT_DONE;
}

/* ---- the built-in utterances ---- */

static int synthetic_read(Reader *r, int split, Error *e)
{
    SpeechVoice *voice = malloc(sizeof *voice);
    float x[SPEECH_LONGEST * SPEECH_F];
    int32_t labels[SPEECH_LONGEST];
    int code = voice ? EXIT_DONE : out_of_memory(e);
    if (voice) speech_voice(voice);
    if (r->f->F && r->f->F != SPEECH_F)
        code = error_set(
            e, EXIT_BAD_DATA,
            "the built-in utterances have %d features per frame, but the model reads %" PRId64,
            SPEECH_F, r->f->F);
    r->f->F = SPEECH_F;
    for (int64_t i = 0; !code && i < speech_utterances[split]; i++) {
        int64_t frames = speech_utterance(voice, split, i, x, labels);
        if ((code = grow(r, frames, e))) break;
        memcpy(r->s->features + r->s->frames * SPEECH_F, x,
               (size_t)(frames * SPEECH_F) * sizeof *x);
        memcpy(r->s->rows.targets + r->s->rows.offset[i], labels, (size_t)frames * sizeof *labels);
        row_done(r, frames, SPEECH_V - 1);
    }
    free(voice);
    return code;
}

/* ---- labels ---- */

static int phone_set(Frames *f, int64_t id, const char *name, size_t bytes, bool silence, Error *e)
{
    if (!(f->name[id] = strndup(name, bytes))) return out_of_memory(e);
    f->silence[id] = silence;
    return EXIT_DONE;
}

static int phones_synthetic(Frames *f, Error *e)
{
    int code = EXIT_DONE;
    char name[16];
    for (int32_t id = 0; !code && id < SPEECH_V && id < f->V; id++) {
        speech_name(id, name);
        code = phone_set(f, id, name, strlen(name), !id, e);
    }
    f->phones = true;
    return code;
}

/* Parses the names of labels. Labels above the largest of training are ignored. */
static int parse_phones(Frames *f, KaldiText *text, Error *e)
{
    for (;;) {
        KaldiPhone phone;
        int code = kaldi_phone_next(text, &phone, e);
        if (code || !phone.name) return code;
        if (phone.id >= f->V) continue;
        if (f->name[phone.id])
            return error_set(e, EXIT_BAD_DATA, "%s: line %" PRId64 " names label %d again",
                             text->path, text->line, phone.id);
        if ((code = phone_set(f, phone.id, phone.name, phone.name_bytes, phone.silence, e)))
            return code;
    }
}

static int phones_read(Frames *f, Error *e)
{
    f->silence = calloc((size_t)f->V, sizeof *f->silence);
    f->name = calloc((size_t)f->V, sizeof *f->name);
    if (!f->silence || !f->name) return out_of_memory(e);
    if (f->synthetic) return phones_synthetic(f, e);
    char path[4400];
    void *bytes;
    size_t n;
    snprintf(path, sizeof path, "%s/phones", f->o.dir);
    if (access(path, F_OK) && errno == ENOENT) return EXIT_DONE;
    int code = map_file(path, "a file of phones", &bytes, &n, e);
    if (code) return code;
    KaldiText text = {bytes, (const char *)bytes + n, path, 0};
    code = parse_phones(f, &text, e);
    munmap(bytes, n);
    f->phones = !code;
    return code;
}

/* ---- splits ---- */

static int split_read(Frames *f, int split, Error *e)
{
    FramesSplit *s = &f->split[split];
    Reader r = {.f = f, .s = s};
    s->largest = -1;
    int code = f->synthetic ? synthetic_read(&r, split, e) : files_read(&r, split, e);
    features_close(&r.features);
    if (r.labels.bytes) munmap(r.labels.bytes, r.labels.n);
    free(r.labels.path), free(r.names.slot);
    if (code) return code;
    s->rows.features = s->features, s->rows.first_row = s->first_row, s->rows.F = f->F;
    return EXIT_DONE;
}

/* Sets V to the largest label of the training frames plus 1, and counts the training frames of each
 * label. */
static int labels_count(Frames *f, Error *e)
{
    const Sequences *rows = &f->split[FRAMES_TRAIN].rows;
    f->V = f->split[FRAMES_TRAIN].largest + 1;
    f->count = calloc((size_t)f->V, sizeof *f->count);
    if (!f->count) return out_of_memory(e);
    for (int64_t i = 0; i < f->split[FRAMES_TRAIN].frames; i++) f->count[rows->targets[i]]++;
    return EXIT_DONE;
}

int frames_read(Frames *f, int split, Error *e)
{
    FramesSplit *s = &f->split[split];
    if (s->read) return EXIT_DONE;
    int code = split_read(f, split, e);
    if (!code && !f->V) code = labels_count(f, e);
    if (!code && !f->silence) code = phones_read(f, e);
    if (code) return code;
    if (s->largest >= f->V)
        return error_set(e, EXIT_BAD_DATA,
                         "%s/%s/labels has label %d, but the largest of training is %" PRId64,
                         f->o.dir, frames_split_name[split], s->largest, f->V - 1);
    for (int64_t i = 0; i < s->frames; i++) s->silent += f->silence[s->rows.targets[i]];
    s->read = true;
    return EXIT_DONE;
}

static int folder_check(const Frames *f, Error *e)
{
    struct stat file;
    if (!stat(f->o.dir, &file) && S_ISDIR(file.st_mode)) return EXIT_DONE;
    return error_set(
        e, EXIT_BAD_DATA,
        "'%s' is not a folder (a data folder holds train, valid and test, each with "
        "feats.scp or feats.ark and labels; the name synthetic stands for the built-in "
        "utterances)",
        f->o.dir);
}

static void hash_splits(const Frames *f, int n, char hex[65])
{
    SHA2_CTX sha;
    SHA256Init(&sha);
    for (int i = 0; i < n; i++) sequences_hash(&f->split[i].rows, &sha);
    SHA256End(&sha, hex);
}

int frames_load(Frames *f, const FramesOptions *o, Error *e)
{
    memset(f, 0, sizeof *f);
    f->o = *o;
    f->F = o->F, f->V = o->V;
    f->synthetic = !strcmp(o->dir, "synthetic");
    int code = f->synthetic ? EXIT_DONE : folder_check(f, e);
    for (int i = 0; !code && !o->V && i < FRAMES_SPLITS; i++)
        if (!i || o->wanted & (i == FRAMES_VALID ? EVAL_VALID : EVAL_TEST))
            code = frames_read(f, i, e);
    if (code) {
        frames_free(f);
        return code;
    }
    bool whole = true;
    for (int i = 0; i < FRAMES_SPLITS; i++) whole &= f->split[i].read;
    if (whole) hash_splits(f, FRAMES_SPLITS, f->sha256);
    if (f->split[FRAMES_TRAIN].read) hash_splits(f, 1, f->train_sha256);
    return EXIT_DONE;
}

void frames_free(Frames *f)
{
    for (int i = 0; i < FRAMES_SPLITS; i++) {
        sequences_free(&f->split[i].rows);
        free(f->split[i].features), free(f->split[i].first_row);
    }
    for (int64_t id = 0; f->name && id < f->V; id++) free(f->name[id]);
    free(f->name), free(f->silence), free(f->count);
    memset(f, 0, sizeof *f);
}
