/* dev_barrier: loads and stores by which blocks wait for each other. */
#ifndef PLSTM_DEV_BARRIER_CUH
#define PLSTM_DEV_BARRIER_CUH

#include <kernels/dev_memory.cuh>

/* One look at memory that another thread will change: never cached in a register, ordered with nothing. Every spin goes through
 * it. */
template <class T> __device__ __forceinline__ T load_poll(const T *p)
{
    return *(const volatile T *)p;
}

/* The same at the scope of the GPU, by the owner's store_relaxed: a strong access of one word, whose values a thread sees in the
 * order in which they were written. It orders no other access. */
__device__ __forceinline__ unsigned poll_relaxed(const unsigned *p)
{
#if DEV_ARCH >= 700
    unsigned v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
                 : "=r"(v)
                 : "l"(__cvta_generic_to_global(p))
                 : "memory");
    return v;
#else
    return *(const volatile unsigned *)p;
#endif
}

/* Two neighbouring words by one load, each a poll_relaxed for itself; for data that is there as a rule, not for a spin. */
__device__ __forceinline__ uint2 load_relaxed(const uint2 *p)
{
    uint2 v;
#if DEV_ARCH >= 700
    asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];"
                 : "=r"(v.x), "=r"(v.y)
                 : "l"(__cvta_generic_to_global(p))
                 : "memory");
#else
    v.x = ((const volatile unsigned *)p)[0], v.y = ((const volatile unsigned *)p)[1];
#endif
    return v;
}

/* A store that both see; ordered with nothing but the thread's own accesses of the word. */
__device__ __forceinline__ void store_relaxed(unsigned *p, unsigned v)
{
#if DEV_ARCH >= 700
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;"
                 :
                 : "l"(__cvta_generic_to_global(p)), "r"(v)
                 : "memory");
#else
    *(volatile unsigned *)p = v;
#endif
}

/* Whether a wait that has looked `polls` times should give up. Bounded waits are written
 *
 *     for (unsigned n = 0; load_poll(p) < target; n++)
 *         if (poll_expired(n, limit))
 *             return false;
 *
 * On a device the limit decides; the emulator says yes exactly when nothing in the grid can move any more. */
__device__ __forceinline__ bool poll_expired(unsigned polls, unsigned limit)
{
    return polls >= limit;
}

/* Between two polls: leave the memory system to others for a moment. */
__device__ __forceinline__ void poll_pause()
{
#if DEV_ARCH >= 700
    __nanosleep(32);
#endif
}

/* A load behind which all is visible that the thread which stored the value by store_release had seen or written before. sm_35 has
 * no such instruction: there a full fence stands beside a volatile access. */
__device__ __forceinline__ unsigned load_acquire(const unsigned *p)
{
    unsigned v;
#if DEV_ARCH >= 700
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
#else
    v = *(const volatile unsigned *)p;
    __threadfence();
#endif
    return v;
}

/* The same in two parts, for a wait that looks often: load_watch at each look and, once the value that was waited for is seen,
 * watch_acquire, behind which all is visible. So on sm_35 a look costs no fence. */
__device__ __forceinline__ unsigned load_watch(const unsigned *p)
{
#if DEV_ARCH >= 700
    return load_acquire(p);
#else
    return *(const volatile unsigned *)p;
#endif
}
__device__ __forceinline__ void watch_acquire()
{
#if DEV_ARCH < 700
    __threadfence();
#endif
}

/* A store that publishes all that the thread has seen or written before, to whoever reads it by load_acquire. */
__device__ __forceinline__ void store_release(unsigned *p, unsigned v)
{
#if DEV_ARCH >= 700
    asm volatile("st.release.gpu.u32 [%0], %1;" : : "l"(p), "r"(v) : "memory");
#else
    __threadfence();
    *(volatile unsigned *)p = v;
#endif
}

#endif
