/* bwd_mma: the time loop of the backward pass on tensor cores. bwd_mma.cu describes the idea and
 * compiles the instances; mma.h defines which block and warp owns what.
 *
 *   per step   each warp: wait for the producers of its slice, load dgates_{t+1} from L2 into
 *              registers, multiply -> partial sums
 *              -> in a cluster: send the block's sums to the owners of the units, wait for the
 *              others' -> cell, publish dgates_t -> store dgates
 *              -> fetch gates, c, dy and draw masks of t-1
 *
 * Exchange   Blocks exchange rounded dgates as B operands whose k is unit * 4 + gate; dgates_t are
 *            exchange T-1-t of the launch. Each block of a cluster reads its part of the replica's
 *            dgates_{t+1}, so the blocks of a cluster together wait for every block of the replica.
 *            A block sends dgates_t only after it has received the sums of the others of its
 *            cluster. By then every block has sent dgates_{t+1}, as if it had waited for all of
 *            them itself. A block that had sent dgates_{t+1} had read dgates_{t+2}, so no block
 *            overwrites what another still has to read, and no extra wait is needed. EXCHANGE_FLAG
 *            has two buffers and an arrival at the grid barrier after each step's words;
 *            EXCHANGE_WORDS has WORD_BUFFERS buffers (word_exchange.cuh).
 * Cluster    A block sends its slices' sums of another block's units by st.async into `gathered` of
 *            that block. Two buffers alternate, and an mbarrier for each counts the bytes: there is
 *            no cluster barrier and no fence. Turn n is the n-th exchange of sums in the launch,
 *            one per step and pass, counted from 1. Turn n + 2 overwrites turn n. A block sends
 *            n + 2 once it has received all of n + 1, and each receiver sent its part of n + 1
 *            after a __syncthreads that follows its reads of n. To announce a turn is to give its
 *            mbarrier the number of bytes that come (mbarrier_arrive_expect). The receiver
 *            announces n + 2 once it has received all of n, so the announcement belongs to the
 *            right phase whether bytes have come before it or not. A block that times out sends
 *            nothing more, so the others of its cluster receive too little and time out as well.
 *            All of them reach a last cluster barrier, after which none sends.
 * Sums       The order is fixed: within a warp, contraction tiles upwards in the order of the
 *            tensor core; then slices upwards; then blocks of the cluster upwards. */
#ifndef PLSTM_BWD_MMA_CUH
#define PLSTM_BWD_MMA_CUH

#include <kernels/dev_cluster.cuh>

#include "cluster.h"
#include "mma.cuh"

struct MmaBackwardArgs {
    LstmPlan plan;
    MmaCounts n;
    LstmBackward p;     /* p.launch.plan is the host's copy */
    uint32_t *exchange; /* [mma_buffers][replica][exchange_words] */
    uint32_t *words;    /* [replica][blocks] of the grid barrier */
    FaultRecord *fault;
    int32_t first_row; /* of B, in this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* ---- the cluster ---- */

/* Synchronises all threads of the cluster; without a cluster it is a __syncthreads. */
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

/* A block's flags. */
enum {
    MMA_TIMED_OUT, /* it timed out waiting for dgates */
    MMA_SUMS,      /* it timed out waiting for its cluster's sums */
    MMA_FAULT      /* it found a fault recorded when the launch began */
};

/* Returns whether the launch should run: no block of the cluster has found a fault. */
static __device__ __forceinline__ bool mma_cluster_open(const LstmPlan &plan, const MmaShared &s)
{
    bool sound = !s.flags[MMA_FAULT];
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    for (int32_t rank = 0; plan.cluster > 1 && rank < plan.cluster; rank++)
        if (cluster_load(&s.flags[MMA_FAULT], (unsigned)rank)) sound = false;
#endif
    return sound;
}

/* The last barrier of the cluster. After a timeout, sums that a block no longer waits for may still
 * be in flight, and the block must not exit before they arrive. It polls its mbarriers another
 * MMA_DRAIN times; the polls are only a delay, ten times as long as a store. */
enum { MMA_DRAIN = 256 };
static __device__ __forceinline__ void mma_cluster_close(const LstmPlan &plan, const MmaShared &s)
{
    mma_cluster_sync(plan);
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    if (threadIdx.x > 0 || !(s.flags[MMA_TIMED_OUT] | s.flags[MMA_SUMS])) return;
#pragma unroll 1
    for (int32_t i = 0; i < MMA_DRAIN; i++)
        mbarrier_try((Mbarrier *)s.arrived + (i & 1), (uint32_t)i >> 1 & 1);
#endif
}

/* ---- sums ---- */

/* Returns the sum over the slices of the partial sums of row b and the cluster's unit m. */
static __device__ __forceinline__ float mma_slice_sum(const LstmPlan &plan, const MmaCounts &n,
                                                      const MmaShared &s, int32_t b, int32_t m)
{
    const float *partial = s.partial + b * n.pitch + m;
    float sum = partial[0];
    for (int32_t slice = 1; slice < plan.slices; slice++)
        sum += partial[slice * plan.batch * n.pitch];
    return sum;
}

#if DEV_ARCH == 0 || DEV_ARCH >= 900

/* Sends the block's sums of all the cluster's units, four at a time, to the blocks that own
 * them. */
static __device__ __forceinline__ void mma_send_sums(const LstmPlan &plan, const MmaCounts &n,
                                                     const MmaShared &s, uint32_t turn,
                                                     int32_t rank, int32_t rows)
{
    int32_t quads = plan.units / 4, width = plan.cluster * quads;
    const float *base = s.gathered + (turn & 1) * plan.cluster * plan.batch * plan.units;
    for (int32_t j = thread_again(); j < rows * width; j += (int32_t)blockDim.x) {
        int32_t b = j / width, q = j - b * width, to = q / quads;
        const float *partial = s.partial + b * n.pitch + 4 * q;
        float4 sum = *(const float4 *)partial;
        for (int32_t slice = 1; slice < plan.slices; slice++) {
            partial += plan.batch * n.pitch;
            float4 x = *(const float4 *)partial;
            sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
        }
        const float *at = base + (rank * plan.batch + b) * plan.units + 4 * (q - to * quads);
        store_async(shared_at(at, (unsigned)to), sum,
                    shared_at(&s.arrived[turn & 1], (unsigned)to));
    }
}

/* One thread announces the sums of a turn; the last turn is `turns`. Every turn brings bytes: a
 * phase that nothing was announced for would end at once, before all had waited for the phase
 * before it. */
template <int BATCH>
static __device__ __forceinline__ void mma_expect_sums(const LstmPlan &plan, const BlockPlace &at,
                                                       const MmaShared &s, uint32_t turn,
                                                       uint32_t turns)
{
    if (turn > turns) return;
    int32_t rows = mma_rows(plan, at, (int32_t)((turn - 1) % (uint32_t)mma_passes<BATCH>(at)));
    mbarrier_arrive_expect((Mbarrier *)s.arrived + (turn & 1),
                           (uint32_t)(4 * plan.cluster * rows * plan.units));
}

/* Waits until all sums of a turn have arrived, and announces those of turn + 2. Returns false and
 * sets the block's flag if this thread times out. */
template <int BATCH>
static __device__ __forceinline__ bool mma_await_sums(const LstmPlan &plan, const BlockPlace &at,
                                                      const MmaShared &s, uint32_t turn,
                                                      uint32_t turns, uint32_t limit)
{
    Mbarrier *arrived = (Mbarrier *)s.arrived + (turn & 1);
    uint32_t last = 0, polls = 0;
    while (!mbarrier_try(arrived, (turn - 1) >> 1 & 1)) {
        uint32_t now = (uint32_t)timer_now();
        if (polls == 0) last = now;
        polls += cluster_polls(now - last);
        last = now;
        if (limit && poll_expired(polls, limit)) {
            atomicExch(&s.flags[MMA_SUMS], 1u);
            return false;
        }
    }
    if (threadIdx.x == 0) mma_expect_sums<BATCH>(plan, at, s, turn + 2, turns);
    return true;
}

#endif

/* Returns the partial dh of the block's unit u in row b of the pass, summed over the cluster. */
static __device__ __forceinline__ float mma_gather(const LstmPlan &plan, const MmaCounts &n,
                                                   const MmaShared &s, uint32_t turn, int32_t b,
                                                   int32_t u)
{
    if (plan.cluster == 1) return mma_slice_sum(plan, n, s, b, u);
    int32_t each = plan.batch * plan.units;
    const float *from = s.gathered + (turn & 1) * plan.cluster * each + b * plan.units + u;
    float sum = 0.0f;
    for (int32_t rank = 0; rank < plan.cluster; rank++) sum += from[rank * each];
    return sum;
}

/* ---- stages ---- */

/* Sends the dgates of the block's element in row b of the pass into the exchange. `again` is the
 * same pass of the buffer to empty, or NULL. */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ void mma_send_gates(uint32_t *pass, uint32_t *again,
                                                      int32_t tiles, int32_t unit, int32_t b,
                                                      const Gates &q)
{
    /* A unit's first k is a multiple of 4; the words of neighbouring k in a tile are two apart. */
    int32_t i = mma_word_at<PRECISION>(tiles, 4 * unit, b);
    pass += i;
    if (again) again += i;
    if (PRECISION == PRECISION_BF16) {
        mma_send<EXCHANGE>(pass, again, word_of_bf16(q.i, q.f));
        mma_send<EXCHANGE>(pass + 2, again ? again + 2 : nullptr, word_of_bf16(q.g, q.o));
    } else {
        mma_send<EXCHANGE>(pass, again, word_of_tf32(q.i));
        mma_send<EXCHANGE>(pass + 2, again ? again + 2 : nullptr, word_of_tf32(q.f));
        mma_send<EXCHANGE>(pass + 4, again ? again + 4 : nullptr, word_of_tf32(q.g));
        mma_send<EXCHANGE>(pass + 6, again ? again + 6 : nullptr, word_of_tf32(q.o));
    }
}

/* Empties the block's words of every buffer. */
template <int PRECISION>
static __device__ __forceinline__ void mma_backward_clear(const MmaBackwardArgs &a,
                                                          const BlockPlace &at)
{
    enum { WORDS = PRECISION == PRECISION_BF16 ? 2 : 4 };
    mma_all_items(a.plan, a.n, at, [&](int32_t row, int32_t u, int32_t) {
        int32_t pass = row / a.plan.batch;
        uint32_t *word =
            mma_buffer(a, at.replica, 0) + pass * a.n.pass_words +
            mma_word_at<PRECISION>(a.n.tiles, 4 * (at.unit + u), row - pass * a.plan.batch);
        int64_t stride = a.plan.replicas * a.n.exchange_words;
#pragma unroll 1
        for (int32_t n = 0; n < WORD_BUFFERS && n <= a.p.shape.T - 2; n++, word += stride)
#pragma unroll
            for (int i = 0; i < WORDS; i++) store_relaxed(word + 2 * i, WORD_EMPTY);
    });
}

/* Computes dgates and dc of the block's elements of one pass, and sends dgates into the exchange
 * (NULL at step 0). */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ void
mma_backward_cells(const MmaBackwardArgs &a, const BlockPlace &at, const MmaShared &s,
                   const MaskBits &bits, int32_t t, int32_t pass, uint32_t turn, uint32_t *to,
                   uint32_t *again)
{
    mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
        int32_t b = row - pass * a.plan.batch;
        Gates q = backward_cell(a.p, at, bits, t, row, u, s.state + item, a.n.items,
                                [&] { return mma_gather(a.plan, a.n, s, turn, b, u); });
        if (to) mma_send_gates<EXCHANGE, PRECISION>(to, again, a.n.tiles, at.unit + u, b, q);
    });
}

/* ---- the launch ---- */

/* Returns the warp's tiles: the cluster's m tiles and the block's part of the contraction. They are
 * computed again wherever they are needed. */
static __device__ __forceinline__ MmaWarp mma_backward_warp(const MmaBackwardArgs &a,
                                                            const BlockPlace &at)
{
    const LstmPlan &plan = a.plan;
    int32_t rank = at.block % plan.cluster, first = (at.block - rank) * plan.units;
    int32_t units = min(plan.cluster * plan.units, (int32_t)a.p.shape.H - first);
    return mma_warp(plan, first / TENSOR_ROWS, (units + TENSOR_ROWS - 1) / TENSOR_ROWS, rank);
}

#endif

template <int EXCHANGE, int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void bwd_mma_loop(const MmaBackwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    enum { N = BATCH / TENSOR_BATCH, WORDS = EXCHANGE == EXCHANGE_WORDS };
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    MmaShared s = carve(a.n.pieces);
    BlockPlace at = mma_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* the whole replica leaves */
    /* In tf32 the largest tile leaves no registers for the run's step number, which the masks
     * need. */
    const bool keep =
        MASK_BITS_KEEP_STEP && (PRECISION != PRECISION_TF32 || STACKED * RESIDENT < 32);
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent, keep);
    MmaMatrix matrix = {a.p.w_hh, a.p.w_tiles, a.p.shape.H};
    /* The number of exchanges of sums. */
    const uint32_t turns = (uint32_t)((T - 1) * mma_passes<BATCH>(at));
    GridBarrier barrier;
    barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks,
                 (uint32_t)at.block, (uint32_t)(at.replica * plan.blocks), a.p.launch.poll_limit,
                 &s.flags[MMA_TIMED_OUT], a.fault);
    if (threadIdx.x == 0) s.flags[MMA_SUMS] = 0, s.flags[MMA_FAULT] = s.flags[MMA_TIMED_OUT];
    if (WORDS) {
        mma_backward_clear<PRECISION>(a, at);
        __syncthreads();
        barrier_arrive(&barrier);
    }
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    if (plan.cluster > 1 && threadIdx.x == 0) {
        Mbarrier *arrived = (Mbarrier *)s.arrived;
        mbarrier_init(arrived, 1), mbarrier_init(arrived + 1, 1);
        mbarrier_init_fence();
        mma_expect_sums<BATCH>(plan, at, s, 1, turns);
        mma_expect_sums<BATCH>(plan, at, s, 2, turns);
    }
#endif
    uint32_t kept[RESIDENT][STACKED][4];
    mma_load<PRECISION, true, STACKED, RESIDENT>(matrix, plan, mma_backward_warp(a, at), s, kept);
    auto each = [&](auto do_item) { mma_all_items(plan, a.n, at, do_item); };
    backward_carry_in(a.p, at, s.state, a.n.items, each);
    backward_fetch(a.p, at, s.state, a.n.items, T - 1, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, T - 1);
    mma_cluster_sync(plan);
    bool runs = mma_cluster_open(plan, s);

    uint32_t turn = 0;
    for (int32_t t = T - 1; runs && t >= 0; t--) {
        int32_t n = T - 1 - t; /* the exchange that this step sends */
        const uint32_t *before = n ? mma_exchange<EXCHANGE>(a, at.replica, n - 1) : nullptr;
        int32_t repeated = -1; /* the pass whose product this warp repeats */
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            int32_t rows = mma_rows(plan, at, pass);
            if (rows <= 0) break; /* this window has fewer rows than the plan */
            bool here = true;
            if (n > 0) {
                float sum[STACKED][N][4];
                MmaWarp me = mma_backward_warp(a, at);
                const uint32_t *from = before + pass * a.n.pass_words;
                mma_watch<EXCHANGE, PRECISION>(
                    plan, a.n, me, barrier, pass == 0 && (!WORDS || word_waits(n - 1)), from, rows);
                mma_multiply<EXCHANGE, PRECISION, true, STACKED, RESIDENT, N>(
                    matrix, plan, me, s, kept, from, a.n.tiles, rows, sum);
                if (repeated != pass &&
                    !mma_settled<EXCHANGE>(plan, me, barrier, from, a.n.tiles, rows, sum)) {
                    repeated = pass--;
                    continue;
                }
                if (pass) __syncthreads(); /* the sums of the pass before lie where these go */
                mma_store_sums<STACKED, N>(s, me, plan.batch, a.n.pitch, sum);
                __syncthreads();
                runs = mma_sound<EXCHANGE, PRECISION>(plan, a.n, at, barrier, a.p.shape.H, before,
                                                      n - 1, pass, (uint32_t)t);
                if (!runs) break;
#if DEV_ARCH == 0 || DEV_ARCH >= 900
                turn++;
                if (plan.cluster > 1) {
                    mma_send_sums(plan, a.n, s, turn, at.block % plan.cluster, rows);
                    here = mma_await_sums<BATCH>(plan, at, s, turn, turns, barrier.limit);
                }
#endif
            }
            copy_async_wait<0>(); /* the state of step t, fetched in the step before */
            uint32_t *to = nullptr, *again = nullptr;
            if (t)
                to = mma_exchange<EXCHANGE>(a, at.replica, n),
                again = mma_again<EXCHANGE>(a, at.replica, n, T - 2);
            if (to) to += pass * a.n.pass_words;
            if (again) again += pass * a.n.pass_words;
            if (here)
                mma_backward_cells<EXCHANGE, PRECISION>(a, at, s, bits, t, pass, turn, to, again);
        }
        if (!runs) break;
        __syncthreads();
        if (plan.cluster > 1 && s.flags[MMA_SUMS]) {
            if (threadIdx.x == 0) barrier_report(barrier, (uint32_t)t);
            break;
        }
        if (t && (!WORDS || word_arrives(n, T - 2))) barrier_arrive(&barrier);
        backward_store(a.p, at, s.state, a.n.items, t, each);
        if (t == 0) break;
        backward_fetch(a.p, at, s.state, a.n.items, t - 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t - 1);
    }
    if (plan.cluster > 1) mma_cluster_close(plan, s);
#endif
}

struct MmaBackwardPass : MmaPassOf<MmaBackwardArgs, LstmBackward, 1> {
    static Args arguments(const LstmPlan &plan, const LstmBackward &p)
    {
        return mma_arguments<Args>(plan, p);
    }
};

#endif
