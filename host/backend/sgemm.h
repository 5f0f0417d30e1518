/* sgemm: the single-precision matrix product of one thread, by the register tiles of the recurrence
 * or, if the program is compiled with BLAS=openblas or BLAS=blis, by that library.
 *
 * Blocking   Both operands are packed block by block (Goto and van de Geijn, ACM TOMS 34(3), 2008):
 *            a block of A (SGEMM_M, SGEMM_K) stays in the second-level cache in panels (k,
 *            TILE_ROWS), and a block of B (SGEMM_K, SGEMM_N) in the third in panels (k,
 *            TILE_WIDTH), one of which is in the first while the next is fetched.
 * Order      The sums over k are in order within stretches of SGEMM_K, which are added in order. */
#ifndef PLSTM_SGEMM_H
#define PLSTM_SGEMM_H

#include <stdbool.h>
#include <stdint.h>

enum { SGEMM_M = 144, SGEMM_N = 4096, SGEMM_K = 384 };

/* Floats that `room` needs, aligned to 64 bytes; a library has its own buffers. */
#if defined(PLSTM_CBLAS)
enum { SGEMM_ROOM = 0 };
#else
enum { SGEMM_ROOM = SGEMM_K * (SGEMM_M + SGEMM_N) };
#endif

/* "own tiles of 6 x 16", "OpenBLAS 0.3.21 Zen" */
const char *sgemm_name(void);

/* Must be called before the first product. Returns whether the threads' products have the memory
 * that they need. */
bool sgemm_open(int threads);

/* C (m,n) = op(A) op(B), row-major, op(A) is (m,k); rows of A, B and C as stored are lda, ldb, ldc
 * floats apart. */
void sgemm_run(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
               const float *B, int64_t ldb, float *C, int64_t ldc, float *room);

#endif
