/* The planner of KIND_VECTOR; kernels/plan.h defines how its plans divide the work, and computes
 * every size. */
#include <math.h>
#include <stdio.h>

#include "residency_kinds.h"

enum { MOST_GROUPS = 8 };

static LstmPlan plan_of(const PlanLayout *at, const LstmShape *shape, int backward)
{
    LstmPlan p = {.kind = KIND_VECTOR,
                  .backward = backward,
                  .tile = at->index,
                  .replicas = (int32_t)plan_div_up(shape->B, at->rows),
                  .blocks = (int32_t)plan_div_up(shape->H, at->units),
                  .units = (int32_t)at->units,
                  .rows = (int32_t)at->rows,
                  .batch = at->tile->batch,
                  .groups = at->groups,
                  .slices = at->slices,
                  .resident = at->tile->resident,
                  .chunk = at->tile->chunk,
                  .precision = PRECISION_F32,
                  .cluster = 1,
                  .exchange = at->exchange};
    int64_t terms = backward ? at->units : shape->H, columns = at->units;
    p.passes = (int32_t)plan_div_up(p.rows, (int64_t)p.batch * p.groups);
    p.depth = (int32_t)plan_div_up(terms, p.slices);
    p.slices = (int32_t)plan_div_up(terms, p.depth); /* no slice is empty */
    if (backward) {
        int64_t quads = plan_div_up(shape->H, 4);
        p.quads = (int32_t)plan_div_up(quads, at->rounds);
        p.rounds = (int32_t)plan_div_up(quads, p.quads);
        columns = p.quads;
    } else {
        p.chunks = (int32_t)plan_div_up(plan_max(p.depth, p.resident), p.chunk);
    }
    p.threads = (int32_t)plan_round_up(columns * p.slices * p.groups, WARP);
    p.streamed = (int32_t)plan_max(p.depth - p.resident, 0);
    return p;
}

static void sizes(LstmPlan *p)
{
    p->shared_bytes = plan_shared_bytes(p);
    p->scratch_bytes = plan_scratch_bytes(p);
}

static int64_t step_bytes(const LstmPlan *p)
{
    return p->backward ? (int64_t)64 * p->slices * p->quads * p->rounds
                       : (int64_t)16 * p->slices * p->units;
}

/* Returns the larger of the floats that a replica exchanges in a pass and the elements of a
 * block. */
static int64_t largest_index(const LstmPlan *p)
{
    return plan_max(plan_exchange_floats(p) / p->passes, (int64_t)p->rows * p->units);
}

static bool lacking(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                    int backward, char *what, size_t size)
{
    (void)device, (void)shape, (void)backward;
    if (force->exchange > EXCHANGE_FLAG)
        snprintf(what, size, "its exchange is %d (flags), not %d", EXCHANGE_FLAG, force->exchange);
    else if (force->cluster > 1)
        snprintf(what, size, "its blocks form no clusters of %d", force->cluster);
    else return false;
    return true;
}

static const char *fault(const PlanLayout *at, const LstmShape *shape, int backward)
{
    if (at->units < 1 || at->units > shape->H) return "units";
    if (at->groups < 1 || at->groups > at->tile->threads) return "groups";
    if (at->slices < 1 || at->slices > at->tile->threads) return "slices";
    if (at->exchange != EXCHANGE_FLAG) return "exchange";
    if (backward && (at->rounds < 1 || at->rounds > shape->H)) return "rounds";
    return NULL;
}

/* ---- candidates ---- */

/* Considers every cut of the contraction into slices that leaves none empty, for one tile, rows,
 * units and groups. */
static void consider_slices(PlanSearch *s, PlanLayout *at)
{
    int64_t H = s->r.shape->H, terms = s->r.backward ? at->units : H, quads = plan_div_up(H, 4);
    int64_t columns = s->r.backward ? 1 : at->units, from = 1;
    int64_t most = plan_least(terms, at->threads / (columns * at->groups)), to = most;
    if (s->r.force->slices) from = to = plan_least(s->r.force->slices, terms);
    if (most < from || to > most) {
        plan_lacks_threads(s, columns * at->groups * plan_max(to, 1), at->threads);
        return;
    }
    for (int64_t n = from; n <= to;) {
        int64_t depth = plan_div_up(terms, n);
        at->slices = (int32_t)plan_div_up(terms, depth);
        if (s->r.backward)
            at->rounds =
                (int32_t)plan_div_up(quads, at->threads / ((int64_t)at->slices * at->groups));
        plan_consider(s, at);
        if (depth == 1) break;
        n = plan_div_up(terms, depth - 1); /* the fewest slices whose depth is smaller */
    }
}

static void consider_groups(PlanSearch *s, PlanLayout *at)
{
    int64_t useful = plan_div_up(at->rows, at->tile->batch);
    int32_t most = (int32_t)plan_least(useful, MOST_GROUPS), forced = s->r.force->groups;
    for (int32_t groups = 1; groups <= most || groups == forced; groups++) {
        if (forced && groups != forced) continue;
        at->groups = groups;
        consider_slices(s, at);
    }
}

/* Considers the numbers of blocks per replica, from all that are co-resident down to half of them,
 * since fewer may suit the threads better. */
static void consider_units(PlanSearch *s, PlanLayout *at, int64_t replicas)
{
    int64_t H = s->r.shape->H, limit = plan_blocks_limit(s->r.device, 1);
    int64_t most = plan_least(limit / replicas, H), fewest = plan_div_up(most, 2);
    if (s->r.force->blocks) fewest = most = plan_least(s->r.force->blocks, H);
    if (replicas * most > limit) {
        plan_lacks_blocks(s, replicas * most, limit, 1);
        return;
    }
    for (int64_t blocks = most; blocks >= fewest; blocks = plan_div_up(H, at->units) - 1) {
        at->units = plan_div_up(H, blocks);
        consider_groups(s, at);
    }
}

static void candidates(PlanSearch *s, PlanLayout *at)
{
    at->rounds = at->cluster = 1;
    at->exchange = EXCHANGE_FLAG;
    plan_consider_rows(s, at, consider_units);
}

/* ---- bytes ---- */

/* Returns plan_warp_sums, or 0 on a device before sm_70, where warps do not add up their slices. */
static int32_t warp_sums(const DeviceFacts *device, const LstmPlan *p)
{
    return device->major >= 7 ? plan_warp_sums(p) : 0;
}

/* Returns how many float4 of partial sums a block writes to shared memory in a forward pass: those
 * of every slice, unless warps add up their own slices. */
static double forward_sums(const DeviceFacts *device, const LstmPlan *p)
{
    int32_t in_warp = warp_sums(device, p);
    return (double)(in_warp ? in_warp : p->slices) * (double)plan_items(p);
}

static CostBytes bytes(const DeviceFacts *device, const LstmShape *shape, const LstmPlan *p)
{
    CostBytes b = {.weights = 16.0 * (double)shape->H * (double)shape->H};
    double ranges = (double)plan_ranges(p, shape->B), grid = ranges * p->replicas * p->blocks,
           passes = p->passes;
    double kept = plan_least(p->resident, p->depth), depth = p->depth;
    if (p->backward) {
        double streamed = p->streamed + (p->rounds - 1) * (double)(p->depth - p->shared);
        b.kept_registers = kept / (depth * p->rounds);
        b.kept_shared = p->shared / depth;
        b.streamed = grid * passes * p->groups * 64.0 * p->slices * p->quads * streamed;
        b.exchanged = ranges * p->replicas * 4.0 * 2 * (double)plan_exchange_floats(p);
        b.summed = grid * passes * 2 * 16.0 * (p->slices - plan_folded(p->slices)) * p->quads *
                   p->rounds * p->groups * p->batch;
    } else {
        b.kept_registers = kept / depth;
        b.kept_shared = p->shared / depth;
        b.streamed = grid * passes * p->groups * 16.0 * p->slices * p->units * p->streamed;
        b.exchanged =
            ranges * p->replicas * 4.0 * (1 + p->blocks) * (double)plan_exchange_floats(p);
        b.summed = grid * passes * 2 * 16.0 * forward_sums(device, p);
    }
    return b;
}

/* ---- predicted time, in clocks of an SM until cost_time_end ---- */

static double most(double a, double b) { return a > b ? a : b; }
static double ceil_div(double a, double b) { return ceil(a / b); }

typedef struct Rates {
    const CostConstants *c;
    double sms;      /* SMs at work */
    double dram, l2; /* as in CostRates */
} Rates;

static Rates rates_of(const CostConstants *c, double sms)
{
    CostRates of = cost_rates(c, sms);
    return (Rates){c, sms, of.dram, of.l2};
}

/* The work of a thread in a pass, and the stalls of its warp where nothing hides them. */
typedef struct Work {
    double fma, other; /* instructions: multiply-adds; loads and address arithmetic */
    double waits;      /* clocks that a single warp stalls */
    double shared;     /* bytes read from shared memory */
    double streamed;   /* bytes read from L2 */
} Work;

static void work_add(Work *w, double times, double fma, double other, double waits, double shared,
                     double streamed)
{
    w->fma += times * fma, w->other += times * other, w->waits += times * waits;
    w->shared += times * shared, w->streamed += times * streamed;
}

/* Returns the clocks in which a scheduler, with a quarter of the SM's lanes, issues one warp's
 * instructions. */
static double warp_clocks(const Rates *r, double fma, double other)
{
    return most(fma * 32 / (r->c->fma_lanes / 4), (fma + other) / r->c->issue) / r->c->fma_share;
}

/* Returns the clocks of a block's multiplication, the longest of
 *
 *   issue   the warps are dealt to four schedulers; the fullest one counts
 *   alone   the issue and stalls of one warp
 *   reads   bytes from shared memory
 *   stream  bytes of weights from L2, or from DRAM if all the weights that the device streams
 *           (`whole`, each byte counted once) do not stay in L2 */
static double multiply_clocks(const Rates *r, const DeviceFacts *device, double threads,
                              const Work *w, double whole)
{
    double warp = warp_clocks(r, w->fma, w->other);
    double clocks = most(warp * ceil_div(ceil_div(threads, 32), 4), warp + w->waits);
    clocks = most(clocks, threads * w->shared / r->c->shared_rate);
    clocks = most(clocks, threads * w->streamed / r->l2);
    return whole > (double)device->l2 ? most(clocks, whole / r->dram) : clocks;
}

/* Returns the clocks from a block's arrival at the barrier until it passes: the hop, or the block's
 * own loads and stores of saved tensors in the meantime, whichever takes longer. */
static double between_clocks(const Rates *r, const LstmPlan *p)
{
    return most(r->c->hop * r->c->clock, COST_SAVED_BYTES * (double)p->rows * p->units / r->l2);
}

static CostTime forward_time(const Rates *r, const DeviceFacts *device, const LstmShape *shape,
                             const LstmPlan *p)
{
    CostTime t = {0};
    const CostConstants *c = r->c;
    double H = (double)shape->H, threads = (double)p->units * p->slices * p->groups,
           batch = p->batch;
    double loads = ceil_div(batch, 4), passes = p->passes, chunks = p->chunks;
    /* One k takes 4 gates * batch multiply-adds and 4 * batch bytes of h. Registers past the
     * slice's end are multiplied, too. Weights in shared memory are read two at a time. Streamed
     * weights are read four at a time, and all warps request them at once, since they left the same
     * barrier. */
    Work w = {0};
    work_add(&w, p->resident, 4 * batch, loads, 0, 4 * batch, 0);
    work_add(&w, p->shared, 4 * batch, loads + 1, c->shared_latency / 2, 4 * batch + 16, 0);
    work_add(&w, p->streamed, 4 * batch, loads + 2, (c->l2_latency + threads * 64 / r->l2) / 4,
             4 * batch, 16);
    w.waits += chunks * c->shared_latency;
    double multiply =
        multiply_clocks(r, device, threads, &w, 16 * H * H * p->streamed / ((double)p->depth));
    /* Each chunk is copied while the one before it is multiplied; nothing hides the copy of the
     * first. Copies share L2 with streamed weights. */
    double bytes = 4.0 * (double)plan_chunk_floats(p), copy = c->l2_latency + bytes / r->l2;
    double loop = most(multiply, (chunks - 1) * copy + multiply / chunks);
    loop = most(loop, (threads * w.streamed + (chunks - 1) * bytes) / r->l2);
    t.multiply = passes * multiply;
    t.ingest = passes * (copy + loop - multiply);
    /* The float4 are written once and read once; a warp that adds up its slices issues 12 shuffles,
     * one per clock. */
    double warps = ceil_div(threads, 32);
    bool in_warp = warp_sums(device, p) > 0;
    t.sums = passes * (2 * 16 * forward_sums(device, p) / c->shared_rate + 2 * c->shared_latency);
    if (in_warp) t.sums += passes * 12 * warps;
    t.cell = passes * ceil_div((double)plan_items(p), p->threads) * c->cell;
    t.syncs = (passes * (chunks + (in_warp ? 3 : 4)) + 1) * c->sync;
    t.hop = between_clocks(r, p);
    return t;
}

static CostTime backward_time(const Rates *r, const DeviceFacts *device, const LstmShape *shape,
                              const LstmPlan *p)
{
    enum { FLIGHT = 8 }; /* loads in flight per thread while it gathers */
    CostTime t = {0};
    const CostConstants *c = r->c;
    double H = (double)shape->H, threads = (double)p->quads * p->slices * p->groups,
           batch = p->batch;
    double loads = 4 * ceil_div(batch, 4), passes = p->passes, later = p->rounds - 1;
    double gather = plan_gather_groups(p), parcel = (double)plan_parcel_floats(p);
    /* One unit has four rows of w_hh, one per gate, and takes 4 gates * 4 k * batch multiply-adds
     * and 16 * batch bytes of dgates. Registers past the slice's end are multiplied, too; rounds
     * after the first stream the weights that the first round has in registers. One row is loaded
     * from L2 while another is multiplied, four rows ahead if nothing is resident. */
    Work w = {0};
    double streamed =
        p->streamed + later * (double)(plan_least(p->resident, p->depth) + p->streamed);
    double row = warp_clocks(r, 4 * batch, loads / 4), ahead = p->resident ? 1 : 4;
    double waits = 4 * most(c->l2_latency / ahead - row, 0);
    work_add(&w, p->resident, 16 * batch, loads, 0, 16 * batch, 0);
    work_add(&w, p->shared * (1 + later), 16 * batch, loads + 4, c->shared_latency, 16 * batch + 64,
             0);
    work_add(&w, streamed, 16 * batch, loads + 20, waits, 16 * batch, 64);
    t.multiply = passes * multiply_clocks(r, device, threads, &w,
                                          16 * H * H * streamed / ((double)p->depth * p->rounds));
    /* Partial dh is sent to every consumer and gathered from every producer, FLIGHT loads at a
     * time. */
    double bytes = 4 * parcel * p->blocks / r->l2;
    double turns =
        ceil_div(gather * parcel / 4, p->threads) * ceil_div(ceil_div(p->blocks, gather), FLIGHT);
    t.ingest = passes * (most(turns * c->l2_latency, c->l2_latency + bytes) + bytes);
    double partial = threads * (p->slices - 1) / p->slices * 4 * batch * p->rounds;
    double folds = p->rounds * ceil(log2(p->slices));
    t.sums = passes * (2 * 4 * (gather * parcel + partial) / c->shared_rate +
                       (1 + folds) * c->shared_latency);
    t.cell = passes * ceil_div((double)plan_items(p), p->threads) * c->cell;
    t.syncs = (passes * (3 + 2 * folds) + 2) * c->sync;
    t.hop = between_clocks(r, p);
    return t;
}

static CostTime predict(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *p)
{
    Rates r = rates_of(c, (double)p->replicas * p->blocks);
    CostTime t =
        p->backward ? backward_time(&r, device, shape, p) : forward_time(&r, device, shape, p);
    double ranges = (double)plan_ranges(p, shape->B);
    cost_time_end(&t, ranges, c->clock);
    double weights = 16.0 * (double)shape->H * (double)shape->H;
    t.launch = c->launch + c->hop +
               most(weights / r.dram, weights * p->replicas / (r.l2 * r.sms)) / c->clock;
    t.launch *= ranges;
    return t;
}

const ResidencyKind residency_vector = {.streams = true,
                                        .lacking = lacking,
                                        .candidates = candidates,
                                        .fault = fault,
                                        .plan_of = plan_of,
                                        .sizes = sizes,
                                        .step_bytes = step_bytes,
                                        .largest_index = largest_index,
                                        .bytes = bytes,
                                        .predict = predict};
