/* constants: see constants.h. Waits are bounded, so that a machine that cannot run a kernel reports
 * an error instead of hanging. */
#include <cooperative_groups.h>

#include <kernels/dev_barrier.cuh>
#include <kernels/dev_cluster.cuh>
#include <kernels/dev_tensor.cuh>

#include "kernels/launch.cuh"
#include "kernels/grid_barrier.cuh"
#include "constants.h"

static const unsigned POLLS = 1u << 24; /* a few seconds */

/* One round of this many is checked, since a check costs as much as a round. */
enum { CHECKED = 16 };

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

__global__ void __launch_bounds__(CONSTANTS_THREADS)
    fma_kernel(int rounds, float a, float b, float *out)
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

template <int TF32, int CHAINS>
__global__ void __launch_bounds__(CONSTANTS_THREADS) mma_kernel(int rounds, float *out)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    const unsigned one = TF32 ? 0x3f800000u : 0x3f803f80u; /* 1.0 in TF32, or two bfloat16 ones */
    const unsigned a[4] = {one, one, one, one}, b[2] = {one, one};
    float d[CHAINS][4] = {}, sum = 0.0f;
    for (int r = 0; r < rounds; r++) {
#pragma unroll
        for (int c = 0; c < CHAINS; c++) {
            if (TF32) mma_tf32(d[c], a, b);
            else mma_bf16(d[c], a, b);
        }
    }
    for (int c = 0; c < CHAINS; c++) sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
    out[blockIdx.x * CONSTANTS_THREADS + threadIdx.x] = sum;
#else
    (void)rounds, (void)out;
#endif
}

extern "C" cudaError_t constants_mma(cudaStream_t stream, int tf32, int blocks, int rounds,
                                     float *out)
{
    int device, major;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error || major < 8) return error ? error : cudaErrorNotSupported;
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, false};
    return launch(shape, tf32 ? mma_kernel<1, CONSTANTS_CHAINS> : mma_kernel<0, CONSTANTS_CHAINS>,
                  rounds, out);
}

extern "C" cudaError_t constants_mma_chain(cudaStream_t stream, int rounds, float *out)
{
    LaunchShape shape = {dim3(1), dim3(32), 0, stream, false};
    return launch(shape, mma_kernel<0, 1>, rounds, out);
}

/* ---- barriers ---- */

/* Waits until *p has reached `target`; the counters of this file never wrap. Returns false on
 * timeout. */
static __device__ bool wait_for(const unsigned *p, unsigned target)
{
    for (unsigned n = 0; load_acquire(p) < target; n++)
        if (poll_expired(n, POLLS)) return false;
    return true;
}

/* Has one counter for all blocks. Block barriers surround the one thread that communicates with
 * other blocks. */
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

/* Has one word per block, which only that block writes. Block 0 polls all of them, one per thread,
 * and then releases every block. */
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

/* The barrier of the persistent variants, arrival and wait together. */
static __device__ bool own_barrier(GridBarrier *b, unsigned round)
{
    __syncthreads();
    barrier_arrive(b);
    return barrier_wait(b, round);
}

template <int KIND>
__global__ void __launch_bounds__(CONSTANTS_THREADS)
    barrier_kernel(int rounds, unsigned *state, unsigned *slots, FaultRecord *fault,
                   unsigned *errors)
{
    SHARED_ARRAY(uint32_t, timed_out, 1);
    unsigned next = (blockIdx.x + 1) % gridDim.x;
    GridBarrier barrier;
    bool there = KIND != 3 || barrier_open(&barrier, state + 2, gridDim.x, blockIdx.x, 0, POLLS,
                                           timed_out, fault);
    for (unsigned r = 0; r < (unsigned)rounds && there; r++) {
        /* There are two sets, since a neighbour may be one round ahead, never two. */
        unsigned *now = slots + r % 2 * gridDim.x;
        if (threadIdx.x == 0) now[blockIdx.x] = r + 1;
        if (KIND == 0) there = counter_barrier(state, r);
        else if (KIND == 1) there = flags_barrier(state, r);
        else if (KIND == 2) cooperative_groups::this_grid().sync();
        else there = own_barrier(&barrier, r);
        if (threadIdx.x == 0 && (!there || (r % CHECKED == 0 && load_poll(&now[next]) != r + 1)))
            atomicAdd(errors, 1u);
    }
}

extern "C" cudaError_t constants_barrier(cudaStream_t stream, int kind, int blocks, int rounds,
                                         unsigned *state, unsigned *slots, FaultRecord *fault,
                                         unsigned *errors)
{
    void (*const kernels[CONSTANTS_BARRIERS])(int, unsigned *, unsigned *, FaultRecord *,
                                              unsigned *) = {barrier_kernel<0>, barrier_kernel<1>,
                                                             barrier_kernel<2>, barrier_kernel<3>};
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, true};
    return launch(shape, kernels[kind], rounds, state, slots, fault, errors);
}

/* ---- broadcast of one block's words to all ---- */

__global__ void __launch_bounds__(CONSTANTS_THREADS)
    broadcast_kernel(int rounds, int words, int read, unsigned *state, unsigned *buffer,
                     FaultRecord *fault, unsigned *errors)
{
    SHARED_ARRAY(uint32_t, timed_out, 1);
    GridBarrier barrier;
    bool there =
        barrier_open(&barrier, state + 2, gridDim.x, blockIdx.x, 0, POLLS, timed_out, fault);
    for (unsigned r = 0; r < (unsigned)rounds && there; r++) {
        uint4 *now = (uint4 *)(buffer + r % 2 * words);
        unsigned wrong = 0;
        if (blockIdx.x == 0)
            for (int i = threadIdx.x; i < words / 4; i += CONSTANTS_THREADS)
                now[i] = make_uint4(r + 1, r + 1, r + 1, r + 1);
        there = own_barrier(&barrier, r);
        for (int i = threadIdx.x; there && read && i < words / 4; i += CONSTANTS_THREADS) {
            uint4 v = load_l2(&now[i]);
            wrong |= (v.x ^ (r + 1)) | (v.y ^ (r + 1)) | (v.z ^ (r + 1)) | (v.w ^ (r + 1));
        }
        if (wrong || !there) atomicAdd(errors, 1u);
    }
}

extern "C" cudaError_t constants_broadcast(cudaStream_t stream, int blocks, int rounds, int words,
                                           int read, unsigned *state, unsigned *buffer,
                                           FaultRecord *fault, unsigned *errors)
{
    LaunchShape shape = {dim3((unsigned)blocks), dim3(CONSTANTS_THREADS), 0, stream, true};
    return launch(shape, broadcast_kernel, rounds, words, read, state, buffer, fault, errors);
}

extern "C" cudaError_t constants_resident(int *blocks)
{
    int device, sms, each;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    if (!error)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, barrier_kernel<2>,
                                                              CONSTANTS_THREADS, 0);
    if (!error)
        *blocks = sms * (each < 1 ? each : 1); /* one per SM, as for a kernel that fills it */
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
            if (r % CHECKED == 1 && payload[0] != r) atomicAdd(errors, 1u);
        }
        payload[blockIdx.x] = r;
        store_release(mine, r);
        if (blockIdx.x == 0) {
            if (!wait_for(other, r)) {
                atomicAdd(errors, 1u);
                return;
            }
            if (r % CHECKED == 1 && payload[1] != r) atomicAdd(errors, 1u);
        }
    }
}

extern "C" cudaError_t constants_hops(cudaStream_t stream, int rounds, unsigned *flags,
                                      unsigned *payload, unsigned *errors)
{
    /* Shared memory of more than half an SM per block would force two blocks onto different SMs;
     * one warp each, on an idle GPU, is placed there anyway. */
    LaunchShape shape = {dim3(2), dim3(1), 0, stream, true};
    return launch(shape, hops_kernel, rounds, flags, payload, errors);
}

/* ---- clusters ---- */

#if DEV_ARCH == 0 || DEV_ARCH >= 900

static __device__ void cluster_barrier()
{
    cluster_arrive();
    cluster_wait();
}

/* Waits for a phase of an mbarrier. Returns false on timeout. */
static __device__ bool phase_over(Mbarrier *b, unsigned parity)
{
    for (unsigned n = 0; !mbarrier_try(b, parity); n++)
        if (poll_expired(n, POLLS)) return false;
    return true;
}
#endif

__global__ void __launch_bounds__(CONSTANTS_THREADS)
    cluster_barrier_kernel(int rounds, unsigned *errors)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    Smem sm;
    unsigned *word = sm.take<unsigned>(2);
    unsigned next = (cluster_rank() + 1) % cluster_size();
    for (unsigned r = 0; r < (unsigned)rounds; r++) {
        bool checked = r % CHECKED == 0 && threadIdx.x == 0;
        unsigned *now = &word[r / CHECKED % 2];
        if (checked) *now = r + 1;
        cluster_barrier();
        if (checked && *cluster_map(now, next) != r + 1) atomicAdd(errors, 1u);
    }
    cluster_barrier(); /* no block ends while its word may still be read */
#else
    (void)rounds, (void)errors;
#endif
}

__global__ void cluster_hops_kernel(int rounds, unsigned *errors)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    Smem sm;
    unsigned *word = sm.take<unsigned>(1);
    Mbarrier *came = sm.take<Mbarrier>(1);
    unsigned rank = cluster_rank(), n = cluster_size(), next = (rank + 1) % n;
    if (threadIdx.x == 0) {
        mbarrier_init(came, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(came, 4);
    }
    cluster_barrier();
    SharedAt to = shared_at(word, next), told = shared_at(came, next);
    bool there = true;
    for (unsigned r = 0; r < (unsigned)rounds && there && threadIdx.x == 0; r++) {
        if (rank == 0) store_async(to, r * n, told);
        there = phase_over(came, r & 1);
        if (!there || *word != r * n + (rank + n - 1) % n) atomicAdd(errors, 1u);
        if (r + 1 < (unsigned)rounds)
            mbarrier_arrive_expect(came, 4); /* before the word can arrive again */
        if (rank != 0) store_async(to, r * n + rank, told);
    }
    cluster_barrier();
#else
    (void)rounds, (void)errors;
#endif
}

/* The links of a ring, so that no address is known before the previous load has returned. */
enum { LINKS = 64, LINK_STEP = 29 };

__global__ void cluster_loads_kernel(int rounds, unsigned *errors)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    Smem sm;
    unsigned *link = sm.take<unsigned>(LINKS);
    for (unsigned i = threadIdx.x; i < LINKS; i += blockDim.x) link[i] = (i + LINK_STEP) % LINKS;
    cluster_barrier();
    const unsigned *ring = cluster_map(link, (cluster_rank() + 1) % cluster_size());
    unsigned at = 0;
    if (cluster_rank() == 0 && threadIdx.x == 0) {
        for (int r = 0; r < rounds; r++) at = load_poll(&ring[at]);
        if (at != (unsigned)rounds * LINK_STEP % LINKS) atomicAdd(errors, 1u);
    }
    cluster_barrier();
#else
    (void)rounds, (void)errors;
#endif
}

#if DEV_ARCH == 0 || DEV_ARCH >= 900
struct GatherPieces { /* two of each, used alternately */
    uint4 *all, *own; /* own: the source of bulk copies */
    Mbarrier *full;
};

static __device__ void gather_carve(Smem sm, int words, GatherPieces *p)
{
    p->all = sm.take<uint4>((size_t)words / 2);
    p->own = sm.take<uint4>((size_t)words / 2);
    p->full = sm.take<Mbarrier>(2);
}
#endif

/* Two buffers need no acknowledgement: the arrival of a block's part of the next round shows that
 * it has read this one. */
template <int KIND>
__global__ void __launch_bounds__(CONSTANTS_THREADS)
    gather_kernel(int rounds, int words, unsigned *errors)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    GatherPieces p;
    gather_carve(Smem(), words, &p);
    const unsigned rank = cluster_rank(), n = cluster_size(), i = threadIdx.x;
    /* part is in units of 16 bytes */
    const unsigned part = (unsigned)words / 4 / n, bytes = (unsigned)words * 4;
    if (i == 0) {
        mbarrier_init(&p.full[0], 1);
        mbarrier_init(&p.full[1], 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(&p.full[0], bytes);
    }
    cluster_barrier();
    bool there = true;
    for (unsigned r = 0; r < (unsigned)rounds && there; r++) {
        const unsigned b = r & 1, v = r + 1;
        uint4 *all = p.all + b * (unsigned)words / 4, *own = p.own + b * (unsigned)words / 4;
        Mbarrier *full = &p.full[b];
        if (i == 0 && v < (unsigned)rounds) mbarrier_arrive_expect(&p.full[b ^ 1], bytes);
        if (KIND == GATHER_BULK) {
            for (unsigned k = i; k < part; k += CONSTANTS_THREADS) own[k] = make_uint4(v, v, v, v);
            fence_async_proxy();
            __syncthreads();
            if (i < n)
                copy_bulk_to(shared_at(all + rank * part, i), own, part * 16, shared_at(full, i));
        } else if (KIND == GATHER_WORDS) {
            unsigned *to = (unsigned *)(all + rank * part);
            for (unsigned k = i; k < 4 * part * n; k += CONSTANTS_THREADS)
                store_async(shared_at(to + k % (4 * part), k / (4 * part)), v,
                            shared_at(full, k / (4 * part)));
        } else {
            for (unsigned k = i; k < part * n; k += CONSTANTS_THREADS)
                store_async(shared_at(all + rank * part + k % part, k / part),
                            make_uint4(v, v, v, v), shared_at(full, k / part));
        }
        there = phase_over(full, r / 2 & 1);
        unsigned wrong = !there;
        for (unsigned k = i; r % CHECKED == 0 && there && k < part * n; k += CONSTANTS_THREADS)
            wrong |= (all[k].x ^ v) | (all[k].y ^ v) | (all[k].z ^ v) | (all[k].w ^ v);
        if (wrong) atomicAdd(errors, 1u);
        there = __syncthreads_and(there);
    }
    cluster_barrier();
#else
    (void)rounds, (void)words, (void)errors;
#endif
}

#if DEV_ARCH == 0 || DEV_ARCH >= 900
struct BulkPieces {
    uint4 *all;
    Mbarrier *full;
    uint32_t *timed_out;
};

static __device__ void bulk_carve(Smem sm, int words, BulkPieces *p)
{
    p->all = sm.take<uint4>((size_t)words / 4);
    p->full = sm.take<Mbarrier>(1);
    p->timed_out = sm.take<uint32_t>(1);
}
#endif

__global__ void __launch_bounds__(CONSTANTS_THREADS)
    broadcast_bulk_kernel(int rounds, int words, int read, unsigned *state, unsigned *buffer,
                          FaultRecord *fault, unsigned *errors)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 900
    BulkPieces p;
    bulk_carve(Smem(), words, &p);
    const unsigned rank = cluster_rank(), n = cluster_size(), i = threadIdx.x,
                   part = (unsigned)words / 4 / n;
    GridBarrier barrier;
    if (i == 0) {
        mbarrier_init(p.full, 1);
        mbarrier_init_fence();
    }
    bool there =
        barrier_open(&barrier, state + 2, gridDim.x, blockIdx.x, 0, POLLS, p.timed_out, fault);
    cluster_barrier();
    for (unsigned r = 0; r < (unsigned)rounds && there; r++) {
        const unsigned v = r + 1;
        uint4 *now = (uint4 *)(buffer + r % 2 * words);
        unsigned wrong = 0;
        if (blockIdx.x == 0)
            for (int k = (int)i; k < words / 4; k += CONSTANTS_THREADS)
                now[k] = make_uint4(v, v, v, v);
        fence_async_proxy();
        if (i == 0 && read) mbarrier_arrive_expect(p.full, (unsigned)words * 4);
        there = own_barrier(&barrier, r);
        if (!there || !read) continue;
        if (i == 0 && n > 1)
            copy_bulk_multicast(p.all + rank * part, now + rank * part, part * 16, p.full,
                                (1u << n) - 1);
        else if (i == 0) copy_bulk(p.all, now, part * 16, p.full);
        there = phase_over(p.full, r & 1);
        for (unsigned k = i; there && k < part * n; k += CONSTANTS_THREADS)
            wrong |= (p.all[k].x ^ v) | (p.all[k].y ^ v) | (p.all[k].z ^ v) | (p.all[k].w ^ v);
        if (wrong || !there) atomicAdd(errors, 1u);
    }
    if (!there && i == 0) atomicAdd(errors, 1u);
    cluster_barrier();
#else
    (void)rounds, (void)words, (void)read, (void)state, (void)buffer, (void)fault, (void)errors;
#endif
}

static LaunchShape cluster_shape(cudaStream_t stream, int clusters, int size, size_t shared)
{
    LaunchShape shape = {dim3((unsigned)(clusters * size)), dim3(CONSTANTS_THREADS), shared, stream,
                         false};
    shape.cluster = (unsigned)size;
    return shape;
}

/* Allows a kernel `shared` bytes of shared memory per block and clusters of more than 8 blocks. */
template <class... P> static cudaError_t allow(void (*kernel)(P...), size_t shared)
{
    cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    return error ? error
                 : cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

static cudaError_t need_clusters()
{
    int device, major;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return error ? error : major < 9 ? cudaErrorNotSupported : cudaSuccess;
}

extern "C" cudaError_t constants_clusters(int *clusters, int size, size_t shared)
{
    cudaError_t error = need_clusters();
    if (!error) error = allow(cluster_barrier_kernel, shared);
    if (error) return error;
    return resident_clusters(clusters, cluster_shape(0, 1, size, shared), cluster_barrier_kernel);
}

extern "C" cudaError_t constants_cluster_barrier(cudaStream_t stream, int clusters, int size,
                                                 size_t shared, int rounds, unsigned *errors)
{
    cudaError_t error = allow(cluster_barrier_kernel, shared);
    if (error) return error;
    return launch(cluster_shape(stream, clusters, size, shared), cluster_barrier_kernel, rounds,
                  errors);
}

extern "C" cudaError_t constants_cluster_hops(cudaStream_t stream, int size, int rounds,
                                              unsigned *errors)
{
    cudaError_t error = allow(cluster_hops_kernel, 64);
    if (error) return error;
    LaunchShape shape = cluster_shape(stream, 1, size, 64);
    shape.block = dim3(32);
    return launch(shape, cluster_hops_kernel, rounds, errors);
}

extern "C" cudaError_t constants_cluster_loads(cudaStream_t stream, int size, int rounds,
                                               unsigned *errors)
{
    cudaError_t error = allow(cluster_loads_kernel, 4 * LINKS);
    if (error) return error;
    LaunchShape shape = cluster_shape(stream, 1, size, 4 * LINKS);
    shape.block = dim3(32);
    return launch(shape, cluster_loads_kernel, rounds, errors);
}

extern "C" cudaError_t constants_gather(cudaStream_t stream, int kind, int clusters, int size,
                                        size_t shared, int rounds, int words, unsigned *errors)
{
    static void (*const kernels[GATHERS])(int, int, unsigned *) = {
        gather_kernel<GATHER_STORES>, gather_kernel<GATHER_WORDS>, gather_kernel<GATHER_BULK>};
    void (*kernel)(int, int, unsigned *) = kernels[kind];
    cudaError_t error = allow(kernel, shared);
    if (error) return error;
    return launch(cluster_shape(stream, clusters, size, shared), kernel, rounds, words, errors);
}

extern "C" cudaError_t constants_broadcast_bulk(cudaStream_t stream, int clusters, int size,
                                                size_t shared, int rounds, int words, int read,
                                                unsigned *state, unsigned *buffer,
                                                FaultRecord *fault, unsigned *errors)
{
    cudaError_t error = allow(broadcast_bulk_kernel, shared);
    if (error) return error;
    LaunchShape shape = cluster_shape(stream, clusters, size, shared);
    shape.cooperative = true;
    return launch(shape, broadcast_bulk_kernel, rounds, words, read, state, buffer, fault, errors);
}
