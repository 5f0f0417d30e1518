#include "search.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/data/vocab.h"
#include "host/train/model_load.h"
#include "members.h"

int search_options(SearchOptions *o, const CommandLine *line, Error *e)
{
    if (o->nbest > o->beam)
        return error_set(e, EXIT_USAGE,
                         "--nbest %lld needs a --beam at least as large: a beam of %lld "
                         "finds no more",
                         (long long)o->nbest, (long long)o->beam);
    o->backend = line->settings.backend, o->threads = (int)line->settings.threads,
    o->notes = line->notes;
    return EXIT_DONE;
}

/* ---- models ---- */

static int check_model(const Search *s, const Checkpoint *c, const char *task, int i, Error *e)
{
    const char *path = s->o->weights.path[i];
    if (strcmp(c->task, task))
        return error_set(e, EXIT_BAD_DATA, "%s is a model of task %.60s, not of task %s", path,
                         c->task, task);
    if (c->shape.V_in != c->vocab_source.V + c->vocab.V || c->shape.V_out != c->vocab.V)
        return error_set(e, EXIT_BAD_DATA, "%s has tensors of other sizes than its vocabularies",
                         path);
    return i ? members_agree(&s->first, s->o->weights.path[0], c, path, e) : EXIT_DONE;
}

int search_open(Search *s, const SearchOptions *o, const char *task, FILE *out, Error *e)
{
    const BackendOps *ops;
    DecodeOptions d = {.width = o->beam, .batch = o->batch, .penalty = o->penalty, .end = ID_EOS};
    s->o = o, s->out = out;
    int code = backend_find(o->backend, &ops, e);
    s->model = calloc((size_t)o->weights.n, sizeof *s->model);
    if (!code && !s->model)
        code = error_set(e, EXIT_FAILED, "memory ran out while --weights was read");
    for (int i = 0; !code && i < o->weights.n; i++) {
        Checkpoint other, *c = i ? &other : &s->first;
        code = checkpoint_open(c, o->weights.path[i], e);
        if (code) break;
        code = check_model(s, c, task, i, e);
        d.features = c->shape.F > 0; /* at most one row per input */
        if (!code) code = model_load(&s->model[i], ops, c, decode_limits(&d), false, o->threads, e);
        s->n += !code;
        if (i) checkpoint_close(c);
    }
    d.feedback = (int32_t)s->first.vocab_source.V;
    return code ? code : decode_open(&s->decoder, s->model, s->n, &d, e);
}

void search_close(Search *s)
{
    decode_close(s->decoder);
    for (int i = 0; i < s->n; i++) model_close(&s->model[i]);
    if (s->first.task) checkpoint_close(&s->first);
    free(s->model);
    line_free(&s->line);
}

/* ---- output ---- */

static void write_words(const Search *s, const Hypothesis *h, FILE *out)
{
    for (int64_t i = 0; i < h->n; i++) {
        size_t length;
        const char *type = vocab_type(&s->first.vocab, h->words[i], &length);
        if (i) fputc(' ', out);
        fwrite(type, 1, length, out);
    }
}

static int write_json(Search *s, int64_t number, const Hypothesis *found, int64_t n, Error *e)
{
    JsonLine *l = &s->line;
    line_begin(l);
    line_int(l, s->unit, number);
    line_open(l, "found", '[');
    for (int64_t i = 0; i < n; i++) {
        char *words = NULL;
        size_t bytes = 0;
        FILE *text = open_memstream(&words, &bytes);
        if (text) write_words(s, &found[i], text);
        if (!text || fclose(text)) {
            free(words);
            return error_set(e, EXIT_FAILED, "memory ran out while the output was written");
        }
        line_open(l, NULL, '{');
        line_string(l, "words", words);
        line_double(l, "logp", found[i].logp);
        line_double(l, "score", found[i].score);
        if (s->more) s->more(s->user, number, words, l);
        line_close(l, '}');
        free(words);
    }
    line_close(l, ']');
    line_end(l);
    if (l->no_memory)
        return error_set(e, EXIT_FAILED, "memory ran out while the output was written");
    fwrite(l->text, 1, l->n, s->out);
    return EXIT_DONE;
}

int search_print(Search *s, int64_t number, const Beam *beam, Error *e)
{
    static const Hypothesis nothing = {0};
    const Hypothesis *found = beam ? beam->done : &nothing;
    int64_t n = beam ? beam->n_done : 1, wanted = s->o->nbest ? s->o->nbest : 1;
    if (n > wanted) n = wanted;
    if (s->o->json) return write_json(s, number, found, n, e);
    for (int64_t i = 0; i < n; i++) {
        if (s->o->nbest) fprintf(s->out, "%" PRId64 " ||| ", number);
        write_words(s, &found[i], s->out);
        if (s->o->nbest) fprintf(s->out, " ||| %.9g", found[i].score);
        fputc('\n', s->out);
    }
    return EXIT_DONE;
}

int search_flush(Search *s, Error *e)
{
    return fflush(s->out) || ferror(s->out)
               ? error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno))
               : EXIT_DONE;
}
