/* The calls whose results are compared bit for bit between the emulator's headers and the real
 * toolkit's. They are compiled once against each (test_emu_numerics.cpp and numerics_oracle.cpp).
 * Include this after the CUDA headers. emit(word) receives the results. */
#ifndef EMU_NUMERICS_CASES_H
#define EMU_NUMERICS_CASES_H

#include <stdint.h>
#include <string.h>

static inline float case_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t case_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline uint16_t half_bits(__half h)
{
    uint16_t u;
    memcpy(&u, &h, sizeof u);
    return u;
}
static inline uint16_t bfloat_bits(__nv_bfloat16 h)
{
    uint16_t u;
    memcpy(&u, &h, sizeof u);
    return u;
}

enum { CASE_STEP = 1021, CASE_PHILOX = 100000 };

/* Converts every 1021st float, all floats near the limits of the formats, and all 16-bit values
 * back. */
template <class E> static void cases_conversions(E emit)
{
    for (uint64_t u = 0; u < (uint64_t)1 << 32; u += CASE_STEP)
        emit((uint32_t)half_bits(__float2half(case_float((uint32_t)u))) << 16 |
             bfloat_bits(__float2bfloat16(case_float((uint32_t)u))));
    const uint32_t borders[] = {0x33000000u, 0x33800000u, 0x38800000u, 0x477fe000u, 0x477ff000u,
                                0x47800000u, 0x7f7f0000u, 0x7f7f8000u, 0x7f800000u, 0x00008000u,
                                0x3f800000u, 0x3f808000u, 0x3f801000u, 0x3f803000u, 0x7fc00000u};
    for (uint32_t b : borders)
        for (int sign = 0; sign < 2; sign++)
            for (int d = -300; d <= 300; d++) {
                float f = case_float((b + (uint32_t)d) ^ (sign ? 0x80000000u : 0u));
                emit((uint32_t)half_bits(__float2half_rn(f)) << 16 |
                     bfloat_bits(__float2bfloat16_rn(f)));
            }
    for (uint32_t u = 0; u < 65536; u++) {
        __half h;
        __nv_bfloat16 f;
        uint16_t v = (uint16_t)u;
        memcpy(&h, &v, 2);
        memcpy(&f, &v, 2);
        emit(case_bits(__half2float(h)));
        emit(case_bits(__bfloat162float(f)));
    }
    for (uint32_t u = 0; u < 65536; u += 17) { /* doubles are rounded once */
        double d = (double)(1.0 + u / 65536.0) * (u & 1 ? 6.1e-5 : 1.0) + (u & 2 ? 1e-17 : 0.0);
        emit((uint32_t)half_bits(__double2half(d)) << 16 | bfloat_bits(__double2bfloat16(d)));
    }
}

template <class E> static void cases_philox(E emit)
{
    const unsigned long long seeds[] = {0ull, 1ull, 4886718345ull, 0xffffffffffffffffull};
    const unsigned long long subs[] = {0ull, 1ull, 0x494E4954ull << 32, 0xfffffffffffffff0ull};
    const unsigned long long offsets[] = {0ull, 1ull,        2ull,           3ull,
                                          7ull, 12345677ull, 0x3fffffffeull, 0x1fffffffffffffull};
    unsigned words = 0, mix = 1;
    while (words < CASE_PHILOX)
        for (unsigned long long seed : seeds)
            for (unsigned long long sub : subs)
                for (unsigned long long offset : offsets) {
                    curandStatePhilox4_32_10_t s;
                    curand_init(seed + words / 7, sub, offset, &s);
                    for (int i = 0; i < 12; i++) {
                        mix = mix * 1664525u + 1013904223u;
                        if (mix >> 30 == 0) {
                            uint4 v = curand4(&s);
                            emit(v.x), emit(v.y), emit(v.z), emit(v.w);
                            words += 4;
                        } else if (mix >> 30 == 1) {
                            emit(case_bits(curand_uniform(&s)));
                            words++;
                        } else {
                            emit(curand(&s));
                            words++;
                        }
                        if (mix % 19 == 0) skipahead((unsigned long long)(mix >> 20), &s);
                    }
                    uint4 c;
                    c.x = words, c.y = mix, c.z = (unsigned)sub, c.w = (unsigned)offset;
                    uint2 k;
                    k.x = (unsigned)seed, k.y = (unsigned)(seed >> 32);
                    uint4 v = curand_Philox4x32_10(c, k);
                    emit(v.x), emit(v.y), emit(v.z), emit(v.w);
                }
}

#endif
