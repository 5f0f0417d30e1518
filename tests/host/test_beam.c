/* Tests beam search on toy models: against an exhaustive search, against a second beam search that
 * sorts all candidates, on ties computed by hand, and with a beam of one, which takes the best word
 * at each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/train/beam.h"
#include "kernels/philox.h"

enum { V = 4, END = 1, MOST = 5 };

/* Writes a toy model's log-probabilities after a prefix to logp (V), drawn from a hash of the
 * prefix. */
static void toy(uint64_t seed, const int32_t *words, int64_t n, double *logp)
{
    uint64_t key = 1;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) key = key * 5 + (uint64_t)words[i] + 1;
    PhiloxBlock draw = philox_block(seed, 0, key);
    for (int i = 0; i < V; i++) sum += logp[i] = pow(draw.word[i] * 0x1p-32 + 0.01, 2);
    for (int i = 0; i < V; i++) logp[i] = log(logp[i] / sum);
}

static void search(Beam *b, uint64_t seed, int64_t most, double penalty)
{
    Error e;
    assert_int_equal(beam_begin(b, most, &e), EXIT_DONE);
    while (b->live) {
        for (int64_t i = 0; i < b->live; i++) {
            double logp[V];
            toy(seed, b->now[i].words, b->now[i].n, logp);
            beam_offer(b, i, logp);
        }
        beam_advance(b);
    }
    beam_end(b, penalty);
}

/* Searches all complete sequences of at most `most` steps for the one with the best score. */
static void exhaust(uint64_t seed, int32_t *words, int64_t n, int64_t most, double logp,
                    double penalty, Hypothesis *best)
{
    double p[V];
    if (n == most) return;
    toy(seed, words, n, p);
    double score = (logp + p[END]) / pow((double)(n + 1), penalty);
    if (score > best->score) {
        best->score = score;
        best->logp = logp + p[END];
        best->n = n;
        memcpy(best->words, words, sizeof *words * (size_t)n);
    }
    for (int32_t w = 0; w < V; w++) {
        if (w == END) continue;
        words[n] = w;
        exhaust(seed, words, n + 1, most, logp + p[w], penalty, best);
    }
}

static void check_same(const Hypothesis *a, const Hypothesis *b)
{
    assert_float_equal(a->logp, b->logp, 1e-12);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->words, b->words, sizeof *a->words * (size_t)a->n);
}

static void a_wide_beam_finds_what_exhaustive_search_finds(void **state)
{
    (void)state;
    static const double penalty[] = {0, 0.6, 1};
    Beam b;
    Error e;
    assert_int_equal(beam_init(&b, V, 400, END, &e), EXIT_DONE); /* more than 3^5 sequences */
    for (uint64_t seed = 0; seed < 300; seed++) {
        int32_t words[MOST], found[MOST];
        Hypothesis best = {.score = -INFINITY, .words = found};
        exhaust(seed, words, 0, MOST, 0, penalty[seed % 3], &best);
        search(&b, seed, MOST, penalty[seed % 3]);
        assert_int_equal(b.n_done, 1 + 3 + 9 + 27 + 81); /* every sequence that ends */
        check_same(&b.done[0], &best);
        assert_float_equal(b.done[0].score, best.score, 1e-12);
        for (int64_t i = 1; i < b.n_done; i++) assert_true(b.done[i].score <= b.done[i - 1].score);
    }
    beam_free(&b);
}

/* A hypothesis of the second search, which follows the same rules but sorts all candidates. */
typedef struct Plain {
    double logp, score;
    int64_t n, parent;
    int32_t words[MOST + 1], last;
} Plain;

static int better(const void *a, const void *b)
{
    const Plain *x = a, *y = b;
    if (x->logp != y->logp) return x->logp > y->logp ? -1 : 1;
    if (x->parent != y->parent) return x->parent < y->parent ? -1 : 1;
    return x->last - y->last;
}

static int64_t plain_search(uint64_t seed, int64_t width, int64_t most, Plain *done)
{
    Plain live[16] = {{0}}, all[64];
    int64_t n_live = 1, n_done = 0;
    for (int64_t step = 0; step < most && n_live; step++) {
        int64_t n = 0, kept = 0;
        for (int64_t i = 0; i < n_live; i++) {
            double logp[V];
            toy(seed, live[i].words, live[i].n, logp);
            for (int32_t w = 0; w < V; w++) {
                all[n] = live[i];
                all[n].logp += logp[w];
                all[n].parent = i;
                all[n].last = w;
                all[n].words[all[n].n++] = w;
                n++;
            }
        }
        qsort(all, (size_t)n, sizeof *all, better);
        int64_t take = width - n_done < n ? width - n_done : n;
        for (int64_t i = 0; i < take; i++)
            if (all[i].last == END) done[n_done++] = all[i];
            else live[kept++] = all[i];
        n_live = kept;
    }
    return n_done;
}

static void a_narrow_beam_follows_the_rules(void **state)
{
    (void)state;
    for (int64_t width = 1; width <= 6; width++) {
        Beam b;
        Error e;
        assert_int_equal(beam_init(&b, V, width, END, &e), EXIT_DONE);
        for (uint64_t seed = 0; seed < 200; seed++) {
            Plain done[8];
            int64_t n = plain_search(seed, width, MOST, done);
            search(&b, seed, MOST, 0);
            if (!n) {
                assert_true(b.unfinished);
                continue;
            }
            assert_int_equal(b.n_done, n);
            double best = -INFINITY;
            for (int64_t i = 0; i < n; i++) best = fmax(best, done[i].logp);
            assert_float_equal(b.done[0].score, best, 1e-12);
        }
        beam_free(&b);
    }
}

static void a_beam_of_one_is_greedy(void **state)
{
    (void)state;
    Beam b;
    Error e;
    assert_int_equal(beam_init(&b, V, 1, END, &e), EXIT_DONE);
    for (uint64_t seed = 0; seed < 100; seed++) {
        int32_t words[MOST], word = -1;
        int64_t n = 0;
        double logp[V], sum = 0;
        for (; n < MOST; words[n++] = word) {
            toy(seed, words, n, logp);
            word = 0;
            for (int32_t w = 1; w < V; w++)
                if (logp[w] > logp[word]) word = w;
            sum += logp[word];
            if (word == END) break;
        }
        search(&b, seed, MOST, 0);
        assert_int_equal(b.n_done, 1);
        assert_int_equal(b.unfinished, word != END);
        assert_int_equal(b.done[0].n, n);
        assert_memory_equal(b.done[0].words, words, sizeof *words * (size_t)n);
        assert_float_equal(b.done[0].logp, sum, 1e-12);
    }
    beam_free(&b);
}

/* If all words are equally likely, the lower parent wins, then the lower id. */
static void ties_go_to_the_lower_parent_then_the_lower_word(void **state)
{
    (void)state;
    static const double alike[V] = {-1, -1, -1, -1};
    Beam b;
    Error e;
    assert_int_equal(beam_init(&b, V, 3, END, &e), EXIT_DONE);
    assert_int_equal(beam_begin(&b, 9, &e), EXIT_DONE);
    beam_offer(&b, 0, alike);
    beam_advance(&b); /* the best three words: 0, <end>, 2 */
    assert_int_equal(b.live, 2);
    assert_int_equal(b.n_done, 1);
    assert_int_equal(b.word[0], 0);
    assert_int_equal(b.word[1], 2);
    beam_offer(&b, 0, alike);
    beam_offer(&b, 1, alike);
    beam_advance(&b); /* two places are left: 0 0 and 0 <end> */
    assert_int_equal(b.live, 1);
    assert_int_equal(b.parent[0], 0);
    assert_int_equal(b.word[0], 0);
    assert_int_equal(b.n_done, 2);
    beam_end(&b, 0);
    assert_float_equal(b.done[0].score, -1, 0);
    assert_int_equal(b.done[0].n, 0);
    assert_float_equal(b.done[1].score, -2, 0);
    beam_free(&b);
}

static void the_penalty_divides_by_the_length_with_its_end(void **state)
{
    (void)state;
    /* The end at once scores -1; three words and the end score -0.1 - 0.1 - 0.1 - 1.5 = -1.8. */
    static const double first[V] = {-0.1, -1, -9, -9}, last[V] = {-8, -1.5, -9, -9};
    for (int pass = 0; pass < 2; pass++) {
        Beam b;
        Error e;
        assert_int_equal(beam_init(&b, V, 2, END, &e), EXIT_DONE);
        assert_int_equal(beam_begin(&b, 9, &e), EXIT_DONE);
        for (int step = 0; b.live; step++) {
            for (int64_t i = 0; i < b.live; i++) beam_offer(&b, i, step < 3 ? first : last);
            beam_advance(&b);
        }
        beam_end(&b, pass);
        assert_int_equal(b.done[0].n, pass ? 3 : 0);
        assert_float_equal(b.done[0].score, pass ? -1.8 / 4 : -1, 1e-12);
        beam_free(&b);
    }
}

static void unfinished_ones_count_if_none_finished(void **state)
{
    (void)state;
    static const double never[V] = {-1, -INFINITY, -2, -3};
    Beam b;
    Error e;
    assert_int_equal(beam_init(&b, V, 2, END, &e), EXIT_DONE);
    assert_int_equal(beam_begin(&b, 3, &e), EXIT_DONE);
    int steps = 0;
    for (; b.live; steps++) {
        for (int64_t i = 0; i < b.live; i++) beam_offer(&b, i, never);
        beam_advance(&b);
    }
    beam_end(&b, 1);
    assert_int_equal(steps, 3);
    assert_true(b.unfinished);
    assert_int_equal(b.n_done, 2);
    assert_int_equal(b.done[0].n, 3);
    assert_float_equal(b.done[0].score, -1, 1e-12); /* without an end, three words count */
    beam_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wide_beam_finds_what_exhaustive_search_finds),
        cmocka_unit_test(a_narrow_beam_follows_the_rules),
        cmocka_unit_test(a_beam_of_one_is_greedy),
        cmocka_unit_test(ties_go_to_the_lower_parent_then_the_lower_word),
        cmocka_unit_test(the_penalty_divides_by_the_length_with_its_end),
        cmocka_unit_test(unfinished_ones_count_if_none_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
