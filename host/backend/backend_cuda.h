/* backend_cuda: the training step on an NVIDIA GPU, or, built against tests/emu, on the emulated one. */
#ifndef PLSTM_BACKEND_CUDA_H
#define PLSTM_BACKEND_CUDA_H

#include <cuda_runtime_api.h>

#include "kernels/lstm.h"
#include "backend.h"
#include "recurrence.h"

extern const BackendOps backend_cuda;

/* For tests. The graph that training windows replay, NULL before the second of a stream; its owner is b. */
cudaGraph_t cuda_graph(const Backend *b);
/* The record that waiting kernels write when they give up; device memory. */
FaultRecord *cuda_fault(const Backend *b);
/* What was chosen, and the device memory of plan `which` (PLAN_FORWARD ...): its exchange, then its barrier's words. */
const Recurrence *cuda_recurrence(const Backend *b);
void *cuda_scratch(const Backend *b, int which);

#endif
