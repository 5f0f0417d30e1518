/* Kernels of the emulator's own tests: each computes words with CUDA's device functions; the test
 * compares them with the expected values. */
#include "cooperative_groups.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"
#include "curand_kernel.h"

#include <kernels/dev_barrier.cuh>
#include <kernels/dev_cluster.cuh>
#include <kernels/dev_tensor.cuh>

#include "../../kernels/launch.cuh"
#include "device_kernels.h"

namespace cg = cooperative_groups;

__global__ void add_one_kernel(float *x, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] += 1.0f;
}
__global__ void shaped_kernel(float *x, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] += 1.0f;
}
__global__ void twice_kernel(float *x, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] *= 2.0f;
}

extern "C" cudaError_t kernel_add_one(float *x, int n, cudaStream_t stream)
{
    LaunchShape s = {dim3((unsigned)(n + 63) / 64), dim3(64), 0, stream, false};
    return launch(s, add_one_kernel, x, n);
}
extern "C" cudaError_t kernel_twice(float *x, int n, cudaStream_t stream)
{
    LaunchShape s = {dim3((unsigned)(n + 63) / 64), dim3(64), 0, stream, false};
    return launch(s, twice_kernel, x, n);
}
extern "C" cudaError_t kernel_shaped(float *x, int n, unsigned grid, unsigned block, size_t shared,
                                     int cooperative, cudaStream_t stream)
{
    LaunchShape s = {dim3(grid), dim3(block), shared, stream, cooperative != 0};
    return launch(s, shaped_kernel, x, n);
}
extern "C" cudaError_t kernel_clustered(float *x, int n, unsigned grid, unsigned block,
                                        size_t shared, unsigned cluster, cudaStream_t stream)
{
    LaunchShape s = {dim3(grid), dim3(block), shared, stream, false, cluster};
    return launch(s, shaped_kernel, x, n);
}
extern "C" cudaError_t kernel_clusters(int *clusters, unsigned block, size_t shared,
                                       unsigned cluster)
{
    LaunchShape s = {dim3(cluster ? cluster : 1), dim3(block), shared, nullptr, false, cluster};
    cudaLaunchAttribute attr[2];
    cudaLaunchConfig_t config = launch_config(s, attr);
    return cudaOccupancyMaxActiveClusters(clusters, shaped_kernel, &config);
}
extern "C" const void *kernel_shaped_address(void) { return (const void *)shaped_kernel; }

/* Lane 5 of each warp writes its results to the words from 32 * warp on. */
__global__ void warp_ops_kernel(unsigned *out)
{
    const unsigned all = 0xffffffffu;
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, v = lane * 3 + warp, w[32];
    int k = 0, predicate = 0;
    w[k++] = __shfl_sync(all, v, 9);
    w[k++] = __shfl_sync(all, v, 9, 8); /* lane 9 % 8 of the segment */
    w[k++] = __shfl_up_sync(all, v, 2);
    w[k++] = __shfl_up_sync(all, v, 6);
    w[k++] = __shfl_down_sync(all, v, 3, 8); /* 5 + 3 leaves the segment */
    w[k++] = __shfl_down_sync(all, v, 2, 8);
    w[k++] = __shfl_xor_sync(all, v, 16);
    w[k++] = __ballot_sync(all, lane % 3 == 0);
    w[k++] = (unsigned)__any_sync(all, lane == 31);
    w[k++] = (unsigned)__all_sync(all, lane < 31);
    w[k++] = __match_any_sync(all, lane / 8);
    w[k++] = __match_all_sync(all, 7u, &predicate) + (unsigned)predicate;
    w[k++] = __match_all_sync(all, lane, &predicate) + (unsigned)predicate;
    w[k++] = __reduce_add_sync(all, lane);
    w[k++] = (unsigned)__reduce_min_sync(all, (int)lane - 10);
    w[k++] = (unsigned)__reduce_max_sync(all, (int)lane - 40);
    w[k++] = __reduce_min_sync(all, lane - 3);
    w[k++] = __reduce_and_sync(all, lane | 0x40u);
    w[k++] = __reduce_or_sync(all, lane);
    w[k++] = __reduce_xor_sync(all, lane * 5u);
    w[k++] = (unsigned)__shfl_xor_sync(all, (double)lane + 0.5, 1);
    w[k++] = (unsigned)(__shfl_xor_sync(all, 1ull << (lane + 20), 3) >> 20);
    unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
    w[k++] = __ballot_sync(half, lane & 1);
    w[k++] = __reduce_add_sync(half, 1u);
    w[k++] = __activemask();
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(cg::this_thread_block());
    w[k++] = tile.shfl(v, 1) + tile.thread_rank() * 1000u + tile.meta_group_rank() * 100000u;
    w[k++] = tile.ballot(tile.thread_rank() < 3);
    if (lane == 5)
        for (int i = 0; i < k; i++) out[warp * 32 + (unsigned)i] = w[i];
}

__global__ void atomics_kernel(unsigned *out)
{
    unsigned t = threadIdx.x, *z = out;
    atomicAdd(&z[0], t);
    atomicAdd((int *)&z[1], -1);
    atomicAdd((float *)&z[2], 0.5f);
    atomicAdd((double *)&z[4], 0.25);
    atomicAdd((unsigned long long *)&z[6], 1ull << 30);
    atomicSub(&z[8], 2u);
    atomicMax(&z[9], t);
    atomicMax((int *)&z[10], -(int)t);
    atomicMin((int *)&z[11], -(int)t);
    atomicMin(&z[12], 100u - t);
    atomicInc(&z[13], 9u);
    atomicDec(&z[14], 9u);
    atomicAnd(&z[15], ~(1u << (t % 32)));
    atomicOr(&z[16], 1u << (t % 32));
    atomicXor(&z[17], t);
    if (t == 3) z[18] = atomicExch(&z[19], 77u);
    if (t == 4) z[20] = atomicCAS(&z[21], 5u, 6u);
    __syncthreads();
    if (t == 4) z[22] = atomicCAS(&z[21], 0u, 8u);
    unsigned old = atomicAdd(&z[23], 0u); /* an add by compare-and-swap */
    for (;;) {
        unsigned seen = atomicCAS(&z[23], old, old + 2u);
        if (seen == old) break;
        old = seen;
    }
    atomicCAS((unsigned short *)&z[24], (unsigned short)0, (unsigned short)9);
    atomicExch((float *)&z[25], 1.5f);
}

__global__ void blocks_kernel(unsigned *out)
{
    cg::grid_group grid = cg::this_grid();
    cg::thread_block block = cg::this_thread_block();
    SHARED_ARRAY(unsigned, part, 16);
    unsigned rank = block.thread_rank();
    part[rank] = rank;
    block.sync();
    int even = __syncthreads_count(rank % 2 == 0), some = __syncthreads_or(rank == 15),
        every = __syncthreads_and(rank < 15);
    unsigned sum = 0;
    for (unsigned i = 0; i < 16; i++) sum += part[i];
    if (rank == 0) atomicAdd(&out[0], sum);
    grid.sync();
    if (rank == 0) atomicAdd(&out[1], *(volatile unsigned *)&out[0]);
    if (grid.thread_rank() == 95) {
        out[2] = blockIdx.x;
        out[3] = blockIdx.y;
        out[4] = threadIdx.x;
        out[5] = threadIdx.y;
        out[6] = threadIdx.z;
        out[7] = (unsigned)grid.size();
        out[8] = (unsigned)even;
        out[9] = (unsigned)some;
        out[10] = (unsigned)every;
        out[11] = gridDim.x * 100 + gridDim.y * 10 + gridDim.z;
        out[12] = blockDim.x * 100 + blockDim.y * 10 + blockDim.z;
        out[13] = grid.is_valid();
        out[14] = (unsigned)grid.num_blocks();
    }
}

__global__ void memory_kernel(unsigned *out)
{
    Smem sm;
    unsigned *a = sm.take<unsigned>(3); /* 12 bytes, the next piece starts at 16 */
    float4 *b = sm.take<float4>(2);
    SHARED_ARRAY(double, c, 3);
    if (threadIdx.x == 0) {
        out[0] = a[0] == 0xffffffffu && isnan(b[1].w) && isnan(c[2]); /* poisoned */
        out[1] = ((uintptr_t)a % 16 == 0) + 2 * ((uintptr_t)b % 16 == 0) +
                 4 * ((uintptr_t)c % alignof(double) == 0);
        out[2] = (unsigned)sm.bytes();
        b[0] = make_float4(1, 2, 3, 4);
        float4 v = b[0];
        out[3] = (unsigned)(v.x + v.y + v.z + v.w);
        __half h = __float2half(1.5f);
        __nv_bfloat16 f = __float2bfloat16(-2.25f);
        out[4] = __half_as_ushort(h);
        out[5] = __bfloat16_as_ushort(f);
        out[6] = (unsigned)(__half2float(__hadd(h, h)) * 4.0f);
        curandStatePhilox4_32_10_t s;
        curand_init(4886718345ull, 16ull, 0ull, &s);
        out[7] = curand(&s);
        out[8] = curand(&s);
        uint4 q = curand_Philox4x32_10(
            make_uint4(0, 0, 16, 0),
            make_uint2((unsigned)4886718345ull, (unsigned)(4886718345ull >> 32)));
        out[9] = q.x;
        unsigned before = clock_now();
        out[10] = clock_now() - before > 0;
        out[11] = __popc(0xf0f0u) + 100u * (unsigned)__clz(1) + 10000u * (unsigned)__ffs(8);
        out[12] = __umulhi(0x80000000u, 6u) + __brev(1u) / 0x10000000u;
        out[13] = __byte_perm(0x33221100u, 0x77665544u, 0x7410u);
        out[14] = (unsigned)min(3, 5) + (unsigned)max(7u, 2u);
    }
}

/* Loads that bypass L1, and copies in three groups of which the second is empty. */
__global__ void copies_kernel(unsigned *out)
{
    Smem sm;
    unsigned *a = sm.take<unsigned>(4), *b = sm.take<unsigned>(16);
    unsigned i = threadIdx.x;
    copy_async4(&a[i], &out[44 + i]);
    copy_async_commit();
    copy_async_commit();
    copy_async16(&b[4 * i], &out[48 + 4 * i]);
    copy_async_commit();
    copy_async_wait<2>();
    out[i] = a[i];
    copy_async_wait<0>();
    out[4 + i] = b[4 * i] + 100u * b[4 * i + 3];
    out[8 + i] = load_l2(&out[40 + i]);
    float2 two = load_l2((const float2 *)&out[40 + 2 * (i % 2)]);
    float4 four = load_l2((const float4 *)&out[40]);
    out[12 + i] = __float_as_uint(two.y) + __float_as_uint(four.w);
    copy_async_wait<1>(); /* nothing is left to wait for */
}

#ifdef CUDA_EMU /* only the emulator has a wrapper of ldmatrix, not kernels/ */
static __device__ float a_of(int row, int k) { return (float)((row * 3 + k * 5) % 11 - 5); }
static __device__ float b_of(int k, int column) { return (float)((k * 7 + column * 2) % 9 - 4); }
static __device__ void store_d(unsigned *out, const float (&d)[4])
{
    for (int i = 0; i < 4; i++)
        out[((int)threadIdx.x / 4 + i / 2 * 8) * 8 + 2 * ((int)threadIdx.x % 4) + i % 2] =
            __float_as_uint(d[i]);
}

/* d starts as row - column. The results begin at these words:
 *     0    bf16, a and b loaded by ldmatrix, b from rows of k
 *   128    bf16, b loaded by ldmatrix_trans from rows of n
 *   256    tf32
 *   384    movmatrix_trans of a matrix that ldmatrix loaded
 *   416    ldmatrix_trans of the same matrix
 *   448    tf32_round */
__global__ void tensor_kernel(unsigned *out)
{
    Smem sm;
    __nv_bfloat16 *a16 = sm.take<__nv_bfloat16>(16 * 16), *b_nk = sm.take<__nv_bfloat16>(8 * 16),
                  *b_kn = sm.take<__nv_bfloat16>(16 * 8);
    int lane = (int)threadIdx.x, g = lane / 4, q = lane % 4;
    for (int i = lane; i < 256; i += 32) a16[i] = __float2bfloat16(a_of(i / 16, i % 16));
    for (int i = lane; i < 128; i += 32) {
        b_nk[i] = __float2bfloat16(b_of(i % 16, i / 16));
        b_kn[i] = __float2bfloat16(b_of(i / 8, i % 8));
    }
    __syncwarp();
    float start[4], d[4];
    for (int i = 0; i < 4; i++) start[i] = (float)(g + i / 2 * 8 - (2 * q + i % 2));
    unsigned a[4], b[2], one[1];
    ldmatrix(a, &a16[(lane % 16) * 16 + lane / 16 * 8]);
    ldmatrix(b, &b_nk[lane % 8 * 16 + lane / 8 % 2 * 8]);
    for (int i = 0; i < 4; i++) d[i] = start[i];
    mma_bf16(d, a, b);
    store_d(out, d);
    ldmatrix_trans(b, &b_kn[lane % 16 * 8]);
    for (int i = 0; i < 4; i++) d[i] = start[i];
    mma_bf16(d, a, b);
    store_d(out + 128, d);
    for (int i = 0; i < 4; i++) a[i] = tf32_round(1.0001f * a_of(g + i % 2 * 8, q + i / 2 * 4));
    for (int i = 0; i < 2; i++) /* the operation ignores the bits that are set here */
        b[i] = __float_as_uint(b_of(q + i * 4, g)) | 0x1fffu;
    for (int i = 0; i < 4; i++) d[i] = start[i];
    mma_tf32(d, a, b);
    store_d(out + 256, d);
    ldmatrix(one, &a16[lane % 8 * 16]);
    out[384 + lane] = movmatrix_trans(one[0]);
    ldmatrix_trans(one, &a16[lane % 8 * 16]);
    out[416 + lane] = one[0];
    const float inf = __uint_as_float(0x7f800000u);
    const float x[8] = {1.0f + 1.0f / 2048,
                        1.0f + 1.0f / 4096,
                        -1.0f - 1.0f / 2048,
                        1.0f + 3.0f / 2048,
                        inf,
                        -inf,
                        3.4028235e38f,
                        0.0f};
    if (lane < 8) out[448 + lane] = tf32_round(x[lane]);
}
extern "C" cudaError_t kernel_tensor(unsigned *out, cudaStream_t stream)
{
    LaunchShape s = {dim3(1), dim3(32), 1024, stream, false};
    return launch(s, tensor_kernel, out);
}
#endif

extern "C" cudaError_t kernel_copies(unsigned *out, cudaStream_t stream)
{
    LaunchShape s = {dim3(1), dim3(4), 80, stream, false};
    return launch(s, copies_kernel, out);
}
extern "C" cudaError_t kernel_warp_ops(unsigned *out, cudaStream_t stream)
{
    LaunchShape s = {dim3(1), dim3(64), 0, stream, false};
    return launch(s, warp_ops_kernel, out);
}
extern "C" cudaError_t kernel_atomics(unsigned *out, cudaStream_t stream)
{
    LaunchShape s = {dim3(1), dim3(64), 0, stream, false};
    return launch(s, atomics_kernel, out);
}
extern "C" cudaError_t kernel_blocks(unsigned *out, cudaStream_t stream)
{
    LaunchShape s = {dim3(2, 3), dim3(4, 2, 2), 0, stream, true};
    return launch(s, blocks_kernel, out);
}
extern "C" cudaError_t kernel_memory(unsigned *out, cudaStream_t stream)
{
    LaunchShape s = {dim3(1), dim3(32), 48, stream, false};
    return launch(s, memory_kernel, out);
}
