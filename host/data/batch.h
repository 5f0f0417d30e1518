/* batch: a minibatch of right-padded sequences, and the interface of whatever supplies minibatches.
 * A task turns its data into batches; the model, the trainer and the scorer see nothing else of the
 * data.
 *
 * A batch is a grid of (T,B) positions, time-major. Column b is one sequence (or one row of a
 * stream), padded at its end to the longest of the batch. T varies from batch to batch. B is
 * smaller only in the one minibatch of an epoch that is not full. */
#ifndef PLSTM_BATCH_H
#define PLSTM_BATCH_H

#include <stdbool.h>
#include <stdint.h>

/* Ids that denote no token. */
enum {
    ID_FEATURES = -1, /* the position's input is the next feature row */
    ID_PADDING = -2,  /* the position's input is the zero vector */
};
enum { TARGET_NONE = -1 }; /* the position is not scored */

typedef struct Batch {
    int64_t T, B;
    const int32_t *ids;     /* (T,B) token, ID_FEATURES or ID_PADDING */
    const int32_t *targets; /* (T,B) class, or TARGET_NONE; padding is never scored */
    /* (n_features,F) rows, one for each position with ID_FEATURES, in the order t then b; NULL if
     * n_features is 0 */
    const float *features;
    int64_t n_features; /* positions with ID_FEATURES */
    int64_t n_scored;   /* positions with a target, at least 1 */
    bool carry;         /* h and c continue from the previous batch; false: they start at zero */
} Batch;

/* Returns the batch of a window of a stream: every position has a token and a target, and the state
 * is carried. */
static inline Batch batch_of_tokens(int64_t T, int64_t B, const int32_t *ids,
                                    const int32_t *targets)
{
    Batch b = {T, B, ids, targets, 0, 0, T * B, true};
    return b;
}

/* Counts n_features and n_scored from ids and targets. */
static inline void batch_count(Batch *b)
{
    b->n_features = b->n_scored = 0;
    for (int64_t n = 0; n < b->T * b->B; n++) {
        b->n_features += b->ids[n] == ID_FEATURES;
        b->n_scored += b->targets[n] != TARGET_NONE;
    }
}

/* Bounds over all batches that a source ever yields, from which backends compute their allocations:
 * no batch has more than T*B positions, more than B rows or, unless B is 1, more than T steps. */
typedef struct BatchLimits {
    int64_t T, B;
    /* most scored positions of a batch; 0: every position of every batch is scored */
    int64_t scored;
    int64_t features; /* most feature rows of a batch */
} BatchLimits;

static inline int64_t limits_larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t limits_scored(BatchLimits a) { return a.scored ? a.scored : a.T * a.B; }

/* Returns bounds that hold for the batches of both. */
static inline BatchLimits limits_of_both(BatchLimits a, BatchLimits b)
{
    BatchLimits m = {0, limits_larger(a.B, b.B), 0, limits_larger(a.features, b.features)};
    if (a.scored || b.scored) m.scored = limits_larger(limits_scored(a), limits_scored(b));
    int64_t positions = limits_larger(a.T * a.B, b.T * b.B);
    m.T = (positions + m.B - 1) / m.B;
    if (a.B > 1) m.T = limits_larger(m.T, a.T);
    if (b.B > 1) m.T = limits_larger(m.T, b.T);
    return m;
}

/* A stream whose windows of T steps are a source's batches (batcher.h). A backend may copy it
 * whole, once. */
struct Batcher;

/* Batches of a split in a fixed order. A source is the first member of its maker's own struct. */
typedef struct Source Source;
struct Source {
    int64_t batches;    /* per epoch; every epoch has as many */
    BatchLimits limits; /* over all epochs */
    /* Fills *b with batch i (0 .. batches-1) of epoch k (from 1; a split that is scored has one
     * epoch). A pure function of (k, i): any order of calls gives the same batches. The source owns
     * the arrays, which stay valid until the next call. */
    void (*get)(Source *s, int64_t epoch, int64_t i, Batch *b);
    /* Returns the number of scored position (t, b) of the batch that `get` returned last. The
     * number is below `places`, unique within the split and independent of the batch size, so that
     * members of an ensemble can be matched. NULL: the source is not scored. */
    int64_t (*place)(const Source *s, int64_t t, int64_t b);
    int64_t places;
    /* the stream whose window i is batch i; NULL: the batches are not windows of a stream */
    const struct Batcher *stream;
    void (*close)(Source *s);
};

static inline void source_close(Source *s)
{
    if (s) s->close(s);
}

/* Sums over scored positions. */
typedef struct Totals {
    double nats;    /* sum of -log p(target) */
    int64_t scored; /* number of positions */
    /* positions whose target has the largest logit (the lowest id among equals); they are counted
     * only if the model was opened to do so */
    int64_t hits;
} Totals;

#endif
