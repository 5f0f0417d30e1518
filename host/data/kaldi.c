#include "kaldi.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "elements are used in the byte order of the file"
#endif

static bool is_blank(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* ---- binary matrices ---- */

typedef struct ColumnHeader {
    uint16_t quartile[4]; /* percentiles 0, 25, 75 and 100, in 65535ths of the matrix's range */
} ColumnHeader;

enum { GLOBAL_HEADER = 16 }; /* minimum, range, rows, cols */

/* Parses an int32 that follows a byte of value 4, and moves *at past it. Returns false if there is
 * none or it is negative. */
static bool parse_size(const unsigned char *bytes, size_t n, size_t *at, int64_t *size)
{
    int32_t x;
    if (n - *at < 5 || bytes[*at] != 4) return false;
    memcpy(&x, bytes + *at + 1, sizeof x);
    *at += 5;
    *size = x;
    return x >= 0;
}

/* Computes the bytes that the elements take, column headers included. Returns false if the number
 * overflows. */
static bool element_bytes(const KaldiMatrix *m, size_t *bytes)
{
    static const size_t size[] = {
        [KALDI_F32] = 4, [KALDI_F64] = 8, [KALDI_CM] = 1, [KALDI_CM2] = 2, [KALDI_CM3] = 1};
    size_t headers = m->kind == KALDI_CM ? (size_t)m->cols * sizeof(ColumnHeader) : 0;
    return !__builtin_mul_overflow((size_t)m->rows, (size_t)m->cols, bytes) &&
           !__builtin_mul_overflow(*bytes, size[m->kind], bytes) &&
           !__builtin_add_overflow(*bytes, headers, bytes);
}

static int cut_short(const char *what, Error *e)
{
    return error_set(e, EXIT_BAD_DATA, "%s is cut short: the file ends within its matrix", what);
}

/* Parses the rows and columns of a compressed matrix, which follow its range. */
static int parse_compressed(KaldiMatrix *m, const unsigned char *bytes, size_t n, size_t *at,
                            const char *what, Error *e)
{
    int32_t size[2];
    if (n - *at < GLOBAL_HEADER) return cut_short(what, e);
    memcpy(&m->least, bytes + *at, 4);
    memcpy(&m->range, bytes + *at + 4, 4);
    memcpy(size, bytes + *at + 8, sizeof size);
    *at += GLOBAL_HEADER;
    m->rows = size[0], m->cols = size[1];
    return EXIT_DONE;
}

static int parse_binary(KaldiMatrix *m, const unsigned char *bytes, size_t n, const char *what,
                        Error *e)
{
    static const struct {
        const char *token;
        KaldiKind kind;
    } kinds[] = {{"FM ", KALDI_F32},
                 {"DM ", KALDI_F64},
                 {"CM ", KALDI_CM},
                 {"CM2 ", KALDI_CM2},
                 {"CM3 ", KALDI_CM3}};
    size_t at = 2, i = 0, elements; /* at: after \0B */
    for (; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].token);
        if (n - at < length || memcmp(bytes + at, kinds[i].token, length)) continue;
        at += length;
        break;
    }
    if (i == sizeof kinds / sizeof *kinds) {
        int length = 0;
        while (length < 8 && at + (size_t)length < n && bytes[at + (size_t)length] > ' ') length++;
        if (n - at < 4 && length < 4) return cut_short(what, e);
        return error_set(e, EXIT_BAD_DATA, "%s holds '%.*s', which is not FM, DM, CM, CM2 or CM3",
                         what, length, (const char *)bytes + at);
    }
    m->kind = kinds[i].kind;
    if (m->kind >= KALDI_CM) {
        int code = parse_compressed(m, bytes, n, &at, what, e);
        if (code) return code;
    } else if (n - at < 10) {
        return cut_short(what, e);
    } else if (!parse_size(bytes, n, &at, &m->rows) || !parse_size(bytes, n, &at, &m->cols)) {
        m->rows = -1;
    }
    if (m->rows < 0 || m->cols < 0)
        return error_set(e, EXIT_BAD_DATA, "%s has an invalid size", what);
    if (!m->rows != !m->cols)
        return error_set(e, EXIT_BAD_DATA, "%s has %" PRId64 " rows of %" PRId64 " numbers", what,
                         m->rows, m->cols);
    if (!element_bytes(m, &elements) || n - at < elements) return cut_short(what, e);
    m->data = bytes + at;
    m->data_bytes = elements;
    m->bytes = at + elements;
    return EXIT_DONE;
}

static float read_u16(const unsigned char *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Maps byte x to a value between the column's quartiles q, piecewise linearly as Kaldi does. */
static float between_quartiles(const float q[4], unsigned char x)
{
    if (x <= 64) return (float)(q[0] + (q[1] - q[0]) * x * (1 / 64.0));
    if (x <= 192) return (float)(q[1] + (q[2] - q[1]) * (x - 64) * (1 / 128.0));
    return (float)(q[2] + (q[3] - q[2]) * (x - 192) * (1 / 63.0));
}

static void read_columns(const KaldiMatrix *m, float *to)
{
    const unsigned char *element = m->data + (size_t)m->cols * sizeof(ColumnHeader);
    for (int64_t c = 0; c < m->cols; c++) {
        float q[4];
        for (int i = 0; i < 4; i++)
            q[i] =
                m->least + m->range * 1.52590218966964e-05F * /* 1/65535 */
                               read_u16(m->data + sizeof(ColumnHeader) * (size_t)c + 2 * (size_t)i);
        for (int64_t r = 0; r < m->rows; r++)
            to[r * m->cols + c] = between_quartiles(q, *element++);
    }
}

/* ---- numbers as text ---- */

/* Parses the token at *at as a number and moves *at past it. Returns false if it is not a
 * number. */
static bool parse_number(const char **at, const char *end, float *value)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    char text[64], *rest;
    size_t n = 0;
    while (*at + n < end && n < sizeof text - 1 && !is_blank((*at)[n]) && (*at)[n] != ';' &&
           (*at)[n] != ']') {
        text[n] = (*at)[n];
        n++;
    }
    text[n] = 0;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    bool word = false;
    for (int i = 0; i < 3; i++) word |= !strcasecmp(digits, words[i]);
    if (!n || (!word && strspn(digits, "0123456789.eE+-") != strlen(digits))) return false;
    *value = strtof(text, &rest);
    *at += n;
    return !*rest;
}

/* Scans a matrix in text form, stores its elements at `to` unless that is NULL, and moves *at from
 * after `[` to after `]`. Returns false if the text is not a matrix. */
static bool parse_rows(const char **at, const char *end, int64_t *rows, int64_t *cols, float *to)
{
    int64_t in_row = 0;
    *rows = *cols = 0;
    for (;;) {
        while (*at < end && is_blank(**at) && **at != '\n') ++*at;
        if (*at == end) return false;
        bool ends = **at == ']';
        if (ends || **at == '\n' || **at == ';') {
            if (in_row && *rows && in_row != *cols) return false;
            ++*at;
            if (in_row) ++*rows, *cols = in_row;
            in_row = 0;
            if (ends) return true;
            continue;
        }
        float value;
        if (!parse_number(at, end, &value)) return false;
        if (to) *to++ = value;
        in_row++;
    }
}

static int parse_text(KaldiMatrix *m, const char *bytes, size_t n, const char *what, Error *e)
{
    const char *at = bytes, *end = bytes + n;
    while (at < end && is_blank(*at)) at++;
    if (at == end) return cut_short(what, e);
    if (*at != '[')
        return error_set(e, EXIT_BAD_DATA,
                         "%s holds no matrix: neither binary nor text between [ and ]", what);
    m->kind = KALDI_TEXT;
    m->data = (const unsigned char *)++at;
    if (!parse_rows(&at, end, &m->rows, &m->cols, NULL)) {
        if (at >= end || !memchr(at, ']', (size_t)(end - at)))
            return error_set(e, EXIT_BAD_DATA, "%s is cut short, or its matrix lacks the closing ]",
                             what);
        return error_set(
            e, EXIT_BAD_DATA,
            "%s has something that is not a number, or rows of different lengths, in row %" PRId64,
            what, m->rows + 1);
    }
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) at++;
    if (at < end && *at == '\n') at++;
    m->data_bytes = (size_t)(at - (const char *)m->data);
    m->bytes = (size_t)(at - bytes);
    return EXIT_DONE;
}

/* ---- matrices ---- */

int kaldi_matrix_parse(KaldiMatrix *m, const void *bytes, size_t n, const char *what, Error *e)
{
    memset(m, 0, sizeof *m);
    if (n >= 2 && !memcmp(bytes, "\0B", 2)) return parse_binary(m, bytes, n, what, e);
    return parse_text(m, bytes, n, what, e);
}

void kaldi_matrix_read(const KaldiMatrix *m, float *to)
{
    int64_t n = m->rows * m->cols, rows, cols;
    const char *at = (const char *)m->data;
    switch (m->kind) {
    case KALDI_TEXT:
        parse_rows(&at, at + m->data_bytes, &rows, &cols, to);
        assert(rows == m->rows && cols == m->cols);
        break;
    case KALDI_F32:
        if (n) memcpy(to, m->data, (size_t)n * sizeof *to);
        break;
    case KALDI_F64:
        for (int64_t i = 0; i < n; i++) {
            double x;
            memcpy(&x, m->data + sizeof x * (size_t)i, sizeof x);
            to[i] = (float)x;
        }
        break;
    case KALDI_CM: read_columns(m, to); break;
    case KALDI_CM2: {
        float step = (float)(m->range * (1.0 / 65535.0));
        for (int64_t i = 0; i < n; i++) to[i] = m->least + read_u16(m->data + 2 * i) * step;
        break;
    }
    case KALDI_CM3: {
        float step = (float)(m->range * (1.0 / 255.0));
        for (int64_t i = 0; i < n; i++) to[i] = m->least + m->data[i] * step;
        break;
    }
    }
}

/* ---- archives ---- */

/* Returns the length of the name at `at`, which consists of the printable bytes before the next
 * blank; 0 if there is no valid name. */
static size_t name_length(const char *at, const char *end)
{
    size_t n = 0;
    while (at + n < end && (unsigned char)at[n] > ' ' && at[n] != 0x7f) n++;
    return n < KALDI_NAME && (at + n == end || is_blank(at[n])) ? n : 0;
}

int kaldi_archive_next(const void *bytes, size_t n, size_t *at, const char *path, KaldiEntry *entry,
                       Error *e)
{
    const char *b = bytes;
    char what[4096 + KALDI_NAME];
    while (*at < n && is_blank(b[*at])) ++*at;
    *entry = (KaldiEntry){.name = NULL};
    if (*at == n) return EXIT_DONE;
    size_t length = name_length(b + *at, b + n);
    if (!length)
        return error_set(e, EXIT_BAD_DATA,
                         "%s is not an archive of Kaldi: at byte %zu there is no utterance's name",
                         path, *at);
    snprintf(what, sizeof what, "%.4000s, utterance %.*s,", path, (int)length, b + *at);
    entry->name = b + *at;
    entry->name_bytes = length;
    *at += length + (*at + length < n);
    int code = kaldi_matrix_parse(&entry->matrix, b + *at, n - *at, what, e);
    *at += entry->matrix.bytes;
    return code;
}

int kaldi_archive_put(Replacement *r, const char *name, const float *values, int64_t rows,
                      int64_t cols)
{
    char head[KALDI_NAME + 32];
    int32_t size[2] = {(int32_t)rows, (int32_t)cols};
    assert(strlen(name) < KALDI_NAME && rows <= INT32_MAX && cols <= INT32_MAX);
    size_t n = (size_t)snprintf(head, sizeof head, "%s ", name);
    memcpy(head + n, "\0BFM ", 5), n += 5;
    for (int i = 0; i < 2; i++) {
        head[n++] = 4;
        memcpy(head + n, &size[i], 4), n += 4;
    }
    if (replace_write(r, head, n)) return -1;
    return rows ? replace_write(r, values, (size_t)(rows * cols) * sizeof *values) : 0;
}

/* ---- lines ---- */

/* Finds the next line, without blanks at its ends. Returns false if there is none. */
static bool line_next(KaldiText *t, const char **line, const char **end)
{
    if (t->at == t->end) return false;
    const char *newline = memchr(t->at, '\n', (size_t)(t->end - t->at));
    *line = t->at;
    *end = newline ? newline : t->end;
    t->at = newline ? newline + 1 : t->end;
    t->line++;
    while (*end > *line && is_blank((*end)[-1])) --*end;
    while (*line < *end && is_blank(**line)) ++*line;
    return true;
}

/* Parses the name at *at and moves *at past it and the blanks that follow. */
static int parse_name(KaldiText *t, const char **at, const char *end, const char **name,
                      size_t *bytes, Error *e)
{
    *name = *at;
    *bytes = name_length(*at, end);
    if (!*bytes)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: line %" PRId64
                         " does not begin with a name of printable characters, 255 at most",
                         t->path, t->line);
    *at += *bytes;
    while (*at < end && is_blank(**at)) ++*at;
    return EXIT_DONE;
}

int kaldi_script_next(KaldiText *t, KaldiPlace *place, Error *e)
{
    const char *at, *end;
    *place = (KaldiPlace){.name = NULL};
    if (!line_next(t, &at, &end)) return EXIT_DONE;
    int code = parse_name(t, &at, end, &place->name, &place->name_bytes, e);
    if (code) return code;
    if (at == end)
        return error_set(e, EXIT_BAD_DATA, "%s: line %" PRId64 " names no file", t->path, t->line);
    if (end[-1] == '|' || *at == '|' || (*at == '-' && end - at == 1))
        return error_set(
            e, EXIT_BAD_DATA,
            "%s: line %" PRId64
            " names a command or standard input; plstm reads files only (copy-feats writes them)",
            t->path, t->line);
    if (end[-1] == ']')
        return error_set(
            e, EXIT_BAD_DATA,
            "%s: line %" PRId64
            " names a part of a matrix; plstm reads whole matrices only (copy-feats writes them)",
            t->path, t->line);
    const char *digits = end;
    uint64_t offset = 0, scale = 1;
    bool fits = true;
    while (digits > at && digits[-1] >= '0' && digits[-1] <= '9') {
        uint64_t part;
        unsigned digit = (unsigned)(*--digits - '0');
        fits &= (!digit || (scale && !__builtin_mul_overflow(scale, digit, &part) &&
                            !__builtin_add_overflow(offset, part, &offset)));
        if (__builtin_mul_overflow(scale, 10, &scale)) scale = 0;
    }
    place->path = at;
    place->path_bytes = (size_t)(end - at);
    if (digits == end || digits == at || digits[-1] != ':') return EXIT_DONE;
    if (!fits)
        return error_set(e, EXIT_BAD_DATA,
                         "%s: line %" PRId64 " has an offset larger than any file", t->path,
                         t->line);
    place->path_bytes = (size_t)(digits - 1 - at);
    place->offset = offset;
    return place->path_bytes ? EXIT_DONE
                             : error_set(e, EXIT_BAD_DATA, "%s: line %" PRId64 " names no file",
                                         t->path, t->line);
}

/* Parses a whole number from 0 to KALDI_MAX_LABEL after blanks; returns -1 if there is something
 * else. */
static int32_t parse_label(const char **at, const char *end)
{
    int32_t x = 0;
    while (*at < end && is_blank(**at)) ++*at;
    const char *first = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        if ((x = 10 * x + (**at - '0')) > KALDI_MAX_LABEL) return -1;
    return *at > first && (*at == end || is_blank(**at)) ? x : -1;
}

int kaldi_labels_next(KaldiText *t, KaldiLabels *labels, Error *e)
{
    const char *at, *end;
    *labels = (KaldiLabels){.largest = -1};
    if (!line_next(t, &at, &end)) return EXIT_DONE;
    int code = parse_name(t, &at, end, &labels->name, &labels->name_bytes, e);
    if (code) return code;
    labels->ids = at;
    labels->ids_bytes = (size_t)(end - at);
    while (at < end) {
        const char *first = at;
        int32_t id = parse_label(&at, end);
        if (id < 0) {
            while (first < end && is_blank(*first)) first++;
            int length = 0;
            while (first + length < end && !is_blank(first[length]) && length < 20) length++;
            return error_set(e, EXIT_BAD_DATA,
                             "%s: line %" PRId64 ", utterance %.*s, has '%.*s' for label %" PRId64
                             ", which is not a whole number from 0 to %d",
                             t->path, t->line, (int)labels->name_bytes, labels->name, length, first,
                             labels->n + 1, KALDI_MAX_LABEL);
        }
        labels->n++;
        if (id > labels->largest) labels->largest = id;
    }
    return EXIT_DONE;
}

void kaldi_labels_read(const KaldiLabels *labels, int32_t *to)
{
    const char *at = labels->ids, *end = at + labels->ids_bytes;
    for (int64_t i = 0; i < labels->n; i++) to[i] = parse_label(&at, end);
}

int kaldi_phone_next(KaldiText *t, KaldiPhone *phone, Error *e)
{
    static const char silence[] = "silence";
    const char *at, *end;
    *phone = (KaldiPhone){.name = NULL};
    if (!line_next(t, &at, &end)) return EXIT_DONE;
    int code = parse_name(t, &at, end, &phone->name, &phone->name_bytes, e);
    if (code) return code;
    phone->id = parse_label(&at, end);
    while (at < end && is_blank(*at)) at++;
    phone->silence = (size_t)(end - at) == strlen(silence) && !memcmp(at, silence, strlen(silence));
    if (phone->id < 0 || (at < end && !phone->silence))
        return error_set(e, EXIT_BAD_DATA,
                         "%s: line %" PRId64 " is not 'name id' or 'name id silence'", t->path,
                         t->line);
    return EXIT_DONE;
}
