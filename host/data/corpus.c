#include "corpus.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <sha2.h>

const char *const split_name[SPLITS] = {"train", "valid", "test"};

/* The file names of the splits by naming scheme. A folder must use one scheme for all splits: a
 * user's own train.txt beside ptb.valid.txt would mix two corpora. */
enum { SCHEMES = 3 };
static const char *const file_names[SCHEMES][SPLITS] = {
    {"train.txt", "valid.txt", "test.txt"},
    {"ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"},
    {"wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"},
};

static int out_of_memory(Error *e, const char *what)
{
    return error_set(e, EXIT_FAILED, "memory ran out while %s", what);
}

/* ---- one split: bytes -> ids ---- */

enum { READ_BYTES = 1 << 16 };

typedef struct Loader {
    VocabBuilder vocab;
    bool final_eos; /* add <eos> at an open end, as CorpusRead says */
    /* A new word becomes a type: this is the training text, from which the vocabulary is built. */
    bool building;
    bool given; /* the caller gave the vocabulary, so nothing is ever added to it */
    /* <unk> does not occur in the training text and was added for valid or test */
    bool unknown_added;
    int32_t unknown;  /* id of <unk>; -1: the vocabulary lacks it */
    const char *path; /* the file being read, for sentences */
    TextFile *file;
    char *word; /* the beginning of a word that continues past the end of the buffer */
    size_t word_length, word_cap;
    unsigned char buffer[READ_BYTES];
} Loader;

/* Appends an id. The array grows by an eighth: realloc remaps the pages of a block this large
 * instead of copying it, and pages past the last id are never touched, so that even the peak is 4
 * bytes per token. */
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

/* Returns whether a word holds one of Unicode's spaces outside ASCII, or U+001C to U+001F, at which
 * Python's str.split() cuts too. */
static bool has_wide_space(const char *bytes, size_t n)
{
    static const char *const wide[] = {"\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80",
                                       "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
                                       "\xe2\x81\x9f", "\xe3\x80\x80"};
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x1c && c <= 0x1f) return true;
        if (c < 0xc2 || c > 0xe3) continue;
        for (size_t k = 0; k < sizeof wide / sizeof wide[0]; k++)
            if (n - i >= strlen(wide[k]) && !memcmp(bytes + i, wide[k], strlen(wide[k])))
                return true;
        if (n - i >= 3 && !memcmp(bytes + i, "\xe2\x80", 2) &&
            (unsigned char)bytes[i + 2] >= 0x80 && (unsigned char)bytes[i + 2] <= 0x8a)
            return true; /* U+2000 to U+200A */
    }
    return false;
}

/* Finds the id of a word (SPEC 4) by looking it up, adding it, or turning it into <unk>. */
static int word_id(Loader *l, Stream *s, const char *bytes, size_t length, int32_t *id, Error *e)
{
    *id = vocab_find(&l->vocab.v, bytes, length);
    if (*id >= 0 && !(l->unknown_added && *id == l->unknown)) return EXIT_DONE;
    if (l->building) return vocab_append(&l->vocab, bytes, length, id, e);
    if (l->unknown < 0) {
        if (l->given)
            return error_set(
                e, EXIT_BAD_DATA,
                "'%s' has the word '%.*s', but the vocabulary has neither that word nor <unk>",
                l->path, (int)(length > 60 ? 60 : length), bytes);
        int code = vocab_append(&l->vocab, unknown_type, strlen(unknown_type), &l->unknown, e);
        if (code) return code;
        l->unknown_added = true;
    }
    s->unknown++;
    l->file->wide_space += has_wide_space(bytes, length);
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

/* Ends a word, which consists of the bytes that were kept of it and the n bytes at tail, and
 * appends its id. An empty word is not a token. */
static int word_end(Loader *l, Stream *s, int64_t *cap, const unsigned char *tail, size_t n,
                    Error *e)
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

/* Appends the words and line ends of buffer[0..n), which starts at byte `offset` of the file. */
static int chunk_read(Loader *l, Stream *s, int64_t *cap, size_t n, int64_t offset, Error *e)
{
    size_t from = 0; /* start of the current word */
    for (size_t i = 0; i < n; i++) {
        unsigned char c = l->buffer[i];
        if (c > ' ') continue;
        if (c == 0)
            return error_set(e, EXIT_BAD_DATA,
                             "'%s' has a NUL byte at byte %" PRId64
                             " (counted from 0): it is not plain text",
                             l->path, offset + (int64_t)i);
        if (!byte_is_space(c)) continue; /* other control bytes belong to words */
        int code = word_end(l, s, cap, l->buffer + from, i - from, e);
        if (!code && c == '\n')
            code = word_end(l, s, cap, (const unsigned char *)eos_type, strlen(eos_type), e);
        if (code) return code;
        from = i + 1;
    }
    return word_keep(l, l->buffer + from, n - from, e);
}

/* Sets *length to the number of bytes of a UTF-8 byte-order mark at the start of buffer[0..n), 0 if
 * there is none. EXIT_BAD_DATA: it is one of UTF-16. */
static int mark_length(Loader *l, size_t n, size_t *length, Error *e)
{
    const unsigned char *b = l->buffer;
    *length = n >= 3 && !memcmp(b, "\xef\xbb\xbf", 3) ? 3 : 0;
    l->file->mark = *length > 0;
    if (n >= 2 && (!memcmp(b, "\xff\xfe", 2) || !memcmp(b, "\xfe\xff", 2)))
        return error_set(e, EXIT_BAD_DATA,
                         "'%s' begins with a byte-order mark of UTF-16: save it as UTF-8", l->path);
    return EXIT_DONE;
}

/* Fills the buffer. It stays partly empty only at the end of the file, which a short read alone
 * does not prove. Returns the number of bytes, or -1 with errno set. */
static ssize_t buffer_fill(Loader *l, int fd)
{
    size_t n = 0;
    while (n < sizeof l->buffer) {
        ssize_t got = read(fd, l->buffer + n, sizeof l->buffer - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (!got) break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static int stream_read(Loader *l, int fd, Stream *s, Error *e)
{
    int64_t offset = 0, cap = 0;
    unsigned char last = '\n';
    for (;;) {
        ssize_t got = buffer_fill(l, fd);
        if (got < 0)
            return error_set(e, EXIT_BAD_DATA, "'%s' cannot be read: %s", l->path, strerror(errno));
        size_t mark = 0;
        int code = offset ? EXIT_DONE : mark_length(l, (size_t)got, &mark, e);
        if (!code && mark) memmove(l->buffer, l->buffer + mark, (size_t)got - mark);
        size_t n = (size_t)got - mark;
        if (!code)
            code = n ? chunk_read(l, s, &cap, n, offset + (int64_t)mark, e)
                     : word_end(l, s, &cap, NULL, 0, e);
        if (code) return code;
        if (n) last = l->buffer[n - 1];
        if (!n) break;
        offset += got;
    }
    if (!s->n) return error_set(e, EXIT_BAD_DATA, "'%s' is empty: it holds no words", l->path);
    l->file->open_end = last != '\n';
    if (l->file->open_end && l->final_eos) {
        int code = word_end(l, s, &cap, (const unsigned char *)eos_type, strlen(eos_type), e);
        if (code) return code;
    }
    int32_t *ids = realloc(s->ids, (size_t)s->n * sizeof *ids);
    if (ids) s->ids = ids;
    return EXIT_DONE;
}

/* ---- which files ---- */

/* Writes the names of the folder's files, "a, b, c", for the sentence about a missing file. */
static void list_folder(const char *dir, char *out, size_t size)
{
    DIR *d = opendir(dir);
    int names = 0;
    size_t n = 0;
    out[0] = 0;
    for (struct dirent *f; d && n < size && (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        if (++names > 8) {
            snprintf(out + n, size - n, ", ...");
            break;
        }
        n += (size_t)snprintf(out + n, size - n, "%s%.60s", names > 1 ? ", " : "", f->d_name);
    }
    if (d) closedir(d);
    if (!names) snprintf(out, size, "nothing");
}

/* Sets *scheme to the naming scheme of the folder's files, or to -1 if there is no file of any.
 * EXIT_BAD_DATA: there are files of two schemes, and either could be meant. */
static int folder_scheme(int folder, const char *dir, int *scheme, Error *e)
{
    const char *seen[SCHEMES] = {NULL};
    *scheme = -1;
    for (int i = 0; i < SCHEMES; i++) {
        for (int split = 0; split < SPLITS && !seen[i]; split++)
            if (!faccessat(folder, file_names[i][split], F_OK, AT_SYMLINK_NOFOLLOW))
                seen[i] = file_names[i][split];
        if (!seen[i]) continue;
        if (*scheme >= 0)
            return error_set(e, EXIT_BAD_DATA,
                             "the folder '%s' holds %s and %s, files of two naming "
                             "schemes: move those of one corpus to a folder of their own",
                             dir, seen[*scheme], seen[i]);
        *scheme = i;
    }
    return EXIT_DONE;
}

static int folder_open(const char *dir, Error *e)
{
    int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        error_set(e, EXIT_BAD_DATA,
                  "cannot open the data folder '%s': %s (a data folder holds train.txt, "
                  "valid.txt and test.txt; the name synthetic stands for the built-in "
                  "corpus)",
                  dir, strerror(errno));
    return folder;
}

static char *path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir), size = n + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    return path;
}

int corpus_file(const char *dir, int split, char **path, Error *e)
{
    *path = NULL;
    if (!strcmp(dir, "synthetic")) return EXIT_DONE;
    int folder = folder_open(dir, e), scheme;
    if (folder < 0) return e->code;
    int code = folder_scheme(folder, dir, &scheme, e);
    if (!code && scheme >= 0 &&
        !faccessat(folder, file_names[scheme][split], F_OK, AT_SYMLINK_NOFOLLOW) &&
        !(*path = path_join(dir, file_names[scheme][split])))
        code = out_of_memory(e, "looking for the text");
    close(folder);
    return code;
}

static int split_missing(const char *dir, int split, Error *e)
{
    char holds[600];
    list_folder(dir, holds, sizeof holds);
    return error_set(e, EXIT_BAD_DATA,
                     "the folder '%s' has no %s text: looked for %s, %s and %s; it holds %s", dir,
                     split_name[split], file_names[0][split], file_names[1][split],
                     file_names[2][split], holds);
}

/* Reads a split. A missing file leaves it empty unless it is needed. */
static int split_read(Loader *l, const char *dir, int split, bool needed, Corpus *c, Error *e)
{
    TextFile *file = &c->file[split];
    int code = corpus_file(dir, split, &file->path, e);
    if (code) return code;
    if (!file->path) return needed ? split_missing(dir, split, e) : EXIT_DONE;
    l->path = file->path;
    l->file = file;
    struct stat st;
    /* Without O_NONBLOCK, opening a FIFO that has no writer would wait forever. */
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set(e, EXIT_BAD_DATA, "'%s' cannot be opened: %s", l->path, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        code = error_set(e, EXIT_BAD_DATA, "'%s' is %s, not a text file", l->path,
                         S_ISDIR(st.st_mode)    ? "a folder"
                         : S_ISFIFO(st.st_mode) ? "a pipe"
                                                : "a device");
    else code = stream_read(l, fd, &c->split[split], e);
    close(fd);
    return code;
}

/* ---- the corpus ---- */

/* Hashes the ids of splits 0 .. n-1 as little-endian int32 (SPEC 4), whatever the byte order of
 * this machine is. */
static void hash_splits(const Corpus *c, int n, char hex[65])
{
    SHA2_CTX sha;
    SHA256Init(&sha);
    for (int split = 0; split < n; split++) {
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
    SHA256End(&sha, hex);
}

static const char *corpus_recognise(const char *sha256)
{
    static const struct {
        const char *sha256, *name;
    } known[] = {
        {"05a04642bb6df3bfbbe7512c1c5a58eb6af44287973ca281b424d69abf3e331f",
         "Penn Treebank (Mikolov)"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(known[i].sha256, sha256)) return known[i].name;
    return NULL;
}

static int folder_load(Corpus *c, Loader *l, const char *dir, const CorpusRead *how, Error *e)
{
    int code = EXIT_DONE;
    unsigned wanted = how->wanted;
    for (int split = 0; split < SPLITS && !code; split++) {
        bool needed = how->needed >> split & 1 || (split == SPLIT_TRAIN && l->building);
        if (!needed && !(wanted >> split & 1)) continue;
        code = split_read(l, dir, split, needed, c, e);
        if (split == SPLIT_TRAIN && l->building) {
            l->building = false;
            l->unknown = vocab_find(&l->vocab.v, unknown_type, strlen(unknown_type));
            /* If train lacks <unk>, the other splits decide whether it is added. */
            if (l->unknown < 0) wanted = EVERY_SPLIT;
        }
    }
    return code;
}

/* Adds the words of the streams that hold wide spaces to the files' counts. Words that became <unk>
 * were counted when they were read. */
static int count_wide_spaces(Corpus *c, Error *e)
{
    bool *wide = calloc((size_t)c->vocab.V, sizeof *wide), any = false;
    if (!wide) return out_of_memory(e, "reading the text");
    for (int32_t id = 0; id < c->vocab.V; id++) {
        size_t n;
        const char *type = vocab_type(&c->vocab, id, &n);
        any |= wide[id] = has_wide_space(type, n);
    }
    for (int split = 0; any && split < SPLITS; split++)
        for (int64_t i = 0; i < c->split[split].n; i++)
            c->file[split].wide_space += wide[c->split[split].ids[i]];
    free(wide);
    return EXIT_DONE;
}

bool corpus_remark(const Corpus *c, int i, char *text, size_t size)
{
    for (int split = 0; split < SPLITS; split++) {
        const TextFile *f = &c->file[split];
        if (!f->path) continue;
        if (f->mark && !i--)
            return snprintf(text, size, "%s begins with a byte-order mark, which was removed",
                            f->path),
                   true;
        if (f->wide_space && !i--)
            return snprintf(
                       text, size,
                       "%s: %" PRId64
                       " word%s a space that is not ASCII (U+00A0, U+3000, U+0085 ...), which is a "
                       "letter here and a space to Python's str.split()",
                       f->path, f->wide_space, f->wide_space == 1 ? " holds" : "s hold"),
                   true;
        if (f->open_end && !c->final_eos && !i--)
            return snprintf(text, size,
                            "%s ends without a newline and so without <eos>; --final-eos adds "
                            "it, as pytorch/examples does",
                            f->path),
                   true;
    }
    return false;
}

int corpus_translate(Corpus *c, const Vocab *to, Error *e)
{
    const Vocab *from = &c->vocab;
    if (from->V == to->V &&
        !memcmp(from->offset, to->offset, (size_t)(from->V + 1) * sizeof *from->offset) &&
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
                                 "the built-in corpus has the word '%.*s', but the vocabulary has "
                                 "neither that word nor <unk>",
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

int corpus_read_folder(Corpus *c, const char *dir, const CorpusRead *how, Error *e)
{
    const Vocab *vocab = how->vocab;
    memset(c, 0, sizeof *c);
    c->final_eos = how->final_eos;
    int code = EXIT_DONE;
    Loader *l = calloc(1, sizeof *l);
    if (!l) return out_of_memory(e, "reading the text");
    l->given = vocab != NULL;
    l->building = !vocab;
    l->final_eos = how->final_eos;
    l->unknown = vocab ? vocab_find(vocab, unknown_type, strlen(unknown_type)) : -1;
    /* The folder is opened even if no split is needed, to check that it exists. */
    int folder = folder_open(dir, e);
    if (folder < 0) code = e->code;
    else close(folder);
    if (!code && vocab && vocab_copy(&l->vocab.v, vocab))
        code = out_of_memory(e, "copying the vocabulary");
    if (!code) code = folder_load(c, l, dir, how, e);
    c->vocab = vocab_finish(&l->vocab);
    free(l->word);
    free(l);
    if (!code && c->vocab.V) code = count_wide_spaces(c, e);
    if (code) corpus_free(c);
    return code;
}

void corpus_name(Corpus *c)
{
    if (c->split[SPLIT_TRAIN].n) hash_splits(c, SPLIT_TRAIN + 1, c->train_sha256);
    if (c->split[SPLIT_TRAIN].n && c->split[SPLIT_VALID].n && c->split[SPLIT_TEST].n)
        hash_splits(c, SPLITS, c->sha256);
    c->known_as = c->synthetic ? "synthetic" : corpus_recognise(c->sha256);
}

/* Converts the file to the text form of a checkpoint, in which one space joins the types and '%' is
 * escaped. */
int vocab_read(Vocab *v, const char *path, Error *e)
{
    char *text = NULL, *line = NULL;
    size_t size = 0, capacity = 0;
    int64_t number = 0;
    ssize_t n;
    int code = EXIT_DONE;
    memset(v, 0, sizeof *v);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    FILE *in = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
    FILE *out = in ? open_memstream(&text, &size) : NULL;
    if (!out) {
        code = error_set(e, EXIT_BAD_DATA, "%s cannot be read as a vocabulary: %s", path,
                         fd >= 0 && !in ? "it is not a regular file" : strerror(errno));
        if (in) fclose(in);
        else if (fd >= 0) close(fd);
        return code;
    }
    while (!code && (n = getline(&line, &capacity, in)) > 0) {
        const char *word = line;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        if (!number++ && n >= 3 && !memcmp(word, "\xef\xbb\xbf", 3)) word += 3, n -= 3;
        if (n <= 0)
            code = error_set(e, EXIT_BAD_DATA, "%s: line %" PRId64 " is empty, and no type is",
                             path, number);
        if (number > 1) fputc(' ', out);
        for (ssize_t i = 0; !code && i < n; i++) {
            if (word[i] == 0 || byte_is_space((unsigned char)word[i]))
                code = error_set(e, EXIT_BAD_DATA,
                                 "%s: line %" PRId64
                                 " is not one type: it holds white space or a NUL byte",
                                 path, number);
            else if (word[i] == '%') fputs("%25", out);
            else fputc(word[i], out);
        }
    }
    if (!code && ferror(in)) code = error_set(e, EXIT_BAD_DATA, "%s cannot be read: %m", path);
    if (!code && !number)
        code = error_set(e, EXIT_BAD_DATA, "%s is empty: it holds no types", path);
    if (fclose(out) && !code) code = out_of_memory(e, "reading a vocabulary");
    fclose(in);
    free(line);
    Error inner;
    if (!code && (code = vocab_parse(v, text, &inner)))
        error_set(e, code, "%s: %s", path, inner.text);
    free(text);
    return code;
}

size_t corpus_bytes(const Corpus *c)
{
    size_t bytes = 0;
    for (int split = 0; split < SPLITS; split++)
        bytes += (size_t)c->split[split].n * sizeof *c->split[split].ids;
    const Vocab *v = &c->vocab;
    return bytes + (size_t)v->n_slots * sizeof *v->slots +
           (v->V ? (size_t)(v->V + 1) * sizeof *v->offset + (size_t)v->offset[v->V] : 0);
}

void corpus_free(Corpus *c)
{
    vocab_free(&c->vocab);
    for (int split = 0; split < SPLITS; split++)
        free(c->split[split].ids), free(c->file[split].path);
    memset(c, 0, sizeof *c);
}
