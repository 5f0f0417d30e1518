/* precision: the names of --precision, and the rounding that the cpu backend simulates. */
#ifndef PLSTM_PRECISION_H
#define PLSTM_PRECISION_H

#include <stdint.h>
#include <string.h>

#include "kernels/plan.h"

static inline const char *precision_name(LstmPrecision precision)
{
    static const char *const name[PRECISIONS] = {"f32", "tf32", "bf16"};
    return name[precision];
}

/* Rounds an operand of a matrix product as the hardware does: tf32 to nearest, ties away from zero
 * (cvt.rna), bf16 to nearest even. Infinities and NaNs are kept; a value that rounds past the
 * largest float becomes infinite. */
static inline float precision_round(LstmPrecision precision, float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t tf32 = (u + 0x1000u) & ~0x1fffu, bf16 = (u + 0x7fffu + (u >> 16 & 1)) & 0xffff0000u;
    uint32_t rounded = precision == PRECISION_F32 ? u : precision == PRECISION_TF32 ? tf32 : bf16;
    u = (u & 0x7f800000u) == 0x7f800000u ? u : rounded;
    memcpy(&x, &u, sizeof x);
    return x;
}

#endif
