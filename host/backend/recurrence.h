/* recurrence: which kernels run the recurrence of a run, and by which plans: --kernel's names, `auto`, the environment's
 * PLSTM_PLAN, or what a checkpoint recorded. Decided once, before anything is allocated. */
#ifndef PLSTM_RECURRENCE_H
#define PLSTM_RECURRENCE_H

#include <stdbool.h>

#include "kernels/lstm.h"
#include "backend.h"
#include "host/plan/device.h"
#include "host/base/error.h"

/* What there is a plan for, where the variant takes one. A window of one row (a sequential stream that is scored,
 * sampling) has a plan of its own; every other window runs by that of the capacity's B rows. */
enum { PLAN_FORWARD, PLAN_ONE_ROW, PLAN_BACKWARD, PLANS };

typedef struct Recurrence {
    const LstmVariant *forward, *backward;
    char kernel[48]; /* their names, as --kernel takes them */
    LstmPlan plan[PLANS];
    bool planned[PLANS]; /* which of them are there */
    bool automatic;      /* `auto` chose the kernels */
    uint32_t without
        [2]; /* of each pass, the kernels that it may not choose, as plan_choose takes them */
    char remark
        [1024]; /* why auto chose so, why a recorded plan was not taken, what is not in the precision asked for; or "" */
} Recurrence;

/* For config on device. Plans are config->plan's where that is one of config->kernel that the device can hold, else made
 * anew. EXIT_USAGE: no such kernel, a bad PLSTM_PLAN; EXIT_NO_DEVICE: the planner's sentence. Calls no CUDA. */
int recurrence_choose(Recurrence *r, const BackendConfig *config, const DeviceFacts *device,
                      Error *e);

/* Loads the kernels on the current device and compares what it really holds with the plans. Where it holds too little, `auto` takes the
 * next kernel, plan and remark with it; a named one is EXIT_NO_DEVICE. */
int recurrence_prepare(Recurrence *r, const BackendConfig *config, const DeviceFacts *device,
                       Error *e);

/* The plan for a window of B rows; NULL: the pass has none. */
const LstmPlan *recurrence_plan(const Recurrence *r, bool backward, int64_t B);

/* Whether a plan runs on the bfloat16 fragments of w_hh (w_tiles, lstm.h). */
bool recurrence_reads_tiles(const Recurrence *r);

/* All plans in one line, "" where there are none: what config->plan takes. */
enum { RECURRENCE_TEXT = 1600 };
void recurrence_text(const Recurrence *r, char *out, size_t size);

#endif
