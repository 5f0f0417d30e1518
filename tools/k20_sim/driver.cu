/* driver: runs one kernel file of sm_35 in a simulated K20, with the planner's plan, and checks its
 * result against the loop in double.
 *
 *     driver T B H     the variable PLSTM_PLAN overrides the plan (host/plan/override.h)
 *
 * It is compiled once per kernel file, since the simulator takes 25 s to read a program of all
 * kernels, with -DSIM_FILE="kernels/fwd_reg.cu", -DSIM_VARIANT=reg and -DSIM_BACKWARD=0 or 1. If a
 * file runs the kernels of another one, -DSIM_ALSO names that file. The program prints the word SIM
 * and a JSON object:
 *
 *     plan, in_registers, in_shared, predicted_us   the plan, the shares of its weights that stay in
 *                                                   registers and in shared memory, and its
 *                                                   predicted time of a step in us
 *     error, loop_error                             the largest errors of the result and of the loop
 *                                                   in float, both against the loop in double
 *     fault                                         whether a barrier timed out
 *     stamps                                        for each block and barrier, the clock at
 *                                                   [computed, arrived, waits, met]
 *
 * The program calls the entry points that the variant's record (kernels/variants.c) would hold,
 * since a record itself refers to both passes' files. */
#include <cstdio>
#include <cstdlib>
#include <vector>

#if defined(SIM_BASELINE)
#include "sgemm.cuh"
#endif
#if defined(SIM_ALSO)
#include SIM_ALSO
#endif
#include SIM_FILE

extern "C" {
#include "host/plan/residency.h"
}
#include "tests/support/oracle_both.h"

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c)  JOIN_(a, b, c)
#define STRING_(a)     #a
#define STRING(a)      STRING_(a)

namespace
{

[[noreturn]] void fail(const char *what, const char *why)
{
    std::printf("SIM {\"failed\": \"%s: %s\"}\n", what, why);
    std::exit(1);
}

void must(cudaError_t error, const char *what)
{
    if (error != cudaSuccess) fail(what, cudaGetErrorString(error));
}

template <class T> T *on_device(const std::vector<T> &from)
{
    void *to = nullptr;
    must(cudaMalloc(&to, from.size() * sizeof(T)), "cudaMalloc");
    must(cudaMemcpy(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
         "cudaMemcpy");
    return (T *)to;
}

template <class T> std::vector<T> from_device(const T *from, size_t n)
{
    std::vector<T> to(n);
    must(cudaMemcpy(to.data(), from, n * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return to;
}

/* Returns n values, uniform in [-range, range). Any fixed sequence will do. */
std::vector<float> drawn(size_t n, float range)
{
    static uint32_t state = 12345;
    std::vector<float> v(n);
    for (float &x : v) {
        state = state * 1664525u + 1013904223u;
        x = range * ((float)(state >> 8) / 8388608.0f - 1.0f);
    }
    return v;
}

template <class T> std::vector<T> as(const std::vector<float> &v)
{
    return std::vector<T>(v.begin(), v.end());
}

template <class T> double distance(const std::vector<T> &a, const std::vector<double> &b)
{
    double most = 0;
    for (size_t i = 0; i < a.size(); i++) {
        double d = std::fabs((double)a[i] - b[i]);
        if (!(d <= most)) most = d; /* a NaN counts as the largest */
    }
    return most;
}

struct Problem {
    int64_t T, B, H;
    std::vector<float> w_hh, b_ih, b_hh, x_proj, h, c, dy;
};

struct Saved {
    std::vector<double> gates, h, c;
    std::vector<float> gates_f, h_f, c_f;
};

/* Computes the forward pass with the plain loops. */
Saved forward_loops(const Problem &p)
{
    const size_t n = (size_t)(p.T * p.B * p.H);
    OracleMask none = {};
    Saved s = {as<double>(p.x_proj), as<double>(p.h), as<double>(p.c), p.x_proj, p.h, p.c};
    std::vector<double> y(n), hm(n);
    std::vector<float> y_f(n), hm_f(n);
    forward_f64(p.T, p.B, p.H, as<double>(p.w_hh).data(), as<double>(p.b_ih).data(),
                as<double>(p.b_hh).data(), s.gates.data(), s.h.data(), s.c.data(), y.data(),
                hm.data(), &none, &none);
    forward_f32(p.T, p.B, p.H, p.w_hh.data(), p.b_ih.data(), p.b_hh.data(), s.gates_f.data(),
                s.h_f.data(), s.c_f.data(), y_f.data(), hm_f.data(), &none, &none);
    return s;
}

/* Returns w_hh as lstm_pack writes it, (H,H,4). */
[[maybe_unused]] std::vector<float> packed(const Problem &p)
{
    std::vector<float> w((size_t)(4 * p.H * p.H));
    for (int64_t k = 0; k < p.H; k++)
        for (int64_t u = 0; u < p.H; u++)
            for (int64_t g = 0; g < 4; g++)
                w[(size_t)((k * p.H + u) * 4 + g)] = p.w_hh[(size_t)((g * p.H + u) * p.H + k)];
    return w;
}

/* Returns the planner's launch, with zeroed scratch memory that is never freed. Sets *plan, unless
 * this is the baseline, and *predicted to the predicted time of a step in us, which for the baseline
 * includes its launches. */
LstmLaunch launch_of(const LstmShape &shape, LstmPlan *plan, double *predicted)
{
    LstmLaunch launch = {};
    Error e = {};
    CostConstants constants;
    const DeviceFacts *k20 = device_profile("K20");
    if (cost_constants(k20, NULL, &constants, &e)) fail("plan", e.text);
#if !defined(SIM_BASELINE)
    int variant = plan_kernel_find(STRING(SIM_VARIANT), sizeof STRING(SIM_VARIANT) - 1);
    if (variant < 0) fail("plan", "no variant " STRING(SIM_VARIANT));
    PlanOverride force;
    if (plan_override_env(&force, &e) || lstm_plan(k20, &shape, lstm_footprints[variant],
                                                   SIM_BACKWARD, &force, &constants, plan, &e))
        fail("plan", e.text);
    *predicted = plan_predict(&constants, k20, &shape, plan).step;
    launch.plan = plan;
    must(cudaMalloc(&launch.scratch, plan->scratch_bytes), "cudaMalloc");
    must(cudaMemset(launch.scratch, 0, plan->scratch_bytes), "cudaMemset");
#else
    (void)plan;
    *predicted = cost_predict_stepwise(&constants, k20, &shape, SIM_BACKWARD).step;
#endif
    return launch;
}

void print_record(const LstmPlan &plan, const LstmShape &shape, double predicted,
                  const FaultRecord *fault, double error, double loop)
{
    FaultRecord record = from_device(fault, 1)[0];
    char text[PLAN_TEXT] = "";
    CostBytes bytes = {};
#if !defined(SIM_BASELINE)
    plan_text(&plan, text, sizeof text);
    bytes = plan_bytes(device_profile("K20"), &shape, &plan);
    std::vector<unsigned> stamps(STAMP_BLOCKS * STAMP_STEPS * STAMPS);
    must(cudaMemcpyFromSymbol(stamps.data(), sim_stamps, stamps.size() * sizeof(unsigned)),
         "cudaMemcpyFromSymbol");
#else
    (void)plan, (void)shape;
#endif
    std::printf("\nSIM {\"plan\": \"%s\", \"in_registers\": %.4g, \"in_shared\": %.4g, "
                "\"predicted_us\": %.4g, \"error\": %.9g, \"loop_error\": %.9g, \"fault\": %u, "
                "\"stamps\": [",
                text, bytes.kept_registers, bytes.kept_shared, predicted, error, loop, record.set);
#if !defined(SIM_BASELINE)
    for (int b = 0; b < plan.replicas * plan.blocks && b < STAMP_BLOCKS; b++) {
        std::printf("%s[", b ? ", " : "");
        for (int t = 1;
             t < STAMP_STEPS && stamps[(size_t)(b * STAMP_STEPS + t) * STAMPS + STAMP_MET]; t++) {
            const unsigned *s = &stamps[(size_t)(b * STAMP_STEPS + t) * STAMPS];
            std::printf("%s[%u, %u, %u, %u]", t > 1 ? ", " : "", s[0], s[1], s[2], s[3]);
        }
        std::printf("]");
    }
#endif
    std::printf("]}\n");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 4) return std::fprintf(stderr, "usage: driver T B H\n"), 2;
    Problem p = {
        std::atoll(argv[1]), std::atoll(argv[2]), std::atoll(argv[3]), {}, {}, {}, {}, {}, {}, {}};
    const int64_t T = p.T, B = p.B, H = p.H;
    const size_t row = (size_t)(B * H), all = (size_t)(T + 1) * row, steps = (size_t)T * row;
    p.w_hh = drawn(4 * (size_t)(H * H), 0.1f), p.b_ih = drawn(4 * (size_t)H, 0.1f),
    p.b_hh = drawn(4 * (size_t)H, 0.1f);
    p.x_proj = drawn(4 * steps, 1.0f), p.dy = drawn(steps, 0.1f);
    p.h = drawn(row, 0.5f), p.h.resize(all), p.c = drawn(row, 1.0f), p.c.resize(all);
    Saved s = forward_loops(p);

    LstmShape shape = {T, B, H, PRECISION_F32};
    LstmPlan plan = {};
    LstmContext context = {};
    context.fault = on_device(std::vector<FaultRecord>(1));
    double error, loop, predicted = 0;
    LstmLaunch launch = launch_of(shape, &plan, &predicted);
#if SIM_BACKWARD
    LstmBackward b = {};
    b.shape = shape, b.launch = launch, b.w_hh = on_device(p.w_hh);
    b.h = on_device(s.h_f), b.c = on_device(s.c_f), b.dy = on_device(p.dy),
    b.gates = on_device(s.gates_f);
    b.dh = on_device(std::vector<float>(row)), b.dc = on_device(std::vector<float>(row));
    must(JOIN(bwd_, SIM_VARIANT, _run)(&context, &b), "launch");
    must(cudaDeviceSynchronize(), "run");
    std::vector<double> gates = as<double>(s.gates_f), carry(2 * row);
    std::vector<float> gates_f = s.gates_f, carry_f(2 * row);
    OracleMask none = {};
    backward_f64(T, B, H, as<double>(p.w_hh).data(), as<double>(s.c_f).data(),
                 as<double>(p.dy).data(), gates.data(), carry.data(), &none, &none);
    backward_f32(T, B, H, p.w_hh.data(), s.c_f.data(), p.dy.data(), gates_f.data(), carry_f.data(),
                 &none, &none);
    error = distance(from_device(b.gates, 4 * steps), gates), loop = distance(gates_f, gates);
#else
    LstmForward f = {};
    f.shape = shape, f.launch = launch, f.w_hh = on_device(p.w_hh),
    f.w_packed = on_device(packed(p));
    f.b_ih = on_device(p.b_ih), f.b_hh = on_device(p.b_hh);
    f.gates = on_device(p.x_proj), f.h = on_device(p.h), f.c = on_device(p.c);
    must(JOIN(fwd_, SIM_VARIANT, _run)(&context, &f), "launch");
    must(cudaDeviceSynchronize(), "run");
    error = std::fmax(
        std::fmax(distance(from_device(f.h, all), s.h), distance(from_device(f.c, all), s.c)),
        distance(from_device(f.gates, 4 * steps), s.gates));
    loop = std::fmax(std::fmax(distance(s.h_f, s.h), distance(s.c_f, s.c)),
                     distance(s.gates_f, s.gates));
#endif
    print_record(plan, shape, predicted, context.fault, error, loop);
    return 0;
}
