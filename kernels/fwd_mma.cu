/* fwd_mma: persistent forward recurrence on tensor cores, w_hh as rounded fragments in registers.
 * Idea       against reg: a tensor core multiplies a fragment of 16 x 16 weights by 8 batch rows in one instruction, and bfloat16
 *            halves what has to be resident: H = 1500 fits the registers of 125 SMs, H = 650 those of 41, three times over
 * Residency  a warp keeps `resident` k tiles of each of its `stacked` row tiles in 4 registers per lane and tile, 16 * resident *
 *            stacked * threads bytes per block (H = 1500, bf16: 12 * 3 tiles, 144 KB of 256), then `shared` k tiles in shared memory,
 *            then the rest from L2 at every step. tf32 has twice the tiles, rounded from w_hh as they are loaded. c, x_proj of the
 *            step and mask bits in shared memory
 * Partition  a block owns units * 4 gate rows as units/4 row tiles; a warp some of them against a slice of k; a thread the elements
 *            (unit, batch row) j, j + threads, ... of the cell
 * Barrier    h in B operands, published by each block once a step; a warp waits only for the blocks whose units lie in its slice, and
 *            loads h from L2 straight into registers (fwd_mma.cuh says why that is enough). By flags: two buffers in turn, a word per
 *            block released behind the data. By words, which the planner prefers: 32 buffers, every data word its own flag, no
 *            fence (word_exchange.cuh)
 * Operands   8 bytes of h per lane for each k tile and 8 batch rows, `stacked` products each; batch padded to 8 with zeros, which no
 *            lane loads
 * Limits     sm_80 and up, bf16 and tf32; units per block: a multiple of 4, at most 4 * stacked * warps
 * Measured   not yet measured. Predicted for H = 1500, B = 20 in bf16 on an H200: 2.22 us a step by flags, 1.85 by words
 */
#include "fwd_mma.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    fwd_mma<EXCHANGE_FLAG, PRECISION_##precision, stacked, resident, batch, threads>,              \
        fwd_mma<EXCHANGE_WORDS, PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(fwd_mma, MmaForwardPass)
{ // on a line of its own: persistent.cuh
    fwd_mma_loop<TILE...>(a);
}
PERSISTENT_PASS(fwd_mma, MmaForwardPass, FWD_MMA_TILES(M))
