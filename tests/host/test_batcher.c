/* Tests the division of a stream into rows and windows (SPEC 4): rows computed by hand, Penn
 * Treebank's numbers, and every small size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "host/data/batcher.h"

enum { MANY = 400 };
static int32_t ids[MANY]; /* 0, 1, 2, ...: an id is its own position */

static int count_up(void **state)
{
    (void)state;
    for (int32_t i = 0; i < MANY; i++) ids[i] = i;
    return 0;
}

static void make(Batcher *b, int64_t N, int64_t B, int64_t T)
{
    Error e = {0};
    if (batcher_init(b, ids, N, B, T, "train", &e)) fail_msg("%s", e.text);
}

/* N = 11, B = 3: starts 0, 11/3 = 3.67 -> 4, 22/3 = 7.33 -> 7; rows of 3 ids; one window of T =
 * 2. */
static void rows_by_hand(void **state)
{
    (void)state;
    Batcher b;
    make(&b, 11, 3, 2);
    assert_int_equal(b.columns, 3);
    assert_int_equal(b.windows, 1);
    int32_t x[6], y[6];
    batcher_window(&b, 0, x, y);
    assert_memory_equal(x, ((int32_t[]){0, 4, 7, 1, 5, 8}), sizeof x);
    assert_memory_equal(y, ((int32_t[]){1, 5, 8, 2, 6, 9}), sizeof y);
}

/* N = 7, B = 2: row 1 starts at 3.5, which rounds up to 4; T = 1: two windows. */
static void halves_round_up(void **state)
{
    (void)state;
    Batcher b;
    make(&b, 7, 2, 1);
    assert_int_equal(batcher_row_start(&b, 0), 0);
    assert_int_equal(batcher_row_start(&b, 1), 4);
    assert_int_equal(b.columns, 3);
    assert_int_equal(b.windows, 2);
    int32_t x[2], y[2];
    batcher_window(&b, 1, x, y);
    assert_memory_equal(x, ((int32_t[]){1, 5}), sizeof x);
    assert_memory_equal(y, ((int32_t[]){2, 6}), sizeof y);
}

/* B = 1 is the stream itself; a tail shorter than a window is dropped. */
static void one_row_is_the_stream(void **state)
{
    (void)state;
    Batcher b;
    make(&b, 12, 1, 4);
    assert_int_equal(b.columns, 12);
    assert_int_equal(b.windows, 2);
    int32_t x[4], y[4];
    batcher_window(&b, 1, x, y);
    assert_memory_equal(x, ((int32_t[]){4, 5, 6, 7}), sizeof x);
    assert_memory_equal(y, ((int32_t[]){5, 6, 7, 8}), sizeof y);
}

/* Penn Treebank's training text in the paper's shapes; no id is read. */
static void penn_treebank_numbers(void **state)
{
    (void)state;
    Batcher b;
    make(&b, 929589, 20, 20);
    assert_int_equal(b.columns, 46479);
    assert_int_equal(b.windows, 2323);
    assert_int_equal(batcher_row_start(&b, 1), 46479);   /* 46479.45 */
    assert_int_equal(batcher_row_start(&b, 2), 92959);   /* 92958.9 */
    assert_int_equal(batcher_row_start(&b, 10), 464795); /* 464794.5 */
    assert_int_equal(batcher_row_start(&b, 19), 883110); /* 883109.55 */
    make(&b, 929589, 20, 35);
    assert_int_equal(b.windows, 1327);
    make(&b, 73760, 20, 20);
    assert_int_equal(b.windows, 184);
    make(&b, (int64_t)1 << 40, 65536, 35); /* far beyond 32 bits */
    assert_int_equal(batcher_row_start(&b, 65535), ((int64_t)1 << 40) - (1 << 24));
}

/* For every N < 120, B < 13 and T < 9, rows start at the rounded quotient, never overlap and stay
 * inside the stream; the windows of a row are its ids in order, and each target is the next
 * input. */
static void every_small_size(void **state)
{
    (void)state;
    int32_t x[13 * 9], y[13 * 9];
    for (int64_t N = 0; N < 120; N++)
        for (int64_t B = 1; B < 13; B++)
            for (int64_t T = 1; T < 9; T++) {
                Batcher b;
                Error e = {0};
                int code = batcher_init(&b, ids, N, B, T, "valid", &e);
                assert_int_equal(code, N < B * (T + 1) ? EXIT_BAD_DATA : EXIT_DONE);
                if (code) continue;
                assert_int_equal(b.windows, (N / B - 1) / T);
                for (int64_t row = 0; row < B; row++) {
                    int64_t start = batcher_row_start(&b, row);
                    assert_true(2 * B * start <= 2 * row * N + B &&
                                2 * row * N + B < 2 * B * (start + 1));
                    assert_true(start + b.columns <=
                                (row + 1 < B ? batcher_row_start(&b, row + 1) : N));
                }
                for (int64_t n = 0; n < b.windows; n++) {
                    batcher_window(&b, n, x, y);
                    for (int64_t t = 0; t < T; t++)
                        for (int64_t row = 0; row < B; row++) {
                            assert_int_equal(x[t * B + row],
                                             batcher_row_start(&b, row) + n * T + t);
                            assert_int_equal(y[t * B + row], x[t * B + row] + 1);
                        }
                }
            }
}

static void short_stream_is_refused_in_one_sentence(void **state)
{
    (void)state;
    static const struct {
        int64_t N, B, T;
    } cases[] = {{0, 1, 1}, {1, 1, 1}, {19, 20, 1}, {419, 20, 20}, {719, 20, 35}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Batcher b;
        Error e = {0};
        assert_int_equal(batcher_init(&b, ids, cases[i].N, cases[i].B, cases[i].T, "train", &e),
                         EXIT_BAD_DATA);
        assert_int_equal(e.code, EXIT_BAD_DATA);
        assert_non_null(strstr(e.text, "the train stream has"));
        assert_null(strchr(e.text, '\n'));
        assert_int_equal(b.windows, 0);
        if (cases[i].N == 419) assert_non_null(strstr(e.text, "needs 420"));
        /* If exactly one token is missing, one more token makes the stream fit. */
        if (cases[i].N == cases[i].B * (cases[i].T + 1) - 1)
            assert_int_equal(
                batcher_init(&b, ids, cases[i].N + 1, cases[i].B, cases[i].T, "train", &e),
                EXIT_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_by_hand),
        cmocka_unit_test(halves_round_up),
        cmocka_unit_test(one_row_is_the_stream),
        cmocka_unit_test(penn_treebank_numbers),
        cmocka_unit_test(every_small_size),
        cmocka_unit_test(short_stream_is_refused_in_one_sentence),
    };
    return cmocka_run_group_tests_name("batcher", tests, count_up, NULL);
}
