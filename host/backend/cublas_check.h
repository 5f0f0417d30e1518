/* cublas_check: the counterpart of cuda_check for calls of cuBLAS and cuBLASLt. */
#ifndef PLSTM_CUBLAS_CHECK_H
#define PLSTM_CUBLAS_CHECK_H

#include <cublas_v2.h>

#include "host/plan/cuda_check.h"

/* Writes the sentence for a failed call into *e and returns its exit code, as cuda_failed does
 * (cuda_check.h). */
int cublas_failed(Error *e, cublasStatus_t status, const char *call, const char *file, int line);

/* Returns from the calling function, which has an `Error *e`, if the call fails. */
#define CUBLAS_TRY(call)                                                                           \
    do {                                                                                           \
        cublasStatus_t status_ = (call);                                                           \
        if (status_ != CUBLAS_STATUS_SUCCESS)                                                      \
            return cublas_failed(e, status_, #call, __FILE__, __LINE__);                           \
    } while (0)

#endif
