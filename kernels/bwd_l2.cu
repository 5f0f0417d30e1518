/* bwd_l2: persistent backward recurrence, w_hh read again at every step.
 * Idea       fwd_l2's twin, the control that isolates residency: one launch for all steps, a reduce-scatter of
 *            partial dh in place of a GEMM a step, but no weight stays on chip
 * Residency  dgates, state and mask bits of the block's elements in shared memory; registers hold 4 batch floats of
 *            partial sums. The block's rows of W_hh (16 H units bytes) come from L2 at every step and pass
 * Partition  a block owns the four gate rows of `units` units as forward does; a thread four k against the rows of one slice
 *            of those units and `batch` batch rows (plan.h)
 * Barrier    partial dh for every unit into the exchange before it, the parts for the block's own units out of it after
 *            it; once a step but the last; two exchanges in turn (bwd_persistent.cuh)
 * Operands   16 multiply-adds a 16-byte read of dgates from shared memory, four rows of W_hh under way while one is
 *            multiplied. Slices of units add 32 bytes of partial sums an element of dh each; the planner weighs both
 * Limits     float32; state and dgates of a block's elements fit shared memory
 * Measured   not yet measured
 */
#include "bwd_persistent.cuh"
#include "tiles.h"
#include "variants.h"

template <int RESIDENT, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) bwd_l2(BackwardArgs a)
{
    bwd_persistent<RESIDENT, BATCH, 4>(a);
}

#define T(resident, chunk, batch, threads, registers) bwd_l2<resident, batch, threads>,
static const BackwardKernel kernels[] = {BWD_L2_TILES(T)};
#undef T

extern "C" cudaError_t bwd_l2_prepare(void) { return backward_prepare(kernels); }

extern "C" cudaError_t bwd_l2_resident(const LstmPlan *plan, int *blocks)
{
    return persistent_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t bwd_l2_run(const LstmContext *context, const LstmBackward *p)
{
    return backward_run(kernels, context, p);
}
