/* plain_f32: host/backend_reference.c with float for double. What a plain float32 loop errs against the
 * double reference is the measure for every other float32 implementation (Dao-AILab/flash-attention tests the
 * same way): one may err k times as much, k = 2 for forward results and 3 for gradients and what follows from
 * them, plus 4 ulp of the largest value for what a plain loop happens to get exactly. */
#ifndef PLSTM_TESTS_PLAIN_F32_H
#define PLSTM_TESTS_PLAIN_F32_H

#include "../host/backend.h"

extern const BackendOps backend_plain_f32;

#endif
