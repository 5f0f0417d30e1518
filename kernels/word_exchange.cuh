/* word_exchange: an exchange whose data words are their own flags, so that a step contains no
 * fence, no flag and no second trip to L2. It is EXCHANGE_WORDS of a plan; EXCHANGE_FLAG publishes
 * the same words through grid_barrier.cuh.
 *
 * Words      A word is 32 bits of h or dgates. Each has one owner, the only thread that writes it.
 *            WORD_EMPTY means that the value of this step has not arrived: no finite float32 or
 *            tf32 value and no pair of finite bfloat16 values has those bits, and word_of_* send a
 *            NaN with other bits, so that a run that has diverged still finishes. Words without an
 *            owner keep the zeros of the new scratch memory (mma.h).
 * Buffers    WORD_BUFFERS = 32 buffers alternate: exchange n of a launch (n = 0, 1, ...) goes
 *            through buffer n % 32.
 * Send       The owner calls store_relaxed as soon as a word is computed.
 * Receive    A warp polls one word of each producer until it has arrived, then loads all words
 *            (load_relaxed) and multiplies. A word that has not arrived is a NaN and makes every
 *            sum of its column a NaN. Only in that case does the warp wait for each of its words
 *            (mma_settle) and multiply again. Each word thus validates itself, which is why relaxed
 *            accesses suffice: no reader concludes from one visible word that another is visible.
 * Reset      One thing does need ordering: a word that is read as empty must have been reset, and
 *            must not still hold the value of 32 exchanges before. The owner empties its words of
 *            all buffers before the first exchange, and, from n = 16 on, those of the buffer of
 *            exchange n + 16 right after it has sent exchange n. By then every block has read what
 *            that buffer held: it last held exchange n - 16, and all blocks have received n - 2,
 *            since each sent n - 1 after that, and the owner has received n - 1. The grid barrier
 *            makes the resets visible. For the first ones, blocks arrive before they load the
 *            weights and wait before they read exchange 0. From exchange 28 on
 *            (WORD_BUFFERS - WORD_SPAN/2), they arrive at every eighth exchange (WORD_SPAN) and
 *            wait four exchanges later, when the others have long arrived. A launch of up to 32
 *            exchanges needs no later reset and no later arrival.
 *            tests/litmus/word_exchange.litmus has the proof; self_validating.litmus shows that a
 *            reset only two buffers ahead would need a fence at every step.
 * Launches   Every launch begins with its own resets, so nothing of an earlier launch matters:
 *            neither its length nor its batch nor whether it timed out.
 * Failure    Waits time out and leave a record as in grid_barrier.cuh. The record names the blocks
 *            that have sent too little. */
#ifndef PLSTM_WORD_EXCHANGE_CUH
#define PLSTM_WORD_EXCHANGE_CUH

#include <kernels/dev_tensor.cuh>

#include "grid_barrier.cuh"
#include "mma.h"
#include "tensor.cuh"

static const uint32_t WORD_EMPTY = 0xffffffffu;
enum { WORD_SPAN = 8 }; /* exchanges between two arrivals */

/* ---- the schedule: what happens at exchange n of 0 to last ---- */

/* Returns the buffer to empty after exchange n was sent, or -1. */
static __device__ __forceinline__ int32_t word_reset(int32_t n, int32_t last)
{
    bool again = n >= WORD_BUFFERS / 2 && n + WORD_BUFFERS / 2 <= last;
    return again ? (n + WORD_BUFFERS / 2) % WORD_BUFFERS : -1;
}

/* word_arrives returns whether the block arrives at the grid barrier after it has sent exchange n;
 * word_waits, whether it waits there before it reads exchange n. */
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

/* One thread waits until *word has arrived, or sets *timed_out. */
static __device__ __forceinline__ void word_watch(const GridBarrier &b, const uint32_t *word,
                                                  uint32_t *timed_out)
{
    for (uint32_t polls = 0; poll_relaxed(word) == WORD_EMPTY; polls++)
        if (poll_timed_out(b, polls)) {
            atomicExch(timed_out, 1u);
            break;
        }
}

#endif
