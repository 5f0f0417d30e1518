#include "weights.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "half.h"
#include "safetensors.h"

/* A tensor of the file or of one of its shards. */
typedef struct Entry {
    const char *name; /* without the prefixes of wrappers */
    const StTensor *tensor;
    bool used;
} Entry;

typedef struct Source {
    const char *path; /* as given, for sentences */
    StFile *file;     /* (n_files) */
    int n_files;
    Entry *entry; /* (n_entries) */
    int n_entries;
} Source;

static int out_of_memory(const char *path, Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while %s was read", path);
}

static void source_close(Source *s)
{
    for (int i = 0; i < s->n_files; i++) st_close(&s->file[i]);
    free(s->file);
    free(s->entry);
}

/* ---- one file or several ---- */

/* Returns whether the file is text that begins like a JSON object; the eight bytes of a safetensors
 * file's length never do. */
static bool is_json(const char *path)
{
    unsigned char b[2] = {0, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    ssize_t n = read(fd, b, 2);
    close(fd);
    return n == 2 && b[0] == '{' && b[1] != 0;
}

static int shard_open(Source *s, const char *name, Error *e)
{
    char path[PATH_MAX];
    const char *slash = strrchr(s->path, '/');
    if (strchr(name, '/') ||
        snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - s->path + 1) : 0, s->path,
                 name) >= (int)sizeof path)
        return error_set(e, EXIT_BAD_DATA,
                         "%s names a shard '%.80s', but there is no such file beside it", s->path,
                         name);
    int code = st_open(&s->file[s->n_files], path, e);
    s->n_files += !code;
    return code;
}

/* Opens the files that an index names, each once. */
static int shards_open(Source *s, Error *e)
{
    json_error_t fault;
    json_t *root = json_load_file(s->path, JSON_REJECT_DUPLICATES, &fault);
    const json_t *map = json_object_get(root, "weight_map");
    const char *name;
    json_t *value;
    int code = EXIT_DONE;
    if (!root)
        code = error_set(e, EXIT_BAD_DATA, "%s is not JSON: %s (line %d)", s->path, fault.text,
                         fault.line);
    else if (!json_is_object(map) || !json_object_size(map))
        code = error_set(e, EXIT_BAD_DATA,
                         "%s is JSON without a \"weight_map\", by which an index names its shards",
                         s->path);
    else if (!(s->file = calloc(json_object_size(map), sizeof *s->file)))
        code = out_of_memory(s->path, e);
    json_t *seen = json_object();
    if (!seen && !code) code = out_of_memory(s->path, e);
    if (!code) json_object_foreach((json_t *)map, name, value)
        {
            const char *shard = json_string_value(value);
            if (!shard)
                code = error_set(e, EXIT_BAD_DATA, "%s: '%.80s' has no file's name", s->path, name);
            else if (!json_object_get(seen, shard)) {
                json_object_set_new(seen, shard, json_true());
                code = shard_open(s, shard, e);
            }
            if (code) break;
        }
    json_decref(seen);
    json_decref(root);
    return code;
}

static int source_open(Source *s, Error *e)
{
    if (is_json(s->path)) return shards_open(s, e);
    s->file = calloc(1, sizeof *s->file);
    if (!s->file) return out_of_memory(s->path, e);
    int code = st_open(s->file, s->path, e);
    s->n_files = !code;
    return code;
}

/* ---- names ---- */

/* Removes a prefix that every name has. Returns false if some name lacks it, or there are no
 * names. */
static bool prefix_drop(Source *s, const char *prefix)
{
    size_t n = strlen(prefix);
    for (int i = 0; i < s->n_entries; i++)
        if (strncmp(s->entry[i].name, prefix, n)) return false;
    for (int i = 0; i < s->n_entries; i++) s->entry[i].name += n;
    return s->n_entries > 0;
}

static Entry *entry_find(const Source *s, const char *name)
{
    for (int i = 0; i < s->n_entries; i++)
        if (!strcmp(s->entry[i].name, name)) return &s->entry[i];
    return NULL;
}

static int entries_list(Source *s, Error *e)
{
    size_t n = 0;
    for (int f = 0; f < s->n_files; f++) n += (size_t)s->file[f].n_tensors;
    s->entry = calloc(n + 1, sizeof *s->entry);
    if (!s->entry) return out_of_memory(s->path, e);
    for (int f = 0; f < s->n_files; f++)
        for (int i = 0; i < s->file[f].n_tensors; i++) {
            const StTensor *t = &s->file[f].tensors[i];
            if (f && entry_find(s, t->name))
                return error_set(e, EXIT_BAD_DATA, "%s: two shards hold a tensor %.80s", s->path,
                                 t->name);
            s->entry[s->n_entries++] = (Entry){.name = t->name, .tensor = t};
        }
    /* The prefixes of torch.nn.DataParallel and DistributedDataParallel and of torch.compile, in
     * any order, each perhaps twice. */
    while (prefix_drop(s, "module.") || prefix_drop(s, "_orig_mod.")) {
    }
    return EXIT_DONE;
}

/* Lists the first tensors, for the sentence about a missing one. */
static void list_names(const Source *s, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, s->n_entries ? "" : "no tensor");
    for (int i = 0; i < s->n_entries && n < size; i++) {
        if (i == 6) {
            snprintf(out + n, size - n, ", ...");
            return;
        }
        n += (size_t)snprintf(out + n, size - n, "%s%.60s", i ? ", " : "", s->entry[i].name);
    }
}

/* ---- values ---- */

static float of_bfloat(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Converts the tensor's elements to float32. Returns false if its dtype is not F32, F64, F16 or
 * BF16. */
static bool convert(const StTensor *t, float *to, size_t n)
{
    switch (t->dtype) {
    case ST_F32: memcpy(to, t->data, n * sizeof *to); return true;
    case ST_F64:
        for (size_t i = 0; i < n; i++) to[i] = (float)((const double *)t->data)[i];
        return true;
    case ST_F16:
        for (size_t i = 0; i < n; i++) to[i] = half_to_float(((const uint16_t *)t->data)[i]);
        return true;
    case ST_BF16:
        for (size_t i = 0; i < n; i++) to[i] = of_bfloat(((const uint16_t *)t->data)[i]);
        return true;
    default: return false;
    }
}

/* Explains why a tensor of words may have a number of rows other than this vocabulary's types. */
static const char *why_rows(const Source *s, const ParamInfo *info, const StTensor *t)
{
    if (strncmp(info->name, "encoder.", 8) && strncmp(info->name, "decoder.", 8)) return "";
    if (t->rank != info->rank || t->shape[0] == info->dim[0] ||
        (t->rank == 2 && t->shape[1] != info->dim[1]))
        return "";
    /* A vocabulary that the file records has already been compared by vocab_agrees. */
    for (int f = 0; f < s->n_files; f++)
        if (st_meta(&s->file[f], "vocab")) return "";
    return "; its vocabulary is not the training text's (pytorch/examples uses the words of all "
           "three files): --vocab takes its words, one per line in the order of the ids";
}

static int take(Source *s, Params *into, int k, const char *name, StDtype *converted, Error *e)
{
    ParamInfo info = param_info(&into->shape, k);
    char found[ST_KIND_SIZE], wanted[ST_KIND_SIZE];
    float *to = into->data + into->offset[k];
    size_t n = (size_t)info.n;
    st_kind(ST_F32, info.dim, info.rank, wanted);
    Entry *entry = entry_find(s, name);
    if (!entry) {
        char names[512];
        list_names(s, names, sizeof names);
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor %s is missing, expected %s; the file holds %s", s->path, name,
                         wanted, names);
    }
    const StTensor *t = entry->tensor;
    bool fits =
        t->rank == info.rank && !memcmp(t->shape, info.dim, sizeof *t->shape * (size_t)info.rank);
    if (!fits || !convert(t, to, n))
        return error_set(e, EXIT_BAD_DATA, "%s: tensor %s: found %s, expected %s%s%s", s->path,
                         name, st_kind(t->dtype, t->shape, t->rank, found), wanted,
                         fits ? " or F64, F16, BF16" : "", why_rows(s, &info, t));
    for (size_t i = 0; i < n; i++)
        if (!isfinite(to[i]))
            return error_set(e, EXIT_BAD_DATA, "%s: tensor %s: element %zu is %s%s", s->path, name,
                             i, isnan(to[i]) ? "not a number" : "infinite",
                             t->dtype == ST_F64 ? " in float32" : "");
    for (int f = 0; f < s->n_files; f++) st_forget(&s->file[f]);
    if (t->dtype != ST_F32) *converted = t->dtype;
    entry->used = true;
    return EXIT_DONE;
}

/* Checks that every tensor was used. A tensor that has no place here shows that the weights are
 * those of another model. */
static int all_used(const Source *s, const Params *into, Error *e)
{
    for (int i = 0; i < s->n_entries; i++) {
        const Entry *entry = &s->entry[i];
        if (entry->used || !strcmp(entry->name, "state.h") || !strcmp(entry->name, "state.c"))
            continue;
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor %.80s has no place in this model of %" PRId64 " layer%s",
                         s->path, entry->name, into->shape.L, into->shape.L == 1 ? "" : "s");
    }
    return EXIT_DONE;
}

/* ---- the vocabulary ---- */

static int vocab_agrees(const Source *s, const Vocab *ours, Error *e)
{
    const char *text = NULL;
    for (int f = 0; f < s->n_files && !text; f++) text = st_meta(&s->file[f], "vocab");
    if (!text || !ours) return EXIT_DONE;
    Vocab theirs;
    Error inner;
    int code = vocab_parse(&theirs, text, &inner);
    if (code) return error_set(e, code, "%s: metadata 'vocab': %s", s->path, inner.text);
    for (int64_t i = 0; !code && (i < theirs.V || i < ours->V); i++) {
        size_t n = 0, m = 0;
        const char *a = i < theirs.V ? vocab_type(&theirs, (int32_t)i, &n) : NULL,
                   *b = i < ours->V ? vocab_type(ours, (int32_t)i, &m) : NULL;
        if (a && b && n == m && !memcmp(a, b, n)) continue;
        code =
            error_set(e, EXIT_BAD_DATA,
                      "%s has another vocabulary, of %" PRId64 " types and not %" PRId64
                      ": number %" PRId64 " is %s%.*s%s there and %s%.*s%s here",
                      s->path, theirs.V, ours->V, i, a ? "'" : "", a ? (int)(n < 60 ? n : 60) : 7,
                      a ? a : "missing", a ? "'" : "", b ? "'" : "", b ? (int)(m < 60 ? m : 60) : 7,
                      b ? b : "missing", b ? "'" : "");
    }
    vocab_free(&theirs);
    return code;
}

/* ---- all of it ---- */

/* Checks the task, which a checkpoint of plstm records. */
static int task_agrees(const Source *s, const char *task, Error *e)
{
    for (int i = 0; i < s->n_files; i++) {
        const char *of = st_meta(&s->file[i], "task");
        if (!of) of = "lm";
        if (st_meta(&s->file[i], "plstm") && strcmp(of, task))
            return error_set(e, EXIT_BAD_DATA, "%s is of task %.60s, but this run is of task %s",
                             s->path, of, task);
    }
    return EXIT_DONE;
}

int weights_read(Params *into, const char *task, const Vocab *vocab, const char *path,
                 char note[WEIGHTS_NOTE], Error *e)
{
    Source s = {.path = path};
    StDtype converted = ST_F32;
    bool tied = false;
    note[0] = 0;
    int code = source_open(&s, e);
    if (!code) code = task_agrees(&s, task, e);
    if (!code) code = vocab_agrees(&s, vocab, e);
    if (!code) code = entries_list(&s, e);
    for (int k = 0; !code && k < into->count; k++) {
        ParamInfo info = param_info(&into->shape, k);
        bool shared = !strcmp(info.name, "decoder.weight") && !entry_find(&s, info.name) &&
                      entry_find(&s, "encoder.weight");
        tied |= shared;
        code = take(&s, into, k, shared ? "encoder.weight" : info.name, &converted, e);
    }
    if (!code) code = all_used(&s, into, e);
    if (!code && (tied || converted != ST_F32))
        snprintf(note, WEIGHTS_NOTE, "%.200s: %s%s%s%s%s", path,
                 converted != ST_F32 ? "weights of " : "",
                 converted != ST_F32 ? st_dtype_name(converted) : "",
                 converted != ST_F32 ? " become F32" : "", tied && converted != ST_F32 ? "; " : "",
                 tied ? "decoder.weight starts as the tied encoder.weight and is trained separately"
                      : "");
    source_close(&s);
    return code;
}
