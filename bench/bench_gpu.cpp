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
//   time#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <cuda_profiler_api.h>

#include "gpu.h"

extern "C" {
#include "../host/backend.h"
#include "../host/batcher.h"
#include "../host/blas.h"
#include "../host/model.h"
#include "../host/params.h"
#include "../host/version.h"
}

using namespace bench_gpu;

namespace
{

// ---- a row ----

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

std::string shape_name(const Workload &w)
{
    return "H:" + std::to_string(w.H) + "/B:" + std::to_string(w.B) + "/T:" + std::to_string(w.T);
}

void add(const std::string &name, const std::function<std::shared_ptr<Case>()> &make, bool eager_too)
{
    rows.push_back({name, make, false});
    if (eager_too) rows.push_back({name + "/eager", make, true});
}

void add_recurrence(const Workload &w, bool tf32, bool eager_too)
{
    for (int i = 0; lstm_variants[i]; i++) {
        const LstmVariant *v = lstm_variants[i];
        const std::string tail = std::string("/") + v->footprint->name + (tf32 ? "/tf32/" : "/f32/") + shape_name(w);
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
