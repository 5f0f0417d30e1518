/* persistent_case: one instance of each persistent time loop, compiled for the emulator from sources into which
 * test_persistent_faults.py may have planted a mistake. */
#ifndef PLSTM_TESTS_PERSISTENT_CASE_H
#define PLSTM_TESTS_PERSISTENT_CASE_H

#include "../kernels/lstm.h"

enum {
    CASE_THREADS = 64,
    CASE_BATCH = 2,
    CASE_CHUNK = 2,
    CASE_RESIDENT_FORWARD = 2,
    CASE_RESIDENT_BACKWARD = 1
};

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
