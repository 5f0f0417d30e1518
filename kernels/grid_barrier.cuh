/* grid_barrier: all blocks of a group meet at every step of a persistent kernel. It is hand-written
 * because sm_35 has no cooperative groups, and because only a barrier in two halves lets a block
 * work between its own arrival and that of the others.
 *
 * State      There is one word per block in device memory, which counts the barriers at which that
 *            block has arrived since the words were zeroed, modulo 2^32. No other block writes it,
 *            so a missing block can be named. The words outlive launches and graph replays: a
 *            launch starts from the count that it finds in its own word, which is the same in every
 *            block of a group.
 * Arrive     barrier_arrive is called after a __syncthreads and releases the block's writes before
 *            that together with its word.
 * Wait       In barrier_wait each thread polls the words of other blocks. When all have arrived,
 *            everything that those blocks wrote before they arrived is visible to every thread of
 *            this block. Words are compared by signed difference: a block that is one step ahead
 *            has arrived too.
 * Cost       One hop, from store to load through L2. Reading all words takes a warp one to five
 *            loads.
 * Failure    A wait times out after poll_limit polls of one word, or soon after another block has
 *            timed out. The first block of the grid to do so writes the fault record; barrier_wait
 *            returns false in all threads and the caller leaves at once. Nothing traps, so the
 *            context and the weights survive. The blocks must be co-resident: the planner ensures
 *            this (host/plan/residency.c), and it is checked before the first launch.
 * Callers    All threads of a block must call it: never within a condition that some of them may
 *            not enter. */
#ifndef PLSTM_GRID_BARRIER_CUH
#define PLSTM_GRID_BARRIER_CUH

#include <stdint.h>

#include <kernels/dev_barrier.cuh>
#include "lstm.h"

struct GridBarrier {
    uint32_t *words; /* (blocks) of this group */
    uint32_t blocks, self;
    uint32_t first; /* number of this group's block 0 in the grid, for the record */
    uint32_t count; /* barriers at which this block has arrived */
    uint32_t limit;
    uint32_t *timed_out; /* shared: set once this block has timed out */
    FaultRecord *fault;
};

/* Polls between two reads of the fault record, which another block may have written. */
enum { BARRIER_FAULT_EVERY = 1024 };

/* Sets up the barrier for a launch; `timed_out` is a word of the block's shared memory. Returns,
 * after a __syncthreads, whether no fault is recorded: a launch after one that timed out does
 * nothing. The blocks of one launch may disagree if a fault is being recorded at that moment; those
 * that continue then time out at their next wait. */
static __device__ __forceinline__ bool barrier_open(GridBarrier *b, uint32_t *words,
                                                    uint32_t blocks, uint32_t self, uint32_t first,
                                                    uint32_t limit, uint32_t *timed_out,
                                                    FaultRecord *fault)
{
    b->words = words, b->blocks = blocks, b->self = self, b->first = first;
    b->count = load_poll(&words[self]);
    b->limit = limit, b->timed_out = timed_out, b->fault = fault;
    if (threadIdx.x == 0) *timed_out = load_poll(&fault->set);
    __syncthreads();
    return *timed_out == 0;
}

/* Call after a __syncthreads that follows the writes to publish. */
static __device__ __forceinline__ void barrier_arrive(GridBarrier *b)
{
    b->count++;
    if (threadIdx.x == 0) store_release(&b->words[b->self], b->count);
}

static __device__ __forceinline__ bool barrier_behind(uint32_t word, uint32_t count)
{
    return (int32_t)(word - count) < 0;
}

static __device__ __forceinline__ void barrier_missing(const GridBarrier &b, uint32_t block)
{
    uint32_t at = b.first + block;
    if (at < 256) b.fault->missing[at / 32] |= 1u << at % 32;
}

/* One thread writes the record, unless another thread of the grid was first. Returns how many
 * blocks have not arrived, or -1 if another thread was first. */
static __device__ __forceinline__ int32_t barrier_report(const GridBarrier &b, uint32_t step)
{
    if (atomicCAS(&b.fault->set, 0u, 1u) != 0) return -1;
    uint32_t seen = b.count;
    int32_t missing = 0;
    for (uint32_t p = 0; p < b.blocks; p++) {
        uint32_t word = load_poll(&b.words[p]);
        if (!barrier_behind(word, b.count)) continue;
        if (missing++ == 0) seen = word;
        barrier_missing(b, p);
    }
    b.fault->block = b.first + b.self, b.fault->step = step;
    b.fault->expected = b.count, b.fault->seen = seen;
    return missing;
}

/* Returns whether a wait that has polled `polls` times should time out. */
static __device__ __forceinline__ bool poll_timed_out(const GridBarrier &b, uint32_t polls)
{
    bool others =
        polls % BARRIER_FAULT_EVERY == BARRIER_FAULT_EVERY - 1 && load_poll(&b.fault->set);
    return others || (b.limit && poll_expired(polls, b.limit));
}

/* Waits until the blocks first, first + step, ... before `end` have arrived as often as this one,
 * or sets *timed_out. */
static __device__ __forceinline__ void barrier_watch(const GridBarrier &b, uint32_t first,
                                                     uint32_t end, uint32_t step,
                                                     uint32_t *timed_out)
{
    for (uint32_t p = first; p < end; p += step)
        for (uint32_t n = 0; barrier_behind(load_watch(&b.words[p]), b.count); n++)
            if (poll_timed_out(b, n)) {
                atomicExch(timed_out, 1u);
                break;
            }
    if (first < end) watch_acquire();
}

/* Call after the __syncthreads that follows barrier_watch. Returns false in every thread if any
 * thread of the block timed out; thread 0 has then written the record, step included. */
static __device__ __forceinline__ bool barrier_sound(const GridBarrier &b,
                                                     const uint32_t *timed_out, uint32_t step)
{
    if (!*timed_out) return true;
    if (threadIdx.x == 0) barrier_report(b, step);
    return false;
}

/* Waits until every block of the group has arrived as often as this one. `step` is for the
 * record. */
static __device__ __forceinline__ bool barrier_wait(GridBarrier *b, uint32_t step)
{
    barrier_watch(*b, threadIdx.x, b->blocks, blockDim.x, b->timed_out);
    __syncthreads();
    return barrier_sound(*b, b->timed_out, step);
}

#endif
