/* pack: makes w_packed and w_tiles from w_hh (lstm.h) after the weights were set; the update keeps
 * them current (sgd.cu).
 * Idea       A persistent forward pass reads the four gates of a unit for one k as 16 bytes, and
 *            its threads read those of neighbouring units.
 * Memory     The kernels read and write 4 * H^2 floats; w_packed in runs of 128 bytes on both
 *            sides.
 * Partition  A block owns a tile of 8 units x 4 gates x 32 k, which it transposes in shared memory
 *            (pack.cuh).
 * Limits     none
 * Measured   not yet measured */
#include <assert.h>

#include "launch.cuh"
#include "layers.h"
#include "pack.cuh"
#include "tensor.cuh"

__global__ void __launch_bounds__(PACK_THREADS)
    lstm_pack_kernel(int64_t H, const float *w_hh, float *w_packed)
{
    SHARED_ARRAY(float, tile, PACK_FLOATS);
    PackElement e = pack_element(H, blockIdx.x);
    for (int gate = 0; gate < 4 && e.at >= 0; gate++)
        tile[e.shared + gate * PACK_GATE] = w_hh[e.at + gate * H * H];
    __syncthreads();
    pack_store(tile, H, blockIdx.x, w_packed);
}

/* A warp makes one tile; each lane rounds the eight elements that it will load. */
__global__ void __launch_bounds__(PACK_THREADS)
    lstm_pack_tiles_kernel(int64_t H, const float *w_hh, uint4 *w_tiles)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    int64_t across = tensor_k_tiles(H, PRECISION_BF16), tiles = tensor_row_tiles(H) * across;
    int64_t tile = (int64_t)blockIdx.x * (PACK_THREADS / 32) + threadIdx.x / 32;
    int32_t lane = (int32_t)threadIdx.x & 31;
    if (tile >= tiles) return;
    int64_t row = tile / across * TENSOR_ROWS + lane / 4, k = tile % across * 16 + lane % 4 * 2;
    uint32_t w[4];
    for (int i = 0; i < 4; i++) {
        int64_t r = row + (i & 1) * 8, at = k + (i >> 1) * 8;
        w[i] = tensor_pair(tensor_weight(w_hh, H, r, at), tensor_weight(w_hh, H, r, at + 1));
    }
    w_tiles[tile * 32 + lane] = make_uint4(w[0], w[1], w[2], w[3]);
#endif
}

extern "C" cudaError_t pack_prepare(void)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, lstm_pack_kernel);
    return error ? error : cudaFuncGetAttributes(&attributes, lstm_pack_tiles_kernel);
}

extern "C" cudaError_t lstm_pack_tiles(cudaStream_t stream, int64_t H, const float *w_hh,
                                       void *w_tiles)
{
    int64_t blocks =
        plan_div_up(tensor_row_tiles(H) * tensor_k_tiles(H, PRECISION_BF16), PACK_THREADS / 32);
    assert(H > 0 && blocks <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)blocks), dim3(PACK_THREADS), 0, stream, false};
    return launch(shape, lstm_pack_tiles_kernel, H, w_hh, (uint4 *)w_tiles);
}

extern "C" cudaError_t lstm_pack(cudaStream_t stream, int64_t H, const float *w_hh, float *w_packed)
{
    assert(H > 0 && pack_tiles(H) <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)pack_tiles(H)), dim3(PACK_THREADS), 0, stream, false};
    return launch(shape, lstm_pack_kernel, H, w_hh, w_packed);
}
