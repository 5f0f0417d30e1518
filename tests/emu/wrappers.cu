/* Calls every wrapper of dev_*.cuh that stands for machine instructions, in kernels that never run:
 * test_emu_build compiles them for each architecture and checks that the machine code for sm_90 has
 * the expected instructions. */
#include "cuda_runtime.h"

#include <kernels/dev_barrier.cuh>
#include <kernels/dev_cluster.cuh>
#include <kernels/dev_tensor.cuh>

#include "../../kernels/launch.cuh"

__global__ void copies(float *out, const float *in)
{
    Smem sm;
    float *a = sm.take<float>(640);
    copy_async4(&a[threadIdx.x], &in[threadIdx.x]);
    copy_async_commit();
    copy_async16(&a[128 + 4 * threadIdx.x], &in[128 + 4 * threadIdx.x]);
    copy_async_commit();
    copy_async_wait<1>();
    copy_async_wait<0>();
    __syncthreads();
    float2 two = load_l2((const float2 *)in);
    float4 four = load_l2((const float4 *)in);
    out[threadIdx.x] =
        a[127 - threadIdx.x] + load_l2(in) + two.y + four.w + (float)load_l2((const unsigned *)in);
}

__global__ void tensor(float *out, const unsigned *in)
{
    (void)out, (void)in;
#if DEV_ARCH >= 800
    float d[4] = {};
    unsigned a[4] = {in[0], in[1], in[2], in[3]}, b[2] = {in[4], in[5]};
    mma_bf16(d, a, b);
    a[0] = tf32_round(d[1]);
    mma_tf32(d, a, b);
    out[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
    out[32 + threadIdx.x] = (float)movmatrix_trans(in[5]);
#endif
}

__global__ void clusters(float *out, const float *in)
{
#if DEV_ARCH >= 900
    Smem sm;
    float *x = sm.take<float>(512), *y = sm.take<float>(512);
    Mbarrier *bar = sm.take<Mbarrier>(1);
    unsigned rank = cluster_rank(), n = cluster_size(), peer = (rank + 1) % n, i = threadIdx.x;
    if (i == 0) {
        mbarrier_init(&bar[0], 1);
        mbarrier_init_fence();
    }
    cluster_arrive();
    cluster_wait();
    if (i == 0) mbarrier_arrive_expect(&bar[0], 128);
    y[i] = in[i];
    fence_async_proxy();
    __syncthreads();
    *cluster_map(&y[128 + i], peer) = 3.0f;
    store_async(shared_at(&x[i], peer), i, shared_at(&bar[0], peer));
    store_async(shared_at(&x[4 * i], peer), make_float4(1.0f, 2.0f, 3.0f, 4.0f),
                shared_at(&bar[0], peer));
    store_async(shared_at(&x[4 * i], peer), make_uint4(1, 2, 3, i), shared_at(&bar[0], peer));
    if (i == 0) {
        copy_bulk(x, in, 64, &bar[0]);
        copy_bulk_multicast(x, in, 64, &bar[0], (1u << n) - 1);
        copy_bulk_to(shared_at(x, peer), y, 64, shared_at(&bar[0], peer));
    }
    for (unsigned k = 0; !mbarrier_try(&bar[0], 0); k++)
        if (poll_expired(k, 1u << 20)) break;
    out[i] = x[i];
    cluster_arrive();
    cluster_wait();
#else
    (void)out, (void)in;
#endif
}

extern "C" cudaError_t launch_wrappers(float *out, const float *in)
{
    LaunchShape s = {dim3(1), dim3(128), 2560, nullptr, false};
    cudaError_t e = launch(s, copies, out, in);
    if (e == cudaSuccess) e = launch(s, tensor, out, (const unsigned *)in);
    int resident = 0;
    s.cluster = 4;
    if (e == cudaSuccess) e = resident_clusters(&resident, s, clusters);
    return e == cudaSuccess && resident > 0 ? launch(s, clusters, out, in) : e;
}
