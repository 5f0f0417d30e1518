/* bwd_smem: persistent backward recurrence with w_hh in shared memory.
 * Idea       Compared with l2: each block loads its rows of W_hh once per launch and reads them
 *            from shared memory at every step. What does not fit is streamed from L2, so that every
 *            H runs. The kernels are those of bwd_l2; l2's own plans leave their loop over weights
 *            in shared memory empty.
 * Residency  Of a thread's `depth` units, `shared` are in shared memory: 64 bytes per unit and
 *            thread, laid out as [unit][gate][k / 4] of four k, so that a warp reads whole lines
 *            without bank conflicts. Shared memory also holds dgates, state and mask bits of the
 *            block's elements. The other units' rows come from L2.
 * Partition  A block owns the four gate rows of `units` units, as in forward. A thread computes
 *            four k from the rows of one slice of those units, for `batch` batch rows (plan.h).
 * Barrier    There is one grid barrier per step, except at the last. Before it, a block sends
 *            partial dh for every unit; after it, the block sums what it received for its own
 *            units. Two exchange buffers alternate (bwd_persistent.cuh).
 * Operands   A thread reads 16 bytes of w once and of dgates batch/4 times for 4 * batch
 *            multiply-adds; four rows of streamed weights are loaded ahead. A slice of units costs
 *            32 bytes of partial sums per element of dh.
 * Limits     float32; state and dgates of a block's elements must fit in shared memory
 * Measured   not yet measured. Predicted for an H200, B 20, float32, without the launch: 1.38 us
 *            per step at H 200, 3.78 at H 650 and 10.70 at H 1500. */
#include "persistent.cuh"

PERSISTENT_PASS_OF(bwd_smem, bwd_l2, LstmBackward)
