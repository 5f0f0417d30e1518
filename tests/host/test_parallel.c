/* Tests the built-in parallel corpus: its texts are sentences of both languages, the translator's
 * probabilities sum to one over all possible translations, and the drawn translations have that
 * distribution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/settings.h"
#include "host/data/pairs.h"
#include "host/data/parallel.h"

/* Returns the next line of *text and advances *text past it. */
static const char *line_next(char **text)
{
    char *line = *text, *end = strchr(line, '\n');
    assert_non_null(end);
    *end = 0;
    *text = end + 1;
    return line;
}

static void text_of(int split, char *bytes[2])
{
    Error e;
    assert_int_equal(parallel_text(split, bytes, &e), EXIT_DONE);
}

static int words_of(const char *line)
{
    int n = 1;
    for (; *line; line++) n += *line == ' ';
    return n;
}

static void every_line_is_a_translation(void **state)
{
    (void)state;
    for (int split = 0; split < PARALLEL_SPLITS; split++) {
        char *bytes[2], *at[2];
        text_of(split, bytes);
        double sum = 0, best;
        Error e;
        at[0] = bytes[0], at[1] = bytes[1];
        for (int64_t k = 0; k < parallel_pairs[split]; k++) {
            const char *source = line_next(&at[0]), *target = line_next(&at[1]);
            double nats = parallel_nats(source, target);
            sum += nats;
            if (!isfinite(nats) || nats < 0) fail_msg("%s -> %s: %g", source, target, nats);
            assert_true(isinf(parallel_nats(source, source)));
            assert_true(isnan(parallel_nats(target, target)));
        }
        assert_int_equal(parallel_best(split, &best, &e), EXIT_DONE);
        assert_float_equal(best, sum, 1e-9 * sum);
        assert_string_equal(at[0], "");
        assert_string_equal(at[1], "");
        free(bytes[0]), free(bytes[1]);
    }
}

static void no_word_is_unknown(void **state)
{
    (void)state;
    Pairs p;
    PairsOptions o = {.dir = "synthetic", .min_count = 2, .wanted = EVAL_ALL};
    Error e;
    assert_int_equal(pairs_load(&p, &o, &e), EXIT_DONE);
    for (int split = 0; split < PARALLEL_SPLITS; split++) {
        assert_int_equal(p.split[split].rows.n, parallel_pairs[split]);
        assert_int_equal(p.split[split].unknown[0] + p.split[split].unknown[1], 0);
    }
    assert_true(p.synthetic);
    pairs_free(&p);
}

/* ---- the probabilities ---- */

typedef struct Words {
    int n;
    char word[16][32];
} Words;

static Words split_line(const char *line)
{
    Words w = {0};
    char copy[512], *save;
    strcpy(copy, line);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        strcpy(w.word[w.n++], word);
    return w;
}

static const char *join(const Words *w)
{
    static char line[512];
    line[0] = 0;
    for (int i = 0; i < w->n; i++) strcat(strcat(line, i ? " " : ""), w->word[i]);
    return line;
}

/* Returns every type of the target's training text. */
static Vocab target_types(void)
{
    Pairs p;
    PairsOptions o = {.dir = "synthetic", .min_count = 1, .wanted = EVAL_ALL};
    Error e;
    Vocab v;
    assert_int_equal(pairs_load(&p, &o, &e), EXIT_DONE);
    assert_int_equal(vocab_copy(&v, &p.vocab[SIDE_TARGET]), 0);
    pairs_free(&p);
    return v;
}

/* Returns the sum of the probabilities of all sentences that have at each position of w any type
 * that is possible there: the types possible at one position do not depend on the other
 * positions. */
static double sum_around(const char *source, Words w, const Vocab *v, double *entropy)
{
    static char may[16][8][32];
    int n[16] = {0}, at[16] = {0};
    for (int i = 0; i < w.n; i++) {
        char kept[32];
        strcpy(kept, w.word[i]);
        for (int32_t id = 0; id < v->V; id++) {
            size_t length;
            const char *type = vocab_type(v, id, &length);
            memcpy(w.word[i], type, length);
            w.word[i][length] = 0;
            if (!isfinite(parallel_nats(source, join(&w)))) continue;
            assert_true(n[i] < 8);
            strcpy(may[i][n[i]++], w.word[i]);
        }
        strcpy(w.word[i], kept);
        assert_true(n[i] > 0);
    }
    double sum = 0;
    for (;;) {
        for (int i = 0; i < w.n; i++) strcpy(w.word[i], may[i][at[i]]);
        double nats = parallel_nats(source, join(&w));
        sum += exp(-nats);
        *entropy += exp(-nats) * nats;
        int i = 0;
        while (i < w.n && ++at[i] == n[i]) at[i++] = 0;
        if (i == w.n) return sum;
    }
}

/* Stores in *other the same words with the prepositional phrase at its other position. Returns
 * whether there is such a phrase. */
static bool other_order(const Words *w, Words *other)
{
    static const char *const preposition[] = {"ne", "su", "sot", "kon"};
    int at = -1, adverb = strstr(w->word[0], "mente") != NULL;
    for (int i = 0; i < w->n; i++)
        for (int p = 0; p < 4; p++)
            if (!strcmp(w->word[i], preposition[p])) at = i;
    if (at < 0) return false;
    *other = *w;
    /* The phrase (preposition, determiner, noun and perhaps an adjective) moves to after the
     * object. */
    if (at == adverb) {
        int length = 3 + (strlen(w->word[at + 3]) == 6 && w->word[at + 3][4] == 'r');
        memmove(other->word[at], w->word[at + length],
                sizeof *w->word * (size_t)(w->n - 1 - at - length));
        memcpy(other->word[w->n - 1 - length], w->word[at], sizeof *w->word * (size_t)length);
    } else {
        int length = w->n - 1 - at;
        memmove(other->word[adverb + length], w->word[adverb],
                sizeof *w->word * (size_t)(at - adverb));
        memcpy(other->word[adverb], w->word[at], sizeof *w->word * (size_t)length);
    }
    return true;
}

static void probabilities_sum_to_one(void **state)
{
    (void)state;
    Vocab v = target_types();
    char *bytes[2], *at[2];
    int with_other = 0;
    text_of(2, bytes);
    at[0] = bytes[0], at[1] = bytes[1];
    for (int k = 0; k < 25; k++) {
        const char *source = line_next(&at[0]);
        Words w = split_line(line_next(&at[1])), other;
        double entropy = 0, sum = sum_around(source, w, &v, &entropy);
        if (other_order(&w, &other)) {
            with_other++;
            sum += sum_around(source, other, &v, &entropy);
        }
        if (fabs(sum - 1) > 1e-12) fail_msg("%s: the probabilities sum to %.15g", source, sum);
        /* By design, each noun has 1.5 bits, and each adjective, verb and order of phrases has
         * H(1/4). */
        int nouns = 2, quarters = 1;
        Words s = split_line(source);
        for (int i = 0; i < s.n; i++)
            quarters += s.word[i][strlen(s.word[i]) - 1] == 'y' && !strstr(s.word[i], "ly");
        if (other_order(&w, &other)) nouns++, quarters++;
        double quarter = log(4) - 0.75 * log(3),
               expected = nouns * 1.5 * log(2) + quarters * quarter;
        assert_float_equal(entropy, expected, 1e-9);
    }
    assert_true(with_other > 2);
    vocab_free(&v);
    free(bytes[0]), free(bytes[1]);
}

/* Over the training pairs the mean of the nats is the mean entropy by design, within five standard
 * errors. */
static void what_is_drawn_has_these_probabilities(void **state)
{
    (void)state;
    char *bytes[2], *at[2];
    double quarter = log(4) - 0.75 * log(3), off = 0, squares = 0;
    text_of(0, bytes);
    at[0] = bytes[0], at[1] = bytes[1];
    for (int64_t k = 0; k < parallel_pairs[0]; k++) {
        const char *source = line_next(&at[0]), *target = line_next(&at[1]);
        Words w = split_line(target), other, s = split_line(source);
        int nouns = 2, quarters = 1;
        for (int i = 0; i < s.n; i++)
            quarters += s.word[i][strlen(s.word[i]) - 1] == 'y' && !strstr(s.word[i], "ly");
        if (other_order(&w, &other)) nouns++, quarters++;
        double d = parallel_nats(source, target) - nouns * 1.5 * log(2) - quarters * quarter;
        off += d;
        squares += d * d;
        assert_int_equal(words_of(source), words_of(target));
    }
    if (fabs(off) > 5 * sqrt(squares))
        fail_msg("the nats are off by %g, the standard error is %g", off, sqrt(squares));
    free(bytes[0]), free(bytes[1]);
}

static void by_hand(void **state)
{
    (void)state;
    char *bytes[2], *at[2];
    text_of(2, bytes);
    at[0] = bytes[0], at[1] = bytes[1];
    const char *source = line_next(&at[0]), *target = line_next(&at[1]);
    /* There are two nouns and a verb, each translated by its first word or another one: 2^-1 or
     * 2^-2 for a noun, 3/4 or 1/4 for the verb. */
    double p = exp(-parallel_nats(source, target)), least = 0.25 * 0.25 * 0.25;
    double exactly = p / least, times = round(exactly);
    assert_float_equal(exactly, times, 1e-9);
    assert_true(times == 1 || times == 2 || times == 3 || times == 4 || times == 6 || times == 12);
    char wrong[512];
    snprintf(wrong, sizeof wrong, "%s %s", target, target);
    assert_true(isinf(parallel_nats(source, wrong)));
    assert_true(isinf(parallel_nats(source, "")));
    assert_true(isnan(parallel_nats("", target)));
    free(bytes[0]), free(bytes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_is_a_translation),
        cmocka_unit_test(no_word_is_unknown),
        cmocka_unit_test(probabilities_sum_to_one),
        cmocka_unit_test(what_is_drawn_has_these_probabilities),
        cmocka_unit_test(by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
