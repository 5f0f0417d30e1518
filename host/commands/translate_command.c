/* `plstm translate`: reads sentences and prints their translations, in order. */
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/pairs.h"

typedef struct Translate {
    Search search;
    DecodeInput *input; /* (batch) the lines of the batch that are not empty */
    bool *empty;        /* (batch) whether each line of the batch is empty */
    /* lines in the batch; those of them that are not empty; lines before the batch */
    int64_t lines, inputs, done;
} Translate;

/* Removes a byte-order mark from the first line. */
static int64_t mark_remove(Translate *t, char *line, int64_t length)
{
    static const char mark[] = "\xef\xbb\xbf";
    int64_t n = sizeof mark - 1;
    if (t->done + t->lines > 0 || length < n || memcmp(line, mark, (size_t)n)) return length;
    memmove(line, line + n, (size_t)(length - n));
    if (t->search.o->notes)
        fprintf(t->search.o->notes, "plstm: a byte-order mark was removed from the input\n");
    return length - n;
}

/* Makes the input for a line: its source words and the separator, in the order in which the model
 * was trained to read them. */
static int input_make(Translate *t, const char *line, int64_t length, Error *e)
{
    const Vocab *v = &t->search.first.vocab_source;
    const char *word;
    int64_t at = 0, n = 0;
    DecodeInput *in = &t->input[t->inputs];
    int32_t *ids = malloc(sizeof *ids * (size_t)(length / 2 + 2));
    if (!ids) return error_set(e, EXIT_FAILED, "memory ran out while a line was read");
    for (size_t bytes; (bytes = pairs_next_word(line, &at, length, &word));)
        ids[n++] = pairs_word(v, word, bytes);
    t->empty[t->lines++] = !n;
    if (!n) {
        free(ids);
        return EXIT_DONE;
    }
    for (int64_t i = 0; t->search.first.settings.source_order == ORDER_REVERSED && i < n / 2; i++) {
        int32_t kept = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = kept;
    }
    ids[n] = ID_EOS;
    *in = (DecodeInput){.ids = ids, .n = n + 1, .most = 2 * n + 10};
    t->inputs++;
    return EXIT_DONE;
}

static int translate_batch(Translate *t, Error *e)
{
    int64_t input = 0;
    Search *s = &t->search;
    int code = t->inputs ? decode_run(s->decoder, t->input, t->inputs, e) : EXIT_DONE;
    for (int64_t i = 0; !code && i < t->lines; i++)
        code =
            search_print(s, t->done + i, t->empty[i] ? NULL : decode_beam(s->decoder, input++), e);
    for (int64_t i = 0; i < t->inputs; i++) free((void *)t->input[i].ids);
    t->done += t->lines;
    t->lines = t->inputs = 0;
    return code ? code : search_flush(s, e);
}

static int translate_lines(Translate *t, FILE *in, Error *e)
{
    char *line = NULL;
    size_t cap = 0;
    int code = EXIT_DONE;
    for (ssize_t length; !code && (length = getline(&line, &cap, in)) >= 0;) {
        if (memchr(line, 0, (size_t)length))
            code = error_set(e, EXIT_BAD_DATA,
                             "line %" PRId64 " of the input has a NUL byte: it is not plain text",
                             t->done + t->lines + 1);
        else code = input_make(t, line, mark_remove(t, line, length), e);
        if (!code && t->lines == t->search.o->batch) code = translate_batch(t, e);
    }
    if (!code && ferror(in))
        code = error_set(e, EXIT_BAD_DATA, "the input cannot be read: %s", strerror(errno));
    /* The lines before a bad line are translated all the same. */
    Error later;
    int rest = translate_batch(t, code ? &later : e);
    free(line);
    return code ? code : rest;
}

int translate_command(const SearchOptions *o, FILE *in, FILE *out, Error *e)
{
    Translate t = {.search = {.unit = "sentence"}};
    int code = EXIT_DONE;
    t.input = calloc((size_t)o->batch, sizeof *t.input);
    t.empty = calloc((size_t)o->batch, sizeof *t.empty);
    if (!t.input || !t.empty) code = error_set(e, EXIT_FAILED, "memory ran out for the sentences");
    if (!code) code = search_open(&t.search, o, "translate", out, e);
    if (!code) code = translate_lines(&t, in, e);
    search_close(&t.search);
    free(t.input), free(t.empty);
    return code;
}

typedef struct TranslateOptions {
    SearchOptions search;
} TranslateOptions;
static const Option options[] = {
    SEARCH_OPTIONS(TranslateOptions, "a translation model", "sentences",
                   "sentences to translate at a time"),
};

static int translate(const CommandLine *line, Error *e)
{
    TranslateOptions *o = line->own;
    int code = search_options(&o->search, line, e);
    return code ? code : translate_command(&o->search, stdin, stdout, e);
}

const Command command_translate = {
    .name = "translate",
    .summary = "translate sentences",
    .about = "Translates standard input by beam search, one sentence per line, with spaces "
             "between words.",
    COMMAND_OPTIONS(options, TranslateOptions),
    .settings = "backend|threads",
    .run = translate,
};
