/* parallel: the built-in parallel corpus, two little languages of ours and a translator between them who is known
 * exactly, so that the best possible perplexity of the target given the source is known too.
 *
 *   source   the kodu bamas gelups these kinus under a kibu tolly
 *            subject, verb (agrees in number), object, perhaps preposition and noun phrase, perhaps adverb;
 *            a noun phrase is determiner, perhaps adjective, noun
 *   target   adverb first, verb last (it agrees with the subject's number); determiner, noun and adjective (behind its noun)
 *            agree in number and in the noun's gender, which the source does not show
 *
 * What the translator chooses, each with a fixed probability and independently of all else: one of three words for a noun
 * (1/2, 1/4, 1/4), one of two for an adjective and for a verb (3/4, 1/4), and whether the phrase with the preposition
 * stands behind the object (3/4) or before the subject (1/4). All else follows from the source. A model must hold the
 * whole source sentence, reorder it, learn gender and agreement, and not learn by heart which words were chosen. */
#ifndef PLSTM_PARALLEL_H
#define PLSTM_PARALLEL_H

#include <stdint.h>

#include "host/base/error.h"

enum { PARALLEL_SPLITS = 3 };
extern const int64_t parallel_pairs[PARALLEL_SPLITS]; /* lines of train, valid, test */

/* Text of a split, a line a sentence: bytes[0] the source, bytes[1] the target, malloc'd. Fixed seed: the same on every
 * machine. */
int parallel_text(int split, char *bytes[2], Error *e);

/* -log of the probability that the translator writes target (words and one space between them, no newline) for source;
 * INFINITY where it never does, NAN where source is no sentence. */
double parallel_nats(const char *source, const char *target);
/* Their sum over a split: divided by the target's words and sentences, the log of the best possible perplexity. */
int parallel_best(int split, double *nats, Error *e);

#endif
