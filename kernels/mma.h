/* mma: how the plans of KIND_MMA divide the work, and the sizes that the planner and the kernels
 * share. Clean C11 that also compiles as CUDA C++; needs no toolkit. tensor.h describes how w_hh is
 * cut into tiles.
 *
 * Units      Block p of a replica owns the units from p * units on; `units` is a multiple of 4.
 *            Backward, the units of the `cluster` blocks of a cluster together are a multiple of
 *            16, since w_tiles is cut there. The last blocks of a replica may own fewer units, or
 *            none.
 * Warps      Warp s * groups + g has the m tiles g * quads to g * quads + quads - 1 (`quads` is the
 *            tile's `stacked`) and the contraction tiles s * depth to s * depth + depth - 1 of its
 *            block. Forward, the m tiles are the row tiles of the block's units. Backward, they are
 *            the tiles of 16 of the cluster's units, and the contraction over all gate rows is cut
 *            into `cluster` parts, one per block.
 * Residency  Of the `depth` contraction tiles of a warp, the first `resident` are in registers and
 *            the next `shared` in shared memory; the last `streamed` are read from L2.
 * Batch      A pass covers `batch` rows, 8 per tile; a step takes `passes` passes.
 * Exchange   A replica exchanges rounded values at each step, as B operands (tensor.h): [pass][n
 *            tile][contraction tile][lane][2 words]. Forward these are h; backward dgates, with
 *            unit * 4 + gate as k. There are as many contraction tiles as all slices have; what
 *            lies beyond the matrix is never written and keeps the zeros of the new scratch memory.
 *            mma_buffers buffers alternate. */
#ifndef PLSTM_MMA_H
#define PLSTM_MMA_H

#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Contraction tiles of all slices, of all blocks that share a contraction. */
static PLAN_HD inline int32_t mma_tiles(const LstmPlan *p)
{
    return (p->backward ? p->cluster : 1) * p->slices * p->depth;
}

/* Units that a contraction tile spans. */
static PLAN_HD inline int32_t mma_tile_units(const LstmPlan *p)
{
    return p->backward ? tensor_k(p->precision) / 4 : tensor_k(p->precision);
}

/* Floats from one batch row of partial sums to the next: a multiple of 4 but not of 8, so that the
 * lanes of a warp that store a tile's columns use different banks. */
static PLAN_HD inline int32_t mma_pitch(const LstmPlan *p)
{
    return p->groups * p->quads * TENSOR_ROWS + 4;
}

/* The number of buffers that alternate. With EXCHANGE_WORDS, a word is reset WORD_BUFFERS/2
 * exchanges ahead (word_exchange.cuh). */
enum { WORD_BUFFERS = 32 };
static PLAN_HD inline int32_t mma_buffers(const LstmPlan *p)
{
    return p->exchange == EXCHANGE_WORDS ? WORD_BUFFERS : 2;
}

/* 32-bit words of one pass of an exchange, and of all that a replica exchanges at one step. */
static PLAN_HD inline int64_t mma_pass_words(const LstmPlan *p)
{
    return (int64_t)(p->batch / TENSOR_BATCH) * mma_tiles(p) * (TENSOR_WORDS / 2);
}
static PLAN_HD inline int64_t mma_exchange_words(const LstmPlan *p)
{
    return p->passes * mma_pass_words(p);
}

/* A block's shared memory in both directions (plan.h). */
#define MMA_PIECES(X)                                                                              \
    X(uint4, weights, (int64_t)p->shared * p->groups * p->slices * p->quads * TENSOR_WORDS,        \
      "[shared][warps][quads][lane] A tiles")                                                      \
    X(float, partial, (int64_t)p->slices * p->batch * mma_pitch(p),                                \
      "[slices][batch][pitch]: m fastest")                                                         \
    X(float, gathered,                                                                             \
      p->backward && p->cluster > 1 ? (int64_t)2 * p->cluster * p->batch * p->units : 0,           \
      "backward in clusters: [2][block of the cluster][batch][units] sums that it sent")           \
    X(uint64_t, arrived, p->backward && p->cluster > 1 ? 4 : 0, "[2] mbarriers that count them")   \
    X(float, state, (int64_t)8 * p->rows * p->units,                                               \
      "forward [rows*units] gates (float4), then as many c and h; backward [8 slots][rows*units]") \
    X(float4, bias, p->backward ? 0 : 4 * (int64_t)p->units, "forward: [units] of gates")          \
    X(uint32_t, masks, plan_mask_words(p), "[2 steps][2 sites][rows][mask nibbles] of four bits")  \
    X(uint32_t, flags, 4, "set on a timeout or a fault")
PIECES(MmaPieces, mma_pieces, mma_shared_bytes, MMA_PIECES)

static PLAN_HD inline size_t mma_scratch_bytes(const LstmPlan *p)
{
    size_t exchange =
        (size_t)(mma_buffers(p) * p->replicas * mma_exchange_words(p)) * sizeof(uint32_t);
    return exchange + (size_t)p->replicas * (size_t)p->blocks * sizeof(uint32_t);
}

#ifdef __cplusplus
}
#endif

#endif
