/* constants: see constants.h. Waits are bounded, so that a machine that cannot do it says so instead of
 * hanging. */
#include <cooperative_groups.h>

#include "../kernels/dev.cuh"
#include "../kernels/grid_barrier.cuh"
#include "constants.h"

static const unsigned POLLS = 1u << 24; /* seconds */

/* ---- launches ---- */

__global__ void empty_kernel() {}

__global__ void delay_kernel(unsigned cycles, ClockSample *out)
{
    unsigned long long began = timer_now();
    unsigned start = clock_now(), spent = 0;
    for (; spent < cycles; spent = clock_now() - start) poll_pause();
    out->nanoseconds = timer_now() - began;
    out->cycles = spent;
}

extern "C" cudaError_t constants_empty(cudaStream_t stream)
{
    LaunchShape shape = {dim3(1), dim3(32), 0, stream, false};
    return launch(shape, empty_kernel);
}

extern "C" cudaError_t constants_delay(cudaStream_t stream, unsigned cycles, ClockSample *out)
{
    LaunchShape shape = {dim3(1), dim3(1), 0, stream, false};
    return launch(shape, delay_kernel, cycles, out);
}

/* ---- rates ---- */

__global__ void __launch_bounds__(CONSTANTS_THREADS)
    copy_kernel(int64_t quads, const float4 *from, float4 *to)
{
    int64_t stride = (int64_t)gridDim.x * CONSTANTS_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * CONSTANTS_THREADS + threadIdx.x; i < quads; i += stride)
        to[i] = from[i];
}

extern "C" cudaError_t constants_copy(cudaStream_t stream, int blocks, int64_t n, const float *from,
                                      float *to)
{
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, false};
    return launch(shape, copy_kernel, n / 4, (const float4 *)from, (float4 *)to);
}

__global__ void __launch_bounds__(CONSTANTS_THREADS) fma_kernel(int rounds, float a, float b, float *out)
{
    float x[CONSTANTS_CHAINS], sum = 0.0f;
    for (int c = 0; c < CONSTANTS_CHAINS; c++) x[c] = (float)(threadIdx.x + c);
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < CONSTANTS_FMA / CONSTANTS_CHAINS; i++)
            for (int c = 0; c < CONSTANTS_CHAINS; c++) x[c] = fmaf(a, x[c], b);
    }
    for (int c = 0; c < CONSTANTS_CHAINS; c++) sum += x[c];
    out[blockIdx.x * CONSTANTS_THREADS + threadIdx.x] = sum;
}

extern "C" cudaError_t constants_fma(cudaStream_t stream, int blocks, int rounds, float a, float b,
                                     float *out)
{
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, false};
    return launch(shape, fma_kernel, rounds, a, b, out);
}

template <int TF32> __global__ void __launch_bounds__(CONSTANTS_THREADS) mma_kernel(int rounds, float *out)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    const unsigned one = TF32 ? 0x3f800000u : 0x3f803f80u; /* 1, or twice 1 */
    const unsigned a[4] = {one, one, one, one}, b[2] = {one, one};
    float d[CONSTANTS_CHAINS][4] = {}, sum = 0.0f;
    for (int r = 0; r < rounds; r++) {
#pragma unroll
        for (int c = 0; c < CONSTANTS_CHAINS; c++) {
            if (TF32) mma_tf32(d[c], a, b);
            else mma_bf16(d[c], a, b);
        }
    }
    for (int c = 0; c < CONSTANTS_CHAINS; c++) sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
    out[blockIdx.x * CONSTANTS_THREADS + threadIdx.x] = sum;
#else
    (void)rounds, (void)out;
#endif
}

extern "C" cudaError_t constants_mma(cudaStream_t stream, int tf32, int blocks, int rounds, float *out)
{
    int device, major;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error || major < 8) return error ? error : cudaErrorNotSupported;
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, false};
    return launch(shape, tf32 ? mma_kernel<1> : mma_kernel<0>, rounds, out);
}

/* ---- barriers ---- */

/* Waits until *p has reached `target`; the counters of this file never wrap. False: it never did. */
static __device__ bool wait_for(const unsigned *p, unsigned target)
{
    for (unsigned n = 0; load_acquire(p) < target; n++)
        if (poll_expired(n, POLLS)) return false;
    return true;
}

/* One counter for all: block barriers stand around the one thread that talks to other blocks. */
static __device__ bool counter_barrier(unsigned *state, unsigned round)
{
    __syncthreads();
    bool there = true;
    if (threadIdx.x == 0) {
        __threadfence(); /* releases what the block wrote: the add itself orders nothing */
        atomicAdd(&state[0], 1u);
        there = wait_for(&state[0], (round + 1) * gridDim.x);
    }
    return __syncthreads_and(there);
}

/* A word per block, which nobody else writes; block 0 sees them all, a thread each, and lets everybody go. */
static __device__ bool flags_barrier(unsigned *state, unsigned round)
{
    unsigned *flag = state + 2, *go = state + 1;
    __syncthreads();
    bool there = true;
    if (threadIdx.x == 0) store_release(&flag[blockIdx.x], round + 1);
    if (blockIdx.x == 0) {
        for (unsigned b = threadIdx.x; b < gridDim.x && there; b += blockDim.x)
            there = wait_for(&flag[b], round + 1);
        there = __syncthreads_and(there);
        if (threadIdx.x == 0) store_release(go, round + 1);
    } else if (threadIdx.x == 0) {
        there = wait_for(go, round + 1);
    }
    return __syncthreads_and(there);
}

/* That of the persistent variants, both halves at once. */
static __device__ bool own_barrier(GridBarrier *b, unsigned round)
{
    __syncthreads();
    barrier_arrive(b);
    return barrier_wait(b, round);
}

template <int KIND>
__global__ void __launch_bounds__(CONSTANTS_THREADS)
    barrier_kernel(int rounds, unsigned *state, unsigned *slots, FaultRecord *fault, unsigned *errors)
{
    SHARED_ARRAY(uint32_t, gone, 1);
    unsigned next = (blockIdx.x + 1) % gridDim.x;
    GridBarrier barrier;
    bool there = KIND != 3 || barrier_open(&barrier, state + 2, gridDim.x, blockIdx.x, 0, POLLS, gone, fault);
    for (unsigned r = 0; r < (unsigned)rounds && there; r++) {
        unsigned *now = slots + r % 2 * gridDim.x; /* two sets: a neighbour may be a round ahead, never two */
        if (threadIdx.x == 0) now[blockIdx.x] = r + 1;
        if (KIND == 0) there = counter_barrier(state, r);
        else if (KIND == 1) there = flags_barrier(state, r);
        else if (KIND == 2) cooperative_groups::this_grid().sync();
        else there = own_barrier(&barrier, r);
        if (threadIdx.x == 0 && (!there || load_poll(&now[next]) != r + 1)) atomicAdd(errors, 1u);
    }
}

extern "C" cudaError_t constants_barrier(cudaStream_t stream, int kind, int blocks, int rounds,
                                         unsigned *state, unsigned *slots, FaultRecord *fault,
                                         unsigned *errors)
{
    void (*const kernels[CONSTANTS_BARRIERS])(int, unsigned *, unsigned *, FaultRecord *, unsigned *) = {
        barrier_kernel<0>, barrier_kernel<1>, barrier_kernel<2>, barrier_kernel<3>};
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, true};
    return launch(shape, kernels[kind], rounds, state, slots, fault, errors);
}

/* ---- one block's words to all ---- */

__global__ void __launch_bounds__(CONSTANTS_THREADS)
    broadcast_kernel(int rounds, int words, unsigned *state, unsigned *buffer, FaultRecord *fault,
                     unsigned *errors)
{
    SHARED_ARRAY(uint32_t, gone, 1);
    GridBarrier barrier;
    bool there = barrier_open(&barrier, state + 2, gridDim.x, blockIdx.x, 0, POLLS, gone, fault);
    for (unsigned r = 0; r < (unsigned)rounds && there; r++) {
        uint4 *now = (uint4 *)(buffer + r % 2 * words);
        unsigned wrong = 0;
        if (blockIdx.x == 0)
            for (int i = threadIdx.x; i < words / 4; i += CONSTANTS_THREADS)
                now[i] = make_uint4(r + 1, r + 1, r + 1, r + 1);
        there = own_barrier(&barrier, r);
        for (int i = threadIdx.x; there && i < words / 4; i += CONSTANTS_THREADS) {
            uint4 v = load_l2(&now[i]);
            wrong |= (v.x ^ (r + 1)) | (v.y ^ (r + 1)) | (v.z ^ (r + 1)) | (v.w ^ (r + 1));
        }
        if (wrong || !there) atomicAdd(errors, 1u);
    }
}

extern "C" cudaError_t constants_broadcast(cudaStream_t stream, int blocks, int rounds, int words,
                                           unsigned *state, unsigned *buffer, FaultRecord *fault,
                                           unsigned *errors)
{
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, true};
    return launch(shape, broadcast_kernel, rounds, words, state, buffer, fault, errors);
}

extern "C" cudaError_t constants_resident(int *blocks)
{
    int device, sms, each;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    if (!error)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, barrier_kernel<2>, CONSTANTS_THREADS, 0);
    if (!error) *blocks = sms * (each < 1 ? each : 1); /* one an SM, as a kernel that fills the SM has it */
    return error;
}

/* ---- hops ---- */

__global__ void hops_kernel(int rounds, unsigned *flags, unsigned *payload, unsigned *errors)
{
    unsigned *mine = flags + 32 * blockIdx.x, *other = flags + 32 * (1 - blockIdx.x);
    for (unsigned r = 1; r <= (unsigned)rounds; r++) {
        if (blockIdx.x == 1) {
            if (!wait_for(other, r)) {
                atomicAdd(errors, 1u);
                return;
            }
            if (payload[0] != r) atomicAdd(errors, 1u);
        }
        payload[blockIdx.x] = r;
        store_release(mine, r);
        if (blockIdx.x == 0) {
            if (!wait_for(other, r)) {
                atomicAdd(errors, 1u);
                return;
            }
            if (payload[1] != r) atomicAdd(errors, 1u);
        }
    }
}

extern "C" cudaError_t constants_hops(cudaStream_t stream, int rounds, unsigned *flags, unsigned *payload,
                                      unsigned *errors)
{
    /* Shared memory that two blocks cannot have on one SM would force them apart; one warp each, on an idle
     * GPU, does. */
    LaunchShape shape = {dim3(2), dim3(1), 0, stream, true};
    return launch(shape, hops_kernel, rounds, flags, payload, errors);
}
