/* fwd_l2: persistent forward recurrence, w_hh read again at every step.
 * Idea       against cublas: one launch for all steps, fused cell and masks, a barrier of our own in place of
 *            2 T kernel boundaries. Against smem and reg it is the control that isolates residency: the same
 *            loop, the same exchange, but no weight stays on chip
 * Residency  c, x_proj of the step, mask bits and two chunks of h in shared memory; registers hold 4 batch
 *            floats of partial sums. W_hh (16 H H bytes) comes from L2 at every step and pass, 16 bytes a load
 *            that no L1 keeps; per block 16 H units bytes
 * Partition  a block owns all four gate rows of `units` units, a warp consecutive units of one or more slices of k, a
 *            thread one unit, one slice, `batch` rows (plan.h)
 * Barrier    h_t into the exchange before it, h_t of all blocks of the replica read after it; once a step but the
 *            last; two exchanges in turn (fwd_persistent.cuh)
 * Operands   16 multiply-adds a 16-byte read of h from shared memory, 4 batch a 16-byte read of w from L2: the
 *            planner takes wide tiles so that each weight that is read serves many rows. Partial sums: 32 bytes
 *            a slice and element, so few slices; the planner weighs both
 * Limits     float32; units * groups <= threads of the tile: H up to 1024 units a block
 * Measured   not yet measured
 */
#include "fwd_persistent.cuh"
#include "tiles.h"
#include "variants.h"

template <int RESIDENT, int CHUNK, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) fwd_l2(ForwardArgs a)
{
    fwd_persistent<RESIDENT, CHUNK, BATCH>(a);
}

#define T(resident, chunk, batch, threads, registers) fwd_l2<resident, chunk, batch, threads>,
static const ForwardKernel kernels[] = {FWD_L2_TILES(T)};
#undef T

extern "C" cudaError_t fwd_l2_prepare(void) { return forward_prepare(kernels); }

extern "C" cudaError_t fwd_l2_resident(const LstmPlan *plan, int *blocks)
{
    return persistent_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t fwd_l2_run(const LstmContext *context, const LstmForward *p)
{
    return forward_run(kernels, context, p);
}
