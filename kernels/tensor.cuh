/* tensor: A tiles of w_hh and their products, for every variant on tensor cores. tensor.h describes
 * the tiles. Whole warps call these functions; they are compiled from sm_80 on. */
#ifndef PLSTM_TENSOR_CUH
#define PLSTM_TENSOR_CUH

#include <cuda_bf16.h>

#include <kernels/dev_tensor.cuh>
#include "tensor.h"

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* Returns two values rounded to bfloat16 (to nearest even), with `low` in the lower half. */
static __device__ __forceinline__ uint32_t tensor_pair(float low, float high)
{
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

/* Returns the element of w_hh (4H,H) in tile row `row` (unit * 4 + gate) and column k, or 0 beyond
 * its ends. */
static __device__ __forceinline__ float tensor_weight(const float *w_hh, int64_t H, int64_t row,
                                                      int64_t k)
{
    int64_t unit = row >> 2, gate = row & 3;
    return unit < H && k < H ? load_l2(w_hh + (gate * H + unit) * H + k) : 0.0f;
}

/* Loads the A operand of row tile r and k tile kt of w_hh, or zeros beyond the last tile. */
template <int PRECISION>
static __device__ __forceinline__ void tensor_load(const float *w_hh, const void *w_tiles,
                                                   int64_t H, int64_t r, int64_t kt,
                                                   uint32_t (&a)[4])
{
    int32_t lane = (int32_t)threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    if (PRECISION == PRECISION_BF16) {
        int64_t across = tensor_k_tiles(H, PRECISION_BF16);
        uint4 w = make_uint4(0, 0, 0, 0);
        if (r < tensor_row_tiles(H) && kt < across)
            w = load_l2((const uint4 *)w_tiles + (r * across + kt) * 32 + lane);
        a[0] = w.x, a[1] = w.y, a[2] = w.z, a[3] = w.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = tf32_round(tensor_weight(w_hh, H, r * TENSOR_ROWS + g + (i & 1) * 8,
                                            kt * 8 + q + (i >> 1) * 4));
    }
}

/* Loads the A operand of the transpose, whose m runs over the k of w_hh: m tile mt, and as
 * contraction tile the 16 rows of row tile rt (bf16) or 8 rows (tf32, where rt counts tiles of 8
 * rows). */
template <int PRECISION>
static __device__ __forceinline__ void
tensor_load_transposed(const float *w_hh, const void *w_tiles, int64_t H, int64_t mt, int64_t rt,
                       uint32_t (&a)[4])
{
    int32_t lane = (int32_t)threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    if (PRECISION == PRECISION_BF16) {
        uint32_t w[4];
        tensor_load<PRECISION>(w_hh, w_tiles, H, rt, mt, w);
        a[0] = movmatrix_trans(w[0]), a[1] = movmatrix_trans(w[2]);
        a[2] = movmatrix_trans(w[1]), a[3] = movmatrix_trans(w[3]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = tf32_round(
                tensor_weight(w_hh, H, rt * 8 + q + (i >> 1) * 4, mt * 16 + g + (i & 1) * 8));
    }
}

/* d (16,8) += a * b. */
template <int PRECISION>
static __device__ __forceinline__ void tensor_multiply(float (&d)[4], const uint32_t (&a)[4],
                                                       const uint32_t (&b)[2])
{
    if (PRECISION == PRECISION_BF16) mma_bf16(d, a, b);
    else mma_tf32(d, a, b);
}

#endif
#endif
