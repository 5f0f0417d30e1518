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

#include "synthetic.h"

const char *const split_name[SPLITS] = {"train", "valid", "test"};

/* A folder's file of each split, first found. */
enum { FILE_NAMES = 3 };
static const char *const file_names[SPLITS][FILE_NAMES] = {
    {"train.txt", "ptb.train.txt", "wiki.train.tokens"},
    {"valid.txt", "ptb.valid.txt", "wiki.valid.tokens"},
    {"test.txt", "ptb.test.txt", "wiki.test.tokens"},
};

static int out_of_memory(Error *e, const char *what)
{
    return error_set(e, EXIT_FAILED, "memory ran out while %s", what);
}

/* ---- one split: bytes -> ids ---- */

enum { READ_BYTES = 1 << 16 };

typedef struct Loader {
    VocabBuilder vocab;
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
        int code = vocab_append(&l->vocab, unknown_type, strlen(unknown_type), &l->unknown, e);
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
        if (!byte_is_space(c)) continue; /* other control bytes are bytes of a word */
        int code = word_end(l, s, cap, l->buffer + from, i - from, e);
        if (!code && c == '\n')
            code = word_end(l, s, cap, (const unsigned char *)eos_type, strlen(eos_type), e);
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
            l->unknown = vocab_find(&l->vocab.v, unknown_type, strlen(unknown_type));
        }
    }
    close(folder);
    return code;
}

/* The built-in corpus under another vocabulary: its words looked up there. Its known distribution is over its
 * own ids, so unless the two vocabularies agree the result is a text like any other. */
static int synthetic_translate(Corpus *c, const Vocab *to, Error *e)
{
    const Vocab *from = &c->vocab;
    if (from->V == to->V && !memcmp(from->offset, to->offset, (size_t)(from->V + 1) * sizeof *from->offset) &&
        !memcmp(from->bytes, to->bytes, (size_t)from->offset[from->V]))
        return EXIT_DONE;

    int32_t unknown = vocab_find(to, unknown_type, strlen(unknown_type));
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
    return EXIT_DONE;
}

int corpus_load(Corpus *c, const char *dir, const Vocab *vocab, Error *e)
{
    memset(c, 0, sizeof *c);
    int code = EXIT_DONE;
    if (!strcmp(dir, "synthetic")) {
        code = synthetic_corpus(c, e);
        if (!code && vocab) code = synthetic_translate(c, vocab, e);
    } else {
        Loader *l = calloc(1, sizeof *l);
        if (!l) return out_of_memory(e, "reading the text");
        l->given = vocab != NULL;
        l->building = !vocab;
        l->unknown = vocab ? vocab_find(vocab, unknown_type, strlen(unknown_type)) : -1;
        if (vocab && vocab_copy(&l->vocab.v, vocab)) code = out_of_memory(e, "copying the vocabulary");
        if (!code) code = folder_load(c, l, dir, e);
        c->vocab = vocab_finish(&l->vocab);
        free(l->word);
        free(l);
    }
    if (code) {
        corpus_free(c);
        return code;
    }
    corpus_hash(c);
    c->known_as = c->synthetic ? "synthetic" : corpus_recognise(c->sha256);
    return EXIT_DONE;
}

void corpus_free(Corpus *c)
{
    vocab_free(&c->vocab);
    for (int split = 0; split < SPLITS; split++) free(c->split[split].ids);
    memset(c, 0, sizeof *c);
}
