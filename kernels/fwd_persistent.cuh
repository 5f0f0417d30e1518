/* fwd_persistent: the time loop of the persistent forward variants. They differ in where the weights of a thread lie
 * (fwd_l2.cu, fwd_smem.cu, fwd_reg.cu); everything else is here. plan.h names who owns what.
 *
 *   per step   stage h_{t-1} chunk by chunk and multiply -> add the slices' partial sums -> cell, publish h_t
 *              -> arrive -> store gates, c, h, y -> fetch x_proj and draw masks of t+1 -> wait
 *
 * Exchange   h_t as the next step reads it (with a recurrent site: masked), in the order in which blocks stage it:
 *            [pass][chunk][group][slice][k of the chunk][batch row], so that staging is a copy of 16-byte words. Two
 *            take turns: h_{t+1} is written when every block of the replica has arrived at t, hence has read h_{t-1}.
 * Operands   A thread holds the four gate rows of one unit against `batch` rows: 16 multiply-adds for each 16 bytes of h that
 *            it reads from shared memory; lanes of one slice read the same address. Per block and step that is units*H*rows/4
 *            such reads and, where weights lie in shared memory, units*H*passes.
 * Sums       slices * units * rows float4 are written once and read once: more slices shorten a thread's chain but cost
 *            2*16 bytes each per element. The planner weighs the two. The order is fixed: within a thread k upwards, then slice
 *            s + folded onto s, then slices upwards onto x_proj + biases.  */
#ifndef PLSTM_FWD_PERSISTENT_CUH
#define PLSTM_FWD_PERSISTENT_CUH

#include "block_io.cuh"
#include "grid_barrier.cuh"

/* What follows from a plan, computed once on the host: as kernel arguments these cost no registers. */
struct ForwardCounts {
    ForwardPieces pieces;
    int32_t slice_stride, chunk_floats, group_floats; /* of a staged chunk */
    int32_t columns;      /* slices*units: weights of one k side by side */
    int32_t lanes, items; /* groups*units; times batch */
    int32_t folded, mask_nibbles;
    uint32_t by_mask_nibbles;             /* for divided() */
    uint32_t by_units;                    /* inverse, for divided() */
    int64_t pass_floats, exchange_floats; /* of the exchange */
};

struct ForwardArgs {
    LstmPlan plan;
    ForwardCounts n;
    LstmForward p;   /* p.launch.plan is the host's copy */
    float *exchange; /* [step & 1][replica][exchange_floats] */
    uint32_t *words; /* [replica][blocks] of the barrier */
    FaultRecord *fault;
    int32_t first_row; /* of this launch */
};

CARVED_PIECES(ForwardShared, ForwardPieces, FORWARD_PIECES)

/* What a thread multiplies. */
struct ForwardThread {
    int32_t unit, slice, group;
    bool works; /* others only help to stage and to finish */
};

/* ---- weights ---- */

/* Gate weights of the block's unit u against h's unit k: 16 bytes of w_packed. */
static __device__ __forceinline__ float4 forward_weight(const ForwardArgs &a, const BlockPlace &at,
                                                        int32_t u, int64_t k)
{
    if (k >= a.p.shape.H || u >= at.units) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return load_l2((const float4 *)a.p.w_packed + k * a.p.shape.H + at.unit + u);
}

template <int RESIDENT>
static __device__ __forceinline__ void forward_load_registers(const ForwardArgs &a,
                                                              const BlockPlace &at,
                                                              const ForwardThread &me, float4 *kept)
{
#pragma unroll
    for (int i = 0; i < RESIDENT; i++)
        kept[i] = me.works && i < a.plan.depth
                      ? forward_weight(a, at, me.unit, (int64_t)me.slice * a.plan.depth + i)
                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

static __device__ __forceinline__ void
forward_load_shared(const ForwardArgs &a, const BlockPlace &at, const ForwardShared &s)
{
    int32_t columns = a.n.columns;
    for (int32_t j = thread_again(); j < a.plan.shared * columns; j += (int32_t)blockDim.x) {
        int32_t i = j / columns, slice = j % columns / a.plan.units, u = j % a.plan.units;
        s.weights[j] =
            forward_weight(a, at, u, (int64_t)slice * a.plan.depth + a.plan.resident + i);
    }
}

/* ---- multiply ---- */

/* The first chunk that a step stages, from h_0: (B,H) in memory, and masked here where there is a recurrent site. */
template <int CHUNK, int BATCH>
static __device__ __forceinline__ void stage_first(const ForwardArgs &a, const BlockPlace &at,
                                                   int32_t pass, int32_t chunk, float *to)
{
    enum { PITCH = (BATCH + 3) / 4 * 4 };
    const LstmPlan &plan = a.plan;
    Mask m = mask_open(a.p.recurrent);
    int32_t n = plan.groups * plan.slices * CHUNK * BATCH;
    for (int32_t j = thread_again(); j < n; j += (int32_t)blockDim.x) {
        int32_t b = j % BATCH, i = j / BATCH % CHUNK, column = j / (BATCH * CHUNK);
        int32_t slice = column % plan.slices, group = column / plan.slices;
        int32_t row = (pass * plan.groups + group) * BATCH + b, step = chunk * CHUNK + i;
        int64_t k = (int64_t)slice * plan.depth + step, H = a.p.shape.H;
        float x = 0.0f;
        if (row < at.rows && step < plan.depth && k < H) x = forward_h_0(a.p, m, at.row + row, k);
        to[column * a.n.slice_stride + i * PITCH + b] = x;
    }
}

/* Staging of h_{t-1} for one pass: two chunks of shared memory in turn, the next one on its way while the one at hand is multiplied. */
template <int CHUNK, int BATCH> struct Staging {
    const ForwardArgs &a;
    const BlockPlace &at;
    float *ring;
    const float *exchange; /* of this pass; NULL at the first step */
    int32_t pass;

    __device__ __forceinline__ void issue(int32_t chunk)
    {
        float *to = ring + (chunk & 1) * a.n.chunk_floats;
        if (!exchange) {
            stage_first<CHUNK, BATCH>(a, at, pass, chunk, to);
        } else {
            const float *from = exchange + (int64_t)chunk * a.n.chunk_floats;
            for (int32_t j = 4 * thread_again(); j < a.n.chunk_floats; j += 4 * (int32_t)blockDim.x)
                copy_async16(to + j, from + j);
        }
        copy_async_commit();
    }

    /* The chunk, once all of it is there; starts the next one, whose place every thread has finished reading. */
    __device__ __forceinline__ const float *next(int32_t chunk)
    {
        copy_async_wait<0>();
        __syncthreads();
        if (chunk + 1 < a.plan.chunks) issue(chunk + 1);
        return ring + (chunk & 1) * a.n.chunk_floats;
    }
};

/* This thread's part of W_hh D_r(h_{t-1}) for one pass. */
template <int RESIDENT, int CHUNK, int BATCH>
static __device__ __forceinline__ void
forward_multiply(const ForwardArgs &a, const BlockPlace &at, const ForwardShared &s,
                 const ForwardThread &me, const float4 *kept, Staging<CHUNK, BATCH> &stage,
                 float4 (&sum)[BATCH])
{
    enum { PITCH = (BATCH + 3) / 4 * 4, STREAM = 4 };
    const LstmPlan &plan = a.plan;
    int32_t column = me.slice * plan.units + me.unit;
    int32_t mine = (me.group * plan.slices + me.slice) * a.n.slice_stride;
    int32_t in_shared = plan.resident + plan.shared;
#pragma unroll
    for (int b = 0; b < BATCH; b++) sum[b] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    stage.issue(0);

#pragma unroll
    for (int chunk = 0; chunk < RESIDENT / CHUNK; chunk++) {
        const float *h = stage.next(chunk) + mine;
        if (me.works) {
#pragma unroll
            for (int i = 0; i < CHUNK; i++)
                multiply_row<BATCH>(sum, kept[chunk * CHUNK + i], h + i * PITCH);
        }
    }
#pragma unroll 1
    for (int32_t chunk = RESIDENT / CHUNK; chunk < plan.chunks; chunk++) {
        const float *h = stage.next(chunk) + mine;
        int32_t i = chunk * CHUNK, end = min(i + CHUNK, plan.depth);
        if (!me.works) continue;
        const float4 *w = s.weights + (i - plan.resident) * a.n.columns + column;
#pragma unroll 2
        for (; i < min(end, in_shared); i++, w += a.n.columns, h += PITCH)
            multiply_row<BATCH>(sum, *w, h);
        int64_t k = (int64_t)me.slice * plan.depth;
#pragma unroll 1
        for (; i < end; i += STREAM) {
            float4 next[STREAM];
#pragma unroll
            for (int j = 0; j < STREAM; j++)
                next[j] = i + j < end ? forward_weight(a, at, me.unit, k + i + j)
                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
            for (int j = 0; j < STREAM; j++)
                if (i + j < end) multiply_row<BATCH>(sum, next[j], h + j * PITCH);
            h += STREAM * PITCH;
        }
    }
}

/* ---- sums, cell ---- */

/* Leaves the slices' partial sums in s.work as [folded][groups*units][batch|1] float4. */
template <int BATCH>
static __device__ __forceinline__ void forward_fold(const ForwardArgs &a, const ForwardShared &s,
                                                    const ForwardThread &me, float4 (&sum)[BATCH])
{
    int32_t folded = a.n.folded;
    int32_t slot = me.slice < folded ? me.slice : me.slice - folded;
    float4 *partial =
        (float4 *)s.work + (slot * a.n.lanes + me.group * a.plan.units + me.unit) * (BATCH | 1);
    __syncthreads(); /* the staged chunks lie where the sums go */
    if (me.works && me.slice >= folded)
        for (int b = 0; b < BATCH; b++) partial[b] = sum[b];
    __syncthreads();
    if (me.works && me.slice < folded) {
        bool pair = me.slice + folded < a.plan.slices;
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            float4 other = pair ? partial[b] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            partial[b] = make_float4(sum[b].x + other.x, sum[b].y + other.y, sum[b].z + other.z,
                                     sum[b].w + other.w);
        }
    }
    __syncthreads();
}

/* Gates, c and h of the block's elements of one pass, and h_t into the exchange (NULL after the last step). */
template <int BATCH>
static __device__ __forceinline__ void forward_cells(const ForwardArgs &a, const BlockPlace &at,
                                                     const ForwardShared &s, const MaskBits &bits,
                                                     int64_t t, int32_t pass, float *exchange)
{
    const LstmPlan &plan = a.plan;
    for (int32_t j = thread_again(); j < a.n.items; j += (int32_t)blockDim.x) {
        int32_t b = j % BATCH, column = j / BATCH, group = 0, u = column;
        for (; u >= plan.units; u -= plan.units) group++;
        int32_t row = (pass * plan.groups + group) * BATCH + b, item = pass * a.n.items + j;
        if (u >= at.units || row >= at.rows) continue;
        const float *partial = s.work + 4 * (column * (BATCH | 1) + b);
        float h = forward_cell(s, item, u, partial, a.n.folded, 4 * a.n.lanes * (BATCH | 1));
        if (exchange)
            exchange[s.place[u] + group * a.n.group_floats + b] =
                h *
                mask_bits_factor(bits, (int32_t)t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u);
    }
}

/* ---- the launch ---- */

template <int RESIDENT, int CHUNK, int BATCH, int THREADS>
static __device__ __forceinline__ void fwd_persistent(const ForwardArgs &a)
{
    const LstmPlan &plan = a.plan;
    const int64_t T = a.p.shape.T;
    ForwardShared s = carve(a.n.pieces);
    BlockPlace at = block_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* with the whole replica */
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent);
    int32_t tid = (int32_t)threadIdx.x;
    ForwardThread me = {tid % plan.units, tid / plan.units % plan.slices, tid / a.n.columns, false};
    me.works = me.group < plan.groups && me.unit < at.units;

    float4 kept[RESIDENT > 0 ? RESIDENT : 1];
    forward_load_registers<RESIDENT>(a, at, me, kept);
    forward_load_shared(a, at, s);
    auto each = [&](auto do_item) {
        for (int32_t j = thread_again(); j < at.rows * plan.units; j += (int32_t)blockDim.x) {
            int32_t row = divided(j, a.n.by_units), u = j - row * plan.units;
            if (u < at.units) do_item(row, u, item_at(plan, BATCH, row, u));
        }
    };
    auto place = [&](int32_t u) { /* where its rows lie in the exchange */
                                  int32_t k = at.unit + u, slice = k / plan.depth,
                                          step = k % plan.depth;
                                  s.place[u] = step / plan.chunk * a.n.chunk_floats +
                                               slice * a.n.slice_stride +
                                               step % plan.chunk * plan_pitch(plan.batch);
    };
    forward_carry_in(a.p, at, s, each, place, [](int32_t, int32_t, float) {});
    forward_fetch(a.p, at, s, 0, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, 0);
    GridBarrier barrier;
    if (!barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks,
                      (uint32_t)at.block, (uint32_t)(at.replica * plan.blocks),
                      a.p.launch.poll_limit, s.flag, a.fault))
        return;

    float *exchange = a.exchange + at.replica * a.n.exchange_floats;
    const int64_t other = plan.replicas * a.n.exchange_floats;
    for (int64_t t = 0; t < T; t++) {
        const float *before = t ? exchange + ((t - 1) & 1) * other : nullptr;
        float *now = t + 1 < T ? exchange + (t & 1) * other : nullptr;
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            float4 sum[BATCH];
            Staging<CHUNK, BATCH> stage = {
                a, at, s.work, before ? before + pass * a.n.pass_floats : nullptr, pass};
            if (pass) __syncthreads(); /* the sums of the pass before lie where chunks go */
            forward_multiply<RESIDENT, CHUNK, BATCH>(a, at, s, me, kept, stage, sum);
            forward_fold<BATCH>(a, s, me, sum);
            forward_cells<BATCH>(a, at, s, bits, t, pass,
                                 now ? now + pass * a.n.pass_floats : nullptr);
        }
        __syncthreads();
        if (t + 1 < T) barrier_arrive(&barrier);
        forward_store(a.p, at, s, bits, t, each);
        if (t + 1 == T) break;
        forward_fetch(a.p, at, s, t + 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t + 1);
        if (!barrier_wait(&barrier, (uint32_t)t + 1)) return;
    }
}

struct ForwardPass : PassOf<ForwardArgs, LstmForward, KIND_VECTOR, 0> {
    static Args arguments(const LstmPlan &plan, const LstmForward &p)
    {
        assert(p.w_packed && p.launch.scratch);
        ForwardCounts n;
        n.pieces = plan_forward_pieces(&plan);
        n.slice_stride = plan_slice_stride(&plan);
        n.chunk_floats = (int32_t)plan_chunk_floats(&plan);
        n.group_floats = plan.slices * n.slice_stride;
        n.columns = plan.slices * plan.units;
        n.lanes = plan.groups * plan.units;
        n.items = (int32_t)plan_items(&plan);
        n.folded = plan_folded(plan.slices);
        n.mask_nibbles = plan_mask_nibbles(plan.units);
        n.by_mask_nibbles = inverse_of(n.mask_nibbles);
        n.by_units = inverse_of(plan.units);
        n.exchange_floats = plan_exchange_floats(&plan);
        n.pass_floats = n.exchange_floats / plan.passes;
        float *exchange = (float *)p.launch.scratch;
        return {
            plan,    n, p, exchange, (uint32_t *)(exchange + 2 * plan.replicas * n.exchange_floats),
            nullptr, 0};
    }
};

#endif
