#include "cuda_check.h"

#include <string.h>

static const char goes_on[] =
    "the last checkpoint, if there is one, is complete: --resume continues from it";

int cuda_remedy(cudaError_t status, const char **remedy)
{
    switch (status) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice: *remedy = "--backend cpu runs everywhere"; return EXIT_NO_DEVICE;
    case cudaErrorInitializationError:
    case cudaErrorInvalidDevice:
        *remedy = "nvidia-smi shows whether the driver sees a GPU; --backend cpu runs everywhere";
        return EXIT_NO_DEVICE;
    case cudaErrorMemoryAllocation:
        *remedy = "a smaller --hidden, --batch or --seq needs less memory, and other programs "
                  "on the GPU use some";
        return EXIT_NO_DEVICE;
    case cudaErrorDevicesUnavailable:
        *remedy = "nvidia-smi shows who uses the GPU, or whether it is still there; --backend cpu "
                  "runs everywhere";
        return EXIT_NO_DEVICE;
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
        *remedy = "this program was compiled for other GPUs: make ARCH=sm_NN compiles it for this "
                  "one (plstm devices)";
        return EXIT_NO_DEVICE;
    default: *remedy = goes_on; return EXIT_FAILED;
    }
}

int cuda_failed(Error *e, cudaError_t status, const char *call, const char *file, int line)
{
    const char *remedy;
    int code = cuda_remedy(status, &remedy);
    return error_set(e, code, "%.*s failed at %s:%d: %s (%s); %s", (int)strcspn(call, "("), call,
                     file, line, cudaGetErrorString(status), cudaGetErrorName(status), remedy);
}
