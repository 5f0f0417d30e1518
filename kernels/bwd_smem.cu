/* bwd_smem: persistent backward recurrence, w_hh in shared memory.
 * Idea       fwd_smem's twin: against l2 a block loads its rows of W_hh once per launch; what does not fit is streamed, so
 *            that every H runs
 * Residency  `shared` of a thread's `depth` units in shared memory, 64 bytes a unit and thread, [unit][gate][k / 4] of four
 *            k, so that a warp reads whole lines without bank conflicts; the rest streamed. Else as bwd_l2
 * Partition  as bwd_l2
 * Barrier    as bwd_l2
 * Operands   one 16-byte read of w and batch/4 of dgates for 4 batch multiply-adds; else as bwd_l2
 * Limits     as bwd_l2
 * Measured   not yet measured
 */
#include "bwd_persistent.cuh"
#include "tiles.h"
#include "variants.h"

template <int RESIDENT, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) bwd_smem(BackwardArgs a)
{
    bwd_persistent<RESIDENT, BATCH, 4>(a);
}

#define T(resident, chunk, batch, threads, registers) bwd_smem<resident, batch, threads>,
static const BackwardKernel kernels[] = {BWD_SMEM_TILES(T)};
#undef T

extern "C" cudaError_t bwd_smem_prepare(void) { return backward_prepare(kernels); }

extern "C" cudaError_t bwd_smem_resident(const LstmPlan *plan, int *blocks)
{
    return persistent_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t bwd_smem_run(const LstmContext *context, const LstmBackward *p)
{
    return backward_run(kernels, context, p);
}
