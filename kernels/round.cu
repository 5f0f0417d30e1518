/* round: float32 tensors rounded to bfloat16, for the products of --precision bf16 over all positions.
 * Idea       what another kernel has at hand it rounds itself (embedding, column sums, update); these are the weights after
 *            they were set, and what a layer's recurrence leaves: its float32 tensors are the contract of all variants
 *            (lstm.h), so they are read once more, out of L2
 * Memory     reads 4 and writes 2 bytes an element
 * Partition  a thread rounds four neighbouring elements; two tensors share a launch
 * Limits     sm_80 and up
 * Measured   not yet measured
 */
#include <assert.h>

#include "bf16.cuh"
#include "launch.cuh"
#include "layers.h"

enum { ROUND_THREADS = 256 };

__global__ void __launch_bounds__(ROUND_THREADS)
    round_bf16_kernel(RoundSpan first, RoundSpan second)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    int64_t i = 4 * ((int64_t)blockIdx.x * ROUND_THREADS + threadIdx.x);
    int64_t of_first = (first.n + 3) / 4 * 4;
    RoundSpan s = i < of_first ? first : second;
    if (i >= of_first) i -= of_first;
    if (i < s.n) vec4_store_bf16(s.to, i, s.n, vec4_load(s.from, i, s.n, 0.0f));
#endif
}

extern "C" cudaError_t round_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, round_bf16_kernel);
}

extern "C" cudaError_t round_bf16(cudaStream_t stream, RoundSpan first, RoundSpan second)
{
    assert(first.n > 0 && second.n >= 0);
    int64_t vec4s = (first.n + 3) / 4 + (second.n + 3) / 4,
            blocks = (vec4s + ROUND_THREADS - 1) / ROUND_THREADS;
    assert(blocks <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks), dim3(ROUND_THREADS), 0, stream, false};
    return launch(shape, round_bf16_kernel, first, second);
}
