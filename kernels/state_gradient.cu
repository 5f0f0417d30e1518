/* state_gradient: the gradient that a window sends back into h_0, behind the backward pass of any variant.
 *
 * Idea       dh_0 = D_r(dgates_0 W_hh), one more step's product without a cell. The time loops end with dgates_0, which lie in
 *            memory: a GEMM and, with a recurrent site, one pointwise kernel make dh_0 of it. Inside the loops it would cost the
 *            persistent variants an exchange and a barrier more, and all of them registers, for what few windows want
 * Precision  float32, as the stepwise variant's products, whatever the precision of the variant */
#include <assert.h>

#include "launch.cuh"
#include "gemm.h"
#include "lstm.h"
#include "mask.cuh"

enum { MASK_THREADS = 128 };

/* dh_0 masked as step 0 read h_0. */
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
