/* Tests scoring (SPEC 6) and the contract of the backend table, on both CPU backends. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/backend/backend_cpu.h"
#include "host/backend/backend_reference.h"
#include "host/data/batcher.h"
#include "host/backend/blas.h"
#include "host/train/model.h"
#include "tests/support/score_stream.h"
#include "kernels/philox.h"

static const ModelShape shape = {.V_in = 13, .V_out = 13, .H = 9, .L = 2};
enum { B = 3, T = 4, N = 61 };

static int32_t ids[N];

static void open_model(Model *m, const BackendOps *ops, bool train)
{
    Error e;
    Params p;
    BackendConfig config = {.shape = shape,
                            .T = T,
                            .B = B,
                            .train = train,
                            .keep = 0.5,
                            .sites = SITES_ALL,
                            .seed = 8,
                            .threads = 1};
    assert_int_equal(model_open(m, ops, &config, &e), 0);
    assert_int_equal(params_init(&p, &shape), 0);
    params_draw(&p, 2, 0.4);
    assert_int_equal(model_set_params(m, &p, &e), 0);
    params_free(&p);
    for (int i = 0; i < N; i++)
        ids[i] = (int32_t)(philox_block(6, 1, (uint64_t)i).word[2] % (uint64_t)shape.V_out);
}

/* Returns -log p of every target of a stream, one position at a time with carried state, which is
 * the simplest way to score. */
static void score_by_hand(Model *m, int64_t first, int64_t n, double *nats)
{
    Error e;
    WindowResult r;
    assert_int_equal(m->ops->state_set(m->backend, 1, NULL, NULL, &e), 0);
    for (int64_t i = 0; i < n; i++) {
        Window w = {.batch = batch_of_tokens(1, 1, ids + first + i, ids + first + i + 1)};
        assert_int_equal(model_forward(m, &w, nats + i, NULL, &r, &e), 0);
    }
}

typedef struct Visits {
    double nats[N];
    int count[N];
    int32_t id[N];
    int64_t last;
    bool in_order;
} Visits;

static void visit(void *user, int64_t position, int32_t id, int32_t best, double nats)
{
    Visits *v = user;
    assert_int_equal(best, -1);
    v->nats[position] = nats, v->count[position]++, v->id[position] = id;
    v->in_order &= position == v->last + 1;
    v->last = position;
}

static void scores_are_those_of_the_protocol(const BackendOps *ops)
{
    Error e;
    Model m;
    Totals score;
    double hand[N];
    open_model(&m, ops, false);

    Visits v = {.in_order = true};
    assert_int_equal(score_stream(&m, ids, N, "test", 0, 0, visit, &v, &score, &e), 0);
    assert_int_equal(score.scored, N - 1);
    assert_true(v.in_order);
    score_by_hand(&m, 0, N - 1, hand);
    double sum = 0;
    for (int i = 0; i < N - 1; i++) {
        assert_true(fabs(v.nats[i + 1] - hand[i]) < 1e-5);
        assert_int_equal(v.id[i + 1], ids[i + 1]);
        sum += hand[i];
    }
    assert_true(fabs(score.nats - sum) < 1e-4 && totals_ppl(&score) == exp(score.nats / (N - 1)));

    /* With B = 3 there are rows of 20 ids and (20-1)/4 = 4 windows of 4; row b starts at (2*b*61 +
     * 3) div 6 = 0, 20, 41. */
    static const int64_t start[B] = {0, 20, 41};
    Visits w = {0};
    assert_int_equal(score_stream(&m, ids, N, "valid", B, T, visit, &w, &score, &e), 0);
    assert_int_equal(score.scored, 3 * 16);
    sum = 0;
    for (int row = 0; row < B; row++) {
        score_by_hand(&m, start[row], 16, hand);
        for (int i = 0; i < 16; i++) {
            assert_int_equal(w.count[start[row] + i + 1], 1);
            assert_true(fabs(w.nats[start[row] + i + 1] - hand[i]) < 1e-5);
            sum += hand[i];
        }
    }
    assert_true(fabs(score.nats - sum) < 1e-4);

    assert_int_equal(score_stream(&m, ids, 1, "test", 0, 0, NULL, NULL, &score, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "test"));
    assert_int_equal(score_stream(&m, ids, 14, "valid", B, T, NULL, NULL, &score, &e),
                     EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "valid"));
    model_close(&m);
}

/* Scoring in the middle of training changes no bit of the later steps, and neither does copying the
 * state to the host and back. */
static void scoring_leaves_no_trace(const BackendOps *ops)
{
    double loss[2][6];
    for (int trip = 0; trip < 2; trip++) {
        Error e;
        Model m;
        Batcher batcher;
        int32_t x[T * B], y[T * B];
        open_model(&m, ops, true);
        assert_int_equal(batcher_init(&batcher, ids, N, B, T, "train", &e), 0);
        assert_int_equal(m.ops->state_set(m.backend, B, NULL, NULL, &e), 0);
        for (int step = 0; step < 6; step++) {
            WindowResult r;
            Totals score;
            batcher_window(&batcher, step % batcher.windows, x, y);
            Window w = {.batch = batch_of_tokens(T, B, x, y), .train = true, .step = step};
            assert_int_equal(model_train_step(&m, &w, 0.7, 1, &r, &e), 0);
            loss[trip][step] = r.nats;
            if (trip == 0) continue;
            assert_int_equal(score_stream(&m, ids, N, "test", 0, 0, NULL, NULL, &score, &e), 0);
            assert_int_equal(score_stream(&m, ids, N, "valid", B, T, NULL, NULL, &score, &e), 0);
            float h[2 * B * 9], c[2 * B * 9];
            assert_int_equal(m.ops->state_get(m.backend, B, h, c, &e), 0);
            assert_int_equal(m.ops->state_set(m.backend, B, NULL, NULL, &e), 0);
            assert_int_equal(m.ops->state_set(m.backend, B, h, c, &e), 0);
        }
        model_close(&m);
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
}

static void logits_are_before_the_softmax(const BackendOps *ops)
{
    Error e;
    Model m;
    WindowResult r;
    double nats[T * B];
    int32_t x[T * B], y[T * B];
    open_model(&m, ops, false);
    for (int i = 0; i < T * B; i++) x[i] = ids[i], y[i] = ids[i + 5];
    assert_int_equal(m.ops->state_set(m.backend, B, NULL, NULL, &e), 0);
    Window w = {.batch = batch_of_tokens(T, B, x, y)};
    assert_int_equal(model_forward(&m, &w, nats, NULL, &r, &e), 0);
    for (int row = 0; row < T * B; row++) {
        float z[13];
        double sum = 0;
        assert_int_equal(m.ops->logits_get(m.backend, row, 1, z, &e), 0);
        for (int v = 0; v < 13; v++) sum += exp((double)z[v]);
        assert_true(fabs(log(sum) - (double)z[y[row]] - nats[row]) < 1e-5);
    }
    model_close(&m);
}

static void interrupted_scoring_says_so(const BackendOps *ops)
{
    Error e;
    Model m;
    Totals score;
    volatile sig_atomic_t signal_number = SIGTERM;
    open_model(&m, ops, true);
    m.interrupt = &signal_number;
    assert_int_equal(score_stream(&m, ids, N, "test", 0, 0, NULL, NULL, &score, &e), 128 + SIGTERM);
    assert_int_equal(score_stream(&m, ids, N, "valid", B, T, NULL, NULL, &score, &e),
                     128 + SIGTERM);
    model_close(&m);
}

static void on_each_backend(void **state)
{
    (void)state;
    for (int i = 0; backends[i]; i++) {
        scores_are_those_of_the_protocol(backends[i]);
        scoring_leaves_no_trace(backends[i]);
        logits_are_before_the_softmax(backends[i]);
        interrupted_scoring_says_so(backends[i]);
    }
}

static void table_of_backends(void **state)
{
    (void)state;
    Error e;
    const BackendOps *ops;
    assert_int_equal(backend_find("auto", &ops, &e), 0);
    assert_ptr_equal(ops, backends[0]);
    assert_int_equal(backend_find("reference", &ops, &e), 0);
    assert_string_equal(ops->name, "reference");
    assert_int_equal(backend_find("cpu", &ops, &e), 0);
    assert_int_equal(backend_find("fpga", &ops, &e), EXIT_USAGE);
    assert_non_null(strstr(e.text, "fpga"));
    assert_true(backend_threads() >= 1);
}

static void openblas_core(void **state)
{
    (void)state;
    assert_string_equal(blas_better_core("Prescott", true, true), "SKYLAKEX");
    assert_string_equal(blas_better_core("PRESCOTT", true, false), "HASWELL");
    assert_string_equal(blas_better_core("Sandybridge", true, false), "HASWELL");
    assert_null(blas_better_core("Prescott", false, false));
    assert_null(blas_better_core("SkylakeX", true, true));
    assert_null(blas_better_core("Haswell", true, true));
    assert_null(blas_better_core("Zen", true, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_each_backend),
        cmocka_unit_test(table_of_backends),
        cmocka_unit_test(openblas_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
