/* beam: searches for one sentence's most probable outputs (TASKS 4). It has no model: it receives
 * the log probabilities of the words that may follow each hypothesis, and decides which hypotheses
 * continue.
 *
 *   beam_begin(&b, most)               one live hypothesis, empty
 *   while (b.live) {
 *       for (i < b.live)
 *           beam_offer(&b, i, logp)    of the V words that may follow hypothesis i
 *       beam_advance(&b)               hypothesis i was b.parent[i] before, and ends with b.word[i]
 *   }
 *   beam_end(&b, penalty)              b.done[0 .. n_done), best first */
#ifndef PLSTM_BEAM_H
#define PLSTM_BEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"

typedef struct Hypothesis {
    double logp;    /* sum over its words and, if complete, the end */
    double score;   /* logp / length^penalty; the length includes the end */
    int64_t n;      /* words, without the end */
    int32_t *words; /* (n), owned by the beam */
} Hypothesis;

typedef struct BeamCandidate {
    double logp;
    int64_t parent;
    int32_t word;
} BeamCandidate;

typedef struct Beam {
    int64_t V, width; /* classes; hypotheses with which a search begins */
    int32_t end;      /* the class that completes a hypothesis */
    int64_t live;     /* hypotheses that continue; 0: the search is over */
    int64_t *parent;  /* (width) index that each had before the last beam_advance */
    int32_t *word;    /* (width) the last word of each */
    Hypothesis *done; /* (width) complete hypotheses, in the order of completion until beam_end */
    int64_t n_done;
    bool unfinished; /* the hypotheses in done were never completed */

    /* private */
    int64_t room, steps, most; /* current width; words so far; most words */
    int64_t cap;               /* words for which each hypothesis has room */
    Hypothesis *now, *next;    /* (width) */
    BeamCandidate *candidate;  /* (width) best first */
    int64_t candidates;
} Beam;

/* Allocates a beam for V classes; `end` is the class that completes a hypothesis. EXIT_FAILED:
 * memory ran out. */
int beam_init(Beam *b, int64_t V, int64_t width, int32_t end, Error *e);
void beam_free(Beam *b);

/* Begins a search of at most `most` words (at least 1), including the end. */
int beam_begin(Beam *b, int64_t most, Error *e);
/* Offers logp (V) of the words that may follow live hypothesis i; call it in the order of i. */
void beam_offer(Beam *b, int64_t i, const double *logp);
/* Continues the best of all that was offered, as many as the beam is wide. A hypothesis that is
 * complete moves to `done` and makes the beam narrower by one. Among equals the lower parent wins,
 * then the lower word. */
void beam_advance(Beam *b);
/* Scores the complete hypotheses, or those that were live at the last step if none is complete, and
 * sorts them, ties in the order of completion. */
void beam_end(Beam *b, double penalty);

#endif
