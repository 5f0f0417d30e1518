/* persistent_case: implements loop_case.h for the time loops of the variants on vector units. */
#include "fwd_persistent.cuh"

#include "bwd_persistent.cuh"

#include "loop_case.h"

enum {
    CASE_THREADS = 64,
    CASE_BATCH = 2,
    CASE_WARP_BATCH = 4, /* batch of the plan whose warps add up their slices */
    CASE_CHUNK = 2,
    CASE_RESIDENT_FORWARD = 2,
    CASE_RESIDENT_BACKWARD = 1
};

PERSISTENT_KERNEL(forward_case, ForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(forward_case, ForwardPass,
                forward_case<CASE_RESIDENT_FORWARD, CASE_CHUNK, CASE_BATCH, CASE_THREADS>,
                forward_case<CASE_RESIDENT_FORWARD, CASE_CHUNK, CASE_WARP_BATCH, CASE_THREADS>)
PERSISTENT_KERNEL(backward_case, BackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_persistent<TILE...>(a);
}
PERSISTENT_PASS(backward_case, BackwardPass,
                backward_case<CASE_RESIDENT_BACKWARD, CASE_BATCH, CASE_THREADS>)

/* The plan has a ragged last block, slices, groups and passes, and weights in registers, in shared
 * memory and streamed. The word 8, for a forward pass only, selects a plan with 8 units per block
 * and one group, whose warps add up their own slices. */
extern "C" int case_plan(int back, int n, const int *words, LstmShape *shape, LstmPlan *plan)
{
    LstmPlan p = {};
    p.kind = KIND_VECTOR, p.backward = back, p.replicas = 1, p.blocks = 4, p.threads = CASE_THREADS;
    p.units = 6, p.rows = 5, p.batch = CASE_BATCH, p.groups = 2, p.passes = 2, p.cluster = 1;
    p.exchange = EXCHANGE_FLAG;
    if (back) {
        p.slices = 3, p.depth = 2, p.resident = CASE_RESIDENT_BACKWARD, p.shared = 1, p.quads = 3,
        p.rounds = 2;
    } else {
        p.slices = 5, p.depth = 5, p.resident = CASE_RESIDENT_FORWARD, p.shared = 2, p.streamed = 1;
        p.chunk = CASE_CHUNK, p.chunks = 3;
    }
    bool in_warp = n == 1 && words[0] == 8 && !back;
    if (in_warp) p.tile = 1, p.blocks = 3, p.units = 8, p.batch = CASE_WARP_BATCH, p.groups = 1;
    p.shared_bytes = plan_shared_bytes(&p);
    p.scratch_bytes = plan_scratch_bytes(&p);
    *shape = {6, 5, 23, PRECISION_F32}, *plan = p;
    return n != in_warp || (plan_warp_sums(&p) > 0) != in_warp;
}

extern "C" cudaError_t case_prepare(void)
{
    cudaError_t error = forward_case_prepare();
    return error ? error : backward_case_prepare();
}

extern "C" cudaError_t case_forward(const LstmContext *context, const LstmForward *p)
{
    return forward_case_run(context, p);
}

extern "C" cudaError_t case_backward(const LstmContext *context, const LstmBackward *p)
{
    return backward_case_run(context, p);
}
