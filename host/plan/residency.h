/* residency: how a persistent variant lies on a device: a pure function from (device facts, shape, footprint) to the
 * launch (LstmPlan, kernels/plan.h) or one sentence that says what ran out. Needs no CUDA and answers for GPUs that are
 * not present.
 *
 * Every layout that plan.h can express and the device can hold is a candidate; the one with the lowest predicted time
 * (cost_model.h) is the plan. A block per SM, as __launch_bounds__(threads, 1) compiles it: as many blocks as SMs are
 * co-resident. */
#ifndef PLSTM_RESIDENCY_H
#define PLSTM_RESIDENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/plan.h"
#include "device.h"
#include "host/base/error.h"
#include "override.h"
#include "cost_model.h"

/* The plan of footprint's pass (backward: 0 or 1) for shape on device: the legal layout with the lowest predicted time.
 * force may be NULL. EXIT_NO_DEVICE: the sentence that says what ran out, with numbers and a remedy; then *plan is not
 * written. A footprint without tiles (a stepwise variant) has no plan, which is EXIT_NO_DEVICE too. */
int lstm_plan(const DeviceFacts *device, const LstmShape *shape, const LstmFootprint *footprint,
              int backward, const PlanOverride *force, const CostConstants *constants,
              LstmPlan *plan, Error *e);

/* Whether a plan that came from elsewhere (a checkpoint) is one that lstm_plan could have returned for this device, shape
 * and footprint: every field follows from the others and every limit holds. EXIT_NO_DEVICE: the sentence. */
int plan_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
               const LstmFootprint *footprint, Error *e);

/* A whole plan in one line of name=number pairs, and back. EXIT_BAD_DATA: what was found. plan_parse checks the syntax and
 * that no field is missing or doubled; plan_check says whether the plan can run. */
enum { PLAN_TEXT = 512 };
void plan_text(const LstmPlan *plan, char *out, size_t size);
int plan_parse(const char *text, LstmPlan *plan, Error *e);

/* ---- what a plan costs ---- */

CostBytes plan_bytes(const LstmPlan *plan, const LstmShape *shape);

/* What the model says of a plan of any kind (cost_model.h). */
CostTime plan_predict(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                      const LstmPlan *plan);

/* ---- choosing variants ---- */

/* Position in lstm_footprints of the variant whose name is the first `length` bytes, or -1. */
int plan_kernel_find(const char *name, size_t length);

/* What --kernel takes: a name for both passes, or FWD/BWD. pick: positions in lstm_footprints, -1 in both for "auto". EXIT_USAGE
 * names the variants. */
int plan_kernels_parse(const char *text, int pick[2], Error *e);

/* One pass's choice: `variant` is a position in lstm_footprints; plan is meaningful where that has tiles. */
typedef struct PlanPick {
    int variant;
    LstmPlan plan;
    double us; /* predicted, of the whole pass divided by T */
} PlanPick;

typedef struct PlanChoice {
    PlanPick pass[2]; /* forward, backward */
    char reason[256]; /* one line: "reg forward 1.5 us a step (model), next cublas 4.9; ..." */
} PlanChoice;

/* For each direction the variant with the lowest predicted time a step, launch included, among those that have a plan
 * (stepwise ones always have); the earlier one of lstm_footprints where two are equal. Cannot fail: cublas runs
 * everywhere. without (may be NULL): of each pass, bit i set: not lstm_footprints[i], which must leave one. */
void plan_choose(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                 const CostConstants *constants, const uint32_t without[2], PlanChoice *out);

#endif
