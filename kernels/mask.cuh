/* mask: dropout masks on the device, drawn where an operand is read or written (SPEC 2, philox.h).
 * The random words come from cuRAND's curand_Philox4x32_10, whose small header needs none of the
 * tables of curand_kernel.h. */
#ifndef PLSTM_MASK_CUH
#define PLSTM_MASK_CUH

#include <cuda_runtime.h>

#include <curand_philox4x32_x.h>

#include "lstm.h"
#include "vec4.cuh"

/* One site at the current step. */
struct Mask {
    uint64_t sub, bound;
    uint2 key;
    float scale;
    bool on;
};

/* Returns a site's mask at the step `step` of the run. */
static __device__ __forceinline__ Mask mask_at(const MaskSite &site, int64_t step)
{
    Mask m;
    m.on = site.on != 0;
    m.sub = (uint64_t)step * (uint64_t)site.sites + (uint64_t)site.site;
    m.bound = site.bound;
    m.key = make_uint2((unsigned)site.seed, (unsigned)(site.seed >> 32));
    m.scale = site.scale;
    return m;
}

static __device__ __forceinline__ Mask mask_open(const MaskSite &site)
{
    return mask_at(site, site.on ? site.state->step : 0);
}

/* Returns the step with which both sites of a layer draw, for a kernel that draws many times and
 * should not load it each time. */
static __device__ __forceinline__ int64_t mask_step(const MaskSite &output,
                                                    const MaskSite &recurrent)
{
    const StepState *state = output.on ? output.state : recurrent.state;
    return output.on || recurrent.on ? state->step : 0;
}

/* Returns the random words of units u to u + 3 (u a multiple of 4) of row t * B + b. */
static __device__ __forceinline__ uint4 mask_words(const Mask &m, int64_t row, int64_t H, int64_t u)
{
    uint64_t q = (uint64_t)row * (uint64_t)((H + 3) >> 2) + (uint64_t)(u >> 2);
    uint4 counter =
        make_uint4((unsigned)q, (unsigned)(q >> 32), (unsigned)m.sub, (unsigned)(m.sub >> 32));
    return curand_Philox4x32_10(counter, m.key);
}

/* Returns bits: bit i is set if unit u + i is kept. */
static __device__ __forceinline__ uint32_t mask_kept(const Mask &m, uint4 w)
{
    return (uint32_t)(w.x < m.bound) | (uint32_t)(w.y < m.bound) << 1 |
           (uint32_t)(w.z < m.bound) << 2 | (uint32_t)(w.w < m.bound) << 3;
}

/* Draws the masks of both sites of a layer in registers, for a warp whose lane l has unit l/8 of
 * four (`lane` is l/8). Of the four lanes of a batch row, two draw the output site and two the
 * recurrent site, and they exchange the results. Returns whether unit u + lane (u a multiple of 4)
 * is kept: bit 0 at the output site in row `row`, bit 1 at the recurrent site in row `row + later`.
 * Whole warps call it; if no site is on, it returns 0. */
static __device__ __forceinline__ uint32_t mask_pair_draw(int64_t step, const MaskSite &output,
                                                          const MaskSite &recurrent, int64_t row,
                                                          int64_t later, int64_t H, int64_t u,
                                                          int32_t lane)
{
    if (!output.on && !recurrent.on) return 0;
    bool second = lane & 1;
    Mask m = mask_at(second ? recurrent : output, step);
    uint32_t own = mask_kept(m, mask_words(m, second ? row + later : row, H, u)),
             other = __shfl_xor_sync(0xffffffffu, own, 8);
    return ((second ? other : own) >> lane & 1) | ((second ? own : other) >> lane & 1) << 1;
}

/* Applies D to units u to u + 3 of a row. It is a product, as in the reference, so a NaN at a
 * dropped unit remains a NaN. */
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

/* Returns D as a factor for one unit: 0 or 1/keep. This draws the words of three neighbours too,
 * which is worthwhile if a thread owns one unit and the arithmetic hides behind loads. */
static __device__ __forceinline__ float mask_factor(const Mask &m, int64_t row, int64_t H,
                                                    int64_t u)
{
    if (!m.on) return 1.0f;
    uint4 w = mask_words(m, row, H, u);
    unsigned even = u & 2 ? w.z : w.x, odd = u & 2 ? w.w : w.y;
    return (u & 1 ? odd : even) < m.bound ? m.scale : 0.0f;
}

#endif
