/* tensor: A tiles of w_hh and their products, for every variant on tensor cores. tensor.h says how tiles lie. All functions
 * are called by whole warps; nothing before sm_80 compiles them. */
#ifndef PLSTM_TENSOR_CUH
#define PLSTM_TENSOR_CUH

#include <cuda_bf16.h>

#include <kernels/dev_tensor.cuh>
#include "tensor.h"

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* Two values rounded to bfloat16 (to nearest even), `low` in the lower half. */
static __device__ __forceinline__ uint32_t tensor_pair(float low, float high)
{
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

/* The element of w_hh (4H,H) in tile row `row` (unit*4 + gate) and column k, 0 past its ends. */
static __device__ __forceinline__ float tensor_weight(const float *w_hh, int64_t H, int64_t row,
                                                      int64_t k)
{
    int64_t unit = row >> 2, gate = row & 3;
    return unit < H && k < H ? load_l2(w_hh + (gate * H + unit) * H + k) : 0.0f;
}

/* The A operand of row tile r and k tile kt: W, rows as m. Past the last tile: zeros. */
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

/* The A operand of the transpose, k as m: m = 16 mt .. of k, and of contraction the rows of tile r (bf16: all 16) or of its
 * half (tf32: rt counts tiles of 8 rows). */
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
