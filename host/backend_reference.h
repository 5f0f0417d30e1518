/* The double-precision oracle's own doors, for tests: exact access to what the table passes as float32. */
#ifndef PLSTM_BACKEND_REFERENCE_H
#define PLSTM_BACKEND_REFERENCE_H

#include "backend.h"

extern const BackendOps backend_reference;

/* Tensor k of the parameters, to read or to perturb, and its gradient; owned by b. */
double *reference_param(Backend *b, int k);
const double *reference_grad(const Backend *b, int k);

#endif
