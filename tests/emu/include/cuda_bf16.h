/* bfloat16 under CUDA's names, with CUDA's conversions bit for bit; arithmetic is in float (fma in
 * double) and rounded once. test_emu_numerics compares it with the real header if a toolkit is
 * installed. */
#ifndef EMU_CUDA_BF16_H
#define EMU_CUDA_BF16_H

#include "cuda_runtime.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

struct __nv_bfloat16_raw {
    unsigned short x;
};
struct __nv_bfloat162_raw {
    unsigned short x, y;
};

/* Rounds to nearest, ties to even; NaNs become 0x7fff. A double is first converted to a float
 * rounded to odd, which avoids double rounding. */
static inline unsigned short emu_bfloat_bits(float f)
{
    unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
static inline unsigned short emu_bfloat_bits_d(double d)
{
    float f = (float)d;
    /* An inexact, finite value is truncated towards zero, then its last bit is made odd. */
    if ((double)f != d && f == f && f - f == 0.0f) {
        unsigned u = __float_as_uint(f);
        if (fabs((double)f) > fabs(d)) u--;
        f = __uint_as_float(u | 1u);
    }
    return emu_bfloat_bits(f);
}
static inline float emu_bfloat_float(unsigned short h)
{
    return __uint_as_float((unsigned)h << 16);
}

struct alignas(2) __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    EMU_INLINE_MEMBER __nv_bfloat16(float f) : bits(emu_bfloat_bits(f)) {}
    EMU_INLINE_MEMBER __nv_bfloat16(double d) : bits(emu_bfloat_bits_d(d)) {}
    EMU_INLINE_MEMBER __nv_bfloat16(int i) : bits(emu_bfloat_bits_d((double)i)) {}
    EMU_INLINE_MEMBER __nv_bfloat16(const __nv_bfloat16_raw &r) : bits(r.x) {}
    EMU_INLINE_MEMBER operator float() const { return emu_bfloat_float(bits); }
    EMU_INLINE_MEMBER operator __nv_bfloat16_raw() const { return __nv_bfloat16_raw{bits}; }
    EMU_INLINE_MEMBER __nv_bfloat16 &operator=(float f)
    {
        bits = emu_bfloat_bits(f);
        return *this;
    }
    EMU_INLINE_MEMBER __nv_bfloat16 &operator+=(__nv_bfloat16 o)
    {
        return *this = (float)*this + (float)o;
    }
    EMU_INLINE_MEMBER __nv_bfloat16 &operator-=(__nv_bfloat16 o)
    {
        return *this = (float)*this - (float)o;
    }
    EMU_INLINE_MEMBER __nv_bfloat16 &operator*=(__nv_bfloat16 o)
    {
        return *this = (float)*this * (float)o;
    }
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    EMU_INLINE_MEMBER __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

EMU_INLINE __nv_bfloat16 operator+(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat16((float)a + (float)b);
}
EMU_INLINE __nv_bfloat16 operator-(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat16((float)a - (float)b);
}
EMU_INLINE __nv_bfloat16 operator*(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat16((float)a * (float)b);
}
EMU_INLINE __nv_bfloat16 operator/(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat16((float)a / (float)b);
}
EMU_INLINE __nv_bfloat16 operator-(__nv_bfloat16 a)
{
    a.bits ^= 0x8000u;
    return a;
}

EMU_INLINE __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
EMU_INLINE __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
EMU_INLINE __nv_bfloat16 __double2bfloat16(double d) { return __nv_bfloat16(d); }
EMU_INLINE float __bfloat162float(__nv_bfloat16 h) { return (float)h; }
EMU_INLINE unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
EMU_INLINE short __bfloat16_as_short(__nv_bfloat16 h) { return (short)h.bits; }
EMU_INLINE __nv_bfloat16 __ushort_as_bfloat16(unsigned short x)
{
    return __nv_bfloat16(__nv_bfloat16_raw{x});
}
EMU_INLINE __nv_bfloat16 __short_as_bfloat16(short x)
{
    return __nv_bfloat16(__nv_bfloat16_raw{(unsigned short)x});
}

EMU_INLINE __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat162(a, b);
}
EMU_INLINE __nv_bfloat162 make_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat162(a, b);
}
EMU_INLINE __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 a) { return __nv_bfloat162(a, a); }
EMU_INLINE __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return __nv_bfloat162(__nv_bfloat16(a), __nv_bfloat16(b));
}
EMU_INLINE __nv_bfloat162 __float22bfloat162_rn(float2 f)
{
    return __floats2bfloat162_rn(f.x, f.y);
}
EMU_INLINE __nv_bfloat162 __float2bfloat162_rn(float f) { return __floats2bfloat162_rn(f, f); }
EMU_INLINE float2 __bfloat1622float2(__nv_bfloat162 h)
{
    return make_float2((float)h.x, (float)h.y);
}
EMU_INLINE float __low2float(__nv_bfloat162 h) { return (float)h.x; }
EMU_INLINE float __high2float(__nv_bfloat162 h) { return (float)h.y; }
EMU_INLINE __nv_bfloat16 __low2bfloat16(__nv_bfloat162 h) { return h.x; }
EMU_INLINE __nv_bfloat16 __high2bfloat16(__nv_bfloat162 h) { return h.y; }

EMU_INLINE __nv_bfloat16 __hadd(__nv_bfloat16 a, __nv_bfloat16 b) { return a + b; }
EMU_INLINE __nv_bfloat16 __hsub(__nv_bfloat16 a, __nv_bfloat16 b) { return a - b; }
EMU_INLINE __nv_bfloat16 __hmul(__nv_bfloat16 a, __nv_bfloat16 b) { return a * b; }
EMU_INLINE __nv_bfloat16 __hdiv(__nv_bfloat16 a, __nv_bfloat16 b) { return a / b; }
EMU_INLINE __nv_bfloat16 __hneg(__nv_bfloat16 a) { return -a; }
EMU_INLINE __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c)
{
    return __nv_bfloat16(fma((double)(float)a, (double)(float)b, (double)(float)c));
}
EMU_INLINE __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return __nv_bfloat162(a.x + b.x, a.y + b.y);
}
EMU_INLINE __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return __nv_bfloat162(a.x - b.x, a.y - b.y);
}
EMU_INLINE __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return __nv_bfloat162(a.x * b.x, a.y * b.y);
}
EMU_INLINE __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c)
{
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
EMU_INLINE bool __hisnan(__nv_bfloat16 a) { return (float)a != (float)a; }

#pragma GCC diagnostic pop

#endif
