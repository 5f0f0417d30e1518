/* fwd_mma: the time loop of the forward pass on tensor cores. fwd_mma.cu says the idea and compiles the instances, mma.h names
 * who owns what.
 *
 *   per launch publish h_0 -> arrive -> load weights
 *   per step   each warp: wait for the producers of its slice, h_t from L2 into registers, multiply -> partial sums
 *              -> cell, publish h_{t+1} -> arrive -> store gates, c, h, y -> fetch x_proj and draw masks of t+1
 *
 * Exchange   h_t as step t reads it (with a recurrent site: masked), rounded, in B operands. Two take turns: h_{t+1} is written
 *            where h_{t-1} was. The slices of a block together read all of h_t, so that its warps together have waited for every
 *            block of the replica by the __syncthreads behind the product, and who had arrived with h_t had read h_{t-1}: no
 *            block writes before all have read, and nobody waits for that alone.
 * Sums       slices * batch * 16 * m tiles floats are written once and read once. The order is fixed: within a warp contraction
 *            tiles upwards in the order of the tensor core, then slices upwards onto x_proj + biases.  */
#ifndef PLSTM_FWD_MMA_CUH
#define PLSTM_FWD_MMA_CUH

#include "mma.cuh"

struct MmaForwardArgs {
    LstmPlan plan;
    MmaCounts n;
    LstmForward p;      /* p.launch.plan is the host's copy */
    uint32_t *exchange; /* [step & 1][replica][exchange_words] */
    uint32_t *words;    /* [replica][blocks] of the barrier */
    FaultRecord *fault;
    int32_t first_row; /* of this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* Where forward_carry_in and the like find an element's floats in s.state. */
struct MmaForwardState {
    float4 *gates;
    float *c, *h;
    float4 *bias;
};

/* h of an element into the exchange of the step that reads it. */
template <int PRECISION>
static __device__ __forceinline__ void mma_send_h(const MmaForwardArgs &a, const BlockPlace &at,
                                                  uint32_t *exchange, int32_t pass, int32_t row,
                                                  int32_t u, float h)
{
    mma_send<PRECISION>(exchange + pass * a.n.pass_words, a.n.tiles, at.unit + u,
                        row - pass * a.plan.batch, h);
}

/* Gates, c and h of the block's elements of one pass, and h_{t+1} into the exchange (NULL after the last step). */
template <int PRECISION>
static __device__ __forceinline__ void
mma_forward_cells(const MmaForwardArgs &a, const BlockPlace &at, const MmaShared &s,
                  const MmaForwardState &state, const MaskBits &bits, int32_t t, int32_t pass,
                  uint32_t *exchange)
{
    mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
        const float *partial = s.partial + (row - pass * a.plan.batch) * a.n.pitch + 4 * u;
        float h = forward_cell(state, item, u, partial, a.plan.slices, a.plan.batch * a.n.pitch);
        if (exchange)
            mma_send_h<PRECISION>(
                a, at, exchange, pass, row, u,
                h * mask_bits_factor(bits, t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u));
    });
}

/* Worked out again wherever it is needed. */
static __device__ __forceinline__ MmaWarp mma_forward_warp(const MmaForwardArgs &a,
                                                           const BlockPlace &at)
{
    return mma_warp(a.plan, at.unit / TENSOR_UNITS, (at.units + TENSOR_UNITS - 1) / TENSOR_UNITS,
                    0);
}

#endif

template <int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void fwd_mma_loop(const MmaForwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    enum { N = BATCH / TENSOR_BATCH };
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    MmaShared s = carve(a.n.pieces);
    MmaForwardState state = {(float4 *)s.state, s.state + 4 * a.n.items, s.state + 5 * a.n.items,
                             s.bias};
    BlockPlace at = mma_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* with the whole replica */
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent);
    MmaMatrix matrix = {a.p.w_hh, a.p.w_tiles, a.p.shape.H};
    GridBarrier barrier;
    if (!barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks,
                      (uint32_t)at.block, (uint32_t)(at.replica * plan.blocks),
                      a.p.launch.poll_limit, s.flags, a.fault))
        return;

    uint32_t *exchange = a.exchange + at.replica * a.n.exchange_words;
    const int64_t other = plan.replicas * a.n.exchange_words;
    auto each = [&](auto do_item) { mma_all_items(plan, a.n, at, do_item); };
    auto send = [&](int32_t row, int32_t u, float h) {
        mma_send_h<PRECISION>(a, at, exchange, row / plan.batch, row, u, h);
    };
    forward_carry_in(
        a.p, at, state, each, [](int32_t) {}, send);
    __syncthreads();
    barrier_arrive(&barrier);
    uint32_t kept[RESIDENT][STACKED][4];
    mma_load<PRECISION, false, STACKED, RESIDENT>(matrix, plan, mma_forward_warp(a, at), s, kept);
    forward_fetch(a.p, at, state, 0, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, 0);

    for (int32_t t = 0; t < T; t++) {
        const uint32_t *before = exchange + (t & 1) * other;
        uint32_t *now = t + 1 < T ? exchange + ((t + 1) & 1) * other : nullptr;
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            float sum[STACKED][N][4];
            MmaWarp me = mma_forward_warp(a, at);
            if (pass == 0) mma_watch(plan, a.n, me, barrier, barrier.timed_out);
            mma_multiply<PRECISION, false, STACKED, RESIDENT, N>(
                matrix, plan, me, s, kept, before + pass * a.n.pass_words, a.n.tiles, sum);
            if (pass) __syncthreads(); /* sums of the pass before lie where these go */
            mma_store_sums<STACKED, N>(s, me, plan.batch, a.n.pitch, sum);
            copy_async_wait<0>();
            __syncthreads();
            if (!barrier_sound(barrier, barrier.timed_out, (uint32_t)t)) return;
            mma_forward_cells<PRECISION>(a, at, s, state, bits, t, pass, now);
        }
        __syncthreads();
        if (t + 1 < T) barrier_arrive(&barrier);
        forward_store(a.p, at, state, bits, t, each);
        if (t + 1 == T) break;
        forward_fetch(a.p, at, state, t + 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t + 1);
    }
#endif
}

struct MmaForwardPass : PassOf<MmaForwardArgs, LstmForward, KIND_MMA, 0> {
    static Args arguments(const LstmPlan &plan, const LstmForward &p)
    {
        return mma_arguments<Args>(plan, p);
    }
};

#endif
