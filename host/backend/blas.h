/* blas: the repairs that OpenBLAS needs, in programs that it is linked to: those of the emulator, the CPU benchmark, and plstm
 * itself with BLAS=openblas. A version older than the CPU does not know it and falls back to a Prescott's kernels, 4 to 6
 * times slower; told the right core it runs at speed. The choice is read when the library loads, so the program starts
 * again. And where it cannot map its buffers it tries again for ever.
 */
#ifndef PLSTM_BLAS_H
#define PLSTM_BLAS_H

#include <stdbool.h>

/* Whether the address space has room for the buffers of so many threads. Before OpenBLAS starts, every program makes sure
 * that those of all its threads fit, or ends with exit status 1 and a sentence. */
bool blas_has_room(int threads);

/* The OPENBLAS_CORETYPE to set, or NULL where OpenBLAS's own choice uses what the CPU has. core: what
 * OpenBLAS calls this CPU. */
const char *blas_better_core(const char *core, bool avx2_fma, bool avx512);

/* Compares OpenBLAS's choice with cpuid and, where it is far too low, says so on standard error and starts
 * the program again with OPENBLAS_CORETYPE set. Returns where nothing is to be done, where the variable is
 * set already, or where the start failed. */
void blas_ensure_core(char **argv);

#endif
