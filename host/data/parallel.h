/* parallel: the built-in parallel corpus, of two small artificial languages. The distribution of
 * the translator between them is known exactly, and so is the best possible perplexity of the
 * target given the source.
 *
 *   source   the kodu bamas gelups these kinus under a kibu tolly: subject, verb (it agrees in
 *            number), object, perhaps preposition and noun phrase, perhaps adverb; a noun phrase is
 *            determiner, perhaps adjective, noun
 *   target   adverb first, verb last (it agrees with the subject's number); determiner, noun and
 *            adjective (after its noun) agree in number and in the noun's gender, which the source
 *            does not show
 *
 * The translator chooses the following with fixed probabilities, independently of all else: one of
 * three words for a noun (1/2, 1/4, 1/4), one of two for an adjective and for a verb (3/4, 1/4),
 * and whether the phrase with the preposition stands after the object (3/4) or before the subject
 * (1/4). The source determines all else. A model must hold the whole source sentence, reorder it,
 * learn gender and agreement, and not memorise the words that were chosen. */
#ifndef PLSTM_PARALLEL_H
#define PLSTM_PARALLEL_H

#include <stdint.h>

#include "host/base/error.h"

enum { PARALLEL_SPLITS = 3 };
extern const int64_t parallel_pairs[PARALLEL_SPLITS]; /* lines of train, valid, test */

/* Makes the text of a split, one sentence per line, with a NUL at its end: bytes[0] is the source,
 * bytes[1] the target, both allocated by malloc. The seed is fixed, so the text is the same on
 * every machine. EXIT_FAILED: memory ran out. */
int parallel_text(int split, char *bytes[2], Error *e);

/* Returns -log of the probability that the translator writes target (words separated by one space,
 * no newline) for source; INFINITY if it never does, NAN if source is not a sentence. */
double parallel_nats(const char *source, const char *target);
/* Sets *nats to the sum of parallel_nats over a split. Divided by the number of the target's words
 * and sentences, it is the log of the best possible perplexity. EXIT_FAILED: memory ran out. */
int parallel_best(int split, double *nats, Error *e);

#endif
