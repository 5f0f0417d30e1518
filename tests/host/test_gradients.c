/* The reference backend against central finite differences in double, masks on (SPEC 1, 2, 5).
 *
 * Stencil    (8 (f(+e) - f(-e)) - (f(+2e) - f(-2e))) / 12e with e = 1e-4: its truncation, e^4 f^(5)/30 ~
 * 1e-17, and its rounding, about 1e-16 * cost / e ~ 1e-11, are both far below the bound of 1e-6 of the
 * tensor's largest gradient. */
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
    float h[256], c[256]; /* carried state: not zero, so that W_hh matters at t = 0 */
} Setup;

static void open_case(Setup *s, const Case *k)
{
    Error e;
    BackendConfig config = {.shape = {k->V, k->H, k->L},
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
    params_draw(&p, 5, 0.6); /* large enough that gates leave their linear range */
    assert_int_equal(model_set_params(&s->model, &p, &e), 0);
    params_free(&p);
    for (int64_t i = 0; i < k->T * k->B; i++) {
        PhiloxBlock w = philox_block(11, 0, (uint64_t)i);
        s->x[i] = (int32_t)(w.word[0] % (uint64_t)k->V), s->y[i] = (int32_t)(w.word[1] % (uint64_t)k->V);
    }
    for (int64_t i = 0; i < k->L * k->B * k->H; i++)
        s->h[i] = 0.5f * sinf((float)i), s->c[i] = cosf((float)i);
    s->window = (Window){.T = k->T, .B = k->B, .x = s->x, .y = s->y, .train = true, .step = 3};
}

/* SPEC 5's cost of the window, and its gradients in the backend. */
static double cost(Setup *s)
{
    Error e;
    WindowResult r;
    assert_int_equal(s->model.ops->state_set(s->model.backend, s->window.B, s->h, s->c, &e), 0);
    assert_int_equal(model_gradients(&s->model, &s->window, &r, &e), 0);
    return r.nats / (double)s->window.B;
}

static void check_case(const Case *k)
{
    Setup s;
    open_case(&s, k);
    ModelShape shape = s.model.config.shape;
    for (int tensor = 0; tensor < params_count(&shape); tensor++) {
        ParamInfo info = param_info(&shape, tensor);
        double *w = reference_param(s.model.backend, tensor), worst = 0, largest = 0;
        double *analytic = malloc((size_t)info.n * sizeof *analytic);
        assert_non_null(analytic);
        cost(&s);
        for (int64_t i = 0; i < info.n; i++) {
            analytic[i] = reference_grad(s.model.backend, tensor)[i];
            largest = fmax(largest, fabs(analytic[i]));
        }
        assert_true(largest > 0);
        int64_t n = info.n < PER_TENSOR ? info.n : PER_TENSOR;
        for (int64_t j = 0; j < n; j++) {
            int64_t i =
                n == info.n
                    ? j
                    : (int64_t)(philox_block(77, (uint64_t)tensor, (uint64_t)j).word[0] % (uint64_t)info.n);
            const double e = 1e-4, before = w[i];
            double f[4], at[4] = {-2, -1, 1, 2};
            for (int m = 0; m < 4; m++) {
                w[i] = before + at[m] * e;
                f[m] = cost(&s);
            }
            w[i] = before;
            double difference = fabs((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * e) - analytic[i]);
            if (!(difference <= worst)) worst = difference; /* a NaN gets through */
        }
        free(analytic);
        if (!(worst < 1e-6 * largest)) {
            print_error("%s of L %d, %s: |fd - g| reaches %.3g, the largest gradient is %.3g\n", info.name,
                        (int)k->L, sites_name(k->sites), worst, largest);
            fail();
        }
    }
    model_close(&s.model);
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

/* A wrong gradient must fail this test: the derivative with respect to one weight, off by a thousandth of the
 * largest, does. */
static void the_check_can_fail(void **state)
{
    (void)state;
    Setup s;
    Case k = {13, 7, 1, 4, 3, 0.5, SITES_NONRECURRENT};
    open_case(&s, &k);
    cost(&s);
    double g = reference_grad(s.model.backend, 1)[0], *w = reference_param(s.model.backend, 1), before = w[0];
    w[0] = before + 1e-4;
    double up = cost(&s);
    w[0] = before - 1e-4;
    double down = cost(&s), fd = (up - down) / 2e-4;
    assert_true(fabs(fd - g) < 1e-5 * fabs(g) + 1e-7);
    assert_true(fabs(fd - (g + 1e-3)) > 1e-4);
    model_close(&s.model);
}

/* D stands on non-recurrent connections only: with keep near 0 everything that arrives from below is masked
 * away, yet what was carried in h still reaches the last step; under `all` it does not. And the paper's
 * count: information that enters at t-2 is masked once on the way in, once per layer and once into the
 * softmax, however many steps it travels. */
static void recurrent_path_is_unmasked(void **state)
{
    (void)state;
    for (int sites = SITES_NONRECURRENT; sites <= SITES_ALL; sites++) {
        Setup s;
        Case k = {13, 8, 1, 4, 2, 1e-9, (DropoutSites)sites};
        open_case(&s, &k);
        double *w_hh = reference_param(s.model.backend, param_of_layer(0, PARAM_W_HH));
        double *hidden = reference_param(s.model.backend, param_decoder_weight(&s.model.config.shape));
        cost(&s);
        /* with keep 1e-9 no element of this window is kept: the softmax sees nothing, the loss is that of its
         * bias alone ... */
        double with = cost(&s);
        hidden[0] += 1;
        assert_true(cost(&s) == with);
        /* ... and what h carries is seen in the state that leaves the window. */
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
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(the_check_can_fail),
        cmocka_unit_test(recurrent_path_is_unmasked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
