/* fwd_persistent: the time loop of the persistent forward variants. They differ only in where a
 * thread keeps its weights (fwd_l2.cu, fwd_smem.cu, fwd_reg.cu). plan.h defines which block and
 * thread owns what.
 *
 *   per step   stage h_{t-1} chunk by chunk and multiply -> add the slices' partial sums
 *              -> cell, publish h_t -> arrive -> store gates, c, h, y
 *              -> fetch x_proj and draw masks of t+1 -> wait
 *
 * Exchange   h_t is stored as the next step reads it (masked, if there is a recurrent site) and in
 *            the order in which blocks stage it: [pass][chunk][group][slice][k of the chunk][batch
 *            row]. Staging is therefore a copy of 16-byte words. Two buffers alternate: a block
 *            writes h_{t+1} once every block of the replica has arrived at step t and so has read
 *            h_{t-1}.
 * Operands   A thread multiplies the four gate rows of one unit by `batch` batch rows: 16
 *            multiply-adds for each 16 bytes of h that it reads from shared memory. Lanes of one
 *            slice read the same address. Per block and step there are units * H * rows/4 such
 *            reads and, if weights are in shared memory, units * H * passes reads of weights.
 * Sums       slices * units * rows float4 are written once and read once. More slices shorten a
 *            thread's chain, but each slice costs 32 bytes (one write, one read) per element (unit,
 *            batch row); the planner weighs the two. The order is fixed: within a thread, k
 *            upwards; then the second half of the slices is added to the first, slice s + folded to
 *            slice s, where folded = plan_folded(slices) is half of them, rounded up; then the
 *            folded slices are added upwards to x_proj + biases. If plan_warp_sums is not 0
 *            (H = 200 on an H200), each warp adds up its own slices by shuffles instead, which
 *            moves about a quarter of the float4 and saves one block barrier.
 * Registers  The weights need them. thread_again and opaque (dev_memory.cuh) keep the compiler from
 *            holding values there that can be computed again. */
#ifndef PLSTM_FWD_PERSISTENT_CUH
#define PLSTM_FWD_PERSISTENT_CUH

#include "block_io.cuh"
#include "grid_barrier.cuh"

/* Values that follow from a plan, computed once on the host: as kernel arguments they cost no
 * registers. */
struct ForwardCounts {
    ForwardPieces pieces;
    int32_t slice_stride, chunk_floats, group_floats; /* of a staged chunk */
    int32_t columns;           /* slices * units: the weights of one k, side by side */
    int32_t lanes, items;      /* groups * units; lanes * batch */
    int32_t folded, warp_sums; /* plan_folded, plan_warp_sums */
    int32_t mask_nibbles;
    uint32_t by_mask_nibbles;             /* for divided() */
    uint32_t by_units;                    /* for divided() */
    int64_t pass_floats, exchange_floats; /* of the exchange */
};

struct ForwardArgs {
    LstmPlan plan;
    ForwardCounts n;
    LstmForward p;   /* p.launch.plan is the host's copy */
    float *exchange; /* [step & 1][replica][exchange_floats] */
    uint32_t *words; /* [replica][blocks] of the grid barrier */
    FaultRecord *fault;
    int32_t first_row; /* of B, in this launch */
};

CARVED_PIECES(ForwardShared, ForwardPieces, FORWARD_PIECES)

/* A thread's part of the product. */
struct ForwardThread {
    int32_t unit, slice, group;
    bool works; /* the other threads only help to stage and to finish */
};

/* Returns where h_t of one pass is in the exchange. */
static __device__ __forceinline__ float *
forward_exchange(const ForwardArgs &a, const BlockPlace &at, int32_t t, int32_t pass)
{
    return a.exchange + ((t & 1) * a.plan.replicas + at.replica) * a.n.exchange_floats +
           pass * a.n.pass_floats;
}

/* ---- weights ---- */

/* Returns the gate weights of the block's unit u for unit k of h: 16 bytes of w_packed. */
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

/* Stages one chunk of step 0 from h_0, which is (B,H) in memory; a recurrent mask is applied
 * here. */
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
        if (row < at.rows && step < plan.depth && k < H) x = hidden_first(a.p, m, at.row + row, k);
        to[column * a.n.slice_stride + i * PITCH + b] = x;
    }
}

/* Stages h_{t-1} for one pass. Two chunks of shared memory alternate: the next chunk is loaded
 * while the current one is multiplied. Before sm_80, which introduced asynchronous copies, the
 * 16-byte words are loaded into registers first: FIRST per thread of the first chunk, while there
 * are no sums yet, and LATER of the other chunks. Words beyond those are copied when the chunk is
 * stored. */
template <int CHUNK, int BATCH, int FIRST, int LATER> struct Staging {
    const ForwardArgs &a;
    const BlockPlace &at;
    float *ring;
    const float *exchange; /* of this pass; NULL at step 0 */
    int32_t pass;
#if DEV_ARCH > 0 && DEV_ARCH < 800
    float4 coming[FIRST > LATER ? FIRST : LATER];

    template <int N> __device__ __forceinline__ void load(const float *from, int32_t j)
    {
#pragma unroll
        for (int i = 0; i < N; i++, j += 4 * (int32_t)blockDim.x)
            if (j < a.n.chunk_floats) coming[i] = load_l2((const float4 *)(from + j));
    }

    template <int N> __device__ __forceinline__ void store(float *to, int32_t j)
    {
#pragma unroll
        for (int i = 0; i < N; i++, j += 4 * (int32_t)blockDim.x)
            if (j < a.n.chunk_floats) *(float4 *)(to + j) = coming[i];
    }

    template <int N> __device__ __forceinline__ void start(float *, const float *from)
    {
        load<N>(from, 4 * thread_again());
    }

    template <int N> __device__ __forceinline__ void finish(float *to, const float *from)
    {
        const int32_t step = 4 * N * (int32_t)blockDim.x;
        store<N>(to, 4 * thread_again());
#pragma unroll 1
        for (int32_t j = 4 * thread_again() + step; j < a.n.chunk_floats; j += step)
            load<N>(from, j), store<N>(to, j);
    }
#else
    template <int N> __device__ __forceinline__ void start(float *to, const float *from)
    {
        for (int32_t j = 4 * thread_again(); j < a.n.chunk_floats; j += 4 * (int32_t)blockDim.x)
            copy_async16(to + j, from + j);
    }

    template <int N> __device__ __forceinline__ void finish(float *, const float *) {}
#endif

    __device__ __forceinline__ float *place(int32_t chunk)
    {
        return ring + (chunk & 1) * a.n.chunk_floats;
    }

    __device__ __forceinline__ const float *source(int32_t chunk)
    {
        return exchange + (int64_t)chunk * a.n.chunk_floats;
    }

    template <int N> __device__ __forceinline__ void issue(int32_t chunk)
    {
        if (!exchange) stage_first<CHUNK, BATCH>(a, at, pass, chunk, place(chunk));
        else start<N>(place(chunk), source(chunk));
        copy_async_commit();
    }

    __device__ __forceinline__ void begin() { issue<FIRST>(0); }

    /* Waits until the whole chunk is staged and returns it. Starts the next one, whose place no
     * thread reads any more. */
    template <int N> __device__ __forceinline__ const float *next(int32_t chunk)
    {
        if (exchange) finish<N>(place(chunk), source(chunk));
        copy_async_wait<0>();
        __syncthreads();
        if (chunk + 1 < a.plan.chunks) issue<LATER>(chunk + 1);
        return place(chunk);
    }
    __device__ __forceinline__ const float *first() { return next<FIRST>(0); }
    __device__ __forceinline__ const float *later(int32_t chunk) { return next<LATER>(chunk); }
};

/* How much an instance keeps in flight: 16-byte words of h per thread that stages (STAGED), and
 * steps of streamed weights (STREAMED). They use the registers that resident weights, sums and the
 * rest of the loop leave (SPARE). */
template <int RESIDENT, int BATCH, int THREADS> struct ForwardFlight {
    enum {
        MOST = 65536 / THREADS / 8 * 8,
        SPARE = (MOST < 255 ? MOST : 255) - 4 * RESIDENT - 4 * BATCH - 72,
        STAGED = SPARE >= 32   ? 4
                 : SPARE >= 20 ? 2
                               : 1,
        STAGED_FIRST = RESIDENT > 0 ? 4 : STAGED, /* there are no sums yet */
        /* read a step's operands while those of the step before are multiplied */
        STREAMED = SPARE >= 64  ? 8
                   : SPARE >= 0 ? 4
                                : 2,
        EARLY = BATCH <= 10 && SPARE >= 20
    };
};

/* Computes this thread's part of W_hh D_r(h_{t-1}) for one pass. D_r is the dropout of the
 * recurrent site (lstm.h), the identity without one. */
template <class Flight, int RESIDENT, int CHUNK, int BATCH, class Stage>
static __device__ __forceinline__ void
forward_multiply(const ForwardArgs &a, const BlockPlace &at, const ForwardShared &s,
                 const ForwardThread &me, const float4 *kept, Stage &stage, float4 (&sum)[BATCH])
{
    enum { PITCH = (BATCH + 3) / 4 * 4, AHEAD = Flight::STREAMED, SHARED = AHEAD > 2 ? 2 : 1 };
    const LstmPlan &plan = a.plan;
    int32_t mine = (me.group * plan.slices + me.slice) * a.n.slice_stride;
#pragma unroll
    for (int b = 0; b < BATCH; b++) sum[b] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    stage.begin();

#pragma unroll
    for (int chunk = 0; chunk < RESIDENT / CHUNK; chunk++) {
        const float *h = (chunk ? stage.later(chunk) : stage.first()) + mine;
        if (me.works) multiply_rows<CHUNK, Flight::EARLY>(sum, kept + chunk * CHUNK, h, PITCH);
    }
    if (RESIDENT / CHUNK == plan.chunks) return;

    /* If weights are resident, registers are full: opaque (dev_memory.cuh) keeps the compiler
     * from computing these values before they are needed. */
    const int32_t unit = RESIDENT ? opaque(me.unit) : me.unit,
                  slice = RESIDENT ? opaque(me.slice) : me.slice,
                  column = slice * plan.units + unit, k = slice * plan.depth,
                  in_shared = plan.resident + plan.shared;
    auto streamed = [&](int32_t i, int32_t end) {
        return me.works && i < end ? forward_weight(a, at, unit, k + i)
                                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    };
    /* Streamed weights: the loads of AHEAD steps are in flight at a time. If no weights are
     * resident, the next ones are issued while those before them are multiplied. */
    float4 coming[AHEAD];
#pragma unroll 1
    for (int32_t chunk = RESIDENT / CHUNK; chunk < plan.chunks; chunk++) {
        const float *h = stage.later(chunk) + mine;
        int32_t i = chunk * CHUNK, end = min(i + CHUNK, plan.depth);
        if (!me.works) continue;
        const float4 *w = s.weights + (i - plan.resident) * a.n.columns + column;
#pragma unroll SHARED
        for (; i < min(end, in_shared); i++, w += a.n.columns, h += PITCH)
            multiply_row<BATCH>(sum, *w, h);
        if (i >= end) continue;
        if (RESIDENT == 0 && i == in_shared) {
#pragma unroll
            for (int j = 0; j < AHEAD; j++) coming[j] = streamed(i + j, end);
        }
#pragma unroll 1
        do {
            int32_t later = min(i + AHEAD, end),
                    until = later < end ? end : min(end + CHUNK, plan.depth);
            if (RESIDENT > 0) {
#pragma unroll
                for (int j = 0; j < AHEAD; j++) coming[j] = streamed(i + j, end);
            }
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                if (i + j < end) multiply_row<BATCH>(sum, coming[j], h + j * PITCH);
                if (RESIDENT == 0) coming[j] = streamed(later + j, until);
            }
            h += (later - i) * PITCH, i = later;
        } while (i < end);
    }
}

/* ---- sums, cell ---- */

/* Returns whether warps add up their slices first. */
template <int BATCH> static __device__ __forceinline__ bool forward_in_warp(const ForwardArgs &a)
{
    return BATCH == 4 && (DEV_ARCH == 0 || DEV_ARCH >= 700) && a.n.warp_sums;
}

/* Returns x of the lane whose number differs from this one's by the bit `lanes`. */
static __device__ __forceinline__ float4 shuffled(const float4 &x, int lanes)
{
    return make_float4(
        __shfl_xor_sync(0xffffffffu, x.x, lanes), __shfl_xor_sync(0xffffffffu, x.y, lanes),
        __shfl_xor_sync(0xffffffffu, x.z, lanes), __shfl_xor_sync(0xffffffffu, x.w, lanes));
}

/* Returns x if `which`, otherwise y, component by component: `which ? x : y` would choose between
 * two addresses, which would put both values in local memory. */
static __device__ __forceinline__ float4 chosen(bool which, const float4 &x, const float4 &y)
{
    return make_float4(which ? x.x : y.x, which ? x.y : y.y, which ? x.z : y.z, which ? x.w : y.w);
}

/* Returns the sum of batch row lane / 8 over the four lanes of the warp that are 8 apart. All lanes
 * of the warp must call it together. */
static __device__ __forceinline__ float4 forward_warp_sum(const float4 (&sum)[4])
{
    bool third = threadIdx.x & 16, second = threadIdx.x & 8; /* rows 2 and 3; rows 1 and 3 */
    float4 half[2], one;
#pragma unroll
    for (int b = 0; b < 2; b++) {
        half[b] = chosen(third, sum[b + 2], sum[b]);
        add(half[b], shuffled(chosen(third, sum[b], sum[b + 2]), 16));
    }
    one = chosen(second, half[1], half[0]);
    add(one, shuffled(chosen(second, half[0], half[1]), 8));
    return one;
}
template <int BATCH>
static __device__ __forceinline__ float4 forward_warp_sum(const float4 (&sum)[BATCH])
{
    return sum[0]; /* no plan with this `batch` has warp sums */
}

/* Leaves the partial sums in s.work as [folded][groups*units][batch|1] float4, or as
 * [warp_sums][units][batch|1] if warps add up their own slices. batch|1 is the batch, made odd
 * against bank conflicts. */
template <int BATCH>
static __device__ __forceinline__ void forward_fold(const ForwardArgs &a, const ForwardShared &s,
                                                    const ForwardThread &me, float4 (&sum)[BATCH])
{
    int32_t folded = a.n.folded;
    int32_t slot = me.slice < folded ? me.slice : me.slice - folded;
    float4 *partial =
        (float4 *)s.work + (slot * a.n.lanes + me.group * a.plan.units + me.unit) * (BATCH | 1);
    bool in_warp = forward_in_warp<BATCH>(a);
    float4 of_warp = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (in_warp) of_warp = forward_warp_sum(sum);
    __syncthreads(); /* the sums overwrite the staged chunks */
    if (in_warp) {   // threads without a part write zeros
        int32_t warp = (int32_t)threadIdx.x >> 5, lane = (int32_t)threadIdx.x & 31;
        ((float4 *)s.work)[(warp * 8 + (lane & 7)) * (BATCH | 1) + (lane >> 3)] = of_warp;
        __syncthreads();
        return;
    }
    if (me.works && me.slice >= folded)
        for (int b = 0; b < BATCH; b++) partial[b] = sum[b];
    __syncthreads();
    if (me.works && me.slice < folded) {
        if (me.slice + folded < a.plan.slices) add_rows<BATCH>(sum, partial, 1);
#pragma unroll
        for (int b = 0; b < BATCH; b++) partial[b] = sum[b];
    }
    __syncthreads();
}

/* Computes gates, c and h of the block's elements of one pass, and stores h_t in the exchange (NULL
 * at the last step). */
template <int BATCH>
static __device__ __forceinline__ void forward_cells(const ForwardArgs &a, const BlockPlace &at,
                                                     const ForwardShared &s, const MaskBits &bits,
                                                     int32_t t, int32_t pass, float *exchange)
{
    const LstmPlan &plan = a.plan;
    for (int32_t j = thread_again(); j < a.n.items; j += (int32_t)blockDim.x) {
        int32_t b = j % BATCH, column = j / BATCH, group = divided(column, a.n.by_units);
        int32_t u = column - group * plan.units;
        int32_t row = (pass * plan.groups + group) * BATCH + b, item = pass * a.n.items + j;
        if (u >= at.units || row >= at.rows) continue;
        const float *partial = s.work + 4 * (column * (BATCH | 1) + b);
        float h = forward_cell(s, item, u, partial,
                               forward_in_warp<BATCH>(a) ? a.n.warp_sums : a.n.folded,
                               4 * a.n.lanes * (BATCH | 1));
        if (exchange)
            exchange[s.place[u] + group * a.n.group_floats + b] =
                h * mask_bits_factor(bits, t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u);
    }
}

/* ---- the launch ---- */

template <int RESIDENT, int CHUNK, int BATCH, int THREADS>
static __device__ __forceinline__ void fwd_persistent(const ForwardArgs &a)
{
    typedef ForwardFlight<RESIDENT, BATCH, THREADS> Flight;
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    ForwardShared s = carve(a.n.pieces);
    BlockPlace at = block_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* the whole replica leaves */
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
    auto place = [&](int32_t u) { /* where the unit's rows are in the exchange */
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

    if (tid == 0) s.flag[1] = barrier.count;
    for (int32_t t = 0; t < T; t++) {
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            float4 sum[BATCH];
            Staging<CHUNK, BATCH, Flight::STAGED_FIRST, Flight::STAGED> stage = {
                a, at, s.work, t ? forward_exchange(a, at, t - 1, pass) : nullptr, pass};
            if (pass) __syncthreads(); /* chunks overwrite the sums of the pass before */
            forward_multiply<Flight, RESIDENT, CHUNK, BATCH>(a, at, s, me, kept, stage, sum);
            forward_fold<BATCH>(a, s, me, sum);
            forward_cells<BATCH>(a, at, s, bits, t, pass,
                                 t + 1 < T ? forward_exchange(a, at, t, pass) : nullptr);
        }
        /* Computed again at every step, since the registers that would keep them hold weights. */
        barrier.self = (uint32_t)divided(opaque(at.unit), a.n.by_units);
        barrier.first = (uint32_t)(opaque(at.replica) * plan.blocks);
        barrier.count = s.flag[1] + (uint32_t)t;
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
        n.folded = plan_folded(plan.slices), n.warp_sums = plan_warp_sums(&plan);
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
