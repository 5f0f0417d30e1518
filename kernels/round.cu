/* round: rounds float32 tensors to bfloat16 for the products of --precision bf16 over all
 * positions.
 * Idea       Kernels that compute values also round them (embedding, recurrence, column sums,
 *            update). This one rounds the tensors that no kernel computes: weights that were set,
 *            and the features of a window.
 * Memory     It reads 4 and writes 2 bytes per element.
 * Partition  A thread rounds four neighbouring elements of a row. Two tensors share a launch.
 * Limits     sm_80 and up
 * Measured   not yet measured */
#include <assert.h>

#include "bf16.cuh"
#include "launch.cuh"
#include "layers.h"

enum { ROUND_THREADS = 256 };

static __host__ __device__ int64_t span_vec4s(const RoundSpan &s)
{
    return s.rows * ((s.width + 3) / 4);
}

__global__ void __launch_bounds__(ROUND_THREADS)
    round_bf16_kernel(RoundSpan first, RoundSpan second)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    uint32_t i = blockIdx.x * ROUND_THREADS + threadIdx.x, of_first = (uint32_t)span_vec4s(first);
    RoundSpan s = i < of_first ? first : second;
    if (i >= of_first) i -= of_first;
    if (i >= span_vec4s(s)) return;
    uint32_t each = (uint32_t)((s.width + 3) / 4), row = i / each;
    int64_t u = 4 * (int64_t)(i - row * each);
    vec4_store_bf16(s.to + row * s.pitch, u, s.width,
                    vec4_load(s.from + row * s.width, u, s.width, 0.0f));
#endif
}

extern "C" cudaError_t round_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, round_bf16_kernel);
}

extern "C" cudaError_t round_bf16(cudaStream_t stream, RoundSpan first, RoundSpan second)
{
    assert(first.rows > 0 && first.width > 0 && second.rows >= 0);
    assert(first.pitch >= first.width && (!second.rows || second.pitch >= second.width));
    int64_t vec4s = span_vec4s(first) + span_vec4s(second),
            blocks = (vec4s + ROUND_THREADS - 1) / ROUND_THREADS;
    assert(blocks * ROUND_THREADS <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks), dim3(ROUND_THREADS), 0, stream, false};
    return launch(shape, round_bf16_kernel, first, second);
}
