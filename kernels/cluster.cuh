/* cluster: what forward and backward of the variant `cluster` share: how blocks of a cluster wait for each other's
 * asynchronous stores, how they leave, and a warp's products. cluster.h says how a plan divides the work.
 *
 * Exchange   Each block has two buffers and two mbarriers in its shared memory that take turns by the parity of the exchange's
 *            number n = 1 .. T-1. Blocks send into all buffers n & 1 by st.async, which counts its bytes at the receiver's
 *            mbarrier n & 1. The receiver announces how many come (cluster_expect) with the only arrival that a phase has: bytes
 *            that come before that stay counted in an open phase. Exchanges n and n+2 are successive phases of one mbarrier.
 * Order      A block sends exchange n+1 into a buffer that held exchange n-1. It has waited for exchange n, of which all of each
 *            receiver r's readers sent a part after they had read exchange n-1: forward each warp that reads sends to every block,
 *            behind a __syncwarp, and other warps do not read; backward the block sends behind a __syncthreads. For the same reason
 *            no reader is still at the wait for n-1 when n+1, the next phase with that parity, is complete. r's announcement of n+1
 *            follows its wait for n-1, hence is of the right phase, whether it comes before or after the bytes.
 * Values     Bytes are counted, not values: a NaN arrives like any number, and a run that diverges does not wait.
 * End        Every exchange is waited for by all its receivers, so that none is under way when a block ends. Cluster barriers:
 *            one behind the first writes of shared memory, one before the end, since blocks read block 0's flag at the start.
 * Failure    A wait gives up after the time of poll_limit looks at a word in L2 (0: never), as cluster_looks counts it: the
 *            hardware decides how long it lets a thread sleep in a look at an mbarrier. The warp (backward: the block) that does so
 *            sends nothing more, so that the others of its cluster run dry, one exchange later at most, and give up, too: all come
 *            to the last cluster barrier, behind which nobody sends. What was sent and not waited for lands in the meantime; a
 *            block looks at its mbarriers CLUSTER_DRAIN times more, which gives it ten times the time that a store takes. Nothing
 *            traps. The first to give up writes the fault record, and names the blocks that had not sent what it waits for: each
 *            warp leaves a note of its last exchange. Other clusters do not meet this one and end as usual.  */
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
    uint32_t timed_out[2]; /* this block timed out at an exchange of that parity */
    uint32_t
        fault; /* block 0's is the record's when the launch began: all blocks of a cluster go by the same */
};

/* What a block waits at. */
struct ClusterMeeting {
    Mbarrier *arrived; /* [2] */
    ClusterFlags *flags;
    uint32_t *sent; /* [warps]: the last exchange that each has sent, for cluster_report */
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
        m.flags->timed_out[0] = m.flags->timed_out[1] = 0;
    }
    if (threadIdx.x % 32 == 0) cluster_note(&m.sent[threadIdx.x / 32], 0);
    cluster_arrive();
    cluster_wait();
    return cluster_load(&m.flags->fault, 0) == 0;
}

/* Until exchange n is here, and announces n+2: a warp for itself; whether it may read. Behind the next __syncthreads
 * flags->timed_out[n & 1] says whether a thread of the block has given up. */
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
            atomicExch(&m.flags->timed_out[n & 1], 1u);
            here = false;
            break;
        }
    }
    if (threadIdx.x == 0 && here) cluster_expect(m, n + 2);
    return __all_sync(0xffffffffu, here) != 0;
}

/* One thread of a block that gave up at exchange n, before step `step`: the record, unless somebody was faster. Missing are the
 * blocks of the cluster of which a warp that has something to send, one of `warps(units of the block)`, has not sent exchange n. */
template <class Warps>
static __device__ __forceinline__ void
cluster_report(const ClusterMeeting &m, const LstmPlan &plan, const LstmShape &shape,
               const BlockPlace &at, FaultRecord *fault, int32_t n, int32_t step, Warps warps)
{
    if (atomicCAS(&fault->set, 0u, 1u) != 0) return;
#pragma unroll 1
    for (int32_t b = 0; b < plan.blocks; b++) {
        int32_t units = (int32_t)min((int64_t)plan.units, shape.H - b * (int64_t)plan.units),
                number = at.replica * plan.blocks + b;
        bool missing = false;
#pragma unroll 1
        for (int32_t w = 0; w < warps(units); w++)
            missing |= (int32_t)cluster_look(&m.sent[w], (uint32_t)b) < n;
        if (missing && number < 256) fault->missing[number / 32] |= 1u << number % 32;
    }
    fault->block = blockIdx.x, fault->step = (uint32_t)step;
    fault->expected = (uint32_t)n, fault->seen = (uint32_t)n - 1;
}

/* The last cluster barrier. */
static __device__ __forceinline__ void cluster_close(const ClusterMeeting &m)
{
    cluster_arrive();
    cluster_wait();
    if (!(m.flags->timed_out[0] | m.flags->timed_out[1]) || threadIdx.x > 0) return;
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

/* sum = A * B over all contraction tiles, for the m tiles FIRST .. FIRST + QUADS - 1 of a warp's ALL: RESIDENT contraction tiles from
 * registers, then `shared` from shared memory, one of these for every EVERY of those, so that neither tensor cores nor shared memory
 * wait for the other, into CHAINS sums of their own in turn, so that products do not wait for each other. operand and weights
 * point at the lane's words. Lanes whose batch row does not exist (row) read nothing, which
 * halves the reads of up to four rows: columns of B make columns of D, so that what they hold is nobody's. */
template <int PRECISION, int ALL, int FIRST, int QUADS, int RESIDENT, int TILES>
static __device__ __forceinline__ void
cluster_product(float (&sum)[QUADS][TILES][4],
                const uint32_t (&kept)[RESIDENT > 0 ? RESIDENT : 1][ALL][4], const uint4 *weights,
                int32_t shared, const uint2 *operand, int32_t tiles, const bool (&row)[TILES])
{
    enum {
        EVERY = 3,
        CHAINS = QUADS * TILES >= 3                          ? 1
                 : QUADS * TILES == 2 || ALL * RESIDENT > 16 ? 2
                                                             : 4
    };
    float chain[CHAINS][QUADS][TILES][4];
    uint32_t next[QUADS][4];
#pragma unroll
    for (int i = 0; i < CHAINS; i++)
#pragma unroll
        for (int m = 0; m < QUADS; m++)
#pragma unroll
            for (int n = 0; n < TILES; n++)
                chain[i][m][n][0] = chain[i][m][n][1] = chain[i][m][n][2] = chain[i][m][n][3] =
                    0.0f;
    auto multiply = [&](float(&to)[QUADS][TILES][4], const uint32_t(*w)[4], int32_t tile) {
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            uint2 word = make_uint2(0, 0);
            if (row[n]) word = operand[(n * tiles + tile) * 32];
            uint32_t b[2] = {word.x, word.y};
#pragma unroll
            for (int m = 0; m < QUADS; m++) tensor_multiply<PRECISION>(to[m][n], w[m], b);
        }
    };
    auto fetch = [&](int32_t i) {
#pragma unroll
        for (int m = 0; m < QUADS; m++) {
            uint4 w = weights[(i * ALL + FIRST + m) * 32];
            next[m][0] = w.x, next[m][1] = w.y, next[m][2] = w.z, next[m][3] = w.w;
        }
    };
    if (shared == 0) {
#pragma unroll
        for (int i = 0; i < RESIDENT; i++) multiply(chain[i % CHAINS], &kept[i][FIRST], i);
    } else {
        int32_t j = 0;
        fetch(0);
#pragma unroll
        for (int i = 0; i < RESIDENT; i++) {
            multiply(chain[i % CHAINS], &kept[i][FIRST], i);
            if (i % EVERY == EVERY - 1 && j < shared) {
                multiply(chain[(i + 1) % CHAINS], next, RESIDENT + j);
                if (++j < shared) fetch(j);
            }
        }
#pragma unroll 1
        while (j < shared) {
#pragma unroll
            for (int i = 0; i < CHAINS; i++)
                if (j < shared) {
                    multiply(chain[i], next, RESIDENT + j);
                    if (++j < shared) fetch(j);
                }
        }
    }
#pragma unroll
    for (int m = 0; m < QUADS; m++)
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x = chain[0][m][n][i];
                if (CHAINS > 1) x += chain[1 % CHAINS][m][n][i];
                if (CHAINS > 2) x += chain[2 % CHAINS][m][n][i] + chain[3 % CHAINS][m][n][i];
                sum[m][n][i] = x;
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
