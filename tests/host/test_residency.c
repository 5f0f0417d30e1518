/* Tests the planner: every plan is legal and covers the work exactly once, overrides take effect, a
 * shape that does not fit gives a sentence, and the text forms are parsed back unchanged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/plan/residency.h"
#include "kernels/mma.h"

static const LstmFootprint *variant(const char *name)
{
    for (int i = 0; lstm_footprints[i]; i++)
        if (!strcmp(lstm_footprints[i]->name, name)) return lstm_footprints[i];
    fail_msg("no variant %s", name);
    return NULL;
}

/* Returns whether a variant is persistent and has no tiles for tensor cores; in the plans of the
 * others, some fields have another meaning. */
static bool in_vectors(const LstmFootprint *f) { return f->tile[0] && !f->reads_tiles; }

/* Returns whether no tile of a pass keeps weights in registers. */
static bool leaves_registers(const LstmFootprint *f, int backward)
{
    for (int i = 0; i < f->tiles[backward]; i++)
        if (f->tile[backward][i].resident) return false;
    return true;
}

static CostConstants constants_of(const char *device)
{
    CostConstants c;
    Error e;
    if (cost_constants(device_profile(device), NULL, &c, &e)) fail_msg("%s", e.text);
    return c;
}

static LstmPlan planned(const char *device, const char *name, int backward, int64_t H, int64_t B,
                        const char *force)
{
    LstmPlan p;
    PlanOverride o;
    Error e;
    CostConstants c = constants_of(device);
    LstmShape shape = {35, B, H, PRECISION_F32};
    if (plan_override_parse(force, &o, &e) ||
        lstm_plan(device_profile(device), &shape, variant(name), backward, &o, &c, &p, &e) ||
        plan_check(&p, device_profile(device), &shape, variant(name), &e))
        fail_msg("%s", e.text);
    return p;
}

/* ---- text ---- */

static void overrides_are_read(void **state)
{
    (void)state;
    static const char *const bad[] = {"blocks",
                                      "blocks=",
                                      "blocks=0",
                                      "blocks=-1",
                                      "blocks=1,",
                                      "blocks=1;tile=2",
                                      "block=1",
                                      ",",
                                      "=1",
                                      "blocks=1,blocks=2",
                                      "blocks=1 ",
                                      "blocks=0x2",
                                      "blocks=2147483648"};
    PlanOverride o;
    Error e;
    char text[PLAN_OVERRIDE_TEXT];
    assert_int_equal(plan_override_parse("blocks=4,replicas=2,registers=64,shared=8192", &o, &e),
                     0);
    assert_true(o.blocks == 4 && o.replicas == 2 && o.registers == 64 && o.shared == 8192);
    assert_true(!o.threads && !o.groups && !o.slices && !o.batch && !o.tile);
    assert_int_equal(plan_override_parse("tile=9,batch=8,slices=7,groups=6,threads=5", &o, &e), 0);
    assert_true(o.tile == 9 && o.batch == 8 && o.slices == 7 && o.groups == 6 && o.threads == 5 &&
                !o.blocks);
    plan_override_text(&o, text, sizeof text);
    assert_string_equal(text, "threads=5,groups=6,slices=7,batch=8,tile=9");
    assert_int_equal(plan_override_parse("", &o, &e), 0);
    plan_override_text(&o, text, sizeof text);
    assert_string_equal(text, "");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(plan_override_parse(bad[i], &o, &e), EXIT_USAGE);
        assert_non_null(strstr(e.text, bad[i]));
    }
}

static void plans_come_back_from_their_text(void **state)
{
    (void)state;
    char text[PLAN_TEXT], longer[PLAN_TEXT + 32];
    LstmPlan read;
    Error e;
    for (int backward = 0; backward < 2; backward++) {
        LstmPlan p = planned("H200", "reg", backward, 650, 20, "");
        plan_text(&p, text, sizeof text);
        assert_true(strlen(text) < PLAN_TEXT - 100);
        assert_int_equal(plan_parse(text, &read, &e), 0);
        plan_text(&read, longer, sizeof longer);
        assert_string_equal(longer, text);
        assert_true(read.units == p.units && read.shared_bytes == p.shared_bytes);
    }
    snprintf(longer, sizeof longer, "%s,tile=1", text);
    assert_int_equal(plan_parse(longer, &read, &e), EXIT_BAD_DATA);
    snprintf(longer, sizeof longer, "%s,more=1", text);
    assert_int_equal(plan_parse(longer, &read, &e), EXIT_BAD_DATA);
    *strrchr(text, ',') = 0;
    assert_int_equal(plan_parse(text, &read, &e), EXIT_BAD_DATA);
    assert_int_equal(plan_parse("", &read, &e), EXIT_BAD_DATA);
}

/* ---- every plan is legal ---- */

/* Checks the relations between a plan's fields, restated from the opening comment of plan.h. */
static void assert_whole(const LstmPlan *p, const LstmShape *shape, const LstmFootprint *f,
                         const DeviceFacts *d)
{
    const LstmTile *tile = &f->tile[p->backward][p->tile];
    int64_t H = shape->H, B = shape->B, terms = p->backward ? p->units : H,
            columns = p->backward ? p->quads : p->units;
    assert_in_range(p->tile, 0, f->tiles[p->backward] - 1);
    assert_true((int64_t)p->units * p->blocks >= H && (int64_t)p->units * (p->blocks - 1) < H);
    assert_true((int64_t)p->rows * (p->replicas - 1) < B && plan_ranges(p, B) >= 1);
    assert_true((int64_t)p->slices * p->depth >= terms &&
                (int64_t)(p->slices - 1) * p->depth < terms);
    assert_true((int64_t)p->passes * p->groups * p->batch >= p->rows &&
                (int64_t)(p->passes - 1) * p->groups * p->batch < p->rows);
    assert_true(columns * p->slices * p->groups <= p->threads && p->threads <= tile->threads);
    assert_true(p->batch == tile->batch && p->resident == tile->resident &&
                p->chunk == tile->chunk);
    assert_true(p->shared >= 0 && p->streamed >= 0);
    assert_int_equal(p->shared + p->streamed, p->depth > p->resident ? p->depth - p->resident : 0);
    assert_true(f->shared_weights || p->shared == 0);
    if (p->backward) {
        assert_true((int64_t)4 * p->quads * p->rounds >= H &&
                    (int64_t)4 * p->quads * (p->rounds - 1) < H);
        assert_true(p->chunk == 0 && p->chunks == 0);
    } else {
        int32_t staged = p->depth > p->resident ? p->depth : p->resident;
        assert_true(p->chunks * p->chunk >= staged && (p->chunks - 1) * p->chunk < staged);
        assert_true(p->resident % p->chunk == 0 && p->quads == 0 && p->rounds == 0);
    }
    assert_int_equal(p->shared_bytes, plan_shared_bytes(p));
    assert_int_equal(p->scratch_bytes, plan_scratch_bytes(p));
    /* The plan keeps within the device's limits. */
    assert_true(p->replicas * p->blocks <= d->sms && p->replicas * p->blocks <= 256);
    assert_true(p->shared_bytes <= d->shared_per_block_most &&
                p->shared_bytes + d->shared_reserved <= d->shared_per_sm);
    assert_true((tile->registers + 7) / 8 * 8 * ((p->threads + 31) / 32 * 32) <=
                d->registers_per_sm);
    assert_true(p->threads <= 1024 && tile->registers <= 255);
}

/* Counts how often each product of a step is computed, which must be once, with threads numbered as
 * in the kernels. For small shapes. */
static void assert_covers(const LstmPlan *p, const LstmShape *shape)
{
    static uint8_t made[24][72][72]; /* [row][unit of h_t or dgates][k] */
    int H = (int)shape->H, B = (int)shape->B;
    memset(made, 0, sizeof made);
    int ranges = (int)plan_ranges(p, B), grid_blocks = p->replicas * p->blocks;
    for (int at = 0; at < ranges * grid_blocks * p->passes * p->threads; at++) {
        int thread = at % p->threads, pass = at / p->threads % p->passes,
            grid = at / p->threads / p->passes;
        int range = grid / grid_blocks, block = grid % grid_blocks % p->blocks,
            replica = range * p->replicas + grid % grid_blocks / p->blocks,
            columns = p->backward ? p->quads : p->units;
        int column = thread % columns, slice = thread / columns % p->slices,
            group = thread / columns / p->slices;
        if (group >= p->groups) continue;
        for (int b = 0; b < p->batch; b++) {
            int local = (pass * p->groups + group) * p->batch + b, row = replica * p->rows + local;
            if (local >= p->rows || row >= B) continue;
            for (int i = 0; i < p->depth; i++) {
                if (!p->backward) {
                    int unit = block * p->units + column, k = slice * p->depth + i;
                    if (unit < H && k < H) made[row][unit][k]++;
                    continue;
                }
                int u = slice * p->depth + i, unit = block * p->units + u;
                if (u >= p->units || unit >= H) continue;
                for (int k4 = 0; k4 < 4 * p->rounds; k4++) {
                    int k = (k4 / 4 * p->quads + column) * 4 + k4 % 4;
                    if (k < H) made[row][unit][k]++;
                }
            }
        }
    }
    for (int row = 0; row < B; row++)
        for (int unit = 0; unit < H; unit++)
            for (int k = 0; k < H; k++)
                if (made[row][unit][k] != 1)
                    fail_msg("row %d, unit %d, k %d: made %d times", row, unit, k,
                             made[row][unit][k]);
}

/* Plans with an override. Returns 1 if there is a plan, after checking it, and 0 if the shape is
 * refused, after checking the sentence. */
static int checked(const DeviceFacts *d, const CostConstants *c, const LstmFootprint *f,
                   int backward, int64_t H, int64_t B, const char *force)
{
    LstmShape shape = {35, B, H, PRECISION_F32};
    PlanOverride o;
    LstmPlan p;
    Error e;
    assert_int_equal(plan_override_parse(force, &o, &e), 0);
    int code = lstm_plan(d, &shape, f, backward, &o, c, &p, &e);
    if (code) {
        assert_int_equal(code, EXIT_NO_DEVICE);
        assert_non_null(strstr(e.text, f->name));
        assert_non_null(strstr(e.text, force));
        return 0;
    }
    assert_whole(&p, &shape, f, d);
    if (H <= 72 && B <= 24) assert_covers(&p, &shape);
    if (plan_check(&p, d, &shape, f, &e)) fail_msg("%s", e.text);
    CostTime t = plan_predict(c, d, &shape, &p);
    CostBytes y = plan_bytes(d, &shape, &p);
    double sum = t.hop + t.ingest + t.multiply + t.sums + t.cell + t.syncs;
    assert_true(t.step > 0 && t.launch > 0 && t.ingest >= 0 && sum < t.step * 1.000001 &&
                sum > t.step * 0.999999);
    assert_true(y.kept_registers >= 0 && y.kept_shared >= 0 &&
                y.kept_registers + y.kept_shared < 1.000001);
    assert_true((y.streamed == 0) == (y.kept_registers + y.kept_shared > 0.999999));
    return 1;
}

static void every_plan_is_whole(void **state)
{
    (void)state;
    static const int64_t Hs[] = {1, 2, 7, 23, 64, 200, 650, 1500}, Bs[] = {1, 3, 20, 64};
    static const char *const devices[] = {"K20", "V100", "H200"};
    int plans = 0, cases = 0;
    for (int d = 0; d < 3; d++) {
        CostConstants c = constants_of(devices[d]);
        for (int i = 0; lstm_footprints[i]; i++)
            for (int n = 0; n < 8 * 4 * 2; n++) {
                if (!in_vectors(lstm_footprints[i])) continue;
                cases++;
                plans += checked(device_profile(devices[d]), &c, lstm_footprints[i], n % 2,
                                 Hs[n / 8], Bs[n / 2 % 4], "");
            }
    }
    assert_true(cases >= 3 * 3 * 64 && plans > cases * 9 / 10);
}

/* A variant without weights in registers runs any batch, and any layer that fits the memory of a
 * GPU newer than Kepler; a K20 runs 3000 units, a K40 3400. */
static void l2_and_smem_take_any_shape(void **state)
{
    (void)state;
    static const struct {
        const char *device;
        int64_t H;
    } largest[] = {{"K20", 3000}, {"K40", 3400}, {"V100", 8000}, {"H200", 8000}};
    for (size_t i = 0; i < sizeof largest / sizeof largest[0]; i++) {
        CostConstants c = constants_of(largest[i].device);
        for (int n = 0; n < 8; n++)
            for (int v = 0; lstm_footprints[v]; v++) {
                static const int64_t Bs[2][2] = {{1, 20}, {333, 4096}};
                const LstmFootprint *f = lstm_footprints[v];
                int64_t H = n & 4 ? 1499 : largest[i].H, B = Bs[n >> 2][n >> 1 & 1];
                if (!in_vectors(f) || !leaves_registers(f, n & 1)) continue;
                if (!checked(device_profile(largest[i].device), &c, f, n & 1, H, B, ""))
                    fail_msg("%s has no plan on %s for H %d, B %d", f->name, largest[i].device,
                             (int)H, (int)B);
            }
    }
}

static void overrides_give_whole_plans_too(void **state)
{
    (void)state;
    static const char *const forces[] = {"blocks=3",
                                         "replicas=2",
                                         "slices=1",
                                         "groups=2",
                                         "groups=3,slices=2",
                                         "threads=64",
                                         "threads=40",
                                         "shared=6144",
                                         "blocks=2,replicas=3",
                                         "blocks=1,shared=9000",
                                         "registers=32",
                                         "batch=4",
                                         "tile=2",
                                         "tile=4"};
    static const int64_t Hs[] = {1, 7, 23, 64}, Bs[] = {1, 3, 20};
    static const char *const devices[] = {"K20", "H200"};
    int plans = 0, cases = 0;
    for (int d = 0; d < 2; d++) {
        CostConstants c = constants_of(devices[d]);
        for (int i = 0; lstm_footprints[i]; i++)
            for (int n = 0; n < 14 * 4 * 3 * 2; n++) {
                if (!in_vectors(lstm_footprints[i])) continue;
                cases++;
                plans += checked(device_profile(devices[d]), &c, lstm_footprints[i], n % 2,
                                 Hs[n / 6 % 4], Bs[n / 2 % 3], forces[n / 24]);
            }
    }
    assert_true(plans > cases * 3 / 4);
}

/* ---- plans in tiles ---- */

/* Checks the relations between a plan's fields, restated from the opening comment of mma.h. */
static void assert_mma_whole(const LstmPlan *p, const LstmShape *shape, const LstmFootprint *f,
                             const DeviceFacts *d)
{
    const LstmTile *tile = &f->tile[p->backward][p->tile];
    int64_t H = shape->H, B = shape->B, k = tensor_k(p->precision);
    int64_t terms = ((p->backward ? 4 * H : H) + k - 1) / k,
            parts = (int64_t)p->cluster * p->slices;
    int64_t m_tiles = p->backward ? p->cluster * p->units / 16 : p->units / 4;
    assert_true(p->kind == (int)f->kind && p->precision == (int)shape->precision);
    assert_in_range(p->tile, 0, f->tiles[p->backward] - 1);
    assert_true(tile->precision == p->precision && tile->batch == p->batch &&
                tile->resident == p->resident && tile->stacked == p->quads);
    assert_true(p->cluster == 1 ||
                (p->backward && d->clusters && (p->cluster == 2 || p->cluster == 4)));
    assert_true(p->units % 4 == 0 && (!p->backward || p->cluster * p->units % 16 == 0));
    assert_true((int64_t)p->units * p->blocks >= H &&
                (int64_t)p->units * (p->blocks - p->cluster) < H && p->blocks % p->cluster == 0);
    assert_true((int64_t)p->rows * (p->replicas - 1) < B && plan_ranges(p, B) >= 1);
    assert_true((int64_t)p->passes * p->batch >= p->rows &&
                (int64_t)(p->passes - 1) * p->batch < p->rows);
    assert_true((int64_t)p->groups * p->quads >= m_tiles &&
                (int64_t)(p->groups - 1) * p->quads < m_tiles);
    assert_true(parts * p->depth >= terms &&
                (int64_t)(p->slices - 1) * p->cluster * p->depth < terms);
    assert_true(p->threads == 32 * p->groups * p->slices && p->threads <= tile->threads);
    assert_true(p->shared >= 0 && p->streamed >= 0);
    assert_int_equal(p->shared + p->streamed, p->depth > p->resident ? p->depth - p->resident : 0);
    assert_true(p->chunk == 0 && p->chunks == 0 && p->rounds == 1);
    assert_int_equal(p->shared_bytes, mma_shared_bytes(p));
    assert_int_equal(p->scratch_bytes, mma_scratch_bytes(p));
    /* The plan keeps within the device's limits. */
    int64_t clusters = p->cluster == 1 ? d->sms : p->cluster == 2 ? d->sms / 2 : d->sms * 30 / 132;
    assert_true(p->replicas * p->blocks / p->cluster <= clusters && p->replicas * p->blocks <= 256);
    assert_true(p->shared_bytes <= d->shared_per_block_most &&
                p->shared_bytes + d->shared_reserved <= d->shared_per_sm);
    assert_true((tile->registers + 7) / 8 * 8 * p->threads <= d->registers_per_sm);
}

/* Counts how often each A tile is multiplied for a batch row, which must be once, with warps
 * numbered as in the kernels. For small shapes. */
static void assert_mma_covers(const LstmPlan *p, const LstmShape *shape)
{
    static uint8_t made[24][80][80]; /* [row][m tile][contraction tile] */
    int H = (int)shape->H, B = (int)shape->B, k = tensor_k(p->precision);
    int ms = p->backward ? (H + 15) / 16 : (H + 3) / 4,
        terms = ((p->backward ? 4 * H : H) + k - 1) / k;
    memset(made, 0, sizeof made);
    int ranges = (int)plan_ranges(p, B), grid = p->replicas * p->blocks,
        warps = p->groups * p->slices;
    for (int at = 0; at < ranges * grid * warps; at++) {
        int warp = at % warps, block = at / warps % p->blocks, replica = at / warps / p->blocks;
        int rank = p->backward ? block % p->cluster : 0, slice = warp / p->groups,
            group = warp % p->groups;
        int owned = p->backward ? p->cluster * p->units / 16 : p->units / 4;
        int first = p->backward ? (block - rank) * p->units / 16 : block * p->units / 4;
        for (int j = 0; j < p->quads * p->depth; j++) {
            int mine = group * p->quads + j / p->depth, m = first + mine;
            int term = (rank * p->slices + slice) * p->depth + j % p->depth;
            if (mine >= owned || m >= ms || term >= terms) continue;
            for (int b = 0; b < p->rows && replica * p->rows + b < B; b++)
                made[replica * p->rows + b][m][term]++;
        }
    }
    for (int row = 0; row < B; row++)
        for (int m = 0; m < ms; m++)
            for (int term = 0; term < terms; term++)
                if (made[row][m][term] != 1)
                    fail_msg("row %d, m tile %d, contraction tile %d: made %d times", row, m, term,
                             made[row][m][term]);
}

static void tile_plans_are_whole(const LstmFootprint *mma)
{
    static const char *const forces[] = {"",
                                         "blocks=3,cluster=1",
                                         "blocks=8,slices=1",
                                         "cluster=4",
                                         "replicas=2,cluster=2",
                                         "threads=64",
                                         "shared=16000",
                                         "batch=8"};
    static const int64_t Hs[] = {1, 7, 23, 64, 200, 650, 1500, 4000}, Bs[] = {1, 3, 20, 200};
    static const char *const devices[] = {"A100", "H200"};
    int plans = 0, cases = 0;
    for (int n = 0; n < 2 * 8 * 8 * 4 * 2 * 2; n++) {
        const DeviceFacts *d = device_profile(devices[n & 1]);
        int backward = n >> 1 & 1, forced = n / 8 % 8;
        LstmShape shape = {35, Bs[n / 64 % 4], Hs[n / 256],
                           n & 4 ? PRECISION_BF16 : PRECISION_TF32};
        CostConstants c = constants_of(devices[n & 1]);
        PlanOverride o;
        LstmPlan p;
        Error e;
        if (forced && shape.H > 200) continue;
        cases++;
        assert_int_equal(plan_override_parse(forces[forced], &o, &e), 0);
        int code = lstm_plan(d, &shape, mma, backward, &o, &c, &p, &e);
        if (code) {
            assert_int_equal(code, EXIT_NO_DEVICE);
            assert_non_null(strstr(e.text, mma->name));
            assert_non_null(strstr(e.text, forces[forced]));
            continue;
        }
        plans++;
        assert_mma_whole(&p, &shape, mma, d);
        if (shape.H <= 64 && shape.B <= 20) assert_mma_covers(&p, &shape);
        if (plan_check(&p, d, &shape, mma, &e)) fail_msg("%s", e.text);
        CostTime t = plan_predict(&c, d, &shape, &p);
        CostBytes y = plan_bytes(d, &shape, &p);
        double sum = t.hop + t.ingest + t.multiply + t.sums + t.cell + t.syncs;
        assert_true(t.step > 0 && t.launch > 0 && sum < t.step * 1.000001 &&
                    sum > t.step * 0.999999);
        assert_true(y.kept_registers + y.kept_shared < 1.000001);
        assert_true((y.streamed == 0) == (y.kept_registers + y.kept_shared > 0.999999));
        /* A difference in any field is detected. */
        char text[PLAN_TEXT], changed[PLAN_TEXT];
        plan_text(&p, text, sizeof text);
        for (const char *at = strchr(text, '='); at && n % 7 == 0; at = strchr(at + 1, '=')) {
            LstmPlan q;
            snprintf(changed, sizeof changed, "%.*s%d%s", (int)(at + 1 - text), text, 77777,
                     strchrnul(at, ','));
            assert_int_equal(plan_parse(changed, &q, &e), 0);
            assert_int_equal(plan_check(&q, d, &shape, mma, &e), EXIT_NO_DEVICE);
        }
    }
    assert_true(plans > cases * 3 / 4);
}

static void mma_plans_are_whole(void **state)
{
    (void)state;
    for (int i = 0; lstm_footprints[i]; i++)
        if (lstm_footprints[i]->reads_tiles && lstm_footprints[i]->grid_barrier)
            tile_plans_are_whole(lstm_footprints[i]);
}

/* Checks the plans that the project promises on an H200: they keep the weights on the chip and have
 * the stated number of replicas. */
static void an_h200_holds_each_model_on_tensor_cores(void **state)
{
    (void)state;
    static const int64_t Hs[] = {200, 650, 1500};
    CostConstants c = constants_of("H200");
    for (int n = 0; n < 3 * 2 * 2; n++) {
        int backward = n & 1;
        LstmShape shape = {35, 20, Hs[n / 4], n & 2 ? PRECISION_BF16 : PRECISION_TF32};
        LstmPlan p;
        Error e;
        if (lstm_plan(device_profile("H200"), &shape, variant("mma"), backward, NULL, &c, &p, &e))
            fail_msg("%s", e.text);
        if (shape.precision == PRECISION_BF16 || shape.H < 1500) assert_int_equal(p.streamed, 0);
        if (shape.H == 1500 && shape.precision == PRECISION_BF16 && !backward)
            assert_true(p.units == 12 && p.blocks == 125 && p.replicas == 1 && p.shared == 0);
        if (shape.H == 650 && shape.precision == PRECISION_BF16 && !backward)
            assert_int_equal(p.replicas, 3);
        if (shape.H == 200) assert_true(p.replicas > 1 && p.cluster <= 2);
        assert_int_equal(p.exchange, EXCHANGE_WORDS);
    }
}

static void tensor_cores_begin_with_sm_80(void **state)
{
    (void)state;
    static const char *const devices[] = {"K20", "V100", "A100"};
    for (int i = 0; i < 3; i++) {
        const DeviceFacts *d = device_profile(devices[i]);
        CostConstants c = constants_of(devices[i]);
        LstmShape shape = {35, 20, 200, PRECISION_BF16};
        PlanChoice choice;
        int older = 0;
        for (int v = 0; lstm_footprints[v]; v++) {
            const LstmFootprint *f = lstm_footprints[v];
            char phrase[32];
            LstmPlan p;
            Error e;
            if (f->min_sm <= 10 * d->major + d->minor) continue;
            older++;
            snprintf(phrase, sizeof phrase, "need sm_%d", f->min_sm);
            assert_int_equal(lstm_plan(d, &shape, f, 0, NULL, &c, &p, &e), EXIT_NO_DEVICE);
            if (!strstr(e.text, phrase)) fail_msg("'%s' is not in '%s'", phrase, e.text);
            /* The reason is not the precision, the size or the override. */
            shape.precision = PRECISION_F32;
            PlanOverride force = {.blocks = 4};
            assert_int_equal(lstm_plan(d, &shape, f, 1, &force, &c, &p, &e), EXIT_NO_DEVICE);
            if (!strstr(e.text, phrase)) fail_msg("'%s' is not in '%s'", phrase, e.text);
            assert_null(strstr(e.text, "--precision"));
            assert_null(strstr(e.text, "--hidden"));
            assert_null(strstr(e.text, "override"));
            shape.precision = PRECISION_BF16;
        }
        assert_true(older >= 1 + (d->major < 8));
        plan_choose(d, &shape, NULL, &c, NULL, &choice);
        assert_true(lstm_footprints[choice.pass[0].variant]->min_sm <= 10 * d->major + d->minor);
    }
    CostConstants c = constants_of("H200");
    LstmShape shape = {35, 20, 650, PRECISION_F32};
    PlanChoice choice;
    for (int v = 0; lstm_footprints[v]; v++) {
        const LstmFootprint *f = lstm_footprints[v];
        char phrase[64];
        LstmPlan p;
        Error e;
        if (f->precisions >> PRECISION_F32 & 1) continue;
        snprintf(phrase, sizeof phrase, "%s has no f32", f->name);
        assert_int_equal(lstm_plan(device_profile("H200"), &shape, f, 0, NULL, &c, &p, &e),
                         EXIT_NO_DEVICE);
        if (!strstr(e.text, phrase)) fail_msg("'%s' is not in '%s'", phrase, e.text);
    }
    plan_choose(device_profile("H200"), &shape, NULL, &c, NULL, &choice);
    assert_true(lstm_footprints[choice.pass[0].variant]->precisions >> PRECISION_F32 & 1);
}

/* ---- what an override forces ---- */

static void overrides_force_every_path(void **state)
{
    (void)state;
    LstmPlan p = planned("H200", "l2", 0, 64, 20, "blocks=4");
    assert_true(p.streamed == p.depth && p.shared == 0 && p.blocks == 4 && p.units == 16);
    p = planned("H200", "smem", 0, 64, 3, "");
    assert_true(p.shared == p.depth && p.streamed == 0);
    p = planned("H200", "reg", 0, 64, 3, "slices=1,registers=32,blocks=4,shared=6000");
    assert_true(p.slices == 1 && p.resident == 8 && p.shared > 0 && p.streamed > 0);
    p = planned("H200", "reg", 0, 23, 3, "blocks=4");
    assert_true(p.units == 6 && p.blocks == 4); /* the last block has five */
    p = planned("H200", "reg", 0, 64, 20, "replicas=1,batch=4,groups=2");
    assert_true(p.passes == 3 && p.groups == 2);
    p = planned("H200", "reg", 0, 64, 20, "replicas=6,groups=1,batch=4");
    /* Six replicas of four rows would leave one without rows. */
    assert_true(p.replicas == 5 && p.rows == 4);
    p = planned("H200", "reg", 1, 64, 20, "blocks=4,threads=32,slices=4,groups=1");
    assert_true(p.rounds == 2 && p.slices == 4 && p.quads == 8);
    p = planned("H200", "reg", 1, 64, 3, "slices=1,tile=1,blocks=4,shared=9000,replicas=1");
    assert_true(p.resident == 2 && p.depth == 16 && p.shared > 0 && p.streamed > 0);
    p = planned("H200", "smem", 1, 64, 20, "replicas=1,batch=4,groups=1");
    assert_true(p.passes == 5 && p.streamed == 0);
    p = planned("H200", "l2", 1, 7, 1, "blocks=7");
    assert_true(p.units == 1 && p.depth == 1);
    /* Blocks, slices and replicas without work are left out, however many the override names. */
    p = planned("H200", "l2", 0, 7, 1, "blocks=100,slices=100");
    assert_true(p.blocks == 7 && p.slices == 7);
    p = planned("H200", "l2", 0, 7, 2, "replicas=99999,slices=99999");
    assert_true(p.replicas == 2 && p.slices == 7);
    p = planned("H200", "l2", 0, 7, 1, "slices=5");
    assert_true(p.depth == 2 && p.slices == 4);
}

/* The bytes of partial sums are those that the kernel moves, each written and read: the sums of
 * every slice, or, where warps add up their own slices, those of every warp. */
static void sums_are_those_of_the_kernel(void **state)
{
    (void)state;
    static const char *const devices[] = {"K20", "V100", "H200"};
    LstmShape shape = {20, 20, 200, PRECISION_F32};
    LstmPlan p = planned("H200", "reg", 0, 200, 20, "");
    assert_true(plan_warp_sums(&p) > 0);
    assert_true(plan_bytes(device_profile("H200"), &shape, &p).summed == 896000);
    for (int i = 0; i < 3; i++) {
        const DeviceFacts *d = device_profile(devices[i]);
        double items = (double)p.replicas * p.blocks * p.passes * p.units * p.groups * p.batch;
        double sums = d->major >= 7 ? plan_warp_sums(&p) : p.slices;
        assert_true(plan_bytes(d, &shape, &p).summed == 2 * 16 * items * sums);
        assert_true((plan_bytes(d, &shape, &p).summed == 3200000) == (d->major < 7));
    }
    /* In this plan the warps do not add up their slices, although the device's kernels can. */
    p = planned("H200", "reg", 0, 200, 20, "replicas=1,batch=4,groups=2");
    assert_int_equal(plan_warp_sums(&p), 0);
    assert_true(plan_bytes(device_profile("H200"), &shape, &p).summed ==
                2.0 * 16 * p.blocks * p.passes * p.units * p.groups * p.batch * p.slices);
}

/* ---- the plans that the project promises ---- */

static void a_k20_holds_the_small_model_in_registers(void **state)
{
    (void)state;
    LstmShape shape = {20, 20, 200, PRECISION_F32};
    for (int backward = 0; backward < 2; backward++) {
        /* Checks the planner's own plan and one on all thirteen SMs. */
        const char *const forces[] = {"", backward ? "replicas=1,blocks=13,tile=3"
                                                   : "replicas=1,blocks=13"};
        for (int i = 0; i < 2; i++) {
            LstmPlan p = planned("K20", "reg", backward, 200, 20, forces[i]);
            CostBytes y = plan_bytes(device_profile("K20"), &shape, &p);
            assert_true(y.kept_registers == 1 && y.streamed == 0 && p.shared == 0);
            assert_true(p.threads <= 384 && p.shared_bytes <= 48 << 10 &&
                        p.replicas * p.blocks >= 10);
            if (i || !backward) assert_true(p.replicas == 1 && p.blocks == 13 && p.units == 16);
        }
    }
}

static void an_h200_splits_the_batch_of_the_medium_model(void **state)
{
    (void)state;
    for (int backward = 0; backward < 2; backward++) {
        LstmPlan p = planned("H200", "reg", backward, 650, 20, "");
        assert_true(p.replicas >= 2 && p.streamed == 0);
    }
    LstmPlan p = planned("H200", "reg", 0, 1500, 20, "");
    assert_true(p.blocks * p.replicas >= 120);
}

/* ---- what does not fit ---- */

static void assert_refused(const char *device, const char *name, int backward, int64_t H, int64_t B,
                           const char *force, const char *phrase)
{
    CostConstants c = constants_of(device);
    LstmShape shape = {35, B, H, PRECISION_F32};
    LstmPlan p, untouched;
    PlanOverride o;
    Error e;
    memset(&p, 0x5a, sizeof p);
    untouched = p;
    assert_int_equal(plan_override_parse(force, &o, &e), 0);
    assert_int_equal(
        lstm_plan(device_profile(device), &shape, variant(name), backward, &o, &c, &p, &e),
        EXIT_NO_DEVICE);
    assert_memory_equal(&p, &untouched, sizeof p);
    if (!strstr(e.text, phrase)) fail_msg("'%s' is not in '%s'", phrase, e.text);
    assert_null(strchr(e.text, '\n'));
}

static void the_first_that_does_not_fit_is_a_sentence(void **state)
{
    (void)state;
    /* The shared memory of this layout without weights is known: exactly that size fits, and one
     * byte less does not. */
    static const char fixed[] = "tile=1,replicas=1,blocks=4,slices=2,groups=1";
    for (int backward = 0; backward < 2; backward++) {
        char force[128], phrase[128];
        LstmPlan p = planned("H200", "l2", backward, 64, 20, fixed);
        snprintf(force, sizeof force, "shared=%zu,%s", p.shared_bytes, fixed);
        p = planned("H200", "smem", backward, 64, 20, force);
        assert_int_equal(p.shared, 0);
        snprintf(phrase, sizeof phrase,
                 "at least %zu bytes of shared memory per block; a block has %zu", p.shared_bytes,
                 p.shared_bytes - 1);
        snprintf(force, sizeof force, "shared=%zu,%s", p.shared_bytes - 1, fixed);
        assert_refused("H200", "smem", backward, 64, 20, force, phrase);
        assert_refused("H200", "smem", backward, 64, 20, force, "bytes of shared memory per block");
    }
    /* A batch whose state fits no block is divided into ranges of rows, unless the override names a
     * number of replicas. */
    LstmPlan ranged = planned("K20", "l2", 0, 650, 4000, "");
    assert_true(plan_ranges(&ranged, 4000) > 1);
    assert_refused("K20", "l2", 0, 650, 4000, "replicas=1", "bytes of shared memory per block");
    assert_refused("K20", "reg", 0, 200, 20, "blocks=14",
                   "it needs 14 co-resident blocks; the device holds 13");
    assert_refused("K20", "reg", 0, 200, 20, "replicas=14", "it needs 14 co-resident blocks");
    assert_refused("H200", "reg", 0, 200, 20, "batch=3", "compiled tiles matches the override");
    assert_refused("H200", "reg", 0, 200, 20, "tile=99", "compiled tiles matches the override");
    assert_refused("H200", "reg", 0, 64, 4, "blocks=1,threads=63",
                   "it needs at least 64 threads per block");
    assert_refused("H200", "reg", 0, 64, 4, "blocks=1,slices=64", "threads per block");
    for (int v = 0; lstm_footprints[v]; v++) {
        const char *name = lstm_footprints[v]->name;
        if (!in_vectors(lstm_footprints[v])) continue;
        for (int backward = 0; backward < 2; backward++) {
            assert_refused("H200", name, backward, 64, 4, "exchange=2",
                           "its exchange is 1 (flags), not 2");
            assert_refused("H200", name, backward, 64, 4, "cluster=16",
                           "its blocks form no clusters of 16");
        }
        planned("H200", name, 0, 64, 4, "cluster=1");
    }
    assert_refused("H200", "reg", 0, 64, 4, "groups=99", "no layout matches the override");
    assert_refused("H200", "reg", 0, 64, 4, "exchange=2", "; another override may have one");
    assert_refused("K20", "l2", 0, INT32_MAX / 4, 1, "",
                   "a smaller --hidden or --batch needs less");
    assert_refused("H200", "cublas", 0, 64, 4, "", "has no plan");
    assert_refused("H200", "l2", 0, INT64_C(1) << 40, 1, "", "32 bits");
    planned("K20", "reg", 0, 200, 20, "blocks=13");
    planned("H200", "reg", 0, 64, 4, "blocks=1,threads=64");
}

static void a_plan_from_elsewhere_is_checked(void **state)
{
    (void)state;
    LstmShape shape = {35, 20, 650, PRECISION_F32}, other = {35, 20, 651, PRECISION_F32};
    LstmPlan p = planned("H200", "reg", 0, 650, 20, ""), q;
    const LstmFootprint *reg = variant("reg");
    Error e;
    assert_int_equal(plan_check(&p, device_profile("B200"), &shape, reg, &e), 0);
    assert_int_equal(plan_check(&p, device_profile("K20"), &shape, reg, &e), EXIT_NO_DEVICE);
    assert_non_null(strstr(e.text, "K20 holds 13"));
    assert_int_equal(plan_check(&p, device_profile("H200"), &shape, variant("l2"), &e),
                     EXIT_NO_DEVICE);
    assert_int_equal(plan_check(&p, device_profile("H200"), &other, reg, &e), EXIT_NO_DEVICE);
    /* A difference in any field is detected. */
    char text[PLAN_TEXT], changed[PLAN_TEXT];
    plan_text(&p, text, sizeof text);
    int fields = 0;
    for (const char *at = strchr(text, '='); at; at = strchr(at + 1, '='), fields++) {
        size_t n = (size_t)(at + 1 - text);
        snprintf(changed, sizeof changed, "%.*s%d%s", (int)n, text, 77777, strchrnul(at, ','));
        assert_int_equal(plan_parse(changed, &q, &e), 0);
        assert_int_equal(plan_check(&q, device_profile("H200"), &shape, reg, &e), EXIT_NO_DEVICE);
    }
    assert_int_equal(fields, 25);
}

/* ---- the model ---- */

static const char *constants_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/plstm-constants-%d.json", (int)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    return path;
}

static CostConstants constants_read(const char *device, const char *text)
{
    CostConstants c;
    Error e;
    const char *path = constants_file(text);
    if (cost_constants(device_profile(device), path, &c, &e)) fail_msg("%s", e.text);
    remove(path);
    return c;
}

/* An exclusion for one pass does not affect the other; a variant excluded only with clusters is
 * still a candidate without them. */
static void the_choice_excludes(void **state)
{
    (void)state;
    const DeviceFacts *d = device_profile("H200");
    LstmShape shape = {20, 20, 1000, PRECISION_BF16};
    CostConstants c = constants_of("H200");
    PlanOverride force = {.cluster = 4};
    PlanExclusion without = {{0}, {0}};
    PlanChoice all, some;
    char text[2][PLAN_TEXT];
    plan_choose(d, &shape, NULL, &c, NULL, &all);
    int mma = all.pass[1].variant;
    assert_string_equal(lstm_footprints[mma]->name, "mma");
    assert_true(all.pass[1].plan.cluster > 1);
    assert_null(strstr(all.reason, "without clusters"));
    without.clusters[1] = UINT32_C(1) << mma;
    plan_choose(d, &shape, NULL, &c, &without, &some);
    assert_int_equal(some.pass[1].variant, mma);
    assert_int_equal(some.pass[1].plan.cluster, 1);
    assert_true(some.pass[1].us > all.pass[1].us);
    assert_int_equal(some.pass[0].variant, all.pass[0].variant);
    plan_text(&some.pass[0].plan, text[0], PLAN_TEXT);
    plan_text(&all.pass[0].plan, text[1], PLAN_TEXT);
    assert_string_equal(text[0], text[1]);
    assert_non_null(strstr(some.reason, "mma backward without clusters"));
    plan_choose(d, &shape, &force, &c, &without, &some); /* mma has no plan left */
    assert_int_not_equal(some.pass[1].variant, mma);
    without.variant[1] = UINT32_C(1) << mma;
    plan_choose(d, &shape, NULL, &c, &without, &some);
    assert_int_not_equal(some.pass[1].variant, mma);
    assert_int_equal(some.pass[0].variant, all.pass[0].variant);
    /* In a variant whose replicas are clusters, forcing blocks forces clusters. */
    int cluster = plan_kernel_find("cluster", 7);
    PlanOverride blocks = {.blocks = 4};
    assert_true(plan_forces_clusters(&blocks, lstm_footprints[cluster]));
    assert_false(plan_forces_clusters(&blocks, lstm_footprints[mma]));
    shape.H = 64;
    plan_choose(d, &shape, &blocks, &c, NULL, &all);
    assert_int_equal(all.pass[0].variant, cluster);
    assert_int_equal(all.pass[0].plan.blocks, 4);
    without = (PlanExclusion){.clusters = {UINT32_C(1) << cluster, 0}};
    plan_choose(d, &shape, &blocks, &c, &without, &some);
    assert_int_not_equal(some.pass[0].variant, cluster);
    blocks.blocks = 0;
    plan_choose(d, &shape, &blocks, &c, &without, &some);
    assert_true(some.pass[0].variant != cluster || some.pass[0].plan.cluster == 1);
}

static void constants_change_the_choice(void **state)
{
    (void)state;
    const DeviceFacts *d = device_profile("H200");
    LstmShape shape = {35, 20, 650, PRECISION_F32};
    CostConstants usual = constants_of("H200");
    PlanChoice choice;
    plan_choose(d, &shape, NULL, &usual, NULL, &choice);
    const LstmFootprint *chosen = lstm_footprints[choice.pass[0].variant];
    char said[64];
    snprintf(said, sizeof said, "%s forward", chosen->name);
    /* The weights stay on the chip. */
    assert_true(chosen->tile[0] && choice.pass[0].plan.resident > 0);
    assert_non_null(strstr(choice.reason, said));
    assert_non_null(strstr(choice.reason, "(model)"));
    /* If launches cost nothing, no variant needs to be persistent. */
    CostConstants c = constants_read(
        "H200", "{\"devices\": {\"H200\": {\"launch\": {\"value\": 0.001, \"unit\": \"us\"},"
                "\"kernel\": {\"value\": 0.001, \"unit\": \"us\"}}}}");
    assert_true(c.launch == 0.001 && c.hop == usual.hop);
    plan_choose(d, &shape, NULL, &c, NULL, &choice);
    assert_null(lstm_footprints[choice.pass[0].variant]->tile[0]);
    /* If a block's reads from L2 are expensive, there are more replicas, each with fewer rows of
     * h. */
    c = constants_read(
        "H200",
        "{\"devices\": {\"H200\": {\"l2_rate_sm\": {\"value\": 2, \"unit\": \"B/clk/SM\"}}}}");
    LstmPlan before, after;
    Error e;
    assert_int_equal(lstm_plan(d, &shape, variant("reg"), 0, NULL, &usual, &before, &e), 0);
    assert_int_equal(lstm_plan(d, &shape, variant("reg"), 0, NULL, &c, &after, &e), 0);
    assert_true(after.replicas > before.replicas);
    /* With a hop of 1 ms, the predicted step is longer than that. */
    c = usual;
    c.hop = 1000;
    assert_int_equal(lstm_plan(d, &shape, variant("reg"), 0, NULL, &c, &after, &e), 0);
    assert_true(plan_predict(&c, d, &shape, &after).step > 1000);
}

static void measured_constants_beat_the_literature(void **state)
{
    (void)state;
    static const char measured[] =
        "{\"gpu\": \"NVIDIA H200\", \"constants\": {"
        "\"flag_hop\": {\"value\": 0.5, \"unit\": \"us\"},"
        "\"graph_node_gap\": {\"value\": 1.5, \"unit\": \"us\"},"
        "\"copy\": {\"value\": 4e12, \"unit\": \"B/s\"},"
        "\"fma_f32\": {\"value\": 5.35265e13, \"unit\": \"FLOP/s\"},"
        "\"sync\": {\"value\": 30, \"unit\": \"clk\"}," /* used: the model's name and unit */
        "\"cell\": {\"value\": 5, \"unit\": \"us\"},"   /* not used: another unit */
        "\"mma_rate\": {\"value\": 1024, \"unit\": \"1/clk/SM\"},"
        "\"mma_latency\": {\"value\": 33, \"unit\": \"clk\"},"
        "\"dsmem_rate\": {\"value\": 20, \"unit\": \"B/clk/SM\"},"
        "\"cluster_barrier_8\": {\"value\": 0.3, \"unit\": \"us\"},"
        "\"gemm_f32\": {\"error\": \"none\"}}}";
    CostConstants h200 = constants_read("H200", measured), h100 = constants_read("H100", measured);
    CostConstants usual = constants_of("H100");
    assert_true(h200.mma == 8 && h200.mma_latency == 33 && h200.cluster_rate == 20 &&
                h200.cluster_sync == 0.3);
    assert_true(h200.measured == 9 && h200.sync == 30 && h200.cell == constants_of("H200").cell);
    assert_true(h200.hop == 0.5 && h200.launch == 1.5 && h200.dram_rate == 4e12);
    assert_true(h200.fma_share > 0.799 && h200.fma_share < 0.801); /* share of 66.9 TFLOP/s */
    assert_true(h100.measured == 0 && h100.hop == usual.hop);
    /* A device without a profile uses the constants of the newest profile that is not newer than
     * itself. */
    DeviceFacts other = *device_profile("A100");
    snprintf(other.name, sizeof other.name, "NVIDIA RTX 5000");
    other.major = 8, other.minor = 9;
    assert_string_equal(device_like(&other), "A100");
    snprintf(other.name, sizeof other.name, "emulated NVIDIA H200");
    assert_string_equal(device_like(&other), "H200");
    other.major = 3, other.minor = 0, other.name[0] = 0;
    assert_string_equal(device_like(&other), "K20");
}

static void bad_constants_are_one_sentence(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{",
        "3",
        "{}",
        "{\"devices\": 3}",
        "{\"devices\": {\"H200\": {\"hop\": 3}}}",
        "{\"devices\": {\"H200\": {\"hop\": {\"value\": 3, \"unit\": \"clk\"}}}}",
        "{\"devices\": {\"H200\": {\"hop\": {\"value\": 0, \"unit\": \"us\"}}}}",
        "{\"devices\": {\"H200\": {\"hop\": {\"value\": \"1\", \"unit\": \"us\"}}}}"};
    CostConstants c;
    Error e;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *path = constants_file(bad[i]);
        assert_int_equal(cost_constants(device_profile("H200"), path, &c, &e), EXIT_BAD_DATA);
        assert_non_null(strstr(e.text, path));
        remove(path);
    }
    assert_int_equal(cost_constants(device_profile("H200"), "no-such-file", &c, &e), EXIT_BAD_DATA);
    assert_non_null(strstr(e.text, "no-such-file"));
    for (int i = 0; device_profile_name(i); i++) constants_of(device_profile_name(i));
}

static void kernels_are_read(void **state)
{
    (void)state;
    int pick[2];
    Error e;
    assert_int_equal(plan_kernels_parse("auto", pick, &e), 0);
    assert_true(pick[0] == -1 && pick[1] == -1);
    assert_int_equal(plan_kernels_parse("reg/l2", pick, &e), 0);
    assert_string_equal(lstm_footprints[pick[0]]->name, "reg");
    assert_string_equal(lstm_footprints[pick[1]]->name, "l2");
    static const char *const bad[] = {"",     "re",        "regs",     "reg/",
                                      "/reg", "reg/l2/l2", "auto/reg", "REG"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(plan_kernels_parse(bad[i], pick, &e), EXIT_USAGE);
        assert_non_null(strstr(e.text, "cublas, l2, smem, reg"));
    }
}

static void the_environment_can_override(void **state)
{
    (void)state;
    PlanOverride o;
    Error e;
    unsetenv("PLSTM_PLAN");
    assert_int_equal(plan_override_env(&o, &e), 0);
    assert_int_equal(o.blocks, 0);
    setenv("PLSTM_PLAN", "blocks=5", 1);
    assert_int_equal(plan_override_env(&o, &e), 0);
    assert_int_equal(o.blocks, 5);
    setenv("PLSTM_PLAN", "blocks", 1);
    assert_int_equal(plan_override_env(&o, &e), EXIT_USAGE);
    assert_non_null(strstr(e.text, "PLSTM_PLAN"));
    unsetenv("PLSTM_PLAN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overrides_are_read),
        cmocka_unit_test(plans_come_back_from_their_text),
        cmocka_unit_test(every_plan_is_whole),
        cmocka_unit_test(l2_and_smem_take_any_shape),
        cmocka_unit_test(overrides_give_whole_plans_too),
        cmocka_unit_test(mma_plans_are_whole),
        cmocka_unit_test(an_h200_holds_each_model_on_tensor_cores),
        cmocka_unit_test(tensor_cores_begin_with_sm_80),
        cmocka_unit_test(overrides_force_every_path),
        cmocka_unit_test(sums_are_those_of_the_kernel),
        cmocka_unit_test(a_k20_holds_the_small_model_in_registers),
        cmocka_unit_test(an_h200_splits_the_batch_of_the_medium_model),
        cmocka_unit_test(the_first_that_does_not_fit_is_a_sentence),
        cmocka_unit_test(a_plan_from_elsewhere_is_checked),
        cmocka_unit_test(the_choice_excludes),
        cmocka_unit_test(constants_change_the_choice),
        cmocka_unit_test(measured_constants_beat_the_literature),
        cmocka_unit_test(bad_constants_are_one_sentence),
        cmocka_unit_test(kernels_are_read),
        cmocka_unit_test(the_environment_can_override),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
