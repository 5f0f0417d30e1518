/* recurrence: chooses the kernels that compute a run's recurrence, and their plans. The kernels are
 * those named by --kernel or those that `auto` chooses; the plans come from the planner, the
 * environment variable PLSTM_PLAN or a checkpoint's record. The choice is made once, before
 * anything is allocated. */
#ifndef PLSTM_RECURRENCE_H
#define PLSTM_RECURRENCE_H

#include <stdbool.h>

#include "kernels/lstm.h"
#include "backend.h"
#include "host/plan/device.h"
#include "host/plan/residency.h"
#include "host/base/error.h"

/* The plans of a run, if its variant needs plans. A window of one row (a sequential stream that is
 * scored, sampling) has a plan of its own; every other window runs by the plan of the capacity's B
 * rows. */
enum { PLAN_FORWARD, PLAN_ONE_ROW, PLAN_BACKWARD, PLANS };

typedef struct Recurrence {
    const LstmVariant *forward, *backward;
    char kernel[48]; /* their names, in the form of --kernel */
    LstmPlan plan[PLANS];
    bool planned[PLANS];   /* which plans exist */
    bool automatic;        /* `auto` chose the kernels */
    PlanExclusion without; /* what may not be chosen, since the device does not hold it */
    char lacks[512];       /* one clause for each exclusion, or "" */
    /* why auto chose these kernels, what the device does not hold, why a recorded plan was not
     * used, what does not run in the requested precision; or "" */
    char remark[1024];
} Recurrence;

/* Chooses kernels and plans for config on device. The plans are those of config->plan if they
 * belong to config->kernel and the device can hold them; else new ones are made. EXIT_USAGE: there
 * is no such kernel, or PLSTM_PLAN is invalid; EXIT_NO_DEVICE: the planner's sentence. Calls no
 * CUDA. */
int recurrence_choose(Recurrence *r, const BackendConfig *config, const DeviceFacts *device,
                      Error *e);

/* Loads the kernels on the current device and compares how many blocks it really holds with the
 * plans. If it holds too few, the choice is made again, and the remark says so: without clusters
 * for that kernel if the plan had clusters, else, with `auto`, without that kernel. EXIT_NO_DEVICE:
 * there is no other choice, since the kernel was named or PLSTM_PLAN forces clusters. */
int recurrence_prepare(Recurrence *r, const BackendConfig *config, const DeviceFacts *device,
                       Error *e);

/* Returns the plan for a window of B rows, owned by r; NULL: the pass has no plan. */
const LstmPlan *recurrence_plan(const Recurrence *r, bool backward, int64_t B);

/* Returns whether a plan reads the bfloat16 fragments of w_hh (w_tiles, lstm.h). */
bool recurrence_reads_tiles(const Recurrence *r);

/* Writes all plans as one line, the form of config->plan; "" if there are none. */
enum { RECURRENCE_TEXT = 1600 };
void recurrence_text(const Recurrence *r, char *out, size_t size);

#endif
