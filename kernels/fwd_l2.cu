/* fwd_l2: persistent forward recurrence, w_hh read again at every step.
 * Idea       against cublas: one launch for all steps, fused cell and masks, a barrier of our own in place of 2T kernel
 *            boundaries. Against smem and reg it is the control that isolates residency: the same loop and the same exchange, but no
 *            weight stays on chip
 * Residency  c, x_proj of the step, mask bits and two chunks of h in shared memory; 4 * batch floats of partial sums in a thread's
 *            registers. W_hh comes from L2 at every step and pass, 16 * H * units bytes per block, 16 bytes a load that no L1 keeps
 * Partition  a block owns the four gate rows of `units` units, a warp consecutive units of one or more slices of k, a thread one
 *            unit, one slice of k and `batch` batch rows (plan.h)
 * Barrier    one grid barrier a step but the last: a block publishes h_t of its units before it and reads h_t of all blocks of its
 *            replica after it; two exchanges in turn (fwd_persistent.cuh)
 * Operands   16 multiply-adds for each 16-byte read of h from shared memory, 4 * batch for each 16-byte read of w from L2: the
 *            planner takes wide tiles, so that each weight that is read serves many rows. A slice costs 32 bytes of partial sums per
 *            element, so slices are few; the planner weighs both
 * Limits     float32; units * groups <= threads of the tile
 * Measured   not yet measured
 */
#include "fwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) fwd_l2<resident, chunk, batch, threads>,
PERSISTENT_KERNEL(fwd_l2, ForwardPass)
{ // on a line of its own: persistent.cuh
    fwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(fwd_l2, ForwardPass, FWD_L2_TILES(T))
