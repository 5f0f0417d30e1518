/* reduce: sums and maxima over a block in a fixed order: the same bits in every run, whatever the schedule.
 *
 * Through shared memory rather than shuffles: one code for sm_35 to sm_90, and the tree is the same for every
 * warp width. A tree of log2(threads) barriers costs a few hundred cycles; kernels call it once or twice per
 * block. */
#ifndef PLSTM_REDUCE_CUH
#define PLSTM_REDUCE_CUH

#include <kernels/dev_memory.cuh>

struct Add {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

/* Ignores a NaN, as fmaxf does; the sums that follow carry it. */
struct Max {
    __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

struct Min {
    __device__ __forceinline__ int operator()(int a, int b) const { return a < b ? a : b; }
};

/* op over the x of all threads, for all of them. blockDim.x is a power of two; scratch (blockDim.x) may be
 * used again after the call. All threads of the block must come. */
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
