/* loop_case: the interface between loop_case.c, the host side, and one kernel's time loops. A file
 * NAME_case.cu compiles one or several instances of each direction's loop for the emulator and
 * makes the plan with which they run. It includes the loops from the first folder of the include
 * path that has them, which may hold copies in which a test has planted a fault. */
#ifndef PLSTM_TESTS_LOOP_CASE_H
#define PLSTM_TESTS_LOOP_CASE_H

#include "kernels/lstm.h"

#ifdef __cplusplus
extern "C" {
#endif
/* Sets *shape and *plan to the case's own (n = 0), or to those that the n words describe. Returns
 * 0, or 1 if the words are malformed. */
int case_plan(int backward, int n, const int *words, LstmShape *shape, LstmPlan *plan);
/* Prepares the kernels of both directions. Call it before the first launch. */
cudaError_t case_prepare(void);
/* These launch one pass with p->launch; they return the error of the launch and do not wait. */
cudaError_t case_forward(const LstmContext *context, const LstmForward *p);
cudaError_t case_backward(const LstmContext *context, const LstmBackward *p);
#ifdef __cplusplus
}
#endif

#endif
