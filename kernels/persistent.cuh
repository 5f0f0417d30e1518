/* persistent: what forward and backward of the persistent variants share: where a block stands, mask bits, launching.
 * plan.h says how a plan divides the work. */
#ifndef PLSTM_PERSISTENT_CUH
#define PLSTM_PERSISTENT_CUH

#include <assert.h>

#include "cell.cuh"
#include "dev.cuh"
#include "grid_barrier.cuh"
#include "lstm.h"
#include "mask.cuh"
#include "plan.h"

/* n / d, for n*d < 2^31, by the inverse that the host made of d. */
static inline uint32_t inverse_of(int64_t d) { return (uint32_t)((INT64_C(1) << 31) / d + 1); }
static __device__ __forceinline__ int32_t divided(int32_t n, uint32_t inverse)
{
    return (int32_t)((uint64_t)(uint32_t)n * inverse >> 31);
}

/* What a block owns in the launch for the batch rows from first_row on. */
struct BlockPlace {
    int32_t replica, block; /* of the replica */
    int32_t unit, units;    /* first of H, and how many */
    int32_t row, rows;      /* first of B, and how many; none where the batch is smaller than the plan's */
};

static __device__ __forceinline__ BlockPlace block_place(const LstmPlan &plan, const LstmShape &shape,
                                                         int32_t first_row)
{
    BlockPlace p;
    p.replica = (int32_t)blockIdx.x / plan.blocks;
    p.block = (int32_t)blockIdx.x % plan.blocks;
    p.unit = p.block * plan.units;
    p.units = (int32_t)min((int64_t)plan.units, shape.H - p.unit);
    p.row = first_row + p.replica * plan.rows;
    p.rows = (int32_t)min((int64_t)plan.rows, shape.B - p.row);
    return p;
}

/* Where an element of a block's items lies: items run over batch rows of the tile fastest, then units, then groups, then passes. */
static __device__ __forceinline__ int32_t item_at(const LstmPlan &plan, int32_t batch, int32_t row, int32_t u)
{
    return (row / batch * plan.units + u) * batch + row % batch;
}

/* ---- masks as bits ----
 * One thread draws a group of four and leaves its bits in a word of shared memory: [step & 1][site][row][quad]. Two steps, since the
 * bits of a step are still read when those of the next are made. */

enum { MASK_OUTPUT, MASK_RECURRENT };

struct MaskBits {
    uint32_t *words;
    int32_t quads, rows;
};

/* Draws site's bits for the rows first_row + b of the mask (b: the block's rows) and the block's units. */
static __device__ __forceinline__ void mask_bits_draw(const MaskBits &bits, int32_t parity, int32_t which,
                                                      const MaskSite &site, const BlockPlace &at,
                                                      int64_t first_row, int64_t H)
{
    if (!site.on) return;
    Mask m = mask_open(site);
    uint32_t *words = bits.words + (parity * 2 + which) * bits.rows * bits.quads;
    int32_t quad0 = at.unit >> 2, quads = ((at.unit + at.units - 1) >> 2) - quad0 + 1;
    for (int32_t j = thread_again(); j < at.rows * quads; j += (int32_t)blockDim.x) {
        int32_t b = j / quads, q = j % quads;
        uint4 w = mask_words(m, first_row + b, H, (int64_t)(quad0 + q) * 4);
        words[b * bits.quads + q] = (uint32_t)(w.x < m.bound) | (uint32_t)(w.y < m.bound) << 1 |
                                    (uint32_t)(w.z < m.bound) << 2 | (uint32_t)(w.w < m.bound) << 3;
    }
}

/* 0 or 1/keep for unit u of the block in its row b. */
static __device__ __forceinline__ float mask_bits_factor(const MaskBits &bits, int32_t parity, int32_t which,
                                                         const MaskSite &site, const BlockPlace &at,
                                                         int32_t b, int32_t u)
{
    if (!site.on) return 1.0f;
    int32_t unit = at.unit + u, q = (unit >> 2) - (at.unit >> 2);
    uint32_t word = bits.words[((parity * 2 + which) * bits.rows + b) * bits.quads + q];
    return word >> (unit & 3) & 1 ? site.scale : 0.0f;
}

/* Bits of step t: its output, and h_t as step t+1 reads it. */
static __device__ __forceinline__ void mask_bits_step(const MaskBits &bits, const LstmShape &shape,
                                                      const MaskSite &output, const MaskSite &recurrent,
                                                      const BlockPlace &at, int64_t t)
{
    int64_t B = shape.B, H = shape.H;
    mask_bits_draw(bits, (int32_t)t & 1, MASK_OUTPUT, output, at, t * B + at.row, H);
    if (t + 1 < shape.T)
        mask_bits_draw(bits, (int32_t)t & 1, MASK_RECURRENT, recurrent, at, (t + 1) * B + at.row, H);
}

/* ---- multiply ---- */

static __device__ __forceinline__ void multiply_add(float4 &sum, const float4 &w, float x)
{
    sum.x += w.x * x, sum.y += w.y * x, sum.z += w.z * x, sum.w += w.w * x;
}

/* sum[b] += w * row[b]: one step of contraction of a thread. */
template <int BATCH>
static __device__ __forceinline__ void multiply_row(float4 (&sum)[BATCH], const float4 &w, const float *row)
{
#pragma unroll
    for (int b = 0; b + 4 <= BATCH; b += 4) {
        float4 x = *(const float4 *)(row + b);
        multiply_add(sum[b], w, x.x), multiply_add(sum[b + 1], w, x.y);
        multiply_add(sum[b + 2], w, x.z), multiply_add(sum[b + 3], w, x.w);
    }
    if (BATCH % 4) {
        float2 x = *(const float2 *)(row + BATCH / 4 * 4);
        multiply_add(sum[BATCH - 2], w, x.x), multiply_add(sum[BATCH - 1], w, x.y);
    }
}

/* ---- scratch: two exchanges of every replica, then the barrier's words ---- */

static __device__ __forceinline__ float *exchange_of(const LstmPlan &plan, void *scratch, int32_t parity,
                                                     int32_t replica)
{
    return (float *)scratch + (int64_t)(parity * plan.replicas + replica) * plan_exchange_floats(&plan);
}

static __device__ __forceinline__ uint32_t *barrier_words(const LstmPlan &plan, void *scratch,
                                                          int32_t replica)
{
    return (uint32_t *)((float *)scratch + 2 * plan.replicas * plan_exchange_floats(&plan)) +
           replica * plan.blocks;
}

/* ---- host side ---- */

/* Loads a kernel and lets it take all the shared memory that the device gives a block. */
template <class Kernel> static inline cudaError_t persistent_prepare(Kernel kernel)
{
    int device = 0, most = 0;
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    if (!error) error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    most -= (int)attributes.sharedSizeBytes;
    if (!error && most > 48 << 10)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
    return error;
}

template <class Kernel>
static inline cudaError_t persistent_resident(Kernel kernel, const LstmPlan *plan, int *blocks)
{
    int device = 0, sms = 0, per_sm = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    if (!error)
        error =
            cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, plan->threads, plan->shared_bytes);
    *blocks = sms * per_sm;
    return error;
}

template <class Kernel, class Args>
static inline cudaError_t persistent_launch(Kernel kernel, const LstmContext *context, const LstmLaunch *how,
                                            const LstmShape *shape, int backward, Args args)
{
    const LstmPlan *plan = how->plan;
    assert(plan && how->scratch && plan->backward == backward);
    assert(shape->T > 0 && shape->B > 0 && shape->B <= INT32_MAX);
    assert((int64_t)plan->units * plan->blocks >= shape->H &&
           (int64_t)plan->units * (plan->blocks - 1) < shape->H);
    LaunchShape launched = {dim3((unsigned)(plan->replicas * plan->blocks)), dim3((unsigned)plan->threads),
                            plan->shared_bytes, context->stream, context->cooperative != 0};
    cudaError_t error = cudaSuccess;
    for (int64_t i = 0; i < plan_ranges(plan, shape->B) && !error; i++) {
        args.first_row = (int32_t)(i * plan->rows * plan->replicas);
        error = launch(launched, kernel, args);
    }
    return error;
}

#endif
