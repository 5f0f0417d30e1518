/* batcher: cuts a stream of ids into minibatches of T steps by B rows (SPEC 4). A Batcher allocates
 * nothing and keeps no copy of the stream. */
#ifndef PLSTM_BATCHER_H
#define PLSTM_BATCHER_H

#include <stdint.h>

#include "host/base/error.h"

typedef struct Batcher {
    const int32_t *ids; /* (N), owned by the caller */
    int64_t N, B, T;
    int64_t columns; /* ids per row: floor(N/B) */
    int64_t windows; /* minibatches per epoch: floor((columns-1)/T) */
} Batcher;

/* Sets up *b for a stream of ids (N), which must outlive *b. `what` names the stream in the
 * sentence ("train"). EXIT_BAD_DATA: the stream is too short for one window. */
int batcher_init(Batcher *b, const int32_t *ids, int64_t N, int64_t B, int64_t T, const char *what,
                 Error *e);

/* Returns the index of the first id of a row: (2*row*N + B) div (2*B). */
int64_t batcher_row_start(const Batcher *b, int64_t row);

/* Copies window n: inputs to x (T,B) and targets to y (T,B), both time-major and owned by the
 * caller. */
void batcher_window(const Batcher *b, int64_t n, int32_t *x, int32_t *y);

#endif
