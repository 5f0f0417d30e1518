/* beam: the search for one sentence's most probable outputs (TASKS 4). Knows no model: it is offered the log
 * probabilities of what may follow each hypothesis, and says which hypotheses go on.
 *
 *   beam_begin(&b, most)                    one live hypothesis, empty
 *   while (b.live) {
 *       for (i < b.live) beam_offer(&b, i, logp of the V words that may follow hypothesis i)
 *       beam_advance(&b)                    hypothesis i of now was b.parent[i], and ends with b.word[i]
 *   }
 *   beam_end(&b, penalty)                   b.done[0 .. n_done), best first */
#ifndef PLSTM_BEAM_H
#define PLSTM_BEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"

typedef struct Hypothesis {
    double logp;    /* sum over its words and, if complete, the end */
    double score;   /* logp / length^penalty, the end counted */
    int64_t n;      /* words, the end not among them */
    int32_t *words; /* (n), the beam's */
} Hypothesis;

typedef struct BeamCandidate {
    double logp;
    int64_t parent;
    int32_t word;
} BeamCandidate;

typedef struct Beam {
    int64_t V, width; /* classes; hypotheses that a search begins with */
    int32_t end;      /* the class that completes a hypothesis */
    int64_t live;     /* hypotheses that go on; 0: the search is over */
    int64_t *parent;  /* (width) number of each before the last beam_advance */
    int32_t *word;    /* (width) its last word */
    Hypothesis *done; /* (width) completed ones, in the order of completion until beam_end */
    int64_t n_done;
    bool unfinished; /* what is done was never completed */

    /* its own */
    int64_t room, steps, most; /* width now; words so far; most words */
    int64_t cap;               /* words that each hypothesis has room for */
    Hypothesis *now, *next;    /* (width) */
    BeamCandidate *candidate;  /* (width) best first */
    int64_t candidates;
} Beam;

int beam_init(Beam *b, int64_t V, int64_t width, int32_t end, Error *e);
void beam_free(Beam *b);

/* A search of at most `most` words (at least 1), the end counted. */
int beam_begin(Beam *b, int64_t most, Error *e);
/* logp (V) of the words behind live hypothesis i; in order of i. */
void beam_offer(Beam *b, int64_t i, const double *logp);
/* Of all that was offered the best go on, as many as the beam is wide; those that ended are done, and the beam is
 * narrower by each. Equal ones: the lower parent, then the lower word. */
void beam_advance(Beam *b);
/* Scores and sorts what is done, ties in order of completion; where nothing was completed, what was live at the last
 * step. */
void beam_end(Beam *b, double penalty);

#endif
