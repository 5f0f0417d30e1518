/* constants: kernels that measure the machine rather than a program: the cost of copies,
 * multiplications, launches and waits on this GPU. bench_gpu times them and checks their
 * results. */
#ifndef PLSTM_BENCH_CONSTANTS_H
#define PLSTM_BENCH_CONSTANTS_H

#include <stdint.h>

#include <cuda_runtime_api.h>

#include "kernels/lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A function with a stream enqueues on it and returns the error of the launch; its pointers are
 * device memory. errors must be zero before a run. */

/* Launches an empty kernel, to measure the cost of a launch. */
cudaError_t constants_empty(cudaStream_t stream);

/* Keeps the stream busy for about `cycles` of an SM's clock, so that the host gets ahead, and
 * records that SM's clock. */
typedef struct ClockSample {
    unsigned long long cycles, nanoseconds;
} ClockSample;
cudaError_t constants_delay(cudaStream_t stream, unsigned cycles, ClockSample *out);

/* Copies from (n) to to (n), 16 bytes per thread at a time; n must be a multiple of 4. */
cudaError_t constants_copy(cudaStream_t stream, int blocks, int64_t n, const float *from,
                           float *to);

/* Every thread of `blocks` blocks runs rounds * CONSTANTS_FMA multiply-adds x = a * x + b in
 * CONSTANTS_CHAINS independent chains and writes their sum to out (blocks * CONSTANTS_THREADS). */
enum { CONSTANTS_THREADS = 256, CONSTANTS_CHAINS = 8, CONSTANTS_FMA = 128 };
cudaError_t constants_fma(cudaStream_t stream, int blocks, int rounds, float a, float b,
                          float *out);

/* Every warp of `blocks` blocks of CONSTANTS_THREADS threads runs rounds * CONSTANTS_CHAINS
 * tensor-core products of ones, from and to registers, into CONSTANTS_CHAINS accumulators of 16x8:
 * bfloat16 (16x16 by 16x8) or TF32 (16x8 by 8x8). Each thread writes one element of their sum to
 * out (blocks * CONSTANTS_THREADS). Needs sm_80; returns cudaErrorNotSupported on older GPUs. */
cudaError_t constants_mma(cudaStream_t stream, int tf32, int blocks, int rounds, float *out);

/* One warp runs `rounds` products of bfloat16 ones into one accumulator, so that each waits for the
 * previous one, and each thread writes its sum to out (32). */
cudaError_t constants_mma_chain(cudaStream_t stream, int rounds, float *out);

/* Runs `rounds` barriers of `blocks` resident blocks. Before each barrier a block writes its round
 * to its slot of `slots` (2,blocks), and after it checks its neighbour's slot; errors counts the
 * wrong values. state (2 + blocks) must be zero. kind 0: one counter, to which blocks add after a
 * fence and which they poll with acquire loads; 1: a flag per block, which block 0 gathers before
 * it releases one word; 2: cooperative groups' grid.sync; 3: kernels/grid_barrier.cuh, whose waits
 * report to *fault. */
enum { CONSTANTS_BARRIERS = 4 };
cudaError_t constants_barrier(cudaStream_t stream, int kind, int blocks, int rounds,
                              unsigned *state, unsigned *slots, FaultRecord *fault,
                              unsigned *errors);

/* Runs `rounds` broadcasts: block 0 writes `words` words (a multiple of 4) of buffer (2,words),
 * then after a barrier of kernels/grid_barrier.cuh all blocks read them from L2 and check them;
 * errors counts the wrong words. If `read` is 0, no block reads them. state (2 + blocks) must be
 * zero. */
cudaError_t constants_broadcast(cudaStream_t stream, int blocks, int rounds, int words, int read,
                                unsigned *state, unsigned *buffer, FaultRecord *fault,
                                unsigned *errors);

/* Two blocks on different SMs pass a word back and forth `rounds` times, which are 2 * rounds hops
 * from store.release to load.acquire; the word written before each flag must be that hop's. flags
 * (64) must be zero; elements 0 and 32 are used. */
cudaError_t constants_hops(cudaStream_t stream, int rounds, unsigned *flags, unsigned *payload,
                           unsigned *errors);

/* Sets *blocks to how many blocks of constants_barrier can be resident at once, at most one per
 * SM. */
cudaError_t constants_resident(int *blocks);

/* ---- clusters: need sm_90 ---- */

/* Sets *clusters to how many clusters of `size` blocks of CONSTANTS_THREADS threads can be resident
 * at once, with `shared` bytes of dynamic shared memory per block. Call it before the other
 * functions with that size and those bytes. */
cudaError_t constants_clusters(int *clusters, int size, size_t shared);

/* Runs `rounds` barriers in each of `clusters` clusters of `size` blocks with `shared` bytes each.
 * At every 16th barrier each block checks its neighbour's word; errors counts the wrong words. */
cudaError_t constants_cluster_barrier(cudaStream_t stream, int clusters, int size, size_t shared,
                                      int rounds, unsigned *errors);

/* Passes a word `rounds` times around the `size` blocks of one cluster; each hop is an asynchronous
 * store and the wait for its mbarrier. */
cudaError_t constants_cluster_hops(cudaStream_t stream, int size, int rounds, unsigned *errors);

/* One thread follows `rounds` links of a ring through the shared memory of the next of `size`
 * blocks, so that each load depends on the previous one. */
cudaError_t constants_cluster_loads(cudaStream_t stream, int size, int rounds, unsigned *errors);

/* Runs `rounds` all-gathers: each block of each cluster sends its part of `words` words to every
 * block of its cluster, including itself, and waits for all parts, by asynchronous stores of 16 or
 * of 4 bytes or by one bulk copy to each block. Every 16th round is checked. words must be a
 * multiple of 4 * size, and shared at least 16 * words + 64. */
enum { GATHER_STORES, GATHER_WORDS, GATHER_BULK, GATHERS };
cudaError_t constants_gather(cudaStream_t stream, int kind, int clusters, int size, size_t shared,
                             int rounds, int words, unsigned *errors);

/* The same as constants_broadcast, but into shared memory by bulk copies: each block of a cluster
 * copies its part of the words to all blocks of the cluster at once, so that a cluster reads them
 * from L2 once. words must be a multiple of 4 * size; shared at least 4 * words + 256; state
 * (2 + clusters * size). */
cudaError_t constants_broadcast_bulk(cudaStream_t stream, int clusters, int size, size_t shared,
                                     int rounds, int words, int read, unsigned *state,
                                     unsigned *buffer, FaultRecord *fault, unsigned *errors);

#ifdef __cplusplus
}
#endif

#endif
