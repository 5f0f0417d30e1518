/* cluster_case forward|backward [tile units rows replicas slices T B H]: one time loop of the variant `cluster` by a hand-made plan
 * on the emulator, and what came of it: the program into whose kernels test_cluster_faults.py plants mistakes. Says one line
 * and exits with
 *
 *     0 as it should be    1 wrong values    2 a block gave up waiting    3 the emulator reports a fault
 *
 * The plan without more words has a ragged last block, two replicas of which the last lacks a row, two ranges, two slices, weights in
 * registers and shared memory; masks are on both sites. Each pass is launched twice. EMU_SEED makes the schedule random, as
 * everywhere. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL   double
#define SUFFIX f64
#include "tests/support/oracle.h"

#include "kernels/cluster.h"
#include "cluster_case.h"
#include "emu.h"

enum { LAUNCHES = 2 };

static int T = 6, B = 5, H = 23;
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

/* ---- values ---- */

static void *zeros(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    if (!p) abort();
    return p;
}

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
    float *x = zeros((size_t)n, sizeof *x);
    for (int i = 0; i < n; i++) x[i] = (float)from[i];
    check("cudaMemcpy", cudaMemcpy(to, x, (size_t)n * sizeof *x, cudaMemcpyHostToDevice));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    free(x);
}

static float *uploaded(const double *from, int n)
{
    float *to = device(NULL, (size_t)n * sizeof *to);
    upload(to, from, n);
    return to;
}

/* Float32 numbers, so that both sides compute with the same. */
static double *drawn(uint32_t subsequence, double scale, int n)
{
    float four[4];
    double *x = zeros((size_t)n, sizeof *x);
    for (int i = 0; i < n; i++) {
        if (i % 4 == 0) init_quad(seed, subsequence, (uint64_t)i / 4, scale, four);
        x[i] = four[i % 4];
    }
    return x;
}

/* To `bits` of mantissa, halves to even (bf16) or away from zero (tf32): whole words of float32. */
static double rounded(double x, int precision)
{
    float f = (float)x;
    uint32_t word, low = precision == PRECISION_BF16 ? 16 : 13, half = UINT32_C(1) << (low - 1);
    memcpy(&word, &f, 4);
    word += precision == PRECISION_BF16 ? half - 1 + (word >> low & 1) : half;
    word &= ~((UINT32_C(1) << low) - 1);
    memcpy(&f, &word, 4);
    return f;
}

/* w_hh in bf16 as tensor.h lays it: the lane's four words of each A tile. */
static uint32_t *tiles_of(const double *w)
{
    int across = (int)tensor_k_tiles(H, PRECISION_BF16), down = (int)tensor_row_tiles(H);
    uint32_t *to = zeros((size_t)(across * down) * TENSOR_WORDS, sizeof *to);
    for (int n = 0; n < across * down * TENSOR_WORDS; n++) {
        int word = n % 4, lane = n / 4 % 32, tile = n / TENSOR_WORDS;
        int row = tile / across * TENSOR_ROWS + lane / 4 + word % 2 * 8;
        int k = tile % across * 16 + lane % 4 * 2 + word / 2 * 8;
        for (int i = 0; i < 2; i++)
            if (row / 4 < H && k + i < H) {
                float f = (float)rounded(w[(row % 4 * H + row / 4) * H + k + i], PRECISION_BF16);
                uint32_t bits;
                memcpy(&bits, &f, 4);
                to[n] |= bits >> 16 << 16 * i;
            }
    }
    return to;
}

/* Raises *worst to the largest difference; a NaN is larger than all. */
static void compare(double *worst, const float *ours, const double *exact, int n)
{
    float *x = zeros((size_t)n, sizeof *x);
    check("cudaMemcpy", cudaMemcpy(x, ours, (size_t)n * sizeof *x, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n && !isnan(*worst); i++)
        if (!(fabs((double)x[i] - exact[i]) <= *worst)) *worst = fabs((double)x[i] - exact[i]);
    free(x);
}

/* ---- plans ---- */

static const struct {
    int precision, quads, resident, batch;
} tiles[] = {
#define X(precision, quads, resident, batch) {PRECISION_##precision, quads, resident, batch},
    CASE_TILES(X)
#undef X
};

static LstmPlan plan_of(int backward, int tile, int units, int rows, int replicas, int slices)
{
    int precision = tiles[tile].precision, k = (int)tensor_k_tiles(H, precision);
    LstmPlan p = {.kind = KIND_CLUSTER,
                  .backward = backward,
                  .tile = tile,
                  .replicas = replicas,
                  .blocks = (H + units - 1) / units,
                  .units = units,
                  .rows = rows,
                  .batch = tiles[tile].batch,
                  .passes = 1,
                  .slices = slices,
                  .resident = tiles[tile].resident,
                  .quads = tiles[tile].quads,
                  .rounds = 1,
                  .precision = precision};
    int m = units / TENSOR_UNITS;
    p.depth = (k + slices - 1) / slices;
    if (backward) {
        m = (H + TENSOR_ROWS - 1) / TENSOR_ROWS;
        p.slices = 1, p.depth = 4 * units / tensor_k(precision);
    }
    p.groups = (m + p.quads - 1) / p.quads;
    p.threads = 32 * p.groups * p.slices;
    p.cluster = p.blocks;
    p.shared = (int32_t)plan_max(p.depth - p.resident, 0);
    p.shared_bytes = cluster_shared_bytes(&p);
    return p;
}

static MaskSite site_of(const StepState *state, int site)
{
    return (MaskSite){state, seed, mask_bound(keep), (float)(1 / keep), sites, site, 1};
}

int main(int argc, char **argv)
{
    int backward = argc > 1 && !strcmp(argv[1], "backward"), words[8] = {0, 12, 2, 2, 2, 6, 5, 23};
    if ((argc != 2 && argc != 10) || (!backward && strcmp(argv[1], "forward"))) return 64;
    for (int i = 2; i < argc; i++) words[i - 2] = atoi(argv[i]);
    T = words[5], B = words[6], H = words[7];
    int N = T * B * H, carried = B * H, precision = tiles[words[0]].precision;
    OracleMask output = {mask_key(seed, step, sites, 1, keep), keep, 1},
               recurrent = {mask_key(seed, step, sites, 3, keep), keep, 1};
    double *w = drawn(1, 0.4, 4 * H * H), *b_ih = drawn(2, 0.5, 4 * H), *b_hh = drawn(3, 0.5, 4 * H),
           *x_proj = drawn(4, 2, 4 * N), *dy = drawn(7, 1, N), *h = zeros((size_t)(N + carried), sizeof *h),
           *c = zeros((size_t)(N + carried), sizeof *c), *gates = zeros((size_t)(4 * N), sizeof *gates),
           *y = zeros((size_t)N, sizeof *y), *dgates = zeros((size_t)(4 * N), sizeof *dgates),
           *h_masked = zeros((size_t)N, sizeof *h_masked), *carry = zeros(2 * (size_t)carried, sizeof *carry);
    memcpy(h, drawn(5, 1, carried), (size_t)carried * sizeof *h);
    memcpy(c, drawn(6, 2, carried), (size_t)carried * sizeof *c);
    memcpy(gates, x_proj, (size_t)(4 * N) * sizeof *gates);
    oracle_operand = oracle_round((LstmPrecision)precision);
    forward_f64(T, B, H, w, b_ih, b_hh, gates, h, c, y, h_masked, &output, &recurrent);
    memcpy(dgates, gates, (size_t)(4 * N) * sizeof *gates);
    backward_f64(T, B, H, w, c, dy, dgates, carry, &output, &recurrent);

    emu_device_select("H200");
    emu_quiet(1);
    StepState s = {.step = step};
    StepState *state = device(&s, sizeof s);
    FaultRecord none = {0}, fault;
    LstmContext context = {.fault = device(&none, sizeof none)};
    LstmPlan plan = plan_of(backward, words[0], words[1], words[2], words[3], words[4]);
    LstmForward f = {.shape = {T, B, H, (LstmPrecision)precision},
                     .w_hh = uploaded(w, 4 * H * H),
                     .w_tiles = device(tiles_of(w), tensor_copy_bytes(H)),
                     .b_ih = uploaded(b_ih, 4 * H),
                     .b_hh = uploaded(b_hh, 4 * H),
                     .gates = uploaded(x_proj, 4 * N),
                     .h = uploaded(h, N + carried),
                     .c = uploaded(c, N + carried),
                     .y = device(NULL, (size_t)N * sizeof(float)),
                     .h_masked = device(NULL, (size_t)N * sizeof(float)),
                     .output = site_of(state, 1),
                     .recurrent = site_of(state, 3),
                     .launch = {&plan, NULL, 1 << 16}};
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
        check("cudaMemcpy", cudaMemcpy(&fault, context.fault, sizeof fault, cudaMemcpyDeviceToHost));
        if (fault.set) {
            printf("launch %d: block %u gave up at step %u, exchange %u\n", i, fault.block, fault.step,
                   fault.expected);
            return 2;
        }
        compare(&worst, f.gates, backward ? dgates : gates, 4 * N);
        if (!backward) compare(&worst, f.h, h, N + carried), compare(&worst, f.y, y, N);
        /* The two sides round to the same but where float32's error crosses the middle between two numbers of the precision. */
        if (!(worst < (precision == PRECISION_BF16 ? 0x1p-6 : 0x1p-8))) {
            printf("launch %d: wrong by %g\n", i, worst);
            return 1;
        }
    }
    printf("right within %.1g\n", worst);
    return 0;
}
