/* fwd_cluster: persistent forward recurrence on tensor cores within one thread-block cluster,
 * sm_90.
 * Idea       Compared with mma: a cluster of at most 16 blocks holds all of W_hh for H up to 650 in
 *            bf16, so h_t is stored straight into the shared memory of the blocks that read it: one
 *            store of 0.13 us instead of a hop through L2 of 0.65 us (models, PERFORMANCE 1). There
 *            is no barrier between two steps: a warp waits for h_{t-1}, multiplies its own rows of
 *            W_hh by it, has all four gates of its units in registers, and sends. The batch is
 *            split over as many clusters as the GPU holds: the fewer rows each has, the shorter the
 *            exchange.
 * Residency  Of a warp's depth * quads A tiles of W_hh, 512 bytes each, the first `resident` of
 *            depth are in registers and the rest in shared memory: 8 * H^2 / blocks bytes per block
 *            in bf16, 16 * H^2 / blocks in tf32, plus the padding to tiles of 16 x 16 (16 x 8).
 *            `quads` of the plan, `stacked` of tiles.h and STACKED are one number, the row tiles of
 *            a warp. Nothing is streamed. Shared memory also holds h twice, 2 * batch * H bytes
 *            each in bf16; c, x_proj, gates and mask bits are in registers.
 * Partition  Block p of a cluster owns the units from p * units on, a multiple of 4, as units/4 row
 *            tiles of 16 gate rows. Warp g has `quads` row tiles from g * quads on, against all of
 *            k. A thread has one element (unit, row) of each row tile and batch tile, from its
 *            fetch to its last store.
 * Barrier    none. Exchange n carries h_n: each warp sends its units to every block (and to its
 *            own) by st.async, 16 bytes of four units at a time, after the __syncwarp that follows
 *            its reads of h_{n-1}. Two buffers and two mbarriers alternate; cluster.cuh proves that
 *            no buffer is overwritten too early. A block receives cluster_step_bytes per step: only
 *            existing rows, units in groups of four; the padding is zero.
 * Sums       Within a chain, the order is the tensor core's, with k tiles upwards; the chains are
 *            added in pairs, then to x_proj + biases. Cells, x_proj and saved tensors are float32;
 *            h is rounded when it is sent, never when it is saved.
 * Limits     sm_90, bf16 and tf32; the weights must fit in the registers and shared memory of 16
 *            blocks; at most `batch` rows per cluster
 * Left out   Splitting k over warps: its sums cost two block barriers and 250-400 clocks. A wait
 *            weaker than acquire.cluster (20-50 clocks): nothing proves it correct. Two row tiles
 *            per warp at H 650: they halve the reads of B, but leave registers for only two thirds
 *            of the tiles.
 * Measured   not yet measured. Predicted for an H200, B 20, bf16, without the launch: 0.40 us per
 *            step at H 200, bound by its chain of latencies; and 0.90 at H 650, bound by reads of
 *            shared memory (PERFORMANCE 4). Estimates for the earlier loop with two barriers: 0.65
 *            and 1.0. */
#include "fwd_cluster.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    fwd_cluster<PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(fwd_cluster, ClusterForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(fwd_cluster, ClusterForwardPass, FWD_CLUSTER_TILES(M))
