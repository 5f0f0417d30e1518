#include "device.h"

#ifdef PLSTM_CUDA

#include <string.h>

#include "cuda_check.h"

/* ---- failed calls ---- */

static const char goes_on[] = "the last checkpoint, where there is one, is whole: --resume goes on from it";

static int remedy_of(cudaError_t status, const char **remedy)
{
    switch (status) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice: *remedy = "--backend cpu runs everywhere"; return EXIT_NO_DEVICE;
    case cudaErrorInitializationError:
    case cudaErrorInvalidDevice:
        *remedy = "nvidia-smi tells whether the driver sees a GPU; --backend cpu runs everywhere";
        return EXIT_NO_DEVICE;
    case cudaErrorMemoryAllocation:
        *remedy = "a smaller --hidden, --batch or --seq needs less memory, and other programs on the GPU "
                  "take theirs";
        return EXIT_NO_DEVICE;
    case cudaErrorDevicesUnavailable:
        *remedy =
            "nvidia-smi tells who has the GPU, or whether it is still there; --backend cpu runs everywhere";
        return EXIT_NO_DEVICE;
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
        *remedy =
            "this program was compiled for other GPUs: make ARCH=sm_NN takes this one's (plstm devices)";
        return EXIT_NO_DEVICE;
    default: *remedy = goes_on; return EXIT_FAILED;
    }
}

static int name_length(const char *call) { return (int)strcspn(call, "("); }

int cuda_failed(Error *e, cudaError_t status, const char *call, const char *file, int line)
{
    const char *remedy;
    int code = remedy_of(status, &remedy);
    return error_set(e, code, "%.*s failed at %s:%d: %s (%s); %s", name_length(call), call, file, line,
                     cudaGetErrorString(status), cudaGetErrorName(status), remedy);
}

int cublas_failed(Error *e, cublasStatus_t status, const char *call, const char *file, int line)
{
    bool memory = status == CUBLAS_STATUS_ALLOC_FAILED, absent = status == CUBLAS_STATUS_NOT_INITIALIZED;
    const char *remedy = goes_on;
    if (memory || absent)
        remedy_of(memory ? cudaErrorMemoryAllocation : cudaErrorInitializationError, &remedy);
    return error_set(e, memory || absent ? EXIT_NO_DEVICE : EXIT_FAILED, "%.*s failed at %s:%d: %s (%s); %s",
                     name_length(call), call, file, line, cublasGetStatusString(status),
                     cublasGetStatusName(status), remedy);
}

/* ---- facts ---- */

int device_count(int *n, Error *e)
{
    *n = 0;
    cudaError_t status = cudaGetDeviceCount(n);
    if (status == cudaSuccess && *n == 0) status = cudaErrorNoDevice;
    if (status == cudaErrorInsufficientDriver)
        return error_set(e, EXIT_NO_DEVICE,
                         "no GPU can be used: there is no NVIDIA driver, or one too old for CUDA %d.%d (%s); "
                         "--backend cpu "
                         "runs everywhere",
                         CUDART_VERSION / 1000, CUDART_VERSION / 10 % 100, cudaGetErrorName(status));
    if (status == cudaErrorNoDevice)
        return error_set(
            e, EXIT_NO_DEVICE,
            "no GPU can be used: the driver finds none (%s; CUDA_VISIBLE_DEVICES may hide it); --backend cpu "
            "runs everywhere",
            cudaGetErrorName(status));
    CUDA_TRY(status);
    return EXIT_DONE;
}

int device_facts(int index, DeviceFacts *f, Error *e)
{
    struct cudaDeviceProp p;
    int clock_khz = 0, memory_khz = 0;
    *f = (DeviceFacts){.index = index};
    CUDA_TRY(cudaGetDeviceProperties(&p, index));
    CUDA_TRY(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, index));
    CUDA_TRY(cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, index));
    CUDA_TRY(cudaDriverGetVersion(&f->driver));
    CUDA_TRY(cudaRuntimeGetVersion(&f->runtime));
#ifdef CUDA_EMU
    snprintf(f->name, sizeof f->name, "emulated %.80s", p.name);
#else
    snprintf(f->name, sizeof f->name, "%.90s", p.name);
#endif
    f->major = p.major, f->minor = p.minor, f->sms = p.multiProcessorCount;
    f->memory = p.totalGlobalMem, f->l2 = (size_t)p.l2CacheSize;
    f->shared_per_block = p.sharedMemPerBlock, f->shared_per_block_most = p.sharedMemPerBlockOptin;
    f->shared_per_sm = p.sharedMemPerMultiprocessor, f->shared_reserved = p.reservedSharedMemPerBlock;
    f->registers_per_sm = p.regsPerMultiprocessor, f->threads_per_sm = p.maxThreadsPerMultiProcessor;
    f->blocks_per_sm = p.maxBlocksPerMultiProcessor;
    f->clock_mhz = clock_khz / 1000, f->memory_clock_mhz = memory_khz / 1000,
    f->memory_bus_bits = p.memoryBusWidth;
    f->cooperative = p.cooperativeLaunch, f->ecc = p.ECCEnabled;
#if CUDART_VERSION >= 12000
    f->clusters = p.clusterLaunch;
#endif
    return EXIT_DONE;
}

static void print_device(FILE *out, const DeviceFacts *f)
{
    fprintf(out, "%3d  %s: sm_%d%d, %d SMs, %d MHz, %.1f GiB at %d MHz x %d bits%s\n", f->index, f->name,
            f->major, f->minor, f->sms, f->clock_mhz, (double)f->memory / (1 << 30), f->memory_clock_mhz,
            f->memory_bus_bits, f->ecc ? ", ECC" : "");
    fprintf(out,
            "     per SM: %d registers, %zu bytes shared (%zu a block, %zu reserved of each), %d threads, %d "
            "blocks\n",
            f->registers_per_sm, f->shared_per_sm, f->shared_per_block_most, f->shared_reserved,
            f->threads_per_sm, f->blocks_per_sm);
    fprintf(out, "     L2 %zu bytes; cooperative launch %s, clusters %s\n", f->l2,
            f->cooperative ? "yes" : "no", f->clusters ? "yes" : "no");
}

int devices_command(FILE *out, Error *e)
{
    DeviceFacts f;
    int n, code = device_count(&n, e);
    for (int i = 0; !code && i < n; i++) {
        code = device_facts(i, &f, e);
        if (!code && i == 0)
            fprintf(out, "CUDA %d.%d, driver for CUDA %d.%d\n", f.runtime / 1000, f.runtime / 10 % 100,
                    f.driver / 1000, f.driver / 10 % 100);
        if (!code) print_device(out, &f);
    }
    return code;
}

#else

int devices_command(FILE *out, Error *e)
{
    (void)out;
    return error_set(e, EXIT_NO_DEVICE,
                     "this build of plstm has no cuda backend, and so sees no GPU; make with nvcc on PATH, "
                     "or NVCC=..., adds it");
}

#endif
