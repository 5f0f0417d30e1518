/* vec4: four neighbouring floats, moved by the widest load or store that their address allows.
 *
 * Rows of a row-major tensor start on 16 bytes only if the row length is a multiple of 4, and H and
 * V may be any number. The width is therefore chosen from the address at run time: the lanes of one
 * warp mostly agree, and the test costs two instructions beside a memory access. Elements outside
 * the row are neither read nor written. */
#ifndef PLSTM_VEC4_CUH
#define PLSTM_VEC4_CUH

#include <stdint.h>

#include <cuda_runtime.h>

struct Vec4 {
    float v[4];
};

static __device__ __forceinline__ bool aligned(const void *p, unsigned bytes)
{
    return ((uintptr_t)p & (bytes - 1)) == 0;
}

/* Returns elements i to i + 3 of row (n), with `outside` in place of those before 0 or from n
 * on. */
static __device__ __forceinline__ Vec4 vec4_load(const float *row, int64_t i, int64_t n,
                                                 float outside)
{
    Vec4 q;
    const float *p = row + i;
    bool whole = i >= 0 && i + 4 <= n;
    if (whole && aligned(p, 16)) {
        float4 x = *(const float4 *)p;
        q.v[0] = x.x, q.v[1] = x.y, q.v[2] = x.z, q.v[3] = x.w;
    } else if (whole && aligned(p, 8)) {
        float2 x = *(const float2 *)p, y = *(const float2 *)(p + 2);
        q.v[0] = x.x, q.v[1] = x.y, q.v[2] = y.x, q.v[3] = y.y;
    } else {
        for (int k = 0; k < 4; k++) q.v[k] = i + k >= 0 && i + k < n ? p[k] : outside;
    }
    return q;
}

static __device__ __forceinline__ void vec4_store(float *row, int64_t i, int64_t n, Vec4 q)
{
    float *p = row + i;
    bool whole = i >= 0 && i + 4 <= n;
    if (whole && aligned(p, 16)) {
        *(float4 *)p = make_float4(q.v[0], q.v[1], q.v[2], q.v[3]);
    } else if (whole && aligned(p, 8)) {
        *(float2 *)p = make_float2(q.v[0], q.v[1]);
        *(float2 *)(p + 2) = make_float2(q.v[2], q.v[3]);
    } else {
        for (int k = 0; k < 4; k++)
            if (i + k >= 0 && i + k < n) p[k] = q.v[k];
    }
}

#endif
