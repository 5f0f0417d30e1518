/* Kernels that measure the emulator itself. */
#ifndef EMU_BENCH_KERNELS_H
#define EMU_BENCH_KERNELS_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `rounds` block barriers and nothing else. */
cudaError_t bench_barriers(int blocks, int threads, int rounds);

/* `rounds` grid barriers of a cooperative launch: all its threads are alive and take turns. */
cudaError_t bench_grid_syncs(int blocks, int threads, int rounds);

/* A persistent LSTM layer's recurrence: w_hh rows in shared memory, h re-read each step, grid barrier per
 * step. Allocates and frees its own tensors; returns an error if a value is not finite. */
cudaError_t bench_lstm(int blocks, int threads, int H, int B, int T);

#ifdef __cplusplus
}
#endif

#endif
