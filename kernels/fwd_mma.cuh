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

/* Where an element keeps what in s.state: x_proj, then gates as float4, behind all of them c and h. */
static __device__ __forceinline__ float4 *mma_gates(const MmaShared &s, int32_t item)
{
    return (float4 *)s.state + item;
}
static __device__ __forceinline__ float *mma_c(const MmaShared &s, const MmaCounts &n, int32_t item)
{
    return s.state + 4 * n.items + item;
}
static __device__ __forceinline__ float *mma_h(const MmaShared &s, const MmaCounts &n, int32_t item)
{
    return s.state + 5 * n.items + item;
}

/* h of an element into the exchange of the step that reads it. */
template <int PRECISION>
static __device__ __forceinline__ void mma_send_h(const MmaForwardArgs &a, const BlockPlace &at,
                                                  uint32_t *exchange, int32_t pass, int32_t row, int32_t u,
                                                  float h)
{
    mma_send<PRECISION>(exchange + pass * a.n.pass_words, a.n.tiles, at.unit + u, row - pass * a.plan.batch,
                        h);
}

/* h_0 into the exchange and, where it is kept for dw_hh, as D_r(h_0); c_0; biases. */
template <int PRECISION>
static __device__ __forceinline__ void mma_forward_begin(const MmaForwardArgs &a, const BlockPlace &at,
                                                         const MmaShared &s, uint32_t *exchange)
{
    int64_t H = a.p.shape.H;
    for (int32_t u = thread_again(); u < at.units; u += (int32_t)blockDim.x) {
        const float *x = a.p.b_ih + at.unit + u, *y = a.p.b_hh + at.unit + u;
        s.bias[u] = make_float4(x[0] + y[0], x[H] + y[H], x[2 * H] + y[2 * H], x[3 * H] + y[3 * H]);
    }
    Mask m = mask_open(a.p.recurrent);
    for (int32_t pass = 0; pass < a.plan.passes; pass++)
        mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
            int64_t b = at.row + row, at_h = b * H + at.unit + u;
            float h = a.p.h[at_h] * mask_factor(m, b, H, at.unit + u);
            *mma_c(s, a.n, item) = a.p.c[at_h];
            if (a.p.h_masked) a.p.h_masked[at_h] = h;
            mma_send_h<PRECISION>(a, at, exchange, pass, row, u, h);
        });
}

/* The block's part of x_proj_t on its way to s.state. */
static __device__ __forceinline__ void mma_forward_fetch(const MmaForwardArgs &a, const BlockPlace &at,
                                                         const MmaShared &s, int32_t t)
{
    int64_t B = a.p.shape.B, H = a.p.shape.H;
    for (int32_t pass = 0; pass < a.plan.passes; pass++)
        mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
            float *to = (float *)mma_gates(s, item);
            const float *from = a.p.gates + (t * B + at.row + row) * 4 * H + at.unit + u;
            for (int gate = 0; gate < 4; gate++) copy_async4(to + gate, from + gate * H);
        });
    copy_async_commit();
}

/* Gates, c and h of the block's elements of one pass, and h_{t+1} into the exchange (NULL after the last step). */
template <int PRECISION>
static __device__ __forceinline__ void mma_forward_cells(const MmaForwardArgs &a, const BlockPlace &at,
                                                         const MmaShared &s, const MaskBits &bits, int32_t t,
                                                         int32_t pass, uint32_t *exchange)
{
    mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
        int32_t b = row - pass * a.plan.batch, stride = a.plan.batch * a.n.pitch;
        float4 x = *mma_gates(s, item), bias = s.bias[u];
        Gates q = {x.x + bias.x, x.y + bias.y, x.z + bias.z, x.w + bias.w};
        const float *partial = s.partial + b * a.n.pitch + 4 * u;
        for (int32_t slice = 0; slice < a.plan.slices; slice++, partial += stride) {
            float4 sum = *(const float4 *)partial;
            q.i += sum.x, q.f += sum.y, q.g += sum.z, q.o += sum.w;
        }
        CellState now = cell_forward(&q, *mma_c(s, a.n, item));
        *mma_gates(s, item) = make_float4(q.i, q.f, q.g, q.o);
        *mma_c(s, a.n, item) = now.c, *mma_h(s, a.n, item) = now.h;
        if (exchange)
            mma_send_h<PRECISION>(
                a, at, exchange, pass, row, u,
                now.h * mask_bits_factor(bits, t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u));
    });
}

static __device__ __forceinline__ void mma_forward_store(const MmaForwardArgs &a, const BlockPlace &at,
                                                         const MmaShared &s, const MaskBits &bits, int32_t t)
{
    int64_t T = a.p.shape.T, B = a.p.shape.B, H = a.p.shape.H;
    for (int32_t pass = 0; pass < a.plan.passes; pass++)
        mma_items(a.plan, a.n, at, pass, [&](int32_t row, int32_t u, int32_t item) {
            int64_t position = t * B + at.row + row, n = position * H + at.unit + u, next = n + B * H;
            float4 q = *mma_gates(s, item);
            float h = *mma_h(s, a.n, item), *gates = a.p.gates + position * 4 * H + at.unit + u;
            gates[0] = q.x, gates[H] = q.y, gates[2 * H] = q.z, gates[3 * H] = q.w;
            a.p.h[next] = h;
            a.p.c[next] = *mma_c(s, a.n, item);
            if (a.p.y) a.p.y[n] = h * mask_bits_factor(bits, t & 1, MASK_OUTPUT, a.p.output, at, row, u);
            if (a.p.h_masked && t + 1 < T)
                a.p.h_masked[next] =
                    h * mask_bits_factor(bits, t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u);
        });
}

/* Worked out again wherever it is needed. */
static __device__ __forceinline__ MmaWarp mma_forward_warp(const MmaForwardArgs &a, const BlockPlace &at)
{
    return mma_warp(a.plan, at.unit / TENSOR_UNITS, (at.units + TENSOR_UNITS - 1) / TENSOR_UNITS, 0);
}

template <int PRECISION, int STACKED, int RESIDENT, int N>
static __device__ __forceinline__ void fwd_mma_loop(const MmaForwardArgs &a)
{
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    MmaShared s;
    mma_carve(Smem(), a.n.pieces, &s);
    BlockPlace at = mma_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* with the whole replica */
    MaskBits bits = {s.masks, a.n.mask_quads, plan.rows};
    MmaMatrix matrix = {a.p.w_hh, a.p.w_tiles, a.p.shape.H};
    GridBarrier barrier;
    if (!barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks, (uint32_t)at.block,
                      (uint32_t)(at.replica * plan.blocks), a.p.launch.poll_limit, s.flags, a.fault))
        return;

    uint32_t *exchange = a.exchange + at.replica * a.n.exchange_words;
    const int64_t other = plan.replicas * a.n.exchange_words;
    mma_forward_begin<PRECISION>(a, at, s, exchange);
    __syncthreads();
    barrier_arrive(&barrier);
    uint32_t kept[RESIDENT][STACKED][4];
    mma_load<PRECISION, false, STACKED, RESIDENT>(matrix, plan, mma_forward_warp(a, at), s, kept);
    mma_forward_fetch(a, at, s, 0);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, 0);

    for (int32_t t = 0; t < T; t++) {
        const uint32_t *before = exchange + (t & 1) * other;
        uint32_t *now = t + 1 < T ? exchange + ((t + 1) & 1) * other : nullptr;
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            float sum[STACKED][N][4];
            MmaWarp me = mma_forward_warp(a, at);
            if (pass == 0) mma_watch(plan, a.n, me, barrier, barrier.gone);
            mma_multiply<PRECISION, false, STACKED, RESIDENT, N>(
                matrix, plan, me, s, kept, before + pass * a.n.pass_words, a.n.tiles, sum);
            if (pass) __syncthreads(); /* sums of the pass before lie where these go */
            mma_store_sums<STACKED, N>(s, me, plan.batch, a.n.pitch, sum);
            copy_async_wait<0>();
            __syncthreads();
            if (!barrier_sound(barrier, barrier.gone, (uint32_t)t)) return;
            mma_forward_cells<PRECISION>(a, at, s, bits, t, pass, now);
        }
        __syncthreads();
        if (t + 1 < T) barrier_arrive(&barrier);
        mma_forward_store(a, at, s, bits, t);
        if (t + 1 == T) break;
        mma_forward_fetch(a, at, s, t + 1);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t + 1);
    }
}

#endif

/* ---- host side ---- */

typedef void (*MmaForwardKernel)(MmaForwardArgs);

template <int N> static inline cudaError_t mma_forward_prepare(MmaForwardKernel const (&kernels)[N])
{
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < N && !error; i++) error = persistent_prepare(kernels[i]);
    return error;
}

template <int N>
static inline cudaError_t mma_forward_run(MmaForwardKernel const (&kernels)[N], const LstmContext *context,
                                          const LstmForward *p)
{
    const LstmPlan *plan = p->launch.plan;
    assert(plan && plan->tile < N && (p->w_tiles || plan->precision != PRECISION_BF16));
    assert((p->y || !p->output.on) && (p->h_masked || !p->recurrent.on));
    MmaCounts n = mma_counts(plan);
    uint32_t *exchange = (uint32_t *)p->launch.scratch;
    MmaForwardArgs args = {*plan,          n, *p, exchange, exchange + 2 * plan->replicas * n.exchange_words,
                           context->fault, 0};
    return mma_launch(kernels[plan->tile], context, &p->launch, &p->shape, 0, args);
}

#endif
