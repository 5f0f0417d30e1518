#include "cost_model.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* The model's file, followed by every measured one: see the Makefile. */
static const char built_in[] =
#include "constants_json.h"
    ;

/* ---- constants ---- */

static const struct ConstantInfo {
    const char *name, *unit;
    size_t offset;
    bool everywhere; /* whether every device has the constant */
} infos[] = {
#define X(name, unit, what) {#name, unit, offsetof(CostConstants, name), true},
    COST_CONSTANTS(X)
#undef X
#define X(name, unit, what) {#name, unit, offsetof(CostConstants, name), false},
        COST_TENSOR_CONSTANTS(X)
#undef X
};
enum { CONSTANTS = sizeof infos / sizeof infos[0] };

static double *constant_at(CostConstants *c, int i)
{
    return (double *)((char *)c + infos[i].offset);
}

/* Sets the constant that the benchmark (bench/gpu_constants.cpp) measures under `name`, converted
 * to the model's unit, or the constant that has this name and unit in the model. Other names are
 * ignored. */
static void set_measured(CostConstants *c, const DeviceFacts *device, const char *name,
                         const char *unit, double value)
{
    if (!strcmp(name, "flag_hop")) c->hop = value;
    else if (!strcmp(name, "graph_node_gap")) c->launch = value;
    else if (!strcmp(name, "copy")) c->dram_rate = value;
    else if (!strcmp(name, "fma_f32"))
        c->fma_share = value / (2e6 * c->clock * c->fma_lanes * device->sms);
    else if (!strcmp(name, "mma_rate"))
        c->mma = 4 * 16 * 8 * 16 / value; /* multiply-adds per SM and clock */
    else if (!strcmp(name, "dsmem_rate")) c->cluster_rate = value;
    else if (!strcmp(name, "cluster_barrier_8")) c->cluster_sync = value;
    else {
        int i = 0;
        while (i < CONSTANTS &&
               (strcmp(name, infos[i].name) || !unit || strcmp(unit, infos[i].unit)))
            i++;
        if (i == CONSTANTS) return;
        *constant_at(c, i) = value;
    }
    c->measured++;
}

static int constants_fault(const char *from, const char *what, const char *of, Error *e)
{
    return error_set(e, EXIT_BAD_DATA, "%s: %s%s%s", from, what, of ? " " : "", of ? of : "");
}

/* Parses one document: the model's ("devices": {NAME: {CONSTANT: {"value": ...}}}) or a measured
 * one ("gpu": NAME, "constants": {...}). Only the device's part is read. */
static int parse_document(json_t *root, const char *from, const DeviceFacts *device,
                          CostConstants *c, bool *found, Error *e)
{
    json_t *devices = json_object_get(root, "devices"), *mine,
           *measured = json_object_get(root, "constants");
    const char *gpu = json_string_value(json_object_get(root, "gpu")), *name;
    if (gpu && json_is_object(measured)) {
        json_t *entry;
        if (!strstr(gpu, c->device)) return EXIT_DONE;
        json_object_foreach(measured, name, entry)
        {
            double value = json_number_value(json_object_get(entry, "value"));
            const char *unit = json_string_value(json_object_get(entry, "unit"));
            if (value > 0 && isfinite(value)) set_measured(c, device, name, unit, value);
        }
        return EXIT_DONE;
    }
    if (!json_is_object(devices))
        return constants_fault(from, "it has neither \"devices\" nor \"gpu\" with \"constants\"",
                               NULL, e);
    mine = json_object_get(devices, c->device);
    if (!mine) return EXIT_DONE;
    *found = true;
    for (int i = 0; i < CONSTANTS; i++) {
        json_t *entry = json_object_get(mine, infos[i].name);
        const char *unit = json_string_value(json_object_get(entry, "unit"));
        double value = json_number_value(json_object_get(entry, "value"));
        if (!entry) continue; /* keeps the value of an earlier file */
        if (!(value > 0) || !isfinite(value) || !unit || strcmp(unit, infos[i].unit))
            return error_set(e, EXIT_BAD_DATA,
                             "%s: %s of %s must be a \"value\" above 0 with the \"unit\" \"%s\"",
                             from, infos[i].name, c->device, infos[i].unit);
        *constant_at(c, i) = value;
    }
    return EXIT_DONE;
}

static int parse_constants(json_t *root, const char *from, const json_error_t *fault,
                           const DeviceFacts *device, CostConstants *c, bool *found, Error *e)
{
    int code = EXIT_DONE;
    if (!root)
        return error_set(e, EXIT_BAD_DATA, "%s is not JSON: %s (line %d)", from, fault->text,
                         fault->line);
    size_t i;
    json_t *document;
    if (json_is_array(root)) {
        json_array_foreach(root, i, document) if (!code) code =
            parse_document(document, from, device, c, found, e);
    } else {
        code = parse_document(root, from, device, c, found, e);
    }
    json_decref(root);
    return code;
}

int cost_constants(const DeviceFacts *device, const char *file, CostConstants *c, Error *e)
{
    json_error_t fault;
    bool found = false;
    memset(c, 0, sizeof *c);
    snprintf(c->device, sizeof c->device, "%s", device_like(device));
    int code = parse_constants(json_loads(built_in, 0, &fault), "the constants in this program",
                               &fault, device, c, &found, e);
    if (!code && file) {
        found = false;
        FILE *in = fopen(file, "re");
        if (!in) return error_set(e, EXIT_BAD_DATA, "%s cannot be opened: %m", file);
        code = parse_constants(json_loadf(in, 0, &fault), file, &fault, device, c, &found, e);
        fclose(in);
    }
    for (int i = 0; i < CONSTANTS && !code; i++)
        if (infos[i].everywhere && !(*constant_at(c, i) > 0))
            code = error_set(e, EXIT_BAD_DATA, "the constants of %s have no %s", c->device,
                             infos[i].name);
    return code;
}

/* ---- predictions, in clocks of an SM until cost_time_end ---- */

static double most(double a, double b) { return a > b ? a : b; }
static double least(double a, double b) { return a < b ? a : b; }

CostRates cost_rates(const CostConstants *c, double sms)
{
    return (CostRates){c->dram_rate / (c->clock * 1e6), least(c->l2_rate / sms, c->l2_rate_sm)};
}

void cost_time_end(CostTime *t, double ranges, double clock_mhz)
{
    double *part[] = {&t->hop, &t->ingest, &t->multiply, &t->sums, &t->cell, &t->syncs};
    for (int i = 0; i < 6; i++) {
        *part[i] *= ranges / clock_mhz;
        t->step += *part[i];
    }
}

CostTime cost_predict_stepwise(const CostConstants *c, const DeviceFacts *device,
                               const LstmShape *shape, int backward)
{
    CostTime t = {0};
    CostRates r = cost_rates(c, device->sms);
    double H = (double)shape->H, B = (double)shape->B, weights = 16 * H * H;
    double fma = 4 * H * H * B / (c->fma_lanes * c->fma_share * device->sms);
    double read = weights > (double)device->l2 ? weights / r.dram : weights / (r.l2 * device->sms);
    (void)backward; /* backward multiplies by the same matrix, transposed */
    t.multiply = most(fma, read) / c->clock;
    t.hop = 2 * c->launch;
    t.cell = 2 * c->kernel;
    t.step = t.hop + t.multiply + t.cell;
    return t;
}
