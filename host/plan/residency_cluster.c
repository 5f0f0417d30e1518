/* The planner of KIND_CLUSTER; kernels/cluster.h defines what its plans mean. The candidates have
 * every tile, every number of blocks per cluster and every number of batch rows per cluster that
 * fit in registers and shared memory. */
#include <inttypes.h>
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
    p.depth = (int32_t)tiles;
    p.threads = WARP * p.groups;
    p.streamed = (int32_t)plan_max(p.depth - p.resident, 0);
    return p;
}

static void sizes(LstmPlan *p) { p->shared_bytes = cluster_shared_bytes(p); }

static int64_t largest_index(const LstmPlan *p) { return cluster_items(p); }

static bool lacking(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                    int backward, char *what, size_t size)
{
    (void)backward;
    if (!device->clusters)
        snprintf(what, size, "the device has no thread-block clusters, which need sm_90");
    else if (force->slices > 1)
        snprintf(what, size, "its warps add up whole rows of w_hh: there is one slice, not %d",
                 force->slices);
    else if (force->cluster == 1 || force->blocks == 1)
        snprintf(what, size,
                 "its blocks send to the others of their cluster, which has at least 2");
    else if (shape && shape->H <= TENSOR_UNITS)
        snprintf(what, size,
                 "H %" PRId64 " gives units to one block only, and a cluster has at least 2",
                 shape->H);
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
    int64_t blocks = plan_div_up(shape->H, at->units);
    if (blocks < 2 || blocks > CLUSTER_BLOCKS) return "blocks";
    if (at->rows > at->tile->batch) return "rows";
    if (at->replicas > plan_div_up(shape->B, at->rows)) return "replicas";
    (void)backward;
    return at->slices == 1 ? NULL : "slices";
}

/* ---- candidates ---- */

/* Considers every number of rows per cluster, with as many replicas as the batch needs, but no more
 * than the device holds at once or the override allows. Further rows belong to the next range. */
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
    int64_t H = s->r.shape->H, from = 2, to = CLUSTER_BLOCKS;
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
            continue;                /* considered with fewer blocks */
        if (at->units > INT16_MAX) { /* more than any SM holds, and past what 32 bits count */
            plan_lacks(&s->shortage.shared, 8 * at->units * H);
            continue;
        }
        at->slices = 1;
        consider_rows(s, at);
    }
}

/* ---- bytes ---- */

static CostBytes bytes(const DeviceFacts *device, const LstmShape *shape, const LstmPlan *p)
{
    (void)device;
    double grid = (double)plan_ranges(p, shape->B) * p->replicas * p->blocks, H = (double)shape->H;
    double kept = (double)plan_least(p->resident, p->depth) / p->depth;
    double received = cluster_step_bytes(p, shape->H, p->units, p->rows);
    CostBytes b = {.weights = (p->precision == PRECISION_BF16 ? 8 : 16) * H * H,
                   .kept_registers = kept,
                   .kept_shared = (double)p->shared / p->depth,
                   .exchanged = grid * received};
    b.summed = p->backward ? grid * received : 0; /* forward's sums stay in registers */
    return b;
}

/* ---- predicted time ---- */

/* Clocks from the arrival of an asynchronous store to the first read after the wait for its
 * mbarrier: the 250 of an exchange by st.async (PERFORMANCE 1), without the store itself. */
static const double MBARRIER_WAIT = 70;
/* Dependent shuffles. Forward, one brings the gates of an element together and three assemble the
 * 16 bytes of a send; backward, one assembles four rows. A shuffle takes about as long as a load
 * from shared memory. */
enum { FORWARD_SHUFFLES = 4, BACKWARD_SHUFFLES = 1 };
/* Clocks from the sum of partial dh to dgates in shared memory; whatever does not depend on the sum
 * is ready by then. */
static const double BACKWARD_CELL = 70;

static double most(double a, double b) { return a > b ? a : b; }

/* Returns the clocks of a pass's products: the longest of the tensor cores' issue, a chain of
 * dependent products, and shared memory's rate. A warp reads only the batch rows of B that exist,
 * four at a time. */
static double product_clocks(const CostConstants *c, const LstmPlan *p)
{
    double n = p->batch / TENSOR_BATCH, depth = most(p->depth, p->resident), parts = 1, chains;
    if (p->backward && p->quads > 1) parts = 2; /* each half of a warp's m tiles reads all of B */
    double sums = p->quads * n / parts;
    chains = sums >= 3 ? 1 : sums >= 2 || p->quads * p->resident > 16 ? 2 : 4;
    double starts = ceil((double)p->groups / SCHEDULERS) * depth * p->quads * n * c->mma;
    double chain = parts * (ceil(depth / chains) * c->mma_latency + c->shared_latency);
    double fours = (double)plan_div_up(p->rows, TENSOR_BATCH / 2); /* a quarter of an A tile each */
    double bytes =
        4.0 * TENSOR_WORDS * p->groups * (p->shared * p->quads + parts * depth * fours / 4);
    return most(most(starts, chain), bytes / c->shared_rate) + c->shared_latency;
}

/* Predicts the chain of dependent parts of a step. If the warps of a scheduler reach their cells
 * one after another, the stores of the first are in flight meanwhile, so neither is counted
 * twice. */
static CostTime predict(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *p)
{
    CostTime t = {0};
    double blocks = (double)p->replicas * p->blocks, items = (double)cluster_items(p);
    double ranges = (double)plan_ranges(p, shape->B), l2 = cost_rates(c, blocks).l2;
    double received = cluster_step_bytes(p, shape->H, p->units, p->rows);
    (void)device;
    t.hop = most(c->cluster_latency + MBARRIER_WAIT, COST_SAVED_BYTES * items / l2);
    t.ingest = received * (p->blocks - 1) / p->blocks / c->cluster_rate;
    t.multiply = product_clocks(c, p);
    if (p->backward) {
        /* The results of the first half of a warp's m tiles are in flight while the second half is
         * multiplied. */
        if (p->quads > 1) t.ingest = most(t.ingest / 2, t.ingest - t.multiply / 2);
        t.sums = received / c->shared_rate + (1 + BACKWARD_SHUFFLES) * c->shared_latency;
        t.cell = BACKWARD_CELL + (ceil(items / p->threads) - 1) * c->cell;
        t.syncs = c->sync;
    } else {
        t.sums = FORWARD_SHUFFLES * c->shared_latency;
        t.cell = p->quads * (double)plan_div_up(p->rows, TENSOR_BATCH) * c->cell;
    }
    cost_time_end(&t, ranges, c->clock);
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
