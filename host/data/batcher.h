/* batcher: a stream of ids -> minibatches of T steps by B rows (SPEC 4). Owns nothing, copies nothing. */
#ifndef PLSTM_BATCHER_H
#define PLSTM_BATCHER_H

#include <stdint.h>

#include "host/base/error.h"

typedef struct Batcher {
    const int32_t *ids; /* (N), the caller's */
    int64_t N, B, T;
    int64_t columns; /* floor(N/B): ids of a row */
    int64_t windows; /* floor((columns-1)/T): minibatches of an epoch */
} Batcher;

/* what names the stream in the sentence ("train"). EXIT_BAD_DATA when not even one window fits. */
int batcher_init(Batcher *b, const int32_t *ids, int64_t N, int64_t B, int64_t T, const char *what,
                 Error *e);

/* First id of row b: (2*b*N + B) div (2*B). */
int64_t batcher_row_start(const Batcher *b, int64_t row);

/* Window n: x (T,B) inputs, y (T,B) targets, both time-major, the caller's. */
void batcher_window(const Batcher *b, int64_t n, int32_t *x, int32_t *y);

#endif
