/* Tests the planner of the variant `cluster`: every plan is legal, computes every product once and
 * announces the bytes that arrive; overrides take effect; a shape that does not fit gives a
 * sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/plan/residency.h"
#include "host/plan/residency_kinds.h"
#include "kernels/cluster.h"

/* The variant whose plans are made: the one for which the project promises plans, or, in turn, each
 * one that synchronises within one cluster. */
static const LstmFootprint *planned_for;

static void of_the_promises(void)
{
    for (int i = 0; lstm_footprints[i]; i++)
        if (!strcmp(lstm_footprints[i]->name, "cluster")) planned_for = lstm_footprints[i];
    assert_non_null(planned_for);
}

/* Makes the i-th footprint the planned variant and returns whether it synchronises within one
 * cluster. */
static bool in_one_cluster(int i)
{
    planned_for = lstm_footprints[i];
    return planned_for->tile[0] && !planned_for->grid_barrier;
}

static CostConstants constants_of(const char *device)
{
    CostConstants c;
    Error e;
    if (cost_constants(device_profile(device), NULL, &c, &e)) fail_msg("%s", e.text);
    return c;
}

static int made(const char *device, LstmPrecision precision, int backward, int64_t H, int64_t B,
                const char *force, LstmPlan *p, Error *e)
{
    PlanOverride o;
    CostConstants c = constants_of(device);
    LstmShape shape = {35, B, H, precision};
    if (plan_override_parse(force, &o, e)) fail_msg("%s", e->text);
    return lstm_plan(device_profile(device), &shape, planned_for, backward, &o, &c, p, e);
}

static LstmPlan planned(LstmPrecision precision, int backward, int64_t H, int64_t B,
                        const char *force)
{
    LstmPlan p;
    Error e;
    if (made("H200", precision, backward, H, B, force, &p, &e)) fail_msg("%s", e.text);
    return p;
}

/* ---- every plan is legal ---- */

/* Checks the relations between a plan's fields, restated from the opening comment of cluster.h. */
static void assert_whole(const LstmPlan *p, int64_t H, int64_t B, const DeviceFacts *d)
{
    const LstmTile *tile = &planned_for->tile[p->backward][p->tile];
    int64_t tiles =
        p->backward ? p->units * 4 / tensor_k(p->precision) : tensor_k_tiles(H, p->precision);
    int64_t m = p->backward ? (H + 15) / 16 : p->units / 4;
    assert_true(p->units % 4 == 0 && p->blocks == p->cluster && p->blocks >= 2 && p->blocks <= 16);
    assert_true((int64_t)p->units * p->blocks >= H && (int64_t)p->units * (p->blocks - 1) < H);
    assert_true(p->rows >= 1 && p->rows <= p->batch && p->batch == tile->batch &&
                p->batch % 8 == 0);
    assert_true((int64_t)p->rows * (p->replicas - 1) < B && plan_ranges(p, B) >= 1 &&
                p->passes == 1);
    assert_true(p->slices == 1 && p->depth == tiles);
    assert_true((int64_t)p->groups * p->quads >= m && (int64_t)(p->groups - 1) * p->quads < m);
    assert_true(p->quads == tile->stacked && p->resident == tile->resident &&
                p->precision == tile->precision);
    assert_true(p->threads == 32 * p->groups && p->threads <= tile->threads);
    assert_int_equal(p->shared, p->depth > p->resident ? p->depth - p->resident : 0);
    assert_true(p->streamed == 0 && p->chunk == 0 && p->chunks == 0 && p->rounds == 1 &&
                p->scratch_bytes == 0);
    assert_int_equal(p->shared_bytes, cluster_shared_bytes(p));
    /* The plan keeps within the device's limits. */
    assert_true(p->replicas <= device_clusters(d, p->cluster));
    assert_true(p->shared_bytes <= d->shared_per_block_most &&
                p->shared_bytes + d->shared_reserved <= d->shared_per_sm);
    assert_true((tile->registers + 7) / 8 * 8 * p->threads <= d->registers_per_sm &&
                tile->registers <= 255);
    /* The planned bytes of an exchange fit the count of an mbarrier and are what all blocks
     * together send to one block. */
    for (int32_t rows = 1; rows <= p->rows; rows++)
        for (int32_t to = 0; to < p->blocks; to++) {
            int64_t sent = 0, units = to + 1 < p->blocks ? p->units : H - (int64_t)p->units * to;
            for (int32_t from = 0; from < p->blocks; from++) {
                int64_t own = from + 1 < p->blocks ? p->units : H - (int64_t)p->units * from;
                if (p->backward) sent += 16 * units * ((rows + 3) / 4);
                else
                    sent += 16 * ((own + 3) / 4) *
                            (p->precision == PRECISION_BF16 ? (rows + 1) / 2 : rows);
            }
            assert_int_equal(cluster_step_bytes(p, H, (int32_t)units, rows), sent);
            assert_true(sent > 0 && sent < 1 << 20);
        }
}

/* Counts how often each product of a step is computed, which must be once, with warps numbered as
 * in the kernels. */
static void assert_covers(const LstmPlan *p, int H)
{
    static uint8_t times[72][72]; /* [unit of h_t or dgates][k] */
    int contraction = tensor_k(p->precision);
    memset(times, 0, sizeof times);
    for (int at = 0; at < p->blocks * p->groups * p->quads * p->depth; at++) {
        int i = at % p->depth, m = at / p->depth % p->quads, warp = at / p->depth / p->quads;
        int block = warp / p->groups, tile = warp % p->groups * p->quads + m, step = i;
        int first = p->backward ? step * contraction / 4 : 4 * tile,
            units = p->backward ? contraction / 4 : 4;
        int k0 = p->backward ? 16 * tile : contraction * step, ks = p->backward ? 16 : contraction;
        for (int u = first; u < first + units && u < p->units; u++)
            for (int k = k0; k < k0 + ks && k < H && block * p->units + u < H; k++)
                times[block * p->units + u][k]++;
    }
    for (int u = 0; u < H; u++)
        for (int k = 0; k < H; k++)
            if (times[u][k] != 1) fail_msg("unit %d, k %d: made %d times", u, k, times[u][k]);
}

static void plans_are_whole(void)
{
    static const int64_t Hs[] = {5, 8, 7, 23, 64, 130, 200, 400, 650}, Bs[] = {1, 3, 20, 64, 300};
    static const char *const forces[] = {"",
                                         "cluster=3",
                                         "cluster=2",
                                         "blocks=4,slices=1",
                                         "cluster=8,replicas=1",
                                         "cluster=16",
                                         "replicas=3",
                                         "threads=64",
                                         "slices=1",
                                         "batch=8",
                                         "registers=80",
                                         "shared=20000"};
    enum { HS = sizeof Hs / sizeof Hs[0], FORCES = sizeof forces / sizeof forces[0] };
    const DeviceFacts *d = device_profile("H200");
    CostConstants c = constants_of("H200");
    int plans = 0, kept = 0;
    for (int n = 0; n < HS * 5 * FORCES * 2 * 2; n++) {
        int backward = n & 1, precision = n & 2 ? PRECISION_TF32 : PRECISION_BF16;
        int64_t H = Hs[n / 4 % HS], B = Bs[n / 4 / HS % 5];
        const char *force = forces[n / 4 / HS / 5];
        LstmShape shape = {35, B, H, (LstmPrecision)precision};
        LstmPlan p;
        Error e;
        if (made("H200", shape.precision, backward, H, B, force, &p, &e)) {
            assert_non_null(strstr(e.text, planned_for->name));
            assert_null(strchr(e.text, '\n'));
            continue;
        }
        plans++, kept += p.shared > 0;
        assert_whole(&p, H, B, d);
        if (H <= 72) assert_covers(&p, (int)H);
        if (plan_check(&p, d, &shape, planned_for, &e)) fail_msg("%s", e.text);
        CostTime t = plan_predict(&c, d, &shape, &p);
        CostBytes y = plan_bytes(d, &shape, &p);
        double sum = t.hop + t.ingest + t.multiply + t.sums + t.cell + t.syncs;
        assert_true(t.step > 0 && t.launch > 0 && sum < t.step * 1.000001 &&
                    sum > t.step * 0.999999);
        assert_true(y.streamed == 0 && y.exchanged > 0 && (y.summed > 0) == backward);
        assert_true(y.kept_registers + y.kept_shared > 0.999999 &&
                    y.kept_registers + y.kept_shared < 1.000001);
    }
    assert_true(plans > HS * 5 * FORCES * 2 && kept > 50);
}

static void every_plan_is_whole(void **state)
{
    (void)state;
    for (int i = 0; lstm_footprints[i]; i++)
        if (in_one_cluster(i)) plans_are_whole();
}

/* ---- what an override forces, and what the project promises ---- */

static void overrides_force_clusters(void **state)
{
    (void)state;
    of_the_promises();
    LstmPlan p = planned(PRECISION_BF16, 0, 64, 20, "cluster=4,replicas=3");
    assert_true(p.cluster == 4 && p.units == 16 && p.slices == 1 && p.replicas == 3 && p.rows == 7);
    p = planned(PRECISION_TF32, 1, 23, 3, "blocks=4");
    /* Units are multiples of 4, so four blocks of eight units would leave one block empty. */
    assert_true(p.units == 8 && p.blocks == 3);
    p = planned(PRECISION_BF16, 0, 7, 1, "cluster=9");
    assert_true(p.cluster == 2 && p.units == 4);
    p = planned(PRECISION_BF16, 0, 64, 64, "replicas=2,batch=8");
    assert_true(p.rows == 8 && plan_ranges(&p, 64) == 4);
    p = planned(PRECISION_BF16, 0, 130, 3, "cluster=3,registers=20");
    assert_true(p.shared > 0);
}

static void an_h200_holds_small_and_medium(void **state)
{
    (void)state;
    of_the_promises();
    static const int64_t H[] = {200, 650};
    for (int i = 0; i < 4; i++) {
        LstmPlan p = planned(PRECISION_BF16, i & 1, H[i / 2], 20, "");
        assert_true(p.replicas >= 3 && plan_ranges(&p, 20) == 1 &&
                    (H[i / 2] == 650 || p.shared == 0));
        planned(PRECISION_BF16, i & 1, H[i / 2], 20, "cluster=16");
        planned(PRECISION_TF32, i & 1, i / 2 ? 400 : 200, 20, "");
    }
}

static void clusters_are_counted(void **state)
{
    (void)state;
    const DeviceFacts *h200 = device_profile("H200");
    assert_true(device_clusters(h200, 2) == 66 && device_clusters(h200, 4) == 30);
    assert_true(device_clusters(h200, 8) == 15 && device_clusters(h200, 16) == 7);
    assert_true(device_clusters(h200, 1) == 132 && device_clusters(h200, 17) == 0);
    assert_int_equal(device_clusters(device_profile("A100"), 2), 0);
    DeviceFacts pcie = *device_profile("H100");
    pcie.sms = 114;
    assert_true(device_clusters(&pcie, 2) == 57 && device_clusters(&pcie, 16) == 7);
}

/* All variants in tiles use the same number of clusters: as many as the device holds, and not one
 * more. */
static void kinds_count_alike(void **state)
{
    (void)state;
    static const char *const devices[] = {"H100", "H200", "B200"};
    for (int i = 0; i < 3; i++) {
        const DeviceFacts *d = device_profile(devices[i]);
        CostConstants c = constants_of(devices[i]);
        int held = device_clusters(d, 4);
        for (int more = 0; more < 2; more++) {
            LstmShape shape = {35, held + more, 64, PRECISION_BF16};
            PlanOverride force = {.cluster = 4, .blocks = 4, .replicas = held + more};
            LstmPlan p;
            Error e;
            for (int v = 0; lstm_footprints[v]; v++) {
                if (!lstm_footprints[v]->reads_tiles) continue;
                int code = lstm_plan(d, &shape, lstm_footprints[v], 1, &force, &c, &p, &e);
                assert_int_equal(code, more ? EXIT_NO_DEVICE : EXIT_DONE);
            }
        }
    }
}

/* A wait at an mbarrier is bounded by a number of polls, however long one takes: a GPU that was
 * stopped for an hour in the middle of a poll has polled once. */
static void a_pause_is_no_fault(void **state)
{
    (void)state;
    assert_int_equal(cluster_polls(0), 1);
    assert_int_equal(cluster_polls(CLUSTER_POLL_NS), 2);
    assert_int_equal(cluster_polls(1000 * CLUSTER_POLL_NS), 1001);
    assert_int_equal(cluster_polls(UINT32_MAX), cluster_polls(CLUSTER_PAUSE));
    /* This is far below the 2^22 polls that a training run allows. */
    assert_true(cluster_polls(UINT32_MAX) < 1u << 12);
}

/* ---- what does not fit ---- */

static void assert_refused(const char *device, LstmPrecision precision, int backward, int64_t H,
                           int64_t B, const char *force, const char *phrase)
{
    LstmPlan p, untouched;
    Error e;
    memset(&p, 0x5a, sizeof p);
    untouched = p;
    assert_int_equal(made(device, precision, backward, H, B, force, &p, &e), EXIT_NO_DEVICE);
    assert_memory_equal(&p, &untouched, sizeof p);
    if (!strstr(e.text, phrase)) fail_msg("'%s' is not in '%s'", phrase, e.text);
    assert_null(strchr(e.text, '\n'));
}

static void what_does_not_fit_is_a_sentence(void **state)
{
    (void)state;
    of_the_promises();
    for (int backward = 0; backward < 2; backward++) {
        assert_refused("K20", PRECISION_BF16, backward, 64, 4, "", "no thread-block clusters");
        assert_refused("A100", PRECISION_BF16, backward, 64, 4, "", "no thread-block clusters");
        assert_refused("H200", PRECISION_F32, backward, 64, 4, "", "cluster has no f32");
        assert_refused("H200", PRECISION_BF16, backward, 64, 4, "slices=2", "one slice, not 2");
        assert_refused("H200", PRECISION_BF16, backward, 64, 4, "batch=3",
                       "compiled tiles matches the override");
        assert_refused("H200", PRECISION_BF16, backward, 64, 4, "tile=99",
                       "compiled tiles matches the override");
        assert_refused("H200", PRECISION_BF16, backward, 650, 20, "cluster=16,replicas=8",
                       "it needs 8 co-resident clusters of 15 blocks");
        assert_refused("H200", PRECISION_BF16, backward, 650, 20, "cluster=17",
                       "co-resident clusters of");
        assert_refused("H200", PRECISION_BF16, backward, 200, 4, "threads=32,cluster=2",
                       "threads per block");
        /* st.async is undefined in a cluster of one block. */
        assert_refused("H200", PRECISION_BF16, backward, 200, 4, "cluster=1", "at least 2");
        assert_refused("H200", PRECISION_BF16, backward, 200, 4, "blocks=1", "at least 2");
        assert_refused("H200", PRECISION_TF32, backward, 4, 4, "", "at least 2");
        planned(PRECISION_TF32, backward, 5, 4, "");
        assert_refused("H200", PRECISION_BF16, backward, INT32_MAX / 4, 20, "",
                       "bytes of shared memory per block");
        assert_refused("H200", PRECISION_BF16, backward, 64, 4, "shared=1000",
                       "bytes of shared memory per block");
    }
    assert_refused("H200", PRECISION_BF16, 0, 1500, 20, "", "bytes of shared memory per block");
    assert_refused("H200", PRECISION_TF32, 0, 650, 20, "", "bytes of shared memory per block");
    assert_refused("H200", PRECISION_BF16, 1, 1500, 20, "", " per block");
    assert_refused("H200", PRECISION_TF32, 1, 650, 20, "", " per block");
}

/* A plan that fits exactly is refused with one byte less of shared memory. */
static void the_first_that_does_not_fit(void **state)
{
    (void)state;
    of_the_promises();
    static const char fixed[] = "tile=1,replicas=1,cluster=5";
    for (int backward = 0; backward < 2; backward++) {
        char force[128], phrase[128];
        LstmPlan p = planned(PRECISION_BF16, backward, 200, 8, fixed);
        snprintf(force, sizeof force, "shared=%zu,%s", p.shared_bytes, fixed);
        planned(PRECISION_BF16, backward, 200, 8, force);
        snprintf(phrase, sizeof phrase,
                 "at least %zu bytes of shared memory per block; a block has %zu", p.shared_bytes,
                 p.shared_bytes - 1);
        snprintf(force, sizeof force, "shared=%zu,%s", p.shared_bytes - 1, fixed);
        assert_refused("H200", PRECISION_BF16, backward, 200, 8, force, phrase);
    }
}

static void fields_are_checked(void)
{
    LstmShape shape = {35, 20, 650, PRECISION_BF16}, other = {35, 20, 700, PRECISION_BF16};
    Error e;
    for (int backward = 0; backward < 2; backward++) {
        LstmPlan p = planned(PRECISION_BF16, backward, 650, 20, ""), q;
        char text[PLAN_TEXT], changed[PLAN_TEXT];
        assert_int_equal(plan_check(&p, device_profile("H100"), &shape, planned_for, &e), 0);
        assert_int_equal(plan_check(&p, device_profile("A100"), &shape, planned_for, &e),
                         EXIT_NO_DEVICE);
        assert_non_null(strstr(e.text, "clusters"));
        assert_int_equal(plan_check(&p, device_profile("H200"), &other, planned_for, &e),
                         EXIT_NO_DEVICE);
        plan_text(&p, text, sizeof text);
        for (const char *at = strchr(text, '='); at; at = strchr(at + 1, '='))
            for (int value = 0; value < 2; value++) {
                snprintf(changed, sizeof changed, "%.*s%d%s", (int)(at + 1 - text), text,
                         value ? 77777 : 0, strchrnul(at, ','));
                assert_int_equal(plan_parse(changed, &q, &e), 0);
                if (!strcmp(changed, text)) continue;
                if (!plan_check(&q, device_profile("H200"), &shape, planned_for, &e))
                    fail_msg("%s", changed);
            }
    }
}

static void a_plan_from_elsewhere_is_checked(void **state)
{
    (void)state;
    for (int i = 0; lstm_footprints[i]; i++)
        if (in_one_cluster(i)) fields_are_checked();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_plan_is_whole),
        cmocka_unit_test(overrides_force_clusters),
        cmocka_unit_test(an_h200_holds_small_and_medium),
        cmocka_unit_test(clusters_are_counted),
        cmocka_unit_test(kinds_count_alike),
        cmocka_unit_test(a_pause_is_no_fault),
        cmocka_unit_test(what_does_not_fit_is_a_sentence),
        cmocka_unit_test(the_first_that_does_not_fit),
        cmocka_unit_test(a_plan_from_elsewhere_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
