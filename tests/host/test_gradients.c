/* Compares the reference backend with central finite differences in double, with masks (SPEC 1, 2,
 * 5).
 *
 * Stencil    (8 (f(+e) - f(-e)) - (f(+2e) - f(-2e))) / 12e with e = 1e-4: its truncation, e^4
 * f^(5)/30 ~ 1e-17, and its rounding, about 1e-16 * cost / e ~ 1e-11, are both far below the bound
 * of 1e-6 of the tensor's largest gradient. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/backend/backend_reference.h"
#include "host/train/model.h"
#include "kernels/philox.h"
#include "tests/support/toy.h"

enum { PER_TENSOR = 50 };

typedef struct Case {
    int64_t V, H, L, T, B;
    double keep;
    DropoutSites sites;
} Case;

typedef struct Setup {
    Model model;
    Window window;
    int32_t x[64], y[64];
    float h[256], c[256]; /* the carried state is not zero, so that W_hh has an effect at t = 0 */
} Setup;

static void open_case(Setup *s, const Case *k)
{
    Error e;
    BackendConfig config = {.shape = model_shape_of_words(k->V, k->H, k->L),
                            .T = k->T,
                            .B = k->B,
                            .train = true,
                            .keep = k->keep,
                            .sites = k->sites,
                            .seed = 42,
                            .threads = 1};
    assert_int_equal(model_open(&s->model, &backend_reference, &config, &e), 0);
    Params p;
    assert_int_equal(params_init(&p, &config.shape), 0);
    params_draw(&p, 5, 0.6); /* large enough for gates outside their linear range */
    assert_int_equal(model_set_params(&s->model, &p, &e), 0);
    params_free(&p);
    for (int64_t i = 0; i < k->T * k->B; i++) {
        PhiloxBlock w = philox_block(11, 0, (uint64_t)i);
        s->x[i] = (int32_t)(w.word[0] % (uint64_t)k->V),
        s->y[i] = (int32_t)(w.word[1] % (uint64_t)k->V);
    }
    for (int64_t i = 0; i < k->L * k->B * k->H; i++)
        s->h[i] = 0.5f * sinf((float)i), s->c[i] = cosf((float)i);
    s->window =
        (Window){.batch = batch_of_tokens(k->T, k->B, s->x, s->y), .train = true, .step = 3};
}

/* Returns SPEC 5's cost of the window, with its gradients in the backend. */
static double cost(Setup *s)
{
    Error e;
    WindowResult r;
    assert_int_equal(s->model.ops->state_set(s->model.backend, s->window.batch.B, s->h, s->c, &e),
                     0);
    assert_int_equal(model_gradients(&s->model, &s->window, &r, &e), 0);
    return r.nats / (double)s->window.batch.B;
}

/* Closes the model. */
static void check_setup(Setup *s)
{
    ModelShape shape = s->model.config.shape;
    for (int tensor = 0; tensor < params_count(&shape); tensor++) {
        ParamInfo info = param_info(&shape, tensor);
        double *w = reference_param(s->model.backend, tensor), worst = 0, largest = 0;
        double *analytic = malloc((size_t)info.n * sizeof *analytic);
        assert_non_null(analytic);
        cost(s);
        for (int64_t i = 0; i < info.n; i++) {
            analytic[i] = reference_grad(s->model.backend, tensor)[i];
            largest = fmax(largest, fabs(analytic[i]));
        }
        assert_true(largest > 0);
        int64_t n = info.n < PER_TENSOR ? info.n : PER_TENSOR;
        for (int64_t j = 0; j < n; j++) {
            int64_t i = n == info.n
                            ? j
                            : (int64_t)(philox_block(77, (uint64_t)tensor, (uint64_t)j).word[0] %
                                        (uint64_t)info.n);
            const double e = 1e-4, before = w[i];
            double f[4], at[4] = {-2, -1, 1, 2};
            for (int m = 0; m < 4; m++) {
                w[i] = before + at[m] * e;
                f[m] = cost(s);
            }
            w[i] = before;
            double difference = fabs((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * e) - analytic[i]);
            if (!(difference <= worst)) worst = difference; /* true for a NaN, too */
        }
        free(analytic);
        if (!(worst < 1e-6 * largest)) {
            print_error("%s of L %d, %s: |fd - g| reaches %.3g, the largest gradient is %.3g\n",
                        info.name, (int)shape.L, sites_name(s->model.config.sites), worst, largest);
            fail();
        }
    }
    model_close(&s->model);
}

static void check_case(const Case *k)
{
    Setup s;
    open_case(&s, k);
    check_setup(&s);
}

/* Checks batches with padding, feature rows and positions that are not scored: whole sequences from
 * a zero state, then the second window of one batch from the carried state. */
static void gradients_of_batches(void **state)
{
    (void)state;
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++)
        for (int i = 0; i < 4; i++) {
            static const DropoutSites sites[] = {SITES_NONRECURRENT, SITES_ALL, SITES_NONE,
                                                 SITES_NONRECURRENT};
            Setup s;
            Params p;
            Error e;
            BackendConfig config = toy_config(kind, 7, 2);
            config.sites = sites[i];
            Source *source = toy_source(kind, i == 3 ? 5 : 0);
            assert_int_equal(model_open(&s.model, &backend_reference, &config, &e), 0);
            assert_int_equal(params_init(&p, &config.shape), 0);
            params_draw(&p, 5, 0.6);
            assert_int_equal(model_set_params(&s.model, &p, &e), 0);
            params_free(&p);
            for (int64_t j = 0; j < 2 * TOY_ROWS * 7; j++)
                s.h[j] = 0.5f * sinf((float)j), s.c[j] = cosf((float)j);
            s.window = (Window){.train = true, .step = 3};
            source->get(source, 1, i == 3 ? 1 : i % 3, &s.window.batch);
            /* A caption's second half has no feature row, so the input layer has no gradient. */
            if (i == 3 && kind == TOY_CAPTION) {
                double *grad = (cost(&s), (double *)reference_grad(s.model.backend, 1));
                for (int j = 0; j < 7 * TOY_F; j++) assert_true(grad[j] == 0);
                model_close(&s.model);
            } else {
                check_setup(&s);
            }
            source_close(source);
        }
}

static void finite_differences(void **state)
{
    (void)state;
    static const Case cases[] = {
        {13, 7, 1, 4, 3, 0.5, SITES_NONRECURRENT}, {13, 7, 2, 4, 3, 0.5, SITES_NONRECURRENT},
        {13, 5, 3, 4, 2, 0.7, SITES_NONRECURRENT}, {13, 7, 1, 4, 3, 0.5, SITES_ALL},
        {13, 7, 2, 4, 3, 0.5, SITES_ALL},          {13, 5, 3, 4, 2, 0.7, SITES_ALL},
        {5, 9, 2, 1, 1, 0.8, SITES_ALL},           {13, 7, 2, 5, 3, 0.5, SITES_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_case(&cases[i]);
}

/* Compares the gradient of a window's initial state with differences of its cost. The state is
 * passed as float32, so the step is a power of two: the stencil's truncation is then about 1e-13,
 * and the result is rounded to 6e-8. */
static void state_gradients(void **state)
{
    (void)state;
    static const Case cases[] = {{13, 7, 2, 4, 3, 0.5, SITES_ALL},
                                 {13, 5, 1, 1, 2, 0.7, SITES_NONRECURRENT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const Case *k = &cases[i];
        Setup s;
        Error e;
        float gradient[2][256], largest = 0;
        double worst = 0, step = 1.0 / 1024;
        int64_t n = k->L * k->B * k->H;
        open_case(&s, k);
        for (int64_t j = 0; j < n; j++) s.h[j] = ldexpf(rintf(ldexpf(s.h[j], 12)), -12);
        for (int64_t j = 0; j < n; j++) s.c[j] = ldexpf(rintf(ldexpf(s.c[j], 12)), -12);
        const BackendOps *ops = s.model.ops;
        assert_int_equal(ops->state_grad_set(s.model.backend, k->B, NULL, NULL, true, &e), 0);
        cost(&s);
        assert_int_equal(ops->state_grad_get(s.model.backend, k->B, gradient[0], gradient[1], &e),
                         0);
        for (int64_t j = 0; j < 2 * n; j++) {
            float *x = j < n ? &s.h[j] : &s.c[j - n], before = *x, g = gradient[j / n][j % n];
            double f[4], at[4] = {-2, -1, 1, 2};
            for (int m = 0; m < 4; m++) {
                *x = before + (float)(at[m] * step);
                f[m] = cost(&s);
            }
            *x = before;
            double difference = fabs((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * step) - g);
            if (!(difference <= worst)) worst = difference;
            largest = fmaxf(largest, fabsf(g));
        }
        if (!(largest > 0 && worst < 1e-6 * largest))
            fail_msg("|fd - g| reaches %.3g, the largest gradient is %.3g", worst, largest);
        model_close(&s.model);
    }
}

/* Two windows are equivalent to one of twice the length if the first receives the gradients from
 * the second: the sums of their gradients agree with that one's, except for the rounding of the
 * state between them. */
static void halves_make_a_whole(void **state)
{
    (void)state;
    enum { T = 4 };
    const Case k = {13, 7, 2, T, 3, 1.0, SITES_NONE}, half = {13, 7, 2, T / 2, 3, 1.0, SITES_NONE};
    Setup one, two;
    Error e;
    float h[2][256], c[2][256];
    double *sum[64];
    open_case(&one, &k), open_case(&two, &half);
    cost(&one);
    const BackendOps *ops = two.model.ops;
    Backend *b = two.model.backend;
    int tensors = params_count(&two.model.config.shape);
    assert_true(tensors <= 64);
    WindowResult r;
    Window second = two.window;
    two.window.batch.ids = one.x, two.window.batch.targets = one.y;
    second.batch.ids = one.x + half.T * k.B, second.batch.targets = one.y + half.T * k.B;
    cost(&two); /* the backend then holds the state between the two windows */
    assert_int_equal(ops->state_get(b, k.B, h[0], c[0], &e), 0);
    assert_int_equal(ops->state_grad_set(b, k.B, NULL, NULL, true, &e), 0);
    assert_int_equal(ops->state_set(b, k.B, h[0], c[0], &e), 0);
    assert_int_equal(model_gradients(&two.model, &second, &r, &e), 0);
    assert_int_equal(ops->state_grad_get(b, k.B, h[1], c[1], &e), 0);
    for (int p = 0; p < tensors; p++) {
        int64_t n = param_info(&two.model.config.shape, p).n;
        sum[p] = malloc((size_t)n * sizeof **sum);
        for (int64_t i = 0; i < n; i++) sum[p][i] = reference_grad(b, p)[i];
    }
    for (int told = 0; told < 2; told++) {
        assert_int_equal(
            ops->state_grad_set(b, k.B, told ? h[1] : NULL, told ? c[1] : NULL, false, &e), 0);
        cost(&two);
        double worst = 0, largest = 0;
        for (int p = 0; p < tensors; p++)
            for (int64_t i = 0; i < param_info(&two.model.config.shape, p).n; i++) {
                double g = reference_grad(one.model.backend, p)[i],
                       d = sum[p][i] + reference_grad(b, p)[i] - g;
                worst = fmax(worst, fabs(d)), largest = fmax(largest, fabs(g));
            }
        /* Without the gradients from the second window the sums differ widely. */
        if (told ? !(worst < 1e-6 * largest) : !(worst > 1e-3 * largest))
            fail_msg("told %d: they differ by %.3g, the largest gradient is %.3g", told, worst,
                     largest);
    }
    for (int p = 0; p < tensors; p++) free(sum[p]);
    model_close(&one.model), model_close(&two.model);
}

/* A wrong gradient must fail this test. The derivative with respect to one weight does if it is off
 * by 1e-3. */
static void the_check_can_fail(void **state)
{
    (void)state;
    Setup s;
    Case k = {13, 7, 1, 4, 3, 0.5, SITES_NONRECURRENT};
    open_case(&s, &k);
    cost(&s);
    double g = reference_grad(s.model.backend, 1)[0], *w = reference_param(s.model.backend, 1),
           before = w[0];
    w[0] = before + 1e-4;
    double up = cost(&s);
    w[0] = before - 1e-4;
    double down = cost(&s), fd = (up - down) / 2e-4;
    assert_true(fabs(fd - g) < 1e-5 * fabs(g) + 1e-7);
    assert_true(fabs(fd - (g + 1e-3)) > 1e-4);
    model_close(&s.model);
}

/* Masks are only on non-recurrent connections: with keep near 0 everything from below is masked,
 * but what h carries still reaches the last step; with `all` it does not. By the paper's count,
 * information that enters at t-2 is masked once at the input, once per layer and once before the
 * softmax, however many steps it travels. */
static void recurrent_path_is_unmasked(void **state)
{
    (void)state;
    for (int sites = SITES_NONRECURRENT; sites <= SITES_ALL; sites++) {
        Setup s;
        Case k = {13, 8, 1, 4, 2, 1e-9, (DropoutSites)sites};
        open_case(&s, &k);
        double *w_hh =
            reference_param(s.model.backend, param_of_layer(&s.model.config.shape, 0, PARAM_W_HH));
        double *hidden =
            reference_param(s.model.backend, param_decoder_weight(&s.model.config.shape));
        cost(&s);
        /* With keep 1e-9 no element of this window is kept: the softmax receives only zeros, and
         * the loss is that of its bias alone. */
        double with = cost(&s);
        hidden[0] += 1;
        assert_true(cost(&s) == with);
        /* Nevertheless, what h carries is visible in the state after the window. */
        float before[16], after[16], c[16];
        Error e;
        s.model.ops->state_get(s.model.backend, 2, before, c, &e);
        w_hh[0] += 1;
        cost(&s);
        s.model.ops->state_get(s.model.backend, 2, after, c, &e);
        bool changed = false;
        for (int i = 0; i < 16; i++) changed |= before[i] != after[i];
        assert_int_equal(changed, sites == SITES_NONRECURRENT);
        model_close(&s.model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finite_differences), cmocka_unit_test(gradients_of_batches),
        cmocka_unit_test(state_gradients),    cmocka_unit_test(halves_make_a_whole),
        cmocka_unit_test(the_check_can_fail), cmocka_unit_test(recurrent_path_is_unmasked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
