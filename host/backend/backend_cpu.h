#ifndef PLSTM_BACKEND_CPU_H
#define PLSTM_BACKEND_CPU_H

#include "backend.h"

extern const BackendOps backend_cpu;

/* For tests, between embedding_forward and layer_forward: returns the input of layer 0, (T,B,H). */
float *cpu_input(Backend *b);

#endif
