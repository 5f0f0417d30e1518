/* residency: plans how a persistent variant is laid out on a device. lstm_plan is a pure function
 * from (device facts, shape, footprint) to the launch (LstmPlan, kernels/plan.h) or to one sentence
 * that says what is missing. It needs no CUDA and also plans for GPUs that are not present.
 *
 * Every layout that plan.h can express and the device can hold is a candidate; the plan is the
 * candidate with the lowest predicted time (cost_model.h). There is one block per SM, as
 * __launch_bounds__(threads, 1) compiles it, so as many blocks as SMs are co-resident. */
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

/* Plans footprint's pass (backward: 0 or 1) for shape on device: the legal layout with the lowest
 * predicted time. force may be NULL. EXIT_NO_DEVICE: a sentence that says what is missing, with
 * numbers and a remedy; *plan is then not written. A footprint without tiles (a stepwise variant)
 * has no plan, which is EXIT_NO_DEVICE, too. */
int lstm_plan(const DeviceFacts *device, const LstmShape *shape, const LstmFootprint *footprint,
              int backward, const PlanOverride *force, const CostConstants *constants,
              LstmPlan *plan, Error *e);

/* Checks that a plan from elsewhere (a checkpoint) is one that lstm_plan could have returned for
 * this device, shape and footprint: every field follows from the others, and every limit holds.
 * EXIT_NO_DEVICE: the sentence says what is wrong. */
int plan_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
               const LstmFootprint *footprint, Error *e);

/* Writes a whole plan as one line of name=number pairs, and parses it. EXIT_BAD_DATA: the sentence
 * says what was found. plan_parse checks the syntax and that each field occurs once; plan_check
 * decides whether the plan can run. */
enum { PLAN_TEXT = 512 };
void plan_text(const LstmPlan *plan, char *out, size_t size);
int plan_parse(const char *text, LstmPlan *plan, Error *e);

/* ---- the cost of a plan ---- */

/* Returns the bytes that a plan of any kind keeps and moves (cost_model.h). */
CostBytes plan_bytes(const DeviceFacts *device, const LstmShape *shape, const LstmPlan *plan);

/* Predicts a plan of any kind (cost_model.h). */
CostTime plan_predict(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                      const LstmPlan *plan);

/* ---- choosing variants ---- */

/* Returns the index in lstm_footprints of the variant whose name is the first `length` bytes, or
 * -1. */
int plan_kernel_find(const char *name, size_t length);

/* Parses the value of --kernel: a name for both passes, or FWD/BWD. pick: the indices of the
 * forward and the backward variant in lstm_footprints, both -1 for "auto". EXIT_USAGE lists the
 * variants' names. */
int plan_kernels_parse(const char *text, int pick[2], Error *e);

/* The choice for one pass: `variant` is an index in lstm_footprints; plan has a meaning only if
 * that variant has tiles. */
typedef struct PlanPick {
    int variant;
    LstmPlan plan;
    double us; /* predicted, of the whole pass divided by T */
} PlanPick;

typedef struct PlanChoice {
    PlanPick pass[2]; /* forward, backward */
    char reason[256]; /* one line: "reg forward 1.5 us per step (model), cublas 4.9; ..." */
} PlanChoice;

/* What is excluded from the choice for each pass: bit i stands for lstm_footprints[i]. */
typedef struct PlanExclusion {
    uint32_t variant[2]; /* the whole variant */
    /* only its plans with clusters of more than one block */
    uint32_t clusters[2];
} PlanExclusion;

/* Returns whether the override leaves the footprint no plan without clusters: in KIND_CLUSTER the
 * blocks of a replica are one cluster. */
bool plan_forces_clusters(const PlanOverride *force, const LstmFootprint *footprint);

/* Chooses for each pass the variant with the lowest predicted time per step, including the launch,
 * among those that have a plan (stepwise variants always run); in a tie, the earlier in
 * lstm_footprints. It cannot fail, since cublas runs everywhere. without may be NULL; at least one
 * variant must be left. */
void plan_choose(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                 const CostConstants *constants, const PlanExclusion *without, PlanChoice *out);

#endif
