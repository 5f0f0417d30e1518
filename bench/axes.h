// axes: what the rows of bench_gpu range over, and how the command line narrows it.
#ifndef PLSTM_BENCH_AXES_H
#define PLSTM_BENCH_AXES_H

#include <cstdint>
#include <string>
#include <vector>

namespace axes
{

// What the operands of matrix products are rounded to; sums are float32 everywhere.
enum class Precision { F32, TF32, BF16, F16 };
const char *name_of(Precision p); // "f32", "tf32", "bf16", "f16"

struct Workload {
    std::int64_t H, B, T;
    double keep, init, clip;
    std::int64_t true_B = 0; // of a shape that was padded: the batch that it stands for; 0: B
};
// "H:650/B:20/T:35"
std::string shape_name(const Workload &w);

// An empty list is everything that there is.
struct Axes {
    std::vector<std::int64_t> H, B, T;
    std::vector<std::string> variants, directions; // directions: fwd, bwd, fwdbwd
    std::vector<Precision> precisions;
    bool tiny = false; // shapes to try the program itself with
};

// Whether `argument` is one of --h= --b= --t= --variants= --directions= --precision=, each a list with commas; *axes then holds it. Throws
// std::invalid_argument with a sentence where the list is none.
bool take(Axes *axes, const std::string &argument);

template <class T> bool wanted(const std::vector<T> &list, const T &value)
{
    for (const T &one : list)
        if (one == value) return true;
    return list.empty();
}

// The paper's models, and a shape with published times; or those of H that were asked for, with B and T that were asked for.
// One per (H, B), T the first of its lengths.
std::vector<Workload> workloads(const Axes &axes);

// Lengths of a workload, its own one first: those whose slope separates a step from what a launch costs once, or those asked for.
std::vector<std::int64_t> lengths(const Axes &axes, const Workload &w);

// The smallest shape that holds w and has H a multiple of 128, B of 8 (32 and 4 where all is tiny), as persistent kernels of other libraries
// ask; w itself where it is one.
Workload padded(const Axes &axes, const Workload &w);

} // namespace axes

#endif
