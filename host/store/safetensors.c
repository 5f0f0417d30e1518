#include "safetensors.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/base/map_file.h"
#include "host/base/replace.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the format is little-endian, and tensors are used in place"
#endif

/* ---- dtypes ---- */

static const struct {
    const char *name;
    size_t size;
} dtypes[ST_DTYPES] = {
#define ROW(name, size) {#name, size},
    ST_DTYPE_LIST(ROW)
#undef ROW
};

size_t st_dtype_size(StDtype d) { return dtypes[d].size; }
const char *st_dtype_name(StDtype d) { return dtypes[d].name; }

const char *st_kind(StDtype dtype, const int64_t *shape, int rank, char out[ST_KIND_SIZE])
{
    int n = snprintf(out, ST_KIND_SIZE, "%s (", st_dtype_name(dtype));
    for (int i = 0; i < rank; i++)
        n += snprintf(out + n, ST_KIND_SIZE - (size_t)n, "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(out + n, ST_KIND_SIZE - (size_t)n, ")");
    return out;
}

/* ---- reading ---- */

/* The place of a tensor's bytes in the data section. Extents are sorted to check that they tile
 * it. */
typedef struct Extent {
    int64_t begin, end;
    int tensor;
} Extent;

static int extent_order(const void *a, const void *b)
{
    const Extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int out_of_memory(Error *e, const char *path)
{
    return error_set(e, EXIT_FAILED, "%s: memory ran out while its header was read", path);
}

/* Parses one entry of the header into t (all but data) and its extent. */
static int parse_tensor(StTensor *t, Extent *x, const char *name, const json_t *entry,
                        const char *path, Error *e)
{
    if (!json_is_object(entry))
        return error_set(e, EXIT_BAD_DATA, "%s: tensor '%.80s' is not an object", path, name);
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    t->name = name;

    if (!json_is_string(dtype))
        return error_set(e, EXIT_BAD_DATA, "%s: tensor '%.80s' has no dtype", path, name);
    for (t->dtype = 0; t->dtype < ST_DTYPES; t->dtype++)
        if (!strcmp(dtypes[t->dtype].name, json_string_value(dtype))) break;
    if (t->dtype == ST_DTYPES)
        return error_set(e, EXIT_BAD_DATA, "%s: tensor '%.80s' has unknown dtype '%.40s'", path,
                         name, json_string_value(dtype));

    if (!json_is_array(shape))
        return error_set(e, EXIT_BAD_DATA, "%s: tensor '%.80s' has no shape", path, name);
    if (json_array_size(shape) > ST_MAX_RANK)
        return error_set(e, EXIT_BAD_DATA, "%s: tensor '%.80s' has %zu dimensions, more than %d",
                         path, name, json_array_size(shape), ST_MAX_RANK);
    t->rank = (int)json_array_size(shape);
    int64_t bytes = (int64_t)st_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return error_set(e, EXIT_BAD_DATA,
                             "%s: tensor '%.80s' has a dimension that is not a whole number from 0",
                             path, name);
        t->shape[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(bytes, t->shape[i], &bytes))
            return error_set(e, EXIT_BAD_DATA,
                             "%s: tensor '%.80s' has a shape larger than any file", path, name);
    }

    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return error_set(e, EXIT_BAD_DATA, "%s: tensor '%.80s' has no data_offsets of two numbers",
                         path, name);
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor '%.80s' has data_offsets that are not whole numbers from 0",
                         path, name);
    x->begin = json_integer_value(begin), x->end = json_integer_value(end);
    if (x->end < x->begin)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor '%.80s' ends at %" PRId64 ", before it begins at %" PRId64,
                         path, name, x->end, x->begin);
    if (x->end - x->begin != bytes) {
        char kind[ST_KIND_SIZE];
        return error_set(e, EXIT_BAD_DATA,
                         "%s: tensor '%.80s' of %s needs %" PRId64 " bytes but is given %" PRId64,
                         path, name, st_kind(t->dtype, t->shape, t->rank, kind), bytes,
                         x->end - x->begin);
    }
    t->bytes = (size_t)bytes;
    return EXIT_DONE;
}

static int parse_meta(StFile *f, const json_t *meta, const char *path, Error *e)
{
    if (!json_is_object(meta))
        return error_set(e, EXIT_BAD_DATA, "%s: its __metadata__ is not an object", path);
    f->meta = calloc(json_object_size(meta) + 1, sizeof *f->meta);
    if (!f->meta) return out_of_memory(e, path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)meta, key, value)
    {
        if (!json_is_string(value))
            return error_set(e, EXIT_BAD_DATA, "%s: metadata '%.80s' is not a string", path, key);
        f->meta[f->n_meta++] = (StMeta){key, json_string_value(value)};
    }
    return EXIT_DONE;
}

/* Checks that the sorted extents cover the data section exactly: no hole, no overlap, nothing
 * beyond, nothing left over. */
static int check_tiling(const StFile *f, const Extent *x, int64_t data_bytes, const char *path,
                        Error *e)
{
    int64_t covered = 0;
    for (int i = 0; i < f->n_tensors; i++) {
        const char *name = f->tensors[x[i].tensor].name;
        if (x[i].end > data_bytes)
            return error_set(e, EXIT_BAD_DATA,
                             "%s is cut short: tensor '%.80s' ends at byte %" PRId64
                             " of its data, which has %" PRId64,
                             path, name, x[i].end, data_bytes);
        if (x[i].begin < covered)
            return error_set(e, EXIT_BAD_DATA,
                             "%s: tensor '%.80s' overlaps another (it begins at %" PRId64
                             ", not %" PRId64 ")",
                             path, name, x[i].begin, covered);
        if (x[i].begin > covered)
            return error_set(e, EXIT_BAD_DATA,
                             "%s: a hole of %" PRId64 " bytes before tensor '%.80s'", path,
                             x[i].begin - covered, name);
        covered = x[i].end;
    }
    if (covered != data_bytes)
        return error_set(e, EXIT_BAD_DATA, "%s: %" PRId64 " bytes follow its last tensor", path,
                         data_bytes - covered);
    return EXIT_DONE;
}

/* Points the tensors at their bytes. A tensor that the file holds misaligned for its dtype (other
 * writers may do that) is copied. */
static int place_data(StFile *f, const Extent *x, const char *data, const char *path, Error *e)
{
    size_t copied = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t at = 0;
        for (int i = 0; i < f->n_tensors; i++) {
            StTensor *t = &f->tensors[x[i].tensor];
            const char *from = data + x[i].begin;
            t->data = from;
            if ((uintptr_t)from % st_dtype_size(t->dtype) == 0 || !t->bytes) continue;
            if (pass == 1) t->data = memcpy((char *)f->copy + at, from, t->bytes);
            at += (t->bytes + 7) / 8 * 8;
        }
        copied = at;
        if (!copied) break;
        if (pass == 0 && !(f->copy = malloc(copied))) return out_of_memory(e, path);
    }
    return EXIT_DONE;
}

static int parse_entries(StFile *f, const json_t *root, Extent *x, const char *data,
                         int64_t data_bytes, const char *path, Error *e)
{
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)root, name, entry)
    {
        int code =
            !strcmp(name, "__metadata__")
                ? parse_meta(f, entry, path, e)
                : parse_tensor(&f->tensors[f->n_tensors], &x[f->n_tensors], name, entry, path, e);
        if (code) return code;
        if (!strcmp(name, "__metadata__")) continue;
        x[f->n_tensors].tensor = f->n_tensors;
        f->n_tensors++;
    }
    qsort(x, (size_t)f->n_tensors, sizeof *x, extent_order);
    int code = check_tiling(f, x, data_bytes, path, e);
    return code ? code : place_data(f, x, data, path, e);
}

/* Recognises a file of another format by its first bytes. Returns the clause that names it for a
 * sentence; NULL: unknown. */
static const char *other_format(const unsigned char *b, size_t n)
{
#define TORCH                                                                                      \
    ": save it as safetensors: safetensors.torch.save_file(model.state_dict(), 'F.safetensors')"
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } known[] = {
        {"PK\003\004", 4, "a zip archive, as torch.save writes .pt and .bin" TORCH},
        {"\200\002", 2, "a Python pickle, as old versions of torch.save write .pt and .bin" TORCH},
        {"\200\004", 2, "a Python pickle" TORCH},
        {"\200\005", 2, "a Python pickle" TORCH},
        {"GGUF", 4, "a GGUF file: save the model's float weights as safetensors"},
        {"\223NUMPY", 6,
         "a NumPy array: save it as safetensors: safetensors.numpy.save_file({name: array}, "
         "'F.safetensors')"},
        {"\211HDF", 4, "an HDF5 file: save its arrays as safetensors"},
        {"\037\213", 2, "compressed by gzip: decompress it"},
        {"\050\265\057\375", 4, "compressed by zstd: decompress it"},
        {"version https://git-lfs", 23,
         "a Git LFS pointer instead of the file itself: git lfs pull fetches it"},
        {"<!DOCTYPE", 9, "a web page: the download went wrong"},
        {"<html", 5, "a web page: the download went wrong"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (n >= known[i].n && !memcmp(b, known[i].bytes, known[i].n)) return known[i].what;
    return n >= 2 && b[0] == '{' && b[1]
               ? "JSON: only --init-weights reads JSON, namely the index of a model in shards"
               : NULL;
}

int st_parse(StFile *f, const void *bytes, size_t n, const char *path, Error *e)
{
    memset(f, 0, sizeof *f);
    assert((uintptr_t)bytes % 8 == 0);
    if (n == 0) return error_set(e, EXIT_BAD_DATA, "%s is empty", path);
    if (n < 8)
        return error_set(e, EXIT_BAD_DATA, "%s: its %zu bytes are too few for a safetensors file",
                         path, n);
    uint64_t header_bytes;
    memcpy(&header_bytes, bytes, 8);
    const char *what = header_bytes == 0 || header_bytes > n - 8 || ((const char *)bytes)[8] != '{'
                           ? other_format(bytes, n)
                           : NULL;
    if (what) return error_set(e, EXIT_BAD_DATA, "%s is not a safetensors file but %s", path, what);
    if (header_bytes > ST_MAX_HEADER)
        return error_set(e, EXIT_BAD_DATA,
                         "%s is not a safetensors file: its header would have %" PRIu64
                         " bytes (%" PRIu64 " at most)",
                         path, header_bytes, ST_MAX_HEADER);
    if (header_bytes > n - 8)
        return error_set(e, EXIT_BAD_DATA,
                         "%s is cut short: its header has %" PRIu64 " bytes, the file only %zu",
                         path, header_bytes, n);
    const char *header = (const char *)bytes + 8;
    if (header_bytes == 0 || header[0] != '{')
        return error_set(e, EXIT_BAD_DATA,
                         "%s is not a safetensors file: its header does not start with '{'", path);

    /* Jansson itself refuses what could hide something from the checks below: duplicate keys at any
     * level, NUL bytes in strings, integers beyond 64 bits, invalid UTF-8, text after the object.
     * It keeps the keys' order. */
    json_error_t fault;
    json_t *root = json_loadb(header, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &fault);
    if (!root)
        return error_set(e, EXIT_BAD_DATA, "%s: its header is not valid JSON: %s (byte %d)", path,
                         fault.text, fault.position);
    f->header = root;
    f->file_bytes = n;
    f->header_bytes = (size_t)header_bytes;

    size_t entries = json_object_size(root);
    Extent *x = calloc(entries + 1, sizeof *x);
    f->tensors = calloc(entries + 1, sizeof *f->tensors);
    int code = entries > INT_MAX || !x || !f->tensors
                   ? out_of_memory(e, path)
                   : parse_entries(f, root, x, header + header_bytes,
                                   (int64_t)(n - 8 - header_bytes), path, e);
    free(x);
    if (code) st_close(f);
    return code;
}

int st_open(StFile *f, const char *path, Error *e)
{
    void *map;
    size_t n;
    memset(f, 0, sizeof *f);
    int code = map_file(path, "a safetensors file", &map, &n, e);
    if (!code && (code = st_parse(f, map, n, path, e))) munmap(map, n);
    else if (!code) f->map = map, f->map_bytes = n;
    return code;
}

void st_close(StFile *f)
{
    if (f->map) munmap(f->map, f->map_bytes);
    if (f->header) json_decref(f->header);
    free(f->tensors);
    free(f->meta);
    free(f->copy);
    memset(f, 0, sizeof *f);
}

void st_forget(const StFile *f)
{
    if (f->map) madvise(f->map, f->map_bytes, MADV_DONTNEED);
}

const StTensor *st_find(const StFile *f, const char *name)
{
    for (int i = 0; i < f->n_tensors; i++)
        if (!strcmp(f->tensors[i].name, name)) return &f->tensors[i];
    return NULL;
}

const char *st_meta(const StFile *f, const char *key)
{
    for (int i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta[i].key, key)) return f->meta[i].value;
    return NULL;
}

/* ---- the header of a file to be written ---- */

/* Appends text as a JSON string. Returns false if it is not UTF-8 or memory ran out. */
static bool put_string(FILE *out, const char *text)
{
    json_t *string = json_string(text);
    bool ok = string && json_dumpf(string, out, JSON_ENCODE_ANY) == 0;
    json_decref(string);
    return ok;
}

static bool put_header(FILE *out, const StTensor *tensors, int n_tensors, const StMeta *meta,
                       int n_meta)
{
    const char *comma = "";
    fputc('{', out);
    if (n_meta) {
        fputs("\"__metadata__\":{", out);
        for (int i = 0; i < n_meta; i++) {
            if (i) fputc(',', out);
            if (!put_string(out, meta[i].key)) return false;
            fputc(':', out);
            if (!put_string(out, meta[i].value)) return false;
        }
        fputc('}', out);
        comma = ",";
    }
    size_t at = 0;
    for (int i = 0; i < n_tensors; i++) {
        const StTensor *t = &tensors[i];
        fputs(comma, out);
        comma = ",";
        if (!put_string(out, t->name)) return false;
        fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(t->dtype));
        size_t bytes = st_dtype_size(t->dtype);
        for (int k = 0; k < t->rank; k++) {
            fprintf(out, "%s%" PRId64, k ? "," : "", t->shape[k]);
            bytes *= (size_t)t->shape[k];
        }
        assert(bytes == t->bytes);
        fprintf(out, "],\"data_offsets\":[%zu,%zu]}", at, at + t->bytes);
        at += t->bytes;
    }
    fputc('}', out);
    long length = ftell(out);
    /* Blanks make the data start at a multiple of 8. */
    for (; length >= 0 && length % 8; length++) fputc(' ', out);
    return !ferror(out);
}

/* Returns the header with its 8-byte length in front, *size bytes in total, allocated by malloc;
 * NULL: the reason is in *e. */
static char *make_header(const char *path, const StTensor *tensors, int n_tensors,
                         const StMeta *meta, int n_meta, size_t *size, Error *e)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    bool ok = out && put_header(out, tensors, n_tensors, meta, n_meta);
    if (out && fclose(out)) ok = false;
    char *header = ok && length <= ST_MAX_HEADER ? malloc(8 + length) : NULL;
    if (header) {
        uint64_t prefix = length;
        memcpy(header, &prefix, 8);
        memcpy(header + 8, text, length);
        *size = 8 + length;
    } else if (length > ST_MAX_HEADER) {
        error_set(e, EXIT_BAD_DATA,
                  "%s cannot be written: its header would have %zu bytes (%" PRIu64 " at most)",
                  path, length, ST_MAX_HEADER);
    } else {
        error_set(e, EXIT_FAILED,
                  "%s cannot be written: a name or value is not UTF-8, or memory ran out", path);
    }
    free(text);
    return header;
}

/* ---- writing ---- */

void st_put(StMetaList *m, const char *key, const char *value)
{
    m->item[m->n++] = (StMeta){key, value};
}

void st_put_count(StMetaList *m, const char *key, int64_t value)
{
    snprintf(m->text[m->n].value, sizeof m->text->value, "%" PRId64, value);
    st_put(m, key, m->text[m->n].value);
}

void st_put_double(StMetaList *m, const char *key, double value)
{
    snprintf(m->text[m->n].value, sizeof m->text->value, "%.17g", value);
    st_put(m, key, m->text[m->n].value);
}

int st_write(const char *path, const StTensor *tensors, int n_tensors, const StMeta *meta,
             int n_meta, Error *e)
{
    size_t header_bytes = 0;
    char *header = make_header(path, tensors, n_tensors, meta, n_meta, &header_bytes, e);
    if (!header) return e->code;
    Replacement r;
    int code = replace_open(&r, path, path, e);
    if (!code) {
        bool ok = !replace_begin(&r) && !replace_write(&r, header, header_bytes);
        for (int i = 0; ok && i < n_tensors; i++)
            ok = !replace_write(&r, tensors[i].data, tensors[i].bytes);
        code = replace_finish(&r, ok, path, e);
    }
    free(header);
    return code;
}
