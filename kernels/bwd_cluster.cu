/* bwd_cluster: persistent backward recurrence on tensor cores inside one thread-block cluster, sm_90.
 * Idea       fwd_cluster's twin as a reduce-scatter: a block keeps forward's rows of W_hh, so that its dgates never leave it, and
 *            sends each block what those rows add to the dh of its units: half the bytes of gathering bf16 dgates at H = 650
 *            (PERFORMANCE 2)
 * Residency  as fwd_cluster, of the transposed tiles: of a warp's depth*quads tiles the first `resident` of depth in registers, the
 *            rest in shared memory; w_tiles is transposed as it is loaded, once a launch. Partial dh of all producers twice,
 *            4*blocks*units*rows bytes each; dgates, 2*4*units*batch bytes in bf16; eight floats an element of state
 * Partition  block p owns units p*units ..: units/4 contraction tiles of 16 gate rows in bf16, units/2 of 8 in tf32. Warp g has
 *            `quads` m tiles of 16 k from g*quads on, against all of the block's contraction: no sum crosses warps. A thread has
 *            every threads-th element (unit, row)
 * Barrier    none of the grid. Exchange n carries the partial dh for step T-1-n: each block sends every block (and itself) four batch
 *            rows of a unit at a time, 16 bytes of float32, by st.async, behind the __syncthreads that follows its reads of
 *            exchange n-1; two buffers and two mbarriers in turn, as cluster.cuh proves. A block gets cluster_step_bytes a step
 * Sums       what arrives in the order producer 0 upwards; within a producer the tensor core's, contraction tiles upwards
 * Limits     as fwd_cluster
 * Measured   not yet measured
 */
#include "bwd_cluster.cuh"
#include "tiles.h"
#include "variants.h"

template <int PRECISION, int QUADS, int RESIDENT, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) bwd_cluster(ClusterBackwardArgs a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    bwd_cluster_loop<PRECISION, QUADS, RESIDENT, BATCH / TENSOR_BATCH>(a);
#endif
}

#define M(precision, stacked, resident, batch, threads, registers)                                           \
    bwd_cluster<PRECISION_##precision, stacked, resident, batch, threads>,
static const ClusterBackwardKernel kernels[] = {BWD_CLUSTER_TILES(M)};
#undef M

extern "C" cudaError_t bwd_cluster_prepare(void) { return cluster_backward_prepare(kernels); }

extern "C" cudaError_t bwd_cluster_resident(const LstmPlan *plan, int *blocks)
{
    return cluster_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t bwd_cluster_run(const LstmContext *context, const LstmBackward *p)
{
    return cluster_backward_run(kernels, context, p);
}
