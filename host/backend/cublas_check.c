#include "cublas_check.h"

#include <stdbool.h>
#include <string.h>

int cublas_failed(Error *e, cublasStatus_t status, const char *call, const char *file, int line)
{
    bool memory = status == CUBLAS_STATUS_ALLOC_FAILED,
         absent = status == CUBLAS_STATUS_NOT_INITIALIZED;
    const char *remedy;
    int code = cuda_remedy(memory   ? cudaErrorMemoryAllocation
                           : absent ? cudaErrorInitializationError
                                    : cudaErrorUnknown,
                           &remedy);
    return error_set(e, code, "%.*s failed at %s:%d: %s (%s); %s", (int)strcspn(call, "("), call,
                     file, line, cublasGetStatusString(status), cublasGetStatusName(status),
                     remedy);
}
