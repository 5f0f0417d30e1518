/* bwd_persistent: the time loop of the persistent backward variants. They differ only in where a
 * thread keeps its weights (bwd_l2.cu, bwd_smem.cu, bwd_reg.cu). plan.h defines which block and
 * thread owns what.
 *
 *   per step   add up the partial dh that the blocks sent -> cell, dgates
 *              -> multiply by this block's rows of W_hh -> add the slices' partial sums, send every
 *              block its part -> arrive -> store dgates -> fetch gates, c, dy and draw masks of t-1
 *              -> wait
 *
 * Exchange   A reduce-scatter: a block owns the same rows of W_hh as in the forward pass, so its
 *            dgates never leave it. Blocks exchange the partial dh that these dgates give every
 *            unit, as [pass][consumer][producer] parcels of [group][batch rows / 4][unit] float4 of
 *            batch rows. Neighbouring lanes have neighbouring units, so a warp stores whole
 *            sectors, and what one consumer reads is contiguous. Per step a replica writes and
 *            reads blocks * H * rows floats. Two buffers alternate by the parity of t: at step t-2
 *            a block overwrites what it sent at step t, after all blocks have arrived at step t-1
 *            and so have read what was sent at t.
 * Operands   A thread multiplies the four gate rows of its slice's units at four k by `batch` batch
 *            rows: 16 multiply-adds for each 16 bytes of dgates that it reads from shared memory.
 *            Lanes of one slice read the same address. A thread's four k are `quads` apart, so
 *            lanes read neighbouring weights for every H.
 * Sums       quads * rows float4 are written and read for each slice but one. The order is fixed:
 *            within a thread, units upwards (in later rounds, those streamed because the first
 *            round has them in registers come last); then the upper half of the slices is added to
 *            the lower half until two are left, whose threads each add up and send half of the k;
 *            then producers p, p + gather groups, ... upwards; then gather groups upwards. */
#ifndef PLSTM_BWD_PERSISTENT_CUH
#define PLSTM_BWD_PERSISTENT_CUH

#include "block_io.cuh"
#include "grid_barrier.cuh"

/* Values that follow from a plan, computed once on the host: as kernel arguments they cost no
 * registers. */
struct BackwardCounts {
    BackwardPieces pieces;
    int32_t parcel, gather_groups; /* plan_parcel_floats, plan_gather_groups */
    int32_t columns;   /* rounds * slices * quads: the weights of one unit and gate, side by side */
    int32_t width;     /* groups * pitch: the batch rows of dgates, side by side */
    int32_t unit_rows; /* of dgates, in one pass */
    int32_t items, slot; /* elements of one pass; of all passes */
    int32_t mask_nibbles;
    uint32_t by_mask_nibbles;     /* for divided() */
    uint32_t by_units, by_parcel; /* for divided(): units; float4 of a parcel */
    uint32_t by_quads, by_slices;
    int64_t pass_floats, exchange_floats; /* of the exchange */
};

struct BackwardArgs {
    LstmPlan plan;
    BackwardCounts n;
    LstmBackward p;  /* p.launch.plan is the host's copy */
    float *exchange; /* [step & 1][replica][exchange_floats] */
    uint32_t *words; /* [replica][blocks] of the grid barrier */
    FaultRecord *fault;
    int32_t first_row; /* of B, in this launch */
};

CARVED_PIECES(BackwardShared, BackwardPieces, BACKWARD_PIECES)

/* A thread's part of the product. It is computed again wherever it is needed. */
struct BackwardThread {
    int32_t quad, slice, group;
    int32_t units; /* of its slice, as far as they exist */
    bool works;    /* the other threads only help to gather and to finish */
};

static __device__ __forceinline__ BackwardThread backward_thread(const BackwardArgs &a,
                                                                 const BlockPlace &at)
{
    int32_t tid = thread_again(), column = divided(tid, a.n.by_quads);
    BackwardThread me;
    me.quad = tid - column * a.plan.quads;
    me.group = divided(column, a.n.by_slices), me.slice = column - me.group * a.plan.slices;
    me.works = me.group < a.plan.groups;
    me.units = me.works ? min(a.plan.depth, at.units - me.slice * a.plan.depth) : 0;
    return me;
}

/* Returns where the parcels of one pass that are sent at step t are in the exchange. */
static __device__ __forceinline__ float *
backward_exchange(const BackwardArgs &a, const BlockPlace &at, int32_t t, int32_t pass)
{
    return a.exchange + ((t & 1) * a.plan.replicas + at.replica) * a.n.exchange_floats +
           pass * a.n.pass_floats;
}

/* Returns the first of the thread's four k in a round; the others follow `quads` apart. */
static __device__ __forceinline__ int32_t backward_k(const LstmPlan &plan, int32_t round,
                                                     int32_t quad)
{
    return round * 4 * plan.quads + quad;
}

/* ---- weights ---- */

/* Columns of a thread's four weights in a row of w_hh. Past H, where the sum is unused, the row's
 * last column takes their place. */
struct WeightColumns {
    uint32_t k[4];
};

static __device__ __forceinline__ WeightColumns backward_columns(const BackwardArgs &a,
                                                                 int32_t round, int32_t quad)
{
    WeightColumns c;
    for (int j = 0; j < 4; j++)
        c.k[j] = (uint32_t)min(backward_k(a.plan, round, quad) + j * a.plan.quads,
                               (int32_t)a.p.shape.H - 1);
    return c;
}

static __device__ __forceinline__ const float *
backward_row(const BackwardArgs &a, const BlockPlace &at, int32_t u, int32_t gate)
{
    return a.p.w_hh + (gate * a.p.shape.H + at.unit + u) * a.p.shape.H;
}

static __device__ __forceinline__ float4 backward_weight(const float *row, const WeightColumns &c)
{
    return make_float4(load_l2(row + c.k[0]), load_l2(row + c.k[1]), load_l2(row + c.k[2]),
                       load_l2(row + c.k[3]));
}

template <int RESIDENT>
static __device__ __forceinline__ void backward_load_registers(const BackwardArgs &a,
                                                               const BlockPlace &at, float4 *kept)
{
    BackwardThread me = backward_thread(a, at);
    WeightColumns k = backward_columns(a, 0, me.quad);
#pragma unroll
    for (int i = 0; i < 4 * RESIDENT; i++)
        kept[i] =
            i / 4 < me.units
                ? backward_weight(backward_row(a, at, me.slice * a.plan.depth + i / 4, i % 4), k)
                : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

static __device__ __forceinline__ void
backward_load_shared(const BackwardArgs &a, const BlockPlace &at, const BackwardShared &s)
{
    const LstmPlan &plan = a.plan;
    int32_t round_columns = plan.slices * plan.quads, columns = a.n.columns;
    for (int32_t j = thread_again(); j < plan.shared * 4 * columns; j += (int32_t)blockDim.x) {
        int32_t i = j / columns / 4, gate = j / columns % 4, column = j % columns;
        int32_t round = column / round_columns, slice = column % round_columns / plan.quads;
        int32_t u = slice * plan.depth + plan.resident + i;
        if (u < at.units)
            s.weights[j] = backward_weight(backward_row(a, at, u, gate),
                                           backward_columns(a, round, column % plan.quads));
    }
}

/* ---- sums of what was sent ---- */

/* Stores in s.work, for every gather group, the sum of its producers' parcels. */
static __device__ __forceinline__ void backward_gather(const BackwardArgs &a, const BlockPlace &at,
                                                       const BackwardShared &s, int32_t t,
                                                       int32_t pass)
{
    enum { FLIGHT = 8 }; /* loads in flight at a time */
    int32_t columns = a.n.parcel / 4, groups = a.n.gather_groups, blocks = a.plan.blocks;
    const float4 *parcels = (const float4 *)backward_exchange(a, at, t + 1, pass) +
                            (int64_t)at.block * blocks * columns;
    for (int32_t j = thread_again(); j < groups * columns; j += (int32_t)blockDim.x) {
        int32_t p = divided(j, a.n.by_parcel);
        const float4 *from = parcels + j; /* column j - p * columns of producer p */
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
        for (; p < blocks; p += FLIGHT * groups, from += FLIGHT * groups * columns) {
            float4 x[FLIGHT];
#pragma unroll
            for (int i = 0; i < FLIGHT; i++)
                x[i] = p + i * groups < blocks ? load_l2(from + i * groups * columns)
                                               : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
            for (int i = 0; i < FLIGHT; i++) add(sum, x[i]);
        }
        ((float4 *)s.work)[j] = sum;
    }
}

/* ---- cell ---- */

/* Computes dgates and dc of the block's elements of one pass. */
template <int BATCH>
static __device__ __forceinline__ void backward_cells(const BackwardArgs &a, const BlockPlace &at,
                                                      const BackwardShared &s, const MaskBits &bits,
                                                      int32_t t, int32_t pass)
{
    enum { PITCH = (BATCH + 3) / 4 * 4 };
    const LstmPlan &plan = a.plan;
    int32_t width = a.n.width;
    int32_t sums = t + 1 < a.p.shape.T ? a.n.gather_groups : 0;
    for (int32_t j = thread_again(); j < a.n.items; j += (int32_t)blockDim.x) {
        int32_t b = j % BATCH, column = j / BATCH, group = divided(column, a.n.by_units);
        int32_t u = column - group * plan.units;
        int32_t row = (pass * plan.groups + group) * BATCH + b;
        if (u >= at.units || row >= at.rows) continue;
        const float *sent = s.work + ((group * PITCH / 4 + b / 4) * plan.units + u) * 4 + b % 4;
        auto from_next = [&] {
            float sum = 0.0f;
            for (int32_t g = 0; g < sums; g++) sum += sent[g * a.n.parcel];
            return sum;
        };
        Gates q = backward_cell(a.p, at, bits, t, row, u, s.state + pass * a.n.items + j, a.n.slot,
                                from_next);
        float *dgates =
            s.dgates + (pass * a.n.unit_rows + u) * 4 * width + opaque(group * PITCH) + b;
        dgates[0] = q.i, dgates[width] = q.f, dgates[2 * width] = q.g, dgates[3 * width] = q.o;
    }
}

/* ---- multiply ---- */

/* Multiplies units i to end - 1 of the slice with weights from L2. The loads of AHEAD rows are in
 * flight while the rows before them are multiplied. */
template <int BATCH, int AHEAD>
static __device__ __forceinline__ void
backward_stream(const BackwardArgs &a, const BlockPlace &at, const BackwardThread &me, int32_t i,
                int32_t end, int32_t round, const float *dgates, float4 (&sum)[BATCH])
{
    if (i >= end) return;
    WeightColumns k = backward_columns(a, round, me.quad);
    int32_t first = me.slice * a.plan.depth;
    float4 coming[AHEAD];
#pragma unroll
    for (int gate = 0; gate < AHEAD; gate++)
        coming[gate] = backward_weight(backward_row(a, at, first + i, gate), k);
#pragma unroll 1
    for (; i < end; i++) {
#pragma unroll
        for (int gate = 0; gate < 4; gate++) {
            float4 now = coming[gate % AHEAD];
            int32_t next = opaque(i) + (gate + AHEAD) / 4;
            if (next < end)
                coming[gate % AHEAD] =
                    backward_weight(backward_row(a, at, first + next, (gate + AHEAD) % 4), k);
            multiply_row<BATCH>(sum, now, dgates + (4 * i + gate) * a.n.width);
        }
    }
}

/* Computes this thread's part of W_hh^T dgates_t for one pass and round, over the rows of its
 * slice; a row is one gate of one unit. */
template <int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void
backward_multiply(const BackwardArgs &a, const BlockPlace &at, const BackwardShared &s,
                  const float4 *kept, int32_t pass, int32_t round, float4 (&sum)[BATCH])
{
    enum {
        /* rows of streamed weights in flight; resident weights need the registers */
        PITCH = (BATCH + 3) / 4 * 4,
        UNROLL = BATCH < 8    ? 4
                 : BATCH < 16 ? 2
                              : 1,
        AHEAD = RESIDENT ? 1 : 4,
        EARLY = BATCH <= 10 && THREADS <= 256
    };
    const LstmPlan &plan = a.plan;
    BackwardThread me = backward_thread(a, at);
    int32_t width = a.n.width, first = me.slice * plan.depth;
    int32_t in_shared = min(plan.resident + plan.shared, me.units);
    const float *dgates =
        s.dgates + (pass * a.n.unit_rows + first) * 4 * width + opaque(me.group * PITCH);
#pragma unroll
    for (int b = 0; b < BATCH; b++) sum[b] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

    if (RESIDENT > 0 && round == 0 && me.works)
        multiply_rows<4 * RESIDENT, EARLY>(sum, kept, dgates, width);

    const float4 *w = s.weights + (round * plan.slices + me.slice) * plan.quads + me.quad;
#pragma unroll UNROLL
    for (int32_t row = 4 * plan.resident; row < 4 * in_shared; row++, w += a.n.columns)
        multiply_row<BATCH>(sum, *w, dgates + row * width);

    /* Streamed weights: the slice's remaining units, then, in later rounds, the units whose
     * first-round weights are in registers. */
    backward_stream<BATCH, AHEAD>(a, at, me, max(in_shared, plan.resident), me.units, round, dgates,
                                  sum);
    if (RESIDENT > 0 && round > 0)
        backward_stream<BATCH, AHEAD>(a, at, me, 0, min(plan.resident, me.units), round, dgates,
                                      sum);
}

/* ---- sums over slices, and sending ---- */

/* Adds up the slices until two are left; backward_finish adds those two. `again` is whether threads
 * may still be reading s.work: on entry because of the round before, on return because of this
 * one. */
template <int BATCH>
static __device__ __forceinline__ void backward_fold(const BackwardArgs &a, const BackwardShared &s,
                                                     const BackwardThread &me, bool &again,
                                                     float4 (&sum)[BATCH])
{
    const LstmPlan &plan = a.plan;
    int32_t step = plan.quads, slot = plan.groups * BATCH * step;
    float4 *partial = (float4 *)s.work + me.group * BATCH * step + me.quad;
#pragma unroll 1
    for (int32_t slices = plan.slices; slices > 2; slices = plan_folded(slices)) {
        int32_t folded = plan_folded(slices);
        if (again) __syncthreads();
        if (me.works && me.slice >= folded && me.slice < slices) {
            float4 *to = partial + (me.slice - folded) * slot;
#pragma unroll
            for (int b = 0; b < BATCH; b++) to[b * step] = sum[b];
        }
        __syncthreads();
        if (me.works && me.slice + folded < slices)
            add_rows<BATCH>(sum, partial + me.slice * slot, step);
        again = true;
    }
}

/* Sends the sums of two of the thread's four k, components 2 * half and 2 * half + 1, to the blocks
 * that own these units. */
template <int BATCH>
static __device__ __forceinline__ void
backward_send(const BackwardArgs &a, const BlockPlace &at, const BackwardThread &me, int32_t t,
              int32_t pass, int32_t round, int32_t half, const float2 (&sum)[BATCH])
{
    const LstmPlan &plan = a.plan;
    float4 *exchange = (float4 *)backward_exchange(a, at, t, pass) +
                       me.group * (plan_pitch(BATCH) / 4) * plan.units;
    int32_t k[2], to[2];
#pragma unroll
    for (int j = 0; j < 2; j++)
        k[j] = backward_k(plan, round, me.quad) + (2 * half + j) * plan.quads;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        int32_t consumer = divided(k[j], a.n.by_units);
        to[j] =
            (consumer * plan.blocks + at.block) * (a.n.parcel / 4) + k[j] - consumer * plan.units;
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
        auto of = [&](int b) { return b >= BATCH ? 0.0f : j ? sum[b].y : sum[b].x; };
        if (k[j] < (int32_t)a.p.shape.H) {
#pragma unroll
            for (int b = 0; b < BATCH; b += 4)
                exchange[to[j] + b / 4 * plan.units] =
                    make_float4(of(b), of(b + 1), of(b + 2), of(b + 3));
        }
    }
}

/* Adds the sums of slices 0 and 1 and sends them to the blocks that own the units. With two slices,
 * the thread of each slice adds up and sends half of the four k. */
template <int BATCH>
static __device__ __forceinline__ void
backward_finish(const BackwardArgs &a, const BlockPlace &at, const BackwardShared &s,
                const BackwardThread &me, bool again, int32_t t, int32_t pass, int32_t round,
                const float4 (&sum)[BATCH])
{
    const LstmPlan &plan = a.plan;
    int32_t step = plan.quads, slot = plan.groups * BATCH * step;
    float2 *partial = (float2 *)s.work + me.group * BATCH * step + me.quad;
    bool two = plan.slices > 1, works = me.works && me.slice < 2;
    auto half_of = [&](int b, int32_t half) {
        return half ? make_float2(sum[b].z, sum[b].w) : make_float2(sum[b].x, sum[b].y);
    };
    if (two && again) __syncthreads();
    if (two) {
        if (works) {
            float2 *to = partial + (1 - me.slice) * slot;
#pragma unroll
            for (int b = 0; b < BATCH; b++) to[b * step] = half_of(b, 1 - me.slice);
        }
        __syncthreads();
    }
    if (!works) return;
#pragma unroll 1
    for (int32_t half = two ? me.slice : 0; half < (two ? me.slice + 1 : 2); half++) {
        float2 mine[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; b++) mine[b] = half_of(b, half);
        if (two) {
            const float2 *from = partial + half * slot;
#pragma unroll
            for (int b = 0; b < BATCH; b += 4) {
                float2 x[4];
#pragma unroll
                for (int i = 0; i < 4 && b + i < BATCH; i++) x[i] = from[(b + i) * step];
#pragma unroll
                for (int i = 0; i < 4 && b + i < BATCH; i++)
                    mine[b + i].x += x[i].x, mine[b + i].y += x[i].y;
            }
        }
        backward_send<BATCH>(a, at, me, t, pass, round, half, mine);
    }
}

/* ---- the launch ---- */

template <int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void bwd_persistent(const BackwardArgs &a)
{
    const LstmPlan &plan = a.plan;
    /* opaque, here and for the groups: otherwise compilers emit immediate operands of more than 32
     * bits, of which GPGPU-Sim reads only the lower 32. */
    const int32_t T = opaque((int32_t)a.p.shape.T);
    BackwardShared s = carve(a.n.pieces);
    BlockPlace at = block_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* the whole replica leaves */
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent);

    float4 kept[RESIDENT > 0 ? 4 * RESIDENT : 1];
    backward_load_registers<RESIDENT>(a, at, kept);
    backward_load_shared(a, at, s);
    auto each = [&](auto do_item) {
        for (int32_t j = thread_again(); j < at.rows * plan.units; j += (int32_t)blockDim.x) {
            int32_t row = divided(j, a.n.by_units), u = j - row * plan.units;
            if (u < at.units) do_item(row, u, item_at(plan, BATCH, row, u));
        }
    };
    for (int32_t j = thread_again(); j < (int32_t)a.n.pieces.dgates; j += (int32_t)blockDim.x)
        s.dgates[j] = 0.0f; /* stays 0 where there is no unit or row */
    backward_carry_in(a.p, at, s.state, a.n.slot, each);
    backward_fetch(a.p, at, s.state, a.n.slot, T - 1, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, T - 1);
    GridBarrier barrier;
    if (!barrier_open(&barrier, a.words + at.replica * plan.blocks, (uint32_t)plan.blocks,
                      (uint32_t)at.block, (uint32_t)(at.replica * plan.blocks),
                      a.p.launch.poll_limit, s.flag, a.fault))
        return;

    if (threadIdx.x == 0) s.flag[1] = barrier.count;
    for (int32_t t = T - 1; t >= 0; t--) {
        for (int32_t pass = 0; pass < plan.passes; pass++) {
            if (pass) __syncthreads(); /* gathered sums overwrite those of the pass before */
            if (t + 1 < T) backward_gather(a, at, s, t, pass);
            copy_async_wait<0>();
            __syncthreads();
            backward_cells<BATCH>(a, at, s, bits, t, pass);
            if (t == 0) continue;
            __syncthreads();
            for (int32_t round = 0; round < plan.rounds; round++) {
                float4 sum[BATCH];
                backward_multiply<RESIDENT, BATCH, THREADS>(a, at, s, kept, pass, round, sum);
                BackwardThread me = backward_thread(a, at);
                bool again = round > 0;
                backward_fold<BATCH>(a, s, me, again, sum);
                backward_finish<BATCH>(a, at, s, me, again, t, pass, round, sum);
            }
        }
        /* Computed again at every step, since the registers that would keep them hold weights. */
        barrier.self = (uint32_t)divided(opaque(at.unit), a.n.by_units);
        barrier.first = (uint32_t)(opaque(at.replica) * plan.blocks);
        barrier.count = s.flag[1] + (uint32_t)(T - 1 - t);
        __syncthreads();
        if (t) barrier_arrive(&barrier);
        backward_store(a.p, at, s.state, a.n.slot, t, each);
        if (t == 0) break;
        backward_fetch(a.p, at, s.state, a.n.slot, t - 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t - 1);
        if (!barrier_wait(&barrier, (uint32_t)t - 1)) return;
    }
}

struct BackwardPass : PassOf<BackwardArgs, LstmBackward, KIND_VECTOR, 1> {
    static Args arguments(const LstmPlan &plan, const LstmBackward &p)
    {
        BackwardCounts n;
        n.pieces = plan_backward_pieces(&plan);
        n.parcel = (int32_t)plan_parcel_floats(&plan);
        n.gather_groups = plan_gather_groups(&plan);
        n.columns = plan.rounds * plan.slices * plan.quads;
        n.width = plan.groups * plan_pitch(plan.batch);
        n.unit_rows = (int32_t)plan_unit_rows(&plan);
        n.items = (int32_t)plan_items(&plan);
        n.slot = plan.passes * n.items;
        n.mask_nibbles = plan_mask_nibbles(plan.units);
        n.by_mask_nibbles = inverse_of(n.mask_nibbles);
        n.by_units = inverse_of(plan.units);
        n.by_parcel = inverse_of(n.parcel / 4);
        n.by_quads = inverse_of(plan.quads), n.by_slices = inverse_of(plan.slices);
        n.exchange_floats = plan_exchange_floats(&plan);
        n.pass_floats = n.exchange_floats / plan.passes;
        /* divided() needs n * d < 2^31: n is a thread's k or an element of the block and d = units;
         * or n is a float4 of the gathered sums and d = the float4 of a parcel. */
        assert((4 * (int64_t)plan.quads * plan.rounds + n.slot) * plan.units <= INT32_MAX);
        assert((n.pieces.work / 4 + n.parcel) * (int64_t)n.parcel / 4 <= INT32_MAX);
        assert(p.launch.scratch);
        float *exchange = (float *)p.launch.scratch;
        return {
            plan,    n, p, exchange, (uint32_t *)(exchange + 2 * plan.replicas * n.exchange_floats),
            nullptr, 0};
    }
};

#endif
