/* dev_cluster: thread-block clusters, whose blocks run at the same time and can access each other's
 * shared memory; mbarriers, whose phases end when all arrivals and all announced bytes have come;
 * and the stores and copies that an mbarrier counts. Needs sm_90. */
#ifndef PLSTM_DEV_CLUSTER_CUH
#define PLSTM_DEV_CLUSTER_CUH

#include <kernels/dev_memory.cuh>

#if DEV_ARCH == 0 || DEV_ARCH >= 900

/* ---- clusters ---- */

/* Returns the block's rank in its cluster, 0 to cluster_size() - 1. */
__device__ __forceinline__ unsigned cluster_rank()
{
    unsigned v;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
    return v;
}

/* Returns the number of blocks in the cluster. */
__device__ __forceinline__ unsigned cluster_size()
{
    unsigned v;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(v));
    return v;
}

/* The first half of the cluster's barrier. Whole warps call the two halves together, and each
 * thread calls them alternately. Everything that any thread did before it arrived is visible after
 * the wait. Other blocks' shared memory may be accessed only after a first barrier, and a block
 * must not exit before a last barrier while others still access its shared memory. Without a
 * qualifier the two halves have release and acquire semantics; the explicit qualifiers are newer
 * than CUDA 11.8. */
__device__ __forceinline__ void cluster_arrive()
{
    __syncwarp(); /* threads of a warp that had diverged */
    asm volatile("barrier.cluster.arrive.aligned;" : : : "memory");
}

/* The second half: waits until all threads of the cluster have arrived. */
__device__ __forceinline__ void cluster_wait()
{
    asm volatile("barrier.cluster.wait.aligned;" : : : "memory");
}

/* Returns the address, for plain loads and stores, at which block `rank` of the cluster has what
 * the caller's block has at p in its shared memory. */
template <class T> __device__ __forceinline__ T *cluster_map(T *p, unsigned rank)
{
    T *q;
    asm("mapa.u64 %0, %1, %2;" : "=l"(q) : "l"(p), "r"(rank));
    return q;
}

/* An address in the shared memory of a block of the cluster, as the asynchronous operations below
 * take it. */
typedef unsigned SharedAt;

/* Returns the address of p in the caller's own block. */
__device__ __forceinline__ SharedAt shared_at(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* Returns the address of what block `rank` has at p. */
__device__ __forceinline__ SharedAt shared_at(const void *p, unsigned rank)
{
    unsigned at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_at(p)), "r"(rank));
    return at;
}

/* Reads a word of the shared memory of block `rank`. This load names the state space, whereas
 * a load through cluster_map is a generic load. */
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

/* cluster_note writes a word of the caller's own block that other blocks of the cluster read with
 * cluster_look. Neither orders anything. */
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

/* Lies in shared memory and is accessed only by the functions below. */
typedef unsigned long long Mbarrier;

/* Begins phase 0. Each phase ends after `arrivals` arrivals, once the bytes announced for it have
 * come. Called by one thread; the other threads and blocks may use the mbarrier after
 * mbarrier_init_fence and a barrier. */
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

/* Arrives once at an mbarrier of the caller's own block and announces the bytes that asynchronous
 * stores and copies will bring in this phase. Releases what the thread has done before. */
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier *b, unsigned bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;"
                 :
                 : "r"(shared_at(b)), "r"(bytes)
                 : "memory");
}

/* Returns whether the phase of that parity (n % 2 for phase n) has ended, after a wait that the
 * hardware bounds. If it has, what its arrivals released and its asynchronous operations wrote is
 * visible. A wait is written
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

/* Stores 4 or 16 bytes, at an address that is a multiple of the size, into a block of the cluster
 * and counts them at the given mbarrier of the same block. They may be read only after that
 * mbarrier's phase has ended. */
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

/* Copies from global memory into the caller's block; one thread starts the copy, which uses none of
 * its registers. Addresses and `bytes` are multiples of 16. If the source was written in this
 * launch, the writer must call fence_async_proxy first. */
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

/* copy_bulk into every block of the cluster whose bit is set in `ranks`, with one read of the
 * source. Each target block receives the bytes at the same offset as `shared` in the caller's
 * block, and counts them at the mbarrier at the same offset as `mbarrier`. */
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

/* Copies from the caller's shared memory into a block of the cluster. Until the target's mbarrier
 * has counted the bytes, the source must not change and the caller's block must not exit. */
__device__ __forceinline__ void copy_bulk_to(SharedAt to, const void *shared, unsigned bytes,
                                             SharedAt mbarrier)
{
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], "
                 "[%1], %2, [%3];"
                 :
                 : "r"(to), "r"(shared_at(shared)), "r"(bytes), "r"(mbarrier)
                 : "memory");
}

/* Orders what the thread has written before with bulk copies that read it later. The writer calls
 * it before the barrier after which the copy starts. */
__device__ __forceinline__ void fence_async_proxy()
{
    asm volatile("fence.proxy.async;" : : : "memory");
}

#endif
#endif
