// roofs: what a GPU was measured to reach (constants.json of bench_gpu --constants), and how near to it a time is.
#ifndef PLSTM_BENCH_ROOFS_H
#define PLSTM_BENCH_ROOFS_H

#include <string>

#include "axes.h"

// Zero where it was not measured.
struct Roofs {
    double bytes = 0;                            // a second, to and from memory
    double f32 = 0, tf32 = 0, bf16 = 0, f16 = 0; // FLOP a second
    double hop = 0; // microseconds from a store on one SM to the load that sees it on another
    std::string gpu;

    double flops(axes::Precision p) const
    {
        return p == axes::Precision::F32    ? f32
               : p == axes::Precision::TF32 ? tf32
               : p == axes::Precision::BF16 ? bf16
                                            : f16;
    }
};

// Throws std::runtime_error with a sentence.
Roofs roofs_read(const char *path);

// Microseconds below which no implementation can be on that GPU: steps that follow each other wait for a hop each and then do their share of
// the arithmetic, or all bytes are moved, whichever takes longer. Zero where a roof that it needs is not known.
double floor_us(const Roofs &roofs, axes::Precision p, double flops, double bytes, double steps);

#endif
