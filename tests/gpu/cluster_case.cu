/* cluster_case: see its header. The time loops come from the first folder of the include path that has them. */
#include "fwd_cluster.cuh"

#include "bwd_cluster.cuh"

#include "cluster_case.h"

template <int PRECISION, int QUADS, int RESIDENT, int BATCH>
__global__ void __launch_bounds__(CASE_THREADS, 1) case_forward_kernel(ClusterForwardArgs a)
{
    fwd_cluster_loop<PRECISION, QUADS, RESIDENT, BATCH / TENSOR_BATCH>(a);
}

template <int PRECISION, int QUADS, int RESIDENT, int BATCH>
__global__ void __launch_bounds__(CASE_THREADS, 1) case_backward_kernel(ClusterBackwardArgs a)
{
    bwd_cluster_loop<PRECISION, QUADS, RESIDENT, BATCH / TENSOR_BATCH>(a);
}

#define X(precision, quads, resident, batch)                                                                 \
    case_forward_kernel<PRECISION_##precision, quads, resident, batch>,
static const ClusterForwardKernel forward[] = {CASE_TILES(X)};
#undef X
#define X(precision, quads, resident, batch)                                                                 \
    case_backward_kernel<PRECISION_##precision, quads, resident, batch>,
static const ClusterBackwardKernel backward[] = {CASE_TILES(X)};
#undef X

extern "C" cudaError_t case_prepare(void)
{
    cudaError_t error = cluster_forward_prepare(forward);
    return error ? error : cluster_backward_prepare(backward);
}

extern "C" cudaError_t case_forward(const LstmContext *context, const LstmForward *p)
{
    return cluster_forward_run(forward, context, p);
}

extern "C" cudaError_t case_backward(const LstmContext *context, const LstmBackward *p)
{
    return cluster_backward_run(backward, context, p);
}
