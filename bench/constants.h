/* constants: kernels that measure a machine rather than a program: what copies, multiplications, launches and
 * waits cost on this GPU. Each checks what it computed; bench_gpu times them. */
#ifndef PLSTM_BENCH_CONSTANTS_H
#define PLSTM_BENCH_CONSTANTS_H

#include <stdint.h>

#include <cuda_runtime_api.h>

#include "kernels/lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All enqueue on the stream and return the launch's error. Pointers are device memory. */

/* Does nothing: what a launch costs by itself. */
cudaError_t constants_empty(cudaStream_t stream);

/* Keeps the stream busy for about `cycles` of an SM's clock, so that the host gets ahead, and writes what that SM's
 * clock did meanwhile. */
typedef struct ClockSample {
    unsigned long long cycles, nanoseconds;
} ClockSample;
cudaError_t constants_delay(cudaStream_t stream, unsigned cycles, ClockSample *out);

/* to (n) = from (n), 16 bytes a thread, n a multiple of 4. */
cudaError_t constants_copy(cudaStream_t stream, int blocks, int64_t n, const float *from,
                           float *to);

/* Every thread of `blocks` blocks runs `rounds` * CONSTANTS_FMA multiply-adds in CONSTANTS_CHAINS independent
 * chains, x = a x + b, and writes their sum to out (blocks * CONSTANTS_THREADS). */
enum { CONSTANTS_THREADS = 256, CONSTANTS_CHAINS = 8, CONSTANTS_FMA = 128 };
cudaError_t constants_fma(cudaStream_t stream, int blocks, int rounds, float a, float b,
                          float *out);

/* Every warp of `blocks` blocks of CONSTANTS_THREADS runs `rounds` * CONSTANTS_CHAINS products of tensor cores on ones, out of and into
 * registers, into CONSTANTS_CHAINS accumulators of 16x8: bfloat16 (16x16 by 16x8) or TF32 (16x8 by 8x8). Writes an element of their sum per
 * thread to out (blocks * CONSTANTS_THREADS). Needs sm_80: cudaErrorNotSupported below. */
cudaError_t constants_mma(cudaStream_t stream, int tf32, int blocks, int rounds, float *out);

/* One warp runs `rounds` products of bfloat16 ones into one accumulator, each waiting for the one before, and writes a sum per thread to
 * out (32). */
cudaError_t constants_mma_chain(cudaStream_t stream, int rounds, float *out);

/* `rounds` barriers of `blocks` resident blocks; before each, a block writes its round to its slot of `slots`
 * (2,blocks) and after it looks at its neighbour's; errors counts what was wrong. state (2 + blocks) must be
 * zero. kind 0: one counter, arrive by an atomic add with release, wait by acquire; 1: a flag per block,
 * block 0 gathers them and releases one word; 2: cooperative groups' grid.sync; 3: kernels/grid_barrier.cuh,
 * whose waits report to *fault. */
enum { CONSTANTS_BARRIERS = 4 };
cudaError_t constants_barrier(cudaStream_t stream, int kind, int blocks, int rounds,
                              unsigned *state, unsigned *slots, FaultRecord *fault,
                              unsigned *errors);

/* `rounds` times: block 0 writes `words` words (a multiple of 4) of buffer (2,words), a barrier of kernels/grid_barrier.cuh, all
 * blocks read them from L2 and check them; errors counts what was wrong. words 0: the barrier alone. state (2 + blocks) must be
 * zero. */
cudaError_t constants_broadcast(cudaStream_t stream, int blocks, int rounds, int words,
                                unsigned *state, unsigned *buffer, FaultRecord *fault,
                                unsigned *errors);

/* Two blocks on different SMs hand a word to and fro `rounds` times, 2 * rounds hops, each store.release to
 * load.acquire; the word before each flag must be that hop's. flags (64), zero before: 0 and 32 are used. */
cudaError_t constants_hops(cudaStream_t stream, int rounds, unsigned *flags, unsigned *payload,
                           unsigned *errors);

/* Blocks of constants_barrier that can be resident at once. */
cudaError_t constants_resident(int *blocks);

/* ---- clusters: need sm_90 ---- */

/* Clusters of `size` blocks of CONSTANTS_THREADS that can be resident at once, with `shared` bytes of dynamic shared memory a block. Once
 * before the others of that size and those bytes. */
cudaError_t constants_clusters(int *clusters, int size, size_t shared);

/* `rounds` barriers of each of `clusters` clusters of `size` blocks that have `shared` bytes each. Every 16th is checked by a neighbour's
 * word; errors counts what was wrong. */
cudaError_t constants_cluster_barrier(cudaStream_t stream, int clusters, int size, size_t shared,
                                      int rounds, unsigned *errors);

/* `rounds` times a word goes once round the `size` blocks of one cluster, each hop an asynchronous store and the wait for its mbarrier. */
cudaError_t constants_cluster_hops(cudaStream_t stream, int size, int rounds, unsigned *errors);

/* One thread follows `rounds` links of a ring through the shared memory of the next of `size` blocks: loads that wait for each other. */
cudaError_t constants_cluster_loads(cudaStream_t stream, int size, int rounds, unsigned *errors);

/* `rounds` times each block of each cluster sends its part of `words` words to every block of its cluster, itself too, and waits for the
 * whole: by asynchronous stores of 16 or of 4 bytes, or by one bulk copy to each block. Every 16th is checked. words: a multiple of
 * 4 * size; shared: at least 16 * words + 64. */
enum { GATHER_STORES, GATHER_WORDS, GATHER_BULK, GATHERS };
cudaError_t constants_gather(cudaStream_t stream, int kind, int clusters, int size, size_t shared,
                             int rounds, int words, unsigned *errors);

/* As constants_broadcast, into shared memory by bulk copies: each block of a cluster copies its part of the words to all blocks of the
 * cluster at once, so that a cluster reads them from L2 once. words: a multiple of 4 * size, or 0; shared: at least 4 * words + 256;
 * state (2 + clusters * size). */
cudaError_t constants_broadcast_bulk(cudaStream_t stream, int clusters, int size, size_t shared,
                                     int rounds, int words, unsigned *state, unsigned *buffer,
                                     FaultRecord *fault, unsigned *errors);

#ifdef __cplusplus
}
#endif

#endif
