/* pack: w_packed from w_hh (lstm.h), after weights were set; the update keeps it current (sgd.cu).
 * Idea       a persistent forward pass reads the four gates of a unit for one k as 16 bytes, its threads those
 *            of neighbouring units
 * Memory     reads and writes 4 H^2 floats, in runs of 128 bytes on both sides
 * Partition  a block owns a tile of 8 units x 4 gates x 32 k, turned over in shared memory (pack.cuh)
 * Limits     none
 * Measured   not yet measured
 */
#include <assert.h>

#include "layers.h"
#include "pack.cuh"

__global__ void __launch_bounds__(PACK_THREADS)
    lstm_pack_kernel(int64_t H, const float *w_hh, float *w_packed)
{
    SHARED_ARRAY(float, tile, PACK_FLOATS);
    PackElement e = pack_element(H, blockIdx.x);
    for (int gate = 0; gate < 4 && e.at >= 0; gate++)
        tile[e.shared + gate * PACK_GATE] = w_hh[e.at + gate * H * H];
    pack_store(tile, H, blockIdx.x, w_packed);
}

extern "C" cudaError_t pack_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, lstm_pack_kernel);
}

extern "C" cudaError_t lstm_pack(cudaStream_t stream, int64_t H, const float *w_hh, float *w_packed)
{
    assert(H > 0 && pack_tiles(H) <= INT32_MAX);
    LaunchShape shape = {dim3((unsigned)pack_tiles(H)), dim3(PACK_THREADS), 0, stream, false};
    return launch(shape, lstm_pack_kernel, H, w_hh, w_packed);
}
