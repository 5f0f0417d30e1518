/* dev_barrier: the loads and stores with which blocks wait for each other. */
#ifndef PLSTM_DEV_BARRIER_CUH
#define PLSTM_DEV_BARRIER_CUH

#include <kernels/dev_memory.cuh>

/* Reads memory that another thread will change. The value is never cached in a register, and the
 * load is ordered with nothing. Every spin loop uses it or one of its variants below. */
template <class T> __device__ __forceinline__ T load_poll(const T *p)
{
    return *(const volatile T *)p;
}

/* Reads a word at GPU scope that its owner writes with store_relaxed. This is a strong access: a
 * thread sees the values of the word in the order in which they were written. It orders no other
 * access. */
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

/* Reads two neighbouring words with one load; each behaves as if read by poll_relaxed. Meant for
 * data that has usually arrived, not for a spin loop. */
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

/* The store that poll_relaxed and load_relaxed see. It is ordered only with the thread's own
 * accesses to the word. */
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

/* Returns whether a wait that has polled `polls` times should time out. Bounded waits are written
 *
 *     for (unsigned n = 0; load_poll(p) < target; n++)
 *         if (poll_expired(n, limit))
 *             return false;
 *
 * On a device the limit decides. The emulator returns true exactly when no thread of the grid can
 * make progress any more. */
__device__ __forceinline__ bool poll_expired(unsigned polls, unsigned limit)
{
    return polls >= limit;
}

/* Pauses between two polls, to leave the memory system to others. */
__device__ __forceinline__ void poll_pause()
{
#if DEV_ARCH >= 700
    __nanosleep(32);
#endif
}

/* Loads a word that another thread stored with store_release. Everything that thread had seen or
 * written before its store is visible after this load. sm_35 has no such instruction and uses a
 * full fence beside a volatile access. */
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

/* load_acquire in two parts, for a wait that polls often: load_watch at each poll and watch_acquire
 * once after the awaited value was seen. All is visible after watch_acquire, and on sm_35 a poll
 * costs no fence. */
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

/* Stores a word and publishes everything that the thread has seen or written before, to any thread
 * that reads the word with load_acquire. */
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
