/* Small kernels, each with one fault that a flag plants, and correct idioms. This file does not use
 * the emulator's interface; test_emu_faults.cpp judges its reports. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "cooperative_groups.h"
#include "cuda_runtime.h"

#include <kernels/dev_barrier.cuh>
#include <kernels/dev_cluster.cuh>
#include <kernels/dev_tensor.cuh>

#include "../../kernels/launch.cuh"
#include "emu.h"
#include "faults.h"

namespace cg = cooperative_groups;

/* ---- host helpers ---- */

template <class T> static T *device_alloc(size_t n, bool zero = true)
{
    T *p = nullptr;
    if (cudaMalloc(&p, n * sizeof(T)) != cudaSuccess ||
        (zero && cudaMemset(p, 0, n * sizeof(T)) != cudaSuccess))
        abort();
    return p;
}

template <class T> static std::vector<T> fetch(const T *p, size_t n)
{
    std::vector<T> v(n);
    if (cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost) != cudaSuccess) v.clear();
    return v;
}

template <class F> static int differs(const float *p, int n, F expected)
{
    std::vector<float> v = fetch(p, (size_t)n);
    if (v.empty()) return 1;
    for (int i = 0; i < n; i++)
        if (!(v[(size_t)i] == expected(i))) /* also true for NaN */
            return 1;
    return 0;
}

static LaunchShape shape_of(int blocks, int threads, size_t shared = 0, bool cooperative = false,
                            cudaStream_t stream = nullptr)
{
    LaunchShape s = {dim3((unsigned)blocks), dim3((unsigned)threads), shared, stream, cooperative};
    return s;
}

/* ---- within a block ---- */

__global__ void syncthreads_kernel(float *out, int bug)
{
    Smem sm;
    float *s = sm.take<float>(blockDim.x);
    s[threadIdx.x] = -1.0f;
    __syncthreads();
    s[threadIdx.x] = (float)threadIdx.x;
    if (!bug) __syncthreads();
    out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
static int run_syncthreads(int bug)
{
    float *out = device_alloc<float>(128);
    launch(shape_of(1, 128, 512), syncthreads_kernel, out, bug);
    return differs(out, 128, [](int i) { return (float)(127 - i); });
}

__global__ void syncwarp_kernel(float *out, int bug)
{
    SHARED_ARRAY(float, s, 32);
    s[threadIdx.x] = -1.0f;
    __syncwarp();
    s[threadIdx.x] = (float)threadIdx.x;
    if (!bug) __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}
static int run_syncwarp(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32), syncwarp_kernel, out, bug);
    return differs(out, 32, [](int i) { return (float)(i ^ 1); });
}

/* Warp-synchronous code in the style of Kepler: volatile instead of __syncwarp. */
__global__ void warp_volatile_kernel(float *out, int bug)
{
    SHARED_ARRAY(float, s, 32);
    s[threadIdx.x] = -1.0f;
    __syncwarp();
    store_poll(&s[threadIdx.x], (float)threadIdx.x);
    if (!bug) __syncwarp();
    out[threadIdx.x] = load_poll(&s[threadIdx.x ^ 1]);
}
static int run_warp_volatile(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32), warp_volatile_kernel, out, bug);
    return differs(out, 32, [](int i) { return (float)(i ^ 1); });
}

__global__ void same_word_kernel(float *out, int bug)
{
    SHARED_ARRAY(float, s, 1);
    if (bug || threadIdx.x == 5) s[0] = bug ? 1.0f : 1.0f + 0.0f * (float)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = s[0];
}
static int run_same_word(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(1, 64), same_word_kernel, out, bug);
    return differs(out, 64, [](int) { return 1.0f; });
}

/* The buffer is filled again before all threads have read it. */
__global__ void reuse_kernel(float *out, int bug)
{
    SHARED_ARRAY(float, s, 64);
    float sum = 0.0f;
    for (int t = 0; t < 3; t++) {
        s[threadIdx.x] = (float)(t * 100 + (int)threadIdx.x);
        __syncthreads();
        sum += s[63 - threadIdx.x];
        if (!bug) __syncthreads();
    }
    out[threadIdx.x] = sum;
}
static int run_reuse(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(1, 64), reuse_kernel, out, bug);
    return differs(out, 64, [](int i) { return (float)(300 + 3 * (63 - i)); });
}

__global__ void divergent_barrier_kernel(float *out, int bug)
{
    if (bug && threadIdx.x < 32) __syncthreads();
    else __syncthreads();
    out[threadIdx.x] = 1.0f;
}
__global__ void uniform_barrier_kernel(float *out)
{
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}
static int run_divergent_barrier(int bug)
{
    float *out = device_alloc<float>(64);
    if (bug) launch(shape_of(1, 64), divergent_barrier_kernel, out, bug);
    else launch(shape_of(1, 64), uniform_barrier_kernel, out);
    return differs(out, 64, [](int) { return 1.0f; });
}

__global__ void early_exit_kernel(float *out, int bug)
{
    if (bug && threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}
static int run_early_exit(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(1, 64), early_exit_kernel, out, bug);
    return differs(out, 64, [](int) { return 1.0f; });
}

/* One warp runs one iteration more than the other. */
__global__ void barrier_count_kernel(float *out, int bug)
{
    int rounds = bug && threadIdx.x < 32 ? 3 : 2;
    for (int i = 0; i < rounds; i++) __syncthreads();
    if (bug && threadIdx.x >= 32) __shfl_sync(0xffffffffu, 1, 0);
    out[threadIdx.x] = 1.0f;
    if (bug && threadIdx.x >= 32)
        while (load_poll(out) == 0.0f) {
        }
}
static int run_barrier_count(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(1, 64), barrier_count_kernel, out, bug);
    return differs(out, 64, [](int) { return 1.0f; });
}

__global__ void divergent_shuffle_kernel(int *out, int bug)
{
    int v = (int)threadIdx.x;
    if (bug && threadIdx.x < 16) v = __shfl_xor_sync(0xffffffffu, v, 1);
    else v = __shfl_xor_sync(0xffffffffu, v, 1);
    out[threadIdx.x] = v;
}
__global__ void uniform_shuffle_kernel(int *out)
{
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 1);
}
static int run_divergent_shuffle(int bug)
{
    int *out = device_alloc<int>(32);
    if (bug) launch(shape_of(1, 32), divergent_shuffle_kernel, out, bug);
    else launch(shape_of(1, 32), uniform_shuffle_kernel, out);
    std::vector<int> v = fetch(out, 32);
    return v.empty() || v[3] != 2;
}

/* Half of the warp never arrives, since it waits elsewhere. */
__global__ void shuffle_deadlock_kernel(int *out, int bug)
{
    if (!bug || threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffffffu, (int)threadIdx.x, 3);
    __syncthreads();
}
static int run_shuffle_deadlock(int bug)
{
    int *out = device_alloc<int>(32);
    launch(shape_of(1, 32), shuffle_deadlock_kernel, out, bug);
    std::vector<int> v = fetch(out, 32);
    return v.empty() || v[20] != 3;
}

__global__ void mask_kernel(int *out, int bug)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_sync(bug ? 0x0000fffeu : 0x0000ffffu, (int)threadIdx.x, 3);
}
static int run_mask(int bug)
{
    int *out = device_alloc<int>(32);
    launch(shape_of(1, 32), mask_kernel, out, bug);
    std::vector<int> v = fetch(out, 32);
    return v.empty() || v[9] != 3;
}

/* A shuffle reads a lane that does not take part. */
__global__ void absent_lane_kernel(float *out, int bug)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_sync(0x0000ffffu, (float)threadIdx.x, bug ? 20 : 3);
}
static int run_absent_lane(int bug)
{
    float *out = device_alloc<float>(16);
    launch(shape_of(1, 32), absent_lane_kernel, out, bug);
    return differs(out, 16, [](int) { return 3.0f; });
}

/* ---- asynchronous copies ---- */

enum {
    NO_WAIT = 1,
    NO_COMMIT = 2,
    ONE_LEFT = 4,
    NO_SYNC = 8,
    SOURCE_CHANGED = 16,
    MISALIGNED = 32
};

/* Copies in two groups: words of 4 bytes, then pieces of 16 bytes. Each thread reads what its
 * neighbour has copied. */
__global__ void copy_async_kernel(float *in, float *out, int bug)
{
    Smem sm;
    float *a = sm.take<float>(64), *b = sm.take<float>(256);
    unsigned i = threadIdx.x, other = blockDim.x - 1 - i;
    a[i] = b[4 * i + 3] = -1.0f;
    __syncthreads();
    copy_async4(&a[i], &in[i]);
    copy_async_commit();
    copy_async16(&b[4 * i], &in[64 + 4 * i + (bug & MISALIGNED ? 1 : 0)]);
    if (!(bug & NO_COMMIT)) copy_async_commit();
    if (bug & SOURCE_CHANGED) in[64 + 4 * i + 2] = 5.0f;
    if (bug & ONE_LEFT) copy_async_wait<1>();
    else if (!(bug & NO_WAIT)) copy_async_wait<0>();
    if (!(bug & NO_SYNC)) __syncthreads();
    out[i] = a[other] + b[4 * other + 3];
}
static int copy_async(int bug)
{
    std::vector<float> host(324);
    for (int i = 0; i < 324; i++) host[(size_t)i] = (float)i;
    float *in = device_alloc<float>(324), *out = device_alloc<float>(64);
    cudaMemcpy(in, host.data(), 324 * sizeof(float), cudaMemcpyHostToDevice);
    launch(shape_of(1, 64, 1280), copy_async_kernel, in, out, bug);
    return differs(out, 64, [](int i) { return (float)((63 - i) + 64 + 4 * (63 - i) + 3); });
}
static int run_copy_no_wait(int bug) { return copy_async(bug ? NO_WAIT : 0); }
static int run_copy_no_commit(int bug) { return copy_async(bug ? NO_COMMIT : 0); }
static int run_copy_one_left(int bug) { return copy_async(bug ? ONE_LEFT : 0); }
static int run_copy_no_sync(int bug) { return copy_async(bug ? NO_SYNC : 0); }
static int run_copy_source(int bug) { return copy_async(bug ? SOURCE_CHANGED : 0); }
static int run_copy_misaligned(int bug) { return copy_async(bug ? MISALIGNED : 0); }

/* ---- tensor cores ---- */

enum { BEFORE_SYNC = 1, DIVERGENT = 2, ROW_MISALIGNED = 4 };

/* Multiplies rows of ones by rows of ones: each result is a sum of 16 products. */
__global__ void mma_kernel(float *out, int bug)
{
    Smem sm;
    unsigned *rows = sm.take<unsigned>(132);
    for (int i = 0; i < 4; i++) rows[4 * threadIdx.x + (unsigned)i] = 0;
    __syncwarp();
    for (int i = 0; i < 4; i++) rows[4 * (31 - threadIdx.x) + (unsigned)i] = 0x3f803f80u;
    if (!(bug & BEFORE_SYNC)) __syncwarp();
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    unsigned a[4], b[2] = {0x3f803f80u, 0x3f803f80u};
    ldmatrix(a, &rows[4 * threadIdx.x + (bug & ROW_MISALIGNED ? 1 : 0)]);
    if (bug & DIVERGENT && threadIdx.x < 8) mma_bf16(d, a, b);
    else mma_bf16(d, a, b);
    out[threadIdx.x] = d[0] + d[3];
}
static int mma(int bug, int threads)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, threads, 528), mma_kernel, out, bug);
    return differs(out, 32, [](int) { return 32.0f; });
}
static int run_ldmatrix_sync(int bug) { return mma(bug ? BEFORE_SYNC : 0, 32); }
static int run_ldmatrix_misaligned(int bug) { return mma(bug ? ROW_MISALIGNED : 0, 32); }
static int run_mma_divergent(int bug) { return mma(bug ? DIVERGENT : 0, 32); }
static int run_mma_half(int bug) { return mma(0, bug ? 16 : 32); }

/* ---- shared memory bounds ---- */

__global__ void shared_end_kernel(float *out, int bug)
{
    Smem sm;
    float *a = sm.take<float>(32), *b = sm.take<float>(32);
    a[threadIdx.x + (bug == 1)] = 1.0f; /* 1: beyond the inner piece */
    b[threadIdx.x + (bug == 2)] = 2.0f; /* 2: beyond the last one */
    __syncthreads();
    out[threadIdx.x] = a[threadIdx.x | 1] + b[threadIdx.x | 1];
}
static int shared_end(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32, 256), shared_end_kernel, out, bug);
    return differs(out, 32, [](int) { return 3.0f; });
}
static int run_shared_inner(int bug) { return shared_end(bug ? 1 : 0); }
static int run_shared_end(int bug) { return shared_end(bug ? 2 : 0); }

__global__ void shared_far_kernel(float *out, int bug)
{
    Smem sm;
    float *a = sm.take<float>(32);
    a[threadIdx.x] = 1.0f;
    if (bug && threadIdx.x == 7) a[threadIdx.x + 3000] = 5.0f;
    __syncthreads();
    out[threadIdx.x] = a[threadIdx.x];
}
static int run_shared_far(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32, 128), shared_far_kernel, out, bug);
    return differs(out, 32, [](int) { return 1.0f; });
}

__global__ void foreign_shared_kernel(float *out, unsigned long long *address, int bug)
{
    Smem sm;
    float *a = sm.take<float>(32);
    a[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0 && blockIdx.x == 0) atomicExch(address, (unsigned long long)a);
    if (threadIdx.x == 0 && blockIdx.x == 1) {
        unsigned long long p;
        while ((p = load_poll(address)) == 0) {
        }
        if (bug) ((float *)p)[3] = 9.0f;
        atomicExch(address + 1, 1ull);
    }
    if (threadIdx.x == 0 && blockIdx.x == 0)
        while (load_poll(address + 1) == 0) {
        }
    __syncthreads();
    out[blockIdx.x * 32 + threadIdx.x] = a[threadIdx.x];
}
static int run_foreign_shared(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(2, 32, 128), foreign_shared_kernel, out, device_alloc<unsigned long long>(2),
           bug);
    return differs(out, 64, [](int) { return 1.0f; });
}

__global__ void carve_kernel(float *out)
{
    Smem sm;
    float *a = sm.take<float>(64);
    a[threadIdx.x] = 1.0f;
    out[threadIdx.x] = a[threadIdx.x];
}
static int run_carve(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32, bug ? 128 : 256), carve_kernel, out);
    return differs(out, 32, [](int) { return 1.0f; });
}

__global__ void uninitialised_shared_kernel(float *out, int bug)
{
    Smem sm;
    float *a = sm.take<float>(64);
    if (!bug || threadIdx.x != 9) a[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = a[threadIdx.x] + a[(threadIdx.x + 1) % 64];
}
static int run_uninitialised_shared(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(1, 64, 256), uninitialised_shared_kernel, out, bug);
    return differs(out, 64, [](int) { return 2.0f; });
}

/* ---- device memory ---- */

__global__ void copy_kernel(float *out, const float *in, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) out[i] = in[i];
}

static int run_uninitialised_device(int bug)
{
    float *in = device_alloc<float>(64, !bug), *out = device_alloc<float>(64);
    launch(shape_of(1, 64), copy_kernel, out, in, 64);
    return differs(out, 64, [](int) { return 0.0f; });
}

static int run_device_end(int bug)
{
    float *out = device_alloc<float>(62), *in = device_alloc<float>(256);
    launch(shape_of(1, 64), copy_kernel, out, in, bug ? 63 : 62);
    return differs(out, 62, [](int) { return 0.0f; });
}

static int run_use_after_free(int bug)
{
    float *in = device_alloc<float>(64), *out = device_alloc<float>(64);
    if (bug) cudaFree(in);
    launch(shape_of(1, 64), copy_kernel, out, in, 64);
    return differs(out, 64, [](int) { return 0.0f; });
}

static int run_host_pointer(int bug)
{
    std::vector<float> host(64, 0.0f);
    float *in = device_alloc<float>(64), *out = device_alloc<float>(64);
    launch(shape_of(1, 64), copy_kernel, out, bug ? host.data() : in, 64);
    return differs(out, 64, [](int) { return 0.0f; });
}

static int run_null_pointer(int bug)
{
    float *in = device_alloc<float>(64), *out = device_alloc<float>(64);
    launch(shape_of(1, 64), copy_kernel, out, bug ? (const float *)nullptr : in, 64);
    return differs(out, 64, [](int) { return 0.0f; });
}

__global__ void vector_kernel(float *out, const float *in, int shift)
{
    float4 v = *(const float4 *)(in + shift + 4 * threadIdx.x);
    *(float4 *)(out + 4 * threadIdx.x) = v;
}
static int run_misaligned(int bug)
{
    float *in = device_alloc<float>(64), *out = device_alloc<float>(64);
    launch(shape_of(1, 8), vector_kernel, out, in, bug ? 1 : 0);
    return differs(out, 32, [](int) { return 0.0f; });
}

/* A value is written in one step and read through the read-only path in the next; on a device the
 * old line may still be cached. */
__global__ void stale_kernel(float *x, float *out, unsigned *arrived, int bug)
{
    x[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (load_poll(arrived) < gridDim.x) {
        }
        __threadfence();
    }
    __syncthreads();
    const float *p = x + ((blockIdx.x + 1) % gridDim.x) * blockDim.x + threadIdx.x;
    out[blockIdx.x * blockDim.x + threadIdx.x] = bug ? ldg(p) : *p;
}
static int run_stale(int bug)
{
    float *x = device_alloc<float>(64), *out = device_alloc<float>(64);
    launch(shape_of(2, 32), stale_kernel, x, out, device_alloc<unsigned>(1), bug);
    return differs(out, 64, [](int) { return 1.0f; });
}

/* ---- between blocks ---- */

enum { NO_RELEASE = 1, NO_ACQUIRE = 2, BLOCK_SCOPE = 4, FENCE_BEFORE_BARRIER = 8 };

/* Block 0 passes a value to block 1 with a flag. */
__global__ void hop_kernel(float *data, unsigned *flag, float *out, int bug)
{
    if (blockIdx.x == 0) {
        data[threadIdx.x] = 7.0f;
        if (bug & FENCE_BEFORE_BARRIER) __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            if (bug & BLOCK_SCOPE) __threadfence_block();
            else if (!(bug & (NO_RELEASE | FENCE_BEFORE_BARRIER))) __threadfence();
            store_poll(flag, 1u);
        }
    } else {
        if (threadIdx.x == 0) {
            while (load_poll(flag) == 0) poll_pause();
            if (!(bug & NO_ACQUIRE)) __threadfence();
        }
        __syncthreads();
        out[threadIdx.x] = data[threadIdx.x];
    }
}
static int hop(int bug)
{
    float *data = device_alloc<float>(32), *out = device_alloc<float>(32);
    launch(shape_of(2, 32), hop_kernel, data, device_alloc<unsigned>(1), out, bug);
    return differs(out, 32, [](int) { return 7.0f; });
}
static int run_no_release(int bug) { return hop(bug ? NO_RELEASE : 0); }
static int run_no_acquire(int bug) { return hop(bug ? NO_ACQUIRE : 0); }
static int run_no_fence(int bug) { return hop(bug ? NO_RELEASE | NO_ACQUIRE : 0); }
static int run_block_scope(int bug) { return hop(bug ? BLOCK_SCOPE : 0); }
static int run_fence_before_barrier(int bug) { return hop(bug ? FENCE_BEFORE_BARRIER : 0); }

static __device__ void barrier_of(unsigned *arrived, unsigned target)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (load_poll(arrived) < target) poll_pause();
        __threadfence();
    }
    __syncthreads();
}

enum { NO_BARRIER = 1, ONE_BUFFER = 2, WRONG_TARGET = 4, NO_FENCES = 8 };

/* Computes h'[i] = h[i] + h[neighbour] + 1 in several steps. Each thread owns one element, and its
 * neighbour is in another block. */
__global__ void steps_kernel(float *h, unsigned *arrived, int n, int steps, int bug)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    for (int t = 0; t < steps; t++) {
        const float *in = h + (bug & ONE_BUFFER ? 0 : (t & 1) * n);
        float *out = h + (bug & ONE_BUFFER ? 0 : (~t & 1) * n);
        float v = in[i] + in[(i + (int)blockDim.x) % n] + 1.0f;
        out[i] = v;
        if (!(bug & NO_BARRIER))
            barrier_of(arrived, (unsigned)(t + 1) * (gridDim.x + (bug & WRONG_TARGET ? 1 : 0)));
    }
}
static int steps_run(int bug, int blocks, int threads, int steps, size_t shared = 0)
{
    int n = blocks * threads;
    float *h = device_alloc<float>((size_t)n * 2);
    launch(shape_of(blocks, threads, shared), steps_kernel, h, device_alloc<unsigned>(1), n, steps,
           bug);
    /* Every element is 2^steps - 1. */
    return differs(h + (bug & ONE_BUFFER ? 0 : steps % 2 * n), n,
                   [=](int) { return (float)((1 << steps) - 1); });
}
static int run_no_barrier(int bug) { return steps_run(bug ? NO_BARRIER : 0, 4, 32, 4); }
static int run_one_buffer(int bug) { return steps_run(bug ? ONE_BUFFER : 0, 4, 32, 4); }
static int run_wrong_target(int bug) { return steps_run(bug ? WRONG_TARGET : 0, 4, 32, 2); }

/* A persistent grid of more blocks than the device holds waits for blocks that cannot start. */
static int run_grid_too_large(int bug)
{
    emu_device_select("K20"); /* 13 SMs of 48 KB */
    return steps_run(0, bug ? 14 : 13, 32, 1, 30000);
}

__global__ void cooperative_kernel(float *out)
{
    cg::this_grid().sync();
    out[cg::this_grid().thread_rank()] = 1.0f;
}
static int run_cooperative_too_large(int bug)
{
    enum { BYTES = 40000 };
    int per_sm = 0;
    emu_device_select("V100");
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, cooperative_kernel, 32, BYTES);
    int blocks = per_sm * 80 + (bug ? 1 : 0);
    float *out = device_alloc<float>((size_t)blocks * 32);
    cudaError_t e = launch(shape_of(blocks, 32, BYTES, true), cooperative_kernel, out);
    return bug ? e == cudaErrorCooperativeLaunchTooLarge
               : differs(out, blocks * 32, [](int) { return 1.0f; });
}

static int run_not_cooperative(int bug)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(2, 32, 0, !bug), cooperative_kernel, out);
    return differs(out, 64, [](int) { return 1.0f; });
}

/* A lock without the fence between acquiring it and reading, or between writing and releasing
 * it. */
__global__ void lock_kernel(unsigned *lock, float *value, int bug)
{
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0u, 1u) != 0u) poll_pause();
        if (bug != 1) __threadfence();
        value[0] += 1.0f;
        if (bug != 2) __threadfence();
        atomicExch(lock, 0u);
    }
}
static int lock(int bug)
{
    float *value = device_alloc<float>(1);
    launch(shape_of(6, 32), lock_kernel, device_alloc<unsigned>(1), value, bug);
    return differs(value, 1, [](int) { return 6.0f; });
}
static int run_lock_acquire(int bug) { return lock(bug ? 1 : 0); }
static int run_lock_release(int bug) { return lock(bug ? 2 : 0); }

/* A counter that some threads change with an atomic and one with a plain store. */
__global__ void mixed_kernel(unsigned *counter, int bug)
{
    if (bug && blockIdx.x == 1 && threadIdx.x == 0) counter[0] = counter[0] + 1u;
    else atomicAdd(counter, 1u);
}
static int run_mixed(int bug)
{
    unsigned *counter = device_alloc<unsigned>(1);
    launch(shape_of(2, 32), mixed_kernel, counter, bug);
    std::vector<unsigned> v = fetch(counter, 1);
    return v.empty() || v[0] != 64;
}

/* ---- clusters ---- */

static LaunchShape clustered(int blocks, int threads, size_t shared, unsigned cluster)
{
    LaunchShape s = shape_of(blocks, threads, shared);
    s.cluster = cluster;
    return s;
}

static __device__ void cluster_sync()
{
    cluster_arrive();
    cluster_wait();
}

enum { NO_FIRST = 1, NO_MIDDLE = 2, NO_LAST = 4, TWICE = 8, SPLIT_WARP = 16, PAST_CLUSTER = 32 };

/* Each block writes into the shared memory of the next and reads from that of the one after it. */
__global__ void exchange_kernel(float *out, int bug)
{
    Smem sm;
    unsigned rank = cluster_rank(), n = cluster_size(), i = threadIdx.x, last = blockDim.x - 1;
    float *mine = sm.take<float>(blockDim.x), *further = cluster_map(mine, (rank + 2) % n);
    mine[i] = -1.0f;
    if (!(bug & NO_FIRST)) cluster_sync();
    cluster_map(mine, rank + 1 < n || bug & PAST_CLUSTER ? rank + 1 : 0)[i] =
        (float)(rank * 100 + i);
    if (bug & SPLIT_WARP && i < 7) cluster_arrive();
    else if (!(bug & NO_MIDDLE)) cluster_arrive();
    if (bug & TWICE) cluster_arrive();
    if (!(bug & NO_MIDDLE)) cluster_wait();
    float sum = mine[last - i] + further[i];
    if (!(bug & NO_LAST)) cluster_sync();
    out[blockIdx.x * blockDim.x + i] = sum;
}
static int exchange_sized(int bug, int clusters, int threads, size_t bytes)
{
    float *out = device_alloc<float>((size_t)(clusters * 4 * threads));
    launch(clustered(clusters * 4, threads, bytes, 4), exchange_kernel, out, bug);
    return differs(out, clusters * 4 * threads, [=](int k) {
        int rank = k / threads % 4, i = k % threads;
        return (float)((rank + 3) % 4 * 100 + threads - 1 - i + (rank + 1) % 4 * 100 + i);
    });
}
static int exchange(int bug) { return exchange_sized(bug, 2, 32, 128); }
static int run_no_first(int bug) { return exchange(bug ? NO_FIRST : 0); }
static int run_no_middle(int bug) { return exchange(bug ? NO_MIDDLE : 0); }
static int run_no_last(int bug) { return exchange(bug ? NO_LAST : 0); }
static int run_arrive_twice(int bug) { return exchange(bug ? TWICE : 0); }
static int run_split_warp(int bug) { return exchange(bug ? SPLIT_WARP : 0); }
static int run_past_cluster(int bug) { return exchange(bug ? PAST_CLUSTER : 0); }

static int run_cluster_16(int bug)
{
    float *out = device_alloc<float>(512);
    cudaFuncSetAttribute(exchange_kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, !bug);
    cudaError_t e = launch(clustered(16, 32, 128, 16), exchange_kernel, out, 0);
    return e != cudaSuccess || cudaDeviceSynchronize() != cudaSuccess;
}

/* All blocks wait for each other: 124 fit on 132 SMs, but as 31 clusters of 4 they do not fit into
 * the GPCs. */
__global__ void clusters_wait_kernel(unsigned *arrived, float *out)
{
    barrier_of(arrived, gridDim.x);
    out[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f;
}
static int run_clusters_too_many(int bug)
{
    int blocks = bug ? 124 : 120;
    size_t bytes = 120000; /* one block per SM */
    float *out = device_alloc<float>((size_t)blocks);
    cudaFuncSetAttribute(clusters_wait_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         (int)bytes);
    launch(clustered(blocks, 1, bytes, 4), clusters_wait_kernel, device_alloc<unsigned>(1), out);
    return differs(out, blocks, [](int) { return 1.0f; });
}

/* ---- mbarriers, asynchronous stores, bulk copies ---- */

static __device__ void mbarrier_wait(Mbarrier *b, unsigned parity)
{
    while (!mbarrier_try(b, parity)) poll_pause();
}

enum {
    PUSH_NO_WAIT = 1,
    PUSH_TOO_MANY = 2,
    PUSH_TOO_FEW = 4,
    PUSH_PARITY = 8,
    PUSH_NO_EMPTY = 16,
    PUSH_NO_FIRST = 32,
    PUSH_NO_LAST = 64,
    PUSH_OTHER_BLOCK = 128
};

/* A ring of blocks, each of which pushes 32 words per step into the next one's two buffers; `full`
 * counts the bytes, and `empty`, at the sender, counts the readers of the buffer that it will write
 * next. */
__global__ void push_kernel(float *out, int steps, int bug)
{
    Smem sm;
    float *buffer = sm.take<float>(64);
    Mbarrier *full = sm.take<Mbarrier>(2), *empty = sm.take<Mbarrier>(2);
    unsigned rank = cluster_rank(), n = cluster_size(), next = (rank + 1) % n,
             before = (rank + n - 1) % n;
    unsigned i = threadIdx.x, announced = bug & PUSH_TOO_MANY ? 132 : bug & PUSH_TOO_FEW ? 64 : 128;
    buffer[i] = buffer[32 + i] = -1.0f;
    if (i == 0) {
        for (int b = 0; b < 2; b++) {
            mbarrier_init(&full[b], 1);
            mbarrier_init(&empty[b], 32);
        }
        mbarrier_init_fence();
    }
    if (bug & PUSH_NO_FIRST) __syncthreads();
    else cluster_sync();
    float v = (float)rank;
    for (int t = 0; t < steps; t++) {
        int b = t & 1;
        unsigned parity = (unsigned)t / 2 & 1;
        if (t >= 2 && !(bug & PUSH_NO_EMPTY)) mbarrier_wait(&empty[b], parity ^ 1);
        if (i == 0) mbarrier_arrive_expect(&full[b], announced);
        store_async(shared_at(&buffer[32 * b + (int)i], next), v,
                    shared_at(&full[b], bug & PUSH_OTHER_BLOCK ? rank : next));
        if (!(bug & PUSH_NO_WAIT) || i == 0)
            mbarrier_wait(&full[b], bug & PUSH_PARITY ? parity ^ 1 : parity);
        v = buffer[32 * b + 31 - (int)i] + 1.0f;
        mbarrier_arrive(shared_at(&empty[b], before));
    }
    if (!(bug & PUSH_NO_LAST)) cluster_sync();
    out[blockIdx.x * 32 + i] = v;
}
static int push(int bug, int steps = 5)
{
    float *out = device_alloc<float>(256);
    launch(clustered(8, 32, 256 + 32, 4), push_kernel, out, steps, bug);
    return differs(out, 256, [=](int k) { return (float)((k / 32 + 3 * steps) % 4 + steps); });
}
static int run_push_no_wait(int bug) { return push(bug ? PUSH_NO_WAIT : 0); }
static int run_push_too_many(int bug) { return push(bug ? PUSH_TOO_MANY : 0); }
static int run_push_too_few(int bug) { return push(bug ? PUSH_TOO_FEW : 0); }
static int run_push_parity(int bug) { return push(bug ? PUSH_PARITY : 0, 2); }
static int run_push_no_empty(int bug) { return push(bug ? PUSH_NO_EMPTY : 0); }
static int run_push_no_first(int bug) { return push(bug ? PUSH_NO_FIRST : 0); }
static int run_push_no_last(int bug) { return push(bug ? PUSH_NO_LAST : 0); }
static int run_push_other(int bug) { return push(bug ? PUSH_OTHER_BLOCK : 0); }

/* The same ring with two warps per block and no barrier of the block. Both warps read each buffer,
 * at different times, and then arrives at the sender's `empty`; warp 0 also pushes. In the faulty
 * kernel only warp 0 arrives. No race is reported in the correct kernel only because race.cpp keeps
 * a time for each warp: with the last reader's time for both, warp 0 would seem to read after it
 * arrived. */
__global__ void two_warps_kernel(float *out, int steps, int bug)
{
    Smem sm;
    float *buffer = sm.take<float>(64);
    Mbarrier *full = sm.take<Mbarrier>(2), *empty = sm.take<Mbarrier>(2);
    unsigned rank = cluster_rank(), n = cluster_size(), next = (rank + 1) % n,
             before = (rank + n - 1) % n, warp = threadIdx.x / 32, i = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int b = 0; b < 2; b++) {
            mbarrier_init(&full[b], 1);
            mbarrier_init(&empty[b], bug ? 32 : 64);
        }
        mbarrier_init_fence();
    }
    cluster_sync();
    float v = (float)rank;
    for (int t = 0; t < steps; t++) {
        int b = t & 1;
        unsigned parity = (unsigned)t / 2 & 1;
        if (warp == 0) {
            if (t >= 2) mbarrier_wait(&empty[b], parity ^ 1);
            if (i == 0) mbarrier_arrive_expect(&full[b], 128);
            store_async(shared_at(&buffer[32 * b + (int)i], next), v, shared_at(&full[b], next));
        }
        mbarrier_wait(&full[b], parity);
        v = buffer[32 * b + 31 - (int)i] + 1.0f;
        if (!bug || warp == 0) mbarrier_arrive(shared_at(&empty[b], before));
    }
    cluster_sync();
    out[blockIdx.x * 64 + threadIdx.x] = v;
}
static int run_two_warps(int bug)
{
    enum { STEPS = 6 };
    float *out = device_alloc<float>(512);
    launch(clustered(8, 64, 256 + 32, 4), two_warps_kernel, out, (int)STEPS, bug);
    return differs(out, 512, [](int k) { return (float)((k / 64 + 3 * STEPS) % 4 + STEPS); });
}

/* All blocks of a cluster push their part of h to all blocks. Two buffers are enough without
 * another signal: a block's part of step t + 1 shows that the block has read step t, provided that
 * its threads synchronise between those reads and the push. */
__global__ void gather_kernel(float *out, int steps, int bug)
{
    Smem sm;
    unsigned rank = cluster_rank(), n = cluster_size(), i = threadIdx.x, all = 8 * n;
    float *h = sm.take<float>(2 * all);
    Mbarrier *full = sm.take<Mbarrier>(2);
    if (i == 0) {
        mbarrier_init(&full[0], 1);
        mbarrier_init(&full[1], 1);
        mbarrier_arrive_expect(&full[0], 4 * all);
        mbarrier_init_fence();
    }
    cluster_sync();
    float sum = (float)(rank * 8 + i % 8);
    for (int t = 0; t < steps; t++) {
        float *now = h + (t & 1 ? all : 0);
        for (unsigned k = i / 8; k < n; k += blockDim.x / 8)
            store_async(shared_at(&now[rank * 8 + i % 8], k), sum, shared_at(&full[t & 1], k));
        if (i == 0 && t + 1 < steps) mbarrier_arrive_expect(&full[~t & 1], 4 * all);
        mbarrier_wait(&full[t & 1], (unsigned)t / 2 & 1);
        sum = 0.0f;
        for (unsigned k = 0; k < all; k++) sum += now[k] * 0.0625f;
        if (!bug) __syncthreads();
    }
    cluster_sync();
    out[blockIdx.x * blockDim.x + i] = sum;
}
static int gather(int bug)
{
    enum { STEPS = 4 };
    float *out = device_alloc<float>(8 * 64);
    launch(clustered(8, 64, 256 + 16, 4), gather_kernel, out, (int)STEPS, bug);
    /* 31 * 32 / 2 / 16 after the first step, doubled in each later step */
    return differs(out, 8 * 64, [](int) { return 31.0f * 8; });
}

enum {
    BULK_NO_WAIT = 1,
    BULK_NO_PROXY = 2,
    BULK_NO_INIT_FENCE = 4,
    BULK_SOURCE = 8,
    BULK_MISALIGNED = 16,
    BULK_NO_LAST = 32,
    BULK_NO_BARRIER = 64,
    BULK_AS_DATA = 128
};

/* A block writes global memory and copies it into its shared memory by a bulk copy. It changes the
 * words there and copies them into the next block's shared memory by another bulk copy. */
__global__ void bulk_kernel(float *x, float *out, int bug)
{
    Smem sm;
    float4 *a = sm.take<float4>(8), *b = sm.take<float4>(8);
    Mbarrier *in = sm.take<Mbarrier>(1), *over = sm.take<Mbarrier>(1);
    unsigned rank = cluster_rank(), next = (rank + 1) % cluster_size(), i = threadIdx.x;
    x += blockIdx.x * 32;
    if (i == 0) {
        mbarrier_init(in, 1);
        mbarrier_init(over, 1);
        if (!(bug & BULK_NO_INIT_FENCE)) mbarrier_init_fence();
    }
    x[i] = (float)(rank * 100 + i);
    ((float *)a)[i] = ((float *)b)[i] = -1.0f;
    if (!(bug & (BULK_NO_PROXY | BULK_NO_INIT_FENCE))) fence_async_proxy();
    cluster_sync();
    if (i == 0) {
        mbarrier_arrive_expect(in, 128);
        mbarrier_arrive_expect(over, 128);
        copy_bulk(a, x + (bug & BULK_MISALIGNED ? 1 : 0), 128, in);
        if (bug & BULK_SOURCE) x[5] = 0.5f;
    }
    if (!(bug & BULK_NO_WAIT) || i == 0) mbarrier_wait(in, 0);
    float *words = (float *)a;
    words[i] += 1.0f;
    fence_async_proxy();
    if (!(bug & BULK_NO_BARRIER)) __syncthreads();
    if (i == 0) copy_bulk_to(shared_at(b, next), a, 128, shared_at(over, next));
    mbarrier_wait(over, 0);
    if (bug & BULK_AS_DATA && i == 3) *over = 0;
    float v = ((const float *)b)[31 - i];
    if (!(bug & BULK_NO_LAST)) cluster_sync();
    out[blockIdx.x * 32 + i] = v;
}
static int bulk(int bug)
{
    float *x = device_alloc<float>(264), *out = device_alloc<float>(256);
    launch(clustered(8, 32, 288, 4), bulk_kernel, x, out, bug);
    return differs(out, 256,
                   [](int k) { return (float)((k / 32 + 3) % 4 * 100 + 31 - k % 32 + 1); });
}
static int run_bulk_no_wait(int bug) { return bulk(bug ? BULK_NO_WAIT : 0); }
static int run_bulk_no_proxy(int bug) { return bulk(bug ? BULK_NO_PROXY : 0); }
static int run_bulk_no_init_fence(int bug) { return bulk(bug ? BULK_NO_INIT_FENCE : 0); }
static int run_bulk_source(int bug) { return bulk(bug ? BULK_SOURCE : 0); }
static int run_bulk_misaligned(int bug) { return bulk(bug ? BULK_MISALIGNED : 0); }
static int run_bulk_no_last(int bug) { return bulk(bug ? BULK_NO_LAST : 0); }
static int run_bulk_no_barrier(int bug) { return bulk(bug ? BULK_NO_BARRIER : 0); }
static int run_bulk_as_data(int bug) { return bulk(bug ? BULK_AS_DATA : 0); }

enum { MULTICAST_PAST = 1, MULTICAST_LESS = 2, MULTICAST_NO_BARRIER = 4 };

/* One block of a cluster writes a step's words; each block then copies its quarter of them into the
 * shared memory of the whole cluster. */
__global__ void multicast_kernel(float *x, float *out, int steps, int bug)
{
    Smem sm;
    float *all = sm.take<float>(128);
    Mbarrier *full = sm.take<Mbarrier>(1);
    unsigned rank = cluster_rank(), i = threadIdx.x, ranks = bug & MULTICAST_PAST ? 0x1f : 0xf;
    if (bug & MULTICAST_LESS && rank == 2) ranks = 0x7;
    x += blockIdx.x / 4 * 128;
    if (i == 0) {
        mbarrier_init(full, 1);
        mbarrier_init_fence();
    }
    float sum = 0.0f;
    for (int t = 0; t < steps; t++) {
        for (unsigned k = 0; rank == 0 && k < 4; k++)
            x[k * 32 + i] = (float)((unsigned)t * 128 + k * 32 + i);
        fence_async_proxy();
        cluster_sync();
        if (i == 0) {
            mbarrier_arrive_expect(full, 512);
            copy_bulk_multicast(all + rank * 32, x + rank * 32, 128, full, ranks);
        }
        mbarrier_wait(full, (unsigned)t & 1);
        for (unsigned k = 0; k < 4; k++) sum += all[k * 32 + i];
        if (!(bug & MULTICAST_NO_BARRIER)) cluster_sync(); /* all have this step's words */
    }
    cluster_sync();
    out[blockIdx.x * 32 + i] = sum;
}
static int multicast(int bug)
{
    enum { STEPS = 3 };
    float *x = device_alloc<float>(256), *out = device_alloc<float>(256);
    launch(clustered(8, 32, 512 + 16, 4), multicast_kernel, x, out, (int)STEPS, bug);
    return differs(out, 256,
                   [](int k) { return (float)(12 * (k % 32) + 3 * 192 + 4 * (128 + 256)); });
}
static int run_multicast_past(int bug) { return multicast(bug ? MULTICAST_PAST : 0); }
static int run_multicast_less(int bug) { return multicast(bug ? MULTICAST_LESS : 0); }
static int run_multicast_no_barrier(int bug) { return multicast(bug ? MULTICAST_NO_BARRIER : 0); }

/* ---- spins and traps ---- */

__global__ void raw_spin_kernel(unsigned *flag, float *out, int bug)
{
    if (blockIdx.x == 0) {
        if (bug)
            while (*(volatile unsigned *)flag == 0) {
            }
        else
            while (load_poll(flag) == 0) {
            }
        out[threadIdx.x] = 1.0f;
    } else if (threadIdx.x == 0) {
        store_poll(flag, 1u);
    }
}
static int run_raw_spin(int bug)
{
    float *out = device_alloc<float>(32);
    emu_watchdog(0.6);
    launch(shape_of(2, 32), raw_spin_kernel, device_alloc<unsigned>(1), out, bug);
    return differs(out, 32, [](int) { return 1.0f; });
}

__global__ void stack_kernel(float *out, int depth)
{
    float scratch[2048];
    for (int i = 0; i < 2048; i++) store_poll(&scratch[i], (float)(i + depth));
    out[threadIdx.x] = load_poll(&scratch[threadIdx.x * 7 % 2048]) > 0.0f ? 1.0f : 1.0f;
}
__global__ void deep_stack_kernel(float *out, int depth)
{
    float scratch[48 * 1024]; /* 192 KB */
    for (int i = 0; i < 48 * 1024; i++) store_poll(&scratch[48 * 1024 - 1 - i], (float)(i + depth));
    out[threadIdx.x] = load_poll(&scratch[threadIdx.x * 7]) > 0.0f ? 1.0f : 1.0f;
}
static int run_stack(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32), bug ? deep_stack_kernel : stack_kernel, out, 1);
    return differs(out, 32, [](int) { return 1.0f; });
}

__global__ void trap_kernel(float *out, int bug)
{
    if (bug && threadIdx.x == 3) __trap();
    out[threadIdx.x] = 1.0f;
}
static int run_trap(int bug)
{
    float *out = device_alloc<float>(32);
    launch(shape_of(1, 32), trap_kernel, out, bug);
    return differs(out, 32, [](int) { return 1.0f; });
}

/* ---- the host's side ---- */

static int run_host_touch(int bug)
{
    float *x = device_alloc<float>(16);
    cudaDeviceSynchronize();
    if (bug) return ((volatile float *)x)[3] != 0.0f;
    return differs(x, 16, [](int) { return 0.0f; });
}

/* The result is read before the copy has been waited for. */
static int run_early_read(int bug)
{
    cudaStream_t s;
    float *pinned, *x = device_alloc<float>(16), *y = device_alloc<float>(16);
    cudaStreamCreate(&s);
    cudaMallocHost(&pinned, 64);
    for (int i = 0; i < 16; i++) pinned[i] = 0.0f;
    cudaDeviceSynchronize();
    launch(shape_of(1, 16, 0, false, s), copy_kernel, y, x, 16);
    cudaMemcpyAsync(pinned, y, 64, cudaMemcpyDeviceToHost, s);
    if (!bug) cudaStreamSynchronize(s);
    return !(pinned[3] == 0.0f);
}

/* The source of a copy is changed while the copy may still be under way. */
static int run_source_changed(int bug)
{
    cudaStream_t s;
    float *pinned, *x = device_alloc<float>(16);
    cudaStreamCreate(&s);
    cudaMallocHost(&pinned, 64);
    for (int i = 0; i < 16; i++) pinned[i] = 1.0f;
    cudaDeviceSynchronize();
    cudaMemcpyAsync(x, pinned, 64, cudaMemcpyHostToDevice, s);
    if (!bug) cudaStreamSynchronize(s);
    pinned[3] = 2.0f;
    cudaDeviceSynchronize();
    return differs(x, 16, [](int) { return 1.0f; });
}

/* One stream reads what another writes, without a wait. */
static int run_no_event(int bug)
{
    cudaStream_t a, b;
    cudaEvent_t done;
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    float *x = device_alloc<float>(16), *y = device_alloc<float>(16),
          *ones = device_alloc<float>(16);
    std::vector<float> host(16, 1.0f);
    cudaMemcpy(ones, host.data(), 64, cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();
    launch(shape_of(1, 16, 0, false, a), copy_kernel, x, ones, 16);
    cudaEventRecord(done, a);
    if (!bug) cudaStreamWaitEvent(b, done, 0);
    launch(shape_of(1, 16, 0, false, b), copy_kernel, y, x, 16);
    cudaStreamSynchronize(b);
    return differs(y, 16, [](int) { return 1.0f; });
}

/* ---- correct idioms ---- */

static __device__ float block_sum(float v)
{
    SHARED_ARRAY(float, part, 32);
    for (int o = 16; o > 0; o /= 2) v += __shfl_down_sync(0xffffffffu, v, (unsigned)o);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0.0f;
    for (unsigned w = 0; w < blockDim.x / 32; w++) sum += part[w];
    __syncthreads();
    return sum;
}

/* "Last block": the block that draws the last ticket adds up the results of the others. */
__global__ void ticket_kernel(const float *x, float *partial, unsigned *ticket, float *out)
{
    SHARED_ARRAY(unsigned, last, 1);
    float sum = block_sum(x[blockIdx.x * blockDim.x + threadIdx.x]);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last[0] && threadIdx.x == 0) {
        float total = 0.0f;
        for (unsigned b = 0; b < gridDim.x; b++) total += partial[b];
        out[0] = total;
    }
}
static int idiom_ticket(int)
{
    float *x = device_alloc<float>(256), *out = device_alloc<float>(1);
    std::vector<float> ones(256, 1.0f);
    cudaMemcpy(x, ones.data(), 1024, cudaMemcpyHostToDevice);
    launch(shape_of(4, 64), ticket_kernel, x, device_alloc<float>(4, false),
           device_alloc<unsigned>(1), out);
    return differs(out, 1, [](int) { return 256.0f; });
}

static int idiom_lock(int) { return lock(0); }
static int idiom_hop(int) { return hop(0); }
static int idiom_persistent(int) { return steps_run(0, 5, 64, 6); }
static int idiom_reuse(int) { return run_reuse(0); }

/* A chain of blocks, each waiting for the one before, with ordered loads and stores. */
__global__ void chain_kernel(float *value, unsigned *flags)
{
    if (threadIdx.x == 0) {
        if (blockIdx.x > 0)
            while (load_acquire(&flags[blockIdx.x - 1]) == 0) poll_pause();
        value[blockIdx.x + 1] = value[blockIdx.x] + 1.0f;
        store_release(&flags[blockIdx.x], 1u);
    }
}
static int idiom_chain(int)
{
    float *value = device_alloc<float>(9);
    launch(shape_of(8, 32), chain_kernel, value, device_alloc<unsigned>(8));
    return differs(value, 9, [](int i) { return (float)i; });
}

/* Each warp publishes for itself: after a __syncwarp lane 0 fences and increments the counter.
 * Readers wait for all warps of all blocks. */
__global__ void warp_release_kernel(float *x, unsigned *arrived, float *out)
{
    unsigned n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
    x[i] = (float)i;
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (load_poll(arrived) < n / 32) poll_pause();
        __threadfence();
    }
    __syncwarp();
    out[i] = x[n - 1 - i];
}
static int idiom_warp_release(int)
{
    float *out = device_alloc<float>(192);
    launch(shape_of(3, 64), warp_release_kernel, device_alloc<float>(192, false),
           device_alloc<unsigned>(1), out);
    return differs(out, 192, [](int i) { return (float)(191 - i); });
}

/* One flag per producer instead of a grid barrier; buffers are reused two steps later. */
__global__ void per_block_flags_kernel(float *h, unsigned *flags, int steps)
{
    for (int t = 0; t < steps; t++) {
        const float *in = h + (t & 1) * gridDim.x;
        float *out = h + (~t & 1) * gridDim.x;
        if (threadIdx.x < gridDim.x)
            while (load_poll(&flags[threadIdx.x]) < (unsigned)t) poll_pause();
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            float sum = 1.0f;
            for (unsigned b = 0; b < gridDim.x; b++) sum += in[b];
            out[blockIdx.x] = sum;
            __threadfence();
            store_poll(&flags[blockIdx.x], (unsigned)(t + 1));
        }
    }
}
static int idiom_per_block_flags(int)
{
    float *h = device_alloc<float>(8);
    launch(shape_of(4, 32), per_block_flags_kernel, h, device_alloc<unsigned>(4), 4);
    return differs(h, 4, [](int) { return 85.0f; }); /* 1, 5, 21, 85 */
}

__global__ void grid_sync_kernel(float *a, float *b, int steps)
{
    cg::grid_group grid = cg::this_grid();
    unsigned n = (unsigned)grid.size(), i = (unsigned)grid.thread_rank();
    for (int t = 0; t < steps; t++) {
        b[i] = a[(i + 37) % n] + 1.0f;
        grid.sync();
        a[i] = b[(i + 11) % n];
        grid.sync();
    }
}
static int idiom_grid_sync(int)
{
    float *a = device_alloc<float>(128);
    launch(shape_of(4, 32, 0, true), grid_sync_kernel, a, device_alloc<float>(128), 3);
    return differs(a, 128, [](int) { return 3.0f; });
}

/* Two phases over the same shared memory, carved twice. */
__global__ void overlay_kernel(float *out)
{
    Smem sm;
    float *keep = sm.take<float>(64);
    Smem::Mark mark = sm.mark();
    float *first = sm.take<float>(64);
    first[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    keep[threadIdx.x] = first[63 - threadIdx.x];
    __syncthreads();
    sm.rewind(mark);
    float *low = sm.take<float>(32), *high = sm.take<float>(32);
    (threadIdx.x < 32 ? low[threadIdx.x] : high[threadIdx.x - 32]) = 2.0f * keep[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = threadIdx.x < 32 ? high[threadIdx.x] : low[threadIdx.x - 32];
}
static int idiom_overlay(int)
{
    float *out = device_alloc<float>(64);
    launch(shape_of(1, 64, 512), overlay_kernel, out);
    return differs(out, 64, [](int i) { return 2.0f * (float)(63 - (i + 32) % 64); });
}

/* Neighbouring threads write the halves of one word. */
__global__ void halves_kernel(unsigned short *x, unsigned short *out)
{
    SHARED_ARRAY(unsigned short, s, 64);
    s[threadIdx.x] = (unsigned short)threadIdx.x;
    x[threadIdx.x] = (unsigned short)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = (unsigned short)(s[63 - threadIdx.x] + x[threadIdx.x ^ 1]);
}
static int idiom_halves(int)
{
    unsigned short *out = device_alloc<unsigned short>(64);
    launch(shape_of(1, 64), halves_kernel, device_alloc<unsigned short>(64, false), out);
    std::vector<unsigned short> v = fetch(out, 64);
    return v.empty() || v[5] != 58 + 4;
}

/* A bounded wait that times out: the flag is never set, and all blocks leave and report it. */
__global__ void bounded_kernel(unsigned *flag, unsigned *timed_out)
{
    if (threadIdx.x == 0)
        for (unsigned n = 0; load_poll(flag) == 0; n++)
            if (poll_expired(n, 1u << 20)) {
                atomicAdd(timed_out, 1u);
                break;
            }
    __syncthreads();
}
static int idiom_bounded(int)
{
    unsigned *timed_out = device_alloc<unsigned>(1);
    launch(shape_of(4, 32), bounded_kernel, device_alloc<unsigned>(1), timed_out);
    std::vector<unsigned> v = fetch(timed_out, 1);
    return v.empty() || v[0] != 4;
}

/* The wait of all blocks times out; the first block to change the record's state fills it in, the
 * others do not change it. */
__global__ void reporter_kernel(unsigned *flag, unsigned *record)
{
    if (threadIdx.x != 0) return;
    for (unsigned n = 0; load_poll(flag) == 0; n++)
        if (poll_expired(n, 1u << 20)) {
            if (atomicCAS(&record[0], 0u, 1u) == 0u) {
                record[1] = blockIdx.x;
                record[2] = 77;
            }
            break;
        }
}
static int idiom_reporter(int)
{
    unsigned *record = device_alloc<unsigned>(3);
    launch(shape_of(4, 32), reporter_kernel, device_alloc<unsigned>(1), record);
    std::vector<unsigned> v = fetch(record, 3);
    return v.empty() || v[0] != 1 || v[1] > 3 || v[2] != 77;
}

/* A ring of three stages in shared memory: while one is summed, the next two are in flight. */
__global__ void pipeline_kernel(const float *in, float *out, int steps)
{
    Smem sm;
    float4 *ring = sm.take<float4>(3 * 32);
    unsigned i = threadIdx.x;
    const float4 *from = (const float4 *)in;
    for (int t = 0; t < 2; t++) {
        if (t < steps) copy_async16(&ring[t * 32 + (int)i], &from[t * 32 + (int)i]);
        copy_async_commit();
    }
    float sum = 0.0f;
    for (int t = 0; t < steps; t++) {
        copy_async_wait<1>();
        __syncthreads(); /* all threads see stage t, and all have read stage t - 1 */
        int next = t + 2;
        if (next < steps) copy_async16(&ring[next % 3 * 32 + (int)i], &from[next * 32 + (int)i]);
        copy_async_commit();
        float4 v = ring[t % 3 * 32 + 31 - (int)i];
        sum += v.x + v.y + v.z + v.w;
    }
    out[i] = sum;
}
static int idiom_pipeline(int)
{
    enum { STEPS = 5 };
    std::vector<float> host(STEPS * 128);
    for (int i = 0; i < STEPS * 128; i++) host[(size_t)i] = (float)(i % 128 / 4 + i / 128);
    float *in = device_alloc<float>(STEPS * 128), *out = device_alloc<float>(32);
    cudaMemcpy(in, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice);
    launch(shape_of(1, 32, 1536), pipeline_kernel, in, out, (int)STEPS);
    return differs(out, 32, [](int i) { return (float)(4 * (5 * (31 - i) + 10)); });
}

/* Work between the halves of the cluster's barrier, on memory that the barrier does not protect. */
__global__ void split_cluster_kernel(float *out, int steps)
{
    Smem sm;
    float *mine = sm.take<float>(64), *own = sm.take<float>(32);
    unsigned rank = cluster_rank(), n = cluster_size(), i = threadIdx.x;
    cluster_sync();
    for (int t = 0; t < steps; t++) {
        for (unsigned k = 0; k < n; k++)
            if (i == k) cluster_map(mine, k)[(t & 1) * 32 + (int)rank] = (float)(t + (int)rank);
        cluster_arrive();
        own[i] = (float)t;
        __syncwarp();
        float kept = own[31 - i];
        cluster_wait();
        float sum = 0.0f;
        for (unsigned k = 0; k < n; k++) sum += mine[(t & 1) * 32 + (int)k];
        out[blockIdx.x * 32 + i] = sum + kept;
        __syncwarp();
    }
    cluster_sync();
}
static int idiom_split_cluster(int)
{
    float *out = device_alloc<float>(256);
    launch(clustered(8, 32, 384, 8), split_cluster_kernel, out, 4);
    return differs(out, 256, [](int) { return (float)(8 * 3 + 28 + 3); });
}

/* More clusters than can be resident: they start as others end. */
static int idiom_many_clusters(int)
{
    enum { ONE_PER_SM = 120000 };
    cudaFuncSetAttribute(exchange_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, ONE_PER_SM);
    return exchange_sized(0, 33, 2, ONE_PER_SM);
}

/* Uses the block's own mbarrier as a barrier at which a thread arrives without waiting, and a
 * bounded wait that times out. */
__global__ void mbarrier_kernel(float *out, unsigned *timed_out)
{
    SHARED_ARRAY(float, s, 64);
    SHARED_ARRAY(Mbarrier, b, 2);
    if (threadIdx.x == 0) {
        mbarrier_init(&b[0], 32);
        mbarrier_init(&b[1], 1);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        s[threadIdx.x] = (float)threadIdx.x;
        mbarrier_arrive(&b[0]);
    } else {
        while (!mbarrier_try(&b[0], 0)) poll_pause();
        out[threadIdx.x - 32] = s[63 - threadIdx.x];
    }
    if (threadIdx.x == 0)
        for (unsigned n = 0; !mbarrier_try(&b[1], 0); n++)
            if (poll_expired(n, 1u << 20)) {
                atomicAdd(timed_out, 1u);
                break;
            }
}
static int idiom_mbarrier(int)
{
    float *out = device_alloc<float>(32);
    unsigned *timed_out = device_alloc<unsigned>(1);
    launch(shape_of(1, 64), mbarrier_kernel, out, timed_out);
    std::vector<unsigned> v = fetch(timed_out, 1);
    return v.empty() || v[0] != 1 || differs(out, 32, [](int i) { return (float)(31 - i); });
}

/* The halves of a warp run operations with masks of their own at the same time. */
__global__ void half_warps_kernel(int *out)
{
    int v = (int)threadIdx.x;
    unsigned mask = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
    if (threadIdx.x % 32 < 16)
        for (int o = 8; o > 0; o /= 2) v += __shfl_xor_sync(mask, v, o, 16);
    else
        for (int o = 8; o > 0; o /= 2) v = max(v, __shfl_xor_sync(mask, v, o, 16));
    out[threadIdx.x] = v;
}
static int idiom_half_warps(int)
{
    int *out = device_alloc<int>(64);
    launch(shape_of(1, 64), half_warps_kernel, out);
    std::vector<int> v = fetch(out, 64);
    return v.empty() || v[0] != 120 || v[20] != 31 || v[33] != 120 + 16 * 32 || v[63] != 63;
}

extern "C" int example_persistent(void); /* test_emu_faults.cpp: the worked example */
static int idiom_example(int) { return example_persistent(); }

/* ---- the lists ---- */

#define R REPORTED
#define W WRONG
#define S SILENT
#define T TRAPPED
const FaultCase fault_cases[] = {
    /* name, what, run, words of the report, plain, asan, race, twin, seeds */
    {"missing-syncthreads", "missing `__syncthreads` after filling shared memory", run_syncthreads,
     "same block: a __syncthreads is missing", W, W, R, 1, 1},
    {"missing-syncwarp", "missing `__syncwarp`", run_syncwarp, "same warp: a __syncwarp", W, W, R,
     1, 1},
    {"warp-synchronous", "warp-synchronous volatile code without `__syncwarp`", run_warp_volatile,
     "", W, W, W, 1, 1},
    {"same-word", "several threads write one shared word", run_same_word, "race: plain write", S, S,
     R, 1, 1},
    {"buffer-reused", "shared buffer filled again before all have read it", run_reuse,
     "a __syncthreads is missing", W, W, R, 1, 1},
    {"no-release", "flag hop without the release fence", run_no_release, "release fence", S, S, R,
     1, 1},
    {"no-acquire", "flag hop without the acquire fence", run_no_acquire,
     "the acquire fence (__threadfence) is missing", S, S, R, 1, 1},
    {"no-fences", "flag hop without any fence", run_no_fence, "race: plain read", S, S, R, 1, 1},
    {"block-scope", "`__threadfence_block` between blocks", run_block_scope, "release fence", S, S,
     R, 1, 1},
    {"fence-before-barrier", "all threads fence, `__syncthreads`, thread 0 signals without a fence",
     run_fence_before_barrier, "release fence", S, S, R, 1, 1},
    {"no-grid-barrier", "no grid barrier between steps", run_no_barrier, "different blocks", W, W,
     R, 1, 1},
    {"one-buffer", "h not double-buffered (write over unordered read)", run_one_buffer,
     "different blocks", W, W, R, 1, 1},
    {"stale-load", "`__ldg` of memory that this kernel writes", run_stale, "stale read-only load",
     S, S, R, 1, 1},
    {"lock-acquire", "lock without the fence after taking it", run_lock_acquire,
     "the acquire fence", S, S, R, 1, 1},
    {"lock-release", "lock without the fence before giving it back", run_lock_release,
     "release fence", S, S, R, 1, 1},
    {"mixed-atomic", "counter changed by atomics and by a plain store", run_mixed, "race: plain", S,
     S, R, 1, 1},
    {"copy-no-wait", "read before the wait for an asynchronous copy (cp.async)", run_copy_no_wait,
     "copy is still under way", W, W, R, 1, 1},
    {"copy-no-commit", "asynchronous copy waited for, but its group never closed",
     run_copy_no_commit, "copy is still under way", W, W, R, 0, 1},
    {"copy-one-left", "wait that leaves one group of copies too many", run_copy_one_left,
     "copy is still under way", W, W, R, 0, 1},
    {"copy-no-sync", "no `__syncthreads` after the wait for a copy", run_copy_no_sync, "race: ", W,
     W, R, 0, 1},
    {"copy-source", "source of an asynchronous copy overwritten before the wait", run_copy_source,
     "before the copy had been waited for", R, R, R, 0, 1},
    {"copy-misaligned", "misaligned 16-byte asynchronous copy", run_copy_misaligned,
     "misaligned copy", R, R, R, 0, 0},
    {"ldmatrix-sync", "no `__syncwarp` before ldmatrix", run_ldmatrix_sync,
     "same warp: a __syncwarp", S, S, R, 1, 1},
    {"ldmatrix-misaligned", "ldmatrix of a row that is no multiple of 16 bytes",
     run_ldmatrix_misaligned, "ldmatrix of a misaligned row", R, R, R, 0, 0},
    {"mma-divergent", "mma in a divergent branch", run_mma_divergent, "divergent warp operation", R,
     R, R, 0, 1},
    {"mma-half", "mma in half a warp", run_mma_half, "it needs all 32", R, R, R, 0, 0},
    {"cluster-no-first", "store into another block's shared memory before any cluster barrier",
     run_no_first, "before any cluster barrier", W, T, R, 1, 1},
    {"cluster-no-barrier", "no cluster barrier between remote stores and reads", run_no_middle,
     "different blocks of a cluster", W, W, R, 0, 1},
    {"cluster-no-last", "a block ends before a peer has read its shared memory", run_no_last,
     "that block has ended", W, T, R, 0, 1},
    {"cluster-arrive-twice", "cluster barrier: arrive twice without a wait", run_arrive_twice,
     "has not waited since it did", R, R, R, 0, 1},
    {"cluster-divergent", "cluster barrier in a divergent branch", run_split_warp,
     "divergent cluster barrier", R, R, R, 0, 1},
    {"cluster-rank", "shared memory of a block past the cluster's size", run_past_cluster,
     "of a cluster of 4", R, R, R, 0, 0},
    {"cluster-16", "cluster of 16 without the attribute that allows it", run_cluster_16,
     "NonPortableClusterSizeAllowed", R, R, R, 1, 0},
    {"clusters-too-many", "persistent grid of more clusters than the GPCs hold",
     run_clusters_too_many, "never started", R, R, R, 1, 0},
    {"push-no-wait", "read before an asynchronous store's mbarrier has counted its bytes",
     run_push_no_wait, "race: ", W, W, R, 1, 1},
    {"push-too-many", "mbarrier told of more bytes than come", run_push_too_many,
     "4 announced bytes", R, R, R, 0, 1},
    {"push-too-few", "mbarrier told of fewer bytes than come", run_push_too_few, "", R, R, R, 0, 1},
    {"push-parity", "wait for the wrong parity", run_push_parity, "", R, R, R, 0, 1},
    {"push-no-empty", "buffer filled again before its reader was done", run_push_no_empty, "", R, R,
     R, 0, 1},
    {"push-one-warp", "buffer filled again after one of two warps has read it", run_two_warps,
     "race: ", S, S, R, 1, 1},
    {"gather-no-sync", "answers pushed before the whole block has read the last step", gather,
     "race: ", S, S, R, 1, 1},
    {"push-no-first", "asynchronous stores before any cluster barrier", run_push_no_first,
     "before any cluster barrier", R, R, R, 0, 1},
    {"push-no-last", "a block ends while a peer still arrives at its mbarrier", run_push_no_last,
     "has ended", R, R, R, 0, 1},
    {"push-other", "target and mbarrier in different blocks", run_push_other,
     "are in different blocks", R, R, R, 0, 0},
    {"bulk-no-wait", "use of shared memory before the bulk copy into it has come", run_bulk_no_wait,
     "race: ", W, W, R, 1, 1},
    {"bulk-no-proxy", "bulk copy of what the kernel wrote, no `fence.proxy.async`",
     run_bulk_no_proxy, "no fence_async_proxy", S, S, R, 0, 1},
    {"bulk-no-init-fence", "bulk copy to an mbarrier made without a fence", run_bulk_no_init_fence,
     "was made without mbarrier_init_fence", R, R, R, 0, 1},
    {"bulk-no-barrier", "bulk copy out of shared memory that others have not filled yet",
     run_bulk_no_barrier, "", R, R, R, 0, 1},
    {"bulk-source", "source of a bulk copy changed before it was waited for", run_bulk_source,
     "before the copy had been waited for", R, R, R, 0, 1},
    {"bulk-misaligned", "misaligned bulk copy", run_bulk_misaligned, "misaligned bulk copy", R, R,
     R, 0, 0},
    {"bulk-no-last", "a block ends while a bulk copy reads its shared memory", run_bulk_no_last,
     "has ended", R, R, R, 0, 1},
    {"multicast-past", "multicast to a block past the cluster's size", run_multicast_past,
     "of a cluster of 4", R, R, R, 0, 0},
    {"multicast-less", "multicast that leaves out a block which waits for it", run_multicast_less,
     "", R, R, R, 0, 1},
    {"multicast-no-barrier", "source of a multicast written again before all blocks have it",
     run_multicast_no_barrier, "", R, R, R, 0, 1},
    {"mbarrier-as-data", "plain store to an mbarrier", run_bulk_as_data, "mbarrier", R, R, R, 0, 0},
    {"shared-end", "shared write one past the last piece", run_shared_end, "", R, T, R, 1, 0},
    {"shared-inner", "shared write one past an inner piece", run_shared_inner, "", R, T, R, 1, 0},
    {"shared-far", "shared write far away", run_shared_far, "outside its pieces", S, S, R, 1, 0},
    {"foreign-shared", "write into another block's shared memory", run_foreign_shared,
     "shared memory of block (0,0,0)", W, W, R, 1, 0},
    {"carve-too-large", "shared pieces outgrow the launch's bytes", run_carve,
     "past the launch's size", R, R, R, 1, 0},
    {"unset-shared", "read of shared memory nobody wrote", run_uninitialised_shared,
     "uninitialised read", W, W, R, 1, 0},
    {"unset-device", "read of device memory nobody wrote", run_uninitialised_device,
     "uninitialised read", W, W, R, 1, 0},
    {"device-end", "device write one past an allocation", run_device_end, "", R, T, R, 1, 0},
    {"use-after-free", "kernel reads freed device memory", run_use_after_free,
     "in no live allocation", W, T, R, 1, 0},
    {"host-pointer", "kernel reads host memory", run_host_pointer, "host memory", S, S, R, 1, 0},
    {"null-pointer", "kernel reads through a null pointer", run_null_pointer,
     "illegal memory access", R, T, R, 1, 0},
    {"misaligned", "misaligned `float4` load", run_misaligned, "misaligned", R, T, R, 1, 0},
    {"divergent-barrier", "`__syncthreads` in a divergent branch", run_divergent_barrier,
     "divergent barrier", R, R, R, 1, 1},
    {"early-exit", "some threads return before the barrier", run_early_exit, "early exit", R, R, R,
     1, 1},
    {"barrier-count", "wrong barrier count: one warp goes round once more", run_barrier_count, "",
     R, R, R, 1, 1},
    {"divergent-shuffle", "shuffle in a divergent branch", run_divergent_shuffle,
     "divergent warp operation", R, R, R, 1, 1},
    {"shuffle-deadlock", "half of the mask never comes to the shuffle", run_shuffle_deadlock,
     "deadlock", R, R, R, 1, 1},
    {"mask-without-self", "mask lacks the caller's lane", run_mask, "lacks its own lane", R, R, R,
     1, 0},
    {"absent-lane", "shuffle reads a lane outside the mask", run_absent_lane, "", W, W, W, 1, 0},
    {"wrong-target", "grid barrier waits for one block too many", run_wrong_target, "livelock", R,
     R, R, 1, 1},
    {"grid-too-large", "persistent grid larger than the device holds", run_grid_too_large,
     "never started", R, R, R, 1, 0},
    {"cooperative-too-large", "cooperative grid larger than the device holds",
     run_cooperative_too_large, "cudaErrorCooperativeLaunchTooLarge", R, R, R, 1, 0},
    {"not-cooperative", "`grid.sync` in an ordinary launch", run_not_cooperative, "not cooperative",
     R, R, R, 1, 0},
    {"raw-spin", "raw volatile spin", run_raw_spin, "raw spin", R, R, S, 1, 0},
    {"stack", "stack overflow", run_stack, "overflowed its", R, R, R, 1, 0},
    {"trap", "`__trap`", run_trap, "__trap()", R, R, R, 1, 0},
    {"host-touches-device", "host reads device memory", run_host_touch,
     "the host touches device memory", R, R, R, 1, 0},
    {"early-read", "copy to the host not waited for", run_early_read, "", W, W, W, 1, 0},
    {"source-changed", "source of an asynchronous copy changed too early", run_source_changed,
     "a copy was not waited for", R, R, R, 1, 0},
    {"no-event", "stream reads what another writes, no event", run_no_event, "", W, W, W, 1, 0},
};
const int fault_count = (int)(sizeof fault_cases / sizeof fault_cases[0]);

const IdiomCase idiom_cases[] = {
    {"ticket reduction", idiom_ticket},
    {"CAS lock", idiom_lock},
    {"flag hop", idiom_hop},
    {"chain of acquire loads and release stores", idiom_chain},
    {"each warp publishes for itself", idiom_warp_release},
    {"one flag per block", idiom_per_block_flags},
    {"persistent loop, own grid barrier, double buffer", idiom_persistent},
    {"shared buffer reused behind barriers", idiom_reuse},
    {"shared memory carved twice", idiom_overlay},
    {"grid.sync", idiom_grid_sync},
    {"halves of one word", idiom_halves},
    {"bounded wait that times out", idiom_bounded},
    {"one elected reporter", idiom_reporter},
    {"ring of asynchronous copies", idiom_pipeline},
    {"cluster barrier in two halves", idiom_split_cluster},
    {"more clusters than are resident", idiom_many_clusters},
    {"mbarrier within a block, bounded wait", idiom_mbarrier},
    {"half warps with masks of their own", idiom_half_warps},
    {"the worked example", idiom_example},
};
const int idiom_count = (int)(sizeof idiom_cases / sizeof idiom_cases[0]);
