/* dev_memory: shared memory, loads through a chosen cache, asynchronous copies, arithmetic by
 * single machine instructions, and the few special registers that kernels read.
 *
 * The dev_*.cuh files contain every `__shared__`, `volatile` and `asm` of the kernels. They are
 * included as <kernels/dev_NAME.cuh>, so that the emulator's include path finds its own version
 * first (tests/emu/include/kernels); nothing else here depends on the emulator. They compile with
 * nvcc 11.8 (sm_35) to 13. */
#ifndef PLSTM_DEV_MEMORY_CUH
#define PLSTM_DEV_MEMORY_CUH

#include <stddef.h>

#include <cuda_runtime.h>

/* The architecture that code is generated for (350, 700, 750, 800, 900), or 0 while nvcc compiles
 * the host side. Code that needs one is guarded by `#if DEV_ARCH == 0 || DEV_ARCH >= 900`. */
#if defined(__CUDA_ARCH__)
#define DEV_ARCH __CUDA_ARCH__
#else
#define DEV_ARCH 0
#endif

/* ---- shared memory ---- */

/* Returns the start of the block's dynamic shared memory. */
__device__ __forceinline__ unsigned char *smem_base()
{
    extern __shared__ __align__(16) unsigned char dev_smem[];
    return dev_smem;
}

/* Carves the block's dynamic shared memory into pieces of 16-byte alignment. On the host the same
 * calls only count bytes, so one function can both carve and size. All threads of a block must take
 * the same pieces in the same order. */
struct Smem {
    __host__ __device__ Smem() : used(0) {}

    /* Returns the next n elements of type T; on the host a null pointer. */
    template <class T> __host__ __device__ __forceinline__ T *take(size_t n)
    {
        size_t at = used;
        used = (used + n * sizeof(T) + 15) / 16 * 16;
#if defined(__CUDA_ARCH__)
        return (T *)(smem_base() + at);
#else
        (void)at;
        return (T *)nullptr;
#endif
    }

    /* Returns the bytes taken so far, which the launch must request. */
    __host__ __device__ size_t bytes() const { return used; }

  private:
    size_t used;
};

/* A static shared array of constant size: SHARED_ARRAY(float, red, 32); */
#define SHARED_ARRAY(T, name, n) __shared__ T name[n]

/* ---- loads ---- */

/* A load through the read-only cache, only for memory that no thread writes during the launch.
 * In a persistent kernel that excludes every tensor that the kernel itself produces. (nvcc chooses
 * this path by itself for a `const T *__restrict__`.) */
template <class T> __device__ __forceinline__ T ldg(const T *p)
{
#if DEV_ARCH >= 350
    return __ldg(p);
#else
    return *p;
#endif
}

/* A load that is served by L2 and never by this SM's L1: for memory that other blocks write during
 * the launch (after a barrier, which orders the accesses) and for weights that are streamed at
 * every step. T is 4, 8 or 16 bytes wide. */
template <class T> __device__ __forceinline__ T load_l2(const T *p)
{
#if DEV_ARCH >= 350
    return __ldcg(p);
#else
    return *p;
#endif
}

/* ---- copies from global into shared memory that overlap with arithmetic ---- */

/* Starts a copy of 4 bytes through L1; both addresses are multiples of 4. The bytes are in shared
 * memory once this thread has waited for their group (for other threads: after the barrier that
 * follows). Until then no thread may read or write the target or change the source. Before sm_80
 * this is a load and a store, and the wait does nothing. */
__device__ __forceinline__ void copy_async4(void *shared, const void *global)
{
#if DEV_ARCH >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(shared)),
                   "l"(__cvta_generic_to_global(global))
                 : "memory");
#else
    *(unsigned *)shared = load_l2((const unsigned *)global);
#endif
}

/* copy_async4 for 16 bytes, bypassing L1; both addresses are multiples of 16. */
__device__ __forceinline__ void copy_async16(void *shared, const void *global)
{
#if DEV_ARCH >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(shared)),
                   "l"(__cvta_generic_to_global(global))
                 : "memory");
#else
    *(float4 *)shared = load_l2((const float4 *)global);
#endif
}

/* Closes the group of the copies that this thread has started since the last call; a group may be
 * empty. */
__device__ __forceinline__ void copy_async_commit()
{
#if DEV_ARCH >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

/* Waits until at most the N latest groups of this thread are incomplete. */
template <int N> __device__ __forceinline__ void copy_async_wait()
{
#if DEV_ARCH >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
#endif
}

/* ---- arithmetic ---- */

/* Returns 1 / x within one unit in the last place, by one instruction; 0 if the result is below the
 * smallest normal number. */
__device__ __forceinline__ float reciprocal(float x)
{
#if DEV_ARCH > 0
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

#if DEV_ARCH > 0 && DEV_ARCH < 700
/* Returns 2^x by the one instruction that expf and tanhf also use. */
__device__ __forceinline__ float power_of_two(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

/* ---- registers ---- */

/* Returns nanoseconds of the GPU's wall clock, which is the same on every SM. Some GPUs advance it
 * only once a microsecond. */
__device__ __forceinline__ unsigned long long timer_now()
{
    unsigned long long v = 0;
#if DEV_ARCH > 0
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(v));
#endif
    return v;
}

/* Returns the SM's 32-bit cycle counter. It wraps within seconds, so only differences are
 * meaningful. */
__device__ __forceinline__ unsigned clock_now()
{
    unsigned v = 0;
#if DEV_ARCH > 0
    asm volatile("mov.u32 %0, %%clock;" : "=r"(v));
#endif
    return v;
}

/* Returns v and hides its value from the compiler, which then neither keeps what follows from v in
 * registers across a loop nor turns every address derived from it into a pointer of its own. */
__device__ __forceinline__ int opaque(int v)
{
#if DEV_ARCH > 0
    asm volatile("" : "+r"(v));
#endif
    return v;
}

/* Returns threadIdx.x, read again. In the time loop of a persistent kernel, whatever follows from
 * threadIdx.x alone is loop-invariant, and compilers keep it in registers that the weights need;
 * what follows from this value is computed again at every step. */
__device__ __forceinline__ int thread_again()
{
#if DEV_ARCH > 0
    int v;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(v));
    return v;
#else
    return (int)threadIdx.x;
#endif
}

#endif
