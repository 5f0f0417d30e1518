/* cuda_check: a CUDA call that fails ends the function it stands in with an exit code and one sentence: which call, where,
 * why, what to do. Needs an `Error *e` in scope; the function returns int. */
#ifndef PLSTM_CUDA_CHECK_H
#define PLSTM_CUDA_CHECK_H

#include <cuda_runtime_api.h>

#include "host/base/error.h"

/* EXIT_NO_DEVICE where another machine, driver or less memory is the answer, else EXIT_FAILED. `call` may go
 * on with its arguments: the name is what stands before the first bracket. */
int cuda_failed(Error *e, cudaError_t status, const char *call, const char *file, int line);

/* The exit code of cuda_failed and, in *remedy, what to do about it. */
int cuda_remedy(cudaError_t status, const char **remedy);

#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t status_ = (call);                                                              \
        if (status_ != cudaSuccess) return cuda_failed(e, status_, #call, __FILE__, __LINE__);     \
    } while (0)

#endif
