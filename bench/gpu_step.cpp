// gpu_step: times a training minibatch, embedding to update, as the trainer runs it.
#include "gpu.h"

#include <algorithm>
#include <chrono>
#include <map>

extern "C" {
#include "host/backend/backend.h"
#include "host/data/batcher.h"
#include "host/train/model.h"
#include "host/store/params.h"
}

namespace bench_gpu
{

namespace
{

class Trainee
{
  public:
    Trainee(const char *backend, const Workload &w, LstmPrecision precision, const char *kernel,
            bool eager)
        : w(w)
    {
        BackendConfig config = {};
        config.shape = model_shape_of_words(V, w.H, L);
        config.T = w.T, config.B = w.B, config.train = true, config.threads = backend_threads();
        config.keep = w.keep, config.sites = w.keep < 1 ? SITES_NONRECURRENT : SITES_NONE,
        config.seed = seed;
        config.kernel = kernel, config.precision = precision, config.eager = eager;
        Params p;
        ids = drawn_ids(99, windows * w.T * w.B + w.B);
        if (backend_find(backend, &ops, &e)) fail(e.text);
        const int code_open = model_open(&model, ops, &config, &e);
        // The device cannot run the kernel, or the kernel does not support this precision.
        if (code_open == EXIT_NO_DEVICE || code_open == EXIT_USAGE) throw Refused(e.text);
        if (code_open) fail(e.text);
        opened = true;
        if (params_init(&p, &config.shape)) fail("out of memory");
        params_draw(&p, seed, w.init);
        int code = model_set_params(&model, &p, &e);
        params_free(&p);
        if (code || batcher_init(&batcher, ids.data(), (int64_t)ids.size(), w.B, w.T, "bench", &e))
            fail(e.text);
        stream = ops->train_stream != nullptr;
        if (stream &&
            ops->train_stream(model.backend, ids.data(), (int64_t)ids.size(), w.T, w.B, &e))
            fail(e.text);
        x.resize((size_t)(w.T * w.B)), y = x;
    }
    ~Trainee()
    {
        if (opened) model_close(&model);
    }
    Trainee(const Trainee &) = delete;
    Trainee &operator=(const Trainee &) = delete;

    std::string kernel() const
    {
        BackendInfo info;
        ops->info(model.backend, &info);
        return info.kernel ? info.kernel : "";
    }

    // Runs n minibatches to completion and returns the last result.
    WindowResult steps(int64_t n)
    {
        WindowResult r = {}, last = {};
        for (int64_t i = 0; i < n; i++, done++) {
            Window one = {};
            one.batch = batch_of_tokens(w.T, w.B, NULL, NULL), one.train = true, one.step = done,
            one.index = done % windows;
            if (!stream) {
                batcher_window(&batcher, one.index, x.data(), y.data());
                one.batch.ids = x.data(), one.batch.targets = y.data();
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
    const BackendOps *ops = nullptr;
    Error e = {};
    Model model = {};
    Batcher batcher = {};
    std::vector<int32_t> ids, x, y;
    bool opened = false, stream = false;
    int64_t done = 0;
};

} // namespace

StepTime time_step(const Workload &w, Precision p, const std::string &kernel, bool eager)
{
    // {shape: the result of the cpu backend's first minibatch}
    static std::map<std::string, WindowResult> cpu_first;
    if (p == Precision::F16) throw Refused("--precision must be f32, tf32 or bf16, not 'f16'");
    Trainee trainee("cuda", w, lstm_precision_of(p), kernel.c_str(), eager);
    const WindowResult first = trainee.steps(1);
    const std::string shape = shape_name(w);
    if (!cpu_first.count(shape))
        cpu_first[shape] = Trainee("cpu", w, PRECISION_F32, "auto", false).steps(1);
    const WindowResult right = cpu_first[shape];
    StepTime s;
    // Two float32 programs sum N * V terms in different orders; TF32 keeps 10 bits of each operand,
    // bfloat16 keeps 7.
    s.bound = p == Precision::F32 ? 2e-5 : p == Precision::TF32 ? 2e-3 : 2e-2;
    s.error = std::max(std::fabs(first.nats / right.nats - 1),
                       std::fabs(first.grad_norm / right.grad_norm - 1));
    if (spoil) s.error += 1;
    if (!(s.error <= s.bound))
        fail("wrong: the cost of the first minibatch differs from the cpu backend's");
    const auto run = [&](int64_t n) {
        const auto start = std::chrono::steady_clock::now();
        trainee.steps(n);
        return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
            .count();
    };
    run(tiny ? 2 : 5); // the first minibatch launches kernel by kernel, the second is captured
    const int64_t guess = tiny ? 1 : 10;
    // The time limit must leave room for enough samples for a confidence interval.
    const double seconds = std::min(step_seconds, rule.seconds / 12);
    s.steps_per_sample = 1 + (int64_t)(seconds * 1e6 / (run(guess) / (double)guess));
    s.time = converge_host([&] { return run(s.steps_per_sample) / (double)s.steps_per_sample; });
    s.flops = 6.0 * (double)(w.T * w.B) *
              (8.0 * (double)L * (double)(w.H * w.H) + (double)V * (double)w.H);
    s.kernel = trainee.kernel();
    return s;
}

} // namespace bench_gpu
