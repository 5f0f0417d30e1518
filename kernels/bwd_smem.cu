/* bwd_smem: persistent backward recurrence, w_hh in shared memory.
 * Idea       against l2: each block loads its rows of W_hh once per launch and reads them from shared memory at every step; what
 *            does not fit is streamed from L2, so that every H runs. The kernels are bwd_l2's, whose loop over weights in shared
 *            memory l2's own plans leave empty
 * Residency  `shared` of a thread's `depth` units in shared memory, 64 bytes per unit and thread, [unit][gate][k / 4] of four k, so
 *            that a warp reads whole lines without bank conflicts; beside them dgates, state and mask bits of the block's elements.
 *            The other units' rows come from L2
 * Partition  a block owns the four gate rows of `units` units, as forward does; a thread four k against the rows of one slice of
 *            those units and `batch` batch rows (plan.h)
 * Barrier    one grid barrier a step but the last: a block sends partial dh for every unit before it and sums up what it received
 *            for its own units after it; two exchanges in turn (bwd_persistent.cuh)
 * Operands   one 16-byte read of w and batch/4 of dgates for 4 * batch multiply-adds; of streamed weights four rows are loaded ahead.
 *            A slice of units costs 32 bytes of partial sums per element of dh
 * Limits     float32; state and dgates of a block's elements fit shared memory
 * Measured   not yet measured
 */
#include "persistent.cuh"

PERSISTENT_PASS_OF(bwd_smem, bwd_l2, LstmBackward)
