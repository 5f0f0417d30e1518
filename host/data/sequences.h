/* sequences: the rows of one split of a task other than language modelling (TASKS 1), in file
 * order. Each position has the id of its input and its target, as in a Batch. */
#ifndef PLSTM_SEQUENCES_H
#define PLSTM_SEQUENCES_H

#include <stdint.h>

#include <sha2.h>

#include "host/base/error.h"
#include "batch.h"

typedef struct Sequences {
    int64_t n;              /* sequences */
    int64_t *offset;        /* (n + 1): sequence i has positions offset[i] .. offset[i+1] - 1 */
    int32_t *ids, *targets; /* (offset[n]) */
    /* If there are features, position number k (from 0) of sequence i that reads a row has row
     * first_row[i] + k of features (_,F). The caller owns both; NULL: there are none. */
    const float *features;
    const int64_t *first_row;
    int64_t F;
    int64_t cap, cap_positions; /* sequences and positions for which there is room */
} Sequences;

/* Makes room for one more sequence of `length` positions. The caller fills s->ids and s->targets
 * from index s->offset[s->n - 1] on. EXIT_FAILED: memory ran out. */
int sequences_append(Sequences *s, int64_t length, Error *e);
void sequences_free(Sequences *s);

static inline int64_t sequences_length(const Sequences *s, int64_t i)
{
    return s->offset[i + 1] - s->offset[i];
}

/* Returns the number of sequences longer than max_length (0: no limit, so the number is 0). */
int64_t sequences_longer(const Sequences *s, int64_t max_length);

/* Adds a split to the corpus hash (TASKS 3): for each sequence its number of positions, ids and
 * targets, all as little-endian int32. */
void sequences_hash(const Sequences *s, SHA2_CTX *sha);

#endif
