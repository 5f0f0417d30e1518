/* carry: h and c after the window's last step become the state with which the next window begins.
 * Idea       One launch copies h and c of all layers. After a step that timed out it leaves the
 *            earlier state in place, which a copy node could not do.
 * Memory     It reads and writes 2 * L * B * H floats.
 * Partition  A block owns CARRY_THREADS elements of one row.
 * Limits     none
 * Measured   not yet measured */
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
