/* cuRAND's device API for the Philox generator: its state and initialisation, draws of 1 and 4
 * words, uniform numbers, and skips. */
#ifndef EMU_CURAND_KERNEL_H
#define EMU_CURAND_KERNEL_H

#include "curand_philox4x32_x.h"

/* The counter is 128 bits: offset/4 counts in the low half, the subsequence in the high half. */
EMU_INLINE void emu_philox_add(unsigned *lo, unsigned *hi, unsigned long long n, bool *carry)
{
    unsigned long long low = (unsigned long long)*lo | ((unsigned long long)*hi << 32),
                       sum = low + n;
    *carry = sum < low;
    *lo = (unsigned)sum;
    *hi = (unsigned)(sum >> 32);
}

EMU_INLINE void emu_philox_step(curandStatePhilox4_32_10_t *s, unsigned long long n)
{
    bool carry, lost;
    emu_philox_add(&s->ctr.x, &s->ctr.y, n, &carry);
    if (carry) emu_philox_add(&s->ctr.z, &s->ctr.w, 1, &lost);
    s->output = curand_Philox4x32_10(s->ctr, s->key);
}

EMU_INLINE void skipahead(unsigned long long n, curandStatePhilox4_32_10_t *s)
{
    s->STATE += (unsigned)(n & 3);
    n /= 4;
    if (s->STATE > 3) {
        n++;
        s->STATE -= 4;
    }
    emu_philox_step(s, n);
}

EMU_INLINE void skipahead_sequence(unsigned long long n, curandStatePhilox4_32_10_t *s)
{
    bool lost;
    emu_philox_add(&s->ctr.z, &s->ctr.w, n, &lost);
    s->output = curand_Philox4x32_10(s->ctr, s->key);
}

EMU_INLINE void curand_init(unsigned long long seed, unsigned long long subsequence,
                            unsigned long long offset, curandStatePhilox4_32_10_t *s)
{
    memset((void *)s, 0, sizeof *s);
    s->key = make_uint2((unsigned)seed, (unsigned)(seed >> 32));
    skipahead_sequence(subsequence, s);
    skipahead(offset, s);
}

EMU_INLINE unsigned int emu_philox_word(const uint4 &v, unsigned i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

EMU_INLINE unsigned int curand(curandStatePhilox4_32_10_t *s)
{
    unsigned int word = emu_philox_word(s->output, s->STATE);
    if (++s->STATE == 4) {
        emu_philox_step(s, 1);
        s->STATE = 0;
    }
    return word;
}

EMU_INLINE uint4 curand4(curandStatePhilox4_32_10_t *s)
{
    uint4 old = s->output;
    emu_philox_step(s, 1);
    unsigned w[4];
    for (unsigned i = 0; i < 4; i++)
        w[i] = s->STATE + i < 4 ? emu_philox_word(old, s->STATE + i)
                                : emu_philox_word(s->output, s->STATE + i - 4);
    return make_uint4(w[0], w[1], w[2], w[3]);
}

/* Maps a word to (0, 1] as cuRAND does. */
EMU_INLINE float emu_curand_unit(unsigned x)
{
    return (float)x * 2.3283064e-10f + (2.3283064e-10f / 2.0f);
}
EMU_INLINE float curand_uniform(curandStatePhilox4_32_10_t *s)
{
    return emu_curand_unit(curand(s));
}
EMU_INLINE float4 curand_uniform4(curandStatePhilox4_32_10_t *s)
{
    uint4 x = curand4(s);
    return make_float4(emu_curand_unit(x.x), emu_curand_unit(x.y), emu_curand_unit(x.z),
                       emu_curand_unit(x.w));
}

#endif
