#include "host/data/stream.h"

#include <assert.h>
#include <stdlib.h>

#include "host/data/batcher.h"

typedef struct StreamSource {
    Source source;
    Batcher batcher;           /* for stream_rows */
    const int32_t *ids;        /* (n) for stream_sequential */
    int64_t n, longest;        /* for stream_sequential: number of ids; most steps per batch */
    int64_t at;                /* number of the batch that `get` returned last */
    int32_t *inputs, *targets; /* (T,B) of that batch, for stream_rows */
} StreamSource;

static void stream_close(Source *source)
{
    StreamSource *s = (StreamSource *)source;
    free(s->inputs), free(s->targets), free(s);
}

/* ---- rows ---- */

static void rows_get(Source *source, int64_t epoch, int64_t i, Batch *b)
{
    StreamSource *s = (StreamSource *)source;
    (void)epoch;
    s->at = i;
    batcher_window(&s->batcher, i, s->inputs, s->targets);
    *b = batch_of_tokens(s->batcher.T, s->batcher.B, s->inputs, s->targets);
    b->carry = i > 0;
}

static int64_t rows_place(const Source *source, int64_t t, int64_t row)
{
    const StreamSource *s = (const StreamSource *)source;
    return batcher_row_start(&s->batcher, row) + s->at * s->batcher.T + t + 1;
}

int stream_rows(const int32_t *ids, int64_t n, int64_t B, int64_t T, const char *what, Source **out,
                Error *e)
{
    Batcher batcher;
    int code = batcher_init(&batcher, ids, n, B, T, what, e);
    if (code) return code;
    StreamSource *s = calloc(1, sizeof *s);
    if (!s) return error_set(e, EXIT_FAILED, "memory ran out for the %s stream", what);
    size_t positions = (size_t)(T * B);
    s->batcher = batcher;
    s->inputs = malloc(positions * sizeof *s->inputs),
    s->targets = malloc(positions * sizeof *s->targets);
    s->source = (Source){.batches = batcher.windows,
                         .limits = {.T = T, .B = B},
                         .get = rows_get,
                         .place = rows_place,
                         .places = n,
                         .stream = &s->batcher,
                         .close = stream_close};
    *out = &s->source;
    if (s->inputs && s->targets) return EXIT_DONE;
    stream_close(&s->source);
    return error_set(e, EXIT_FAILED, "memory ran out for the %s stream", what);
}

/* ---- one row ---- */

static void sequential_get(Source *source, int64_t epoch, int64_t i, Batch *b)
{
    StreamSource *s = (StreamSource *)source;
    int64_t first = i * s->longest, left = s->n - 1 - first;
    (void)epoch;
    s->at = i;
    *b = batch_of_tokens(left < s->longest ? left : s->longest, 1, s->ids + first,
                         s->ids + first + 1);
    b->carry = i > 0;
}

static int64_t sequential_place(const Source *source, int64_t t, int64_t row)
{
    const StreamSource *s = (const StreamSource *)source;
    (void)row;
    return s->at * s->longest + t + 1;
}

int stream_sequential(const int32_t *ids, int64_t n, int64_t longest, const char *what,
                      Source **out, Error *e)
{
    assert(longest > 0);
    if (n < 2)
        return error_set(e, EXIT_BAD_DATA,
                         "the %s split has %lld token%s; scoring it needs at least 2", what,
                         (long long)n, n == 1 ? "" : "s");
    StreamSource *s = calloc(1, sizeof *s);
    if (!s) return error_set(e, EXIT_FAILED, "memory ran out for the %s stream", what);
    s->ids = ids, s->n = n, s->longest = longest;
    s->source = (Source){.batches = (n - 1 + longest - 1) / longest,
                         .limits = {.T = longest, .B = 1},
                         .get = sequential_get,
                         .place = sequential_place,
                         .places = n,
                         .close = stream_close};
    *out = &s->source;
    return EXIT_DONE;
}
