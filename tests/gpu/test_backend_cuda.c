/* Tests the cuda backend, on a GPU or on the emulated one, from the same source.
 *
 * The backend is compared with the reference over 20 SGD steps at odd shapes, with the bound of
 * test_backend_cpu.c for the same reasons: its formulas are those of a plain float32 loop, with
 * sums in other orders, and exp and tanh within an ulp or two of libm's. So its error may be at
 * most 3 times that loop's error against double (2 times for the forward result of the first step),
 * plus 4 ulp of the largest value. Its runs are also compared with each other bit for bit: replayed
 * from a graph, launched kernel by kernel, with ids passed by the caller, resumed, repeated, and
 * under any schedule. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/backend/backend_cuda.h"
#include "host/plan/precision.h"
#include "host/backend/backend_reference.h"
#include "host/data/batcher.h"
#include "host/plan/device.h"
#include "host/train/model.h"
#include "tests/support/score_stream.h"
#include "host/backend/gemm.h"
#include "kernels/philox.h"
#include "tests/support/group.h"
#include "tests/support/plain_f32.h"
#include "tests/support/state_gradient.h"

#ifdef CUDA_EMU
#include "emu.h"
#endif

enum { STEPS = 20 };

typedef struct Case {
    int64_t V, H, L, T, B;
    double keep;
    DropoutSites sites;
} Case;

static const Case cases[] = {
    {31, 23, 2, 5, 3, 0.5, SITES_NONRECURRENT},
    {31, 23, 2, 5, 3, 0.5, SITES_ALL},
    {31, 23, 2, 5, 3, 0.5, SITES_NONE},
    {31, 23, 2, 1, 3, 0.35, SITES_ALL},         /* T = 1 */
    {31, 23, 1, 5, 1, 0.8, SITES_NONRECURRENT}, /* B = 1 */
    {31, 1, 3, 1, 1, 1.0, SITES_NONRECURRENT},
    {7, 23, 1, 5, 3, 0.5, SITES_ALL}, /* V < H */
    {1, 5, 1, 3, 2, 0.5, SITES_ALL},  /* V = 1 */
    {40, 32, 2, 3, 4, 1.0, SITES_NONRECURRENT},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* The options of a run. */
typedef struct Way {
    /* launch kernel by kernel (cuda only); pass ids with every window instead of a stream */
    bool eager, own_ids;
    int from, to;       /* run the steps from..to-1 */
    bool scored;        /* score a window after every fifth step */
    bool told;          /* set the state's gradient to zero in steps 8 to 11 */
    const char *kernel; /* NULL: cublas */
    const char *plan;   /* as recorded in a checkpoint */
    LstmPrecision precision;
    const char *algorithms; /* as recorded in a checkpoint */
} Way;

/* The BackendInfo that info_of returned last. */
static BackendInfo told;

static const BackendInfo *info_of(const Model *m)
{
    backend_cuda.info(m->backend, &told);
    return &told;
}

static const Way whole = {.to = STEPS};

typedef struct Run {
    double loss[STEPS], norm[STEPS];
    Params weights;
    float *state; /* (2,L,B,H) */
} Run;

static void run_free(Run *r)
{
    params_free(&r->weights);
    free(r->state);
}

static size_t state_size(const Case *k) { return (size_t)(k->L * k->B * k->H); }

/* lr and clip change between steps, and a captured graph must use the new values. */
static double lr_at(int step) { return step < 8 ? 0.5 : step < 13 ? 0.25 : 0.4; }

static double clip_at(int step) { return step < 11 ? 2.0 : 0.5; }

static BackendConfig config_of(const Case *k)
{
    return (BackendConfig){.shape = model_shape_of_words(k->V, k->H, k->L),
                           .T = k->T,
                           .B = k->B,
                           .train = true,
                           .keep = k->keep,
                           .sites = k->sites,
                           .seed = 0x123456789a,
                           .threads = 1,
                           .kernel = "cublas"};
}

static void keep_result(Run *run, const WindowResult *r, int *next)
{
    if (r->step < 0) return;
    assert_int_equal(r->step, (*next)++);
    run->loss[r->step] = r->nats, run->norm[r->step] = r->grad_norm;
}

/* Returns whether the kernel of that name computes in tiles. */
static bool tensor_kernel(const char *name)
{
    for (int v = 0; lstm_variants[v]; v++)
        if (!strcmp(lstm_variants[v]->footprint->name, name))
            return lstm_variants[v]->footprint->reads_tiles;
    return false;
}

/* Requests plans of few threads, to keep the emulator fast, with a ragged last block. */
static void small_plans(const char *kernel)
{
#ifdef CUDA_EMU
    if (strcmp(kernel, "auto") && !tensor_kernel(kernel))
        setenv("PLSTM_PLAN", "blocks=3,threads=64", 1);
#else
    (void)kernel;
#endif
}

/* Runs steps from..to-1 of the run of case k. If from > 0, *run has the weights and the state
 * before it. An epoch has 7 windows, so the window of a step is not its number. */
static void train(const BackendOps *ops, const Case *k, Way way, Run *run)
{
    Error e = {0};
    Model m;
    Batcher batcher;
    BackendConfig config = config_of(k);
    config.eager = way.eager, config.plan = way.plan, config.algorithms = way.algorithms;
    if (way.kernel) config.kernel = way.kernel;
    config.precision = way.precision;
    int64_t n = k->T * k->B, N = k->B * (7 * k->T + 1) + (k->B > 1);
    int32_t *ids = malloc((size_t)N * sizeof *ids), *x = malloc((size_t)n * sizeof *x),
            *y = malloc((size_t)n * sizeof *y);
    for (int64_t i = 0; i < N; i++)
        ids[i] = (int32_t)(philox_block(3, 1, (uint64_t)i).word[0] % (uint64_t)k->V);
    assert_int_equal(batcher_init(&batcher, ids, N, k->B, k->T, "made", &e), 0);
    assert_int_equal(batcher.windows, 7);

    if (!way.plan) small_plans(config.kernel);
    int code = model_open(&m, ops, &config, &e);
    unsetenv("PLSTM_PLAN");
    if (code) fail_msg("%s", e.text);
    if (way.from == 0) {
        assert_int_equal(params_init(&run->weights, &config.shape), 0);
        params_draw(&run->weights, 4, 0.2);
        run->state = calloc(2 * state_size(k), sizeof *run->state);
    }
    assert_int_equal(model_set_params(&m, &run->weights, &e), 0);
    assert_int_equal(ops->state_set(m.backend, k->B, run->state, run->state + state_size(k), &e),
                     0);
    bool of_stream = ops->train_stream && !way.own_ids;
    if (of_stream) assert_int_equal(ops->train_stream(m.backend, ids, N, k->T, k->B, &e), 0);

    int next = way.from;
    WindowResult r;
    for (int step = way.from; step < way.to; step++) {
        if (step % 7 == 0) assert_int_equal(ops->state_set(m.backend, k->B, NULL, NULL, &e), 0);
        batcher_window(&batcher, step % 7, x, y);
        Window w = {.batch = batch_of_tokens(k->T, k->B, x, y), .train = true, .step = step};
        if (of_stream) w.batch.ids = w.batch.targets = NULL, w.index = step % 7;
        if (way.told && (step == 8 || step == 12)) {
            float *zeros = calloc(state_size(k), sizeof *zeros), *told = step == 8 ? zeros : NULL;
            assert_int_equal(ops->state_grad_set(m.backend, k->B, told, told, step == 8, &e), 0);
            free(zeros);
        }
        code = model_train_step(&m, &w, lr_at(step), clip_at(step), &r, &e);
        if (code) fail_msg("step %d: %s", step, e.text);
        keep_result(run, &r, &next);
        if (way.scored && step % 5 == 4) {
            Totals score;
            assert_int_equal(score_stream(&m, ids, N, "made", 0, 0, NULL, NULL, &score, &e), 0);
            assert_true(isfinite(score.nats) && score.scored == N - 1);
        }
    }
    do {
        assert_int_equal(model_drain(&m, &r, &e), 0);
        keep_result(run, &r, &next);
    } while (r.step >= 0);
    assert_int_equal(next, way.to);
    assert_int_equal(model_get_params(&m, &run->weights, &e), 0);
    assert_int_equal(ops->state_get(m.backend, k->B, run->state, run->state + state_size(k), &e),
                     0);
    model_close(&m);
    free(ids), free(x), free(y);
#ifdef CUDA_EMU
    if (emu_live_bytes() || emu_live_objects())
        fail_msg("%zu bytes and %zu objects leaked", emu_live_bytes(), emu_live_objects());
    if (emu_report()[0]) fail_msg("%s", emu_report());
#endif
}

static void assert_same_bits(const Case *k, const Run *a, const Run *b)
{
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_memory_equal(a->norm, b->norm, sizeof a->norm);
    assert_memory_equal(a->weights.data, b->weights.data,
                        (size_t)a->weights.offset[a->weights.count] * sizeof(float));
    assert_memory_equal(a->state, b->state, 2 * state_size(k) * sizeof(float));
}

/* The race and the ASan build take ten times as long, and a few steps are enough for them. */
static bool slow_build(void)
{
#ifdef CUDA_EMU
    return strcmp(emu_mode(), "plain") != 0;
#else
    return false;
#endif
}

/* If a step takes seconds, the plain build covers it. */
static void skip_slow(void)
{
    print_message(
        "skipped: under a sanitizer this would take minutes, and the plain build runs it\n");
    skip();
}

static bool long_lists(void)
{
    const char *text = getenv("PLSTM_LONG");
    return text && text[0] && !slow_build();
}

/* ---- against the reference ---- */

static char kernel_told[32]; /* the value of --kernel that ran, for messages */

static void check(const char *what, const Case *k, double error, double plain, double times,
                  double largest)
{
    /* The kernels' sigmoids divide by a reciprocal that may be off by one unit in the last place
     * (cell.cuh), which the plain loop's division is not: three of them in each layer. */
    double bound = f32_bound(times, plain, largest) + 3 * (double)k->L * f32_ulp(largest);
    if (error <= bound) return;
    fail_msg(
        "%s, H %d L %d B %d T %d V %d %s: %s errs %.3g, the plain loop %.3g, the bound is %.3g",
        kernel_told, (int)k->H, (int)k->L, (int)k->B, (int)k->T, (int)k->V, sites_name(k->sites),
        what, error, plain, bound);
}

static void check_weights(const Case *k, const Params *exact, const Params *plain,
                          const Params *ours)
{
    for (int p = 0; p < exact->count; p++) {
        double error = 0, plain_error = 0, top = 0;
        for (int64_t j = exact->offset[p]; j < exact->offset[p + 1]; j++) {
            double want = exact->data[j], a = fabs(plain->data[j] - want),
                   b = fabs(ours->data[j] - want);
            if (!(a <= plain_error)) plain_error = a;
            if (!(b <= error)) error = b;
            top = fmax(top, fabs(want));
        }
        check(param_info(&exact->shape, p).name, k, error, plain_error, 3, top);
    }
}

static void check_loop(const char *what, const Case *k, const double *exact, const double *plain,
                       const double *ours, int n, double times)
{
    double largest, plain_error = f32_error(plain, exact, n, &largest);
    check(what, k, f32_error(ours, exact, n, &largest), plain_error, times, largest);
}

/* The values of --kernel under test: first every float32 variant, beginning with the first one and
 * continuing from the last one back; then `auto`; then each variant forward with the one before it
 * in this order backward, since a pass's results do not depend on the other pass's variant. */
enum { KERNELS_MOST = 32 };
static char kernels[KERNELS_MOST][32];
/* the number of all values, and of the single variants, which come first */
static int kernel_count, alone;

static void list_kernels(void)
{
    const char *name[KERNELS_MOST];
    int last = 0;
    for (int v = 0; lstm_variants[v]; v++) last = v;
    if (2 * last + 3 > KERNELS_MOST) abort();
    for (int n = 0, v = 0; n <= last; v = v ? v - 1 : last, n++)
        if (lstm_variants[v]->footprint->precisions >> PRECISION_F32 & 1)
            name[alone++] = lstm_variants[v]->footprint->name;
    for (int i = 0; i < alone; i++) {
        snprintf(kernels[i], sizeof kernels[0], "%s", name[i]);
        snprintf(kernels[alone + 1 + i], sizeof kernels[0], "%s/%s", name[(i + 1) % alone],
                 name[i]);
    }
    snprintf(kernels[alone], sizeof kernels[0], "auto");
    kernel_count = 2 * alone + 1;
}

static void follows_reference(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        const Case *k = &cases[i];
        if (slow_build() && i > 1) break;
        Run exact, plain, ours;
        train(&backend_reference, k, whole, &exact);
        train(&backend_plain_f32, k, whole, &plain);
        for (int j = 0; j < kernel_count; j++) {
            bool turn = j == 0 || j == 1 + i % (kernel_count - 1);
            if (slow_build() ? j != i : !turn && !long_lists()) continue;
            memcpy(kernel_told, kernels[j], sizeof kernel_told);
            train(&backend_cuda, k, (Way){.to = STEPS, .kernel = kernels[j]}, &ours);
            check_loop("the first loss", k, exact.loss, plain.loss, ours.loss, 1, 2);
            check_loop("a loss", k, exact.loss, plain.loss, ours.loss, STEPS, 3);
            check_loop("a gradient norm", k, exact.norm, plain.norm, ours.norm, STEPS, 3);
            check_weights(k, &exact.weights, &plain.weights, &ours.weights);
            run_free(&ours);
        }
        run_free(&exact), run_free(&plain);
    }
}

/* Opens case k with drawn weights and a zero state. */
static void open_case(Model *m, const BackendOps *ops, const Case *k, const BackendConfig *config)
{
    Error e = {0};
    Params p;
    if (model_open(m, ops, config, &e)) fail_msg("%s", e.text);
    assert_int_equal(params_init(&p, &config->shape), 0);
    params_draw(&p, 5, 0.3);
    assert_int_equal(model_set_params(m, &p, &e), 0);
    assert_int_equal(ops->state_set(m->backend, k->B, NULL, NULL, &e), 0);
    params_free(&p);
}

static void draw_ids(const Case *k, int32_t *x, int32_t *y)
{
    for (int64_t i = 0; i < k->T * k->B; i++) {
        PhiloxBlock w = philox_block(8, 0, (uint64_t)i);
        x[i] = (int32_t)(w.word[0] % (uint64_t)k->V), y[i] = (int32_t)(w.word[1] % (uint64_t)k->V);
    }
}

static void gradients_follow_reference(void **state)
{
    (void)state;
    const BackendOps *ops[] = {&backend_reference, &backend_plain_f32, &backend_cuda};
    for (int i = 0; i < CASES; i++) {
        const Case *k = &cases[i];
        int32_t x[64], y[64];
        double nats[3], token[3][64];
        Params grads[3];
        if (slow_build() && i > 1) break;
        draw_ids(k, x, y);
        for (int o = 0; o < 3; o++) {
            Error e;
            Model m;
            WindowResult r;
            BackendConfig config = config_of(k);
            open_case(&m, ops[o], k, &config);
            Window w = {.batch = batch_of_tokens(k->T, k->B, x, y), .train = true, .step = 77};
            assert_int_equal(model_gradients(&m, &w, &r, &e), 0);
            assert_int_equal(r.step, 77);
            assert_int_equal(params_init(&grads[o], &config.shape), 0);
            assert_int_equal(model_get_grads(&m, &grads[o], &e), 0);
            w.train = false;
            assert_int_equal(model_forward(&m, &w, token[o], NULL, &r, &e), 0);
            nats[o] = r.nats;
            model_close(&m);
        }
        check_weights(k, &grads[0], &grads[1], &grads[2]);
        check_loop("a scored window", k, &nats[0], &nats[1], &nats[2], 1, 2);
        check_loop("a word's nats", k, token[0], token[1], token[2], (int)(k->T * k->B), 2);
        for (int o = 0; o < 3; o++) params_free(&grads[o]);
    }
}

static void state_gradients_follow_reference(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        const Case *k = &cases[i];
        if (slow_build() && i > 1) break;
        Error e;
        BackendConfig config = config_of(k);
        double *exact = state_gradients(&backend_reference, &config, &e),
               *plain = state_gradients(&backend_plain_f32, &config, &e);
        assert_true(exact && plain);
        int64_t n = state_gradients_state(&config), all = state_gradients_all(&config);
        for (int j = 0; j < kernel_count; j++) {
            if (!long_lists() && j != i % alone) continue;
            memcpy(kernel_told, kernels[j], sizeof kernel_told);
            config.kernel = kernels[j];
            double *ours = state_gradients(&backend_cuda, &config, &e);
            if (!ours) fail_msg("%s: %s", kernels[j], e.text);
            check_loop("a gradient of the state", k, exact, plain, ours, (int)n, 3);
            check_loop("a gradient", k, exact + n, plain + n, ours + n, (int)(all - n), 3);
            free(ours);
        }
        free(exact), free(plain);
    }
}

/* The logits of a scored row, which include the bias, give the nats of its target. */
static void logits_are_those_of_the_nats(void **state)
{
    (void)state;
    const Case *k = &cases[0];
    Error e;
    Model m;
    WindowResult r;
    BackendConfig config = config_of(k);
    int32_t x[64], y[64];
    double token[64];
    float logits[64];
    draw_ids(k, x, y);
    config.train = false;
    open_case(&m, &backend_cuda, k, &config);
    Window w = {.batch = batch_of_tokens(k->T, k->B, x, y)};
    assert_int_equal(model_forward(&m, &w, token, NULL, &r, &e), 0);
    double all = 0;
    for (int64_t row = 0; row < k->T * k->B; row++) {
        double sum = 0;
        assert_int_equal(backend_cuda.logits_get(m.backend, row, 1, logits, &e), 0);
        for (int64_t v = 0; v < k->V; v++) sum += exp((double)logits[v]);
        assert_true(fabs(log(sum) - (double)logits[y[row]] - token[row]) < 1e-5);
        all += token[row];
    }
    assert_true(r.nats == all && r.grad_norm == 0 && r.step == 0);
    model_close(&m);
}

/* ---- the same bits ---- */

/* Returns the kernel and plan that a checkpoint would record. */
static void recorded_plan(const Case *k, const char *kernel, LstmPrecision precision, char name[48],
                          char plan[RECURRENCE_TEXT])
{
    Model m;
    BackendConfig config = config_of(k);
    config.kernel = kernel, config.precision = precision;
    small_plans(kernel);
    open_case(&m, &backend_cuda, k, &config);
    unsetenv("PLSTM_PLAN");
    snprintf(name, 48, "%s", info_of(&m)->kernel);
    recurrence_text(cuda_recurrence(m.backend), plan, RECURRENCE_TEXT);
    model_close(&m);
}

static void every_way_gives_the_same_bits(void **state)
{
    (void)state;
    static const Way ways[] = {
        {.to = STEPS}, /* the same again */
        {.to = STEPS, .eager = true},
        {.to = STEPS, .own_ids = true},
        {.to = STEPS, .scored = true},
        {.to = STEPS, .told = true}, /* launched kernel by kernel, between replays */
    };
    const char *const kernel[] = {kernels[1], kernels[alone + 1], kernels[0]};
    static const LstmPrecision precision[] = {PRECISION_F32, PRECISION_BF16, PRECISION_TF32};
    for (int i = 0; i < CASES; i++) {
        if (slow_build() || (!long_lists() && i > 1)) break;
        Run first;
        train(&backend_cuda, &cases[i],
              (Way){.to = STEPS, .kernel = kernel[i % 3], .precision = precision[i % 3]}, &first);
        for (size_t j = 0; j < sizeof ways / sizeof ways[0]; j++) {
            Run other;
            Way way = ways[j];
            way.kernel = kernel[i % 3], way.precision = precision[i % 3];
            train(&backend_cuda, &cases[i], way, &other);
            assert_same_bits(&cases[i], &first, &other);
            run_free(&other);
        }
        run_free(&first);
    }
}

/* A run resumes with the same plan, as recorded in a checkpoint. In bf16 this also shows that the
 * copies written by the update equal those made from weights that were set. */
static void resume_gives_the_same_bits(void **state)
{
    (void)state;
    if (slow_build()) skip_slow();
    static const int at[] = {1, 2, 3, 5, 7, 11};
    const char *const kernel[] = {kernels[0], "auto", kernels[1]};
    static const LstmPrecision precision[] = {PRECISION_F32, PRECISION_F32, PRECISION_BF16};
    for (int i = 0; i < 3; i++) {
        Run one, two;
        char plan[RECURRENCE_TEXT], name[48];
        recorded_plan(&cases[i], kernel[i], precision[i], name, plan);
        train(&backend_cuda, &cases[i],
              (Way){.to = STEPS, .kernel = kernel[i], .plan = plan, .precision = precision[i]},
              &one);
        for (size_t j = 0; j < sizeof at / sizeof at[0]; j++) {
            Way before = {.to = at[j],
                          .kernel = kernel[i],
                          .plan = plan,
                          .precision = precision[i]},
                after = {.from = at[j],
                         .to = STEPS,
                         .kernel = name,
                         .plan = plan,
                         .precision = precision[i]};
            train(&backend_cuda, &cases[i], before, &two);
            train(&backend_cuda, &cases[i], after, &two);
            assert_same_bits(&cases[i], &one, &two);
            run_free(&two);
            if (!long_lists() && j == (size_t)i) break;
        }
        run_free(&one);
    }
}

/* A kernel on tensor cores reads w_hh as fragments that the update writes. A resumed run, whose
 * fragments are made from the loaded weights, has the same bits; so has a run by graphs, also if
 * another kernel computes the backward pass. */
static void tensor_kernels_read_what_the_update_wrote(void **state)
{
    (void)state;
    if (slow_build()) skip_slow();
    int ran = 0;
#ifdef CUDA_EMU
    assert_int_equal(emu_device_select("H200"), 0); /* it has clusters */
#endif
    for (int v = 0; lstm_variants[v]; v++)
        for (int mixed = 0; mixed < (long_lists() ? 3 : 1); mixed++) {
            const LstmFootprint *f = lstm_variants[v]->footprint;
            char kernel[48];
            if (!f->reads_tiles || !(f->precisions >> PRECISION_BF16 & 1)) continue;
            snprintf(kernel, sizeof kernel, "%s%s%s", mixed == 2 ? "cublas/" : "", f->name,
                     mixed == 1 ? "/cublas" : "");
            Run one, two, three;
            Way way = {.to = 6, .kernel = kernel, .precision = PRECISION_BF16}, before = way,
                after = way, eager = way;
            before.to = after.from = 4, eager.eager = true;
            train(&backend_cuda, &cases[1], way, &one);
            train(&backend_cuda, &cases[1], before, &two);
            train(&backend_cuda, &cases[1], after, &two);
            train(&backend_cuda, &cases[1], eager, &three);
            size_t bytes = (size_t)one.weights.offset[one.weights.count] * sizeof(float);
            assert_memory_equal(one.weights.data, two.weights.data, bytes);
            assert_memory_equal(one.weights.data, three.weights.data, bytes);
            run_free(&one), run_free(&two), run_free(&three);
            ran++;
        }
#ifdef CUDA_EMU
    assert_int_equal(emu_device_select("A100"), 0);
#endif
    if (ran) return;
    print_message("skipped: this program has no kernel on tensor cores\n");
    skip();
}

static void schedules_change_no_bit(void **state)
{
    (void)state;
#ifdef CUDA_EMU
    if (slow_build()) skip_slow();
    for (int i = 0; i < alone; i++) {
        Run first;
        Way way = {.to = STEPS, .kernel = kernels[i]};
        train(&backend_cuda, &cases[1], way, &first);
        for (unsigned seed = 1; seed <= (long_lists() ? 24 : i ? 1 : 3); seed++) {
            Run other;
            emu_seed(seed);
            train(&backend_cuda, &cases[1], way, &other);
            emu_seed(0);
            assert_same_bits(&cases[1], &first, &other);
            run_free(&other);
        }
        run_free(&first);
    }
#else
    print_message("a real GPU takes no order from us\n");
    skip();
#endif
}

/* ---- steps ---- */

typedef struct Stepper {
    Model m;
    const Case *k;
    int32_t ids[256];
    int64_t step;
} Stepper;

static void stepper_open_in(Stepper *s, const Case *k, const char *kernel, LstmPrecision precision)
{
    Error e;
    BackendConfig config = config_of(k);
    config.kernel = kernel, config.precision = precision;
    s->k = k, s->step = 0;
    for (int i = 0; i < 256; i++)
        s->ids[i] = (int32_t)(philox_block(3, 2, (uint64_t)i).word[0] % (uint64_t)k->V);
    open_case(&s->m, &backend_cuda, k, &config);
    assert_int_equal(backend_cuda.train_stream(s->m.backend, s->ids, 256, k->T, k->B, &e), 0);
}

static void stepper_open(Stepper *s, const Case *k, const char *kernel)
{
    stepper_open_in(s, k, kernel, PRECISION_F32);
}

static WindowResult stepper_step(Stepper *s)
{
    Error e = {0};
    WindowResult r;
    Window w = {.batch = batch_of_tokens(s->k->T, s->k->B, NULL, NULL),
                .index = s->step,
                .train = true,
                .step = s->step};
    int code = model_train_step(&s->m, &w, 0.5, 5, &r, &e);
    if (code && !r.fault) fail_msg("%s", e.text);
    s->step++;
    return r;
}

static void results_come_three_steps_late(void **state)
{
    (void)state;
    Stepper s;
    Error e;
    WindowResult r;
    stepper_open(&s, &cases[0], "reg");
    assert_int_equal(model_drain(&s.m, &r, &e), 0);
    assert_int_equal(r.step, -1);
    for (int i = 0; i < 8; i++) {
        r = stepper_step(&s);
        assert_int_equal(r.step, i < 3 ? -1 : i - 3);
        assert_true(i < 3 || (r.nats > 0 && r.grad_norm > 0 && !r.fault));
    }
    for (int i = 5; i <= 8; i++) {
        assert_int_equal(model_drain(&s.m, &r, &e), 0);
        assert_int_equal(r.step, i < 8 ? i : -1);
    }
    model_close(&s.m);
}

/* A replayed step is one launch; the host waits only for a result of three steps ago and allocates
 * nothing. */
static void a_step_is_one_launch(void **state)
{
    (void)state;
#ifdef CUDA_EMU
    Stepper s;
    stepper_open(&s, &cases[0], "reg");
    for (int i = 0; i < 5; i++) stepper_step(&s);
    unsigned long any = emu_calls(EMU_CALL_ANY), launches = emu_calls(EMU_CALL_LAUNCH),
                  copies = emu_calls(EMU_CALL_COPY), blas = emu_calls(EMU_CALL_CUBLAS);
    for (int i = 0; i < 4; i++) stepper_step(&s);
    assert_int_equal(emu_calls(EMU_CALL_LAUNCH) - launches, 4);
    assert_int_equal(emu_calls(EMU_CALL_COPY) - copies, 0);
    assert_int_equal(emu_calls(EMU_CALL_CUBLAS) - blas, 0);
    /* Each of 4 steps makes 3 calls: the launch, an event, and a wait for an older event. */
    assert_int_equal(emu_calls(EMU_CALL_ANY) - any, 4 * 3);
    model_close(&s.m);
#else
    print_message("calls are counted by the emulator\n");
    skip();
#endif
}

#ifndef CUDA_EMU
/* Returns whether a kernel node is plstm's own and not part of the recurrence. The kernel's name
 * decides, since a library's product may be several nodes. */
static bool own_kernel(cudaGraphNode_t node)
{
    static const char *const names[] = {"step_begin", "embedding_",  "softmax_xent", "column_sums",
                                        "sgd_",       "carry_state", "round_bf16"};
    struct cudaKernelNodeParams p;
    const char *name;
    if (cudaGraphKernelNodeGetParams(node, &p) || cudaFuncGetName(&name, p.func)) {
        cudaGetLastError(); /* the kernel belongs to a library with a runtime of its own */
        return false;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(name, names[i])) return true;
    return false;
}
#endif

/* In every precision, a minibatch at two layers has 9 kernels besides products and the recurrence,
 * and no copies. */
static void few_kernels_a_step(void **state)
{
    (void)state;
    for (int i = 0; i < 9; i++) {
        int sites = i % 3;
        const char *kernel = i / 3 ? "reg/smem" : "cublas";
        LstmPrecision precision = i / 3 == 2 ? PRECISION_BF16 : PRECISION_F32;
        Case k = {31, 24, 2, 5, 3, 0.5, (DropoutSites)sites};
        Stepper s;
        size_t n = 0;
        int kernels = 0, others = 0, own = 0;
        stepper_open_in(&s, &k, kernel, precision);
        assert_null(cuda_graph(s.m.backend));
        stepper_step(&s), stepper_step(&s);
        cudaGraph_t graph = cuda_graph(s.m.backend);
        assert_non_null(graph);
        assert_int_equal(cudaGraphGetNodes(graph, NULL, &n), cudaSuccess);
        cudaGraphNode_t *node = calloc(n, sizeof *node);
        assert_int_equal(cudaGraphGetNodes(graph, node, &n), cudaSuccess);
        for (size_t i = 0; i < n; i++) {
            enum cudaGraphNodeType type;
            assert_int_equal(cudaGraphNodeGetType(node[i], &type), cudaSuccess);
            if (type == cudaGraphNodeTypeKernel) kernels++;
            else others++;
#ifndef CUDA_EMU
            own += type == cudaGraphNodeTypeKernel && own_kernel(node[i]);
#endif
        }
        free(node);
#ifdef CUDA_EMU
        LstmShape shape = {.T = k.T, .B = k.B, .H = k.H};
        /* On the emulator a product is one node: each layer has one forward and three backward, the
         * softmax one forward and two backward. */
        int products = (int)(4 * k.L + 3), recurrence = 0;
        const Recurrence *r = cuda_recurrence(s.m.backend);
        recurrence +=
            (int)k.L * (r->forward->launches(&shape, 0) + r->backward->launches(&shape, 1));
        if (sites == SITES_ALL && i < 3) recurrence += (int)k.L; /* cublas masks the carried h */
        own = kernels - products - recurrence;
        assert_int_equal(others, 0); /* our own kernels copy the carried state */
#endif
        print_message(
            "%s %s %s: %zu nodes, %d kernels, of those %d beside products and the recurrence\n",
            kernel, precision_name(precision), sites_name(sites), n, kernels, own);
        assert_int_equal(own, 9);
        model_close(&s.m);
    }
}

/* ---- faults of a step ---- */

/* A step whose fault record is set changes neither weights nor state and reports it; the steps
 * after it change nothing either. */
static void a_fault_changes_nothing(void **state)
{
    (void)state;
    const Case *k = &cases[0];
    Stepper s;
    Error e;
    WindowResult r;
    Params before, after;
    float *h = calloc(4 * state_size(k), sizeof *h);
    stepper_open(&s, k, "reg");
    for (int i = 0; i < 6; i++) stepper_step(&s);
    ModelShape shape = model_shape_of_words(k->V, k->H, k->L);
    assert_int_equal(params_init(&before, &shape) | params_init(&after, &shape), 0);
    do assert_int_equal(model_drain(&s.m, &r, &e), 0);
    while (r.step >= 0);
    assert_int_equal(model_get_params(&s.m, &before, &e), 0);
    assert_int_equal(backend_cuda.state_get(s.m.backend, k->B, h, h + state_size(k), &e), 0);
    FaultRecord fault = {
        .set = 1, .block = 3, .step = 2, .expected = 40, .seen = 39, .missing = {1u << 7}};
    assert_int_equal(
        cudaMemcpy(cuda_fault(s.m.backend), &fault, sizeof fault, cudaMemcpyHostToDevice),
        cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);

    for (int i = 0; i < 3; i++) assert_int_equal(stepper_step(&s).step, -1);
    assert_int_equal(model_drain(&s.m, &r, &e), EXIT_FAILED);
    assert_true(r.fault);
    assert_int_equal(r.step, 6);
    assert_non_null(strstr(e.text, "block 3 waited at step 2"));
    assert_int_equal(model_drain(&s.m, &r, &e), 0);
    assert_int_equal(r.step, -1);
    assert_int_equal(model_get_params(&s.m, &after, &e), 0);
    assert_memory_equal(before.data, after.data,
                        (size_t)before.offset[before.count] * sizeof(float));
    assert_int_equal(
        backend_cuda.state_get(s.m.backend, k->B, h + 2 * state_size(k), h + 3 * state_size(k), &e),
        0);
    assert_memory_equal(h, h + 2 * state_size(k), 2 * state_size(k) * sizeof *h);
    model_close(&s.m);
    params_free(&before), params_free(&after), free(h);
}

static void bad_weight_shows_in_the_loss(void **state)
{
    (void)state;
    for (int p = 1; p < params_count(&(ModelShape){.V_in = 31, .V_out = 31, .H = 23, .L = 2});
         p++) {
        Stepper s;
        Error e;
        WindowResult r;
        Params w;
        if (slow_build() && p > 1) break;
        stepper_open(&s, &cases[2], "cublas");
        assert_int_equal(params_init(&w, &s.m.config.shape), 0);
        params_draw(&w, 1, 0.1);
        w.data[w.offset[p] + 3] = NAN;
        assert_int_equal(model_set_params(&s.m, &w, &e), 0);
        stepper_step(&s);
        assert_int_equal(model_drain(&s.m, &r, &e), 0);
        assert_true(isnan(r.nats) || isnan(r.grad_norm));
        params_free(&w);
        model_close(&s.m);
    }
}

/* ---- plans ---- */

static void open_with(Model *m, const Case *k, const char *kernel, const char *plan)
{
    BackendConfig config = config_of(k);
    config.kernel = kernel, config.plan = plan;
    open_case(m, &backend_cuda, k, &config);
}

static void plans_are_recorded_and_taken(void **state)
{
    (void)state;
    const Case k = {31, 64, 1, 5, 3, 0.5, SITES_NONRECURRENT};
    Model m;
    char plan[RECURRENCE_TEXT];
    static const char *const bad[] = {"nonsense", ";;", "backward=0", ";;;;"};

    open_with(&m, &k, "cublas", NULL);
    assert_int_equal(info_of(&m)->notes, 2);
    assert_string_equal(info_of(&m)->remark, "");
    assert_null(recurrence_plan(cuda_recurrence(m.backend), false, 3));
    model_close(&m);

    open_with(&m, &k, "reg", NULL);
    const Recurrence *r = cuda_recurrence(m.backend);
    assert_int_equal(info_of(&m)->notes, 3);
    assert_string_equal(told.note[1].key, "plan");
    recurrence_text(r, plan, sizeof plan);
    assert_string_equal(told.note[1].value, plan);
    assert_string_equal(info_of(&m)->remark, "");
    assert_ptr_equal(recurrence_plan(r, false, 3), &r->plan[PLAN_FORWARD]);
    assert_ptr_equal(recurrence_plan(r, false, 2), &r->plan[PLAN_FORWARD]);
    assert_ptr_equal(recurrence_plan(r, false, 1), &r->plan[PLAN_ONE_ROW]);
    assert_ptr_equal(recurrence_plan(r, true, 3), &r->plan[PLAN_BACKWARD]);
    assert_int_equal(r->plan[PLAN_ONE_ROW].rows, 1);
    model_close(&m);

    /* A plan made in another way is used unchanged. */
    setenv("PLSTM_PLAN", "blocks=5,threads=64", 1);
    open_with(&m, &k, "reg", NULL);
    recurrence_text(cuda_recurrence(m.backend), plan, sizeof plan);
    unsetenv("PLSTM_PLAN");
    assert_string_not_equal(told.note[1].value, plan);
    model_close(&m);
    open_with(&m, &k, "reg", plan);
    assert_int_equal(info_of(&m)->notes, 3);
    assert_string_equal(told.note[1].value, plan);
    assert_string_equal(info_of(&m)->remark, "");
    model_close(&m);

    setenv("PLSTM_PLAN", "blocks=4", 1);
    open_with(&m, &k, "reg", plan);
    unsetenv("PLSTM_PLAN");
    assert_non_null(
        strstr(info_of(&m)->remark, "PLSTM_PLAN is set: the recorded plan is not used"));
    model_close(&m);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        open_with(&m, &k, "reg", bad[i]);
        assert_non_null(strstr(info_of(&m)->remark, "the recorded plan cannot run here"));
        assert_non_null(strstr(info_of(&m)->remark, "the last bits may differ"));
        model_close(&m);
    }
    open_with(&m, &k, "auto", NULL);
    assert_non_null(strstr(info_of(&m)->remark, "kernel auto: "));
    assert_string_not_equal(info_of(&m)->kernel, "auto");
    model_close(&m);

#ifdef CUDA_EMU
    open_with(&m, &k, "smem", NULL); /* more blocks than a K20 has multiprocessors */
    recurrence_text(cuda_recurrence(m.backend), plan, sizeof plan);
    assert_true(cuda_recurrence(m.backend)->plan[PLAN_FORWARD].blocks > 13);
    model_close(&m);
    assert_int_equal(emu_device_select("K20"), 0);
    open_with(&m, &k, "smem", plan);
    assert_non_null(strstr(info_of(&m)->remark, "the recorded plan cannot run here"));
    assert_true(cuda_recurrence(m.backend)->plan[PLAN_FORWARD].blocks <= 13);
    model_close(&m);
    assert_int_equal(emu_device_select("A100"), 0);
#endif
}

/* ---- algorithms of the products ---- */

/* Returns the note "algorithms" of a run, as in its checkpoint. */
static void recorded_algorithms(LstmPrecision precision, const char *from, char out[GEMM_TEXT],
                                char remark[1400])
{
    Model m;
    BackendConfig config = config_of(&cases[0]);
    config.precision = precision, config.algorithms = from;
    open_case(&m, &backend_cuda, &cases[0], &config);
    int n = info_of(&m)->notes;
    assert_string_equal(told.note[n - 1].key, "algorithms");
    snprintf(out, GEMM_TEXT, "%s", told.note[n - 1].value);
    snprintf(remark, 1400, "%s", info_of(&m)->remark);
    model_close(&m);
}

static int items_of(const char *text)
{
    int n = 0;
    for (; (text = strchr(text, ';')); text++) n++;
    return n;
}

/* Recorded algorithms are used unchanged, whether they were tuned or not, and a run resumed with
 * them has the bits of an uninterrupted run. */
static void algorithms_are_recorded_and_taken(void **state)
{
    (void)state;
    char first[GEMM_TEXT], tuned[GEMM_TEXT], again[GEMM_TEXT], remark[1400];
    for (int i = 0; i < 3; i++) {
        if (slow_build() && i) break;
        recorded_algorithms((LstmPrecision)i, NULL, first, remark);
        assert_int_equal(items_of(first), 6);
        recorded_algorithms((LstmPrecision)i, NULL, again, remark);
        assert_string_equal(first, again);
        setenv("PLSTM_TUNE", "1", 1);
        recorded_algorithms((LstmPrecision)i, NULL, tuned, remark);
        assert_int_equal(items_of(tuned), 6);
        /* The recorded algorithms are used even if others would be faster today. */
        recorded_algorithms((LstmPrecision)i, first, again, remark);
        assert_string_equal(first, again);
        unsetenv("PLSTM_TUNE");
        recorded_algorithms((LstmPrecision)i, tuned, again, remark);
        assert_string_equal(tuned, again);
        assert_null(strstr(remark, "algorithm"));

        if (i < 2 && !long_lists()) continue;
        Run one, two;
        Way way = {.to = STEPS,
                   .kernel = "cublas",
                   .precision = (LstmPrecision)i,
                   .algorithms = tuned},
            before = way, after = way;
        before.to = after.from = 5;
        train(&backend_cuda, &cases[0], way, &one);
        train(&backend_cuda, &cases[0], before, &two);
        train(&backend_cuda, &cases[0], after, &two);
        assert_same_bits(&cases[0], &one, &two);
        run_free(&one), run_free(&two);
    }
}

static void other_algorithms_are_other_bits(void **state)
{
    (void)state;
#ifdef CUDA_EMU
    char first[GEMM_TEXT], other[GEMM_TEXT], got[GEMM_TEXT], remark[1400];
    Run one, two;
    recorded_algorithms(PRECISION_F32, NULL, first, remark);
    snprintf(other, sizeof other, "%s", first);
    for (char *at = other; (at = strstr(at, "=100004c74.")); at++) at[1] = '2'; /* in two halves */
    assert_string_not_equal(first, other);
    recorded_algorithms(PRECISION_F32, other, got, remark);
    assert_string_equal(other, got);
    train(&backend_cuda, &cases[0], (Way){.to = STEPS}, &one);
    train(&backend_cuda, &cases[0], (Way){.to = STEPS, .algorithms = other}, &two);
    assert_memory_not_equal(one.weights.data, two.weights.data,
                            (size_t)one.weights.offset[1] * sizeof(float));
    run_free(&one), run_free(&two);

    /* An algorithm that does not fit is replaced, with a remark. */
    for (char *at = other; (at = strstr(at, "=200004c74.")); at++) at[1] = '7';
    recorded_algorithms(PRECISION_F32, other, got, remark);
    assert_string_equal(first, got);
    assert_non_null(strstr(remark, "a recorded GEMM algorithm cannot run here"));
    strchr(other, ';')[1] = 0;
    recorded_algorithms(PRECISION_F32, other, got, remark);
    assert_string_equal(first, got);
    assert_non_null(strstr(remark, "a recorded GEMM algorithm cannot run here"));
    static const char *const bad[] = {"cuBLASLt 1;0.1.15.92.23=1", "nonsense", ";;;;"};
    for (int i = 0; i < 3; i++) {
        recorded_algorithms(PRECISION_F32, bad[i], got, remark);
        assert_string_equal(first, got);
        assert_non_null(strstr(remark, "for another library, GPU or precision"));
    }
    recorded_algorithms(PRECISION_TF32, first, got, remark);
    assert_non_null(strstr(remark, "for another library, GPU or precision"));
#else
    print_message("a real cuBLASLt's algorithms are not made up\n");
    skip();
#endif
}

/* ---- what is refused ---- */

static void refuse(BackendConfig config, int code, const char *phrase)
{
    Error e = {0};
    Model m;
    int got = model_open(&m, &backend_cuda, &config, &e);
    if (got != code || !strstr(e.text, phrase))
        fail_msg("code %d, not %d with '%s': %s", got, code, phrase, e.text);
}

static void refusals(void **state)
{
    (void)state;
    BackendConfig config = config_of(&cases[0]), other;
    static const char *const names[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION",
                                        "CUBLAS_EMULATION_STRATEGY"};
    static const char *const values[] = {"1", "1", "eager"};
    for (int i = 0; i < 3; i++) {
        setenv(names[i], values[i], 1);
        refuse(config, EXIT_USAGE, names[i]);
        unsetenv(names[i]);
    }
    other = config, other.precision = PRECISION_BF16;
    setenv("NVIDIA_TF32_OVERRIDE", "1", 1);
    refuse(other, EXIT_USAGE, "NVIDIA_TF32_OVERRIDE");
    unsetenv("NVIDIA_TF32_OVERRIDE");
    static const char *const wrong[] = {
        "nosuch", "", "cublas/", "/cublas", "cublas/nosuch", "cublas/cublas/cublas", "cubla"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        other = config, other.kernel = wrong[i];
        refuse(other, EXIT_USAGE, "the names are cublas");
    }
    other = config, other.kernel = "reg";
    setenv("PLSTM_PLAN", "block=3", 1);
    refuse(other, EXIT_USAGE, "PLSTM_PLAN");
    setenv("PLSTM_PLAN", "threads=1,groups=2", 1);
    refuse(other, EXIT_NO_DEVICE, "has no plan");
    unsetenv("PLSTM_PLAN");
    setenv("PLSTM_POLL_LIMIT", "-1", 1);
    refuse(other, EXIT_USAGE, "PLSTM_POLL_LIMIT");
    unsetenv("PLSTM_POLL_LIMIT");
    other = config, other.shape.H = 60000, other.shape.V_in = other.shape.V_out = 200000;
    refuse(other, EXIT_NO_DEVICE, "GB on the GPU");
    other = config, other.precision = PRECISION_TF32;
    setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
    refuse(other, EXIT_USAGE, "NVIDIA_TF32_OVERRIDE");
    unsetenv("NVIDIA_TF32_OVERRIDE");
#ifdef CUDA_EMU
    assert_int_equal(emu_device_select("K20"), 0);
    refuse(other, EXIT_NO_DEVICE, "--precision tf32 needs a GPU from sm_80");
    other.precision = PRECISION_BF16;
    refuse(other, EXIT_NO_DEVICE, "--precision bf16 needs a GPU from sm_80");
    assert_int_equal(emu_device_select("A100"), 0);
    assert_int_equal(emu_live_bytes() + emu_live_objects(), 0);
#endif
}

/* The device decides how many blocks it holds. */
static void more_blocks_than_the_device_holds(void **state)
{
    (void)state;
    Error e = {0};
    Model m;
    open_with(&m, &cases[0], "cublas/reg", NULL);
    BackendConfig config = config_of(&cases[0]);
    Recurrence r = *cuda_recurrence(m.backend);
    DeviceFacts device;
    assert_int_equal(device_facts(0, &device, &e), 0);
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), 0);
    r.plan[PLAN_BACKWARD].replicas = 100000;
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), EXIT_NO_DEVICE);
    assert_non_null(strstr(e.text, "kernel reg backward needs"));
    assert_non_null(strstr(e.text, device.name));
    assert_non_null(strstr(e.text, "--kernel cublas"));
    model_close(&m);
}

#ifdef CUDA_EMU
/* `auto` uses the number of blocks that devices of this kind are known to hold. If this device
 * holds fewer, it chooses the next kernel, and the remark names what did not fit. */
static void auto_takes_the_next(void **state)
{
    (void)state;
    Error e = {0};
    Recurrence r;
    DeviceFacts device;
    BackendConfig config = config_of(&cases[0]);
    config.shape.H = 200, config.B = 20, config.T = 20, config.precision = PRECISION_BF16,
    config.kernel = "auto";
    assert_int_equal(emu_device_select("H200"), 0);
    assert_int_equal(device_facts(0, &device, &e), 0);
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
    char first[sizeof r.kernel], without[256] = "";
    snprintf(first, sizeof first, "%s", r.kernel);
    assert_true(r.plan[PLAN_FORWARD].cluster > 1);
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), 0);
    assert_string_equal(r.kernel, first);
    emu_gpc_sms(1); /* with one SM per GPC no cluster has two blocks */
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), 0);
    assert_string_not_equal(r.kernel, first);
    assert_non_null(strstr(r.remark, "kernel auto: "));
    /* The remark names everything that does not fit, each in a clause without the plan's text. */
    assert_non_null(strstr(r.remark, "kernel cluster forward needs "));
    assert_non_null(strstr(r.remark, "kernel mma backward needs "));
    assert_non_null(strstr(r.remark, " co-resident clusters of "));
    assert_non_null(strstr(r.remark, "the device holds 0"));
    assert_null(strstr(r.remark, "backward=0"));
    assert_true(strlen(r.remark) < sizeof r.remark - 200);
    for (int i = 0; i < PLANS; i++) assert_true(!r.planned[i] || r.plan[i].cluster == 1);
    char text[RECURRENCE_TEXT];
    recurrence_text(&r, text, sizeof text);
    assert_non_null(strstr(text, "cluster=1")); /* what a checkpoint records */
    for (int v = 0; lstm_variants[v]; v++)
        if (lstm_variants[v]->footprint->reads_tiles)
            snprintf(without + strlen(without), sizeof without - strlen(without), "%s%s",
                     *without ? "," : "", lstm_variants[v]->footprint->name);
    setenv("PLSTM_WITHOUT", without, 1);
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
    assert_false(recurrence_reads_tiles(&r));
    snprintf(without, sizeof without, "%s,nonsense", first);
    setenv("PLSTM_WITHOUT", without, 1);
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), EXIT_USAGE);
    assert_non_null(strstr(e.text, "'nonsense'"));
    unsetenv("PLSTM_WITHOUT");
    config.kernel = first;
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), EXIT_NO_DEVICE);
    /* One block cannot hold the weights, so this kernel has no plan without clusters. */
    assert_non_null(strstr(e.text, " co-resident clusters of "));
    assert_non_null(strstr(e.text, "--kernel cublas"));
    assert_int_equal(emu_device_select("A100"), 0);
}

/* If only the clusters of a kernel's plan do not fit, `auto` stays with that kernel. */
static void auto_goes_on_without_clusters(void **state)
{
    (void)state;
    Error e = {0};
    Recurrence r;
    DeviceFacts device;
    BackendConfig config = config_of(&cases[0]);
    config.shape.H = 1000, config.B = 20, config.T = 20, config.precision = PRECISION_BF16,
    config.kernel = "auto";
    assert_int_equal(emu_device_select("H200"), 0);
    assert_int_equal(device_facts(0, &device, &e), 0);
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
    assert_string_equal(r.kernel, "mma");
    assert_true(r.plan[PLAN_BACKWARD].cluster > 1);
    char clustered[RECURRENCE_TEXT], text[RECURRENCE_TEXT];
    recurrence_text(&r, clustered, sizeof clustered);
    emu_gpc_sms(1); /* with one SM per GPC no cluster has two blocks */
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), 0);
    assert_string_equal(r.kernel, "mma");
    assert_int_equal(r.plan[PLAN_BACKWARD].cluster, 1);
    assert_non_null(strstr(r.remark, "mma backward without clusters"));
    assert_non_null(strstr(r.remark, "kernel mma backward needs"));
    recurrence_text(&r, text, sizeof text);
    assert_string_not_equal(text, clustered);
    /* So does a run that is resumed from a checkpoint, which records the kernel and a plan with
     * clusters, and a run whose kernel was named. */
    for (int recorded = 0; recorded < 2; recorded++) {
        char other[RECURRENCE_TEXT];
        config.kernel = "mma", config.plan = recorded ? clustered : NULL;
        assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
        assert_true(r.plan[PLAN_BACKWARD].cluster > 1);
        assert_string_equal(r.remark, "");
        if (recurrence_prepare(&r, &config, &device, &e)) fail_msg("%s", e.text);
        assert_string_equal(r.kernel, "mma");
        assert_non_null(strstr(r.remark, "kernel mma backward needs "));
        assert_non_null(strstr(r.remark, " co-resident clusters of "));
        assert_int_equal(strstr(r.remark, "the recorded plan cannot run here") != NULL, recorded);
        assert_int_equal(strstr(r.remark, "the last bits may differ") != NULL, recorded);
        recurrence_text(&r, other, sizeof other);
        assert_string_equal(other, text);
    }
    /* If the environment demands clusters, `auto` does not drop them but chooses another kernel. */
    config.plan = NULL;
    setenv("PLSTM_PLAN", "cluster=4", 1);
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), EXIT_NO_DEVICE);
    assert_non_null(strstr(e.text, "kernel mma backward needs "));
    assert_non_null(strstr(e.text, " co-resident clusters of 4 blocks; "));
    assert_non_null(strstr(e.text, " holds 0 (plan "));
    assert_non_null(strstr(e.text, "--kernel auto chooses another kernel"));
    config.kernel = "auto";
    assert_int_equal(recurrence_choose(&r, &config, &device, &e), 0);
    assert_int_equal(recurrence_prepare(&r, &config, &device, &e), 0);
    assert_string_not_equal(r.backward->footprint->name, "mma");
    unsetenv("PLSTM_PLAN");
    assert_int_equal(emu_device_select("A100"), 0);
}
#endif

/* TF32 and bfloat16 are different arithmetics, which a run reports; 0 disables an override. */
static void precision_is_explicit(void **state)
{
    (void)state;
    BackendConfig config = config_of(&cases[0]);
    double nats[3];
    char note[3][sizeof((BackendInfo *)0)->note[0].value];
    int32_t x[64], y[64];
    draw_ids(&cases[0], x, y);
    for (int i = 0; i < 3; i++) {
        Error e;
        Model m;
        WindowResult r;
        config.precision = (LstmPrecision)i;
        config.kernel = i ? "cublas/cublas" : "cublas";
        if (!i) setenv("NVIDIA_TF32_OVERRIDE", "0", 1);
        open_case(&m, &backend_cuda, &cases[0], &config);
        unsetenv("NVIDIA_TF32_OVERRIDE");
        Window w = {.batch = batch_of_tokens(5, 3, x, y)};
        assert_int_equal(model_forward(&m, &w, NULL, NULL, &r, &e), 0);
        nats[i] = r.nats;
        assert_int_equal(info_of(&m)->notes, 2);
        snprintf(note[i], sizeof note[i], "%s", told.note[0].value);
        assert_string_equal(info_of(&m)->kernel, "cublas");
        assert_string_equal(info_of(&m)->remark, i < 2 ? ""
                                                       : "kernel cublas computes its recurrence in "
                                                         "float32; the other products are in bf16");
        model_close(&m);
    }
    for (int i = 1; i < 3; i++) {
        assert_true(fabs(nats[0] - nats[i]) < 0.2);
        assert_string_not_equal(note[0], note[i]);
    }
    assert_true(nats[2] != nats[0] && nats[2] != nats[1]);
#ifdef CUDA_EMU /* TF32 allows tensor cores; a real cuBLAS need not use them at this size */
    assert_true(nats[1] != nats[0]);
#endif

    Model m;
    config.precision = PRECISION_BF16, config.kernel = "reg/smem";
    open_case(&m, &backend_cuda, &cases[0], &config);
    assert_string_equal(
        info_of(&m)->remark,
        "kernel reg computes its forward recurrence in float32; the other products are in bf16; "
        "kernel smem computes its backward recurrence in float32; the other products are in bf16");
    model_close(&m);
}

int main(void)
{
    group_begin();
    list_kernels();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_reference),
        cmocka_unit_test(gradients_follow_reference),
        cmocka_unit_test(state_gradients_follow_reference),
        cmocka_unit_test(logits_are_those_of_the_nats),
        cmocka_unit_test(every_way_gives_the_same_bits),
        cmocka_unit_test(resume_gives_the_same_bits),
        cmocka_unit_test(tensor_kernels_read_what_the_update_wrote),
        cmocka_unit_test(schedules_change_no_bit),
        cmocka_unit_test(results_come_three_steps_late),
        cmocka_unit_test(a_step_is_one_launch),
        cmocka_unit_test(few_kernels_a_step),
        cmocka_unit_test(a_fault_changes_nothing),
        cmocka_unit_test(bad_weight_shows_in_the_loss),
        cmocka_unit_test(plans_are_recorded_and_taken),
        cmocka_unit_test(algorithms_are_recorded_and_taken),
        cmocka_unit_test(other_algorithms_are_other_bits),
        cmocka_unit_test(refusals),
        cmocka_unit_test(more_blocks_than_the_device_holds),
#ifdef CUDA_EMU
        cmocka_unit_test(auto_takes_the_next),
        cmocka_unit_test(auto_goes_on_without_clusters),
#endif
        cmocka_unit_test(precision_is_explicit),
    };
    Error e;
    int n;
#ifdef CUDA_EMU
    emu_device_select("A100"); /* a smaller cuBLAS workspace to fill with NaN than the H200's */
#endif
    if (device_count(&n, &e)) {
        printf("1..0 # SKIP %s\n", e.text);
        return getenv("REQUIRE_GPU") != NULL;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
