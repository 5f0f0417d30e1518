/* bwd_l2: persistent backward recurrence, w_hh read again at every step.
 * Idea       the control that isolates residency, as a backward pass: one launch for all steps, a reduce-scatter of partial dh in
 *            place of a GEMM a step, but no weight stays on chip
 * Residency  dgates, state and mask bits of the block's elements in shared memory; 4 * batch floats of partial sums in a thread's
 *            registers. The block's rows of W_hh, 16 * H * units bytes, come from L2 at every step and pass
 * Partition  a block owns the four gate rows of `units` units, as forward does; a thread four k against the rows of one slice of
 *            those units and `batch` batch rows (plan.h)
 * Barrier    one grid barrier a step but the last: a block sends partial dh for every unit before it and sums up what it received
 *            for its own units after it; two exchanges in turn (bwd_persistent.cuh)
 * Operands   16 multiply-adds for each 16-byte read of dgates from shared memory; four rows of W_hh are loaded ahead of the one that
 *            is multiplied. A slice of units costs 32 bytes of partial sums per element of dh; the planner weighs both
 * Limits     float32; state and dgates of a block's elements fit shared memory
 * Measured   not yet measured
 */
#include "bwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) bwd_l2<resident, batch, threads>,
PERSISTENT_KERNEL(bwd_l2, BackwardPass)
{ // on a line of its own: persistent.cuh
    bwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(bwd_l2, BackwardPass, BWD_L2_TILES(T))
