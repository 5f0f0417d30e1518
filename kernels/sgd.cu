/* sgd: the gradient norm, clipping and the update of all parameters (SPEC 5), in two kernels.
 * Idea       There are two passes over the gradients and one over the weights; of the encoder, only
 *            the rows that the minibatch used are processed. The update, which loads the weights
 *            anyway, also writes the packed copies of each w_hh and the bfloat16 copies of the
 *            other weights.
 * Memory     The norm kernel reads each gradient once; the update reads gradients and weights, and
 *            writes weights and copies. The kernels that produce the gradients cannot save the norm
 *            kernel's read: weight gradients come from cuBLASLt, whose epilogues sum columns but no
 *            squares. Reading them again costs 204 MB at H = 1500, L = 2, V = 10,000: 43 us at 4.8
 *            TB/s (arithmetic, not measured). The producers of the biases' gradients and
 *            of the encoder's rows could sum squares, but that would save only 0.1 and 4 MB, and
 *            every additional partial would cost each block of the update another read.
 * Partition  A block owns a fixed range: of the dense parameters, or of the positions, of which
 *            each that is the first of its word has a gradient row. The ranges follow from the
 *            sizes alone, not from the GPU, so a sum is the same on every device. Tensors with a
 *            packed copy are updated tile by tile by blocks of their own (pack.cuh) and are left
 *            out of the dense ranges.
 * Sums       Squares are summed in double: in a thread, then in a tree over the block, which gives
 *            one partial per block. Each block of the update adds all partials again in the same
 *            order: at most 1,280 doubles from L2. With an atomic ticket, the last block could do
 *            so for all, but its counter would have to be reset at every step, and the update needs
 *            a kernel boundary anyway.
 * Limits     none
 * Measured   not yet measured */
#include <assert.h>

#include "bf16.cuh"
#include "carry.cuh"
#include "launch.cuh"
#include "pack.cuh"
#include "vec4.cuh"
#include "reduce.cuh"

enum { SGD_THREADS = PACK_THREADS };
/* One wave of 8 blocks on each of 132 SMs: enough loads in flight, and few partials. */
static const int64_t SGD_DENSE_MAX = 1024;
static const int64_t SGD_DENSE_MIN = 4096; /* elements that justify a block */
static const int64_t SGD_SPARSE_MAX = 256;

static __host__ __device__ int64_t dense_blocks(int64_t dense)
{
    int64_t blocks = (dense + SGD_DENSE_MIN - 1) / SGD_DENSE_MIN;
    return blocks < SGD_DENSE_MAX ? blocks : SGD_DENSE_MAX;
}

static __host__ __device__ int64_t sparse_blocks(int64_t N)
{
    return N < SGD_SPARSE_MAX ? N : SGD_SPARSE_MAX;
}

/* Blocks of the update after those that both kernels have; they share the tiles of all packed
 * tensors. */
static __host__ __device__ int64_t tile_blocks(int64_t packed_n, int64_t H)
{
    return dense_blocks(packed_n * 4 * H * H);
}

extern "C" int64_t sgd_partials(int64_t dense, int64_t N)
{
    return dense_blocks(dense) + sparse_blocks(N);
}

/* What one of the first sgd_partials blocks of both kernels owns: elements of the dense parameters,
 * or positions. */
struct Range {
    int64_t begin, end;
    bool dense;
};

static __device__ __forceinline__ Range own_range(const SgdArgs &a, int64_t block)
{
    int64_t blocks = dense_blocks(a.dense);
    Range r;
    r.dense = block < blocks;
    if (r.dense) {
        int64_t each = ((a.dense + 3) / 4 + blocks - 1) / blocks * 4; /* whole groups of four */
        r.begin = min(block * each, a.dense);
        r.end = min(r.begin + each, a.dense);
    } else {
        blocks = sparse_blocks(a.N);
        block -= dense_blocks(a.dense);
        r.begin = block * a.N / blocks;
        r.end = (block + 1) * a.N / blocks;
    }
    return r;
}

/* ---- pass one ---- */

static __device__ __forceinline__ double square_sum(const float *g, int64_t begin, int64_t end,
                                                    double sum)
{
    for (int64_t i = begin + 4 * threadIdx.x; i < end; i += 4 * SGD_THREADS) {
        Vec4 q = vec4_load(g, i, end, 0.0f);
        for (int k = 0; k < 4; k++) sum += (double)q.v[k] * (double)q.v[k];
    }
    return sum;
}

__global__ void __launch_bounds__(SGD_THREADS) sgd_norm_kernel(SgdArgs a)
{
    SHARED_ARRAY(double, scratch, SGD_THREADS);
    Range r = own_range(a, blockIdx.x);
    double sum = 0.0;
    if (r.dense) {
        sum = square_sum(a.grads, r.begin, r.end, sum);
    } else {
        for (int64_t n = r.begin; n < r.end; n++)
            if (a.first[n]) sum = square_sum(a.rows + n * a.H, 0, a.H, sum);
    }
    sum = block_reduce(sum, scratch, Add());
    if (threadIdx.x == 0) a.partial[blockIdx.x] = sum;
}

/* ---- pass two ---- */

template <class T>
static __device__ __forceinline__ double sum_of(const T *x, int64_t n, double *scratch)
{
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += SGD_THREADS) sum += (double)x[i];
    return block_reduce(sum, scratch, Add());
}

static __device__ __forceinline__ float descended(float w, float g, float rate)
{
    return w - rate * g;
}

/* rounded may be NULL. */
static __device__ __forceinline__ void descend(float *w, const float *g, int64_t begin, int64_t end,
                                               float rate, uint16_t *rounded)
{
    for (int64_t i = begin + 4 * threadIdx.x; i < end; i += 4 * SGD_THREADS) {
        Vec4 to = vec4_load(w, i, end, 0.0f), by = vec4_load(g, i, end, 0.0f);
        for (int k = 0; k < 4; k++) to.v[k] = descended(to.v[k], by.v[k], rate);
        vec4_store(w, i, end, to);
#if DEV_ARCH == 0 || DEV_ARCH >= 800
        if (rounded) vec4_store_bf16(rounded, i, end, to);
#endif
    }
}

/* Updates a range of the dense parameters, leaving out the packed tensors in it. */
static __device__ __forceinline__ void descend_plain(const SgdArgs &a, Range r, float rate)
{
    for (int64_t p = 0; p < a.packed_n; p++) {
        int64_t at = a.packed[p].at, past = at + 4 * a.H * a.H;
        if (past <= r.begin) continue;
        if (at >= r.end) break;
        descend(a.weights, a.grads, r.begin, at, rate, a.rounded);
        r.begin = past;
    }
    descend(a.weights, a.grads, r.begin, r.end, rate, a.rounded);
}

/* Updates every tile that tile block `block` owns: w_hh and its packed copies. */
static __device__ __forceinline__ void descend_packed(const SgdArgs &a, int64_t block, float rate,
                                                      float *tile)
{
    int64_t each = pack_tiles(a.H), blocks = tile_blocks(a.packed_n, a.H);
    for (int64_t n = block; n < a.packed_n * each; n += blocks) {
        SgdPacked to = a.packed[n / each];
        float *w = a.weights + to.at;
        const float *g = a.grads + to.at;
        PackElement e = pack_element(a.H, n % each);
        if (e.at >= 0) {
            float before[4], by[4];
            for (int gate = 0; gate < 4; gate++)
                before[gate] = w[e.at + gate * a.H * a.H], by[gate] = g[e.at + gate * a.H * a.H];
            for (int gate = 0; gate < 4; gate++)
                w[e.at + gate * a.H * a.H] = tile[e.shared + gate * PACK_GATE] =
                    descended(before[gate], by[gate], rate);
        } else {
            for (int gate = 0; gate < 4; gate++) tile[e.shared + gate * PACK_GATE] = 0.0f;
        }
        __syncthreads();
        if (to.w_packed) pack_store(tile, a.H, n % each, to.w_packed);
#if DEV_ARCH == 0 || DEV_ARCH >= 800
        if (to.w_tiles) pack_store_tiles(tile, a.H, n % each, (uint4 *)to.w_tiles);
#endif
        __syncthreads(); /* before the next tile overwrites this one */
    }
}

__global__ void __launch_bounds__(SGD_THREADS) sgd_update_kernel(SgdArgs a)
{
    SHARED_ARRAY(double, scratch, SGD_THREADS);
    SHARED_ARRAY(float, tile, PACK_FLOATS);
    int64_t owners = dense_blocks(a.dense) + sparse_blocks(a.N),
            carry = owners + tile_blocks(a.packed_n, a.H);
    uint32_t fault = a.fault->set;
    if (blockIdx.x >= carry) {
        if (!fault) carry_rows(a.carried, blockIdx.x - carry, SGD_THREADS);
        return;
    }
    double norm = sqrt(sum_of(a.partial, owners, scratch));
    if (blockIdx.x == 0) {
        double nats = sum_of(a.nats, a.scored, scratch), hits = 0.0;
        if (a.best) {
            for (int64_t i = threadIdx.x; i < a.scored; i += SGD_THREADS)
                hits += a.targets[i] >= 0 && a.best[i] == a.targets[i];
            hits = block_reduce(hits, scratch, Add());
        }
        if (threadIdx.x == 0) {
            StepResult *result = &a.results[a.state->slot];
            result->step = a.state->step;
            result->nats = nats;
            result->grad_norm = norm;
            result->hits = (int64_t)hits;
            result->fault = fault;
            result->pad = 0;
        }
    }
    if (fault) return;

    /* The learning rate and the clip scale are multiplied in double and rounded once. */
    double scale = norm > a.state->clip ? a.state->clip / norm : 1.0;
    float rate = (float)(a.state->lr * scale);
    if (blockIdx.x >= owners) {
        descend_packed(a, blockIdx.x - owners, rate, tile);
        return;
    }
    Range r = own_range(a, blockIdx.x);
    if (r.dense) {
        descend_plain(a, r, rate);
    } else {
        for (int64_t n = r.begin; n < r.end; n++)
            if (a.first[n])
                descend(a.encoder + a.ids[n] * a.H, a.rows + n * a.H, 0, a.H, rate, nullptr);
    }
}

/* ---- host side ---- */

extern "C" cudaError_t sgd_prepare(void)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, sgd_norm_kernel);
    return error ? error : cudaFuncGetAttributes(&attributes, sgd_update_kernel);
}

static LaunchShape sgd_shape(cudaStream_t stream, const SgdArgs *a, int64_t more_blocks)
{
    assert(a->dense >= 0 && a->N > 0 && a->H > 0 && a->packed_n >= 0);
    int64_t blocks = sgd_partials(a->dense, a->N) + more_blocks;
    LaunchShape shape = {dim3((unsigned)blocks), dim3(SGD_THREADS), 0, stream, false};
    return shape;
}

extern "C" cudaError_t sgd_norm(cudaStream_t stream, const SgdArgs *a)
{
    return launch(sgd_shape(stream, a, 0), sgd_norm_kernel, *a);
}

extern "C" cudaError_t sgd_update(cudaStream_t stream, const SgdArgs *a)
{
    int64_t more = tile_blocks(a->packed_n, a->H) + carry_blocks(a->carried, SGD_THREADS);
    return launch(sgd_shape(stream, a, more), sgd_update_kernel, *a);
}
