/* fwd_l2: persistent forward recurrence that reads w_hh again at every step.
 * Idea       Compared with cublas: one launch for all steps, with fused cell and masks, and a
 *            barrier of our own instead of 2T kernel boundaries. Compared with smem and reg it is
 *            the control that isolates residency: the loop and the exchange are the same, but no
 *            weight stays on chip.
 * Residency  Shared memory holds c, the step's x_proj, mask bits and two chunks of h; a thread's
 *            registers hold 4 * batch floats of partial sums. W_hh is read from L2 at every step
 *            and pass: 16 * H * units bytes per block, 16 bytes per load, none of it cached in L1.
 * Partition  A block owns the four gate rows of `units` units. A warp computes consecutive units of
 *            one or more slices of k, a thread one unit, one slice of k and `batch` batch rows
 *            (plan.h).
 * Barrier    There is one grid barrier per step, except at the last. Before it, a block publishes
 *            h_t of its units; after it, the block reads h_t of all blocks of its replica. Two
 *            exchange buffers alternate (fwd_persistent.cuh).
 * Operands   A thread does 16 multiply-adds per 16-byte read of h from shared memory and 4 * batch
 *            per 16-byte read of w from L2, so the planner prefers wide tiles, in which each weight
 *            that is read serves many rows. A slice costs 32 bytes of partial sums per element,
 *            which favours few slices; the planner weighs both.
 * Limits     float32; units * groups <= threads of the tile
 * Measured   not yet measured. Predicted for an H200, B 20, float32, without the launch: 1.88 us
 *            per step at H 200, 4.15 at H 650 and 12.66 at H 1500. */
#include "fwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) fwd_l2<resident, chunk, batch, threads>,
PERSISTENT_KERNEL(fwd_l2, ForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(fwd_l2, ForwardPass, FWD_L2_TILES(T))
