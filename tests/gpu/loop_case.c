/* loop_case forward|backward [words of the plan]: runs one time loop at one small shape on the
 * emulator. test_persistent_faults.py and test_cluster_faults.py plant faults in its kernels. It
 * prints one line and exits with
 *
 *     0  if the values are right
 *     1  if values are wrong
 *     2  if a block timed out
 *     3  if the emulator reports a fault
 *
 * The pass is launched three times by case_plan's plan, with masks on both sites, so that every
 * stage has work. If the plan has barrier words, they wrap past 2^32 on the way. The reference
 * rounds the operands that the precision rounds. EMU_SEED makes the schedule random. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL   double
#define SUFFIX f64
#include "tests/support/oracle.h"

#include "tests/support/copies.h"
#include "emu.h"
#include "loop_case.h"

enum { LAUNCHES = 3, WORDS_MOST = 8 };

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

static void *zeros(size_t bytes)
{
    void *p = calloc(bytes + 1, 1);
    if (!p) abort();
    return p;
}

static void *device_alloc(const void *from, size_t bytes)
{
    void *to = NULL;
    check("cudaMalloc", cudaMalloc(&to, bytes));
    if (from) check("cudaMemcpy", cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    return to;
}

static float *narrowed(const double *from, int n)
{
    float *x = zeros((size_t)n * sizeof *x);
    for (int i = 0; i < n; i++) x[i] = (float)from[i];
    return x;
}

static void upload(void *to, const double *from, int n)
{
    float *x = narrowed(from, n);
    check("cudaMemcpy", cudaMemcpy(to, x, (size_t)n * sizeof *x, cudaMemcpyHostToDevice));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    free(x);
}

static float *uploaded(const double *from, int n)
{
    float *to = device_alloc(NULL, (size_t)n * sizeof *to);
    upload(to, from, n);
    return to;
}

/* Returns n random numbers followed by `more` zeros. The numbers are representable in float32, so
 * both sides compute with the same values. */
static double *drawn(uint32_t subsequence, double scale, int n, int more)
{
    float four[4];
    double *x = zeros((size_t)(n + more) * sizeof *x);
    for (int i = 0; i < n; i++) {
        if (i % 4 == 0) init_four(seed, subsequence, (uint64_t)i / 4, scale, four);
        x[i] = four[i % 4];
    }
    return x;
}

static double *copied(const double *from, int n)
{
    double *x = zeros((size_t)n * sizeof *x);
    return memcpy(x, from, (size_t)n * sizeof *x);
}

/* Raises *worst to the largest difference, if that is larger; a NaN counts as the largest. */
static void compare(double *worst, const float *ours, const double *exact, int n)
{
    float *x = zeros((size_t)n * sizeof *x);
    check("cudaMemcpy", cudaMemcpy(x, ours, (size_t)n * sizeof *x, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n && !isnan(*worst); i++)
        if (!(fabs((double)x[i] - exact[i]) <= *worst)) *worst = fabs((double)x[i] - exact[i]);
    free(x);
}

/* Returns the largest difference that is right. The error of float32 is about 1e-6 here. Both sides
 * round an operand to the same value, unless the error of float32 moves it across the midpoint
 * between two numbers of the precision. */
static double bound_of(LstmPrecision precision)
{
    return precision == PRECISION_F32 ? 1e-4 : precision == PRECISION_TF32 ? 0x1p-8 : 0x1p-6;
}

/* ---- launches ---- */

static LstmLaunch launch_by(const LstmPlan *plan, int T)
{
    LstmLaunch launch = {plan, NULL, 1 << 16};
    if (!plan->scratch_bytes) return launch;
    char *scratch = zeros(plan->scratch_bytes);
    uint32_t *words = (uint32_t *)(scratch + plan->scratch_bytes) - plan->blocks;
    for (int i = 0; i < plan->blocks; i++) words[i] = 0u - (uint32_t)(T - 1) - 2;
    launch.scratch = device_alloc(scratch, plan->scratch_bytes);
    free(scratch);
    return launch;
}

static MaskSite site_of(const StepState *state, int site)
{
    return (MaskSite){state, seed, mask_bound(keep), (float)(1 / keep), sites, site, 1};
}

int main(int argc, char **argv)
{
    int backward = argc > 1 && !strcmp(argv[1], "backward"), words[WORDS_MOST], n = argc - 2;
    LstmShape shape;
    LstmPlan plan;
    if (argc < 2 || n > WORDS_MOST || (!backward && strcmp(argv[1], "forward"))) return 64;
    for (int i = 0; i < n; i++) words[i] = atoi(argv[2 + i]);
    if (case_plan(backward, n, words, &shape, &plan)) return 64;
    int T = (int)shape.T, B = (int)shape.B, H = (int)shape.H, N = T * B * H, carried = B * H;
    OracleMask output = {mask_key(seed, step, sites, 1, keep), keep, 1},
               recurrent = {mask_key(seed, step, sites, 3, keep), keep, 1};
    double *w = drawn(1, 0.4, 4 * H * H, 0), *b_ih = drawn(2, 0.5, 4 * H, 0),
           *b_hh = drawn(3, 0.5, 4 * H, 0), *x_proj = drawn(4, 2, 4 * N, 0),
           *h = drawn(5, 1, carried, N), *c = drawn(6, 2, carried, N), *dy = drawn(7, 1, N, 0),
           *gates = copied(x_proj, 4 * N), *y = drawn(0, 0, 0, N), *h_masked = drawn(0, 0, 0, N),
           *carry = drawn(0, 0, 0, 2 * carried);
    oracle_operand = oracle_round(shape.precision);
    forward_f64(T, B, H, w, b_ih, b_hh, gates, h, c, y, h_masked, &output, &recurrent);
    double *dgates = copied(gates, 4 * N);
    backward_f64(T, B, H, w, c, dy, dgates, carry, &output, &recurrent);
    float *w_hh = narrowed(w, 4 * H * H), *packed = zeros((size_t)(4 * H * H) * sizeof *packed);
    uint16_t *tiles = zeros(tensor_copy_bytes(H));
    copy_packed(w_hh, H, packed), copy_tiles(w_hh, H, tiles);

    emu_device_select("H200"); /* on it cp.async is asynchronous: bytes arrive at the wait */
    emu_quiet(1);
    StepState s = {.step = step};
    StepState *state = device_alloc(&s, sizeof s);
    FaultRecord none = {0}, fault;
    LstmContext context = {.fault = device_alloc(&none, sizeof none)};
    LstmForward f = {.shape = shape,
                     .w_hh = uploaded(w, 4 * H * H),
                     .w_packed = device_alloc(packed, (size_t)(4 * H * H) * sizeof *packed),
                     .w_tiles = device_alloc(tiles, tensor_copy_bytes(H)),
                     .b_ih = uploaded(b_ih, 4 * H),
                     .b_hh = uploaded(b_hh, 4 * H),
                     .gates = uploaded(x_proj, 4 * N),
                     .h = uploaded(h, N + carried),
                     .c = uploaded(c, N + carried),
                     .y = device_alloc(NULL, (size_t)N * sizeof(float)),
                     .h_masked = device_alloc(NULL, (size_t)N * sizeof(float)),
                     .output = site_of(state, 1),
                     .recurrent = site_of(state, 3),
                     .launch = launch_by(&plan, T)};
    LstmBackward b = {.shape = f.shape,
                      .w_hh = f.w_hh,
                      .w_tiles = f.w_tiles,
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
        check("cudaMemcpy",
              cudaMemcpy(&fault, context.fault, sizeof fault, cudaMemcpyDeviceToHost));
        if (fault.set) {
            printf("launch %d: block %u timed out at step %u, exchange %u, missing %x\n", i,
                   fault.block, fault.step, fault.expected, fault.missing[0]);
            return 2;
        }
        compare(&worst, f.gates, backward ? dgates : gates, 4 * N);
        if (!backward) compare(&worst, f.h, h, N + carried), compare(&worst, f.y, y, N);
        if (!(worst < bound_of(shape.precision))) {
            printf("launch %d: wrong by %g\n", i, worst);
            return 1;
        }
    }
    printf("right within %.1g\n", worst);
    return 0;
}
