// bench_gpu: a timed row per kernel and per training step on a GPU, and what this GPU costs per byte, per
// multiplication, per launch and per wait.
//
//   lstm/fwd/NAME/f32/H:650/B:20/T:35         the recurrence of one layer by variant NAME, every variant of
//   kernels/variants.c lstm/bwd/NAME/f32/H:650/B:20/T:35 layers/softmax_xent/f32/H:650/B:20/T:35   the other
//   kernels of a step, one by one gemm/logits/f32/H:650/B:20/T:35           its matrix products, by cuBLAS
//   step/cuda/f32/H:650/B:20/T:35             one training minibatch, embedding to update, as the trainer
//   runs it
//
// Rows are replays of a CUDA graph; those that end in /eager launch kernel by kernel. tf32 in the place of
// f32 lets cuBLAS round operands to TF32.
//
// Nothing is timed before it is right: outputs are poisoned, every input set runs once, and the largest error
// against plain loops in double must be within 2 times (gradients 3 times) that of the same loops in float,
// plus 4 ulp of the largest value. The cuda backend's first minibatch must cost what the cpu backend's costs.
// What is wrong becomes an error instead of a time.
//
// A sample is one pass over several sets of random inputs between two CUDA events, divided by their number;
// inputs that a kernel overwrites are put back before, and a delay lets the host get ahead. Weights stay the
// same from set to set and so stay in L2, as in training. Counters: median_us, p10_us, p90_us, min_us, error,
// bound, us_per_step (recurrence), FLOP/s, words/s. The times that Google Benchmark itself prints mean
// nothing here.
//
//   bench_gpu [--benchmark_filter=REGEX ...]   rows
//   bench_gpu --constants=FILE                 machine constants, as JSON
//   bench_gpu --once=ROW                       one run of a row between cudaProfilerStart and Stop, for ncu
//   --tiny                                     tiny shapes and few samples: to try this program itself
//   --spoil                                    damages every result before it is checked: no row may have a
//   time
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <cublas_v2.h>
#include <cuda_profiler_api.h>
#include <cuda_runtime.h>

extern "C" {
#include "../host/backend.h"
#include "../host/batcher.h"
#include "../host/blas.h"
#include "../host/cublas_open.h"
#include "../host/device.h"
#include "../host/model.h"
#include "../host/params.h"
#include "../host/version.h"
#include "../kernels/gemm.h"
#include "../kernels/layers.h"
#include "../kernels/lstm.h"
#include "../kernels/philox.h"
}
#include "constants.h"

namespace
{

using std::int64_t;

struct Workload {
    int64_t H, B, T;
    double keep, init, clip;
};

// The paper's three models, and lengths whose slope separates a step from what a launch costs once.
std::vector<Workload> presets = {
    {200, 20, 20, 1.0, 0.1, 5}, {650, 20, 35, 0.5, 0.05, 5}, {1500, 20, 35, 0.35, 0.04, 10}};
std::vector<int64_t> lengths = {20, 35, 70, 140};
std::vector<Workload> anchors = {{768, 16, 1024, 1.0, 0.05, 5}}; // published times exist for this shape
int64_t V = 10000;
int samples = 200, sets = 4;
double step_seconds = 0.1; // of a sample of training steps
int64_t square = 8192;     // of the GEMM constants
bool spoil = false;
const int64_t L = 2, the_step = 7;
const uint64_t seed = 1;
const size_t workspace_bytes = size_t{32} << 20; // what cuBLAS asks for on Hopper

// ---- the device ----

[[noreturn]] void fail(const std::string &sentence) { throw std::runtime_error(sentence); }

void check(cudaError_t status, const char *call)
{
    if (status != cudaSuccess) fail(std::string(call) + ": " + cudaGetErrorString(status));
}
void check(cublasStatus_t status, const char *call) { check(gemm_error(status), call); }
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
    int open(Error *e)
    {
        int n, code = device_count(&n, e);
        if (!code) code = device_facts(0, &facts, e);
        if (!code) code = cublas_open(e);
        if (code) return code;
        CHECK(cudaSetDevice(0));
        CHECK(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking));
        CHECK(cudaEventCreate(&before));
        CHECK(cudaEventCreate(&after));
        fault = std::make_unique<Device<FaultRecord>>(std::vector<FaultRecord>(1));
        workspace = std::make_unique<Device<char>>(workspace_bytes);
        StepState s = {};
        s.step = the_step, s.next_step = the_step + 1, s.lr = 0.5, s.clip = 5;
        state = std::make_unique<Device<StepState>>(std::vector<StepState>{s});
        context.fault = fault->get();
        CHECK(cublasCreate(&context.blas));
        CHECK(cublasSetStream(context.blas, context.stream));
        CHECK(cublasSetWorkspace(context.blas, workspace->get(), workspace_bytes));
        CHECK(cublasSetAtomicsMode(context.blas, CUBLAS_ATOMICS_NOT_ALLOWED));
        CHECK(layers_prepare());
        for (int i = 0; lstm_variants[i]; i++) CHECK(lstm_variants[i]->prepare());
        return EXIT_DONE;
    }
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
Gpu gpu;

// ---- random values ----

// n values in [-scale, scale], a pure function of `key`.
std::vector<float> drawn(uint32_t key, int64_t n, double scale)
{
    std::vector<float> x((size_t)(n + 3) / 4 * 4);
#pragma omp parallel for
    for (int64_t q = 0; q < (n + 3) / 4; q++) init_quad(seed, key, (uint64_t)q, scale, &x[(size_t)q * 4]);
    x.resize((size_t)n);
    return x;
}

// Ids as in text, by Zipf's law: log-uniform.
std::vector<int32_t> drawn_ids(uint64_t key, int64_t n)
{
    std::vector<int32_t> ids((size_t)n);
    for (int64_t e = 0; e < n; e++) {
        double u = philox_block(seed, (uint64_t{1} << 40) + key, (uint64_t)e / 4).word[e % 4] * 0x1p-32;
        ids[(size_t)e] = (int32_t)std::min((double)V - 1, std::pow(V + 1.0, u) - 1);
    }
    return ids;
}

// ---- plain loops, in double for the truth and in float for the measure ----

// What a matrix unit makes of an operand: TF32 keeps ten bits of the fraction.
float operand(float x, bool tf32)
{
    uint32_t bits;
    if (!tf32) return x;
    std::memcpy(&bits, &x, 4);
    bits &= 0xffffe000u;
    std::memcpy(&x, &bits, 4);
    return x;
}
double operand(double x, bool) { return x; }

template <class R> struct Recurrence {
    std::vector<R> gates, h, c, y;
};

struct RecurrenceInput {
    Workload w;
    bool tf32;
    std::vector<float> w_hh, b_ih, b_hh, x_proj, h0, c0, dy;
    MaskKey mask;
    bool masked;
};

template <class R> R factor(const RecurrenceInput &in, int64_t row, int64_t u)
{
    if (!in.masked) return 1;
    unsigned kept = mask_quad(&in.mask, row, in.w.H, u & ~int64_t{3});
    return kept >> (u & 3) & 1 ? (R)(1 / in.w.keep) : 0;
}

template <class R> Recurrence<R> forward(const RecurrenceInput &in)
{
    const int64_t T = in.w.T, B = in.w.B, H = in.w.H, G = 4 * H;
    Recurrence<R> out;
    out.gates.assign(in.x_proj.begin(), in.x_proj.end());
    out.h.assign((size_t)((T + 1) * B * H), 0), out.c = out.h, out.y.assign((size_t)(T * B * H), 0);
    std::copy(in.h0.begin(), in.h0.end(), out.h.begin());
    std::copy(in.c0.begin(), in.c0.end(), out.c.begin());
    std::vector<R> wt((size_t)(H * G)); // (H,4H): neighbours in memory are neighbours in a row of the result
#pragma omp parallel for
    for (int64_t k = 0; k < H; k++)
        for (int64_t j = 0; j < G; j++)
            wt[(size_t)(k * G + j)] = operand((R)in.w_hh[(size_t)(j * H + k)], in.tf32);
    const int64_t tile = 64;
    for (int64_t t = 0; t < T; t++) {
        R *gates = &out.gates[(size_t)(t * B * G)];
        const R *h = &out.h[(size_t)(t * B * H)];
#pragma omp parallel for
        for (int64_t j0 = 0; j0 < G; j0 += tile)
            for (int64_t b = 0; b < B; b++)
                for (int64_t k = 0; k < H; k++) {
                    R x = operand(h[b * H + k], in.tf32);
                    for (int64_t j = j0; j < std::min(G, j0 + tile); j++)
                        gates[b * G + j] += x * wt[(size_t)(k * G + j)];
                }
#pragma omp parallel for
        for (int64_t n = 0; n < B * H; n++) {
            int64_t b = n / H, u = n % H, now = (t + 1) * B * H + n;
            R *a = gates + b * G + u;
            for (int g = 0; g < 4; g++) {
                R sum = a[g * H] + ((R)in.b_ih[(size_t)(g * H + u)] + (R)in.b_hh[(size_t)(g * H + u)]);
                a[g * H] = g == 2 ? std::tanh(sum) : 1 / (1 + std::exp(-sum));
            }
            out.c[(size_t)now] = a[H] * out.c[(size_t)(now - B * H)] + a[0] * a[2 * H];
            out.h[(size_t)now] = a[3 * H] * std::tanh(out.c[(size_t)now]);
            out.y[(size_t)(t * B * H + n)] = out.h[(size_t)now] * factor<R>(in, t * B + b, u);
        }
    }
    return out;
}

// dgates (T,B,4H) from what a forward pass left.
template <class R> std::vector<R> backward(const RecurrenceInput &in, const Recurrence<float> &saved)
{
    const int64_t T = in.w.T, B = in.w.B, H = in.w.H, G = 4 * H, tile = 64;
    std::vector<R> gates(saved.gates.begin(), saved.gates.end()), dh((size_t)(B * H)), dc((size_t)(B * H));
    std::vector<R> w((size_t)(G * H));
#pragma omp parallel for
    for (int64_t i = 0; i < G * H; i++) w[(size_t)i] = operand((R)in.w_hh[(size_t)i], in.tf32);
    for (int64_t t = T - 1; t >= 0; t--) {
        R *now = &gates[(size_t)(t * B * G)];
#pragma omp parallel for
        for (int64_t n = 0; n < B * H; n++) {
            int64_t b = n / H, u = n % H;
            R *a = now + b * G + u, i = a[0], f = a[H], g = a[2 * H], o = a[3 * H];
            R tc = std::tanh((R)saved.c[(size_t)((t + 1) * B * H + n)]);
            R down = (R)in.dy[(size_t)(t * B * H + n)] * factor<R>(in, t * B + b, u) + dh[(size_t)n];
            R flow = down * o * (1 - tc * tc) + dc[(size_t)n];
            a[0] = flow * g * i * (1 - i);
            a[H] = flow * (R)saved.c[(size_t)(t * B * H + n)] * f * (1 - f);
            a[2 * H] = flow * i * (1 - g * g);
            a[3 * H] = down * tc * o * (1 - o);
            dc[(size_t)n] = flow * f;
        }
#pragma omp parallel for
        for (int64_t k0 = 0; k0 < H; k0 += tile)
            for (int64_t b = 0; b < B; b++) {
                R *to = &dh[(size_t)(b * H)];
                for (int64_t k = k0; k < std::min(H, k0 + tile); k++) to[k] = 0;
                for (int64_t j = 0; j < G; j++) {
                    R x = operand(now[b * G + j], in.tf32);
                    for (int64_t k = k0; k < std::min(H, k0 + tile); k++) to[k] += x * w[(size_t)(j * H + k)];
                }
            }
    }
    return gates;
}

// ---- right or wrong ----

struct Verdict {
    std::string fault; // empty: right
    double error = 0, bound = 0;
};

// Keeps the first fault, and the error that is nearest to its bound.
void join(Verdict *all, const Verdict &one)
{
    if (all->fault.empty()) all->fault = one.fault;
    if (one.bound > 0 && (all->bound <= 0 || one.error * all->bound > all->error * one.bound))
        all->error = one.error, all->bound = one.bound;
}

Verdict compare(const char *what, std::vector<float> ours, const std::vector<double> &truth,
                const std::vector<float> &plain, double times)
{
    double error = 0, measure = 0, top = 0;
    if (spoil && !ours.empty()) ours[ours.size() / 2] += 0.1f + 2 * std::fabs(ours[ours.size() / 2]);
    for (size_t i = 0; i < truth.size(); i++) {
        double off = std::fabs((double)ours[i] - truth[i]);
        error = off <= error ? error : std::isnan(off) ? std::numeric_limits<double>::infinity() : off;
        measure = std::max(measure, std::fabs((double)plain[i] - truth[i]));
        top = std::max(top, std::fabs(truth[i]));
    }
    Verdict v;
    v.error = error;
    v.bound = times * measure + 4 * std::ldexp(1.0, std::ilogb(std::max(top, 1e-37)) - 23);
    if (ours.size() != truth.size() || !(error <= v.bound)) {
        char text[200];
        std::snprintf(text, sizeof text, "wrong: %s is off by %.3g, %.3g is allowed", what, error, v.bound);
        v.fault = text;
    }
    return v;
}

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

void prepare(const Case &c, int set)
{
    if (c.poison) c.poison(set);
    CHECK(cudaDeviceSynchronize());
    if (c.restore) c.restore(set);
    gpu.wait();
}

Verdict verdict_of(const Case &c)
{
    Verdict all;
    gpu.precision(c.tf32);
    for (int s = 0; s < c.sets && all.fault.empty(); s++) {
        prepare(c, s);
        CHECK(c.run(s));
        gpu.wait();
        join(&all, c.check(s));
    }
    return all;
}

struct Times {
    double median, p10, p90, least;
};
Times summary(std::vector<double> us)
{
    std::sort(us.begin(), us.end());
    auto at = [&](double share) { return us[(size_t)(share * (double)(us.size() - 1) + 0.5)]; };
    return {at(0.5), at(0.1), at(0.9), us[0]};
}

// Microseconds of one pass over all sets, `count` times.
std::vector<double> sample(const std::function<void()> &pass, const std::function<void()> &restore, int count)
{
    std::vector<double> us;
    for (int i = 0; i < count + 5; i++) { // the first five warm up
        float ms = 0;
        if (restore) restore();
        CHECK(constants_delay(gpu.context.stream, 60000)); // some 30 us: launches queue up behind it
        CHECK(cudaEventRecord(gpu.before, gpu.context.stream));
        pass();
        CHECK(cudaEventRecord(gpu.after, gpu.context.stream));
        CHECK(cudaEventSynchronize(gpu.after));
        CHECK(cudaEventElapsedTime(&ms, gpu.before, gpu.after));
        if (i >= 5) us.push_back(ms * 1e3);
    }
    return us;
}

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

Times time_case(const Case &c, bool eager)
{
    gpu.precision(c.tf32);
    const auto all = [&] {
        for (int s = 0; s < c.sets; s++) CHECK(c.run(s));
    };
    const auto restore = [&] {
        for (int s = 0; s < c.sets && c.restore; s++) c.restore(s);
    };
    std::vector<double> us;
    if (eager) {
        us = sample(all, restore, samples);
    } else {
        Graph graph(all);
        us = sample([&] { graph.replay(); }, restore, samples);
    }
    for (double &x : us) x /= c.sets;
    return summary(us);
}

struct Row {
    std::string name;
    std::function<std::shared_ptr<Case>()> make;
    bool eager;
};
std::vector<Row> rows;
// Of a case, by its row's name without /eager: right or wrong does not change between repetitions.
std::map<std::string, Verdict> verdicts;

void count(benchmark::State &state, const Times &t)
{
    state.counters["median_us"] = t.median;
    state.counters["p10_us"] = t.p10;
    state.counters["p90_us"] = t.p90;
    state.counters["min_us"] = t.least;
    state.counters["samples"] = samples;
}

void bench_row(benchmark::State &state, const Row *row)
{
    try {
        auto c = row->make();
        const std::string key = row->name.substr(0, row->name.find("/eager"));
        if (!verdicts.count(key)) verdicts[key] = verdict_of(*c);
        const Verdict &v = verdicts[key];
        if (!v.fault.empty()) return state.SkipWithError(v.fault.c_str());
        Times t = {};
        for (auto _ : state) t = time_case(*c, row->eager);
        count(state, t);
        state.counters["error"] = v.error;
        state.counters["bound"] = v.bound;
        if (c->flops > 0) state.counters["FLOP/s"] = c->flops / (t.median * 1e-6);
        if (c->T > 0) state.counters["us_per_step"] = t.median / (double)c->T;
    } catch (const std::exception &fault) {
        state.SkipWithError(fault.what());
    }
}

// ---- the recurrence ----

std::string shape_name(const Workload &w)
{
    return "H:" + std::to_string(w.H) + "/B:" + std::to_string(w.B) + "/T:" + std::to_string(w.T);
}

MaskSite mask_site(const Workload &w, int site)
{
    MaskSite m = {};
    m.state = gpu.state->get(), m.seed = seed, m.bound = mask_bound(w.keep), m.scale = (float)(1 / w.keep);
    m.sites = (int32_t)L + 1, m.site = site, m.on = w.keep < 1;
    return m;
}

RecurrenceInput recurrence_input(const Workload &w, bool tf32, uint32_t set)
{
    const int64_t N = w.T * w.B;
    RecurrenceInput in;
    in.w = w, in.tf32 = tf32;
    in.w_hh = drawn(1, 4 * w.H * w.H, w.init);
    in.b_ih = drawn(2, 4 * w.H, w.init), in.b_hh = drawn(3, 4 * w.H, w.init);
    in.x_proj = drawn(16 + set, N * 4 * w.H, 1.0);
    in.h0 = drawn(32 + set, w.B * w.H, 0.5), in.c0 = drawn(48 + set, w.B * w.H, 1.0);
    in.dy = drawn(64 + set, N * w.H, 0.01);
    in.masked = w.keep < 1;
    in.mask = mask_key(seed, the_step, (int)L + 1, 1, w.keep);
    return in;
}

// One set's tensors.
struct RecurrenceSet {
    RecurrenceInput in;
    Recurrence<float> plain; // saved tensors that backward starts from
    Shared<float> gates, kept, h, c, y, dy, dh, dc;
};

double recurrence_flops(const Workload &w) { return 8.0 * (double)(w.T * w.B) * (double)w.H * (double)w.H; }

std::shared_ptr<Case> forward_case(const LstmVariant *variant, const Workload &w, bool tf32)
{
    auto c = std::make_shared<Case>();
    auto data = std::make_shared<std::vector<RecurrenceSet>>();
    const int64_t row = w.B * w.H;
    for (int s = 0; s < sets; s++) {
        RecurrenceSet d;
        d.in = recurrence_input(w, tf32, (uint32_t)s);
        d.kept = on_device(d.in.x_proj), d.gates = room<float>(w.T * w.B * 4 * w.H);
        d.h = room<float>((w.T + 1) * row), d.c = room<float>((w.T + 1) * row);
        d.y = room<float>(w.T * row);
        data->push_back(d);
    }
    auto w_hh = on_device((*data)[0].in.w_hh), b_ih = on_device((*data)[0].in.b_ih),
         b_hh = on_device((*data)[0].in.b_hh);
    c->sets = sets, c->tf32 = tf32, c->flops = recurrence_flops(w), c->T = w.T;
    c->poison = [data, row](int s) {
        RecurrenceSet &d = (*data)[(size_t)s];
        d.h->poison(), d.c->poison(), d.y->poison();
        CHECK(cudaMemcpy(d.h->get(), d.in.h0.data(), (size_t)row * 4, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpy(d.c->get(), d.in.c0.data(), (size_t)row * 4, cudaMemcpyHostToDevice));
    };
    c->restore = [data](int s) {
        (*data)[(size_t)s].gates->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const RecurrenceSet &d = (*data)[(size_t)s];
        LstmForward p = {};
        p.shape = {w.T, w.B, w.H};
        p.w_hh = w_hh->get(), p.b_ih = b_ih->get(), p.b_hh = b_hh->get();
        p.gates = d.gates->get(), p.h = d.h->get(), p.c = d.c->get();
        p.output = mask_site(w, 1);
        p.y = p.output.on ? d.y->get() : nullptr;
        return variant->forward(&gpu.context, &p);
    };
    c->check = [data](int s) {
        RecurrenceSet &d = (*data)[(size_t)s];
        Verdict all;
        if (s > 0 && !spoil) return all; // one set against the loops; the others differ in numbers alone
        Recurrence<double> truth = forward<double>(d.in);
        Recurrence<float> plain = forward<float>(d.in);
        join(&all, compare("gates", d.gates->host(), truth.gates, plain.gates, 2));
        join(&all, compare("c", d.c->host(), truth.c, plain.c, 2));
        join(&all, compare("h", d.h->host(), truth.h, plain.h, 2));
        if (d.in.masked) join(&all, compare("y", d.y->host(), truth.y, plain.y, 2));
        return all;
    };
    return c;
}

std::shared_ptr<Case> backward_case(const LstmVariant *variant, const Workload &w, bool tf32)
{
    auto c = std::make_shared<Case>();
    auto data = std::make_shared<std::vector<RecurrenceSet>>();
    for (int s = 0; s < sets; s++) {
        RecurrenceSet d;
        d.in = recurrence_input(w, tf32, (uint32_t)s);
        // A pass over random saved tensors costs what one over true ones costs; the set that is checked has
        // true ones.
        if (s == 0) {
            d.plain = forward<float>(d.in);
        } else {
            d.plain = (*data)[0].plain;
        }
        d.kept = on_device(d.plain.gates), d.gates = room<float>(w.T * w.B * 4 * w.H);
        d.h = on_device(d.plain.h), d.c = on_device(d.plain.c), d.dy = on_device(d.in.dy);
        d.dh = room<float>(w.B * w.H), d.dc = room<float>(w.B * w.H);
        data->push_back(d);
    }
    auto w_hh = on_device((*data)[0].in.w_hh);
    c->sets = sets, c->tf32 = tf32, c->flops = recurrence_flops(w), c->T = w.T;
    c->poison = [data](int s) { (*data)[(size_t)s].dh->poison(), (*data)[(size_t)s].dc->poison(); };
    c->restore = [data](int s) {
        (*data)[(size_t)s].gates->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const RecurrenceSet &d = (*data)[(size_t)s];
        LstmBackward p = {};
        p.shape = {w.T, w.B, w.H};
        p.w_hh = w_hh->get(), p.h = d.h->get(), p.c = d.c->get(), p.dy = d.dy->get();
        p.gates = d.gates->get(), p.dh = d.dh->get(), p.dc = d.dc->get();
        p.output = mask_site(w, 1);
        return variant->backward(&gpu.context, &p);
    };
    c->check = [data](int s) {
        RecurrenceSet &d = (*data)[(size_t)s];
        if (s > 0 && !spoil) return Verdict();
        return compare("dgates", d.gates->host(), backward<double>(d.in, d.plain),
                       backward<float>(d.in, d.plain), 3);
    };
    return c;
}

// ---- the other layers ----

std::shared_ptr<Case> embedding_forward_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B, H = w.H;
    auto encoder_host = std::make_shared<std::vector<float>>(drawn(1, V * H, w.init));
    auto ids_host = std::make_shared<std::vector<std::vector<int32_t>>>();
    auto ids = std::make_shared<std::vector<Shared<int32_t>>>();
    auto x = std::make_shared<std::vector<Shared<float>>>();
    auto encoder = on_device(*encoder_host);
    for (int s = 0; s < sets; s++) {
        ids_host->push_back(drawn_ids((uint64_t)s, N));
        ids->push_back(on_device(ids_host->back())), x->push_back(room<float>(N * H));
    }
    c->sets = sets;
    c->poison = [x](int s) { (*x)[(size_t)s]->poison(); };
    c->run = [=](int s) {
        return embedding_forward(gpu.context.stream, N, H, (*ids)[(size_t)s]->get(), encoder->get(),
                                 mask_site(w, 0), (*x)[(size_t)s]->get());
    };
    c->check = [=](int s) {
        std::vector<float> right((size_t)(N * H));
        MaskKey key = mask_key(seed, the_step, (int)L + 1, 0, w.keep);
        for (int64_t n = 0; n < N; n++)
            for (int64_t u = 0; u < H; u++) {
                float kept =
                    w.keep < 1 ? (mask_quad(&key, n, H, u & ~int64_t{3}) >> (u & 3) & 1 ? key.scale : 0) : 1;
                right[(size_t)(n * H + u)] =
                    (*encoder_host)[(size_t)((*ids_host)[(size_t)s][(size_t)n] * H + u)] * kept;
            }
        return same("x", (*x)[(size_t)s]->host(), right);
    };
    return c;
}

template <class R>
std::vector<R> embedding_sums(const std::vector<int32_t> &ids, const std::vector<float> &dx, int64_t H,
                              const MaskKey *key)
{
    std::vector<R> rows_of(dx.size());
    std::map<int32_t, int64_t> seen;
    for (int64_t n = 0; n < (int64_t)ids.size(); n++) {
        int64_t to = seen.emplace(ids[(size_t)n], n).first->second;
        for (int64_t u = 0; u < H; u++) {
            bool kept = !key || (mask_quad(key, n, H, u & ~int64_t{3}) >> (u & 3) & 1);
            R scale = key ? (R)key->scale : 1;
            rows_of[(size_t)(to * H + u)] += kept ? (R)dx[(size_t)(n * H + u)] * scale : 0;
        }
    }
    return rows_of;
}

std::shared_ptr<Case> embedding_backward_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B, H = w.H;
    struct Set {
        std::vector<int32_t> ids_host;
        std::vector<float> dx_host;
        Shared<int32_t> ids, first;
        Shared<float> dx, rows;
    };
    auto data = std::make_shared<std::vector<Set>>();
    for (int s = 0; s < sets; s++) {
        Set d;
        d.ids_host = drawn_ids((uint64_t)s, N), d.dx_host = drawn(16 + (uint32_t)s, N * H, 0.01);
        d.ids = on_device(d.ids_host), d.dx = on_device(d.dx_host);
        d.first = room<int32_t>(N), d.rows = room<float>(N * H);
        data->push_back(d);
    }
    c->sets = sets;
    c->poison = [data](int s) { (*data)[(size_t)s].rows->poison(), (*data)[(size_t)s].first->poison(); };
    c->run = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        return embedding_backward(gpu.context.stream, N, H, d.ids->get(), d.dx->get(), mask_site(w, 0),
                                  d.rows->get(), d.first->get());
    };
    c->check = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        MaskKey key = mask_key(seed, the_step, (int)L + 1, 0, w.keep);
        const MaskKey *mask = w.keep < 1 ? &key : nullptr;
        std::vector<float> ours = d.rows->host();
        std::vector<int32_t> first = d.first->host();
        for (int64_t n = 0; n < N; n++) // rows of repeated words are not written
            if (first[(size_t)n] == 0) std::fill_n(ours.begin() + n * H, H, 0.0f);
        return compare("rows", ours, embedding_sums<double>(d.ids_host, d.dx_host, H, mask),
                       embedding_sums<float>(d.ids_host, d.dx_host, H, mask), 3);
    };
    return c;
}

template <class R>
void softmax(std::vector<R> *z, std::vector<R> *nats, const std::vector<float> &bias,
             const std::vector<int32_t> &target, R inverse_B)
{
    const int64_t N = (int64_t)target.size(), n_words = (int64_t)bias.size();
#pragma omp parallel for
    for (int64_t n = 0; n < N; n++) {
        R *row = z->data() + n * n_words, top = -std::numeric_limits<R>::infinity(), sum = 0;
        for (int64_t v = 0; v < n_words; v++) top = std::max(top, row[v] += (R)bias[(size_t)v]);
        for (int64_t v = 0; v < n_words; v++) sum += std::exp(row[v] - top);
        (*nats)[(size_t)n] = top + std::log(sum) - row[target[(size_t)n]];
        for (int64_t v = 0; v < n_words; v++)
            row[v] = (std::exp(row[v] - top) / sum - (v == target[(size_t)n] ? 1 : 0)) * inverse_B;
    }
}

std::shared_ptr<Case> softmax_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B;
    struct Set {
        std::vector<float> host;
        std::vector<int32_t> target_host;
        Shared<float> logits, kept, nats;
        Shared<int32_t> target;
    };
    auto bias_host = std::make_shared<std::vector<float>>(drawn(2, V, 0.1));
    auto bias = on_device(*bias_host);
    auto data = std::make_shared<std::vector<Set>>();
    const float inverse_B = 1.0f / (float)w.B;
    for (int s = 0; s < sets; s++) {
        Set d;
        d.host = drawn(16 + (uint32_t)s, N * V, 5.0), d.target_host = drawn_ids((uint64_t)s, N);
        d.kept = on_device(d.host), d.logits = room<float>(N * V), d.nats = room<float>(N);
        d.target = on_device(d.target_host);
        data->push_back(d);
    }
    c->sets = sets;
    c->poison = [data](int s) { (*data)[(size_t)s].nats->poison(); };
    c->restore = [data](int s) {
        (*data)[(size_t)s].logits->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        return softmax_xent(gpu.context.stream, N, V, bias->get(), d.target->get(), 1, inverse_B,
                            d.logits->get(), d.nats->get());
    };
    c->check = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        std::vector<double> z(d.host.begin(), d.host.end()), nats((size_t)N);
        std::vector<float> zf = d.host, nats_f((size_t)N);
        softmax<double>(&z, &nats, *bias_host, d.target_host, 1.0 / (double)w.B);
        softmax<float>(&zf, &nats_f, *bias_host, d.target_host, inverse_B);
        Verdict all = compare("nats", d.nats->host(), nats, nats_f, 2);
        join(&all, compare("dlogits", d.logits->host(), z, zf, 3));
        return all;
    };
    return c;
}

template <class R> std::vector<R> sums(const std::vector<float> &m, int64_t cols)
{
    std::vector<R> out((size_t)cols);
    for (size_t i = 0; i < m.size(); i++) out[i % (size_t)cols] += (R)m[i];
    return out;
}

std::shared_ptr<Case> column_sums_case(const Workload &w, int64_t cols)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B;
    auto host = std::make_shared<std::vector<std::vector<float>>>();
    auto m = std::make_shared<std::vector<Shared<float>>>();
    auto out = room<float>(cols);
    for (int s = 0; s < sets; s++)
        host->push_back(drawn(16 + (uint32_t)s, N * cols, 0.01)), m->push_back(on_device(host->back()));
    c->sets = sets;
    c->poison = [out](int) { out->poison(); };
    c->run = [=](int s) {
        return column_sums(gpu.context.stream, N, cols, (*m)[(size_t)s]->get(), out->get(), nullptr);
    };
    c->check = [=](int s) {
        return compare("sums", out->host(), sums<double>((*host)[(size_t)s], cols),
                       sums<float>((*host)[(size_t)s], cols), 3);
    };
    return c;
}

// Parameters and gradients of a whole model, as the backend keeps them: the encoder apart.
struct Optimizer {
    std::vector<float> weights_host, grads_host, encoder_host, rows_host;
    std::vector<int32_t> ids_host, first_host;
    Shared<float> weights, weights_kept, grads, encoder, encoder_kept, rows, nats;
    Shared<int32_t> ids, first;
    Shared<double> partial;
    Shared<StepResult> results;
    SgdArgs args = {};
};

std::shared_ptr<Optimizer> optimizer(const Workload &w)
{
    auto o = std::make_shared<Optimizer>();
    ModelShape shape = {};
    shape.V = V, shape.H = w.H, shape.L = L;
    const int64_t N = w.T * w.B, dense = params_elements(&shape) - V * w.H;
    o->weights_host = drawn(1, dense, w.init), o->grads_host = drawn(2, dense, 0.01);
    o->encoder_host = drawn(3, V * w.H, w.init), o->rows_host = drawn(4, N * w.H, 0.01);
    o->ids_host = drawn_ids(0, N);
    std::map<int32_t, int> seen;
    for (int32_t id : o->ids_host) o->first_host.push_back(seen[id]++ == 0);
    o->weights_kept = on_device(o->weights_host), o->weights = on_device(o->weights_host);
    o->grads = on_device(o->grads_host), o->rows = on_device(o->rows_host);
    o->encoder_kept = on_device(o->encoder_host), o->encoder = on_device(o->encoder_host);
    o->ids = on_device(o->ids_host), o->first = on_device(o->first_host);
    o->nats = on_device(drawn(5, N, 1.0));
    o->partial = room<double>(sgd_partials(dense, N)), o->results = room<StepResult>(1);
    SgdArgs &a = o->args;
    a.state = gpu.state->get(), a.fault = gpu.fault->get(), a.weights = o->weights->get(),
    a.grads = o->grads->get();
    a.dense = dense, a.encoder = o->encoder->get(), a.rows = o->rows->get(), a.ids = o->ids->get();
    a.first = o->first->get(), a.N = N, a.H = w.H, a.nats = o->nats->get(), a.partial = o->partial->get();
    a.results = o->results->get();
    return o;
}

double true_norm(const Optimizer &o)
{
    double sum = 0;
    for (float g : o.grads_host) sum += (double)g * g;
    for (size_t i = 0; i < o.rows_host.size(); i++)
        if (o.first_host[i / (size_t)o.args.H]) sum += (double)o.rows_host[i] * o.rows_host[i];
    return std::sqrt(sum);
}

std::shared_ptr<Case> sgd_norm_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    auto o = optimizer(w);
    c->poison = [o](int) { o->partial->poison(); };
    c->run = [o](int) { return sgd_norm(gpu.context.stream, &o->args); };
    c->check = [o](int) {
        Verdict v;
        double sum = 0, right = true_norm(*o);
        for (double p : o->partial->host()) sum += p;
        // Squares of floats are exact in double: what is left is the order of some 1e8 sums.
        v.error = std::fabs(std::sqrt(sum) - right) / right + (spoil ? 1 : 0), v.bound = 1e-9;
        if (!(v.error <= v.bound)) v.fault = "wrong: the gradient norm is off";
        return v;
    };
    return c;
}

std::shared_ptr<Case> sgd_update_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    auto o = optimizer(w);
    c->restore = [o](int) {
        o->weights->copy_from(*o->weights_kept, gpu.context.stream);
        o->encoder->copy_from(*o->encoder_kept, gpu.context.stream);
    };
    c->poison = [o](int) {
        CHECK(sgd_norm(gpu.context.stream, &o->args));
        gpu.wait();
    };
    c->run = [o](int) { return sgd_update(gpu.context.stream, &o->args); };
    c->check = [o](int) {
        const double norm = true_norm(*o), scale = norm > 5 ? 5 / norm : 1, lr = 0.5;
        std::vector<double> truth(o->weights_host.begin(), o->weights_host.end());
        std::vector<float> plain = o->weights_host;
        const float rate = (float)(lr * scale);
        for (size_t i = 0; i < plain.size(); i++)
            truth[i] -= lr * scale * (double)o->grads_host[i], plain[i] -= rate * o->grads_host[i];
        Verdict all = compare("weights", o->weights->host(), truth, plain, 3);
        truth.assign(o->encoder_host.begin(), o->encoder_host.end()), plain = o->encoder_host;
        const size_t H = (size_t)o->args.H;
        for (size_t i = 0; i < o->rows_host.size(); i++)
            if (o->first_host[i / H]) {
                size_t at = (size_t)o->ids_host[i / H] * H + i % H;
                truth[at] -= lr * scale * (double)o->rows_host[i], plain[at] -= rate * o->rows_host[i];
            }
        join(&all, compare("encoder", o->encoder->host(), truth, plain, 3));
        return all;
    };
    return c;
}

std::shared_ptr<Case> step_begin_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t n = 64 * w.B * (w.T + 1);
    auto host = std::make_shared<std::vector<int32_t>>(drawn_ids(0, n));
    auto ids = on_device(*host);
    auto x = room<int32_t>(w.T * w.B), y = room<int32_t>(w.T * w.B);
    auto first = on_device(std::vector<StepState>(1)), state = on_device(std::vector<StepState>(1));
    c->restore = [=](int) { state->copy_from(*first, gpu.context.stream); };
    c->poison = [=](int) { x->poison(), y->poison(); };
    c->run = [=](int) {
        return step_begin(gpu.context.stream, state->get(), 4, ids->get(), n, w.T, w.B, x->get(), y->get());
    };
    c->check = [=](int) {
        Batcher b;
        Error e;
        std::vector<int32_t> right_x((size_t)(w.T * w.B)), right_y((size_t)(w.T * w.B));
        if (batcher_init(&b, host->data(), n, w.B, w.T, "bench", &e)) fail(e.text);
        batcher_window(&b, 0, right_x.data(), right_y.data());
        Verdict all = same("x", x->host(), right_x);
        join(&all, same("y", y->host(), right_y));
        return all;
    };
    return c;
}

// ---- matrix products ----

struct Product {
    const char *name;
    bool ta, tb;
    int64_t m, n, k;
};

std::vector<Product> products(const Workload &w)
{
    const int64_t N = w.T * w.B, H = w.H, G = 4 * H;
    return {{"x_proj", false, true, N, G, H}, {"dx", false, false, N, H, G},
            {"dw_ih", true, false, G, H, N},  {"logits", false, true, N, V, H},
            {"dh", false, false, N, H, V},    {"dw_dec", true, false, V, H, N}};
}

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

std::shared_ptr<Case> product_case(const Product &p, bool tf32)
{
    auto c = std::make_shared<Case>();
    auto host = std::make_shared<std::vector<std::vector<float>>>();
    auto a = std::make_shared<std::vector<Shared<float>>>();
    auto b_host = std::make_shared<std::vector<float>>(drawn(1, p.k * p.n, 0.1));
    auto b = on_device(*b_host);
    auto out = room<float>(p.m * p.n);
    for (int s = 0; s < sets; s++)
        host->push_back(drawn(16 + (uint32_t)s, p.m * p.k, 0.5)), a->push_back(on_device(host->back()));
    c->sets = sets, c->tf32 = tf32, c->flops = 2.0 * (double)p.m * (double)p.n * (double)p.k;
    c->poison = [out](int) { out->poison(); };
    c->run = [=](int s) {
        return gemm_error(gemm_rowmajor(gpu.context.blas, p.ta, p.tb, p.m, p.n, p.k, 1.0f,
                                        (*a)[(size_t)s]->get(), b->get(), 0.0f, out->get()));
    };
    c->check = [=](int s) {
        std::vector<int64_t> at;
        for (int64_t e = 0; e < 509; e++) at.push_back((int64_t)((double)e / 509 * (double)(p.m * p.n)));
        std::vector<float> all = out->host(), ours;
        for (int64_t i : at) ours.push_back(all[(size_t)i]);
        Verdict v = compare("C", ours, elements<double>(p, (*host)[(size_t)s], *b_host, at, false),
                            elements<float>(p, (*host)[(size_t)s], *b_host, at, tf32), 2);
        for (float x : all)
            if (std::isnan(x)) v.fault = "wrong: an element of C was not written";
        return v;
    };
    return c;
}

// ---- the training step ----

class Trainee
{
  public:
    Trainee(const char *backend, const Workload &w, const char *precision, bool eager) : w(w)
    {
        BackendConfig config = {};
        config.shape.V = V, config.shape.H = w.H, config.shape.L = L;
        config.T = w.T, config.B = w.B, config.train = true, config.threads = backend_threads();
        config.keep = w.keep, config.sites = w.keep < 1 ? SITES_NONRECURRENT : SITES_NONE, config.seed = seed;
        config.kernel = "auto", config.precision = precision, config.eager = eager;
        const BackendOps *ops = nullptr;
        Params p;
        ids = drawn_ids(99, windows * w.T * w.B + w.B);
        if (backend_find(backend, &ops, &e) || model_open(&model, ops, &config, &e)) fail(e.text);
        opened = true;
        if (params_init(&p, &config.shape)) fail("out of memory");
        params_draw(&p, seed, w.init);
        int code = model_set_params(&model, &p, &e);
        params_free(&p);
        if (code || batcher_init(&batcher, ids.data(), (int64_t)ids.size(), w.B, w.T, "bench", &e))
            fail(e.text);
        stream = ops->train_stream != nullptr;
        if (stream && ops->train_stream(model.backend, ids.data(), (int64_t)ids.size(), w.T, w.B, &e))
            fail(e.text);
        x.resize((size_t)(w.T * w.B)), y = x;
    }
    ~Trainee()
    {
        if (opened) model_close(&model);
    }
    Trainee(const Trainee &) = delete;
    Trainee &operator=(const Trainee &) = delete;

    // n minibatches and all that they owe; the last result.
    WindowResult steps(int64_t n)
    {
        WindowResult r = {}, last = {};
        for (int64_t i = 0; i < n; i++, done++) {
            Window one = {};
            one.T = w.T, one.B = w.B, one.train = true, one.step = done, one.index = done % windows;
            if (!stream) {
                batcher_window(&batcher, one.index, x.data(), y.data());
                one.x = x.data(), one.y = y.data();
            }
            if (model_train_step(&model, &one, 0.01, w.clip, &r, &e)) fail(e.text);
            if (r.step >= 0) last = r;
        }
        do {
            if (model_drain(&model, &r, &e)) fail(e.text);
            if (r.step >= 0) last = r;
        } while (r.step >= 0);
        if (last.fault || !std::isfinite(last.nats))
            fail("wrong: a step failed on the device, or its cost is not finite");
        return last;
    }

  private:
    static const int64_t windows = 64;
    Workload w;
    Error e = {};
    Model model = {};
    Batcher batcher = {};
    std::vector<int32_t> ids, x, y;
    bool opened = false, stream = false;
    int64_t done = 0;
};

double step_flops(const Workload &w)
{
    return 6.0 * (double)(w.T * w.B) * (8.0 * (double)L * (double)(w.H * w.H) + (double)V * (double)w.H);
}

std::map<int64_t, WindowResult> cpu_first; // by H: the cpu backend's first minibatch

void bench_step(benchmark::State &state, const Workload *w, bool tf32, bool eager)
{
    try {
        Trainee trainee("cuda", *w, tf32 ? "tf32" : "f32", eager);
        WindowResult first = trainee.steps(1);
        if (!cpu_first.count(w->H)) cpu_first[w->H] = Trainee("cpu", *w, "f32", false).steps(1);
        const WindowResult right = cpu_first[w->H];
        // Two float32 programs that sum N*V terms in different orders; TF32 keeps 10 bits of each operand.
        const double bound = tf32 ? 2e-3 : 2e-5;
        double error = std::max(std::fabs(first.nats / right.nats - 1),
                                std::fabs(first.grad_norm / right.grad_norm - 1));
        if (spoil) error += 1;
        if (!(error <= bound))
            return state.SkipWithError("wrong: the first minibatch is not the cpu backend's");
        auto run = [&](int64_t n) {
            auto start = std::chrono::steady_clock::now();
            trainee.steps(n);
            return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
                .count();
        };
        run(5);
        int64_t n = 1 + (int64_t)(step_seconds * 1e6 / (run(10) / 10));
        std::vector<double> us;
        for (auto _ : state)
            for (int i = 0; i < 15; i++) us.push_back(run(n) / (double)n);
        Times t = summary(us);
        count(state, t);
        state.counters["samples"] = 15;
        state.counters["steps_per_sample"] = (double)n;
        state.counters["error"] = error, state.counters["bound"] = bound;
        state.counters["words/s"] = (double)(w->T * w->B) / (t.median * 1e-6);
        state.counters["FLOP/s"] = step_flops(*w) / (t.median * 1e-6);
    } catch (const std::exception &fault) {
        state.SkipWithError(fault.what());
    }
}

// ---- the list of rows ----

void add(const std::string &name, const std::function<std::shared_ptr<Case>()> &make, bool eager_too)
{
    rows.push_back({name, make, false});
    if (eager_too) rows.push_back({name + "/eager", make, true});
}

void add_recurrence(const Workload &w, bool tf32, bool eager_too)
{
    for (int i = 0; lstm_variants[i]; i++) {
        const LstmVariant *v = lstm_variants[i];
        const std::string tail = std::string("/") + v->name + (tf32 ? "/tf32/" : "/f32/") + shape_name(w);
        add(
            "lstm/fwd" + tail, [=] { return forward_case(v, w, tf32); }, eager_too);
        add(
            "lstm/bwd" + tail, [=] { return backward_case(v, w, tf32); }, eager_too);
    }
}

void add_layers(const Workload &w)
{
    const std::string tail = "/f32/" + shape_name(w);
    add(
        "layers/step_begin" + tail, [=] { return step_begin_case(w); }, false);
    add(
        "layers/embedding_fwd" + tail, [=] { return embedding_forward_case(w); }, false);
    add(
        "layers/embedding_bwd" + tail, [=] { return embedding_backward_case(w); }, false);
    add(
        "layers/softmax_xent" + tail, [=] { return softmax_case(w); }, false);
    add(
        "layers/sums_dlogits" + tail, [=] { return column_sums_case(w, V); }, false);
    add(
        "layers/sums_dgates" + tail, [=] { return column_sums_case(w, 4 * w.H); }, false);
    add(
        "layers/sgd_norm" + tail, [=] { return sgd_norm_case(w); }, false);
    add(
        "layers/sgd_update" + tail, [=] { return sgd_update_case(w); }, false);
    for (const Product &p : products(w))
        for (bool tf32 : {false, true})
            add(
                std::string("gemm/") + p.name + (tf32 ? "/tf32/" : "/f32/") + shape_name(w),
                [=] { return product_case(p, tf32); }, false);
}

void list_rows()
{
    for (const Workload &w : presets) {
        for (bool tf32 : {false, true})
            for (bool eager : {false, true}) {
                const std::string name =
                    std::string("step/cuda/") + (tf32 ? "tf32/" : "f32/") + shape_name(w);
                benchmark::RegisterBenchmark((name + (eager ? "/eager" : "")).c_str(), bench_step, &w, tf32,
                                             eager);
            }
        add_recurrence(w, false, true);
        add_recurrence(w, true, false);
        for (int64_t T : lengths) {
            Workload other = w;
            other.T = T;
            if (T != w.T) add_recurrence(other, false, false);
        }
        add_layers(w);
    }
    for (const Workload &w : anchors) add_recurrence(w, false, false);
    for (const Row &row : rows) benchmark::RegisterBenchmark(row.name.c_str(), bench_row, &row);
}

// ---- constants ----

class Constants
{
  public:
    explicit Constants(const char *path) : path(path) {}

    // One constant: how to measure gives samples in `unit`, or throws.
    void measure(const char *name, const char *unit, const char *what,
                 const std::function<std::vector<double>()> &how)
    {
        char line[700];
        try {
            Times t = summary(how());
            std::snprintf(line, sizeof line,
                          "  \"%s\": {\"value\": %.6g, \"unit\": \"%s\", \"p10\": %.6g, \"p90\": %.6g, "
                          "\"what\": \"%s\"}",
                          name, t.median, unit, t.p10, t.p90, what);
            std::printf("%-24s %12.5g %s\n", name, t.median, unit);
        } catch (const std::exception &fault) {
            std::snprintf(line, sizeof line,
                          "  \"%s\": {\"error\": \"%.200s\", \"unit\": \"%s\", \"what\": \"%s\"}", name,
                          fault.what(), unit, what);
            std::printf("%-24s %s\n", name, fault.what());
            failed = true;
        }
        std::fflush(stdout);
        body += (body.empty() ? "" : ",\n") + std::string(line);
    }
    // Exit code.
    int write()
    {
        FILE *f = std::fopen(path, "w");
        if (!f) return std::perror(path), EXIT_BAD_DATA;
        std::fprintf(f, "{\"gpu\": \"%s\", \"commit\": \"%s\", \"constants\": {\n%s\n}}\n", gpu.facts.name,
                     PLSTM_COMMIT, body.c_str());
        std::fclose(f);
        return failed ? EXIT_FAILED : EXIT_DONE;
    }

  private:
    const char *path;
    std::string body;
    bool failed = false;
};

std::vector<double> scaled(std::vector<double> v, const std::function<double(double)> &f)
{
    for (double &x : v) x = f(x);
    return v;
}

std::vector<double> copy_rate(bool by_runtime)
{
    const int64_t n = presets[0].H < 100 ? 1 << 16 : int64_t{1} << 29; // 2 GiB each: far more than any L2
    Device<float> to((size_t)n), from((size_t)n);
    std::vector<float> tile = drawn(1, std::min<int64_t>(n, 1 << 20), 1.0);
    for (int64_t at = 0; at < n; at += (int64_t)tile.size())
        CHECK(cudaMemcpy(from.get() + at, tile.data(), tile.size() * 4, cudaMemcpyHostToDevice));
    to.poison();
    const auto pass = [&] {
        if (by_runtime) to.copy_from(from, gpu.context.stream);
        else CHECK(constants_copy(gpu.context.stream, 16 * gpu.facts.sms, n, from.get(), to.get()));
    };
    auto us = sample(pass, nullptr, std::min(samples, 20));
    std::vector<float> end(tile.size());
    CHECK(cudaMemcpy(end.data(), to.get() + n - (int64_t)end.size(), end.size() * 4, cudaMemcpyDeviceToHost));
    if (end != tile || spoil) fail("wrong: the copy differs");
    return scaled(us, [=](double t) { return 8.0 * (double)n / (t * 1e-6); });
}

std::vector<double> fma_rate()
{
    const int blocks = 8 * gpu.facts.sms, rounds = presets[0].H < 100 ? 2 : 2000;
    const float a = 0.999f, b = 0.001f;
    auto out = room<float>((int64_t)blocks * CONSTANTS_THREADS);
    out->poison();
    auto us = sample([&] { CHECK(constants_fma(gpu.context.stream, blocks, rounds, a, b, out->get())); },
                     nullptr, std::min(samples, 50));
    std::vector<float> right;
    for (int t = 0; t < CONSTANTS_THREADS; t++) {
        float sum = 0;
        for (int c = 0; c < CONSTANTS_CHAINS; c++) {
            float x = (float)(t + c);
            for (int i = 0; i < rounds * (CONSTANTS_FMA / CONSTANTS_CHAINS); i++) x = std::fma(a, x, b);
            sum += x;
        }
        right.push_back(sum);
    }
    std::vector<float> ours = out->host();
    for (size_t i = 0; i < ours.size(); i++)
        if (!(std::fabs(ours[i] - right[i % CONSTANTS_THREADS]) <=
              1e-5f * std::fabs(right[i % CONSTANTS_THREADS])) ||
            spoil)
            fail("wrong: a chain of multiply-adds");
    const double flops = 2.0 * blocks * CONSTANTS_THREADS * rounds * CONSTANTS_FMA;
    return scaled(us, [=](double t) { return flops / (t * 1e-6); });
}

std::vector<double> gemm_rate(bool tf32)
{
    const Product p = {"square", false, false, square, square, square};
    const int kept_sets = sets, kept_samples = samples;
    sets = 1;
    auto c = product_case(p, tf32);
    sets = kept_sets;
    Verdict v = verdict_of(*c);
    if (!v.fault.empty()) fail(v.fault);
    auto us = sample([&] { CHECK(c->run(0)); }, nullptr, std::min(kept_samples, 20));
    gpu.precision(false);
    return scaled(us, [&](double t) { return c->flops / (t * 1e-6); });
}

using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                  const void *, const void *, cudaDataType, int, const void *, cudaDataType,
                                  int, const void *, void *, cudaDataType, int, cublasComputeType_t,
                                  cublasGemmAlgo_t);

// cuBLAS is opened at run time (cublas_open.h), which knows no cublasGemmEx: it is looked up here.
GemmEx gemm_ex()
{
#ifdef CUDA_EMU
    return cublasGemmEx;
#else
    const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
    void *library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    GemmEx found = library ? (GemmEx)dlsym(library, "cublasGemmEx") : nullptr;
    if (!found) fail("cublasGemmEx was not found");
    return found;
#endif
}

std::vector<double> gemm_rate_bf16()
{
    const GemmEx gemm = gemm_ex();
    const int64_t n = square;
    const float one = 1, zero = 0;
    std::vector<float> a = drawn(1, n * n, 0.5), b = drawn(2, n * n, 0.5);
    const auto half = [](std::vector<float> &from) { // truncated: exact as a float
        std::vector<uint16_t> to(from.size());
        for (size_t i = 0; i < from.size(); i++) {
            uint32_t bits;
            std::memcpy(&bits, &from[i], 4);
            to[i] = (uint16_t)(bits >> 16), bits &= 0xffff0000u;
            std::memcpy(&from[i], &bits, 4);
        }
        return on_device(to);
    };
    auto a16 = half(a), b16 = half(b);
    auto out = room<float>(n * n);
    const auto run = [&] { // column-major: row-major C = A B is C' = B' A'
        CHECK(gemm(gpu.context.blas, CUBLAS_OP_N, CUBLAS_OP_N, (int)n, (int)n, (int)n, &one, b16->get(),
                   CUDA_R_16BF, (int)n, a16->get(), CUDA_R_16BF, (int)n, &zero, out->get(), CUDA_R_32F,
                   (int)n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    };
    out->poison();
    auto us = sample(run, nullptr, std::min(samples, 20));
    const Product p = {"square", false, false, n, n, n};
    std::vector<int64_t> at;
    for (int64_t e = 0; e < 509; e++) at.push_back((int64_t)((double)e / 509 * (double)(n * n)));
    std::vector<float> all = out->host(), ours;
    for (int64_t i : at) ours.push_back(all[(size_t)i]);
    Verdict v =
        compare("C", ours, elements<double>(p, a, b, at, false), elements<float>(p, a, b, at, false), 2);
    if (!v.fault.empty()) fail(v.fault);
    return scaled(us, [=](double t) { return 2.0 * (double)n * (double)n * (double)n / (t * 1e-6); });
}

std::vector<double> launch_gap(bool graphed)
{
    const int n = presets[0].H < 100 ? 10 : 1000;
    const auto many = [&] {
        for (int i = 0; i < n; i++) CHECK(constants_empty(gpu.context.stream));
    };
    many();
    gpu.wait();
    std::vector<double> us;
    if (graphed) {
        Graph graph(many);
        us = sample([&] { graph.replay(); }, nullptr, std::min(samples, 50));
    } else {
        us = sample(many, nullptr, std::min(samples, 50));
    }
    return scaled(us, [=](double t) { return t / n; });
}

// Slope between two counts of rounds: what a launch costs once falls out.
std::vector<double> slope(int few, int many, double per_round, const std::function<void(int)> &run)
{
    auto less = sample([&] { run(few); }, nullptr, std::min(samples, 50)),
         more = sample([&] { run(many); }, nullptr, std::min(samples, 50));
    double base = summary(less).median;
    return scaled(more, [=](double t) { return (t - base) / ((many - few) * per_round); });
}

std::vector<double> barrier_cost(int kind, int blocks)
{
    const int few = presets[0].H < 100 ? 2 : 200, many = 10 * few;
    auto state = room<unsigned>(2 + blocks), slots = room<unsigned>(2 * blocks);
    auto errors = on_device(std::vector<unsigned>(1));
    auto us = slope(few, many, 1, [&](int rounds) {
        CHECK(cudaMemsetAsync(state->get(), 0, state->bytes(), gpu.context.stream));
        CHECK(constants_barrier(gpu.context.stream, kind, blocks, rounds, state->get(), slots->get(),
                                errors->get()));
    });
    if (errors->host()[0] || spoil)
        fail("wrong: a block saw an old value behind the barrier, or waited in vain");
    return us;
}

std::vector<double> hop_cost()
{
    const int few = presets[0].H < 100 ? 5 : 500, many = 10 * few;
    auto flags = room<unsigned>(64), payload = room<unsigned>(2),
         errors = on_device(std::vector<unsigned>(1));
    auto us = slope(few, many, 2, [&](int rounds) {
        CHECK(cudaMemsetAsync(flags->get(), 0, flags->bytes(), gpu.context.stream));
        CHECK(constants_hops(gpu.context.stream, rounds, flags->get(), payload->get(), errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a hop brought an old value, or none");
    return us;
}

int constants(const char *path)
{
    Constants c(path);
    int blocks = 0;
    CHECK(constants_resident(&blocks));
    c.measure("copy", "B/s", "device to device by the runtime, 2 GiB, bytes read and written",
              [] { return copy_rate(true); });
    c.measure("copy_kernel", "B/s", "the same by a kernel, 16 bytes a thread",
              [] { return copy_rate(false); });
    c.measure("fma_f32", "FLOP/s", "float32 multiply-adds in registers", [] { return fma_rate(); });
    c.measure("gemm_f32", "FLOP/s", "cublasSgemm of 8192 cubed, TF32 off, random data",
              [] { return gemm_rate(false); });
    c.measure("gemm_tf32", "FLOP/s", "the same in TF32", [] { return gemm_rate(true); });
    c.measure("gemm_bf16", "FLOP/s", "cublasGemmEx of 8192 cubed, bf16 in, float32 sums and result",
              [] { return gemm_rate_bf16(); });
    c.measure("launch_gap", "us", "from one empty kernel to the next, launched one by one",
              [] { return launch_gap(false); });
    c.measure("graph_node_gap", "us", "the same as nodes of a graph, one after another",
              [] { return launch_gap(true); });
    const char *const names[] = {"barrier_counter", "barrier_flags", "barrier_cg"};
    const char *const whats[] = {
        "grid barrier, a block an SM: one counter, add with release, wait with acquire",
        "grid barrier, a block an SM: a flag per block, gathered by block 0",
        "cooperative groups' grid.sync, a block an SM"};
    for (int kind = 0; kind < CONSTANTS_BARRIERS; kind++)
        c.measure(names[kind], "us", whats[kind], [=] { return barrier_cost(kind, blocks); });
    c.measure("flag_hop", "us", "store.release on one SM to load.acquire on another",
              [] { return hop_cost(); });
    return c.write();
}

// ---- one run, for a profiler ----

int once(const char *name)
{
    for (const Row &row : rows) {
        if (row.name != name) continue;
        auto c = row.make();
        Verdict v = verdict_of(*c);
        if (!v.fault.empty()) fail(v.fault);
        prepare(*c, 0);
        CHECK(cudaProfilerStart());
        CHECK(c->run(0));
        gpu.wait();
        CHECK(cudaProfilerStop());
        return EXIT_DONE;
    }
    std::fprintf(stderr, "bench_gpu: no row is called %s; --benchmark_list_tests lists them\n", name);
    return EXIT_USAGE;
}

void be_tiny()
{
    presets = {{20, 3, 5, 1.0, 0.1, 5}, {36, 2, 6, 0.5, 0.05, 5}};
    lengths = {3}, anchors.clear();
    V = 50, samples = 3, sets = 2, square = 64, step_seconds = 0;
}

// Notes the driver's number, as context of every row; not there without a device.
void add_context()
{
    benchmark::AddCustomContext("commit", PLSTM_COMMIT);
    if (!gpu.facts.name[0]) return;
    benchmark::AddCustomContext("gpu", gpu.facts.name);
    benchmark::AddCustomContext("driver", std::to_string(gpu.facts.driver));
    benchmark::AddCustomContext("runtime", std::to_string(gpu.facts.runtime));
    benchmark::AddCustomContext("clock_mhz", std::to_string(gpu.facts.clock_mhz));
    benchmark::AddCustomContext("ecc", gpu.facts.ecc ? "on" : "off");
    benchmark::AddCustomContext("sets", std::to_string(sets));
}

int run(int argc, char **argv)
{
    const char *constants_path = nullptr, *once_name = nullptr;
    bool list = false;
    // A row is called once: it takes its own samples.
    std::string all_at_once = "--benchmark_min_time=0";
    std::vector<char *> left = {argv[0], all_at_once.data()};
    for (int i = 1; i < argc; i++) {
        const std::string a = argv[i];
        list = list || (a.rfind("--benchmark_list_tests", 0) == 0 && a != "--benchmark_list_tests=false");
        if (a.rfind("--constants=", 0) == 0) constants_path = argv[i] + 12;
        else if (a.rfind("--once=", 0) == 0) once_name = argv[i] + 7;
        else if (a == "--tiny") be_tiny();
        else if (a == "--spoil") spoil = true;
        else left.push_back(argv[i]);
    }
    list_rows();
    int count_left = (int)left.size();
    left.push_back(nullptr);
    benchmark::Initialize(&count_left, left.data());
    if (benchmark::ReportUnrecognizedArguments(count_left, left.data())) return EXIT_USAGE;
    Error e = {};
    if (!list && gpu.open(&e)) {
        std::fprintf(stderr, "bench_gpu: %s\n", e.text);
        return e.code;
    }
    if (constants_path) return constants(constants_path);
    if (once_name) return once(once_name);
    add_context();
    benchmark::RunSpecifiedBenchmarks();
    for (const auto &v : verdicts)
        if (!v.second.fault.empty()) return EXIT_FAILED;
    return EXIT_DONE;
}

} // namespace

int main(int argc, char **argv)
{
    int code = EXIT_FAILED;
    blas_ensure_core(argv);
    try {
        code = run(argc, argv);
    } catch (const std::exception &fault) {
        std::fprintf(stderr, "bench_gpu: %s\n", fault.what());
    }
    gpu.close();
    return code;
}
