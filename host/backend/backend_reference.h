/* backend_reference: the oracle, with access for tests to the exact values that BackendOps passes
 * only as float32. */
#ifndef PLSTM_BACKEND_REFERENCE_H
#define PLSTM_BACKEND_REFERENCE_H

#include "backend.h"

/* tests/support/plain_f32.c compiles the same source a second time, with float and other names: the
 * plain float32 loop whose error sets the tolerance of every other float32 backend. */
#ifndef REFERENCE_REAL
#define REFERENCE_REAL double
#endif

extern const BackendOps backend_reference;

/* Returns tensor k of the parameters, to read or to perturb, and its gradient; owned by b. */
REFERENCE_REAL *reference_param(Backend *b, int k);
const REFERENCE_REAL *reference_grad(const Backend *b, int k);

/* Returns the input of layer 0, (T,B,H). Call between embedding_forward and layer_forward. */
REFERENCE_REAL *reference_input(Backend *b);

#endif
