/* fwd_cluster: persistent forward recurrence on tensor cores inside one thread-block cluster, sm_90.
 * Idea       against mma: a cluster of at most 16 blocks holds all of W_hh for H up to 650 in bf16, so that h_t goes straight
 *            into the shared memory of those who read it: one store of 0.13 us instead of a hop through L2 of 0.65 us (models,
 *            PERFORMANCE 1), and no barrier wider than a block between two steps. The batch is split over as many clusters as the
 *            GPU holds: fewer rows each make the exchange shorter
 * Residency  of a warp's depth * quads A tiles of W_hh, 512 bytes each, the first `resident` of depth in registers, the rest in
 *            shared memory: 8H^2/blocks bytes per block in bf16, 16H^2/blocks in tf32, and the padding to tiles of 16x16 (16x8).
 *            Nothing is streamed. In shared memory also h twice, 2 * batch * H bytes each in bf16, and c, x_proj and gates of the
 *            block's units * rows elements
 * Partition  block p of a cluster owns the units from p * units on, a multiple of 4: units/4 row tiles of 16 gate rows. Warp s *
 *            groups + g has `quads` row tiles from g * quads on against the k tiles from s * depth on; a thread has every threads-th
 *            element (unit, row). A cut of k costs 2 * slices * units * rows * 16 bytes of shared memory for partial sums
 * Barrier    none of the grid. Exchange n carries h_n: each block sends its units to every block (and to itself) by st.async, in
 *            words of two units in bf16, of one in tf32, behind the __syncthreads that follows its reads of h_{n-1}; two buffers
 *            and two mbarriers in turn. cluster.cuh proves that no buffer is overwritten too early. A block receives
 *            cluster_step_bytes a step: rows that exist, units that exist; the padding is zero from the start
 * Sums       in the order slice 0 upwards onto x_proj + biases; within a slice the tensor core's, k tiles upwards. Cells,
 *            x_proj and saved tensors are float32; h is rounded where it is sent, never where it is saved
 * Limits     sm_90, bf16 and tf32; weights that registers and shared memory of 16 blocks hold; at most `batch` rows per cluster
 * Measured   not yet measured
 */
#include "fwd_cluster.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    fwd_cluster<PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(fwd_cluster, ClusterForwardPass)
{ // on a line of its own: persistent.cuh
    fwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(fwd_cluster, ClusterForwardPass, FWD_CLUSTER_TILES(M))
