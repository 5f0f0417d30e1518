/* persistent_case: see its header. The time loops come from the first folder of the include path that has them. */
#include "fwd_persistent.cuh"

#include "bwd_persistent.cuh"

#include "persistent_case.h"

__global__ void __launch_bounds__(CASE_THREADS, 1) case_forward_kernel(ForwardArgs a)
{
    fwd_persistent<CASE_RESIDENT_FORWARD, CASE_CHUNK, CASE_BATCH>(a);
}

__global__ void __launch_bounds__(CASE_THREADS, 1) case_backward_kernel(BackwardArgs a)
{
    bwd_persistent<CASE_RESIDENT_BACKWARD, CASE_BATCH, 1>(a);
}

static const ForwardKernel forward[] = {case_forward_kernel};
static const BackwardKernel backward[] = {case_backward_kernel};

extern "C" cudaError_t case_prepare(void)
{
    cudaError_t error = forward_prepare(forward);
    return error ? error : backward_prepare(backward);
}

extern "C" cudaError_t case_forward(const LstmContext *context, const LstmForward *p)
{
    return forward_run(forward, context, p);
}

extern "C" cudaError_t case_backward(const LstmContext *context, const LstmBackward *p)
{
    return backward_run(backward, context, p);
}
