// bench_gpu: times each kernel, layer and training step on a GPU beside cuBLAS and cuDNN, and
// measures the cost per byte, multiplication, launch and wait on this GPU.
//
//   lstm/fwd/NAME/PREC/H:650/B:20/T:35        one layer's recurrence by variant NAME, for every
//                                             variant of kernels/variants.def; also bwd
//   lstm/fwd/NAME/PREC/H:650/B:20/fit         its time over the lengths as launch_us + step_us * T
//   layer/fwdbwd/NAME/PREC/H:650/B:20/T:35    a whole layer with it: input product, recurrence and
//                                             gradients; layer2: two layers; also fwd
//   lstm/fwdbwd/cudnn-ALGO/PREC/H:.../...     the same work by cuDNN (lstm2: two layers); also at
//                                             padded sizes
//   layers/softmax_xent/f32/H:650/B:20/T:35   the other kernels of a step, one by one
//   gemm/logits/PREC/H:650/B:20/T:35          its matrix products, as the cuda backend runs them
//                                             (host/backend/gemm.h): rows of 650 elements are
//                                             656 apart; gemm/logits_tight has no gaps
//   step/cuda/PREC/H:650/B:20/T:35            one training minibatch, embedding to update, as the
//                                             trainer runs it
//   step/cuda/PREC/H:650/B:20/T:35/kernel:NAME   the same with both passes by variant NAME instead
//                                             of the choice of --kernel auto
//
// Rows are replays of a CUDA graph; rows that end in /eager launch kernel by kernel. PREC is f32,
// tf32, bf16 or f16. A row that cannot run has an error that begins with "refused: "; if the clock
// was too low, the error begins with "throttled: ", and after --budget with "not run: ". None of
// these is a failure.
//
// A row is timed only if its result is right. The outputs are poisoned and every input set runs
// once. The largest error against plain loops in double must be at most 2 times (gradients 3 times)
// that of the same loops in the row's precision, plus 4 units in the last place of the largest
// value. The first minibatch of the cuda backend must have the same cost as that of the cpu
// backend. A wrong result gets an error that begins with "wrong: " and no time, and the exit status
// is 1.
//
// A row is one converged measurement (measure.h). A sample is one pass over several sets of random
// inputs between two CUDA events, divided by their number. Inputs that a kernel overwrites are
// restored before the pass; a delay kernel lets the host get ahead and also reads the SM clock. The
// weights are the same for all sets and so stay in L2, as in training; cold_* is one set after L2
// was overwritten. The counters are median_us, lo_us .. hi_us (95 % interval of the median),
// min_us, p10_us, p90_us, riqr (relative interquartile range), samples, discarded (throttled), mhz;
// error, bound; us_per_step, words/s, FLOP/s and bytes/s (each tensor once, weights once). The
// label has the reason why the measurement stopped, and the kernel: "stop=noise cold_stop=settled",
// "kernel=reg".
//
//   bench_gpu [--benchmark_filter=REGEX ...]   run the rows
//   --h= --b= --t= --variants= --directions= --precision=   select rows: comma-separated lists
//   --seconds=S --noise=N --throttle=SHARE     limits of a measurement: its time (1), the noise
//                                              that ends it (0.005), the least share of the full
//                                              clock (0.75)
//   --budget=SECONDS                           do not start rows later; the file stays complete
//   --ptxas=FILE                               the output of ptxas -v, for the context (default:
//                                              ptxas.txt beside the program)
//   bench_gpu --constants=FILE                 write machine constants as JSON (gpu_constants.cpp)
//   bench_gpu --once=ROW                       run a row once between cudaProfilerStart and Stop,
//                                              for ncu
//   bench_gpu --libraries                      print the opened cuBLAS, cuBLASLt, cuDNN and CUPTI
//   --tiny                                     use tiny shapes and few samples, to test the program
//   --spoil                                    damage every result before its check: no row may
//                                              have a time
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <cublasLt.h>
#include <cuda_profiler_api.h>
#include <cxxabi.h>

#include "gpu.h"

extern "C" {
#include "host/backend/blas.h"
#include "host/backend/cublas_open.h"
#include "host/base/version.h"
}

#ifndef PLSTM_FLAGS
#define PLSTM_FLAGS "unknown"
#endif

using namespace bench_gpu;

namespace
{

Axes chosen;
bool failed = false;      // a row was wrong or could not be measured
double budget = INFINITY; // seconds
const auto began = std::chrono::steady_clock::now();
std::map<std::string, double> median_of; // {row: microseconds}

// ---- a row ----

struct Row {
    std::string name;
    Maker make;
    bool eager;
};
std::vector<Row> rows;
// The verdict of each case, by its row's name without /eager, since both rows have the same result.
std::map<std::string, Verdict> verdicts;

void skip(benchmark::State &state, const std::string &sentence)
{
    bool harmless = false;
    for (const char *kind : {"refused: ", "throttled: ", "not run: "})
        harmless = harmless || sentence.rfind(kind, 0) == 0;
    failed = failed || !harmless;
    state.SkipWithError(sentence.c_str());
}

// Returns true, and marks the row, if the budget of this run is spent.
bool too_late(benchmark::State &state)
{
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() < budget)
        return false;
    skip(state, "not run: the budget of this run was used up");
    return true;
}

measure::Result scaled(measure::Result r, double by)
{
    for (double *us : {&r.median, &r.least, &r.p10, &r.p90, &r.low, &r.high}) *us *= by;
    return r;
}

std::unique_ptr<Graph> graph_of(const Case &c, const std::function<void()> &pass)
{
    try {
        return std::make_unique<Graph>(pass);
    } catch (const std::exception &fault) {
        cudaGetLastError();
        if (c.peer) throw Refused(std::string("cannot be captured into a graph: ") + fault.what());
        throw;
    }
}

measure::Result time_warm(const Case &c, bool eager)
{
    const auto all = [&] {
        for (int s = 0; s < c.sets; s++) CHECK(c.run(s));
    };
    const auto restore = [&] {
        for (int s = 0; s < c.sets && c.restore; s++) c.restore(s);
    };
    if (eager) return scaled(converge(all, restore, false), 1.0 / c.sets);
    const auto graph = graph_of(c, all);
    return scaled(converge([&] { graph->replay(); }, restore, false), 1.0 / c.sets);
}

measure::Result time_cold(const Case &c)
{
    const auto graph = graph_of(c, [&] { CHECK(c.run(0)); });
    const auto restore = [&] {
        if (c.restore) c.restore(0);
    };
    return converge([&] { graph->replay(); }, restore, true);
}

// Sets the counters of a row. Returns false if there is no time; the row then has the reason.
bool count(benchmark::State &state, const measure::Result &t, const char *prefix)
{
    if (!t.samples) {
        char text[120];
        std::snprintf(text, sizeof text, "throttled: the clock stayed under %.0f of %.0f MHz",
                      rule.throttle * rule.full_mhz, rule.full_mhz);
        skip(state, text);
        return false;
    }
    const std::pair<const char *, double> counters[] = {{"median_us", t.median},
                                                        {"lo_us", t.low},
                                                        {"hi_us", t.high},
                                                        {"min_us", t.least},
                                                        {"p10_us", t.p10},
                                                        {"p90_us", t.p90},
                                                        {"riqr", t.iqr},
                                                        {"samples", (double)t.samples},
                                                        {"discarded", (double)t.discarded},
                                                        {"mhz", t.mhz}};
    for (const auto &c : counters) state.counters[std::string(prefix) + c.first] = c.second;
    return true;
}

void count_rates(benchmark::State &state, const Case &c, double us)
{
    const double seconds = us * 1e-6;
    if (c.T > 0) state.counters["us_per_step"] = us / (double)c.T;
    if (c.words > 0) state.counters["words/s"] = (double)c.words / seconds;
    if (c.flops > 0) state.counters["FLOP/s"] = c.flops / seconds;
    if (c.bytes > 0) state.counters["bytes/s"] = c.bytes / seconds;
}

std::string label_of(const measure::Result &t, const std::string &more)
{
    return std::string("stop=") + stop_name(t.why) + (more.empty() ? "" : " " + more) +
           (gpu.emulated ? " emulated=yes" : "");
}

void bench_row(benchmark::State &state, const Row *row)
{
    if (too_late(state)) return;
    std::string plan;
    try {
        auto c = row->make();
        plan = c->plan;
        const std::string key = row->name.substr(0, row->name.find("/eager"));
        if (!verdicts.count(key)) {
            verdicts[key] = verdict_of(*c);
        } else { // the first call may initialise, which must not happen during a capture
            gpu.precision(c->precision);
            prepare(*c, 0);
            CHECK(c->run(0));
            gpu.wait();
        }
        const Verdict &v = verdicts[key];
        if (!v.fault.empty()) return skip(state, v.fault);
        gpu.precision(c->precision);
        measure::Result warm, cold;
        for (auto _ : state) {
            warm = time_warm(*c, row->eager);
            if (!row->eager && warm.samples) cold = time_cold(*c);
            state.SetIterationTime(warm.median * 1e-6);
        }
        if (!count(state, warm, "")) return;
        std::string label = c->label;
        if (c->late_label) label += (label.empty() ? "" : " ") + c->late_label();
        if (cold.samples) {
            count(state, cold, "cold_");
            label = std::string("cold_stop=") + stop_name(cold.why) +
                    (label.empty() ? "" : " " + label);
        }
        count_rates(state, *c, warm.median);
        state.counters["error"] = v.error;
        state.counters["bound"] = v.bound;
        state.SetLabel(label_of(warm, label));
        median_of[row->name] = warm.median;
    } catch (const std::exception &fault) {
        skip(state, fault.what() + (plan.empty() ? "" : "; plan " + plan));
    }
}

void bench_step(benchmark::State &state, const Workload *w, Precision p, const std::string &kernel,
                bool eager)
{
    if (too_late(state)) return;
    try {
        StepTime s;
        for (auto _ : state) {
            s = time_step(*w, p, kernel, eager);
            state.SetIterationTime(s.time.median * 1e-6);
        }
        if (!count(state, s.time, "")) return;
        state.counters["steps_per_sample"] = (double)s.steps_per_sample;
        state.counters["error"] = s.error, state.counters["bound"] = s.bound;
        Case c;
        c.precision = p, c.flops = s.flops, c.words = w->T * w->B;
        count_rates(state, c, s.time.median);
        state.SetLabel(label_of(s.time, s.kernel.empty() ? "" : "kernel=" + s.kernel));
    } catch (const std::exception &fault) {
        skip(state, fault.what());
    }
}

// The fit of a variant over its lengths; the rows of the lengths come before it.
struct Fit {
    std::string head; // "lstm/fwd/reg/f32/H:650/B:20"
    std::vector<int64_t> lengths;
};

void bench_fit(benchmark::State &state, const Fit *fit)
{
    std::vector<std::pair<double, double>> points;
    for (int64_t T : fit->lengths) {
        const auto found = median_of.find(fit->head + "/T:" + std::to_string(T));
        if (found != median_of.end()) points.push_back({(double)T, found->second});
    }
    const measure::Line line = points.empty() ? measure::Line() : measure::fit(points);
    if (!line.known)
        return skip(state, "refused: a fit needs the times of two lengths from this run");
    for (auto _ : state) state.SetIterationTime(1e-6);
    state.counters["launch_us"] = line.a, state.counters["step_us"] = line.b;
    state.counters["worst"] = line.worst, state.counters["lengths"] = (double)points.size();
    if (gpu.emulated) state.SetLabel("emulated=yes");
}

// ---- the list of rows ----

template <class... F> void list(const std::string &name, F &&...f)
{
    benchmark::RegisterBenchmark(name.c_str(), std::forward<F>(f)...)
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
}

// In order; pointers into `rows` are valid once all rows are added.
std::vector<std::function<void()>> to_list;

void add(const std::string &name, const Maker &make, bool eager)
{
    const size_t at = rows.size();
    rows.push_back({name + (eager ? "/eager" : ""), make, eager});
    to_list.push_back([at] { list(rows[at].name, bench_row, &rows[at]); });
}

void add(const std::string &name, const Maker &make) { add(name, make, false); }

bool direction(const char *name) { return wanted(chosen.directions, std::string(name)); }

// The variants of the program, mma with its other exchange, and a tuned cuBLAS.
std::vector<const LstmVariant *> variants()
{
    std::vector<const LstmVariant *> all;
    for (int i = 0; lstm_variants[i]; i++) all.push_back(lstm_variants[i]);
    all.push_back(&mma_flag);
    all.push_back(&cublas_tuned);
    return all;
}

// The precisions of the program; only cuDNN has f16.
const Precision precisions[] = {Precision::F32, Precision::TF32, Precision::BF16};

// Returns whether a variant has rows of that precision. A precision that it does not support has
// rows only on request.
bool has_rows(const LstmVariant *v, Precision p)
{
    return wanted(chosen.precisions, p) &&
           (!chosen.precisions.empty() || precision_refused(v, p).empty());
}

void add_recurrence(const Workload &w)
{
    for (const LstmVariant *v : variants()) {
        const std::string name = v->footprint->name;
        if (!wanted(chosen.variants, name)) continue;
        for (Precision p : precisions) {
            if (!has_rows(v, p)) continue;
            for (bool back : {false, true}) {
                if (!direction(back ? "bwd" : "fwd")) continue;
                const std::string head =
                    std::string(back ? "lstm/bwd/" : "lstm/fwd/") + name + "/" + name_of(p) + "/";
                const std::vector<int64_t> all = lengths(chosen, w);
                for (int64_t T : all) {
                    Workload other = w;
                    other.T = T;
                    const Maker make = [=] {
                        return back ? backward_case(v, other, p) : forward_case(v, other, p);
                    };
                    add(head + shape_name(other), make);
                    if (T == w.T && p == Precision::F32) add(head + shape_name(other), make, true);
                }
                if (all.size() > 1) {
                    const Fit fit = {
                        head + "H:" + std::to_string(w.H) + "/B:" + std::to_string(w.B), all};
                    to_list.push_back([fit] { list(fit.head + "/fit", bench_fit, new Fit(fit)); });
                }
            }
        }
    }
}

void add_whole(const Workload &w)
{
    for (int layers : {1, 2})
        for (Precision p : precisions)
            for (bool back : {true, false})
                for (const LstmVariant *v : variants()) {
                    const std::string name = v->footprint->name;
                    if (!wanted(chosen.variants, name) || !direction(back ? "fwdbwd" : "fwd") ||
                        !has_rows(v, p))
                        continue;
                    add(std::string(layers == 1 ? "layer/" : "layer2/") +
                            (back ? "fwdbwd/" : "fwd/") + name + "/" + name_of(p) + "/" +
                            shape_name(w),
                        [=] { return whole_case(v, w, p, layers, back); });
                }
}

void add_cudnn(const Workload &w, bool is_padded)
{
    for (int layers : {1, 2})
        for (Precision p : {Precision::F16, Precision::F32, Precision::TF32, Precision::BF16})
            for (bool back : {true, false})
                for (size_t i = 0; i < cudnn_algorithms.size(); i++) {
                    const std::string name = cudnn_algorithms[i];
                    if (!wanted(chosen.variants, name) || !direction(back ? "fwdbwd" : "fwd") ||
                        !wanted(chosen.precisions, p))
                        continue;
                    const std::string row = std::string(layers == 1 ? "lstm/" : "lstm2/") +
                                            (back ? "fwdbwd/" : "fwd/") + name + "/" + name_of(p) +
                                            "/" + shape_name(w);
                    const Maker make = [=] { return cudnn_case(i, w, p, layers, back); };
                    add(row, make);
                    if (layers == 1 && !is_padded) add(row, make, true);
                }
}

void add_step(const Workload &w, Precision p, const std::string &kernel, bool eager)
{
    const std::string tail =
        (kernel == "auto" ? "" : "/kernel:" + kernel) + std::string(eager ? "/eager" : "");
    to_list.push_back([=, &w] {
        list(std::string("step/cuda/") + name_of(p) + "/" + shape_name(w) + tail, bench_step, &w, p,
             kernel, eager);
    });
}

// Adds the training step with the choice of --kernel auto.
void add_steps(const Workload &w)
{
    for (Precision p : precisions)
        for (bool eager : {false, true})
            if (wanted(chosen.precisions, p)) add_step(w, p, "auto", eager);
}

void add_steps_by_kernel(const Workload &w)
{
    for (int i = 0; lstm_variants[i]; i++)
        for (Precision p : precisions)
            if (wanted(chosen.variants, std::string(lstm_variants[i]->footprint->name)) &&
                has_rows(lstm_variants[i], p))
                add_step(w, p, lstm_variants[i]->footprint->name, false);
}

void add_layers(const Workload &w)
{
    const std::string tail = "/f32/" + shape_name(w);
    add("layers/step_begin" + tail, [=] { return step_begin_case(w); });
    add("layers/embedding_fwd" + tail, [=] { return embedding_forward_case(w); });
    add("layers/embedding_bwd" + tail, [=] { return embedding_backward_case(w); });
    add("layers/softmax_xent" + tail, [=] { return softmax_case(w); });
    add("layers/sums_dlogits" + tail, [=] { return column_sums_case(w, V); });
    add("layers/sums_dgates" + tail, [=] { return column_sums_case(w, 4 * w.H); });
    add("layers/sgd_norm" + tail, [=] { return sgd_norm_case(w); });
    add("layers/sgd_update" + tail, [=] { return sgd_update_case(w); });
    for (const Product &p : products(w))
        for (Precision precision : precisions)
            if (wanted(chosen.precisions, precision)) {
                const std::string of = std::string("/") + name_of(precision) + "/" + shape_name(w);
                const GemmRows rows = product_rows(p, precision);
                add(std::string("gemm/") + p.name + of,
                    [=] { return product_case(p, precision, true); });
                if (rows.a || rows.b || rows.c)
                    add(std::string("gemm/") + p.name + "_tight" + of,
                        [=] { return product_case(p, precision, false); });
            }
}

void list_rows()
{
    static const std::vector<Workload> all = workloads(chosen);
    const std::string no_cudnn = cudnn_problem();
    for (const Workload &w : all) {
        // The longer shapes are only compared with published times.
        const bool is_model = w.T < 1000;
        if (is_model) add_steps(w);
        add_recurrence(w);
        add_whole(w);
        if (no_cudnn.empty()) {
            add_cudnn(w, false);
            const Workload larger = padded(chosen, w);
            if (shape_name(larger) != shape_name(w)) add_cudnn(larger, true);
        }
        if (is_model) add_steps_by_kernel(w), add_layers(w);
    }
    const bool cudnn_wanted =
        std::any_of(cudnn_algorithms.begin(), cudnn_algorithms.end(),
                    [](const char *name) { return wanted(chosen.variants, std::string(name)); });
    if (!no_cudnn.empty() && cudnn_wanted)
        add("lstm/fwdbwd/cudnn/f16/" + shape_name(all.back()),
            [=]() -> std::shared_ptr<Case> { throw Refused(no_cudnn); });
    for (const auto &one : to_list) one();
}

// ---- the opened libraries ----

// Prints the paths of the CUDA libraries that this process has opened, and their versions.
int libraries()
{
    Error e = {};
    int devices = 0;
    std::printf("cuDNN      %s\n", cudnn_description().c_str());
    if (device_count(&devices, &e))
        // this call loads the library of CUDA_INJECTION64_PATH
        std::printf("driver     %s\n", e.text);
    if (cublas_open(&e)) std::printf("cuBLAS     %s\n", e.text);
    else std::printf("cuBLASLt   %zu\n", cublasLtGetVersion());
    std::ifstream maps("/proc/self/maps");
    std::vector<std::string> seen;
    std::string line;
    while (std::getline(maps, line)) {
        const size_t at = line.find('/');
        if (at == std::string::npos) continue;
        const std::string path = line.substr(at), name = path.substr(path.rfind('/') + 1);
        for (const char *known :
             {"libcublas", "libcudnn", "libcupti", "libcuda.", "libfake_cudnn", "libopenblas"})
            if (name.rfind(known, 0) == 0 &&
                std::find(seen.begin(), seen.end(), path) == seen.end()) {
                seen.push_back(path);
                std::printf("opened     %s\n", path.c_str());
            }
    }
    return EXIT_DONE;
}

// ---- one run, for a profiler ----

int once(const char *name)
{
    for (const Row &row : rows) {
        if (row.name != name) continue;
        auto c = row.make();
        Verdict v = verdict_of(*c);
        if (!v.fault.empty()) fail(v.fault);
        std::printf("%s: right, error %.3g of at most %.3g\n", name, v.error, v.bound);
        prepare(*c, 0);
        CHECK(cudaProfilerStart());
        CHECK(c->run(0));
        gpu.wait();
        CHECK(cudaProfilerStop());
        return EXIT_DONE;
    }
    std::fprintf(stderr, "bench_gpu: unknown row '%s'; --benchmark_list_tests lists the rows\n",
                 name);
    return EXIT_USAGE;
}

// ---- context ----

// Adds a line of context per kernel from the output of ptxas -v at its compilation.
void add_ptxas(const std::string &path)
{
    std::ifstream file(path);
    const std::regex entry("Compiling entry function '(\\S+)' for '(\\w+)'"),
        stack("(\\d+) bytes stack frame, (\\d+) bytes spill stores, (\\d+) bytes spill loads"),
        used("Used (\\d+) registers(?:.*?(\\d+) bytes smem)?");
    std::string line, kernel, spills;
    std::smatch m;
    while (std::getline(file, line)) {
        if (std::regex_search(line, m, entry)) {
            int status = -1;
            char *name = abi::__cxa_demangle(m[1].str().c_str(), nullptr, nullptr, &status);
            kernel =
                status == 0 ? std::string(name).substr(0, std::string(name).find('(')) : m[1].str();
            kernel = kernel.rfind("void ", 0) == 0 ? kernel.substr(5) : kernel;
            std::free(name);
            kernel += " " + m[2].str();
        } else if (std::regex_search(line, m, stack)) {
            spills = std::to_string(std::stol(m[2]) + std::stol(m[3]));
        } else if (std::regex_search(line, m, used) && !kernel.empty()) {
            benchmark::AddCustomContext("kernel " + kernel,
                                        m[1].str() + " registers, " +
                                            (m[2].matched ? m[2].str() : std::string("0")) +
                                            " bytes shared, " + spills + " bytes spilled");
            kernel.clear();
        }
    }
}

std::string version(int number)
{
    return std::to_string(number / 1000) + "." + std::to_string(number / 10 % 100);
}

// Adds the context; without a device, the context says nothing about one.
void add_context(const std::string &ptxas)
{
    const std::string commit = PLSTM_COMMIT;
    const bool dirty = commit.size() > 6 && commit.compare(commit.size() - 6, 6, "-dirty") == 0;
    benchmark::AddCustomContext("commit", commit);
    benchmark::AddCustomContext("dirty", dirty ? "yes" : "no");
    benchmark::AddCustomContext("flags", PLSTM_FLAGS);
    benchmark::AddCustomContext("toolkit", version(CUDART_VERSION));
    benchmark::AddCustomContext("sets", std::to_string(sets));
    benchmark::AddCustomContext("noise", std::to_string(rule.noise));
    if (!gpu.facts.name[0]) return;
    benchmark::AddCustomContext("gpu", gpu.facts.name);
    benchmark::AddCustomContext("emulated", gpu.emulated ? "yes" : "no");
    benchmark::AddCustomContext("driver", std::to_string(gpu.facts.driver));
    benchmark::AddCustomContext("runtime", std::to_string(gpu.facts.runtime));
    benchmark::AddCustomContext("clock_mhz", std::to_string(gpu.facts.clock_mhz));
    benchmark::AddCustomContext("memory_clock_mhz", std::to_string(gpu.facts.memory_clock_mhz));
    benchmark::AddCustomContext("ecc", gpu.facts.ecc ? "on" : "off");
    benchmark::AddCustomContext("cudnn", cudnn_description());
    add_ptxas(ptxas);
}

// ---- main ----

// Writes each row to the file when it is done, so that a killed program leaves the rows that were
// done.
class RowByRow : public benchmark::JSONReporter
{
  public:
    void ReportRuns(const std::vector<Run> &runs) override
    {
        benchmark::JSONReporter::ReportRuns(runs);
        GetOutputStream().flush();
    }
};

bool number(const std::string &argument, const char *option, double *to)
{
    const size_t n = std::string(option).size();
    if (argument.compare(0, n, option) != 0) return false;
    char *end = nullptr;
    *to = std::strtod(argument.c_str() + n, &end);
    if (argument.size() == n || *end || !(*to >= 0))
        throw std::invalid_argument(std::string(option, n - 1) + " takes a number, not '" +
                                    argument.substr(n) + "'");
    return true;
}

int run(int argc, char **argv)
{
    const char *constants_path = nullptr, *once_name = nullptr;
    std::string ptxas = argv[0];
    ptxas = ptxas.substr(0, ptxas.rfind('/') + 1) + "ptxas.txt"; // the file may not exist
    bool listing = false, to_file = false;
    std::vector<char *> left = {argv[0]};
    for (int i = 1; i < argc; i++)
        if (argv[i] == std::string("--tiny")) use_tiny_shapes(), chosen.tiny = true;
    for (int i = 1; i < argc; i++) {
        const std::string a = argv[i];
        listing = listing || (a.rfind("--benchmark_list_tests", 0) == 0 &&
                              a != "--benchmark_list_tests=false");
        to_file = to_file || a.rfind("--benchmark_out=", 0) == 0;
        if (a.rfind("--constants=", 0) == 0) constants_path = argv[i] + 12;
        else if (a.rfind("--once=", 0) == 0) once_name = argv[i] + 7;
        else if (a.rfind("--ptxas=", 0) == 0) ptxas = a.substr(8);
        else if (a == "--spoil") spoil = true;
        else if (a == "--libraries") return libraries();
        else if (a != "--tiny" && !take(&chosen, a) && !number(a, "--budget=", &budget) &&
                 !number(a, "--seconds=", &rule.seconds) && !number(a, "--noise=", &rule.noise) &&
                 !number(a, "--throttle=", &rule.throttle))
            left.push_back(argv[i]);
    }
    list_rows();
    int count_left = (int)left.size();
    left.push_back(nullptr);
    benchmark::Initialize(&count_left, left.data());
    if (benchmark::ReportUnrecognizedArguments(count_left, left.data())) return EXIT_USAGE;
    Error e = {};
    if (!listing && gpu.open(&e)) {
        std::fprintf(stderr, "bench_gpu: %s\n", e.text);
        return e.code;
    }
    if (constants_path) return constants(constants_path);
    if (once_name) return once(once_name);
    add_context(ptxas);
    RowByRow file;
    if (to_file) benchmark::RunSpecifiedBenchmarks(nullptr, &file);
    else benchmark::RunSpecifiedBenchmarks();
    return failed ? EXIT_FAILED : EXIT_DONE;
}

} // namespace

int main(int argc, char **argv)
{
    int code = EXIT_FAILED;
    // Line buffering, so that a killed program leaves its output.
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 12);
    blas_ensure_core(argv, stderr);
    try {
        code = run(argc, argv);
    } catch (const std::invalid_argument &sentence) {
        std::fprintf(stderr, "bench_gpu: %s\n", sentence.what());
        code = EXIT_USAGE;
    } catch (const std::exception &fault) {
        std::fprintf(stderr, "bench_gpu: %s\n", fault.what());
    }
    gpu.close();
    return code;
}
