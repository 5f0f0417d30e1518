#include "residency.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "precision.h"
#include "residency_kinds.h"

enum { REGISTER_UNIT = 8, MOST_REGISTERS = 255, FAULT_BLOCKS = 8 * 32 };

static const PlanOverride free_of_all;

static const char *pass_name(int backward) { return backward ? "backward" : "forward"; }

static const ResidencyKind *kind_of(int32_t kind)
{
    return kind == KIND_MMA       ? &residency_mma
           : kind == KIND_CLUSTER ? &residency_cluster
                                  : &residency_vector;
}

/* ---- limits ---- */

static int64_t shared_limit(const DeviceFacts *d, const PlanOverride *force)
{
    int64_t most = plan_least((int64_t)d->shared_per_block_most,
                              (int64_t)d->shared_per_sm - (int64_t)d->shared_reserved);
    return force->shared ? plan_least(most, force->shared) : most;
}

static bool registers_fit(const DeviceFacts *d, const LstmTile *tile, int32_t threads)
{
    return tile->registers <= MOST_REGISTERS &&
           plan_round_up(tile->registers, REGISTER_UNIT) * plan_round_up(threads, WARP) <=
               d->registers_per_sm;
}

int64_t plan_blocks_limit(const DeviceFacts *d, int64_t cluster)
{
    return plan_least(device_clusters(d, (int)cluster) * cluster, FAULT_BLOCKS / cluster * cluster);
}

/* Moves `steps` of the streamed steps of contraction to shared memory and computes the bytes. */
static void keep(const ResidencyKind *kind, LstmPlan *p, int64_t steps)
{
    int32_t rest = p->shared + p->streamed;
    p->shared = (int32_t)steps;
    p->streamed = rest - p->shared;
    kind->sizes(p);
}

/* ---- the search ---- */

void plan_lacks_blocks(PlanSearch *s, int64_t blocks, int64_t of, int64_t cluster)
{
    PlanShortage *lack = &s->shortage;
    if (lack->blocks && lack->blocks <= blocks) return;
    lack->blocks = blocks, lack->of_blocks = of, lack->cluster = (int32_t)cluster;
}

void plan_lacks_threads(PlanSearch *s, int64_t threads, int64_t of)
{
    PlanShortage *lack = &s->shortage;
    if (lack->threads && threads - of >= lack->threads - lack->most_threads) return;
    lack->threads = threads, lack->most_threads = of;
}

/* Layouts whose predicted times differ by less than this factor count as equal: then the one that
 * keeps more in registers wins, then the one that keeps more in shared memory, then the faster one.
 * The search makes two rounds, the first of which finds the lowest time. If the kind streams
 * nothing, the time alone decides. */
static const double EQUAL = 1.10;

void plan_consider(PlanSearch *s, const PlanLayout *at)
{
    const PlanRequest *r = &s->r;
    LstmPlan p = s->kind->plan_of(at, r->shape, r->backward);
    int32_t rest = p.streamed;
    keep(s->kind, &p, s->kind->streams ? 0 : rest);
    if (s->kind->largest_index(&p) >= INT32_MAX) {
        s->shortage.index = true;
        return;
    }
    if ((int64_t)p.shared_bytes > s->shared) {
        plan_lacks(&s->shortage.shared, (int64_t)p.shared_bytes);
        return;
    }
    if (s->kind->streams && r->footprint->shared_weights)
        keep(s->kind, &p,
             plan_least(rest, (s->shared - (int64_t)p.shared_bytes) / s->kind->step_bytes(&p)));
    CostTime time = s->kind->predict(r->constants, r->device, r->shape, &p);
    double us = cost_time_us(&time, r->shape), kept = 0;
    if (!s->settling) {
        s->fastest = s->found && s->fastest < us ? s->fastest : us;
        s->found = true;
        return;
    }
    if (s->kind->streams) {
        CostBytes bytes = s->kind->bytes(r->device, r->shape, &p);
        kept = 2 * bytes.kept_registers + bytes.kept_shared;
    }
    if (us > s->fastest * EQUAL || kept < s->best_kept ||
        (kept == s->best_kept && us >= s->best_us))
        return;
    s->best = p, s->best_us = us, s->best_kept = kept;
}

void plan_consider_rows(PlanSearch *s, PlanLayout *at,
                        void (*units)(PlanSearch *s, PlanLayout *at, int64_t replicas))
{
    int64_t B = s->r.shape->B, limit = plan_blocks_limit(s->r.device, at->cluster);
    int64_t from = 1, to = plan_least(B, limit);
    if (s->r.force->replicas) from = to = plan_least(s->r.force->replicas, B);
    if (to < 1 || to > limit) {
        plan_lacks_blocks(s, plan_max(to, 1) * at->cluster, limit, at->cluster);
        return;
    }
    for (int64_t n = from; n <= to;) {
        at->rows = plan_div_up(B, n);
        units(s, at, plan_div_up(B, at->rows));
        if (at->rows == 1) break;
        /* the next smaller number of rows per replica; n grows by at least an eighth */
        n = plan_max(plan_div_up(B, at->rows - 1), n + n / 8);
    }
}

/* Returns the registers per thread that hold weights. */
static int32_t weight_registers(const LstmTile *tile, int backward)
{
    return (tile->stacked ? 4 * tile->stacked : backward ? 16 : 4) * tile->resident;
}

static void consider_tiles(PlanSearch *s)
{
    const PlanRequest *r = &s->r;
    const PlanOverride *force = r->force;
    for (int i = 0; i < r->footprint->tiles[r->backward]; i++) {
        const LstmTile *tile = &r->footprint->tile[r->backward][i];
        if (tile->precision != r->precision || (force->tile && force->tile != i + 1) ||
            (force->batch && force->batch != tile->batch) ||
            (force->registers && weight_registers(tile, r->backward) > force->registers))
            continue;
        s->shortage.tiles = true;
        PlanLayout at = {.tile = tile, .index = i, .threads = tile->threads};
        if (force->threads)
            at.threads = (int32_t)plan_least(at.threads, force->threads / WARP * WARP);
        if (!registers_fit(r->device, tile, at.threads)) continue;
        s->shortage.registers = true;
        s->kind->candidates(s, &at);
    }
}

/* ---- the sentence of a refusal ---- */

/* Writes "reg forward with H 650 and B 20 has no plan on NAME with OVERRIDE: WHAT; REMEDY". With an
 * override, the remedy is another override. */
static int refuse(const PlanRequest *r, const char *what, const char *remedy, Error *e)
{
    char forced[PLAN_OVERRIDE_TEXT + 8] = "", text[PLAN_OVERRIDE_TEXT];
    plan_override_text(r->force, text, sizeof text);
    if (text[0]) snprintf(forced, sizeof forced, " with %s", text);
    return error_set(
        e, EXIT_NO_DEVICE, "%s %s with H %" PRId64 " and B %" PRId64 " has no plan on %s%s: %s; %s",
        r->footprint->name, pass_name(r->backward), r->shape->H, r->shape->B, r->device->name,
        forced, what, forced[0] ? "another override may have one" : remedy);
}

/* Refuses a device on which the variant cannot run at any shape, precision or override. */
static int refuse_device(const PlanRequest *r, const char *what, Error *e)
{
    return error_set(e, EXIT_NO_DEVICE,
                     "%s %s has no plan on %s: %s; --kernel reg or cublas runs on it",
                     r->footprint->name, pass_name(r->backward), r->device->name, what);
}

static int refuse_shortage(const PlanRequest *r, const ResidencyKind *kind,
                           const PlanShortage *lack, int64_t limit, Error *e)
{
    static const char smaller[] =
        "a smaller --hidden or --batch needs less, and --kernel cublas runs any size";
    char what[256];
    if (!lack->tiles)
        snprintf(what, sizeof what, "none of the %d compiled tiles matches the override",
                 r->footprint->tiles[r->backward]);
    else if (!lack->registers)
        snprintf(what, sizeof what, "none of the compiled tiles fits the %d registers of an SM",
                 r->device->registers_per_sm);
    else if (lack->shared)
        snprintf(what, sizeof what,
                 "%s at least %" PRId64 " bytes of shared memory per block; a block has %" PRId64,
                 kind->streams ? "it needs" : "the weights of one cluster need", lack->shared,
                 limit);
    else if (lack->index)
        snprintf(what, sizeof what,
                 "a block's elements, or what a replica exchanges in a pass, number 2^31 or more");
    else if (lack->threads)
        snprintf(what, sizeof what,
                 "it needs at least %" PRId64 " threads per block; a block has at most %" PRId64,
                 lack->threads, lack->most_threads);
    else if (lack->cluster > 1)
        snprintf(what, sizeof what,
                 "it needs %" PRId64 " co-resident clusters of %d blocks; the device holds "
                 "%" PRId64,
                 lack->blocks / lack->cluster, lack->cluster, lack->of_blocks / lack->cluster);
    else if (!lack->blocks) snprintf(what, sizeof what, "no layout matches the override");
    else
        snprintf(what, sizeof what,
                 "it needs %" PRId64 " co-resident blocks; the device holds %" PRId64, lack->blocks,
                 lack->of_blocks);
    return refuse(r, what, lack->registers ? smaller : "--kernel cublas runs on it", e);
}

/* Refuses a footprint that has neither the requested precision nor float32. */
static int refuse_precision(const LstmFootprint *footprint, int precision, Error *e)
{
    char has[32] = "";
    for (int i = 0; i < PRECISIONS; i++)
        if (footprint->precisions >> i & 1)
            snprintf(has + strlen(has), sizeof has - strlen(has), "%s%s", has[0] ? " and " : "",
                     precision_name((LstmPrecision)i));
    return error_set(e, EXIT_NO_DEVICE,
                     "%s has no %s: its products run on tensor cores, in %s; choose one with "
                     "--precision, or --kernel reg, which has float32",
                     footprint->name, precision_name((LstmPrecision)precision), has);
}

int lstm_plan(const DeviceFacts *device, const LstmShape *shape, const LstmFootprint *footprint,
              int backward, const PlanOverride *force, const CostConstants *constants,
              LstmPlan *plan, Error *e)
{
    char what[128];
    PlanRequest r = {.device = device,
                     .shape = shape,
                     .footprint = footprint,
                     .precision = lstm_precision(footprint, shape->precision),
                     .backward = backward,
                     .force = force ? force : &free_of_all,
                     .constants = constants};
    PlanSearch s = {
        .kind = kind_of((int32_t)footprint->kind), .r = r, .shared = shared_limit(device, r.force)};
    if (!footprint->tile[backward])
        return error_set(e, EXIT_NO_DEVICE, "%s launches kernels at every step and has no plan",
                         footprint->name);
    if (shape->H > INT32_MAX / 4 || shape->B > INT32_MAX / 4)
        return error_set(e, EXIT_NO_DEVICE,
                         "%s counts units and batch rows in 32 bits: H %" PRId64 " and B %" PRId64
                         " are too large; --kernel cublas runs them",
                         footprint->name, shape->H, shape->B);
    if (s.kind->lacking && s.kind->lacking(device, NULL, &free_of_all, backward, what, sizeof what))
        return refuse_device(&r, what, e);
    if (r.precision < 0) return refuse_precision(footprint, (int)shape->precision, e);
    if (s.kind->lacking && s.kind->lacking(device, shape, r.force, backward, what, sizeof what))
        return refuse(&r, what, "--kernel cublas runs on it", e);
    consider_tiles(&s);
    /* If the batch does not fit, it is run in ranges of rows, one launch each: the largest that
     * fit, found by halving. The first shortage is the one that is reported. */
    PlanShortage first = s.shortage;
    LstmShape range = *shape;
    for (s.r.shape = &range; !s.found && range.B > 1 && !r.force->replicas;) {
        range.B = plan_div_up(range.B, 2);
        consider_tiles(&s);
    }
    if (!s.found) return refuse_shortage(&r, s.kind, &first, s.shared, e);
    s.settling = true, s.best_us = INFINITY, s.best_kept = -1;
    consider_tiles(&s);
    *plan = s.best;
    return EXIT_DONE;
}

/* ---- text ---- */

void plan_text(const LstmPlan *p, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
#define F(field, type)                                                                             \
    if (n < size)                                                                                  \
        n += (size_t)snprintf(out + n, size - n, "%s%s=%" PRId64, n ? "," : "", #field,            \
                              (int64_t)p->field);
    PLAN_FIELDS(F)
#undef F
}

int plan_parse(const char *text, LstmPlan *plan, Error *e)
{
    enum {
#define F(field, type) FIELD_##field,
        PLAN_FIELDS(F)
#undef F
            FIELDS
    };
    LstmPlan made = {0};
    uint32_t seen = 0;
    for (const char *at = text; *at;) {
        char name[32];
        int64_t value;
        uint32_t bit = 0;
        if (plan_pair_next(&at, name, &value)) {
#define F(field, type)                                                                             \
    if (!strcmp(name, #field) && (sizeof(type) > 4 || value <= INT32_MAX))                         \
        made.field = (type)value, bit = UINT32_C(1) << FIELD_##field;
            PLAN_FIELDS(F)
#undef F
        }
        if (!bit || seen & bit)
            return error_set(e, EXIT_BAD_DATA, "'%s' is not a plan: it is valid up to '%s'", text,
                             at);
        seen |= bit;
    }
    if (seen != (UINT32_C(1) << FIELDS) - 1)
        return error_set(e, EXIT_BAD_DATA, "'%s' is not a plan: it has %d of the %d numbers", text,
                         __builtin_popcount(seen), FIELDS);
    *plan = made;
    return EXIT_DONE;
}

/* ---- a plan from a checkpoint ---- */

/* Returns the name of the first field in which the plans differ, or NULL. */
static const char *plan_difference(const LstmPlan *a, const LstmPlan *b)
{
#define F(field, type)                                                                             \
    if (a->field != b->field) return #field;
    PLAN_FIELDS(F)
#undef F
    return NULL;
}

/* Returns the name of a field of plan that is outside the footprint's lists, or NULL. */
static const char *plan_outside(const LstmPlan *plan, const LstmFootprint *footprint)
{
    if (plan->kind != (int32_t)footprint->kind) return "kind";
    if ((unsigned)plan->backward > 1 || !footprint->tile[plan->backward]) return "backward";
    if (plan->tile < 0 || plan->tile >= footprint->tiles[plan->backward]) return "tile";
    return NULL;
}

/* Returns the name of a field of plan that does not follow from the plan's own layout, or NULL. */
static const char *plan_part(const LstmPlan *plan, const LstmShape *shape,
                             const LstmFootprint *footprint)
{
    const ResidencyKind *kind = kind_of(plan->kind);
    const LstmTile *tile = &footprint->tile[plan->backward][plan->tile];
    if (tile->precision != plan->precision) return "precision";
    if (plan->rows < 1 || plan->rows > shape->B) return "rows";
    if (plan->replicas < 1) return "replicas";
    PlanLayout at = {.tile = tile,
                     .index = plan->tile,
                     .rows = plan->rows,
                     .units = plan->units,
                     .replicas = plan->replicas,
                     .groups = plan->groups,
                     .slices = plan->slices,
                     .rounds = plan->rounds,
                     .cluster = plan->cluster,
                     .exchange = plan->exchange};
    const char *part = kind->fault(&at, shape, plan->backward);
    if (part) return part;
    LstmShape range = *shape;
    range.B = plan_least(shape->B, (int64_t)plan->rows * plan->replicas);
    LstmPlan p = kind->plan_of(&at, &range, plan->backward);
    if (p.threads > tile->threads) return "threads";
    if (plan->shared < 0 || plan->shared > p.streamed ||
        (plan->shared && !footprint->shared_weights) ||
        (!kind->streams && plan->shared != p.streamed))
        return "shared";
    keep(kind, &p, plan->shared);
    return plan_difference(&p, plan);
}

int plan_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
               const LstmFootprint *footprint, Error *e)
{
    char what[128];
    if (shape->H > INT32_MAX / 4 || shape->B > INT32_MAX / 4)
        return error_set(e, EXIT_NO_DEVICE,
                         "H %" PRId64 " and B %" PRId64 " are too large for a plan", shape->H,
                         shape->B);
    const char *part = plan_outside(plan, footprint);
    if (!part && plan->precision != lstm_precision(footprint, shape->precision)) part = "precision";
    if (!part) part = plan_part(plan, shape, footprint);
    if (part)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan is not one of %s for H %" PRId64 " and B %" PRId64
                         ": its %s is invalid",
                         footprint->name, shape->H, shape->B, part);
    const ResidencyKind *kind = kind_of(plan->kind);
    const LstmTile *tile = &footprint->tile[plan->backward][plan->tile];
    int64_t blocks = (int64_t)plan->replicas * plan->blocks,
            limit = plan_blocks_limit(device, plan->cluster);
    int64_t shared = shared_limit(device, &free_of_all);
    if (kind->lacking &&
        kind->lacking(device, NULL, &free_of_all, plan->backward, what, sizeof what))
        return error_set(e, EXIT_NO_DEVICE, "the plan cannot run on %s: %s", device->name, what);
    if (blocks > limit && plan->cluster > 1)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan needs %" PRId64
                         " co-resident blocks, in clusters of %d; %s holds "
                         "%" PRId64,
                         blocks, plan->cluster, device->name, limit);
    if (blocks > limit)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan needs %" PRId64 " co-resident blocks; %s holds %" PRId64, blocks,
                         device->name, limit);
    if (kind->largest_index(plan) >= INT32_MAX)
        return error_set(e, EXIT_NO_DEVICE, "the plan counts past 2^31 in a pass");
    if ((int64_t)plan->shared_bytes > shared)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan needs %zu bytes of shared memory per block; %s has %" PRId64,
                         plan->shared_bytes, device->name, shared);
    if (!registers_fit(device, tile, plan->threads))
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan needs %d registers per thread for %d threads; %s has %d per SM",
                         tile->registers, plan->threads, device->name, device->registers_per_sm);
    return EXIT_DONE;
}

/* ---- bytes and time ---- */

CostBytes plan_bytes(const DeviceFacts *device, const LstmShape *shape, const LstmPlan *p)
{
    return kind_of(p->kind)->bytes(device, shape, p);
}

CostTime plan_predict(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                      const LstmPlan *p)
{
    return kind_of(p->kind)->predict(c, device, shape, p);
}

/* ---- choosing variants ---- */

int plan_kernel_find(const char *name, size_t length)
{
    for (int i = 0; lstm_footprints[i]; i++)
        if (strlen(lstm_footprints[i]->name) == length &&
            !memcmp(lstm_footprints[i]->name, name, length))
            return i;
    return -1;
}

int plan_kernels_parse(const char *text, int pick[2], Error *e)
{
    const char *slash = strchr(text, '/');
    char names[128] = "";
    pick[0] = pick[1] = -1;
    if (!strcmp(text, "auto")) return EXIT_DONE;
    pick[0] = plan_kernel_find(text, slash ? (size_t)(slash - text) : strlen(text));
    pick[1] = slash ? plan_kernel_find(slash + 1, strlen(slash + 1)) : pick[0];
    if (pick[0] >= 0 && pick[1] >= 0) return EXIT_DONE;
    for (int i = 0; lstm_footprints[i]; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", lstm_footprints[i]->name);
    }
    return error_set(e, EXIT_USAGE,
                     "--kernel takes auto, a name or FWD/BWD, not '%s'; the names are %s", text,
                     names);
}

bool plan_forces_clusters(const PlanOverride *force, const LstmFootprint *footprint)
{
    return force->cluster > 1 || (footprint->kind == KIND_CLUSTER && force->blocks > 1);
}

/* Returns whether the exclusions leave the variant any plan, and constrains *force to the plans
 * that are left. */
static bool may_choose(const PlanExclusion *without, int variant, int backward, PlanOverride *force)
{
    if (!without) return true;
    if (without->variant[backward] >> variant & 1) return false;
    if (!(without->clusters[backward] >> variant & 1)) return true;
    if (plan_forces_clusters(force, lstm_footprints[variant])) return false;
    force->cluster = 1;
    return true;
}

void plan_choose(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                 const CostConstants *constants, const PlanExclusion *without, PlanChoice *out)
{
    char part[2][112];
    memset(out, 0, sizeof *out);
    for (int backward = 0; backward < 2; backward++) {
        PlanPick *pick = &out->pass[backward], next = {.variant = -1};
        pick->variant = -1;
        for (int i = 0; lstm_footprints[i]; i++) {
            PlanPick p = {.variant = i};
            CostTime time;
            Error none;
            PlanOverride f = force ? *force : free_of_all;
            if (!may_choose(without, i, backward, &f)) continue;
            if (!lstm_footprints[i]->tile[backward])
                time = cost_predict_stepwise(constants, device, shape, backward);
            else if (!lstm_plan(device, shape, lstm_footprints[i], backward, &f, constants, &p.plan,
                                &none))
                time = plan_predict(constants, device, shape, &p.plan);
            else continue;
            p.us = cost_time_us(&time, shape);
            if (pick->variant < 0 || p.us < pick->us) next = *pick, *pick = p;
            else if (next.variant < 0 || p.us < next.us) next = p;
        }
        bool apart = without && without->clusters[backward] >> pick->variant & 1;
        int n = snprintf(part[backward], sizeof part[backward], "%s %s%s %.2f us per step (model)",
                         lstm_footprints[pick->variant]->name, pass_name(backward),
                         apart ? " without clusters" : "", pick->us);
        if (next.variant >= 0)
            snprintf(part[backward] + n, sizeof part[backward] - (size_t)n, ", %s %.2f",
                     lstm_footprints[next.variant]->name, next.us);
    }
    snprintf(out->reason, sizeof out->reason, "%s; %s", part[0], part[1]);
}
