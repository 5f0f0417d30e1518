/* The planner of KIND_MMA. No variant of the list has tiles of this kind: it refuses all. */
#include "residency_kinds.h"

static int mma_plan(const PlanRequest *r, LstmPlan *plan, Error *e)
{
    (void)plan;
    return plan_refuse(r->device, r->shape, r->footprint, r->backward, r->force, "it is compiled in no way",
                       e);
}

static int mma_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
                     const LstmFootprint *footprint, Error *e)
{
    (void)plan, (void)device;
    return plan_not_one(shape, footprint, "tile", e);
}

static PlanBytes mma_bytes(const LstmPlan *plan, const LstmShape *shape)
{
    (void)plan, (void)shape;
    return (PlanBytes){0};
}

static PlanTime mma_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                            const LstmPlan *plan)
{
    (void)c, (void)device, (void)shape, (void)plan;
    return (PlanTime){0};
}

const ResidencyKind residency_mma = {mma_plan, mma_check, mma_bytes, mma_predict};
