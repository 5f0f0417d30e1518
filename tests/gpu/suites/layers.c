/* Tests the layers around the recurrence (step.cu, embedding.cu, softmax_xent.cu, rows.cu), and
 * their rounding to bfloat16. */
#include "fixture.h"

#include <string.h>

#include "kernels/layers.h"

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
        StepState *device = device_alloc(&s, sizeof s, 0);
        int32_t *ids = drawn_ids(1, n, 10000), *x = host_bytes((size_t)(T * B) * 4),
                *y = host_bytes((size_t)(T * B) * 4);
        int32_t *ids_device = device_ints(ids, n), *x_device = device_ints(NULL, T * B),
                *y_device = device_ints(NULL, T * B);
        for (int64_t window = 1; window < 4 && (window + 1) * T < n / B; window++) {
            CHECK(step_begin(context.stream, device, 3, ids_device, n, T, B, x_device, y_device,
                             (CarriedRows){0}));
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
                assert_true(x[i] ==
                            encoder[ids[i / H] * H + i % H] * factor_f32(&m, i / H, H, i % H));
            release();
        }
}

/* Compares with the known answer of SPEC 2. */
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
    float *dx = drawn(5, N * H, 1), *plain = host_floats(N * H),
          *rows_device = device_floats(NULL, N * H);
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
        for (int64_t u = 0; u < H; u++) { /* the rows of other words are not written */
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
    embedding_gradient(2100, 3, 40, 0.5, 1); /* more positions than a block scans at a time */
    embedding_gradient(1500, 1, 1, 1, 0);
}

/* ---- softmax_xent.cu ---- */

static void softmax_case(int64_t N, int64_t V, int shift, int train)
{
    float *logits = drawn(6, N * V, 8), *bias = drawn(7, V, 1), B = 3, nats[8], plain_nats[8];
    double exact_nats[8], *exact = widened(logits, N * V), *wide_bias = widened(bias, V);
    int32_t *targets = drawn_ids(8, N, V), *best_device = device_ints(NULL, N), best[8];
    targets[0] = (int32_t)V - 1;
    float *device = device_alloc(logits, (size_t)(N * V) * sizeof(float), shift),
          *nats_device = device_floats(NULL, N);
    CHECK(softmax_xent(context.stream, N, V,
                       device_alloc(bias, (size_t)V * sizeof(float), (shift + V) % 3),
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
    compare(train ? "dlogits" : "logits", fetched(device, N * V), logits, exact, N * V,
            train ? 3 : 2);
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
        softmax_case(1, 13001, shift, 1); /* a row of more than 48 KB: wider blocks */
        softmax_case(2, 61001, shift, 1); /* a row larger than shared memory: several passes */
    }
    softmax_case(1, 61001, 3, 0);
}

/* A row without a target is skipped, whatever its logits are; of equal logits the lowest id is the
 * best. */
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
        CHECK(softmax_xent(context.stream, 3, V, device_floats(host_floats(V), V),
                           device_ints(targets, 3), train, 0.5f, device, nats_device, best_device));
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
            uint16_t *halves = device_alloc(NULL, TO * (size_t)H * 2, 0),
                     *picked = host_bytes(TO * (size_t)H * 2);
            CHECK(rows_pick(context.stream, TO, (size_t)H * 2, list, device, halves));
            fetch(picked, halves, TO * (size_t)H * 2);
            for (int64_t i = 0; i < TO * H; i++)
                assert_int_equal(
                    picked[i], index[i / H] < 0 ? 0 : ((uint16_t *)from)[index[i / H] * H + i % H]);
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

/* Returns the nats of target 0 for one row of V logits that are all `fill` except one. */
static float nats_of(int64_t V, float fill, int64_t at, float value, float **gradient)
{
    float *logits = host_floats(V), nats;
    int32_t target = 0;
    for (int64_t v = 0; v < V; v++) logits[v] = v == at ? value : fill;
    float *device = device_floats(logits, V), *nats_device = device_floats(NULL, 1);
    CHECK(softmax_xent(context.stream, 1, V, device_floats(host_floats(V), V),
                       device_ints(&target, 1), 1, 0.5f, device, nats_device, NULL));
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
        assert_true(nats_of(V, -1e4f, V - 1, 1e4f, &d) == 2e4f && d[0] == -0.5f &&
                    d[V - 1] == 0.5f);
        assert_true(nats_of(V, -INFINITY, 0, 3, &d) == 0 && d[0] == 0 && d[1] == 0);
        assert_true(nats_of(V, -INFINITY, 5, 3, &d) == INFINITY && d[0] == -0.5f && d[5] == 0.5f);
        assert_true(fabsf(nats_of(V, 1e4f, 3, -INFINITY, &d) - logf((float)V - 1)) < 1e-5f &&
                    d[3] == 0);
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
            float *m = drawn(9, rows * cols, 1), *plain = host_floats(cols),
                  *out = device_floats(NULL, cols), *also = device_floats(NULL, cols);
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

/* ---- features, and rounding ---- */

/* Padding reads zeros, a feature position its projected row and the bias; both are masked like a
 * word. */
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
            float *encoder = drawn(2, V * H, 1), *projected = drawn(3, ROWS * H, 1),
                  *bias = drawn(4, H, 1);
            EmbeddingTable table = {device_floats(encoder, V * H),
                                    device_floats(projected, ROWS * H), device_floats(bias, H)};
            float *device = device_floats(NULL, N * H);
            int32_t *list = device_ints(ids, N);
            uint16_t *halves = device_alloc(NULL, N * (size_t)H * 2, 0);
            CHECK(embedding_forward(context.stream, N, H, list, &table, site, device));
            float *x = fetched(device, N * H);
            for (int64_t i = 0; i < N * H; i++) {
                int64_t id = ids[i / H], u = i % H;
                float row = id >= 0    ? encoder[id * H + u]
                            : id == -1 ? 0
                                       : projected[(-2 - id) * H + u] + bias[u];
                assert_true(x[i] == row * factor_f32(&m, i / H, H, u));
            }
            CHECK(embedding_forward_bf16(context.stream, N, H, list, &table, site, halves, H));
            check_bf16("an embedded feature", halves, x, N * H);
            release();
        }
}

/* With rounding, the masks and sums stay the same, and the operands of the products are rounded. */
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
        uint16_t *rounded = device_alloc(NULL, (size_t)n * 2, 0);
        CHECK(embedding_forward(context.stream, N, H, ids, &table, site, x));
        CHECK(embedding_forward_bf16(context.stream, N, H, ids, &table, site, rounded, H));
        check_bf16("an embedded word", rounded, fetched(x, n), n);

        CHECK(column_sums(context.stream, N, H, x, sums, NULL));
        float *plain = fetched(sums, H);
        rounded = device_alloc(NULL, (size_t)n * 2, 0);
        CHECK(column_sums_bf16(context.stream, N, H, x, sums, also, rounded));
        assert_memory_equal(fetched(sums, H), plain, (size_t)H * sizeof *plain);
        assert_memory_equal(fetched(also, H), plain, (size_t)H * sizeof *plain);
        check_bf16("a summed gradient", rounded, fetched(x, n), n);
        release();
    }
}

static const struct CMUnitTest tests[] = {
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
    cmocka_unit_test(producers_round),
};
const KernelSuite layers_suite = {tests, sizeof tests / sizeof tests[0]};
