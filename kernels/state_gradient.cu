/* state_gradient: the gradient that a window sends back into h_0, after the backward pass of any
 * variant.
 * Idea       dh_0 = D_r(dgates_0 * W_hh) is the product of one more step, without a cell. The time
 *            loops end with dgates_0 in memory, from which a GEMM and, with a recurrent site, one
 *            pointwise kernel compute dh_0. Within the loops, dh_0 would cost the persistent
 *            variants another exchange and barrier, and all variants registers, although few
 *            windows need it.
 * Precision  float32, like the products of the stepwise variant, whatever the precision of the
 *            variant. */
#include <assert.h>

#include "launch.cuh"
#include "gemm.h"
#include "lstm.h"
#include "mask.cuh"

enum { MASK_THREADS = 128 };

/* Masks dh_0 as step 0 masked h_0 when it read it. */
__global__ void __launch_bounds__(MASK_THREADS)
    state_gradient_mask(int64_t H, MaskSite site, float *dh)
{
    int64_t b = blockIdx.x, u = (int64_t)blockIdx.y * MASK_THREADS + threadIdx.x;
    if (u < H) dh[b * H + u] *= mask_factor(mask_open(site), b, H, u);
}

extern "C" cudaError_t lstm_state_gradient_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, state_gradient_mask);
}

extern "C" cudaError_t lstm_state_gradient(const LstmContext *context, const LstmBackward *p)
{
    if (!p->dh_0) return cudaSuccess;
    int64_t B = p->shape.B, H = p->shape.H, tiles = (H + MASK_THREADS - 1) / MASK_THREADS;
    assert(B > 0 && B <= INT32_MAX && H > 0 && tiles <= 65535);
    cudaError_t error = gemm_error(
        gemm_rowmajor(context->blas, 0, 0, B, H, 4 * H, 1.0f, p->gates, p->w_hh, 0.0f, p->dh_0));
    if (error || !p->recurrent.on) return error;
    LaunchShape shape = {dim3((unsigned)B, (unsigned)tiles), dim3(MASK_THREADS), 0, context->stream,
                         false};
    return launch(shape, state_gradient_mask, H, p->recurrent, p->dh_0);
}
