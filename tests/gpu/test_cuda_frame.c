/* Tests the frame for tasks (TASKS 1 and 5) on the cuda backend: batches with padding, with
 * features and with positions that are not scored, launched kernel by kernel and as graphs. The
 * test runs on the emulated GPU or, built with nvcc, on a real one. */
#include "tests/support/cuda_program.h"

#include "host/backend/backend_cuda.h"
#include "host/plan/device.h"
#include "tests/support/frame_case.h"
#include "host/plan/precision.h"

static bool long_lists(void)
{
    const char *text = getenv("PLSTM_LONG");
    return text && text[0];
}

/* Requests plans of few threads, to keep the emulator fast; kernels on tensor cores keep their own
 * number of threads. */
static void small_plans(const LstmVariant *v)
{
#ifdef CUDA_EMU
    if (!v->footprint->reads_tiles) setenv("PLSTM_PLAN", "blocks=3,threads=64", 1);
#else
    (void)v;
#endif
}

static void nothing_leaked(void)
{
#ifdef CUDA_EMU
    if (emu_live_bytes() || emu_live_objects())
        fail_msg("%zu bytes and %zu objects leaked", emu_live_bytes(), emu_live_objects());
    if (emu_report()[0]) fail_msg("%s", emu_report());
#endif
}

/* Returns the number of persistent variants that compute in float32. */
static int persistent_count(void)
{
    int n = 0;
    for (int v = 0; lstm_footprints[v]; v++)
        n += lstm_footprints[v]->tile[0] && lstm_footprints[v]->precisions & 1u;
    return n;
}

/* Runs every variant that computes in float32; make test runs the stepwise one and one persistent
 * variant, in rotation. */
static void follows_reference(void **state)
{
    (void)state;
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++)
        for (int v = 0, n = 0; lstm_variants[v]; v++) {
            const LstmFootprint *f = lstm_variants[v]->footprint;
            BackendConfig config = toy_config(kind, 23, 2);
            bool persistent = f->tile[0] != NULL;
            if (!(f->precisions & 1u)) continue;
            if (persistent && n++ != (int)kind % persistent_count() && !long_lists()) continue;
            config.kernel = f->name;
            config.sites = kind == TOY_PAIRS && persistent ? SITES_ALL : SITES_NONRECURRENT;
            small_plans(lstm_variants[v]);
            toy_follows_reference(&backend_cuda, kind, &config);
            unsetenv("PLSTM_PLAN");
            nothing_leaked();
        }
}

/* In the precisions of tensor cores the loss stays close to the exact one; the rounding is tested
 * with the products and kernels. */
static void other_precisions(void **state)
{
    (void)state;
    static const LstmPrecision precisions[] = {PRECISION_TF32, PRECISION_BF16};
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++) {
        ToyRun exact, ours;
        BackendConfig config = toy_config(kind, 18, 2);
        toy_steps(&backend_reference, kind, &config, &exact);
        for (int p = 0; p < 2; p++) {
            config.precision = precisions[p];
            toy_steps(&backend_cuda, kind, &config, &ours);
            for (int i = 0; i < TOY_STEPS; i++) {
                if (!(fabs(ours.loss[i] - exact.loss[i]) < 0.02 * exact.loss[i]) ||
                    !(fabs(ours.norm[i] - exact.norm[i]) < 0.05 * exact.norm[i]))
                    fail_msg("%s, step %d: loss %.6g and %.6g, norm %.6g and %.6g",
                             precision_name(precisions[p]), i, ours.loss[i], exact.loss[i],
                             ours.norm[i], exact.norm[i]);
            }
            params_free(&ours.weights);
        }
        params_free(&exact.weights);
        nothing_leaked();
    }
}

static void poison(Backend *b, const int32_t *ids, int64_t N, int64_t H)
{
    float *row = malloc((size_t)H * sizeof *row);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    for (int64_t n = 0; n < N; n++) {
        if (ids[n] != ID_PADDING) continue;
        for (int64_t u = 0; u < H; u++) row[u] = toy_poison_value(n * H + u);
        assert_int_equal(
            cudaMemcpy(cuda_input(b) + n * H, row, (size_t)H * sizeof *row, cudaMemcpyHostToDevice),
            cudaSuccess);
    }
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    free(row);
}

static void padding_changes_no_bit(void **state)
{
    (void)state;
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++) {
        BackendConfig config = toy_config(kind, 18, 2);
        config.eager = true;
        if (kind == TOY_PAIRS) config.kernel = "reg";
        toy_padding_changes_nothing(&backend_cuda, kind, &config, poison);
        nothing_leaked();
    }
}

static void scores(void **state)
{
    (void)state;
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++) {
        BackendConfig config = toy_config(kind, 18, 2);
        toy_scores(&backend_cuda, kind, &config);
        nothing_leaked();
    }
}

/* Runs steps over batches of every T and B, each `times` times in a row; some shapes return after
 * others have replaced them. Returns the number of graphs that are kept. */
static int many_shapes(bool eager, int times, double *loss, Params *weights)
{
    enum { T = TOY_LONGEST, B = TOY_ROWS };
    Error e;
    WindowResult r;
    int32_t ids[TOY_POSITIONS], targets[TOY_POSITIONS];
    BackendConfig config = toy_config(TOY_PAIRS, 6, 1);
    config.eager = eager;
    Model *m = toy_model(&backend_cuda, &config);
    int64_t step = 0, next = 0;
    for (int round = 0; round < 2; round++)
        for (int shape = 0; shape < T * B; shape++)
            for (int i = 0; i < times; i++, step++) {
                Window w = {.index = step, .train = true, .step = step};
                w.batch = batch_of_tokens(shape % T + 1, shape / T + 1, ids, targets);
                w.batch.carry = false;
                for (int64_t n = 0; n < w.batch.T * w.batch.B; n++) {
                    ids[n] = (int32_t)(toy_draw((int)step, n, 0) % TOY_V_IN);
                    targets[n] = n && toy_draw((int)step, n, 1) % 3 == 0
                                     ? TARGET_NONE
                                     : (int32_t)(toy_draw((int)step, n, 2) % TOY_V_OUT);
                }
                batch_count(&w.batch);
                if (model_train_step(m, &w, 0.1, 5, &r, &e)) fail_msg("%s", e.text);
                memset(ids, 0x55, sizeof ids); /* the backend must not use the caller's ids later */
                if (r.step >= 0) loss[next++] = r.nats;
            }
    do {
        assert_int_equal(model_drain(m, &r, &e), 0);
        if (r.step >= 0) loss[next++] = r.nats;
    } while (r.step >= 0);
    assert_int_equal(next, step);
    assert_int_equal(params_init(weights, &config.shape), 0);
    assert_int_equal(model_get_params(m, weights, &e), 0);
    int graphs = cuda_graphs(m->backend);
    model_close(m);
    nothing_leaked();
    return graphs;
}

static void graphs_by_shape(void **state)
{
    (void)state;
    enum { TIMES = 3, STEPS = 2 * TOY_POSITIONS * TIMES };
    static double eager[STEPS], graphs[STEPS];
    Params a, b;
    assert_int_equal(many_shapes(true, TIMES, eager, &a), 0);
    int kept = many_shapes(false, TIMES, graphs, &b);
    assert_true(kept > 20 && kept <= 32);
    assert_memory_equal(eager, graphs, sizeof eager);
    assert_memory_equal(a.data, b.data, (size_t)a.offset[a.count] * sizeof(float));
    params_free(&a), params_free(&b);
}

static void resume_inside_an_epoch(void **state)
{
    (void)state;
    toy_resumes("cuda", "cublas", TOY_CAPTION);
    setenv("PLSTM_PLAN", "blocks=2,threads=64", 1);
    toy_resumes("cuda", "reg", TOY_PAIRS);
    unsetenv("PLSTM_PLAN");
    nothing_leaked();
}

static void language_model(void **state)
{
    (void)state;
    lm_is_a_direct_loop(&backend_cuda, "cublas");
    setenv("PLSTM_PLAN", "blocks=2,threads=64", 1);
    lm_is_a_direct_loop(&backend_cuda, "reg");
    unsetenv("PLSTM_PLAN");
    nothing_leaked();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_reference),      cmocka_unit_test(other_precisions),
        cmocka_unit_test(padding_changes_no_bit), cmocka_unit_test(scores),
        cmocka_unit_test(graphs_by_shape),        cmocka_unit_test(resume_inside_an_epoch),
        cmocka_unit_test(language_model),
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
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
