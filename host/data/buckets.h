/* buckets: groups sequences of similar length into minibatches (TASKS 3) and orders the
 * minibatches. */
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
    int64_t *order; /* scratch, as is keyed */
    struct Keyed *keyed;
} Minibatches;

/* Makes the minibatches of a training epoch (from 1). Their order is a pure function of seed and
 * epoch. Sequences longer than max_length (0: no limit) are left out. Release *m with
 * minibatches_free. EXIT_BAD_DATA: no sequence is left. */
int minibatches_train(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                      uint64_t seed, int64_t epoch, Error *e);
/* Makes the minibatches of another epoch in the same arrays; allocates nothing. */
void minibatches_order(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                       uint64_t seed, int64_t epoch);
/* Makes the minibatches for scoring, with the sequences sorted by length, and in file order among
 * those of equal length. */
int minibatches_score(Minibatches *m, const Sequences *s, int64_t batch, Error *e);
void minibatches_free(Minibatches *m);

/* Returns the length of the longest sequence of minibatch k, in positions. */
int64_t minibatches_length(const Minibatches *m, const Sequences *s, int64_t k);
/* Fills ids (T,B) and targets (T,B) with positions from .. from + T - 1 of minibatch k, padded at
 * the end; B is the minibatch's number of sequences. features (_,F) receives the rows of the
 * positions that read one, as in a Batch; it may be NULL if none does. */
void minibatches_fill(const Minibatches *m, const Sequences *s, int64_t k, int64_t from, int64_t T,
                      int32_t *ids, int32_t *targets, float *features);

/* ---- sources of batches: *s must outlive them; on failure *source is not set ---- */

/* Makes the source of training batches. EXIT_BAD_DATA: no sequence is left. */
int buckets_train(Source **source, const Sequences *s, int64_t max_length, int64_t batch,
                  uint64_t seed, Error *e);

/* Makes the source of scoring batches. A minibatch longer than max_length (0: SCORE_WINDOW) is cut
 * into windows that carry the state. The place of a scored position is its number among the
 * positions of *s. */
enum { SCORE_WINDOW = 1000 };
int buckets_score(Source **source, const Sequences *s, int64_t max_length, int64_t batch, Error *e);

#endif
