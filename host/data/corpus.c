#include "corpus.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <sha2.h>

const char *const split_name[SPLITS] = {"train", "valid", "test"};

/* A folder's file of each split, first found. */
enum { FILE_NAMES = 3 };
static const char *const file_names[SPLITS][FILE_NAMES] = {
    {"train.txt", "ptb.train.txt", "wiki.train.tokens"},
    {"valid.txt", "ptb.valid.txt", "wiki.valid.tokens"},
    {"test.txt", "ptb.test.txt", "wiki.test.tokens"},
};

static const char unknown_type[] = "<unk>", eos_type[] = "<eos>";

static int out_of_memory(Error *e, const char *what)
{
    return error_set(e, EXIT_FAILED, "memory ran out while %s", what);
}

/* ---- vocabulary: lookup ---- */

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

/* Slot that holds the type, or the empty one where it would go. The table is never full. */
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

/* ---- vocabulary: growth ---- */

typedef struct Growing {
    Vocab v;
    int64_t cap_types, cap_bytes; /* allocated: cap_types + 1 offsets */
} Growing;

/* Doubles the table, which stays at most half full. 0, or -1 when memory ran out. */
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

/* Room for one more type. 0, or -1 when memory ran out. */
static int grow_room(Growing *g, size_t length)
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

/* Appends a type that the vocabulary lacks; its id in *id. */
static int vocab_append(Growing *g, const char *bytes, size_t length, int32_t *id, Error *e)
{
    Vocab *v = &g->v;
    if (v->V == INT32_MAX)
        return error_set(e, EXIT_BAD_DATA, "the vocabulary would have more than %d types", INT32_MAX);
    if (grow_room(g, length)) return out_of_memory(e, "building the vocabulary");
    *id = (int32_t)v->V;
    v->slots[vocab_slot(v, bytes, length)] = *id;
    memcpy(v->bytes + v->offset[v->V], bytes, length);
    v->offset[v->V + 1] = v->offset[v->V] + (int64_t)length;
    v->V++;
    return EXIT_DONE;
}

/* Hands over what was grown, cut to size. A realloc that cannot shrink leaves the larger block, which serves
 * as well. */
static Vocab growing_finish(Growing *g)
{
    Vocab v = g->v;
    if (v.V) {
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

/* ---- vocabulary: hash and text form ---- */

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

/* Bytes of the well-formed UTF-8 sequence at p (n >= 1 bytes are there), 0 where there is none: no overlong
 * form, no surrogate, nothing above U+10FFFF (Unicode, table 3-7). */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    size_t length = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
                    : (p[0] & 0xf0) == 0xe0        ? 3
                    : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                   : 0;
    if (!length || length > n) return 0;
    unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80; /* of the second byte */
    unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

/* Writes the text form to out, or only measures it where out is NULL. */
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

static bool is_space(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The bytes of one encoded type, text[0..n), into out; their number, or -1 with the reason in *e. */
static ptrdiff_t type_decode(const char *text, size_t n, char *out, int64_t number, Error *e)
{
    ptrdiff_t length = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < n ? hex_value(text[i + 1]) : -1, low = i + 2 < n ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                error_set(e, EXIT_BAD_DATA,
                          "the vocabulary's type %" PRId64 " has a '%%' without two hexadecimal digits",
                          number);
                return -1;
            }
            c = (unsigned char)(high << 4 | low);
            i += 2;
        }
        if (c == 0 || is_space(c)) {
            error_set(e, EXIT_BAD_DATA,
                      "the vocabulary's type %" PRId64 " holds byte 0x%02x, which no word can hold", number,
                      c);
            return -1;
        }
        out[length++] = (char)c;
    }
    if (!length) error_set(e, EXIT_BAD_DATA, "the vocabulary's type %" PRId64 " is empty", number);
    return length ? length : -1;
}

int vocab_decode(Vocab *v, const char *text, Error *e)
{
    Growing g = {.v = {0}};
    char *type = malloc(strlen(text) + 1);
    int code = type ? EXIT_DONE : out_of_memory(e, "reading a vocabulary");
    for (const char *at = text; !code;) {
        size_t n = strcspn(at, " ");
        ptrdiff_t length = type_decode(at, n, type, g.v.V, e);
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
    *v = growing_finish(&g);
    if (code) vocab_free(v);
    return code;
}

/* ---- one split: bytes -> ids ---- */

enum { READ_BYTES = 1 << 16 };

typedef struct Loader {
    Growing vocab;
    bool building;      /* a new word becomes a type: the training text of a vocabulary that is being built */
    bool given;         /* the vocabulary is the caller's: nothing is ever added */
    bool unknown_added; /* <unk> is no type of the training text: it was added for valid or test */
    int32_t unknown;    /* id of <unk>, -1: not there */
    char path[4400];    /* of the file being read, for sentences */
    char *word;         /* beginning of a word that the buffer's end cut */
    size_t word_length, word_cap;
    unsigned char buffer[READ_BYTES];
} Loader;

/* Appends an id. The array grows by an eighth: realloc moves the pages of a block this large and copies
 * nothing, and pages past the last id are never touched, so that 4 bytes a token is what it takes at its peak
 * too. */
static int stream_push(Stream *s, int64_t *cap, int32_t id, Error *e)
{
    if (s->n == *cap) {
        int64_t grown = *cap + *cap / 8 + 16384;
        int32_t *ids = realloc(s->ids, (size_t)grown * sizeof *ids);
        if (!ids) return out_of_memory(e, "reading the text");
        s->ids = ids;
        *cap = grown;
    }
    s->ids[s->n++] = id;
    return EXIT_DONE;
}

/* Id of a word (SPEC 4), by adding it, finding it or turning it into <unk>. */
static int word_id(Loader *l, Stream *s, const char *bytes, size_t length, int32_t *id, Error *e)
{
    *id = vocab_find(&l->vocab.v, bytes, length);
    if (*id >= 0 && !(l->unknown_added && *id == l->unknown)) return EXIT_DONE;
    if (l->building) return vocab_append(&l->vocab, bytes, length, id, e);
    if (l->unknown < 0) {
        if (l->given)
            return error_set(
                e, EXIT_BAD_DATA,
                "'%s' has the word '%.*s', which the vocabulary lacks, and it has no <unk> either", l->path,
                (int)(length > 60 ? 60 : length), bytes);
        int code = vocab_append(&l->vocab, unknown_type, sizeof unknown_type - 1, &l->unknown, e);
        if (code) return code;
        l->unknown_added = true;
    }
    s->unknown++;
    *id = l->unknown;
    return EXIT_DONE;
}

/* Keeps the beginning of a word until the rest of it has been read. */
static int word_keep(Loader *l, const void *bytes, size_t n, Error *e)
{
    if (n > l->word_cap - l->word_length) {
        size_t cap = 2 * l->word_cap + n;
        char *word = realloc(l->word, cap);
        if (!word) return out_of_memory(e, "reading a long word");
        l->word = word;
        l->word_cap = cap;
    }
    if (n) memcpy(l->word + l->word_length, bytes, n);
    l->word_length += n;
    return EXIT_DONE;
}

/* A word ends: what was kept of it, if anything, and the n bytes at tail. No word, no token. */
static int word_end(Loader *l, Stream *s, int64_t *cap, const unsigned char *tail, size_t n, Error *e)
{
    const char *bytes = (const char *)tail;
    if (l->word_length) {
        int code = word_keep(l, tail, n, e);
        if (code) return code;
        bytes = l->word;
        n = l->word_length;
        l->word_length = 0;
    }
    if (!n) return EXIT_DONE;
    int32_t id;
    int code = word_id(l, s, bytes, n, &id, e);
    return code ? code : stream_push(s, cap, id, e);
}

/* The words and line ends of buffer[0..n), which starts at byte `offset` of the file. */
static int chunk_read(Loader *l, Stream *s, int64_t *cap, size_t n, int64_t offset, Error *e)
{
    size_t from = 0; /* of the word under way */
    for (size_t i = 0; i < n; i++) {
        unsigned char c = l->buffer[i];
        if (c > ' ') continue;
        if (c == 0)
            return error_set(e, EXIT_BAD_DATA,
                             "'%s' has a NUL byte at byte %" PRId64 " (counted from 0): it is not plain text",
                             l->path, offset + (int64_t)i);
        if (!is_space(c)) continue; /* other control bytes are bytes of a word */
        int code = word_end(l, s, cap, l->buffer + from, i - from, e);
        if (!code && c == '\n')
            code = word_end(l, s, cap, (const unsigned char *)eos_type, sizeof eos_type - 1, e);
        if (code) return code;
        from = i + 1;
    }
    return word_keep(l, l->buffer + from, n - from, e);
}

static int stream_read(Loader *l, int fd, Stream *s, Error *e)
{
    int64_t offset = 0, cap = 0;
    for (;;) {
        ssize_t got = read(fd, l->buffer, sizeof l->buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_set(e, EXIT_BAD_DATA, "'%s' cannot be read: %s", l->path, strerror(errno));
        int code = got ? chunk_read(l, s, &cap, (size_t)got, offset, e) : word_end(l, s, &cap, NULL, 0, e);
        if (code) return code;
        if (!got) break;
        offset += got;
    }
    if (!s->n) return error_set(e, EXIT_BAD_DATA, "'%s' is empty: it holds no words", l->path);
    int32_t *ids = realloc(s->ids, (size_t)s->n * sizeof *ids);
    if (ids) s->ids = ids;
    return EXIT_DONE;
}

static int split_read(Loader *l, int folder, const char *dir, int split, Stream *s, Error *e)
{
    const char *const *names = file_names[split];
    int fd = -1;
    for (int i = 0; i < FILE_NAMES && fd < 0; i++) {
        snprintf(l->path, sizeof l->path, "%s/%s", dir, names[i]);
        fd = openat(folder, names[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno != ENOENT)
            return error_set(e, EXIT_BAD_DATA, "'%s' cannot be opened: %s", l->path, strerror(errno));
    }
    if (fd < 0)
        return error_set(e, EXIT_BAD_DATA, "the folder '%s' has no %s text: looked for %s, %s and %s", dir,
                         split_name[split], names[0], names[1], names[2]);
    int code = stream_read(l, fd, s, e);
    close(fd);
    return code;
}

/* ---- the corpus ---- */

/* SPEC 4: over the int32 little-endian ids, whatever this machine's own order of bytes is. */
static void corpus_hash(Corpus *c)
{
    SHA2_CTX sha;
    SHA256Init(&sha);
    for (int split = 0; split < SPLITS; split++) {
        const Stream *s = &c->split[split];
        uint8_t bytes[4096];
        size_t at = 0;
        for (int64_t i = 0; i < s->n; i++) {
            uint32_t id = (uint32_t)s->ids[i];
            for (int byte = 0; byte < 4; byte++) bytes[at++] = (uint8_t)(id >> 8 * byte);
            if (at == sizeof bytes || i == s->n - 1) {
                SHA256Update(&sha, bytes, at);
                at = 0;
            }
        }
    }
    SHA256End(&sha, c->sha256);
}

static const char *corpus_recognise(const char *sha256)
{
    static const struct {
        const char *sha256, *name;
    } known[] = {
        {"05a04642bb6df3bfbbe7512c1c5a58eb6af44287973ca281b424d69abf3e331f", "Penn Treebank (Mikolov)"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(known[i].sha256, sha256)) return known[i].name;
    return NULL;
}

static int folder_load(Corpus *c, Loader *l, const char *dir, Error *e)
{
    int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return error_set(e, EXIT_BAD_DATA,
                         "cannot open the data folder '%s': %s (it must hold train.txt, valid.txt and "
                         "test.txt; the word synthetic "
                         "stands for the built-in corpus)",
                         dir, strerror(errno));
    int code = EXIT_DONE;
    for (int split = 0; split < SPLITS && !code; split++) {
        code = split_read(l, folder, dir, split, &c->split[split], e);
        if (split == SPLIT_TRAIN && l->building) {
            l->building = false;
            l->unknown = vocab_find(&l->vocab.v, unknown_type, sizeof unknown_type - 1);
        }
    }
    close(folder);
    return code;
}

int corpus_translate(Corpus *c, const Vocab *to, Error *e)
{
    const Vocab *from = &c->vocab;
    if (from->V == to->V && !memcmp(from->offset, to->offset, (size_t)(from->V + 1) * sizeof *from->offset) &&
        !memcmp(from->bytes, to->bytes, (size_t)from->offset[from->V]))
        return EXIT_DONE;

    int32_t unknown = vocab_find(to, unknown_type, sizeof unknown_type - 1);
    for (int split = 0; split < SPLITS; split++) {
        Stream *s = &c->split[split];
        for (int64_t i = 0; i < s->n; i++) {
            size_t length;
            const char *type = vocab_type(from, s->ids[i], &length);
            s->ids[i] = vocab_find(to, type, length);
            if (s->ids[i] >= 0) continue;
            if (unknown < 0)
                return error_set(e, EXIT_BAD_DATA,
                                 "the built-in corpus has the word '%.*s', which the vocabulary lacks, and "
                                 "it has no <unk> either",
                                 (int)length, type);
            s->ids[i] = unknown;
            s->unknown++;
        }
    }
    vocab_free(&c->vocab);
    if (vocab_copy(&c->vocab, to)) return out_of_memory(e, "copying the vocabulary");
    c->synthetic = false;
    c->known = NULL;
    return EXIT_DONE;
}

int corpus_read(Corpus *c, const char *dir, const Vocab *vocab, Error *e)
{
    memset(c, 0, sizeof *c);
    int code = EXIT_DONE;
    Loader *l = calloc(1, sizeof *l);
    if (!l) return out_of_memory(e, "reading the text");
    l->given = vocab != NULL;
    l->building = !vocab;
    l->unknown = vocab ? vocab_find(vocab, unknown_type, sizeof unknown_type - 1) : -1;
    if (vocab && vocab_copy(&l->vocab.v, vocab)) code = out_of_memory(e, "copying the vocabulary");
    if (!code) code = folder_load(c, l, dir, e);
    c->vocab = growing_finish(&l->vocab);
    free(l->word);
    free(l);
    if (code) corpus_free(c);
    return code;
}

void corpus_name(Corpus *c)
{
    corpus_hash(c);
    c->known_as = c->synthetic ? "synthetic" : corpus_recognise(c->sha256);
}

void corpus_free(Corpus *c)
{
    vocab_free(&c->vocab);
    for (int split = 0; split < SPLITS; split++) free(c->split[split].ids);
    memset(c, 0, sizeof *c);
}
