/* bf16: stores float32 values rounded to bfloat16, to nearest even. Compiled from sm_80 on. */
#ifndef PLSTM_BF16_CUH
#define PLSTM_BF16_CUH

#include "vec4.cuh"
#include "tensor.cuh"

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
