/* buckets: sequences of about one length together in a minibatch, and the order of minibatches (TASKS 3). */
#ifndef PLSTM_BUCKETS_H
#define PLSTM_BUCKETS_H

#include <stdint.h>

#include "host/base/error.h"
#include "batch.h"
#include "sequences.h"

/* ---- the order ---- */

typedef struct Minibatches {
    int64_t n; /* minibatches */
    int64_t
        *start;   /* (n + 1): minibatch k has the sequences row[start[k]] .. row[start[k+1] - 1] */
    int64_t *row; /* (start[n]) numbers of sequences */
    int64_t *order; /* scratch */
    struct Keyed *keyed;
} Minibatches;

/* The minibatches of a training epoch (1 first), a pure function of seed and epoch. Sequences longer than
 * max_length (0: no limit) are left out; none left is EXIT_BAD_DATA. */
int minibatches_train(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                      uint64_t seed, int64_t epoch, Error *e);
/* Another epoch of the same minibatches; allocates nothing. */
void minibatches_order(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                       uint64_t seed, int64_t epoch);
/* Those of scoring: by length, in file order where equal. */
int minibatches_score(Minibatches *m, const Sequences *s, int64_t batch, Error *e);
void minibatches_free(Minibatches *m);

/* Positions of the longest sequence of minibatch k. */
int64_t minibatches_length(const Minibatches *m, const Sequences *s, int64_t k);
/* Positions from .. from + T - 1 of minibatch k, padded at the end: ids (T,B), targets (T,B), B its own
 * number of sequences; features receives the rows of those positions that take one, and may be NULL where none
 * does. */
void minibatches_fill(const Minibatches *m, const Sequences *s, int64_t k, int64_t from, int64_t T,
                      int32_t *ids, int32_t *targets, float *features);

/* ---- as sources of batches; *s outlives them. *source is not set where one cannot be made ---- */

/* Batches of training epochs. EXIT_BAD_DATA: no sequence is left. */
int buckets_train(Source **source, const Sequences *s, int64_t max_length, int64_t batch,
                  uint64_t seed, Error *e);

/* Batches of scoring. A minibatch longer than max_length (0: SCORE_WINDOW) is cut into windows that carry the state. A
 * scored position's place is its number among the positions of *s. */
enum { SCORE_WINDOW = 1000 };
int buckets_score(Source **source, const Sequences *s, int64_t max_length, int64_t batch, Error *e);

#endif
