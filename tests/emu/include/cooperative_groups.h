/* The part of cooperative_groups that persistent kernels use: the grid, the block, tiles of a
 * warp. */
#ifndef EMU_COOPERATIVE_GROUPS_H
#define EMU_COOPERATIVE_GROUPS_H

#include "cuda_runtime.h"

namespace cooperative_groups
{

struct grid_group {
    bool is_valid() const { return emu_grid_is_cooperative() != 0; }
    EMU_INLINE_MEMBER void sync(EMU_AT) const { emu_gridsync(file, line); }
    unsigned long long size() const
    {
        return (unsigned long long)gridDim.x * gridDim.y * gridDim.z * blockDim.x * blockDim.y *
               blockDim.z;
    }
    unsigned long long num_threads() const { return size(); }
    unsigned long long num_blocks() const
    {
        return (unsigned long long)gridDim.x * gridDim.y * gridDim.z;
    }
    unsigned long long block_rank() const
    {
        return blockIdx.x + (unsigned long long)gridDim.x *
                                (blockIdx.y + (unsigned long long)gridDim.y * blockIdx.z);
    }
    unsigned long long thread_rank() const
    {
        return block_rank() * (blockDim.x * blockDim.y * blockDim.z) +
               (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    }
    dim3 group_dim() const { return gridDim; }
};
static inline grid_group this_grid() { return grid_group(); }

struct thread_block {
    EMU_INLINE_MEMBER void sync(EMU_AT) const { emu_syncthreads(file, line); }
    unsigned size() const { return blockDim.x * blockDim.y * blockDim.z; }
    unsigned num_threads() const { return size(); }
    unsigned thread_rank() const
    {
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    }
    dim3 group_index() const { return blockIdx; }
    dim3 thread_index() const { return threadIdx; }
    dim3 group_dim() const { return blockDim; }
    dim3 dim_threads() const { return blockDim; }
};
static inline thread_block this_thread_block() { return thread_block(); }

template <unsigned N> struct thread_block_tile {
    static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0,
                  "a tile is a power of two within a warp");
    unsigned rank;
    thread_block_tile() : rank(this_thread_block().thread_rank()) {}
    unsigned mask() const
    {
        return (N == 32 ? 0xffffffffu : ((1u << (N & 31)) - 1u)) << ((rank & 31u) & ~(N - 1u));
    }
    unsigned thread_rank() const { return rank & (N - 1u); }
    static constexpr unsigned size() { return N; }
    static constexpr unsigned num_threads() { return N; }
    unsigned meta_group_rank() const { return rank / N; }
    unsigned meta_group_size() const { return (this_thread_block().size() + N - 1) / N; }
    EMU_INLINE_MEMBER void sync(EMU_AT) const { __syncwarp(mask(), file, line); }
    template <class T> EMU_INLINE_MEMBER T shfl(T v, int lane, EMU_AT) const
    {
        return __shfl_sync(mask(), v, lane, N, file, line);
    }
    template <class T> EMU_INLINE_MEMBER T shfl_up(T v, unsigned d, EMU_AT) const
    {
        return __shfl_up_sync(mask(), v, d, N, file, line);
    }
    template <class T> EMU_INLINE_MEMBER T shfl_down(T v, unsigned d, EMU_AT) const
    {
        return __shfl_down_sync(mask(), v, d, N, file, line);
    }
    template <class T> EMU_INLINE_MEMBER T shfl_xor(T v, unsigned m, EMU_AT) const
    {
        return __shfl_xor_sync(mask(), v, (int)m, N, file, line);
    }
    EMU_INLINE_MEMBER int any(int p, EMU_AT) const { return __any_sync(mask(), p, file, line); }
    EMU_INLINE_MEMBER int all(int p, EMU_AT) const { return __all_sync(mask(), p, file, line); }
    EMU_INLINE_MEMBER unsigned ballot(int p, EMU_AT) const
    {
        return (__ballot_sync(mask(), p, file, line) & mask()) >> ((rank & 31u) & ~(N - 1u));
    }
};
template <unsigned N> static inline thread_block_tile<N> tiled_partition(const thread_block &)
{
    return thread_block_tile<N>();
}

EMU_INLINE void sync(const grid_group &g, EMU_AT) { g.sync(file, line); }
EMU_INLINE void sync(const thread_block &b, EMU_AT) { b.sync(file, line); }

} // namespace cooperative_groups

#endif
