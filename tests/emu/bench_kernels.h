/* Kernels that measure the emulator itself. */
#ifndef EMU_BENCH_KERNELS_H
#define EMU_BENCH_KERNELS_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs only `rounds` block barriers. */
cudaError_t bench_barriers(int blocks, int threads, int rounds);

/* Runs `rounds` grid barriers of a cooperative launch, whose threads are all alive and take
 * turns. */
cudaError_t bench_grid_syncs(int blocks, int threads, int rounds);

/* Runs a persistent LSTM layer's recurrence: w_hh rows in shared memory, h read again at each step,
 * one grid barrier per step. It allocates and frees its own tensors and returns an error if a value
 * is not finite. */
cudaError_t bench_lstm(int blocks, int threads, int H, int B, int T);

#ifdef __cplusplus
}
#endif

#endif
