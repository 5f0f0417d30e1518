/* The kernels of the training step, one by one, against plain loops in double (oracle.h): on whatever device
 * the CUDA runtime that this is linked with offers, the emulated one or a GPU.
 *
 * Bound      as in test_backend_cpu.c: float32 kernels evaluate the formulas of the plain float loop with
 * sums in another order, so they may err at most 2 times (gradients and what follows from them 3 times) as
 * much as that loop does against double, plus 4 ulp of the largest value, for what the plain loop gets right
 * by luck. Errors of one tensor are compared by their largest. Masks, ids, copies and whatever is one product
 * are equal bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define REAL   double
#define SUFFIX f64
#include "tests/support/group.h"
#include "tests/support/oracle.h"
#undef REAL
#undef SUFFIX
#define REAL   float
#define SUFFIX f32
#include "tests/support/oracle.h"

#include "tests/support/plain_f32.h"

#include "host/plan/device.h"
#include "host/plan/precision.h"
#include "host/plan/residency.h"
#include "kernels/layers.h"
#include "kernels/lstm.h"
#include "kernels/mma.h"

#ifdef CUDA_EMU
#include "emu.h"
#endif

#define CHECK(call)                                                                                          \
    do {                                                                                                     \
        int error_ = (int)(call);                                                                            \
        if (error_)                                                                                          \
            fail_msg("%s: error %d, %s; %s", #call, error_, cudaGetErrorString(cudaGetLastError()),          \
                     told_case);                                                                             \
    } while (0)

/* ---- the device and its memory ---- */

enum { GUARD = 4, PIECES = 256, WORKSPACE = 1 << 22 };
static const uint32_t canary = 0x7fc5a5a5; /* a NaN: whoever reads past an end carries it into a result */

typedef struct Piece {
    char *start;
    size_t bytes, before; /* of the payload; between start and payload */
} Piece;

static LstmContext context;
static void *workspace;
static Piece pieces[PIECES];
static void *host_pieces[PIECES];
static int piece_count, host_count;
static char told_case[900];    /* what runs, for a comparison that fails */
static int64_t told_B, told_H; /* of its recurrence; 0: it is none */
static char no_device[200];    /* why there is none */

/* Host memory until the test ends. */
static void *host_bytes(size_t n)
{
    assert_true(host_count < PIECES);
    return host_pieces[host_count++] = calloc(n ? n : 1, 1);
}
static float *host_floats(int64_t n) { return host_bytes((size_t)n * sizeof(float)); }

static double *widened(const float *x, int64_t n)
{
    double *y = host_bytes((size_t)n * sizeof *y);
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}

/* Copies and waits until the bytes are there: cudaMemcpy of pageable memory may return sooner, and the context's stream does not wait for
 * the default one. */
static void upload(void *to, const void *from, size_t bytes)
{
    CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    CHECK(cudaDeviceSynchronize());
}

/* Device memory until the test ends, `shift` words past a 16-byte boundary, with guards around it; `from`
 * NULL: every word is a NaN. */
static void *device_bytes(const void *from, size_t bytes, int shift)
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
static float *device_floats(const float *from, int64_t n)
{
    return device_bytes(from, (size_t)n * sizeof(float), 0);
}
static int32_t *device_ints(const int32_t *from, int64_t n)
{
    return device_bytes(from, (size_t)n * sizeof(int32_t), 0);
}

static void fetch(void *to, const void *from, size_t bytes)
{
    CHECK(cudaStreamSynchronize(context.stream));
    CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}
static float *fetched(const float *from, int64_t n)
{
    float *to = host_floats(n);
    fetch(to, from, (size_t)n * sizeof *to);
    return to;
}

/* Frees all device memory; nobody may have written around its pieces. */
static void release_device(void)
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

static void release(void)
{
    release_device();
    for (int i = 0; i < host_count; i++) free(host_pieces[i]);
    host_count = 0;
    told_case[0] = 0, told_H = 0;
}

static DeviceFacts facts;
static PlanConstants constants;

static int setup(void **state)
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
    if (error || cublasCreate(&context.blas) || cublasSetStream(context.blas, context.stream) ||
        cublasSetWorkspace(context.blas, workspace, WORKSPACE)) {
        print_error("the device could not be set up: %s\n", cudaGetErrorString(error));
        return 1;
    }
    if (device_facts(0, &facts, &e) || plan_constants(&facts, NULL, &constants, &e)) {
        print_error("%s\n", e.text);
        return 1;
    }
    context.cooperative = facts.cooperative;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (*no_device) return 0;
    cublasDestroy(context.blas);
    cudaStreamDestroy(context.stream);
    return cudaFree(context.fault) || cudaFree(workspace);
}

/* The devices whose plans are run: those of a profile each, or the one that is there. */
#ifdef CUDA_EMU
static const char *const devices[] = {"K20", "H200"};
#else
static const char *const devices[] = {"the GPU"};
#endif
enum { DEVICES = sizeof devices / sizeof devices[0] };

/* Another emulated GPU; what lay on the one before is gone. */
static void device_choose(const char *name)
{
#ifdef CUDA_EMU
    release();
    assert_int_equal(teardown(NULL), 0);
    assert_int_equal(emu_device_select(name), 0);
    assert_int_equal(setup(NULL), 0);
#else
    (void)name;
#endif
}

/* What an earlier case left in the fault record, which would stop every launch of this one. */
static void clear_fault(void)
{
    FaultRecord f;
    fetch(&f, context.fault, sizeof f);
    if (!f.set) return;
    print_message("an earlier case left a fault record: block %u, step %u, expected %u, saw %u, missing %08x "
                  "%08x %08x %08x %08x %08x %08x %08x; it is cleared\n",
                  f.block, f.step, f.expected, f.seen, f.missing[0], f.missing[1], f.missing[2], f.missing[3],
                  f.missing[4], f.missing[5], f.missing[6], f.missing[7]);
    CHECK(cudaMemset(context.fault, 0, sizeof *context.fault));
    CHECK(cudaDeviceSynchronize());
}

static void need_device(void)
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

/* n values in [-scale, scale], a pure function of `seed`. */
static float *drawn(uint32_t seed, int64_t n, double scale)
{
    float *x = host_floats(n), four[4];
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) init_quad(77, seed, (uint64_t)i / 4, scale, four);
        x[i] = four[i % 4];
    }
    return x;
}

static int32_t *drawn_ids(uint32_t seed, int64_t n, int64_t V)
{
    int32_t *x = host_bytes((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (int32_t)(philox_block(78, seed, (uint64_t)i).word[0] % (uint64_t)V);
    return x;
}

/* Where element i of a tensor of the recurrence at hand stands, gates or units of (t, b). */
static const char *place_of(const char *what, int64_t i)
{
    static char text[96];
    int64_t H = told_H, B = told_B;
    if (!H) snprintf(text, sizeof text, "element %lld", (long long)i);
    else if (strstr(what, "gates"))
        snprintf(text, sizeof text, "t %lld, b %lld, gate %lld, unit %lld", (long long)(i / (4 * H * B)),
                 (long long)(i / (4 * H) % B), (long long)(i / H % 4), (long long)(i % H));
    else
        snprintf(text, sizeof text, "t %lld, b %lld, unit %lld", (long long)(i / (H * B)),
                 (long long)(i / H % B), (long long)(i % H));
    return text;
}

/* Ours may err at most `times` as much as the plain loop, plus 4 ulp; a NaN on our side alone fails. */
static void compare(const char *what, const float *ours, const float *plain, const double *exact, int64_t n,
                    double times)
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
    fail_msg("%s errs %.3g, the plain loop %.3g, the bound is %.3g; first at %s: %.9g, truth %.9g; %lld of "
             "%lld differ, "
             "%lld NaN; %s",
             what, error, measure, bound, first < 0 ? "none" : place_of(what, first),
             first < 0 ? 0.0 : (double)ours[first], first < 0 ? 0.0 : exact[first], (long long)off,
             (long long)n, (long long)no_number, told_case);
}

static const uint64_t some_seed = 0x123456789abcdefu;

/* The device's StepState at `step`. */
static StepState *device_state(int64_t step, double lr, double clip)
{
    StepState s = {.step = step, .slot = 1, .lr = lr, .clip = clip};
    return device_bytes(&s, sizeof s, 0);
}

static MaskSite mask_site(const StepState *state, int sites, int site, double keep, int on)
{
    MaskSite m = {state, some_seed, mask_bound(keep), (float)(1.0 / keep), sites, site, on};
    if (!on) m.state = NULL;
    return m;
}

static OracleMask oracle_mask(int64_t step, int sites, int site, double keep, int on)
{
    OracleMask m = {mask_key(some_seed, step, sites, site, keep), keep, on};
    return m;
}

enum { STEP = 7 };
static const int64_t late_step = 77777777777; /* needs more than 32 bits, with a site too */

/* ---- step.cu ---- */

static void step_moves_on(void **state)
{
    static const int64_t shapes[][3] = {
        {1, 1, 5}, {5, 3, 100}, {35, 20, 9295}, {1, 7, 100}, {20, 1, 90}}; /* T, B, n */
    (void)state;
    need_device();
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        int64_t T = shapes[k][0], B = shapes[k][1], n = shapes[k][2];
        StepState s = {.next_step = late_step, .next_window = 1, .slot = 1, .lr = 0.5, .clip = 5};
        StepState *device = device_bytes(&s, sizeof s, 0);
        int32_t *ids = drawn_ids(1, n, 10000), *x = host_bytes((size_t)(T * B) * 4),
                *y = host_bytes((size_t)(T * B) * 4);
        int32_t *ids_device = device_ints(ids, n), *x_device = device_ints(NULL, T * B),
                *y_device = device_ints(NULL, T * B);
        for (int64_t window = 1; window < 4 && (window + 1) * T < n / B; window++) {
            CHECK(step_begin(context.stream, device, 3, ids_device, n, T, B, x_device, y_device));
            fetch(&s, device, sizeof s);
            assert_true(s.step == late_step + window - 1 && s.next_step == s.step + 1);
            assert_true(s.window == window && s.next_window == window + 1);
            assert_true(s.slot == (1 + window) % 3 && s.lr == 0.5 && s.clip == 5);
            fetch(x, x_device, (size_t)(T * B) * 4), fetch(y, y_device, (size_t)(T * B) * 4);
            for (int64_t t = 0; t < T; t++)
                for (int64_t b = 0; b < B; b++) {
                    int64_t at = (2 * b * n + B) / (2 * B) + window * T + t;
                    assert_int_equal(x[t * B + b], ids[at]);
                    assert_int_equal(y[t * B + b], ids[at + 1]);
                }
        }
        release();
    }
}

/* ---- embedding.cu ---- */

static const int64_t widths[] = {1, 2, 3, 7, 23, 64, 130, 516, 650};
enum { WIDTHS = sizeof widths / sizeof widths[0] };
static const double keeps[] = {0.35, 0.5, 1};

static void embedding_gathers_and_masks(void **state)
{
    (void)state;
    need_device();
    for (int w = 0; w < WIDTHS; w++)
        for (int k = 0; k < 4; k++) {
            enum { N = 9, V = 5 };
            int64_t H = widths[w], step = k == 1 ? late_step : STEP;
            double keep = k < 3 ? keeps[k] : 0.5;
            const StepState *device = device_state(step, 1, 1);
            OracleMask m = oracle_mask(step, 5, 3, keep, k < 3);
            float *encoder = drawn(2, V * H, 1), *x_device = device_floats(NULL, N * H);
            int32_t *ids = drawn_ids(3, N, V);
            CHECK(embedding_forward(context.stream, N, H, device_ints(ids, N),
                                    &(EmbeddingTable){.encoder = device_floats(encoder, V * H)},
                                    mask_site(device, 5, 3, keep, k < 3), x_device));
            float *x = fetched(x_device, N * H);
            for (int64_t i = 0; i < N * H; i++)
                assert_true(x[i] == encoder[ids[i / H] * H + i % H] * factor_f32(&m, i / H, H, i % H));
            release();
        }
}

/* SPEC 2's known answer. */
static void masks_are_those_of_the_specification(void **state)
{
    static const char kept[] = "001110001011010101";
    (void)state;
    need_device();
    float ones[18], *x_device = device_floats(NULL, 18);
    int32_t ids[2] = {0, 1};
    for (int i = 0; i < 18; i++) ones[i] = 1;
    MaskSite site = {device_state(5, 1, 1), 4886718345u, 1503238553u, (float)(1 / 0.35), 3, 1, 1};
    CHECK(embedding_forward(context.stream, 2, 9, device_ints(ids, 2),
                            &(EmbeddingTable){.encoder = device_floats(ones, 18)}, site, x_device));
    float *x = fetched(x_device, 18);
    for (int i = 0; i < 18; i++) assert_true(x[i] == (kept[i] == '1' ? (float)(1 / 0.35) : 0));
    release();
}

static void embedding_gradient(int64_t N, int64_t H, int64_t V, double keep, int on)
{
    const StepState *device = device_state(STEP, 1, 1);
    OracleMask m = oracle_mask(STEP, 3, 0, keep, on);
    int32_t *ids = drawn_ids(4, N, V), *first_device = device_ints(NULL, N),
            *first = host_bytes((size_t)N * 4), *want = host_bytes((size_t)N * 4);
    float *dx = drawn(5, N * H, 1), *plain = host_floats(N * H), *rows_device = device_floats(NULL, N * H);
    double *exact = host_bytes((size_t)(N * H) * sizeof *exact);
    embedding_f64(N, H, ids, widened(dx, N * H), &m, exact, want);
    embedding_f32(N, H, ids, dx, &m, plain, want);
    CHECK(embedding_backward(context.stream, N, H, device_ints(ids, N), device_floats(dx, N * H),
                             mask_site(device, 3, 0, keep, on), rows_device, first_device));
    float *rows = fetched(rows_device, N * H);
    fetch(first, first_device, (size_t)N * 4);
    assert_memory_equal(first, want, (size_t)N * 4);
    for (int64_t n = 0; n < N; n++) {
        if (first[n]) continue;
        for (int64_t u = 0; u < H; u++) { /* rows of the others are not written */
            uint32_t word;
            memcpy(&word, &rows[n * H + u], 4);
            assert_int_equal(word, canary);
            rows[n * H + u] = 0;
        }
    }
    compare("the embedding's gradient", rows, plain, exact, N * H, 3);
    release();
}

static void embedding_sums_repeated_words(void **state)
{
    (void)state;
    need_device();
    for (int w = 0; w < WIDTHS; w++)
        for (int k = 0; k < 3; k++) {
            embedding_gradient(1, widths[w], 10, keeps[k], 1);
            embedding_gradient(15, widths[w], 6, keeps[k], 1);
        }
    embedding_gradient(40, 23, 1, 0.5, 1); /* all ids equal */
    embedding_gradient(40, 23, 1000000, 0.5, 0);
    embedding_gradient(2100, 3, 40, 0.5, 1); /* more positions than a block looks through at a time */
    embedding_gradient(1500, 1, 1, 1, 0);
}

/* ---- softmax_xent.cu ---- */

static void softmax_case(int64_t N, int64_t V, int shift, int train)
{
    float *logits = drawn(6, N * V, 8), *bias = drawn(7, V, 1), B = 3, nats[8], plain_nats[8];
    double exact_nats[8], *exact = widened(logits, N * V), *wide_bias = widened(bias, V);
    int32_t *targets = drawn_ids(8, N, V), *best_device = device_ints(NULL, N), best[8];
    targets[0] = (int32_t)V - 1;
    float *device = device_bytes(logits, (size_t)(N * V) * sizeof(float), shift),
          *nats_device = device_floats(NULL, N);
    CHECK(softmax_xent(context.stream, N, V, device_bytes(bias, (size_t)V * sizeof(float), (shift + V) % 3),
                       device_ints(targets, N), train, 1 / B, device, nats_device, best_device));
    fetch(best, best_device, (size_t)N * sizeof *best);
    for (int64_t n = 0; n < N; n++) {
        int64_t top = 0;
        for (int64_t v = 1; v < V; v++)
            if (logits[n * V + v] + bias[v] > logits[n * V + top] + bias[top]) top = v;
        assert_int_equal(best[n], top);
    }
    softmax_f64(N, V, wide_bias, targets, train, B, exact, exact_nats);
    softmax_f32(N, V, bias, targets, train, B, logits, plain_nats);
    fetch(nats, nats_device, (size_t)N * sizeof *nats);
    compare("nats", nats, plain_nats, exact_nats, N, 2);
    compare(train ? "dlogits" : "logits", fetched(device, N * V), logits, exact, N * V, train ? 3 : 2);
    release();
}

static void softmax_at_every_width_and_alignment(void **state)
{
    static const int64_t sizes[] = {1, 2, 3, 7, 31, 1037};
    (void)state;
    need_device();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int shift = 0; shift < 4; shift++)
            for (int train = 0; train < 2; train++)
                softmax_case(sizes[i] == 1037 ? 2 : 5, sizes[i], shift, train);
    softmax_case(1, 10000, 0, 1);
    for (int shift = 0; shift < 2; shift++) {
        softmax_case(1, 13001, shift, 1); /* over 48 KB: wider blocks */
        softmax_case(2, 61001, shift, 1); /* over what any block may have: several passes */
    }
    softmax_case(1, 61001, 3, 0);
}

/* A row without a target is left out, whatever stands in it, and of equal logits the lowest id is the best. */
static void rows_without_a_target(void **state)
{
    (void)state;
    need_device();
    static const int64_t sizes[] = {1, 6, 37, 1037};
    for (int i = 0; i < 8; i++) {
        int64_t V = sizes[i / 2];
        int train = i % 2;
        float *logits = host_floats(3 * V), nats[3];
        int32_t targets[3] = {0, -1, (int32_t)V - 1}, best[3];
        for (int64_t v = 0; v < V; v++) logits[v] = 2, logits[V + v] = NAN, logits[2 * V + v] = -1;
        if (V > 5) logits[3] = logits[5] = 4;
        float *device = device_floats(logits, 3 * V), *nats_device = device_floats(NULL, 3);
        int32_t *best_device = device_ints(NULL, 3);
        CHECK(softmax_xent(context.stream, 3, V, device_floats(host_floats(V), V), device_ints(targets, 3),
                           train, 0.5f, device, nats_device, best_device));
        fetch(nats, nats_device, sizeof nats);
        fetch(best, best_device, sizeof best);
        assert_int_equal(best[0], V > 5 ? 3 : 0);
        assert_int_equal(best[1], -1);
        assert_int_equal(best[2], 0);
        assert_true(nats[1] == 0 && fabsf(nats[2] - logf((float)V)) < 1e-5f);
        float *out = fetched(device, 3 * V);
        for (int64_t v = 0; v < V; v++) assert_true(train ? out[V + v] == 0 : isnan(out[V + v]));
        release();
    }
}

/* ---- rows.cu ---- */

static void rows_are_picked(void **state)
{
    (void)state;
    need_device();
    static const int32_t index[] = {3, -1, 0, 6, 6};
    enum { FROM = 7, TO = 5 };
    for (int w = 0; w < WIDTHS; w++)
        for (int k = 0; k < 3; k++) {
            int64_t H = widths[w];
            float *from = drawn(40, FROM * H, 1), *device = device_floats(from, FROM * H),
                  *to = device_floats(NULL, TO * H);
            int32_t *list = device_ints(index, TO);
            CHECK(rows_pick(context.stream, TO, (size_t)H * sizeof(float), list, device, to));
            float *rows = fetched(to, TO * H);
            for (int64_t i = 0; i < TO * H; i++)
                assert_true(rows[i] == (index[i / H] < 0 ? 0 : from[index[i / H] * H + i % H]));
            uint16_t *halves = device_bytes(NULL, TO * (size_t)H * 2, 0),
                     *picked = host_bytes(TO * (size_t)H * 2);
            CHECK(rows_pick(context.stream, TO, (size_t)H * 2, list, device, halves));
            fetch(picked, halves, TO * (size_t)H * 2);
            for (int64_t i = 0; i < TO * H; i++)
                assert_int_equal(picked[i],
                                 index[i / H] < 0 ? 0 : ((uint16_t *)from)[index[i / H] * H + i % H]);
            OracleMask m = oracle_mask(STEP, 5, 3, keeps[k], 1);
            CHECK(rows_masked(context.stream, TO, H, list, device,
                              mask_site(device_state(STEP, 1, 1), 5, 3, keeps[k], 1), to));
            rows = fetched(to, TO * H);
            for (int64_t i = 0; i < TO * H; i++) {
                int64_t n = index[i / H], u = i % H;
                assert_true(rows[i] == (n < 0 ? 0 : from[n * H + u] * factor_f32(&m, n, H, u)));
            }
            release();
        }
}

/* One row of V logits, all `fill` but one; nats of target 0. */
static float nats_of(int64_t V, float fill, int64_t at, float value, float **gradient)
{
    float *logits = host_floats(V), nats;
    int32_t target = 0;
    for (int64_t v = 0; v < V; v++) logits[v] = v == at ? value : fill;
    float *device = device_floats(logits, V), *nats_device = device_floats(NULL, 1);
    CHECK(softmax_xent(context.stream, 1, V, device_floats(host_floats(V), V), device_ints(&target, 1), 1,
                       0.5f, device, nats_device, NULL));
    fetch(&nats, nats_device, sizeof nats);
    *gradient = fetched(device, V);
    return nats;
}

static void softmax_takes_any_logits(void **state)
{
    static const int64_t sizes[] = {1037, 61001};
    (void)state;
    need_device();
    for (int i = 0; i < 2; i++) {
        int64_t V = sizes[i];
        float *d;
        assert_true(nats_of(V, -1e4f, 0, 1e4f, &d) == 0 && d[0] == 0 && d[V - 1] == 0);
        assert_true(nats_of(V, -1e4f, V - 1, 1e4f, &d) == 2e4f && d[0] == -0.5f && d[V - 1] == 0.5f);
        assert_true(nats_of(V, -INFINITY, 0, 3, &d) == 0 && d[0] == 0 && d[1] == 0);
        assert_true(nats_of(V, -INFINITY, 5, 3, &d) == INFINITY && d[0] == -0.5f && d[5] == 0.5f);
        assert_true(fabsf(nats_of(V, 1e4f, 3, -INFINITY, &d) - logf((float)V - 1)) < 1e-5f && d[3] == 0);
        for (int64_t at = 0; at < V; at += V / 3)
            assert_true(isnan(nats_of(V, 3, at, NAN, &d)) && isnan(d[1]));
        assert_true(isnan(nats_of(V, -INFINITY, 0, -INFINITY, &d)));
        release();
    }
}

static void columns_are_summed(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {3, 15}, {31, 16}, {33, 17}, {700, 92}, {2, 260}};
    (void)state;
    need_device();
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++)
        for (int two = 0; two < 2; two++) {
            int64_t rows = shapes[k][0], cols = shapes[k][1];
            float *m = drawn(9, rows * cols, 1), *plain = host_floats(cols), *out = device_floats(NULL, cols),
                  *also = device_floats(NULL, cols);
            double *exact = host_bytes((size_t)cols * sizeof *exact);
            columns_f64(rows, cols, widened(m, rows * cols), exact);
            columns_f32(rows, cols, m, plain);
            CHECK(column_sums(context.stream, rows, cols, device_floats(m, rows * cols), out,
                              two ? also : NULL));
            float *sums = fetched(out, cols);
            compare("a column's sum", sums, plain, exact, cols, 3);
            if (two) assert_memory_equal(fetched(also, cols), sums, (size_t)cols * sizeof *sums);
            release();
        }
}

/* ---- sgd.cu ---- */

typedef struct SgdCase {
    int64_t dense, N, H, V;
    double clip;
    uint32_t fault;
    int shift;  /* of the weights against 16 bytes */
    int rounds; /* whether the weights are written in bfloat16 too */
} SgdCase;

typedef struct SgdOut {
    float *weights, *encoder;
    uint16_t *rounded; /* canaries where nothing wrote */
    StepResult results[3];
} SgdOut;

/* packed (packed_n) lies on the host. */
static SgdArgs sgd_run(const SgdCase *k, const SgdPacked *packed, int64_t packed_n, SgdOut *out,
                       float **weights, float **grads, float **encoder, float **rows, int32_t **ids,
                       int32_t **first, float **nats)
{
    FaultRecord fault = {.set = k->fault};
    *weights = drawn(10, k->dense, 1), *grads = drawn(11, k->dense, 0.1);
    *encoder = drawn(12, k->V * k->H, 1), *rows = drawn(13, k->N * k->H, 0.1);
    *ids = drawn_ids(14, k->N, k->V), *nats = drawn(15, k->N, 9);
    *first = host_bytes((size_t)k->N * 4);
    for (int64_t n = 0; n < k->N; n++) {
        (*first)[n] = 1;
        for (int64_t m = 0; m < n; m++)
            if ((*ids)[m] == (*ids)[n]) (*first)[n] = 0;
    }
    SgdArgs a = {.state = device_state(late_step, 0.7, k->clip),
                 .fault = device_bytes(&fault, sizeof fault, 0),
                 .weights = device_bytes(*weights, (size_t)k->dense * sizeof(float), k->shift),
                 .grads = device_floats(*grads, k->dense),
                 .dense = k->dense,
                 .encoder = device_floats(*encoder, k->V * k->H),
                 .rows = device_floats(*rows, k->N * k->H),
                 .ids = device_ints(*ids, k->N),
                 .first = device_ints(*first, k->N),
                 .N = k->N,
                 .H = k->H,
                 .packed = packed_n ? device_bytes(packed, (size_t)packed_n * sizeof *packed, 0) : NULL,
                 .packed_n = packed_n,
                 .rounded = k->rounds ? device_bytes(NULL, (size_t)k->dense * 2, k->shift) : NULL,
                 .nats = device_floats(*nats, k->N),
                 .scored = k->N,
                 .partial = device_bytes(NULL, (size_t)sgd_partials(k->dense, k->N) * sizeof(double), 0),
                 .results = device_bytes(NULL, sizeof out->results, 0)};
    CHECK(sgd_norm(context.stream, &a));
    CHECK(sgd_update(context.stream, &a));
    out->weights = fetched(a.weights, k->dense), out->encoder = fetched(a.encoder, k->V * k->H);
    out->rounded = host_bytes((size_t)k->dense * 2);
    if (k->rounds) fetch(out->rounded, a.rounded, (size_t)k->dense * 2);
    fetch(out->results, a.results, sizeof out->results);
    return a;
}

static void sgd_follows_reference(void **state)
{
    static const SgdCase cases[] = {
        {1, 1, 1, 1, 5, 0, 0, 0},
        {5, 3, 7, 2, 5, 0, 1, 0},
        {4096, 15, 23, 6, 0.5, 0, 0, 0},
        {4097, 15, 23, 1000, 50, 0, 3, 0},
        {40001, 300, 64, 50, 5, 0, 2, 0}, /* more positions than blocks for them */
        {30000, 300, 3, 50, 1e9, 0, 0, 0},
        {1003, 40, 130, 1, 0.01, 0, 0, 0},
        {4096 * 1024 + 4099, 1, 1, 1, 5, 0, 0, 0}, /* more elements than the most blocks at their least */
    };
    (void)state;
    need_device();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const SgdCase *k = &cases[i];
        SgdOut out;
        float *w, *g, *e, *r, *nats;
        int32_t *ids, *first;
        sgd_run(k, NULL, 0, &out, &w, &g, &e, &r, &ids, &first, &nats);
        double *exact_w = widened(w, k->dense), *exact_e = widened(e, k->V * k->H);
        double norm = sgd_f64(k->dense, exact_w, widened(g, k->dense), k->N, k->H, ids, first, exact_e,
                              widened(r, k->N * k->H), 0.7, k->clip);
        sgd_f32(k->dense, w, g, k->N, k->H, ids, first, e, r, 0.7, k->clip);
        compare("a weight", out.weights, w, exact_w, k->dense, 3);
        compare("a row of the encoder", out.encoder, e, exact_e, k->V * k->H, 3);
        double sum = 0;
        for (int64_t n = 0; n < k->N; n++) sum += nats[n];
        const StepResult *result = &out.results[1];
        assert_true(result->step == late_step && result->fault == 0);
        /* Two sums of n terms in double, in any two orders, differ by n 2^-52 of the sum of magnitudes; the
         * root halves it. */
        double terms = (double)(k->dense + k->N * k->H);
        assert_true(fabs(result->grad_norm - norm) <= terms * 0x1p-52 * norm);
        assert_true(fabs(result->nats - sum) <= (double)k->N * 0x1p-52 * 9 * (double)k->N);
        uint32_t word;
        memcpy(&word, &out.results[0], 4), assert_int_equal(word, canary); /* other slots stay */
        memcpy(&word, &out.results[2], 4), assert_int_equal(word, canary);
        release();
    }
}

static void fault_leaves_the_weights(void **state)
{
    (void)state;
    need_device();
    SgdCase k = {40001, 30, 23, 12, 0.5, 3, 0, 0};
    SgdOut out;
    float *w, *g, *e, *r, *nats;
    int32_t *ids, *first;
    sgd_run(&k, NULL, 0, &out, &w, &g, &e, &r, &ids, &first, &nats);
    assert_memory_equal(out.weights, w, (size_t)k.dense * sizeof *w);
    assert_memory_equal(out.encoder, e, (size_t)(k.V * k.H) * sizeof *e);
    assert_true(out.results[1].fault == 3 && out.results[1].step == late_step &&
                out.results[1].grad_norm > 0);
    release();
}

/* ---- bfloat16: round.cu and the kernels that round what they have at hand ---- */

/* Bits of x rounded to nearest even. */
static uint16_t bf16_bits(float x)
{
    float rounded = precision_round(PRECISION_BF16, x);
    uint32_t u;
    memcpy(&u, &rounded, sizeof u);
    return (uint16_t)(u >> 16);
}

static void check_bf16(const char *what, const uint16_t *device, const float *from, int64_t n)
{
    uint16_t *got = host_bytes((size_t)n * 2);
    fetch(got, device, (size_t)n * 2);
    for (int64_t i = 0; i < n; i++)
        if (got[i] != bf16_bits(from[i]))
            fail_msg("%s: element %d is %04x of %.9g", what, (int)i, got[i], from[i]);
}

/* Ties, the largest numbers, denormals and infinities among them. */
static void tensors_are_rounded(void **state)
{
    static const uint32_t told[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff,
                                    0xff7f8000, 0x7f800000, 0xff800000, 0x00000001, 0x80008000,
                                    0x00018000, 0x80000000, 0};
    (void)state;
    need_device();
    for (int64_t n = 1; n < 40; n += 3)
        for (int64_t m = 0; m < 12; m += 5) {
            float *x = drawn(17, n, 3), *y = drawn(18, m + 1, 3);
            memcpy(x, told, (size_t)(n < 13 ? n : 13) * 4);
            uint16_t *to = device_bytes(NULL, (size_t)n * 2, (int)n % 2),
                     *other = device_bytes(NULL, (size_t)(m + 1) * 2, 1);
            CHECK(round_bf16(context.stream, (RoundSpan){device_bytes(x, (size_t)n * 4, (int)n % 3), to, n},
                             (RoundSpan){device_floats(y, m + 1), other, m}));
            check_bf16("the first", to, x, n), check_bf16("the second", other, y, m);
            release();
        }
}

/* Padding reads zeros, a feature position its projected row and the bias, both masked as a word is. */
static void embedding_reads_features(void **state)
{
    (void)state;
    need_device();
    static const int32_t ids[] = {2, -2, -1, -4, 0, -3, -1};
    enum { N = 7, V = 3, ROWS = 3 };
    for (int w = 0; w < WIDTHS; w++)
        for (int k = 0; k < 3; k++) {
            int64_t H = widths[w];
            OracleMask m = oracle_mask(STEP, 5, 3, keeps[k], 1);
            MaskSite site = mask_site(device_state(STEP, 1, 1), 5, 3, keeps[k], 1);
            float *encoder = drawn(2, V * H, 1), *projected = drawn(3, ROWS * H, 1), *bias = drawn(4, H, 1);
            EmbeddingTable table = {device_floats(encoder, V * H), device_floats(projected, ROWS * H),
                                    device_floats(bias, H)};
            float *device = device_floats(NULL, N * H);
            int32_t *list = device_ints(ids, N);
            uint16_t *halves = device_bytes(NULL, N * (size_t)H * 2, 0);
            CHECK(embedding_forward(context.stream, N, H, list, &table, site, device));
            float *x = fetched(device, N * H);
            for (int64_t i = 0; i < N * H; i++) {
                int64_t id = ids[i / H], u = i % H;
                float row = id >= 0    ? encoder[id * H + u]
                            : id == -1 ? 0
                                       : projected[(-2 - id) * H + u] + bias[u];
                assert_true(x[i] == row * factor_f32(&m, i / H, H, u));
            }
            CHECK(embedding_forward_bf16(context.stream, N, H, list, &table, site, halves));
            check_bf16("an embedded feature", halves, x, N * H);
            release();
        }
}

/* The same masks, the same sums, and the operands that products read. */
static void producers_round(void **state)
{
    (void)state;
    need_device();
    for (int w = 0; w < WIDTHS; w++) {
        enum { N = 9, V = 5 };
        int64_t H = widths[w], n = N * H;
        MaskSite site = mask_site(device_state(STEP, 1, 1), 5, 3, 0.5, 1);
        float *encoder = device_floats(drawn(2, V * H, 1), V * H), *x = device_floats(NULL, n),
              *sums = device_floats(NULL, H), *also = device_floats(NULL, H);
        int32_t *ids = device_ints(drawn_ids(3, N, V), N);
        EmbeddingTable table = {.encoder = encoder};
        uint16_t *rounded = device_bytes(NULL, (size_t)n * 2, 0);
        CHECK(embedding_forward(context.stream, N, H, ids, &table, site, x));
        CHECK(embedding_forward_bf16(context.stream, N, H, ids, &table, site, rounded));
        check_bf16("an embedded word", rounded, fetched(x, n), n);

        CHECK(column_sums(context.stream, N, H, x, sums, NULL));
        float *plain = fetched(sums, H);
        rounded = device_bytes(NULL, (size_t)n * 2, 0);
        CHECK(column_sums_bf16(context.stream, N, H, x, sums, also, rounded));
        assert_memory_equal(fetched(sums, H), plain, (size_t)H * sizeof *plain);
        assert_memory_equal(fetched(also, H), plain, (size_t)H * sizeof *plain);
        check_bf16("a summed gradient", rounded, fetched(x, n), n);
        release();
    }
}

/* w_hh in bfloat16 fragments: row g or g + 8 of 16, columns 2q and 2q + 1 or 8 further, of lane 4g + q. */
static uint16_t *tiles_of(const float *w_hh, int64_t H)
{
    int64_t rows = tensor_row_tiles(H), across = tensor_k_tiles(H, PRECISION_BF16);
    uint16_t *tiles = host_bytes(tensor_copy_bytes(H));
    for (int64_t r = 0; r < 16 * rows; r++)
        for (int64_t k = 0; k < 16 * across; k++) {
            int64_t g = r % 8, q = k % 8 / 2, word = (k % 16 / 8) * 2 + r % 16 / 8;
            int64_t at = (((r / 16 * across + k / 16) * 32 + 4 * g + q) * 4 + word) * 2 + k % 2;
            if (r / 4 < H && k < H) tiles[at] = bf16_bits(w_hh[(r % 4 * H + r / 4) * H + k]);
        }
    return tiles;
}

static void weights_are_tiled(void **state)
{
    (void)state;
    need_device();
    static const int64_t sizes[] = {1, 3, 4, 5, 8, 16, 17, 23, 33, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t H = sizes[i], n = 4 * H * H;
        size_t bytes = tensor_copy_bytes(H);
        float *w = drawn(16, n, 1);
        void *to = device_bytes(NULL, bytes, 0), *got = host_bytes(bytes);
        CHECK(lstm_pack_tiles(context.stream, H, device_floats(w, n), to));
        fetch(got, to, bytes);
        assert_memory_equal(got, tiles_of(w, H), bytes);
        release();
    }
}

/* ---- pack.cu, and the packed copies that the update writes ---- */

static float *packed_of(const float *w_hh, int64_t H)
{
    float *packed = host_floats(4 * H * H);
    for (int64_t k = 0; k < H; k++)
        for (int64_t unit = 0; unit < H; unit++)
            for (int64_t gate = 0; gate < 4; gate++)
                packed[(k * H + unit) * 4 + gate] = w_hh[(gate * H + unit) * H + k];
    return packed;
}

static void weights_are_packed(void **state)
{
    (void)state;
    need_device();
    static const int64_t sizes[] = {1, 2, 3, 7, 8, 23, 31, 32, 33, 64, 130};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t H = sizes[i], n = 4 * H * H;
        float *w = drawn(16, n, 1), *to = device_floats(NULL, n);
        CHECK(lstm_pack(context.stream, H, device_floats(w, n), to));
        assert_memory_equal(fetched(to, n), packed_of(w, H), (size_t)n * sizeof *w);
        release();
    }
}

/* What is written of an update's weights in bfloat16: everything but the packed tensors. */
static void check_rounded(const SgdCase *k, const SgdOut *out, const SgdPacked *packed, int64_t tensors,
                          int64_t n)
{
    for (int64_t i = 0; k->rounds && i < k->dense; i++) {
        uint16_t want = bf16_bits(out->weights[i]), at_start = (uint16_t)(canary >> i % 2 * 16);
        for (int64_t t = 0; t < tensors; t++)
            if (k->fault || (i >= packed[t].at && i < packed[t].at + n)) want = at_start;
        if (out->rounded[i] != want)
            fail_msg("weight %d is %04x in bfloat16, not %04x", (int)i, out->rounded[i], want);
    }
}

/* Weights have the same bits with packed copies of either kind as without, the copies are those of the new weights, and a fault
 * leaves all of them. */
static void update_packs_the_new_weights(void **state)
{
    (void)state;
    need_device();
    static const struct {
        int64_t H, n, first, gap,
            rest; /* n tensors, from element `first` on, `gap` apart, `rest` behind the last */
    } cases[] = {{1, 1, 0, 0, 0},         {1, 3, 4, 4, 1},     {7, 2, 64, 60, 5},    {8, 1, 0, 0, 3},
                 {23, 2, 2000, 60, 9000}, {33, 1, 4096, 0, 1}, {64, 3, 128, 0, 4097}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int turn = 0; turn < 4; turn++) {
            uint32_t fault = turn == 3;
            bool vector = turn != 1, tiled = turn != 0;
            int64_t H = cases[i].H, n = 4 * H * H, tensors = cases[i].n, pitch = n + cases[i].gap;
            SgdCase k = {
                cases[i].first + (tensors - 1) * pitch + n + cases[i].rest, 9, H, 4, 0.5, fault, 0, tiled};
            size_t bytes = tensor_copy_bytes(H);
            SgdOut plain, out;
            SgdPacked packed[3];
            float *w, *g, *e, *r, *nats, *to[3];
            void *tiles[3], *got_tiles = host_bytes(bytes);
            int32_t *ids, *first;
            for (int64_t t = 0; t < tensors; t++) {
                to[t] = device_floats(NULL, n), tiles[t] = device_bytes(NULL, bytes, 0);
                packed[t] =
                    (SgdPacked){cases[i].first + t * pitch, vector ? to[t] : NULL, tiled ? tiles[t] : NULL};
            }
            sgd_run(&k, NULL, 0, &plain, &w, &g, &e, &r, &ids, &first, &nats);
            sgd_run(&k, packed, tensors, &out, &w, &g, &e, &r, &ids, &first, &nats);
            assert_memory_equal(out.weights, plain.weights, (size_t)k.dense * sizeof *w);
            assert_memory_equal(out.encoder, plain.encoder, (size_t)(k.V * H) * sizeof *w);
            assert_memory_equal(&out.results[1], &plain.results[1], sizeof out.results[1]);
            assert_true(fault || memcmp(out.weights, w, (size_t)k.dense * sizeof *w));
            for (int64_t t = 0; t < tensors; t++) {
                float *got = fetched(to[t], n), *want = packed_of(out.weights + packed[t].at, H);
                for (int64_t j = 0; (fault || !vector) && j < n; j++) memcpy(&want[j], &canary, 4);
                assert_memory_equal(got, want, (size_t)n * sizeof *got);
                uint16_t *want_tiles = tiles_of(out.weights + packed[t].at, H);
                for (size_t j = 0; (fault || !tiled) && j < bytes; j += 4)
                    memcpy((char *)want_tiles + j, &canary, 4);
                fetch(got_tiles, tiles[t], bytes);
                assert_memory_equal(got_tiles, want_tiles, bytes);
            }
            check_rounded(&k, &out, packed, tensors, n);
            release();
        }
}

/* ---- the recurrence ---- */

enum { NO_SITES, OUTPUT_SITE, ALL_SITES };

typedef struct Recurrence {
    int64_t T, B, H;
    double keep;
    int sites;
} Recurrence;

static const Recurrence recurrences[] = {
    {1, 1, 1, 1, NO_SITES},         {1, 1, 1, 0.5, ALL_SITES},   {1, 3, 7, 0.35, ALL_SITES},
    {6, 1, 7, 0.5, OUTPUT_SITE},    {9, 3, 23, 0.5, ALL_SITES},  {9, 3, 23, 1, NO_SITES},
    {20, 2, 23, 0.35, OUTPUT_SITE}, {5, 1, 64, 1, ALL_SITES},    {12, 5, 64, 0.5, ALL_SITES},
    {12, 5, 64, 0.35, OUTPUT_SITE}, {3, 20, 64, 0.5, ALL_SITES}, {2, 2, 130, 0.5, ALL_SITES},
    {35, 2, 1, 0.35, ALL_SITES},    {5, 20, 23, 0.5, ALL_SITES},
};
enum { RECURRENCES = sizeof recurrences / sizeof recurrences[0] };

/* What goes in, on the host; and what the oracle makes of it, in double and in float with the operands of its products rounded to
 * `precision`. */
typedef struct Tensors {
    LstmPrecision precision;
    float *w_hh, *b_ih, *b_hh, *x_proj, *h0, *c0, *dy, *packed;
    double *gates, *h, *c, *y, *h_masked, *dgates;
    float *plain_gates, *plain_h, *plain_c, *plain_y, *plain_h_masked, *plain_dgates;
    OracleMask output, recurrent;
} Tensors;

/* The float loops of x anew, in another precision. */
static void recurrence_rounds(const Recurrence *k, Tensors *x, LstmPrecision precision)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H;
    float *w_hh = host_floats(4 * H * H), *carry = host_floats(2 * B * H);
    for (int64_t i = 0; i < 4 * H * H; i++) w_hh[i] = precision_round(precision, x->w_hh[i]);
    x->precision = precision, oracle_operand = oracle_round(precision);
    memcpy(x->plain_gates, x->x_proj, (size_t)(4 * n) * sizeof(float));
    forward_f32(T, B, H, w_hh, x->b_ih, x->b_hh, x->plain_gates, x->plain_h, x->plain_c, x->plain_y,
                x->plain_h_masked, &x->output, &x->recurrent);
    memcpy(x->plain_dgates, x->plain_gates, (size_t)(4 * n) * sizeof(float));
    backward_f32(T, B, H, w_hh, x->plain_c, x->dy, x->plain_dgates, carry, &x->output, &x->recurrent);
    oracle_operand = NULL;
}

static Tensors recurrence_tensors(const Recurrence *k)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H;
    Tensors x = {.w_hh = drawn(20, 4 * H * H, 1.5 / sqrt((double)H)),
                 .b_ih = drawn(21, 4 * H, 0.5),
                 .b_hh = drawn(22, 4 * H, 0.5),
                 .x_proj = drawn(23, 4 * n, 2),
                 .h0 = drawn(24, B * H, 1),
                 .c0 = drawn(25, B * H, 2),
                 .dy = drawn(26, n, 1),
                 .output = oracle_mask(STEP, 5, 1, k->keep, k->sites >= OUTPUT_SITE),
                 .recurrent = oracle_mask(STEP, 5, 3, k->keep, k->sites == ALL_SITES)};
    float *none = host_floats(n + B * H);
    x.packed = packed_of(x.w_hh, H);
    x.gates = widened(x.x_proj, 4 * n), x.h = widened(none, n + B * H), x.c = widened(none, n + B * H);
    x.y = widened(none, n), x.h_masked = widened(none, n);
    x.plain_gates = host_floats(4 * n), x.plain_dgates = host_floats(4 * n);
    x.plain_h = host_floats(n + B * H), x.plain_c = host_floats(n + B * H);
    x.plain_y = host_floats(n), x.plain_h_masked = host_floats(n);
    for (int64_t i = 0; i < B * H; i++) {
        x.h[i] = x.plain_h[i] = x.h0[i];
        x.c[i] = x.plain_c[i] = x.c0[i];
    }
    double *w_hh = widened(x.w_hh, 4 * H * H), *dy = widened(x.dy, n),
           *carry = widened(host_floats(2 * B * H), 2 * B * H);
    forward_f64(T, B, H, w_hh, widened(x.b_ih, 4 * H), widened(x.b_hh, 4 * H), x.gates, x.h, x.c, x.y,
                x.h_masked, &x.output, &x.recurrent);
    x.dgates = host_bytes((size_t)(4 * n) * sizeof(double));
    memcpy(x.dgates, x.gates, (size_t)(4 * n) * sizeof(double));
    backward_f64(T, B, H, w_hh, x.c, dy, x.dgates, carry, &x.output, &x.recurrent);
    recurrence_rounds(k, &x, PRECISION_F32);
    return x;
}

/* Both passes, ready to run on the device. */
typedef struct Passes {
    LstmForward forward;
    LstmBackward backward;
} Passes;

static Passes recurrence_passes(const Recurrence *k, const Tensors *x)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H;
    const StepState *state = device_state(STEP, 1, 1);
    float *h = malloc((size_t)(n + B * H) * sizeof *h), *c = malloc((size_t)(n + B * H) * sizeof *c);
    assert_true(h && c);
    for (int64_t i = 0; i < n + B * H; i++) h[i] = c[i] = NAN;
    memcpy(h, x->h0, (size_t)(B * H) * sizeof *h), memcpy(c, x->c0, (size_t)(B * H) * sizeof *c);
    Passes p;
    p.forward = (LstmForward){.shape = {T, B, H, x->precision},
                              .w_hh = device_floats(x->w_hh, 4 * H * H),
                              .w_packed = device_floats(x->packed, 4 * H * H),
                              .w_tiles = x->precision == PRECISION_BF16
                                             ? device_bytes(tiles_of(x->w_hh, H), tensor_copy_bytes(H), 0)
                                             : NULL,
                              .b_ih = device_floats(x->b_ih, 4 * H),
                              .b_hh = device_floats(x->b_hh, 4 * H),
                              .gates = device_floats(x->x_proj, 4 * n),
                              .h = device_floats(h, n + B * H),
                              .c = device_floats(c, n + B * H),
                              .y = k->sites >= OUTPUT_SITE ? device_floats(NULL, n) : NULL,
                              .h_masked = k->sites == ALL_SITES ? device_floats(NULL, n) : NULL,
                              .output = mask_site(state, 5, 1, k->keep, k->sites >= OUTPUT_SITE),
                              .recurrent = mask_site(state, 5, 3, k->keep, k->sites == ALL_SITES)};
    p.backward = (LstmBackward){.shape = p.forward.shape,
                                .w_hh = p.forward.w_hh,
                                .w_tiles = p.forward.w_tiles,
                                .h = p.forward.h,
                                .c = p.forward.c,
                                .dy = device_floats(x->dy, n),
                                .gates = p.forward.gates,
                                .dh = device_floats(NULL, B * H),
                                .dc = device_floats(NULL, B * H),
                                .output = p.forward.output,
                                .recurrent = p.forward.recurrent};
    free(h), free(c);
    return p;
}

/* ---- plans ---- */

/* A way to make a plan. */
typedef struct Making {
    const char *override;
    int streams; /* half of the weights that the plan keeps in shared memory are to be streamed */
    int64_t
        more_rows; /* the plan is for so many rows more than there are; fewer: it runs in ranges of them */
} Making;

static const Making makings[] = {
    {"", 0, 0},
    {"blocks=3,threads=64", 0, -2},
    {"blocks=2,threads=64,registers=32", 1, 0},
    {"blocks=5,threads=96,groups=2", 0, 3},
    {"blocks=2,threads=128,replicas=1,groups=1,batch=4", 1, 0},
    {"blocks=4,threads=32,replicas=2,registers=32", 0, 0},
};
enum { MAKINGS = sizeof makings / sizeof makings[0] };

/* The same for variants on tensor cores, whose units come in fours and whose batch in eights. */
static const Making tensor_makings[MAKINGS] = {
    {"", 0, 0},
    {"blocks=6,replicas=1,batch=8,slices=4,cluster=1", 0, -2},
    {"blocks=12,slices=1,registers=32,cluster=2", 1, 0},
    {"blocks=4,threads=128,cluster=4", 0, 3},
    {"blocks=12,replicas=1,batch=8,slices=1,registers=32,cluster=1", 1, 0},
    {"blocks=12,threads=128,replicas=2,registers=32,slices=1,cluster=2", 0, 0},
};

/* The same inside one cluster, which streams nothing. */
static const Making cluster_makings[MAKINGS] = {
    {"", 0, 0},
    {"cluster=2,replicas=2", 0, 3},
    {"cluster=4,slices=1", 0, 0},
    {"cluster=8,replicas=1,slices=3", 0, -2},
    {"cluster=3,replicas=3,batch=8", 0, -1},
    {"cluster=16,slices=4", 0, 0},
};

static const Making *making_of(const LstmVariant *v, int m)
{
    LstmKind kind = v->footprint->kind;
    return kind == KIND_MMA ? &tensor_makings[m] : kind == KIND_CLUSTER ? &cluster_makings[m] : &makings[m];
}

static int persistent(const LstmVariant *v) { return v->footprint->tile[0] != NULL; }

/* Whether its blocks meet at the barrier of the grid. */
static bool has_barrier(const LstmVariant *v)
{
    return v->footprint->kind == KIND_VECTOR || v->footprint->kind == KIND_MMA;
}

/* Whether the variant has the precision, and the device what it needs. */
static bool runs_here(const LstmVariant *v, LstmPrecision precision)
{
    LstmKind kind = v->footprint->kind;
    if (!(v->footprint->precisions >> precision & 1)) return false;
    return kind == KIND_MMA ? facts.major >= 8 : kind == KIND_CLUSTER ? facts.clusters : true;
}

/* The precision that a variant runs in where one has to do. */
static LstmPrecision first_precision(const LstmVariant *v)
{
    return (LstmPrecision)__builtin_ctz(v->footprint->precisions);
}

/* The pass's plan, its scratch with `epoch` in every barrier word. 0: that making has no plan. */
static int launch_made(const LstmVariant *v, const LstmShape *of, int backward, const Making *m,
                       uint32_t epoch, LstmPlan *plan, LstmLaunch *launch)
{
    Error e;
    PlanOverride force;
    LstmShape shape = {of->T, of->B + m->more_rows < 1 ? 1 : of->B + m->more_rows, of->H, of->precision};
    int blocks;
    *launch = (LstmLaunch){0};
    if (!persistent(v)) return 1;
    if (plan_override_parse(m->override, &force, &e)) fail_msg("%s", e.text);
    if (lstm_plan(&facts, &shape, v->footprint, backward, &force, &constants, plan, &e)) {
        if (!*m->override) fail_msg("%s", e.text);
        return 0;
    }
    if (m->streams && plan->shared > 1 && plan->kind != KIND_CLUSTER) {
        size_t kept = plan_piece_bytes(plan->kind == KIND_MMA ? mma_pieces(plan).weights
                                       : backward             ? plan_backward_pieces(plan).weights
                                                              : plan_forward_pieces(plan).weights);
        force = (PlanOverride){.blocks = plan->blocks,
                               .threads = plan->threads,
                               .replicas = plan->replicas,
                               .groups = plan->groups,
                               .slices = plan->slices,
                               .tile = plan->tile + 1,
                               .cluster = plan->cluster,
                               .shared = (int32_t)(plan->shared_bytes - kept / 2)};
        if (lstm_plan(&facts, &shape, v->footprint, backward, &force, &constants, plan, &e))
            fail_msg("%s", e.text);
        assert_true(plan->shared > 0 && plan->streamed > 0);
    }
    CHECK(v->resident_blocks(plan, &blocks));
    assert_true(blocks >= plan->replicas * plan->blocks);
    int words = has_barrier(v) ? plan->replicas * plan->blocks : 0;
    char *zeros = calloc(1, plan->scratch_bytes);
    uint32_t *word = (uint32_t *)(zeros + plan->scratch_bytes) - words;
    for (int i = 0; i < words; i++) word[i] = epoch;
    *launch = (LstmLaunch){plan, device_bytes(zeros, plan->scratch_bytes, 0), 1 << 22};
    free(zeros);
    return 1;
}

/* What the plans that were run have in them, by variant and direction. */
typedef struct Seen {
    int runs, ranges, ragged, passes, replicas, groups, slices, chunks, rounds, resident, shared, mixed,
        streamed;
    int clusters; /* bit per size */
} Seen;

static void see(Seen *s, const LstmPlan *p, int64_t B, int64_t H)
{
    s->runs++;
    s->ranges |= plan_ranges(p, B) > 1;
    s->ragged |= H % p->units != 0;
    s->passes |= p->passes > 1;
    s->replicas |= p->replicas > 1;
    s->groups |= p->groups > 1;
    s->slices |= p->slices > 2;
    s->chunks |= p->backward || p->kind != KIND_VECTOR || p->chunks > 2;
    s->rounds |= !p->backward || p->kind != KIND_VECTOR || p->rounds > 1;
    s->clusters |= p->cluster;
    s->resident |= p->resident > 0 && p->depth > p->resident;
    s->shared |= p->shared > 0 && !p->streamed;
    s->mixed |= p->shared > 0 && p->streamed > 0;
    s->streamed |= p->streamed > 0;
}

static void told(const char *what, const LstmVariant *v, LstmPrecision precision, const Recurrence *k,
                 const Making *m, const LstmPlan *plan)
{
    char text[PLAN_TEXT] = "none";
    if (persistent(v)) plan_text(plan, text, sizeof text);
    told_B = k->B, told_H = k->H;
    snprintf(told_case, sizeof told_case,
             "%s %s %s T %d B %d H %d keep %g sites %d on %s, override '%s'%s, plan %s", what,
             v->footprint->name, precision_name(precision), (int)k->T, (int)k->B, (int)k->H, k->keep,
             k->sites, facts.name, m->override, m->streams ? ", half streamed" : "", text);
}

static void check_forward(const Recurrence *k, const Tensors *x, const LstmForward *p)
{
    int64_t B = k->B, H = k->H, n = k->T * B * H;
    float *h = fetched(p->h, n + B * H);
    compare("h", h, x->plain_h, x->h, n + B * H, 2);
    compare("c", fetched(p->c, n + B * H), x->plain_c, x->c, n + B * H, 2);
    compare("gates", fetched(p->gates, 4 * n), x->plain_gates, x->gates, 4 * n, 2);
    float *y = p->y ? fetched(p->y, n) : NULL, *h_masked = p->h_masked ? fetched(p->h_masked, n) : NULL;
    for (int64_t j = 0; j < n; j++) { /* masks: the bits, not a tolerance */
        if (y && y[j] != h[B * H + j] * factor_f32(&x->output, j / H, H, j % H))
            fail_msg("y[%lld] is not h masked: %s", (long long)j, told_case);
        if (h_masked && h_masked[j] != h[j] * factor_f32(&x->recurrent, j / H, H, j % H))
            fail_msg("h_masked[%lld] is not h masked: %s", (long long)j, told_case);
    }
}

/* One variant in both directions by one making. */
static void recurrence_case(const LstmVariant *v, const Recurrence *k, const Tensors *x, const Making *m,
                            Seen seen[2])
{
    int64_t n = k->T * k->B * k->H;
    int kept = host_count;
    LstmPlan plan[2];
    Passes p = recurrence_passes(k, x);
    if (launch_made(v, &p.forward.shape, 0, m, 0, &plan[0], &p.forward.launch)) {
        told("forward", v, x->precision, k, m, &plan[0]);
        CHECK(v->forward(&context, &p.forward));
        check_forward(k, x, &p.forward);
        if (persistent(v)) see(&seen[0], &plan[0], k->B, k->H);
    } else { /* what the other pass needs */
        upload(p.forward.h, x->plain_h, (size_t)(n + k->B * k->H) * 4);
        upload(p.forward.c, x->plain_c, (size_t)(n + k->B * k->H) * 4);
        upload(p.forward.gates, x->plain_gates, (size_t)(4 * n) * 4);
    }
    if (launch_made(v, &p.forward.shape, 1, m, 0, &plan[1], &p.backward.launch)) {
        told("backward", v, x->precision, k, m, &plan[1]);
        CHECK(v->backward(&context, &p.backward));
        compare("dgates", fetched(p.backward.gates, 4 * n), x->plain_dgates, x->dgates, 4 * n, 3);
        if (persistent(v)) see(&seen[1], &plan[1], k->B, k->H);
    }
    release_device();
    while (host_count > kept) free(host_pieces[--host_count]);
}
static bool slow_build(void)
{
#ifdef CUDA_EMU
    return strcmp(emu_mode(), "plain") != 0;
#else
    return false;
#endif
}

/* Whether the whole list runs, on the devices that it was made for. */
static bool emulated_whole(void)
{
#ifdef CUDA_EMU
    return !slow_build();
#else
    return false;
#endif
}

static bool long_lists(void)
{
    const char *text = getenv("PLSTM_LONG");
    return text && text[0] && !slow_build();
}

/* One cluster's plans: one pass, nothing streamed. */
static void seen_all_of_cluster(const LstmVariant *v, const Seen seen[2])
{
    for (int back = 0; back < 2; back++) {
        const Seen *s = &seen[back];
        if (s->runs && s->ranges && s->ragged && s->replicas && s->groups && (back || s->slices) &&
            !s->streamed && (s->clusters & 15) == 15)
            continue;
        fail_msg("%s %s: of %d plans some had ranges %d, ragged %d, replicas %d, groups %d, slices %d, "
                 "streamed %d, clusters %x",
                 v->footprint->name, back ? "backward" : "forward", s->runs, s->ranges, s->ragged,
                 s->replicas, s->groups, s->slices, s->streamed, s->clusters);
    }
}

static void seen_all(const LstmVariant *v, const Seen seen[2])
{
    const LstmFootprint *f = v->footprint;
    for (int back = 0; back < 2; back++) {
        const Seen *s = &seen[back];
        int resident = 0, shared = f->shared_weights;
        for (int i = 0; i < f->tiles[back]; i++) resident |= f->tile[back][i].resident > 0;
        if (s->runs && s->ranges && s->ragged && s->passes && s->replicas && s->groups && s->slices &&
            s->chunks && s->rounds && s->resident >= resident && s->shared >= shared && s->mixed >= shared &&
            s->streamed && (f->kind != KIND_MMA || !back || s->clusters == (1 | 2 | 4)))
            continue;
        fail_msg(
            "%s %s: of %d plans some had ranges %d, ragged %d, passes %d, replicas %d, groups %d, slices %d, "
            "chunks %d, rounds %d, more than registers %d, all in shared memory %d, shared and streamed "
            "%d, streamed %d, clusters %d",
            f->name, back ? "backward" : "forward", s->runs, s->ranges, s->ragged, s->passes, s->replicas,
            s->groups, s->slices, s->chunks, s->rounds, s->resident, s->shared, s->mixed, s->streamed,
            s->clusters);
    }
}

enum { VARIANTS_MOST = 16 };

/* Every variant in both directions, in plans of every kind, at the list's shapes. */
static void recurrence_follows_reference(void **state)
{
    (void)state;
    need_device();
    Seen seen[VARIANTS_MOST][PRECISIONS][2] = {0};
    for (int d = 0; d < DEVICES; d++) {
        device_choose(devices[d]);
        for (int i = 0; i < RECURRENCES; i++) {
            const Recurrence *k = &recurrences[i];
            if (slow_build() && (i + 2 * d) % 4) continue;
            Tensors x = recurrence_tensors(k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(k, &x, (LstmPrecision)p);
                for (int v = 0; lstm_variants[v]; v++)
                    for (int m = 0; m < MAKINGS && runs_here(lstm_variants[v], (LstmPrecision)p); m++) {
                        int turns = i + v + p + 2 * d; /* tensor cores are on one of the devices only */
                        bool free_plan = m == 0, turn = m == 1 + turns % (MAKINGS - 1);
                        if (!slow_build() && lstm_variants[v]->footprint->kind != KIND_VECTOR)
                            turn |= m == 1 + (turns + 2) % (MAKINGS - 1);
                        if (persistent(lstm_variants[v]) ? !turn && (slow_build() || !free_plan) : m)
                            continue;
                        recurrence_case(lstm_variants[v], k, &x, making_of(lstm_variants[v], m), seen[v][p]);
                    }
            }
            release();
        }
    }
    /* What a list of plans covers is of the profiles that it was made for: another GPU may have no such plan. */
    for (int v = 0; lstm_variants[v]; v++)
        for (int p = 0; p < PRECISIONS; p++)
            if (persistent(lstm_variants[v]) && emulated_whole() &&
                lstm_variants[v]->footprint->precisions >> p & 1)
                (lstm_variants[v]->footprint->kind == KIND_CLUSTER ? seen_all_of_cluster
                                                                   : seen_all)(lstm_variants[v], seen[v][p]);
}

/* ---- gradients of the state ---- */

/* The oracle's backward pass with what flows in from beyond the window; dgates as the pass leaves them, carry (2,B,H) dh_0 and dc_0. */
typedef struct StateGradient {
    float *in; /* (2,B,H): dh_n, dc_n */
    double *dgates, *carry;
    float *plain_dgates, *plain_carry;
} StateGradient;

static StateGradient state_gradient(const Recurrence *k, const Tensors *x)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H, row = B * H;
    StateGradient s = {.in = drawn(27, 2 * row, 1), .plain_dgates = host_floats(4 * n)};
    s.dgates = host_bytes((size_t)(4 * n) * sizeof(double));
    s.carry = widened(s.in, 2 * row);
    s.plain_carry = host_floats(2 * row);
    memcpy(s.dgates, x->gates, (size_t)(4 * n) * sizeof(double));
    memcpy(s.plain_dgates, x->plain_gates, (size_t)(4 * n) * sizeof(float));
    memcpy(s.plain_carry, s.in, (size_t)(2 * row) * sizeof(float));
    backward_f64(T, B, H, widened(x->w_hh, 4 * H * H), x->c, widened(x->dy, n), s.dgates, s.carry, &x->output,
                 &x->recurrent);
    float *w_hh = host_floats(4 * H * H);
    for (int64_t i = 0; i < 4 * H * H; i++) w_hh[i] = precision_round(x->precision, x->w_hh[i]);
    oracle_operand = oracle_round(x->precision);
    backward_f32(T, B, H, w_hh, x->plain_c, x->dy, s.plain_dgates, s.plain_carry, &x->output, &x->recurrent);
    oracle_operand = NULL;
    return s;
}

/* One variant's backward pass behind the oracle's forward one: with nothing, with zeros and with gradients from beyond the window. */
static void state_gradient_case(const LstmVariant *v, const Recurrence *k, const Tensors *x,
                                const StateGradient *s, const Making *m)
{
    int64_t n = k->T * k->B * k->H, row = k->B * k->H;
    size_t gates = (size_t)(4 * n) * sizeof(float), state = (size_t)(n + row) * sizeof(float);
    int kept = host_count;
    LstmPlan plan;
    Passes p = recurrence_passes(k, x);
    LstmBackward *q = &p.backward;
    if (launch_made(v, &p.forward.shape, 1, m, 0, &plan, &q->launch)) {
        told("gradients of the state", v, x->precision, k, m, &plan);
        const float *zeros = device_floats(host_floats(2 * row), 2 * row),
                    *in = device_floats(s->in, 2 * row);
        float *out = device_floats(NULL, 2 * row), *dgates[3] = {0};
        upload(p.forward.h, x->plain_h, state);
        upload(p.forward.c, x->plain_c, state);
        for (int i = 0; i < 3; i++) {
            const float *from = i == 2 ? in : i == 1 ? zeros : NULL;
            q->dh_n = from, q->dc_n = from ? from + row : NULL;
            q->dh_0 = i ? out : NULL, q->dc_0 = i ? out + row : NULL;
            upload(q->gates, x->plain_gates, gates);
            CHECK(v->backward(&context, q));
            dgates[i] = fetched(q->gates, 4 * n);
        }
        for (int64_t j = 0; j < 4 * n; j++) /* but for the sign of a zero */
            if (dgates[0][j] != dgates[1][j])
                fail_msg("dgates[%lld] is %.9g with zeros and %.9g without; %s", (long long)j, dgates[1][j],
                         dgates[0][j], told_case);
        float *carry = fetched(out, 2 * row);
        compare("dgates", dgates[2], s->plain_dgates, s->dgates, 4 * n, 3);
        compare("dh_0", carry, s->plain_carry, s->carry, row, 3);
        compare("dc_0", carry + row, s->plain_carry + row, s->carry + row, row, 3);
    }
    release_device();
    while (host_count > kept) free(host_pieces[--host_count]);
}

/* Variants for which every make test does it; the others in make test-long. */
static bool state_gradient_is_short(const LstmVariant *v)
{
    return !strcmp(v->footprint->name, "reg") || v->footprint->kind == KIND_CLUSTER;
}

static void state_gradients_follow_reference(void **state)
{
    (void)state;
    need_device();
    for (int d = 0; d < DEVICES; d++) {
        device_choose(devices[d]);
        for (int i = 0; i < RECURRENCES; i++) {
            const Recurrence *k = &recurrences[i];
            if (!long_lists() && (i + d) % 4 != 2) continue;
            Tensors x = recurrence_tensors(k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(k, &x, (LstmPrecision)p);
                StateGradient s = state_gradient(k, &x);
                for (int v = 0; lstm_variants[v]; v++) {
                    if (!runs_here(lstm_variants[v], (LstmPrecision)p)) continue;
                    if (!long_lists() && !state_gradient_is_short(lstm_variants[v])) continue;
                    for (int m = 0; m < (persistent(lstm_variants[v]) ? MAKINGS : 1); m++)
                        if (long_lists() || m == (i + p) % MAKINGS)
                            state_gradient_case(lstm_variants[v], k, &x, &s, making_of(lstm_variants[v], m));
                }
            }
            release();
        }
    }
}

/* The oracle's own dh_0 and dc_0 against central differences of sum(dy y) + sum(dh_n h_T) + sum(dc_n c_T): the stencil errs by about
 * 1e-11, as in test_gradients. */
static void state_gradients_are_those_of_the_forward_pass(void **state)
{
    (void)state;
    enum { T = 3, B = 2, H = 5, N = T * B * H, ROW = B * H };
    const Recurrence k = {T, B, H, 0.5, ALL_SITES};
    Tensors x = recurrence_tensors(&k);
    StateGradient s = state_gradient(&k, &x);
    double *w_hh = widened(x.w_hh, 4 * H * H), *b_ih = widened(x.b_ih, 4 * H), *b_hh = widened(x.b_hh, 4 * H);
    double h[N + ROW], c[N + ROW], y[N], h_masked[N], gates[4 * N], worst = 0;
    for (int i = 0; i < 2 * ROW; i++) {
        double f[4], at[4] = {-2, -1, 1, 2}, e = 1e-4;
        for (int m = 0; m < 4; m++) {
            for (int j = 0; j < 4 * N; j++) gates[j] = x.x_proj[j];
            for (int j = 0; j < ROW; j++) h[j] = x.h0[j], c[j] = x.c0[j];
            (i < ROW ? h : c)[i % ROW] += at[m] * e;
            forward_f64(T, B, H, w_hh, b_ih, b_hh, gates, h, c, y, h_masked, &x.output, &x.recurrent);
            f[m] = 0;
            for (int j = 0; j < N; j++) f[m] += x.dy[j] * y[j];
            for (int j = 0; j < ROW; j++) f[m] += s.in[j] * h[N + j] + s.in[ROW + j] * c[N + j];
        }
        double error = fabs((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * e) - s.carry[i]);
        if (!(error <= worst)) worst = error;
    }
    if (!(worst < 1e-8)) fail_msg("|fd - g| reaches %.3g", worst);
    release();
}

/* What registers do not hold of one cluster's weights is in shared memory: with fewer registers than the planner would take. */
static void clusters_keep_weights_in_shared_memory(void **state)
{
    (void)state;
    need_device();
    const Recurrence k = {2, 2, 130, 0.5, ALL_SITES};
    const Making making = {"cluster=3,slices=1,registers=80", 0, 0};
    Tensors x = recurrence_tensors(&k);
    for (int p = 0; p < PRECISIONS; p++)
        for (int v = 0; lstm_variants[v]; v++) {
            Seen seen[2] = {0};
            if (lstm_variants[v]->footprint->kind != KIND_CLUSTER ||
                !runs_here(lstm_variants[v], (LstmPrecision)p))
                continue;
            recurrence_rounds(&k, &x, (LstmPrecision)p);
            recurrence_case(lstm_variants[v], &k, &x, &making, seen);
            assert_true(seen[0].resident && seen[0].shared && seen[1].resident && seen[1].shared);
        }
    release();
}

/* All shapes of the list, both devices, free plans and others in turn; and the width of preset medium. */
static void recurrence_follows_reference_at_length(void **state)
{
    static const int64_t H[] = {1, 7, 23, 64, 200}, B[] = {1, 3, 20}, T[] = {1, 2, 5, 20};
    enum { SHAPES = 5 * 3 * 4 * 3 };
    (void)state;
    need_device();
    if (!long_lists()) {
        print_message("skipped: a part of make test-long, in the plain build\n");
        skip();
    }
    Seen seen[2] = {0};
    int turn = 0;
    for (int d = 0; d < DEVICES; d++) {
        device_choose(devices[d]);
        for (int i = 0; i <= SHAPES; i++) {
            Recurrence k = {T[i / 3 % 4], B[i / 12 % 3], H[i / 36 % 5], keeps[i % 3], (i + i / 3) % 3};
            if (i == SHAPES) k = (Recurrence){2, 20, 650, 0.5, OUTPUT_SITE};
            Tensors x = recurrence_tensors(&k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(&k, &x, (LstmPrecision)p);
                for (int v = 0; lstm_variants[v]; v++) {
                    if (!runs_here(lstm_variants[v], (LstmPrecision)p)) continue;
                    /* Weights of 4 bytes fit no cluster at 650: test_residency_cluster has the sentence. */
                    if (lstm_variants[v]->footprint->kind == KIND_CLUSTER && p == PRECISION_TF32 &&
                        k.H == 650)
                        continue;
                    recurrence_case(lstm_variants[v], &k, &x, making_of(lstm_variants[v], 0), seen);
                    if (persistent(lstm_variants[v]) && k.H < 650)
                        recurrence_case(lstm_variants[v], &k, &x,
                                        making_of(lstm_variants[v], 1 + turn++ % (MAKINGS - 1)), seen);
                }
            }
            release();
        }
    }
}

/* Both passes captured, then replayed on the same inputs: the same bits as eager each time, and as many nodes as
 * the record says. The barriers' words, which count on from launch to launch, pass 2^32 on the way. */
static void recurrence_replays_from_a_graph(void **state)
{
    (void)state;
    need_device();
    const Recurrence k = {6, 3, 23, 0.5, ALL_SITES};
    enum { REPLAYS = 4 };
    const uint32_t epoch = 0u - 12;
    int64_t n = k.T * k.B * k.H;
    for (int v = 0; lstm_variants[v]; v++) {
        const LstmVariant *variant = lstm_variants[v];
        if (!runs_here(variant, first_precision(variant))) continue;
        Tensors x = recurrence_tensors(&k);
        recurrence_rounds(&k, &x, first_precision(variant));
        Passes p = recurrence_passes(&k, &x);
        LstmPlan plan[2];
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        size_t nodes = 0, promised;
        const Making *m = making_of(variant, persistent(variant) ? 2 : 0);
        assert_true(launch_made(variant, &p.forward.shape, 0, m, epoch, &plan[0], &p.forward.launch));
        assert_true(launch_made(variant, &p.forward.shape, 1, m, epoch, &plan[1], &p.backward.launch));
        CHECK(variant->forward(&context, &p.forward));
        CHECK(variant->backward(&context, &p.backward));
        float *eager = fetched(p.forward.gates, 4 * n);
        CHECK(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal));
        CHECK(variant->forward(&context, &p.forward));
        CHECK(variant->backward(&context, &p.backward));
        CHECK(cudaStreamEndCapture(context.stream, &graph));
        CHECK(cudaGraphGetNodes(graph, NULL, &nodes));
        promised = (size_t)(variant->launches(&p.forward.shape, 0) + variant->launches(&p.forward.shape, 1));
        /* cuBLAS may take two kernels for a product. */
        assert_true(persistent(variant) ? nodes == promised : nodes >= promised);
        CHECK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
        for (int replay = 0; replay < REPLAYS; replay++) {
            upload(p.forward.gates, x.x_proj, (size_t)(4 * n) * 4);
            CHECK(cudaGraphLaunch(exec, context.stream));
            assert_memory_equal(fetched(p.forward.gates, 4 * n), eager, (size_t)(4 * n) * sizeof(float));
        }
        for (int back = 0; back < 2 && has_barrier(variant); back++) {
            const LstmLaunch *l = back ? &p.backward.launch : &p.forward.launch;
            int words = l->plan->replicas * l->plan->blocks;
            uint32_t *word = host_bytes((size_t)words * sizeof *word);
            fetch(word, (char *)l->scratch + l->plan->scratch_bytes - (size_t)words * sizeof *word,
                  (size_t)words * sizeof *word);
            /* Forward of KIND_MMA publishes h_0, too. */
            int64_t arrivals = k.T - (back || variant->footprint->kind == KIND_VECTOR);
            for (int i = 0; i < words; i++) assert_int_equal(word[i], (REPLAYS + 1) * arrivals - 12);
        }
        CHECK(cudaGraphExecDestroy(exec));
        CHECK(cudaGraphDestroy(graph));
        release();
    }
}

/* A block that does not come, since its word was set back: everybody leaves, the record names it, and what is
 * launched behind that changes nothing. */
static void a_missing_block_is_named(void **state)
{
    (void)state;
    need_device();
#ifdef CUDA_EMU
    if (!strcmp(emu_mode(), "race")) {
        print_message(
            "skipped: the block that comes late runs ahead of the others, which is the race that it is\n");
        skip();
    }
#endif
    const Recurrence k = {5, 3, 23, 0.5, ALL_SITES};
    const Making making = {"blocks=4,threads=64,replicas=1,cluster=2", 0, 0};
    enum { EPOCH = 100 };
    size_t bytes = (size_t)(4 * k.T * k.B * k.H) * sizeof(float);
    for (int v = 0; lstm_variants[v]; v++)
        for (int back = 0; back < 2; back++) {
            const LstmVariant *variant = lstm_variants[v];
            if (!has_barrier(variant) || !runs_here(variant, first_precision(variant))) continue;
            Tensors x = recurrence_tensors(&k);
            recurrence_rounds(&k, &x, first_precision(variant));
            Passes p = recurrence_passes(&k, &x);
            LstmPlan plan;
            FaultRecord fault;
            LstmLaunch launch;
            assert_true(launch_made(variant, &p.forward.shape, back, &making, EPOCH, &plan, &launch));
            launch.poll_limit = 1 << 16;
            uint32_t late_block = (uint32_t)plan.blocks / 2;
            p.forward.launch = p.backward.launch = launch;
            uint32_t late = EPOCH - 10,
                     *words = (uint32_t *)((char *)launch.scratch + plan.scratch_bytes) - plan.blocks;
            upload(words + late_block, &late, sizeof late);
            CHECK(back ? variant->backward(&context, &p.backward) : variant->forward(&context, &p.forward));
            fetch(&fault, context.fault, sizeof fault);
            assert_int_equal(fault.set, 1);
            assert_true(fault.block < (uint32_t)plan.blocks && fault.block != late_block);
            assert_int_equal(fault.expected, EPOCH + 1);
            assert_true(fault.seen >= late && fault.seen <= late + k.T);
            assert_int_equal(fault.missing[0], 1u << late_block);
            upload(p.forward.gates, x.x_proj, bytes);
            CHECK(back ? variant->backward(&context, &p.backward) : variant->forward(&context, &p.forward));
            assert_memory_equal(fetched(p.forward.gates, (int64_t)(bytes / 4)), x.x_proj, bytes);
            CHECK(cudaMemset(context.fault, 0, sizeof *context.fault));
            CHECK(cudaDeviceSynchronize());
            release();
        }
}

/* ---- the same bits ---- */

static uint64_t hash(uint64_t h, const void *p, size_t bytes) /* FNV-1a */
{
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

/* Every kernel once on small shapes: a number that all their bits went into. */
static uint64_t digest(void)
{
    enum { N = 12, H = 23, V = 1037 };
    uint64_t d = 0xcbf29ce484222325u;
    StepState s = {.next_step = STEP, .lr = 1, .clip = 1};
    StepState *device = device_bytes(&s, sizeof s, 0);
    int32_t *stream = device_ints(drawn_ids(30, 60, 5), 60), *x = device_ints(NULL, N),
            *y = device_ints(NULL, N), *first = device_ints(NULL, N), ids[2 * N];
    CHECK(step_begin(context.stream, device, 3, stream, 60, 4, 3, x, y));
    fetch(ids, x, sizeof ids / 2), fetch(ids + N, y, sizeof ids / 2);
    d = hash(d, ids, sizeof ids);

    MaskSite site = mask_site(device, 5, 0, 0.5, 1);
    float *out = device_floats(NULL, N * H), *rows = device_floats(NULL, N * H);
    CHECK(embedding_forward(context.stream, N, H, x,
                            &(EmbeddingTable){.encoder = device_floats(drawn(31, 5 * H, 1), 5 * H)}, site,
                            out));
    d = hash(d, fetched(out, N * H), N * H * sizeof(float));
    CHECK(embedding_backward(context.stream, N, H, x, device_floats(drawn(32, N * H, 1), N * H), site, rows,
                             first));
    d = hash(d, fetched(rows, N * H), N * H * sizeof(float));

    float *logits = device_floats(drawn(33, N * V, 5), N * V), *nats = device_floats(NULL, N),
          *sums = device_floats(NULL, V);
    CHECK(softmax_xent(context.stream, N, V, device_floats(drawn(34, V, 1), V), y, 1, 0.25f, logits, nats,
                       NULL));
    CHECK(column_sums(context.stream, N, V, logits, sums, NULL));
    d = hash(d, fetched(logits, N * V), N * V * sizeof(float));
    d = hash(d, fetched(nats, N), N * sizeof(float));
    d = hash(d, fetched(sums, V), V * sizeof(float));

    SgdCase k = {9001, 30, 23, 12, 0.5, 0, 0, 0};
    SgdOut sgd;
    enum { HH4 = 4 * H * H };
    SgdPacked packed = {2000, device_floats(NULL, HH4), NULL};
    float *w, *g, *e, *r, *m;
    int32_t *i, *f;
    sgd_run(&k, &packed, 1, &sgd, &w, &g, &e, &r, &i, &f, &m);
    d = hash(d, sgd.weights, (size_t)k.dense * sizeof(float));
    d = hash(d, sgd.encoder, (size_t)(k.V * k.H) * sizeof(float));
    d = hash(d, &sgd.results[1].grad_norm, sizeof(double));
    d = hash(d, fetched(packed.w_packed, HH4), HH4 * sizeof(float));

    const Recurrence small = {4, 3, 23, 0.5, ALL_SITES};
    int64_t n = small.T * small.B * small.H;
    Tensors t = recurrence_tensors(&small);
    for (int v = 0; lstm_variants[v]; v++)
        for (int i = 1; i < (persistent(lstm_variants[v]) && !slow_build() ? 4 : 2); i++) {
            const LstmVariant *variant = lstm_variants[v];
            if (!runs_here(variant, first_precision(variant))) continue;
            recurrence_rounds(&small, &t, first_precision(variant));
            LstmPlan plan[2];
            Passes p = recurrence_passes(&small, &t);
            LstmShape *shape = &p.forward.shape;
            assert_true(
                launch_made(variant, shape, 0, making_of(variant, i), 0, &plan[0], &p.forward.launch));
            assert_true(
                launch_made(variant, shape, 1, making_of(variant, i), 0, &plan[1], &p.backward.launch));
            CHECK(variant->forward(&context, &p.forward));
            d = hash(d, fetched(p.forward.h, n + small.B * small.H),
                     (size_t)(n + small.B * small.H) * sizeof(float));
            CHECK(variant->backward(&context, &p.backward));
            d = hash(d, fetched(p.forward.gates, 4 * n), (size_t)(4 * n) * sizeof(float));
            release_device();
        }
    release();
    return d;
}

static void same_bits_twice(void **state)
{
    (void)state;
    need_device();
    uint64_t once = digest(), again = digest();
    assert_true(once == again);
}

/* Other processes, under the emulator each with a random schedule of its own: no bit depends on who runs
 * first. */
static void same_bits_under_any_schedule(void **state)
{
    (void)state;
    need_device();
    uint64_t here = digest();
    char self[4096], command[4200];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = 0;
    for (int seed = 1; seed <= 4; seed++) {
        unsigned long long there = 0;
        snprintf(command, sizeof command, "EMU_SEED=%d '%s' --digest", seed, self);
        FILE *p = popen(command, "r");
        assert_non_null(p);
        int got = fscanf(p, "%llx", &there);
        assert_int_equal(pclose(p), 0);
        assert_int_equal(got, 1);
        assert_true(there == here);
    }
}

int main(int argc, char **argv)
{
#ifdef CUDA_EMU
    /* Closing device memory to the host around every call takes longer than the kernels; another build does it. */
    if (strcmp(emu_mode(), "asan")) setenv("EMU_PROTECT", "0", 0);
#endif
    if (argc == 2 &&
        !strcmp(argv[1], "--digest")) { /* a child of same_bits_under_any_schedule: nothing else on stdout */
        if (setup(NULL) || *no_device) return 1;
        printf("%llx\n", (unsigned long long)digest());
        return teardown(NULL);
    }
    group_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_moves_on),
        cmocka_unit_test(embedding_gathers_and_masks),
        cmocka_unit_test(embedding_reads_features),
        cmocka_unit_test(rows_are_picked),
        cmocka_unit_test(rows_without_a_target),
        cmocka_unit_test(masks_are_those_of_the_specification),
        cmocka_unit_test(embedding_sums_repeated_words),
        cmocka_unit_test(softmax_at_every_width_and_alignment),
        cmocka_unit_test(softmax_takes_any_logits),
        cmocka_unit_test(columns_are_summed),
        cmocka_unit_test(sgd_follows_reference),
        cmocka_unit_test(fault_leaves_the_weights),
        cmocka_unit_test(tensors_are_rounded),
        cmocka_unit_test(producers_round),
        cmocka_unit_test(weights_are_tiled),
        cmocka_unit_test(weights_are_packed),
        cmocka_unit_test(update_packs_the_new_weights),
        cmocka_unit_test(recurrence_follows_reference),
        cmocka_unit_test(state_gradients_follow_reference),
        cmocka_unit_test(state_gradients_are_those_of_the_forward_pass),
        cmocka_unit_test(clusters_keep_weights_in_shared_memory),
        cmocka_unit_test(recurrence_follows_reference_at_length),
        cmocka_unit_test(recurrence_replays_from_a_graph),
        cmocka_unit_test(a_missing_block_is_named),
        cmocka_unit_test(same_bits_twice),
        cmocka_unit_test(same_bits_under_any_schedule),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
