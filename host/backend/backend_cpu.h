#ifndef PLSTM_BACKEND_CPU_H
#define PLSTM_BACKEND_CPU_H

#include "backend.h"

extern const BackendOps backend_cpu;

#endif
