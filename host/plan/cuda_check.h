/* cuda_check: CUDA_TRY makes a CUDA call and, if it fails, returns from the calling function with
 * an exit code and one sentence: which call failed, where, why, and what to do. The calling
 * function must return int and have an `Error *e` in scope. */
#ifndef PLSTM_CUDA_CHECK_H
#define PLSTM_CUDA_CHECK_H

#include <cuda_runtime_api.h>

#include "host/base/error.h"

/* Writes the sentence to *e. Returns EXIT_NO_DEVICE if another machine, another driver or less
 * memory would help, else EXIT_FAILED. `call` may include the arguments: the name is the text
 * before the first bracket. */
int cuda_failed(Error *e, cudaError_t status, const char *call, const char *file, int line);

/* Returns the exit code of cuda_failed and sets *remedy to what to do about it. */
int cuda_remedy(cudaError_t status, const char **remedy);

#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t status_ = (call);                                                              \
        if (status_ != cudaSuccess) return cuda_failed(e, status_, #call, __FILE__, __LINE__);     \
    } while (0)

#endif
