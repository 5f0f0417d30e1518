/* fwd_reg: persistent forward recurrence, w_hh in registers, then shared memory, then streamed: the K20-class
 * kernel.
 * Idea       against smem: the largest memory of a GPU is its register file (256 KB an SM, of which shared memory
 *            has a fraction), and a weight in a register costs no read at all
 * Residency  a thread keeps the first `resident` of its `depth` steps of k in 4 resident registers, [k] of four
 *            gates; 16 resident threads bytes a block (28: 112 KB of 256). Then `shared` steps in shared memory as
 *            smem, then the rest streamed. At H = 200 on 13 blocks (K20) and H = 650 on 130 all of W_hh is in
 *            registers; at H = 1500 on 125 registers and shared memory hold it together
 * Partition  as l2. The k loop over registers is unrolled; an instance with more steps than a plan's depth works on
 *            zeros there, which costs time and changes no sum
 * Barrier    as l2
 * Operands   batch/4 16-byte reads of h for 4 batch multiply-adds, none of w. Groups split the batch over threads that
 *            hold the same weights: half the slices, hence half the partial sums, for twice the registers
 * Limits     as l2
 * Measured   not yet measured
 */
#include "fwd_persistent.cuh"
#include "tiles.h"
#include "variants.h"

template <int RESIDENT, int CHUNK, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) fwd_reg(ForwardArgs a)
{
    fwd_persistent<RESIDENT, CHUNK, BATCH>(a);
}

#define T(resident, chunk, batch, threads, registers) fwd_reg<resident, chunk, batch, threads>,
static const ForwardKernel kernels[] = {FWD_REG_TILES(T)};
#undef T

extern "C" cudaError_t fwd_reg_prepare(void) { return forward_prepare(kernels); }

extern "C" cudaError_t fwd_reg_resident(const LstmPlan *plan, int *blocks)
{
    return persistent_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t fwd_reg_run(const LstmContext *context, const LstmForward *p)
{
    return forward_run(kernels, context, p);
}
