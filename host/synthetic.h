/* synthetic: the built-in corpus, a permutation automaton with neutral parentheses. Its exact next-word distribution is
 * known, so the best possible perplexity of any stretch of it is known too.
 *
 * 16 states; in state s a content word w has probability z[perm_s(w)], z_i ~ i^-1.4; its class's permutation then moves the
 * state. `(` opens a stretch of fillers that leave the state alone, `)` closes it. So the state must be updated at nearly every
 * content word and be carried across parentheses: what dropout on recurrent connections destroys. */
#ifndef PLSTM_SYNTHETIC_H
#define PLSTM_SYNTHETIC_H

#include <stdint.h>

#include "corpus.h"

/* Position classes that are reported apart. */
typedef enum PositionClass {
    POSITION_CONTENT,     /* content word or `(` outside a parenthesis, not the first after `)` */
    POSITION_AFTER_SHORT, /* first word after `)` with fewer than 10 fillers inside */
    POSITION_AFTER_LONG,  /* the same with 10 or more */
    POSITION_FILLER,      /* inside a parenthesis: needs no memory, a built-in control */
    POSITION_CLASSES
} PositionClass;
extern const char *const position_class_name[POSITION_CLASSES]; /* "content", "after_short", "after_long", "filler" */

/* Fills all of *c; fixed seed, the same ids on every machine (integer arithmetic decides every draw). */
int synthetic_corpus(Corpus *c, Error *e);

/* Walks a stream of the corpus in order, one target at a time. */
typedef struct SyntheticScan {
    int state;
    int inside;        /* in a parenthesis */
    int64_t fillers;   /* since `(` */
    int after_close;   /* 0 no, 1 after a short one, 2 after a long one */
    int64_t position;  /* of the next token in its stream */
} SyntheticScan;

void synthetic_scan_init(SyntheticScan *scan);
/* The class of token id at the scan's position and, in *nats, -log of its true probability; then moves on. */
PositionClass synthetic_scan_next(SyntheticScan *scan, int32_t id, double *nats);

/* Best possible perplexity of tokens 1..n-1 of a split that starts at the automaton's start (as SPEC 6 scores test). */
double synthetic_best_ppl(const int32_t *ids, int64_t n);

#endif
