/* fwd_smem: persistent forward recurrence with w_hh in shared memory.
 * Idea       Compared with l2: each block loads its rows of W_hh once per launch and reads them
 *            from shared memory at every step. What does not fit is streamed from L2, so that every
 *            H runs. The kernels are those of fwd_l2; l2's own plans leave their loop over weights
 *            in shared memory empty.
 * Residency  Of a thread's `depth` steps of k, `shared` are in shared memory:
 *            16 * shared * slices * units bytes per block, laid out as [k][slice][unit] of four
 *            gates, so that a warp reads whole lines without bank conflicts. Shared memory also
 *            holds c, the step's x_proj, mask bits and two chunks of h. The other steps of k come
 *            from L2. `plstm plan` prints the shares.
 * Partition  A block owns the four gate rows of `units` units. A warp computes consecutive units of
 *            one or more slices of k, a thread one unit, one slice of k and `batch` batch rows
 *            (plan.h).
 * Barrier    There is one grid barrier per step, except at the last. Before it, a block publishes
 *            h_t of its units; after it, the block reads h_t of all blocks of its replica. Two
 *            exchange buffers alternate (fwd_persistent.cuh).
 * Operands   A thread reads 16 bytes of w once and of h batch/4 times for 4 * batch multiply-adds:
 *            two reads for 16 with 4 rows, six for 80 with 20. A weight serves all rows of a
 *            thread, so a pass costs units * H reads of w and units * H * rows/4 of h. A slice
 *            costs 32 bytes of partial sums per element.
 * Limits     float32; units * groups <= threads of the tile
 * Measured   not yet measured. Predicted for an H200, B 20, float32, without the launch: 1.32 us
 *            per step at H 200, 2.95 at H 650 and 9.21 at H 1500. */
#include "persistent.cuh"

PERSISTENT_PASS_OF(fwd_smem, fwd_l2, LstmForward)
