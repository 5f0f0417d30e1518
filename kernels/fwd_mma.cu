/* fwd_mma: persistent forward recurrence on tensor cores, w_hh as rounded fragments in registers.
 * Idea       against reg: a tensor core multiplies a fragment of 16 x 16 weights by 8 batch rows in one instruction, and bfloat16
 *            halves what has to be resident: H = 1500 fits the registers of 125 SMs, H = 650 those of 41, three times over
 * Residency  a warp keeps `resident` k tiles of each of its `stacked` row tiles in 4 registers a lane each: 16 resident stacked
 *            threads bytes a block (H = 1500, bf16: 12 * 3 tiles, 144 KB of 256), then `shared` k tiles in shared memory, then the
 *            rest from L2 at every step. tf32 has twice the tiles, rounded from w_hh as they are loaded; c in shared memory
 * Partition  a block owns units*4 gate rows as units/4 row tiles; a warp some of them against a slice of k; a thread the elements
 *            (unit, batch row) j, j + threads, ... of the cell
 * Barrier    h in B operands, double-buffered, published by each block once a step; a warp waits only for the blocks whose units
 *            lie in its slice, and loads h from L2 straight into registers (fwd_mma.cuh says why that is enough)
 * Operands   8 bytes of h a lane for each k tile and 8 batch rows, `stacked` products each; batch padded to 8 with zeros
 * Limits     sm_80 and up, bf16 and tf32; units a block: a multiple of 4, at most 4 stacked warps
 * Measured   not yet measured
 */
#include "fwd_mma.cuh"
#include "tiles.h"
#include "variants.h"

template <int PRECISION, int STACKED, int RESIDENT, int BATCH, int THREADS>
__global__ void __launch_bounds__(THREADS, 1) fwd_mma(MmaForwardArgs a)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    fwd_mma_loop<PRECISION, STACKED, RESIDENT, BATCH / TENSOR_BATCH>(a);
#endif
}

#define M(precision, stacked, resident, batch, threads, registers)                                           \
    fwd_mma<PRECISION_##precision, stacked, resident, batch, threads>,
static const MmaForwardKernel kernels[] = {FWD_MMA_TILES(M)};
#undef M

extern "C" cudaError_t fwd_mma_prepare(void) { return mma_forward_prepare(kernels); }

extern "C" cudaError_t fwd_mma_resident(const LstmPlan *plan, int *blocks)
{
    return mma_resident(kernels[plan->tile], plan, blocks);
}

extern "C" cudaError_t fwd_mma_run(const LstmContext *context, const LstmForward *p)
{
    return mma_forward_run(kernels, context, p);
}
