/* cluster_case: instances of the time loops of the variant `cluster`, compiled for the emulator from sources into which
 * test_cluster_faults.py may have planted a mistake. */
#ifndef PLSTM_TESTS_CLUSTER_CASE_H
#define PLSTM_TESTS_CLUSTER_CASE_H

#include "kernels/lstm.h"

/* X(precision, quads, resident, batch), in the order of a plan's tile; CASE_FIRST: the first alone is compiled. */
#define CASE_FIRST_TILE(X)  X(BF16, 2, 1, 8)
#define CASE_OTHER_TILES(X) X(TF32, 2, 1, 8) X(BF16, 1, 0, 16) X(TF32, 1, 2, 24)
#ifdef CASE_FIRST
#define CASE_TILES(X) CASE_FIRST_TILE(X)
#else
#define CASE_TILES(X) CASE_FIRST_TILE(X) CASE_OTHER_TILES(X)
#endif
enum { CASE_THREADS = 512 }; /* most, of any plan */

#ifdef __cplusplus
extern "C" {
#endif
cudaError_t case_prepare(void);
cudaError_t case_forward(const LstmContext *context, const LstmForward *p);
cudaError_t case_backward(const LstmContext *context, const LstmBackward *p);
#ifdef __cplusplus
}
#endif

#endif
