#include "batcher.h"

#include <assert.h>
#include <inttypes.h>

/* Row b starts at round(b*N/B), halves rounded up, and has c = floor(N/B) ids. No row runs past the
 * end of the stream: starts rise with b, so the last row decides. With N = c*B + r, 0 <= r < B, it
 * starts at floor((B-1)*N/B + 1/2) = floor(N - c - r/B + 1/2) = N - c + floor(1/2 - r/B) <= N - c,
 * so its last id is at most number N-1. Neighbouring starts are c or c+1 apart: rows never overlap,
 * and at most one id is left out between two of them. */
int64_t batcher_row_start(const Batcher *b, int64_t row)
{
    assert(row >= 0 && row < b->B);
    return (2 * row * b->N + b->B) / (2 * b->B);
}

int batcher_init(Batcher *b, const int32_t *ids, int64_t N, int64_t B, int64_t T, const char *what,
                 Error *e)
{
    assert(N >= 0 && B >= 1 && T >= 1);
    *b = (Batcher){.ids = ids, .N = N, .B = B, .T = T, .columns = N / B};
    b->windows = b->columns > 0 ? (b->columns - 1) / T : 0;
    if (b->windows == 0)
        return error_set(e, EXIT_BAD_DATA,
                         "the %s stream has %" PRId64 " tokens, too few for one window of %" PRId64
                         " steps in each of %" PRId64 " rows, which needs %" PRId64
                         ": use a longer text, or a smaller --batch and --seq",
                         what, N, T, B, B * (T + 1));
    return EXIT_DONE;
}

/* The last column that is read is n*T + T <= windows*T <= columns - 1. */
void batcher_window(const Batcher *b, int64_t n, int32_t *x, int32_t *y)
{
    assert(n >= 0 && n < b->windows);
    for (int64_t row = 0; row < b->B; row++) {
        const int32_t *from = b->ids + batcher_row_start(b, row) + n * b->T;
        for (int64_t t = 0; t < b->T; t++) {
            x[t * b->B + row] = from[t];
            y[t * b->B + row] = from[t + 1];
        }
    }
}
