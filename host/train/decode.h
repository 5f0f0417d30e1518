/* decode: the most probable outputs behind given inputs, by beam search over one model or the average of several
 * (TASKS 4). An input is a run of ids, feature rows among them, that the models read from a zero state; the outputs are words of the softmax, of
 * which one ends an output; each word is read again as `feedback` + its class. */
#ifndef PLSTM_DECODE_H
#define PLSTM_DECODE_H

#include <stdint.h>

#include "beam.h"
#include "model.h"

typedef struct DecodeOptions {
    int64_t width;    /* of the beam */
    int64_t batch;    /* inputs at a time */
    int64_t features; /* most feature rows of an input */
    double penalty;   /* scores are divided by length^penalty */
    int32_t end;      /* class that ends an output */
    int32_t feedback; /* id under which class 0 is read */
} DecodeOptions;

typedef struct DecodeInput {
    const int32_t *
        ids; /* (n) n >= 1: what is read before the first word; the last is a token, the others may be
                           ID_FEATURES */
    int64_t n;
    int64_t most;          /* words of an output, the end counted */
    const float *features; /* (_,F) rows of the positions that take one; NULL: none does */
} DecodeInput;

typedef struct Decoder Decoder;

/* What a model must be opened for. */
BatchLimits decode_limits(const DecodeOptions *o);
/* Models (n_models) of one V_out, the caller's. */
int decode_open(Decoder **d, Model *models, int n_models, const DecodeOptions *o, Error *e);
void decode_close(Decoder *d);

/* Searches for at most o->batch inputs. beam i is then that of input i, ended: its `done` is what was found, until the
 * next call. EXIT_FAILED: a model gives no finite probabilities. */
int decode_run(Decoder *d, const DecodeInput *input, int64_t n, Error *e);
const Beam *decode_beam(const Decoder *d, int64_t i);

#endif
