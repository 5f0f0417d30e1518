/* bwd_mma: persistent backward recurrence on tensor cores, the transpose of w_hh as rounded fragments in registers.
 * Idea       against fwd_mma: what flows back is a product with the transpose, whose contraction runs over 4H gate rows; a grid in
 *            which every block gathers all dgates moves four times forward's bytes, so the contraction is cut over the blocks
 *            of a small cluster, and their partial dh meet in shared memory. Against bwd_reg: no float32 partial sum crosses L2
 * Residency  a warp keeps `resident` contraction tiles of each of its `stacked` m tiles in 4 registers per lane and tile, 16 *
 *            resident * stacked * threads bytes per block, then `shared` tiles in shared memory, then the rest from L2. bf16
 *            transposes forward's tiles once a launch as it loads them (movmatrix); tf32 reads w_hh and rounds it. Eight floats of
 *            state per element and the slices' partial sums in shared memory
 * Partition  a cluster owns cluster * units units, 16 to an m tile, a block of it one part of the gate rows, a warp some m tiles
 *            against a slice of that part, a thread the elements (unit, batch row) j, j + threads, ... of the cell
 * Barrier    dgates in B operands, published by each block once a step, by flags or by words as forward's; a warp waits only for the
 *            blocks whose gates lie in its slice. Blocks of a cluster send each other partial sums by st.async, which mbarriers count
 *            (bwd_mma.cuh)
 * Operands   8 bytes of dgates per lane for each contraction tile and 8 batch rows, `stacked` products each
 * Limits     sm_80 and up, clusters sm_90 and up; bf16 and tf32; units of a cluster: a multiple of 16, at most 16 * stacked * warps
 * Measured   not yet measured. Predicted for H = 1500, B = 20 in bf16 on an H200: 2.66 us a step by flags, 2.29 by words. Clusters of
 *            2, 3 or 5 in place of 4 let 132, 126 or 125 SMs work for 96, and pay nothing on paper: m tiles of 16 units are then
 *            padded, so that products per SM stay the same, or the 24 clusters of 5 that fit are one too few
 */
#include "bwd_mma.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    bwd_mma<EXCHANGE_FLAG, PRECISION_##precision, stacked, resident, batch, threads>,              \
        bwd_mma<EXCHANGE_WORDS, PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(bwd_mma, MmaBackwardPass)
{ // on a line of its own: persistent.cuh
    bwd_mma_loop<TILE...>(a);
}
PERSISTENT_PASS(bwd_mma, MmaBackwardPass, BWD_MMA_TILES(M))
