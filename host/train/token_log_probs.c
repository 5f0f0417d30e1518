#include "token_log_probs.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <sha2.h>

#include "host/store/npy.h"

static const char opening[] = "plstm log-probabilities: ";

/* Finds "KEY=" in the note and copies the value, which ends at the next blank. */
static int find_value(const char *note, const char *key, char *to, size_t size)
{
    size_t length = strlen(key);
    for (const char *p = note + strlen(opening); *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        if (n > length && !strncmp(p, key, length) && n - length < size) {
            memcpy(to, p + length, n - length);
            to[n - length] = 0;
            return 0;
        }
        p += n;
    }
    return -1;
}

static int parse_note(TokenLogProbs *t, const NpyFile *f, const char *path, Error *e)
{
    char count[24], *end;
    if (strncmp(f->note, opening, strlen(opening)) ||
        find_value(f->note, "split=", t->text.split, sizeof t->text.split) ||
        find_value(f->note, "protocol=", t->text.protocol, sizeof t->text.protocol) ||
        find_value(f->note, "vocab=", t->text.vocab_sha256, sizeof t->text.vocab_sha256) ||
        find_value(f->note, "targets=", t->text.targets_sha256, sizeof t->text.targets_sha256) ||
        find_value(f->note, "paper_tokens=", count, sizeof count))
        return error_set(e, EXIT_BAD_DATA,
                         "%s does not say which split it scores; plstm eval "
                         "--token-log-probs writes files that do",
                         path);
    t->text.paper_tokens = strtoll(count, &end, 10);
    if (*end || t->text.paper_tokens < 0)
        return error_set(e, EXIT_BAD_DATA,
                         "%s has paper_tokens=%s in its header, which is not a number of words",
                         path, count);
    return EXIT_DONE;
}

int token_log_probs_read(TokenLogProbs *t, const char *path, Error *e)
{
    NpyFile f;
    memset(t, 0, sizeof *t);
    int code = npy_open(&f, path, e);
    if (code) return code;
    if (f.rank != 1 || f.n == 0)
        code = error_set(e, EXIT_BAD_DATA,
                         "%s has %d dimensions and %" PRId64
                         " elements; log-probabilities have one dimension and at least one element",
                         path, f.rank, f.n);
    if (!code) code = parse_note(t, &f, path, e);
    if (!code && !(t->log_p = malloc((size_t)f.n * sizeof *t->log_p)))
        code = error_set(e, EXIT_FAILED, "memory ran out for %s", path);
    t->n = f.n;
    for (int64_t i = 0; i < f.n && !code; i++) {
        float x;
        npy_floats(&f, i, 1, &x);
        t->log_p[i] = x;
        if (!(x <= 0))
            code = error_set(e, EXIT_BAD_DATA,
                             "%s has %g at position %" PRId64
                             ", which is not the logarithm of a probability",
                             path, (double)x, i);
    }
    npy_close(&f);
    if (code) token_log_probs_free(t);
    return code;
}

void token_log_probs_free(TokenLogProbs *t)
{
    free(t->log_p);
    memset(t, 0, sizeof *t);
}

/* Copies a name as one word of the note. */
static void put_word(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    for (; *to; to++)
        if (*to <= ' ' || *to > '~') *to = '_';
}

int token_log_probs_write(const char *path, const ScoredText *text, const float *log_p, int64_t n,
                          Error *e)
{
    char note[NPY_NOTE_SIZE], what[4200];
    ScoredText named = *text;
    put_word(named.split, sizeof named.split, text->split);
    put_word(named.protocol, sizeof named.protocol, text->protocol);
    snprintf(note, sizeof note, "%ssplit=%s protocol=%s vocab=%s targets=%s paper_tokens=%" PRId64,
             opening, named.split, named.protocol, text->vocab_sha256, text->targets_sha256,
             text->paper_tokens);
    snprintf(what, sizeof what, "--token-log-probs %s", path);
    return npy_write(path, what, log_p, &n, 1, note, e);
}

int token_log_probs_save(const char *path, ScoredText *text, const Ensemble *ensemble,
                         const int32_t *targets, Error *e)
{
    int64_t n = 0;
    double nats;
    SHA2_CTX sha;
    float *log_p = malloc((size_t)ensemble->n * sizeof *log_p);
    if (!log_p) return error_set(e, EXIT_FAILED, "memory ran out for --token-log-probs");
    SHA256Init(&sha);
    for (int64_t i = 0; i < ensemble->n; i++) {
        if (!ensemble_nats(ensemble, i, &nats)) continue;
        log_p[n++] = fminf((float)-nats, 0);
        SHA256Update(&sha, (const uint8_t *)&targets[i], sizeof targets[i]);
    }
    SHA256End(&sha, text->targets_sha256);
    int code = token_log_probs_write(path, text, log_p, n, e);
    free(log_p);
    return code;
}

int token_log_probs_agree(const TokenLogProbs *a, const char *a_path, const TokenLogProbs *b,
                          const char *b_path, Error *e)
{
    const ScoredText *x = &a->text, *y = &b->text;
    if (strcmp(x->split, y->split))
        return error_set(e, EXIT_BAD_DATA,
                         "%s scores the split %s but %s the split %s, so they cannot be averaged",
                         a_path, x->split, b_path, y->split);
    if (strcmp(x->protocol, y->protocol))
        return error_set(
            e, EXIT_BAD_DATA,
            "%s follows the protocol %s but %s the protocol %s, so they cannot be averaged", a_path,
            x->protocol, b_path, y->protocol);
    if (strcmp(x->vocab_sha256, y->vocab_sha256))
        return error_set(
            e, EXIT_BAD_DATA,
            "%s and %s have different vocabularies, so their probabilities cannot be averaged",
            a_path, b_path);
    if (strcmp(x->targets_sha256, y->targets_sha256))
        return error_set(e, EXIT_BAD_DATA,
                         "%s and %s score different texts, so they cannot be averaged", a_path,
                         b_path);
    if (a->n != b->n || x->paper_tokens != y->paper_tokens)
        return error_set(e, EXIT_BAD_DATA,
                         "%s scores %" PRId64 " words but %s %" PRId64
                         ", cut into other rows or windows, so they cannot be averaged",
                         a_path, a->n, b_path, b->n);
    return EXIT_DONE;
}
