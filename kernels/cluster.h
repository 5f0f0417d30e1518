/* cluster: what the fields of a plan of KIND_CLUSTER mean, and the pieces of a block's shared memory, which planner and kernels
 * (fwd_cluster.cu, bwd_cluster.cu) read here. Clean C11 that also compiles as CUDA C++; needs no toolkit. tensor.h says how
 * tiles lie.
 *
 * Grid       `replicas` clusters of `blocks` = `cluster` blocks, each with `rows` batch rows of its own, at most `batch`;
 *            passes is 1, and rows that all replicas together do not hold are the next range's. Nothing crosses a cluster's
 *            border, so that clusters need not be co-resident: those that are not run later.
 * Forward    warp g has the row tiles g*quads .. of the block's units/4 against all `depth` k tiles.
 * Backward   warp g has the m tiles g*quads .. (16 units of all H) against all `depth` contraction tiles of the block's gate
 *            rows. In both passes slices and rounds are 1: no sum crosses warps.
 * Residency  of a warp's depth*quads tiles, those of the first `resident` of its depth are in registers, those of the `shared`
 *            that follow in shared memory. None is streamed: a shape whose weights do not fit a cluster has no plan.  */
#ifndef PLSTM_CLUSTER_H
#define PLSTM_CLUSTER_H

#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CLUSTER_BLOCKS = 16, /* most that any device takes */
    CLUSTER_ROWS =
        4, /* batch rows that backward sends together; forward two in bf16, one in tf32 */
    CLUSTER_LOOK = 512,     /* nanoseconds: about what a look at the grid's barrier takes */
    CLUSTER_PAUSE = 1000000 /* nanoseconds: longer than the hardware lets a look take */
};

/* How many looks at a word in L2 one at an mbarrier counts as, which came back after so many nanoseconds: one, and one more for each
 * CLUSTER_LOOK of them. What is more than CLUSTER_PAUSE the GPU was not running this kernel, for a debugger or another process. */
static PLAN_HD inline uint32_t cluster_looks(uint32_t nanoseconds)
{
    const uint32_t most = CLUSTER_PAUSE;
    return 1 + (nanoseconds < most ? nanoseconds : most) / CLUSTER_LOOK;
}

/* Tiles along the batch. */
static PLAN_HD inline int32_t cluster_batch_tiles(const LstmPlan *p)
{
    return p->batch / TENSOR_BATCH;
}

/* B tiles that a pass's products read: at least as many as a warp has A tiles in registers. */
static PLAN_HD inline int32_t cluster_operand_tiles(const LstmPlan *p)
{
    return (int32_t)plan_max(p->depth, p->resident);
}

/* Words of one step's B operand. */
static PLAN_HD inline int64_t cluster_operand_words(const LstmPlan *p)
{
    return (int64_t)cluster_batch_tiles(p) * cluster_operand_tiles(p) * (TENSOR_WORDS / 2);
}

/* Batch rows with the padding that they are sent with. */
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

/* Forward: units of all row tiles that a block's warps have, whether they exist or not. */
static PLAN_HD inline int64_t cluster_tile_units(const LstmPlan *p)
{
    return (int64_t)p->groups * p->quads * TENSOR_UNITS;
}

static PLAN_HD inline int64_t cluster_weight_words(const LstmPlan *p)
{
    return (int64_t)p->groups * p->shared * p->quads * TENSOR_WORDS;
}

/* A block's shared memory (plan.h). Mbarrier: dev_cluster.cuh, ClusterFlags: cluster.cuh. */
#define CLUSTER_FORWARD_PIECES(X)                                                                  \
    X(uint4, weights, cluster_weight_words(p), "[warp][shared][quads][lane]")                      \
    X(uint32_t, exchange, 2 * cluster_operand_words(p),                                            \
      "[2][batch tile][k tile][lane] 2 words: h as B, in fwd_cluster.cuh's order")                 \
    X(float4, bias, 4 * cluster_tile_units(p), "[units of all row tiles] of gates")                \
    X(Mbarrier, arrived, 4, "[2]")                                                                 \
    X(uint32_t, sent, p->groups, "[warps]: the last exchange that a warp has sent")                \
    X(ClusterFlags, flags, 4, "that the block gave up")
#define CLUSTER_BACKWARD_PIECES(X)                                                                 \
    X(uint4, weights, cluster_weight_words(p), "[warp][shared][quads][lane]")                      \
    X(float, inbox, 2 * p->blocks * cluster_items(p),                                              \
      "[2][producer][sent rows / 4][units] float4 of batch rows: partial dh")                      \
    X(uint32_t, dgates, 2 * cluster_operand_words(p),                                              \
      "[2][batch tile][contraction tile][lane] 2 words: B")                                        \
    X(float, state, 8 * cluster_items(p), "[8 slots][items] (block_io.cuh)")                       \
    X(uint32_t, masks, plan_mask_words(p), "[2 steps][2 sites][rows][mask quads] of four bits")    \
    X(Mbarrier, arrived, 4, "[2]")                                                                 \
    X(uint32_t, sent, p->groups, "as forward's")                                                   \
    X(ClusterFlags, flags, 4, "that the block gave up")
PIECES(ClusterForwardPieces, cluster_forward_pieces, cluster_forward_bytes, CLUSTER_FORWARD_PIECES)
PIECES(ClusterBackwardPieces, cluster_backward_pieces, cluster_backward_bytes,
       CLUSTER_BACKWARD_PIECES)

static PLAN_HD inline size_t cluster_shared_bytes(const LstmPlan *p)
{
    return p->backward ? cluster_backward_bytes(p) : cluster_forward_bytes(p);
}

/* Bytes that a block with `units` units gets in one step, in a replica with `rows` batch rows, all of them by 16. Forward: all H units
 * by fours, in bf16 of two rows, in tf32 of one. Backward: from each producer its units' partial dh, of four rows. */
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
