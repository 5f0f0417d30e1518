/* bwd_l2: persistent backward recurrence that reads w_hh again at every step.
 * Idea       The control that isolates residency, as a backward pass: one launch for all steps and
 *            a reduce-scatter of partial dh instead of a GEMM per step, but no weight stays on
 *            chip.
 * Residency  Shared memory holds dgates, state and mask bits of the block's elements; a thread's
 *            registers hold 4 * batch floats of partial sums. The block's rows of W_hh,
 *            16 * H * units bytes, are read from L2 at every step and pass.
 * Partition  A block owns the four gate rows of `units` units, as in forward. A thread computes
 *            four k from the rows of one slice of those units, for `batch` batch rows (plan.h).
 * Barrier    There is one grid barrier per step, except at the last. Before it, a block sends
 *            partial dh for every unit; after it, the block sums what it received for its own
 *            units. Two exchange buffers alternate (bwd_persistent.cuh).
 * Operands   A thread does 16 multiply-adds per 16-byte read of dgates from shared memory; four
 *            rows of W_hh are loaded ahead of the one that is multiplied. A slice of units costs 32
 *            bytes of partial sums per element of dh; the planner weighs both.
 * Limits     float32; state and dgates of a block's elements must fit in shared memory
 * Measured   not yet measured. Predicted for an H200, B 20, float32, without the launch: 1.63 us
 *            per step at H 200, 4.04 at H 650 and 12.32 at H 1500. */
#include "bwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) bwd_l2<resident, batch, threads>,
PERSISTENT_KERNEL(bwd_l2, BackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(bwd_l2, BackwardPass, BWD_L2_TILES(T))
