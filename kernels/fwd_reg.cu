/* fwd_reg: persistent forward recurrence with w_hh in registers, then in shared memory; the rest is
 * streamed.
 * Idea       Compared with smem: the register file is the largest memory of a GPU (256 KB per SM,
 *            more than its shared memory), and a weight in a register needs no read at all.
 * Residency  Of its `depth` steps of k, a thread keeps the first `resident` in 4 * resident
 *            registers, laid out as [k] of four gates: 16 * resident * threads bytes per block. The
 *            next `shared` steps are in shared memory, laid out as [k][slice][unit] of four gates.
 *            The rest is streamed from L2. At H = 200 on 13 blocks (K20) and at H = 650 on 130, all
 *            of W_hh is in registers; at H = 1500 on 125 blocks, registers and shared memory hold
 *            it together. Shared memory also holds c, the step's x_proj, mask bits and two chunks
 *            of h.
 * Partition  A block owns the four gate rows of `units` units. A warp computes consecutive units of
 *            one or more slices of k, a thread one unit, one slice of k and `batch` batch rows
 *            (plan.h). The loop over registers is unrolled. If an instance has more resident steps
 *            than the plan's depth, it multiplies zeros there, which costs time and changes no sum.
 * Barrier    There is one grid barrier per step, except at the last. Before it, a block publishes
 *            h_t of its units; after it, the block reads h_t of all blocks of its replica. Two
 *            exchange buffers alternate (fwd_persistent.cuh).
 * Operands   A thread reads h in batch/4 words of 16 bytes for 4 * batch multiply-adds, and no w.
 *            Groups divide the batch among threads that hold the same weights: they need half the
 *            slices, and therefore half the partial sums, for twice the registers.
 * Not built  Words that are their own flags (word_exchange.cuh). Staging by cp.async would race
 *            with the producers' relaxed stores; staging through registers would need more of
 *            them, and the tiles already use up to 253 of 255.
 * Limits     float32; units * groups <= threads of the tile
 * Measured   not yet measured. Predicted for an H200, B 20, float32, without the launch: 1.27 us
 *            per step at H 200, 2.84 at H 650 and 9.50 at H 1500. */
#include "fwd_persistent.cuh"

#define T(resident, chunk, batch, threads, registers) fwd_reg<resident, chunk, batch, threads>,
PERSISTENT_KERNEL(fwd_reg, ForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(fwd_reg, ForwardPass, FWD_REG_TILES(T))
