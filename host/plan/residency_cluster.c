/* The planner of KIND_CLUSTER: kernels/cluster.h says what its plans mean. Candidates are every tile, every number of blocks in a
 * cluster, every number of batch rows in it and every K split that registers and shared memory hold. */
#include <math.h>
#include <stdio.h>

#include "kernels/cluster.h"
#include "residency_kinds.h"

enum { SCHEDULERS = 4 };

static LstmPlan plan_of(const PlanLayout *at, const LstmShape *shape, int backward)
{
    int32_t k = tensor_k(at->tile->precision);
    LstmPlan p = {.kind = KIND_CLUSTER,
                  .backward = backward,
                  .tile = at->index,
                  .replicas = at->replicas,
                  .blocks = (int32_t)plan_div_up(shape->H, at->units),
                  .units = (int32_t)at->units,
                  .rows = (int32_t)at->rows,
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
    p.streamed = (int32_t)plan_max(p.depth - p.resident, 0);
    return p;
}

static void sizes(LstmPlan *p) { p->shared_bytes = cluster_shared_bytes(p); }

static int64_t largest_index(const LstmPlan *p) { return cluster_items(p); }

static bool lacking(const DeviceFacts *device, const PlanOverride *force, int backward, char *what,
                    size_t size)
{
    (void)backward;
    if (!device->clusters)
        snprintf(what, size, "the device has no thread-block clusters, which begin with sm_90");
    else if (force->exchange)
        snprintf(what, size, "its blocks exchange within their cluster, not by exchange %d",
                 force->exchange);
    else return false;
    return true;
}

static const char *fault(const PlanLayout *at, const LstmShape *shape, int backward)
{
    if (at->units < 1 || at->units % TENSOR_UNITS || at->units > shape->H + TENSOR_UNITS - 1)
        return "units";
    if (plan_div_up(shape->H, at->units) > CLUSTER_BLOCKS) return "blocks";
    if (at->rows > at->tile->batch) return "rows";
    if (at->replicas > plan_div_up(shape->B, at->rows)) return "replicas";
    if (at->slices < 1 || at->slices > at->tile->threads / WARP || (backward && at->slices != 1))
        return "slices";
    return NULL;
}

/* ---- candidates ---- */

/* Rows of a cluster, and replicas: as many as the device holds at a time, or as many as were asked for; the rows past them are the
 * next range's. */
static void consider_rows(PlanSearch *s, PlanLayout *at)
{
    int64_t B = s->r.shape->B, most = plan_least(B, at->tile->batch), wanted = s->r.force->replicas;
    int64_t blocks = plan_div_up(s->r.shape->H, at->units),
            limit = plan_blocks_limit(s->r.device, blocks);
    int64_t clusters = limit / blocks;
    if (clusters < 1 || plan_least(wanted, B) > clusters) {
        plan_lacks_blocks(s, blocks * (clusters < 1 ? 1 : wanted), limit, blocks);
        return;
    }
    for (at->rows = 1; at->rows <= most; at->rows++) {
        if (wanted && at->rows != plan_least(plan_div_up(B, wanted), most)) continue;
        at->replicas = (int32_t)plan_least(plan_div_up(B, at->rows), wanted ? wanted : clusters);
        LstmPlan p = plan_of(at, s->r.shape, s->r.backward);
        if (p.threads > at->threads) plan_lacks_threads(s, p.threads, at->threads);
        else plan_consider(s, at);
    }
}

static void candidates(PlanSearch *s, PlanLayout *at)
{
    const PlanOverride *force = s->r.force;
    int64_t H = s->r.shape->H, from = 1, to = CLUSTER_BLOCKS;
    int64_t wanted =
        plan_least(force->cluster ? force->cluster : force->blocks, plan_div_up(H, TENSOR_UNITS));
    if (wanted) from = to = wanted;
    if (to > CLUSTER_BLOCKS) {
        plan_lacks_blocks(s, to, 0, to);
        return;
    }
    for (int64_t blocks = from; blocks <= to; blocks++) {
        at->units = plan_round_up(plan_div_up(H, blocks), TENSOR_UNITS);
        if (!wanted && plan_div_up(H, at->units) != blocks)
            continue;                /* that is a candidate of its own */
        if (at->units > INT16_MAX) { /* more than any SM holds, and than 32 bits count */
            plan_lacks(&s->shortage.shared, 8 * at->units * H);
            continue;
        }
        int64_t row_warps = plan_div_up(at->units / TENSOR_UNITS, at->tile->stacked);
        int64_t most = s->r.backward ? 1 : plan_max(at->threads / WARP / row_warps, 1), first = 1;
        if (!s->r.backward && force->slices) first = most = force->slices;
        for (int64_t n = first; n <= most; n++) {
            at->slices = (int32_t)n;
            consider_rows(s, at);
        }
    }
}

/* ---- bytes ---- */

static PlanBytes bytes(const LstmPlan *p, const LstmShape *shape)
{
    double grid = (double)plan_ranges(p, shape->B) * p->replicas * p->blocks, H = (double)shape->H;
    double kept = (double)plan_least(p->resident, p->depth) / p->depth;
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

static PlanTime predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *p)
{
    PlanTime t = {0};
    double blocks = (double)p->replicas * p->blocks, items = (double)cluster_items(p);
    double ranges = (double)plan_ranges(p, shape->B), l2 = plan_rates(c, blocks).l2;
    double received = cluster_step_bytes(p, shape->H, p->units, p->rows);
    (void)device;
    t.hop = most((p->blocks > 1 ? c->cluster_latency : c->shared_latency) + MBARRIER_WAIT,
                 PLAN_SAVED_BYTES * items / l2);
    t.ingest = p->blocks > 1 ? received * (p->blocks - 1) / p->blocks / c->cluster_rate : 0;
    t.multiply = product_clocks(c, p);
    /* Forward's partial sums are written for all rows of a batch tile and read for those that exist; backward reads what came. */
    t.sums = p->backward ? received / c->shared_rate + c->shared_latency
                         : 16.0 * p->slices * p->units * (p->batch + p->rows) / c->shared_rate +
                               2 * c->shared_latency;
    t.cell = ceil(items / p->threads) * c->cell;
    t.syncs = 2 * c->sync;
    plan_time_end(&t, ranges, c->clock);
    double weights =
        (p->precision == PRECISION_BF16 ? 8.0 : 16.0) * (double)shape->H * (double)shape->H;
    double dram = c->dram_rate / (c->clock * 1e6);
    t.launch = ranges *
               (c->launch + most(weights / dram, weights * p->replicas / (l2 * blocks)) / c->clock);
    return t;
}

const ResidencyKind residency_cluster = {.lacking = lacking,
                                         .candidates = candidates,
                                         .fault = fault,
                                         .plan_of = plan_of,
                                         .sizes = sizes,
                                         .step_bytes = NULL,
                                         .largest_index = largest_index,
                                         .bytes = bytes,
                                         .predict = predict};
