/* fwd_cluster: the time loop of the variant `cluster`, forward. fwd_cluster.cu says what it does. */
#ifndef PLSTM_FWD_CLUSTER_CUH
#define PLSTM_FWD_CLUSTER_CUH

#include "cluster.cuh"

/* What follows from a plan, computed once on the host: as kernel arguments these cost no registers. */
struct ClusterForwardCounts {
    ClusterForwardPieces pieces;
    int32_t tiles;   /* of B that products read, along k */
    int32_t pitch;   /* floats of a unit's partial sums */
    int32_t operand; /* words of one exchange */
    int32_t mask_nibbles;
    uint32_t by_units; /* for divided() */
};

struct ClusterForwardArgs {
    LstmPlan plan;
    ClusterForwardCounts n;
    LstmForward p; /* p.launch.plan is the host's copy */
    FaultRecord *fault;
    int32_t first_row; /* of this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 900

CARVED_PIECES(ClusterForwardShared, ClusterForwardPieces, CLUSTER_FORWARD_PIECES)

/* What a warp multiplies: row tiles `row` .. of the block against k tiles `k` .. */
struct ClusterForwardWarp {
    int32_t index, lane, slice, row, k;
};

/* ---- before the first step ---- */

/* The A operand of the warp's i-th k tile and m-th row tile; zeros past the slice, the block and w_hh. */
template <int PRECISION>
static __device__ __forceinline__ void
cluster_forward_weight(const ClusterForwardArgs &a, const BlockPlace &at,
                       const ClusterForwardWarp &me, int32_t i, int32_t m, uint32_t (&w)[4])
{
    w[0] = w[1] = w[2] = w[3] = 0;
    if (i < a.plan.depth && (me.row + m) * TENSOR_UNITS < at.units)
        tensor_load<PRECISION>(a.p.w_hh, a.p.w_tiles, a.p.shape.H,
                               at.unit / TENSOR_UNITS + me.row + m, me.k + i, w);
}

/* h_0 of the replica's rows as B operand, masked where there is a recurrent site; zeros past the rows and past H, which nobody
 * overwrites; zeros in the other exchange. */
template <int PRECISION>
static __device__ __forceinline__ void cluster_forward_first(const ClusterForwardArgs &a,
                                                             const BlockPlace &at,
                                                             const ClusterForwardShared &s)
{
    const int64_t H = a.p.shape.H;
    Mask m = mask_open(a.p.recurrent);
    auto element = [&](int32_t row, int64_t k) {
        if (row >= at.rows || k >= H) return 0.0f;
        return forward_h_0(a.p, m, at.row + row, k);
    };
    for (int32_t j = (int32_t)threadIdx.x; j < a.n.operand; j += (int32_t)blockDim.x) {
        int32_t tile = j / (TENSOR_WORDS / 2), word = j % (TENSOR_WORDS / 2);
        int32_t row = tile / a.n.tiles * TENSOR_BATCH + word / 8, q = word / 2 % 4,
                upper = word % 2;
        int64_t k = (int64_t)(tile % a.n.tiles) * tensor_k(PRECISION);
        if (PRECISION == PRECISION_BF16) {
            k += 8 * upper + 2 * q;
            s.exchange[j] = tensor_pair(element(row, k), element(row, k + 1));
        } else {
            s.exchange[j] = tf32_round(element(row, k + 4 * upper + q));
        }
        s.exchange[a.n.operand + j] = 0;
    }
}

/* ---- a step ---- */

/* Where a warp's sums of a tile row go: a lane has gate lane/4 % 4 of the units lane/16 and that + 2 of each row tile. */
template <int QUADS, int TILES>
static __device__ __forceinline__ void
cluster_forward_fold(const ClusterForwardArgs &a, const ClusterForwardShared &s,
                     const ClusterForwardWarp &me, const float (&sum)[QUADS][TILES][4])
{
    int32_t g = me.lane >> 2, row = 2 * (me.lane & 3);
    float *to = s.partial + (me.slice * a.plan.units + (g >> 2)) * a.n.pitch + 4 * row + (g & 3);
#pragma unroll
    for (int m = 0; m < QUADS; m++) {
        int32_t unit = (me.row + m) * TENSOR_UNITS;
        if (unit >= a.plan.units) break;
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            float *at = to + unit * a.n.pitch + 4 * TENSOR_BATCH * n;
            at[0] = sum[m][n][0], at[4] = sum[m][n][1];
            at[2 * a.n.pitch] = sum[m][n][2], at[2 * a.n.pitch + 4] = sum[m][n][3];
        }
    }
}

/* One element's h into every block's exchange, `to`, from a warp whose lanes hold h of neighbouring units. In bf16 two lanes share
 * a word, which the even one sends to every second block, the odd one to the others. `sends`: the element exists. */
template <int PRECISION>
static __device__ __forceinline__ void
cluster_forward_send(const ClusterForwardArgs &a, const BlockPlace &at, uint32_t *to,
                     Mbarrier *arrived, int32_t row, int32_t u, float h, bool sends)
{
    enum { PAIR = PRECISION == PRECISION_BF16 ? 2 : 1 };
    int32_t odd = u & (PAIR - 1), k = at.unit + u - odd;
    uint32_t word;
    if (PRECISION == PRECISION_BF16) {
        float other = __shfl_xor_sync(0xffffffffu, h, 1);
        word = odd ? tensor_pair(other, h) : tensor_pair(h, other);
    } else {
        word = tf32_round(h);
    }
    if (!sends) return;
    int32_t tile = row / TENSOR_BATCH * a.n.tiles + k / tensor_k(PRECISION);
    to += tile * (TENSOR_WORDS / 2) +
          tensor_operand(PRECISION, k % tensor_k(PRECISION), row % TENSOR_BATCH).word;
    for (int32_t p = odd; p < a.plan.blocks; p += PAIR) {
        uint32_t peer = cluster_peer(at.block, p, a.plan.blocks);
        store_async(shared_at(to, peer), word, shared_at(arrived, peer));
    }
}

/* Gates, c and h of the block's elements, and h_t on its way into exchange n (0: nobody waits for it). Whole warps go round
 * together. */
template <int PRECISION>
static __device__ __forceinline__ void
cluster_forward_cells(const ClusterForwardArgs &a, const BlockPlace &at,
                      const ClusterForwardShared &s, const MaskBits &bits, int32_t t, int32_t n)
{
    const LstmPlan &plan = a.plan;
    int32_t items = at.rows * plan.units;
    uint32_t *to = s.exchange + (n & 1) * a.n.operand;
    Mbarrier *arrived = &s.arrived[n & 1];
    copy_async_wait<0>();
    for (int32_t j = thread_again(); (j & ~31) < items; j += (int32_t)blockDim.x) {
        int32_t row = divided(j, a.n.by_units), u = j - row * plan.units;
        float h = 0.0f;
        if (j < items && u < at.units) {
            const float *partial = s.partial + u * a.n.pitch + 4 * row;
            h = forward_cell(s, j, u, partial, plan.slices, plan.units * a.n.pitch);
            if (n) h *= mask_bits_factor(bits, t & 1, MASK_RECURRENT, a.p.recurrent, at, row, u);
        }
        if (n) {
            bool sends = j < items && (PRECISION == PRECISION_BF16 ? u & ~1 : u) < at.units;
            cluster_forward_send<PRECISION>(a, at, to, arrived, row, u, h, sends);
        }
    }
}

/* ---- the launch ---- */

#endif

template <int PRECISION, int QUADS, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void fwd_cluster_loop(const ClusterForwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    enum { TILES = BATCH / TENSOR_BATCH };
    const LstmPlan &plan = a.plan;
    const int32_t T = (int32_t)a.p.shape.T;
    ClusterForwardShared s = carve(a.n.pieces);
    BlockPlace at = block_place(plan, a.p.shape, a.first_row);
    if (at.rows <= 0) return; /* with the whole cluster */
    MaskBits bits = {s.masks, a.n.mask_nibbles, plan.rows};
    ClusterForwardWarp me;
    me.index = (int32_t)threadIdx.x >> 5, me.lane = (int32_t)threadIdx.x & 31;
    me.slice = me.index / plan.groups, me.row = (me.index - me.slice * plan.groups) * QUADS;
    me.k = me.slice * plan.depth;
    ClusterMeeting meeting = {s.arrived, s.flags,
                              cluster_step_bytes(&plan, a.p.shape.H, at.units, at.rows),
                              a.p.launch.poll_limit, T - 1};

    uint32_t kept[RESIDENT > 0 ? RESIDENT : 1][QUADS][4];
#pragma unroll
    for (int i = 0; i < RESIDENT; i++)
#pragma unroll
        for (int m = 0; m < QUADS; m++)
            cluster_forward_weight<PRECISION>(a, at, me, i, m, kept[i][m]);
    uint4 *weights = s.weights + me.index * plan.shared * QUADS * 32 + me.lane;
    for (int32_t i = 0; i < plan.shared; i++)
        for (int m = 0; m < QUADS; m++) {
            uint32_t w[4];
            cluster_forward_weight<PRECISION>(a, at, me, RESIDENT + i, m, w);
            weights[(i * QUADS + m) * 32] = make_uint4(w[0], w[1], w[2], w[3]);
        }
    cluster_forward_first<PRECISION>(a, at, s);
    auto each = [&](auto do_item) {
        for (int32_t j = thread_again(); j < at.rows * plan.units; j += (int32_t)blockDim.x) {
            int32_t row = divided(j, a.n.by_units), u = j - row * plan.units;
            if (u < at.units) do_item(row, u, j);
        }
    };
    forward_carry_in(
        a.p, at, s, each, [](int32_t) {}, [](int32_t, int32_t, float) {});
    forward_fetch(a.p, at, s, 0, each);
    mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, 0);

    bool runs = cluster_open(meeting, a.fault);
    for (int32_t t = 0; runs && t < T; t++) {
        if (t == 0 || cluster_receive(meeting, t)) {
            float sum[QUADS][TILES][4];
            const uint2 *operand = (const uint2 *)(s.exchange + (t & 1) * a.n.operand) + me.lane;
            cluster_product<PRECISION, QUADS, RESIDENT, TILES>(sum, kept, weights, plan.shared,
                                                               operand, me.k, a.n.tiles);
            cluster_forward_fold<QUADS, TILES>(a, s, me, sum);
        }
        __syncthreads(); /* partial sums are there; nobody of the block reads h_{t-1} any more */
        if (meeting.flags->timed_out) {
            if (threadIdx.x == 0) cluster_report(a.fault, t, t);
            break;
        }
        cluster_forward_cells<PRECISION>(a, at, s, bits, t, t + 1 < T ? t + 1 : 0);
        forward_store(a.p, at, s, bits, t, each);
        if (t + 1 == T) break;
        forward_fetch(a.p, at, s, t + 1, each);
        mask_bits_step(bits, a.p.shape, a.p.output, a.p.recurrent, at, t + 1);
        __syncthreads(); /* partial sums are read */
    }
    cluster_close(meeting);
#endif
}

struct ClusterForwardPass : PassOf<ClusterForwardArgs, LstmForward, KIND_CLUSTER, 0> {
    static Args arguments(const LstmPlan &plan, const LstmForward &p)
    {
        assert(cluster_sound(plan));
        ClusterForwardCounts n;
        n.pieces = cluster_forward_pieces(&plan);
        n.tiles = cluster_operand_tiles(&plan);
        n.pitch = cluster_partial_pitch(&plan);
        n.operand = (int32_t)cluster_operand_words(&plan);
        n.mask_nibbles = plan_mask_nibbles(plan.units);
        n.by_units = inverse_of(plan.units);
        return {plan, n, p, nullptr, 0};
    }
};

#endif
