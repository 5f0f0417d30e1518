/* The worked example: h[t+1] = tanh(W * h[t] + x[t]). All pointers are to device memory. */
#ifndef RECURRENCE_H
#define RECURRENCE_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { RECURRENCE_THREADS = 64 };

/* Returns how many blocks a run of n elements, with `rows` per block, needs resident at once. */
int recurrence_blocks(int n, int rows);

/* Runs `steps` steps with w (n,n), x (steps,n) and h (2,n), where h[0] is the initial state and
 * h[steps % 2] the result; `arrived` is one word of scratch. Returns the error of the launch. */
cudaError_t recurrence_run(const float *w, const float *x, float *h, unsigned *arrived, int n,
                           int rows, int steps, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
