/* decode: finds the most probable outputs for given inputs, by beam search with one model or the
 * average of several (TASKS 4). An input is a sequence of tokens and feature rows, which the models
 * read from a zero state. The outputs are words of the softmax, one of which ends an output; each
 * word is fed back as `feedback` + its class. */
#ifndef PLSTM_DECODE_H
#define PLSTM_DECODE_H

#include <stdint.h>

#include "beam.h"
#include "model.h"

typedef struct DecodeOptions {
    int64_t width;    /* width of the beam */
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
    const float *features; /* (_,F) one row per ID_FEATURES; NULL: there is none */
} DecodeInput;

typedef struct Decoder Decoder;

/* Returns the limits with which a model must be opened. */
BatchLimits decode_limits(const DecodeOptions *o);
/* Opens a decoder over models (n_models), which have the same V_out and F and belong to the caller.
 * EXIT_FAILED: memory ran out. */
int decode_open(Decoder **d, Model *models, int n_models, const DecodeOptions *o, Error *e);
void decode_close(Decoder *d);

/* Searches for the outputs of n inputs, at most o->batch. decode_beam then returns the finished
 * search of input i, which belongs to the decoder; its `done` stays valid until the next call.
 * EXIT_FAILED: a model's probabilities are not finite. */
int decode_run(Decoder *d, const DecodeInput *input, int64_t n, Error *e);
const Beam *decode_beam(const Decoder *d, int64_t i);

#endif
