/* The planner of KIND_CLUSTER. No variant of the list has tiles of this kind: it refuses all. */
#include "residency_kinds.h"

static int cluster_plan(const PlanRequest *r, LstmPlan *plan, Error *e)
{
    (void)plan;
    return plan_refuse(r->device, r->shape, r->footprint, r->backward, r->force, "it is compiled in no way",
                       e);
}

static int cluster_check(const LstmPlan *plan, const DeviceFacts *device, const LstmShape *shape,
                         const LstmFootprint *footprint, Error *e)
{
    (void)plan, (void)device;
    return plan_not_one(shape, footprint, "tile", e);
}

static PlanBytes cluster_bytes(const LstmPlan *plan, const LstmShape *shape)
{
    (void)plan, (void)shape;
    return (PlanBytes){0};
}

static PlanTime cluster_predict(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                                const LstmPlan *plan)
{
    (void)c, (void)device, (void)shape, (void)plan;
    return (PlanTime){0};
}

const ResidencyKind residency_cluster = {cluster_plan, cluster_check, cluster_bytes, cluster_predict};
