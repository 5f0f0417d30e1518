/* sample: text drawn from a model, one word at a time. */
#ifndef PLSTM_SAMPLE_H
#define PLSTM_SAMPLE_H

#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"

typedef struct SampleOptions {
    const char *weights;
    const char *prompt; /* words that the text begins with, or NULL */
    int64_t words;      /* to draw, <eos> included */
    double temperature; /* 0: always the likeliest word */
    int64_t top_k;      /* 0: every word may be drawn; otherwise the k likeliest */
    uint64_t seed;
    const char *backend;
    int threads; /* 0: as many as this process may use */
} SampleOptions;

/* Prints to out the prompt as the model reads it and the words drawn, <eos> as a newline. The model reads
 * <eos> first where its vocabulary has it, so that the text begins as a sentence does; where it has not, the
 * text begins from a zero state: with the prompt, or, without one, with the vocabulary's first type (the
 * first word of the training text), which is then printed.
 *
 * A word of the prompt that the vocabulary lacks is read as <unk>, which notes (NULL: nobody) is told;
 * EXIT_USAGE where there is no such type. */
int sample_command(const SampleOptions *o, FILE *out, FILE *notes, Error *e);

/* Word number n (from 0) of a seed's draws: SPEC 2's Philox under a subsequence of its own, so that the draws
 * do not depend on the machine. */
uint32_t sample_word(uint64_t seed, int64_t n);

/* The id that `word`, uniform over 32 bits, draws from softmax(logits (V) / temperature) over the top_k
 * likeliest (ties: the lower id). temperature 0: the likeliest, whatever the word. scratch (V) is
 * overwritten. -1: the logits are not finite. */
int32_t sample_draw(const float *logits, int64_t V, double temperature, int64_t top_k, uint32_t word,
                    double *scratch);

#endif
