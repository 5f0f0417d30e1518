/* Tests how often a word's information is masked on its way to a later prediction (SPEC 1; figure 3
 * of the paper): L+1 times for any length of the path, and with --dropout-sites all once more for
 * every step through h.
 *
 * The network is linear with unit gates: i and o are 1, f is 0 or 1, and the g rows of W_ih and
 * W_hh are the identity or zero. So unit u of every layer and step passes on its input, and the
 * result is a sum over paths. With every value zero, tanh is exactly linear. All words are
 * different, and only the last step's target has a gradient. The gradient of the word read k steps
 * before, in unit u, is then n * keep^-m, where m is the number of masks that each path crosses and
 * n the number of paths that no mask cuts; the test counts these paths from the masks' bits. One
 * mask more or less on a path would change the result by a factor of 1/keep. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/backend/backend_cpu.h"
#include "host/backend/backend_reference.h"
#include "host/train/model.h"
#include "kernels/philox.h"

enum {
    T = 24,
    H = 36,
    L = 3,
    V = T + 1,
    LAST = T, /* the word that is predicted at the last step */
    STEP = 5,
    SEED = 42
};
#define KEEP 0.8
/* A bound of what passes a gate of sigmoid(-50) or reaches a step with another target word: 2e-22
 * of some hundred paths. */
#define LEAK 1e-18

typedef enum Carrier { THROUGH_C, THROUGH_H } Carrier;

static ModelShape shape_of_case(void) { return model_shape_of_words(V, H, L); }

static void fill_params(Params *p, Carrier carrier)
{
    ModelShape s = shape_of_case();
    assert_int_equal(params_init(p, &s), 0);
    for (int64_t i = 0; i < p->offset[p->count]; i++) p->data[i] = 0;
    for (int64_t l = 0; l < L; l++) {
        float *w_ih = p->data + p->offset[param_of_layer(&s, l, PARAM_W_IH)],
              *w_hh = p->data + p->offset[param_of_layer(&s, l, PARAM_W_HH)],
              *bias = p->data + p->offset[param_of_layer(&s, l, PARAM_B_IH)];
        for (int64_t u = 0; u < H; u++) {
            /* In double, sigmoid(50) is 1 or the number next to it. */
            bias[u] = bias[3 * H + u] = 50;
            bias[H + u] = carrier == THROUGH_C ? 50 : -50;
            w_ih[(2 * H + u) * H + u] = 1;
            if (carrier == THROUGH_H) w_hh[(2 * H + u) * H + u] = 1;
        }
    }
    /* LAST has a probability of about 0, so a step with another target has no gradient, and the
     * gradient of the last step's logit is -1. */
    p->data[p->offset[param_decoder_bias(&s)] + LAST] = -50;
    for (int64_t u = 0; u < H; u++)
        p->data[p->offset[param_decoder_weight(&s)] + LAST * H + u] = -1;
}

static bool kept(int site, DropoutSites sites, int64_t t, int64_t u)
{
    if (sites == SITES_NONE) return true;
    MaskKey key = mask_key(SEED, STEP, sites == SITES_ALL ? 2 * L + 1 : L + 1, site, KEEP);
    return mask_nibble(&key, t, H, u & ~(int64_t)3) >> (u & 3) & 1;
}

/* Counts the paths that no mask cuts from unit u of the word at step s to the prediction at the
 * last step. */
static double live_ways(DropoutSites sites, Carrier carrier, int64_t s, int64_t u)
{
    double in[T], carried[T];
    for (int64_t t = 0; t < T; t++) in[t] = t == s && kept(0, sites, t, u);
    for (int l = 0; l < L; l++) {
        for (int64_t t = 0; t < T; t++) {
            bool cut = carrier == THROUGH_H && sites == SITES_ALL && !kept(L + 1 + l, sites, t, u);
            carried[t] = in[t] + (t > 0 && !cut ? carried[t - 1] : 0);
        }
        for (int64_t t = 0; t < T; t++) in[t] = kept(l + 1, sites, t, u) ? carried[t] : 0;
    }
    return in[T - 1];
}

static int masks_crossed(DropoutSites sites, Carrier carrier, int64_t distance)
{
    if (sites == SITES_NONE) return 0;
    return L + 1 + (sites == SITES_ALL && carrier == THROUGH_H ? (int)distance : 0);
}

typedef struct Network {
    Model model;
    Params params;
    int32_t x[T], y[T];
    Window window;
} Network;

static void network_open(Network *n, const BackendOps *ops, DropoutSites sites, Carrier carrier)
{
    Error e;
    BackendConfig config = {.shape = shape_of_case(),
                            .T = T,
                            .B = 1,
                            .train = true,
                            .keep = KEEP,
                            .sites = sites,
                            .seed = SEED,
                            .threads = 1};
    assert_int_equal(model_open(&n->model, ops, &config, &e), 0);
    fill_params(&n->params, carrier);
    assert_int_equal(model_set_params(&n->model, &n->params, &e), 0);
    for (int32_t t = 0; t < T; t++) n->x[t] = t, n->y[t] = t + 1 < T ? 0 : LAST;
    n->window = (Window){.batch = batch_of_tokens(T, 1, n->x, n->y), .train = true, .step = STEP};
}

static double network_run(Network *n)
{
    Error e;
    WindowResult r;
    assert_int_equal(n->model.ops->state_set(n->model.backend, 1, NULL, NULL, &e), 0);
    assert_int_equal(model_gradients(&n->model, &n->window, &r, &e), 0);
    return r.nats;
}

static void network_close(Network *n)
{
    model_close(&n->model);
    params_free(&n->params);
}

/* Checks the gradients of every word and unit. `bound` is relative, for a sum of up to T^2/2 paths
 * in the backend's own arithmetic. */
static void check_gradients(const BackendOps *ops, DropoutSites sites, Carrier carrier,
                            double bound)
{
    Error e;
    Network n;
    int alive[T] = {0};
    network_open(&n, ops, sites, carrier);
    network_run(&n);
    assert_int_equal(model_get_grads(&n.model, &n.params, &e), 0);
    const float *grad = n.params.data + n.params.offset[param_encoder(&n.params.shape)];
    for (int64_t s = 0; s < T; s++) {
        double factor = pow(KEEP, -masks_crossed(sites, carrier, T - 1 - s));
        for (int64_t u = 0; u < H; u++) {
            double ways = live_ways(sites, carrier, s, u), ratio = grad[s * H + u] / factor;
            if (!(fabs(ratio - ways) <= bound * ways + LEAK))
                fail_msg("%s, word %lld steps back, unit %lld: gradient %.9g is %.9g * keep^-%d, "
                         "and %g ways "
                         "are alive",
                         ops->name, (long long)(T - 1 - s), (long long)u, (double)grad[s * H + u],
                         ratio, masks_crossed(sites, carrier, T - 1 - s), ways);
            alive[T - 1 - s] += ways > 0;
        }
    }
    /* The claim is about long paths: for most units some path is not cut, unless each step through
     * h cuts some. */
    for (int k = 0; k < T; k++)
        if (sites != SITES_ALL || carrier == THROUGH_C ? alive[k] < H / 4 : k <= 8 && alive[k] == 0)
            fail_msg("only %d units have a way alive of %d steps", alive[k], k);
    network_close(&n);
}

/* A float32 backend sums at most about 300 terms that are exact multiples of each other, with at
 * most L+1+T factors of 1/keep, each rounded once: 28 * 2^-24 plus the sum's own rounding is below
 * 1e-5. The reference's gradients are passed as float32. */
static void check_backend(const BackendOps *ops)
{
    static const DropoutSites sites[] = {SITES_NONE, SITES_NONRECURRENT, SITES_ALL};
    for (int i = 0; i < 3; i++) {
        check_gradients(ops, sites[i], THROUGH_C, 1e-5);
        check_gradients(ops, sites[i], THROUGH_H, 1e-5);
    }
}

static void test_reference(void **state)
{
    (void)state;
    check_backend(&backend_reference);
}

static void test_cpu(void **state)
{
    (void)state;
    check_backend(&backend_cpu);
}

/* Tests the same in the forward direction: perturbs one unit of one word's embedding and compares
 * the cost of the prediction k steps later. With a step of 1e-6 the error is 1e-9 from tanh's
 * curvature and, for nats near 125, 3e-14 / 1e-6 from rounding. */
static void test_perturbed(void **state)
{
    (void)state;
    const double step = 1e-6;
    for (int i = 0; i < 4; i++) {
        DropoutSites sites = i & 1 ? SITES_ALL : SITES_NONRECURRENT;
        Carrier carrier = i & 2 ? THROUGH_C : THROUGH_H;
        Network n;
        int followed = 0;
        network_open(&n, &backend_reference, sites, carrier);
        double *encoder = reference_param(n.model.backend, param_encoder(&n.params.shape)),
               at_zero = network_run(&n);
        for (int64_t s = 0; s < T; s++) {
            int64_t u = 0;
            while (u < H && live_ways(sites, carrier, s, u) == 0) u++;
            if (u == H) continue;
            encoder[s * H + u] = step;
            double answer = (network_run(&n) - at_zero) / step;
            encoder[s * H + u] = 0;
            double expected = live_ways(sites, carrier, s, u) *
                              pow(KEEP, -masks_crossed(sites, carrier, T - 1 - s));
            assert_true(fabs(answer - expected) <= 1e-5 * expected);
            followed++;
        }
        assert_true(followed >= (sites == SITES_ALL && carrier == THROUGH_H ? 9 : T));
        network_close(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_perturbed),
    };
    return cmocka_run_group_tests_name("paths", tests, NULL, NULL);
}
