/* bwd_mma: persistent backward recurrence on tensor cores, the transpose of w_hh as rounded fragments in registers.
 * Idea       against fwd_mma: what flows back is a product with the transpose, whose contraction runs over 4H gate rows; a grid in
 *            which every block gathers all dgates moves four times forward's bytes, so the contraction is cut over the blocks
 *            of a small cluster, and their partial dh meet in shared memory. Against bwd_reg: nothing of it crosses L2 in float32
 * Residency  as forward, 16 resident stacked threads bytes of fragments a block in registers (H = 1500 in bf16, clusters of 4 with
 *            64 units: 4 stacked * 12 contraction tiles a warp, of which shared memory holds what registers cannot), transposed
 *            once a launch out of forward's copy (movmatrix); tf32 reads w_hh and rounds it
 * Partition  a cluster owns cluster*units units, 16 to an m tile, a block of it one part of the gate rows, a warp some m tiles
 *            against a slice of that part, a thread the elements (unit, batch row) j, j + threads, ... of the cell
 * Barrier    dgates in B operands, double-buffered, published by each block once a step; a warp waits only for the blocks whose
 *            gates lie in its slice. In clusters one barrier of the cluster a step besides, none of the grid (bwd_mma.cuh)
 * Operands   8 bytes of dgates a lane for each contraction tile and 8 batch rows, `stacked` products each
 * Limits     sm_80 and up, clusters sm_90 and up; bf16 and tf32; units of a cluster: a multiple of 16, at most 16 stacked warps
 * Measured   not yet measured
 */
#include "bwd_mma.cuh"
#include "tiles.h"
#include "variants.h"

template <int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) bwd_mma(MmaBackwardArgs a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    bwd_mma_loop<PRECISION, STACKED, RESIDENT, BATCH / TENSOR_BATCH>(a);
#endif
}

#define M(precision, stacked, resident, batch, threads, registers)                                           \
    bwd_mma<PRECISION_##precision, stacked, resident, batch, threads>,
static const MmaBackwardKernel kernels[] = {BWD_MMA_TILES(M)};
#undef M

extern "C" cudaError_t bwd_mma_prepare(void) { return mma_backward_prepare(kernels); }

extern "C" cudaError_t bwd_mma_resident(const LstmPlan *plan, int *blocks)
{
    return mma_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t bwd_mma_run(const LstmContext *context, const LstmBackward *p)
{
    return mma_backward_run(kernels, context, p);
}
