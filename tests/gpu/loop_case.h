/* loop_case: one instance or some of each direction's persistent time loop, compiled for the emulator from sources into which a
 * test may have planted a mistake, and the plan by which the host side (loop_case.c) runs them. NAME_case.cu has the loops of
 * NAME.cuh's kernels, from the first folder of the include path that has them. */
#ifndef PLSTM_TESTS_LOOP_CASE_H
#define PLSTM_TESTS_LOOP_CASE_H

#include "kernels/lstm.h"

#ifdef __cplusplus
extern "C" {
#endif
/* The case's own shape and plan, or with n words those that the kernels' file reads in them. Returns 0; 1: these are no such words. */
int case_plan(int backward, int n, const int *words, LstmShape *shape, LstmPlan *plan);
cudaError_t case_prepare(void);
cudaError_t case_forward(const LstmContext *context, const LstmForward *p);
cudaError_t case_backward(const LstmContext *context, const LstmBackward *p);
#ifdef __cplusplus
}
#endif

#endif
