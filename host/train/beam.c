#include "beam.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(Error *e)
{
    return error_set(e, EXIT_FAILED, "memory ran out for the beam");
}

int beam_init(Beam *b, int64_t V, int64_t width, int32_t end, Error *e)
{
    size_t n = (size_t)width;
    *b = (Beam){.V = V, .width = width, .end = end};
    b->parent = calloc(n, sizeof *b->parent);
    b->word = calloc(n, sizeof *b->word);
    b->done = calloc(n, sizeof *b->done);
    b->now = calloc(n, sizeof *b->now);
    b->next = calloc(n, sizeof *b->next);
    b->candidate = calloc(n, sizeof *b->candidate);
    if (b->parent && b->word && b->done && b->now && b->next && b->candidate) return EXIT_DONE;
    beam_free(b);
    return out_of_memory(e);
}

void beam_free(Beam *b)
{
    Hypothesis *list[] = {b->done, b->now, b->next};
    for (int i = 0; i < 3; i++) {
        for (int64_t k = 0; list[i] && k < b->width; k++) free(list[i][k].words);
        free(list[i]);
    }
    free(b->parent), free(b->word), free(b->candidate);
    memset(b, 0, sizeof *b);
}

int beam_begin(Beam *b, int64_t most, Error *e)
{
    assert(most > 0);
    if (most > b->cap) {
        Hypothesis *list[] = {b->done, b->now, b->next};
        for (int i = 0; i < 3; i++)
            for (int64_t k = 0; k < b->width; k++) {
                int32_t *words = realloc(list[i][k].words, (size_t)most * sizeof *words);
                if (!words) return out_of_memory(e);
                list[i][k].words = words;
            }
        b->cap = most;
    }
    b->room = b->width, b->most = most;
    b->unfinished = false;
    b->live = 1, b->n_done = b->steps = b->candidates = 0;
    b->now[0].logp = 0, b->now[0].n = 0;
    return EXIT_DONE;
}

void beam_offer(Beam *b, int64_t i, const double *logp)
{
    assert(i < b->live && !b->steps == !b->now[i].n);
    double before = b->now[i].logp;
    for (int32_t word = 0; word < b->V; word++) {
        double sum = before + logp[word];
        /* A candidate that is offered later loses against an equal one, since its parent or its
         * word is the higher. */
        bool full = b->candidates == b->room;
        if (full && !(sum > b->candidate[b->candidates - 1].logp)) continue;
        int64_t at = full ? b->candidates - 1 : b->candidates++;
        for (; at > 0 && sum > b->candidate[at - 1].logp; at--)
            b->candidate[at] = b->candidate[at - 1];
        b->candidate[at] = (BeamCandidate){sum, i, word};
    }
}

/* Copies `from`, followed by `word` unless that is -1, into *to, which has words of its own. */
static void extend(Hypothesis *to, const Hypothesis *from, double logp, int32_t word)
{
    memcpy(to->words, from->words, (size_t)from->n * sizeof *to->words);
    to->logp = logp;
    to->n = from->n;
    if (word >= 0) to->words[to->n++] = word;
}

void beam_advance(Beam *b)
{
    int64_t live = 0;
    for (int64_t i = 0; i < b->candidates; i++) {
        const BeamCandidate *c = &b->candidate[i];
        if (c->word == b->end) {
            extend(&b->done[b->n_done++], &b->now[c->parent], c->logp, -1);
            b->room--;
        } else {
            extend(&b->next[live], &b->now[c->parent], c->logp, c->word);
            b->parent[live] = c->parent;
            b->word[live++] = c->word;
        }
    }
    Hypothesis *now = b->now;
    b->now = b->next;
    b->next = now;
    b->candidates = 0;
    if (++b->steps < b->most) b->live = live;
    else {
        for (int64_t i = 0; !b->n_done && i < live; i++)
            extend(&b->done[i], &b->now[i], b->now[i].logp, -1);
        if (!b->n_done) {
            b->n_done = live;
            b->unfinished = true;
        }
        b->live = 0;
    }
}

void beam_end(Beam *b, double penalty)
{
    for (int64_t i = 0; i < b->n_done; i++) {
        Hypothesis h = b->done[i];
        h.score = h.logp / pow((double)(h.n + !b->unfinished), penalty);
        int64_t at = i; /* inserting each keeps the order of equals */
        for (; at > 0 && h.score > b->done[at - 1].score; at--) b->done[at] = b->done[at - 1];
        b->done[at] = h;
    }
}
