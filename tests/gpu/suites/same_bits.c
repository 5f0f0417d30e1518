/* same_bits: see its header. It compares two runs in one process, and processes with other
 * schedules. */
#include "same_bits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recurrence.h"
#include "update.h"

static uint64_t hash(uint64_t h, const void *p, size_t bytes) /* FNV-1a */
{
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

uint64_t digest(void)
{
    enum { N = 12, H = 23, V = 1037 };
    uint64_t d = 0xcbf29ce484222325u;
    StepState s = {.next_step = STEP, .lr = 1, .clip = 1};
    StepState *device = device_alloc(&s, sizeof s, 0);
    int32_t *stream = device_ints(drawn_ids(30, 60, 5), 60), *x = device_ints(NULL, N),
            *y = device_ints(NULL, N), *first = device_ints(NULL, N), ids[2 * N];
    CHECK(step_begin(context.stream, device, 3, stream, 60, 4, 3, x, y, (CarriedRows){0}));
    fetch(ids, x, sizeof ids / 2), fetch(ids + N, y, sizeof ids / 2);
    d = hash(d, ids, sizeof ids);

    MaskSite site = mask_site(device, 5, 0, 0.5, 1);
    float *out = device_floats(NULL, N * H), *rows = device_floats(NULL, N * H);
    CHECK(embedding_forward(context.stream, N, H, x,
                            &(EmbeddingTable){.encoder = device_floats(drawn(31, 5 * H, 1), 5 * H)},
                            site, out));
    d = hash(d, fetched(out, N * H), N * H * sizeof(float));
    CHECK(embedding_backward(context.stream, N, H, x, device_floats(drawn(32, N * H, 1), N * H),
                             site, rows, first));
    d = hash(d, fetched(rows, N * H), N * H * sizeof(float));

    float *logits = device_floats(drawn(33, N * V, 5), N * V), *nats = device_floats(NULL, N),
          *sums = device_floats(NULL, V);
    CHECK(softmax_xent(context.stream, N, V, device_floats(drawn(34, V, 1), V), y, 1, 0.25f, logits,
                       nats, NULL));
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

    const RecurrenceCase small = {4, 3, 23, 0.5, ALL_SITES};
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
            assert_true(launch_plan_case(variant, shape, 0, plan_case_of(variant, i), 0, &plan[0],
                                         &p.forward.launch));
            assert_true(launch_plan_case(variant, shape, 1, plan_case_of(variant, i), 0, &plan[1],
                                         &p.backward.launch));
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

/* Runs other processes, under the emulator each with its own random schedule. No bit may depend on
 * the order of execution. */
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

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(same_bits_twice),
    cmocka_unit_test(same_bits_under_any_schedule),
};
const KernelSuite same_bits_suite = {tests, sizeof tests / sizeof tests[0]};
