/* carry: h and c after the window's last step become the state that the next window begins with.
 * Idea       one launch for all layers, h and c; a step that gave up leaves the state of before, which a copy
 *            node could not
 * Memory     reads and writes 2 L B H floats
 * Partition  a block owns CARRY_THREADS elements of one row
 * Limits     none
 * Measured   not yet measured
 */
#include <assert.h>

#include "carry.h"
#include "launch.cuh"

enum { CARRY_THREADS = 256 };

__global__ void __launch_bounds__(CARRY_THREADS)
    carry_state_kernel(const FaultRecord *fault, int64_t n, const float *from, int64_t pitch,
                       float *to)
{
    int64_t row = blockIdx.y, i = (int64_t)blockIdx.x * CARRY_THREADS + threadIdx.x;
    if (i < n && !fault->set) to[row * n + i] = from[row * pitch + i];
}

extern "C" cudaError_t carry_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, carry_state_kernel);
}

extern "C" cudaError_t carry_state(cudaStream_t stream, const FaultRecord *fault, int64_t rows,
                                   int64_t n, const float *from, int64_t pitch, float *to)
{
    int64_t blocks = (n + CARRY_THREADS - 1) / CARRY_THREADS;
    assert(rows > 0 && rows <= 65535 && n > 0 && blocks <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks, (unsigned)rows), dim3(CARRY_THREADS), 0, stream,
                         false};
    return launch(shape, carry_state_kernel, fault, n, from, pitch, to);
}
