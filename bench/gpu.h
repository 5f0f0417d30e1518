// gpu: what the parts of bench_gpu share: the device, random inputs, the check of a result before
// it is timed, and the converged measurement.
#ifndef PLSTM_BENCH_GPU_H
#define PLSTM_BENCH_GPU_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <cublas_v2.h>
#include <cuda_runtime.h>

extern "C" {
#include "host/plan/device.h"
#include "host/base/error.h"
#include "kernels/gemm.h"
#include "kernels/layers.h"
#include "kernels/lstm.h"
#include "kernels/philox.h"
#include "kernels/tensor.h"
}
#include "axes.h"
#include "constants.h"
#include "measure.h"

namespace bench_gpu
{

using std::int64_t;
using namespace axes;

extern int64_t V, square;   // vocabulary; size of the GEMM constants
extern int sets;            // number of input sets
extern double step_seconds; // length of a sample of training steps
extern bool spoil, tiny;
extern uint32_t poll_limit; // polls before a kernel times out: about a second, or PLSTM_POLL_LIMIT
extern measure::Rule rule;  // for every measurement
const int64_t L = 2, the_step = 7;
const uint64_t seed = 1;
void use_tiny_shapes();

// ---- the device ----

// The reason why a row cannot run; its text begins with "refused: ", and it is no failure.
struct Refused : std::runtime_error {
    explicit Refused(const std::string &sentence) : std::runtime_error("refused: " + sentence) {}
};

[[noreturn]] inline void fail(const std::string &sentence) { throw std::runtime_error(sentence); }

inline void check(cudaError_t status, const char *call)
{
    if (status != cudaSuccess) fail(std::string(call) + ": " + cudaGetErrorString(status));
}
inline void check(cublasStatus_t status, const char *call) { check(gemm_error(status), call); }
#define CHECK(call) check((call), #call)

// Copies to device memory and waits for the bytes: cudaMemcpy of pageable memory may return
// earlier, and the rows' stream does not wait for the default stream.
inline void upload(void *to, const void *from, size_t bytes)
{
    CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    CHECK(cudaDeviceSynchronize());
}

// Device memory of n elements.
template <class T> class Device
{
  public:
    explicit Device(size_t n) : n(n) { CHECK(cudaMalloc((void **)&at, n * sizeof(T))); }
    explicit Device(const std::vector<T> &v) : Device(v.size()) { upload(at, v.data(), bytes()); }
    ~Device() { cudaFree(at); }
    Device(const Device &) = delete;
    Device &operator=(const Device &) = delete;
    T *get() const { return at; }
    size_t bytes() const { return n * sizeof(T); }
    std::vector<T> host() const
    {
        std::vector<T> v(n);
        CHECK(cudaMemcpy(v.data(), at, bytes(), cudaMemcpyDeviceToHost));
        return v;
    }
    // Fills with bytes that are NaN as float, half and bfloat16. It waits, since the rows use
    // another stream than the default one.
    void poison()
    {
        CHECK(cudaMemset(at, 0xff, bytes()));
        CHECK(cudaDeviceSynchronize());
    }
    void copy_from(const Device &other, cudaStream_t stream)
    {
        CHECK(cudaMemcpyAsync(at, other.at, bytes(), cudaMemcpyDeviceToDevice, stream));
    }

  private:
    T *at = nullptr;
    size_t n;
};
template <class T> using Shared = std::shared_ptr<Device<T>>;
template <class T> Shared<T> device_copy(const std::vector<T> &v)
{
    return std::make_shared<Device<T>>(v);
}
// Returns the values as bits of bfloat16.
std::vector<uint16_t> bf16_bits(const std::vector<float> &v);
template <class T> Shared<T> device_alloc(int64_t n)
{
    return std::make_shared<Device<T>>((size_t)n);
}
// n elements whose bytes are all zero.
template <class T> Shared<T> zeros(int64_t n) { return device_copy(std::vector<T>((size_t)n)); }

// The stream, cuBLAS and scratch memory of all rows, like those of a backend.
struct Gpu {
    LstmContext context = {};
    DeviceFacts facts = {};
    std::unique_ptr<Device<FaultRecord>> fault;
    // the size that cuBLAS recommends for Hopper
    static constexpr size_t workspace_bytes = size_t{32} << 20;
    std::unique_ptr<Device<char>> workspace, flushed;
    std::unique_ptr<Device<StepState>> state;
    cudaEvent_t before = nullptr, after = nullptr;
    ClockSample *clock = nullptr; // pinned
    bool emulated = false;
    // {prepare function: its error}; variants that cannot be prepared have no rows.
    std::map<cudaError_t (*)(void), cudaError_t> unprepared;

    // Returns an exit code and fills *e.
    int open(Error *e);
    // Sets the math mode of cuBLAS; products of bf16 operands are requested by their types.
    void precision(Precision p)
    {
        CHECK(cublasSetMathMode(context.blas, p == Precision::TF32 ? CUBLAS_TF32_TENSOR_OP_MATH
                                                                   : CUBLAS_DEFAULT_MATH));
    }
    void wait() { CHECK(cudaStreamSynchronize(context.stream)); }
    // Enqueues writes over more memory than L2 holds.
    void flush();
    // Returns a sentence if a kernel timed out since the last call, else an empty string.
    std::string fault_seen();
    void close();
};
extern Gpu gpu;

// ---- random values ----

// n values in [-scale, scale], a pure function of `key`.
std::vector<float> drawn(uint32_t key, int64_t n, double scale);
// Ids with Zipf's distribution, as in text: they are log-uniform.
std::vector<int32_t> drawn_ids(uint64_t key, int64_t n);

// ---- right or wrong ----

struct Verdict {
    std::string fault; // empty if the result is right
    double error = 0, bound = 0;
};

// Keeps the first fault, and the error that is closest to its bound.
void join(Verdict *all, const Verdict &one);

// The names and lengths of a tensor's axes, the slowest first, for a message about one of its
// elements. The length of the slowest axis is not used.
typedef std::vector<std::pair<const char *, int64_t>> Dims;
inline Dims of_gates(const Workload &w)
{
    return {{"t", w.T}, {"b", w.B}, {"gate", 4}, {"unit", w.H}};
}
inline Dims of_units(const Workload &w) { return {{"t", 0}, {"b", w.B}, {"unit", w.H}}; }
inline Dims of_weights(const Workload &w) { return {{"gate", 4}, {"unit", w.H}, {"column", w.H}}; }
inline Dims of_biases(const Workload &w) { return {{"gate", 4}, {"unit", w.H}}; }

// Compares a result with the reference: its error may be at most `times` that of the plain loop in
// the same precision, plus 4 units in the last place of the largest value. The fault names the
// first wrong element, its value, the number of wrong elements and the number of NaN among them.
Verdict compare(const char *what, std::vector<float> ours, const std::vector<double> &truth,
                const std::vector<float> &plain, double times, const Dims &dims = {},
                Precision stored = Precision::F32);

// Compares results that must be equal.
template <class T> Verdict same(const char *what, std::vector<T> ours, const std::vector<T> &right)
{
    Verdict v;
    if (spoil && !ours.empty()) ours[ours.size() / 2] = ours[ours.size() / 2] + 1;
    for (size_t i = 0; i < right.size(); i++)
        if (!(ours[i] == right[i])) {
            v.fault = std::string("wrong: ") + what + " at element " + std::to_string(i);
            break;
        }
    return v;
}

// ---- a row ----

// Everything for one row; the functions own the device memory.
struct Case {
    int sets = 1;
    std::function<cudaError_t(int set)> run; // enqueues the pass
    // restores the inputs that run overwrites, on the stream; may be empty
    std::function<void(int set)> restore;
    std::function<void(int set)> poison;   // fills the outputs with NaN
    std::function<Verdict(int set)> check; // call after poison, restore and run
    Precision precision = Precision::F32;
    double flops = 0, bytes = 0; // the least that any implementation needs: each tensor once
    int64_t T = 0;               // steps of the sequence
    int64_t words = 0;           // targets of the whole minibatch
    std::string label;           // KEY=VALUE words for the row
    std::string plan;            // the variant's whole plan, for an error message; may be empty
    // more KEY=VALUE words, which are known only after a run; may be empty
    std::function<std::string()> late_label;
    bool peer = false; // another library, for which a failed capture is a result and not a fault
};

// Poisons and restores one set.
void prepare(const Case &c, int set);
// Runs and checks every set.
Verdict verdict_of(const Case &c);

// Measures by `rule` the microseconds between two events around `pass`, which enqueues work.
// `restore` (may be empty) runs before each pass; with `flush` L2 is overwritten before each pass.
measure::Result converge(const std::function<void()> &pass, const std::function<void()> &restore,
                         bool flush);
// The same for work that the host waits for; `run` returns the microseconds that it took.
measure::Result converge_host(const std::function<double()> &run);

// The work that `enqueue` enqueues, as a graph.
class Graph
{
  public:
    explicit Graph(const std::function<void()> &enqueue)
    {
        cudaGraph_t graph = nullptr;
        CHECK(cudaStreamBeginCapture(gpu.context.stream, cudaStreamCaptureModeThreadLocal));
        try {
            enqueue();
        } catch (...) { // the stream must leave the capture
            cudaStreamEndCapture(gpu.context.stream, &graph);
            if (graph) cudaGraphDestroy(graph);
            throw;
        }
        CHECK(cudaStreamEndCapture(gpu.context.stream, &graph));
        CHECK(cudaGraphInstantiate(&exec, graph, 0));
        CHECK(cudaGraphDestroy(graph));
        CHECK(cudaGraphUpload(exec, gpu.context.stream));
    }
    ~Graph() { cudaGraphExecDestroy(exec); }
    Graph(const Graph &) = delete;
    Graph &operator=(const Graph &) = delete;
    void replay() { CHECK(cudaGraphLaunch(exec, gpu.context.stream)); }

  private:
    cudaGraphExec_t exec = nullptr;
};

// ---- the cases ----

// The site's mask at step the_step.
MaskSite mask_site(const Workload &w, int site);

using Maker = std::function<std::shared_ptr<Case>()>;

// gpu_recurrence.cpp. Both throw Refused if the variant cannot run the shape or the precision.
std::shared_ptr<Case> forward_case(const LstmVariant *variant, const Workload &w, Precision p);
std::shared_ptr<Case> backward_case(const LstmVariant *variant, const Workload &w, Precision p);

// The plan and scratch memory of a variant's pass, made once per shape. The plan is made first,
// before any memory is allocated.
struct Launch {
    const LstmVariant *variant;
    LstmPlan plan = {};
    Shared<char> scratch;
    Shared<float> packed;
    Shared<char> tiles; // w_hh in the order of bf16 tensor cores
    LstmShape shape;

    // Throws Refused with the planner's sentence.
    Launch(const LstmVariant *variant, const Workload &w, Precision p, bool backward);
    // Makes the reordered copies of w_hh (device memory) that the pass needs.
    void pack(const Workload &w, const float *w_hh);
    LstmLaunch args() const;
    std::string label() const; // the plan in short, for the row's label
    std::string plan_text() const;
};
LstmPrecision lstm_precision_of(Precision p); // for f32, tf32 and bf16
// The reason why the variant does not support that precision, or an empty string.
std::string precision_refused(const LstmVariant *variant, Precision p);
// Call at the beginning of every case of a variant; throws Refused.
void begin_variant(Case *c, const LstmVariant *variant, Precision p);

// gpu_recurrence.cpp: mma with the exchange by flags, to be compared with the exchange by words,
// which the plans of mma use.
extern const LstmVariant mma_flag;

// gpu_tuned.cpp: the tuned cublas (tuned_gemm.h), a variant that only the benchmark has.
extern const LstmVariant cublas_tuned;
// Call before a row of cublas_tuned, since its weights may be at the address of another row's.
// After a run, tuned_label returns the algorithm that was chosen for the row's first product.
void tuned_begin(Precision p);
std::string tuned_label();

// gpu_whole.cpp: `layers` whole layers with input products and, with backward, every gradient,
// which is the work of cuDNN's calls.
std::shared_ptr<Case> whole_case(const LstmVariant *variant, const Workload &w, Precision p,
                                 int layers, bool backward);

// gpu_cudnn.cpp: the same work by cuDNN. cudnn_algorithms has the names of its rows,
// "cudnn-standard" and so on; `algorithm` is an index into it.
extern const std::vector<const char *> cudnn_algorithms;
std::shared_ptr<Case> cudnn_case(size_t algorithm, const Workload &w, Precision p, int layers,
                                 bool backward);
// cudnn_problem returns the reason why cuDNN cannot be used, or an empty string; cudnn_description
// returns its version, or that reason.
std::string cudnn_problem();
std::string cudnn_description();

// gpu_layers.cpp
std::shared_ptr<Case> step_begin_case(const Workload &w);
std::shared_ptr<Case> embedding_forward_case(const Workload &w);
std::shared_ptr<Case> embedding_backward_case(const Workload &w);
std::shared_ptr<Case> softmax_case(const Workload &w);
std::shared_ptr<Case> column_sums_case(const Workload &w, int64_t cols);
std::shared_ptr<Case> sgd_norm_case(const Workload &w);
std::shared_ptr<Case> sgd_update_case(const Workload &w);

struct Product {
    const char *name;
    bool ta, tb;
    int64_t m, n, k;
    // Which tensors' rows of H elements each operand consists of: 'x' inputs, 'w' weights or their
    // gradients, ' ' neither.
    char a, b, c;
    int64_t width; // H
};
std::vector<Product> products(const Workload &w); // the products of a step
// The distances between rows that the cuda backend uses in that precision.
GemmRows product_rows(const Product &p, Precision precision);
std::shared_ptr<Case> product_case(const Product &p, Precision precision, bool gaps);

// gpu_step.cpp
struct StepTime {
    measure::Result time; // microseconds of one minibatch
    double error = 0, bound = 0, flops = 0;
    int64_t steps_per_sample = 0;
    std::string kernel;
};
// Times a training minibatch as the trainer runs it, with `kernel` as in --kernel. Throws if the
// cost of the first minibatch differs from the cpu backend's, and Refused if the kernel cannot run
// it.
StepTime time_step(const Workload &w, Precision p, const std::string &kernel, bool eager);

// gpu_constants.cpp: measures all constants into a JSON file and returns an exit code.
int constants(const char *path);

} // namespace bench_gpu

#endif
