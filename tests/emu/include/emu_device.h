/* The device side of the emulated toolkit (C++17). Kernels use CUDA's names; the work is done by
 * out-of-line functions of sched.cpp, atomic.cpp and race.cpp, which are never compiled with the
 * kernel's sanitizer.
 *
 * Wrappers are always inlined, so that a return address taken in the emulator is in the kernel.
 * They take the source line of the call from __builtin_FILE/LINE, so that a report can name it
 * without debug information. */
#ifndef EMU_DEVICE_H
#define EMU_DEVICE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) alignas(n)
#ifndef __restrict__
#define __restrict__ __restrict
#endif

#define EMU_INLINE        static inline __attribute__((always_inline, unused))
#define EMU_INLINE_MEMBER inline __attribute__((always_inline))
#define EMU_AT            const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* These are set at every fiber switch, so that a debugger can print them. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

/* ---- entry points of the emulator ---- */

extern "C" {
void emu_syncthreads(const char *file, int line);
/* op: 0 counts the threads whose predicate is not 0, 1 returns their conjunction, 2 their
 * disjunction. */
int emu_syncthreads_reduce(int op, int predicate, const char *file, int line);
void emu_gridsync(const char *file, int line);
void emu_fence(int scope); /* scope: 0 block, 1 device, 2 system */
void emu_nanosleep(void);
long long emu_clock(void);
unsigned emu_activemask(void);
[[noreturn]] void emu_trap(const char *file, int line);

/* Runs a warp-wide operation: each lane waits until all live lanes of `mask` have arrived with the
 * same operation; the last lane to arrive runs it on the operands of all. */
void emu_warp_op(int op, unsigned mask, struct EmuLane *operand, const char *file, int line);

/* The same with the operand in registers, for one-word operations, which the race build need not
 * check. */
uint64_t emu_warp_word(int op, unsigned mask, uint64_t value, int lane, int width, const char *file,
                       int line);

/* Runs an EmuAtomicOp on a word of the given EmuType. Returns the bits that it held before. */
uint64_t emu_atomic(void *p, int op, int type, uint64_t value, uint64_t compare, const char *file,
                    int line);

/* One poll: lets other threads run, then loads with relaxed (volatile) semantics. */
void emu_poll_load(const void *p, void *out, size_t size, const char *file, int line);
/* Returns true once no thread of the grid can make progress, which ends a bounded wait. */
int emu_poll_expired(void);
void emu_load_acquire(const void *p, void *out, size_t size, int scope, const char *file, int line);
void emu_store_release(void *p, const void *value, size_t size, int scope);
void emu_store_relaxed(void *p, const void *value, size_t size);
/* A relaxed load that is not part of a polling loop: in the plain order it does not switch to
 * another thread. */
void emu_load_relaxed(const void *p, void *out, size_t size);
/* Informs the race build that this load uses the read-only path. */
void emu_load_readonly(const void *p, size_t size);

/* cp.async of 4 or 16 bytes into the block's shared memory: the bytes arrive in emu_copy_wait,
 * which completes all groups but the last `left`. On a device before sm_80, or if arch is 0 (the
 * code is compiled for an older one), the copy is a load and a store. */
void emu_copy_async(void *shared, const void *global, size_t bytes, int arch);
void emu_copy_commit(void);
void emu_copy_wait(unsigned left);

/* Tensor cores, and matrices of 8 x 8 elements of 16 bits. op is EMU_MMA_BF16 or EMU_MMA_TF32. */
void emu_mma(int op, float *d, const unsigned *a, const unsigned *b, const char *file, int line);
void emu_ldmatrix(unsigned *r, int matrices, const void *row, int transposed, const char *file,
                  int line);
unsigned emu_movmatrix(unsigned x, const char *file, int line);
unsigned emu_tf32_round(float x);

/* Clusters. Addresses in the shared memory of a cluster's block are integers, like SharedAt of
 * dev_cluster.cuh. */
unsigned emu_cluster_rank(void);
unsigned emu_cluster_size(void);
void emu_cluster_arrive(const char *file, int line);
void emu_cluster_wait(const char *file, int line);
void *emu_cluster_map(const void *p, unsigned rank);
void emu_mbarrier_init(void *at, unsigned arrivals);
void emu_fence_mbarrier_init(void);
void emu_fence_proxy(void);
void emu_mbarrier_arrive(uintptr_t at, unsigned arrivals, unsigned bytes);
int emu_mbarrier_try(void *at, unsigned parity, const char *file, int line);
void emu_store_async(uintptr_t to, const void *value, unsigned bytes, uintptr_t mbarrier);
void emu_copy_bulk(uintptr_t to, const void *from, unsigned bytes, uintptr_t mbarrier,
                   int from_shared);
void emu_copy_bulk_multicast(void *to, const void *from, unsigned bytes, void *mbarrier,
                             unsigned ranks);

/* Shared memory of the running block. */
void *emu_shared_take(size_t index, size_t offset, size_t bytes, const char *file, int line);
void *emu_shared_static(const void *key, size_t bytes, size_t align, const char *file, int line);
int emu_on_device(void);   /* 1 inside a kernel */
int emu_device_arch(void); /* 350, 700, 800 ...: the selected profile's architecture */
int emu_grid_is_cooperative(void);
}

enum EmuWarpOp {
    EMU_SYNCWARP,
    EMU_SHFL,
    EMU_SHFL_UP,
    EMU_SHFL_DOWN,
    EMU_SHFL_XOR,
    EMU_BALLOT,
    EMU_ALL,
    EMU_ANY,
    EMU_MATCH_ANY,
    EMU_MATCH_ALL,
    EMU_REDUCE_ADD,
    EMU_REDUCE_MIN_S,
    EMU_REDUCE_MAX_S,
    EMU_REDUCE_MIN_U,
    EMU_REDUCE_MAX_U,
    EMU_REDUCE_AND,
    EMU_REDUCE_OR,
    EMU_REDUCE_XOR,
    EMU_MMA_BF16, /* from here on all 32 lanes must take part */
    EMU_MMA_TF32,
    EMU_LDMATRIX,
    EMU_MOVMATRIX,
    EMU_WARP_OPS
};

struct EmuLane {
    uint64_t in;
    uint64_t out;
    int lane;  /* shuffles: source lane, delta or lane mask */
    int width; /* shuffles */
    int flag;  /* match_all: predicate */
};

enum EmuAtomicOp {
    EMU_ATOMIC_ADD,
    EMU_ATOMIC_SUB,
    EMU_ATOMIC_EXCH,
    EMU_ATOMIC_MIN,
    EMU_ATOMIC_MAX,
    EMU_ATOMIC_INC,
    EMU_ATOMIC_DEC,
    EMU_ATOMIC_CAS,
    EMU_ATOMIC_AND,
    EMU_ATOMIC_OR,
    EMU_ATOMIC_XOR
};

enum EmuType { EMU_I32, EMU_U32, EMU_I64, EMU_U64, EMU_F32, EMU_F64, EMU_U16 };

/* ---- barriers, fences, votes, shuffles ---- */

EMU_INLINE void __syncthreads(EMU_AT) { emu_syncthreads(file, line); }
EMU_INLINE int __syncthreads_count(int p, EMU_AT)
{
    return emu_syncthreads_reduce(0, p, file, line);
}
EMU_INLINE int __syncthreads_and(int p, EMU_AT) { return emu_syncthreads_reduce(1, p, file, line); }
EMU_INLINE int __syncthreads_or(int p, EMU_AT) { return emu_syncthreads_reduce(2, p, file, line); }
EMU_INLINE void __threadfence_block() { emu_fence(0); }
EMU_INLINE void __threadfence() { emu_fence(1); }
EMU_INLINE void __threadfence_system() { emu_fence(2); }
EMU_INLINE void __nanosleep(unsigned) { emu_nanosleep(); }
EMU_INLINE unsigned __activemask() { return emu_activemask(); }
EMU_INLINE long long clock64() { return emu_clock(); }
EMU_INLINE int emu_clock32() { return (int)emu_clock(); }
EMU_INLINE void __trap(EMU_AT) { emu_trap(file, line); }

EMU_INLINE void __syncwarp(unsigned mask = 0xffffffffu, EMU_AT)
{
    emu_warp_word(EMU_SYNCWARP, mask, 0, 0, 32, file, line);
}

template <class T> EMU_INLINE uint64_t emu_bits(T value)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "at most 8 bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> EMU_INLINE T emu_unbits(uint64_t bits)
{
    T value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
EMU_INLINE T emu_shuffle(int op, unsigned mask, T value, int lane, int width, const char *file,
                         int line)
{
    return emu_unbits<T>(emu_warp_word(op, mask, emu_bits(value), lane, width, file, line));
}
template <class T>
EMU_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMU_AT)
{
    return emu_shuffle(EMU_SHFL, mask, value, lane, width, file, line);
}
template <class T>
EMU_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_AT)
{
    return emu_shuffle(EMU_SHFL_UP, mask, value, (int)delta, width, file, line);
}
template <class T>
EMU_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_AT)
{
    return emu_shuffle(EMU_SHFL_DOWN, mask, value, (int)delta, width, file, line);
}
template <class T>
EMU_INLINE T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMU_AT)
{
    return emu_shuffle(EMU_SHFL_XOR, mask, value, lanes, width, file, line);
}

EMU_INLINE uint64_t emu_vote(int op, unsigned mask, uint64_t value, const char *file, int line)
{
    return emu_warp_word(op, mask, value, 0, 32, file, line);
}
EMU_INLINE unsigned __ballot_sync(unsigned mask, int p, EMU_AT)
{
    return (unsigned)emu_vote(EMU_BALLOT, mask, p != 0, file, line);
}
EMU_INLINE int __all_sync(unsigned mask, int p, EMU_AT)
{
    return (int)emu_vote(EMU_ALL, mask, p != 0, file, line);
}
EMU_INLINE int __any_sync(unsigned mask, int p, EMU_AT)
{
    return (int)emu_vote(EMU_ANY, mask, p != 0, file, line);
}
EMU_INLINE unsigned __reduce_add_sync(unsigned mask, unsigned v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_REDUCE_ADD, mask, v, file, line);
}
EMU_INLINE int __reduce_add_sync(unsigned mask, int v, EMU_AT)
{
    return (int)emu_vote(EMU_REDUCE_ADD, mask, (unsigned)v, file, line);
}
EMU_INLINE unsigned __reduce_min_sync(unsigned mask, unsigned v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_REDUCE_MIN_U, mask, v, file, line);
}
EMU_INLINE int __reduce_min_sync(unsigned mask, int v, EMU_AT)
{
    return (int)emu_vote(EMU_REDUCE_MIN_S, mask, (unsigned)v, file, line);
}
EMU_INLINE unsigned __reduce_max_sync(unsigned mask, unsigned v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_REDUCE_MAX_U, mask, v, file, line);
}
EMU_INLINE int __reduce_max_sync(unsigned mask, int v, EMU_AT)
{
    return (int)emu_vote(EMU_REDUCE_MAX_S, mask, (unsigned)v, file, line);
}
EMU_INLINE unsigned __reduce_and_sync(unsigned mask, unsigned v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_REDUCE_AND, mask, v, file, line);
}
EMU_INLINE unsigned __reduce_or_sync(unsigned mask, unsigned v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_REDUCE_OR, mask, v, file, line);
}
EMU_INLINE unsigned __reduce_xor_sync(unsigned mask, unsigned v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_REDUCE_XOR, mask, v, file, line);
}

template <class T> EMU_INLINE unsigned __match_any_sync(unsigned mask, T v, EMU_AT)
{
    return (unsigned)emu_vote(EMU_MATCH_ANY, mask, emu_bits(v), file, line);
}
template <class T> EMU_INLINE unsigned __match_all_sync(unsigned mask, T v, int *predicate, EMU_AT)
{
    EmuLane x = {emu_bits(v), 0, 0, 32, 0};
    emu_warp_op(EMU_MATCH_ALL, mask, &x, file, line);
    *predicate = x.flag;
    return (unsigned)x.out;
}

/* ---- atomics ---- */

template <class T>
EMU_INLINE T emu_atomic_as(T *p, int op, int type, T value, T compare, const char *file, int line)
{
    return emu_unbits<T>(
        emu_atomic((void *)p, op, type, emu_bits(value), emu_bits(compare), file, line));
}
#define EMU_ATOMIC(name, op, T, type)                                                              \
    EMU_INLINE T name(T *p, T v, EMU_AT) { return emu_atomic_as<T>(p, op, type, v, v, file, line); }
#define EMU_ATOMIC_INTEGERS(name, op)                                                              \
    EMU_ATOMIC(name, op, int, EMU_I32)                                                             \
    EMU_ATOMIC(name, op, unsigned int, EMU_U32)                                                    \
    EMU_ATOMIC(name, op, unsigned long long, EMU_U64)
EMU_ATOMIC_INTEGERS(atomicAdd, EMU_ATOMIC_ADD)
EMU_ATOMIC(atomicAdd, EMU_ATOMIC_ADD, float, EMU_F32)
EMU_ATOMIC(atomicAdd, EMU_ATOMIC_ADD, double, EMU_F64)
EMU_ATOMIC(atomicSub, EMU_ATOMIC_SUB, int, EMU_I32)
EMU_ATOMIC(atomicSub, EMU_ATOMIC_SUB, unsigned int, EMU_U32)
EMU_ATOMIC_INTEGERS(atomicExch, EMU_ATOMIC_EXCH)
EMU_ATOMIC(atomicExch, EMU_ATOMIC_EXCH, float, EMU_U32)
EMU_ATOMIC_INTEGERS(atomicMin, EMU_ATOMIC_MIN)
EMU_ATOMIC(atomicMin, EMU_ATOMIC_MIN, long long, EMU_I64)
EMU_ATOMIC_INTEGERS(atomicMax, EMU_ATOMIC_MAX)
EMU_ATOMIC(atomicMax, EMU_ATOMIC_MAX, long long, EMU_I64)
EMU_ATOMIC_INTEGERS(atomicAnd, EMU_ATOMIC_AND)
EMU_ATOMIC_INTEGERS(atomicOr, EMU_ATOMIC_OR)
EMU_ATOMIC_INTEGERS(atomicXor, EMU_ATOMIC_XOR)
EMU_ATOMIC(atomicInc, EMU_ATOMIC_INC, unsigned int, EMU_U32)
EMU_ATOMIC(atomicDec, EMU_ATOMIC_DEC, unsigned int, EMU_U32)
#undef EMU_ATOMIC_INTEGERS
#undef EMU_ATOMIC
#define EMU_ATOMIC_CAS_OF(T, type)                                                                 \
    EMU_INLINE T atomicCAS(T *p, T compare, T v, EMU_AT)                                           \
    {                                                                                              \
        return emu_atomic_as<T>(p, EMU_ATOMIC_CAS, type, v, compare, file, line);                  \
    }
EMU_ATOMIC_CAS_OF(int, EMU_I32)
EMU_ATOMIC_CAS_OF(unsigned int, EMU_U32)
EMU_ATOMIC_CAS_OF(unsigned long long, EMU_U64)
EMU_ATOMIC_CAS_OF(unsigned short, EMU_U16)
#undef EMU_ATOMIC_CAS_OF

/* ---- loads with a cache hint ---- */

template <class T> EMU_INLINE T __ldg(const T *p)
{
    emu_load_readonly(p, sizeof(T));
    return *p;
}
template <class T> EMU_INLINE T __ldcg(const T *p) { return *p; }
template <class T> EMU_INLINE T __ldca(const T *p) { return *p; }
template <class T> EMU_INLINE T __ldcs(const T *p) { return *p; }
template <class T> EMU_INLINE void __stcg(T *p, T v) { *p = v; }
template <class T> EMU_INLINE void __stcs(T *p, T v) { *p = v; }
template <class T> EMU_INLINE void __stwt(T *p, T v) { *p = v; }

/* ---- bits and arithmetic ---- */

EMU_INLINE int __float_as_int(float x) { return (int)(unsigned)emu_bits(x); }
EMU_INLINE unsigned __float_as_uint(float x) { return (unsigned)emu_bits(x); }
EMU_INLINE long long __double_as_longlong(double x) { return (long long)emu_bits(x); }
EMU_INLINE float __uint_as_float(unsigned x)
{
    float f;
    __builtin_memcpy(&f, &x, sizeof f);
    return f;
}
EMU_INLINE float __int_as_float(int x) { return __uint_as_float((unsigned)x); }
EMU_INLINE double __longlong_as_double(long long x)
{
    double d;
    __builtin_memcpy(&d, &x, sizeof d);
    return d;
}
EMU_INLINE unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((unsigned long long)a * b) >> 32);
}
EMU_INLINE int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
EMU_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
EMU_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_INLINE int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
EMU_INLINE int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
EMU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
EMU_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
EMU_INLINE unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= ((x >> i) & 1u) << (31 - i);
    return r;
}
EMU_INLINE unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
    unsigned long long bytes = ((unsigned long long)y << 32) | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++)
        r |= (unsigned)((bytes >> (8 * ((s >> (4 * i)) & 7))) & 0xff) << (8 * i);
    return r;
}
EMU_INLINE unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s)
{
    return (unsigned)(((((unsigned long long)hi << 32) | lo) << (s & 31)) >> 32);
}
EMU_INLINE unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s)
{
    return (unsigned)((((unsigned long long)hi << 32) | lo) >> (s & 31));
}

EMU_INLINE int min(int a, int b) { return a < b ? a : b; }
EMU_INLINE int max(int a, int b) { return a > b ? a : b; }
EMU_INLINE unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
EMU_INLINE unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
EMU_INLINE long long min(long long a, long long b) { return a < b ? a : b; }
EMU_INLINE long long max(long long a, long long b) { return a > b ? a : b; }
EMU_INLINE long min(long a, long b) { return a < b ? a : b; }
EMU_INLINE long max(long a, long b) { return a > b ? a : b; }
EMU_INLINE unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
EMU_INLINE unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
EMU_INLINE unsigned long long min(unsigned long long a, unsigned long long b)
{
    return a < b ? a : b;
}
EMU_INLINE unsigned long long max(unsigned long long a, unsigned long long b)
{
    return a > b ? a : b;
}
EMU_INLINE float min(float a, float b) { return fminf(a, b); }
EMU_INLINE float max(float a, float b) { return fmaxf(a, b); }
EMU_INLINE double min(double a, double b) { return fmin(a, b); }
EMU_INLINE double max(double a, double b) { return fmax(a, b); }

/* The fast forms are approximations on a GPU; here they are libm's functions, and tests need a
 * tolerance anyway. The _rn forms are rounded once and never contracted. */
EMU_INLINE float emu__expf(float x) { return expf(x); }
EMU_INLINE float emu__exp10f(float x) { return powf(10.0f, x); }
EMU_INLINE float emu__logf(float x) { return logf(x); }
EMU_INLINE float emu__log2f(float x) { return log2f(x); }
EMU_INLINE float emu__powf(float x, float y) { return powf(x, y); }
EMU_INLINE float emu__sinf(float x) { return sinf(x); }
EMU_INLINE float emu__cosf(float x) { return cosf(x); }
/* glibc already declares these seven names. */
#define __expf(x)    emu__expf(x)
#define __exp10f(x)  emu__exp10f(x)
#define __logf(x)    emu__logf(x)
#define __log2f(x)   emu__log2f(x)
#define __powf(x, y) emu__powf(x, y)
#define __sinf(x)    emu__sinf(x)
#define __cosf(x)    emu__cosf(x)
EMU_INLINE float __fdividef(float x, float y) { return x / y; }
EMU_INLINE float __fdiv_rn(float x, float y) { return x / y; }
EMU_INLINE float __frcp_rn(float x) { return 1.0f / x; }
EMU_INLINE float __fsqrt_rn(float x) { return sqrtf(x); }
EMU_INLINE float __fadd_rn(float x, float y) { return x + y; }
EMU_INLINE float __fsub_rn(float x, float y) { return x - y; }
EMU_INLINE float __fmul_rn(float x, float y) { return x * y; }
EMU_INLINE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
/* Returns x * y + z rounded down. The product is exact in double; `lost` is the rounding error of
 * the sum in double. */
EMU_INLINE float __fmaf_rd(float x, float y, float z)
{
    double product = (double)x * y, sum = product + z, part = sum - product;
    double lost = (product - (sum - part)) + (z - part);
    float nearest = (float)sum;
    return nearest - sum > lost ? nextafterf(nearest, -INFINITY) : nearest;
}
EMU_INLINE double __dadd_rn(double x, double y) { return x + y; }
EMU_INLINE double __dmul_rn(double x, double y) { return x * y; }
EMU_INLINE double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
EMU_INLINE float __saturatef(float x) { return x > 1.0f ? 1.0f : x > 0.0f ? x : 0.0f; }
EMU_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMU_INLINE double rsqrt(double x) { return 1.0 / sqrt(x); }
EMU_INLINE float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
EMU_INLINE int __float2int_rn(float x) { return (int)nearbyintf(x); }
EMU_INLINE int __float2int_rz(float x) { return (int)x; }
EMU_INLINE int __float2int_rd(float x) { return (int)floorf(x); }
EMU_INLINE int __float2int_ru(float x) { return (int)ceilf(x); }
EMU_INLINE float __int2float_rn(int x) { return (float)x; }
EMU_INLINE float __uint2float_rn(unsigned x) { return (float)x; }
EMU_INLINE double __hiloint2double(int hi, int lo)
{
    return __longlong_as_double(
        (long long)(((unsigned long long)(unsigned)hi << 32) | (unsigned)lo));
}

/* ---- launches ---- */

/* A kernel with its bound arguments, in the emulator's own memory, where the race build expects
 * launches to read. */
struct EmuBody {
    virtual void run() = 0;
    virtual ~EmuBody() {}
    static void *operator new(size_t size);
    static void operator delete(void *p);
};

template <class... P> struct EmuKernel final : EmuBody {
    void (*kernel)(P...);
    std::tuple<P...> args;
    template <class... A>
    EmuKernel(void (*k)(P...), A &&...a) : kernel(k), args(static_cast<P>(std::forward<A>(a))...)
    {
    }
    void run() override { std::apply(kernel, args); }
};

/* Takes ownership of body. */
cudaError_t emu_launch(const cudaLaunchConfig_t *config, const void *kernel, EmuBody *body,
                       const char *call);

template <class... P, class... A>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                                             A &&...args)
{
    static_assert(sizeof...(P) == sizeof...(A),
                  "a kernel takes as many arguments as it has parameters");
    return emu_launch(config, (const void *)kernel,
                      new EmuKernel<P...>(kernel, std::forward<A>(args)...), "cudaLaunchKernelEx");
}

template <class... P, size_t... I>
static inline EmuBody *emu_bind(void (*kernel)(P...), void **args, std::index_sequence<I...>)
{
    (void)args;
    return new EmuKernel<P...>(kernel, *(std::remove_reference_t<P> *)args[I]...);
}

template <class... P>
static inline cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void **args,
                                           size_t smem = 0, cudaStream_t stream = 0)
{
    cudaLaunchConfig_t config = {grid, block, smem, stream, nullptr, 0};
    return emu_launch(&config, (const void *)kernel,
                      emu_bind(kernel, args, std::index_sequence_for<P...>()), "cudaLaunchKernel");
}

template <class... P>
static inline cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(P...), dim3 grid, dim3 block,
                                                      void **args, size_t smem = 0,
                                                      cudaStream_t stream = 0)
{
    cudaLaunchAttribute attr = {};
    attr.id = cudaLaunchAttributeCooperative;
    attr.val.cooperative = 1;
    cudaLaunchConfig_t config = {grid, block, smem, stream, &attr, 1};
    return emu_launch(&config, (const void *)kernel,
                      emu_bind(kernel, args, std::index_sequence_for<P...>()),
                      "cudaLaunchCooperativeKernel");
}

/* ---- C++ conveniences of the runtime API ---- */

template <class T> static inline cudaError_t cudaMalloc(T **p, size_t size)
{
    return cudaMalloc((void **)(void *)p, size);
}
template <class T> static inline cudaError_t cudaMallocHost(T **p, size_t size)
{
    return cudaMallocHost((void **)(void *)p, size);
}
template <class T> static inline cudaError_t cudaHostAlloc(T **p, size_t size, unsigned flags)
{
    return cudaHostAlloc((void **)(void *)p, size, flags);
}
template <class T>
static inline cudaError_t cudaMallocManaged(T **p, size_t size,
                                            unsigned flags = cudaMemAttachGlobal)
{
    return cudaMallocManaged((void **)(void *)p, size, flags);
}
template <class... P>
static inline cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attr,
                                               int value)
{
    return cudaFuncSetAttribute((const void *)kernel, attr, value);
}
template <class... P>
static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attr, void (*kernel)(P...))
{
    return cudaFuncGetAttributes(attr, (const void *)kernel);
}
template <class... P>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks,
                                                                        void (*kernel)(P...),
                                                                        int block_size, size_t smem)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, (const void *)kernel, block_size,
                                                         smem);
}
template <class... P>
static inline cudaError_t cudaOccupancyMaxActiveClusters(int *clusters, void (*kernel)(P...),
                                                         const cudaLaunchConfig_t *config)
{
    return cudaOccupancyMaxActiveClusters(clusters, (const void *)kernel, config);
}

#endif
