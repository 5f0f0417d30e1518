// gpu_constants: measures the cost per byte, multiplication, launch and wait on this GPU
// (constants.h) and writes JSON:
//
//   {"gpu": ..., "commit": ..., "emulated": false, "constants": {NAME: {"value": V, "unit": U,
//    "lo": L, "hi": H, "p10": ..., "p90": ..., "samples": N, "mhz": F, "stop": WHY,
//    "what": SENTENCE}, ...}}
//
// value is a median, and lo .. hi contain it in 95 % of cases. The units are B/s, FLOP/s, us,
// B/clk/SM, 1/clk/SM and count. A constant whose check failed or that could not be measured has
// "error" instead; one that this GPU does not support has "refused". profiles/<gpu>/constants.json
// is such a file. NAMES:
//
//   copy copy_kernel                bytes read and written per second, device memory to device
//                                   memory, by the runtime and by a kernel
//   fma_f32                         multiply-adds of all SMs from registers
//   mma_tf32 mma_bf16               tensor cores from registers, by mma.sync, on ones: their
//                                   highest rate
//   gemm_f32 gemm_tf32 gemm_bf16 gemm_f16  cuBLAS, 8192 cubed, on random data, which draws more
//                                   power
//   launch_gap graph_node_gap       from one empty kernel to the next, in the stream and in a graph
//   barrier_counter barrier_flags   two grid barriers of the benchmark, one block per SM
//   barrier_plstm                   kernels/grid_barrier.cuh, the barrier of the persistent
//                                   variants
//   barrier_cg                      cooperative groups' grid.sync
//   flag_hop                        from a store on one SM to the load on another SM that returns
//                                   it
//   l2_broadcast_NNk                every SM reads the same NN KB from L2 into registers, just
//                                   after one block has written them
//   l2_bulk_NNk l2_multicast_S_NNk  the same by bulk copies into shared memory: once for each
//                                   block, and once for each cluster of S
//   clusters_S clusters_S_full      clusters of S blocks resident at once: with small blocks, and
//                                   with an SM's shared memory per block
//   cluster_barrier_S               the barrier of a cluster of S
//   cluster_hop                     an asynchronous store to another block of a cluster of 8, until
//                                   its mbarrier completes
//   gather_S_NNk gather_bulk_S_NNk  all-gather of NN KB within a cluster of S, by asynchronous
//                                   stores of 16 bytes, and by bulk copies
//   gather_word_S_NNk               the same by asynchronous stores of 4 bytes
//   dsmem_rate                      bytes per clock that a block receives from the others of its
//                                   cluster of 8: the slope of gather_8
//   cluster_latency                 clocks of a load from another block's shared memory, clusters
//                                   of 8
//   mma_rate                        bf16 multiply-adds per clock of an SM: mma_bf16 in another unit
//   mma_latency                     clocks from one mma.sync to the next that adds to its result
//
// set_measured in host/plan/cost_model.c lists the constants that replace those of the literature.
#include "gpu.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "oracle.h"

extern "C" {
#include "host/base/version.h"
}

namespace bench_gpu
{

namespace
{

class Constants
{
  public:
    explicit Constants(const char *path) : path(path) {}

    // Measures one constant: `how` returns it in `unit`, or throws.
    void measure(const std::string &name, const char *unit, const std::string &what,
                 const std::function<measure::Result()> &how)
    {
        char line[900];
        try {
            const measure::Result r = how();
            if (!r.samples) fail("throttled: the clock stayed too low");
            std::snprintf(
                line, sizeof line,
                "  \"%s\": {\"value\": %.6g, \"unit\": \"%s\", \"lo\": %.6g, \"hi\": %.6g, "
                "\"p10\": %.6g, \"p90\": %.6g, "
                "\"samples\": %zu, \"mhz\": %.0f, \"stop\": \"%s\", \"what\": \"%s\"}",
                name.c_str(), r.median, unit, r.low, r.high, r.p10, r.p90, r.samples, r.mhz,
                r.why == measure::Stop::NOT_YET ? "exact" : stop_name(r.why), what.c_str());
            std::printf("%-24s %12.5g %s\n", name.c_str(), r.median, unit);
        } catch (const std::exception &fault) {
            const std::string said = fault.what();
            const bool refused = said.rfind("refused: ", 0) == 0;
            std::snprintf(line, sizeof line,
                          "  \"%s\": {\"%s\": \"%.200s\", \"unit\": \"%s\", \"what\": \"%s\"}",
                          name.c_str(), refused ? "refused" : "error",
                          said.c_str() + (refused ? 9 : 0), unit, what.c_str());
            std::printf("%-24s %s\n", name.c_str(), said.c_str());
            failed = failed || !refused;
        }
        std::fflush(stdout);
        body += (body.empty() ? "" : ",\n") + std::string(line);
        write(); // a run that is killed keeps its results so far
    }
    // Returns the exit code.
    int end() { return !written ? EXIT_BAD_DATA : failed ? EXIT_FAILED : EXIT_DONE; }

  private:
    void write()
    {
        const std::string part = path + ".part";
        FILE *f = std::fopen(part.c_str(), "w");
        written = f && std::fprintf(f,
                                    "{\"gpu\": \"%s\", \"emulated\": %s, \"commit\": \"%s\", "
                                    "\"constants\": {\n%s\n}}\n",
                                    gpu.facts.name, gpu.emulated ? "true" : "false", PLSTM_COMMIT,
                                    body.c_str()) > 0;
        written =
            f && std::fclose(f) == 0 && written && std::rename(part.c_str(), path.c_str()) == 0;
        if (!written) std::perror(path.c_str());
    }

    std::string path, body;
    bool failed = false, written = false;
};

// Converts a result to another unit, in which the order may be reversed.
measure::Result in_terms(measure::Result r, const std::function<double(double)> &f)
{
    for (double *us : {&r.median, &r.least, &r.p10, &r.p90, &r.low, &r.high}) *us = f(*us);
    if (r.low > r.high) std::swap(r.low, r.high), std::swap(r.p10, r.p90);
    return r;
}
measure::Result rate(const measure::Result &r, double amount)
{
    return in_terms(r, [=](double us) { return amount / (us * 1e-6); });
}

measure::Result copy_rate(bool by_runtime)
{
    const int64_t n = tiny ? 1 << 14 : int64_t{1} << 29; // 2 GiB each, far more than any L2
    Device<float> to((size_t)n), from((size_t)n);
    std::vector<float> tile = drawn(1, std::min<int64_t>(n, 1 << 20), 1.0);
    for (int64_t at = 0; at < n; at += (int64_t)tile.size())
        upload(from.get() + at, tile.data(), tile.size() * 4);
    to.poison();
    const auto pass = [&] {
        if (by_runtime) to.copy_from(from, gpu.context.stream);
        else
            CHECK(constants_copy(gpu.context.stream, tiny ? 5 : 16 * gpu.facts.sms, n, from.get(),
                                 to.get()));
    };
    const measure::Result r = converge(pass, nullptr, false);
    std::vector<float> end(tile.size());
    CHECK(cudaMemcpy(end.data(), to.get() + n - (int64_t)end.size(), end.size() * 4,
                     cudaMemcpyDeviceToHost));
    if (end != tile || spoil) fail("wrong: the copy differs");
    return rate(r, 8.0 * (double)n);
}

measure::Result fma_rate()
{
    const int blocks = tiny ? 3 : 8 * gpu.facts.sms, rounds = tiny ? 2 : 2000;
    const float a = 0.999f, b = 0.001f;
    auto out = device_alloc<float>((int64_t)blocks * CONSTANTS_THREADS);
    out->poison();
    const measure::Result r = converge(
        [&] { CHECK(constants_fma(gpu.context.stream, blocks, rounds, a, b, out->get())); },
        nullptr, false);
    std::vector<float> right;
    for (int t = 0; t < CONSTANTS_THREADS; t++) {
        float sum = 0;
        for (int c = 0; c < CONSTANTS_CHAINS; c++) {
            float x = (float)(t + c);
            for (int i = 0; i < rounds * (CONSTANTS_FMA / CONSTANTS_CHAINS); i++)
                x = std::fma(a, x, b);
            sum += x;
        }
        right.push_back(sum);
    }
    std::vector<float> ours = out->host();
    for (size_t i = 0; i < ours.size(); i++)
        if (!(std::fabs(ours[i] - right[i % CONSTANTS_THREADS]) <=
              1e-5f * std::fabs(right[i % CONSTANTS_THREADS])) ||
            spoil)
            fail("wrong: the result of a chain of multiply-adds");
    return rate(r, 2.0 * blocks * CONSTANTS_THREADS * rounds * CONSTANTS_FMA);
}

measure::Result mma_rate(bool tf32)
{
    if (gpu.facts.major < 8) throw Refused("tensor cores of sm_80 are not there");
    const int blocks = tiny ? 2 : 4 * gpu.facts.sms, rounds = tiny ? 3 : 4000, k = tf32 ? 8 : 16;
    auto out = device_alloc<float>((int64_t)blocks * CONSTANTS_THREADS);
    out->poison();
    const measure::Result r = converge(
        [&] { CHECK(constants_mma(gpu.context.stream, tf32, blocks, rounds, out->get())); },
        nullptr, false);
    for (float x : out->host()) // exact: four elements per chain, each `rounds` sums of k ones
        if (x != 4.0f * CONSTANTS_CHAINS * (float)rounds * (float)k || spoil)
            fail("wrong: a sum of products of ones");
    const double warps = (double)blocks * CONSTANTS_THREADS / 32;
    return rate(r, warps * rounds * CONSTANTS_CHAINS * 2.0 * 16 * 8 * k);
}

double clock_of(const measure::Result &r)
{
    if (!(r.mhz > 0)) fail("the clock during the run is unknown");
    return r.mhz;
}

measure::Result mma_per_clock()
{
    const measure::Result r = mma_rate(false);
    const double clocks = clock_of(r) * 1e6;
    return in_terms(r, [=](double flops) { return flops / 2 / clocks / gpu.facts.sms; });
}

// The slope between two numbers of rounds, which cancels the fixed cost of a launch.
measure::Result slope(int few, int many, double per_round, const std::function<void(int)> &run)
{
    const measure::Result less = converge([&] { run(few); }, nullptr, false);
    const measure::Result more = converge([&] { run(many); }, nullptr, false);
    measure::Result r =
        in_terms(more, [&](double us) { return (us - less.median) / ((many - few) * per_round); });
    // Either time may be anywhere in its own interval.
    r.low = (more.low - less.high) / ((many - few) * per_round);
    r.high = (more.high - less.low) / ((many - few) * per_round);
    r.samples = std::min(less.samples, more.samples);
    return r;
}

// Converts microseconds to clocks of an SM.
measure::Result in_clocks(const measure::Result &r)
{
    const double mhz = clock_of(r);
    return in_terms(r, [=](double us) { return us * mhz; });
}

measure::Result mma_latency()
{
    if (gpu.facts.major < 8) throw Refused("tensor cores of sm_80 are not there");
    const int few = tiny ? 2 : 1000, many = 10 * few;
    auto out = device_alloc<float>(32);
    out->poison();
    const measure::Result r = slope(few, many, 1, [&](int rounds) {
        CHECK(constants_mma_chain(gpu.context.stream, rounds, out->get()));
    });
    for (float x : out->host())
        if (x != 4.0f * (float)many * 16 || spoil) fail("wrong: a sum of products of ones");
    return in_clocks(r);
}

measure::Result gemm_rate(Precision p)
{
    const Product square_one = {"square", false, false, square, square,
                                square,   ' ',   ' ',   ' ',    square};
    const int kept = sets;
    sets = 1;
    auto c = product_case(square_one, p, false);
    sets = kept;
    Verdict v = verdict_of(*c);
    if (!v.fault.empty()) fail(v.fault);
    const measure::Result r = converge([&] { CHECK(c->run(0)); }, nullptr, false);
    gpu.precision(Precision::F32);
    return rate(r, c->flops);
}

// Returns the elements `at` of the product of two (n,n) matrices with the error of tensor cores:
// the sum of each 16 terms is added to a float32 sum, which is truncated. These errors add up,
// while those of a loop that rounds mostly cancel. n must be a multiple of 16.
std::vector<float> truncated_elements(int64_t n, const std::vector<float> &a,
                                      const std::vector<float> &b, const std::vector<int64_t> &at)
{
    std::vector<float> sums;
    for (int64_t e : at) {
        float sum = 0;
        for (int64_t k = 0; k < n; k += 16) {
            double exact = sum;
            for (int64_t j = k; j < k + 16; j++)
                exact += (double)a[(size_t)(e / n * n + j)] * (double)b[(size_t)(j * n + e % n)];
            sum = (float)exact;
            if (std::fabs((double)sum) > std::fabs(exact)) sum = std::nextafter(sum, 0.0f);
        }
        sums.push_back(sum);
    }
    return sums;
}

// The rate of cuBLAS with bf16 or f16 operands and float32 sums and result.
measure::Result gemm_rate_16(Precision p)
{
    const cudaDataType type = p == Precision::F16 ? CUDA_R_16F : CUDA_R_16BF;
    const int64_t n = square;
    const float one = 1, zero = 0;
    std::vector<float> a = drawn(1, n * n, 0.5), b = drawn(2, n * n, 0.5);
    const auto half = [&](std::vector<float> &from) {
        oracle::round_all(&from, p); // the values are exact in 16 bits from here on
        std::vector<uint16_t> to(from.size());
        for (size_t i = 0; i < from.size(); i++) {
            const __half h = __float2half(from[i]);
            const __nv_bfloat16 bf = __float2bfloat16(from[i]);
            std::memcpy(&to[i], p == Precision::F16 ? (const void *)&h : (const void *)&bf, 2);
        }
        return device_copy(to);
    };
    auto a16 = half(a), b16 = half(b);
    auto out = device_alloc<float>(n * n);
    const auto run = [&] { // cuBLAS is column-major: C = A B becomes C' = B' A'
        CHECK(cublasGemmEx(gpu.context.blas, CUBLAS_OP_N, CUBLAS_OP_N, (int)n, (int)n, (int)n, &one,
                           b16->get(), type, (int)n, a16->get(), type, (int)n, &zero, out->get(),
                           CUDA_R_32F, (int)n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    };
    out->poison();
    const measure::Result r = converge(run, nullptr, false);
    std::vector<int64_t> at;
    for (int64_t e = 0; e < 509; e++) at.push_back((int64_t)((double)e / 509 * (double)(n * n)));
    std::vector<float> all = out->host(), ours;
    for (int64_t i : at) ours.push_back(all[(size_t)i]);
    Verdict v =
        compare("C", ours,
                oracle::product_elements<double>(false, false, n, n, n, a, b, at, Precision::F32),
                truncated_elements(n, a, b, at), 2);
    if (!v.fault.empty()) fail(v.fault);
    return rate(r, 2.0 * (double)n * (double)n * (double)n);
}

measure::Result launch_gap(bool graphed)
{
    const int n = tiny ? 10 : 1000;
    const auto many = [&] {
        for (int i = 0; i < n; i++) CHECK(constants_empty(gpu.context.stream));
    };
    many();
    gpu.wait();
    const auto each = [=](const measure::Result &r) {
        return in_terms(r, [=](double us) { return us / n; });
    };
    if (!graphed) return each(converge(many, nullptr, false));
    Graph graph(many);
    return each(converge([&] { graph.replay(); }, nullptr, false));
}

measure::Result barrier_cost(int kind, int blocks)
{
    const int few = tiny ? 2 : 200, many = 10 * few;
    auto state = device_alloc<unsigned>(2 + blocks), slots = device_alloc<unsigned>(2 * blocks);
    auto errors = device_copy(std::vector<unsigned>(1));
    const measure::Result r = slope(few, many, 1, [&](int rounds) {
        CHECK(cudaMemsetAsync(state->get(), 0, state->bytes(), gpu.context.stream));
        CHECK(constants_barrier(gpu.context.stream, kind, blocks, rounds, state->get(),
                                slots->get(), gpu.fault->get(), errors->get()));
    });
    if (errors->host()[0] || spoil)
        fail("wrong: a block read an old value after the barrier, or timed out");
    return r;
}

measure::Result hop_cost()
{
    const int few = tiny ? 5 : 500, many = 10 * few;
    auto flags = device_alloc<unsigned>(64), payload = device_alloc<unsigned>(2),
         errors = device_copy(std::vector<unsigned>(1));
    const measure::Result r = slope(few, many, 2, [&](int rounds) {
        CHECK(cudaMemsetAsync(flags->get(), 0, flags->bytes(), gpu.context.stream));
        CHECK(constants_hops(gpu.context.stream, rounds, flags->get(), payload->get(),
                             errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a hop returned an old value, or timed out");
    return r;
}

// Subtracts the time of the barriers from a time; either may be anywhere in its own interval.
measure::Result less(const measure::Result &all, const measure::Result &bare)
{
    measure::Result r = in_terms(all, [&](double us) { return us - bare.median; });
    r.low -= (bare.high - bare.low) / 2, r.high += (bare.high - bare.low) / 2;
    return r;
}

// In a round one block writes the words, all blocks wait at a barrier, and all read the words. The
// result is the time of the reads: that of the same rounds without them is subtracted.
measure::Result broadcast_cost(int words, int blocks)
{
    const int few = tiny ? 2 : 200, many = 10 * few;
    auto state = device_alloc<unsigned>(2 + blocks), errors = device_copy(std::vector<unsigned>(1));
    auto buffer = device_alloc<unsigned>(2 * words);
    const auto measured = [&](bool read) {
        return slope(few, many, 1, [&](int rounds) {
            CHECK(cudaMemsetAsync(state->get(), 0, state->bytes(), gpu.context.stream));
            CHECK(constants_broadcast(gpu.context.stream, blocks, rounds, words, read, state->get(),
                                      buffer->get(), gpu.fault->get(), errors->get()));
        });
    };
    const measure::Result r = less(measured(true), measured(false));
    if (errors->host()[0] || spoil)
        fail("wrong: a block read an old word behind the barrier, or waited in vain");
    return r;
}

// ---- clusters: one block per SM, as in persistent kernels ----

void need_clusters()
{
    if (!gpu.facts.clusters) throw Refused("clusters need sm_90");
}

int clusters_of(int size, size_t shared)
{
    int n = 0;
    need_clusters();
    CHECK(constants_clusters(&n, size, shared));
    if (!n)
        throw Refused("no cluster of " + std::to_string(size) + " such blocks fits on this GPU");
    return n;
}

measure::Result cluster_count(int size, size_t shared)
{
    measure::Result r;
    r.samples = 1, r.median = r.least = r.p10 = r.p90 = r.low = r.high = clusters_of(size, shared);
    return r;
}

struct Grid {
    int clusters, size;
    size_t shared = gpu.facts.shared_per_block_most;
    explicit Grid(int size) : size(size) { clusters = tiny ? 1 : clusters_of(size, shared); }
};

measure::Result cluster_barrier_cost(int size)
{
    need_clusters();
    const Grid g(size);
    const int few = tiny ? 2 : 320, many = (tiny ? 3 : 10) * few;
    auto errors = device_copy(std::vector<unsigned>(1));
    const measure::Result r = slope(few, many, 1, [&](int rounds) {
        CHECK(constants_cluster_barrier(gpu.context.stream, g.clusters, size, g.shared, rounds,
                                        errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a block read an old word after the barrier");
    return r;
}

measure::Result cluster_hop_cost()
{
    need_clusters();
    const int size = 8, few = tiny ? 2 : 100, many = (tiny ? 3 : 10) * few;
    auto errors = device_copy(std::vector<unsigned>(1));
    const measure::Result r = slope(few, many, size, [&](int rounds) {
        CHECK(constants_cluster_hops(gpu.context.stream, size, rounds, errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a hop returned an old word, or timed out");
    return r;
}

measure::Result cluster_latency()
{
    need_clusters();
    const int size = 8, few = tiny ? 2 : 500, many = (tiny ? 3 : 10) * few;
    auto errors = device_copy(std::vector<unsigned>(1));
    const measure::Result r = slope(few, many, 1, [&](int rounds) {
        CHECK(constants_cluster_loads(gpu.context.stream, size, rounds, errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a chain of loads ended at the wrong link");
    return in_clocks(r);
}

// Returns the 4-byte words of `kilobytes` KB, rounded down so that a block's part is a multiple of
// 16 bytes.
int gather_words(int kilobytes, int size)
{
    return kilobytes * (tiny ? 64 : 256) / (4 * size) * 4 * size;
}

measure::Result gather_cost(int kind, int size, int kilobytes)
{
    need_clusters();
    const Grid g(size);
    const int few = tiny ? 2 : 160, many = (tiny ? 3 : 10) * few;
    auto errors = device_copy(std::vector<unsigned>(1));
    const measure::Result r = slope(few, many, 1, [&](int rounds) {
        CHECK(constants_gather(gpu.context.stream, kind, g.clusters, size, g.shared, rounds,
                               gather_words(kilobytes, size), errors->get()));
    });
    if (errors->host()[0] || spoil) fail("wrong: a word did not arrive");
    return r;
}

// The rate at which a block receives data from others; its own part stays in its own shared memory.
measure::Result dsmem_rate()
{
    const int size = 8;
    const measure::Result one = gather_cost(GATHER_STORES, size, 1),
                          twelve = gather_cost(GATHER_STORES, size, 12);
    if (!(one.high < twelve.low))
        throw Refused("12 KB took no longer than 1 KB, so there is no rate");
    const double bytes = 4.0 * (gather_words(12, size) - gather_words(1, size)) * (size - 1) / size,
                 mhz = clock_of(twelve);
    measure::Result r = in_terms(
        twelve, [=](double us) { return bytes / (std::max(us - one.median, 1e-9) * mhz); });
    r.low = bytes / ((twelve.high - one.low) * mhz),
    r.high = bytes / ((twelve.low - one.high) * mhz);
    r.samples = std::min(one.samples, twelve.samples);
    return r;
}

// Measures the same as broadcast_cost, by bulk copies, in which each cluster reads each word once.
measure::Result broadcast_bulk_cost(int words, int size)
{
    need_clusters();
    const Grid g(size);
    const int few = tiny ? 2 : 200, many = (tiny ? 3 : 10) * few, blocks = g.clusters * size;
    auto state = device_alloc<unsigned>(2 + blocks), errors = device_copy(std::vector<unsigned>(1));
    auto buffer = device_alloc<unsigned>(2 * words);
    const auto measured = [&](bool read) {
        return slope(few, many, 1, [&](int rounds) {
            CHECK(cudaMemsetAsync(state->get(), 0, state->bytes(), gpu.context.stream));
            CHECK(constants_broadcast_bulk(gpu.context.stream, g.clusters, size, g.shared, rounds,
                                           words, read, state->get(), buffer->get(),
                                           gpu.fault->get(), errors->get()));
        });
    };
    const measure::Result r = less(measured(true), measured(false));
    if (errors->host()[0] || spoil)
        fail("wrong: a block read an old word behind the barrier, or waited in vain");
    return r;
}

} // namespace

int constants(const char *path)
{
    Constants c(path);
    int blocks = 0;
    CHECK(constants_resident(&blocks));
    if (tiny) blocks = std::min(blocks, 5);
    c.measure("copy", "B/s", "device to device by the runtime, 2 GiB, bytes read and written",
              [] { return copy_rate(true); });
    c.measure("copy_kernel", "B/s", "the same by a kernel, 16 bytes per thread",
              [] { return copy_rate(false); });
    c.measure("flag_hop", "us", "store.release on one SM to load.acquire on another",
              [] { return hop_cost(); });
    const struct {
        const char *name, *what;
    } barriers[CONSTANTS_BARRIERS] = {
        {"barrier_counter",
         "grid barrier, a block per SM: one counter, add with release, wait with acquire"},
        {"barrier_flags", "grid barrier, a block per SM: a flag per block, gathered by block 0"},
        {"barrier_cg", "cooperative groups' grid.sync, a block per SM"},
        {"barrier_plstm",
         "kernels/grid_barrier.cuh, a block per SM: a word per block, which every block reads"}};
    for (int kind = 0; kind < CONSTANTS_BARRIERS; kind++)
        c.measure(barriers[kind].name, "us", barriers[kind].what,
                  [=] { return barrier_cost(kind, blocks); });
    c.measure("launch_gap", "us", "from one empty kernel to the next, launched one by one",
              [] { return launch_gap(false); });
    c.measure("graph_node_gap", "us", "the same as nodes of a graph, one after another",
              [] { return launch_gap(true); });
    c.measure("fma_f32", "FLOP/s", "float32 multiply-adds in registers", [] { return fma_rate(); });
    c.measure("gemm_f32", "FLOP/s",
              "float32 product of 8192 cubed by cuBLAS, TF32 off, random data",
              [] { return gemm_rate(Precision::F32); });
    c.measure("gemm_tf32", "FLOP/s", "the same in TF32", [] { return gemm_rate(Precision::TF32); });
    c.measure("gemm_bf16", "FLOP/s", "cublasGemmEx of 8192 cubed, bf16 in, float32 sums and result",
              [] { return gemm_rate_16(Precision::BF16); });
    c.measure("gemm_f16", "FLOP/s", "the same of float16",
              [] { return gemm_rate_16(Precision::F16); });
    c.measure("mma_bf16", "FLOP/s", "mma.sync of bf16 from registers, products of ones",
              [] { return mma_rate(false); });
    c.measure("mma_tf32", "FLOP/s", "mma.sync of TF32 from registers, products of ones",
              [] { return mma_rate(true); });
    c.measure("mma_rate", "1/clk/SM", "bf16 multiply-adds per clock of an SM by mma.sync",
              [] { return mma_per_clock(); });
    c.measure("mma_latency", "clk", "from one mma.sync of bf16 to the next that adds to it",
              [] { return mma_latency(); });
    for (int size : {2, 4, 8, 10, 13, 15, 16}) {
        const std::string of = "clusters of " + std::to_string(size),
                          name = "clusters_" + std::to_string(size);
        c.measure(name, "count", of + " small blocks resident at once",
                  [=] { return cluster_count(size, 64); });
        c.measure(name + "_full", "count",
                  of + " blocks resident at once, each with an SM's shared memory",
                  [=] { return cluster_count(size, gpu.facts.shared_per_block_most); });
    }
    for (int size : {2, 4, 8, 16})
        c.measure("cluster_barrier_" + std::to_string(size), "us",
                  "barrier.cluster of " + std::to_string(size) + " blocks, in all clusters at once",
                  [=] { return cluster_barrier_cost(size); });
    c.measure(
        "cluster_hop", "us",
        "an asynchronous store to the next block of a cluster of 8, until its mbarrier completes",
        [] { return cluster_hop_cost(); });
    c.measure("cluster_latency", "clk",
              "a load from the shared memory of the next block of a cluster of 8",
              [] { return cluster_latency(); });
    c.measure("dsmem_rate", "B/clk/SM",
              "what a block receives in a cluster of 8, from 1 to 12 KB all-gathered",
              [] { return dsmem_rate(); });
    const auto gather = [&](int kind, int size, int kilobytes) {
        static const struct {
            const char *name, *what;
        } kinds[GATHERS] = {{"gather_", "asynchronous stores of 16 bytes"},
                            {"gather_word_", "asynchronous stores of 4 bytes"},
                            {"gather_bulk_", "bulk copies"}};
        const std::string of = std::to_string(size), kb = std::to_string(kilobytes);
        c.measure(kinds[kind].name + of + "_" + kb + "k", "us",
                  "all-gather of " + kb + " KB in clusters of " + of + ", " + kinds[kind].what,
                  [=] { return gather_cost(kind, size, kilobytes); });
    };
    for (int size : {8, 16})
        for (int kilobytes : {1, 4, 12})
            for (int kind : {GATHER_STORES, GATHER_BULK}) gather(kind, size, kilobytes);
    // The cluster sizes of plans, with stores of 4 bytes for comparison.
    gather(GATHER_WORDS, 8, 4);
    for (int size : {10, 13, 15})
        for (int kind : {GATHER_STORES, GATHER_WORDS}) gather(kind, size, 4);
    for (int kilobytes : {8, 16, 32, 60}) {
        const std::string size = std::to_string(kilobytes), tail = "_" + size + "k";
        const int words = kilobytes * (tiny ? 16 : 256);
        c.measure("l2_broadcast" + tail, "us",
                  "every SM reads the same " + size +
                      " KB, written by one block, from L2, without the barrier in between",
                  [=] { return broadcast_cost(words, blocks); });
        c.measure("l2_bulk" + tail, "us",
                  "the same by a bulk copy into the shared memory of each SM",
                  [=] { return broadcast_bulk_cost(words, 1); });
        for (int cluster : {2, 4})
            c.measure("l2_multicast_" + std::to_string(cluster) + tail, "us",
                      "the same, read once for a cluster of " + std::to_string(cluster),
                      [=] { return broadcast_bulk_cost(words, cluster); });
    }
    return c.end();
}

} // namespace bench_gpu
