/* The emulator's counterpart of kernels/dev_memory.cuh, which describes each function. The headers
 * of this folder come first on the include path and name the caller's line in reports. */
#ifndef EMU_DEV_MEMORY_CUH
#define EMU_DEV_MEMORY_CUH

#include <cuda_runtime.h>

/* The compiler's command line may set EMU_ARCH, as in -DEMU_ARCH=350. */
#ifdef EMU_ARCH
#define DEV_ARCH EMU_ARCH
#else
#define DEV_ARCH 900
#endif

struct Smem {
    struct Mark {
        size_t used;
        unsigned pieces;
    };

    Smem() : used(0), pieces(0) {}

    template <class T> T *take(size_t n, EMU_AT)
    {
        size_t at = used;
        used = (used + n * sizeof(T) + 15) / 16 * 16;
        pieces++;
        return emu_on_device() ? (T *)emu_shared_take(pieces - 1, at, n * sizeof(T), file, line)
                               : (T *)nullptr;
    }
    size_t bytes() const { return used; }

    /* Pieces taken after rewind(mark) overlay those taken since mark(), for phases that use the
     * same memory with a __syncthreads between them. */
    Mark mark() const { return {used, pieces}; }
    void rewind(Mark m) { used = m.used, pieces = m.pieces; }

  private:
    size_t used;
    unsigned pieces;
};

#define SHARED_ARRAY(T, name, n)                                                                   \
    static const char name##_key = 0;                                                              \
    T(&name)                                                                                       \
    [n] = *(T(*)[n])emu_shared_static(&name##_key, sizeof(T) * (n), alignof(T), __FILE__, __LINE__)

template <class T> EMU_INLINE T ldg(const T *p) { return __ldg(p); }
template <class T> EMU_INLINE T load_l2(const T *p) { return __ldcg(p); }

EMU_INLINE void copy_async4(void *shared, const void *global)
{
    emu_copy_async(shared, global, 4, DEV_ARCH >= 800);
}
EMU_INLINE void copy_async16(void *shared, const void *global)
{
    emu_copy_async(shared, global, 16, DEV_ARCH >= 800);
}
EMU_INLINE void copy_async_commit() { emu_copy_commit(); }
template <int N> EMU_INLINE void copy_async_wait() { emu_copy_wait(N); }

/* Returns 1 / x, as inexact as a GPU's result may be: depending on the bits of x, the rounded
 * quotient or its neighbour below or above. Powers of two are exact, as on a GPU. */
EMU_INLINE float reciprocal(float x)
{
    unsigned bits, off, y;
    float quotient = 1.0f / x;
    __builtin_memcpy(&bits, &x, sizeof bits);
    __builtin_memcpy(&y, &quotient, sizeof y);
    if ((y & 0x7f800000u) == 0) return quotient * 0.0f;
    off = (bits & 0x7fffffu) * 0x9e3779b1u >> 16;
    if ((bits & 0x7fffffu) == 0 || (y & 0x7f800000u) == 0x7f800000u) return quotient;
    y += off % 3 - 1;
    __builtin_memcpy(&quotient, &y, sizeof y);
    return quotient;
}

#if DEV_ARCH < 700
/* Returns 2^x, as inexact as CUDA documents for exp2f, which is this instruction: depending on the
 * bits of x, the result is off by up to two units in the last place. It is exact for integers. */
EMU_INLINE float power_of_two(float x)
{
    float power = exp2f(x);
    unsigned bits, y;
    __builtin_memcpy(&bits, &x, sizeof bits);
    __builtin_memcpy(&y, &power, sizeof y);
    if ((y & 0x7f800000u) == 0) return 0.0f;
    if (x == floorf(x) || (y & 0x7f800000u) == 0x7f800000u) return power;
    y += (bits * 0x9e3779b1u >> 16) % 5 - 2;
    __builtin_memcpy(&power, &y, sizeof y);
    return power;
}
#endif

EMU_INLINE unsigned long long timer_now() { return (unsigned long long)emu_clock(); }
EMU_INLINE unsigned clock_now() { return (unsigned)emu_clock32(); }
EMU_INLINE int opaque(int v) { return v; }
EMU_INLINE int thread_again() { return (int)threadIdx.x; }

#endif
