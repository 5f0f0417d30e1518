/* blas: the workarounds that OpenBLAS needs, in programs that are linked with it: those of the
 * emulator, the CPU benchmark, and plstm itself with BLAS=openblas. A version older than the CPU
 * does not recognise it and falls back to the kernels of a Prescott, which are 4 to 6 times slower;
 * given the right core it runs at full speed. OpenBLAS reads the choice when it is loaded, so the
 * program must start again. And if OpenBLAS cannot map its buffers, it retries forever. */
#ifndef PLSTM_BLAS_H
#define PLSTM_BLAS_H

#include <stdbool.h>
#include <stdio.h>

/* Returns whether the address space has room for the buffers of that many threads. Before OpenBLAS
 * starts, every program checks that those of all its threads fit, or ends with exit status 1 and a
 * sentence. */
bool blas_has_room(int threads);

/* Returns the OPENBLAS_CORETYPE to set, or NULL if OpenBLAS's own choice uses what the CPU has.
 * core: OpenBLAS's name for this CPU. */
const char *blas_better_core(const char *core, bool avx2_fma, bool avx512);

/* Compares OpenBLAS's choice with cpuid. If it is far too low, prints so to notes, unless that is
 * NULL, and starts the program again with OPENBLAS_CORETYPE set. Returns if there is nothing to do,
 * if the variable is already set, or if the start failed. Call it before any file is opened. */
void blas_ensure_core(char **argv, FILE *notes);

#endif
