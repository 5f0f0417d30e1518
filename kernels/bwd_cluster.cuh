/* bwd_cluster: the time loop of the backward pass of the variant `cluster`. bwd_cluster.cu
 * describes it. */
#ifndef PLSTM_BWD_CLUSTER_CUH
#define PLSTM_BWD_CLUSTER_CUH

#include "cluster.cuh"

/* Values that follow from a plan, computed once on the host. */
struct ClusterBackwardCounts {
    ClusterBackwardPieces pieces;
    int32_t tiles;   /* B tiles that the products read, along the contraction */
    int32_t operand; /* words of one step's dgates */
    int32_t parcel;  /* floats that one producer sends to one consumer: one per element */
    int32_t mask_nibbles;
    uint32_t by_mask_nibbles; /* for divided() */
    uint32_t by_units;        /* for divided() */
};

struct ClusterBackwardArgs {
    LstmPlan plan;
    ClusterBackwardCounts n;
    LstmBackward p; /* p.launch.plan is the host's copy */
    FaultRecord *fault;
    int32_t first_row; /* of B, in this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 900

CARVED_PIECES(ClusterBackwardShared, ClusterBackwardPieces, CLUSTER_BACKWARD_PIECES)

/* An element of the block. Four batch rows of a unit are neighbours, so that what the producers
 * sent is read in the order in which it lies. */
struct ClusterElement {
    int32_t row, u;
    bool exists;
};

static __device__ __forceinline__ ClusterElement cluster_element(const ClusterBackwardArgs &a,
                                                                 const BlockPlace &at, int32_t j)
{
    ClusterElement e;
    int32_t column = j / CLUSTER_ROWS, group = divided(column, a.n.by_units);
    e.u = column - group * a.plan.units, e.row = group * CLUSTER_ROWS + j % CLUSTER_ROWS;
    e.exists = e.u < at.units && e.row < at.rows;
    return e;
}

/* ---- before the first step ---- */

/* Loads the A operand of contraction tile i of the block and m tile m of H, or zeros beyond the
 * block's tiles and beyond H. */
template <int PRECISION>
static __device__ __forceinline__ void cluster_backward_weight(const ClusterBackwardArgs &a,
                                                               const BlockPlace &at, int32_t i,
                                                               int32_t m, uint32_t (&w)[4])
{
    /* Units per contraction tile. */
    enum { UNITS = PRECISION == PRECISION_BF16 ? TENSOR_UNITS : TENSOR_UNITS / 2 };
    w[0] = w[1] = w[2] = w[3] = 0;
    if (i * UNITS < at.units)
        tensor_load_transposed<PRECISION>(a.p.w_hh, a.p.w_tiles, a.p.shape.H, m,
                                          at.unit / UNITS + i, w);
}

/* ---- a step ---- */

/* Returns the first word of a unit's dgates of one batch row in the B operand; its gates are four
 * neighbouring k. */
template <int PRECISION>
static __device__ __forceinline__ int32_t cluster_backward_word(const ClusterBackwardArgs &a,
                                                                const ClusterElement &e)
{
    int32_t k = 4 * e.u, tile = e.row / TENSOR_BATCH * a.n.tiles + k / tensor_k(PRECISION);
    return tile * (TENSOR_WORDS / 2) +
           tensor_operand(PRECISION, k % tensor_k(PRECISION), e.row % TENSOR_BATCH).word;
}

template <int PRECISION>
static __device__ __forceinline__ void cluster_backward_put(uint32_t *to, const Gates &q)
{
    if (PRECISION == PRECISION_BF16) {
        to[0] = tensor_pair(q.i, q.f), to[2] = tensor_pair(q.g, q.o);
    } else {
        to[0] = tf32_round(q.i), to[2] = tf32_round(q.f), to[4] = tf32_round(q.g),
        to[6] = tf32_round(q.o);
    }
}

/* An element with everything ready except the partial dh from step t+1. */
struct ClusterBackwardReady {
    ClusterElement e;
    CellReady cell;
    /* What flows into h_t besides the partial dh, and the recurrent mask's factor for the partial
     * dh. */
    float dh, factor;
    float dc;
    int32_t word; /* in the operand */
};

template <int PRECISION>
static __device__ __forceinline__ ClusterBackwardReady
cluster_backward_ready(const ClusterBackwardArgs &a, const BlockPlace &at, float *state,
                       const MaskBits &bits, int32_t t, int32_t j)
{
    const LstmBackward &p = a.p;
    int32_t stride = a.n.parcel;
    ClusterBackwardReady r;
    r.e = cluster_element(a, at, j);
    if (j >= stride) r.e.exists = false;
    if (!r.e.exists) return r;
    state += j;
    r.dh = state[STATE_DY * stride] *
           mask_bits_factor(bits, t & 1, MASK_OUTPUT, p.output, at, r.e.row, r.e.u);
    r.factor = 0.0f;
    if (t + 1 < p.shape.T) /* step t+1 read h_t masked */
        r.factor = mask_bits_factor(bits, t & 1, MASK_RECURRENT, p.recurrent, at, r.e.row, r.e.u);
    else if (p.dh_n) r.dh += p.dh_n[(at.row + r.e.row) * p.shape.H + at.unit + r.e.u];
    Gates q = {state[0], state[stride], state[2 * stride], state[3 * stride]};
    float c_before = state[STATE_C_BEFORE * stride];
    r.cell = cell_backward_ready(q, c_before, state[STATE_C * stride]);
    r.dc = state[STATE_DC * stride];
    r.word = cluster_backward_word<PRECISION>(a, r.e);
    state[STATE_C * stride] = c_before;
    return r;
}

/* Computes the element's dgates and dc from exchange n (0: nothing flows in from beyond the last
 * step) and also stores dgates as operand. The partial dh are added in two sums, over the producers
 * with even and with odd ranks. */
template <int PRECISION>
static __device__ __forceinline__ void
cluster_backward_finish(const ClusterBackwardArgs &a, const ClusterBackwardShared &s,
                        uint32_t *dgates, int32_t n, int32_t j, ClusterBackwardReady &r)
{
    if (!r.e.exists) return;
    int32_t stride = opaque(a.n.parcel), blocks = opaque(a.plan.blocks); /* in registers */
    float *state = s.state + j;
    if (n) {
        const float *inbox = s.inbox + (n & 1) * blocks * stride + j;
        float from[2] = {0.0f, 0.0f};
#pragma unroll 1
        for (int32_t p = 0; p < blocks; p += 8, inbox += 8 * stride)
#pragma unroll
            for (int32_t i = 0; i < 8; i++)
                if (p + i < blocks) from[i & 1] += inbox[i * stride];
        r.dh += (from[0] + from[1]) * r.factor;
    }
    Gates q = cell_backward_finish(r.cell, r.dh, &r.dc);
    cluster_backward_put<PRECISION>(dgates + r.word, q);
    state[STATE_DC * stride] = r.dc;
    state[0] = q.i, state[stride] = q.f, state[2 * stride] = q.g, state[3 * stride] = q.o;
}

/* Sends a warp's partial dh, as exchange n, to the blocks that own the units. Two lanes that hold
 * four batch rows of the units k and k + 8 of an m tile swap halves, so that each sends four rows
 * of one unit. */
template <int STACKED, int TILES>
static __device__ __forceinline__ void
cluster_backward_send(const ClusterBackwardArgs &a, const BlockPlace &at,
                      const ClusterBackwardShared &s, int32_t first, int32_t n,
                      const float (&sum)[STACKED][TILES][4])
{
    const LstmPlan &plan = a.plan;
    int32_t lane = thread_again() & 31, odd = lane & 1, row = 2 * (lane & 2);
    float4 *to = (float4 *)s.inbox + ((n & 1) * plan.blocks + at.block) * (a.n.parcel / 4);
    Mbarrier *arrived = &s.arrived[n & 1];
#pragma unroll
    for (int m = 0; m < STACKED; m++) {
        int32_t k = (first + m) * TENSOR_ROWS + 8 * odd + (lane >> 2),
                consumer = divided(k, a.n.by_units);
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            const float(&d)[4] = sum[m][i];
            float x = __shfl_xor_sync(0xffffffffu, odd ? d[0] : d[2], 1);
            float y = __shfl_xor_sync(0xffffffffu, odd ? d[1] : d[3], 1);
            int32_t group = (i * TENSOR_BATCH + row) / CLUSTER_ROWS;
            if (k < (int32_t)a.p.shape.H && group * CLUSTER_ROWS < at.rows)
                store_async(shared_at(to + group * plan.units + (k - consumer * plan.units),
                                      (uint32_t)consumer),
                            odd ? make_float4(x, y, d[2], d[3]) : make_float4(d[0], d[1], x, y),
                            shared_at(arrived, (uint32_t)consumer));
        }
    }
}

/* Computes the partial dh of PART of a warp's STACKED m tiles, from FIRST on, and sends them; the
 * stores are in flight while the rest is multiplied. */
template <int PRECISION, int STACKED, int FIRST, int PART, int RESIDENT, int TILES>
static __device__ __forceinline__ void cluster_backward_part(
    const ClusterBackwardArgs &a, const BlockPlace &at, const ClusterBackwardShared &s,
    const uint32_t (&kept)[RESIDENT > 0 ? RESIDENT : 1][STACKED][4], const uint4 *weights,
    const uint2 *operand, const bool (&row)[TILES], int32_t first, int32_t n, bool timed_out)
{
    float sum[PART][TILES][4];
    cluster_product<PRECISION, STACKED, FIRST, PART, RESIDENT, TILES>(
        sum, kept, weights, a.plan.shared, operand, a.n.tiles, row);
    if (!timed_out) cluster_backward_send<PART, TILES>(a, at, s, first + FIRST, n, sum);
}

/* ---- the launch ---- */

#endif

template <int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void bwd_cluster_loop(const ClusterBackwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    enum { TILES = BATCH / TENSOR_BATCH };
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    ClusterBackwardShared s = carve(a.n.pieces);
    BlockPlace at = block_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* the whole cluster leaves */
    MaskBits bits = mask_bits_open(s.masks, a.n.mask_nibbles, a.n.by_mask_nibbles, plan.rows,
                                   a.p.output, a.p.recurrent);
    const int32_t warp = (int32_t)threadIdx.x >> 5, lane = (int32_t)threadIdx.x & 31,
                  first = warp * STACKED;
    ClusterMeeting meeting = {s.arrived,
                              s.flags,
                              s.sent,
                              cluster_step_bytes(&plan, a.p.shape.H, at.units, at.rows),
                              a.p.launch.poll_limit,
                              T - 1};

    uint32_t kept[RESIDENT > 0 ? RESIDENT : 1][STACKED][4];
#pragma unroll
    for (int i = 0; i < RESIDENT; i++)
#pragma unroll
        for (int m = 0; m < STACKED; m++)
            cluster_backward_weight<PRECISION>(a, at, i, first + m, kept[i][m]);
    uint4 *weights = s.weights + warp * plan.shared * STACKED * 32 + lane;
    for (int32_t i = 0; i < plan.shared; i++)
        for (int m = 0; m < STACKED; m++) {
            uint32_t w[4];
            cluster_backward_weight<PRECISION>(a, at, RESIDENT + i, first + m, w);
            weights[(i * STACKED + m) * 32] = make_uint4(w[0], w[1], w[2], w[3]);
        }
    auto each = [&](auto do_item) {
        for (int32_t j = thread_again(); j < a.n.parcel; j += (int32_t)blockDim.x) {
            ClusterElement e = cluster_element(a, at, j);
            if (e.exists) do_item(e.row, e.u, j);
        }
    };
    for (int32_t j = (int32_t)threadIdx.x; j < (int32_t)a.n.pieces.dgates; j += (int32_t)blockDim.x)
        s.dgates[j] = 0; /* stays zero where there is no unit or row */
    backward_carry_in(a.p, at, s.state, a.n.parcel, each);
    backward_fetch(a.p, at, s.state, a.n.parcel, T - 1, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, T - 1);
    if (T > 1) mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, T - 2);

    bool runs = cluster_open(meeting, a.fault);
    for (int32_t t = T - 1; runs && t >= 0; t--) {
        int32_t n = T - 1 - t; /* the exchange that this step reads; it sends n + 1 */
        const int32_t threads = (int32_t)blockDim.x;
        uint32_t *dgates = s.dgates + (n & 1) * a.n.operand;
        int32_t j = thread_again();
        copy_async_wait<0>();
        ClusterBackwardReady ready = cluster_backward_ready<PRECISION>(a, at, s.state, bits, t, j);
        if (n == 0 || cluster_receive(meeting, n))
#pragma unroll 1
            for (;;) {
                cluster_backward_finish<PRECISION>(a, s, dgates, n, j, ready);
                if ((j += threads) >= a.n.parcel) break;
                ready = cluster_backward_ready<PRECISION>(a, at, s.state, bits, t, j);
            }
        __syncthreads(); /* dgates are complete; no thread reads exchange n any more */
        const bool timed_out = meeting.flags->timed_out[n & 1] != 0;
        if (t) {
            const uint2 *operand = (const uint2 *)dgates + lane;
            bool row[TILES];
#pragma unroll
            for (int i = 0; i < TILES; i++) row[i] = i * TENSOR_BATCH + (lane >> 2) < at.rows;
            cluster_backward_part<PRECISION, STACKED, 0, STACKED - STACKED / 2, RESIDENT, TILES>(
                a, at, s, kept, weights, operand, row, first, n + 1, timed_out);
            if constexpr (STACKED > 1)
                cluster_backward_part<PRECISION, STACKED, STACKED - STACKED / 2, STACKED / 2,
                                      RESIDENT, TILES>(a, at, s, kept, weights, operand, row, first,
                                                       n + 1, timed_out);
            if (lane == 0 && !timed_out) cluster_note(&s.sent[warp], (uint32_t)n + 1);
        }
        if (timed_out) {
            if (threadIdx.x == 0)
                cluster_report(meeting, plan, a.p.shape, at, a.fault, n, t,
                               [&](int32_t) { return plan.groups; });
            break;
        }
        backward_store(a.p, at, s.state, a.n.parcel, t, each);
        if (t == 0) break;
        backward_fetch(a.p, at, s.state, a.n.parcel, t - 1, each);
        if (t > 1) mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t - 2);
    }
    cluster_close(meeting);
#endif
}

struct ClusterBackwardPass : PassOf<ClusterBackwardArgs, LstmBackward, KIND_CLUSTER, 1> {
    static Args arguments(const LstmPlan &plan, const LstmBackward &p)
    {
        assert(cluster_sound(plan) && plan.slices == 1);
        ClusterBackwardCounts n;
        n.pieces = cluster_backward_pieces(&plan);
        n.tiles = cluster_operand_tiles(&plan);
        n.operand = (int32_t)cluster_operand_words(&plan);
        n.parcel = (int32_t)cluster_items(&plan);
        n.mask_nibbles = plan_mask_nibbles(plan.units);
        n.by_mask_nibbles = inverse_of(n.mask_nibbles);
        n.by_units = inverse_of(plan.units);
        return {plan, n, p, nullptr, 0};
    }
};

#endif
