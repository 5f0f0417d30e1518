/* Compares the cpu backend with the reference: the same ten SGD steps, at odd shapes, in double, in
 * plain float32 loops and in backend_cpu.
 *
 * Bound      Let u = 2^-24. Both float32 programs evaluate the same formulas, so each result's
 * error is a sum of the same roundings times the same sensitivities. They differ in the order of
 * sums and in exp and tanh. The error of a plain loop over K terms is up to K * u of the sum of
 * magnitudes; with sixteen lanes and fused multiply-adds it is up to K/16 * u. libm's exp and tanh
 * are within 1 ulp, ours within 2 and 3. So the error of backend_cpu may be at most 3 times that of
 * the plain loop against double (2 times for the forward results of the first step), plus 4 ulp of
 * the largest value, for values that a plain loop gets right by luck. Errors of one kind (ten
 * losses, ten norms, one tensor) are compared by their largest, not one by one, since it is also
 * luck which of the ten roundings cancel. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define backend_cpu backend_cpu_here /* its static functions are tested too */
#define cpu_input   cpu_input_here
#include "host/backend/backend_cpu.c"

#include "host/backend/backend_reference.h"
#include "host/train/model.h"
#include "tests/support/plain_f32.h"
#include "tests/support/state_gradient.h"

enum { STEPS = 10 };

typedef struct Case {
    int64_t V, H, L, T, B;
    double keep;
    DropoutSites sites;
    int threads;
} Case;

static const Case cases[] = {
    {31, 23, 2, 5, 3, 0.5, SITES_NONRECURRENT, 1},
    {31, 23, 2, 5, 3, 0.5, SITES_ALL, 1},
    {31, 23, 2, 5, 3, 0.5, SITES_NONE, 1},
    {31, 23, 2, 1, 3, 0.35, SITES_ALL, 1},         /* T = 1 */
    {31, 23, 1, 5, 1, 0.8, SITES_NONRECURRENT, 1}, /* B = 1 */
    {31, 1, 3, 1, 1, 1.0, SITES_NONRECURRENT, 1},
    {7, 23, 2, 5, 3, 0.5, SITES_NONRECURRENT, 1}, /* V < H */
    {1, 5, 1, 3, 2, 0.5, SITES_ALL, 1},           /* one word only */
    {40, 16, 1, 6, 25, 0.5, SITES_ALL, 1},        /* one whole block of units, two tiles of rows */
    {40, 17, 2, 3, 49, 0.5, SITES_NONRECURRENT, 1},
    {90, 64, 2, 7, 20, 0.5, SITES_ALL, 2},
    /* more words than one stretch of the softmax's sum */
    {1100, 40, 2, 4, 6, 0.5, SITES_NONRECURRENT, 2},
    {200, 64, 2, 10, 8, 1.0, SITES_NONRECURRENT, 2},
    /* two stretches of the recurrent product, and a panel that is half full */
    {30, 150, 1, 4, 7, 0.5, SITES_ALL, 2},
};

static LstmPrecision precision; /* precision of the runs that follow */

typedef struct Run {
    double loss[STEPS], norm[STEPS];
    Params weights;
    double *exact; /* the reference's weights before they are rounded for the file, or NULL */
} Run;

static BackendConfig config_of(const Case *k)
{
    return (BackendConfig){.shape = model_shape_of_words(k->V, k->H, k->L),
                           .T = k->T,
                           .B = k->B,
                           .train = true,
                           .keep = k->keep,
                           .sites = k->sites,
                           .seed = 9,
                           .threads = k->threads,
                           .precision = precision};
}

static void train(const BackendOps *ops, const Case *k, Run *run)
{
    Error e;
    Model m;
    BackendConfig config = config_of(k);
    assert_int_equal(model_open(&m, ops, &config, &e), 0);
    assert_int_equal(params_init(&run->weights, &config.shape), 0);
    params_draw(&run->weights, 4, 0.2);
    assert_int_equal(model_set_params(&m, &run->weights, &e), 0);
    assert_int_equal(ops->state_set(m.backend, k->B, NULL, NULL, &e), 0);
    int64_t n = k->T * k->B;
    int32_t *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    for (int step = 0; step < STEPS; step++) {
        WindowResult r;
        for (int64_t i = 0; i < n; i++) {
            PhiloxBlock w = philox_block(3, (uint64_t)step, (uint64_t)i);
            x[i] = (int32_t)(w.word[0] % (uint64_t)k->V),
            y[i] = (int32_t)(w.word[1] % (uint64_t)k->V);
        }
        Window w = {.batch = batch_of_tokens(k->T, k->B, x, y), .train = true, .step = step};
        assert_int_equal(model_train_step(&m, &w, 0.5, 2.0, &r, &e), 0);
        run->loss[step] = r.nats, run->norm[step] = r.grad_norm;
    }
    assert_int_equal(model_get_params(&m, &run->weights, &e), 0);
    free(x), free(y);
    model_close(&m);
}

static void check(const char *what, const Case *k, double error, double plain, double times,
                  double largest)
{
    double bound = f32_bound(times, plain, largest);
    if (error <= bound) return;
    print_error("H %d B %d T %d V %d %s: %s errs %.3g, the plain loop %.3g, the bound is %.3g\n",
                (int)k->H, (int)k->B, (int)k->T, (int)k->V, sites_name(k->sites), what, error,
                plain, bound);
    fail();
}

static void follows_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const Case *k = &cases[i];
        Run exact, plain, ours;
        double largest, plain_error;
        train(&backend_reference, k, &exact);
        train(&backend_plain_f32, k, &plain);
        train(&backend_cpu_here, k, &ours);
        plain_error = f32_error(plain.loss, exact.loss, 1, &largest);
        check("the first loss", k, f32_error(ours.loss, exact.loss, 1, &largest), plain_error, 2,
              largest);
        plain_error = f32_error(plain.loss, exact.loss, STEPS, &largest);
        check("a loss", k, f32_error(ours.loss, exact.loss, STEPS, &largest), plain_error, 3,
              largest);
        plain_error = f32_error(plain.norm, exact.norm, STEPS, &largest);
        check("a gradient norm", k, f32_error(ours.norm, exact.norm, STEPS, &largest), plain_error,
              3, largest);
        for (int p = 0; p < exact.weights.count; p++) {
            double error = 0, top = 0;
            plain_error = 0;
            for (int64_t j = exact.weights.offset[p]; j < exact.weights.offset[p + 1]; j++) {
                double want = exact.weights.data[j], a = fabs(plain.weights.data[j] - want),
                       b = fabs(ours.weights.data[j] - want);
                if (!(a <= plain_error)) plain_error = a;
                if (!(b <= error)) error = b;
                top = fmax(top, fabs(want));
            }
            check(param_info(&exact.weights.shape, p).name, k, error, plain_error, 3, top);
        }
        params_free(&exact.weights), params_free(&plain.weights), params_free(&ours.weights);
    }
}

static void state_gradients_follow_reference(void **state)
{
    (void)state;
    const BackendOps *ops[] = {&backend_reference, &backend_plain_f32, &backend_cpu_here};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const Case *k = &cases[i];
        Error e;
        BackendConfig config = config_of(k);
        double *found[3], largest;
        int64_t n = state_gradients_state(&config), all = state_gradients_all(&config);
        for (int o = 0; o < 3; o++)
            if (!(found[o] = state_gradients(ops[o], &config, &e))) fail_msg("%s", e.text);
        double plain = f32_error(found[1], found[0], (int)n, &largest);
        check("a gradient of the state", k, f32_error(found[2], found[0], (int)n, &largest), plain,
              3, largest);
        plain = f32_error(found[1] + n, found[0] + n, (int)(all - n), &largest);
        check("a gradient", k, f32_error(found[2] + n, found[0] + n, (int)(all - n), &largest),
              plain, 3, largest);
        for (int o = 0; o < 3; o++) free(found[o]);
    }
}

/* Two runs with the same number of threads have the same bits in every loss, norm and weight. */
static void same_bits(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++)
        for (int sites = SITES_NONRECURRENT; sites <= SITES_ALL; sites++) {
            Case k = {200, 64, 2, 10, 8, 0.5, (DropoutSites)sites, threads};
            Run a, b;
            train(&backend_cpu_here, &k, &a);
            train(&backend_cpu_here, &k, &b);
            assert_memory_equal(a.loss, b.loss, sizeof a.loss);
            assert_memory_equal(a.norm, b.norm, sizeof a.norm);
            assert_memory_equal(a.weights.data, b.weights.data,
                                (size_t)a.weights.offset[a.weights.count] * sizeof(float));
            params_free(&a.weights), params_free(&b.weights);
        }
}

static void assert_same_run(const Run *a, const Run *b, bool same)
{
    size_t bytes = (size_t)a->weights.offset[a->weights.count] * sizeof(float);
    assert_int_equal(!memcmp(a->loss, b->loss, sizeof a->loss), same);
    assert_int_equal(!memcmp(a->norm, b->norm, sizeof a->norm), same);
    assert_int_equal(!memcmp(a->weights.data, b->weights.data, bytes), same);
}

/* Each precision repeats bit for bit and differs from the others; float32 rounds no operand.
 * test_cuda_precision.c bounds the distance of the others from the reference. */
static void precisions(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        Case k = {200, 64, 2, 10, 8, 0.5, SITES_ALL, threads};
        Run first[PRECISIONS], again;
        for (int i = 0; i < PRECISIONS; i++) {
            precision = (LstmPrecision)i;
            train(&backend_cpu_here, &k, &first[i]);
            train(&backend_cpu_here, &k, &again);
            assert_same_run(&first[i], &again, true);
            params_free(&again.weights);
        }
        precision = PRECISION_F32;
        for (int i = 0; i < PRECISIONS; i++)
            for (int j = 0; j < i; j++) assert_same_run(&first[i], &first[j], false);
        for (int i = 0; i < PRECISIONS; i++) params_free(&first[i].weights);
    }
    BackendConfig config = {
        .shape = model_shape_of_words(200, 64, 2), .T = 10, .B = 8, .train = true, .threads = 2};
    size_t bytes = cpu_bytes(&config);
    config.precision = PRECISION_BF16;
    assert_true(cpu_bytes(&config) > bytes);
}

/* Ties round to even in bf16 and away from zero in tf32. The unit roundoff is 2^-8 (8 significant
 * bits) and 2^-11 (11). */
static void operands_are_rounded(void **state)
{
    (void)state;
    static const struct {
        uint32_t bits, tf32, bf16;
    } told[] = {
        {0x3f800000, 0x3f800000, 0x3f800000}, {0x3f800fff, 0x3f800000, 0x3f800000},
        {0x3f801000, 0x3f802000, 0x3f800000}, {0x3f808000, 0x3f808000, 0x3f800000},
        {0x3f808001, 0x3f808000, 0x3f810000}, {0x3f818000, 0x3f818000, 0x3f820000},
        {0xbf803000, 0xbf804000, 0xbf800000}, {0x7f7fffff, 0x7f800000, 0x7f800000},
        {0xff800000, 0xff800000, 0xff800000}, {0x7fc00001, 0x7fc00001, 0x7fc00001},
        {0x00001000, 0x00002000, 0x00000000}, {0x80000000, 0x80000000, 0x80000000},
    };
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        float x, of[PRECISIONS], want[PRECISIONS];
        memcpy(&x, &told[i].bits, 4), memcpy(&want[PRECISION_F32], &told[i].bits, 4);
        memcpy(&want[PRECISION_TF32], &told[i].tf32, 4),
            memcpy(&want[PRECISION_BF16], &told[i].bf16, 4);
        for (int p = 0; p < PRECISIONS; p++) of[p] = precision_round((LstmPrecision)p, x);
        assert_memory_equal(of, want, sizeof of);
    }
    for (int i = 0; i < 100000; i++) {
        float x = 1 + (float)philox_block(5, 0, (uint64_t)i).word[0] * 0x1p-32f;
        assert_true(fabsf(precision_round(PRECISION_TF32, x) - x) <= x * 0x1p-11f);
        assert_true(fabsf(precision_round(PRECISION_BF16, x) - x) <= x * 0x1p-8f);
    }
}

/* ---- arithmetic ---- */

typedef Vec VecFunction(Vec);

/* Returns the largest error in units of the true value's ulp, or of `unit` where that is larger. */
static double worst_ulp(VecFunction *f, double (*exact)(double), float low, float high, double unit)
{
    double worst = 0;
    for (int i = 0; i < 400000; i += LANES) {
        Vec x;
        for (int j = 0; j < LANES; j++) x[j] = low + (high - low) * (float)(i + j) / 400000.0f;
        Vec y = f(x);
        for (int j = 0; j < LANES; j++) {
            double want = exact((double)x[j]),
                   error = fabs((double)y[j] - want) / fmax(f32_ulp(fabs(want)), unit);
            if (!(error <= worst)) worst = error;
        }
    }
    return worst;
}

static double exact_sigmoid(double x) { return 1 / (1 + exp(-x)); }

static void exp_and_tanh(void **state)
{
    (void)state;
    assert_true(worst_ulp(exp_vec, exp, -86, 88, 0) <= 2);
    assert_true(worst_ulp(exp_vec, exp, -1, 1, 0) <= 2);
    assert_true(worst_ulp(tanh_vec, tanh, -10, 10, 0) <= 3);
    assert_true(worst_ulp(tanh_vec, tanh, -0.01f, 0.01f, 0) <= 2);
    assert_true(worst_ulp(sigmoid_vec, exact_sigmoid, -80, 80, 0) <= 4);
    Vec x = {NAN, INFINITY, -INFINITY, 0.0f, 1e30f, -1e30f};
    assert_true(isnan(exp_vec(x)[0]) && isnan(tanh_vec(x)[0]) && isnan(sigmoid_vec(x)[0]));
    assert_true(tanh_vec(x)[1] == 1 && tanh_vec(x)[2] == -1 && tanh_vec(x)[3] == 0 &&
                tanh_vec(x)[4] == 1);
    assert_true(sigmoid_vec(x)[1] == 1 && sigmoid_vec(x)[2] < 1e-37f && sigmoid_vec(x)[5] < 1e-37f);
}

static void masks_equal_the_scalar_ones(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 3, 4, 9, 63, 64, 65, 200, 650};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        for (int64_t row = 0; row < 50; row += 7) {
            int64_t H = widths[i];
            MaskKey key = mask_key(0x123456789abcdefu, 77777777777, 5, 3, 0.35);
            float in[650], out[650];
            for (int64_t u = 0; u < H; u++) in[u] = (float)(u + 1);
            mask_row(&key, row, H, in, out);
            for (int64_t u = 0; u < H; u++) {
                bool kept = mask_nibble(&key, row, H, u & ~(int64_t)3) >> (u & 3) & 1;
                assert_true(out[u] == (kept ? in[u] * key.scale : 0));
                if (u % LANES == 0) {
                    float factor[4 * LANES];
                    /* This row is the first or the second of the four. */
                    mask_four_rows(&key, row - row % 2, H, u, factor);
                    assert_true(factor[row % 2 * LANES] == (kept ? key.scale : 0));
                }
            }
        }
}

/* ---- promises ---- */

static void softmax_takes_any_logits(void **state)
{
    (void)state;
    enum { V = 1037 };
    float z[V], bias[V] = {0}, sums[V] = {0};
    for (int i = 0; i < V; i++) z[i] = i == 5 ? 1e4f : -1e4f;
    assert_true(softmax_row(z, bias, V, 5, false, 1, NULL, NULL) == 0);
    assert_true(softmax_row(z, bias, V, 6, false, 1, NULL, NULL) == 2e4);
    double nats = softmax_row(z, bias, V, 1036, true, 0.5f, sums, NULL);
    assert_true(nats == 2e4 && z[5] == 0.5f && z[1036] == -0.5f && z[0] < 1e-37f &&
                sums[1036] == -0.5f);
    for (int i = 0; i < V; i++) z[i] = 3;
    z[17] = NAN;
    assert_true(isnan(softmax_row(z, bias, V, 4, false, 1, NULL, NULL)));
    for (int i = 0; i < V; i++) z[i] = 3;
    z[V - 1] = NAN;
    assert_true(isnan(softmax_row(z, bias, V, 4, false, 1, NULL, NULL)));
}

static void bad_weight_shows_in_the_loss(void **state)
{
    (void)state;
    ModelShape shape = model_shape_of_words(50, 20, 2);
    for (int p = 1; p < params_count(&shape); p++) {
        Error e;
        Model m;
        Params weights;
        WindowResult r;
        BackendConfig config = {
            .shape = shape, .T = 4, .B = 3, .train = true, .keep = 1, .threads = 1};
        int32_t x[12] = {0, 1, 2, 3}, y[12] = {4, 5, 6};
        assert_int_equal(model_open(&m, &backend_cpu_here, &config, &e), 0);
        assert_int_equal(params_init(&weights, &shape), 0);
        params_draw(&weights, 1, 0.1);
        weights.data[weights.offset[p] + 3] = NAN;
        model_set_params(&m, &weights, &e);
        m.ops->state_set(m.backend, 3, NULL, NULL, &e);
        Window w = {.batch = batch_of_tokens(4, 3, x, y), .train = true};
        assert_int_equal(model_train_step(&m, &w, 1, 5, &r, &e), 0);
        assert_true(isnan(r.nats) || isnan(r.grad_norm));
        params_free(&weights);
        model_close(&m);
    }
}

#if !defined(__SANITIZE_ADDRESS__)
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
static _Atomic long allocations;

void *malloc(size_t n)
{
    allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    allocations++;
    return __libc_realloc(p, n);
}
#endif

static void no_allocation_in_a_step(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    print_message("skipped: the address sanitizer owns malloc\n");
    skip();
#else
    Error e;
    Model m;
    Params weights;
    WindowResult r;
    BackendConfig config = {.shape = model_shape_of_words(500, 100, 2),
                            .T = 10,
                            .B = 20,
                            .train = true,
                            .keep = 0.5,
                            .sites = SITES_ALL,
                            .threads = 2};
    static int32_t x[200], y[200];
    assert_int_equal(model_open(&m, &backend_cpu_here, &config, &e), 0);
    assert_int_equal(params_init(&weights, &config.shape), 0);
    params_draw(&weights, 1, 0.1);
    model_set_params(&m, &weights, &e);
    m.ops->state_set(m.backend, 20, NULL, NULL, &e);
    Window w = {.batch = batch_of_tokens(10, 20, x, y), .train = true};
    /* The first step creates the thread team and OpenBLAS's buffers. */
    model_train_step(&m, &w, 1, 5, &r, &e);
    long before = allocations;
    free(malloc(1));
    assert_int_equal(allocations, before + 1); /* the counter works */
    before = allocations;
    for (w.step = 1; w.step < 5; w.step++)
        assert_int_equal(model_train_step(&m, &w, 1, 5, &r, &e), 0);
    assert_int_equal(allocations, before);
    params_free(&weights);
    model_close(&m);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_reference),
        cmocka_unit_test(state_gradients_follow_reference),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(precisions),
        cmocka_unit_test(operands_are_rounded),
        cmocka_unit_test(exp_and_tanh),
        cmocka_unit_test(masks_equal_the_scalar_ones),
        cmocka_unit_test(softmax_takes_any_logits),
        cmocka_unit_test(bad_weight_shows_in_the_loss),
        cmocka_unit_test(no_allocation_in_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
