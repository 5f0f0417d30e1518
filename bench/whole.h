// whole: inputs of whole layers and what they must make of them, shared by our variants and the peers.
#ifndef PLSTM_BENCH_WHOLE_H
#define PLSTM_BENCH_WHOLE_H

#include "gpu.h"
#include "oracle.h"

namespace bench_gpu
{

// p: of products' operands; stored: of tensors in memory.
oracle::LayersInput whole_input(const Workload &w, int layers, Precision p, Precision stored);

struct WholeKnown {
    oracle::LayersOutput<double> truth;
    oracle::LayersOutput<float> plain;
};
// Of the last shape that was asked for; rows of one shape stand together.
const WholeKnown &whole_known(const Workload &w, int layers, Precision p, Precision stored);

// Products of input and recurrence: every implementation does these.
double whole_flops(const Workload &w, int layers, bool backward);
// In float32.
double whole_bytes(const Workload &w, int layers, bool backward);

} // namespace bench_gpu

#endif
