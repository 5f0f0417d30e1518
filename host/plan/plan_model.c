#include "plan_model.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* The model file and, after it, every measured one: see the Makefile. */
static const char built_in[] =
#include "constants_json.h"
    ;

/* ---- constants ---- */

static const struct ConstantInfo {
    const char *name, *unit;
    size_t offset;
    bool everywhere; /* whether every device has it */
} infos[] = {
#define X(name, unit, what) {#name, unit, offsetof(PlanConstants, name), true},
    PLAN_CONSTANTS(X)
#undef X
#define X(name, unit, what) {#name, unit, offsetof(PlanConstants, name), false},
        PLAN_TENSOR_CONSTANTS(X)
#undef X
};
enum { CONSTANTS = sizeof infos / sizeof infos[0] };

static double *constant_at(PlanConstants *c, int i) { return (double *)((char *)c + infos[i].offset); }

/* What the benchmark calls what it measures (bench/gpu_constants.cpp), in this model's unit; or a constant of the model by its own
 * name and unit. */
static void take_measured(PlanConstants *c, const DeviceFacts *device, const char *name, const char *unit,
                          double value)
{
    if (!strcmp(name, "flag_hop")) c->hop = value;
    else if (!strcmp(name, "graph_node_gap")) c->launch = value;
    else if (!strcmp(name, "copy")) c->dram_rate = value;
    else if (!strcmp(name, "fma_f32")) c->fma_share = value / (2e6 * c->clock * c->fma_lanes * device->sms);
    else if (!strcmp(name, "mma_rate")) c->mma = 4 * 16 * 8 * 16 / value; /* multiply-adds of an SM a clock */
    else if (!strcmp(name, "dsmem_rate")) c->cluster_rate = value;
    else if (!strcmp(name, "cluster_barrier_8")) c->cluster_sync = value;
    else {
        int i = 0;
        while (i < CONSTANTS && (strcmp(name, infos[i].name) || !unit || strcmp(unit, infos[i].unit))) i++;
        if (i == CONSTANTS) return;
        *constant_at(c, i) = value;
    }
    c->measured++;
}

static int constants_fault(const char *from, const char *what, const char *of, Error *e)
{
    return error_set(e, EXIT_BAD_DATA, "%s: %s%s%s", from, what, of ? " " : "", of ? of : "");
}

/* One document: the model's ("devices": {NAME: {CONSTANT: {"value": ...}}}) or a measured one ("gpu": NAME, "constants":
 * {...}), of which only the device's part is read. */
static int take_document(json_t *root, const char *from, const DeviceFacts *device, PlanConstants *c,
                         bool *found, Error *e)
{
    json_t *devices = json_object_get(root, "devices"), *mine, *measured = json_object_get(root, "constants");
    const char *gpu = json_string_value(json_object_get(root, "gpu")), *name;
    if (gpu && json_is_object(measured)) {
        json_t *entry;
        if (!strstr(gpu, c->device)) return EXIT_DONE;
        json_object_foreach(measured, name, entry)
        {
            double value = json_number_value(json_object_get(entry, "value"));
            const char *unit = json_string_value(json_object_get(entry, "unit"));
            if (value > 0 && isfinite(value)) take_measured(c, device, name, unit, value);
        }
        return EXIT_DONE;
    }
    if (!json_is_object(devices))
        return constants_fault(from, "neither \"devices\" nor \"gpu\" with \"constants\" stands in it", NULL,
                               e);
    mine = json_object_get(devices, c->device);
    if (!mine) return EXIT_DONE;
    *found = true;
    for (int i = 0; i < CONSTANTS; i++) {
        json_t *entry = json_object_get(mine, infos[i].name);
        const char *unit = json_string_value(json_object_get(entry, "unit"));
        double value = json_number_value(json_object_get(entry, "value"));
        if (!entry) continue; /* keeps what an earlier file said */
        if (!(value > 0) || !isfinite(value) || !unit || strcmp(unit, infos[i].unit))
            return error_set(e, EXIT_BAD_DATA,
                             "%s: %s of %s must be a \"value\" above 0 with the \"unit\" \"%s\"", from,
                             infos[i].name, c->device, infos[i].unit);
        *constant_at(c, i) = value;
    }
    return EXIT_DONE;
}

static int take_text(json_t *root, const char *from, const json_error_t *fault, const DeviceFacts *device,
                     PlanConstants *c, bool *found, Error *e)
{
    int code = EXIT_DONE;
    if (!root) return error_set(e, EXIT_BAD_DATA, "%s: %s (line %d)", from, fault->text, fault->line);
    size_t i;
    json_t *document;
    if (json_is_array(root)) {
        json_array_foreach(root, i, document) if (!code) code =
            take_document(document, from, device, c, found, e);
    } else {
        code = take_document(root, from, device, c, found, e);
    }
    json_decref(root);
    return code;
}

int plan_constants(const DeviceFacts *device, const char *file, PlanConstants *c, Error *e)
{
    json_error_t fault;
    bool found = false;
    memset(c, 0, sizeof *c);
    snprintf(c->device, sizeof c->device, "%s", device_like(device));
    int code = take_text(json_loads(built_in, 0, &fault), "the constants in this program", &fault, device, c,
                         &found, e);
    if (!code && file) {
        found = false;
        code = take_text(json_load_file(file, 0, &fault), file, &fault, device, c, &found, e);
    }
    for (int i = 0; i < CONSTANTS && !code; i++)
        if (infos[i].everywhere && !(*constant_at(c, i) > 0))
            code = error_set(e, EXIT_BAD_DATA, "the constants of %s lack %s", c->device, infos[i].name);
    return code;
}

/* ---- predictions, in clocks of an SM until the end ---- */

/* Saved tensors that a step reads or writes beside the exchange, for each unit and batch row: x_proj, gates, c, h, y. */
enum { SAVED_BYTES = 44 };

static double most(double a, double b) { return a > b ? a : b; }
static double least(double a, double b) { return a < b ? a : b; }
static double ceil_div(double a, double b) { return ceil(a / b); }

typedef struct Rates {
    const PlanConstants *c;
    double sms;  /* that work */
    double dram; /* bytes a clock of the whole device */
    double l2;   /* bytes a clock of one of them: its port, or its part of what L2 gives all */
} Rates;

static Rates rates_of(const PlanConstants *c, double sms)
{
    Rates r = {c, sms, c->dram_rate / (c->clock * 1e6), 0};
    r.l2 = c->l2_rate / sms < c->l2_rate_sm ? c->l2_rate / sms : c->l2_rate_sm;
    return r;
}

/* What a warp starts in one step of contraction, and what it waits for where nothing hides it. */
typedef struct Work {
    double fma, other; /* instructions of a thread: multiply-adds; loads and address arithmetic */
    double waits;      /* clocks of a warp that is alone */
    double shared;     /* bytes that a thread reads from shared memory */
    double streamed;   /* bytes that a thread reads from L2 */
} Work;

static void work_add(Work *w, double times, double fma, double other, double waits, double shared,
                     double streamed)
{
    w->fma += times * fma, w->other += times * other, w->waits += times * waits;
    w->shared += times * shared, w->streamed += times * streamed;
}

/* What a scheduler, with a quarter of the SM's lanes, takes to start one warp's instructions. */
static double warp_clocks(const Rates *r, double fma, double other)
{
    return most(fma * 32 / (r->c->fma_lanes / 4), (fma + other) / r->c->issue) / r->c->fma_share;
}

/* A block's multiplication: the longest of
 *   issue   its warps are dealt to four schedulers; the fullest one counts
 *   alone   what one warp starts, and what it waits for
 *   reads   bytes from shared memory
 *   stream  bytes of weights from L2, or from DRAM where what the device streams in all (`whole`, each byte once) does
 *           not stay in L2 */
static double multiply_clocks(const Rates *r, const DeviceFacts *device, double threads, const Work *w,
                              double whole)
{
    double warp = warp_clocks(r, w->fma, w->other);
    double clocks = most(warp * ceil_div(ceil_div(threads, 32), 4), warp + w->waits);
    clocks = most(clocks, threads * w->shared / r->c->shared_rate);
    clocks = most(clocks, threads * w->streamed / r->l2);
    return whole > (double)device->l2 ? most(clocks, whole / r->dram) : clocks;
}

/* From a block's arrival to its passing the barrier: the hop, or its own loads and stores of saved tensors in between. */
static double between_clocks(const Rates *r, const LstmPlan *p)
{
    return most(r->c->hop * r->c->clock, SAVED_BYTES * (double)p->rows * p->units / r->l2);
}

static PlanTime forward_time(const Rates *r, const DeviceFacts *device, const LstmShape *shape,
                             const LstmPlan *p)
{
    PlanTime t = {0};
    const PlanConstants *c = r->c;
    double H = (double)shape->H, threads = (double)p->units * p->slices * p->groups, batch = p->batch;
    double loads = ceil_div(batch, 4), passes = p->passes, chunks = p->chunks;
    /* One k: 4 gates * batch multiply-adds for 4 * batch bytes of h; registers past the slice's end are multiplied
     * too. Weights in shared memory come two at a time; streamed ones four, which all warps ask for at once, since they left the
     * same barrier. */
    Work w = {0};
    work_add(&w, p->resident, 4 * batch, loads, 0, 4 * batch, 0);
    work_add(&w, p->shared, 4 * batch, loads + 1, c->shared_latency / 2, 4 * batch + 16, 0);
    work_add(&w, p->streamed, 4 * batch, loads + 2, (c->l2_latency + threads * 64 / r->l2) / 4, 4 * batch,
             16);
    w.waits += chunks * c->shared_latency;
    double multiply = multiply_clocks(r, device, threads, &w, 16 * H * H * p->streamed / ((double)p->depth));
    /* Of each chunk the copy is under way while the one before is multiplied; the first one nothing hides. Copies share
     * L2 with streamed weights. */
    double bytes = 4.0 * (double)plan_chunk_floats(p), copy = c->l2_latency + bytes / r->l2;
    double loop = most(multiply, (chunks - 1) * copy + multiply / chunks);
    loop = most(loop, (threads * w.streamed + (chunks - 1) * bytes) / r->l2);
    t.multiply = passes * multiply;
    t.ingest = passes * (copy + loop - multiply);
    /* Every slice's float4 is written once and read once. */
    t.sums = passes * (2 * 16 * threads * batch / c->shared_rate + 2 * c->shared_latency);
    t.cell = passes * ceil_div((double)plan_items(p), p->threads) * c->cell;
    t.syncs = (passes * (chunks + 4) + 1) * c->sync;
    t.hop = between_clocks(r, p);
    return t;
}

static PlanTime backward_time(const Rates *r, const DeviceFacts *device, const LstmShape *shape,
                              const LstmPlan *p)
{
    enum { FLIGHT = 8 }; /* of a thread's loads while it gathers */
    PlanTime t = {0};
    const PlanConstants *c = r->c;
    double H = (double)shape->H, threads = (double)p->quads * p->slices * p->groups, batch = p->batch;
    double loads = 4 * ceil_div(batch, 4), passes = p->passes, later = p->rounds - 1;
    double gather = plan_gather_groups(p), parcel = (double)plan_parcel_floats(p);
    /* One unit, that is four rows of W_hh: 4 gates * 4 k * batch multiply-adds for 16 * batch bytes of dgates. Registers past
     * the slice's end are multiplied too; rounds after the first stream what that has in registers. The next row is on its
     * way from L2 while one is multiplied, the next four where nothing is resident. */
    Work w = {0};
    double streamed = p->streamed + later * (least(p->resident, p->depth) + p->streamed);
    double row = warp_clocks(r, 4 * batch, loads / 4), ahead = p->resident ? 1 : 4;
    double waits = 4 * most(c->l2_latency / ahead - row, 0);
    work_add(&w, p->resident, 16 * batch, loads, 0, 16 * batch, 0);
    work_add(&w, p->shared * (1 + later), 16 * batch, loads + 4, c->shared_latency, 16 * batch + 64, 0);
    work_add(&w, streamed, 16 * batch, loads + 20, waits, 16 * batch, 64);
    t.multiply = passes * multiply_clocks(r, device, threads, &w,
                                          16 * H * H * streamed / ((double)p->depth * p->rounds));
    /* Partial dh: sent to every consumer, gathered from every producer, FLIGHT loads at a time. */
    double bytes = 4 * parcel * p->blocks / r->l2;
    double turns = ceil_div(gather * parcel / 4, p->threads) * ceil_div(ceil_div(p->blocks, gather), FLIGHT);
    t.ingest = passes * (most(turns * c->l2_latency, c->l2_latency + bytes) + bytes);
    double partial = threads * (p->slices - 1) / p->slices * 4 * batch * p->rounds;
    double folds = p->rounds * ceil(log2(p->slices));
    t.sums =
        passes * (2 * 4 * (gather * parcel + partial) / c->shared_rate + (1 + folds) * c->shared_latency);
    t.cell = passes * ceil_div((double)plan_items(p), p->threads) * c->cell;
    t.syncs = (passes * (3 + 2 * folds) + 2) * c->sync;
    t.hop = between_clocks(r, p);
    return t;
}

PlanTime plan_predict_vector(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                             const LstmPlan *p)
{
    Rates r = rates_of(c, (double)p->replicas * p->blocks);
    PlanTime t = p->backward ? backward_time(&r, device, shape, p) : forward_time(&r, device, shape, p);
    double *part[] = {&t.hop, &t.ingest, &t.multiply, &t.sums, &t.cell, &t.syncs};
    double ranges = (double)plan_ranges(p, shape->B);
    for (int i = 0; i < 6; i++) {
        *part[i] *= ranges / c->clock;
        t.step += *part[i];
    }
    double weights = 16.0 * (double)shape->H * (double)shape->H;
    t.launch = c->launch + c->hop + most(weights / r.dram, weights * p->replicas / (r.l2 * r.sms)) / c->clock;
    t.launch *= ranges;
    return t;
}

PlanTime plan_predict_stepwise(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                               int backward)
{
    PlanTime t = {0};
    Rates r = rates_of(c, device->sms);
    double H = (double)shape->H, B = (double)shape->B, weights = 16 * H * H;
    double fma = 4 * H * H * B / (c->fma_lanes * c->fma_share * r.sms);
    double read = weights > (double)device->l2 ? weights / r.dram : weights / (r.l2 * r.sms);
    (void)backward; /* the same product, transposed */
    t.multiply = most(fma, read) / c->clock;
    t.hop = 2 * c->launch;
    t.cell = 2 * c->kernel;
    t.step = t.hop + t.multiply + t.cell;
    return t;
}
