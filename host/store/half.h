/* half: IEEE 754 binary16, as files store it. */
#ifndef PLSTM_HALF_H
#define PLSTM_HALF_H

#include <math.h>
#include <stdint.h>

/* Converts the bits of a binary16 number, exactly; the payload of a NaN is lost. */
static inline float half_to_float(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double mantissa = h & 1023, v = exponent == 31
                                        ? (mantissa != 0 ? (double)NAN : (double)INFINITY)
                                    : exponent ? ldexp(1024 + mantissa, exponent - 25)
                                               : ldexp(mantissa, -24);
    return (float)(h >> 15 ? -v : v);
}

#endif
