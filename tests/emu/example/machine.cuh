/* machine: the operations that differ between nvcc and the emulator, as far as the example needs
 * them: a launch, dynamic shared memory, and one poll of memory that another thread changes. Copy
 * it to your own kernels and extend it; plstm's own headers, kernels/dev_*.cuh with
 * counterparts for the emulator in include/kernels, have the rest (clusters, asynchronous copies,
 * tensor cores). */
#ifndef MACHINE_CUH
#define MACHINE_CUH

#include <stddef.h>

#include "cuda_runtime.h"

template <class... P, class... A>
static inline cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                                 void (*kernel)(P...), A... args)
{
#if defined(CUDA_EMU)
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
#else
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<P>(args)...);
    return cudaPeekAtLastError();
#endif
}

#if !defined(CUDA_EMU)
__device__ __forceinline__ unsigned char *shared_base()
{
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    return dynamic_shared;
}
#endif

/* Carves the block's dynamic shared memory into pieces with 16-byte alignment. On the host the same
 * calls only count, so that one function both carves and sizes. All threads must take the same
 * pieces in the same order. */
class Pieces
{
  public:
    template <class T> __host__ __device__ T *take(size_t n)
    {
        size_t at = used;
        used += (n * sizeof(T) + 15) / 16 * 16;
#if defined(CUDA_EMU)
        if (!emu_on_device()) return nullptr;
        return (T *)emu_shared_take(count++, at, n * sizeof(T), __builtin_FILE(), __builtin_LINE());
#elif defined(__CUDA_ARCH__)
        return (T *)(shared_base() + at);
#else
        (void)at;
        return nullptr;
#endif
    }
    __host__ __device__ size_t bytes() const { return used; }

  private:
    size_t used = 0;
#if defined(CUDA_EMU)
    unsigned count = 0;
#endif
};

/* Loads a word that is never cached in a register. The load orders nothing; every spin loop uses
 * it. */
#if defined(CUDA_EMU)
EMU_INLINE unsigned look(const unsigned *p, const char *file = __builtin_FILE(),
                         int line = __builtin_LINE())
{
    unsigned value;
    emu_poll_load(p, &value, sizeof value, file, line);
    return value;
}
#else
static __device__ __forceinline__ unsigned look(const unsigned *p)
{
    return *(const volatile unsigned *)p;
}
#endif

#endif
