/* IEEE half precision under CUDA's names, with CUDA's conversions bit for bit; arithmetic is in
 * float (fma in double) and rounded once. test_emu_numerics compares it with the real header if a
 * toolkit is installed. */
#ifndef EMU_CUDA_FP16_H
#define EMU_CUDA_FP16_H

#include "cuda_runtime.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

struct __half_raw {
    unsigned short x;
};
struct __half2_raw {
    unsigned short x, y;
};

/* Rounds to nearest, ties to even, directly from double, which avoids double rounding. NaNs become
 * 0x7fff. */
static inline unsigned short emu_half_bits_d(double d)
{
    uint64_t u = emu_bits(d);
    unsigned sign = (unsigned)(u >> 48) & 0x8000u;
    int exponent = (int)(u >> 52 & 0x7ff) - 1023;
    uint64_t mantissa = (u & 0xfffffffffffffull) | 0x10000000000000ull; /* 1.52 */
    if (exponent == 1024)
        return (unsigned short)((u & 0xfffffffffffffull) ? 0x7fff : sign | 0x7c00);
    if (exponent > 15) return (unsigned short)(sign | 0x7c00);
    if (exponent < -25) return (unsigned short)sign;
    /* 10 fraction bits are kept, fewer of a subnormal number. */
    int shift = exponent >= -14 ? 42 : 42 + (-14 - exponent);
    uint64_t kept = mantissa >> shift, rest = mantissa & (((uint64_t)1 << shift) - 1),
             tie = (uint64_t)1 << (shift - 1);
    kept += rest > tie || (rest == tie && (kept & 1));
    unsigned result = exponent >= -14 ? (unsigned)((uint64_t)(exponent + 14) << 10) + (unsigned)kept
                                      : (unsigned)kept;
    return (unsigned short)(sign | (result > 0x7c00 ? 0x7c00u : result));
}
static inline unsigned short emu_half_bits(float f) { return emu_half_bits_d((double)f); }
static inline float emu_half_float(unsigned short h)
{
    unsigned sign = (unsigned)(h & 0x8000u) << 16, exponent = h >> 10 & 0x1f, mantissa = h & 0x3ff;
    if (exponent == 31) return __uint_as_float(mantissa ? 0x7fffffffu : sign | 0x7f800000u);
    if (exponent == 0) {
        float f = (float)mantissa * 5.9604644775390625e-8f; /* 2^-24, exact */
        return __uint_as_float(__float_as_uint(f) | sign);
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

struct alignas(2) __half {
    unsigned short bits;
    __half() = default;
    EMU_INLINE_MEMBER __half(float f) : bits(emu_half_bits(f)) {}
    EMU_INLINE_MEMBER __half(double d) : bits(emu_half_bits_d(d)) {}
    EMU_INLINE_MEMBER __half(int i) : bits(emu_half_bits_d((double)i)) {}
    EMU_INLINE_MEMBER __half(const __half_raw &r) : bits(r.x) {}
    EMU_INLINE_MEMBER operator float() const { return emu_half_float(bits); }
    EMU_INLINE_MEMBER operator __half_raw() const { return __half_raw{bits}; }
    EMU_INLINE_MEMBER __half &operator=(float f)
    {
        bits = emu_half_bits(f);
        return *this;
    }
    EMU_INLINE_MEMBER __half &operator+=(__half o) { return *this = (float)*this + (float)o; }
    EMU_INLINE_MEMBER __half &operator-=(__half o) { return *this = (float)*this - (float)o; }
    EMU_INLINE_MEMBER __half &operator*=(__half o) { return *this = (float)*this * (float)o; }
};
struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    EMU_INLINE_MEMBER __half2(__half a, __half b) : x(a), y(b) {}
};
typedef __half half;
typedef __half2 half2;

EMU_INLINE __half operator+(__half a, __half b) { return __half((float)a + (float)b); }
EMU_INLINE __half operator-(__half a, __half b) { return __half((float)a - (float)b); }
EMU_INLINE __half operator*(__half a, __half b) { return __half((float)a * (float)b); }
EMU_INLINE __half operator/(__half a, __half b) { return __half((float)a / (float)b); }
EMU_INLINE __half operator-(__half a)
{
    a.bits ^= 0x8000u;
    return a;
}

EMU_INLINE __half __float2half(float f) { return __half(f); }
EMU_INLINE __half __float2half_rn(float f) { return __half(f); }
EMU_INLINE __half __double2half(double d) { return __half(d); }
EMU_INLINE float __half2float(__half h) { return (float)h; }
EMU_INLINE unsigned short __half_as_ushort(__half h) { return h.bits; }
EMU_INLINE short __half_as_short(__half h) { return (short)h.bits; }
EMU_INLINE __half __ushort_as_half(unsigned short x) { return __half(__half_raw{x}); }
EMU_INLINE __half __short_as_half(short x) { return __half(__half_raw{(unsigned short)x}); }

EMU_INLINE __half2 __halves2half2(__half a, __half b) { return __half2(a, b); }
EMU_INLINE __half2 make_half2(__half a, __half b) { return __half2(a, b); }
EMU_INLINE __half2 __half2half2(__half a) { return __half2(a, a); }
EMU_INLINE __half2 __floats2half2_rn(float a, float b) { return __half2(__half(a), __half(b)); }
EMU_INLINE __half2 __float22half2_rn(float2 f) { return __floats2half2_rn(f.x, f.y); }
EMU_INLINE __half2 __float2half2_rn(float f) { return __floats2half2_rn(f, f); }
EMU_INLINE float2 __half22float2(__half2 h) { return make_float2((float)h.x, (float)h.y); }
EMU_INLINE float __low2float(__half2 h) { return (float)h.x; }
EMU_INLINE float __high2float(__half2 h) { return (float)h.y; }
EMU_INLINE __half __low2half(__half2 h) { return h.x; }
EMU_INLINE __half __high2half(__half2 h) { return h.y; }

EMU_INLINE __half __hadd(__half a, __half b) { return a + b; }
EMU_INLINE __half __hsub(__half a, __half b) { return a - b; }
EMU_INLINE __half __hmul(__half a, __half b) { return a * b; }
EMU_INLINE __half __hdiv(__half a, __half b) { return a / b; }
EMU_INLINE __half __hneg(__half a) { return -a; }
EMU_INLINE __half __hfma(__half a, __half b, __half c)
{
    return __half(fma((double)(float)a, (double)(float)b, (double)(float)c));
}
EMU_INLINE __half2 __hadd2(__half2 a, __half2 b) { return __half2(a.x + b.x, a.y + b.y); }
EMU_INLINE __half2 __hsub2(__half2 a, __half2 b) { return __half2(a.x - b.x, a.y - b.y); }
EMU_INLINE __half2 __hmul2(__half2 a, __half2 b) { return __half2(a.x * b.x, a.y * b.y); }
EMU_INLINE __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    return __half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
EMU_INLINE bool __hisnan(__half a) { return (float)a != (float)a; }

#pragma GCC diagnostic pop

#endif
