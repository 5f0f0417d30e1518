/* sgemm: the single-precision matrix product of one thread, by the register tiles of the recurrence
 * or, if the program is compiled with BLAS=openblas or BLAS=blis, by that library.
 *
 * Blocking   Both operands are packed block by block (Goto and van de Geijn, ACM TOMS 34(3), 2008).
 *            A block of A (SGEMM_M, SGEMM_K) stays in the second-level cache, cut into panels (k,
 *            TILE_ROWS). A block of B (SGEMM_K, SGEMM_N) stays in the third-level cache, cut into
 *            panels (k, TILE_WIDTH), one of which is in the first-level cache while the next is
 *            prefetched.
 * Order      Terms are added in the order of k within stretches of SGEMM_K terms, and the sums of
 *            the stretches are added in order. A library has its own blocking and order. */
#ifndef PLSTM_SGEMM_H
#define PLSTM_SGEMM_H

#include <stdbool.h>
#include <stdint.h>

enum { SGEMM_M = 144, SGEMM_N = 4096, SGEMM_K = 384 };

/* Size of the buffer `room` in floats; it must be aligned to 64 bytes. A library has its own
 * buffers. */
#if defined(PLSTM_CBLAS)
enum { SGEMM_ROOM = 0 };
#else
enum { SGEMM_ROOM = SGEMM_K * (SGEMM_M + SGEMM_N) };
#endif

/* Returns the name of the implementation, in static storage: "own tiles of 6 x 16", "OpenBLAS
 * 0.3.21 Zen". */
const char *sgemm_name(void);

/* Must be called before the first product. Returns false if there is no memory for the library's
 * buffers of that many threads. */
bool sgemm_open(int threads);

/* Computes C (m,n) = op(A) op(B), all row-major, where op(A) is (m,k) and op(B) is (k,n). a_t, b_t:
 * the operand is stored transposed. The rows of A, B and C as stored are lda, ldb and ldc floats
 * apart. `room` (SGEMM_ROOM floats) must not be shared by concurrent calls. */
void sgemm_run(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
               const float *B, int64_t ldb, float *C, int64_t ldc, float *room);

#endif
