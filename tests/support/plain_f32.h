/* plain_f32: host/backend/backend_reference.c with float instead of double. The error of this plain
 * float32 loop against the double reference bounds that of every other float32 implementation
 * (Dao-AILab/flash-attention tests the same way): the error may be k times as large, k = 2 for
 * forward results and 3 for gradients and derived values, plus 4 ulp of the largest value, for
 * values that the plain loop happens to get exactly. */
#ifndef PLSTM_TESTS_PLAIN_F32_H
#define PLSTM_TESTS_PLAIN_F32_H

#include <float.h>
#include <math.h>

#include "host/backend/backend.h"

extern const BackendOps backend_plain_f32;

/* Returns one unit in the last place of a float32 of size x >= 0. */
static inline double f32_ulp(double x) { return ldexp(1, ilogb(x > 0 ? x : FLT_MIN) - 23); }

/* Returns the error that is allowed, `times` being the k above, if the plain loop's error is
 * `plain` and the largest value is `largest`. */
static inline double f32_bound(double times, double plain, double largest)
{
    return times * plain + 4 * f32_ulp(largest);
}

/* Returns the largest |a - b| of n values, or a NaN if a difference is one; stores the largest |b|
 * in *largest. */
static inline double f32_error(const double *a, const double *b, int n, double *largest)
{
    double worst = 0;
    *largest = 0;
    for (int i = 0; i < n; i++) {
        if (!(fabs(a[i] - b[i]) <= worst)) worst = fabs(a[i] - b[i]);
        *largest = fmax(*largest, fabs(b[i]));
    }
    return worst;
}

#endif
