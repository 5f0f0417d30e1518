/* fwd_cluster: the time loop of the variant `cluster`, forward. fwd_cluster.cu describes what it
 * does; cluster.h defines which block and warp owns what.
 *
 *   per step   each warp: wait for h_{t-1} -> multiply -> cell, send h_t
 *              -> store gates, c, h, y -> fetch x_proj and draw masks of t+1 */
#ifndef PLSTM_FWD_CLUSTER_CUH
#define PLSTM_FWD_CLUSTER_CUH

#include "cluster.cuh"

/* Values that follow from a plan, computed once on the host: as kernel arguments they cost no
 * registers. */
struct ClusterForwardCounts {
    ClusterForwardPieces pieces;
    int32_t tiles;   /* k tiles of B */
    int32_t operand; /* words of one exchange */
};

struct ClusterForwardArgs {
    LstmPlan plan;
    ClusterForwardCounts n;
    LstmForward p; /* p.launch.plan is the host's copy */
    FaultRecord *fault;
    int32_t first_row; /* of B, in this launch */
};

#if DEV_ARCH == 0 || DEV_ARCH >= 900

CARVED_PIECES(ClusterForwardShared, ClusterForwardPieces, CLUSTER_FORWARD_PIECES)

/* ---- how a row tile and a batch tile are laid out in a warp ----
 * Rows and k of a tile are permuted when it is loaded, in A and B alike, so that neither cells nor
 * sends move data between warps.
 *
 * Rows       Row r < 8 of A is row 2r of tensor.h's tile, and row r + 8 is row 2r + 1. In D, a
 *            lane then has two gates of unit lane / 8, each for two batch rows: i and f if lane / 4
 *            is even, g and o if it is odd. Two shuffles with lane ^ 4 give each lane all four
 *            gates of one element.
 * k          Of each k tile, lane q = lane % 4 has units 4q to 4q + 3 in bf16, 2q and 2q + 1 in
 *            tf32. */

/* A lane's element of row tile m and batch tile n: unit u of the block, row of the replica. */
struct ClusterForwardElement {
    int32_t u, row;
    bool exists;
};

static __device__ __forceinline__ ClusterForwardElement
cluster_forward_element(const BlockPlace &at, int32_t lane, int32_t tile, int32_t n)
{
    ClusterForwardElement e;
    e.u = tile * TENSOR_UNITS + (lane >> 3);
    e.row = n * TENSOR_BATCH + 2 * (lane & 3) + (lane >> 2 & 1);
    e.exists = e.u < at.units && e.row < at.rows;
    return e;
}

/* Returns which pair of a B tile holds the two words of lane q and batch row g. In bf16, two rows
 * of four units are 16 neighbouring bytes; in tf32, one row is. The lanes of half a warp read 32
 * different banks. */
template <int PRECISION>
static __device__ __forceinline__ int32_t cluster_forward_pair(int32_t g, int32_t q)
{
    return PRECISION == PRECISION_BF16 ? q * TENSOR_BATCH + (g ^ (q & 2) << 1) : g * 4 + q;
}

/* ---- before the first step ---- */

/* from[j] is the address of the lane's word j of k tile 0 in a row tile of the block: a word of
 * w_tiles in bf16, an element of w_hh in tf32. k[j] is how many k tiles (bf16) or elements along k
 * (tf32) exist from there on; it is 0 beyond the block's units. */
struct ClusterForwardRows {
    const float *from[4];
    int64_t k[4];
};

template <int PRECISION>
static __device__ __forceinline__ ClusterForwardRows
cluster_forward_rows(const ClusterForwardArgs &a, const BlockPlace &at, int32_t tile)
{
    int32_t lane = (int32_t)threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    int64_t H = a.p.shape.H, r = at.unit / TENSOR_UNITS + tile;
    int64_t across = tensor_k_tiles(H, PRECISION);
    bool exists = tile * TENSOR_UNITS < at.units;
    ClusterForwardRows w;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        int32_t row = 2 * g + (j & 1), upper = j >> 1;
        /* In bf16, a word holds units 4q + 2 * upper and the next: the columns of a pair. */
        if (PRECISION == PRECISION_BF16) {
            int32_t pair = 2 * q + upper,
                    word = ((row & 7) * 4 + (pair & 3)) * 4 + (row >> 3) + 2 * (pair >> 2);
            w.from[j] = (const float *)a.p.w_tiles + r * across * TENSOR_WORDS + word;
            w.k[j] = exists ? across : 0;
        } else {
            int64_t unit = r * TENSOR_UNITS + (row >> 2), gate = row & 3, k = 2 * q + upper;
            w.from[j] = a.p.w_hh + (gate * H + unit) * H + k;
            w.k[j] = exists && unit < H ? H - k : 0;
        }
    }
    return w;
}

/* Loads the A operand of k tile i, with zeros beyond what exists. */
template <int PRECISION>
static __device__ __forceinline__ void cluster_forward_weight(const ClusterForwardRows &rows,
                                                              int32_t i, uint32_t (&w)[4])
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (PRECISION == PRECISION_BF16)
            w[j] = i < rows.k[j] ? load_l2((const uint32_t *)rows.from[j] + i * TENSOR_WORDS) : 0;
        else w[j] = i * 8 < rows.k[j] ? tf32_round(load_l2(rows.from[j] + i * 8)) : 0;
    }
}

/* Stores h_0 of the replica's rows as a B operand, masked if there is a recurrent site. Rows and k
 * that do not exist are zeros; later steps write only zeros there, as the padding of a send. Also
 * zeroes the other exchange buffer. */
template <int PRECISION>
static __device__ __forceinline__ void cluster_forward_first(const ClusterForwardArgs &a,
                                                             const BlockPlace &at,
                                                             const ClusterForwardShared &s)
{
    const int64_t H = a.p.shape.H;
    Mask m = mask_open(a.p.recurrent);
    auto element = [&](int32_t row, int64_t k) {
        if (row >= at.rows || k >= H) return 0.0f;
        return hidden_first(a.p, m, at.row + row, k);
    };
    for (int32_t j = (int32_t)threadIdx.x; j < a.n.operand / 2; j += (int32_t)blockDim.x) {
        int32_t tile = j / 32, q = j % 4, g = j / 4 % 8;
        int32_t row = tile / a.n.tiles * TENSOR_BATCH + g;
        int64_t k = (int64_t)(tile % a.n.tiles) * tensor_k(PRECISION);
        uint32_t *to = s.exchange + 2 * (tile * 32 + cluster_forward_pair<PRECISION>(g, q));
        if (PRECISION == PRECISION_BF16) {
            k += 4 * q;
            to[0] = tensor_pair(element(row, k), element(row, k + 1));
            to[1] = tensor_pair(element(row, k + 2), element(row, k + 3));
        } else {
            k += 2 * q;
            to[0] = tf32_round(element(row, k)), to[1] = tf32_round(element(row, k + 1));
        }
        to[a.n.operand] = to[a.n.operand + 1] = 0;
    }
}

/* ---- a step ---- */

/* Returns the pre-activations of the lane's element, from the warp's sums of a row tile and a batch
 * tile. */
static __device__ __forceinline__ Gates cluster_forward_gates(const float (&d)[4], bool odd)
{
    float x = __shfl_xor_sync(0xffffffffu, odd ? d[0] : d[1], 4);
    float y = __shfl_xor_sync(0xffffffffu, odd ? d[2] : d[3], 4);
    Gates q = {odd ? x : d[0], odd ? y : d[2], odd ? d[1] : x, odd ? d[3] : y};
    return q;
}

/* The destinations of the 16 bytes that a lane has of its element's row tile. The lanes that have
 * the same bytes, eight in bf16 and four in tf32, divide the blocks among them. Nothing of this
 * depends on h, so it is computed while the cell's latencies pass. */
template <int PRECISION> struct ClusterForwardAim {
    enum { SHARED_BY = PRECISION == PRECISION_BF16 ? 8 : 4, COUNT = CLUSTER_BLOCKS / SHARED_BY };
    SharedAt to[COUNT], arrived[COUNT];
    bool sends[COUNT];
};

template <int PRECISION>
static __device__ __forceinline__ ClusterForwardAim<PRECISION>
cluster_forward_aim(const ClusterForwardArgs &a, const BlockPlace &at,
                    const ClusterForwardShared &s, const ClusterForwardElement &e, int32_t n,
                    int32_t exchange)
{
    enum { BF16 = PRECISION == PRECISION_BF16 };
    ClusterForwardAim<PRECISION> aim;
    int32_t odd = e.row & 1, q = e.row % TENSOR_BATCH / 2, v = e.u & 3,
            tile = (at.unit + e.u) / TENSOR_UNITS; /* of all H */
    int32_t at_k = BF16 ? tile >> 2 : tile >> 1,
            pair = BF16 ? cluster_forward_pair<PRECISION>(2 * q, tile & 3)
                        : cluster_forward_pair<PRECISION>(2 * q + odd, 2 * (tile & 1));
    uint32_t *to =
        s.exchange + (exchange & 1) * a.n.operand + ((n * a.n.tiles + at_k) * 32 + pair) * 2;
    bool sends = exchange && (BF16 ? e.row - odd : e.row) < at.rows && e.u - v < at.units;
#pragma unroll
    for (int i = 0; i < aim.COUNT; i++) {
        int32_t p = (BF16 ? 2 * v + odd : v) + i * aim.SHARED_BY;
        uint32_t peer = p < a.plan.blocks ? cluster_peer(at.block, p, a.plan.blocks) : 0;
        aim.sends[i] = sends && p < a.plan.blocks;
        aim.to[i] = shared_at(to, peer), aim.arrived[i] = shared_at(&s.arrived[exchange & 1], peer);
    }
    return aim;
}

/* Sends h of a row tile's four units into the exchange of every block. h is the lane's element,
 * unit v of the tile in `row`, or 0 if it does not exist. */
template <int PRECISION>
static __device__ __forceinline__ void cluster_forward_send(const ClusterForwardAim<PRECISION> &aim,
                                                            int32_t v, int32_t row, float h)
{
    uint32_t pair, other[2];
    uint4 words;
    if (PRECISION == PRECISION_BF16) {
        float neighbour = __shfl_xor_sync(0xffffffffu, h, 8);
        pair = v & 1 ? tensor_pair(neighbour, h) : tensor_pair(h, neighbour);
        other[0] = __shfl_xor_sync(0xffffffffu, pair, 16);
        uint2 own = v & 2 ? make_uint2(other[0], pair) : make_uint2(pair, other[0]);
        other[0] = __shfl_xor_sync(0xffffffffu, own.x, 4);
        other[1] = __shfl_xor_sync(0xffffffffu, own.y, 4);
        words = row & 1 ? make_uint4(other[0], other[1], own.x, own.y)
                        : make_uint4(own.x, own.y, other[0], other[1]);
    } else {
        pair = tf32_round(h);
        other[0] = __shfl_xor_sync(0xffffffffu, pair, 8);
        uint2 own = v & 1 ? make_uint2(other[0], pair) : make_uint2(pair, other[0]);
        other[0] = __shfl_xor_sync(0xffffffffu, own.x, 16);
        other[1] = __shfl_xor_sync(0xffffffffu, own.y, 16);
        words = v & 2 ? make_uint4(other[0], other[1], own.x, own.y)
                      : make_uint4(own.x, own.y, other[0], other[1]);
    }
#pragma unroll
    for (int i = 0; i < aim.COUNT; i++)
        if (aim.sends[i]) store_async(aim.to[i], words, aim.arrived[i]);
}

#endif

/* ---- the launch ---- */

template <int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
static __device__ __forceinline__ void fwd_cluster_loop(const ClusterForwardArgs &a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    enum { TILES = BATCH / TENSOR_BATCH };
    const LstmPlan &plan = a.plan;
    const LstmForward &p = a.p;
    const int32_t T = (int32_t)p.shape.T;
    const int64_t B = p.shape.B, H = p.shape.H;
    ClusterForwardShared s = carve(a.n.pieces);
    BlockPlace at = block_place(plan, p.shape, a.first_row);
    if (at.rows <= 0) return; /* the whole cluster leaves */
    const int32_t warp = (int32_t)threadIdx.x >> 5, lane = (int32_t)threadIdx.x & 31,
                  tile = warp * STACKED; /* the first of the warp's row tiles */
    ClusterMeeting meeting = {
        s.arrived,           s.flags, s.sent, cluster_step_bytes(&plan, H, at.units, at.rows),
        p.launch.poll_limit, T - 1};

    uint32_t kept[RESIDENT > 0 ? RESIDENT : 1][STACKED][4];
    uint4 *weights = s.weights + warp * plan.shared * STACKED * 32 + lane;
#pragma unroll
    for (int m = 0; m < STACKED; m++) {
        ClusterForwardRows rows = cluster_forward_rows<PRECISION>(a, at, tile + m);
#pragma unroll
        for (int i = 0; i < RESIDENT; i++) cluster_forward_weight<PRECISION>(rows, i, kept[i][m]);
        for (int32_t i = 0; i < plan.shared; i++) {
            uint32_t w[4];
            cluster_forward_weight<PRECISION>(rows, RESIDENT + i, w);
            weights[(i * STACKED + m) * 32] = make_uint4(w[0], w[1], w[2], w[3]);
        }
    }
    cluster_forward_first<PRECISION>(a, at, s);
    for (int32_t u = (int32_t)threadIdx.x; u < (int32_t)(a.n.pieces.bias / 4);
         u += (int32_t)blockDim.x) {
        const float *x = p.b_ih + at.unit + u, *y = p.b_hh + at.unit + u;
        s.bias[u] = u < at.units ? make_float4(x[0] + y[0], x[H] + y[H], x[2 * H] + y[2 * H],
                                               x[3 * H] + y[3 * H])
                                 : make_float4(0, 0, 0, 0);
    }

    /* The lane's elements keep these from step to step: c, the next x_proj, and the masks' bits. */
    float c[STACKED][TILES], x[STACKED][TILES][4];
    uint32_t masked = 0;
    auto each = [&](auto do_element) {
        int32_t now = opaque((int32_t)threadIdx.x); /* nothing derived from it stays in registers */
#pragma unroll
        for (int m = 0; m < STACKED; m++)
#pragma unroll
            for (int n = 0; n < TILES; n++)
                do_element(m, n,
                           cluster_forward_element(at, now & 31, (now >> 5) * STACKED + m, n));
    };
    auto fetch = [&](int32_t t) {
        each([&](int m, int n, const ClusterForwardElement &e) {
            const float *from = p.gates + ((t * B + at.row + e.row) * 4 * H + at.unit + e.u);
#pragma unroll
            for (int gate = 0; gate < 4; gate++) x[m][n][gate] = e.exists ? from[gate * H] : 0.0f;
        });
    };
    const int64_t step = mask_step(p.output, p.recurrent);
    auto draw = [&](int32_t t) {
        each([&](int m, int n, const ClusterForwardElement &e) {
            uint32_t two = mask_pair_draw(step, p.output, p.recurrent, t * B + at.row + e.row, B, H,
                                          at.unit + (e.u & ~3), e.u & 3);
            masked = (masked & ~(3u << 2 * (m * TILES + n))) | two << 2 * (m * TILES + n);
        });
    };
    auto factor = [&](const MaskSite &site, int which, int m, int n) {
        if (!site.on) return 1.0f;
        return masked >> (2 * (m * TILES + n) + which) & 1 ? site.scale : 0.0f;
    };
    {
        Mask first = mask_open(p.recurrent);
        each([&](int m, int n, const ClusterForwardElement &e) {
            int64_t b = at.row + e.row, i = b * H + at.unit + e.u;
            c[m][n] = e.exists ? p.c[i] : 0.0f;
            if (e.exists && (p.h_masked || p.h_bf16))
                hidden_store_first(p, b, i, hidden_first(p, first, b, at.unit + e.u));
        });
    }
    fetch(0);
    draw(0);

    bool runs = cluster_open(meeting, a.fault);
    /* A warp without units sends nothing, so no block could tell that it has read a buffer.
     * Therefore it does not read, does not wait, and goes to the last cluster barrier. */
    if (tile * TENSOR_UNITS >= at.units) runs = false;
    for (int32_t t = 0; runs && t < T; t++) {
        bool row[TILES];
#pragma unroll
        for (int n = 0; n < TILES; n++) row[n] = n * TENSOR_BATCH + (lane >> 2) < at.rows;
        const uint2 *operand = (const uint2 *)(s.exchange + (t & 1) * a.n.operand) +
                               cluster_forward_pair<PRECISION>(lane >> 2, lane & 3);
        if (t > 0 && !cluster_receive(meeting, t)) {
            if (lane == 0)
                cluster_report(meeting, plan, p.shape, at, a.fault, t, t, [](int32_t units) {
                    return (int32_t)plan_div_up(units, STACKED * TENSOR_UNITS);
                });
            break;
        }
        float sum[STACKED][TILES][4];
        cluster_product<PRECISION, STACKED, 0, STACKED, RESIDENT, TILES>(
            sum, kept, weights, plan.shared, operand, a.n.tiles, row);
        __syncwarp(); /* all lanes have read h_{t-1}: the warp's next sends tell the others so */
        int32_t next = t + 1 < T ? t + 1 : 0; /* the exchange that carries h_t; 0: none */
        float h[STACKED][TILES];
        each([&](int m, int n, const ClusterForwardElement &e) {
            const ClusterForwardAim<PRECISION> aim =
                cluster_forward_aim<PRECISION>(a, at, s, e, n, next);
            const float sent = e.exists ? factor(p.recurrent, MASK_RECURRENT, m, n) : 0.0f;
            float4 bias = s.bias[e.u];
            Gates q = cluster_forward_gates(sum[m][n], e.row & 1);
            q.i += x[m][n][0] + bias.x, q.f += x[m][n][1] + bias.y;
            q.g += x[m][n][2] + bias.z, q.o += x[m][n][3] + bias.w;
            CellState now = cell_forward(&q, c[m][n]);
            cluster_forward_send<PRECISION>(aim, e.u & 3, e.row, e.exists ? now.h * sent : 0.0f);
            c[m][n] = now.c, h[m][n] = now.h;
            x[m][n][0] = q.i, x[m][n][1] = q.f, x[m][n][2] = q.g, x[m][n][3] = q.o;
        });
        if (next && lane == 0) cluster_note(&s.sent[warp], (uint32_t)next);
        each([&](int m, int n, const ClusterForwardElement &e) {
            if (!e.exists) return;
            int64_t position = t * B + at.row + e.row, i = position * H + at.unit + e.u;
            float *gates = p.gates + (position * 4 * H + at.unit + e.u);
#pragma unroll
            for (int gate = 0; gate < 4; gate++) gates[gate * H] = x[m][n][gate];
            p.c[i + B * H] = c[m][n];
            hidden_store(
                p, t, position, i, h[m][n], [&] { return factor(p.output, MASK_OUTPUT, m, n); },
                [&] { return factor(p.recurrent, MASK_RECURRENT, m, n); });
        });
        if (next == 0) break;
        fetch(next);
        draw(next);
    }
    cluster_close(meeting);
#endif
}

struct ClusterForwardPass : PassOf<ClusterForwardArgs, LstmForward, KIND_CLUSTER, 0> {
    static Args arguments(const LstmPlan &plan, const LstmForward &p)
    {
        assert(cluster_sound(plan) && plan.slices == 1);
        ClusterForwardCounts n;
        n.pieces = cluster_forward_pieces(&plan);
        n.tiles = cluster_operand_tiles(&plan);
        n.operand = (int32_t)cluster_operand_words(&plan);
        return {plan, n, p, nullptr, 0};
    }
};

#endif
