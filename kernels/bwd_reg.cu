/* bwd_reg: persistent backward recurrence with w_hh in registers, then in shared memory; the rest
 * is streamed.
 * Idea       Compared with smem: a weight in a register needs no read at all. A block has the same
 *            rows of W_hh as in fwd_reg; only their division among the threads is transposed.
 * Residency  A thread keeps `resident` units of its slice in 16 * resident registers, laid out as
 *            [unit][gate] of four k. The next `shared` units are in shared memory, laid out as
 *            [unit][gate][k / 4] of four k. The rest is streamed from L2. At H = 200 on a K20, all
 *            of W_hh is in registers. Shared memory also holds dgates, state and mask bits of the
 *            block's elements.
 * Partition  A block owns the four gate rows of `units` units, as in the forward pass. A thread
 *            computes four k from the rows of one slice of those units, for `batch` batch rows
 *            (plan.h). If an instance has more resident units than a slice, it multiplies zeros
 *            there.
 * Barrier    There is one grid barrier per step, except at the last. Before it, a block sends
 *            partial dh for every unit; after it, the block adds up what it received for its own
 *            units. Two exchange buffers alternate (bwd_persistent.cuh).
 * Operands   A thread reads dgates in batch/4 words of 16 bytes, which all lanes of a slice share,
 *            for 4 * batch multiply-adds, and no w. Only one row of streamed weights is in flight
 *            at a time, since resident weights need the registers.
 * Not built  Words that are their own flags (word_exchange.cuh). The exchange holds partial dh of
 *            every block, and 32 buffers of it take 108 MB at H = 650, more than L2 holds.
 * Limits     float32; state and dgates of a block's elements must fit in shared memory
 * Measured   not yet measured. Predicted for an H200, B 20, float32, without the launch: 1.39 us
 *            per step at H 200, 3.32 at H 650 and 11.19 at H 1500. */
#include "bwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) bwd_reg<resident, batch, threads>,
PERSISTENT_KERNEL(bwd_reg, BackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(bwd_reg, BackwardPass, BWD_REG_TILES(T))
