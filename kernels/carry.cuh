/* carry: copies the rows of the carried state in blocks of a kernel that has another purpose. */
#ifndef PLSTM_CARRY_CUH
#define PLSTM_CARRY_CUH

#include <stdint.h>

#include <cuda_runtime.h>

#include "layers.h"

/* Returns how many blocks of `threads` threads copy the rows, one element per thread. */
static __host__ __device__ inline int64_t carry_blocks(const CarriedRows &c, int64_t threads)
{
    return c.rows * ((c.n + threads - 1) / threads);
}

/* Copies the elements of block `block` of carry_blocks(c, threads). */
static __device__ __forceinline__ void carry_rows(const CarriedRows &c, int64_t block,
                                                  int64_t threads)
{
    int64_t each = (c.n + threads - 1) / threads, row = block / each,
            i = (block - row * each) * threads + threadIdx.x;
    if (i < c.n) c.to[row * c.to_pitch + i] = c.from[row * c.from_pitch + i];
}

#endif
