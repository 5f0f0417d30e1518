/* fwd_reg: persistent forward recurrence, w_hh in registers, then shared memory, then streamed.
 * Idea       against smem: the largest memory of a GPU is its register file (256 KB per SM, more than its shared memory), and a
 *            weight in a register costs no read at all
 * Residency  a thread keeps the first `resident` of its `depth` steps of k in 4 * resident registers, [k] of four gates, 16 *
 *            resident * threads bytes per block; then `shared` steps in shared memory, [k][slice][unit] of four gates; the rest is
 *            streamed from L2. At H = 200 on 13 blocks (K20) and H = 650 on 130 all of W_hh is in registers; at H = 1500 on 125
 *            blocks registers and shared memory hold it together. Beside them c, x_proj of the step, mask bits, two chunks of h
 * Partition  a block owns the four gate rows of `units` units, a warp consecutive units of one or more slices of k, a thread one
 *            unit, one slice of k and `batch` batch rows (plan.h). The loop over registers is unrolled; an instance with more steps
 *            than a plan's depth multiplies zeros there, which costs time and changes no sum
 * Barrier    one grid barrier a step but the last: a block publishes h_t of its units before it and reads h_t of all blocks of its
 *            replica after it; two exchanges in turn (fwd_persistent.cuh)
 * Operands   batch/4 16-byte reads of h for 4 * batch multiply-adds, none of w. Groups split the batch over threads that hold the
 *            same weights: half the slices, hence half the partial sums, for twice the registers
 * Not built  Words that are their own flags (word_exchange.cuh). Staging by cp.async would race with the producers'
 *            relaxed stores, and staging through registers needs some where the tiles use up to 253 of 255
 * Limits     float32; units * groups <= threads of the tile
 * Measured   not yet measured
 */
#include "fwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) fwd_reg<resident, chunk, batch, threads>,
PERSISTENT_KERNEL(fwd_reg, ForwardPass)
{ // on a line of its own: persistent.cuh
    fwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(fwd_reg, ForwardPass, FWD_REG_TILES(T))
