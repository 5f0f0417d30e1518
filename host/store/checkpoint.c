#include "checkpoint.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/number.h"

#define FORMAT_VERSION "1"

const char *checkpoint_setting_key(int i, char out[OPTION_KEY_SIZE])
{
    const Option *o = settings_info(i);
    return option_key(o->key ? o->key : o->name, out);
}

static bool recorded(int i, const char *task)
{
    return settings_info(i)->role != ROLE_RUN && settings_of_task(i, task);
}

/* A name that has no default and was not given is not recorded. */
static bool may_be_unset(int i)
{
    return settings_info(i)->type == TYPE_NAME && !settings_info(i)->initial;
}

static bool is_lm(const char *task) { return !strcmp(task, "lm"); }

/* ---- tensors of a file ---- */

/* Returns the index of the first value that is infinite or not a number, n if all are finite. */
static size_t find_not_finite(const float *x, size_t n)
{
    int bad = 0; /* one flag for all elements, so that the loop vectorises */
    for (size_t i = 0; i < n; i++) bad |= !isfinite(x[i]);
    size_t i = bad ? 0 : n;
    while (i < n && isfinite(x[i])) i++;
    return i;
}

/* Lists the first tensors of a file, for the sentence about a missing one. */
static void list_names(const StFile *f, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < f->n_tensors && n < size; i++) {
        if (i == 6) {
            snprintf(out + n, size - n, ", ...");
            return;
        }
        n += (size_t)snprintf(out + n, size - n, "%s%.60s", i ? ", " : "", f->tensors[i].name);
    }
}

/* Finds the float32 tensor of that name and shape and checks that all its values are finite. The
 * sentence names tensor, found and expected. */
static int find_floats(const StFile *f, const char *name, const int64_t *shape, int rank,
                       const float **data, const char *path, Error *e)
{
    char found[ST_KIND_SIZE], wanted[ST_KIND_SIZE];
    st_kind(ST_F32, shape, rank, wanted);
    const StTensor *t = st_find(f, name);
    if (!t) {
        char names[512];
        list_names(f, names, sizeof names);
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor %s is missing, expected %s; the file holds %s", path, name,
                         wanted, f->n_tensors ? names : "no tensor");
    }
    if (t->dtype != ST_F32 || t->rank != rank ||
        memcmp(t->shape, shape, sizeof *shape * (size_t)rank))
        return error_set(e, EXIT_BAD_DATA, "%s: tensor %s: found %s, expected %s", path, name,
                         st_kind(t->dtype, t->shape, t->rank, found), wanted);
    const float *x = t->data;
    size_t n = t->bytes / sizeof *x;
    size_t i = find_not_finite(x, n);
    if (i < n)
        return error_set(e, EXIT_BAD_DATA, "%s: tensor %s: element %zu is %s", path, name, i,
                         isnan(x[i]) ? "not a number" : "infinite");
    *data = x;
    return EXIT_DONE;
}

static int find_param(const StFile *f, const ModelShape *shape, int k, const float **data,
                      const char *path, Error *e)
{
    ParamInfo info = param_info(shape, k);
    return find_floats(f, info.name, info.dim, info.rank, data, path, e);
}

const float *checkpoint_param(const Checkpoint *c, int k)
{
    return st_find(&c->file, param_info(&c->shape, k).name)->data;
}

/* ---- metadata: settings and counters ---- */

static int meta_text(const StFile *f, const char *key, const char **value, const char *path,
                     Error *e)
{
    *value = st_meta(f, key);
    return *value ? EXIT_DONE
                  : error_set(e, EXIT_BAD_DATA, "%s: its metadata lacks '%s'", path, key);
}

static int bad_value(const char *path, const char *key, const char *value, const char *takes,
                     Error *e)
{
    return error_set(e, EXIT_BAD_DATA, "%s: metadata '%s' is '%.60s', not %s", path, key, value,
                     takes);
}

static int parse_meta_count(const StFile *f, const char *key, int64_t low, int64_t *out,
                            const char *path, Error *e)
{
    const char *value;
    int code = meta_text(f, key, &value, path, e);
    if (code) return code;
    if (!parse_int(value, (double)low, INFINITY, out))
        return bad_value(path, key, value, low ? "a whole number from 1" : "a whole number from 0",
                         e);
    return EXIT_DONE;
}

/* Parses a finite number from 0 or, with allow_inf, "inf". */
static int parse_meta_double(const StFile *f, const char *key, bool allow_inf, double *out,
                             const char *path, Error *e)
{
    const char *value;
    int code = meta_text(f, key, &value, path, e);
    if (code) return code;
    if (allow_inf && !strcmp(value, "inf")) {
        *out = INFINITY;
        return EXIT_DONE;
    }
    if (!parse_double(value, out)) return bad_value(path, key, value, "a finite number from 0", e);
    return EXIT_DONE;
}

static int parse_meta_hash(const StFile *f, const char *key, const char **value, const char *path,
                           Error *e)
{
    int code = meta_text(f, key, value, path, e);
    if (code) return code;
    if (strlen(*value) != 64 || strspn(*value, "0123456789abcdef") != 64)
        return bad_value(path, key, *value, "a SHA-256 of 64 hexadecimal digits", e);
    return EXIT_DONE;
}

static int parse_settings(Checkpoint *c, const char *path, Error *e)
{
    const char *value;
    int code = meta_text(&c->file, "preset", &value, path, e);
    if (code) return code;
    settings_defaults(&c->settings);
    const char *task = st_meta(&c->file, "task");
    char names[PRESET_NAMES];
    if (task && is_lm(task)) return bad_value(path, "task", task, "a task other than lm", e);
    c->task = c->settings.task = task ? task : "lm";
    settings_preset_names(c->task, names);
    /* If there is no such task, opening the task will report that. */
    if (!names[0]) c->settings.preset = value;
    else if (settings_preset(&c->settings, value, e))
        return bad_value(path, "preset", value, names, e);
    for (int i = 0; i < settings_count(); i++) {
        if (!recorded(i, c->task)) continue;
        char key[OPTION_KEY_SIZE];
        checkpoint_setting_key(i, key);
        if (may_be_unset(i) && !st_meta(&c->file, key)) continue;
        if ((code = meta_text(&c->file, key, &value, path, e))) return code;
        if (settings_set(&c->settings, i, value, e))
            return bad_value(path, key, value, settings_info(i)->takes, e);
    }
    c->settings.given = 0;
    return EXIT_DONE;
}

static int parse_counters(Checkpoint *c, const char *path, Error *e)
{
    Counters *n = &c->counters;
    const StFile *f = &c->file;
    int code = parse_meta_count(f, "step", 0, &n->step, path, e);
    if (!code) code = parse_meta_count(f, "epoch", 1, &n->epoch, path, e);
    if (!code) code = parse_meta_count(f, "minibatch", 0, &n->minibatch, path, e);
    if (!code) code = parse_meta_double(f, "lr", false, &n->lr, path, e);
    if (!code) code = parse_meta_double(f, "nats", false, &n->nats, path, e);
    if (!code) code = parse_meta_count(f, "tokens", 0, &n->tokens, path, e);
    if (!code) code = parse_meta_double(f, "best_valid", true, &n->best_valid, path, e);
    if (code) return code;
    if (st_meta(f, "hits") && (code = parse_meta_count(f, "hits", 0, &n->hits, path, e)))
        return code;
    if (n->hits > n->tokens)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: metadata 'hits' is %" PRId64 ", more than its %" PRId64 " 'tokens'",
                         path, n->hits, n->tokens);
    if (!is_lm(c->task) && (n->tokens < n->minibatch || (n->tokens > 0 && n->minibatch == 0)))
        return error_set(e, EXIT_BAD_DATA,
                         "%s: metadata 'tokens' is %" PRId64
                         ", which does not agree with minibatch %" PRId64,
                         path, n->tokens, n->minibatch);
    int64_t tokens, T = c->settings.seq, B = c->settings.batch;
    if (is_lm(c->task) &&
        (__builtin_mul_overflow(n->minibatch, T * B, &tokens) || tokens != n->tokens))
        return error_set(e, EXIT_BAD_DATA,
                         "%s: metadata 'tokens' is %" PRId64 ", which is not minibatch %" PRId64
                         " * seq %" PRId64 " * batch %" PRId64,
                         path, n->tokens, n->minibatch, T, B);
    if (n->step < n->minibatch || (n->epoch == 1 && n->step != n->minibatch))
        return error_set(e, EXIT_BAD_DATA,
                         "%s: metadata 'step' %" PRId64 " does not agree with epoch %" PRId64
                         ", minibatch %" PRId64,
                         path, n->step, n->epoch, n->minibatch);
    return EXIT_DONE;
}

/* Parses the vocabulary under `key` and compares it with its hash under key_sha256. The file of a
 * task may lack it. */
static int parse_vocab(Checkpoint *c, const char *key, const char *key_sha256, bool needed,
                       Vocab *v, const char *path, Error *e)
{
    const char *hash, *text;
    if (!needed && !st_meta(&c->file, key) && !st_meta(&c->file, key_sha256)) return EXIT_DONE;
    int code = meta_text(&c->file, key, &text, path, e);
    if (!code) code = parse_meta_hash(&c->file, key_sha256, &hash, path, e);
    if (code) return code;
    Error inner;
    if ((code = vocab_parse(v, text, &inner)))
        return error_set(e, code, "%s: metadata '%s': %s", path, key, inner.text);
    char actual[65];
    vocab_sha256(v, actual);
    if (strcmp(actual, hash))
        return error_set(e, EXIT_BAD_DATA,
                         "%s: its vocabulary does not have the hash in metadata '%s'", path,
                         key_sha256);
    return EXIT_DONE;
}

static int parse_corpus(Checkpoint *c, const char *path, Error *e)
{
    const char *hash;
    /* If the run did not read all three splits, the file has only the hash of its training ids. */
    bool partial = st_meta(&c->file, "train_sha256") != NULL;
    int code =
        parse_meta_hash(&c->file, partial ? "train_sha256" : "corpus_sha256", &hash, path, e);
    if (code) return code;
    memcpy(partial ? c->train_sha256 : c->corpus_sha256, hash, sizeof c->corpus_sha256);
    c->data = st_meta(&c->file, "data");
    if (c->data && is_lm(c->task) && strcmp(c->data, "synthetic"))
        return bad_value(path, "data", c->data, "synthetic", e);
    code = parse_vocab(c, "vocab", "vocab_sha256", is_lm(c->task), &c->vocab, path, e);
    if (!code && !is_lm(c->task))
        code =
            parse_vocab(c, "vocab_source", "vocab_source_sha256", false, &c->vocab_source, path, e);
    return code;
}

/* ---- reading ---- */

/* Returns the rows (side 0) or columns (side 1) of the matrix of that name; 0: there is none. */
static int64_t matrix_side(const StFile *f, const char *name, int side)
{
    const StTensor *t = st_find(f, name);
    return t && t->rank == 2 ? t->shape[side] : 0;
}

/* Reads the sizes: a language model's from its vocabulary, another task's from its tensors. */
static int read_shape(Checkpoint *c, const char *path, Error *e)
{
    const StFile *f = &c->file;
    int64_t H = c->settings.hidden, L = c->settings.layers,
            rows = matrix_side(f, "encoder.weight", 0);
    if (is_lm(c->task)) {
        c->shape = model_shape_of_words(c->vocab.V, H, L);
        if (rows && rows != c->shape.V_in)
            return error_set(e, EXIT_BAD_DATA,
                             "%s: tensor encoder.weight has %" PRId64
                             " rows, but the vocabulary has %" PRId64 " types",
                             path, rows, c->shape.V_in);
        return EXIT_DONE;
    }
    c->shape = (ModelShape){.V_in = rows,
                            .F = matrix_side(f, "input.weight", 1),
                            .V_out = matrix_side(f, "decoder.weight", 0),
                            .H = H,
                            .L = L};
    if (!c->shape.V_in && !c->shape.F)
        return error_set(e, EXIT_BAD_DATA, "%s has neither encoder.weight nor input.weight", path);
    if (!c->shape.V_out) return error_set(e, EXIT_BAD_DATA, "%s has no decoder.weight", path);
    if (c->vocab.V && c->shape.V_out != c->vocab.V)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor decoder.weight has %" PRId64
                         " rows, but the vocabulary has %" PRId64 " types",
                         path, c->shape.V_out, c->vocab.V);
    return EXIT_DONE;
}

static int read_tensors(Checkpoint *c, const char *path, Error *e)
{
    int code = read_shape(c, path, e);
    if (code) return code;
    int expected = params_count(&c->shape);
    for (int k = 0; !code && k < expected; k++) {
        const float *data;
        code = find_param(&c->file, &c->shape, k, &data, path, e);
    }
    if (code) return code;
    if (c->counters.minibatch > 0 && is_lm(c->task)) {
        int64_t state[3] = {c->shape.L, c->settings.batch, c->shape.H};
        code = find_floats(&c->file, "state.h", state, 3, &c->h, path, e);
        if (!code) code = find_floats(&c->file, "state.c", state, 3, &c->c, path, e);
        if (code) return code;
        expected += 2;
    }
    if (c->file.n_tensors != expected)
        return error_set(e, EXIT_BAD_DATA,
                         "%s has %d tensors, but a checkpoint of %" PRId64
                         " layers saved %s has %d",
                         path, c->file.n_tensors, c->shape.L,
                         c->counters.minibatch ? "inside an epoch" : "at an epoch's end", expected);
    return EXIT_DONE;
}

/* Reads a checkpoint whose c->file is open. Closes everything on failure. */
static int read_checkpoint(Checkpoint *c, const char *path, Error *e)
{
    const char *version = st_meta(&c->file, "plstm");
    int code = EXIT_DONE;
    if (!version)
        code = error_set(e, EXIT_BAD_DATA,
                         "%s has no plstm metadata; --init-weights reads bare weights", path);
    else if (strcmp(version, FORMAT_VERSION))
        code = bad_value(path, "plstm", version, "format " FORMAT_VERSION, e);
    if (!code) code = parse_settings(c, path, e);
    if (!code) code = parse_counters(c, path, e);
    if (!code) code = parse_corpus(c, path, e);
    if (!code) code = read_tensors(c, path, e);
    if (code) checkpoint_close(c);
    else st_forget(&c->file); /* every weight was read */
    return code;
}

int checkpoint_open(Checkpoint *c, const char *path, Error *e)
{
    memset(c, 0, sizeof *c);
    int code = st_open(&c->file, path, e);
    return code ? code : read_checkpoint(c, path, e);
}

int checkpoint_parse(Checkpoint *c, const void *bytes, size_t n, const char *path, Error *e)
{
    memset(c, 0, sizeof *c);
    int code = st_parse(&c->file, bytes, n, path, e);
    return code ? code : read_checkpoint(c, path, e);
}

void checkpoint_close(Checkpoint *c)
{
    vocab_free(&c->vocab);
    vocab_free(&c->vocab_source);
    st_close(&c->file);
    memset(c, 0, sizeof *c);
}

/* ---- writing ---- */

/* A vocabulary as metadata: its text, allocated by malloc, and its hash. */
typedef struct VocabText {
    char hash[65], *text;
} VocabText;

static void put_metadata(StMetaList *m, const Settings *s, const Counters *n,
                         const CheckpointData *d, const VocabText *vocab, const VocabText *source,
                         const StMeta *extra, int n_extra)
{
    st_put(m, "format", "pt");
    st_put(m, "plstm", FORMAT_VERSION);
    st_put(m, "preset", s->preset);
    for (int i = 0; i < settings_count(); i++) {
        if (!recorded(i, s->task)) continue;
        option_format(settings_info(i), s, m->text[m->n].value, sizeof m->text->value);
        if (may_be_unset(i) && !m->text[m->n].value[0]) continue;
        st_put(m, checkpoint_setting_key(i, m->text[m->n].key), m->text[m->n].value);
    }
    st_put_count(m, "step", n->step);
    st_put_count(m, "epoch", n->epoch);
    st_put_count(m, "minibatch", n->minibatch);
    st_put_double(m, "lr", n->lr);
    st_put_double(m, "nats", n->nats);
    st_put_count(m, "tokens", n->tokens);
    if (d->hits) st_put_count(m, "hits", n->hits);
    st_put_double(m, "best_valid", n->best_valid);
    if (d->name) st_put(m, "data", d->name);
    st_put(m, "corpus_sha256", d->corpus_sha256 ? d->corpus_sha256 : "null");
    if (!d->corpus_sha256) st_put(m, "train_sha256", d->train_sha256);
    for (int i = 0; i < n_extra; i++) st_put(m, extra[i].key, extra[i].value);
    for (int i = 0; i < d->n_extra; i++) st_put(m, d->extra[i].key, d->extra[i].value);
    if (vocab->text) st_put(m, "vocab_sha256", vocab->hash);
    if (source->text)
        st_put(m, "vocab_source_sha256", source->hash), st_put(m, "vocab_source", source->text);
    if (vocab->text) st_put(m, "vocab", vocab->text); /* last, so that head shows the rest */
}

void params_tensors(const Params *p, ParamInfo *info, StTensor *tensor)
{
    for (int k = 0; k < p->count; k++) {
        info[k] = param_info(&p->shape, k);
        tensor[k] = (StTensor){.name = info[k].name,
                               .dtype = ST_F32,
                               .rank = info[k].rank,
                               .shape = {info[k].dim[0], info[k].dim[1]},
                               .data = p->data + p->offset[k],
                               .bytes = sizeof(float) * (size_t)info[k].n};
    }
}

/* Appends the state, if any, to the n tensors; returns the new number of tensors. */
static int state_tensors(StTensor *tensors, int n, const ModelShape *s, int64_t B, const float *h,
                         const float *c)
{
    if (!h) return n;
    StTensor state = {.dtype = ST_F32,
                      .rank = 3,
                      .shape = {s->L, B, s->H},
                      .bytes = sizeof(float) * (size_t)(s->L * B * s->H)};
    tensors[n] = tensors[n + 1] = state;
    tensors[n].name = "state.h", tensors[n].data = h;
    tensors[n + 1].name = "state.c", tensors[n + 1].data = c;
    return n + 2;
}

int checkpoint_check_vocab(const Vocab *v, const char *path, Error *e)
{
    enum { REST = 65536 }; /* more than all other metadata and the tensors' entries need */
    char *text = vocab_encode(v);
    if (!text) return error_set(e, EXIT_FAILED, "memory ran out while a vocabulary was measured");
    size_t bytes = 0;
    for (const char *p = text; *p; p++) bytes += 1 + (*p == '"' || *p == '\\');
    free(text);
    return bytes + REST > ST_MAX_HEADER
               ? error_set(e, EXIT_BAD_DATA,
                           "%s cannot be written: its vocabulary has %zu bytes, and a "
                           "safetensors header holds %" PRIu64 "; is the text split into words?",
                           path, bytes, ST_MAX_HEADER)
               : EXIT_DONE;
}

/* Returns false if memory ran out. v NULL: there is no vocabulary. */
static bool vocab_text(const Vocab *v, VocabText *t)
{
    if (!v) return true;
    vocab_sha256(v, t->hash);
    return (t->text = vocab_encode(v)) != NULL;
}

int checkpoint_save(const char *path, const Settings *settings, const Counters *counters,
                    const CheckpointData *data, const Params *params, const float *h,
                    const float *c, const StMeta *extra, int n_extra, Error *e)
{
    assert((!data->vocab || params->shape.V_out == data->vocab->V) &&
           params->shape.H == settings->hidden && params->shape.L == settings->layers);
    assert(!h == !c && !h == !(data->carries && counters->minibatch));
    assert(!is_lm(settings->task) ||
           counters->tokens == counters->minibatch * settings->seq * settings->batch);
    /* A trainer checks the loss and norm that precede an update, so an overflow in the last update
     * shows here first. */
    size_t n_params = (size_t)params->offset[params->count];
    size_t n_state = h ? (size_t)(settings->layers * settings->batch * settings->hidden) : 0;
    if (find_not_finite(params->data, n_params) < n_params ||
        find_not_finite(h, n_state) < n_state || find_not_finite(c, n_state) < n_state)
        return error_set(e, EXIT_DIVERGED,
                         "diverged: a weight is not finite after %" PRId64
                         " minibatches; %s was not changed",
                         counters->step, path);
    /* put_metadata writes at most 18 entries beside settings and extras. */
    size_t entries = (size_t)(settings_count() + n_extra + data->n_extra + 20);
    VocabText vocab = {.text = NULL}, source = {.text = NULL};
    bool texts = vocab_text(data->vocab, &vocab) && vocab_text(data->vocab_source, &source);
    StMetaList meta = {.item = calloc(entries, sizeof *meta.item),
                       .text = calloc(entries, sizeof *meta.text)};
    ParamInfo *info = calloc((size_t)params->count, sizeof *info);
    StTensor *tensors = calloc((size_t)params->count + 2, sizeof *tensors);
    int code = EXIT_FAILED;
    if (texts && meta.item && meta.text && info && tensors) {
        put_metadata(&meta, settings, counters, data, &vocab, &source, extra, n_extra);
        params_tensors(params, info, tensors);
        int n = state_tensors(tensors, params->count, &params->shape, settings->batch, h, c);
        code = st_write(path, tensors, n, meta.item, meta.n, e);
    } else {
        error_set(e, code, "%s cannot be written: memory ran out", path);
    }
    free(tensors);
    free(info);
    free(meta.text);
    free(meta.item);
    free(vocab.text), free(source.text);
    return code;
}
