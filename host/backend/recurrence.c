#include "recurrence.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/plan/cuda_check.h"
#include "host/plan/precision.h"
#include "host/plan/residency.h"

/* ---- the remark ---- */

static const char *pass_of(int which) { return which == PLAN_BACKWARD ? "backward" : "forward"; }

/* Appends to a text of `size` bytes, after a semicolon if it has any. */
static __attribute__((format(printf, 3, 4))) void append(char *out, size_t size, const char *format,
                                                         ...)
{
    va_list more;
    size_t n = strlen(out);
    if (n) n += (size_t)snprintf(out + n, size - n, "; ");
    if (n >= size) return;
    va_start(more, format);
    vsnprintf(out + n, size - n, format, more);
    va_end(more);
}

/* ---- precision ---- */

/* Refuses named kernels that can compute neither in the requested precision nor in float32. */
static int check_precision(const Recurrence *r, const BackendConfig *g, Error *e)
{
    const LstmVariant *both[] = {r->forward, r->backward};
    for (int i = 0; i < 2; i++)
        if (lstm_precision(both[i]->footprint, g->precision) < 0)
            return error_set(
                e, EXIT_USAGE,
                "--kernel %s does not compute in %s; `plstm variants` lists what each kernel does",
                both[i]->footprint->name, precision_name(g->precision));
    return EXIT_DONE;
}

/* Adds to the remark which recurrence does not run in the requested precision. */
static void remark_precision(Recurrence *r, const BackendConfig *g)
{
    const LstmVariant *both[] = {r->forward, r->backward};
    LstmPrecision wanted = g->precision;
    for (int i = 0; i < 2; i++) {
        const LstmFootprint *f = both[i]->footprint;
        bool same = r->forward == r->backward;
        if (lstm_precision(f, wanted) == (int)wanted || (i && (same || !g->train))) continue;
        append(r->remark, sizeof r->remark,
               "kernel %s computes its %s%srecurrence in float32; the other products are in %s",
               f->name, same ? "" : pass_of(i ? PLAN_BACKWARD : PLAN_FORWARD), same ? "" : " ",
               precision_name(g->precision));
    }
}

/* ---- plans ---- */

static const LstmFootprint *footprint_of(const Recurrence *r, int which)
{
    return (which == PLAN_BACKWARD ? r->backward : r->forward)->footprint;
}

/* Returns whether the run needs that plan. */
static bool wanted(const Recurrence *r, const BackendConfig *g, int which)
{
    if (!footprint_of(r, which)->tile[which == PLAN_BACKWARD]) return false;
    return which == PLAN_FORWARD || (which == PLAN_ONE_ROW ? g->B > 1 : g->train);
}

/* Returns the shape of a plan's window. A window of one row is as long as the capacity allows. */
static LstmShape shape_for(const BackendConfig *g, int which)
{
    bool one = which == PLAN_ONE_ROW;
    return (LstmShape){.T = one ? g->T * g->B : g->T,
                       .B = one ? 1 : g->B,
                       .H = g->shape.H,
                       .precision = g->precision};
}

/* Returns the index in lstm_variants of the pass's kernel. */
static int index_of(const Recurrence *r, int backward)
{
    int i = 0;
    while (lstm_variants[i] != (backward ? r->backward : r->forward)) i++;
    return i;
}

/* Returns whether the plan must do without clusters. */
static bool no_clusters(const Recurrence *r, int which)
{
    int backward = which == PLAN_BACKWARD;
    return r->without.clusters[backward] >> index_of(r, backward) & 1;
}

/* Parses the plans that config->plan records. Each must be as legal here as the planner's own. */
static int parse_recorded(Recurrence *r, const BackendConfig *g, const DeviceFacts *device,
                          Error *e)
{
    const char *at = g->plan;
    int code = EXIT_DONE;
    for (int i = 0; i < PLANS && !code; i++) {
        char text[PLAN_TEXT];
        size_t n = strcspn(at, ";");
        LstmShape shape = shape_for(g, i);
        snprintf(text, sizeof text, "%.*s", (int)n, at);
        at += n + (at[n] && i + 1 < PLANS);
        if (!text[0] || !wanted(r, g, i)) continue;
        code = plan_parse(text, &r->plan[i], e);
        if (!code && r->plan[i].backward != (i == PLAN_BACKWARD))
            code = error_set(e, EXIT_BAD_DATA, "its passes are in the wrong order");
        if (!code) code = plan_check(&r->plan[i], device, &shape, footprint_of(r, i), e);
        if (!code && r->plan[i].cluster > 1 && no_clusters(r, i))
            code = error_set(e, EXIT_NO_DEVICE, "the device holds too few of its clusters");
        r->planned[i] = !code;
    }
    bool missing = (wanted(r, g, PLAN_FORWARD) && !r->planned[PLAN_FORWARD]) ||
                   (wanted(r, g, PLAN_BACKWARD) && !r->planned[PLAN_BACKWARD]);
    if (!code && (missing || *at))
        code = error_set(e, EXIT_BAD_DATA, "it is not a plan of kernel %s", r->kernel);
    for (int i = 0; i < PLANS && code; i++) r->planned[i] = false;
    return code;
}

static int make_anew(Recurrence *r, const BackendConfig *g, const DeviceFacts *device,
                     const PlanOverride *force, const CostConstants *constants, Error *e)
{
    for (int i = 0; i < PLANS; i++) {
        LstmShape shape = shape_for(g, i);
        if (!wanted(r, g, i)) continue;
        PlanOverride ours = *force;
        if (no_clusters(r, i)) {
            if (plan_forces_clusters(force, footprint_of(r, i)))
                return error_set(e, EXIT_NO_DEVICE, "PLSTM_PLAN forces clusters of blocks");
            ours.cluster = 1;
        }
        Error none; /* if there is no plan for one row, the plan for B rows runs it */
        int code = lstm_plan(device, &shape, footprint_of(r, i), i == PLAN_BACKWARD, &ours,
                             constants, &r->plan[i], i == PLAN_ONE_ROW ? &none : e);
        if (code && i != PLAN_ONE_ROW) return code;
        r->planned[i] = !code;
    }
    return EXIT_DONE;
}

/* Reads the environment variable PLSTM_WITHOUT, names separated by commas: kernels that `auto` must
 * not choose, because they were seen to fail on this GPU. */
static int avoid_named(Recurrence *r, Error *e)
{
    const char *text = getenv("PLSTM_WITHOUT");
    for (size_t n; text && *text; text += n + (text[n] == ',')) {
        n = strcspn(text, ",");
        int found = plan_kernel_find(text, n);
        const LstmVariant *one = found < 0 ? NULL : lstm_variants[found];
        if (!one || one->footprint->kind == KIND_STEPWISE)
            return error_set(
                e, EXIT_USAGE,
                "PLSTM_WITHOUT takes names of on-chip kernels, separated by commas, not "
                "'%.*s'; `plstm variants` lists them",
                (int)n, text);
        for (int i = 0; lstm_variants[i]; i++)
            if (lstm_variants[i] == one)
                for (int pass = 0; pass < 2; pass++) r->without.variant[pass] |= UINT32_C(1) << i;
    }
    return EXIT_DONE;
}

static int choose(Recurrence *r, const BackendConfig *g, const DeviceFacts *device, Error *e)
{
    static const PlanOverride no_override;
    PlanOverride force;
    CostConstants constants;
    int pick[2], code = plan_kernels_parse(g->kernel, pick, e); /* -1: the planner chooses */
    if (!code) code = avoid_named(r, e);
    if (!code && pick[0] >= 0) {
        r->forward = lstm_variants[pick[0]], r->backward = lstm_variants[pick[1]];
        code = check_precision(r, g, e);
    }
    if (!code) code = plan_override_env(&force, e);
    if (!code) code = cost_constants(device, NULL, &constants, e);
    if (code) return code;
    r->automatic = !r->forward;
    if (r->automatic) {
        PlanChoice choice;
        LstmShape shape = shape_for(g, PLAN_FORWARD);
        plan_choose(device, &shape, &force, &constants, &r->without, &choice);
        r->forward = lstm_variants[choice.pass[0].variant];
        r->backward = lstm_variants[choice.pass[1].variant];
        append(r->remark, sizeof r->remark, "kernel auto: %s", choice.reason);
    }
    if (r->lacks[0]) append(r->remark, sizeof r->remark, "%s", r->lacks);
    snprintf(r->kernel, sizeof r->kernel, r->forward == r->backward ? "%s" : "%s/%s",
             r->forward->footprint->name, r->backward->footprint->name);
    bool recorded = g->plan && g->plan[0], forced = memcmp(&force, &no_override, sizeof force) != 0;
    if (recorded && forced)
        append(r->remark, sizeof r->remark,
               "environment variable PLSTM_PLAN is set: the recorded plan is not used, "
               "and the last bits may differ from those of an uninterrupted run");
    if (recorded && !forced) {
        Error why;
        if (parse_recorded(r, g, device, &why) == EXIT_DONE) return EXIT_DONE;
        append(r->remark, sizeof r->remark,
               "the recorded plan cannot run here: %.450s; a new one is made, and the "
               "last bits may differ from those of an uninterrupted run",
               why.text);
    }
    return make_anew(r, g, device, &force, &constants, e);
}

static int decide(Recurrence *r, const BackendConfig *g, const DeviceFacts *device, Error *e)
{
    int code = choose(r, g, device, e);
    if (!code) remark_precision(r, g);
    return code;
}

int recurrence_choose(Recurrence *r, const BackendConfig *g, const DeviceFacts *device, Error *e)
{
    *r = (Recurrence){0};
    return decide(r, g, device, e);
}

bool recurrence_reads_tiles(const Recurrence *r)
{
    for (int i = 0; i < PLANS; i++)
        if (r->planned[i] && r->plan[i].precision == PRECISION_BF16 &&
            footprint_of(r, i)->reads_tiles)
            return true;
    return false;
}

const LstmPlan *recurrence_plan(const Recurrence *r, bool backward, int64_t B)
{
    int which = backward                             ? PLAN_BACKWARD
                : B == 1 && r->planned[PLAN_ONE_ROW] ? PLAN_ONE_ROW
                                                     : PLAN_FORWARD;
    return r->planned[which] ? &r->plan[which] : NULL;
}

void recurrence_text(const Recurrence *r, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    if (!r->planned[PLAN_FORWARD] && !r->planned[PLAN_BACKWARD]) return;
    for (int i = 0; i < PLANS && n < size; i++) {
        char text[PLAN_TEXT] = "";
        if (r->planned[i]) plan_text(&r->plan[i], text, sizeof text);
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ";" : "", text);
    }
}

/* ---- the device itself ---- */

/* Loads the kernels. Sets *lacking to the first plan that the device does not hold, and *holds to
 * the blocks of that plan that are co-resident; *lacking is PLANS if the device holds them all. */
static int prepare(const Recurrence *r, int *lacking, int *holds, Error *e)
{
    CUDA_TRY(r->forward->prepare());
    if (r->backward != r->forward) CUDA_TRY(r->backward->prepare());
    for (int i = 0; i < PLANS; i++) {
        const LstmVariant *variant = i == PLAN_BACKWARD ? r->backward : r->forward;
        const LstmPlan *plan = &r->plan[i];
        if (!r->planned[i]) continue;
        CUDA_TRY(variant->resident_blocks(plan, holds));
        if (*holds >= plan->replicas * plan->blocks) continue;
        *lacking = i;
        return EXIT_DONE;
    }
    *lacking = PLANS;
    return EXIT_DONE;
}

/* Refuses a named kernel for the plan that the device does not hold. */
static int refuse(const Recurrence *r, const DeviceFacts *device, int lacking, const char *needs,
                  int holds, Error *e)
{
    char text[PLAN_TEXT];
    plan_text(&r->plan[lacking], text, sizeof text);
    return error_set(e, EXIT_NO_DEVICE,
                     "kernel %s %s needs %s; %s holds %d (plan %s); --kernel auto chooses another "
                     "kernel, --kernel cublas needs no co-residency",
                     footprint_of(r, lacking)->name, pass_of(lacking), needs, device->name, holds,
                     text);
}

int recurrence_prepare(Recurrence *r, const BackendConfig *g, const DeviceFacts *device, Error *e)
{
    for (;;) {
        int lacking = PLANS, holds = 0, code = prepare(r, &lacking, &holds, e);
        if (code || lacking == PLANS) return code;
        const LstmPlan *plan = &r->plan[lacking];
        int cluster = plan->cluster, n = plan->replicas * plan->blocks / cluster;
        char needs[64];
        if (cluster > 1)
            snprintf(needs, sizeof needs, "%d co-resident clusters of %d blocks", n, cluster);
        else snprintf(needs, sizeof needs, "%d co-resident blocks", n);
        holds /= cluster;
        /* The choice was based on the facts of such devices, but this one decides. A kernel whose
         * clusters do not fit may do without them, also if it was named. The loop ends, since each
         * turn excludes more and cublas has no plan. */
        Recurrence next = {.without = r->without};
        int backward = lacking == PLAN_BACKWARD;
        uint32_t bit = UINT32_C(1) << index_of(r, backward);
        if (cluster > 1) next.without.clusters[backward] |= bit;
        else next.without.variant[backward] |= bit;
        memcpy(next.lacks, r->lacks, sizeof next.lacks);
        append(next.lacks, sizeof next.lacks, "kernel %s %s needs %s, the device holds %d",
               footprint_of(r, lacking)->name, pass_of(lacking), needs, holds);
        Error none; /* the reason to refuse is what the device lacks */
        if ((!r->automatic && cluster == 1) || decide(&next, g, device, &none))
            return refuse(r, device, lacking, needs, holds, e);
        *r = next;
    }
}
