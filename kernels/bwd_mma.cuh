/* bwd_mma: the time loop of the backward pass on tensor cores. bwd_mma.cu says the idea and compiles the instances, mma.h names
 * who owns what.
 *
 *   per step   each warp: wait for the producers of its slice, dgates_{t+1} from L2 into registers, multiply -> partial sums
 *              -> in a cluster: the block's sums, barrier of the cluster, every block's sums of the own units
 *              -> cell, publish dgates_t -> arrive -> store dgates -> fetch gates, c, dy and draw masks of t-1
 *
 * Exchange   dgates, rounded, in B operands whose k is unit*4 + gate. Two take turns: dgates_t are written where dgates_{t+2} were.
 *            The blocks of a cluster together read all dgates_{t+1} of the replica, each its part, so that together they have
 *            waited for every block; their barrier, which comes before any of them writes, tells all of them. Who had arrived
 *            with dgates_{t+1} had read dgates_{t+2}: no block writes before all have read, and nobody waits for that alone.
 * Cluster    A block leaves the sums over its slices of all the cluster's units in `sent`, one of two in turn, behind the
 *            barrier of the cluster each block reads the part of its units from every block. What is read is written again
 *            two barriers later. Blocks of a cluster give up together, since none may end while others read its shared memory:
 *            `flags`, one of two in turn, is read from all of them behind each barrier.
 * Sums       The order is fixed: within a warp contraction tiles upwards in the order of the tensor core, then slices upwards, then
 *            blocks of the cluster upwards.  */
#ifndef PLSTM_BWD_MMA_CUH
#define PLSTM_BWD_MMA_CUH

#include <kernels/dev_cluster.cuh>

#include "mma.cuh"

struct MmaBackwardArgs {
    LstmPlan plan;
    MmaCounts n;
    LstmBackward p;     /* p.launch.plan is the host's copy */
    uint32_t *exchange; /* [step & 1][replica][exchange_words] */
    uint32_t *words;    /* [replica][blocks] of the barrier */
    FaultRecord *fault;
    int32_t first_row; /* of this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* ---- the cluster ---- */

/* All threads of the cluster; of one block alone a __syncthreads. */
static __device__ __forceinline__ void mma_cluster_sync(const LstmPlan &plan)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    if (plan.cluster > 1) {
        cluster_arrive();
        cluster_wait();
        return;
    }
#endif
    __syncthreads();
}

/* What block `rank` of the cluster has at p. */
template <class T>
static __device__ __forceinline__ T mma_cluster_load(const LstmPlan &plan, const T *p, int32_t rank)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    if (plan.cluster > 1) return cluster_load(p, (unsigned)rank);
#endif
    (void)plan, (void)rank;
    return *p;
}

/* Behind a barrier of the cluster: whether none of its blocks has given up; those that have write the record. */
static __device__ __forceinline__ bool
mma_cluster_sound(const LstmPlan &plan, const GridBarrier &barrier, uint32_t *flag, uint32_t step)
{
    bool sound = true;
    for (int32_t rank = 0; rank < plan.cluster; rank++)
        if (mma_cluster_load(plan, flag, rank)) sound = false;
    if (sound) return true;
    barrier_sound(barrier, flag, step);
    mma_cluster_sync(plan);
    return false;
}

/* ---- sums ---- */

/* Sum over slices of the partial sums of row b and the cluster's unit m. */
static __device__ __forceinline__ float mma_slice_sum(const LstmPlan &plan, const MmaCounts &n,
                                                      const MmaShared &s, int32_t b, int32_t m)
{
    const float *partial = s.partial + b * n.pitch + m;
    float sum = partial[0];
    for (int32_t slice = 1; slice < plan.slices; slice++)
        sum += partial[slice * plan.batch * n.pitch];
    return sum;
}

/* The block's sums of all the cluster's units into one of the two `sent`. */
static __device__ __forceinline__ void mma_send_sums(const LstmPlan &plan, const MmaCounts &n,
                                                     const MmaShared &s, uint32_t turn)
{
    int32_t width = plan.cluster * plan.units;
    float *to = s.sent + (turn & 1) * plan.batch * width;
    for (int32_t j = thread_again(); j < plan.batch * width; j += (int32_t)blockDim.x) {
        int32_t b = j / width;
        to[j] = mma_slice_sum(plan, n, s, b, j - b * width);
    }
}

/* Partial dh of the block's unit u in row b of the pass, summed over the cluster. */
static __device__ __forceinline__ float mma_gather(const LstmPlan &plan, const MmaCounts &n,
                                                   const MmaShared &s, uint32_t turn, int32_t rank,
                                                   int32_t b, int32_t u)
{
    if (plan.cluster == 1) return mma_slice_sum(plan, n, s, b, u);
    int32_t at =
        ((int32_t)(turn & 1) * plan.batch + b) * plan.cluster * plan.units + rank * plan.units + u;
    float sum = 0.0f;
    for (int32_t from = 0; from < plan.cluster; from++)
        sum += mma_cluster_load(plan, s.sent + at, from);
    return sum;
}

/* ---- stages ---- */

/* dgates and dc of the block's elements of one pass, and dgates into the exchange (NULL at step 0). */
template <int PRECISION>
static __device__ __forceinline__ void
mma_backward_cells(const MmaBackwardArgs &a, const BlockPlace &at, const MmaShared &s,
                   const MaskBits &bits, int32_t t, int32_t pass, uint32_t turn, int32_t rank,
                   uint32_t *exchange)
{
    mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
        int32_t b = row - pass * a.plan.batch;
        Gates q = backward_cell(a.p, at, bits, t, row, u, s.state + item, a.n.items,
                                [&] { return mma_gather(a.plan, a.n, s, turn, rank, b, u); });
        if (!exchange) return;
        uint32_t *to = exchange + pass * a.n.pass_words;
        int32_t k = 4 * (at.unit + u);
        mma_send<PRECISION>(to, a.n.tiles, k, b, q.i),
            mma_send<PRECISION>(to, a.n.tiles, k + 1, b, q.f);
        mma_send<PRECISION>(to, a.n.tiles, k + 2, b, q.g),
            mma_send<PRECISION>(to, a.n.tiles, k + 3, b, q.o);
    });
}

/* ---- the launch ---- */

/* Worked out again wherever it is needed: the cluster's m tiles, the block's part of the contraction. */
static __device__ __forceinline__ MmaWarp mma_backward_warp(const MmaBackwardArgs &a,
                                                            const BlockPlace &at)
{
    const LstmPlan &plan = a.plan;
    int32_t rank = at.block % plan.cluster, first = (at.block - rank) * plan.units;
    int32_t units = min(plan.cluster * plan.units, (int32_t)a.p.shape.H - first);
    return mma_warp(plan, first / TENSOR_ROWS, (units + TENSOR_ROWS - 1) / TENSOR_ROWS, rank);
}

#endif

template <int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void bwd_mma_loop(const MmaBackwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    enum { N = BATCH / TENSOR_BATCH };
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    MmaShared s = carve(a.n.pieces);
    BlockPlace at = mma_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* with the whole replica */
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent);
    MmaMatrix matrix = {a.p.w_hh, a.p.w_tiles, a.p.shape.H};
    const int32_t rank = at.block % plan.cluster;
    GridBarrier barrier;
    barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks,
                 (uint32_t)at.block, (uint32_t)(at.replica * plan.blocks), a.p.launch.poll_limit,
                 s.flags, a.fault);
    if (threadIdx.x == 0) s.flags[1] = 0;
    uint32_t kept[RESIDENT][STACKED][4];
    mma_load<PRECISION, true, STACKED, RESIDENT>(matrix, plan, mma_backward_warp(a, at), s, kept);
    auto each = [&](auto do_item) { mma_all_items(plan, a.n, at, do_item); };
    backward_carry_in(a.p, at, s.state, a.n.items, each);
    backward_fetch(a.p, at, s.state, a.n.items, T - 1, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, T - 1);
    mma_cluster_sync(plan);
    if (!mma_cluster_sound(plan, barrier, s.flags, (uint32_t)T - 1)) return;

    uint32_t *exchange = a.exchange + at.replica * a.n.exchange_words;
    const int64_t other = plan.replicas * a.n.exchange_words;
    uint32_t turn = 0; /* of sent and flags: barriers of the cluster since that above */
    for (int32_t t = T - 1; t >= 0; t--) {
        const uint32_t *before = exchange + ((t + 1) & 1) * other;
        uint32_t *now = t ? exchange + (t & 1) * other : nullptr;
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            if (t + 1 < T) {
                float sum[STACKED][N][4];
                MmaWarp me = mma_backward_warp(a, at);
                turn++;
                if (pass == 0) mma_watch(plan, a.n, me, barrier, &s.flags[turn & 1]);
                mma_multiply<PRECISION, true, STACKED, RESIDENT, N>(
                    matrix, plan, me, s, kept, before + pass * a.n.pass_words, a.n.tiles, sum);
                if (pass) __syncthreads(); /* sums of the pass before lie where these go */
                mma_store_sums<STACKED, N>(s, me, plan.batch, a.n.pitch, sum);
                if (plan.cluster > 1) {
                    __syncthreads();
                    mma_send_sums(plan, a.n, s, turn);
                }
                mma_cluster_sync(plan);
                if (!mma_cluster_sound(plan, barrier, &s.flags[turn & 1], (uint32_t)t)) return;
            }
            copy_async_wait<0>();
            mma_backward_cells<PRECISION>(a, at, s, bits, t, pass, turn, rank, now);
        }
        __syncthreads();
        if (t) barrier_arrive(&barrier);
        backward_store(a.p, at, s.state, a.n.items, t, each);
        if (t == 0) break;
        backward_fetch(a.p, at, s.state, a.n.items, t - 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t - 1);
    }
    if (plan.cluster > 1)
        mma_cluster_sync(plan); /* others may still read what this block has sent */
#endif
}

struct MmaBackwardPass : PassOf<MmaBackwardArgs, LstmBackward, KIND_MMA, 1> {
    static Args arguments(const LstmPlan &plan, const LstmBackward &p)
    {
        return mma_arguments<Args>(plan, p);
    }
};

#endif
