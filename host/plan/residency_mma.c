/* The planner of KIND_MMA; kernels/mma.h defines how its plans divide the work, and computes every
 * size. */
#include <math.h>
#include <stdio.h>

#include "kernels/mma.h"
#include "residency_kinds.h"

enum { SM_WITH_BF16 = 8, CLUSTER_MOST = 4 };

/* Returns whether so many blocks can divide backward's contraction among them; forward has no
 * clusters. */
static bool is_cluster(int32_t blocks) { return blocks == 1 || blocks == 2 || blocks == 4; }

/* Returns the number of which `units` must be a multiple: forward a block has whole row tiles;
 * backward the units of a cluster form whole tiles of 16. */
static int64_t unit_step(int backward, int64_t cluster)
{
    return backward ? 16 / cluster : TENSOR_UNITS;
}

/* Return the m tiles of a block (backward: of its cluster), and the tiles of the whole
 * contraction. */
static int64_t m_tiles(const PlanLayout *at, int backward)
{
    return backward ? at->cluster * at->units / TENSOR_ROWS : at->units / TENSOR_UNITS;
}
static int64_t contraction_tiles(int64_t H, int32_t precision, int backward)
{
    return plan_div_up(backward ? 4 * H : H, tensor_k(precision));
}

static LstmPlan plan_of(const PlanLayout *at, const LstmShape *shape, int backward)
{
    const LstmTile *tile = at->tile;
    int64_t terms = contraction_tiles(shape->H, tile->precision, backward);
    LstmPlan p = {.kind = KIND_MMA,
                  .backward = backward,
                  .tile = at->index,
                  .replicas = (int32_t)plan_div_up(shape->B, at->rows),
                  .blocks = (int32_t)plan_round_up(plan_div_up(shape->H, at->units), at->cluster),
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
                  .cluster = at->cluster,
                  .exchange = at->exchange};
    p.slices = (int32_t)plan_div_up(terms, (int64_t)p.depth * at->cluster);
    p.threads = WARP * p.groups * p.slices;
    p.streamed = (int32_t)plan_max(p.depth - p.resident, 0);
    return p;
}

static void sizes(LstmPlan *p)
{
    p->shared_bytes = mma_shared_bytes(p);
    p->scratch_bytes = mma_scratch_bytes(p);
}

static int64_t step_bytes(const LstmPlan *p)
{
    return (int64_t)4 * TENSOR_WORDS * p->groups * p->slices * p->quads;
}

static int64_t largest_index(const LstmPlan *p)
{
    return plan_max(plan_max(mma_pass_words(p), 8 * (int64_t)p->rows * p->units),
                    (int64_t)p->batch * p->units * p->units);
}

static bool lacking(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                    int backward, char *what, size_t size)
{
    (void)shape;
    if (device->major < SM_WITH_BF16)
        snprintf(what, size, "tensor cores for bf16 and tf32 need sm_80; this device is sm_%d%d",
                 device->major, device->minor);
    else if (backward && force->cluster && !is_cluster(force->cluster))
        snprintf(what, size, "its clusters have 1, 2 or 4 blocks, not %d", force->cluster);
    else if (backward && force->cluster > 1 && !device->clusters)
        snprintf(what, size, "clusters of blocks need sm_90; this device is sm_%d%d", device->major,
                 device->minor);
    else if (force->exchange > EXCHANGE_WORDS)
        snprintf(what, size, "its exchanges are %d (flags) and %d (words), not %d", EXCHANGE_FLAG,
                 EXCHANGE_WORDS, force->exchange);
    else return false;
    return true;
}

static const char *fault(const PlanLayout *at, const LstmShape *shape, int backward)
{
    int64_t step;
    if (backward ? !is_cluster(at->cluster) : at->cluster != 1) return "cluster";
    step = unit_step(backward, at->cluster);
    if (at->units < 1 || at->units % step || at->units > plan_round_up(shape->H, step))
        return "units";
    if (at->exchange != EXCHANGE_FLAG && at->exchange != EXCHANGE_WORDS) return "exchange";
    if (at->slices < 1 || at->slices > at->tile->threads / WARP) return "slices";
    return NULL;
}

/* ---- candidates ---- */

/* Considers every number of slices that leaves none empty. */
static void consider_slices(PlanSearch *s, PlanLayout *at)
{
    const PlanOverride *force = s->r.force;
    int64_t groups = plan_div_up(m_tiles(at, s->r.backward), at->tile->stacked);
    int64_t terms = contraction_tiles(s->r.shape->H, at->tile->precision, s->r.backward);
    int64_t each = plan_div_up(terms, at->cluster), fewest = 1,
            most = at->threads / (WARP * groups);
    if (force->slices) fewest = plan_least(force->slices, each), most = plan_least(most, fewest);
    if (most < fewest) {
        plan_lacks_threads(s, WARP * groups * fewest, at->threads);
        return;
    }
    for (int64_t n = fewest; n <= plan_least(most, each); n++) {
        at->slices = (int32_t)n;
        plan_consider(s, at);
    }
}

/* Considers the numbers of blocks per replica, from all that are co-resident down to half of
 * them. */
static void consider_units(PlanSearch *s, PlanLayout *at, int64_t replicas)
{
    int64_t H = s->r.shape->H, step = unit_step(s->r.backward, at->cluster),
            forced = s->r.force->blocks;
    int64_t limit = plan_blocks_limit(s->r.device, at->cluster);
    int64_t most = limit / at->cluster / replicas * at->cluster;
    if (forced) most = plan_round_up(plan_least(forced, H), at->cluster);
    if (most < 1 || replicas * most > limit) {
        plan_lacks_blocks(s, replicas * plan_max(most, at->cluster), limit, at->cluster);
        return;
    }
    int64_t from = plan_round_up(plan_div_up(H, most), step), to = forced ? from : 2 * from;
    for (at->units = from; at->units <= plan_least(to, plan_round_up(H, step)); at->units += step)
        consider_slices(s, at);
}

static void candidates(PlanSearch *s, PlanLayout *at)
{
    const PlanOverride *force = s->r.force;
    int32_t most = s->r.backward && s->r.device->clusters ? CLUSTER_MOST : 1;
    for (at->exchange = EXCHANGE_FLAG; at->exchange <= EXCHANGE_WORDS; at->exchange++)
        for (at->cluster = 1; at->cluster <= most; at->cluster *= 2)
            if ((!force->exchange || force->exchange == at->exchange) &&
                (!s->r.backward || !force->cluster || force->cluster == at->cluster))
                plan_consider_rows(s, at, consider_units);
}

/* ---- predicted time ---- */

static double most(double a, double b) { return a > b ? a : b; }

/* Predicts in clocks of an SM, which cost_time_end converts. In a pass, the operands are loaded
 * from L2 while those that have arrived are multiplied; the sums and the cell follow. */
static CostTime predict(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *p)
{
    CostTime t = {0};
    double sms = (double)p->replicas * p->blocks, ranges = (double)plan_ranges(p, shape->B);
    CostRates r = cost_rates(c, sms);
    double warps = (double)p->groups * p->slices, passes = p->passes,
           batches = p->batch / TENSOR_BATCH;
    double steps = plan_max(p->depth, p->resident), products = steps * p->quads * batches;
    double weights =
        16.0 * (double)shape->H * (double)shape->H / (p->precision == PRECISION_BF16 ? 2 : 1);
    double streamed = warps * p->streamed * p->quads * 4 * TENSOR_WORDS;
    /* Warps are dealt to the four tensor cores. A single warp waits for its products if few of them
     * are independent. */
    double multiply = most(ceil(warps / 4) * products * c->mma,
                           steps * most(c->mma_latency, p->quads * batches * c->mma));
    multiply = most(multiply, warps * p->shared * p->quads * 4 * TENSOR_WORDS / c->shared_rate);
    double whole = 2 * weights * p->streamed / p->depth;
    if (whole > (double)device->l2) multiply = most(multiply, whole / r.dram);
    /* Lanes of padded batch rows load nothing. */
    double rows = (double)plan_least(p->rows, p->batch),
           operands = warps * p->depth * rows * 2 * TENSOR_WORDS / TENSOR_BATCH;
    double ingest = (operands + streamed) / r.l2;
    t.multiply = passes * multiply;
    t.ingest = passes * (c->l2_latency + most(ingest - multiply, 0));
    /* The warps write the partial sums and the elements' threads read them; in a cluster they are
     * added up in between and sent to the owners of the units. */
    double partial = 4.0 * p->slices * p->batch * mma_pitch(p);
    t.sums = passes * (2 * partial / c->shared_rate + 2 * c->shared_latency);
    if (p->backward && p->cluster > 1) {
        double sent = 4.0 * rows * p->cluster * p->units;
        t.sums += passes * (sent / c->shared_rate + sent / c->cluster_rate + c->cluster_latency);
        t.syncs += passes * c->sync;
    }
    t.cell = passes * ceil(rows * p->units / p->threads) * c->cell;
    t.syncs += (passes * 2 + 1) * c->sync;
    double hop = p->exchange == EXCHANGE_WORDS ? c->word_hop : c->hop;
    t.hop = most(hop * c->clock, COST_SAVED_BYTES * (double)p->rows * p->units / r.l2);

    cost_time_end(&t, ranges, c->clock);
    t.launch = c->launch + c->hop +
               most(weights / r.dram, weights * p->replicas / (r.l2 * sms)) / c->clock;
    t.launch *= ranges;
    return t;
}

/* ---- bytes ---- */

static CostBytes bytes(const DeviceFacts *device, const LstmShape *shape, const LstmPlan *p)
{
    (void)device;
    CostBytes b = {.weights = (p->precision == PRECISION_BF16 ? 8.0 : 16.0) * (double)shape->H *
                              (double)shape->H};
    double grid = (double)plan_ranges(p, shape->B) * p->replicas * p->blocks, passes = p->passes;
    double warps = (double)p->groups * p->slices, tile = 4.0 * TENSOR_WORDS;
    double operands =
        passes * warps * p->depth * (double)plan_least(p->rows, p->batch) * tile / 2 / TENSOR_BATCH;
    b.kept_registers = plan_least(p->resident, p->depth) / (double)p->depth;
    b.kept_shared = p->shared / (double)p->depth;
    b.streamed = grid * passes * warps * p->quads * tile * p->streamed;
    b.exchanged = grid * operands +
                  grid / p->blocks * 4.0 * (double)mma_exchange_words(p); /* read and written */
    b.summed = grid * passes * 2 * 4.0 * p->slices * p->batch * mma_pitch(p);
    if (p->backward && p->cluster > 1)
        b.summed +=
            grid * passes * 2 * 4.0 * (double)plan_least(p->rows, p->batch) * p->cluster * p->units;
    return b;
}

const ResidencyKind residency_mma = {.streams = true,
                                     .lacking = lacking,
                                     .candidates = candidates,
                                     .fault = fault,
                                     .plan_of = plan_of,
                                     .sizes = sizes,
                                     .step_bytes = step_bytes,
                                     .largest_index = largest_index,
                                     .bytes = bytes,
                                     .predict = predict};
