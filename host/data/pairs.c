#include "pairs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/settings.h"
#include "parallel.h"

const char *const side_name[SIDES] = {"source", "target"};
static const char *const valid_names[] = {"valid", "val", "dev"};

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out while parallel text was read");
}

/* ---- words of a line ---- */

size_t pairs_next_word(const char *text, int64_t *at, int64_t end, const char **word)
{
    while (*at < end && byte_is_space((unsigned char)text[*at])) ++*at;
    *word = text + *at;
    while (*at < end && !byte_is_space((unsigned char)text[*at])) ++*at;
    return (size_t)(text + *at - *word);
}

int32_t pairs_word(const Vocab *v, const char *word, size_t length)
{
    int32_t id = vocab_find(v, word, length);
    return id < 0 ? ID_UNKNOWN : id;
}

/* ---- a file ---- */

/* The whole text of one language of a split. */
typedef struct Text {
    char *bytes;
    int64_t n, lines;
    bool bom;
    char path[4400];
} Text;

/* Returns the end of the line that begins at `from`: its newline or the text's end. */
static int64_t line_end(const Text *t, int64_t from)
{
    const char *end = memchr(t->bytes + from, '\n', (size_t)(t->n - from));
    return end ? end - t->bytes : t->n;
}

static int text_check(Text *t, Error *e)
{
    if (!t->n) return error_set(e, EXIT_BAD_DATA, "'%s' is empty: it holds no line", t->path);
    const char *nul = memchr(t->bytes, 0, (size_t)t->n);
    if (nul)
        return error_set(e, EXIT_BAD_DATA,
                         "'%s' has a NUL byte at byte %" PRId64
                         " (counted from 0): it is not plain text",
                         t->path, (int64_t)(nul - t->bytes));
    for (int64_t at = 0; at < t->n; at = line_end(t, at) + 1) t->lines++;
    return EXIT_DONE;
}

static int text_read(Text *t, Error *e)
{
    FILE *f = fopen(t->path, "rbe");
    if (!f)
        return error_set(e, EXIT_BAD_DATA, "'%s' cannot be opened: %s", t->path, strerror(errno));
    int64_t cap = 0;
    int code = EXIT_DONE;
    for (size_t got = 1; got && !code; t->n += (int64_t)got) {
        if (cap - t->n < 65536) {
            char *bytes = realloc(t->bytes, (size_t)(cap = 2 * cap + 131072));
            if (!bytes) {
                code = out_of_memory(e);
                break;
            }
            t->bytes = bytes;
        }
        got = fread(t->bytes + t->n, 1, (size_t)(cap - t->n), f);
        if (ferror(f))
            code = error_set(e, EXIT_BAD_DATA, "'%s' cannot be read: %s", t->path, strerror(errno));
    }
    fclose(f);
    if (!code && t->n >= 2 &&
        (!memcmp(t->bytes, "\xff\xfe", 2) || !memcmp(t->bytes, "\xfe\xff", 2)))
        code = error_set(e, EXIT_BAD_DATA,
                         "'%s' begins with a byte-order mark of UTF-16: save it as UTF-8", t->path);
    if (!code && t->n >= 3 && !memcmp(t->bytes, "\xef\xbb\xbf", 3)) {
        memmove(t->bytes, t->bytes + 3, (size_t)(t->n -= 3));
        t->bom = true;
    }
    return code ? code : text_check(t, e);
}

/* ---- a split ---- */

/* Reads the texts of a split. The caller frees them, also on failure. */
static int split_texts(const PairsOptions *o, int number, const char *name, bool synthetic,
                       Text text[SIDES], Error *e)
{
    int code = EXIT_DONE;
    if (synthetic) {
        char *bytes[SIDES];
        code = parallel_text(number, bytes, e);
        for (int side = 0; !code && side < SIDES; side++) {
            snprintf(text[side].path, sizeof text[side].path, "built-in %s.%s", name,
                     side_name[side]);
            text[side].bytes = bytes[side];
            text[side].n = (int64_t)strlen(bytes[side]);
        }
        for (int side = 0; !code && side < SIDES; side++) code = text_check(&text[side], e);
        return code;
    }
    struct stat file;
    for (int side = 0; side < SIDES; side++)
        snprintf(text[side].path, sizeof text[side].path, "%s/%s.%s", o->dir, name,
                 o->language[side]);
    for (int side = 0; side < SIDES; side++) {
        const char *path = text[side].path;
        if (stat(path, &file))
            return error_set(e, EXIT_BAD_DATA,
                             "'%s', the translation of '%s', cannot be opened: %s", path,
                             text[!side].path, strerror(errno));
        if (!S_ISREG(file.st_mode)) /* opening a FIFO that has no writer would wait forever */
            return error_set(e, EXIT_BAD_DATA, "'%s' is %s, not a text file", path,
                             S_ISDIR(file.st_mode)    ? "a folder"
                             : S_ISFIFO(file.st_mode) ? "a pipe"
                                                      : "a device");
    }
    for (int side = 0; !code && side < SIDES; side++) code = text_read(&text[side], e);
    if (!code && text[0].lines != text[1].lines)
        code = error_set(e, EXIT_BAD_DATA,
                         "'%s' has %" PRId64 " lines and '%s' has %" PRId64
                         ": each line must be the translation of the same line of the other",
                         text[0].path, text[0].lines, text[1].path, text[1].lines);
    return code;
}

static int count_words(const Text *t, int64_t min_count, Vocab *v, Error *e)
{
    VocabCount count;
    const char *word;
    size_t length;
    int code = vocab_count_init(&count, e);
    if (code) return code;
    for (int64_t at = 0; !code && (length = pairs_next_word(t->bytes, &at, t->n, &word));)
        code = vocab_count_add(&count, word, length, e);
    if (!code) return vocab_count_finish(&count, min_count, v, e);
    vocab_count_free(&count);
    return code;
}

/* Returns the number of words of the line bytes[at .. end). Unless ids is NULL, also stores their
 * ids and adds the number of unknown words to *unknown. */
static int64_t line_words(const Text *t, int64_t at, int64_t end, const Vocab *v, int32_t *ids,
                          int64_t *unknown)
{
    const char *word;
    int64_t n = 0;
    for (size_t length; (length = pairs_next_word(t->bytes, &at, end, &word)); n++) {
        if (!ids) continue;
        *unknown += vocab_find(v, word, length) < 0;
        ids[n] = pairs_word(v, word, length);
    }
    return n;
}

static int split_rows(PairSplit *s, const Text text[SIDES], const Vocab *vocab, bool forward,
                      Error *e)
{
    int64_t at[SIDES] = {0};
    for (int64_t line = 0; line < text[0].lines; line++) {
        int64_t n[SIDES], end[SIDES];
        for (int side = 0; side < SIDES; side++) {
            end[side] = line_end(&text[side], at[side]);
            n[side] = line_words(&text[side], at[side], end[side], NULL, NULL, NULL);
            s->words[side] += n[side];
            s->empty[side] += !n[side];
            if (n[side] > s->longest[side]) s->longest[side] = n[side];
        }
        int64_t S = n[SIDE_SOURCE], length = S + 1 + n[SIDE_TARGET];
        int code = sequences_append(&s->rows, length, e);
        if (code) return code;
        int32_t *ids = s->rows.ids + s->rows.offset[line],
                *targets = s->rows.targets + s->rows.offset[line];
        line_words(&text[0], at[0], end[0], &vocab[0], ids, &s->unknown[0]);
        line_words(&text[1], at[1], end[1], &vocab[1], targets + S, &s->unknown[1]);
        for (int64_t i = 0; !forward && i < S / 2; i++) {
            int32_t kept = ids[i];
            ids[i] = ids[S - 1 - i];
            ids[S - 1 - i] = kept;
        }
        ids[S] = ID_EOS;
        targets[length - 1] = ID_EOS;
        for (int64_t i = 0; i < S; i++) targets[i] = TARGET_NONE;
        for (int64_t i = S + 1; i < length; i++) ids[i] = (int32_t)vocab[0].V + targets[i - 1];
        for (int side = 0; side < SIDES; side++) at[side] = end[side] + 1;
    }
    return EXIT_DONE;
}

/* Reads split `number` and makes its rows. If there are no vocabularies yet, they are built first,
 * from this split. */
static int split_load(Pairs *p, int number, Error *e)
{
    const PairsOptions *o = &p->o;
    PairSplit *s = &p->split[number];
    Text *text = calloc(SIDES, sizeof *text);
    int code = text ? split_texts(o, number, s->name, p->synthetic, text, e) : out_of_memory(e);
    for (int side = 0; !code && side < SIDES && !p->vocab[side].V; side++)
        code = count_words(&text[side], o->min_count, &p->vocab[side], e);
    if (!code && p->vocab[0].V > INT32_MAX - p->vocab[1].V)
        code = error_set(e, EXIT_BAD_DATA, "the vocabularies together have more than %d types",
                         INT32_MAX);
    if (!code) code = split_rows(s, text, p->vocab, o->forward, e);
    s->read = !code;
    for (int side = 0; text && side < SIDES; side++) {
        s->bom[side] = text[side].bom;
        free(text[side].bytes);
    }
    free(text);
    return code;
}

/* ---- finding the splits ---- */

static int split_add(Pairs *p, const char *name, size_t length, Error *e)
{
    for (int i = PAIRS_TEST; i < p->n_splits; i++)
        if (strlen(p->split[i].name) == length && !memcmp(p->split[i].name, name, length))
            return EXIT_DONE;
    PairSplit *split = realloc(p->split, (size_t)(p->n_splits + 1) * sizeof *split);
    if (!split) return out_of_memory(e);
    p->split = split;
    p->split[p->n_splits] = (PairSplit){.name = strndup(name, length)};
    return p->split[p->n_splits++].name ? EXIT_DONE : out_of_memory(e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const PairSplit *)a)->name, ((const PairSplit *)b)->name);
}

static bool is_there(const PairsOptions *o, const char *name)
{
    struct stat file;
    char path[4400];
    for (int side = 0; side < SIDES; side++) {
        snprintf(path, sizeof path, "%s/%s.%s", o->dir, name, o->language[side]);
        if (!stat(path, &file)) return true;
    }
    return false;
}

/* Adds a split for every name that begins with test and ends with a language. */
static int tests_list(Pairs *p, const PairsOptions *o, DIR *folder, Error *e)
{
    int code = EXIT_DONE;
    for (struct dirent *f; !code && (f = readdir(folder));)
        for (int side = 0; !code && side < SIDES; side++) {
            size_t name = strlen(f->d_name), ending = strlen(o->language[side]) + 1;
            if (name < 4 + ending || strncmp(f->d_name, "test", 4)) continue;
            if (f->d_name[name - ending] != '.' ||
                strcmp(f->d_name + name - ending + 1, o->language[side]))
                continue;
            code = split_add(p, f->d_name, name - ending, e);
        }
    if (!code)
        qsort(p->split + PAIRS_TEST, (size_t)(p->n_splits - PAIRS_TEST), sizeof *p->split, by_name);
    return code;
}

static int no_test(const PairsOptions *o, Error *e)
{
    return error_set(e, EXIT_BAD_DATA,
                     "the folder '%s' has no test text: looked for test*.%s and test*.%s", o->dir,
                     o->language[0], o->language[1]);
}

static int splits_list(Pairs *p, const PairsOptions *o, Error *e)
{
    DIR *folder = opendir(o->dir);
    const char *valid = valid_names[0];
    if (!folder)
        return error_set(e, EXIT_BAD_DATA,
                         "cannot open the data folder '%s': %s (a data folder holds "
                         "train.%s, train.%s and so on; the name synthetic stands for the "
                         "built-in corpus)",
                         o->dir, strerror(errno), o->language[0], o->language[1]);
    for (int i = 2; i >= 0; i--)
        if (is_there(o, valid_names[i])) valid = valid_names[i];
    int code = split_add(p, "train", 5, e);
    if (!code) code = split_add(p, valid, strlen(valid), e);
    if (!code) code = tests_list(p, o, folder, e);
    closedir(folder);
    if (!code && p->n_splits == PAIRS_TEST && !o->vocab && o->wanted & EVAL_TEST)
        code = no_test(o, e);
    return code;
}

static int synthetic_list(Pairs *p, Error *e)
{
    static const char *const name[] = {"train", "valid", "test"};
    int code = EXIT_DONE;
    for (int side = 0; side < SIDES; side++)
        if (p->o.language[side])
            return error_set(e, EXIT_USAGE,
                             "--%s is for folders only: the built-in corpus has one language pair",
                             side_name[side]);
    for (int i = 0; !code && i < 3; i++) code = split_add(p, name[i], strlen(name[i]), e);
    return code;
}

static int languages_check(const PairsOptions *o, Error *e)
{
    static const char takes[] = "the ending of the %s files' names (en for train.en)";
    char sentence[80];
    for (int side = 0; side < SIDES; side++) {
        snprintf(sentence, sizeof sentence, takes, side_name[side]);
        if (!o->language[side])
            return error_set(e, EXIT_USAGE, "--%s is required; it takes %s", side_name[side],
                             sentence);
        if (!*o->language[side] || strchr(o->language[side], '/'))
            return error_set(e, EXIT_USAGE, "--%s takes %s, not '%s'", side_name[side], sentence,
                             o->language[side]);
    }
    if (!strcmp(o->language[0], o->language[1]))
        return error_set(e, EXIT_USAGE,
                         "--source and --target must be different languages; both are %s",
                         o->language[0]);
    return EXIT_DONE;
}

/* ---- the corpus ---- */

int pairs_read(Pairs *p, int split, Error *e)
{
    const PairsOptions *o = &p->o;
    if (split >= p->n_splits) return no_test(o, e);
    if (p->split[split].read) return EXIT_DONE;
    if (!p->synthetic && !is_there(o, p->split[split].name)) {
        if (split == PAIRS_TRAIN)
            return error_set(
                e, EXIT_BAD_DATA,
                "the folder '%s' has no training text: looked for train.%s and train.%s", o->dir,
                o->language[0], o->language[1]);
        return error_set(
            e, EXIT_BAD_DATA,
            "the folder '%s' has no valid text: looked for valid.%s, val.%s and dev.%s", o->dir,
            o->language[0], o->language[0], o->language[0]);
    }
    return split_load(p, split, e);
}

static void hash_splits(const Pairs *p, int n, char hex[65])
{
    SHA2_CTX sha;
    SHA256Init(&sha);
    for (int i = 0; i < n; i++) sequences_hash(&p->split[i].rows, &sha);
    SHA256End(&sha, hex);
}

int pairs_load(Pairs *p, const PairsOptions *o, Error *e)
{
    memset(p, 0, sizeof *p);
    p->o = *o;
    p->synthetic = !strcmp(o->dir, "synthetic");
    int code = p->synthetic ? synthetic_list(p, e) : languages_check(o, e);
    if (!code && !p->synthetic) code = splits_list(p, o, e);
    for (int side = 0; !code && o->vocab && side < SIDES; side++)
        if (vocab_copy(&p->vocab[side], &o->vocab[side])) code = out_of_memory(e);
    for (int i = 0; !code && !o->vocab && i < p->n_splits; i++)
        if (!i || o->wanted & (i == PAIRS_VALID ? EVAL_VALID : EVAL_TEST))
            code = pairs_read(p, i, e);
    if (code) {
        pairs_free(p);
        return code;
    }
    bool whole = p->n_splits > PAIRS_TEST;
    for (int i = 0; i < p->n_splits; i++) whole &= p->split[i].read;
    if (whole) hash_splits(p, p->n_splits, p->sha256);
    if (p->split[PAIRS_TRAIN].read) hash_splits(p, 1, p->train_sha256);
    return EXIT_DONE;
}

void pairs_free(Pairs *p)
{
    for (int side = 0; side < SIDES; side++) vocab_free(&p->vocab[side]);
    for (int i = 0; i < p->n_splits; i++) {
        free(p->split[i].name);
        sequences_free(&p->split[i].rows);
    }
    free(p->split);
    memset(p, 0, sizeof *p);
}

char *pairs_path(const Pairs *p, int split, int side)
{
    const char *name = p->split[split].name, *language = p->o.language[side];
    size_t size = strlen(p->o.dir) + strlen(name) + strlen(language) + 3;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s.%s", p->o.dir, name, language);
    return path;
}
