/* synthetic: the built-in corpus, a permutation automaton with neutral parentheses. Its exact
 * next-word distribution is known, and so is the best possible perplexity of any stretch of it.
 *
 * The vocabulary has 80 content words, 20 fillers, `(` and `)`: V = 102, without special types.
 * There are 16 states and 6 word classes. At the start of a split the state is 0. Outside a
 * parenthesis, `(` comes with probability q = 0.015 (never as the first token nor right after `)`),
 * otherwise a content word w with probability p[rank_s(w)], where p falls as i^-1.4 and rank_s is a
 * permutation that depends on the state s; w's class then moves the state by one of 6 permutations.
 * Inside, `)` comes with probability r = 0.08, otherwise a filler, which has a Zipf distribution as
 * well, the same in all states; the state does not change.
 *
 * A model must therefore update the state, which decides everything outside parentheses, at nearly
 * every word and carry it across parentheses. Dropout on recurrent connections destroys this
 * memory.
 *
 * All probabilities are multiples of 2^-32, or products of two such multiples where one draw
 * decides about a parenthesis and another about the word. They are computed in integers, and a draw
 * compares a Philox word with integer bounds. The distribution that is scored is therefore exactly
 * the one that is sampled, on every machine. */
#ifndef PLSTM_SYNTHETIC_H
#define PLSTM_SYNTHETIC_H

#include <stdbool.h>
#include <stdint.h>

#include "corpus.h"

enum {
    SYNTHETIC_STATES = 16,
    SYNTHETIC_CLASSES = 6,  /* of content words */
    SYNTHETIC_WORDS = 80,   /* content: ids 0 .. 79, types w00 .. w79 */
    SYNTHETIC_FILLERS = 20, /* ids 80 .. 99, types f00 .. f19 */
    SYNTHETIC_OPEN = 100,   /* id of `(` */
    SYNTHETIC_CLOSE = 101,  /* id of `)` */
    SYNTHETIC_V = 102,
    SYNTHETIC_LONG = 10 /* fillers from which on a parenthesis counts as long */
};
extern const int64_t synthetic_tokens[SPLITS]; /* 40,000 15,000 30,000 */

/* Classes into which positions are divided for reports. The tokens before a position decide its
 * class, not the token at it. */
typedef enum PositionClass {
    /* outside a parenthesis and not right after `)`: a content word or `(` follows */
    POSITION_CONTENT,
    /* right after a `)` that closed fewer than 10 fillers: always a content word */
    POSITION_AFTER_SHORT,
    /* right after a `)` that closed 10 or more fillers */
    POSITION_AFTER_LONG,
    /* inside a parenthesis: a filler or `)` follows; predicting it needs no memory, so this class
     * is a built-in control */
    POSITION_FILLER,
    POSITION_CLASSES
} PositionClass;
/* "content", "after_short", "after_long", "filler" */
extern const char *const position_class_name[POSITION_CLASSES];

/* Fills the vocabulary, the streams, `synthetic` and `known` of *c; corpus_name sets the hash. The
 * seed is fixed, so the ids are the same on every machine. */
int synthetic_corpus(Corpus *c, Error *e);

/* The generator's fixed tables, about 4 KB, computed from its seed in microseconds. Bounds are in
 * units of 2^-32: a word u draws rank i if bound[i] <= u < bound[i+1]. */
typedef struct SyntheticLanguage {
    uint64_t word_bound[SYNTHETIC_WORDS + 1], filler_bound[SYNTHETIC_FILLERS + 1];
    uint8_t word_of_rank[SYNTHETIC_STATES][SYNTHETIC_WORDS],
        rank_of_word[SYNTHETIC_STATES][SYNTHETIC_WORDS];
    uint8_t next_state[SYNTHETIC_CLASSES][SYNTHETIC_STATES]; /* word w belongs to class w mod 6 */
} SyntheticLanguage;

void synthetic_language(SyntheticLanguage *l);

/* Walks a stream of the corpus in order, from its first token, one token at a time. */
typedef struct SyntheticScan {
    SyntheticLanguage language;
    int state;
    bool inside;        /* inside a parenthesis */
    bool may_open;      /* `(` can come: not first, not inside, not right after `)` */
    int64_t fillers;    /* since `(` */
    PositionClass next; /* class of the next position */
} SyntheticScan;

void synthetic_scan_init(SyntheticScan *scan);
/* Returns the class of the scan's position, sets *nats to -log of the probability of token id there
 * (INFINITY for a token that the generator never puts there), and moves past it. */
PositionClass synthetic_scan_next(SyntheticScan *scan, int32_t id, double *nats);

/* Returns the best possible perplexity of tokens 1..n-1 of a whole split (as SPEC 6 scores test);
 * NAN if n < 2. */
double synthetic_best_ppl(const int32_t *ids, int64_t n);

#endif
