/* ensemble: averages several models' probabilities (not logits), one model at a time (SPEC 5). It
 * holds 8 bytes per position of the stream: the log of the sum, over the models so far, of the
 * probability of the token there. */
#ifndef PLSTM_ENSEMBLE_H
#define PLSTM_ENSEMBLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Ensemble {
    int64_t n;       /* positions of the split */
    int members;     /* members begun */
    double *log_sum; /* (n); INFINITY, the logarithm of no probability: not scored */
} Ensemble;

/* Allocates an ensemble for n positions. Returns 0, or -1 if memory ran out. */
int ensemble_init(Ensemble *e, int64_t n);
void ensemble_free(Ensemble *e);

/* Begins the next member; every member must be scored at the same positions. */
void ensemble_begin(Ensemble *e);
/* Adds one scored target of the current member. */
void ensemble_visit(Ensemble *e, int64_t position, double nats);

/* Sets *nats to -log of the average probability at a position, over all members. Returns false if
 * the position is not scored. */
bool ensemble_nats(const Ensemble *e, int64_t position, double *nats);
/* Sets *nats to the sum of ensemble_nats over the scored positions, and *tokens to their number. */
void ensemble_total(const Ensemble *e, double *nats, int64_t *tokens);

#endif
