#include "buckets.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"

enum { POOL = 50 };                                                    /* minibatches per pool */
enum { ORDER_SEQUENCES = 0x53485546, ORDER_MINIBATCHES = 0x424B4554 }; /* "SHUF", "BKET" */

/* ---- permutations ---- */

/* Returns random word number i for an epoch's permutation of kind `which`. */
static uint32_t order_word(uint64_t seed, int64_t epoch, uint32_t which, int64_t i)
{
    PhiloxBlock ctr = {{(uint32_t)(i >> 2), (uint32_t)epoch, 0, which}};
    return philox4x32_10(ctr, (uint32_t)seed, (uint32_t)(seed >> 32)).word[i & 3];
}

/* Returns the number j <= i with which element i is swapped. */
static int64_t order_draw(uint32_t word, int64_t i)
{
    return (int64_t)((uint64_t)word * (uint64_t)(i + 1) >> 32);
}

static void swap(int64_t *a, int64_t *b)
{
    int64_t kept = *a;
    *a = *b;
    *b = kept;
}

/* ---- sorting by length ---- */

struct Keyed {
    int64_t length, place, row;
};
typedef struct Keyed Keyed;

static int by_length(const void *a, const void *b)
{
    const Keyed *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Sorts row (n) stably by length, shortest first. keyed (n) is scratch. */
static void sort_by_length(int64_t *row, int64_t n, const Sequences *s, Keyed *keyed)
{
    for (int64_t i = 0; i < n; i++) keyed[i] = (Keyed){sequences_length(s, row[i]), i, row[i]};
    qsort(keyed, (size_t)n, sizeof *keyed, by_length);
    for (int64_t i = 0; i < n; i++) row[i] = keyed[i].row;
}

/* ---- minibatches ---- */

/* Permutes the minibatches of one pool. sorted (n) holds the pool's sequences; row (n) receives
 * them in the order of the permuted minibatches, and start[i + 1] the end of minibatch i. */
static void pool_order(const int64_t *sorted, int64_t n, int64_t pool, int64_t batch, uint64_t seed,
                       int64_t epoch, int64_t *row, int64_t *start)
{
    int64_t count = (n + batch - 1) / batch, turn[POOL];
    for (int64_t i = 0; i < count; i++) turn[i] = i;
    for (int64_t i = count - 1; i >= 1; i--)
        swap(&turn[i],
             &turn[order_draw(order_word(seed, epoch, ORDER_MINIBATCHES, POOL * pool + i), i)]);
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t from = turn[i] * batch, size = n - from < batch ? n - from : batch;
        memcpy(row + at, sorted + from, (size_t)size * sizeof *row);
        at += size;
        start[i + 1] = start[0] + at;
    }
}

void minibatches_order(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                       uint64_t seed, int64_t epoch)
{
    int64_t n = 0, pool_rows = POOL * batch, *order = m->order;
    for (int64_t i = 0; i < s->n; i++)
        if (max_length <= 0 || sequences_length(s, i) <= max_length) order[n++] = i;
    for (int64_t i = n - 1; i >= 1; i--)
        swap(&order[i], &order[order_draw(order_word(seed, epoch, ORDER_SEQUENCES, i), i)]);
    m->n = 0;
    for (int64_t from = 0; from < n; from += pool_rows) {
        int64_t size = n - from < pool_rows ? n - from : pool_rows;
        sort_by_length(order + from, size, s, m->keyed);
        pool_order(order + from, size, from / pool_rows, batch, seed, epoch, m->row + from,
                   m->start + m->n);
        m->n += (size + batch - 1) / batch;
    }
}

/* Allocates the arrays for n sequences in minibatches of `batch`. */
static int minibatches_init(Minibatches *m, int64_t n, int64_t batch, Error *e)
{
    memset(m, 0, sizeof *m);
    m->start = calloc((size_t)((n + batch - 1) / batch + 1), sizeof *m->start);
    m->row = malloc((size_t)(n + 1) * sizeof *m->row);
    m->order = malloc((size_t)(n + 1) * sizeof *m->order);
    m->keyed = malloc((size_t)(n + 1) * sizeof *m->keyed);
    if (m->start && m->row && m->order && m->keyed) return EXIT_DONE;
    minibatches_free(m);
    return error_set(e, EXIT_FAILED, "memory ran out while the minibatches were ordered");
}

int minibatches_train(Minibatches *m, const Sequences *s, int64_t max_length, int64_t batch,
                      uint64_t seed, int64_t epoch, Error *e)
{
    assert(batch > 0 && epoch > 0);
    int64_t n = s->n - sequences_longer(s, max_length);
    if (n < 1)
        return error_set(e, EXIT_BAD_DATA,
                         "no training sequence is left: all %" PRId64
                         " are longer than --max-length %" PRId64,
                         s->n, max_length);
    int code = minibatches_init(m, n, batch, e);
    if (!code) minibatches_order(m, s, max_length, batch, seed, epoch);
    return code;
}

int minibatches_score(Minibatches *m, const Sequences *s, int64_t batch, Error *e)
{
    assert(batch > 0);
    int code = minibatches_init(m, s->n, batch, e);
    if (code) return code;
    m->n = (s->n + batch - 1) / batch;
    for (int64_t i = 0; i < s->n; i++) m->row[i] = i;
    sort_by_length(m->row, s->n, s, m->keyed);
    for (int64_t k = 0; k <= m->n; k++) m->start[k] = k * batch < s->n ? k * batch : s->n;
    return EXIT_DONE;
}

void minibatches_free(Minibatches *m)
{
    free(m->start), free(m->row), free(m->order), free(m->keyed);
    memset(m, 0, sizeof *m);
}

int64_t minibatches_length(const Minibatches *b, const Sequences *s, int64_t k)
{
    int64_t T = 0;
    for (int64_t i = b->start[k]; i < b->start[k + 1]; i++)
        if (sequences_length(s, b->row[i]) > T) T = sequences_length(s, b->row[i]);
    return T;
}

void minibatches_fill(const Minibatches *m, const Sequences *s, int64_t k, int64_t from, int64_t T,
                      int32_t *ids, int32_t *targets, float *features)
{
    int64_t B = m->start[k + 1] - m->start[k];
    const int64_t *row = m->row + m->start[k];
    for (int64_t b = 0; b < B; b++) {
        int64_t at = s->offset[row[b]] + from, left = sequences_length(s, row[b]) - from;
        for (int64_t t = 0; t < T; t++) {
            ids[t * B + b] = t < left ? s->ids[at + t] : ID_PADDING;
            targets[t * B + b] = t < left ? s->targets[at + t] : TARGET_NONE;
        }
    }
    if (!s->features) return;
    /* Set keyed[b].place to the first row of features that column b reads in this window. */
    for (int64_t b = 0; b < B; b++) {
        int64_t *place = &m->keyed[b].place, first = s->offset[row[b]];
        *place = s->first_row[row[b]];
        for (int64_t p = first; p < first + from && from < sequences_length(s, row[b]); p++)
            *place += s->ids[p] == ID_FEATURES;
    }
    for (int64_t t = 0; t < T; t++)
        for (int64_t b = 0; b < B; b++)
            if (ids[t * B + b] == ID_FEATURES) {
                memcpy(features, s->features + m->keyed[b].place++ * s->F,
                       (size_t)s->F * sizeof *features);
                features += s->F;
            }
}

/* ---- sources ---- */

typedef struct Buckets {
    Source source;
    const Sequences *s;
    Minibatches order;
    int64_t epoch; /* to which the order belongs */
    int64_t max_length, batch;
    uint64_t seed;
    int64_t window;         /* most steps per scored batch; 0: this source is for training */
    int64_t *first_window;  /* (order.n + 1): number of the first batch of each minibatch */
    int64_t at, from;       /* minibatch and first step of the batch that `get` returned last */
    int32_t *ids, *targets; /* (limits.T, limits.B) */
    float *features;        /* (limits.features,F) */
} Buckets;

static void buckets_close(Source *source)
{
    Buckets *b = (Buckets *)source;
    minibatches_free(&b->order);
    free(b->first_window), free(b->ids), free(b->targets), free(b->features);
    free(b);
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Returns the largest sum of the counts of any `batch` sequences. counts (n) holds one count per
 * sequence; this function sorts it. */
static int64_t most_of(int64_t *counts, int64_t n, int64_t batch)
{
    int64_t sum = 0;
    qsort(counts, (size_t)n, sizeof *counts, descending);
    for (int64_t i = 0; i < n && i < batch; i++) sum += counts[i];
    return sum;
}

/* Finds bounds that hold for every order of the sequences of at most `longest` positions (0: all),
 * and allocates the arrays of a batch. */
static int limits_find(Buckets *b, int64_t longest, Error *e)
{
    const Sequences *s = b->s;
    BatchLimits *l = &b->source.limits;
    int64_t *scored = malloc(sizeof *scored * (size_t)(s->n + 1)),
            *rows = malloc(sizeof *rows * (size_t)(s->n + 1)), n = 0;
    for (int64_t i = 0; scored && rows && i < s->n; i++) {
        if (longest > 0 && sequences_length(s, i) > longest) continue;
        scored[n] = rows[n] = 0;
        for (int64_t p = s->offset[i]; p < s->offset[i + 1]; p++) {
            scored[n] += s->targets[p] != TARGET_NONE;
            rows[n] += s->ids[p] == ID_FEATURES;
        }
        if (sequences_length(s, i) > l->T) l->T = sequences_length(s, i);
        n++;
    }
    l->B = n < b->batch ? n : b->batch;
    int code = EXIT_DONE;
    if (scored && rows) {
        l->scored = most_of(scored, n, b->batch);
        l->features = most_of(rows, n, b->batch);
        /* A batch is one window of a minibatch: the bounds of both hold. */
        if (b->window && l->T > b->window) {
            l->T = b->window;
            if (l->scored > l->T * l->B) l->scored = l->T * l->B;
            if (l->features > l->T * l->B) l->features = l->T * l->B;
        }
        b->ids = malloc(sizeof *b->ids * (size_t)(l->T * l->B));
        b->targets = malloc(sizeof *b->targets * (size_t)(l->T * l->B));
        b->features = malloc(sizeof *b->features * (size_t)(l->features * s->F + 1));
    }
    if (!b->ids || !b->targets || !b->features)
        code = error_set(e, EXIT_FAILED, "memory ran out while minibatches were laid out");
    free(scored), free(rows);
    return code;
}

static void batch_fill(Buckets *b, int64_t k, int64_t from, int64_t T, Batch *out)
{
    minibatches_fill(&b->order, b->s, k, from, T, b->ids, b->targets, b->features);
    b->at = k;
    b->from = from;
    *out = (Batch){.T = T,
                   .B = b->order.start[k + 1] - b->order.start[k],
                   .ids = b->ids,
                   .targets = b->targets,
                   .carry = from > 0};
    batch_count(out);
    if (out->n_features) out->features = b->features;
}

static void train_get(Source *source, int64_t epoch, int64_t i, Batch *out)
{
    Buckets *b = (Buckets *)source;
    if (epoch != b->epoch)
        minibatches_order(&b->order, b->s, b->max_length, b->batch, b->seed, epoch);
    b->epoch = epoch;
    batch_fill(b, i, 0, minibatches_length(&b->order, b->s, i), out);
}

static void score_get(Source *source, int64_t epoch, int64_t i, Batch *out)
{
    Buckets *b = (Buckets *)source;
    (void)epoch;
    int64_t k = 0, high = b->order.n; /* the search keeps first_window[k] <= i */
    while (high - k > 1) {
        int64_t middle = (k + high) / 2;
        if (b->first_window[middle] <= i) k = middle;
        else high = middle;
    }
    int64_t from = (i - b->first_window[k]) * b->window,
            left = minibatches_length(&b->order, b->s, k) - from;
    batch_fill(b, k, from, left < b->window ? left : b->window, out);
}

static int64_t score_place(const Source *source, int64_t t, int64_t column)
{
    const Buckets *b = (const Buckets *)source;
    return b->s->offset[b->order.row[b->order.start[b->at] + column]] + b->from + t;
}

static Buckets *buckets_new(const Sequences *s, int64_t batch, Error *e)
{
    Buckets *b = calloc(1, sizeof *b);
    if (!b) error_set(e, EXIT_FAILED, "memory ran out while minibatches were laid out");
    else *b = (Buckets){.source.close = buckets_close, .s = s, .batch = batch};
    return b;
}

int buckets_train(Source **source, const Sequences *s, int64_t max_length, int64_t batch,
                  uint64_t seed, Error *e)
{
    Buckets *b = buckets_new(s, batch, e);
    if (!b) return e->code;
    b->source.get = train_get;
    b->max_length = max_length, b->seed = seed, b->epoch = 1;
    int code = minibatches_train(&b->order, s, max_length, batch, seed, 1, e);
    if (!code) code = limits_find(b, max_length, e);
    b->source.batches = b->order.n;
    if (code) buckets_close(&b->source);
    else *source = &b->source;
    return code;
}

int buckets_score(Source **source, const Sequences *s, int64_t max_length, int64_t batch, Error *e)
{
    Buckets *b = buckets_new(s, batch, e);
    if (!b) return e->code;
    b->source.get = score_get;
    b->source.place = score_place;
    b->window = max_length > 0 ? max_length : SCORE_WINDOW;
    int code = minibatches_score(&b->order, s, batch, e);
    if (!code) code = limits_find(b, 0, e);
    if (!code) b->first_window = malloc(sizeof *b->first_window * (size_t)(b->order.n + 1));
    if (!code && !b->first_window)
        code = error_set(e, EXIT_FAILED, "memory ran out while minibatches were laid out");
    for (int64_t k = 0; !code && k < b->order.n; k++) {
        b->first_window[k] = b->source.batches;
        b->source.batches += (minibatches_length(&b->order, s, k) + b->window - 1) / b->window;
    }
    b->source.places = s->n ? s->offset[s->n] : 0;
    if (code) buckets_close(&b->source);
    else *source = &b->source;
    return code;
}
