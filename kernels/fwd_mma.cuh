/* fwd_mma: the time loop of the forward pass on tensor cores. fwd_mma.cu describes the idea and
 * compiles the instances; mma.h defines which block and warp owns what.
 *
 *   per launch publish h_0 -> arrive -> load weights
 *   per step   each warp: wait for the producers of its slice, load h_t from L2 into registers,
 *              multiply -> partial sums
 *              -> cell, publish h_{t+1} -> store gates, c, h, y
 *              -> fetch x_proj and draw masks of t+1
 *
 * Exchange   Blocks exchange h_t as step t reads it (masked, if there is a recurrent site),
 *            rounded, as B operands; it is exchange t of the launch. The slices of a block together
 *            read all of h_t, so by the __syncthreads after the product its warps together have
 *            waited for every block of the replica. A block that had sent h_t had read h_{t-1}, so
 *            no block overwrites what another still has to read, and no extra wait is needed.
 *            EXCHANGE_FLAG has two buffers and an arrival at the grid barrier after each step's
 *            words. EXCHANGE_WORDS has WORD_BUFFERS buffers and only the arrivals of
 *            word_exchange.cuh.
 * Sums       slices * batch * 16 * (number of m tiles) floats are written once and read once. The
 *            order is fixed: within a warp, contraction tiles upwards in the order of the tensor
 *            core; then slices upwards are added to x_proj + biases. */
#ifndef PLSTM_FWD_MMA_CUH
#define PLSTM_FWD_MMA_CUH

#include "mma.cuh"

struct MmaForwardArgs {
    LstmPlan plan;
    MmaCounts n;
    LstmForward p;      /* p.launch.plan is the host's copy */
    uint32_t *exchange; /* [mma_buffers][replica][exchange_words] */
    uint32_t *words;    /* [replica][blocks] of the grid barrier */
    FaultRecord *fault;
    int32_t first_row; /* of B, in this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* The addresses through which forward_carry_in and the other functions of block_io.cuh reach an
 * element's floats in s.state. */
struct MmaForwardState {
    float4 *gates;
    float *c, *h;
    float4 *bias;
};

/* Sends h of an element, and in bf16 also that of the next unit, into the exchange of the step that
 * reads it. `again` is the same pass of the buffer to empty, or NULL. */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ void mma_send_h(const MmaForwardArgs &a, const BlockPlace &at,
                                                  uint32_t *pass, uint32_t *again, int32_t b,
                                                  int32_t u, float h, float next)
{
    int32_t i = mma_word_at<PRECISION>(a.n.tiles, at.unit + u, b);
    mma_send<EXCHANGE>(pass + i, again ? again + i : nullptr,
                       PRECISION == PRECISION_BF16 ? word_of_bf16(h, next) : word_of_tf32(h));
}

/* Sends h_0 as exchange 0. forward_carry_in has stored it in state.h. */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ void
mma_forward_first(const MmaForwardArgs &a, const BlockPlace &at, const MmaForwardState &state)
{
    uint32_t *to = mma_exchange<EXCHANGE>(a, at.replica, 0);
    mma_all_items(a.plan, a.n, at, [&](int32_t row, int32_t u, int32_t item) {
        int32_t pass = row / a.plan.batch;
        if (PRECISION == PRECISION_BF16 && (u & 1)) return;
        float next = u + 1 < at.units ? state.h[item + 1] : 0.0f;
        mma_send_h<EXCHANGE, PRECISION>(a, at, to + pass * a.n.pass_words, nullptr,
                                        row - pass * a.plan.batch, u, state.h[item], next);
    });
}

/* Empties the block's words of every buffer. */
template <int PRECISION>
static __device__ __forceinline__ void mma_forward_clear(const MmaForwardArgs &a,
                                                         const BlockPlace &at)
{
    mma_all_items(a.plan, a.n, at, [&](int32_t row, int32_t u, int32_t) {
        int32_t pass = row / a.plan.batch;
        if (PRECISION == PRECISION_BF16 && (u & 1)) return;
        uint32_t *word = mma_buffer(a, at.replica, 0) + pass * a.n.pass_words +
                         mma_word_at<PRECISION>(a.n.tiles, at.unit + u, row - pass * a.plan.batch);
        int64_t stride = a.plan.replicas * a.n.exchange_words;
#pragma unroll 1
        for (int32_t n = 0; n < WORD_BUFFERS && n <= a.p.shape.T - 1; n++, word += stride)
            store_relaxed(word, WORD_EMPTY);
    });
}

/* Computes gates, c and h of the block's elements of one pass, and sends h_{t+1} into the exchange
 * (NULL at the last step). All lanes of a warp iterate together. */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ void
mma_forward_cells(const MmaForwardArgs &a, const BlockPlace &at, const MmaShared &s,
                  const MmaForwardState &state, const MaskBits &bits, int32_t t, int32_t pass,
                  uint32_t *to, uint32_t *again)
{
    const LstmPlan &plan = a.plan;
    int32_t first = pass * plan.batch, items = mma_rows(plan, at, pass) * plan.units;
    for (int32_t j = thread_again(); (j & ~31) < items; j += (int32_t)blockDim.x) {
        int32_t b = divided(j, a.n.by_units), u = j - b * plan.units, row = first + b;
        bool mine = j < items && u < at.units;
        float h = 0.0f;
        if (mine) {
            const float *partial = s.partial + b * a.n.pitch + 4 * u;
            h = forward_cell(state, first * plan.units + j, u, partial, plan.slices,
                             plan.batch * a.n.pitch);
            if (to) h *= mask_bits_factor(bits, t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u);
        }
        if (!to) continue;
        float next = PRECISION == PRECISION_BF16 ? __shfl_down_sync(0xffffffffu, h, 1) : 0.0f;
        if (mine && (PRECISION != PRECISION_BF16 || !(u & 1)))
            mma_send_h<EXCHANGE, PRECISION>(a, at, to, again, b, u, h, next);
    }
}

/* Returns the warp's tiles. They are computed again wherever they are needed. */
static __device__ __forceinline__ MmaWarp mma_forward_warp(const MmaForwardArgs &a,
                                                           const BlockPlace &at)
{
    return mma_warp(a.plan, at.unit / TENSOR_UNITS, (at.units + TENSOR_UNITS - 1) / TENSOR_UNITS,
                    0);
}

#endif

template <int EXCHANGE, int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void fwd_mma_loop(const MmaForwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    enum { N = BATCH / TENSOR_BATCH, WORDS = EXCHANGE == EXCHANGE_WORDS };
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    MmaShared s = carve(a.n.pieces);
    MmaForwardState state = {(float4 *)s.state, s.state + 4 * a.n.items, s.state + 5 * a.n.items,
                             s.bias};
    BlockPlace at = mma_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* the whole replica leaves */
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent);
    MmaMatrix matrix = {a.p.w_hh, a.p.w_tiles, a.p.shape.H};
    GridBarrier barrier;
    if (!barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks,
                      (uint32_t)at.block, (uint32_t)(at.replica * plan.blocks),
                      a.p.launch.poll_limit, s.flags, a.fault))
        return;

    auto each = [&](auto do_item) { mma_all_items(plan, a.n, at, do_item); };
    auto keep = [&](int32_t row, int32_t u, float h) { state.h[row * plan.units + u] = h; };
    forward_carry_in(
        a.p, at, state, each, [](int32_t) {}, keep);
    if (WORDS) mma_forward_clear<PRECISION>(a, at);
    __syncthreads(); /* both units of a word have stored h_0 */
    if (WORDS) barrier_arrive(&barrier);
    mma_forward_first<EXCHANGE, PRECISION>(a, at, state);
    if (!WORDS) {
        __syncthreads();
        barrier_arrive(&barrier);
    }
    uint32_t kept[RESIDENT][STACKED][4];
    mma_load<PRECISION, false, STACKED, RESIDENT>(matrix, plan, mma_forward_warp(a, at), s, kept);
    forward_fetch(a.p, at, state, 0, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, 0);

    for (int32_t t = 0; t < T; t++) {
        /* Computed again at every step, since the registers that would keep them hold weights. */
        int32_t first = opaque(at.replica) * plan.blocks;
        barrier.words = a.words + first, barrier.first = (uint32_t)first;
        barrier.self = (uint32_t)divided(opaque(at.unit), a.n.by_units);
        const uint32_t *before = mma_exchange<EXCHANGE>(a, at.replica, t);
        bool sends = t + 1 < T;
        int32_t repeated = -1; /* the pass whose product this warp repeats */
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            int32_t rows = mma_rows(plan, at, pass);
            if (rows <= 0) break; /* this window has fewer rows than the plan */
            float sum[STACKED][N][4];
            MmaWarp me = mma_forward_warp(a, at);
            const uint32_t *from = before + pass * a.n.pass_words;
            mma_watch<EXCHANGE, PRECISION>(plan, a.n, me, barrier,
                                           pass == 0 && (!WORDS || word_waits(t)), from, rows);
            mma_multiply<EXCHANGE, PRECISION, false, STACKED, RESIDENT, N>(
                matrix, plan, me, s, kept, from, a.n.tiles, rows, sum);
            if (repeated != pass &&
                !mma_settled<EXCHANGE>(plan, me, barrier, from, a.n.tiles, rows, sum)) {
                repeated = pass--;
                continue;
            }
            if (pass) __syncthreads(); /* these sums overwrite those of the pass before */
            mma_store_sums<STACKED, N>(s, me, plan.batch, a.n.pitch, sum);
            copy_async_wait<0>();
            __syncthreads();
            if (!mma_sound<EXCHANGE, PRECISION>(plan, a.n, at, barrier, a.p.shape.H, before, t,
                                                pass, (uint32_t)t))
                return;
            uint32_t *to = nullptr, *again = nullptr;
            if (sends)
                to = mma_exchange<EXCHANGE>(a, at.replica, t + 1),
                again = mma_again<EXCHANGE>(a, at.replica, t + 1, T - 1);
            if (to) to += pass * a.n.pass_words;
            if (again) again += pass * a.n.pass_words;
            mma_forward_cells<EXCHANGE, PRECISION>(a, at, s, state, bits, t, pass, to, again);
        }
        __syncthreads();
        if (sends && (!WORDS || word_arrives(t + 1, T - 1))) barrier_arrive(&barrier);
        forward_store(a.p, at, state, bits, t, each);
        if (!sends) break;
        forward_fetch(a.p, at, state, t + 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t + 1);
    }
#endif
}

struct MmaForwardPass : MmaPassOf<MmaForwardArgs, LstmForward, 0> {
    static Args arguments(const LstmPlan &plan, const LstmForward &p)
    {
        return mma_arguments<Args>(plan, p);
    }
};

#endif
