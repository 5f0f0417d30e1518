/* The planner of KIND_MMA: kernels/mma.h says how its plans divide the work, and computes every size. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "kernels/mma.h"
#include "residency_kinds.h"

enum { WARP = 32, FAULT_BLOCKS = 8 * 32, SM_WITH_BF16 = 8, CLUSTERS = 3 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t round_up(int64_t n, int64_t unit) { return plan_div_up(n, unit) * unit; }

/* ---- a layout: what a plan is free in; everything else of it follows ---- */

typedef struct Layout {
    const LstmTile *tile;
    int32_t index; /* of the footprint's list */
    int64_t rows, units;
    int32_t slices, cluster;
} Layout;

/* What `units` is a multiple of: whole row tiles; backward whole tiles of 16 of a cluster's units. */
static int64_t unit_step(int backward, int64_t cluster) { return backward ? 16 / cluster : TENSOR_UNITS; }

/* m tiles of a block (backward: of its cluster), and tiles of the whole contraction. */
static int64_t m_tiles(const Layout *at, int backward)
{
    return backward ? at->cluster * at->units / TENSOR_ROWS : at->units / TENSOR_UNITS;
}
static int64_t contraction_tiles(int64_t H, int32_t precision, int backward)
{
    return plan_div_up(backward ? 4 * H : H, tensor_k(precision));
}

/* Everything but `shared` and the bytes; the caller has checked that the numbers are within int32. */
static LstmPlan plan_of(const Layout *at, const LstmShape *shape, int backward)
{
    const LstmTile *tile = at->tile;
    int64_t terms = contraction_tiles(shape->H, tile->precision, backward);
    LstmPlan p = {.kind = KIND_MMA,
                  .backward = backward,
                  .tile = at->index,
                  .replicas = (int32_t)plan_div_up(shape->B, at->rows),
                  .blocks = (int32_t)round_up(plan_div_up(shape->H, at->units), at->cluster),
                  .units = (int32_t)at->units,
                  .rows = (int32_t)at->rows,
                  .batch = tile->batch,
                  .groups = (int32_t)plan_div_up(m_tiles(at, backward), tile->stacked),
                  .passes = (int32_t)plan_div_up(at->rows, tile->batch),
                  .depth = (int32_t)plan_div_up(terms, (int64_t)at->slices * at->cluster),
                  .resident = tile->resident,
                  .quads = tile->stacked,
                  .rounds = 1,
                  .precision = tile->precision,
                  .cluster = at->cluster};
    p.slices = (int32_t)plan_div_up(terms, (int64_t)p.depth * at->cluster);
    p.threads = WARP * p.groups * p.slices;
    p.streamed = (int32_t)plan_max(p.depth - p.resident, 0);
    return p;
}

/* Shared memory of one contraction tile of all warps. */
static int64_t step_bytes(const LstmPlan *p)
{
    return (int64_t)4 * TENSOR_WORDS * p->groups * p->slices * p->quads;
}

static void plan_keep(LstmPlan *p, int64_t steps)
{
    int32_t rest = p->shared + p->streamed;
    p->shared = (int32_t)steps;
    p->streamed = rest - p->shared;
    p->shared_bytes = mma_shared_bytes(p);
    p->scratch_bytes = mma_scratch_bytes(p);
}

/* ---- limits ---- */

/* Blocks of a grid of clusters of that size that are resident at once. */
static int64_t resident_limit(const DeviceFacts *d, int64_t cluster)
{
    return least(device_clusters(d, (int)cluster) * cluster, FAULT_BLOCKS / cluster * cluster);
}

/* The largest number that a kernel counts in int32. */
static int64_t largest_index(const LstmPlan *p)
{
    return plan_max(plan_max(mma_pass_words(p), 8 * (int64_t)p->rows * p->units),
                    (int64_t)p->batch * p->units * p->units);
}

/* ---- the model ---- */

typedef struct Rates {
    double dram, l2; /* bytes a clock of the device; of one of the SMs that work */
} Rates;

static Rates rates_of(const PlanConstants *c, const LstmPlan *p)
{
    double sms = (double)p->replicas * p->blocks;
    Rates r = {c->dram_rate / (c->clock * 1e6),
               c->l2_rate / sms < c->l2_rate_sm ? c->l2_rate / sms : c->l2_rate_sm};
    return r;
}

static double most(double a, double b) { return a > b ? a : b; }

/* Terms in clocks of an SM until the end. A pass: its operands come from L2 while what is there is multiplied; then sums, cell. */
static PlanTime mma_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                            const LstmPlan *p)
{
    enum { SAVED_BYTES = 44 }; /* of a unit and batch row that a step reads or writes beside the exchange */
    PlanTime t = {0};
    Rates r = rates_of(c, p);
    double warps = (double)p->groups * p->slices, passes = p->passes, batches = p->batch / TENSOR_BATCH;
    double steps = plan_max(p->depth, p->resident), products = steps * p->quads * batches;
    double weights = 16.0 * (double)shape->H * (double)shape->H / (p->precision == PRECISION_BF16 ? 2 : 1);
    double streamed = warps * p->streamed * p->quads * 4 * TENSOR_WORDS;
    /* Warps are dealt to the four tensor cores; a warp alone waits for its products where few of them are independent. */
    double multiply =
        most(ceil(warps / 4) * products * c->mma, steps * most(c->mma_latency, p->quads * batches * c->mma));
    multiply = most(multiply, warps * p->shared * p->quads * 4 * TENSOR_WORDS / c->shared_rate);
    double whole = 2 * weights * p->streamed / p->depth;
    if (whole > (double)device->l2) multiply = most(multiply, whole / r.dram);
    double operands = warps * p->depth * batches * 2 * TENSOR_WORDS;
    double ingest = (operands + streamed) / r.l2;
    t.multiply = passes * multiply;
    t.ingest = passes * (c->l2_latency + most(ingest - multiply, 0));
    /* Written by the warps, read by the elements' threads; in clusters summed in between and sent once more. */
    double partial = 4.0 * p->slices * p->batch * mma_pitch(p);
    t.sums = passes * (2 * partial / c->shared_rate + 2 * c->shared_latency);
    if (p->backward && p->cluster > 1) {
        double sent = 4.0 * p->batch * p->cluster * p->units;
        t.sums += passes * (sent / c->shared_rate + sent / c->cluster_rate + c->cluster_latency);
        t.syncs += passes * c->cluster_sync * c->clock;
    }
    double items = (double)least(p->rows, p->batch) * p->units;
    t.cell = passes * ceil(items / p->threads) * c->cell;
    t.syncs += (passes * 2 + 1) * c->sync;
    t.hop = most(c->hop * c->clock, SAVED_BYTES * (double)p->rows * p->units / r.l2);

    double *part[] = {&t.hop, &t.ingest, &t.multiply, &t.sums, &t.cell, &t.syncs};
    double ranges = (double)plan_ranges(p, shape->B), sms = (double)p->replicas * p->blocks;
    for (int i = 0; i < 6; i++) {
        *part[i] *= ranges / c->clock;
        t.step += *part[i];
    }
    t.launch = c->launch + c->hop + most(weights / r.dram, weights * p->replicas / (r.l2 * sms)) / c->clock;
    t.launch *= ranges;
    return t;
}

/* ---- bytes ---- */

static PlanBytes mma_bytes(const LstmPlan *p, const LstmShape *shape)
{
    PlanBytes b = {.weights =
                       (p->precision == PRECISION_BF16 ? 8.0 : 16.0) * (double)shape->H * (double)shape->H};
    double grid = (double)plan_ranges(p, shape->B) * p->replicas * p->blocks, passes = p->passes;
    double warps = (double)p->groups * p->slices, tile = 4.0 * TENSOR_WORDS;
    double operands = passes * warps * p->depth * (p->batch / TENSOR_BATCH) * tile / 2;
    b.kept_registers = least(p->resident, p->depth) / (double)p->depth;
    b.kept_shared = p->shared / (double)p->depth;
    b.streamed = grid * passes * warps * p->quads * tile * p->streamed;
    b.exchanged =
        grid * operands + grid / p->blocks * 4.0 * (double)mma_exchange_words(p); /* read, and written */
    b.summed = grid * passes * 2 * 4.0 * p->slices * p->batch * mma_pitch(p);
    if (p->backward && p->cluster > 1) b.summed += grid * passes * 2 * 4.0 * p->batch * p->cluster * p->units;
    return b;
}

/* ---- candidates ---- */

typedef struct Search {
    const PlanRequest *r;
    int64_t shared; /* limit, bytes a block */
    PlanShortage shortage;
    bool found, settling;
    LstmPlan best;
    double fastest, best_us, best_kept;
} Search;

/* As residency.c: layouts whose predicted times are this close are equal, then what stays in registers decides, then in shared
 * memory, then the time. Two rounds: the first finds the lowest time. */
static const double EQUAL = 1.10;

static void consider(Search *s, const Layout *at)
{
    const LstmShape *shape = s->r->shape;
    LstmPlan p = plan_of(at, shape, s->r->backward);
    int32_t rest = p.streamed;
    plan_keep(&p, 0);
    if (largest_index(&p) >= INT32_MAX) {
        s->shortage.index = true;
        return;
    }
    if ((int64_t)p.shared_bytes > s->shared) {
        plan_lacks(&s->shortage.shared, (int64_t)p.shared_bytes);
        return;
    }
    plan_keep(&p, least(rest, (s->shared - (int64_t)p.shared_bytes) / step_bytes(&p)));
    PlanTime time = mma_predict(s->r->constants, s->r->device, shape, &p);
    double us = plan_time_us(&time, shape);
    if (!s->settling) {
        s->fastest = s->found && s->fastest < us ? s->fastest : us;
        s->found = true;
        return;
    }
    PlanBytes bytes = mma_bytes(&p, shape);
    double kept = 2 * bytes.kept_registers + bytes.kept_shared;
    if (us > s->fastest * EQUAL || kept < s->best_kept || (kept == s->best_kept && us >= s->best_us)) return;
    s->best = p, s->best_us = us, s->best_kept = kept;
}

/* Every number of slices that leaves none empty. */
static void consider_slices(Search *s, Layout *at)
{
    const PlanOverride *force = s->r->force;
    int64_t threads = force->threads ? least(force->threads, at->tile->threads) : at->tile->threads;
    int64_t groups = plan_div_up(m_tiles(at, s->r->backward), at->tile->stacked);
    int64_t terms = contraction_tiles(s->r->shape->H, at->tile->precision, s->r->backward);
    int64_t each = plan_div_up(terms, at->cluster), fewest = 1, most_slices = threads / (WARP * groups);
    if (force->slices) fewest = least(force->slices, each), most_slices = least(most_slices, fewest);
    if (most_slices < fewest) {
        plan_lacks(&s->shortage.threads, WARP * groups * fewest);
        s->shortage.most_threads = plan_max(s->shortage.most_threads, threads);
        return;
    }
    for (int64_t n = fewest; n <= least(most_slices, each); n++) {
        at->slices = (int32_t)n;
        consider(s, at);
    }
}

/* Blocks of a replica: from as many as are co-resident down to half of that. */
static void consider_units(Search *s, Layout *at, int64_t replicas)
{
    int64_t H = s->r->shape->H, step = unit_step(s->r->backward, at->cluster);
    int64_t limit = resident_limit(s->r->device, at->cluster), clusters = limit / at->cluster / replicas;
    int64_t most_blocks = clusters * at->cluster;
    if (s->r->force->blocks) most_blocks = round_up(least(s->r->force->blocks, H), at->cluster);
    if (most_blocks < 1 || replicas * most_blocks > limit) {
        plan_lacks(&s->shortage.blocks, replicas * plan_max(most_blocks, at->cluster));
        return;
    }
    int64_t from = round_up(plan_div_up(H, most_blocks), step), to = s->r->force->blocks ? from : 2 * from;
    for (at->units = from; at->units <= least(to, round_up(H, step)); at->units += step)
        consider_slices(s, at);
}

static void consider_replicas(Search *s, Layout *at)
{
    int64_t B = s->r->shape->B, limit = resident_limit(s->r->device, at->cluster);
    int64_t from = 1, to = least(B, limit);
    if (s->r->force->replicas) from = to = least(s->r->force->replicas, B);
    if (to < 1 || to > limit) {
        plan_lacks(&s->shortage.blocks, plan_max(to, 1) * at->cluster);
        return;
    }
    for (int64_t n = from; n <= to;) {
        at->rows = plan_div_up(B, n);
        consider_units(s, at, plan_div_up(B, at->rows));
        if (at->rows == 1) break;
        n = plan_max(plan_div_up(B, at->rows - 1), n + n / 8);
    }
}

static void consider_tiles(Search *s)
{
    const PlanRequest *r = s->r;
    const PlanOverride *force = r->force;
    static const int32_t clusters[CLUSTERS] = {1, 2, 4};
    for (int i = 0; i < r->footprint->tiles[r->backward]; i++) {
        const LstmTile *tile = &r->footprint->tile[r->backward][i];
        if (!plan_tile_wanted(r, i)) continue;
        s->shortage.tiles = true;
        if (!plan_registers_fit(r->device, tile, tile->threads)) continue;
        s->shortage.registers = true;
        for (int k = 0; k < CLUSTERS; k++) {
            Layout at = {.tile = tile, .index = i, .cluster = clusters[k]};
            if (clusters[k] > 1 && !r->backward) continue;
            if (r->backward && force->cluster && force->cluster != clusters[k]) continue;
            if (clusters[k] > 1 && !r->device->clusters) {
                s->shortage.no_clusters = true;
                continue;
            }
            consider_replicas(s, &at);
        }
    }
}

static int refuse(const Search *s, Error *e)
{
    const PlanRequest *r = s->r;
    const PlanShortage *lack = &s->shortage;
    char what[256];
    if (lack->registers && lack->no_clusters && r->force->cluster)
        snprintf(what, sizeof what, "clusters of blocks begin with sm_90, and this is sm_%d%d",
                 r->device->major, r->device->minor);
    else if (!plan_shortage(r->device, r->footprint, r->backward, lack, s->shared, what, sizeof what))
        snprintf(what, sizeof what,
                 "blocks run out: it takes %" PRId64 " at the same time, and the device holds fewer",
                 lack->blocks);
    return plan_refuse(r->device, r->shape, r->footprint, r->backward, r->force, what, e);
}

static int mma_plan(const PlanRequest *r, LstmPlan *plan, Error *e)
{
    char what[96];
    if (r->device->major < SM_WITH_BF16) {
        snprintf(what, sizeof what, "tensor cores for bf16 and tf32 begin with sm_80, and this is sm_%d%d",
                 r->device->major, r->device->minor);
        return plan_refuse(r->device, r->shape, r->footprint, r->backward, r->force, what, e);
    }
    LstmShape range = *r->shape;
    PlanRequest part = *r;
    part.shape = &range;
    Search s = {.r = &part, .shared = plan_shared_limit(r->device, r->force)};
    consider_tiles(&s);
    PlanShortage first = s.shortage; /* the one to tell */
    /* Ranges of batch rows, one launch each: the most that fit, by halves. */
    while (!s.found && range.B > 1 && !r->force->replicas) {
        range.B = plan_div_up(range.B, 2);
        consider_tiles(&s);
    }
    s.shortage = first;
    if (!s.found) {
        s.r = r;
        return refuse(&s, e);
    }
    s.settling = true, s.best_us = INFINITY, s.best_kept = -1;
    consider_tiles(&s);
    *plan = s.best;
    return EXIT_DONE;
}

/* ---- a plan from elsewhere ---- */

/* What of plan is not as it follows from its own layout, or NULL. */
static const char *plan_part(const LstmPlan *plan, const LstmShape *shape, const LstmFootprint *footprint)
{
    const LstmTile *tile = &footprint->tile[plan->backward][plan->tile];
    int32_t cluster = plan->cluster;
    if (tile->precision != plan->precision) return "precision";
    if (cluster != 1 && (!plan->backward || (cluster != 2 && cluster != 4))) return "cluster";
    if (plan->rows < 1 || plan->rows > shape->B) return "rows";
    if (plan->units < 1 || plan->units % unit_step(plan->backward, cluster) ||
        plan->units > round_up(shape->H, unit_step(plan->backward, cluster)))
        return "units";
    if (plan->slices < 1 || plan->slices > tile->threads / WARP) return "slices";
    if (plan->replicas < 1) return "replicas";
    Layout at = {tile, plan->tile, plan->rows, plan->units, plan->slices, cluster};
    LstmShape range = *shape;
    range.B = least(shape->B, (int64_t)plan->rows * plan->replicas);
    LstmPlan p = plan_of(&at, &range, plan->backward);
    if (p.threads > tile->threads) return "threads";
    if (plan->shared < 0 || plan->shared > p.streamed) return "shared";
    plan_keep(&p, plan->shared);
    return plan_difference(&p, plan);
}

static int mma_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
                     const LstmFootprint *footprint, Error *e)
{
    const char *part = plan_part(plan, shape, footprint);
    if (part) return plan_not_one(shape, footprint, part, e);
    const LstmTile *tile = &footprint->tile[plan->backward][plan->tile];
    int64_t blocks = (int64_t)plan->replicas * plan->blocks, limit = resident_limit(device, plan->cluster);
    if (device->major < SM_WITH_BF16)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan needs tensor cores for bf16 and tf32, and %s is sm_%d%d", device->name,
                         device->major, device->minor);
    if (blocks > limit)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan takes %" PRId64
                         " blocks at the same time in clusters of %d, and %s holds %" PRId64,
                         blocks, plan->cluster, device->name, limit);
    if (largest_index(plan) >= INT32_MAX)
        return error_set(e, EXIT_NO_DEVICE, "the plan counts past 2^31 in a pass");
    return plan_block_fits(plan, device, tile, e);
}

const ResidencyKind residency_mma = {mma_plan, mma_check, mma_bytes, mma_predict};
