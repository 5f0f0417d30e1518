/* update: runs one update of all weights and of the copies of w_hh that kernels read. */
#ifndef PLSTM_TESTS_UPDATE_H
#define PLSTM_TESTS_UPDATE_H

#include "fixture.h"
#include "kernels/layers.h"

typedef struct SgdCase {
    int64_t dense, N, H, V;
    double clip;
    uint32_t fault;
    int shift;  /* offset of the weights from a 16-byte boundary */
    int rounds; /* whether the weights are also written in bfloat16 */
} SgdCase;

typedef struct SgdOut {
    float *weights, *encoder;
    uint16_t *rounded; /* holds the canary where nothing was written */
    StepResult results[3];
} SgdOut;

/* Draws a case, runs norm and update, and returns the inputs (on the host) and the results. packed
 * (packed_n) is on the host. */
SgdArgs sgd_run(const SgdCase *k, const SgdPacked *packed, int64_t packed_n, SgdOut *out,
                float **weights, float **grads, float **encoder, float **rows, int32_t **ids,
                int32_t **first, float **nats);

/* These return LstmForward's w_packed and w_tiles for w_hh (4H,H), in host memory of the
 * fixture. */
float *packed_of(const float *w_hh, int64_t H);
uint16_t *tiles_of(const float *w_hh, int64_t H);

#endif
