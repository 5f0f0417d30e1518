/* rows: copies the rows of a matrix that a list names: the scored positions before the decoder's
 * product, their gradients back into the grid of positions, and the gradients of feature positions.
 * Idea       The softmax and its three products only process scored positions. The host makes the
 *            lists, so nothing is counted or compacted here.
 * Memory     Each row of the result is read and written once; a row that the list leaves out is
 *            written as zeros.
 * Partition  A block owns a row of the result and ROWS_THREADS units of 16 bytes (pick) or
 *            4 * ROWS_THREADS floats (masked).
 * Limits     none; rows that are not whole 16-byte words are moved element by element.
 * Measured   not yet measured */
#include <assert.h>

#include "launch.cuh"
#include "layers.h"
#include "mask.cuh"
#include "vec4.cuh"

enum { ROWS_THREADS = 128 };

/* A row has `words` elements of type T. */
template <class T>
__global__ void __launch_bounds__(ROWS_THREADS)
    rows_pick_kernel(int64_t words, const int32_t *index, const T *from, T *to, T zero)
{
    int64_t i = blockIdx.x, u = (int64_t)blockIdx.y * ROWS_THREADS + threadIdx.x;
    if (u >= words) return;
    int64_t n = index[i];
    to[i * words + u] = n >= 0 ? from[n * words + u] : zero;
}

__global__ void __launch_bounds__(ROWS_THREADS)
    rows_masked_kernel(int64_t H, const int32_t *index, const float *from, MaskSite site, float *to)
{
    int64_t i = blockIdx.x, n = index[i],
            u = 4 * ((int64_t)blockIdx.y * ROWS_THREADS + threadIdx.x);
    if (u >= H) return;
    Vec4 x = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (n >= 0) x = mask_vec4_apply(mask_open(site), n, H, u, vec4_load(from + n * H, u, H, 0.0f));
    vec4_store(to + i * H, u, H, x);
}

extern "C" cudaError_t rows_prepare(void)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, rows_pick_kernel<uint4>);
    if (!error) error = cudaFuncGetAttributes(&attributes, rows_pick_kernel<uint16_t>);
    return error ? error : cudaFuncGetAttributes(&attributes, rows_masked_kernel);
}

static LaunchShape rows_shape(cudaStream_t stream, int64_t rows, int64_t words)
{
    int64_t columns = (words + ROWS_THREADS - 1) / ROWS_THREADS;
    assert(rows > 0 && rows <= INT32_MAX && words > 0 && columns <= 65535);
    LaunchShape shape = {dim3((unsigned)rows, (unsigned)columns), dim3(ROWS_THREADS), 0, stream,
                         false};
    return shape;
}

extern "C" cudaError_t rows_pick(cudaStream_t stream, int64_t rows, size_t row_bytes,
                                 const int32_t *index, const void *from, void *to)
{
    assert(row_bytes % sizeof(uint16_t) == 0);
    bool wide =
        row_bytes % sizeof(uint4) == 0 && ((uintptr_t)from | (uintptr_t)to) % sizeof(uint4) == 0;
    int64_t words = (int64_t)(row_bytes / (wide ? sizeof(uint4) : sizeof(uint16_t)));
    if (wide)
        return launch(rows_shape(stream, rows, words), rows_pick_kernel<uint4>, words, index,
                      (const uint4 *)from, (uint4 *)to, make_uint4(0, 0, 0, 0));
    return launch(rows_shape(stream, rows, words), rows_pick_kernel<uint16_t>, words, index,
                  (const uint16_t *)from, (uint16_t *)to, (uint16_t)0);
}

extern "C" cudaError_t rows_masked(cudaStream_t stream, int64_t rows, int64_t H,
                                   const int32_t *index, const float *from, MaskSite site,
                                   float *to)
{
    return launch(rows_shape(stream, rows, (H + 3) / 4), rows_masked_kernel, H, index, from, site,
                  to);
}
