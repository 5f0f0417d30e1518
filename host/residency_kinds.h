/* residency_kinds: planners of the variants on tensor cores, one a kind. residency.c and plan_model.c, which plan the kind
 * KIND_VECTOR themselves, call them by LstmFootprint.kind and LstmPlan.kind; nobody else includes this. */
#ifndef PLSTM_RESIDENCY_KINDS_H
#define PLSTM_RESIDENCY_KINDS_H

#include "plan_model.h"
#include "residency.h"

/* What a planner is asked. */
typedef struct PlanRequest {
    const DeviceFacts *device;
    const LstmShape *shape;
    const LstmFootprint *footprint;
    int precision; /* of LstmPrecision: what the plan computes in, one of the footprint's */
    int backward;
    const PlanOverride *force; /* not NULL */
    const PlanConstants *constants;
} PlanRequest;

typedef struct ResidencyKind {
    /* As lstm_plan, which has checked that H and B are within int32 / 4 and that the footprint has the precision. Sets every
     * field of *plan. Overrides that mean nothing here are as free as if they were not given. */
    int (*plan)(const PlanRequest *r, LstmPlan *plan, Error *e);
    /* As plan_check: `backward` and `tile` are within the footprint's lists, and H and B within int32 / 4. */
    int (*check)(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
                 const LstmFootprint *footprint, Error *e);
    PlanBytes (*bytes)(const LstmPlan *plan, const LstmShape *shape);
    PlanTime (*predict)(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *plan);
} ResidencyKind;

extern const ResidencyKind residency_mma, residency_cluster;

/* The planner of a kind; NULL: residency.c's own. */
static inline const ResidencyKind *residency_kind(int32_t kind)
{
    return kind == KIND_MMA ? &residency_mma : kind == KIND_CLUSTER ? &residency_cluster : NULL;
}

/* ---- what every planner needs ---- */

/* "reg forward with H 650 and B 20 has no plan on NAME with OVERRIDE: WHAT; REMEDY". EXIT_NO_DEVICE. */
int plan_refuse(const DeviceFacts *device, const LstmShape *shape, const LstmFootprint *footprint,
                int backward, const PlanOverride *force, const char *what, Error *e);

/* "the plan is not one of NAME for H 650 and B 20: its FIELD cannot be". EXIT_NO_DEVICE. */
int plan_not_one(const LstmShape *shape, const LstmFootprint *footprint, const char *field, Error *e);

/* The first field in which the plans differ, or NULL. */
const char *plan_difference(const LstmPlan *a, const LstmPlan *b);

/* Bytes of shared memory that a block can have; force may be NULL. */
int64_t plan_shared_limit(const DeviceFacts *device, const PlanOverride *force);

/* Whether a block of the tile with so many threads has its registers. */
bool plan_registers_fit(const DeviceFacts *device, const LstmTile *tile, int32_t threads);

/* How many clusters of `size` blocks, a block an SM, the device is expected to hold at once; 0: it has no clusters of that size. */
int32_t plan_clusters(const DeviceFacts *device, int32_t size);

#endif
