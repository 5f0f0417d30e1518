/* cluster: what the forward and the backward pass of the variant `cluster` share: how the blocks of
 * a cluster wait for each other's asynchronous stores, how they leave, and a warp's products.
 * cluster.h describes how a plan divides the work.
 *
 * Exchange   Each block has two buffers and two mbarriers in its shared memory, which alternate by
 *            the parity of the exchange's number n = 1 .. T-1. Blocks send into buffer n & 1 of
 *            every block by st.async, which counts its bytes at the receiver's mbarrier n & 1. The
 *            receiver announces how many bytes come (cluster_expect) with the only arrival of a
 *            phase; bytes that come before it are counted in the open phase. Exchanges n and n+2
 *            are successive phases of one mbarrier.
 * Order      A block sends exchange n+1 into a buffer that held exchange n-1. It has received
 *            exchange n, and in each receiver r every reader had read exchange n-1 before r's part
 *            of exchange n was complete: forward, each warp that reads sends to every block after a
 *            __syncwarp, and the other warps do not read; backward, the block sends after a
 *            __syncthreads. For the same reason no reader still waits for n-1 when n+1, the next
 *            phase of the same parity, completes. r announces n+1 after its wait for n-1, so the
 *            announcement belongs to the right phase whether it comes before or after the bytes.
 * Values     Bytes are counted, not values: a NaN arrives like any number, so a run that diverges
 *            does not hang.
 * End        Every exchange is waited for by all its receivers, so none is in flight when a block
 *            exits. There are two cluster barriers: one after the first writes to shared memory,
 *            and one before the end, since blocks read block 0's flag at the start.
 * Failure    A wait times out after the time of poll_limit polls of a word in L2 (0: never), as
 *            cluster_polls counts it, since the hardware decides how long a thread sleeps in one
 *            poll of an mbarrier. The warp (backward: the block) that times out sends nothing more,
 *            so the others of its cluster receive too little, one exchange later at most, and time
 *            out as well. All reach the last cluster barrier, after which none sends. Bytes that
 *            were sent but are no longer waited for arrive in the meantime: a block polls its
 *            mbarriers another 4 * CLUSTER_DRAIN times, which takes ten times as long as a store.
 *            Nothing traps. The first to time out writes the fault record and names the blocks that
 *            had not sent what it waits for: each warp notes its last exchange. Other clusters are
 *            not involved and finish as usual. */
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
    uint32_t timed_out[2]; /* whether this block timed out at an exchange of that parity */
    /* FaultRecord.set when the launch began. All blocks of a cluster use block 0's, so they
     * agree. */
    uint32_t fault;
};

/* What a block needs for its waits. */
struct ClusterMeeting {
    Mbarrier *arrived; /* [2] */
    ClusterFlags *flags;
    uint32_t *sent; /* [warps]: the last exchange that each has sent, for cluster_report */
    uint32_t bytes; /* per exchange */
    uint32_t limit;
    int32_t exchanges; /* numbered from 1 */
};

/* One thread announces exchange n. */
static __device__ __forceinline__ void cluster_expect(const ClusterMeeting &m, int32_t n)
{
    if (n <= m.exchanges) mbarrier_arrive_expect(&m.arrived[n & 1], m.bytes);
}

/* The first cluster barrier, after the block's first writes to its shared memory. Returns whether
 * the launch should run. */
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

/* A warp waits until exchange n has arrived; thread 0 of the block then announces n+2. Returns in
 * all lanes whether the warp may read the exchange. After the next __syncthreads,
 * flags->timed_out[n & 1] shows whether any thread of the block timed out. */
static __device__ __forceinline__ bool cluster_receive(const ClusterMeeting &m, int32_t n)
{
    bool here = true;
    uint32_t last = 0, polls = 0;
    while (!mbarrier_try(&m.arrived[n & 1], (uint32_t)(n - 1) >> 1 & 1)) {
        uint32_t now = (uint32_t)timer_now();
        if (polls == 0) last = now;
        polls += cluster_polls(now - last);
        last = now;
        if (m.limit && poll_expired(polls, m.limit)) {
            atomicExch(&m.flags->timed_out[n & 1], 1u);
            here = false;
            break;
        }
    }
    if (threadIdx.x == 0 && here) cluster_expect(m, n + 2);
    return __all_sync(0xffffffffu, here) != 0;
}

/* One thread of a block that timed out at exchange n, before step `step`, writes the record, unless
 * another thread was first. A block of the cluster is missing if one of the warps that have
 * something to send, the first warps(units of the block), has not sent exchange n. */
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

/* Returns the block p places after `own` in a cluster of `blocks`. Each block begins with a
 * different one, so that they do not all send to the same block at once. */
static __device__ __forceinline__ uint32_t cluster_peer(int32_t own, int32_t p, int32_t blocks)
{
    int32_t peer = own + p;
    return (uint32_t)(peer < blocks ? peer : peer - blocks);
}

/* ---- products ---- */

/* Computes sum = A * B over all contraction tiles, for the m tiles FIRST to FIRST + STACKED - 1 of
 * a warp's ALL. The first RESIDENT contraction tiles of A are in registers, the next `shared` in
 * shared memory; one of the latter follows every EVERY of the former, so that neither the tensor
 * cores nor shared memory waits for the other. The products go to CHAINS separate sums in turn, so
 * that they do not wait for each other. operand and weights point at the lane's words. Lanes whose
 * batch row does not exist (row) read nothing, which halves the reads for up to four rows; a column
 * of B affects only the same column of D, which is then unused. */
template <int PRECISION, int ALL, int FIRST, int STACKED, int RESIDENT, int TILES>
static __device__ __forceinline__ void
cluster_product(float (&sum)[STACKED][TILES][4],
                const uint32_t (&kept)[RESIDENT > 0 ? RESIDENT : 1][ALL][4], const uint4 *weights,
                int32_t shared, const uint2 *operand, int32_t tiles, const bool (&row)[TILES])
{
    enum {
        EVERY = 3,
        CHAINS = STACKED * TILES >= 3                          ? 1
                 : STACKED * TILES == 2 || ALL * RESIDENT > 16 ? 2
                                                               : 4
    };
    float chain[CHAINS][STACKED][TILES][4];
    uint32_t next[STACKED][4];
#pragma unroll
    for (int i = 0; i < CHAINS; i++)
#pragma unroll
        for (int m = 0; m < STACKED; m++)
#pragma unroll
            for (int n = 0; n < TILES; n++)
                chain[i][m][n][0] = chain[i][m][n][1] = chain[i][m][n][2] = chain[i][m][n][3] =
                    0.0f;
    auto multiply = [&](float(&to)[STACKED][TILES][4], const uint32_t(*w)[4], int32_t tile) {
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            uint2 word = make_uint2(0, 0);
            if (row[n]) word = operand[(n * tiles + tile) * 32];
            uint32_t b[2] = {word.x, word.y};
#pragma unroll
            for (int m = 0; m < STACKED; m++) tensor_multiply<PRECISION>(to[m][n], w[m], b);
        }
    };
    auto fetch = [&](int32_t i) {
#pragma unroll
        for (int m = 0; m < STACKED; m++) {
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
    for (int m = 0; m < STACKED; m++)
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

/* Returns whether the plan has the properties that the kernels of KIND_CLUSTER rely on. */
static inline bool cluster_sound(const LstmPlan &plan)
{
    return plan.blocks == plan.cluster && plan.blocks > 1 && plan.rows <= plan.batch &&
           plan.streamed == 0 && plan.units % TENSOR_UNITS == 0 &&
           plan.shared_bytes == cluster_shared_bytes(&plan);
}

#endif
