/* dev_cluster: clusters, blocks that run at the same time and reach each other's shared memory; mbarriers, whose phases end when all
 * arrivals and all announced bytes have come; the stores and copies that an mbarrier counts. Needs sm_90. */
#ifndef PLSTM_DEV_CLUSTER_CUH
#define PLSTM_DEV_CLUSTER_CUH

#include <kernels/dev_memory.cuh>

#if DEV_ARCH == 0 || DEV_ARCH >= 900

/* ---- clusters ---- */

/* The block's place in its cluster, 0 .. cluster_size() - 1. */
__device__ __forceinline__ unsigned cluster_rank()
{
    unsigned v;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
    return v;
}

/* Blocks of the cluster. */
__device__ __forceinline__ unsigned cluster_size()
{
    unsigned v;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(v));
    return v;
}

/* The first half of the cluster's barrier; whole warps call the halves together, every thread in turn. What all threads did before
 * they arrived is seen behind the wait. Other blocks' shared memory may be touched behind the first barrier, and a block must not end
 * before a last one while others still touch its own. Without a word the halves release and acquire; the words themselves are younger
 * than CUDA 11.8. */
__device__ __forceinline__ void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.aligned;" : : : "memory");
}

/* The second half: until all threads of the cluster have arrived. */
__device__ __forceinline__ void cluster_wait()
{
    asm volatile("barrier.cluster.wait.aligned;" : : : "memory");
}

/* Where block `rank` of the cluster has what the caller's block has at p in its shared memory: for plain loads and stores. */
template <class T> __device__ __forceinline__ T *cluster_map(T *p, unsigned rank)
{
    T *q;
    asm("mapa.u64 %0, %1, %2;" : "=l"(q) : "l"(p), "r"(rank));
    return q;
}

/* A place in the shared memory of a block of the cluster, which the asynchronous operations below take. */
typedef unsigned SharedAt;

/* p of the caller's own block as such a place. */
__device__ __forceinline__ SharedAt shared_at(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* What block `rank` has at p, as such a place. */
__device__ __forceinline__ SharedAt shared_at(const void *p, unsigned rank)
{
    unsigned at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_at(p)), "r"(rank));
    return at;
}

/* A word that block `rank` of the cluster has in its shared memory, known to come from there: a load through cluster_map might read
 * anything. */
__device__ __forceinline__ unsigned cluster_load(const unsigned *p, unsigned rank)
{
    unsigned v;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(shared_at(p, rank)) : "memory");
    return v;
}
__device__ __forceinline__ float cluster_load(const float *p, unsigned rank)
{
    return __uint_as_float(cluster_load((const unsigned *)p, rank));
}

/* A word of the own block that other blocks of the cluster look at by cluster_look. Neither orders anything. */
__device__ __forceinline__ void cluster_note(unsigned *p, unsigned v)
{
    *(volatile unsigned *)p = v;
}
__device__ __forceinline__ unsigned cluster_look(const unsigned *p, unsigned rank)
{
    unsigned v;
    asm volatile("ld.volatile.shared::cluster.u32 %0, [%1];"
                 : "=r"(v)
                 : "r"(shared_at(p, rank))
                 : "memory");
    return v;
}

/* ---- mbarriers ---- */

typedef unsigned long long
    Mbarrier; /* in shared memory, touched by nothing but the functions below */

/* Phase 0 begins and, like every later one, ends after `arrivals` arrivals and when the bytes announced for it are there. One
 * thread; the others, and other blocks, wait for it (with mbarrier_init_fence and a barrier between). */
__device__ __forceinline__ void mbarrier_init(Mbarrier *b, unsigned arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
                 :
                 : "r"(shared_at(b)), "r"(arrivals)
                 : "memory");
}

/* Makes the caller's mbarrier_init visible to the cluster and to bulk copies. */
__device__ __forceinline__ void mbarrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
}

/* One arrival at an mbarrier of the own block, which announces bytes that asynchronous stores and copies will bring in this phase;
 * releases what the thread has done before. */
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier *b, unsigned bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;"
                 :
                 : "r"(shared_at(b)), "r"(bytes)
                 : "memory");
}

/* Whether the phase of that parity (phase n: n % 2) has ended, after a wait that the hardware bounds; if so, what its arrivals
 * released and its asynchronous operations wrote is visible. A wait is written
 *
 *     for (unsigned n = 0; !mbarrier_try(b, parity); n++)
 *         if (poll_expired(n, limit))
 *             return false; */
__device__ __forceinline__ bool mbarrier_try(Mbarrier *b, unsigned parity)
{
    unsigned done;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(done)
                 : "r"(shared_at(b)), "r"(parity)
                 : "memory");
    return done != 0;
}

/* ---- stores and copies that an mbarrier counts ---- */

/* Stores 4 or 16 bytes (a multiple of that) into a block of the cluster, and tells the mbarrier of the same block that they have
 * come; behind its phase, and no sooner, they may be read. */
__device__ __forceinline__ void store_async(SharedAt to, unsigned v, SharedAt mbarrier)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];"
                 :
                 : "r"(to), "r"(v), "r"(mbarrier)
                 : "memory");
}
__device__ __forceinline__ void store_async(SharedAt to, uint4 v, SharedAt mbarrier)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, "
                 "%3, %4}, [%5];"
                 :
                 : "r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(mbarrier)
                 : "memory");
}
__device__ __forceinline__ void store_async(SharedAt to, float4 v, SharedAt mbarrier)
{
    uint4 w = make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z),
                         __float_as_uint(v.w));
    store_async(to, w, mbarrier);
}

/* Copies from global memory into the caller's block, with one thread and without its registers. Addresses and bytes are multiples
 * of 16. What was written to the source in this launch needs a fence_async_proxy before it. */
__device__ __forceinline__ void copy_bulk(void *shared, const void *global, unsigned bytes,
                                          Mbarrier *mbarrier)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        :
        : "r"(shared_at(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes),
          "r"(shared_at(mbarrier))
        : "memory");
}

/* The same into every block of the cluster whose bit stands in `ranks`, with one read of the source: there to the place that
 * `shared` has in the caller's, and told to the mbarrier at the place that `mbarrier` has. */
__device__ __forceinline__ void copy_bulk_multicast(void *shared, const void *global,
                                                    unsigned bytes, Mbarrier *mbarrier,
                                                    unsigned ranks)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::"
                 "cluster [%0], "
                 "[%1], %2, [%3], %4;"
                 :
                 : "r"(shared_at(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes),
                   "r"(shared_at(mbarrier)), "h"((unsigned short)ranks)
                 : "memory");
}

/* Copies from the caller's shared memory into a block of the cluster. The source must stay as it is, and the caller's block alive,
 * until the target's mbarrier has told that the bytes have come. */
__device__ __forceinline__ void copy_bulk_to(SharedAt to, const void *shared, unsigned bytes,
                                             SharedAt mbarrier)
{
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], "
                 "[%1], %2, [%3];"
                 :
                 : "r"(to), "r"(shared_at(shared)), "r"(bytes), "r"(mbarrier)
                 : "memory");
}

/* Orders what the thread has written before with the bulk copies that read it after: by the writer, before the barrier behind which
 * the copy starts. */
__device__ __forceinline__ void fence_async_proxy()
{
    asm volatile("fence.proxy.async;" : : : "memory");
}

#endif
#endif
