/* tensor: how the variants on tensor cores (KIND_MMA, KIND_CLUSTER) cut w_hh into tiles. Clean C11
 * that also compiles as CUDA C++; needs no toolkit.
 *
 * Rows       The rows of w_hh are taken in the order unit * 4 + gate, so that a tile of 16 rows
 *            holds the four gates of four units, and a block that owns `units` (a multiple of 4)
 *            units owns whole tiles.
 * Tiles      A tile is 16 rows x K of k, with K = 16 in bf16 and 8 in tf32: the A operand of one
 *            mma.sync (dev_tensor.cuh), four 32-bit words per lane. It holds zeros beyond 4H and H.
 * w_tiles    The bf16 copy is [row tile][k tile][lane][4 words]; a lane loads its words as 16
 *            bytes. Backward transposes a tile as it loads it (movmatrix). tf32 has no copy: each
 *            launch rounds w_hh as it loads it.
 * Batch      The batch is on the n side, 8 rows per tile. The B operands of a step lie as [n
 *            tile][k tile][lane][2 words]; tensor_operand gives the word of an element. */
#ifndef PLSTM_TENSOR_H
#define PLSTM_TENSOR_H

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TENSOR_ROWS = 16,  /* m of a tile */
    TENSOR_UNITS = 4,  /* units per row tile */
    TENSOR_BATCH = 8,  /* n of a tile */
    TENSOR_WORDS = 128 /* 32-bit words of an A tile; half as many of a B tile */
};

/* k of a tile. */
static PLAN_HD inline int32_t tensor_k(int32_t precision)
{
    return precision == PRECISION_BF16 ? 16 : 8;
}

/* Number of tiles of w_hh along its rows and along k. */
static PLAN_HD inline int64_t tensor_row_tiles(int64_t H) { return plan_div_up(H, TENSOR_UNITS); }
static PLAN_HD inline int64_t tensor_k_tiles(int64_t H, int32_t precision)
{
    return plan_div_up(H, tensor_k(precision));
}

/* Bytes of w_tiles. */
static PLAN_HD inline size_t tensor_copy_bytes(int64_t H)
{
    return (size_t)(tensor_row_tiles(H) * tensor_k_tiles(H, PRECISION_BF16)) * TENSOR_WORDS * 4;
}

/* Where element (k, n) of a B tile lies: the 32-bit word of the tile's 64 and, in bf16, the half of
 * it (0: the lower one). */
typedef struct TensorOperand {
    int32_t word, half;
} TensorOperand;

static PLAN_HD inline TensorOperand tensor_operand(int32_t precision, int32_t k, int32_t n)
{
    TensorOperand at;
    int32_t upper = precision == PRECISION_BF16 ? k >> 3 : k >> 2;
    int32_t q = precision == PRECISION_BF16 ? (k & 7) >> 1 : k & 3;
    at.word = (n * 4 + q) * 2 + upper;
    at.half = precision == PRECISION_BF16 ? k & 1 : 0;
    return at;
}

#ifdef __cplusplus
}
#endif

#endif
