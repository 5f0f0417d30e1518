/* bwd_cublas: backward recurrence with one pointwise kernel and one GEMM per step, from the last
 * step to the first.
 * Idea       The baseline's other half: the kernel turns the saved gates into dgates in place, and
 *            the GEMM takes them through W_hh to the step before. Masks are applied where dy and dh
 *            are read.
 * Residency  Nothing stays on chip between launches: W_hh (16 * H * H bytes) comes from L2 or DRAM
 *            at every step; dh and dc (B,H) go through L2.
 * Partition  A block owns CELL_THREADS units of one batch row, a thread one unit.
 * Barrier    the kernel boundary, twice per step
 * Limits     none; T * B and 4 * H must fit in an int (cuBLAS)
 * Measured   not yet measured. Predicted for an H200, B 20, float32, with its launches: 5.71 us
 *            per step at H 200, 6.72 at H 650 and 11.58 at H 1500. */
#include <assert.h>

#include "cell.cuh"
#include "launch.cuh"
#include "gemm.h"
#include "mask.cuh"
#include "variants.h"

enum { CELL_THREADS = 128 };

/* The arguments of one step; all pointers point at that step. */
struct BackwardStep {
    int64_t H, row;            /* row: t * B, the mask row of batch row 0 */
    float *gates;              /* (B,4H): in i, f, g, o; out dgates */
    const float *c_before, *c; /* (B,H) */
    const float *dy;           /* (B,H): gradient into y_t, unmasked */
    const float *dh;           /* (B,H): from step t+1, before D_r; NULL at the last step */
    /* (B,H): from beyond the window. NULL: zero, and at every step but the last. */
    const float *dh_n;
    /* (B,H): from step t+1 or, at the last step, from beyond the window. NULL: zero. */
    const float *dc_in;
    float *dc; /* (B,H): for step t-1 */
    MaskSite output, recurrent;
};

__global__ void __launch_bounds__(CELL_THREADS) bwd_cublas_cell(BackwardStep p)
{
    int64_t b = blockIdx.x, B = gridDim.x, H = p.H,
            u = (int64_t)blockIdx.y * CELL_THREADS + threadIdx.x;
    if (u >= H) return;
    float *gates = p.gates + b * 4 * H + u;
    int64_t at = b * H + u;
    Gates a = {gates[0], gates[H], gates[2 * H], gates[3 * H]};
    float dc = p.dc_in ? p.dc_in[at] : 0.0f,
          dh = p.dy[at] * mask_factor(mask_open(p.output), p.row + b, H, u);
    if (p.dh) /* step t+1 read h_t masked */
        dh += p.dh[at] * mask_factor(mask_open(p.recurrent), p.row + B + b, H, u);
    if (p.dh_n) dh += p.dh_n[at];
    p.dc[at] = cell_backward(&a, p.c_before[at], p.c[at], dh, dc);
    gates[0] = a.i, gates[H] = a.f, gates[2 * H] = a.g, gates[3 * H] = a.o;
}

extern "C" cudaError_t bwd_cublas_prepare(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, bwd_cublas_cell);
}

extern "C" cudaError_t bwd_cublas_run(const LstmContext *context, const LstmBackward *p)
{
    int64_t T = p->shape.T, B = p->shape.B, H = p->shape.H,
            tiles = (H + CELL_THREADS - 1) / CELL_THREADS;
    assert(T > 0 && B > 0 && B <= INT32_MAX && H > 0 && tiles <= 65535);
    LaunchShape shape = {dim3((unsigned)B, (unsigned)tiles), dim3(CELL_THREADS), 0, context->stream,
                         false};
    cudaError_t error = cudaSuccess;

    for (int64_t t = T - 1; t >= 0 && !error; t--) {
        BackwardStep step = {H,
                             t * B,
                             p->gates + t * B * 4 * H,
                             p->c + t * B * H,
                             p->c + (t + 1) * B * H,
                             p->dy + t * B * H,
                             t + 1 < T ? p->dh : nullptr,
                             t + 1 < T ? nullptr : p->dh_n,
                             t + 1 < T ? p->dc : p->dc_n,
                             t == 0 && p->dc_0 ? p->dc_0 : p->dc,
                             p->output,
                             p->recurrent};
        error = launch(shape, bwd_cublas_cell, step);
        if (!error && t > 0)
            error = gemm_error(gemm_rowmajor(context->blas, 0, 0, B, H, 4 * H, 1.0f, step.gates,
                                             p->w_hh, 0.0f, p->dh));
    }
    return error;
}
