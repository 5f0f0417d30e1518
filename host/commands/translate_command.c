#include "translate_command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/data/pairs.h"
#include "host/store/checkpoint.h"
#include "host/train/decode.h"
#include "host/train/model_load.h"
#include "members.h"

typedef struct Translate {
    const TranslateOptions *o;
    FILE *out;
    Checkpoint first; /* whose vocabularies and order of source words hold */
    int n;
    char *const *path;
    Model *model; /* (n) */
    Decoder *decoder;
    /* The sentences of a batch. */
    DecodeInput *input;          /* (batch) of those that are not empty */
    bool *empty;                 /* (batch) of every line */
    int64_t lines, inputs, done; /* in the batch; of them not empty; lines before it */
} Translate;

/* ---- models ---- */

static int open_models(Translate *t, Error *e)
{
    const BackendOps *ops;
    DecodeOptions o = {.width = t->o->beam, .batch = t->o->batch, .penalty = t->o->penalty, .end = ID_EOS};
    int code = backend_find(t->o->backend, &ops, e), opened = 0;
    t->model = calloc((size_t)t->n, sizeof *t->model);
    if (!code && !t->model) code = error_set(e, EXIT_FAILED, "memory ran out while --weights was read");
    for (int i = 0; !code && i < t->n; i++) {
        Checkpoint other, *c = i ? &other : &t->first;
        code = checkpoint_open(c, t->path[i], e);
        if (code) break;
        if (strcmp(c->task, "translate"))
            code = error_set(e, EXIT_BAD_DATA, "%s is a model of task %.60s, which translates nothing",
                             t->path[i], c->task);
        else if (c->shape.V_in != c->vocab_source.V + c->vocab.V || c->shape.V_out != c->vocab.V)
            code = error_set(e, EXIT_BAD_DATA, "%s has tensors of other sizes than its vocabularies",
                             t->path[i]);
        if (!code && i) code = members_agree(&t->first, t->path[0], c, t->path[i], e);
        if (!code) code = model_load(&t->model[i], ops, c, decode_limits(&o), false, t->o->threads, e);
        opened += !code;
        if (i) checkpoint_close(c);
    }
    o.feedback = (int32_t)t->first.vocab_source.V;
    if (!code) code = decode_open(&t->decoder, t->model, t->n, &o, e);
    if (code) t->n = opened; /* to close */
    return code;
}

/* ---- sentences ---- */

/* Takes a byte-order mark off the first line. */
static int64_t mark_remove(Translate *t, char *line, int64_t length)
{
    static const char mark[] = "\xef\xbb\xbf";
    int64_t n = sizeof mark - 1;
    if (t->done + t->lines > 0 || length < n || memcmp(line, mark, (size_t)n)) return length;
    memmove(line, line + n, (size_t)(length - n));
    if (t->o->notes) fprintf(t->o->notes, "plstm: a byte-order mark was taken off the input\n");
    return length - n;
}

/* A line's source words and the separator, as the model was trained to read them. */
static int input_make(Translate *t, const char *line, int64_t length, Error *e)
{
    const Vocab *v = &t->first.vocab_source;
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
    for (int64_t i = 0; t->first.settings.source_order == ORDER_REVERSED && i < n / 2; i++) {
        int32_t kept = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = kept;
    }
    ids[n] = ID_EOS;
    *in = (DecodeInput){.ids = ids, .n = n + 1, .most = 2 * n + 10};
    t->inputs++;
    return EXIT_DONE;
}

static void print_words(const Translate *t, const Hypothesis *h)
{
    for (int64_t i = 0; i < h->n; i++) {
        size_t length;
        const char *type = vocab_type(&t->first.vocab, h->words[i], &length);
        if (i) fputc(' ', t->out);
        fwrite(type, 1, length, t->out);
    }
}

static void print_line(const Translate *t, int64_t number, const Beam *beam)
{
    static const Hypothesis nothing = {0};
    int64_t n = beam ? beam->n_done : 1;
    if (!t->o->nbest) {
        print_words(t, beam ? &beam->done[0] : &nothing);
        fputc('\n', t->out);
        return;
    }
    for (int64_t i = 0; i < n && i < t->o->nbest; i++) {
        const Hypothesis *h = beam ? &beam->done[i] : &nothing;
        fprintf(t->out, "%" PRId64 " ||| ", number);
        print_words(t, h);
        fprintf(t->out, " ||| %.9g\n", h->score);
    }
}

static int translate_batch(Translate *t, Error *e)
{
    int64_t input = 0;
    int code = t->inputs ? decode_run(t->decoder, t->input, t->inputs, e) : EXIT_DONE;
    for (int64_t i = 0; !code && i < t->lines; i++)
        print_line(t, t->done + i, t->empty[i] ? NULL : decode_beam(t->decoder, input++));
    for (int64_t i = 0; i < t->inputs; i++) free((void *)t->input[i].ids);
    t->done += t->lines;
    t->lines = t->inputs = 0;
    if (!code && (fflush(t->out) || ferror(t->out)))
        code = error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    return code;
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
        if (!code && t->lines == t->o->batch) code = translate_batch(t, e);
    }
    if (!code && ferror(in))
        code = error_set(e, EXIT_FAILED, "the input cannot be read: %s", strerror(errno));
    /* What stands before a bad line is translated all the same. */
    Error later;
    int rest = translate_batch(t, code ? &later : e);
    free(line);
    return code ? code : rest;
}

int translate_command(const TranslateOptions *o, FILE *in, FILE *out, Error *e)
{
    Translate t = {.o = o, .out = out};
    int code = EXIT_DONE;
    t.n = o->weights->n, t.path = o->weights->path;
    t.input = calloc((size_t)o->batch, sizeof *t.input);
    t.empty = calloc((size_t)o->batch, sizeof *t.empty);
    if (!t.input || !t.empty) code = error_set(e, EXIT_FAILED, "memory ran out for the sentences");
    if (!code) code = open_models(&t, e);
    if (!code) code = translate_lines(&t, in, e);
    decode_close(t.decoder);
    for (int i = 0; t.model && i < t.n; i++) model_close(&t.model[i]);
    if (t.first.task) checkpoint_close(&t.first);
    free(t.model), free(t.input), free(t.empty);
    return code;
}
