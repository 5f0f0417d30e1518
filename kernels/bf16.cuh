/* bf16: stores float32 values rounded to bfloat16, to nearest even. Before sm_80, nothing is
 * rounded. */
#ifndef PLSTM_BF16_CUH
#define PLSTM_BF16_CUH

#include "vec4.cuh"
#include "tensor.cuh"

/* Writes x to element `at` of a bfloat16 copy, unless `to` is NULL. Before sm_80 no copy is ever
 * wanted, and this compiles to nothing. */
static __device__ __forceinline__ void store_bf16(uint16_t *to, int64_t at, float x)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    if (to) to[at] = (uint16_t)tensor_pair(x, 0.0f);
#endif
}

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* Stores elements i to i + 3 of a row (n), except those before 0 or from n on. */
static __device__ __forceinline__ void vec4_store_bf16(uint16_t *row, int64_t i, int64_t n, Vec4 q)
{
    uint16_t *p = row + i;
    uint2 w = make_uint2(tensor_pair(q.v[0], q.v[1]), tensor_pair(q.v[2], q.v[3]));
    if (i >= 0 && i + 4 <= n && aligned(p, 8)) {
        *(uint2 *)p = w;
        return;
    }
    for (int k = 0; k < 4; k++)
        if (i + k >= 0 && i + k < n) p[k] = (uint16_t)((k < 2 ? w.x : w.y) >> (k & 1) * 16);
}

#endif
#endif
