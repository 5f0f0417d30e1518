/* classes: perplexity by position class of a text whose true distribution is known (KnownText,
 * corpus.h), beside the best that any model could reach there. */
#ifndef PLSTM_CLASSES_H
#define PLSTM_CLASSES_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/error.h"
#include "host/data/corpus.h"

typedef struct ClassScore {
    const KnownText *known;
    double nats[KNOWN_CLASSES], best_nats[KNOWN_CLASSES];
    int64_t tokens[KNOWN_CLASSES];
    double best_ppl; /* of all scored positions */
} ClassScore;

/* Sums over the positions of a split for which nats_of returns true and sets *nats. EXIT_FAILED:
 * memory ran out. */
int classes_score(ClassScore *out, const KnownText *known, const Stream *stream,
                  bool (*nats_of)(const void *user, int64_t position, double *nats),
                  const void *user, Error *e);

#endif
