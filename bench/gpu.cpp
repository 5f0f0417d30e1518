// gpu: see gpu.h.
#include "gpu.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <thread>

#include <cuda_bf16.h>

#include "oracle.h"

extern "C" {
#include "host/backend/cublas_open.h"
#include "host/base/number.h"
}

namespace bench_gpu
{

int64_t V = 10000;
int sets = 4;
double step_seconds = 0.1; // length of a sample of training steps
int64_t square = 8192;     // size of the GEMM constants
bool spoil = false, tiny = false;
uint32_t poll_limit = 1u << 21;
measure::Rule rule;
const unsigned delay_cycles = 60000;                 // about 30 us, in which launches queue up
const auto recovery = std::chrono::milliseconds(20); // for a throttled clock
const double ramp_seconds = 0.5; // an idle GPU raises its clock within this time under load

void use_tiny_shapes()
{
    tiny = true;
    V = 50, sets = 2, square = 64, step_seconds = 0;
    rule.least = 3, rule.noise = 1e9, rule.discarded = 3;
    rule.seconds = 60; // so that three samples end a measurement, however busy the machine is
}

Gpu gpu;

int Gpu::open(Error *e)
{
    int n, code = device_count(&n, e);
    int64_t polls = poll_limit;
    const char *limit = std::getenv("PLSTM_POLL_LIMIT");
    if (limit && *limit && !parse_int(limit, 0, UINT32_MAX, &polls))
        return error_set(e, EXIT_USAGE,
                         "PLSTM_POLL_LIMIT must be a whole number, not '%s'; 0 means no limit",
                         limit);
    poll_limit = (uint32_t)polls;
    if (!code) code = device_facts(0, &facts, e);
    if (!code) code = cublas_open(e);
    if (code) return code;
    emulated = std::string(facts.name).rfind("emulated", 0) == 0;
    // The emulator's clock runs at the rate of its timer.
    rule.full_mhz = emulated ? 1000 : facts.clock_mhz;
    CHECK(cudaSetDevice(0));
    CHECK(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&before));
    CHECK(cudaEventCreate(&after));
    CHECK(cudaHostAlloc((void **)&clock, sizeof *clock, cudaHostAllocDefault));
    fault = std::make_unique<Device<FaultRecord>>(std::vector<FaultRecord>(1));
    workspace = std::make_unique<Device<char>>(workspace_bytes);
    StepState s = {};
    s.step = the_step, s.next_step = the_step + 1, s.lr = 0.5, s.clip = 5;
    state = std::make_unique<Device<StepState>>(std::vector<StepState>{s});
    context.fault = fault->get();
    context.cooperative = facts.cooperative;
    CHECK(cublasCreate(&context.blas));
    CHECK(cublasSetStream(context.blas, context.stream));
    CHECK(cublasSetWorkspace(context.blas, workspace->get(), workspace_bytes));
    CHECK(cublasSetAtomicsMode(context.blas, CUBLAS_ATOMICS_NOT_ALLOWED));
    CHECK(layers_prepare());
    for (int i = 0; lstm_variants[i]; i++) {
        const cudaError_t status = lstm_variants[i]->prepare();
        if (status != cudaSuccess)
            unprepared[lstm_variants[i]->prepare] = status, cudaGetLastError();
    }
    CHECK(cublas_tuned.prepare());
    return EXIT_DONE;
}

void Gpu::flush()
{
    if (!flushed) flushed = std::make_unique<Device<char>>(tiny ? size_t{1} << 16 : 2 * facts.l2);
    CHECK(cudaMemsetAsync(flushed->get(), 0, flushed->bytes(), context.stream));
}

std::string Gpu::fault_seen()
{
    const FaultRecord r = fault->host()[0];
    if (!r.set) return "";
    CHECK(cudaMemset(fault->get(), 0, fault->bytes()));
    CHECK(cudaDeviceSynchronize());
    std::string missing;
    for (unsigned i = 0; i < 32 * sizeof r.missing / sizeof r.missing[0]; i++)
        if (r.missing[i / 32] >> i % 32 & 1)
            missing += (missing.empty() ? "" : " ") + std::to_string(i);
    return "wrong: block " + std::to_string(r.block) + " timed out at step " +
           std::to_string(r.step) + ": expected " + std::to_string(r.expected) + ", saw " +
           std::to_string(r.seen) + ", missing blocks: " + (missing.empty() ? "unknown" : missing) +
           " (after " + std::to_string(poll_limit) +
           " polls; PLSTM_POLL_LIMIT sets the poll limit)";
}

void Gpu::close()
{
    tuned_begin(Precision::F32); // frees the copies that the last row made
    fault.reset(), workspace.reset(), state.reset(), flushed.reset();
    if (clock) cudaFreeHost(clock);
    if (before) cudaEventDestroy(before);
    if (after) cudaEventDestroy(after);
    if (context.blas) cublasDestroy(context.blas);
    if (context.stream) cudaStreamDestroy(context.stream);
    clock = nullptr, before = after = nullptr, context = {};
}

// ---- random values ----

std::vector<float> drawn(uint32_t key, int64_t n, double scale)
{
    std::vector<float> x((size_t)(n + 3) / 4 * 4);
#pragma omp parallel for
    for (int64_t q = 0; q < (n + 3) / 4; q++)
        init_four(seed, key, (uint64_t)q, scale, &x[(size_t)q * 4]);
    x.resize((size_t)n);
    return x;
}

std::vector<uint16_t> bf16_bits(const std::vector<float> &v)
{
    std::vector<uint16_t> bits(v.size());
    for (size_t i = 0; i < v.size(); i++) {
        const __nv_bfloat16 x = __float2bfloat16(v[i]);
        std::memcpy(&bits[i], &x, 2);
    }
    return bits;
}

std::vector<int32_t> drawn_ids(uint64_t key, int64_t n)
{
    std::vector<int32_t> ids((size_t)n);
    for (int64_t e = 0; e < n; e++) {
        double u =
            philox_block(seed, (uint64_t{1} << 40) + key, (uint64_t)e / 4).word[e % 4] * 0x1p-32;
        ids[(size_t)e] = (int32_t)std::min((double)V - 1, std::pow(V + 1.0, u) - 1);
    }
    return ids;
}

// ---- right or wrong ----

void join(Verdict *all, const Verdict &one)
{
    if (all->fault.empty()) all->fault = one.fault;
    if (one.bound > 0 && (all->bound <= 0 || one.error * all->bound > all->error * one.bound))
        all->error = one.error, all->bound = one.bound;
}

namespace
{

// "t 3, b 0, gate 2, unit 17"
std::string place_of(size_t at, const Dims &dims)
{
    if (dims.empty()) return "element " + std::to_string(at);
    std::string text;
    for (size_t d = dims.size(); d-- > 0;) {
        const size_t n = d ? (size_t)dims[d].second : SIZE_MAX;
        text = std::string(dims[d].first) + " " + std::to_string(at % n) +
               (text.empty() ? "" : ", ") + text;
        at /= n;
    }
    return text;
}

} // namespace

Verdict compare(const char *what, std::vector<float> ours, const std::vector<double> &truth,
                const std::vector<float> &plain, double times, const Dims &dims, Precision stored)
{
    const int fraction = stored == Precision::F16 ? 10 : stored == Precision::BF16 ? 7 : 23; // bits
    double error = 0, measure = 0, top = 0;
    if (spoil && !ours.empty())
        ours[ours.size() / 2] += 0.1f + 2 * std::fabs(ours[ours.size() / 2]);
    const size_t both = std::min(truth.size(), ours.size());
    for (size_t i = 0; i < both; i++) {
        double off = std::fabs((double)ours[i] - truth[i]);
        error = off <= error      ? error
                : std::isnan(off) ? std::numeric_limits<double>::infinity()
                                  : off;
        measure = std::max(measure, std::fabs((double)plain[i] - truth[i]));
        top = std::max(top, std::fabs(truth[i]));
    }
    Verdict v;
    v.error = error;
    v.bound = times * measure + 4 * std::ldexp(1.0, std::ilogb(std::max(top, 1e-37)) - fraction);
    if (ours.size() == truth.size() && error <= v.bound) return v;
    size_t first = both, off = 0, no_number = 0;
    for (size_t i = 0; i < both; i++) {
        no_number += std::isnan(ours[i]);
        if (std::fabs((double)ours[i] - truth[i]) <= v.bound) continue;
        first = std::min(first, i), off++;
    }
    char text[400];
    std::snprintf(
        text, sizeof text,
        "wrong: %s is off by %.3g, %.3g is allowed; first at %s: %.9g, truth %.9g; %zu of %zu "
        "differ, %zu NaN",
        what, error, v.bound, first < both ? place_of(first, dims).c_str() : "its end",
        first < both ? (double)ours[first] : 0.0, first < both ? truth[first] : 0.0, off,
        truth.size(), no_number);
    v.fault = text;
    return v;
}

void prepare(const Case &c, int set)
{
    if (c.poison) c.poison(set);
    CHECK(cudaDeviceSynchronize());
    if (c.restore) c.restore(set);
    gpu.wait();
}

Verdict verdict_of(const Case &c)
{
    static const std::string oracle_fault = oracle::sound();
    Verdict all;
    if (!oracle_fault.empty()) fail(oracle_fault);
    gpu.precision(c.precision);
    for (int s = 0; s < c.sets && all.fault.empty(); s++) {
        prepare(c, s);
        CHECK(c.run(s));
        gpu.wait();
        all.fault = gpu.fault_seen();
        join(&all, c.check(s));
    }
    if (!all.fault.empty() && !c.plan.empty()) all.fault += "; plan " + c.plan;
    return all;
}

// ---- time ----

namespace
{

class Stopwatch
{
  public:
    double seconds() const
    {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

  private:
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

double clock_mhz()
{
    return gpu.clock->nanoseconds ? 1e3 * (double)gpu.clock->cycles / (double)gpu.clock->nanoseconds
                                  : 0;
}

// Takes samples until the rule is met; `one` returns a sample and records its clock.
measure::Result until_done(const std::function<double()> &one)
{
    const Stopwatch warming;
    for (int i = 0; i < (tiny ? 1 : 5) && warming.seconds() < rule.seconds / 2; i++) one();
    while (rule.throttles(clock_mhz()) && warming.seconds() < ramp_seconds) one();
    measure::Measurement m(rule);
    const Stopwatch measuring;
    while (!m.done()) {
        const double us = one();
        if (!m.add(us, clock_mhz(), measuring.seconds())) std::this_thread::sleep_for(recovery);
    }
    const std::string fault = gpu.fault_seen();
    if (!fault.empty()) fail(fault);
    return m.result();
}

} // namespace

measure::Result converge(const std::function<void()> &pass, const std::function<void()> &restore,
                         bool flush)
{
    return until_done([&] {
        float ms = 0;
        if (restore) restore();
        if (flush) gpu.flush();
        CHECK(constants_delay(gpu.context.stream, delay_cycles, gpu.clock));
        CHECK(cudaEventRecord(gpu.before, gpu.context.stream));
        pass();
        CHECK(cudaEventRecord(gpu.after, gpu.context.stream));
        CHECK(cudaEventSynchronize(gpu.after));
        CHECK(cudaEventElapsedTime(&ms, gpu.before, gpu.after));
        return ms * 1e3;
    });
}

measure::Result converge_host(const std::function<double()> &run)
{
    return until_done([&] {
        CHECK(constants_delay(gpu.context.stream, delay_cycles, gpu.clock));
        gpu.wait();
        return run();
    });
}

MaskSite mask_site(const Workload &w, int site)
{
    MaskSite m = {};
    m.state = gpu.state->get(), m.seed = seed, m.bound = mask_bound(w.keep),
    m.scale = (float)(1 / w.keep);
    m.sites = (int32_t)L + 1, m.site = site, m.on = w.keep < 1;
    return m;
}

} // namespace bench_gpu
