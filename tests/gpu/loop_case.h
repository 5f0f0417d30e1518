/* loop_case: one or several instances of each direction's persistent time loop, compiled for the
 * emulator from sources in which a test may have planted a fault, and the plan with which the host
 * side (loop_case.c) runs them. NAME_case.cu has the loops of NAME.cuh's kernels, from the first
 * folder of the include path that has them. */
#ifndef PLSTM_TESTS_LOOP_CASE_H
#define PLSTM_TESTS_LOOP_CASE_H

#include "kernels/lstm.h"

#ifdef __cplusplus
extern "C" {
#endif
/* Returns the case's own shape and plan, or those that n words describe. The result is 0, or 1 if
 * the words are malformed. */
int case_plan(int backward, int n, const int *words, LstmShape *shape, LstmPlan *plan);
cudaError_t case_prepare(void);
cudaError_t case_forward(const LstmContext *context, const LstmForward *p);
cudaError_t case_backward(const LstmContext *context, const LstmBackward *p);
#ifdef __cplusplus
}
#endif

#endif
