/* Tests sequences and the order of their minibatches: the known answers of TASKS 3, a second
 * computation of the permutations that shares no code with the first, the layout of a padded
 * minibatch, and the corpus hash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "host/data/buckets.h"
#include "kernels/philox.h"

static const uint64_t known_seed = 4886718345u;

/* Sequence i has length[i] positions with ids 100 * i + t and targets -1, except for the last,
 * whose target is i. */
static Sequences with_lengths(const int64_t *length, int64_t n)
{
    Sequences s = {0};
    Error e;
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(sequences_append(&s, length[i], &e), EXIT_DONE);
        for (int64_t t = 0; t < length[i]; t++) {
            s.ids[s.offset[i] + t] = (int32_t)(100 * i + t);
            s.targets[s.offset[i] + t] = t == length[i] - 1 ? (int32_t)i : TARGET_NONE;
        }
    }
    return s;
}

static Minibatches trained(const Sequences *s, int64_t max_length, int64_t batch, uint64_t seed,
                           int64_t epoch)
{
    Minibatches b;
    Error e;
    if (minibatches_train(&b, s, max_length, batch, seed, epoch, &e)) fail_msg("%s", e.text);
    return b;
}

static void check_rows(const int64_t *row, const int64_t *expected, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (row[i] != expected[i])
            fail_msg("place %d has sequence %d, not %d", (int)i, (int)row[i], (int)expected[i]);
}

/* ---- the known answers ---- */

static void ten_sequences_in_threes(void **state)
{
    (void)state;
    static const int64_t length[] = {3, 5, 4, 3, 6, 5, 3, 4, 7, 3};
    static const int64_t row[] = {3, 0, 6, 1, 5, 4, 8, 9, 2, 7}, start[] = {0, 3, 6, 7, 10};
    Sequences s = with_lengths(length, 10);
    Minibatches b = trained(&s, 0, 3, known_seed, 1);
    assert_int_equal(b.n, 4);
    check_rows(b.row, row, 10);
    check_rows(b.start, start, 5);
    minibatches_free(&b);
    sequences_free(&s);
}

static void a_permutation_of_ten(void **state)
{
    (void)state;
    /* With equal lengths and minibatches of ten there is one pool and one minibatch, the
     * permutation itself. */
    static const int64_t length[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                         row[] = {8, 1, 3, 5, 2, 0, 6, 7, 9, 4};
    Sequences s = with_lengths(length, 10);
    Minibatches b = trained(&s, 0, 10, known_seed, 1);
    assert_int_equal(b.n, 1);
    check_rows(b.row, row, 10);
    minibatches_free(&b);
    sequences_free(&s);
}

static void two_pools_of_single_sequences(void **state)
{
    (void)state;
    static const int64_t first[] = {13, 44, 6, 29, 55}, last[] = {0, 22, 4, 30, 7, 46, 41};
    int64_t length[57];
    for (int i = 0; i < 57; i++) length[i] = 7 * i % 11 + 1;
    Sequences s = with_lengths(length, 57);
    Minibatches b = trained(&s, 0, 1, known_seed, 1);
    assert_int_equal(b.n, 57);
    check_rows(b.row, first, 5);
    check_rows(b.row + 50, last, 7);
    minibatches_free(&b);
    sequences_free(&s);
}

/* ---- against a second computation ---- */

static uint32_t word_of(uint64_t seed, uint32_t epoch, uint32_t which, uint32_t i)
{
    PhiloxBlock ctr = {{i / 4, epoch, 0, which}};
    return philox4x32_10(ctr, (uint32_t)(seed & 0xffffffffu), (uint32_t)(seed >> 32)).word[i % 4];
}

static void the_words_begin_as_known(void **state)
{
    (void)state;
    assert_int_equal(word_of(known_seed, 1, 0x53485546, 0), 0xc523279b);
    assert_int_equal(word_of(known_seed, 1, 0x53485546, 1), 0xd39102e7);
}

/* Computes the order of the minibatches in a slow, simple way: insertion sort, then permutation of
 * arrays of minibatches. */
static void plain_order(const Sequences *s, int64_t max_length, int batch, uint64_t seed,
                        uint32_t epoch, int64_t *row, int64_t *size, int *minibatches)
{
    int64_t order[512];
    int n = 0, made = 0, at = 0;
    for (int i = 0; i < s->n; i++)
        if (!max_length || s->offset[i + 1] - s->offset[i] <= max_length) order[n++] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)((uint64_t)word_of(seed, epoch, 0x53485546, (uint32_t)i) * (uint64_t)(i + 1) >>
                      32);
        int64_t kept = order[i];
        order[i] = order[j], order[j] = kept;
    }
    for (int pool = 0; pool * 50 * batch < n; pool++) {
        int from = pool * 50 * batch, end = from + 50 * batch < n ? from + 50 * batch : n;
        for (int i = from + 1; i < end; i++)
            for (int k = i;
                 k > from && sequences_length(s, order[k - 1]) > sequences_length(s, order[k]);
                 k--) {
                int64_t kept = order[k];
                order[k] = order[k - 1], order[k - 1] = kept;
            }
        int count = (end - from + batch - 1) / batch, turn[50];
        for (int i = 0; i < count; i++) turn[i] = i;
        for (int i = count - 1; i > 0; i--) {
            uint32_t word = word_of(seed, epoch, 0x424B4554, (uint32_t)(50 * pool + i));
            int j = (int)((uint64_t)word * (uint64_t)(i + 1) >> 32), kept = turn[i];
            turn[i] = turn[j], turn[j] = kept;
        }
        for (int i = 0; i < count; i++) {
            int first = from + turn[i] * batch, last = first + batch < end ? first + batch : end;
            size[made++] = last - first;
            for (int k = first; k < last; k++) row[at++] = order[k];
        }
    }
    *minibatches = made;
}

static void the_order_is_that_of_a_plain_computation(void **state)
{
    (void)state;
    static const struct {
        int n, batch;
        int64_t max_length;
    } c[] = {{1, 1, 0},   {1, 7, 0},   {57, 1, 0},   {300, 4, 0},
             {401, 4, 9}, {200, 3, 5}, {150, 3, 12}, {50, 50, 0}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        for (uint32_t epoch = 1; epoch <= 3; epoch++) {
            int64_t length[512], row[512], size[512], at = 0;
            int minibatches;
            for (int k = 0; k < c[i].n; k++) length[k] = 5 * k % 13 + 1;
            Sequences s = with_lengths(length, c[i].n);
            Minibatches b = trained(&s, c[i].max_length, c[i].batch, 77 + i, epoch);
            plain_order(&s, c[i].max_length, c[i].batch, 77 + i, epoch, row, size, &minibatches);
            assert_int_equal(b.n, minibatches);
            for (int k = 0; k < minibatches; k++, at = b.start[k])
                assert_int_equal(b.start[k + 1] - b.start[k], size[k]);
            assert_int_equal(c[i].n - at, sequences_longer(&s, c[i].max_length));
            check_rows(b.row, row, at);
            minibatches_free(&b);
            sequences_free(&s);
        }
}

static void nothing_left_is_refused(void **state)
{
    (void)state;
    static const int64_t length[] = {4, 9};
    Sequences s = with_lengths(length, 2);
    Minibatches b;
    Error e;
    assert_int_equal(minibatches_train(&b, &s, 3, 1, 1, 1, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "--max-length 3"));
    assert_int_equal(sequences_longer(&s, 4), 1);
    assert_int_equal(sequences_longer(&s, 0), 0);
    sequences_free(&s);
}

/* ---- scoring, padding, hash ---- */

static void scoring_goes_by_length_and_file_order(void **state)
{
    (void)state;
    static const int64_t length[] = {3, 5, 4, 3, 6, 5, 3}, row[] = {0, 3, 6, 2, 1, 5, 4},
                         start[] = {0, 3, 6, 7};
    Sequences s = with_lengths(length, 7);
    Minibatches b;
    Error e;
    assert_int_equal(minibatches_score(&b, &s, 3, &e), EXIT_DONE);
    assert_int_equal(b.n, 3);
    check_rows(b.row, row, 7);
    check_rows(b.start, start, 4);
    assert_int_equal(minibatches_length(&b, &s, 0), 3);
    assert_int_equal(minibatches_length(&b, &s, 1), 5);
    minibatches_free(&b);
    sequences_free(&s);
}

static void a_minibatch_is_padded_at_its_end(void **state)
{
    (void)state;
    static const int64_t length[] = {2, 3};
    static const int32_t ids[] = {0, 100, 1, 101, -2, 102, -2, -2},
                         targets[] = {-1, -1, 0, -1, -1, 1, -1, -1};
    int32_t x[8], y[8];
    Sequences s = with_lengths(length, 2);
    Minibatches b;
    Error e;
    assert_int_equal(minibatches_score(&b, &s, 2, &e), EXIT_DONE);
    minibatches_fill(&b, &s, 0, 0, 4, x, y, NULL);
    assert_memory_equal(x, ids, sizeof ids);
    assert_memory_equal(y, targets, sizeof targets);
    /* A window of a long minibatch: positions 1 and 2. */
    minibatches_fill(&b, &s, 0, 1, 2, x, y, NULL);
    assert_memory_equal(x, ids + 2, 4 * sizeof *ids);
    assert_memory_equal(y, targets + 2, 4 * sizeof *ids);
    minibatches_fill(&b, &s, 0, 3, 1, x, y, NULL); /* beyond the end of both */
    assert_memory_equal(x, ids + 6, 2 * sizeof *ids);
    minibatches_free(&b);
    sequences_free(&s);
}

/* The expected hash is that of the int32 values in `flat`: length, ids and targets of each
 * sequence. */
static void the_hash_is_over_lengths_ids_targets(void **state)
{
    (void)state;
    static const int64_t length[] = {2, 1};
    static const int32_t flat[] = {2, 0, 1, -1, 0, 1, 100, 1};
    char ours[65], plain[65];
    Sequences s = with_lengths(length, 2);
    SHA2_CTX sha;
    SHA256Init(&sha);
    sequences_hash(&s, &sha);
    SHA256End(&sha, ours);
    SHA256Data((const uint8_t *)flat, sizeof flat, plain);
    assert_string_equal(ours, plain);
    sequences_free(&s);
}

static void a_long_sequence_hashes_alike(void **state)
{
    (void)state;
    int64_t length = 3000; /* more than one piece of the hash's buffer */
    int32_t *flat = malloc(sizeof *flat * (size_t)(1 + 2 * length));
    char ours[65], plain[65];
    Sequences s = with_lengths(&length, 1);
    flat[0] = (int32_t)length;
    memcpy(flat + 1, s.ids, sizeof *flat * (size_t)length);
    memcpy(flat + 1 + length, s.targets, sizeof *flat * (size_t)length);
    SHA2_CTX sha;
    SHA256Init(&sha);
    sequences_hash(&s, &sha);
    SHA256End(&sha, ours);
    SHA256Data((const uint8_t *)flat, sizeof *flat * (size_t)(1 + 2 * length), plain);
    assert_string_equal(ours, plain);
    free(flat);
    sequences_free(&s);
}

/* ---- sources ---- */

static void a_source_of_training_gives_the_order_of_each_epoch(void **state)
{
    (void)state;
    int64_t length[57];
    for (int i = 0; i < 57; i++) length[i] = 7 * i % 11 + 1;
    Sequences s = with_lengths(length, 57);
    Source *source;
    Error e;
    assert_int_equal(buckets_train(&source, &s, 9, 4, known_seed, &e), EXIT_DONE);
    assert_int_equal(source->limits.T, 9);
    assert_int_equal(source->limits.B, 4);
    assert_int_equal(source->limits.scored, 4);
    static const int64_t epoch[] = {1, 2, 1, 5};
    for (int n = 0; n < 4; n++) {
        Minibatches m;
        assert_int_equal(minibatches_train(&m, &s, 9, 4, known_seed, epoch[n], &e), EXIT_DONE);
        assert_int_equal(source->batches, m.n);
        for (int64_t i = m.n - 1; i >= 0; i--) {
            Batch b;
            int32_t ids[36], targets[36];
            source->get(source, epoch[n], i, &b);
            minibatches_fill(&m, &s, i, 0, b.T, ids, targets, NULL);
            assert_int_equal(b.T, minibatches_length(&m, &s, i));
            assert_int_equal(b.B, m.start[i + 1] - m.start[i]);
            assert_memory_equal(b.ids, ids, sizeof *ids * (size_t)(b.T * b.B));
            assert_memory_equal(b.targets, targets, sizeof *ids * (size_t)(b.T * b.B));
            assert_int_equal(b.n_scored, b.B);
            assert_false(b.carry);
        }
        minibatches_free(&m);
    }
    source_close(source);
    sequences_free(&s);
}

/* Every position occurs once, at the same place for any batch size and window length. */
static void scored_positions_come_once(void **state)
{
    (void)state;
    static const int64_t length[] = {3, 11, 1, 25, 4, 25, 9};
    Sequences s = with_lengths(length, 7);
    for (int64_t i = 0; i < s.offset[7]; i++) s.targets[i] = (int32_t)i;
    static const int64_t batch[] = {1, 2, 3, 7, 20}, window[] = {0, 1, 4, 24, 25};
    for (int n = 0; n < 25; n++) {
        Source *source;
        Error e;
        int seen[78] = {0};
        int64_t T = window[n / 5] ? window[n / 5] : SCORE_WINDOW;
        assert_int_equal(buckets_score(&source, &s, window[n / 5], batch[n % 5], &e), EXIT_DONE);
        assert_int_equal(source->places, 78);
        assert_int_equal(source->limits.T, T < 25 ? T : 25);
        for (int64_t i = 0; i < source->batches; i++) {
            Batch b;
            int64_t scored = 0;
            source->get(source, 1, i, &b);
            assert_true(b.T <= source->limits.T && b.B <= source->limits.B);
            for (int64_t t = 0; t < b.T; t++)
                for (int64_t c = 0; c < b.B; c++) {
                    int32_t target = b.targets[t * b.B + c];
                    if (target == TARGET_NONE) continue;
                    scored++;
                    seen[target]++;
                    assert_int_equal(source->place(source, t, c), target);
                    /* A window after the first continues with the state of the positions before
                     * it. */
                    if (!t) assert_int_equal(b.carry, b.ids[c] % 100 > 0);
                }
            assert_int_equal(scored, b.n_scored);
            assert_true(b.n_scored <= source->limits.scored);
        }
        for (int i = 0; i < 78; i++) assert_int_equal(seen[i], 1);
        source_close(source);
    }
    sequences_free(&s);
}

/* Two sequences have a feature row at their first position, and one has rows at all three. */
static void feature_rows_come_in_the_order_of_positions(void **state)
{
    (void)state;
    static const int64_t length[] = {2, 3, 2}, first_row[] = {4, 0, 3};
    static const float features[] = {0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 3.5f, 4, 4.5f};
    Sequences s = with_lengths(length, 3);
    s.features = features, s.first_row = first_row, s.F = 2;
    s.ids[0] = s.ids[2] = s.ids[3] = s.ids[4] = s.ids[5] = ID_FEATURES;
    for (int window = 0; window < 3; window++) {
        /* The rows are sequences 0, 2, 1 (sorted); t = 0 has feature rows 4, 3, 0, t = 1 has 1, and
         * t = 2 has 2. */
        static const float whole[] = {4, 3, 0, 1, 2};
        Source *source;
        Error e;
        int64_t at = 0;
        assert_int_equal(buckets_score(&source, &s, window, 3, &e), EXIT_DONE);
        for (int64_t i = 0; i < source->batches; i++) {
            Batch b;
            source->get(source, 1, i, &b);
            assert_true(b.n_features <= source->limits.features);
            for (int64_t k = 0; k < b.n_features; k++, at++) {
                assert_float_equal(b.features[2 * k], whole[at], 0);
                assert_float_equal(b.features[2 * k + 1], whole[at] + 0.5f, 0);
            }
        }
        assert_int_equal(at, 5);
        source_close(source);
    }
    sequences_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_words_begin_as_known),
        cmocka_unit_test(a_permutation_of_ten),
        cmocka_unit_test(ten_sequences_in_threes),
        cmocka_unit_test(two_pools_of_single_sequences),
        cmocka_unit_test(the_order_is_that_of_a_plain_computation),
        cmocka_unit_test(nothing_left_is_refused),
        cmocka_unit_test(scoring_goes_by_length_and_file_order),
        cmocka_unit_test(a_minibatch_is_padded_at_its_end),
        cmocka_unit_test(the_hash_is_over_lengths_ids_targets),
        cmocka_unit_test(a_long_sequence_hashes_alike),
        cmocka_unit_test(a_source_of_training_gives_the_order_of_each_epoch),
        cmocka_unit_test(scored_positions_come_once),
        cmocka_unit_test(feature_rows_come_in_the_order_of_positions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
