/* fwd_mma: persistent forward recurrence on tensor cores, with w_hh as rounded fragments in
 * registers.
 * Idea       Compared with reg: a tensor core multiplies a fragment of 16 x 16 weights by 8 batch
 *            rows in one instruction, and bfloat16 halves the memory that has to be resident.
 *            H = 1500 fits in the registers of 125 SMs; H = 650 fits in those of 41, so 132 SMs
 *            hold it three times.
 * Residency  A warp keeps `resident` k tiles of each of its `stacked` row tiles in registers, 4 per
 *            lane and tile: 16 * resident * stacked * threads bytes per block (H = 1500, bf16:
 *            12 * 3 tiles, 144 KB of 256). The next `shared` k tiles are in shared memory, and the
 *            rest comes from L2 at every step. tf32 has twice as many tiles, rounded from w_hh as
 *            they are loaded. Shared memory also holds c, the step's x_proj and mask bits.
 * Partition  A block owns units * 4 gate rows as units/4 row tiles. A warp multiplies some of them
 *            by a slice of k; a thread computes the elements (unit, batch row) j, j + threads, ...
 *            of the cell.
 * Barrier    Each block publishes h, as B operands, once per step. A warp waits only for the blocks
 *            whose units lie in its slice and loads h from L2 straight into registers (fwd_mma.cuh
 *            shows why that suffices). The exchange by flags has two alternating buffers and a word
 *            per block, released after the data. The exchange by words, which the planner prefers,
 *            has 32 buffers; every data word is its own flag, and there is no fence
 *            (word_exchange.cuh).
 * Operands   A lane loads 8 bytes of h per k tile and 8 batch rows, for `stacked` products. The
 *            batch is padded to a multiple of 8 with zeros, which no lane loads.
 * Limits     sm_80 and up, bf16 and tf32; units per block: a multiple of 4, at most
 *            4 * stacked * warps
 * Measured   not yet measured. Predicted for an H200, B 20, bf16, without the launch: 0.72 us per
 *            step at H 200, 0.87 at H 650 and 1.89 at H 1500. Flags instead of words would add 730
 *            clocks (PERFORMANCE 5). */
#include "fwd_mma.cuh"

#define M(precision, stacked, resident, batch, threads, registers)                                 \
    fwd_mma<EXCHANGE_FLAG, PRECISION_##precision, stacked, resident, batch, threads>,              \
        fwd_mma<EXCHANGE_WORDS, PRECISION_##precision, stacked, resident, batch, threads>,
PERSISTENT_KERNEL(fwd_mma, MmaForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_mma_loop<TILE...>(a);
}
PERSISTENT_PASS(fwd_mma, MmaForwardPass, FWD_MMA_TILES(M))
