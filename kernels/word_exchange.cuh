/* word_exchange: the exchange whose data words are their own flags: no fence, no flag and no second trip at a step. EXCHANGE_WORDS of
 * a plan; EXCHANGE_FLAG publishes the same words by grid_barrier.cuh.
 *
 * Words      32 bits of h or dgates. Each has one owner, a thread that alone writes it. WORD_EMPTY says that the value of this step has
 *            not come: no finite float32 or tf32 value and no pair of finite bfloat16 has those bits, and word_of_* send a NaN as
 *            another one, so that a run that diverged comes to its end. Words without an owner are zero for good.
 * Buffers    WORD_BUFFERS take turns: the n-th exchange of a launch (n = 0, 1, ...) goes through buffer n % WORD_BUFFERS.
 * Send       store_relaxed, as soon as a word is computed.
 * Receive    A warp looks at one word of each producer until it is there, then loads all words (load_relaxed) and multiplies. A
 *            word that was not there yet is a NaN, and leaves one in every sum of its column: then, and only then, the warp waits for
 *            each of its words (settle) and multiplies again. So each word validates itself, which is why relaxed accesses suffice: no
 *            word has to be seen because another one was.
 * Reset      That an empty word is empty, and not one of WORD_BUFFERS exchanges before, does take order. The owner empties its words of
 *            all buffers before the first exchange, and those of buffer n + WORD_BUFFERS/2 right after it sent exchange n, when everybody
 *            has read what was there: a block sends n after it has received n - 1 of all blocks, which they sent after they had
 *            received n - 2. The grid barrier makes resets known: once before exchange 0, behind the loading of the weights, and from exchange
 *            WORD_BUFFERS - WORD_SPAN/2 on by an arrival every WORD_SPAN exchanges, which is waited for WORD_SPAN/2 exchanges later, when it
 *            has long come. A launch of up to WORD_BUFFERS exchanges has none of that. tests/litmus/word_exchange.litmus has the proof, and
 *            self_validating.litmus what a reset just two buffers ahead would take: a fence at every step.
 * Between    Every launch begins with its own resets, so that nothing of a launch before it matters: its length, its batch, whether it gave up.
 * Failure    As grid_barrier.cuh; the record names the blocks that have sent too little. */
#ifndef PLSTM_WORD_EXCHANGE_CUH
#define PLSTM_WORD_EXCHANGE_CUH

#include <kernels/dev_tensor.cuh>

#include "grid_barrier.cuh"
#include "mma.h"
#include "tensor.cuh"

static const uint32_t WORD_EMPTY = 0xffffffffu;
enum { WORD_SPAN = 8 };

/* ---- what is done at exchange n of 0 .. last ---- */

/* The buffer to empty after exchange n was sent, or -1. */
static __device__ __forceinline__ int32_t word_reset(int32_t n, int32_t last)
{
    bool again = n >= WORD_BUFFERS / 2 && n + WORD_BUFFERS / 2 <= last;
    return again ? (n + WORD_BUFFERS / 2) % WORD_BUFFERS : -1;
}

/* Whether the block arrives after it has sent exchange n, and whether it waits for that before it reads exchange n. */
static __device__ __forceinline__ bool word_arrives(int32_t n, int32_t last)
{
    return n >= WORD_BUFFERS - WORD_SPAN / 2 && n % WORD_SPAN == WORD_SPAN / 2 &&
           n + WORD_SPAN / 2 <= last;
}
static __device__ __forceinline__ bool word_waits(int32_t n)
{
    return n == 0 || (n >= WORD_BUFFERS && n % WORD_SPAN == 0);
}

/* ---- values ---- */

#if DEV_ARCH == 0 || DEV_ARCH >= 800

static __device__ __forceinline__ uint32_t word_of_tf32(float x)
{
    return x == x ? tf32_round(x) : 0x7fc00000u;
}
static __device__ __forceinline__ uint32_t word_of_bf16(float low, float high)
{
    uint32_t word = tensor_pair(low, high);
    if (low != low) word = (word & 0xffff0000u) | 0x7fc0u;
    if (high != high) word = (word & 0xffffu) | 0x7fc00000u;
    return word;
}

#endif

/* ---- waiting ---- */

/* One thread: until *word is there; sets *timed_out where it gives up. */
static __device__ __forceinline__ void word_watch(const GridBarrier &b, const uint32_t *word,
                                                  uint32_t *timed_out)
{
    for (uint32_t looks = 0; poll_relaxed(word) == WORD_EMPTY; looks++)
        if (barrier_tired(b, looks)) {
            atomicExch(timed_out, 1u);
            break;
        }
}

#endif
