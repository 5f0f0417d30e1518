// axes: the shapes, variants, directions and precisions of bench_gpu's rows, and the options that
// select among them.
#ifndef PLSTM_BENCH_AXES_H
#define PLSTM_BENCH_AXES_H

#include <cstdint>
#include <string>
#include <vector>

namespace axes
{

// The type to which the operands of matrix products are rounded; sums are float32 everywhere.
enum class Precision { F32, TF32, BF16, F16 };
const char *name_of(Precision p); // "f32", "tf32", "bf16", "f16"

struct Workload {
    std::int64_t H, B, T;
    double keep, init, clip;
    std::int64_t true_B = 0; // the batch before padding; 0 if the shape is not padded
};
// Returns the name of a shape in rows: "H:650/B:20/T:35".
std::string shape_name(const Workload &w);

// An empty list selects everything.
struct Axes {
    std::vector<std::int64_t> H, B, T;
    std::vector<std::string> variants, directions; // directions: fwd, bwd, fwdbwd
    std::vector<Precision> precisions;
    bool tiny = false; // tiny shapes, to test the program itself
};

// Returns whether `argument` is one of --h= --b= --t= --variants= --directions= --precision=, each
// a comma-separated list, and if so stores it in *axes. Throws std::invalid_argument with a
// sentence if the list is malformed.
bool take(Axes *axes, const std::string &argument);

template <class T> bool wanted(const std::vector<T> &list, const T &value)
{
    for (const T &one : list)
        if (one == value) return true;
    return list.empty();
}

// Returns the paper's models and the shape with published times, or those with the requested H,
// with the requested B and T: one workload per (H, B), whose T is the first of its lengths.
std::vector<Workload> workloads(const Axes &axes);

// Returns the lengths of a workload, its own T first: the requested ones, or those from whose slope
// the time of a step follows without the fixed cost of a launch.
std::vector<std::int64_t> lengths(const Axes &axes, const Workload &w);

// Returns the smallest shape that contains w with H a multiple of 128 and B a multiple of 8 (32 and
// 4 with --tiny), as persistent kernels of other libraries require; w itself if it is such a shape.
Workload padded(const Axes &axes, const Workload &w);

} // namespace axes

#endif
