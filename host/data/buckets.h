/* buckets: minibatches of sequences of similar length, and the order of the minibatches (TASKS
 * 3). */
#ifndef PLSTM_BUCKETS_H
#define PLSTM_BUCKETS_H

#include <stdint.h>

#include "host/base/error.h"
#include "batch.h"
#include "sequences.h"

/* ---- the order ---- */

typedef struct Minibatches {
    int64_t n; /* minibatches */
    /* (n + 1): minibatch k has the sequences row[start[k]] .. row[start[k+1] - 1] */
    int64_t *start;
    int64_t *row;   /* (start[n]) numbers of sequences */
    int64_t *order; /* scratch */
    struct Keyed *keyed;
} Minibatches;

/* Orders the minibatches of a training epoch (from 1), a pure function of seed and epoch. Sequences
 * longer than max_length (0: no limit) are left out. EXIT_BAD_DATA: none is left. */
int minibatches_train(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                      uint64_t seed, int64_t epoch, Error *e);
/* Orders the same minibatches for another epoch; allocates nothing. */
void minibatches_order(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                       uint64_t seed, int64_t epoch);
/* Orders the minibatches for scoring: by length, in file order among equals. */
int minibatches_score(Minibatches *m, const Sequences *s, int64_t batch, Error *e);
void minibatches_free(Minibatches *m);

/* Returns the length of the longest sequence of minibatch k, in positions. */
int64_t minibatches_length(const Minibatches *m, const Sequences *s, int64_t k);
/* Fills ids (T,B) and targets (T,B) with positions from .. from + T - 1 of minibatch k, padded at
 * the end; B is the minibatch's number of sequences. features receives the rows of positions that
 * read one; it may be NULL if none does. */
void minibatches_fill(const Minibatches *m, const Sequences *s, int64_t k, int64_t from, int64_t T,
                      int32_t *ids, int32_t *targets, float *features);

/* ---- as sources of batches; *s outlives them. On failure *source is not set ---- */

/* Makes the source of training batches. EXIT_BAD_DATA: no sequence is left. */
int buckets_train(Source **source, const Sequences *s, int64_t max_length, int64_t batch,
                  uint64_t seed, Error *e);

/* Makes the source of scoring batches. A minibatch longer than max_length (0: SCORE_WINDOW) is cut
 * into windows that carry the state. The place of a scored position is its number among the
 * positions of *s. */
enum { SCORE_WINDOW = 1000 };
int buckets_score(Source **source, const Sequences *s, int64_t max_length, int64_t batch, Error *e);

#endif
