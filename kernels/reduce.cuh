/* reduce: sums and maxima over a block in a fixed order, which gives the same bits in every run,
 * whatever the schedule.
 *
 * They go through shared memory rather than shuffles: the code is the same from sm_35 to sm_90, and
 * the tree does not depend on the warp width. A tree of log2(threads) barriers costs a few hundred
 * cycles; kernels call it once or twice per block. */
#ifndef PLSTM_REDUCE_CUH
#define PLSTM_REDUCE_CUH

#include <kernels/dev_memory.cuh>

struct Add {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

/* Ignores a NaN, as fmaxf does; the sums that follow propagate it. */
struct Max {
    __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

struct Min {
    __device__ __forceinline__ int operator()(int a, int b) const { return a < b ? a : b; }
};

/* Returns op over the x of all threads, to all of them. blockDim.x is a power of two; scratch
 * (blockDim.x) may be reused after the call. All threads of the block must call it. */
template <class T, class Op>
static __device__ __forceinline__ T block_reduce(T x, T *scratch, Op op)
{
    scratch[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            scratch[threadIdx.x] = op(scratch[threadIdx.x], scratch[threadIdx.x + half]);
        __syncthreads();
    }
    x = scratch[0];
    __syncthreads();
    return x;
}

#endif
