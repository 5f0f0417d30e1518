/* decode: the most probable outputs for given inputs, by beam search with one model or the average
 * of several (TASKS 4). An input is a sequence of ids, feature rows among them, that the models
 * read from a zero state. The outputs are words of the softmax, one of which ends an output; each
 * word is fed back as `feedback` + its class. */
#ifndef PLSTM_DECODE_H
#define PLSTM_DECODE_H

#include <stdint.h>

#include "beam.h"
#include "model.h"

typedef struct DecodeOptions {
    int64_t width;    /* of the beam */
    int64_t batch;    /* inputs per batch */
    int64_t features; /* most feature rows per input */
    double penalty;   /* scores are divided by length^penalty */
    int32_t end;      /* class that ends an output */
    int32_t feedback; /* id with which class 0 is fed back */
} DecodeOptions;

typedef struct DecodeInput {
    /* (n) n >= 1: what is read before the first word; the last is a token, the others may be
     * ID_FEATURES */
    const int32_t *ids;
    int64_t n;
    int64_t most;          /* most words of an output, including the end */
    const float *features; /* (_,F) rows of the positions that read one; NULL: none does */
} DecodeInput;

typedef struct Decoder Decoder;

/* Returns the limits with which a model must be opened. */
BatchLimits decode_limits(const DecodeOptions *o);
/* Opens a decoder over models (n_models), which have the same V_out and belong to the caller. */
int decode_open(Decoder **d, Model *models, int n_models, const DecodeOptions *o, Error *e);
void decode_close(Decoder *d);

/* Searches for at most o->batch inputs. Beam i then belongs to input i and has ended; its `done`
 * stays valid until the next call. EXIT_FAILED: a model gives no finite probabilities. */
int decode_run(Decoder *d, const DecodeInput *input, int64_t n, Error *e);
const Beam *decode_beam(const Decoder *d, int64_t i);

#endif
