/* `plstm plan` prints how variants of the recurrence are laid out on a GPU; `plstm variants` lists
 * the variants. */
#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "host/plan/device.h"
#include "host/base/json_line.h"
#include "host/base/number.h"
#include "host/plan/precision.h"
#include "host/plan/residency.h"
#include "host/base/settings.h"

static const char *const passes[] = {"forward", "backward"};

/* ---- the request ---- */

/* One of the paper's models, or all of them. */
typedef enum PlanPreset { PLAN_SMALL, PLAN_MEDIUM, PLAN_LARGE, PLAN_ALL } PlanPreset;
#define PLAN_PRESETS "small|medium|large|all"

typedef struct PlanOptions {
    /* a profile's name, "all", or NULL: the GPU of this machine or, without one, H200 */
    const char *device;
    const char *preset;         /* its name, or NULL */
    int64_t hidden, batch, seq; /* 0: the preset's */
    int64_t precision;          /* an LstmPrecision, or PRECISIONS: all */
    const char *kernel;         /* NULL or "auto": every variant, forward and backward */
    const char *plan;           /* override (plan_override_parse), or NULL */
    const char *constants;      /* file of constants that override the built-in ones, or NULL */
    bool json;                  /* print one object per line instead of tables */
} PlanOptions;

typedef struct Asked {
    const PlanOptions *o;
    int64_t preset; /* PlanPreset */
    PlanOverride force;
    int pick[2]; /* variant of each pass; -1: all */
    FILE *out;
    JsonLine line;
    int rows, plans; /* rows printed, and those that have a plan */
} Asked;

typedef struct Workload {
    const char *name; /* of the preset; NULL: an option has changed a size */
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
    /* that in which the variant computes or, if it is refused, the one requested */
    LstmPrecision precision;
    bool planned, stepwise;
    LstmPlan plan; /* if planned and not stepwise */
    CostTime time; /* if planned */
    Error why;     /* if not planned */
} Row;

static void row_make(Row *r, const Asked *a, const DeviceFacts *device, const CostConstants *c,
                     const LstmShape *shape)
{
    int precision = lstm_precision(r->footprint, shape->precision);
    r->precision = precision < 0 ? shape->precision : (LstmPrecision)precision;
    r->stepwise = !r->footprint->tile[r->backward];
    if (r->stepwise) {
        r->planned = true;
        r->time = cost_predict_stepwise(c, device, shape, r->backward);
        return;
    }
    r->planned =
        !lstm_plan(device, shape, r->footprint, r->backward, &a->force, c, &r->plan, &r->why);
    if (r->planned) r->time = plan_predict(c, device, shape, &r->plan);
}

static int row_registers(const Row *r)
{
    return r->footprint->tile[r->backward][r->plan.tile].registers;
}

static void print_head(FILE *out)
{
    fprintf(out, "%-8s %-8s %8s %6s %7s %9s %7s %10s %9s %12s %12s %12s %9s %9s\n", "variant",
            "pass", "replicas", "blocks", "threads", "registers", "shared", "% kept in",
            "% kept in", "streamed", "exchanged", "summed", "us/step", "us per");
    fprintf(out, "%-8s %-8s %8s %6s %7s %9s %7s %10s %9s %12s %12s %12s %9s %9s\n", "", "", "", "",
            "/block", "/thread", "bytes", "registers", "shared", "bytes/step", "bytes/step",
            "bytes/step", "(model)", "launch");
}

/* Ends a row: prints the precision, if it is not the one requested, and the exchange, if the
 * variant has more than one (KIND_MMA). */
static void print_row_end(const Row *r, const LstmShape *shape, FILE *out)
{
    static const char *const exchange[EXCHANGES] = {
        [EXCHANGE_FLAG] = "exchange 1, flags", [EXCHANGE_WORDS] = "exchange 2, words"};
    if (r->precision != shape->precision) fprintf(out, "  in float32");
    if (!r->stepwise && r->plan.kind == KIND_MMA) fprintf(out, "  %s", exchange[r->plan.exchange]);
    fputc('\n', out);
}

static void print_row(const Row *r, const DeviceFacts *device, const LstmShape *shape, FILE *out)
{
    fprintf(out, "%-8s %-8s ", r->footprint->name, passes[r->backward]);
    if (!r->planned) {
        fprintf(out, "%s\n", r->why.text);
        return;
    }
    if (r->stepwise) {
        fprintf(out, "%8s %6s %7s %9s %7s %10s %9s %12s %12s %12s %9.2f %9s", "-", "-", "-", "-",
                "-", "-", "-", "-", "-", "-", r->time.step, "-");
        print_row_end(r, shape, out);
        return;
    }
    CostBytes b = plan_bytes(device, shape, &r->plan);
    fprintf(out, "%8d %6d %7d %9d %7zu %10.1f %9.1f %12.0f %12.0f %12.0f %9.2f %9.2f",
            r->plan.replicas, r->plan.blocks, r->plan.threads, row_registers(r),
            r->plan.shared_bytes, 100 * b.kept_registers, 100 * b.kept_shared, b.streamed,
            b.exchanged, b.summed, r->time.step, r->time.launch);
    print_row_end(r, shape, out);
}

static int line_print(JsonLine *l, FILE *out)
{
    line_end(l);
    return l->no_memory || fwrite(l->text, 1, l->n, out) != l->n ? EXIT_FAILED : EXIT_DONE;
}

static void line_row(JsonLine *l, const Row *r, const DeviceFacts *device, const CostConstants *c,
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
        CostBytes b = plan_bytes(device, &w->shape, &r->plan);
        line_int(l, "replicas", r->plan.replicas), line_int(l, "blocks", r->plan.blocks);
        line_int(l, "threads", r->plan.threads), line_int(l, "registers", row_registers(r));
        line_int(l, "shared_bytes", (int64_t)r->plan.shared_bytes);
        line_double(l, "resident_registers", b.kept_registers),
            line_double(l, "resident_shared", b.kept_shared);
        line_double(l, "streamed_bytes", b.streamed),
            line_double(l, "exchanged_bytes", b.exchanged);
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

static int plan_row(Asked *a, const DeviceFacts *device, const CostConstants *c, const Workload *w,
                    int variant, int backward, Error *e)
{
    Row r = {.footprint = lstm_footprints[variant], .backward = backward};
    /* With all precisions, each row is printed once, under its own precision. */
    if (a->o->precision == PRECISIONS &&
        lstm_precision(r.footprint, w->shape.precision) != (int)w->shape.precision)
        return EXIT_DONE;
    row_make(&r, a, device, c, &w->shape);
    a->rows++, a->plans += r.planned;
    if (!a->o->json) {
        print_row(&r, device, &w->shape, a->out);
        return EXIT_DONE;
    }
    line_row(&a->line, &r, device, c, w);
    return line_print(&a->line, a->out)
               ? error_set(e, EXIT_FAILED, "the output cannot be written: %m")
               : EXIT_DONE;
}

static int plan_workload(Asked *a, const DeviceFacts *device, const CostConstants *c,
                         const Workload *w, Error *e)
{
    if (!a->o->json) {
        fprintf(a->out,
                "%s%s%s, sm_%d%d, %d SMs; %s%sH %" PRId64 ", B %" PRId64 ", T %" PRId64
                "%s%s; constants ",
                a->rows ? "\n" : "", device->name, device->index < 0 ? " (profile)" : "",
                device->major, device->minor, device->sms, w->name ? w->name : "",
                w->name ? ": " : "", w->shape.H, w->shape.B, w->shape.T,
                w->shape.precision == PRECISION_F32 ? "" : ", ",
                w->shape.precision == PRECISION_F32 ? "" : precision_name(w->shape.precision));
        if (c->measured) fprintf(a->out, "from the literature, %d of them measured\n", c->measured);
        else fprintf(a->out, "from the literature\n");
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
        fprintf(a->out, "auto     %s; each with its share of the launch, us per launch / T\n",
                choice.reason);
    }
    return EXIT_DONE;
}

static int plan_device(Asked *a, const DeviceFacts *device, Error *e)
{
    CostConstants c;
    int code = cost_constants(device, a->o->constants, &c, e);
    for (int preset = PLAN_SMALL; preset < PLAN_ALL && !code; preset++) {
        Workload w;
        if (a->preset != PLAN_ALL && a->preset != preset) continue;
        code = workload_of(a->o, preset, &w, e);
        for (int p = 0; p < PRECISIONS && !code; p++) {
            if (a->o->precision != PRECISIONS && a->o->precision != p) continue;
            w.shape.precision = (LstmPrecision)p;
            code = plan_workload(a, device, &c, &w, e);
        }
        /* With all sizes given, the other presets would give the same shape. */
        if (a->preset == PLAN_ALL && a->o->hidden && a->o->batch && a->o->seq) break;
    }
    return code;
}

/* Reads the facts of this machine's first GPU. Returns false if there is no GPU that this program
 * could use. */
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
    if (!wanted)
        return plan_device(a, device_present(&present) ? &present : device_profile("H200"), e);
    if (strcmp(wanted, "all")) {
        if (device_profile(wanted)) return plan_device(a, device_profile(wanted), e);
        for (int i = 0; device_profile_name(i); i++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s, ",
                     device_profile_name(i));
        return error_set(e, EXIT_USAGE, "--device takes %sor all, not '%s'", names, wanted);
    }
    int code = EXIT_DONE;
    for (int i = 0; device_profile_name(i) && !code; i++)
        code = plan_device(a, device_profile(device_profile_name(i)), e);
    if (!code && device_present(&present)) code = plan_device(a, &present, e);
    return code;
}

/* Prints how the environment variable PLSTM_PLAN changes the plans, if it does. */
static void remark_environment(const PlanOverride *force, const char *given, FILE *notes)
{
    char text[PLAN_OVERRIDE_TEXT];
    plan_override_text(force, text, sizeof text);
    if (!text[0]) return;
    if (given)
        fprintf(notes, "plstm: --plan replaces the environment variable PLSTM_PLAN, %s\n", text);
    else
        fprintf(notes, "plstm: the environment variable PLSTM_PLAN constrains these plans: %s\n",
                text);
}

/* Prints a row, or a line of JSON, for every requested variant and pass: its plan, or the sentence
 * that says what is missing. EXIT_NO_DEVICE: none of them has a plan. */
static int plan(const CommandLine *line, Error *e)
{
    const PlanOptions *o = line->own;
    bool sized = o->hidden || o->batch || o->seq;
    Asked a = {.o = o, .pick = {-1, -1}, .out = stdout};
    Error why;
    a.preset = o->preset ? choice_index(PLAN_PRESETS, o->preset) : sized ? PLAN_SMALL : PLAN_ALL;
    int code = plan_override_env(&a.force, e);
    if (!code && line->notes) remark_environment(&a.force, o->plan, line->notes);
    if (!code && o->plan && (code = plan_override_parse(o->plan, &a.force, &why)))
        error_set(e, code, "--plan: %s", why.text);
    if (!code && o->kernel) code = plan_kernels_parse(o->kernel, a.pick, e);
    if (!code) code = plan_devices(&a, e);
    line_free(&a.line);
    if (!code && fflush(stdout))
        code = error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    if (!code && !a.plans)
        code = error_set(e, EXIT_NO_DEVICE,
                         "none of the requested variants has a plan; each row says why");
    return code;
}

#define AT(field) .at = offsetof(PlanOptions, field)
static const Option options[] = {
    {"device", TAKES_TEXT("K20, K40, V100, A100, H100, H200, B200 or all"),
     "GPU for which to plan, or all of them and the GPU of this machine (default this "
     "machine's GPU, or H200 without one)",
     AT(device)},
    {"preset", TAKES_NAME("small, medium, large or all", PLAN_PRESETS),
     "the paper's models (default all, or small beside an option that sets a size)", AT(preset)},
    {"hidden", TAKES_WHOLE(1, 65536), "units instead of the preset's", AT(hidden)},
    {"batch", TAKES_WHOLE(1, 65536), "batch instead of the preset's", AT(batch)},
    {"seq", TAKES_WHOLE(1, 65536), "steps per launch instead of the preset's", AT(seq)},
    {"precision", TAKES_CHOICE("f32, tf32, bf16 or all", PRECISION_CHOICES "|all"),
     "precision of the matrix products; a variant without it is planned in float32, "
     "except with all",
     AT(precision), "f32"},
    {"kernel", TAKES_TEXT("auto, NAME or FWD/BWD"),
     "one variant, or FWD/BWD; plstm variants lists them (default all)", AT(kernel)},
    {"plan", TAKES_TEXT("constraints such as blocks=4,replicas=2"),
     "constraints on the plans, such as blocks=4,replicas=2: blocks per replica, threads, "
     "registers (per thread that hold weights), shared (bytes), replicas, groups, slices, "
     "batch, tile, cluster, exchange (of mma: 1 flags, 2 words)",
     AT(plan), .arg = "LIST"},
    {"constants", TAKES_PATH("a file"),
     "constants that override the model's built-in ones, in the format of "
     "profiles/model/constants.json or as bench_gpu measures them",
     AT(constants)},
    {"json", TAKES_NOTHING, "print one object per line instead of tables", AT(json)},
};

const Command command_plan = {
    .name = "plan",
    .summary = "print how each variant of the recurrence is laid out on a GPU",
    .about = "Prints how each variant of the recurrence would be laid out on a GPU, present or "
             "not: its launch, what stays on chip, the traffic per step, and the time that a model "
             "predicts; or what is missing.",
    .remark =
        "us per step (model) = hop + ingest of h + max(multiply-adds, shared memory, streamed "
        "weights) + partial sums + cell + block barriers, from constants of the literature "
        "(profiles/model/constants.json) or measured ones. It is not a measurement. "
        "It leaves out the launch; the line auto, by which --kernel auto chooses, compares us per "
        "step + us per launch / T. Bytes per step are those of all blocks: streamed, the weights "
        "that are read from L2; exchanged, h (backward: partial dh, of mma dgates), written once "
        "and read by every block that needs it; summed, the partial sums that are written to and "
        "read from shared memory.",
    COMMAND_OPTIONS(options, PlanOptions),
    .run = plan,
};

/* ---- variants ---- */

static int variants(const CommandLine *line, Error *e)
{
    FILE *out = stdout;
    (void)line;
    bool built = device_built();
    fprintf(out, "%-8s %-18s %-14s %-14s %-10s %s\n", "variant", "passes", "precision", "GPUs",
            "this build", "what it does");
    for (int i = 0; lstm_footprints[i]; i++) {
        const LstmFootprint *f = lstm_footprints[i];
        char precisions[32] = "", gpus[16];
        snprintf(gpus, sizeof gpus, "sm_%d and up", f->min_sm);
        for (int p = 0; p < PRECISIONS; p++)
            if (f->precisions >> p & 1)
                snprintf(precisions + strlen(precisions), sizeof precisions - strlen(precisions),
                         "%s%s", precisions[0] ? ", " : "", precision_name((LstmPrecision)p));
        fprintf(out, "%-8s %-18s %-14s %-14s %-10s %s\n", f->name, "forward, backward", precisions,
                gpus, built ? "runs it" : "-", f->summary);
    }
    fprintf(out, "--kernel NAME chooses one variant for both passes, FWD/BWD one for each, "
                 "auto the one that `plstm plan` predicts to be fastest.\nA variant without "
                 "the precision of --precision computes its recurrence in float32, if it has "
                 "float32.\n");
    if (!built)
        fprintf(out, "This build of plstm has no cuda backend; make with nvcc on PATH, or "
                     "NVCC=..., adds it.\n");
    if (fflush(out))
        return error_set(e, EXIT_FAILED, "the output cannot be written: %s", strerror(errno));
    return EXIT_DONE;
}

const Command command_variants = {
    .name = "variants",
    .summary = "print the variants of the recurrence",
    .about = "Prints the variants of the recurrence, and whether this build can run them.",
    .run = variants,
};
