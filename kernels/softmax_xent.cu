/* softmax_xent: softmax and cross-entropy of a row of logits, with its gradient in place; and
 * column sums for the biases' gradients.
 * Idea       The row stays in shared memory between maximum, sum and gradient, so that it is read
 *            from and written to global memory once.
 * Memory     Per row, V floats are read and V written; the bias comes from L2. A row that does not
 *            fit in shared memory is read three times and written once. The column sums read each
 *            element once and may also write it rounded to bfloat16, for the products that follow.
 * Residency  Shared memory per block: at most 4 * threads + 4 * (V + 6) bytes.
 * Partition  A block owns a row, a thread every blockDim.x-th group of four floats (vec4) of it.
 *            The groups are counted from the last 16-byte boundary at or before the row, so that
 *            all but the first and the last move in one access whatever V is. Their elements
 *            outside the row are -inf, which affects neither the maximum nor the sum. For the
 *            column sums, a block owns SUMS_COLUMNS columns and a thread a slice of their rows; the
 *            slices are added in a tree.
 * Limits     none; a row larger than the device's opt-in shared memory is read in each of the three
 *            passes.
 * Measured   not yet measured */
#include <assert.h>

#include "bf16.cuh"
#include "launch.cuh"
#include "layers.h"
#include "vec4.cuh"
#include "reduce.cuh"

enum {
    SOFTMAX_THREADS = 256, /* several blocks of V = 10,000 share an SM */
    /* A row that fills the SM's shared memory leaves room for one block only. */
    SOFTMAX_THREADS_MAX = 1024,
    SHARED_ALWAYS = 48 * 1024, /* what every device since sm_20 has without opting in */
    SUMS_COLUMNS = 16,         /* two whole sectors per row */
    SUMS_SLICES = 32
};

/* ---- softmax ---- */

static __host__ __device__ size_t softmax_carve(Smem sm, unsigned threads, int64_t vec4s,
                                                float **scratch, float4 **row)
{
    *scratch = sm.take<float>(threads);
    *row = vec4s ? sm.take<float4>((size_t)vec4s) : nullptr;
    return sm.bytes();
}

/* Returns the number of vec4s that a row can touch wherever it starts. */
static __host__ __device__ int64_t softmax_vec4s(int64_t V) { return (V + 6) / 4; }

static __device__ __forceinline__ Vec4 biased(const float *logits, const float *bias, int64_t i,
                                              int64_t V)
{
    Vec4 z = vec4_load(logits, i, V, -INFINITY), b = vec4_load(bias, i, V, 0.0f);
    for (int k = 0; k < 4; k++) z.v[k] += b.v[k];
    return z;
}

static __device__ __forceinline__ Vec4 unpack(float4 x)
{
    Vec4 q = {{x.x, x.y, x.z, x.w}};
    return q;
}

static __device__ __forceinline__ float4 pack(Vec4 q)
{
    return make_float4(q.v[0], q.v[1], q.v[2], q.v[3]);
}

__global__ void __launch_bounds__(SOFTMAX_THREADS_MAX)
    softmax_xent_kernel(int64_t V, const float *bias, const int32_t *targets, int train,
                        float inverse_B, int resident, float *logits, float *nats, int32_t *best)
{
    float *scratch;
    float4 *kept;
    softmax_carve(Smem(), blockDim.x, resident ? softmax_vec4s(V) : 0, &scratch, &kept);

    float *row = logits + blockIdx.x * V;
    int64_t target = targets[blockIdx.x];
    if (target < 0) { /* not scored */
        for (int64_t i = threadIdx.x; train && i < V; i += blockDim.x) row[i] = 0.0f;
        if (threadIdx.x == 0) {
            nats[blockIdx.x] = 0.0f;
            if (best) best[blockIdx.x] = -1;
        }
        return;
    }
    /* Read before it is overwritten: the barriers of the reductions come between. */
    float at_target = row[target] + bias[target];
    int64_t shift = (int64_t)((uintptr_t)row / sizeof(float) % 4), vec4s = (shift + V + 3) / 4;

    float top = -INFINITY;
    for (int64_t q = threadIdx.x; q < vec4s; q += blockDim.x) {
        Vec4 z = biased(row, bias, 4 * q - shift, V);
        if (resident) kept[q] = pack(z);
        top = fmaxf(fmaxf(fmaxf(top, z.v[0]), fmaxf(z.v[1], z.v[2])), z.v[3]);
    }
    top = block_reduce(top, scratch, Max());
    if (best) {
        int lowest = INT32_MAX;
        for (int64_t q = threadIdx.x; q < vec4s && lowest == INT32_MAX; q += blockDim.x) {
            int64_t i = 4 * q - shift;
            Vec4 z = resident ? unpack(kept[q]) : biased(row, bias, i, V);
            for (int k = 3; k >= 0; k--)
                if (z.v[k] == top && i + k >= 0 && i + k < V) lowest = (int)(i + k);
        }
        lowest = block_reduce(lowest, (int *)scratch, Min());
        if (threadIdx.x == 0)
            best[blockIdx.x] = lowest < V ? lowest : -1; /* no logit is a number */
    }

    /* Each thread reads its own vec4s again, so they need no barrier. This sum includes a NaN that
     * the maximum ignored. */
    float sum = 0.0f;
    for (int64_t q = threadIdx.x; q < vec4s; q += blockDim.x) {
        Vec4 z = resident ? unpack(kept[q]) : biased(row, bias, 4 * q - shift, V), e;
        for (int k = 0; k < 4; k++) e.v[k] = expf(z.v[k] - top);
        if (resident && train) kept[q] = pack(e);
        sum += (e.v[0] + e.v[1]) + (e.v[2] + e.v[3]);
    }
    sum = block_reduce(sum, scratch, Add());
    if (threadIdx.x == 0) nats[blockIdx.x] = (top - at_target) + logf(sum);

    float scale = inverse_B / sum;
    for (int64_t q = threadIdx.x; q < vec4s; q += blockDim.x) {
        int64_t i = 4 * q - shift;
        Vec4 out = resident ? unpack(kept[q]) : biased(row, bias, i, V);
        if (train) {
            for (int k = 0; k < 4; k++) {
                float e = resident ? out.v[k] : expf(out.v[k] - top);
                out.v[k] = e * scale - (i + k == target ? inverse_B : 0.0f);
            }
        }
        vec4_store(row, i, V, out);
    }
}

/* ---- column sums ---- */

static __device__ __forceinline__ void column_round(float x, uint16_t *to)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    *to = (uint16_t)tensor_pair(x, 0.0f);
#endif
}

template <bool ROUNDED>
__global__ void __launch_bounds__(SUMS_COLUMNS *SUMS_SLICES)
    column_sums_kernel(int64_t rows, int64_t cols, const float *m, float *out, float *also,
                       uint16_t *rounded)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    const bool rounds = ROUNDED;
#else
    const bool rounds = false;
#endif
    SHARED_ARRAY(float, slices, SUMS_SLICES *SUMS_COLUMNS);
    int64_t col = (int64_t)blockIdx.x * SUMS_COLUMNS + threadIdx.x;
    float sum = 0.0f;
    if (col < cols) {
        for (int64_t r = threadIdx.y; r < rows; r += SUMS_SLICES) {
            float x = m[r * cols + col];
            sum += x;
            if (rounds) column_round(x, rounded + r * cols + col);
        }
    }
    slices[threadIdx.y * SUMS_COLUMNS + threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = SUMS_SLICES / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            slices[threadIdx.y * SUMS_COLUMNS + threadIdx.x] +=
                slices[(threadIdx.y + half) * SUMS_COLUMNS + threadIdx.x];
        __syncthreads();
    }
    if (threadIdx.y == 0 && col < cols) {
        out[col] = slices[threadIdx.x];
        if (also) also[col] = slices[threadIdx.x];
    }
}

/* ---- host side ---- */

/* Sets *bytes to the shared memory that a block may have on the current device. Each launch asks
 * again: it is a table look-up in the runtime, and a kernel file keeps no state. */
static cudaError_t shared_limit(size_t *bytes)
{
    int device, limit;
    cudaError_t error = cudaGetDevice(&device);
    if (!error)
        error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (!error) *bytes = (size_t)(limit > SHARED_ALWAYS ? limit : SHARED_ALWAYS);
    return error;
}

extern "C" cudaError_t softmax_xent_prepare(void)
{
    cudaFuncAttributes attributes;
    size_t limit = 0;
    cudaError_t error = cudaFuncGetAttributes(&attributes, column_sums_kernel<false>);
    if (!error) error = cudaFuncGetAttributes(&attributes, column_sums_kernel<true>);
    if (!error) error = shared_limit(&limit);
    if (!error)
        error = cudaFuncSetAttribute(softmax_xent_kernel,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, (int)limit);
    return error ? error : cudaFuncGetAttributes(&attributes, softmax_xent_kernel);
}

extern "C" cudaError_t softmax_xent(cudaStream_t stream, int64_t N, int64_t V, const float *bias,
                                    const int32_t *targets, int train, float inverse_B,
                                    float *logits, float *nats, int32_t *best)
{
    assert(N > 0 && N <= INT32_MAX && V > 0);
    float *scratch;
    float4 *row;
    size_t limit = 0, bytes;
    cudaError_t error = shared_limit(&limit);
    if (error) return error;
    unsigned threads = SOFTMAX_THREADS;
    int resident = 1;
    bytes = softmax_carve(Smem(), threads, softmax_vec4s(V), &scratch, &row);
    if (bytes > SHARED_ALWAYS) {
        threads = SOFTMAX_THREADS_MAX;
        bytes = softmax_carve(Smem(), threads, softmax_vec4s(V), &scratch, &row);
        resident = bytes <= limit;
        if (!resident) bytes = softmax_carve(Smem(), threads, 0, &scratch, &row);
    }
    LaunchShape shape = {dim3((unsigned)N), dim3(threads), bytes, stream, false};
    return launch(shape, softmax_xent_kernel, V, bias, targets, train, inverse_B, resident, logits,
                  nats, best);
}

static LaunchShape sums_shape(cudaStream_t stream, int64_t rows, int64_t cols)
{
    int64_t blocks = (cols + SUMS_COLUMNS - 1) / SUMS_COLUMNS;
    assert(rows > 0 && cols > 0 && blocks <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks), dim3(SUMS_COLUMNS, SUMS_SLICES), 0, stream, false};
    return shape;
}

extern "C" cudaError_t column_sums(cudaStream_t stream, int64_t rows, int64_t cols, const float *m,
                                   float *out, float *also)
{
    return launch(sums_shape(stream, rows, cols), column_sums_kernel<false>, rows, cols, m, out,
                  also, (uint16_t *)nullptr);
}

extern "C" cudaError_t column_sums_bf16(cudaStream_t stream, int64_t rows, int64_t cols,
                                        const float *m, float *out, float *also, uint16_t *rounded)
{
    return launch(sums_shape(stream, rows, cols), column_sums_kernel<true>, rows, cols, m, out,
                  also, rounded);
}
