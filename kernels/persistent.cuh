/* persistent: what all persistent kernels share: a block's place, mask bits, shared memory, and the
 * definitions of the kernel and its entry points (PERSISTENT_PASS). plan.h describes how a plan
 * divides the work. */
#ifndef PLSTM_PERSISTENT_CUH
#define PLSTM_PERSISTENT_CUH

#include <assert.h>

#include <kernels/dev_memory.cuh>

#include "hidden.cuh"
#include "launch.cuh"
#include "lstm.h"
#include "mask.cuh"
#include "plan.h"
#include "tiles.h"
#include "variants.h"

/* divided returns n / d for n * d < 2^31, given inverse_of(d), which the host computes. */
static inline uint32_t inverse_of(int64_t d) { return (uint32_t)((INT64_C(1) << 31) / d + 1); }
static __device__ __forceinline__ int32_t divided(int32_t n, uint32_t inverse)
{
    return (int32_t)((uint64_t)(uint32_t)n * inverse >> 31);
}

/* The units and batch rows of a block, in the launch for the batch rows from first_row on. */
struct BlockPlace {
    int32_t replica, block; /* within the replica */
    int32_t unit, units;    /* the first, of H, and how many */
    int32_t row, rows;      /* the first, of B, and how many; 0 or less: none of B is left */
};

static __device__ __forceinline__ BlockPlace block_place(const LstmPlan &plan,
                                                         const LstmShape &shape, int32_t first_row)
{
    BlockPlace p;
    p.replica = (int32_t)blockIdx.x / plan.blocks;
    p.block = (int32_t)blockIdx.x % plan.blocks;
    p.unit = p.block * plan.units;
    p.units = (int32_t)min((int64_t)plan.units, shape.H - p.unit);
    p.row = first_row + p.replica * plan.rows;
    p.rows = (int32_t)min((int64_t)plan.rows, shape.B - p.row);
    return p;
}

/* Copies N floats by copy_async4 (dev_memory.cuh) to places `step` floats apart. Before sm_80 such
 * a copy is a load and a store; all loads are then in flight before the first store waits for its
 * own. */
template <int N>
static __device__ __forceinline__ void copy_floats(float *to, int32_t step,
                                                   const float *const (&from)[N])
{
#if DEV_ARCH > 0 && DEV_ARCH < 800
    float next[N];
#pragma unroll
    for (int i = 0; i < N; i++) next[i] = load_l2(from[i]);
#pragma unroll
    for (int i = 0; i < N; i++) to[i * step] = next[i];
#else
#pragma unroll
    for (int i = 0; i < N; i++) copy_async4(to + i * step, from[i]);
#endif
}

/* ---- masks as bits ----
 * One thread draws a group of four units and stores its bits in a word of shared memory:
 * [step & 1][site][row][nibble]. There are two steps, since the bits of one step are still read
 * while those of the next are drawn. */

enum { MASK_OUTPUT, MASK_RECURRENT };

/* Whether a launch keeps the run's step number, which the masks need, in registers. If none are
 * left, as in fwd_reg on sm_35, every draw reads it again. */
enum { MASK_BITS_KEEP_STEP = DEV_ARCH == 0 || DEV_ARCH >= 700 };

struct MaskBits {
    uint32_t *words;
    int32_t nibbles, rows;
    uint32_t by_nibbles; /* for divided() */
    bool keep;           /* whether `step` is set; a constant when compiled */
    int64_t step;        /* the run's step number */
};

/* Call before the first draw. nibbles is plan_mask_nibbles of the plan's units, by_nibbles its
 * inverse. */
static __device__ __forceinline__ MaskBits mask_bits_open(uint32_t *words, int32_t nibbles,
                                                          uint32_t by_nibbles, int32_t rows,
                                                          const MaskSite &output,
                                                          const MaskSite &recurrent,
                                                          bool keep = MASK_BITS_KEEP_STEP)
{
    return {words, nibbles, rows, by_nibbles, keep, keep ? mask_step(output, recurrent) : 0};
}

/* Draws the site's bits for the rows first_row + b of the mask (b: the block's rows) and for the
 * block's units. The block's last threads draw them, since the first ones have elements to store
 * and to fetch. */
static __device__ __forceinline__ void mask_bits_draw(const MaskBits &bits, int32_t parity,
                                                      int32_t which, const MaskSite &site,
                                                      const BlockPlace &at, int64_t first_row,
                                                      int64_t H)
{
    if (!site.on) return;
    Mask m = bits.keep ? mask_at(site, bits.step) : mask_open(site);
    uint32_t *words = bits.words + (parity * 2 + which) * bits.rows * bits.nibbles;
    int32_t nibble0 = at.unit >> 2, nibbles = ((at.unit + at.units - 1) >> 2) - nibble0 + 1,
            threads = (int32_t)blockDim.x;
    for (int32_t j = threads - 1 - thread_again(); j < at.rows * bits.nibbles; j += threads) {
        int32_t b = divided(j, bits.by_nibbles), q = j - b * bits.nibbles;
        if (q < nibbles)
            words[j] = mask_kept(m, mask_words(m, first_row + b, H, (int64_t)(nibble0 + q) * 4));
    }
}

/* Returns the mask's factor, 0 or 1/keep, for unit u of the block in its row b. */
static __device__ __forceinline__ float mask_bits_factor(const MaskBits &bits, int32_t parity,
                                                         int32_t which, const MaskSite &site,
                                                         const BlockPlace &at, int32_t b, int32_t u)
{
    if (!site.on) return 1.0f;
    int32_t unit = at.unit + u, q = (unit >> 2) - (at.unit >> 2);
    uint32_t word = bits.words[((parity * 2 + which) * bits.rows + b) * bits.nibbles + q];
    return word >> (unit & 3) & 1 ? site.scale : 0.0f;
}

/* Draws the bits of step t: those of its output, and those of h_t as step t+1 reads it. */
static __device__ __forceinline__ void mask_bits_step(const MaskBits &bits, const LstmShape &shape,
                                                      const MaskSite &output,
                                                      const MaskSite &recurrent,
                                                      const BlockPlace &at, int64_t t)
{
    int64_t B = shape.B, H = shape.H;
    mask_bits_draw(bits, (int32_t)t & 1, MASK_OUTPUT, output, at, t * B + at.row, H);
    if (t + 1 < shape.T)
        mask_bits_draw(bits, (int32_t)t & 1, MASK_RECURRENT, recurrent, at, (t + 1) * B + at.row,
                       H);
}

/* ---- KIND_VECTOR: multiply, elements ---- */

static __device__ __forceinline__ void multiply_add(float4 &sum, const float4 &w, float x)
{
    sum.x += w.x * x, sum.y += w.y * x, sum.z += w.z * x, sum.w += w.w * x;
}

/* Returns component j, which is known when compiled. */
static __device__ __forceinline__ float component(const float4 &x, int j)
{
    return j == 0 ? x.x : j == 1 ? x.y : j == 2 ? x.z : x.w;
}

/* The operands that a thread reads from shared memory for one step of contraction: `batch` floats,
 * all of whose loads are in flight before the first is multiplied. */
template <int BATCH> struct Operands {
    float4 quads[(BATCH + 3) / 4];

    __device__ __forceinline__ explicit Operands(const float *row)
    {
#pragma unroll
        for (int i = 0; i < BATCH / 4; i++) quads[i] = *(const float4 *)(row + 4 * i);
        if (BATCH % 4) {
            float2 rest = *(const float2 *)(row + BATCH / 4 * 4);
            quads[BATCH / 4] = make_float4(rest.x, rest.y, 0.0f, 0.0f);
        }
    }
};

/* sum[b] += w * x[b]. */
template <int BATCH>
static __device__ __forceinline__ void multiply_row(float4 (&sum)[BATCH], const float4 &w,
                                                    const Operands<BATCH> &x)
{
#pragma unroll
    for (int b = 0; b < BATCH; b++) multiply_add(sum[b], w, component(x.quads[b / 4], b % 4));
}
template <int BATCH>
static __device__ __forceinline__ void multiply_row(float4 (&sum)[BATCH], const float4 &w,
                                                    const float *row)
{
    multiply_row<BATCH>(sum, w, Operands<BATCH>(row));
}

/* sum[b] += w[i] * row[i * step + b] for i = 0 to N - 1. With EARLY, the operands of a step are
 * read while those of the step before are multiplied; otherwise after that. */
template <int N, bool EARLY, int BATCH>
static __device__ __forceinline__ void multiply_rows(float4 (&sum)[BATCH], const float4 *w,
                                                     const float *row, int32_t step)
{
    Operands<BATCH> next(row);
#pragma unroll
    for (int i = 0; i < N; i++) {
        Operands<BATCH> now = next;
        if (EARLY && i + 1 < N) next = Operands<BATCH>(row + (i + 1) * step);
        multiply_row<BATCH>(sum, w[i], now);
        if (!EARLY && i + 1 < N) next = Operands<BATCH>(row + (i + 1) * step);
    }
}

static __device__ __forceinline__ void add(float4 &sum, const float4 &x)
{
    sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
}

/* sum[b] += from[b * step]; four are read before the first is added. */
template <int BATCH>
static __device__ __forceinline__ void add_rows(float4 (&sum)[BATCH], const float4 *from,
                                                int32_t step)
{
#pragma unroll
    for (int b = 0; b < BATCH; b += 4) {
        float4 x[4];
#pragma unroll
        for (int i = 0; i < 4 && b + i < BATCH; i++) x[i] = from[(b + i) * step];
#pragma unroll
        for (int i = 0; i < 4 && b + i < BATCH; i++) add(sum[b + i], x[i]);
    }
}

/* Returns an element's index among a block's items. Batch rows of the tile vary fastest, then
 * units, groups and passes. */
static __device__ __forceinline__ int32_t item_at(const LstmPlan &plan, int32_t batch, int32_t row,
                                                  int32_t u)
{
    return (row / batch * plan.units + u) * batch + row % batch;
}

/* ---- shared memory ---- */

#define PIECE_ADDRESS(type, name, words, what) type *name;
#define PIECE_CARVED(type, name, words, what)                                                      \
    s.name = sm.take<type>((size_t)f.name / (sizeof(type) / 4));
/* Defines, for a list of pieces (plan.h), the struct of their addresses and carve(sizes), which
 * every thread calls once. */
#define CARVED_PIECES(Shared, Pieces, LIST)                                                        \
    struct Shared {                                                                                \
        LIST(PIECE_ADDRESS)                                                                        \
    };                                                                                             \
    static __device__ __forceinline__ Shared carve(const Pieces &f)                                \
    {                                                                                              \
        Smem sm;                                                                                   \
        Shared s;                                                                                  \
        LIST(PIECE_CARVED)                                                                         \
        return s;                                                                                  \
    }

/* ---- host side ---- */

/* Loads the kernels and allows each to use all the shared memory that the device gives a block and,
 * for KIND_CLUSTER, clusters of any size. A device without clusters needs nothing prepared for
 * those kernels, since no plan is made for it. */
template <class Kernel, int N>
static inline cudaError_t persistent_prepare(Kernel const (&kernels)[N], LstmKind kind)
{
    int device = 0, most = 0, runs = 1;
    cudaError_t error = cudaGetDevice(&device);
    if (!error && kind == KIND_CLUSTER)
        error = cudaDeviceGetAttribute(&runs, cudaDevAttrClusterLaunch, device);
    if (!error)
        error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    for (int i = 0; i < N && runs && !error; i++) {
        cudaFuncAttributes attributes;
        error = cudaFuncGetAttributes(&attributes, kernels[i]);
        int dynamic = error ? 0 : most - (int)attributes.sharedSizeBytes;
        if (dynamic > 48 << 10)
            error = cudaFuncSetAttribute(kernels[i], cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         dynamic);
        if (!error && kind == KIND_CLUSTER)
            error =
                cudaFuncSetAttribute(kernels[i], cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    }
    return error;
}

/* Returns the launch of the plan. It is cooperative if its blocks wait for the whole grid and the
 * device supports that. */
static inline LaunchShape persistent_shape(const LstmPlan *plan, cudaStream_t stream,
                                           int cooperative)
{
    LaunchShape shape = {dim3((unsigned)(plan->replicas * plan->blocks)),
                         dim3((unsigned)plan->threads), plan->shared_bytes, stream,
                         cooperative && plan->kind != KIND_CLUSTER};
    if (plan->cluster > 1 || plan->kind == KIND_CLUSTER) shape.cluster = (unsigned)plan->cluster;
    return shape;
}

/* Sets *blocks to the number of blocks of the plan's kernel that the device holds at once. Clusters
 * of KIND_CLUSTER wait only for their own blocks, and those that the device does not hold run
 * later: if one cluster fits, all of the plan's blocks can be launched. */
template <class Kernel>
static inline cudaError_t persistent_resident(Kernel kernel, const LstmPlan *plan, int *blocks)
{
    LaunchShape shape = persistent_shape(plan, 0, 0);
    int device = 0, sms = 0, held = 0;
    if (shape.cluster) {
        cudaError_t error = resident_clusters(&held, shape, kernel);
        if (held > 0 && plan->kind == KIND_CLUSTER) held = (int)plan_max(held, plan->replicas);
        *blocks = held * plan->cluster;
        return error;
    }
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    if (!error)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&held, kernel, plan->threads,
                                                              plan->shared_bytes);
    *blocks = sms * held;
    return error;
}

static inline bool persistent_tensors(const LstmForward *p) { return forward_tensors_sound(p); }
static inline bool persistent_tensors(const LstmBackward *) { return true; }

/* Launches kernel(args) once per range of batch rows. args.fault and args.first_row are set
 * here. */
template <class Kernel, class Args>
static inline cudaError_t persistent_launch(Kernel kernel, const LstmContext *context, Args args)
{
    const LstmPlan *plan = &args.plan;
    const LstmShape &shape = args.p.shape;
    assert(persistent_tensors(&args.p) && (args.p.w_tiles || plan->precision != PRECISION_BF16));
    assert(shape.T > 0 && shape.T <= INT32_MAX && shape.B > 0 && shape.B <= INT32_MAX);
    assert((int64_t)plan->units * plan->blocks >= shape.H);
    assert((int64_t)plan->units * (plan->blocks - 1) < shape.H || plan->kind == KIND_MMA);
    LaunchShape launched = persistent_shape(plan, context->stream, context->cooperative);
    cudaError_t error = cudaSuccess;
    args.fault = context->fault;
    for (int64_t i = 0; i < plan_ranges(plan, shape.B) && !error; i++) {
        args.first_row = (int32_t)(i * plan->rows * plan->replicas);
        error = launch(launched, kernel, args);
    }
    return error;
}

/* Returns the last of a tile's numbers. */
static constexpr int threads_of(int threads) { return threads; }
template <class... N> static constexpr int threads_of(int, int next, N... more)
{
    return threads_of(next, more...);
}

/* The common part of the passes of one kind and direction. A Pass adds arguments(plan, tensors),
 * which returns the kernels' argument. Args begin with the plan and have the tensors in p. */
template <class ArgsOf, class TensorsOf, LstmKind KIND, int BACKWARD> struct PassOf {
    typedef ArgsOf Args;
    typedef TensorsOf Tensors;
    static constexpr LstmKind kind = KIND;
    static constexpr int backward = BACKWARD;
    /* Returns which of the kernels runs a plan. */
    static int instance(const LstmPlan &plan) { return plan.tile; }
};

/* Defines the head of the kernel name<numbers of a tile, threads last>. The body that follows calls
 * loop<TILE...>(a). The body's brace needs a line of its own: ptxas 11.8 crashes if line
 * information has both on one line. */
#define PERSISTENT_KERNEL(name, Pass)                                                              \
    template <int... TILE>                                                                         \
    __global__ void __launch_bounds__(threads_of(TILE...), 1) name(Pass::Args a)

/* Defines the rest of a pass of a variant: the table of the kernel's instances, which are given in
 * the order of the variant's list in tiles.h, and the entry points that variants.h declares. */
#define PERSISTENT_PASS(name, Pass, ...)                                                           \
    static void (*const name##_kernels[])(Pass::Args) = {__VA_ARGS__};                             \
    extern "C" cudaError_t name##_prepare(void)                                                    \
    {                                                                                              \
        return persistent_prepare(name##_kernels, Pass::kind);                                     \
    }                                                                                              \
    extern "C" cudaError_t name##_resident(const LstmPlan *plan, int *blocks)                      \
    {                                                                                              \
        return persistent_resident(name##_kernels[Pass::instance(*plan)], plan, blocks);           \
    }                                                                                              \
    extern "C" cudaError_t name##_run(const LstmContext *context, const Pass::Tensors *p)          \
    {                                                                                              \
        const LstmPlan *plan = p->launch.plan;                                                     \
        assert(plan && plan->kind == Pass::kind && plan->backward == Pass::backward);              \
        int i = Pass::instance(*plan);                                                             \
        assert(i < (int)(sizeof name##_kernels / sizeof *name##_kernels));                         \
        return persistent_launch(name##_kernels[i], context, Pass::arguments(*plan, *p));          \
    }

/* Defines a pass that runs the kernels of another pass, by plans of its own. */
#define PERSISTENT_PASS_OF(name, other, Tensors)                                                   \
    extern "C" cudaError_t name##_prepare(void) { return other##_prepare(); }                      \
    extern "C" cudaError_t name##_resident(const LstmPlan *plan, int *blocks)                      \
    {                                                                                              \
        return other##_resident(plan, blocks);                                                     \
    }                                                                                              \
    extern "C" cudaError_t name##_run(const LstmContext *context, const Tensors *p)                \
    {                                                                                              \
        return other##_run(context, p);                                                            \
    }

#endif
