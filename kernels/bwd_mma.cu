/* bwd_mma: persistent backward recurrence on tensor cores, with the transpose of w_hh as rounded
 * fragments in registers.
 * Idea       Compared with fwd_mma: backward multiplies by the transpose, whose contraction runs
 *            over 4H gate rows. If every block of the grid gathered all dgates, this would move
 *            four times forward's bytes; so the contraction is split over the blocks of a small
 *            cluster, whose partial dh are summed in shared memory. Compared with bwd_reg: no
 *            float32 partial sum crosses L2.
 * Residency  A warp keeps `resident` contraction tiles of each of its `stacked` m tiles in
 *            registers, 4 per lane and tile: 16 * resident * stacked * threads bytes per block. The
 *            next `shared` tiles are in shared memory, and the rest comes from L2. bf16 transposes
 *            forward's tiles as it loads them, once per launch (movmatrix); tf32 reads w_hh and
 *            rounds it. Shared memory also holds eight floats of state per element and the slices'
 *            partial sums.
 * Partition  A cluster owns cluster * units units, 16 per m tile, and each of its blocks one part
 *            of the gate rows. A warp multiplies some m tiles by a slice of that part; a thread
 *            computes the elements (unit, batch row) j, j + threads, ... of the cell.
 * Barrier    Each block publishes dgates, as B operands, once per step, by flags or by words as in
 *            forward (fwd_mma.cu). A warp waits only for the blocks whose gates lie in its slice.
 *            The blocks of a cluster send each other partial sums by st.async, which mbarriers
 *            count (bwd_mma.cuh).
 * Operands   A lane loads 8 bytes of dgates per contraction tile and 8 batch rows, for `stacked`
 *            products.
 * Limits     sm_80 and up, clusters sm_90 and up; bf16 and tf32; units of a cluster: a multiple of
 *            16, at most 16 * stacked * warps
 * Measured   not yet measured. Predicted for an H200, B 20, bf16, without the launch: 0.82 us per
 *            step at H 200, 1.22 at H 650 and 2.31 at H 1500. Flags instead of words would add 730
 *            clocks (PERFORMANCE 5). Clusters of 2, 3 or 5 instead of 4 would use 132, 126 or 125
 *            SMs instead of 96 at H 1500 but gain nothing on paper: either the m tiles of 16 units
 *            are padded, so that the products per SM stay the same, or the work needs one more than
 *            the 24 clusters of 5 that fit. */
#include "bwd_mma.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    bwd_mma<EXCHANGE_FLAG, PRECISION_##precision, stacked, resident, batch, threads>,              \
        bwd_mma<EXCHANGE_WORDS, PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(bwd_mma, MmaBackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_mma_loop<TILE...>(a);
}
PERSISTENT_PASS(bwd_mma, MmaBackwardPass, BWD_MMA_TILES(M))
