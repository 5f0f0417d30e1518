/* Kernels that measure the emulator itself (bench/bench_emu.cpp). */
#include <math.h>

#include <vector>

#include "cooperative_groups.h"

#include <kernels/dev_barrier.cuh>

#include "../../kernels/launch.cuh"
#include "bench_kernels.h"

__global__ void barriers_kernel(int rounds)
{
    for (int i = 0; i < rounds; i++) __syncthreads();
}

__global__ void grid_syncs_kernel(int rounds)
{
    for (int i = 0; i < rounds; i++) cooperative_groups::this_grid().sync();
}

static __device__ void grid_barrier(unsigned *arrived, unsigned target)
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

/* A block owns `units` hidden units, with four rows of w_hh each, for the whole launch. A warp sums
 * one row for one batch column; its lanes split k. */
__global__ void lstm_kernel(const float *w_hh, const float *x_proj, float *h, float *c,
                            unsigned *arrived, int H, int B, int T, int units)
{
    Smem sm;
    int first = (int)blockIdx.x * units, mine = min(units, H - first);
    float *w = sm.take<float>((size_t)units * 4 * (size_t)H);
    float *h_now = sm.take<float>((size_t)H);
    float *gates = sm.take<float>((size_t)units * 4);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    for (int i = (int)threadIdx.x; i < mine * 4 * H; i += (int)blockDim.x) {
        int row = i / H, gate = row / mine, unit = row % mine;
        w[i] = w_hh[(size_t)(gate * H + first + unit) * (size_t)H + (size_t)(i % H)];
    }
    for (int t = 0; t < T; t++) {
        const float *h_in = h + (size_t)(t & 1) * (size_t)(B * H);
        float *h_out = h + (size_t)(~t & 1) * (size_t)(B * H);
        for (int b = 0; b < B; b++) {
            for (int i = (int)threadIdx.x; i < H; i += (int)blockDim.x) h_now[i] = h_in[b * H + i];
            __syncthreads();
            for (int row = warp; row < mine * 4; row += warps) {
                float sum = 0.0f;
                for (int k = lane; k < H; k += 32) sum += w[row * H + k] * h_now[k];
                for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
                if (lane == 0)
                    gates[row] =
                        sum + x_proj[((size_t)(t * B + b) * 4 + (size_t)(row / mine)) * (size_t)H +
                                     (size_t)(first + row % mine)];
            }
            __syncthreads();
            for (int u = (int)threadIdx.x; u < mine; u += (int)blockDim.x) {
                float i = 1.0f / (1.0f + expf(-gates[u])),
                      f = 1.0f / (1.0f + expf(-gates[mine + u]));
                float g = tanhf(gates[2 * mine + u]),
                      o = 1.0f / (1.0f + expf(-gates[3 * mine + u]));
                float next = f * c[b * H + first + u] + i * g;
                c[b * H + first + u] = next;
                h_out[b * H + first + u] = o * tanhf(next);
            }
        }
        grid_barrier(arrived, (unsigned)(t + 1) * gridDim.x);
    }
}

extern "C" cudaError_t bench_barriers(int blocks, int threads, int rounds)
{
    LaunchShape s = {dim3((unsigned)blocks), dim3((unsigned)threads), 0, nullptr, false};
    cudaError_t e = launch(s, barriers_kernel, rounds);
    return e != cudaSuccess ? e : cudaDeviceSynchronize();
}

extern "C" cudaError_t bench_grid_syncs(int blocks, int threads, int rounds)
{
    LaunchShape s = {dim3((unsigned)blocks), dim3((unsigned)threads), 0, nullptr, true};
    cudaError_t e = launch(s, grid_syncs_kernel, rounds);
    return e != cudaSuccess ? e : cudaDeviceSynchronize();
}

extern "C" cudaError_t bench_lstm(int blocks, int threads, int H, int B, int T)
{
    int units = (H + blocks - 1) / blocks;
    size_t shared =
        ((size_t)units * 4 * (size_t)H + (size_t)H + (size_t)units * 4) * sizeof(float) + 64;
    size_t n_w = (size_t)(4 * H) * (size_t)H, n_x = (size_t)(T * B) * 4 * (size_t)H,
           n_h = (size_t)(B * H);
    std::vector<float> w(n_w), x(n_x), out(n_h);
    unsigned s = 1;
    for (auto &v : w)
        v = (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216.0f * 0.2f - 0.1f;
    for (auto &v : x) v = (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
    float *dw, *dx, *dh, *dc;
    unsigned *arrived;
    cudaMalloc(&dw, n_w * 4);
    cudaMalloc(&dx, n_x * 4);
    cudaMalloc(&dh, 2 * n_h * 4);
    cudaMalloc(&dc, n_h * 4);
    cudaMalloc(&arrived, 4);
    cudaMemcpy(dw, w.data(), n_w * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(dx, x.data(), n_x * 4, cudaMemcpyHostToDevice);
    cudaMemset(dh, 0, 2 * n_h * 4);
    cudaMemset(dc, 0, n_h * 4);
    cudaMemset(arrived, 0, 4);
    cudaFuncSetAttribute(lstm_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    LaunchShape shape = {dim3((unsigned)blocks), dim3((unsigned)threads), shared, nullptr, false};
    cudaError_t e = launch(shape, lstm_kernel, dw, dx, dh, dc, arrived, H, B, T, units);
    if (e == cudaSuccess)
        e = cudaMemcpy(out.data(), dh + (size_t)(T & 1) * n_h, n_h * 4, cudaMemcpyDeviceToHost);
    for (float v : out)
        if (e == cudaSuccess && !(fabsf(v) < 1.0f)) e = cudaErrorUnknown;
    for (void *p : {(void *)dw, (void *)dx, (void *)dh, (void *)dc, (void *)arrived}) cudaFree(p);
    return e;
}
