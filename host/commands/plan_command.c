#include "plan_command.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "host/plan/device.h"
#include "host/base/json_line.h"
#include "host/plan/precision.h"
#include "host/plan/residency.h"
#include "host/base/settings.h"

static const char *const passes[] = {"forward", "backward"};

/* ---- what is asked for ---- */

typedef struct Asked {
    const PlanOptions *o;
    PlanOverride force;
    int pick[2]; /* variant of each pass, or -1: all */
    FILE *out;
    JsonLine line;
    int rows, plans; /* rows printed, and those that are a plan */
} Asked;

typedef struct Workload {
    const char *name; /* the preset's, or NULL: not one */
    LstmShape shape;
} Workload;

static int workload_of(const PlanOptions *o, int preset, Workload *w, Error *e)
{
    static const char *const names[] = {"small", "medium", "large"};
    Settings s;
    settings_defaults(&s);
    int code = settings_preset(&s, names[preset], e);
    *w = (Workload){names[preset], {.T = s.seq, .B = s.batch, .H = s.hidden}};
    if (o->hidden) w->shape.H = o->hidden;
    if (o->batch) w->shape.B = o->batch;
    if (o->seq) w->shape.T = o->seq;
    if (w->shape.H != s.hidden || w->shape.B != s.batch || w->shape.T != s.seq) w->name = NULL;
    return code;
}

/* ---- one row ---- */

typedef struct Row {
    const LstmFootprint *footprint;
    int backward;
    LstmPrecision precision; /* that it computes in; where it is refused, that was asked for */
    bool planned, stepwise;
    LstmPlan plan; /* where planned and not stepwise */
    PlanTime time; /* where planned */
    Error why;     /* where not */
} Row;

static void row_make(Row *r, const Asked *a, const DeviceFacts *device, const PlanConstants *c,
                     const LstmShape *shape)
{
    int precision = lstm_precision(r->footprint, shape->precision);
    r->precision = precision < 0 ? shape->precision : (LstmPrecision)precision;
    r->stepwise = !r->footprint->tile[r->backward];
    if (r->stepwise) {
        r->planned = true;
        r->time = plan_predict_stepwise(c, device, shape, r->backward);
        return;
    }
    r->planned = !lstm_plan(device, shape, r->footprint, r->backward, &a->force, c, &r->plan, &r->why);
    if (r->planned) r->time = plan_predict(c, device, shape, &r->plan);
}

static int row_registers(const Row *r) { return r->footprint->tile[r->backward][r->plan.tile].registers; }

static void print_head(FILE *out)
{
    fprintf(out, "%-8s %-8s %8s %6s %7s %9s %7s %10s %9s %12s %12s %12s %9s %9s\n", "variant", "pass",
            "replicas", "blocks", "threads", "registers", "shared", "% kept in", "% kept in", "streamed",
            "exchanged", "summed", "us a step", "us a");
    fprintf(out, "%-8s %-8s %8s %6s %7s %9s %7s %10s %9s %12s %12s %12s %9s %9s\n", "", "", "", "", "a block",
            "a thread", "bytes", "registers", "shared", "bytes a step", "bytes a step", "bytes a step",
            "(model)", "launch");
}

static void print_row(const Row *r, const LstmShape *shape, FILE *out)
{
    const char *end = r->precision == shape->precision ? "\n" : "  in float32\n";
    fprintf(out, "%-8s %-8s ", r->footprint->name, passes[r->backward]);
    if (!r->planned) {
        fprintf(out, "%s\n", r->why.text);
        return;
    }
    if (r->stepwise) {
        fprintf(out, "%8s %6s %7s %9s %7s %10s %9s %12s %12s %12s %9.2f %9s%s", "-", "-", "-", "-", "-", "-",
                "-", "-", "-", "-", r->time.step, "-", end);
        return;
    }
    PlanBytes b = plan_bytes(&r->plan, shape);
    fprintf(out, "%8d %6d %7d %9d %7zu %10.1f %9.1f %12.0f %12.0f %12.0f %9.2f %9.2f%s", r->plan.replicas,
            r->plan.blocks, r->plan.threads, row_registers(r), r->plan.shared_bytes, 100 * b.kept_registers,
            100 * b.kept_shared, b.streamed, b.exchanged, b.summed, r->time.step, r->time.launch, end);
}

static int line_print(JsonLine *l, FILE *out)
{
    line_end(l);
    return l->no_memory || fwrite(l->text, 1, l->n, out) != l->n ? EXIT_FAILED : EXIT_DONE;
}

static void line_row(JsonLine *l, const Row *r, const DeviceFacts *device, const PlanConstants *c,
                     const Workload *w)
{
    char text[PLAN_TEXT];
    line_begin(l);
    line_string(l, "device", device->name);
    line_string(l, "preset", w->name);
    line_int(l, "H", w->shape.H), line_int(l, "B", w->shape.B), line_int(l, "T", w->shape.T);
    line_string(l, "variant", r->footprint->name);
    line_string(l, "precision", precision_name(r->precision));
    line_string(l, "pass", passes[r->backward]);
    if (!r->planned) {
        line_string(l, "refused", r->why.text);
        return;
    }
    if (!r->stepwise) {
        PlanBytes b = plan_bytes(&r->plan, &w->shape);
        line_int(l, "replicas", r->plan.replicas), line_int(l, "blocks", r->plan.blocks);
        line_int(l, "threads", r->plan.threads), line_int(l, "registers", row_registers(r));
        line_int(l, "shared_bytes", (int64_t)r->plan.shared_bytes);
        line_double(l, "resident_registers", b.kept_registers),
            line_double(l, "resident_shared", b.kept_shared);
        line_double(l, "streamed_bytes", b.streamed), line_double(l, "exchanged_bytes", b.exchanged);
        line_double(l, "summed_bytes", b.summed);
        plan_text(&r->plan, text, sizeof text);
        line_string(l, "plan", text);
    }
    line_double(l, "model_us_per_step", r->time.step);
    line_double(l, "model_us_per_launch", r->time.launch);
    line_open(l, "model_us", '{');
    line_double(l, "hop", r->time.hop), line_double(l, "ingest", r->time.ingest);
    line_double(l, "multiply", r->time.multiply), line_double(l, "sums", r->time.sums);
    line_double(l, "cell", r->time.cell), line_double(l, "syncs", r->time.syncs);
    line_close(l, '}');
    line_int(l, "constants_measured", c->measured);
}

/* ---- one device and shape ---- */

static int plan_row(Asked *a, const DeviceFacts *device, const PlanConstants *c, const Workload *w,
                    int variant, int backward, Error *e)
{
    Row r = {.footprint = lstm_footprints[variant], .backward = backward};
    /* Of all precisions each row once, under its own. */
    if (a->o->precision == PRECISIONS &&
        lstm_precision(r.footprint, w->shape.precision) != (int)w->shape.precision)
        return EXIT_DONE;
    row_make(&r, a, device, c, &w->shape);
    a->rows++, a->plans += r.planned;
    if (!a->o->json) {
        print_row(&r, &w->shape, a->out);
        return EXIT_DONE;
    }
    line_row(&a->line, &r, device, c, w);
    return line_print(&a->line, a->out) ? error_set(e, EXIT_FAILED, "the output cannot be written: %m")
                                        : EXIT_DONE;
}

static int plan_workload(Asked *a, const DeviceFacts *device, const PlanConstants *c, const Workload *w,
                         Error *e)
{
    if (!a->o->json) {
        fprintf(a->out,
                "%s%s%s, sm_%d%d, %d SMs; %s%sH %" PRId64 ", B %" PRId64 ", T %" PRId64 "%s%s; constants ",
                a->rows ? "\n" : "", device->name, device->index < 0 ? " (profile)" : "", device->major,
                device->minor, device->sms, w->name ? w->name : "", w->name ? ": " : "", w->shape.H,
                w->shape.B, w->shape.T, w->shape.precision == PRECISION_F32 ? "" : ", ",
                w->shape.precision == PRECISION_F32 ? "" : precision_name(w->shape.precision));
        if (c->measured) fprintf(a->out, "of the literature, %d of them measured\n", c->measured);
        else fprintf(a->out, "of the literature\n");
        print_head(a->out);
    }
    int code = EXIT_DONE;
    for (int i = 0; lstm_footprints[i] && a->pick[0] < 0 && !code; i++)
        for (int backward = 0; backward < 2 && !code; backward++)
            code = plan_row(a, device, c, w, i, backward, e);
    for (int backward = 0; backward < 2 && a->pick[0] >= 0 && !code; backward++)
        code = plan_row(a, device, c, w, a->pick[backward], backward, e);
    if (code) return code;
    if (!a->o->json && a->pick[0] < 0) {
        PlanChoice choice;
        plan_choose(device, &w->shape, &a->force, c, NULL, &choice);
        fprintf(a->out, "auto     %s\n", choice.reason);
    }
    return EXIT_DONE;
}

static int plan_device(Asked *a, const DeviceFacts *device, Error *e)
{
    PlanConstants c;
    int code = plan_constants(device, a->o->constants, &c, e);
    for (int preset = PLAN_SMALL; preset < PLAN_ALL && !code; preset++) {
        Workload w;
        if (a->o->preset != PLAN_ALL && a->o->preset != preset) continue;
        code = workload_of(a->o, preset, &w, e);
        for (int p = 0; p < PRECISIONS && !code; p++) {
            if (a->o->precision != PRECISIONS && a->o->precision != p) continue;
            w.shape.precision = (LstmPrecision)p;
            code = plan_workload(a, device, &c, &w, e);
        }
        if (a->o->preset == PLAN_ALL && a->o->hidden && a->o->batch && a->o->seq)
            break; /* the same three times */
    }
    return code;
}

/* The present GPU's facts; false: there is none that this program could use. */
static bool device_present(DeviceFacts *facts)
{
    Error none;
    int n;
    return !device_count(&n, &none) && !device_facts(0, facts, &none);
}

static int plan_devices(Asked *a, Error *e)
{
    const char *wanted = a->o->device;
    char names[128] = "";
    DeviceFacts present;
    if (!wanted) return plan_device(a, device_present(&present) ? &present : device_profile("H200"), e);
    if (strcmp(wanted, "all")) {
        if (device_profile(wanted)) return plan_device(a, device_profile(wanted), e);
        for (int i = 0; device_profile_name(i); i++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s, ", device_profile_name(i));
        return error_set(e, EXIT_USAGE, "--device takes %sor all, not '%s'", names, wanted);
    }
    int code = EXIT_DONE;
    for (int i = 0; device_profile_name(i) && !code; i++)
        code = plan_device(a, device_profile(device_profile_name(i)), e);
    if (!code && device_present(&present)) code = plan_device(a, &present, e);
    return code;
}

int plan_command(const PlanOptions *o, FILE *out, Error *e)
{
    Asked a = {.o = o, .pick = {-1, -1}, .out = out};
    Error why;
    int code = plan_override_env(&a.force, e);
    if (!code && o->plan && (code = plan_override_parse(o->plan, &a.force, &why)))
        error_set(e, code, "--plan: %s", why.text);
    if (!code && o->kernel) code = plan_kernels_parse(o->kernel, a.pick, e);
    if (!code) code = plan_devices(&a, e);
    line_free(&a.line);
    if (!code && fflush(out))
        code = error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    if (!code && !a.plans)
        code = error_set(e, EXIT_NO_DEVICE, "nothing of what was asked for has a plan; each row says why");
    return code;
}

/* ---- variants ---- */

int variants_command(FILE *out, Error *e)
{
    bool built = device_built();
    fprintf(out, "%-8s %-18s %-14s %-14s %-10s %s\n", "variant", "passes", "precision", "GPUs", "this build",
            "what it does");
    for (int i = 0; lstm_footprints[i]; i++) {
        const LstmFootprint *f = lstm_footprints[i];
        char precisions[32] = "";
        for (int p = 0; p < PRECISIONS; p++)
            if (f->precisions >> p & 1)
                snprintf(precisions + strlen(precisions), sizeof precisions - strlen(precisions), "%s%s",
                         precisions[0] ? ", " : "", precision_name((LstmPrecision)p));
        fprintf(out, "%-8s %-18s %-14s %-14s %-10s %s\n", f->name, "forward, backward", precisions,
                f->kind == KIND_CLUSTER ? "sm_90 and up"
                : f->kind == KIND_MMA   ? "sm_80 and up"
                                        : "sm_35 and up",
                built ? "runs it" : "-", f->summary);
    }
    fprintf(out, "--kernel NAME takes one for both passes, FWD/BWD one for each, auto what `plstm plan` "
                 "predicts to be fastest;\nwhat --precision asks for and a kernel does not have, its "
                 "recurrence computes in float32 where it has that.\n");
    if (!built)
        fprintf(out,
                "This build of plstm has no cuda backend; make with nvcc on PATH, or NVCC=..., adds it.\n");
    if (fflush(out)) return error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    return EXIT_DONE;
}
