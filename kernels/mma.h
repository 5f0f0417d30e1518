/* mma: how the plans of KIND_MMA divide the work, and the sizes that the planner and the kernels share. Clean C11 that also
 * compiles as CUDA C++; needs no toolkit. tensor.h says how w_hh is cut into tiles.
 *
 * Units      Block p of a replica owns the units p*units .., `units` a multiple of 4; backward `cluster` blocks together a
 *            multiple of 16, since w_tiles is cut there. The last blocks of a replica may own fewer, or none.
 * Warps      warp s*groups + g has the m tiles g*quads .. g*quads + quads-1 and the contraction tiles s*depth .. s*depth +
 *            depth-1 of its block. m tiles are forward the row tiles of the block's units; backward the tiles of 16 of the
 *            cluster's units, while the contraction over all gate rows is cut once more into `cluster` parts, a block's each.
 * Residency  of `depth` the first `resident` are in registers, then `shared` in shared memory, then `streamed` from L2.
 * Batch      `batch`, 8 a tile, is a pass; a step takes `passes` of them.
 * Exchange   what a replica exchanges at one step, rounded, in B operands (tensor.h): [pass][n tile][contraction tile][lane]
 *            [2 words]; forward h, backward dgates with unit*4 + gate as k. As many contraction tiles as all slices have; what
 *            is past the matrix is never written and stays zero, as scratch was made. mma_buffers of them take turns.  */
#ifndef PLSTM_MMA_H
#define PLSTM_MMA_H

#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Contraction tiles of all slices of all blocks that contract together. */
static PLAN_HD inline int32_t mma_tiles(const LstmPlan *p)
{
    return (p->backward ? p->cluster : 1) * p->slices * p->depth;
}

/* Units that a contraction tile spans. */
static PLAN_HD inline int32_t mma_tile_units(const LstmPlan *p)
{
    return p->backward ? tensor_k(p->precision) / 4 : tensor_k(p->precision);
}

/* Floats from one batch row of partial sums to the next: a multiple of 4 that is not one of 8, so that the lanes of a warp that
 * store a tile's columns meet different banks. */
static PLAN_HD inline int32_t mma_pitch(const LstmPlan *p)
{
    return p->groups * p->quads * TENSOR_ROWS + 4;
}

/* Buffers that take turns. WORD_BUFFERS: word_exchange.cuh says how many of them a word's reset runs ahead. */
enum { WORD_BUFFERS = 32 };
static PLAN_HD inline int32_t mma_buffers(const LstmPlan *p)
{
    return p->exchange == EXCHANGE_WORDS ? WORD_BUFFERS : 2;
}

/* 32-bit words of one pass of an exchange, and of what a replica exchanges at one step. */
static PLAN_HD inline int64_t mma_pass_words(const LstmPlan *p)
{
    return (int64_t)(p->batch / TENSOR_BATCH) * mma_tiles(p) * (TENSOR_WORDS / 2);
}
static PLAN_HD inline int64_t mma_exchange_words(const LstmPlan *p)
{
    return p->passes * mma_pass_words(p);
}

/* A block's shared memory, of both passes (plan.h). */
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
    X(uint32_t, flags, 4, "that the block gives up")
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
