// gpu: see gpu.h.
#include "gpu.h"

#include <algorithm>
#include <cstdio>
#include <limits>

extern "C" {
#include "../host/cublas_open.h"
}

namespace bench_gpu
{

// The paper's three models, and lengths whose slope separates a step from what a launch costs once.
std::vector<Workload> presets = {
    {200, 20, 20, 1.0, 0.1, 5}, {650, 20, 35, 0.5, 0.05, 5}, {1500, 20, 35, 0.35, 0.04, 10}};
std::vector<int64_t> lengths = {20, 35, 70, 140};
std::vector<Workload> anchors = {{768, 16, 1024, 1.0, 0.05, 5}}; // published times exist for this shape
int64_t V = 10000;
int samples = 200, sets = 4;
double step_seconds = 0.1; // of a sample of training steps
int64_t square = 8192;     // of the GEMM constants
bool spoil = false, tiny = false;
const size_t workspace_bytes = size_t{32} << 20; // what cuBLAS asks for on Hopper

void be_tiny()
{
    tiny = true;
    presets = {{20, 3, 5, 1.0, 0.1, 5}, {36, 2, 6, 0.5, 0.05, 5}};
    lengths = {3}, anchors.clear();
    V = 50, samples = 3, sets = 2, square = 64, step_seconds = 0;
}

Gpu gpu;

int Gpu::open(Error *e)
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

MaskSite mask_site(const Workload &w, int site)
{
    MaskSite m = {};
    m.state = gpu.state->get(), m.seed = seed, m.bound = mask_bound(w.keep), m.scale = (float)(1 / w.keep);
    m.sites = (int32_t)L + 1, m.site = site, m.on = w.keep < 1;
    return m;
}

} // namespace bench_gpu
