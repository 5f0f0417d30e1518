/* mask: dropout masks on the device, drawn where an operand is read or written (SPEC 2, philox.h). The words
 * come from cuRAND's curand_Philox4x32_10, whose small header brings none of the tables of curand_kernel.h.
 */
#ifndef PLSTM_MASK_CUH
#define PLSTM_MASK_CUH

#include <cuda_runtime.h>

#include <curand_philox4x32_x.h>

#include "lstm.h"
#include "vec4.cuh"

/* One site at the step that runs now. */
struct Mask {
    uint64_t sub, bound;
    uint2 key;
    float scale;
    bool on;
};

static __device__ __forceinline__ Mask mask_open(const MaskSite &site)
{
    Mask m;
    m.on = site.on != 0;
    m.sub = m.on ? (uint64_t)site.state->step * (uint64_t)site.sites + (uint64_t)site.site : 0;
    m.bound = site.bound;
    m.key = make_uint2((unsigned)site.seed, (unsigned)(site.seed >> 32));
    m.scale = site.scale;
    return m;
}

/* The words of units u..u+3 (u a multiple of 4) of row t*B + b. */
static __device__ __forceinline__ uint4 mask_words(const Mask &m, int64_t row, int64_t H, int64_t u)
{
    uint64_t q = (uint64_t)row * (uint64_t)((H + 3) >> 2) + (uint64_t)(u >> 2);
    uint4 counter =
        make_uint4((unsigned)q, (unsigned)(q >> 32), (unsigned)m.sub, (unsigned)(m.sub >> 32));
    return curand_Philox4x32_10(counter, m.key);
}

/* D applied to units u..u+3 of a row: a product, as in the reference, so that a NaN under a dropped unit
 * stays one. */
static __device__ __forceinline__ Vec4 mask_vec4_apply(const Mask &m, int64_t row, int64_t H,
                                                       int64_t u, Vec4 x)
{
    if (!m.on) return x;
    uint4 w = mask_words(m, row, H, u);
    x.v[0] *= w.x < m.bound ? m.scale : 0.0f;
    x.v[1] *= w.y < m.bound ? m.scale : 0.0f;
    x.v[2] *= w.z < m.bound ? m.scale : 0.0f;
    x.v[3] *= w.w < m.bound ? m.scale : 0.0f;
    return x;
}

/* D as a factor for one unit: 0 or 1/keep. Draws the words of three neighbours too; worth it where a thread
 * owns one unit and the arithmetic hides behind loads. */
static __device__ __forceinline__ float mask_factor(const Mask &m, int64_t row, int64_t H,
                                                    int64_t u)
{
    if (!m.on) return 1.0f;
    uint4 w = mask_words(m, row, H, u);
    unsigned even = u & 2 ? w.z : w.x, odd = u & 2 ? w.w : w.y;
    return (u & 1 ? odd : even) < m.bound ? m.scale : 0.0f;
}

#endif
