/* cluster: what forward and backward of the variant `cluster` share: how blocks of a cluster wait for each other's
 * asynchronous stores, and how they leave. cluster.h says how a plan divides the work.
 *
 * Exchange   Each block has two buffers and two mbarriers in its shared memory that take turns by the parity of the exchange's
 *            number n = 1 .. T-1. Blocks send into all buffers n & 1 by st.async, which counts its bytes at the receiver's
 *            mbarrier n & 1. The receiver announces how many come (cluster_expect) with the only arrival that a phase has: bytes
 *            that come before that stay counted in an open phase. Exchanges n and n+2 are successive phases of one mbarrier.
 * Order      A block sends exchange n+1 into a buffer that held exchange n-1. It has waited for exchange n, of which each
 *            receiver r sent its part behind a __syncthreads that follows all of r's reads of exchange n-1; and r's announcement
 *            of n+1 follows its wait for n-1, hence is of the right phase, whether it comes before or after the bytes.
 * End        Every exchange is waited for by all its receivers, so that none is under way when a block ends. Cluster barriers:
 *            one behind the first writes of shared memory, one before the end, since blocks read block 0's flag at the start.
 * Failure    A wait gives up after the time of poll_limit looks at a word in L2 (0: never), as cluster_looks counts it: the
 *            hardware decides how long it lets a thread sleep in a look at an mbarrier. The block that does so sends nothing more, so that the others of
 *            its cluster run dry, one exchange later at most, and give up, too: all come to the last cluster barrier, behind
 *            which nobody sends. What was sent and not waited for lands in the meantime; a block looks at its mbarriers
 *            CLUSTER_DRAIN times more, which gives it ten times the time that a store takes. Nothing traps. The first block to
 *            give up writes the fault record; it cannot know who sent too little, and names nobody. Other clusters do not
 *            meet this one and end as usual.  */
#ifndef PLSTM_CLUSTER_CUH
#define PLSTM_CLUSTER_CUH

#include <kernels/dev_barrier.cuh>
#include <kernels/dev_cluster.cuh>

#include "block_io.cuh"
#include "cluster.h"
#include "tensor.cuh"

#if DEV_ARCH == 0 || DEV_ARCH >= 900

enum { CLUSTER_DRAIN = 64 };

struct ClusterFlags {
    uint32_t timed_out; /* this block gave up, or the launch is behind one that did */
    uint32_t
        fault; /* block 0's is the record's when the launch began: all blocks of a cluster go by the same */
};

/* What a block waits at. */
struct ClusterMeeting {
    Mbarrier *arrived; /* [2] */
    ClusterFlags *flags;
    uint32_t bytes; /* of one exchange */
    uint32_t limit;
    int32_t exchanges; /* numbered from 1 */
};

/* One thread: exchange n is coming. */
static __device__ __forceinline__ void cluster_expect(const ClusterMeeting &m, int32_t n)
{
    if (n <= m.exchanges) mbarrier_arrive_expect(&m.arrived[n & 1], m.bytes);
}

/* The first cluster barrier, behind what the block has written for itself; whether the launch is to run at all. */
static __device__ __forceinline__ bool cluster_open(const ClusterMeeting &m,
                                                    const FaultRecord *fault)
{
    if (threadIdx.x == 0) {
        mbarrier_init(&m.arrived[0], 1), mbarrier_init(&m.arrived[1], 1);
        mbarrier_init_fence();
        cluster_expect(m, 1), cluster_expect(m, 2);
        m.flags->fault = load_poll(&fault->set);
    }
    cluster_arrive();
    cluster_wait();
    if (threadIdx.x == 0) m.flags->timed_out = cluster_map(m.flags, 0)->fault;
    __syncthreads();
    return m.flags->timed_out == 0;
}

/* Until exchange n is here, and announces n+2. All threads; true for whole warps that may read it. Behind the next
 * __syncthreads flags->timed_out says whether a thread of the block has given up. */
static __device__ __forceinline__ bool cluster_receive(const ClusterMeeting &m, int32_t n)
{
    bool here = true;
    uint32_t last = 0, looks = 0;
    while (!mbarrier_try(&m.arrived[n & 1], (uint32_t)(n - 1) >> 1 & 1)) {
        uint32_t now = (uint32_t)timer_now();
        if (looks == 0) last = now;
        looks += cluster_looks(now - last);
        last = now;
        if (m.limit && poll_expired(looks, m.limit)) {
            atomicExch(&m.flags->timed_out, 1u);
            here = false;
            break;
        }
    }
    if (threadIdx.x == 0 && here) cluster_expect(m, n + 2);
    return __all_sync(0xffffffffu, here) != 0;
}

/* One thread of a block that gave up at exchange n, before step `step`. */
static __device__ __forceinline__ void cluster_report(FaultRecord *fault, int32_t n, int32_t step)
{
    if (atomicCAS(&fault->set, 0u, 1u) != 0) return;
    fault->block = blockIdx.x, fault->step = (uint32_t)step;
    fault->expected = (uint32_t)n, fault->seen = (uint32_t)n - 1;
}

/* The last cluster barrier. */
static __device__ __forceinline__ void cluster_close(const ClusterMeeting &m)
{
    cluster_arrive();
    cluster_wait();
    if (!m.flags->timed_out || threadIdx.x > 0) return;
#pragma unroll 1
    for (int32_t i = 0; i < 4 * CLUSTER_DRAIN; i++)
        mbarrier_try(&m.arrived[i & 1], (uint32_t)i >> 1 & 1);
}

/* The block p places behind `own` of a cluster of `blocks`: each begins with another, so that not all send to one at a time. */
static __device__ __forceinline__ uint32_t cluster_peer(int32_t own, int32_t p, int32_t blocks)
{
    int32_t peer = own + p;
    return (uint32_t)(peer < blocks ? peer : peer - blocks);
}

/* ---- products ---- */

/* sum += a (QUADS m tiles of contraction tile i) * b, for all batch tiles. */
template <int PRECISION, int QUADS, int TILES>
static __device__ __forceinline__ void
cluster_multiply(float (&sum)[QUADS][TILES][4], const uint32_t (&a)[QUADS][4], const uint2 *operand,
                 int32_t tile, int32_t tiles)
{
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        uint2 word = operand[(n * tiles + tile) * 32];
        uint32_t b[2] = {word.x, word.y};
#pragma unroll
        for (int m = 0; m < QUADS; m++) tensor_multiply<PRECISION>(sum[m][n], a[m], b);
    }
}

/* A warp's product: RESIDENT contraction tiles of registers, then `shared` of shared memory, both from contraction tile `first`
 * on. operand and weights point at the lane's words. */
template <int PRECISION, int QUADS, int RESIDENT, int TILES>
static __device__ __forceinline__ void
cluster_product(float (&sum)[QUADS][TILES][4],
                const uint32_t (&kept)[RESIDENT > 0 ? RESIDENT : 1][QUADS][4], const uint4 *weights,
                int32_t shared, const uint2 *operand, int32_t first, int32_t tiles)
{
#pragma unroll
    for (int m = 0; m < QUADS; m++)
#pragma unroll
        for (int n = 0; n < TILES; n++)
            sum[m][n][0] = sum[m][n][1] = sum[m][n][2] = sum[m][n][3] = 0.0f;
#pragma unroll
    for (int i = 0; i < RESIDENT; i++)
        cluster_multiply<PRECISION, QUADS, TILES>(sum, kept[i], operand, first + i, tiles);
#pragma unroll 2
    for (int32_t i = 0; i < shared; i++) {
        uint32_t a[QUADS][4];
#pragma unroll
        for (int m = 0; m < QUADS; m++) {
            uint4 w = weights[(i * QUADS + m) * 32];
            a[m][0] = w.x, a[m][1] = w.y, a[m][2] = w.z, a[m][3] = w.w;
        }
        cluster_multiply<PRECISION, QUADS, TILES>(sum, a, operand, first + RESIDENT + i, tiles);
    }
}

#endif

/* What a plan of KIND_CLUSTER promises. */
static inline bool cluster_sound(const LstmPlan &plan)
{
    return plan.blocks == plan.cluster && plan.rows <= plan.batch && plan.streamed == 0 &&
           plan.units % TENSOR_UNITS == 0 && plan.shared_bytes == cluster_shared_bytes(&plan);
}

#endif
