// gpu_constants: what this GPU costs per byte, per multiplication, per launch and per wait (constants.h), as
// JSON.
#include "gpu.h"

#include <algorithm>
#include <cstdio>
#include <dlfcn.h>

extern "C" {
#include "../host/version.h"
}

namespace bench_gpu
{

namespace
{

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
    const int64_t n = tiny ? 1 << 16 : int64_t{1} << 29; // 2 GiB each: far more than any L2
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
    const int blocks = 8 * gpu.facts.sms, rounds = tiny ? 2 : 2000;
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
    const int n = tiny ? 10 : 1000;
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
    const int few = tiny ? 2 : 200, many = 10 * few;
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
    const int few = tiny ? 5 : 500, many = 10 * few;
    auto flags = room<unsigned>(64), payload = room<unsigned>(2),
         errors = on_device(std::vector<unsigned>(1));
    auto us = slope(few, many, 2, [&](int rounds) {
        CHECK(cudaMemsetAsync(flags->get(), 0, flags->bytes(), gpu.context.stream));
        CHECK(constants_hops(gpu.context.stream, rounds, flags->get(), payload->get(), errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a hop brought an old value, or none");
    return us;
}

} // namespace

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

} // namespace bench_gpu
