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
} infos[] = {
#define X(name, unit, what) {#name, unit, offsetof(PlanConstants, name)},
    PLAN_CONSTANTS(X)
#undef X
};
enum { CONSTANTS = sizeof infos / sizeof infos[0] };

static double *constant_at(PlanConstants *c, int i) { return (double *)((char *)c + infos[i].offset); }

/* What the benchmark calls what it measures (bench/gpu_constants.cpp), in this model's unit. */
static void take_measured(PlanConstants *c, const DeviceFacts *device, const char *name, double value)
{
    if (!strcmp(name, "flag_hop")) c->hop = value;
    else if (!strcmp(name, "graph_node_gap")) c->launch = value;
    else if (!strcmp(name, "copy")) c->dram_rate = value;
    else if (!strcmp(name, "fma_f32")) c->fma_share = value / (2e6 * c->clock * c->fma_lanes * device->sms);
    else return;
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
            if (value > 0 && isfinite(value)) take_measured(c, device, name, value);
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
        if (!(*constant_at(c, i) > 0))
            code = error_set(e, EXIT_BAD_DATA, "the constants of %s lack %s", c->device, infos[i].name);
    return code;
}

/* ---- predictions, in clocks of an SM until the end ---- */

static double most(double a, double b) { return a > b ? a : b; }
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

/* Multiply-adds of a block: its warps are dealt to four schedulers, of which each has a quarter of the lanes; the fullest
 * one counts. per_thread: of one thread. */
static double fma_clocks(const Rates *r, double threads, double per_thread)
{
    double warps = ceil_div(ceil_div(threads, 32), 4);
    return warps * 32 * per_thread / (r->c->fma_lanes / 4 * r->c->fma_share);
}

static double shared_clocks(const Rates *r, double bytes) { return bytes / r->c->shared_rate; }

/* Weights that a block streams: `bytes` of its own, from L2, or from DRAM where what the device streams in all (`whole`,
 * counted once) does not stay in L2; four loads at a time wait for one latency. */
static double stream_clocks(const Rates *r, const DeviceFacts *device, double bytes, double whole,
                            double loads)
{
    if (bytes <= 0) return 0;
    double clocks = most(bytes / r->l2, ceil_div(loads, 4) * r->c->l2_latency);
    return whole > (double)device->l2 ? most(clocks, whole / r->dram) : clocks;
}

/* Loads and stores of a step's saved tensors by one block, which stand between its arrival and its wait. */
static double between_clocks(const Rates *r, double elements, double bytes)
{
    return elements * bytes / r->l2;
}

static PlanTime forward_time(const Rates *r, const DeviceFacts *device, const LstmShape *shape,
                             const LstmPlan *p)
{
    PlanTime t = {0};
    const PlanConstants *c = r->c;
    double H = (double)shape->H, columns = (double)p->units * p->slices * p->groups;
    double steps = most(p->depth, p->resident), passes = p->passes, items = (double)plan_items(p);
    /* h is staged by 16-byte words, a chunk while the one before is multiplied */
    double chunk = c->l2_latency + 4.0 * (double)plan_chunk_floats(p) / r->l2;
    /* 4 gates * batch multiply-adds for each 4 * batch bytes of h, and the weights that lie in shared memory */
    double fma = fma_clocks(r, columns, 4.0 * p->batch * steps);
    double reads = shared_clocks(r, columns * (4.0 * p->batch * steps + 16.0 * p->shared));
    double stream = stream_clocks(r, device, columns * 16 * p->streamed, 16 * H * H * p->streamed / p->depth,
                                  p->streamed);
    t.multiply = passes * most(most(fma, reads), stream);
    double part = t.multiply / passes / p->chunks;
    t.ingest = passes * (chunk + (p->chunks - 1) * most(chunk - part, 0));
    /* every slice's float4 is written once and read once */
    t.sums = passes * (shared_clocks(r, 2 * 16.0 * columns * p->batch) + 2 * c->shared_latency);
    t.cell = passes * ceil_div(items, p->threads) * c->cell;
    t.syncs = (passes * (p->chunks + 3) + 2) * c->sync;
    t.hop = most(c->hop * c->clock, between_clocks(r, (double)p->rows * p->units, 44));
    return t;
}

static PlanTime backward_time(const Rates *r, const DeviceFacts *device, const LstmShape *shape,
                              const LstmPlan *p)
{
    PlanTime t = {0};
    const PlanConstants *c = r->c;
    double H = (double)shape->H, columns = (double)p->quads * p->slices * p->groups;
    double steps = most(p->depth, p->resident) + (p->rounds - 1) * (double)p->depth;
    double passes = p->passes, items = (double)plan_items(p), parcel = (double)plan_parcel_floats(p);
    double streamed = p->streamed + (p->rounds - 1) * (double)(p->depth - p->shared);
    /* partial dh: written to every consumer, read from every producer, then added up in shared memory */
    t.ingest = passes * (2 * c->l2_latency + 2 * 4 * parcel * p->blocks / r->l2);
    double fma = fma_clocks(r, columns, 16.0 * p->batch * steps);
    double reads = shared_clocks(r, columns * (16.0 * p->batch * steps + 64.0 * p->shared * p->rounds));
    double stream = stream_clocks(r, device, columns * 64 * streamed,
                                  16 * H * H * streamed / ((double)p->depth * p->rounds), 4 * streamed);
    t.multiply = passes * most(most(fma, reads), stream);
    double gathered = (double)plan_gather_groups(p) * parcel;
    double partial =
        (double)(p->slices - plan_folded(p->slices)) * p->groups * p->quads * 4 * p->batch * p->rounds;
    t.sums = passes * (shared_clocks(r, 2 * 4 * (gathered + partial)) + 2 * c->shared_latency);
    t.cell = passes * ceil_div(items, p->threads) * c->cell;
    t.syncs = (passes * (3 + 3 * (double)p->rounds) + 2) * c->sync;
    t.hop = most(c->hop * c->clock, between_clocks(r, (double)p->rows * p->units, 44));
    return t;
}

PlanTime plan_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                      const LstmPlan *p)
{
    Rates r = rates_of(c, (double)p->replicas * p->blocks);
    PlanTime t = p->backward ? backward_time(&r, device, shape, p) : forward_time(&r, device, shape, p);
    double *part[] = {&t.hop, &t.ingest, &t.multiply, &t.sums, &t.cell, &t.syncs};
    for (int i = 0; i < 6; i++) {
        *part[i] /= c->clock;
        t.step += *part[i];
    }
    double weights = 16.0 * (double)shape->H * (double)shape->H;
    t.launch = c->launch + c->hop + most(weights / r.dram, weights * p->replicas / (r.l2 * r.sms)) / c->clock;
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
