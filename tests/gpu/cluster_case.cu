/* cluster_case: see its header. The time loops come from the first folder of the include path that has them. */
#include "fwd_cluster.cuh"

#include "bwd_cluster.cuh"

#include "cluster_case.h"

#define X(precision, quads, resident, batch)                                                                 \
    forward_case<PRECISION_##precision, quads, resident, batch, CASE_THREADS>,
PERSISTENT_KERNEL(forward_case, ClusterForwardPass)
{ // on a line of its own: persistent.cuh
    fwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(forward_case, ClusterForwardPass, CASE_TILES(X))
#undef X
#define X(precision, quads, resident, batch)                                                                 \
    backward_case<PRECISION_##precision, quads, resident, batch, CASE_THREADS>,
PERSISTENT_KERNEL(backward_case, ClusterBackwardPass)
{ // on a line of its own: persistent.cuh
    bwd_cluster_loop<TILE...>(a);
}
PERSISTENT_PASS(backward_case, ClusterBackwardPass, CASE_TILES(X))
#undef X

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
