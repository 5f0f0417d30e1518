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

/* What kept layouts from being legal, with the smallest amount that was missing. */
typedef struct PlanShortage {
    bool tiles, registers; /* a tile was looked at; one had the registers */
    bool index;
    bool no_clusters;         /* the device has none, and they were looked for */
    int64_t blocks, clusters; /* fewest that were too many */
    int64_t threads, most_threads;
    int64_t shared;
} PlanShortage;

static inline void plan_lacks(int64_t *slot, int64_t amount)
{
    if (!*slot || amount < *slot) *slot = amount;
}

/* The sentence of what every kind can run out of: tiles, registers, shared memory (limit: bytes a block), indices, threads. False: none
 * of these, and *what is not written. */
bool plan_shortage(const DeviceFacts *device, const LstmFootprint *footprint, int backward,
                   const PlanShortage *lack, int64_t limit, char *what, size_t size);

/* Whether a tile of the request's list is of its precision and of its override. For the kinds on tensor cores. */
bool plan_tile_wanted(const PlanRequest *r, int tile);

/* Whether a block of the device has the plan's shared memory and registers. EXIT_NO_DEVICE: the sentence. */
int plan_block_fits(const LstmPlan *plan, const DeviceFacts *device, const LstmTile *tile, Error *e);

#endif
