/* blas: workarounds for OpenBLAS in the programs that are linked with it: those of the emulator,
 * the CPU benchmark, and plstm itself with BLAS=openblas. An OpenBLAS that is older than the CPU
 * does not recognise it and falls back to the kernels of a Prescott, which are 4 to 6 times slower;
 * if the environment names the right core, it runs at full speed. OpenBLAS reads the environment
 * when it is loaded, so the program must start again. If OpenBLAS cannot map its buffers, it
 * retries forever. */
#ifndef PLSTM_BLAS_H
#define PLSTM_BLAS_H

#include <stdbool.h>
#include <stdio.h>

/* Returns whether the address space has room for the buffers of that many threads. Every program
 * that is linked with OpenBLAS checks, before OpenBLAS starts, that the buffers of all its threads
 * fit; if they do not, it prints a sentence and ends with exit status 1. */
bool blas_has_room(int threads);

/* Returns the OPENBLAS_CORETYPE to set, or NULL if OpenBLAS's own choice already uses AVX2, or the
 * CPU has no AVX2 with FMA. core: OpenBLAS's name for this CPU. */
const char *blas_better_core(const char *core, bool avx2_fma, bool avx512);

/* Compares OpenBLAS's choice with cpuid. If it is far too low, prints a sentence to `notes` (unless
 * NULL) and starts the program again with OPENBLAS_CORETYPE set. Returns if there is nothing to do,
 * if the variable is already set, or if the start failed. Call it before any file is opened. */
void blas_ensure_core(char **argv, FILE *notes);

#endif
