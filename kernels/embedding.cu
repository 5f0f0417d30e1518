/* embedding: gathers and masks rows of the encoder or projected feature rows, and computes the
 * sparse gradient of the encoder.
 * Idea       The gradient of a minibatch touches at most N of V rows. It is kept as N rows, and a
 *            word's gradient is summed at the word's first position, so neither a (V,H) tensor nor
 *            an atomic sum is needed.
 * Memory     Forward reads N * H floats and writes them as float32 or bfloat16. Backward reads
 *            N * H floats and writes one row per distinct word.
 * Partition  A block owns a position and 4 * EMBEDDING_THREADS units; a thread owns four
 *            neighbouring units, which one Philox block masks. Backward, the block of a word's
 *            first position adds the later ones in order; the blocks of the later positions leave
 *            after checking the ids before theirs.
 * Limits     none; a word that fills the whole minibatch is summed by one column of blocks, N rows
 *            one after another.
 * Measured   not yet measured */
#include <assert.h>

#include "bf16.cuh"
#include "launch.cuh"
#include "layers.h"
#include "mask.cuh"
#include "vec4.cuh"

enum {
    EMBEDDING_THREADS = 128,
    MATCH_WORDS = 32,
    MATCH_CHUNK = 32 * MATCH_WORDS /* positions that are searched at a time, one bit each */
};

static __device__ __forceinline__ int64_t own_unit()
{
    return 4 * ((int64_t)blockIdx.y * EMBEDDING_THREADS + threadIdx.x);
}

/* Returns units u to u + 3 of the row that a position with this id reads. */
static __device__ __forceinline__ Vec4 table_row(const EmbeddingTable &t, int64_t id, int64_t H,
                                                 int64_t u)
{
    Vec4 row = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (id >= 0) return vec4_load(t.encoder + id * H, u, H, 0.0f);
    if (id == EMBEDDING_ZERO) return row;
    row = vec4_load(t.projected + (EMBEDDING_ZERO - 1 - id) * H, u, H, 0.0f);
    Vec4 bias = vec4_load(t.bias, u, H, 0.0f);
    for (int k = 0; k < 4; k++) row.v[k] += bias.v[k];
    return row;
}

__global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_forward_kernel(int64_t H, const int32_t *ids, EmbeddingTable table, MaskSite site,
                             float *x)
{
    int64_t n = blockIdx.x, u = own_unit();
    if (u >= H) return;
    Vec4 row = table_row(table, ids[n], H, u);
    vec4_store(x + n * H, u, H, mask_vec4_apply(mask_open(site), n, H, u, row));
}

__global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_forward_bf16_kernel(int64_t H, const int32_t *ids, EmbeddingTable table,
                                  MaskSite site, uint16_t *x, int64_t pitch)
{
#if DEV_ARCH == 0 || DEV_ARCH >= 800
    int64_t n = blockIdx.x, u = own_unit();
    if (u >= H) return;
    Vec4 row = table_row(table, ids[n], H, u);
    vec4_store_bf16(x + n * pitch, u, H, mask_vec4_apply(mask_open(site), n, H, u, row));
#endif
}

__global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_backward_kernel(int64_t N, int64_t H, const int32_t *ids, const float *dx,
                              MaskSite site, float *rows, int32_t *first)
{
    SHARED_ARRAY(unsigned, match, MATCH_WORDS);
    int64_t n = blockIdx.x, u = own_unit();
    int32_t id = ids[n];

    int seen = id < 0; /* not a word */
    for (int64_t m = threadIdx.x; m < n; m += EMBEDDING_THREADS) seen |= ids[m] == id;
    seen = __syncthreads_or(seen);
    if (blockIdx.y == 0 && threadIdx.x == 0) first[n] = !seen;
    if (seen) return;

    Mask mask = mask_open(site);
    Vec4 sum = {{0.0f, 0.0f, 0.0f, 0.0f}};
    for (int64_t start = n; start < N; start += MATCH_CHUNK) {
        for (int w = threadIdx.x; w < MATCH_WORDS; w += EMBEDDING_THREADS) match[w] = 0;
        __syncthreads();
        int64_t end = start + MATCH_CHUNK < N ? start + MATCH_CHUNK : N;
        for (int64_t m = start + threadIdx.x; m < end; m += EMBEDDING_THREADS)
            if (ids[m] == id) /* The bits are the same in any order. */
                atomicOr(&match[(m - start) / 32], 1u << ((m - start) % 32));
        __syncthreads();
        for (int w = 0; w < MATCH_WORDS && u < H; w++)
            for (unsigned left = match[w]; left; left &= left - 1) {
                int64_t m = start + 32 * w + __ffs((int)left) - 1;
                Vec4 x = mask_vec4_apply(mask, m, H, u, vec4_load(dx + m * H, u, H, 0.0f));
                for (int k = 0; k < 4; k++) sum.v[k] += x.v[k];
            }
        __syncthreads();
    }
    if (u < H) vec4_store(rows + n * H, u, H, sum);
}

extern "C" cudaError_t embedding_prepare(void)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, embedding_forward_kernel);
    if (!error) error = cudaFuncGetAttributes(&attributes, embedding_forward_bf16_kernel);
    return error ? error : cudaFuncGetAttributes(&attributes, embedding_backward_kernel);
}

static LaunchShape embedding_shape(cudaStream_t stream, int64_t N, int64_t H)
{
    int64_t columns = (H + 4 * EMBEDDING_THREADS - 1) / (4 * EMBEDDING_THREADS);
    assert(N > 0 && N <= INT32_MAX && H > 0 && columns <= 65535);
    LaunchShape shape = {dim3((unsigned)N, (unsigned)columns), dim3(EMBEDDING_THREADS), 0, stream,
                         false};
    return shape;
}

extern "C" cudaError_t embedding_forward(cudaStream_t stream, int64_t N, int64_t H,
                                         const int32_t *ids, const EmbeddingTable *table,
                                         MaskSite site, float *x)
{
    return launch(embedding_shape(stream, N, H), embedding_forward_kernel, H, ids, *table, site, x);
}

extern "C" cudaError_t embedding_forward_bf16(cudaStream_t stream, int64_t N, int64_t H,
                                              const int32_t *ids, const EmbeddingTable *table,
                                              MaskSite site, uint16_t *x, int64_t pitch)
{
    assert(pitch >= H);
    return launch(embedding_shape(stream, N, H), embedding_forward_bf16_kernel, H, ids, *table,
                  site, x, pitch);
}

extern "C" cudaError_t embedding_backward(cudaStream_t stream, int64_t N, int64_t H,
                                          const int32_t *ids, const float *dx, MaskSite site,
                                          float *rows, int32_t *first)
{
    return launch(embedding_shape(stream, N, H), embedding_backward_kernel, N, H, ids, dx, site,
                  rows, first);
}
