/* mma_case: implements loop_case.h for the time loops of the variant mma. */
#include "fwd_mma.cuh"

#include "bwd_mma.cuh"

#include "loop_case.h"

enum {
    CASE_FORWARD_THREADS = 128,
    CASE_BACKWARD_THREADS = 64,
    CASE_RESIDENT_FORWARD = 1,
    CASE_RESIDENT_BACKWARD = 2
};

PERSISTENT_KERNEL(forward_case, MmaForwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    fwd_mma_loop<TILE...>(a);
}
PERSISTENT_PASS(
    forward_case, MmaForwardPass,
    forward_case<EXCHANGE_FLAG, PRECISION_TF32, 2, CASE_RESIDENT_FORWARD, 8, CASE_FORWARD_THREADS>,
    forward_case<EXCHANGE_WORDS, PRECISION_TF32, 2, CASE_RESIDENT_FORWARD, 8, CASE_FORWARD_THREADS>)
PERSISTENT_KERNEL(backward_case, MmaBackwardPass)
{ // on a line of its own: see PERSISTENT_KERNEL
    bwd_mma_loop<TILE...>(a);
}
PERSISTENT_PASS(backward_case, MmaBackwardPass,
                backward_case<EXCHANGE_FLAG, PRECISION_TF32, 1, CASE_RESIDENT_BACKWARD, 8,
                              CASE_BACKWARD_THREADS>,
                backward_case<EXCHANGE_WORDS, PRECISION_TF32, 1, CASE_RESIDENT_BACKWARD, 8,
                              CASE_BACKWARD_THREADS>)

/* The plan has a ragged last block, two slices, two passes, and weights in registers, in shared
 * memory and streamed. The forward plan has two row warps, the backward plan clusters of two
 * blocks. The words are the exchange and T. */
extern "C" int case_plan(int back, int n, const int *words, LstmShape *shape, LstmPlan *plan)
{
    LstmPlan p = {};
    p.kind = KIND_MMA, p.backward = back, p.replicas = 1, p.rows = 9, p.batch = 8, p.passes = 2;
    p.slices = 2, p.rounds = 1, p.precision = PRECISION_TF32;
    if (back) {
        p.blocks = 6, p.units = 8, p.cluster = 2, p.groups = 1, p.quads = 1;
        p.depth = 6, p.resident = CASE_RESIDENT_BACKWARD, p.shared = 2, p.streamed = 2;
    } else {
        p.blocks = 4, p.units = 12, p.cluster = 1, p.groups = 2, p.quads = 2;
        p.depth = 3, p.resident = CASE_RESIDENT_FORWARD, p.shared = 1, p.streamed = 1;
    }
    p.exchange = n > 0 ? words[0] : EXCHANGE_FLAG;
    p.threads = 32 * p.groups * p.slices;
    p.shared_bytes = mma_shared_bytes(&p);
    p.scratch_bytes = mma_scratch_bytes(&p);
    *shape = {n > 1 ? words[1] : 4, 9, 44, PRECISION_TF32}, *plan = p;
    return n > 2 || (p.exchange != EXCHANGE_FLAG && p.exchange != EXCHANGE_WORDS);
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
