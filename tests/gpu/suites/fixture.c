/* fixture: see its header. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend/cublas_open.h"
#include "kernels/gemm.h"
#include "kernels/layers.h"
#include "tests/support/copies.h"
#include "tests/support/plain_f32.h"

#ifdef CUDA_EMU
#include "emu.h"
#endif

/* ---- the device and its memory ---- */

enum { GUARD = 4, PIECES = 256, WORKSPACE = 1 << 22 };

typedef struct Piece {
    char *start;
    size_t bytes, before; /* size of the payload; distance from the start to the payload */
} Piece;

LstmContext context;
DeviceFacts facts;
CostConstants constants;
char told_case[900];
int64_t told_B, told_H;
static void *workspace;
static Piece pieces[PIECES];
static void *host_pieces[PIECES];
static int piece_count, host_count;
static char no_device[200]; /* the reason why there is no device, or "" */

void *host_bytes(size_t n)
{
    assert_true(host_count < PIECES);
    return host_pieces[host_count++] = calloc(n ? n : 1, 1);
}
float *host_floats(int64_t n) { return host_bytes((size_t)n * sizeof(float)); }

double *widened(const float *x, int64_t n)
{
    double *y = host_bytes((size_t)n * sizeof *y);
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}

/* Copies and waits for the bytes: cudaMemcpy of pageable memory may return earlier, and the
 * context's stream does not wait for the default stream. */
void upload(void *to, const void *from, size_t bytes)
{
    CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    CHECK(cudaDeviceSynchronize());
}

void *device_alloc(const void *from, size_t bytes, int shift)
{
    assert_true(piece_count < PIECES);
    size_t words = (bytes + 3) / 4 + 2 * GUARD + (size_t)shift;
    uint32_t *fill = malloc(4 * words);
    Piece *p = &pieces[piece_count];
    for (size_t i = 0; i < words; i++) fill[i] = canary;
    p->bytes = bytes, p->before = 4 * (size_t)(GUARD + shift);
    if (from) memcpy((char *)fill + p->before, from, bytes);
    CHECK(cudaMalloc((void **)&p->start, 4 * words));
    piece_count++;
    upload(p->start, fill, 4 * words);
    free(fill);
    return p->start + p->before;
}
float *device_floats(const float *from, int64_t n)
{
    return device_alloc(from, (size_t)n * sizeof(float), 0);
}
int32_t *device_ints(const int32_t *from, int64_t n)
{
    return device_alloc(from, (size_t)n * sizeof(int32_t), 0);
}

void fetch(void *to, const void *from, size_t bytes)
{
    CHECK(cudaStreamSynchronize(context.stream));
    CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}
float *fetched(const float *from, int64_t n)
{
    float *to = host_floats(n);
    fetch(to, from, (size_t)n * sizeof *to);
    return to;
}

void release_device(void)
{
    for (int i = 0; i < piece_count; i++) {
        size_t words = (pieces[i].bytes + 3) / 4 + pieces[i].before / 4 + GUARD,
               from = (pieces[i].before + pieces[i].bytes + 3) / 4;
        uint32_t *all = malloc(4 * words);
        fetch(all, pieces[i].start, 4 * words);
        CHECK(cudaFree(pieces[i].start));
        for (size_t k = 0; k < words; k++)
            if ((k < pieces[i].before / 4 || k >= from) && all[k] != canary)
                fail_msg("a write %zu words into piece %d's guards", k, i);
        free(all);
    }
    piece_count = 0;
}

int host_mark(void) { return host_count; }

void release_host(int mark)
{
    while (host_count > mark) free(host_pieces[--host_count]);
}

void release(void)
{
    release_device();
    release_host(0);
    told_case[0] = 0, told_H = 0;
}

int fixture_setup(void **state)
{
    (void)state;
    int count = 0;
    Error e;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error || !count) {
        snprintf(no_device, sizeof no_device, "no CUDA device: %s",
                 error ? cudaGetErrorString(error) : "the driver lists none");
        return 0;
    }
    error = cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking);
    if (!error) error = cudaMalloc(&workspace, WORKSPACE);
    if (!error) error = cudaMalloc((void **)&context.fault, sizeof *context.fault);
    if (!error) error = cudaMemset(context.fault, 0, sizeof *context.fault);
    if (!error) error = cudaDeviceSynchronize();
    if (!error) error = layers_prepare();
    for (int v = 0; lstm_variants[v] && !error; v++) error = lstm_variants[v]->prepare();
    if (!error && cublas_open(&e)) {
        print_error("%s\n", e.text);
        return 1;
    }
    if (!error) error = gemm_error(cublasCreate(&context.blas));
    if (!error) error = gemm_error(cublasSetStream(context.blas, context.stream));
    if (!error) error = gemm_error(cublasSetWorkspace(context.blas, workspace, WORKSPACE));
    if (error) {
        print_error("the device could not be set up: %s\n", cudaGetErrorString(error));
        return 1;
    }
    if (device_facts(0, &facts, &e) || cost_constants(&facts, NULL, &constants, &e)) {
        print_error("%s\n", e.text);
        return 1;
    }
    context.cooperative = facts.cooperative;
    return 0;
}

int fixture_teardown(void **state)
{
    (void)state;
    if (*no_device) return 0;
    cublasDestroy(context.blas);
    cudaStreamDestroy(context.stream);
    return cudaFree(context.fault) || cudaFree(workspace);
}

void device_choose(const char *name)
{
#ifdef CUDA_EMU
    release();
    assert_int_equal(fixture_teardown(NULL), 0);
    assert_int_equal(emu_device_select(name), 0);
    assert_int_equal(fixture_setup(NULL), 0);
#else
    (void)name;
#endif
}

bool device_missing(void) { return *no_device; }

bool slow_build(void)
{
#ifdef CUDA_EMU
    return strcmp(emu_mode(), "plain") != 0;
#else
    return false;
#endif
}

bool emulated_whole(void)
{
#ifdef CUDA_EMU
    return !slow_build();
#else
    return false;
#endif
}

bool long_lists(void)
{
    const char *text = getenv("PLSTM_LONG");
    return text && text[0] && !slow_build();
}

/* Clears the fault record of an earlier case, which would stop every launch of this one. */
static void clear_fault(void)
{
    FaultRecord f;
    fetch(&f, context.fault, sizeof f);
    if (!f.set) return;
    print_message(
        "an earlier case left a fault record: block %u, step %u, expected %u, saw %u, missing %08x "
        "%08x %08x %08x %08x %08x %08x %08x; it is cleared\n",
        f.block, f.step, f.expected, f.seen, f.missing[0], f.missing[1], f.missing[2], f.missing[3],
        f.missing[4], f.missing[5], f.missing[6], f.missing[7]);
    CHECK(cudaMemset(context.fault, 0, sizeof *context.fault));
    CHECK(cudaDeviceSynchronize());
}

void need_device(void)
{
    if (!*no_device) {
        clear_fault();
        return;
    }
    if (getenv("REQUIRE_GPU")) fail_msg("%s", no_device);
    print_message("skipped: %s\n", no_device);
    skip();
}
/* ---- values and comparisons ---- */

float *drawn(uint32_t seed, int64_t n, double scale)
{
    float *x = host_floats(n), four[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) init_four(77, seed, (uint64_t)i / 4, scale, four);
        x[i] = four[i % 4];
    }
    return x;
}

int32_t *drawn_ids(uint32_t seed, int64_t n, int64_t V)
{
    int32_t *x = host_bytes((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (int32_t)(philox_block(78, seed, (uint64_t)i).word[0] % (uint64_t)V);
    return x;
}

/* Returns the place of element i in a tensor of the current recurrence: its t, b and gate or
 * unit. */
static const char *place_of(const char *what, int64_t i)
{
    static char text[96];
    int64_t H = told_H, B = told_B;
    if (!H) snprintf(text, sizeof text, "element %lld", (long long)i);
    else if (strstr(what, "gates"))
        snprintf(text, sizeof text, "t %lld, b %lld, gate %lld, unit %lld",
                 (long long)(i / (4 * H * B)), (long long)(i / (4 * H) % B), (long long)(i / H % 4),
                 (long long)(i % H));
    else
        snprintf(text, sizeof text, "t %lld, b %lld, unit %lld", (long long)(i / (H * B)),
                 (long long)(i / H % B), (long long)(i % H));
    return text;
}

void compare(const char *what, const float *ours, const float *plain, const double *exact,
             int64_t n, double times)
{
    double error = 0, measure = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = fabs((double)ours[i] - exact[i]), b = fabs((double)plain[i] - exact[i]);
        if (!(a <= error)) error = a;
        measure = fmax(measure, b);
        largest = fmax(largest, fabs(exact[i]));
        if (isnan(a)) break;
    }
    double bound = f32_bound(times, measure, largest);
    if (error <= bound) return;
    int64_t first = -1, off = 0, no_number = 0;
    for (int64_t i = 0; i < n; i++) {
        no_number += isnan(ours[i]);
        if (fabs((double)ours[i] - exact[i]) <= bound) continue;
        if (off++ == 0) first = i;
    }
    fail_msg("%s errs %.3g, the plain loop %.3g, the bound is %.3g; first at %s: %.9g, truth %.9g; "
             "%lld of "
             "%lld differ, "
             "%lld NaN; %s",
             what, error, measure, bound, first < 0 ? "none" : place_of(what, first),
             first < 0 ? 0.0 : (double)ours[first], first < 0 ? 0.0 : exact[first], (long long)off,
             (long long)n, (long long)no_number, told_case);
}

static const uint64_t some_seed = 0x123456789abcdefu;

StepState *device_state(int64_t step, double lr, double clip)
{
    StepState s = {.step = step, .slot = 1, .lr = lr, .clip = clip};
    return device_alloc(&s, sizeof s, 0);
}

MaskSite mask_site(const StepState *state, int sites, int site, double keep, int on)
{
    MaskSite m = {state, some_seed, mask_bound(keep), (float)(1.0 / keep), sites, site, on};
    if (!on) m.state = NULL;
    return m;
}

OracleMask oracle_mask(int64_t step, int sites, int site, double keep, int on)
{
    OracleMask m = {mask_key(some_seed, step, sites, site, keep), keep, on};
    return m;
}

void check_bf16(const char *what, const uint16_t *device, const float *from, int64_t n)
{
    uint16_t *got = host_bytes((size_t)n * 2);
    fetch(got, device, (size_t)n * 2);
    for (int64_t i = 0; i < n; i++)
        if (got[i] != copy_bf16(from[i]))
            fail_msg("%s: element %d is %04x of %.9g", what, (int)i, got[i], from[i]);
}
