// bench_cpu: times one whole training minibatch of the cpu backend (embedding to update), beside
// the rate of its matrix products with OpenBLAS, whichever library plstm uses for them.
//
//   step/cpu/f32/H:200/B:20/T:20             as the trainer runs it, with all threads
//   step/cpu/f32/H:200/B:20/T:20/threads:1   the same with one thread
//   sgemm/step/H:200/B:20/T:20               only the products of that minibatch, by cblas_sgemm
//   sgemm/square/n:2048                      the highest rate of sgemm on this machine
//
// The counters are words/s; FLOP/s, which counts the multiplications and additions of the matrix
// products only, 6 * T * B * (8 * L * H * H + V * H) per step; of_square and of_products, that rate
// as a share of the two sgemm rows (their best repetition in this run, with the same thread count);
// and first_nats, the cost per word of the first minibatch. With such small weights first_nats is
// slightly above log V, and without masks it equals torch_twin.py's. A row whose first minibatch is
// far from log V has an error instead of a time.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <omp.h>

extern "C" {
#include <cblas.h>

#include "host/backend/backend.h"
#include "host/backend/blas.h"
#include "host/backend/sgemm.h"
#include "host/backend/tile.h"
#include "host/train/model.h"
#include "host/store/params.h"
#include "host/base/version.h"
#include "kernels/philox.h"
}

namespace
{

struct Workload {
    int64_t H, B, T;
    double keep, init, clip;
};

// The paper's three models.
const Workload workloads[] = {
    {200, 20, 20, 1.0, 0.1, 5},
    {650, 20, 35, 0.5, 0.05, 5},
    {1500, 20, 35, 0.35, 0.04, 10},
};
const int64_t L = 2, V = 10000, square = 2048, windows = 16;
const uint64_t seed = 1, ids_stream = uint64_t{1} << 40;

std::map<std::string, double> best_rate; // FLOP/s of a row, the best repetition so far

std::string shape_name(const Workload &w)
{
    return "H:" + std::to_string(w.H) + "/B:" + std::to_string(w.B) + "/T:" + std::to_string(w.T);
}

std::string threads_name(int threads)
{
    return threads == backend_threads() ? "" : "/threads:" + std::to_string(threads);
}

double step_flops(const Workload &w)
{
    return 6.0 * (double)(w.T * w.B) * (8.0 * L * w.H * w.H + (double)V * w.H);
}

// Draws ids with Zipf's distribution, as in text: they are log-uniform.
std::vector<int32_t> draw_ids(int64_t n)
{
    std::vector<int32_t> ids;
    for (int64_t e = 0; e < n; e++) {
        double u = philox_block(seed, ids_stream, (uint64_t)e / 4).word[e % 4] * 0x1p-32;
        ids.push_back((int32_t)std::min((double)V - 1, std::pow(V + 1.0, u) - 1));
    }
    return ids;
}

// ---- one training minibatch ----

// A model with its initial weights, which is kept from one repetition to the next.
class Trainee
{
  public:
    Trainee(const Workload &w, int threads)
        : workload(w), threads(threads), ids(draw_ids(windows * (w.T + 1) * w.B))
    {
        BackendConfig config = {};
        config.shape = model_shape_of_words(V, w.H, L);
        config.T = w.T, config.B = w.B, config.train = true, config.threads = threads;
        config.keep = w.keep, config.sites = w.keep < 1 ? SITES_NONRECURRENT : SITES_NONE,
        config.seed = seed;
        config.kernel = "auto";
        const BackendOps *ops = nullptr;
        Params p;
        if (backend_find("cpu", &ops, &fault)) return;
        if (model_open(&model, ops, &config, &fault)) return;
        opened = true;
        if (params_init(&p, &config.shape)) {
            std::snprintf(fault.text, sizeof fault.text, "out of memory");
            return;
        }
        params_draw(&p, seed, w.init);
        int code = model_set_params(&model, &p, &fault);
        params_free(&p);
        if (code || step(&first)) return;
        first.nats /= (double)(w.T * w.B);
        if (!(std::fabs(first.nats - std::log((double)V)) < 0.2)) {
            std::snprintf(fault.text, sizeof fault.text,
                          "the first minibatch costs %.4f nats per word, log V is %.4f", first.nats,
                          std::log((double)V));
            return;
        }
        ready = true;
    }
    ~Trainee()
    {
        if (opened) model_close(&model);
    }
    Trainee(const Trainee &) = delete;
    Trainee &operator=(const Trainee &) = delete;

    int step(WindowResult *r)
    {
        int64_t tokens = workload.T * workload.B;
        const int32_t *x = ids.data() + done % windows * (tokens + workload.B);
        Window w = {};
        w.batch = batch_of_tokens(workload.T, workload.B, x, x + workload.B), w.train = true,
        w.step = done++;
        return model_train_step(&model, &w, 1.0, workload.clip, r, &fault);
    }
    bool is(const Workload *w, int n) const { return w->H == workload.H && n == threads; }

    Error fault = {};
    WindowResult first = {};
    bool ready = false;

  private:
    Workload workload;
    int threads;
    std::vector<int32_t> ids;
    Model model = {};
    bool opened = false;
    int64_t done = 0;
};

std::unique_ptr<Trainee> trainee; // only one at a time, since the large model takes gigabytes

void bench_step(benchmark::State &state, const Workload *w, int threads)
{
    if (!trainee || !trainee->is(w, threads)) {
        trainee.reset();
        trainee = std::make_unique<Trainee>(*w, threads);
    }
    if (!trainee->ready) return state.SkipWithError(trainee->fault.text);
    WindowResult r = {};
    double start = omp_get_wtime();
    for (auto _ : state)
        if (trainee->step(&r)) return state.SkipWithError(trainee->fault.text);
    double rate = step_flops(*w) * (double)state.iterations() / (omp_get_wtime() - start);
    if (!std::isfinite(r.nats)) return state.SkipWithError("the cost is no longer finite");
    state.counters["words/s"] = rate / step_flops(*w) * (double)(w->T * w->B);
    state.counters["FLOP/s"] = rate;
    state.counters["first_nats"] = trainee->first.nats;
    double of_square = best_rate["sgemm/square" + threads_name(threads)];
    double of_products = best_rate["sgemm/step/" + shape_name(*w) + threads_name(threads)];
    if (of_square > 0) state.counters["of_square"] = rate / of_square;
    if (of_products > 0) state.counters["of_products"] = rate / of_products;
}

// ---- the matrix products alone ----

struct Product {
    int64_t times, m, k, n;
    CBLAS_TRANSPOSE a, b;
};

std::vector<Product> products(const Workload &w)
{
    const int64_t N = w.T * w.B, H = w.H, B = w.B;
    return {
        {L, N, H, 4 * H, CblasNoTrans, CblasTrans},         // x_proj = x W_ih'
        {L * w.T, B, H, 4 * H, CblasNoTrans, CblasTrans},   // h_{t-1} W_hh', step by step
        {L * w.T, B, 4 * H, H, CblasNoTrans, CblasNoTrans}, // dgates_t W_hh, step by step
        {L, N, 4 * H, H, CblasNoTrans, CblasNoTrans},       // dx
        {2 * L, 4 * H, N, H, CblasTrans, CblasNoTrans},     // dW_ih and dW_hh
        {1, N, H, V, CblasNoTrans, CblasTrans},             // logits
        {1, N, V, H, CblasNoTrans, CblasNoTrans},           // dh
        {1, V, N, H, CblasTrans, CblasNoTrans},             // dW_dec
    };
}

void run_product(const Product &p, std::vector<float> &a, std::vector<float> &b,
                 std::vector<float> &c)
{
    a.resize(p.m * p.k, 0.5f), b.resize(p.k * p.n, 0.25f), c.resize(p.m * p.n);
    for (int64_t i = 0; i < p.times; i++)
        cblas_sgemm(CblasRowMajor, p.a, p.b, (int)p.m, (int)p.n, (int)p.k, 1, a.data(),
                    (int)(p.a == CblasTrans ? p.m : p.k), b.data(),
                    (int)(p.b == CblasTrans ? p.k : p.n), 0, c.data(), (int)p.n);
}

void bench_products(benchmark::State &state, const std::string &name,
                    const std::vector<Product> &list, int threads)
{
    std::vector<std::vector<float>> a(list.size()), b(list.size()), c(list.size());
    double flops = 0;
    omp_set_num_threads(threads);
    for (size_t i = 0; i < list.size(); i++) {
        flops += 2.0 * (double)(list[i].times * list[i].m) * (double)list[i].k * (double)list[i].n;
        run_product(list[i], a[i], b[i], c[i]);
    }
    double start = omp_get_wtime();
    for (auto _ : state)
        for (size_t i = 0; i < list.size(); i++) run_product(list[i], a[i], b[i], c[i]);
    double rate = flops * (double)state.iterations() / (omp_get_wtime() - start);
    state.counters["FLOP/s"] = rate;
    best_rate[name] = std::max(best_rate[name], rate);
}

void list_rows(int threads)
{
    const std::string suffix = threads_name(threads);
    const auto add_products = [&](const std::string &row, const std::string &key,
                                  const std::vector<Product> &list) {
        benchmark::RegisterBenchmark((row + suffix).c_str(), bench_products, key + suffix, list,
                                     threads)
            ->Unit(benchmark::kMillisecond);
    };
    add_products("sgemm/square/n:" + std::to_string(square), "sgemm/square",
                 {{1, square, square, square, CblasNoTrans, CblasNoTrans}});
    for (const Workload &w : workloads) {
        // This row would take minutes, and nobody trains this way.
        if (threads < backend_threads() && w.H > 650) continue;
        add_products("sgemm/step/" + shape_name(w), "sgemm/step/" + shape_name(w), products(w));
        benchmark::RegisterBenchmark(("step/cpu/f32/" + shape_name(w) + suffix).c_str(), bench_step,
                                     &w, threads)
            ->Unit(benchmark::kMillisecond);
    }
}

} // namespace

int main(int argc, char **argv)
{
    blas_ensure_core(argv, stderr);
    list_rows(backend_threads());
    if (backend_threads() > 1) list_rows(1);
    benchmark::AddCustomContext("threads", std::to_string(backend_threads()));
    benchmark::AddCustomContext("march", PLSTM_MARCH);
    benchmark::AddCustomContext("vector_floats", std::to_string(LANES));
    benchmark::AddCustomContext("products", sgemm_name());
    benchmark::AddCustomContext("blas", openblas_get_config());
    benchmark::AddCustomContext("commit", PLSTM_COMMIT);
    // Defaults that the command line may override. They keep the row names free of suffixes.
    std::string defaults[] = {"--benchmark_min_time=0.5", "--benchmark_repetitions=5"};
    std::vector<char *> arguments = {argv[0], defaults[0].data(), defaults[1].data()};
    arguments.insert(arguments.end(), argv + 1, argv + argc);
    argc = (int)arguments.size();
    arguments.push_back(nullptr);
    benchmark::Initialize(&argc, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(argc, arguments.data())) return 2;
    benchmark::RunSpecifiedBenchmarks();
    trainee.reset();
    benchmark::Shutdown();
    return 0;
}
