/* cuda_check: a CUDA or cuBLAS call that fails ends the function it stands in with an exit code and one
 * sentence: which call, where, why, what to do. Needs an `Error *e` in scope; the function returns int. */
#ifndef PLSTM_CUDA_CHECK_H
#define PLSTM_CUDA_CHECK_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include "host/base/error.h"

/* EXIT_NO_DEVICE where another machine, driver or less memory is the answer, else EXIT_FAILED. `call` may go
 * on with its arguments: the name is what stands before the first bracket. */
int cuda_failed(Error *e, cudaError_t status, const char *call, const char *file, int line);
int cublas_failed(Error *e, cublasStatus_t status, const char *call, const char *file, int line);

#define CUDA_TRY(call)                                                                                       \
    do {                                                                                                     \
        cudaError_t status_ = (call);                                                                        \
        if (status_ != cudaSuccess) return cuda_failed(e, status_, #call, __FILE__, __LINE__);               \
    } while (0)

#define CUBLAS_TRY(call)                                                                                     \
    do {                                                                                                     \
        cublasStatus_t status_ = (call);                                                                     \
        if (status_ != CUBLAS_STATUS_SUCCESS) return cublas_failed(e, status_, #call, __FILE__, __LINE__);   \
    } while (0)

#endif
