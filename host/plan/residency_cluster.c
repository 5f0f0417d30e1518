/* The planner of KIND_CLUSTER: kernels/cluster.h says what its plans mean. Candidates are every tile, every number of blocks in a
 * cluster, every number of batch rows in it and every K split that registers and shared memory hold; the one with the lowest
 * predicted time is the plan. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cluster.h"
#include "residency_kinds.h"

enum { WARP = 32, SCHEDULERS = 4 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- a layout: what a plan is free in; everything else of it follows ---- */

typedef struct Layout {
    const LstmTile *tile;
    int32_t index; /* of the footprint's list */
    int32_t units, rows, replicas, slices;
} Layout;

static LstmPlan plan_of(const Layout *at, const LstmShape *shape, int backward)
{
    int32_t k = tensor_k(at->tile->precision);
    LstmPlan p = {.kind = KIND_CLUSTER,
                  .backward = backward,
                  .tile = at->index,
                  .replicas = at->replicas,
                  .blocks = (int32_t)plan_div_up(shape->H, at->units),
                  .units = at->units,
                  .rows = at->rows,
                  .batch = at->tile->batch,
                  .passes = 1,
                  .slices = 1,
                  .resident = at->tile->resident,
                  .quads = at->tile->stacked,
                  .rounds = 1,
                  .precision = at->tile->precision};
    int64_t m = backward ? plan_div_up(shape->H, TENSOR_ROWS) : at->units / TENSOR_UNITS;
    int64_t tiles = backward ? 4 * at->units / k : tensor_k_tiles(shape->H, p.precision);
    p.cluster = p.blocks;
    p.groups = (int32_t)plan_div_up(m, p.quads);
    p.depth = (int32_t)plan_div_up(tiles, at->slices);
    p.slices = (int32_t)plan_div_up(tiles, p.depth); /* none is empty */
    p.threads = WARP * p.groups * p.slices;
    p.shared = (int32_t)plan_max(p.depth - p.resident, 0);
    p.shared_bytes = cluster_shared_bytes(&p);
    return p;
}

typedef struct Search {
    const PlanRequest *r;
    int64_t limit; /* bytes of shared memory */
    PlanShortage shortage;
    bool found;
    LstmPlan best;
    double best_us;
} Search;

static PlanTime cluster_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                                const LstmPlan *p);

static void consider(Search *s, const Layout *at, int32_t threads)
{
    const PlanRequest *r = s->r;
    LstmPlan p = plan_of(at, r->shape, r->backward);
    if (p.threads > threads) {
        if (!s->shortage.threads || p.threads - threads < s->shortage.threads - s->shortage.most_threads)
            s->shortage.threads = p.threads, s->shortage.most_threads = threads;
        return;
    }
    if ((int64_t)p.shared_bytes > s->limit) {
        plan_lacks(&s->shortage.shared, (int64_t)p.shared_bytes);
        return;
    }
    PlanTime time = cluster_predict(r->constants, r->device, r->shape, &p);
    double us = plan_time_us(&time, r->shape);
    if (s->found && us >= s->best_us) return;
    s->found = true, s->best = p, s->best_us = us;
}

/* Rows of a cluster, and replicas: as many as the device holds at a time, or as many as were asked for; the rows past them are the
 * next range's. */
static void consider_rows(Search *s, Layout *at, int32_t threads)
{
    const PlanRequest *r = s->r;
    int32_t blocks = (int32_t)plan_div_up(r->shape->H, at->units),
            clusters = device_clusters(r->device, blocks);
    int32_t most = (int32_t)least(r->shape->B, at->tile->batch), wanted = r->force->replicas;
    if (clusters < 1 || (wanted && least(wanted, r->shape->B) > clusters)) {
        plan_lacks(&s->shortage.clusters, clusters < 1 ? 1 : wanted);
        s->shortage.blocks = blocks;
        return;
    }
    for (int32_t rows = 1; rows <= most; rows++) {
        int64_t replicas = plan_div_up(r->shape->B, rows);
        if (wanted && rows != (int32_t)least(plan_div_up(r->shape->B, wanted), most)) continue;
        at->rows = rows, at->replicas = (int32_t)least(replicas, wanted ? wanted : clusters);
        consider(s, at, threads);
    }
}

static void consider_tile(Search *s, Layout *at, int32_t threads)
{
    const PlanRequest *r = s->r;
    int64_t H = r->shape->H;
    int32_t from = 1, to = CLUSTER_BLOCKS, forced = r->force->cluster ? r->force->cluster : r->force->blocks;
    int32_t wanted = (int32_t)least(forced, plan_div_up(H, TENSOR_UNITS));
    if (wanted) from = to = wanted;
    if (to > CLUSTER_BLOCKS) {
        plan_lacks(&s->shortage.clusters, 1);
        s->shortage.blocks = to;
        return;
    }
    for (int32_t blocks = from; blocks <= to; blocks++) {
        int64_t units = plan_div_up(plan_div_up(H, blocks), TENSOR_UNITS) * TENSOR_UNITS;
        if (!wanted && plan_div_up(H, units) != blocks) continue; /* that is a candidate of its own */
        if (units > INT16_MAX) { /* more than any SM holds, and than 32 bits count */
            plan_lacks(&s->shortage.shared, 8 * units * H);
            continue;
        }
        at->units = (int32_t)units;
        int64_t row_warps = plan_div_up(units / TENSOR_UNITS, at->tile->stacked);
        int64_t most = r->backward ? 1 : plan_max(threads / WARP / row_warps, 1), first = 1;
        if (!r->backward && r->force->slices) first = most = r->force->slices;
        for (int64_t n = first; n <= most; n++) {
            at->slices = (int32_t)n;
            consider_rows(s, at, threads);
        }
    }
}

static void consider_tiles(Search *s)
{
    const PlanRequest *r = s->r;
    const PlanOverride *force = r->force;
    for (int i = 0; i < r->footprint->tiles[r->backward]; i++) {
        const LstmTile *tile = &r->footprint->tile[r->backward][i];
        if (!plan_tile_wanted(r, i)) continue;
        s->shortage.tiles = true;
        int32_t threads = force->threads ? (int32_t)least(force->threads, tile->threads) : tile->threads;
        if (!plan_registers_fit(r->device, tile, threads)) continue;
        s->shortage.registers = true;
        consider_tile(s, &(Layout){.tile = tile, .index = i}, threads);
    }
}

static int cluster_plan(const PlanRequest *r, LstmPlan *plan, Error *e)
{
    char what[256];
    Search s = {.r = r, .limit = plan_shared_limit(r->device, r->force)};
    if (!r->device->clusters)
        return plan_refuse(r->device, r->shape, r->footprint, r->backward, r->force,
                           "the device has no thread-block clusters, which begin with sm_90", e);
    consider_tiles(&s);
    if (s.found) {
        *plan = s.best;
        return EXIT_DONE;
    }
    const PlanShortage *lack = &s.shortage;
    if (lack->registers && lack->shared)
        snprintf(what, sizeof what,
                 "shared memory runs out: the weights of one cluster take at least %" PRId64
                 " bytes a block, and there are %" PRId64,
                 lack->shared, s.limit);
    else if (!plan_shortage(r->device, r->footprint, r->backward, lack, s.limit, what, sizeof what))
        snprintf(what, sizeof what,
                 "clusters run out: it takes %" PRId64 " of %" PRId64
                 " blocks at the same time, and the device holds %d",
                 lack->clusters, lack->blocks,
                 device_clusters(r->device, (int32_t)least(lack->blocks, INT32_MAX)));
    return plan_refuse(r->device, r->shape, r->footprint, r->backward, r->force, what, e);
}

/* ---- a plan from elsewhere ---- */

static int cluster_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
                         const LstmFootprint *footprint, Error *e)
{
    const LstmTile *tile = &footprint->tile[plan->backward][plan->tile];
    const char *part = NULL;
    if (plan->units < 1 || plan->units % TENSOR_UNITS || plan->units > shape->H + TENSOR_UNITS - 1)
        part = "units";
    else if (plan_div_up(shape->H, plan->units) > CLUSTER_BLOCKS) part = "blocks";
    else if (plan->rows < 1 || plan->rows > shape->B || plan->rows > tile->batch) part = "rows";
    else if (plan->replicas < 1 || plan->replicas > plan_div_up(shape->B, plan->rows)) part = "replicas";
    else if (plan->slices < 1 || plan->slices > tile->threads / WARP || (plan->backward && plan->slices != 1))
        part = "slices";
    if (!part) {
        Layout at = {tile, plan->tile, plan->units, plan->rows, plan->replicas, plan->slices};
        LstmPlan p = plan_of(&at, shape, plan->backward);
        part = plan_difference(&p, plan);
    }
    if (!part && plan->threads > tile->threads) part = "threads";
    if (part) return plan_not_one(shape, footprint, part, e);
    int32_t clusters = device->clusters ? device_clusters(device, plan->cluster) : 0;
    if (plan->replicas > clusters)
        return error_set(e, EXIT_NO_DEVICE,
                         "the plan takes %d clusters of %d blocks at the same time, and %s holds %d",
                         plan->replicas, plan->cluster, device->name, clusters);
    return plan_block_fits(plan, device, tile, e);
}

/* ---- bytes ---- */

static PlanBytes cluster_bytes(const LstmPlan *p, const LstmShape *shape)
{
    double grid = (double)plan_ranges(p, shape->B) * p->replicas * p->blocks, H = (double)shape->H;
    double kept = (double)least(p->resident, p->depth) / p->depth;
    double received = cluster_step_bytes(p, shape->H, p->units, p->rows);
    PlanBytes b = {.weights = (p->precision == PRECISION_BF16 ? 8 : 16) * H * H,
                   .kept_registers = kept,
                   .kept_shared = (double)p->shared / p->depth,
                   .exchanged = grid * received};
    b.summed = grid * (p->backward ? received : 2 * 16.0 * p->slices * p->units * p->rows);
    return b;
}

/* ---- predicted time ---- */

/* Clocks from an asynchronous store's arrival to the first read behind the wait for its mbarrier: what PERFORMANCE 1's 250 for an
 * exchange by st.async have beside the store itself. */
static const double MBARRIER_WAIT = 70;

static double most(double a, double b) { return a > b ? a : b; }

/* A warp's product: the longest of what the tensor cores start, a chain of dependent products, what shared memory gives. */
static double product_clocks(const PlanConstants *c, const LstmPlan *p)
{
    double n = p->batch / TENSOR_BATCH, depth = most(p->depth, p->resident),
           warps = (double)p->groups * p->slices;
    double starts = ceil(warps / SCHEDULERS) * depth * p->quads * n * c->mma;
    double chain = depth * c->mma_latency + c->shared_latency;
    double bytes = 4.0 * TENSOR_WORDS * warps * (p->shared * p->quads + depth * n / 2);
    return most(most(starts, chain), bytes / c->shared_rate) + c->shared_latency;
}

static PlanTime cluster_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                                const LstmPlan *p)
{
    enum {
        SAVED_BYTES = 44
    }; /* of saved tensors that a step moves for each unit and batch row, as plan_model.c's */
    PlanTime t = {0};
    double blocks = (double)p->replicas * p->blocks, items = (double)cluster_items(p);
    double ranges = (double)plan_ranges(p, shape->B), l2 = most(1, c->l2_rate / blocks);
    double received = cluster_step_bytes(p, shape->H, p->units, p->rows);
    (void)device;
    if (l2 > c->l2_rate_sm) l2 = c->l2_rate_sm;
    t.hop = most((p->blocks > 1 ? c->cluster_latency : c->shared_latency) + MBARRIER_WAIT,
                 SAVED_BYTES * items / l2);
    t.ingest = p->blocks > 1 ? received * (p->blocks - 1) / p->blocks / c->cluster_rate : 0;
    t.multiply = product_clocks(c, p);
    /* Forward's partial sums are written for all rows of a batch tile and read for those that exist; backward reads what came. */
    t.sums = p->backward ? received / c->shared_rate + c->shared_latency
                         : 16.0 * p->slices * p->units * (p->batch + p->rows) / c->shared_rate +
                               2 * c->shared_latency;
    t.cell = ceil(items / p->threads) * c->cell;
    t.syncs = 2 * c->sync;
    double *part[] = {&t.hop, &t.ingest, &t.multiply, &t.sums, &t.cell, &t.syncs};
    for (int i = 0; i < 6; i++) {
        *part[i] *= ranges / c->clock;
        t.step += *part[i];
    }
    double weights = (p->precision == PRECISION_BF16 ? 8.0 : 16.0) * (double)shape->H * (double)shape->H;
    double dram = c->dram_rate / (c->clock * 1e6);
    t.launch = ranges * (c->launch + most(weights / dram, weights * p->replicas / (l2 * blocks)) / c->clock);
    return t;
}

const ResidencyKind residency_cluster = {cluster_plan, cluster_check, cluster_bytes, cluster_predict};
