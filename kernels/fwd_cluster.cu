/* fwd_cluster: persistent forward recurrence on tensor cores inside one thread-block cluster, sm_90.
 * Idea       against mma: a cluster of at most 16 blocks holds all of W_hh for H up to 650 in bf16, so that h_t goes straight
 *            into the shared memory of those who read it: one store of 0.13 us instead of a hop through L2 of 0.65 us (models,
 *            PERFORMANCE 1). No barrier stands between two steps: a warp waits for h_{t-1}, multiplies its own rows of W_hh by it,
 *            has all four gates of its units in registers, and sends. The batch is split over as many clusters as the GPU holds:
 *            fewer rows each make the exchange shorter
 * Residency  of a warp's depth * quads A tiles of W_hh, 512 bytes each, the first `resident` of depth in registers, the rest in
 *            shared memory: 8H^2/blocks bytes per block in bf16, 16H^2/blocks in tf32, and the padding to tiles of 16x16 (16x8).
 *            Nothing is streamed. In shared memory also h twice, 2 * batch * H bytes each in bf16; c, x_proj, gates and mask bits
 *            are in registers
 * Partition  block p of a cluster owns the units from p * units on, a multiple of 4: units/4 row tiles of 16 gate rows. Warp g has
 *            `quads` row tiles from g * quads on against all of k; a thread has one element (unit, row) of each row tile and batch
 *            tile, from its fetch to its last store
 * Barrier    none. Exchange n carries h_n: each warp sends its units to every block (and to its own) by st.async, 16 bytes of four
 *            units at a time, behind the __syncwarp that follows its reads of h_{n-1}; two buffers and two mbarriers in turn.
 *            cluster.cuh proves that no buffer is overwritten too early. A block receives cluster_step_bytes a step: rows that
 *            exist, units by fours; the padding is zero
 * Sums       within a chain the tensor core's, k tiles upwards, chains by pairs, onto x_proj + biases. Cells, x_proj and saved
 *            tensors are float32; h is rounded where it is sent, never where it is saved
 * Limits     sm_90, bf16 and tf32; weights that registers and shared memory of 16 blocks hold; at most `batch` rows per cluster
 * Left out   a cut of k over warps: its sums cost two block barriers and 250-400 clocks; a wait weaker than acquire.cluster
 *            (20-50 clocks): nothing proves it; two row tiles a warp at H 650: half the reads of B, but registers for two thirds
 *            of the tiles
 * Measured   not yet. Predicted (PERFORMANCE 4, B 20, bf16): 0.40 us a step at H 200, bound by its chain of latencies, and 0.90 at
 *            H 650, by reads of shared memory; the two-barrier loop before it 0.65 and 1.0
 */
#include "fwd_cluster.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    fwd_cluster<PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(fwd_cluster, ClusterForwardPass)
{ // on a line of its own: persistent.cuh
    fwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(fwd_cluster, ClusterForwardPass, FWD_CLUSTER_TILES(M))
