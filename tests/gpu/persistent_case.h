/* persistent_case: one instance of each direction's persistent time loop at one small shape, compiled for the emulator from sources
 * into which test_persistent_faults.py may have planted a mistake: the vector loops (persistent_case.cu) or those on tensor
 * cores (mma_case.cu). */
#ifndef PLSTM_TESTS_PERSISTENT_CASE_H
#define PLSTM_TESTS_PERSISTENT_CASE_H

#include "kernels/lstm.h"

enum { CASE_T_MOST = 6, CASE_B_MOST = 9, CASE_H_MOST = 44 };

#ifdef __cplusplus
extern "C" {
#endif
/* Its precision is what the plans compute in. */
LstmShape case_shape(void);
LstmPlan case_plan(int backward);
cudaError_t case_prepare(void);
cudaError_t case_forward(const LstmContext *context, const LstmForward *p);
cudaError_t case_backward(const LstmContext *context, const LstmBackward *p);
#ifdef __cplusplus
}
#endif

#endif
