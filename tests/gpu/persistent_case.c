/* persistent_case forward|backward: one time loop at one small shape on the emulator, and what came of it: the program into
 * whose kernels test_persistent_faults.py plants mistakes. Says one line and exits with
 *
 *     0 as it should be    1 wrong values    2 a block gave up waiting    3 the emulator reports a fault
 *
 * Each pass is launched three times, from barrier words that pass 2^32 on the way, in case_plan's plan and with masks on both
 * sites, so that every stage has something to do. What the precision rounds, the reference rounds, too.
 * EMU_SEED makes the schedule random, as everywhere. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL   double
#define SUFFIX f64
#include "tests/support/oracle.h"

#include "emu.h"
#include "persistent_case.h"

enum {
    LAUNCHES = 3,
    CARRIED_MOST = CASE_B_MOST * CASE_H_MOST,
    N_MOST = CASE_T_MOST * CARRIED_MOST,
    WEIGHTS_MOST = 4 * CASE_H_MOST * CASE_H_MOST
};
static int T, B, H, N, CARRIED;

static const uint64_t seed = 77;
static const double keep = 0.5;
static const int sites = 5, step = 7;

static void check(const char *what, cudaError_t error)
{
    if (!error) return;
    if (emu_report()[0]) printf("emulator: %.*s\n", (int)strcspn(emu_report(), "\n"), emu_report());
    else printf("%s: %s\n", what, cudaGetErrorString(error));
    exit(3);
}

/* ---- memory and values ---- */

static void *device(const void *from, size_t bytes)
{
    void *to = NULL;
    check("cudaMalloc", cudaMalloc(&to, bytes));
    if (from) check("cudaMemcpy", cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    return to;
}

static void upload(void *to, const double *from, int n)
{
    static float x[4 * N_MOST];
    for (int i = 0; i < n; i++) x[i] = (float)from[i];
    check("cudaMemcpy", cudaMemcpy(to, x, (size_t)n * sizeof *x, cudaMemcpyHostToDevice));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
}

static float *uploaded(const double *from, int n)
{
    float *to = device(NULL, (size_t)n * sizeof *to);
    upload(to, from, n);
    return to;
}

/* Float32 numbers, so that both sides compute with the same. */
static void draw(uint32_t subsequence, double scale, double *x, int n)
{
    float four[4];
    for (int i = 0; i < n; i++) {
        if (i % 4 == 0) init_quad(seed, subsequence, (uint64_t)i / 4, scale, four);
        x[i] = four[i % 4];
    }
}

/* Raises *worst to the largest difference; a NaN is larger than all. */
static void compare(double *worst, const float *ours, const double *exact, int n)
{
    static float x[4 * N_MOST];
    check("cudaMemcpy", cudaMemcpy(x, ours, (size_t)n * sizeof *x, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n && !isnan(*worst); i++)
        if (!(fabs((double)x[i] - exact[i]) <= *worst)) *worst = fabs((double)x[i] - exact[i]);
}

/* ---- launches ---- */

static LstmLaunch launch_by(const LstmPlan *plan)
{
    char *zeros = calloc(1, plan->scratch_bytes);
    uint32_t *words = (uint32_t *)(zeros + plan->scratch_bytes) - plan->blocks;
    for (int i = 0; i < plan->blocks; i++) words[i] = 0u - (uint32_t)(T - 1) - 2;
    LstmLaunch launch = {plan, device(zeros, plan->scratch_bytes), 1 << 16};
    free(zeros);
    return launch;
}

static MaskSite site_of(const StepState *state, int site)
{
    return (MaskSite){state, seed, mask_bound(keep), (float)(1 / keep), sites, site, 1};
}

int main(int argc, char **argv)
{
    static double w[WEIGHTS_MOST], rounded[WEIGHTS_MOST], packed[WEIGHTS_MOST], b_ih[4 * CASE_H_MOST],
        b_hh[4 * CASE_H_MOST], x_proj[4 * N_MOST], gates[4 * N_MOST], h[N_MOST + CARRIED_MOST],
        c[N_MOST + CARRIED_MOST], y[N_MOST], h_masked[N_MOST], dy[N_MOST], dgates[4 * N_MOST],
        carry[2 * CARRIED_MOST];
    LstmShape shape = case_shape();
    T = (int)shape.T, B = (int)shape.B, H = (int)shape.H, N = T * B * H, CARRIED = B * H;
    int backward = argc == 2 && !strcmp(argv[1], "backward");
    if (argc != 2 || (!backward && strcmp(argv[1], "forward"))) return 64;
    OracleMask output = {mask_key(seed, step, sites, 1, keep), keep, 1},
               recurrent = {mask_key(seed, step, sites, 3, keep), keep, 1};
    draw(1, 0.4, w, 4 * H * H), draw(2, 0.5, b_ih, 4 * H), draw(3, 0.5, b_hh, 4 * H);
    draw(4, 2, x_proj, 4 * N), draw(5, 1, h, CARRIED), draw(6, 2, c, CARRIED), draw(7, 1, dy, N);
    for (int k = 0; k < H; k++)
        for (int j = 0; j < 4 * H; j++) packed[(k * H + j % H) * 4 + j / H] = w[j * H + k];
    for (int i = 0; i < 4 * H * H; i++) rounded[i] = precision_round(shape.precision, (float)w[i]);
    oracle_operand = oracle_round(shape.precision);
    memcpy(gates, x_proj, sizeof gates);
    forward_f64(T, B, H, rounded, b_ih, b_hh, gates, h, c, y, h_masked, &output, &recurrent);
    memcpy(dgates, gates, sizeof gates);
    backward_f64(T, B, H, rounded, c, dy, dgates, carry, &output, &recurrent);

    emu_device_select("H200"); /* copies from global to shared memory land at the wait */
    emu_quiet(1);
    StepState s = {.step = step};
    StepState *state = device(&s, sizeof s);
    FaultRecord none = {0}, fault;
    LstmContext context = {.fault = device(&none, sizeof none)};
    LstmPlan plan = case_plan(backward);
    LstmForward f = {.shape = shape,
                     .w_hh = uploaded(w, 4 * H * H),
                     .w_packed = uploaded(packed, 4 * H * H),
                     .b_ih = uploaded(b_ih, 4 * H),
                     .b_hh = uploaded(b_hh, 4 * H),
                     .gates = uploaded(x_proj, 4 * N),
                     .h = uploaded(h, N + CARRIED),
                     .c = uploaded(c, N + CARRIED),
                     .y = device(NULL, (size_t)N * sizeof(float)),
                     .h_masked = device(NULL, (size_t)N * sizeof(float)),
                     .output = site_of(state, 1),
                     .recurrent = site_of(state, 3),
                     .launch = launch_by(&plan)};
    LstmBackward b = {.shape = f.shape,
                      .w_hh = f.w_hh,
                      .h = f.h,
                      .c = f.c,
                      .dy = uploaded(dy, N),
                      .gates = f.gates,
                      .output = f.output,
                      .recurrent = f.recurrent,
                      .launch = f.launch};
    check("the stream", cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking));
    check("prepare", case_prepare());
    double worst = 0;
    for (int i = 0; i < LAUNCHES; i++) {
        upload(f.gates, backward ? gates : x_proj, 4 * N);
        check("the launch", backward ? case_backward(&context, &b) : case_forward(&context, &f));
        check("the pass", cudaStreamSynchronize(context.stream));
        check("cudaMemcpy", cudaMemcpy(&fault, context.fault, sizeof fault, cudaMemcpyDeviceToHost));
        if (fault.set) {
            printf("launch %d: block %u gave up at step %u, missing %x\n", i, fault.block, fault.step,
                   fault.missing[0]);
            return 2;
        }
        compare(&worst, f.gates, backward ? dgates : gates, 4 * N);
        if (!backward) compare(&worst, f.h, h, N + CARRIED), compare(&worst, f.y, y, N);
        /* float32 errs some 1e-6 here; of two sums that err otherwise one may round to the next of 2^-11. */
        if (!(worst < (shape.precision == PRECISION_F32 ? 1e-4 : 4e-3))) {
            printf("launch %d: wrong by %g\n", i, worst);
            return 1;
        }
    }
    printf("right within %.1g\n", worst);
    return 0;
}
