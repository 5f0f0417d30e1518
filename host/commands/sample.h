/* sample: draws text from a model, one word at a time. */
#ifndef PLSTM_SAMPLE_H
#define PLSTM_SAMPLE_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"

/* Returns random word number n (from 0) of a seed: SPEC 2's Philox with its own subsequence, so
 * that the draws do not depend on the machine. */
uint32_t sample_word(uint64_t seed, int64_t n);

/* Returns the id that `word`, uniform over 32 bits, draws from softmax(logits (V) / temperature)
 * over the top_k likeliest ids (0: all; among equals, the lower ids come first). With temperature 0
 * it is the likeliest id, whatever `word` is. scratch (V) is overwritten. Returns -1 if a logit is
 * not finite. */
int32_t sample_draw(const float *logits, int64_t V, double temperature, int64_t top_k,
                    uint32_t word, double *scratch);

#endif
