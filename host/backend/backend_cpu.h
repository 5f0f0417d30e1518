/* backend_cpu: the training step on the CPU (backend_cpu.c describes how). */
#ifndef PLSTM_BACKEND_CPU_H
#define PLSTM_BACKEND_CPU_H

#include "backend.h"

extern const BackendOps backend_cpu;

/* For tests. Returns the input of layer 0, (T,B,H), owned by b. Call between embedding_forward and
 * layer_forward. */
float *cpu_input(Backend *b);

#endif
