// gpu: what the parts of bench_gpu share: the device, random inputs, the check before a time, the samples.
#ifndef PLSTM_BENCH_GPU_H
#define PLSTM_BENCH_GPU_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <cublas_v2.h>
#include <cuda_runtime.h>

extern "C" {
#include "../host/device.h"
#include "../host/error.h"
#include "../kernels/gemm.h"
#include "../kernels/layers.h"
#include "../kernels/lstm.h"
#include "../kernels/philox.h"
}
#include "constants.h"

namespace bench_gpu
{

using std::int64_t;

struct Workload {
    int64_t H, B, T;
    double keep, init, clip;
};

// Tiny ones where --tiny is given.
extern std::vector<Workload> presets, anchors; // the paper's models; shapes with published times
extern std::vector<int64_t> lengths;           // whose slope separates a step from what a launch costs once
extern int64_t V, square;                      // vocabulary; size of the GEMM constants
extern int samples, sets;                      // of a row; of inputs
extern double step_seconds;                    // of a sample of training steps
extern bool spoil, tiny;
const int64_t L = 2, the_step = 7;
const uint64_t seed = 1;
void be_tiny();

// ---- the device ----

[[noreturn]] inline void fail(const std::string &sentence) { throw std::runtime_error(sentence); }

inline void check(cudaError_t status, const char *call)
{
    if (status != cudaSuccess) fail(std::string(call) + ": " + cudaGetErrorString(status));
}
inline void check(cublasStatus_t status, const char *call) { check(gemm_error(status), call); }
#define CHECK(call) check((call), #call)

// Device memory of n elements.
template <class T> class Device
{
  public:
    explicit Device(size_t n) : n(n) { CHECK(cudaMalloc((void **)&at, n * sizeof(T))); }
    explicit Device(const std::vector<T> &v) : Device(v.size())
    {
        CHECK(cudaMemcpy(at, v.data(), n * sizeof(T), cudaMemcpyHostToDevice));
    }
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
    // NaN as a float. The default stream is not the rows' stream: wait.
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
template <class T> Shared<T> on_device(const std::vector<T> &v) { return std::make_shared<Device<T>>(v); }
template <class T> Shared<T> room(int64_t n) { return std::make_shared<Device<T>>((size_t)n); }

// Stream, cuBLAS and scratch: one for all rows, as a backend has one.
struct Gpu {
    LstmContext context = {};
    DeviceFacts facts = {};
    std::unique_ptr<Device<FaultRecord>> fault;
    std::unique_ptr<Device<char>> workspace;
    std::unique_ptr<Device<StepState>> state;
    cudaEvent_t before = nullptr, after = nullptr;

    // Returns an exit code and fills *e.
    int open(Error *e);
    void precision(bool tf32)
    {
        CHECK(cublasSetMathMode(context.blas, tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH));
    }
    void wait() { CHECK(cudaStreamSynchronize(context.stream)); }
    void close()
    {
        fault.reset(), workspace.reset(), state.reset();
        if (context.blas) cublasDestroy(context.blas);
        if (context.stream) cudaStreamDestroy(context.stream);
        context = {};
    }
};
extern Gpu gpu;
// ---- random values ----

// n values in [-scale, scale], a pure function of `key`.
std::vector<float> drawn(uint32_t key, int64_t n, double scale);
// Ids as in text, by Zipf's law: log-uniform.
std::vector<int32_t> drawn_ids(uint64_t key, int64_t n);

// ---- right or wrong ----

struct Verdict {
    std::string fault; // empty: right
    double error = 0, bound = 0;
};

// Keeps the first fault, and the error that is nearest to its bound.
void join(Verdict *all, const Verdict &one);

// Ours may err `times` as much as the plain float loop, plus 4 ulp of the largest value.
Verdict compare(const char *what, std::vector<float> ours, const std::vector<double> &truth,
                const std::vector<float> &plain, double times);

// Results that have one right answer.
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

// Everything for one row: device memory lives as long as the functions do.
struct Case {
    int sets = 1;
    std::function<cudaError_t(int set)> run; // enqueues
    std::function<void(int set)> restore;    // puts back what run overwrites, on the stream; may be empty
    std::function<void(int set)> poison;     // outputs become NaN
    std::function<Verdict(int set)> check;   // after poison, restore and run
    bool tf32 = false;
    double flops = 0;
    int64_t T = 0; // steps of the recurrence
};

// Poisons and restores one set.
void prepare(const Case &c, int set);
// Runs and checks every set.
Verdict verdict_of(const Case &c);

struct Times {
    double median, p10, p90, least;
};
Times summary(std::vector<double> us);
// Microseconds of one pass, `count` times.
std::vector<double> sample(const std::function<void()> &pass, const std::function<void()> &restore,
                           int count);

// What `enqueue` enqueues, as a graph.
class Graph
{
  public:
    explicit Graph(const std::function<void()> &enqueue)
    {
        cudaGraph_t graph;
        CHECK(cudaStreamBeginCapture(gpu.context.stream, cudaStreamCaptureModeThreadLocal));
        enqueue();
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

// ---- what there is to time ----

// The site's mask at step the_step.
MaskSite mask_site(const Workload &w, int site);

// gpu_recurrence.cpp
std::shared_ptr<Case> forward_case(const LstmVariant *variant, const Workload &w, bool tf32);
std::shared_ptr<Case> backward_case(const LstmVariant *variant, const Workload &w, bool tf32);

// gpu_layers.cpp
std::shared_ptr<Case> step_begin_case(const Workload &w);
std::shared_ptr<Case> embedding_forward_case(const Workload &w);
std::shared_ptr<Case> embedding_backward_case(const Workload &w);
std::shared_ptr<Case> softmax_case(const Workload &w);
std::shared_ptr<Case> column_sums_case(const Workload &w, int64_t cols);
std::shared_ptr<Case> sgd_norm_case(const Workload &w);
std::shared_ptr<Case> sgd_update_case(const Workload &w);

// ---- matrix products ----

struct Product {
    const char *name;
    bool ta, tb;
    int64_t m, n, k;
};

std::vector<Product> products(const Workload &w); // of a step
std::shared_ptr<Case> product_case(const Product &p, bool tf32);

// What a matrix unit makes of an operand: TF32 keeps ten bits of the fraction.
inline float operand(float x, bool tf32)
{
    uint32_t bits;
    if (!tf32) return x;
    std::memcpy(&bits, &x, 4);
    bits &= 0xffffe000u;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline double operand(double x, bool) { return x; }
// Elements of C spread over it, by one plain loop each.
template <class R>
std::vector<R> elements(const Product &p, const std::vector<float> &a, const std::vector<float> &b,
                        const std::vector<int64_t> &at, bool tf32)
{
    std::vector<R> out(at.size());
    for (size_t e = 0; e < at.size(); e++) {
        int64_t i = at[e] / p.n, j = at[e] % p.n;
        for (int64_t l = 0; l < p.k; l++)
            out[e] += operand((R)a[(size_t)(p.ta ? l * p.m + i : i * p.k + l)], tf32) *
                      operand((R)b[(size_t)(p.tb ? j * p.k + l : l * p.n + j)], tf32);
    }
    return out;
}

// gpu_constants.cpp: measures them all into a JSON file; an exit code.
int constants(const char *path);

} // namespace bench_gpu

#endif
