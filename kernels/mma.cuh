/* mma: what the forward and the backward pass of the variant mma share: weights, products, partial
 * sums and the exchange. mma.h describes how a plan divides the work, tensor.h the tiles. The
 * products are compiled from sm_80 on. */
#ifndef PLSTM_MMA_CUH
#define PLSTM_MMA_CUH

#include "block_io.cuh"
#include "grid_barrier.cuh"
#include "mma.h"
#include "tensor.cuh"
#include "word_exchange.cuh"

/* Values that follow from a plan, computed once on the host. As kernel arguments they occupy no
 * registers. */
struct MmaCounts {
    MmaPieces pieces;
    int32_t tiles, pitch, items; /* mma_tiles, mma_pitch, rows * units */
    int32_t mask_nibbles;        /* plan_mask_nibbles */
    uint32_t by_mask_nibbles;    /* its inverse, for divided() */
    int32_t tile_units;          /* mma_tile_units */
    int32_t owners;              /* blocks of a replica that own units */
    uint32_t by_units;           /* inverse_of(units) */
    int64_t pass_words, exchange_words;
};

static inline MmaCounts mma_counts(const LstmPlan *plan, int64_t H)
{
    MmaCounts n;
    n.pieces = mma_pieces(plan);
    n.tiles = mma_tiles(plan), n.pitch = mma_pitch(plan);
    n.items = plan->rows * plan->units, n.mask_nibbles = plan_mask_nibbles(plan->units);
    n.by_mask_nibbles = inverse_of(n.mask_nibbles);
    n.tile_units = mma_tile_units(plan);
    n.owners = (int32_t)plan_div_up(H, plan->units);
    n.by_units = inverse_of(plan->units);
    n.pass_words = mma_pass_words(plan), n.exchange_words = mma_exchange_words(plan);
    /* divided() needs n * d < 2^31. Here n < batch * units and d = units. */
    assert((int64_t)plan->batch * plan->units * plan->units < INT32_MAX);
    return n;
}

template <class Args, class Tensors>
static inline Args mma_arguments(const LstmPlan &plan, const Tensors &p)
{
    assert(p.launch.scratch && plan.blocks % plan.cluster == 0);
    MmaCounts n = mma_counts(&plan, p.shape.H);
    uint32_t *exchange = (uint32_t *)p.launch.scratch;
    return {
        plan,    n, p, exchange, exchange + mma_buffers(&plan) * plan.replicas * n.exchange_words,
        nullptr, 0};
}

/* The instances of a tile are neighbours in the list: one for each exchange. */
template <class Args, class Tensors, int BACKWARD>
struct MmaPassOf : PassOf<Args, Tensors, KIND_MMA, BACKWARD> {
    static int instance(const LstmPlan &plan)
    {
        assert(plan.exchange == EXCHANGE_FLAG || plan.exchange == EXCHANGE_WORDS);
        return 2 * plan.tile + (plan.exchange == EXCHANGE_WORDS);
    }
};

CARVED_PIECES(MmaShared, MmaPieces, MMA_PIECES)

/* Returns the block's place. A block beyond H has no units. */
static __device__ __forceinline__ BlockPlace mma_place(const LstmPlan &plan, const LstmShape &shape,
                                                       int32_t first_row)
{
    BlockPlace at = block_place(plan, shape, first_row);
    at.units = max(at.units, 0);
    return at;
}

/* Calls do_item(row, u, item) for the elements of one pass, with the block's row and unit. The same
 * thread owns an element at every stage, so what it keeps for the element in shared memory needs no
 * barrier. */
template <class F>
static __device__ __forceinline__ void mma_items(const LstmPlan &plan, const MmaCounts &n,
                                                 const BlockPlace &at, int32_t pass, F do_item)
{
    int32_t first = pass * plan.batch, rows = min(plan.batch, at.rows - first);
    for (int32_t j = thread_again(); j < rows * plan.units; j += (int32_t)blockDim.x) {
        int32_t r = divided(j, n.by_units), u = j - r * plan.units;
        if (u < at.units) do_item(first + r, u, first * plan.units + j);
    }
}

/* mma_items for all passes. */
template <class F>
static __device__ __forceinline__ void mma_all_items(const LstmPlan &plan, const MmaCounts &n,
                                                     const BlockPlace &at, F do_item)
{
    for (int32_t pass = 0; pass < plan.passes; pass++) mma_items(plan, n, at, pass, do_item);
}

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* ---- the exchange: words ---- */

/* Returns the number of passes in which the block has batch rows, at most the plan's: a window may
 * have fewer rows than the plan. The same in all blocks of a replica. */
template <int BATCH> static __device__ __forceinline__ int32_t mma_passes(const BlockPlace &at)
{
    return (opaque(at.rows) + BATCH - 1) / BATCH; /* not kept in a register */
}

/* Returns the number of the block's batch rows in a pass. */
static __device__ __forceinline__ int32_t mma_rows(const LstmPlan &plan, const BlockPlace &at,
                                                   int32_t pass)
{
    return min(plan.batch, at.rows - pass * plan.batch);
}

/* Returns the word of a pass that holds element k (forward: unit; backward: unit * 4 + gate) of row
 * b. In bf16 k is even and the word also holds k + 1. */
template <int PRECISION>
static __device__ __forceinline__ int32_t mma_word_at(int32_t tiles, int32_t k, int32_t b)
{
    enum { K = PRECISION == PRECISION_BF16 ? 16 : 8 };
    return (b / TENSOR_BATCH * tiles + k / K) * (TENSOR_WORDS / 2) +
           tensor_operand(PRECISION, k % K, b % TENSOR_BATCH).word;
}

/* Stores a word into the exchange and empties the same word of the buffer to be reset (`again`;
 * NULL: none). One thread owns a word. */
template <int EXCHANGE>
static __device__ __forceinline__ void mma_send(uint32_t *word, uint32_t *again, uint32_t value)
{
    if (EXCHANGE == EXCHANGE_WORDS) {
        store_relaxed(word, value);
        if (again) store_relaxed(again, WORD_EMPTY);
    } else {
        *word = value;
    }
}

/* mma_buffer returns buffer i of a replica, mma_exchange the buffer of its exchange n, and
 * mma_again the buffer to empty after exchange n was sent (NULL: none). They are computed again at
 * every step, from values that occupy no registers. */
template <class Args>
static __device__ __forceinline__ uint32_t *mma_buffer(const Args &a, int32_t replica, int32_t i)
{
    return a.exchange + (i * a.plan.replicas + replica) * a.n.exchange_words;
}
template <int EXCHANGE, class Args>
static __device__ __forceinline__ uint32_t *mma_exchange(const Args &a, int32_t replica, int32_t n)
{
    return mma_buffer(a, replica, EXCHANGE == EXCHANGE_WORDS ? n % WORD_BUFFERS : n & 1);
}
template <int EXCHANGE, class Args>
static __device__ __forceinline__ uint32_t *mma_again(const Args &a, int32_t replica, int32_t n,
                                                      int32_t last)
{
    int32_t i = EXCHANGE == EXCHANGE_WORDS ? word_reset(n, last) : -1;
    return i < 0 ? nullptr : mma_buffer(a, replica, i);
}

/* ---- weights ---- */

/* A warp's tiles. */
struct MmaWarp {
    int32_t warp, group, slice;
    int32_t m, m_tiles; /* first m tile of the matrix; how many exist (none if below 1) */
    int32_t k;          /* first contraction tile of the matrix */
};

/* Returns the warp's tiles in a block that has the m tiles m to m + m_tiles - 1 and part `part` of
 * the contraction tiles. */
static __device__ __forceinline__ MmaWarp mma_warp(const LstmPlan &plan, int32_t m, int32_t m_tiles,
                                                   int32_t part)
{
    MmaWarp w;
    w.warp = thread_again() >> 5;
    w.slice = w.warp / plan.groups, w.group = w.warp - w.slice * plan.groups;
    w.m = m + w.group * plan.quads, w.m_tiles = m_tiles - w.group * plan.quads;
    w.k = (part * plan.slices + w.slice) * plan.depth;
    return w;
}

/* The blocks whose units lie in the warp's slice: first to end - 1. */
struct MmaProducers {
    int32_t first, end;
};

static __device__ __forceinline__ MmaProducers mma_producers(const LstmPlan &plan,
                                                             const MmaCounts &n, const MmaWarp &w)
{
    int32_t first = w.k * n.tile_units / plan.units,
            end = ((w.k + plan.depth) * n.tile_units + plan.units - 1) / plan.units;
    return {first, min(end, plan.blocks)};
}

/* A whole warp waits on its own for the blocks whose units lie in its slice: at the grid barrier if
 * `flags` is set and, with EXCHANGE_WORDS, until one word of each has arrived. That word belongs to
 * the last row of the pass, which is sent last. All lanes then see what those blocks wrote before
 * they arrived. The block learns from mma_sound whether any of its warps timed out. */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ void mma_watch(const LstmPlan &plan, const MmaCounts &n,
                                                 const MmaWarp &w, const GridBarrier &barrier,
                                                 bool flags, const uint32_t *pass, int32_t rows)
{
    enum { K = PRECISION == PRECISION_BF16 ? 16 : 8 };
    MmaProducers from = mma_producers(plan, n, w);
    if (flags)
        barrier_watch(barrier, (uint32_t)from.first + (threadIdx.x & 31), (uint32_t)from.end, 32,
                      barrier.timed_out);
    int32_t width = plan.units * (K / n.tile_units), end = min(from.end, n.owners);
    for (int32_t p = from.first + (thread_again() & 31); EXCHANGE == EXCHANGE_WORDS && p < end;
         p += 32)
        word_watch(barrier, pass + mma_word_at<PRECISION>(n.tiles, p * width, rows - 1),
                   barrier.timed_out);
    __syncwarp(); /* also for the products, which are instructions of whole warps */
}

/* One thread names the blocks that have sent too little of an exchange, in its passes 0 to
 * `passes`. */
template <int PRECISION>
static __device__ __forceinline__ void
mma_report_words(const LstmPlan &plan, const MmaCounts &n, const BlockPlace &at,
                 const GridBarrier &barrier, int64_t H, const uint32_t *buffer, int32_t exchange,
                 int32_t passes)
{
    enum { PAIR = PRECISION == PRECISION_BF16 ? 2 : 1, K = PAIR * 8 };
    int32_t per_unit = K / n.tile_units;
#pragma unroll 1
    for (int32_t p = 0; p < n.owners; p++) {
        int32_t end = min((p + 1) * plan.units, (int32_t)H) * per_unit;
        bool missing = false;
#pragma unroll 1
        for (int32_t pass = 0; pass <= passes; pass++)
#pragma unroll 1
            for (int32_t b = 0; b < mma_rows(plan, at, pass); b++)
#pragma unroll 1
                for (int32_t k = p * plan.units * per_unit; k < end; k += PAIR)
                    missing |= poll_relaxed(buffer + pass * n.pass_words +
                                            mma_word_at<PRECISION>(n.tiles, k, b)) == WORD_EMPTY;
        if (missing) barrier_missing(barrier, (uint32_t)p);
    }
    barrier.fault->expected = (uint32_t)exchange + 1, barrier.fault->seen = (uint32_t)exchange;
}

/* Call after the __syncthreads that follows the waits for an exchange in pass `pass`. Returns false
 * in every thread if any thread of the block timed out; thread 0 has then written the record. */
template <int EXCHANGE, int PRECISION>
static __device__ __forceinline__ bool mma_sound(const LstmPlan &plan, const MmaCounts &n,
                                                 const BlockPlace &at, const GridBarrier &barrier,
                                                 int64_t H, const uint32_t *buffer,
                                                 int32_t exchange, int32_t pass, uint32_t step)
{
    if (!*barrier.timed_out) return true;
    if (threadIdx.x == 0 && barrier_report(barrier, step) == 0 && EXCHANGE == EXCHANGE_WORDS)
        mma_report_words<PRECISION>(plan, n, at, barrier, H, buffer, exchange, pass);
    return false;
}

/* What A tiles are loaded from. */
struct MmaMatrix {
    const float *w_hh;
    const void *w_tiles;
    int64_t H;
};

/* Loads an A tile of the warp: m tile m of its stack and contraction tile i of its slice, or zeros
 * if the warp has no such tile. */
template <int PRECISION, bool TRANSPOSED>
static __device__ __forceinline__ void mma_weight(const MmaMatrix &x, const MmaWarp &w,
                                                  int32_t depth, int32_t m, int32_t i,
                                                  uint32_t (&a)[4])
{
    a[0] = a[1] = a[2] = a[3] = 0;
    if (m >= w.m_tiles || i >= depth) return;
    if (TRANSPOSED) tensor_load_transposed<PRECISION>(x.w_hh, x.w_tiles, x.H, w.m + m, w.k + i, a);
    else tensor_load<PRECISION>(x.w_hh, x.w_tiles, x.H, w.m + m, w.k + i, a);
}

template <int PRECISION, bool TRANSPOSED, int STACKED, int RESIDENT>
static __device__ __forceinline__ void mma_load(const MmaMatrix &x, const LstmPlan &plan,
                                                const MmaWarp &w, const MmaShared &s,
                                                uint32_t (&kept)[RESIDENT][STACKED][4])
{
#pragma unroll
    for (int i = 0; i < RESIDENT; i++)
#pragma unroll
        for (int m = 0; m < STACKED; m++)
            mma_weight<PRECISION, TRANSPOSED>(x, w, plan.depth, m, i, kept[i][m]);
    int32_t warps = plan.groups * plan.slices, lane = thread_again() & 31;
#pragma unroll 1
    for (int32_t i = 0; i < plan.shared; i++)
#pragma unroll 1
        for (int m = 0; m < STACKED; m++) {
            uint32_t a[4];
            mma_weight<PRECISION, TRANSPOSED>(x, w, plan.depth, m, plan.resident + i, a);
            s.weights[((i * warps + w.warp) * STACKED + m) * 32 + lane] =
                make_uint4(a[0], a[1], a[2], a[3]);
        }
}

/* ---- multiply ---- */

/* Loads the B operands of the contraction tiles from i on of the warp's slice. They are zero beyond
 * the slice's end and in lanes whose batch row is padding, which load nothing. `from` points at
 * this lane's words of the slice's first tile; `left` is the number of batch rows of the pass from
 * the lane's row in the first batch tile on. */
template <int EXCHANGE, int N, int AHEAD>
static __device__ __forceinline__ void mma_operands(const uint2 *from, int32_t tiles, int32_t i,
                                                    int32_t depth, int32_t left,
                                                    uint2 (&b)[AHEAD][N])
{
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            const uint2 *at = from + (n * tiles + i + j) * 32;
            b[j][n] = make_uint2(0, 0);
            if (i + j < depth && n * TENSOR_BATCH < left)
                b[j][n] = EXCHANGE == EXCHANGE_WORDS ? load_relaxed(at) : load_l2(at);
        }
}

template <int PRECISION, int STACKED, int N>
static __device__ __forceinline__ void
mma_step(float (&sum)[STACKED][N][4], const uint32_t (&a)[STACKED][4], const uint2 (&b)[N])
{
#pragma unroll
    for (int n = 0; n < N; n++) {
        uint32_t words[2] = {b[n].x, b[n].y};
#pragma unroll
        for (int m = 0; m < STACKED; m++) tensor_multiply<PRECISION>(sum[m][n], a[m], words);
    }
}

/* Computes the warp's part of a pass's product. The operands of the next tiles are being loaded
 * while the current ones are multiplied. */
template <int EXCHANGE, int PRECISION, bool TRANSPOSED, int STACKED, int RESIDENT, int N>
static __device__ __forceinline__ void
mma_multiply(const MmaMatrix &x, const LstmPlan &plan, const MmaWarp &w, const MmaShared &s,
             const uint32_t (&kept)[RESIDENT][STACKED][4], const uint32_t *pass, int32_t tiles,
             int32_t rows, float (&sum)[STACKED][N][4])
{
    enum { AHEAD = N == 1 ? 4 : 2, PARTS = (RESIDENT + AHEAD - 1) / AHEAD };
    int32_t lane = thread_again() & 31, depth = plan.depth, in_shared = plan.resident + plan.shared;
    int32_t left = rows - (lane >> 2);
    const uint2 *from = (const uint2 *)pass + (int64_t)w.k * 32 + lane;
    uint2 b[2][AHEAD][N];
#pragma unroll
    for (int m = 0; m < STACKED; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
            for (int j = 0; j < 4; j++) sum[m][n][j] = 0.0f;

    mma_operands<EXCHANGE, N, AHEAD>(from, tiles, 0, depth, left, b[0]);
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        mma_operands<EXCHANGE, N, AHEAD>(from, tiles,
                                         part + 1 < PARTS ? (part + 1) * AHEAD : RESIDENT, depth,
                                         left, b[(part + 1) & 1]);
#pragma unroll
        for (int j = 0; j < AHEAD; j++)
            if (part * AHEAD + j < RESIDENT)
                mma_step<PRECISION, STACKED, N>(sum, kept[part * AHEAD + j], b[part & 1][j]);
    }

    /* Here b[PARTS & 1] holds the first AHEAD tiles after the resident ones. */
    const uint4 *mine = s.weights + w.warp * STACKED * 32 + lane;
    int32_t stride = plan.groups * plan.slices * STACKED * 32, i = plan.resident;
#pragma unroll 1
    for (; i < in_shared; i += AHEAD) {
        uint2 next[AHEAD][N];
        mma_operands<EXCHANGE, N, AHEAD>(from, tiles, i + AHEAD, depth, left, next);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            if (i + j >= in_shared) break;
            uint32_t a[STACKED][4];
#pragma unroll
            for (int m = 0; m < STACKED; m++) {
                uint4 v = mine[m * 32];
                a[m][0] = v.x, a[m][1] = v.y, a[m][2] = v.z, a[m][3] = v.w;
            }
            mine += stride;
            mma_step<PRECISION, STACKED, N>(sum, a, b[PARTS & 1][j]);
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++)
#pragma unroll
            for (int n = 0; n < N; n++) b[PARTS & 1][j][n] = next[j][n];
    }
#pragma unroll 1
    for (i = in_shared; i < depth; i++) {
        uint2 one[1][N];
        uint32_t a[STACKED][4];
        mma_operands<EXCHANGE, N, 1>(from, tiles, i, depth, left, one);
#pragma unroll
        for (int m = 0; m < STACKED; m++)
            mma_weight<PRECISION, TRANSPOSED>(x, w, depth, m, i, a[m]);
        mma_step<PRECISION, STACKED, N>(sum, a, one[0]);
    }
}

/* Returns whether a factor was a NaN, which makes its column a NaN in every row. The four lanes of
 * a row together hold all of its columns. */
template <int STACKED, int N>
static __device__ __forceinline__ bool mma_has_nan(const float (&sum)[STACKED][N][4])
{
    float x = 0.0f;
#pragma unroll
    for (int n = 0; n < N; n++) x += sum[0][n][0] + sum[0][n][1];
    return __any_sync(0xffffffffu, x != x);
}

/* Waits for each word of the warp's slice. Each lane waits for the words that it loads. */
template <int N>
static __device__ __forceinline__ void mma_settle(const LstmPlan &plan, const MmaWarp &w,
                                                  const GridBarrier &barrier, const uint32_t *pass,
                                                  int32_t tiles, int32_t rows)
{
    int32_t lane = thread_again() & 31, left = rows - (lane >> 2);
#pragma unroll 1
    for (int32_t i = 0; i < plan.depth; i++)
#pragma unroll 1
        for (int32_t n = 0; n * TENSOR_BATCH < left; n++) {
            const uint32_t *at = pass + ((n * tiles + w.k + i) * 32 + lane) * 2;
            if (load_poll(barrier.timed_out)) break;
            word_watch(barrier, at, barrier.timed_out),
                word_watch(barrier, at + 1, barrier.timed_out);
        }
    __syncwarp();
}

/* Returns whether all words of the warp's product had arrived (word_exchange.cuh). If not, waits
 * until they have; the caller then multiplies again. */
template <int EXCHANGE, int STACKED, int N>
static __device__ __forceinline__ bool
mma_settled(const LstmPlan &plan, const MmaWarp &w, const GridBarrier &barrier,
            const uint32_t *pass, int32_t tiles, int32_t rows, const float (&sum)[STACKED][N][4])
{
    if (EXCHANGE != EXCHANGE_WORDS || !mma_has_nan(sum)) return true;
    mma_settle<N>(plan, w, barrier, pass, tiles, rows);
    return false;
}

/* Stores the warp's sums in s.partial. */
template <int STACKED, int N>
static __device__ __forceinline__ void mma_store_sums(const MmaShared &s, const MmaWarp &w,
                                                      int32_t batch, int32_t pitch,
                                                      const float (&sum)[STACKED][N][4])
{
    int32_t lane = thread_again() & 31, g = lane >> 2, q = lane & 3;
    float *to = s.partial + (w.slice * batch + 2 * q) * pitch + w.group * STACKED * TENSOR_ROWS + g;
#pragma unroll
    for (int m = 0; m < STACKED; m++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            float *at = to + n * TENSOR_BATCH * pitch + m * TENSOR_ROWS;
            at[0] = sum[m][n][0], at[pitch] = sum[m][n][1];
            at[8] = sum[m][n][2], at[pitch + 8] = sum[m][n][3];
        }
}

#endif

#endif
