/* hooks: what a simulated program does at the grid barrier in addition to waiting. It records the
 * clock, may delay a block, and may leave out the wait. The compiler reads this file before the
 * kernel (-include), so the kernels need no code for it.
 *
 *   -DSIM_SKEW=N   before it arrives, each block spins 0 to 7 times N cycles, a different number at
 *                  every step; the result must still be right
 *   -DSIM_NO_WAIT  no block waits for the others; the result must be wrong */
#ifndef PLSTM_K20_SIM_HOOKS_CUH
#define PLSTM_K20_SIM_HOOKS_CUH

#include "kernels/grid_barrier.cuh"

/* Moments of a barrier, in clocks of the block's SMX. */
enum { STAMP_COMPUTED, STAMP_ARRIVED, STAMP_WAITS, STAMP_MET, STAMPS };
enum { STAMP_BLOCKS = 64, STAMP_STEPS = 16 };
__device__ unsigned sim_stamps[STAMP_BLOCKS][STAMP_STEPS][STAMPS]; /* [block][barrier][moment] */

static __device__ __forceinline__ unsigned sim_clock(void)
{
    unsigned now;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(now)::"memory");
    return now;
}

/* Records the clock at a moment of a barrier. Barriers are counted from 1, since the words were zero
 * before the launch. */
static __device__ __forceinline__ void sim_stamp(unsigned barrier, int moment)
{
    if (threadIdx.x == 0 && blockIdx.x < STAMP_BLOCKS && barrier < STAMP_STEPS)
        sim_stamps[blockIdx.x][barrier][moment] = sim_clock();
}

static __device__ __forceinline__ void sim_arrive(GridBarrier *b)
{
    sim_stamp(b->count + 1, STAMP_COMPUTED);
#if defined(SIM_SKEW)
    unsigned begin = sim_clock(), cycles = (blockIdx.x * 5 + b->count * 3) % 8 * SIM_SKEW;
    while (sim_clock() - begin < cycles) {
    }
    __syncthreads();
#endif
    barrier_arrive(b);
    sim_stamp(b->count, STAMP_ARRIVED);
}

static __device__ __forceinline__ bool sim_wait(GridBarrier *b, uint32_t step)
{
    sim_stamp(b->count, STAMP_WAITS);
#if defined(SIM_NO_WAIT)
    (void)step;
    __syncthreads();
    bool sound = true;
#else
    bool sound = barrier_wait(b, step);
#endif
    sim_stamp(b->count, STAMP_MET);
    return sound;
}

#define barrier_arrive sim_arrive
#define barrier_wait   sim_wait

#endif
