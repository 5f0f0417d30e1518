/* carry: h and c after the window's last step become the state that the next window begins with.
 * Idea       one launch for all layers, h and c; a step that gave up leaves the state of before, which a copy
 *            node could not
 * Memory     reads and writes 2 L B H floats
 * Partition  a block owns CARRY_THREADS elements of one row
 * Limits     none
 * Measured   not yet measured
 */
#include <assert.h>

#include "carry.cuh"
#include "carry.h"
#include "launch.cuh"

enum { CARRY_THREADS = 256 };

__global__ void __launch_bounds__(CARRY_THREADS)
    carry_state_kernel(const FaultRecord *fault, CarriedRows rows)
{
    if (!fault->set) carry_rows(rows, blockIdx.x, CARRY_THREADS);
}

extern "C" cudaError_t carry_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, carry_state_kernel);
}

extern "C" cudaError_t carry_state(cudaStream_t stream, const FaultRecord *fault, CarriedRows rows)
{
    int64_t blocks = carry_blocks(rows, CARRY_THREADS);
    assert(rows.rows > 0 && rows.n > 0 && blocks <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CARRY_THREADS), 0, stream, false};
    return launch(shape, carry_state_kernel, fault, rows);
}
