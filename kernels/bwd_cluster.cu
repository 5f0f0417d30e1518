/* bwd_cluster: persistent backward recurrence on tensor cores inside one thread-block cluster, sm_90.
 * Idea       a reduce-scatter inside the cluster: a block keeps forward's rows of W_hh, so that its dgates never leave it, and sends
 *            each block what those rows add to the dh of its units: half the bytes of gathering bf16 dgates at H = 650
 *            (PERFORMANCE 2)
 * Residency  of a warp's depth * quads transposed A tiles, 512 bytes each, the first `resident` of depth in registers, the rest in
 *            shared memory; w_tiles is transposed as it is loaded, once a launch. Nothing is streamed. In shared memory also partial
 *            dh of all producers twice, 4 * blocks * units * rows bytes each; dgates twice, 2 * 4 * units * batch bytes in bf16;
 *            eight floats of state per element
 * Partition  block p owns the units from p * units on: units/4 contraction tiles of 16 gate rows in bf16, units/2 of 8 in tf32. Warp
 *            g has `quads` m tiles of 16 k from g * quads on, against all of the block's contraction: no sum crosses warps. A thread
 *            has every threads-th element (unit, row)
 * Barrier    none of the grid. Exchange n carries the partial dh for step T-1-n: each block sends every block (and itself) four batch
 *            rows of a unit at a time, 16 bytes of float32, by st.async, behind the __syncthreads that follows its reads of
 *            exchange n-1; two buffers and two mbarriers in turn, as cluster.cuh proves. A block receives cluster_step_bytes a step.
 *            That __syncthreads is the only one: dgates have two buffers, and masks are drawn two steps ahead. A warp with several
 *            m tiles sends the first half of them while it multiplies the second; what of the cell does not depend on dh is ready
 *            before the wait
 * Sums       what arrives from even producers upwards, then from odd ones; within a producer the tensor core's, contraction tiles
 *            upwards
 * Limits     sm_90, bf16 and tf32; weights that registers and shared memory of 16 blocks hold; at most `batch` rows per cluster
 * Left out   state fetched by other threads than its owners': a barrier, for work that the flight of the stores hides
 * Measured   not yet. Predicted (PERFORMANCE 4, B 20, bf16): 0.37 us a step at H 200, bound by its chain of latencies, and 0.83 at
 *            H 650, by the tensor cores; the two-barrier loop before it 0.50 and 1.05-1.3
 */
#include "bwd_cluster.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    bwd_cluster<PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(bwd_cluster, ClusterBackwardPass)
{ // on a line of its own: persistent.cuh
    bwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(bwd_cluster, ClusterBackwardPass, BWD_CLUSTER_TILES(M))
