/* bwd_cluster: persistent backward recurrence on tensor cores within one thread-block cluster,
 * sm_90.
 * Idea       A reduce-scatter within the cluster. A block keeps forward's rows of W_hh, so its
 *            dgates never leave it; it sends each block what those rows add to the dh of that
 *            block's units. At H = 650 this takes half the bytes of gathering bf16 dgates
 *            (PERFORMANCE 2).
 * Residency  Of a warp's depth * quads transposed A tiles, 512 bytes each, the first `resident` of
 *            depth are in registers and the rest in shared memory; w_tiles is transposed as it is
 *            loaded, once per launch. `quads` of the plan, `stacked` of tiles.h and STACKED are one
 *            number, the m tiles of a warp. Nothing is streamed. Shared memory also holds the
 *            partial dh of all producers twice, 4 * blocks * units * rows bytes each; dgates twice,
 *            2 * 4 * units * batch bytes each in bf16; and eight floats of state per element.
 * Partition  Block p owns the units from p * units on: units/4 contraction tiles of 16 gate rows in
 *            bf16, units/2 of 8 in tf32. Warp g has `quads` m tiles of 16 k from g * quads on,
 *            against all of the block's contraction, so no sum crosses warps. A thread has every
 *            threads-th element (unit, row).
 * Barrier    no grid barrier. Exchange n carries the partial dh for step T-1-n: each block sends
 *            every block (and itself) four batch rows of a unit at a time, 16 bytes of float32, by
 *            st.async, after the __syncthreads that follows its reads of exchange n-1. Two buffers
 *            and two mbarriers alternate, as cluster.cuh proves. A block receives
 *            cluster_step_bytes per step. That __syncthreads is the only one, since dgates have two
 *            buffers and masks are drawn two steps ahead. A warp with several m tiles sends the
 *            first half of them while it multiplies the second. The part of the cell that does not
 *            depend on dh is computed before the wait.
 * Sums       Partial dh of even producers are added upwards, then those of odd ones; within a
 *            producer the order is the tensor core's, with contraction tiles upwards.
 * Limits     sm_90, bf16 and tf32; the weights must fit in the registers and shared memory of 16
 *            blocks; at most `batch` rows per cluster
 * Left out   Fetching state by threads other than its owners: this needs a barrier, and hides work
 *            that the flight of the stores already hides.
 * Measured   not yet measured. Predicted for an H200, B 20, bf16, without the launch: 0.37 us per
 *            step at H 200, bound by its chain of latencies; and 0.83 at H 650, bound by the tensor
 *            cores (PERFORMANCE 4). Estimates for the earlier loop with two barriers: 0.50 and
 *            1.05-1.3. */
#include "bwd_cluster.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    bwd_cluster<PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(bwd_cluster, ClusterBackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(bwd_cluster, ClusterBackwardPass, BWD_CLUSTER_TILES(M))
