/* backend_cuda: the training step on an NVIDIA GPU or, when built against tests/emu, on the
 * emulated one. */
#ifndef PLSTM_BACKEND_CUDA_H
#define PLSTM_BACKEND_CUDA_H

#include <cuda_runtime_api.h>

#include "kernels/lstm.h"
#include "backend.h"
#include "recurrence.h"

extern const BackendOps backend_cuda;

/* For tests. cuda_graph returns the graph that was launched last, owned by b, or NULL if no shape
 * has run its second step yet. cuda_graphs returns the number of graphs that are kept. */
cudaGraph_t cuda_graph(const Backend *b);
int cuda_graphs(const Backend *b);
/* Returns the input of layer 0, (T,B,H) floats of device memory; NULL in bf16. Call between
 * embedding_forward and layer_forward. */
float *cuda_input(const Backend *b);
/* Returns the record that a kernel writes when it times out; device memory. */
FaultRecord *cuda_fault(const Backend *b);
/* cuda_recurrence returns the chosen kernels and plans. cuda_scratch returns the device memory of
 * plan `which` (PLAN_FORWARD ...): its exchange buffer, followed by its barrier's words. */
const Recurrence *cuda_recurrence(const Backend *b);
void *cuda_scratch(const Backend *b, int which);

#endif
