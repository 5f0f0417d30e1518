/* What kernels need from the machine: launches, shared memory, spins, ordered loads and stores, inline PTX.
 * The only file with `<<<>>>`, `__shared__`, `volatile` or `asm`, and the only one that knows of the
 * emulator (tests/emu); everything else is plain CUDA C++.
 *
 * Compiles with nvcc 11.8 (sm_35) to 13 and, against tests/emu/include, with g++ and clang as C++17. */
#ifndef PLSTM_DEV_CUH
#define PLSTM_DEV_CUH

#include <stddef.h>

#include "cuda_runtime.h"

/* The architecture that code is generated for: 350, 700, 750, 800, 900; 0 while nvcc compiles the host
 * side. Guard code that needs one with `#if DEV_ARCH >= 900`. Under emulation it is chosen at compile time,
 * -DEMU_ARCH=350. */
#if defined(CUDA_EMU)
#ifdef EMU_ARCH
#define DEV_ARCH EMU_ARCH
#else
#define DEV_ARCH 900
#endif
#elif defined(__CUDA_ARCH__)
#define DEV_ARCH __CUDA_ARCH__
#else
#define DEV_ARCH 0
#endif

/* The line that calls a wrapper, for the emulator's reports: DEV_AT as the only parameter, AND_AT after
 * others. */
#if defined(CUDA_EMU)
#define DEV_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define AND_AT , DEV_AT
#else
#define DEV_AT
#define AND_AT
#endif

/* ---- launch
 * ------------------------------------------------------------------------------------------------- */

struct LaunchShape {
    dim3 grid, block;
    size_t shared_bytes; /* dynamic */
    cudaStream_t stream;
    bool cooperative; /* all blocks resident at once or the launch is refused; needs sm_60 */
    /* Blocks along x that form a cluster; 0: the launch says nothing of clusters. Kernels that reach other blocks' shared
     * memory say 1 too. Divides grid.x, needs sm_90; more than 8 want cudaFuncAttributeNonPortableClusterSizeAllowed. */
    unsigned cluster = 0;
};

#if defined(CUDA_EMU) || CUDART_VERSION >= 12000
/* The launch as the runtime wants it; attr, room for two, must live as long as the result. */
static inline cudaLaunchConfig_t launch_config(const LaunchShape &shape, cudaLaunchAttribute *attr)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = shape.stream;
    config.attrs = attr;
    if (shape.cooperative) {
        attr[config.numAttrs].id = cudaLaunchAttributeCooperative;
        attr[config.numAttrs++].val.cooperative = 1;
    }
    if (shape.cluster > 0) {
        attr[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attr[config.numAttrs].val.clusterDim.x = shape.cluster;
        attr[config.numAttrs].val.clusterDim.y = 1;
        attr[config.numAttrs++].val.clusterDim.z = 1;
    }
    return config;
}
#endif

/* How many clusters of that shape (shape.cluster >= 1) the device holds at once. */
template <class... P>
static inline cudaError_t resident_clusters(int *clusters, const LaunchShape &shape, void (*kernel)(P...))
{
#if defined(CUDA_EMU) || CUDART_VERSION >= 12000
    cudaLaunchAttribute attr[2];
    cudaLaunchConfig_t config = launch_config(shape, attr);
    return cudaOccupancyMaxActiveClusters(clusters, kernel, &config);
#else
    (void)shape, (void)kernel;
    *clusters = 0;
    return cudaErrorNotSupported;
#endif
}

/* Launches kernel(args...) and returns the launch's own error. cudaLaunchKernelEx came with CUDA 11.8 and
 * asks for a newer driver than the last one for Kepler, so toolkits before 12 take the older calls. */
template <class... P, class... A>
static inline cudaError_t launch(const LaunchShape &shape, void (*kernel)(P...), A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel takes as many arguments as it has parameters");
#if defined(CUDA_EMU) || CUDART_VERSION >= 12000
    cudaLaunchAttribute attr[2];
    cudaLaunchConfig_t config = launch_config(shape, attr);
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
#else
    if (shape.cluster > 0) return cudaErrorNotSupported;
    if (shape.cooperative)
        return [&](P... exact) {
            void *pointers[] = {(void *)&exact...};
            return cudaLaunchCooperativeKernel((const void *)kernel, shape.grid, shape.block, pointers,
                                               shape.shared_bytes, shape.stream);
        }(static_cast<P>(args)...);
    kernel<<<shape.grid, shape.block, shape.shared_bytes, shape.stream>>>(static_cast<P>(args)...);
    return cudaPeekAtLastError();
#endif
}

/* ---- shared memory
 * ------------------------------------------------------------------------------------------ */

#if !defined(CUDA_EMU)
__device__ __forceinline__ unsigned char *smem_base()
{
    extern __shared__ __align__(16) unsigned char dev_smem[];
    return dev_smem;
}
#endif

/* Carves the block's dynamic shared memory into pieces of 16-byte alignment. On the host the same calls
 * only count, so that one function both carves and sizes:
 *
 *     static __host__ __device__ size_t carve(Smem sm, int H, float **w, float **h)
 *     {
 *         *w = sm.take<float>(H * 4);
 *         *h = sm.take<float>(H);
 *         return sm.bytes();
 *     }
 *
 * All threads of a block must take the same pieces in the same order. */
struct Smem {
    struct Mark {
        size_t used;
        unsigned pieces;
    };

    __host__ __device__ Smem() : used(0), pieces(0) {}

#if defined(CUDA_EMU)
    template <class T> T *take(size_t n, const char *file = __builtin_FILE(), int line = __builtin_LINE())
    {
        size_t at = reserve(n * sizeof(T));
        return emu_on_device() ? (T *)emu_shared_take(pieces - 1, at, n * sizeof(T), file, line)
                               : (T *)nullptr;
    }
#else
    template <class T> __host__ __device__ __forceinline__ T *take(size_t n)
    {
        size_t at = reserve(n * sizeof(T));
#if defined(__CUDA_ARCH__)
        return (T *)(smem_base() + at);
#else
        (void)at;
        return (T *)nullptr;
#endif
    }
#endif

    /* Bytes taken so far: what the launch must ask for. */
    __host__ __device__ size_t bytes() const { return used; }

    /* Pieces taken after rewind(mark) lie over those taken since mark(): for phases that use the same
     * memory. A __syncthreads must stand between the phases. */
    __host__ __device__ Mark mark() const
    {
        Mark m = {used, pieces};
        return m;
    }
    __host__ __device__ void rewind(Mark m)
    {
        used = m.used;
        pieces = m.pieces;
    }

  private:
    size_t used;
    unsigned pieces;
    __host__ __device__ size_t reserve(size_t bytes)
    {
        size_t at = used;
        used = (used + bytes + 15) / 16 * 16;
        pieces++;
        return at;
    }
};

/* A static shared array, where its size is a constant: SHARED_ARRAY(float, red, 32); */
#if defined(CUDA_EMU)
#define SHARED_ARRAY(T, name, n)                                                                             \
    static const char name##_key = 0;                                                                        \
    T(&name)[n] = *(T(*)[n])emu_shared_static(&name##_key, sizeof(T) * (n), alignof(T), __FILE__, __LINE__)
#else
#define SHARED_ARRAY(T, name, n) __shared__ T name[n]
#endif

/* ---- loads and stores that threads talk through
 * ------------------------------------------------------------- */

/* One look at memory that another thread will change: never cached in a register, ordered with nothing.
 * Every spin goes through it. */
#if defined(CUDA_EMU)
template <class T>
EMU_INLINE T load_poll(const T *p, const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    T v;
    emu_poll_load(p, &v, sizeof v, file, line);
    return v;
}
#else
template <class T> __device__ __forceinline__ T load_poll(const T *p) { return *(const volatile T *)p; }
#endif

/* The store that such a load sees; ordered with nothing. */
#if defined(CUDA_EMU)
template <class T> EMU_INLINE void store_poll(T *p, T v) { emu_store_relaxed(p, &v, sizeof v); }
#else
template <class T> __device__ __forceinline__ void store_poll(T *p, T v) { *(volatile T *)p = v; }
#endif

/* Whether a wait that has looked `polls` times should give up. Bounded waits are written
 *
 *     for (unsigned n = 0; load_poll(p) < target; n++)
 *         if (poll_expired(n, limit))
 *             return false;
 *
 * On a device the limit decides; the emulator says yes exactly when nothing in the grid can move any more. */
__device__ __forceinline__ bool poll_expired(unsigned polls, unsigned limit)
{
#if defined(CUDA_EMU)
    (void)polls, (void)limit;
    return emu_poll_expired() != 0;
#else
    return polls >= limit;
#endif
}

/* Between two polls: leave the memory system to others for a moment. */
__device__ __forceinline__ void poll_pause()
{
#if !defined(CUDA_EMU) && DEV_ARCH >= 700
    __nanosleep(32);
#endif
}

/* Everything that the thread which stored (released) the value had seen or written is visible after the
 * load that reads it. sm_35 has no such instructions: there a full fence stands beside a volatile access. */
#if defined(CUDA_EMU)
EMU_INLINE unsigned load_acquire(const unsigned *p, const char *file = __builtin_FILE(),
                                 int line = __builtin_LINE())
{
    unsigned v;
    emu_load_acquire(p, &v, sizeof v, 1, file, line);
    return v;
}
EMU_INLINE void store_release(unsigned *p, unsigned v) { emu_store_release(p, &v, sizeof v, 1); }
#else
__device__ __forceinline__ unsigned load_acquire(const unsigned *p)
{
    unsigned v;
#if DEV_ARCH >= 700
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
#else
    v = *(const volatile unsigned *)p;
    __threadfence();
#endif
    return v;
}
__device__ __forceinline__ void store_release(unsigned *p, unsigned v)
{
#if DEV_ARCH >= 700
    asm volatile("st.release.gpu.u32 [%0], %1;" : : "l"(p), "r"(v) : "memory");
#else
    __threadfence();
    *(volatile unsigned *)p = v;
#endif
}
#endif

/* A load through the read-only cache. Only for memory that nobody writes during the whole launch: in a
 * persistent kernel that excludes every tensor the kernel itself produces (and `const T *__restrict__`
 * makes nvcc choose this path unasked). */
template <class T> __device__ __forceinline__ T ldg(const T *p)
{
#if defined(CUDA_EMU) || DEV_ARCH >= 350
    return __ldg(p);
#else
    return *p;
#endif
}

/* A load that L2 answers, never this SM's L1: for memory that other blocks write during the launch (after a
 * barrier, which orders it) and for weights that are streamed at every step. T: 4, 8 or 16 bytes wide. */
template <class T> __device__ __forceinline__ T load_l2(const T *p)
{
#if defined(CUDA_EMU) || DEV_ARCH >= 350
    return __ldcg(p);
#else
    return *p;
#endif
}

/* ---- copies from global into shared memory that run beside the arithmetic
 * --------------------------------------- */

/* Starts a copy of 4 bytes by way of L1, or of 16 bytes that L1 never sees; both addresses are multiples of
 * that. The bytes are in shared memory once this thread has waited for their group (and, for other threads,
 * behind the barrier that follows); until then nobody may read or write the target or change the source.
 * Before sm_80 a load and a store stand here and the wait finds nothing to do. */
#if defined(CUDA_EMU)
EMU_INLINE void copy_async4(void *shared, const void *global)
{
    emu_copy_async(shared, global, 4, DEV_ARCH >= 800);
}
EMU_INLINE void copy_async16(void *shared, const void *global)
{
    emu_copy_async(shared, global, 16, DEV_ARCH >= 800);
}
#else
__device__ __forceinline__ void copy_async4(void *shared, const void *global)
{
#if DEV_ARCH >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(shared)), "l"(__cvta_generic_to_global(global))
                 : "memory");
#else
    *(unsigned *)shared = load_l2((const unsigned *)global);
#endif
}
__device__ __forceinline__ void copy_async16(void *shared, const void *global)
{
#if DEV_ARCH >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(shared)), "l"(__cvta_generic_to_global(global))
                 : "memory");
#else
    *(float4 *)shared = load_l2((const float4 *)global);
#endif
}
#endif

/* copy_async16 of from + j to to + j for j = first, first + step, ... before end. Before sm_80 four loads are under way at a time. */
__device__ __forceinline__ void copy_async16_strided(float *to, const float *from, int first, int end,
                                                     int step)
{
#if defined(CUDA_EMU) || DEV_ARCH >= 800
    for (int j = first; j < end; j += step) copy_async16(to + j, from + j);
#else
    enum { AHEAD = 4 };
    for (int j = first; j < end; j += AHEAD * step) {
        float4 next[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (j + i * step < end) next[i] = load_l2((const float4 *)(from + j + i * step));
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (j + i * step < end) *(float4 *)(to + j + i * step) = next[i];
    }
#endif
}

/* N times copy_async4, from steps of from_step to steps of to_step. Before sm_80 all loads are under way at a time. */
template <int N>
__device__ __forceinline__ void copy_async4_rows(float *to, int to_step, const float *from, int64_t from_step)
{
#if defined(CUDA_EMU) || DEV_ARCH >= 800
#pragma unroll
    for (int i = 0; i < N; i++) copy_async4(to + i * to_step, from + i * from_step);
#else
    float next[N];
#pragma unroll
    for (int i = 0; i < N; i++) next[i] = load_l2(from + i * from_step);
#pragma unroll
    for (int i = 0; i < N; i++) to[i * to_step] = next[i];
#endif
}

/* Closes the group of the copies that this thread has started since the last call; a group may be empty. */
__device__ __forceinline__ void copy_async_commit()
{
#if defined(CUDA_EMU)
    emu_copy_commit();
#elif DEV_ARCH >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

/* Waits until at most the N latest groups of this thread are still under way. */
template <int N> __device__ __forceinline__ void copy_async_wait()
{
#if defined(CUDA_EMU)
    emu_copy_wait(N);
#elif DEV_ARCH >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
#endif
}

/* ---- tensor cores and 8x8 matrices of 16-bit elements; all 32 lanes of a warp together
 * --------------------------------------------------------------------------------------- */

/* Fragments as the PTX manual lays them out. With g = lane / 4 and q = lane % 4, in each register the
 * element of the lower column (a, d) or row (b) in the lower half:
 *   bf16  a[0..3]: row g, g + 8, g, g + 8; columns 2q, 2q + 1, for a[2] and a[3] 8 further
 *         b[0..1]: column g; rows 2q, 2q + 1, for b[1] 8 further
 *   tf32  a[0..3]: row g, g + 8, g, g + 8; column q, for a[2] and a[3] 4 further
 *         b[0..1]: column g; row q, for b[1] 4 further
 *   d     d[0], d[1]: row g, columns 2q, 2q + 1; d[2], d[3]: row g + 8 */

#if DEV_ARCH == 0 || DEV_ARCH >= 800
/* d (16,8) += a (16,16) * b (16,8): bfloat16 pairs, float32 accumulation in an order of the hardware's own.
 */
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2] AND_AT)
{
#if defined(CUDA_EMU)
    emu_mma(EMU_MMA_BF16, d, a, b, file, line);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* d (16,8) += a (16,8) * b (8,8): float32 words of which the tensor core sees sign, exponent and 10 bits of
 * the mantissa. */
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2] AND_AT)
{
#if defined(CUDA_EMU)
    emu_mma(EMU_MMA_TF32, d, a, b, file, line);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* x rounded to what mma_tf32 sees, to nearest, halves away from zero. */
__device__ __forceinline__ unsigned tf32_round(float x)
{
#if defined(CUDA_EMU)
    return emu_tf32_round(x);
#else
    unsigned v;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(v) : "f"(x));
    return v;
#endif
}
#endif

#if DEV_ARCH == 0 || DEV_ARCH >= 750
/* Loads N (1, 2 or 4) 8x8 matrices from shared memory: lane 8 k + i names row i of matrix k (16 bytes, a
 * multiple of 16), lanes past 8 N may name anything; r[k] is row lane / 4, columns 2 (lane % 4) and the
 * next, of matrix k. */
template <int N> __device__ __forceinline__ void ldmatrix(unsigned (&r)[N], const void *row AND_AT)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
#if defined(CUDA_EMU)
    emu_ldmatrix(r, N, row, 0, file, line);
#else
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if constexpr (N == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                     : "=r"(r[0])
                     : "r"(at)
                     : "memory");
    else if constexpr (N == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
#endif
}

/* The same, each matrix transposed: r[k] is column lane / 4, rows 2 (lane % 4) and the next. */
template <int N> __device__ __forceinline__ void ldmatrix_trans(unsigned (&r)[N], const void *row AND_AT)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
#if defined(CUDA_EMU)
    emu_ldmatrix(r, N, row, 1, file, line);
#else
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if constexpr (N == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                     : "=r"(r[0])
                     : "r"(at)
                     : "memory");
    else if constexpr (N == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
#endif
}

/* Transposes an 8x8 matrix that lies in the registers of a warp as ldmatrix leaves it. */
__device__ __forceinline__ unsigned movmatrix_trans(unsigned x AND_AT)
{
#if defined(CUDA_EMU)
    return emu_movmatrix(x, file, line);
#else
    unsigned v;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(v) : "r"(x));
    return v;
#endif
}
#endif

/* ---- clusters: blocks that run at the same time and reach each other's shared memory
 * --------------------------------------------------------------------------------------- */

#if DEV_ARCH == 0 || DEV_ARCH >= 900
/* The block's place in its cluster, 0 .. cluster_size() - 1. */
__device__ __forceinline__ unsigned cluster_rank()
{
#if defined(CUDA_EMU)
    return emu_cluster_rank();
#else
    unsigned v;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
    return v;
#endif
}
__device__ __forceinline__ unsigned cluster_size()
{
#if defined(CUDA_EMU)
    return emu_cluster_size();
#else
    unsigned v;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(v));
    return v;
#endif
}

/* The two halves of the cluster's barrier; whole warps call them together, every thread in turn. What all
 * threads did before they arrived is seen behind the wait. Other blocks' shared memory may be touched
 * behind the first one, and a block must not end before a last one, while others still touch its own. Without
 * a word they release and acquire; the words themselves are younger than CUDA 11.8. */
__device__ __forceinline__ void cluster_arrive(DEV_AT)
{
#if defined(CUDA_EMU)
    emu_cluster_arrive(file, line);
#else
    asm volatile("barrier.cluster.arrive.aligned;" : : : "memory");
#endif
}
__device__ __forceinline__ void cluster_wait(DEV_AT)
{
#if defined(CUDA_EMU)
    emu_cluster_wait(file, line);
#else
    asm volatile("barrier.cluster.wait.aligned;" : : : "memory");
#endif
}

/* Where block `rank` of the cluster has what the caller's block has at p in its shared memory: for plain
 * loads and stores. */
template <class T> __device__ __forceinline__ T *cluster_map(T *p, unsigned rank)
{
#if defined(CUDA_EMU)
    return (T *)emu_cluster_map((const void *)p, rank);
#else
    T *q;
    asm("mapa.u64 %0, %1, %2;" : "=l"(q) : "l"(p), "r"(rank));
    return q;
#endif
}

/* The same place as a number of bytes, which the asynchronous operations below take; without a rank the
 * caller's own. */
#if defined(CUDA_EMU)
typedef uintptr_t SharedAt;
#else
typedef unsigned SharedAt;
#endif
__device__ __forceinline__ SharedAt shared_at(const void *p)
{
#if defined(CUDA_EMU)
    return (SharedAt)p;
#else
    return (unsigned)__cvta_generic_to_shared(p);
#endif
}
__device__ __forceinline__ SharedAt shared_at(const void *p, unsigned rank)
{
#if defined(CUDA_EMU)
    return (SharedAt)emu_cluster_map(p, rank);
#else
    unsigned at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_at(p)), "r"(rank));
    return at;
#endif
}

/* A word that block `rank` of the cluster has in its shared memory, known to come from there: a load through cluster_map
 * might read anything. */
__device__ __forceinline__ unsigned cluster_load(const unsigned *p, unsigned rank)
{
#if defined(CUDA_EMU)
    return *(const unsigned *)emu_cluster_map(p, rank);
#else
    unsigned v;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(shared_at(p, rank)) : "memory");
    return v;
#endif
}
__device__ __forceinline__ float cluster_load(const float *p, unsigned rank)
{
#if defined(CUDA_EMU)
    return *(const float *)emu_cluster_map(p, rank);
#else
    return __uint_as_float(cluster_load((const unsigned *)p, rank));
#endif
}

/* ---- mbarriers: phases that end when all arrivals and all announced bytes have come
 * --------------------------------------------------------------------------------------- */

typedef unsigned long long Mbarrier; /* in shared memory, touched by nothing but the functions below */

/* Phase 0 begins and, like every later one, ends after `arrivals` arrivals and when the bytes announced for
 * it are there. One thread; the others, and other blocks, wait for it (with mbarrier_init_fence and a
 * barrier between). */
__device__ __forceinline__ void mbarrier_init(Mbarrier *b, unsigned arrivals)
{
#if defined(CUDA_EMU)
    emu_mbarrier_init(b, arrivals);
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(shared_at(b)), "r"(arrivals) : "memory");
#endif
}

/* Makes the caller's mbarrier_init visible to the cluster and to bulk copies. */
__device__ __forceinline__ void mbarrier_init_fence()
{
#if defined(CUDA_EMU)
    emu_fence_mbarrier_init();
#else
    asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
#endif
}

/* One arrival; releases what the thread has done before. At a block's own mbarrier, or at one of another
 * block: that costs sm_90 a fence of the whole GPU, which announced bytes and asynchronous stores do
 * without. */
__device__ __forceinline__ void mbarrier_arrive(Mbarrier *b)
{
#if defined(CUDA_EMU)
    emu_mbarrier_arrive((SharedAt)b, 1, 0);
#else
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" : : "r"(shared_at(b)) : "memory");
#endif
}
__device__ __forceinline__ void mbarrier_arrive(SharedAt b)
{
#if defined(CUDA_EMU)
    emu_mbarrier_arrive(b, 1, 0);
#else
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" : : "r"(b) : "memory");
#endif
}

/* Announces bytes that asynchronous stores and copies will bring in this phase; the second is an arrival,
 * too. */
__device__ __forceinline__ void mbarrier_expect(Mbarrier *b, unsigned bytes)
{
#if defined(CUDA_EMU)
    emu_mbarrier_arrive((SharedAt)b, 0, bytes);
#else
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;"
                 :
                 : "r"(shared_at(b)), "r"(bytes)
                 : "memory");
#endif
}
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier *b, unsigned bytes)
{
#if defined(CUDA_EMU)
    emu_mbarrier_arrive((SharedAt)b, 1, bytes);
#else
    asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;"
                 :
                 : "r"(shared_at(b)), "r"(bytes)
                 : "memory");
#endif
}

/* Whether the phase of that parity (phase n: n % 2) has ended, after a wait that the hardware bounds; if
 * so, what its arrivals released and its asynchronous operations wrote is visible. A wait is written
 *
 *     for (unsigned n = 0; !mbarrier_try(b, parity); n++)
 *         if (poll_expired(n, limit))
 *             return false; */
__device__ __forceinline__ bool mbarrier_try(Mbarrier *b, unsigned parity AND_AT)
{
#if defined(CUDA_EMU)
    return emu_mbarrier_try(b, parity, file, line) != 0;
#else
    unsigned done;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(done)
                 : "r"(shared_at(b)), "r"(parity)
                 : "memory");
    return done != 0;
#endif
}

/* ---- stores and copies that an mbarrier waits for
 * --------------------------------------------------------------------------------------- */

/* Stores 4 or 16 bytes (a multiple of that) into a block of the cluster, and tells the mbarrier of the same
 * block that they have come; behind its phase, and no sooner, they may be read. */
__device__ __forceinline__ void store_async(SharedAt to, unsigned v, SharedAt mbarrier)
{
#if defined(CUDA_EMU)
    emu_store_async(to, &v, 4, mbarrier);
#else
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];"
                 :
                 : "r"(to), "r"(v), "r"(mbarrier)
                 : "memory");
#endif
}
__device__ __forceinline__ void store_async(SharedAt to, uint4 v, SharedAt mbarrier)
{
#if defined(CUDA_EMU)
    emu_store_async(to, &v, 16, mbarrier);
#else
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];"
        :
        : "r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(mbarrier)
        : "memory");
#endif
}
__device__ __forceinline__ void store_async(SharedAt to, float v, SharedAt mbarrier)
{
    store_async(to, __float_as_uint(v), mbarrier);
}
__device__ __forceinline__ void store_async(SharedAt to, float4 v, SharedAt mbarrier)
{
    store_async(
        to,
        make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)),
        mbarrier);
}

/* Copies from global memory into the caller's block, with one thread and without its registers. Addresses
 * and bytes are multiples of 16. What was written to the source in this launch needs a fence_async_proxy
 * before it. */
__device__ __forceinline__ void copy_bulk(void *shared, const void *global, unsigned bytes,
                                          Mbarrier *mbarrier)
{
#if defined(CUDA_EMU)
    emu_copy_bulk((SharedAt)shared, global, bytes, (SharedAt)mbarrier, 0);
#else
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 :
                 : "r"(shared_at(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes),
                   "r"(shared_at(mbarrier))
                 : "memory");
#endif
}

/* The same into every block of the cluster whose bit stands in `ranks`, with one read of the source: there
 * to the place that `shared` has in the caller's, and told to the mbarrier at the place that `mbarrier` has. */
__device__ __forceinline__ void copy_bulk_multicast(void *shared, const void *global, unsigned bytes,
                                                    Mbarrier *mbarrier, unsigned ranks)
{
#if defined(CUDA_EMU)
    emu_copy_bulk_multicast(shared, global, bytes, mbarrier, ranks);
#else
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
                 "[%1], %2, [%3], %4;"
                 :
                 : "r"(shared_at(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes),
                   "r"(shared_at(mbarrier)), "h"((unsigned short)ranks)
                 : "memory");
#endif
}

/* Copies from the caller's shared memory into a block of the cluster. The source must stay as it is, and
 * the caller's block alive, until the target's mbarrier has told that the bytes have come. */
__device__ __forceinline__ void copy_bulk_to(SharedAt to, const void *shared, unsigned bytes,
                                             SharedAt mbarrier)
{
#if defined(CUDA_EMU)
    emu_copy_bulk(to, shared, bytes, mbarrier, 1);
#else
    asm volatile(
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        :
        : "r"(to), "r"(shared_at(shared)), "r"(bytes), "r"(mbarrier)
        : "memory");
#endif
}

/* Orders what the thread has written before with the bulk copies that read it after: by the writer, before
 * the barrier behind which the copy starts. */
__device__ __forceinline__ void fence_async_proxy()
{
#if defined(CUDA_EMU)
    emu_fence_proxy();
#else
    asm volatile("fence.proxy.async;" : : : "memory");
#endif
}
#endif

/* Nanoseconds of the GPU's wall clock, the same on every SM; some GPUs move it on only once a microsecond. */
__device__ __forceinline__ unsigned long long timer_now()
{
#if defined(CUDA_EMU)
    return (unsigned long long)emu_clock();
#elif DEV_ARCH > 0
    unsigned long long v;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(v));
    return v;
#else
    return 0;
#endif
}

/* The SM's cycle counter, 32 bits: it wraps within seconds, so only differences mean something. */
__device__ __forceinline__ unsigned clock_now()
{
#if defined(CUDA_EMU)
    return (unsigned)emu_clock32();
#elif DEV_ARCH > 0
    unsigned v;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(v));
    return v;
#else
    return 0;
#endif
}

/* v, of which the compiler then knows nothing: it neither keeps what follows from v in registers across a loop nor turns
 * every address that does into a pointer of its own. */
__device__ __forceinline__ int opaque(int v)
{
#if !defined(CUDA_EMU) && DEV_ARCH > 0
    asm volatile("" : "+r"(v));
#endif
    return v;
}

/* threadIdx.x, read anew. In the time loop of a persistent kernel whatever follows from threadIdx.x alone is invariant, and
 * compilers keep it in registers that the weights need; what follows from this is computed again at every step. */
__device__ __forceinline__ int thread_again()
{
#if defined(CUDA_EMU) || DEV_ARCH == 0
    return (int)threadIdx.x;
#else
    int v;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(v));
    return v;
#endif
}

#endif
