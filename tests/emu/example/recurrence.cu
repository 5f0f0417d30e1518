/* recurrence: h[t+1] = tanh(W * h[t] + x[t]) in one persistent launch, a small model of every
 * recurrent kernel.
 *
 * Residency  Each block keeps its rows of W in shared memory for the whole launch.
 * Partition  A block owns `rows` consecutive elements of h; a warp sums one row at a time.
 * Barrier    All blocks meet after each step: a block publishes its part of h[t+1] before the
 *            barrier and reads all of h[t+1] after it. h is double-buffered.
 * Limits     All blocks must be resident at once; the host launches at most as many as the device
 *            holds.
 *
 * The same file runs on a GPU (nvcc) and in the emulator (tests/emu/README.md).
 */
#include "machine.cuh"
#include "recurrence.h"

/* ---- the grid barrier ---- */

/* `arrived` is one counter that only grows: barrier n is complete when it has reached n * blocks.
 * The fence before the atomicAdd releases, the fence after the poll acquires, and the block
 * barriers around them extend both to all threads. */
static __device__ void grid_barrier(unsigned *arrived, unsigned target)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (look(arrived) < target) {
        }
        __threadfence();
    }
    __syncthreads();
}

static __device__ float warp_sum(float x)
{
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

static __host__ __device__ size_t carve(Pieces sm, int n, int rows, float **w, float **h)
{
    *w = sm.take<float>((size_t)rows * n);
    *h = sm.take<float>(n);
    return sm.bytes();
}

__global__ void __launch_bounds__(RECURRENCE_THREADS)
    recurrence_kernel(const float *w, const float *x, float *h, unsigned *arrived, int n, int rows,
                      int steps)
{
    float *w_own, *h_now;
    carve(Pieces(), n, rows, &w_own, &h_now);
    int first = blockIdx.x * rows, mine = min(rows, n - first);
    for (int i = threadIdx.x; i < mine * n; i += blockDim.x) w_own[i] = w[(size_t)first * n + i];

    for (int t = 0; t < steps; t++) {
        /* Not __restrict__, since the other blocks write it during this launch. */
        const float *h_in = h + (t & 1) * n;
        float *h_out = h + (~t & 1) * n;
        for (int i = threadIdx.x; i < n; i += blockDim.x) h_now[i] = h_in[i];
        __syncthreads();
        for (int row = threadIdx.x / 32; row < mine; row += blockDim.x / 32) {
            float sum = 0.0f;
            for (int k = threadIdx.x % 32; k < n; k += 32) sum += w_own[row * n + k] * h_now[k];
            sum = warp_sum(sum);
            if (threadIdx.x % 32 == 0)
                h_out[first + row] = tanhf(sum + x[(size_t)t * n + first + row]);
        }
        grid_barrier(arrived, (unsigned)(t + 1) * gridDim.x);
    }
}

/* ---- host side ---- */

extern "C" int recurrence_blocks(int n, int rows) { return (n + rows - 1) / rows; }

extern "C" cudaError_t recurrence_run(const float *w, const float *x, float *h, unsigned *arrived,
                                      int n, int rows, int steps, cudaStream_t stream)
{
    float *unused;
    size_t shared = carve(Pieces(), n, rows, &unused, &unused);
    cudaError_t error = cudaFuncSetAttribute(
        recurrence_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error != cudaSuccess) return error;
    error = cudaMemsetAsync(arrived, 0, sizeof *arrived, stream);
    if (error != cudaSuccess) return error;
    return launch(dim3(recurrence_blocks(n, rows)), dim3(RECURRENCE_THREADS), shared, stream,
                  recurrence_kernel, w, x, h, arrived, n, rows, steps);
}
