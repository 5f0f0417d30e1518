/* Tests the recurrence of every variant against plain loops: values, gradients of the state,
 * graphs, a missing block. */
#include "recurrence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/plan/precision.h"

#ifdef CUDA_EMU
#include "emu.h"
#endif

enum { VARIANTS_MOST = 16 };

/* Returns whether the variant's blocks synchronise only within one cluster. */
static bool in_one_cluster(const LstmVariant *v)
{
    return persistent(v) && !v->footprint->grid_barrier;
}

/* Runs every variant in both directions at the list's shapes, with the planner's plan and, in turn,
 * with other kinds of plan. If `more` is not 0, it runs only variants that have not taken all of
 * their paths, with the kind of plan whose turn is `more` turns later. */
static void follow_in_turn(Seen seen[][PRECISIONS][2], int more)
{
    for (int d = 0; d < DEVICES; d++) {
        device_choose(devices[d]);
        for (int i = 0; i < RECURRENCE_CASES; i++) {
            const RecurrenceCase *k = &recurrence_cases[i];
            if (slow_build() && (i + 2 * d) % 4) continue;
            Tensors x = recurrence_tensors(k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(k, &x, (LstmPrecision)p);
                for (int v = 0; lstm_variants[v]; v++)
                    for (int m = 0; m < PLAN_CASES && runs_here(lstm_variants[v], (LstmPrecision)p);
                         m++) {
                        /* Only one of the devices has tensor cores. */
                        int turns = i + v + p + 2 * d + more;
                        bool free_plan = m == 0 && !more, turn = m == 1 + turns % (PLAN_CASES - 1);
                        if (!slow_build() && lstm_variants[v]->footprint->reads_tiles)
                            turn |= m == 1 + (turns + 2) % (PLAN_CASES - 1);
                        if (persistent(lstm_variants[v]) ? !turn && (slow_build() || !free_plan)
                                                         : m)
                            continue;
                        if (more && seen_all(lstm_variants[v], seen[v][p], false)) continue;
                        check_recurrence(lstm_variants[v], k, &x, plan_case_of(lstm_variants[v], m),
                                         seen[v][p]);
                    }
            }
            release();
        }
    }
}

/* Runs every variant in plans of every kind. The coverage of a list of plans is checked on the
 * profiles for which it was made; another GPU may not have such plans. */
static void recurrence_follows_reference(void **state)
{
    (void)state;
    need_device();
    Seen seen[VARIANTS_MOST][PRECISIONS][2] = {0};
    for (int more = 0, lacking = 1; lacking && more < PLAN_CASES - 1; more++) {
        follow_in_turn(seen, more);
        lacking = 0;
        for (int v = 0; lstm_variants[v] && emulated_whole(); v++)
            for (int p = 0; p < PRECISIONS && persistent(lstm_variants[v]); p++)
                if (lstm_variants[v]->footprint->precisions >> p & 1)
                    lacking |= !seen_all(lstm_variants[v], seen[v][p], more == PLAN_CASES - 2);
    }
}

/* ---- gradients of the state ---- */

/* The oracle's backward pass with gradients from beyond the window. It results in dgates, and in
 * dh_0 and dc_0, which are in carry (2,B,H). */
typedef struct StateGradient {
    float *in; /* (2,B,H): dh_n, dc_n */
    double *dgates, *carry;
    float *plain_dgates, *plain_carry;
} StateGradient;

static StateGradient state_gradient(const RecurrenceCase *k, const Tensors *x)
{
    int64_t T = k->T, B = k->B, H = k->H, n = T * B * H, row = B * H;
    StateGradient s = {.in = drawn(27, 2 * row, 1), .plain_dgates = host_floats(4 * n)};
    s.dgates = host_bytes((size_t)(4 * n) * sizeof(double));
    s.carry = widened(s.in, 2 * row);
    s.plain_carry = host_floats(2 * row);
    memcpy(s.dgates, x->gates, (size_t)(4 * n) * sizeof(double));
    memcpy(s.plain_dgates, x->plain_gates, (size_t)(4 * n) * sizeof(float));
    memcpy(s.plain_carry, s.in, (size_t)(2 * row) * sizeof(float));
    backward_f64(T, B, H, widened(x->w_hh, 4 * H * H), x->c, widened(x->dy, n), s.dgates, s.carry,
                 &x->output, &x->recurrent);
    float *w_hh = host_floats(4 * H * H);
    for (int64_t i = 0; i < 4 * H * H; i++) w_hh[i] = precision_round(x->precision, x->w_hh[i]);
    oracle_operand = oracle_round(x->precision);
    backward_f32(T, B, H, w_hh, x->plain_c, x->dy, s.plain_dgates, s.plain_carry, &x->output,
                 &x->recurrent);
    oracle_operand = NULL;
    return s;
}

/* Runs one variant's backward pass after the oracle's forward pass three times: without gradients
 * from beyond the window, with zeros, and with others. */
static void state_gradient_case(const LstmVariant *v, const RecurrenceCase *k, const Tensors *x,
                                const StateGradient *s, const PlanCase *m)
{
    int64_t n = k->T * k->B * k->H, row = k->B * k->H;
    size_t gates = (size_t)(4 * n) * sizeof(float), state = (size_t)(n + row) * sizeof(float);
    int kept = host_mark();
    LstmPlan plan;
    Passes p = recurrence_passes(k, x);
    LstmBackward *q = &p.backward;
    if (launch_plan_case(v, &p.forward.shape, 1, m, 0, &plan, &q->launch)) {
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
        for (int64_t j = 0; j < 4 * n; j++) /* equal except for the sign of a zero */
            if (dgates[0][j] != dgates[1][j])
                fail_msg("dgates[%lld] is %.9g with zeros and %.9g without; %s", (long long)j,
                         dgates[1][j], dgates[0][j], told_case);
        float *carry = fetched(out, 2 * row);
        compare("dgates", dgates[2], s->plain_dgates, s->dgates, 4 * n, 3);
        compare("dh_0", carry, s->plain_carry, s->carry, row, 3);
        compare("dc_0", carry + row, s->plain_carry + row, s->carry + row, row, 3);
    }
    release_device();
    release_host(kept);
}

/* Returns whether it is the variant's turn; each turn belongs to two of the variants that run here
 * in the precision. */
static bool has_turn(int v, LstmPrecision precision, int turn)
{
    int n = 0, before = 0;
    for (int i = 0; lstm_variants[i]; i++) {
        if (!runs_here(lstm_variants[i], precision)) continue;
        n++, before += i < v;
    }
    return (before + turn) % n < 2;
}

static void state_gradients_follow_reference(void **state)
{
    (void)state;
    need_device();
    for (int d = 0; d < DEVICES; d++) {
        device_choose(devices[d]);
        for (int i = 0; i < RECURRENCE_CASES; i++) {
            const RecurrenceCase *k = &recurrence_cases[i];
            if (!long_lists() && (i + d) % 4 != 2) continue;
            Tensors x = recurrence_tensors(k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(k, &x, (LstmPrecision)p);
                StateGradient s = state_gradient(k, &x);
                for (int v = 0; lstm_variants[v]; v++) {
                    if (!runs_here(lstm_variants[v], (LstmPrecision)p)) continue;
                    if (!long_lists() && !has_turn(v, (LstmPrecision)p, i / 4 + d)) continue;
                    for (int m = 0; m < (persistent(lstm_variants[v]) ? PLAN_CASES : 1); m++)
                        if (long_lists() || m == (i + p) % PLAN_CASES)
                            state_gradient_case(lstm_variants[v], k, &x, &s,
                                                plan_case_of(lstm_variants[v], m));
                }
            }
            release();
        }
    }
}

/* Compares the oracle's own dh_0 and dc_0 with central differences of sum(dy * y) + sum(dh_n * h_T)
 * + sum(dc_n * c_T). The error of the stencil is about 1e-11, as in test_gradients. */
static void state_gradients_are_those_of_the_forward_pass(void **state)
{
    (void)state;
    enum { T = 3, B = 2, H = 5, N = T * B * H, ROW = B * H };
    const RecurrenceCase k = {T, B, H, 0.5, ALL_SITES};
    Tensors x = recurrence_tensors(&k);
    StateGradient s = state_gradient(&k, &x);
    double *w_hh = widened(x.w_hh, 4 * H * H), *b_ih = widened(x.b_ih, 4 * H),
           *b_hh = widened(x.b_hh, 4 * H);
    double h[N + ROW], c[N + ROW], y[N], h_masked[N], gates[4 * N], worst = 0;
    for (int i = 0; i < 2 * ROW; i++) {
        double f[4], at[4] = {-2, -1, 1, 2}, e = 1e-4;
        for (int m = 0; m < 4; m++) {
            for (int j = 0; j < 4 * N; j++) gates[j] = x.x_proj[j];
            for (int j = 0; j < ROW; j++) h[j] = x.h0[j], c[j] = x.c0[j];
            (i < ROW ? h : c)[i % ROW] += at[m] * e;
            forward_f64(T, B, H, w_hh, b_ih, b_hh, gates, h, c, y, h_masked, &x.output,
                        &x.recurrent);
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

/* A variant within one cluster keeps the weights that are not in registers in shared memory. Here
 * the plan uses fewer registers than the planner would. */
static void clusters_keep_weights_in_shared_memory(void **state)
{
    (void)state;
    need_device();
    const RecurrenceCase k = {2, 2, 130, 0.5, ALL_SITES};
    const PlanCase plan_cases[PRECISIONS] = {[PRECISION_BF16] = {"cluster=3,registers=20", 0, 0},
                                             [PRECISION_TF32] = {"cluster=3,registers=80", 0, 0}};
    Tensors x = recurrence_tensors(&k);
    for (int p = 0; p < PRECISIONS; p++)
        for (int v = 0; lstm_variants[v]; v++) {
            Seen seen[2] = {0};
            if (!in_one_cluster(lstm_variants[v]) || !runs_here(lstm_variants[v], (LstmPrecision)p))
                continue;
            recurrence_rounds(&k, &x, (LstmPrecision)p);
            check_recurrence(lstm_variants[v], &k, &x, &plan_cases[p], seen);
            assert_true(seen[0].resident && seen[0].shared && seen[1].resident && seen[1].shared);
        }
    release();
}

/* The last window of an epoch may have fewer rows than its plan was made for. Then passes have no
 * rows, and whole replicas. */
static void windows_have_fewer_rows_than_their_plan(void **state)
{
    (void)state;
    need_device();
    static const int64_t Bs[] = {20, 16, 9, 8, 3};
    static const char *const tensor_plans[] = {"replicas=1,batch=8,cluster=2,exchange=1",
                                               "replicas=1,batch=8,cluster=4,exchange=2",
                                               "replicas=1,batch=8,cluster=1"};
    const int more = 24;
    for (int d = 0; d < DEVICES; d++) {
        device_choose(devices[d]);
        for (int i = 0; i < 5; i++) {
            const RecurrenceCase k = {4, Bs[i], 64, 0.5, OUTPUT_SITE};
            Tensors x = recurrence_tensors(&k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(&k, &x, (LstmPrecision)p);
                for (int v = 0; lstm_variants[v]; v++) {
                    const LstmVariant *variant = lstm_variants[v];
                    if (!persistent(variant) || !runs_here(variant, (LstmPrecision)p)) continue;
                    bool tensor = variant->footprint->reads_tiles && !in_one_cluster(variant);
                    for (int m = 0; m < (tensor ? 3 : 1); m++) {
                        PlanCase plan = {tensor                    ? tensor_plans[m]
                                         : in_one_cluster(variant) ? "batch=8"
                                                                   : "replicas=1,batch=4",
                                         0, more - (int)k.B};
                        Seen seen[2] = {0};
                        check_recurrence(variant, &k, &x, &plan, seen);
                        if (tensor) assert_true(seen[1].passes && (m == 2 || seen[1].clusters > 1));
                    }
                }
            }
            release();
        }
    }
}

/* Runs all shapes of the list, and the width of preset medium, on both devices, with the planner's
 * plans and in turn with others. */
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
            RecurrenceCase k = {T[i / 3 % 4], B[i / 12 % 3], H[i / 36 % 5], keeps[i % 3],
                                (i + i / 3) % 3};
            if (i == SHAPES) k = (RecurrenceCase){2, 20, 650, 0.5, OUTPUT_SITE};
            Tensors x = recurrence_tensors(&k);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p != PRECISION_F32) recurrence_rounds(&k, &x, (LstmPrecision)p);
                for (int v = 0; lstm_variants[v]; v++) {
                    if (!runs_here(lstm_variants[v], (LstmPrecision)p)) continue;
                    /* Weights of 4 bytes fit no cluster at H = 650; test_residency_cluster tests
                     * that refusal. */
                    if (in_one_cluster(lstm_variants[v]) && p == PRECISION_TF32 && k.H == 650)
                        continue;
                    check_recurrence(lstm_variants[v], &k, &x, plan_case_of(lstm_variants[v], 0),
                                     seen);
                    if (persistent(lstm_variants[v]) && k.H < 650)
                        check_recurrence(
                            lstm_variants[v], &k, &x,
                            plan_case_of(lstm_variants[v], 1 + turn++ % (PLAN_CASES - 1)), seen);
                }
            }
            release();
        }
    }
}

/* Captures both passes and replays them on the same inputs. Each time the bits must be those of
 * eager launches, and the number of nodes must be the one that the variant's record states. The
 * barrier words, which keep counting from launch to launch, wrap past 2^32 on the way. */
static void recurrence_replays_from_a_graph(void **state)
{
    (void)state;
    need_device();
    const RecurrenceCase k = {6, 3, 23, 0.5, ALL_SITES};
    enum { REPLAYS = 4 };
    const uint32_t epoch = 0u - 12;
    int64_t n = k.T * k.B * k.H;
    for (int i = 0; lstm_variants[i / 2]; i++) { /* each variant with each exchange that it has */
        const LstmVariant *variant = lstm_variants[i / 2];
        bool both = variant->footprint->kind == KIND_MMA;
        if (!runs_here(variant, first_precision(variant)) || (i % 2 && !both)) continue;
        Tensors x = recurrence_tensors(&k);
        recurrence_rounds(&k, &x, first_precision(variant));
        Passes p = recurrence_passes(&k, &x);
        LstmPlan plan[2];
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        size_t nodes = 0, promised;
        const PlanCase *m = plan_case_of(variant, i % 2 ? 4 : persistent(variant) ? 2 : 0);
        assert_true(
            launch_plan_case(variant, &p.forward.shape, 0, m, epoch, &plan[0], &p.forward.launch));
        assert_true(
            launch_plan_case(variant, &p.forward.shape, 1, m, epoch, &plan[1], &p.backward.launch));
        CHECK(variant->forward(&context, &p.forward));
        CHECK(variant->backward(&context, &p.backward));
        float *eager = fetched(p.forward.gates, 4 * n);
        CHECK(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal));
        CHECK(variant->forward(&context, &p.forward));
        CHECK(variant->backward(&context, &p.backward));
        CHECK(cudaStreamEndCapture(context.stream, &graph));
        CHECK(cudaGraphGetNodes(graph, NULL, &nodes));
        promised = (size_t)(variant->launches(&p.forward.shape, 0) +
                            variant->launches(&p.forward.shape, 1));
        /* cuBLAS may use two kernels for a product. */
        assert_true(persistent(variant) ? nodes == promised : nodes >= promised);
        CHECK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
        for (int replay = 0; replay < REPLAYS; replay++) {
            upload(p.forward.gates, x.x_proj, (size_t)(4 * n) * 4);
            CHECK(cudaGraphLaunch(exec, context.stream));
            assert_memory_equal(fetched(p.forward.gates, 4 * n), eager,
                                (size_t)(4 * n) * sizeof(float));
        }
        for (int back = 0; back < 2 && variant->footprint->grid_barrier; back++) {
            const LstmLaunch *l = back ? &p.backward.launch : &p.forward.launch;
            int words = l->plan->replicas * l->plan->blocks;
            uint32_t *word = host_bytes((size_t)words * sizeof *word);
            fetch(word, (char *)l->scratch + l->plan->scratch_bytes - (size_t)words * sizeof *word,
                  (size_t)words * sizeof *word);
            /* The forward pass in tiles also publishes h_0; with words one arrival is enough. */
            int64_t arrivals = k.T - (back || !variant->footprint->reads_tiles);
            if (plan[back].exchange == EXCHANGE_WORDS) arrivals = 1;
            for (int i = 0; i < words; i++)
                assert_int_equal(word[i], (uint32_t)((REPLAYS + 1) * arrivals - 12));
        }
        CHECK(cudaGraphExecDestroy(exec));
        CHECK(cudaGraphDestroy(graph));
        release();
    }
}

/* Runs both passes of a variant on tensor cores with one layout and one exchange, with `planted` in
 * x_proj unless it is 0. Returns the gates after the first pass and the dgates after the second. */
static void by_exchange(const LstmVariant *v, const RecurrenceCase *k, const Tensors *x,
                        int exchange, uint32_t planted, float *gates, float *dgates)
{
    char override[64];
    int64_t n = k->T * k->B * k->H;
    snprintf(override, sizeof override, "blocks=4,replicas=1,batch=8,cluster=2,exchange=%d",
             exchange);
    const PlanCase plan_case = {override, 0, 0};
    LstmPlan plan[2];
    FaultRecord fault;
    Passes p = recurrence_passes(k, x);
    assert_true(
        launch_plan_case(v, &p.forward.shape, 0, &plan_case, 0, &plan[0], &p.forward.launch));
    assert_true(
        launch_plan_case(v, &p.forward.shape, 1, &plan_case, 0, &plan[1], &p.backward.launch));
    assert_true(plan[0].exchange == exchange && plan[1].exchange == exchange);
    if (planted) /* it replaces the cell gate of unit 5 in row 1 at step 1 */
        upload(p.forward.gates + ((k->B + 1) * 4 + 2) * k->H + 5, &planted, sizeof planted);
    CHECK(v->forward(&context, &p.forward));
    memcpy(gates, fetched(p.forward.gates, 4 * n), (size_t)(4 * n) * sizeof *gates);
    CHECK(v->backward(&context, &p.backward));
    memcpy(dgates, fetched(p.forward.gates, 4 * n), (size_t)(4 * n) * sizeof *dgates);
    fetch(&fault, context.fault, sizeof fault);
    assert_int_equal(fault.set, 0);
    release_device();
}

/* Flags and words carry the same values, over more steps than there are buffers. A NaN, also one
 * with the bits of the empty word, is sent like any number: no block waits for it in vain, and the
 * other rows of the batch keep their bits. */
static void exchanges_carry_the_same_bits(void **state)
{
    (void)state;
    need_device();
    const RecurrenceCase k = {51, 3, 23, 0.5, ALL_SITES};
    static const uint32_t nans[] = {0xffffffffu, 0x7fc00000u};
    int64_t n = 4 * k.T * k.B * k.H, row = 4 * k.H;
    for (int v = 0; lstm_variants[v]; v++)
        for (int p = PRECISION_TF32; p < PRECISIONS; p++) {
            const LstmVariant *variant = lstm_variants[v];
            if (variant->footprint->kind != KIND_MMA || !runs_here(variant, (LstmPrecision)p))
                continue;
            Tensors x = recurrence_tensors(&k);
            recurrence_rounds(&k, &x, (LstmPrecision)p);
            float *of[4][2];
            for (int i = 0; i < 4; i++) {
                for (int back = 0; back < 2; back++) of[i][back] = host_floats(n);
                by_exchange(variant, &k, &x, i ? EXCHANGE_WORDS : EXCHANGE_FLAG,
                            i > 1 ? nans[i - 2] : 0, of[i][0], of[i][1]);
            }
            for (int back = 0; back < 2; back++) {
                assert_memory_equal(of[1][back], of[0][back], (size_t)n * sizeof(float));
                for (int i = 2; i < 4; i++)
                    for (int64_t j = 0; j < n; j++) {
                        if (j / row % k.B != 1) assert_true(of[i][back][j] == of[0][back][j]);
                        else if (j / row / k.B > 1 || back) assert_true(isnan(of[i][back][j]));
                    }
            }
            release();
        }
}

/* A block is missing because its word was set back: all blocks leave, the fault record names it,
 * and later launches change nothing. */
static void a_missing_block_is_named(void **state)
{
    (void)state;
    need_device();
#ifdef CUDA_EMU
    if (!strcmp(emu_mode(), "race")) {
        print_message("skipped: the block that comes late runs ahead of the others, which is the "
                      "race that it is\n");
        skip();
    }
#endif
    const RecurrenceCase k = {5, 3, 23, 0.5, ALL_SITES};
    /* The exchange is by flags: with words the delayed block and the others would wait for each
     * other (test_persistent_faults.py). Only variants that compute in tiles have clusters. */
    const PlanCase plan_cases[] = {{"blocks=4,threads=64,replicas=1,exchange=1", 0, 0},
#ifdef CUDA_EMU
                                   {"blocks=4,threads=64,replicas=1,cluster=2,exchange=1", 0, 0}};
#else /* in a cluster the delayed block waits for sums, and may time out before the others do */
                                   {"blocks=4,threads=64,replicas=1,cluster=1,exchange=1", 0, 0}};
#endif
    enum { EPOCH = 100 };
    size_t bytes = (size_t)(4 * k.T * k.B * k.H) * sizeof(float);
    for (int v = 0; lstm_variants[v]; v++)
        for (int back = 0; back < 2; back++) {
            const LstmVariant *variant = lstm_variants[v];
            if (!variant->footprint->grid_barrier || !runs_here(variant, first_precision(variant)))
                continue;
            Tensors x = recurrence_tensors(&k);
            recurrence_rounds(&k, &x, first_precision(variant));
            Passes p = recurrence_passes(&k, &x);
            LstmPlan plan;
            FaultRecord fault;
            LstmLaunch launch;
            assert_true(launch_plan_case(variant, &p.forward.shape, back,
                                         &plan_cases[variant->footprint->reads_tiles != 0], EPOCH,
                                         &plan, &launch));
            launch.poll_limit = 1 << 16;
            uint32_t late_block = (uint32_t)plan.blocks / 2;
            p.forward.launch = p.backward.launch = launch;
            uint32_t late = EPOCH - 10,
                     *words =
                         (uint32_t *)((char *)launch.scratch + plan.scratch_bytes) - plan.blocks;
            upload(words + late_block, &late, sizeof late);
            CHECK(back ? variant->backward(&context, &p.backward)
                       : variant->forward(&context, &p.forward));
            fetch(&fault, context.fault, sizeof fault);
            assert_int_equal(fault.set, 1);
            assert_true(fault.block < (uint32_t)plan.blocks && fault.block != late_block);
            assert_int_equal(fault.expected, EPOCH + 1);
            assert_true(fault.seen >= late && fault.seen <= late + k.T);
            assert_int_equal(fault.missing[0], 1u << late_block);
            upload(p.forward.gates, x.x_proj, bytes);
            CHECK(back ? variant->backward(&context, &p.backward)
                       : variant->forward(&context, &p.forward));
            assert_memory_equal(fetched(p.forward.gates, (int64_t)(bytes / 4)), x.x_proj, bytes);
            CHECK(cudaMemset(context.fault, 0, sizeof *context.fault));
            CHECK(cudaDeviceSynchronize());
            release();
        }
}

/* A run that diverges must end because of its values, not by a timeout: a NaN passes through every
 * exchange, to all units of its row and to no other row, and no block waits for it in vain. */
static void a_nan_travels(void **state)
{
    (void)state;
    need_device();
    const RecurrenceCase k = {5, 3, 23, 1, NO_SITES};
    enum { STEP_OF = 1, ROW = 1 };
    const int64_t B = k.B, H = k.H, n = k.T * B * H;
    for (int v = 0; lstm_variants[v]; v++) {
        const LstmVariant *variant = lstm_variants[v];
        if (!runs_here(variant, first_precision(variant))) continue;
        Tensors x = recurrence_tensors(&k);
        recurrence_rounds(&k, &x, first_precision(variant));
        Passes p = recurrence_passes(&k, &x);
        LstmPlan plan[2];
        FaultRecord fault;
        const PlanCase *m = plan_case_of(variant, persistent(variant) ? 2 : 0);
        assert_true(
            launch_plan_case(variant, &p.forward.shape, 0, m, 0, &plan[0], &p.forward.launch));
        assert_true(
            launch_plan_case(variant, &p.forward.shape, 1, m, 0, &plan[1], &p.backward.launch));
        told("a NaN", variant, x.precision, &k, m, &plan[0]);
        float *x_proj = host_floats(4 * n);
        memcpy(x_proj, x.x_proj, (size_t)(4 * n) * sizeof *x_proj);
        x_proj[(STEP_OF * B + ROW) * 4 * H] = NAN;
        upload(p.forward.gates, x_proj, (size_t)(4 * n) * sizeof *x_proj);
        CHECK(variant->forward(&context, &p.forward));
        float *h = fetched(p.forward.h, n + B * H);
        CHECK(variant->backward(&context, &p.backward));
        float *dgates = fetched(p.forward.gates, 4 * n);
        fetch(&fault, context.fault, sizeof fault);
        assert_int_equal(fault.set, 0);
        for (int64_t i = 0; i < n; i++) {
            int64_t t = i / H / B, b = i / H % B, u = i % H;
            bool there = b == ROW && (t > STEP_OF || (t == STEP_OF && u == 0));
            if (isnan(h[B * H + i]) != there)
                fail_msg("h of step %d, row %d, unit %d: %g; %s", (int)t, (int)b, (int)u,
                         h[B * H + i], told_case);
            if (isnan(dgates[i / H * 4 * H + u]) != (b == ROW))
                fail_msg("dgates of step %d, row %d, unit %d: %g; %s", (int)t, (int)b, (int)u,
                         dgates[i / H * 4 * H + u], told_case);
        }
        release();
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(recurrence_follows_reference),
    cmocka_unit_test(state_gradients_follow_reference),
    cmocka_unit_test(state_gradients_are_those_of_the_forward_pass),
    cmocka_unit_test(clusters_keep_weights_in_shared_memory),
    cmocka_unit_test(windows_have_fewer_rows_than_their_plan),
    cmocka_unit_test(recurrence_follows_reference_at_length),
    cmocka_unit_test(recurrence_replays_from_a_graph),
    cmocka_unit_test(exchanges_carry_the_same_bits),
    cmocka_unit_test(a_missing_block_is_named),
    cmocka_unit_test(a_nan_travels),
};
const KernelSuite recurrence_suite = {tests, sizeof tests / sizeof tests[0]};
