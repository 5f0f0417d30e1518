/* bwd_reg: persistent backward recurrence, w_hh in registers, then shared memory, then streamed.
 * Idea       against smem: a weight in a register costs no read at all. A block has the same rows of W_hh as in fwd_reg; only how
 *            threads share them is transposed
 * Residency  a thread keeps `resident` units of its slice in 16 * resident registers, [unit][gate] of four k, then `shared` units in
 *            shared memory, [unit][gate][k / 4] of four k; the rest is streamed from L2. At H = 200 on a K20 all of W_hh is in
 *            registers. Beside them dgates, state and mask bits of the block's elements in shared memory
 * Partition  a block owns the four gate rows of `units` units, as forward does; a thread four k against the rows of one slice of
 *            those units and `batch` batch rows (plan.h). An instance with more resident units than a slice has multiplies zeros
 * Barrier    one grid barrier a step but the last: a block sends partial dh for every unit before it and sums up what it received
 *            for its own units after it; two exchanges in turn (bwd_persistent.cuh)
 * Operands   batch/4 16-byte reads of dgates, which all lanes of a slice share, for 4 * batch multiply-adds; none of w. One row of
 *            streamed weights is on its way at a time: registers are for what stays
 * Not built  Words that are their own flags (word_exchange.cuh): the exchange holds partial dh of every block, and 32 buffers of
 *            it take 108 MB at H = 650, more than L2 holds
 * Limits     float32; state and dgates of a block's elements fit shared memory
 * Measured   not yet measured
 */
#include "bwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) bwd_reg<resident, batch, threads>,
PERSISTENT_KERNEL(bwd_reg, BackwardPass)
{ // on a line of its own: persistent.cuh
    bwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(bwd_reg, BackwardPass, BWD_REG_TILES(T))
