/* fwd_smem: persistent forward recurrence, w_hh in shared memory.
 * Idea       against l2: each block loads its rows of W_hh once per launch and reads them from shared memory at every step; what
 *            does not fit is streamed from L2, so that every H runs. The kernels are fwd_l2's, whose loop over weights in shared
 *            memory l2's own plans leave empty
 * Residency  `shared` of a thread's `depth` steps of k in shared memory, 16 * shared * slices * units bytes per block,
 *            [k][slice][unit] of four gates, so that a warp reads whole lines without bank conflicts; beside them c, x_proj of the
 *            step, mask bits and two chunks of h. The other steps of k come from L2. `plstm plan` prints the share
 * Partition  a block owns the four gate rows of `units` units, a warp consecutive units of one or more slices of k, a thread one
 *            unit, one slice of k and `batch` batch rows (plan.h)
 * Barrier    one grid barrier a step but the last: a block publishes h_t of its units before it and reads h_t of all blocks of its
 *            replica after it; two exchanges in turn (fwd_persistent.cuh)
 * Operands   one 16-byte read of w and batch/4 of h for 4 * batch multiply-adds: with 4 rows two reads for 16, with 20 six for 80. A
 *            weight serves all rows of a thread, so that a pass costs units * H reads of w and units * H * rows/4 of h. A slice costs
 *            32 bytes of partial sums per element
 * Limits     float32; units * groups <= threads of the tile
 * Measured   not yet measured
 */
#include "persistent.cuh"

PERSISTENT_PASS_OF(fwd_smem, fwd_l2, LstmForward)
