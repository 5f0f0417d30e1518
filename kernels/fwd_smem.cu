/* fwd_smem: persistent forward recurrence, w_hh in shared memory.
 * Idea       against l2: each block loads its rows of W_hh once per launch and reads them from shared memory at
 *            every step; what does not fit is streamed from L2 as l2 does, so that every H runs
 * Residency  `shared` of a thread's `depth` steps of k in shared memory, 16 shared slices units bytes a block,
 *            [k][slice][unit] of four gates, so that a warp reads whole lines without bank conflicts; the rest
 *            streamed. The share is a number of the plan (plstm plan). Else as l2
 * Partition  as l2
 * Barrier    as l2
 * Operands   one 16-byte read of w and batch/4 of h for 4 batch multiply-adds: with 4 rows two reads for 16, with
 *            20 six for 80. The same weight serves all rows of a thread, so a pass costs units H reads of w beside
 *            units H rows/4 of h. Partial sums as l2
 * Limits     as l2
 * Measured   not yet measured
 */
#include "fwd_persistent.cuh"
#include "tiles.h"
#include "variants.h"

template <int RESIDENT, int CHUNK, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) fwd_smem(ForwardArgs a)
{
    fwd_persistent<RESIDENT, CHUNK, BATCH>(a);
}

#define T(resident, chunk, batch, threads, registers) fwd_smem<resident, chunk, batch, threads>,
static const ForwardKernel kernels[] = {FWD_SMEM_TILES(T)};
#undef T

extern "C" cudaError_t fwd_smem_prepare(void) { return forward_prepare(kernels); }

extern "C" cudaError_t fwd_smem_resident(const LstmPlan *plan, int *blocks)
{
    return persistent_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t fwd_smem_run(const LstmContext *context, const LstmForward *p)
{
    return forward_run(kernels, context, p);
}
