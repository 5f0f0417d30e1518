#include "npy.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "half.h"
#include "host/base/map_file.h"
#include "host/base/replace.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "elements are used in the byte order of the file"
#endif

static const char magic[] = "\x93NUMPY";
enum { MAGIC = sizeof magic - 1, ALIGNMENT = 64 };

/* ---- the header: a Python dict of three entries, blanks, perhaps a comment ---- */

/* Strings that the parser accepts are printable ASCII, so that sentences may quote them. */
typedef struct Reader {
    const char *at, *end;
    const char *path;
    Error *e;
} Reader;

static int fault(Reader *r, const char *what)
{
    return error_set(r->e, EXIT_BAD_DATA, "%s is not an array that NumPy wrote: its header %s",
                     r->path, what);
}

static void skip_blanks(Reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t')) r->at++;
}

/* Skips blanks and returns whether c follows; c is then consumed. */
static bool accept(Reader *r, char c)
{
    skip_blanks(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool accept_word(Reader *r, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(r);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n)) return false;
    r->at += n;
    return true;
}

/* Parses a string in quotes of either kind, without escapes, and keeps its first size-1
 * characters. */
static bool parse_string(Reader *r, char *to, size_t size)
{
    size_t n = 0;
    char quote = accept(r, '\'') ? '\'' : accept(r, '"') ? '"' : 0;
    if (!quote) return false;
    for (; r->at < r->end && *r->at != quote; r->at++) {
        if (*r->at == '\\' || *r->at < ' ' || *r->at > '~') return false;
        if (n + 1 < size) to[n++] = *r->at;
    }
    to[n] = 0;
    return r->at++ < r->end;
}

static bool parse_size(Reader *r, int64_t *size)
{
    skip_blanks(r);
    const char *first = r->at;
    *size = 0;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
        if (__builtin_mul_overflow(*size, 10, size) ||
            __builtin_add_overflow(*size, *r->at - '0', size))
            return false;
    return r->at > first;
}

static int parse_dtype(Reader *r, NpyFile *f)
{
    char name[24];
    if (accept(r, '['))
        return error_set(
            r->e, EXIT_BAD_DATA,
            "%s holds records; plstm reads arrays of float32 ('<f4') and float16 ('<f2')", r->path);
    if (!parse_string(r, name, sizeof name)) return fault(r, "has a dtype that is not a string");
    if (!strcmp(name, "<f4")) f->dtype = NPY_F32;
    else if (!strcmp(name, "<f2")) f->dtype = NPY_F16;
    else
        return error_set(r->e, EXIT_BAD_DATA,
                         "%s holds elements of dtype '%s'; plstm reads float32 ('<f4') and float16 "
                         "('<f2'), and numpy.save(F, a.astype('<f4')) converts to the former",
                         r->path, name);
    return EXIT_DONE;
}

static int parse_order(Reader *r)
{
    if (accept_word(r, "False")) return EXIT_DONE;
    if (!accept_word(r, "True"))
        return fault(r, "has a fortran_order that is neither True nor False");
    return error_set(
        r->e, EXIT_BAD_DATA,
        "%s is in Fortran order; numpy.save(F, numpy.ascontiguousarray(a)) writes it in C order",
        r->path);
}

static int parse_shape(Reader *r, NpyFile *f)
{
    if (!accept(r, '(')) return fault(r, "has a shape that is not a tuple");
    f->rank = 0;
    while (!accept(r, ')')) {
        if (f->rank == NPY_MAX_RANK)
            return error_set(r->e, EXIT_BAD_DATA, "%s has more than %d dimensions", r->path,
                             NPY_MAX_RANK);
        if (!parse_size(r, &f->shape[f->rank]))
            return fault(r, "has a shape that does not consist of sizes");
        f->rank++;
        bool more = accept(r, ',');
        skip_blanks(r);
        /* (3) is a number, not a tuple. */
        if (!more && (f->rank == 1 || r->at == r->end || *r->at != ')'))
            return fault(r, "has a shape that does not consist of sizes");
    }
    f->n = 1;
    for (int i = 0; i < f->rank; i++)
        if (__builtin_mul_overflow(f->n, f->shape[i], &f->n))
            return error_set(r->e, EXIT_BAD_DATA,
                             "%s has a shape with more elements than any machine holds", r->path);
    return EXIT_DONE;
}

static int parse_entries(Reader *r, NpyFile *f)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    bool seen[3] = {false};
    if (!accept(r, '{')) return fault(r, "is not a dict");
    while (!accept(r, '}')) {
        char key[24];
        int k = 0, code = EXIT_DONE;
        if (!parse_string(r, key, sizeof key) || !accept(r, ':'))
            return fault(r, "has an entry without a name");
        while (k < 3 && strcmp(key, keys[k])) k++;
        if (k == 3) return fault(r, "has an entry that is not dtype, order or shape");
        if (seen[k]) return fault(r, "has an entry twice");
        seen[k] = true;
        if (k == 0) code = parse_dtype(r, f);
        else if (k == 1) code = parse_order(r);
        else code = parse_shape(r, f);
        if (code) return code;
        bool more = accept(r, ',');
        skip_blanks(r);
        if (!more && (r->at == r->end || *r->at != '}'))
            return fault(r, "has entries without a comma between them");
    }
    if (!seen[0] || !seen[1] || !seen[2]) return fault(r, "lacks dtype, order or shape");
    return EXIT_DONE;
}

static int parse_header(Reader *r, NpyFile *f)
{
    int code = parse_entries(r, f);
    if (code) return code;
    if (accept(r, '#')) {
        while (r->at < r->end && *r->at == ' ') r->at++;
        const char *next = r->at, *last;
        while (next < r->end && *next != '\n') next++;
        for (last = next; last > r->at && last[-1] == ' ';) last--;
        size_t n = (size_t)(last - r->at);
        if (n >= sizeof f->note) return fault(r, "ends in a comment of more than 511 characters");
        for (size_t i = 0; i < n; i++)
            if (r->at[i] < ' ' || r->at[i] > '~')
                return fault(r, "ends in a comment that is not printable ASCII");
        memcpy(f->note, r->at, n);
        r->at = next;
    }
    skip_blanks(r);
    return r->at == r->end ? EXIT_DONE : fault(r, "does not end with its dict");
}

/* ---- the file ---- */

int npy_parse(NpyFile *f, const void *bytes, size_t n, const char *path, Error *e)
{
    const unsigned char *b = bytes;
    memset(f, 0, sizeof *f);
    if (n < MAGIC + 4 || memcmp(b, magic, MAGIC))
        return error_set(
            e, EXIT_BAD_DATA,
            "%s is not an array that NumPy wrote: it does not begin with \\x93NUMPY and a version",
            path);
    if (b[6] < 1 || b[6] > 3 || b[7])
        return error_set(e, EXIT_BAD_DATA,
                         "%s has format version %u.%u of NumPy; plstm reads 1.0, 2.0 and 3.0", path,
                         b[6], b[7]);
    size_t start = b[6] == 1 ? MAGIC + 4 : MAGIC + 6, length = (size_t)b[8] | (size_t)b[9] << 8;
    if (n >= start && b[6] > 1) length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (n < start || length > n - start)
        return error_set(e, EXIT_BAD_DATA,
                         "%s is cut short: its header has %zu bytes and the whole file %zu", path,
                         length, n);
    Reader r = {.at = (const char *)b + start,
                .end = (const char *)b + start + length,
                .path = path,
                .e = e};
    int code = parse_header(&r, f);
    if (code) return code;
    size_t held = n - start - length, size = f->dtype == NPY_F16 ? 2 : 4;
    if ((uint64_t)f->n > SIZE_MAX / size || (size_t)f->n * size != held)
        return error_set(
            e, EXIT_BAD_DATA,
            "%s %s: its header announces %" PRId64 " elements of %zu bytes, but %zu bytes follow",
            path, (uint64_t)f->n > held / size ? "is cut short" : "continues after its array", f->n,
            size, held);
    f->data = b + start + length;
    return EXIT_DONE;
}

int npy_open(NpyFile *f, const char *path, Error *e)
{
    void *map;
    size_t n;
    memset(f, 0, sizeof *f);
    int code = map_file(path, "a file of NumPy", &map, &n, e);
    if (!code && (code = npy_parse(f, map, n, path, e))) munmap(map, n);
    else if (!code) f->map = map, f->map_bytes = n;
    return code;
}

void npy_close(NpyFile *f)
{
    if (f->map) munmap(f->map, f->map_bytes);
    memset(f, 0, sizeof *f);
}

void npy_floats(const NpyFile *f, int64_t from, int64_t n, float *to)
{
    assert(from >= 0 && n >= 0 && n <= f->n && from <= f->n - n);
    if (f->dtype == NPY_F32) {
        memcpy(to, (const char *)f->data + (size_t)from * sizeof *to, (size_t)n * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)f->data + (size_t)(from + i) * sizeof h, sizeof h);
        to[i] = half_to_float(h);
    }
}

int npy_write(const char *path, const char *what, const float *values, const int64_t *shape,
              int rank, const char *note, Error *e)
{
    char head[NPY_NOTE_SIZE + 6 * ALIGNMENT];
    Replacement r;
    size_t start = MAGIC + 4, end = start, n = 1;
    assert(strlen(note) < NPY_NOTE_SIZE && rank >= 1 && rank <= NPY_MAX_RANK);
    memcpy(head, magic, MAGIC);
    head[MAGIC] = 1, head[MAGIC + 1] = 0;
    end += (size_t)sprintf(head + end, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < rank; i++) {
        n *= (size_t)shape[i];
        end += (size_t)sprintf(head + end, "%s%" PRId64 "%s", i ? " " : "", shape[i],
                               rank == 1 || i + 1 < rank ? "," : "");
    }
    end += (size_t)sprintf(head + end, "), }%s%s", *note ? " # " : "", note);
    size_t whole = (end + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    assert(whole <= sizeof head);
    memset(head + end, ' ', whole - end);
    head[whole - 1] = '\n';
    head[MAGIC + 2] = (char)((whole - start) & 255), head[MAGIC + 3] = (char)((whole - start) >> 8);
    int code = replace_open(&r, path, what, e);
    if (code) return code;
    bool ok = !replace_begin(&r) && !replace_write(&r, head, whole) &&
              !replace_write(&r, values, n * sizeof *values);
    return replace_finish(&r, ok, what, e);
}
