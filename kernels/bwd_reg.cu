/* bwd_reg: persistent backward recurrence, w_hh in registers, then shared memory, then streamed: the K20-class
 * kernel.
 * Idea       fwd_reg's twin, with the same rows of W_hh in the same block, transposed only in how threads share them
 * Residency  a thread keeps `resident` units of its slice in 16 resident registers, [unit][gate] of four k, then `shared`
 *            units in shared memory as bwd_smem, then streams. At H = 200 on a K20 all of W_hh is in registers
 * Partition  as bwd_l2. An instance with more resident units than a slice has works on zeros there
 * Barrier    as bwd_l2
 * Operands   batch/4 16-byte reads of dgates, which all lanes of a slice share, for 4 batch multiply-adds; none of w. One row
 *            of streamed weights is under way at a time: registers are for what stays
 * Limits     as bwd_l2
 * Measured   not yet measured
 */
#include "bwd_persistent.cuh"
#include "tiles.h"
#include "variants.h"

template <int RESIDENT, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) bwd_reg(BackwardArgs a)
{
    bwd_persistent<RESIDENT, BATCH, 1>(a);
}

#define T(resident, chunk, batch, threads, registers) bwd_reg<resident, batch, threads>,
static const BackwardKernel kernels[] = {BWD_REG_TILES(T)};
#undef T

extern "C" cudaError_t bwd_reg_prepare(void) { return backward_prepare(kernels); }

extern "C" cudaError_t bwd_reg_resident(const LstmPlan *plan, int *blocks)
{
    return persistent_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t bwd_reg_run(const LstmContext *context, const LstmBackward *p)
{
    return backward_run(kernels, context, p);
}
