// whole: the inputs of whole layers and their expected results, shared by our variants and the
// peers.
#ifndef PLSTM_BENCH_WHOLE_H
#define PLSTM_BENCH_WHOLE_H

#include "gpu.h"
#include "oracle.h"

namespace bench_gpu
{

// Draws the inputs. p is the precision of the products' operands, `stored` that of tensors in
// memory.
oracle::LayersInput whole_input(const Workload &w, int layers, Precision p, Precision stored);

struct WholeKnown {
    oracle::LayersOutput<double> truth;
    oracle::LayersOutput<float> plain;
};
// Returns the expected results. It keeps those of the last shape, since rows of one shape are
// adjacent.
const WholeKnown &whole_known(const Workload &w, int layers, Precision p, Precision stored);

// The FLOP of the products of input and recurrence, which every implementation computes.
double whole_flops(const Workload &w, int layers, bool backward);
// The bytes of the tensors in float32.
double whole_bytes(const Workload &w, int layers, bool backward);

} // namespace bench_gpu

#endif
