#include "vocab.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sha2.h>

/* ---- lookup ---- */

const char unknown_type[] = "<unk>", eos_type[] = "<eos>";

static uint64_t hash_bytes(const char *bytes, size_t length)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < length; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

const char *vocab_type(const Vocab *v, int32_t id, size_t *length)
{
    assert(id >= 0 && id < v->V);
    *length = (size_t)(v->offset[id + 1] - v->offset[id]);
    return v->bytes + v->offset[id];
}

/* Returns the slot that holds the type, or the empty slot where it would go. The table is never
 * full. */
static int64_t vocab_slot(const Vocab *v, const char *bytes, size_t length)
{
    int64_t mask = v->n_slots - 1;
    int64_t slot = (int64_t)(hash_bytes(bytes, length) & (uint64_t)mask);
    for (; v->slots[slot] >= 0; slot = (slot + 1) & mask) {
        size_t n;
        const char *type = vocab_type(v, v->slots[slot], &n);
        if (n == length && !memcmp(type, bytes, n)) break;
    }
    return slot;
}

int32_t vocab_find(const Vocab *v, const char *bytes, size_t length)
{
    return v->n_slots ? v->slots[vocab_slot(v, bytes, length)] : -1;
}

/* ---- growth ---- */

/* Doubles the table, which stays at most half full. Returns 0, or -1 if memory ran out. */
static int grow_slots(Vocab *v)
{
    int64_t old = v->n_slots, n = old ? 2 * old : 1024;
    int32_t *slots = realloc(v->slots, (size_t)n * sizeof *slots);
    if (!slots) return -1;
    memset(slots, -1, (size_t)n * sizeof *slots);
    v->slots = slots;
    v->n_slots = n;
    for (int32_t id = 0; id < v->V; id++) {
        size_t length;
        const char *type = vocab_type(v, id, &length);
        slots[vocab_slot(v, type, length)] = id;
    }
    return 0;
}

/* Makes room for one more type. Returns 0, or -1 if memory ran out. */
static int grow_room(VocabBuilder *g, size_t length)
{
    Vocab *v = &g->v;
    int64_t used = v->V ? v->offset[v->V] : 0;
    if (v->V == g->cap_types) {
        int64_t cap = g->cap_types ? 2 * g->cap_types : 512;
        int64_t *offset = realloc(v->offset, (size_t)(cap + 1) * sizeof *offset);
        if (!offset) return -1;
        v->offset = offset;
        v->offset[0] = 0;
        g->cap_types = cap;
    }
    if ((int64_t)length > g->cap_bytes - used) {
        int64_t cap = 2 * g->cap_bytes + (int64_t)length + 4096;
        char *bytes = realloc(v->bytes, (size_t)cap);
        if (!bytes) return -1;
        v->bytes = bytes;
        g->cap_bytes = cap;
    }
    return 2 * (v->V + 1) > v->n_slots ? grow_slots(v) : 0;
}

int vocab_append(VocabBuilder *g, const char *bytes, size_t length, int32_t *id, Error *e)
{
    Vocab *v = &g->v;
    if (v->V == INT32_MAX)
        return error_set(e, EXIT_BAD_DATA, "the vocabulary would have more than %d types",
                         INT32_MAX);
    if (grow_room(g, length))
        return error_set(e, EXIT_FAILED, "memory ran out while building the vocabulary");
    *id = (int32_t)v->V;
    v->slots[vocab_slot(v, bytes, length)] = *id;
    memcpy(v->bytes + v->offset[v->V], bytes, length);
    v->offset[v->V + 1] = v->offset[v->V] + (int64_t)length;
    v->V++;
    return EXIT_DONE;
}

Vocab vocab_finish(VocabBuilder *g)
{
    Vocab v = g->v;
    if (v.V) { /* if realloc cannot shrink a block, the larger one serves as well */
        int64_t *offset = realloc(v.offset, (size_t)(v.V + 1) * sizeof *offset);
        if (offset) v.offset = offset;
        char *bytes = realloc(v.bytes, (size_t)v.offset[v.V]);
        if (bytes) v.bytes = bytes;
    }
    memset(g, 0, sizeof *g);
    return v;
}

int vocab_copy(Vocab *to, const Vocab *from)
{
    *to = (Vocab){.V = from->V, .n_slots = from->n_slots};
    if (!from->V) {
        to->n_slots = 0;
        return 0;
    }
    size_t n_bytes = (size_t)from->offset[from->V];
    to->offset = malloc((size_t)(from->V + 1) * sizeof *to->offset);
    to->bytes = malloc(n_bytes);
    to->slots = malloc((size_t)from->n_slots * sizeof *to->slots);
    if (!to->offset || !to->bytes || !to->slots) {
        vocab_free(to);
        return -1;
    }
    memcpy(to->offset, from->offset, (size_t)(from->V + 1) * sizeof *to->offset);
    memcpy(to->bytes, from->bytes, n_bytes);
    memcpy(to->slots, from->slots, (size_t)from->n_slots * sizeof *to->slots);
    return 0;
}

void vocab_free(Vocab *v)
{
    free(v->offset);
    free(v->bytes);
    free(v->slots);
    memset(v, 0, sizeof *v);
}

/* ---- hash and text form ---- */

void vocab_sha256(const Vocab *v, char hex[65])
{
    SHA2_CTX sha;
    SHA256Init(&sha);
    for (int32_t id = 0; id < v->V; id++) {
        size_t length;
        const char *type = vocab_type(v, id, &length);
        SHA256Update(&sha, (const uint8_t *)type, length);
        SHA256Update(&sha, (const uint8_t *)"\n", 1);
    }
    SHA256End(&sha, hex);
}

/* Returns the length of the well-formed UTF-8 sequence at the start of p's n >= 1 bytes, or 0 if
 * there is none. Overlong forms, surrogates and code points above U+10FFFF are not well-formed
 * (Unicode, table 3-7). */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    size_t length = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
                    : (p[0] & 0xf0) == 0xe0        ? 3
                    : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                   : 0;
    if (!length || length > n) return 0;
    unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80; /* bounds of the second byte */
    unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

/* Writes the text form to out, or only measures it if out is NULL. */
static size_t vocab_text(const Vocab *v, char *out)
{
    static const char digit[] = "0123456789ABCDEF";
    size_t at = 0;
#define PUT(byte) (out ? (void)(out[at] = (char)(byte)) : (void)0, at++)
    for (int32_t id = 0; id < v->V; id++) {
        size_t n;
        const unsigned char *p = (const unsigned char *)vocab_type(v, id, &n);
        if (id) PUT(' ');
        for (size_t i = 0; i < n;) {
            size_t length = utf8_length(p + i, n - i);
            if (!length || p[i] < 0x20 || p[i] == 0x7f || p[i] == '%') {
                PUT('%');
                PUT(digit[p[i] >> 4]);
                PUT(digit[p[i] & 15]);
                i++;
            } else {
                for (; length; length--, i++) PUT(p[i]);
            }
        }
    }
#undef PUT
    return at;
}

char *vocab_encode(const Vocab *v)
{
    size_t n = vocab_text(v, NULL);
    char *text = malloc(n + 1);
    if (!text) return NULL;
    vocab_text(v, text);
    text[n] = 0;
    return text;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* Decodes one encoded type, text[0..n), into out. Returns the number of bytes, or -1 with the
 * reason in *e. */
static ptrdiff_t parse_type(const char *text, size_t n, char *out, int64_t number, Error *e)
{
    ptrdiff_t length = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < n ? hex_value(text[i + 1]) : -1,
                low = i + 2 < n ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                error_set(e, EXIT_BAD_DATA,
                          "the vocabulary's type %" PRId64
                          " has a '%%' without two hexadecimal digits",
                          number);
                return -1;
            }
            c = (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (c == 0 || byte_is_space(c)) {
            error_set(e, EXIT_BAD_DATA,
                      "the vocabulary's type %" PRId64 " holds byte 0x%02x, which no word can hold",
                      number, c);
            return -1;
        }
        out[length++] = (char)c;
    }
    if (!length) error_set(e, EXIT_BAD_DATA, "the vocabulary's type %" PRId64 " is empty", number);
    return length ? length : -1;
}

int vocab_parse(Vocab *v, const char *text, Error *e)
{
    VocabBuilder g = {.v = {0}};
    char *type = malloc(strlen(text) + 1);
    int code =
        type ? EXIT_DONE : error_set(e, EXIT_FAILED, "memory ran out while reading a vocabulary");
    for (const char *at = text; !code;) {
        size_t n = strcspn(at, " ");
        ptrdiff_t length = parse_type(at, n, type, g.v.V, e);
        int32_t id;
        if (length < 0) code = e->code;
        else if (vocab_find(&g.v, type, (size_t)length) >= 0)
            code = error_set(e, EXIT_BAD_DATA, "the vocabulary has the type '%.*s' twice",
                             (int)(length > 60 ? 60 : length), type);
        else code = vocab_append(&g, type, (size_t)length, &id, e);
        if (!at[n]) break;
        at += n + 1;
    }
    free(type);
    *v = vocab_finish(&g);
    if (code) vocab_free(v);
    return code;
}

/* ---- by count (TASKS 4) ---- */

int vocab_count_init(VocabCount *c, Error *e)
{
    memset(c, 0, sizeof *c);
    int32_t id;
    int code = vocab_append(&c->types, unknown_type, strlen(unknown_type), &id, e);
    if (!code) code = vocab_append(&c->types, eos_type, strlen(eos_type), &id, e);
    if (code) vocab_count_free(c);
    return code;
}

void vocab_count_free(VocabCount *c)
{
    vocab_free(&c->types.v);
    free(c->count);
    memset(c, 0, sizeof *c);
}

int vocab_count_add(VocabCount *c, const char *bytes, size_t length, Error *e)
{
    int32_t id = vocab_find(&c->types.v, bytes, length);
    if (id < 0) {
        int code = vocab_append(&c->types, bytes, length, &id, e);
        if (code) return code;
    }
    if (id >= c->cap) {
        int64_t cap = 2 * c->cap + 1024;
        int64_t *count = realloc(c->count, (size_t)cap * sizeof *count);
        if (!count) return error_set(e, EXIT_FAILED, "memory ran out while counting words");
        memset(count + c->cap, 0, (size_t)(cap - c->cap) * sizeof *count);
        c->count = count;
        c->cap = cap;
    }
    c->count[id]++;
    return EXIT_DONE;
}

typedef struct Counted {
    int64_t count;
    int32_t id; /* in the order of first appearance */
} Counted;

static int by_count(const void *a, const void *b)
{
    const Counted *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

int vocab_count_finish(VocabCount *c, int64_t min_count, Vocab *v, Error *e)
{
    enum { SPECIAL = 2 };
    const Vocab *types = &c->types.v;
    VocabBuilder kept = {.v = {0}};
    Counted *sorted = malloc((size_t)types->V * sizeof *sorted);
    int code =
        sorted ? EXIT_DONE : error_set(e, EXIT_FAILED, "memory ran out while counting words");
    int64_t n = 0;
    for (int32_t id = SPECIAL; !code && id < types->V; id++)
        if (c->count[id] >= min_count) sorted[n++] = (Counted){c->count[id], id};
    if (!code) qsort(sorted, (size_t)n, sizeof *sorted, by_count);
    for (int64_t i = -SPECIAL; !code && i < n; i++) {
        size_t length;
        int32_t id = i < 0 ? (int32_t)(i + SPECIAL) : sorted[i].id;
        const char *type = vocab_type(types, id, &length);
        code = vocab_append(&kept, type, length, &id, e);
    }
    free(sorted);
    vocab_count_free(c);
    *v = vocab_finish(&kept);
    if (code) vocab_free(v);
    return code;
}
