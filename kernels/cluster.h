/* cluster: what the fields of a plan of KIND_CLUSTER mean, and the pieces of a block's shared
 * memory, for the planner and the kernels (fwd_cluster.cu, bwd_cluster.cu). Clean C11 that also
 * compiles as CUDA C++; needs no toolkit. tensor.h describes the tiles.
 *
 * Grid       There are `replicas` clusters of `blocks` = `cluster` blocks, at least two, since
 *            st.async is undefined in a cluster of one. Each has `rows` batch rows of its own, at
 *            most `batch`. `passes` is 1; rows that the replicas together do
 *            not hold belong to the next range. Clusters do not communicate, so they need not be
 *            co-resident: those that do not fit run later.
 * Forward    Warp g has the row tiles from g * quads on of the block's units/4, against all `depth`
 *            k tiles. (`quads` is the tile's `stacked`.)
 * Backward   Warp g has the m tiles (16 units of H each) from g * quads on, against all `depth`
 *            contraction tiles of the block's gate rows. In both directions slices and rounds are
 *            1: no sum crosses warps.
 * Residency  Of a warp's depth * quads tiles, those of the first `resident` contraction tiles are
 *            in registers and those of the next `shared` in shared memory. None is streamed: a
 *            shape whose weights do not fit in a cluster has no plan. */
#ifndef PLSTM_CLUSTER_H
#define PLSTM_CLUSTER_H

#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    /* The most blocks per cluster that any device supports. */
    CLUSTER_BLOCKS = 16,
    /* Batch rows that backward sends together. Forward sends two together in bf16, one in tf32. */
    CLUSTER_ROWS = 4,
    /* Nanoseconds: about the time of one poll at the grid barrier. */
    CLUSTER_POLL_NS = 512,
    /* Nanoseconds: longer than the hardware lets one poll of an mbarrier take. */
    CLUSTER_PAUSE = 1000000
};

/* Returns how many polls of a word in L2 one poll of an mbarrier counts as, given the time after
 * which it returned: one, and one more for each CLUSTER_POLL_NS nanoseconds. Time beyond
 * CLUSTER_PAUSE does not count: a debugger or another process has then kept this kernel from
 * running. */
static PLAN_HD inline uint32_t cluster_polls(uint32_t nanoseconds)
{
    const uint32_t most = CLUSTER_PAUSE;
    return 1 + (nanoseconds < most ? nanoseconds : most) / CLUSTER_POLL_NS;
}

/* Number of tiles along the batch. */
static PLAN_HD inline int32_t cluster_batch_tiles(const LstmPlan *p)
{
    return p->batch / TENSOR_BATCH;
}

/* Number of B tiles that a pass's products read: at least as many as a warp has A tiles in
 * registers. */
static PLAN_HD inline int32_t cluster_operand_tiles(const LstmPlan *p)
{
    return (int32_t)plan_max(p->depth, p->resident);
}

/* Words of the B operand of one step. */
static PLAN_HD inline int64_t cluster_operand_words(const LstmPlan *p)
{
    return (int64_t)cluster_batch_tiles(p) * cluster_operand_tiles(p) * (TENSOR_WORDS / 2);
}

/* Batch rows, including the padding with which they are sent. */
static PLAN_HD inline int32_t cluster_sent_rows(const LstmPlan *p, int32_t rows)
{
    int32_t together = p->backward ? CLUSTER_ROWS : p->precision == PRECISION_BF16 ? 2 : 1;
    return (rows + together - 1) / together * together;
}

/* Elements (unit, batch row) of a block. */
static PLAN_HD inline int64_t cluster_items(const LstmPlan *p)
{
    return (int64_t)p->units * (p->backward ? cluster_sent_rows(p, p->rows) : p->rows);
}

/* Forward: units of all row tiles that a block's warps have, including those beyond H. */
static PLAN_HD inline int64_t cluster_tile_units(const LstmPlan *p)
{
    return (int64_t)p->groups * p->quads * TENSOR_UNITS;
}

static PLAN_HD inline int64_t cluster_weight_words(const LstmPlan *p)
{
    return (int64_t)p->groups * p->shared * p->quads * TENSOR_WORDS;
}

/* A block's shared memory (plan.h). Mbarrier is defined in dev_cluster.cuh, ClusterFlags in
 * cluster.cuh. */
#define CLUSTER_FORWARD_PIECES(X)                                                                  \
    X(uint4, weights, cluster_weight_words(p), "[warp][shared][quads][lane]")                      \
    X(uint32_t, exchange, 2 * cluster_operand_words(p),                                            \
      "[2][batch tile][k tile][lane] 2 words: h as B, in fwd_cluster.cuh's order")                 \
    X(float4, bias, 4 * cluster_tile_units(p), "[units of all row tiles] of gates")                \
    X(Mbarrier, arrived, 4, "[2]")                                                                 \
    X(uint32_t, sent, p->groups, "[warps]: the last exchange that a warp has sent")                \
    X(ClusterFlags, flags, 4, "set when the block has timed out")
#define CLUSTER_BACKWARD_PIECES(X)                                                                 \
    X(uint4, weights, cluster_weight_words(p), "[warp][shared][quads][lane]")                      \
    X(float, inbox, 2 * p->blocks * cluster_items(p),                                              \
      "[2][producer][sent rows / 4][units] float4 of batch rows: partial dh")                      \
    X(uint32_t, dgates, 2 * cluster_operand_words(p),                                              \
      "[2][batch tile][contraction tile][lane] 2 words: B")                                        \
    X(float, state, 8 * cluster_items(p), "[8 slots][items] (block_io.cuh)")                       \
    X(uint32_t, masks, plan_mask_words(p), "[2 steps][2 sites][rows][mask nibbles] of four bits")  \
    X(Mbarrier, arrived, 4, "[2]")                                                                 \
    X(uint32_t, sent, p->groups, "[warps]: the last exchange that a warp has sent")                \
    X(ClusterFlags, flags, 4, "set when the block has timed out")
PIECES(ClusterForwardPieces, cluster_forward_pieces, cluster_forward_bytes, CLUSTER_FORWARD_PIECES)
PIECES(ClusterBackwardPieces, cluster_backward_pieces, cluster_backward_bytes,
       CLUSTER_BACKWARD_PIECES)

static PLAN_HD inline size_t cluster_shared_bytes(const LstmPlan *p)
{
    return p->backward ? cluster_backward_bytes(p) : cluster_forward_bytes(p);
}

/* Returns the bytes that a block with `units` units receives in one step, in a replica with `rows`
 * batch rows. They come 16 at a time. Forward: all H units in groups of four, two rows at a time in
 * bf16 and one in tf32. Backward: from each producer the partial dh of the block's units, four rows
 * at a time. */
static PLAN_HD inline uint32_t cluster_step_bytes(const LstmPlan *p, int64_t H, int32_t units,
                                                  int32_t rows)
{
    int64_t sent = cluster_sent_rows(p, rows);
    if (p->backward) return (uint32_t)(4 * p->blocks * units * sent);
    return (uint32_t)((p->precision == PRECISION_BF16 ? 2 : 4) * sent * tensor_row_tiles(H) *
                      TENSOR_UNITS);
}

#ifdef __cplusplus
}
#endif

#endif
