#include "synthetic.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"

const int64_t synthetic_tokens[SPLITS] = {40000, 15000, 30000};
const char *const position_class_name[POSITION_CLASSES] = {"content", "after_short", "after_long",
                                                           "filler"};

/* Philox subsequences of the one seed: one per permutation, then one per split. */
enum { SUB_WORDS = 0, SUB_STATES = 100, SUB_SPLIT = 200 };
static const uint64_t seed = 14092329;

static const uint64_t one = (uint64_t)1 << 32;
static const uint64_t open_bound = ((uint64_t)15 << 32) / 1000; /* q = 0.015 */
static const uint64_t close_bound = ((uint64_t)8 << 32) / 100;  /* r = 0.08 */

/* ---- the language ---- */

/* Returns the weight of rank i >= 1, proportional to i^-1.4 within 0.1 %: 2^40 / (i * x) with x =
 * floor(2^10 * i^0.4), the largest x for which x^5 <= i^2 * 2^50. Only integers are used, since
 * pow() may differ between machines. */
static uint64_t zipf_weight(uint64_t i)
{
    uint64_t bound = i * i << 50, x = 1 << 10; /* i <= 80: below 2^63 */
    while ((x + 1) * (x + 1) * (x + 1) * (x + 1) * (x + 1) <= bound) x++;
    return ((uint64_t)1 << 40) / (i * x);
}

/* Sets bound[i] to 2^32 times the share of the first i of n ranks, rounded down; bound[n] =
 * 2^32. */
static void zipf_bounds(uint64_t *bound, int n)
{
    uint64_t total = 0, sum = 0;
    /* The total is below 2^32: the first weight is 2^30, and the sum less than 3 times that. */
    for (int i = 1; i <= n; i++) total += zipf_weight((uint64_t)i);
    for (int i = 0; i < n; i++) {
        bound[i] = (sum << 32) / total;
        sum += zipf_weight((uint64_t)i + 1);
    }
    bound[n] = one;
}

/* Makes a random permutation of 0..n-1 (Fisher-Yates): element i is swapped with number (word *
 * (i+1)) >> 32. */
static void shuffle(uint8_t *out, int n, uint64_t sub)
{
    for (int i = 0; i < n; i++) {
        uint64_t word = philox_block(seed, sub, (uint64_t)i).word[0];
        int j = (int)(word * (uint64_t)(i + 1) >> 32);
        out[i] = out[j];
        out[j] = (uint8_t)i;
    }
}

void synthetic_language(SyntheticLanguage *l)
{
    zipf_bounds(l->word_bound, SYNTHETIC_WORDS);
    zipf_bounds(l->filler_bound, SYNTHETIC_FILLERS);
    for (int s = 0; s < SYNTHETIC_STATES; s++) {
        shuffle(l->word_of_rank[s], SYNTHETIC_WORDS, SUB_WORDS + (uint64_t)s);
        for (int i = 0; i < SYNTHETIC_WORDS; i++)
            l->rank_of_word[s][l->word_of_rank[s][i]] = (uint8_t)i;
    }
    for (int g = 0; g < SYNTHETIC_CLASSES; g++)
        shuffle(l->next_state[g], SYNTHETIC_STATES, SUB_STATES + (uint64_t)g);
}

/* ---- scanning a stream: the generator scans its own output, so the grammar exists once ---- */

void synthetic_scan_init(SyntheticScan *scan)
{
    memset(scan, 0, sizeof *scan);
    synthetic_language(&scan->language);
    scan->next = POSITION_CONTENT;
}

/* Returns the probability of token id at the scan's position. Every factor is exact in double; only
 * the product is rounded. */
static double scan_probability(const SyntheticScan *scan, int32_t id)
{
    const SyntheticLanguage *l = &scan->language;
    const double unit = 0x1p-32;
    if (scan->inside) {
        if (id == SYNTHETIC_CLOSE) return (double)close_bound * unit;
        if (id < SYNTHETIC_WORDS || id >= SYNTHETIC_WORDS + SYNTHETIC_FILLERS) return 0;
        const uint64_t *bound = l->filler_bound + (id - SYNTHETIC_WORDS);
        return (double)(one - close_bound) * unit * ((double)(bound[1] - bound[0]) * unit);
    }
    uint64_t open = scan->may_open ? open_bound : 0;
    if (id == SYNTHETIC_OPEN) return (double)open * unit;
    if (id < 0 || id >= SYNTHETIC_WORDS) return 0;
    const uint64_t *bound = l->word_bound + l->rank_of_word[scan->state][id];
    return (double)(one - open) * unit * ((double)(bound[1] - bound[0]) * unit);
}

/* Moves past token id. Tokens that the generator never puts here are accepted, too: `(` always
 * begins a parenthesis, within one every other token except `)` counts as a filler, and outside one
 * fillers and `)` leave the state unchanged. */
static void scan_move(SyntheticScan *scan, int32_t id)
{
    bool closes = scan->inside && id == SYNTHETIC_CLOSE;
    if (id == SYNTHETIC_OPEN) {
        scan->inside = true;
        scan->fillers = 0;
    } else if (closes) {
        scan->inside = false;
    } else if (scan->inside) {
        scan->fillers++;
    } else if (id >= 0 && id < SYNTHETIC_WORDS) {
        scan->state = scan->language.next_state[id % SYNTHETIC_CLASSES][scan->state];
    }
    scan->may_open = !scan->inside && !closes;
    scan->next = scan->inside                      ? POSITION_FILLER
                 : !closes                         ? POSITION_CONTENT
                 : scan->fillers >= SYNTHETIC_LONG ? POSITION_AFTER_LONG
                                                   : POSITION_AFTER_SHORT;
}

PositionClass synthetic_scan_next(SyntheticScan *scan, int32_t id, double *nats)
{
    PositionClass class = scan->next;
    *nats = -log(scan_probability(scan, id));
    scan_move(scan, id);
    return class;
}

static void positions(const int32_t *ids, int64_t n, unsigned char *class_of, double *nats)
{
    SyntheticScan scan;
    synthetic_scan_init(&scan);
    for (int64_t i = 0; i < n; i++)
        class_of[i] = (unsigned char)synthetic_scan_next(&scan, ids[i], &nats[i]);
}

static const KnownText known_text = {POSITION_CLASSES, position_class_name, positions};

double synthetic_best_ppl(const int32_t *ids, int64_t n)
{
    SyntheticScan scan;
    synthetic_scan_init(&scan);
    double sum = 0, nats;
    for (int64_t i = 0; i < n; i++) {
        synthetic_scan_next(&scan, ids[i], &nats);
        if (i) sum += nats;
    }
    return n < 2 ? NAN : exp(sum / (double)(n - 1));
}

/* ---- drawing ---- */

/* Returns i with bound[i] <= word < bound[i+1]. */
static int draw_rank(const uint64_t *bound, uint32_t word)
{
    int i = 0;
    while (word >= bound[i + 1]) i++;
    return i;
}

/* Draws token t of a split from `random`, block t of the split's subsequence: word 0 decides about
 * `(` or `)`, and word 1 draws a rank. */
static int32_t draw_token(const SyntheticScan *scan, PhiloxBlock random)
{
    const SyntheticLanguage *l = &scan->language;
    if (scan->inside) {
        if (random.word[0] < close_bound) return SYNTHETIC_CLOSE;
        return SYNTHETIC_WORDS + draw_rank(l->filler_bound, random.word[1]);
    }
    if (scan->may_open && random.word[0] < open_bound) return SYNTHETIC_OPEN;
    return l->word_of_rank[scan->state][draw_rank(l->word_bound, random.word[1])];
}

int synthetic_corpus(Corpus *c, Error *e)
{
    char text[SYNTHETIC_V * 4 + 1], *at = text;
    for (int i = 0; i < SYNTHETIC_WORDS; i++) at += sprintf(at, "w%02d ", i);
    for (int i = 0; i < SYNTHETIC_FILLERS; i++) at += sprintf(at, "f%02d ", i);
    strcpy(at, "( )");

    memset(c, 0, sizeof *c);
    c->synthetic = true;
    c->known = &known_text;
    int code = vocab_parse(&c->vocab, text, e);
    if (code) return code;
    for (int split = 0; split < SPLITS; split++) {
        Stream *s = &c->split[split];
        s->n = synthetic_tokens[split];
        s->ids = malloc((size_t)s->n * sizeof *s->ids);
        if (!s->ids) {
            corpus_free(c);
            return error_set(e, EXIT_FAILED, "memory ran out while making the built-in corpus");
        }
        SyntheticScan scan;
        synthetic_scan_init(&scan);
        for (int64_t t = 0; t < s->n; t++) {
            s->ids[t] =
                draw_token(&scan, philox_block(seed, SUB_SPLIT + (uint64_t)split, (uint64_t)t));
            scan_move(&scan, s->ids[t]);
        }
    }
    return EXIT_DONE;
}
