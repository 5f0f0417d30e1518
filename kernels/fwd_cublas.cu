/* fwd_cublas: forward recurrence as the field does it: per step one GEMM and one pointwise kernel.
 * Idea       the baseline: gates_t = x_proj_t + D_r(h_{t-1}) W_hh' with beta = 1 straight into the saved
 *            gates, then one kernel for biases, nonlinearity, cell and masks; masked copies of h are
 *            written by the kernel that makes h
 * Residency  nothing between launches: W_hh (16 H H bytes) comes from L2 or DRAM at every step
 * Partition  a block owns CELL_THREADS units of one batch row, a thread one unit: loads are coalesced for
 *            any H, and enough threads exist to hide latency at batch 20. A thread draws the words of its
 *            three neighbours too; that hides behind the loads
 * Barrier    the kernel boundary, twice a step
 * Limits     none; T B and 4 H must fit an int (cuBLAS)
 * Measured   not yet measured
 */
#include <assert.h>

#include "cell.cuh"
#include "launch.cuh"
#include "gemm.h"
#include "mask.cuh"
#include "variants.h"

enum { CELL_THREADS = 128 };

/* One step, all pointers at it. */
struct ForwardStep {
    int64_t H, row;           /* row: t*B, the mask row of batch row 0 */
    const float *b_ih, *b_hh; /* (4H) */
    float *gates;             /* (B,4H): in W_ih x + W_hh h, out i, f, g, o */
    const float *c_before;    /* (B,H) */
    float *c, *h;             /* (B,H) */
    float *y;                 /* (B,H) or NULL */
    float *h_masked;          /* (B,H) as the next step reads it, or NULL */
    MaskSite output, recurrent;
};

__global__ void __launch_bounds__(CELL_THREADS) fwd_cublas_cell(ForwardStep p)
{
    int64_t b = blockIdx.x, B = gridDim.x, H = p.H,
            u = (int64_t)blockIdx.y * CELL_THREADS + threadIdx.x;
    if (u >= H) return;
    float *gates = p.gates + b * 4 * H + u;
    Gates a;
    a.i = gates[0] + (p.b_ih[u] + p.b_hh[u]);
    a.f = gates[H] + (p.b_ih[H + u] + p.b_hh[H + u]);
    a.g = gates[2 * H] + (p.b_ih[2 * H + u] + p.b_hh[2 * H + u]);
    a.o = gates[3 * H] + (p.b_ih[3 * H + u] + p.b_hh[3 * H + u]);
    CellState s = cell_forward(&a, p.c_before[b * H + u]);
    gates[0] = a.i, gates[H] = a.f, gates[2 * H] = a.g, gates[3 * H] = a.o;
    p.c[b * H + u] = s.c;
    p.h[b * H + u] = s.h;
    if (p.y) p.y[b * H + u] = s.h * mask_factor(mask_open(p.output), p.row + b, H, u);
    if (p.h_masked)
        p.h_masked[b * H + u] = s.h * mask_factor(mask_open(p.recurrent), p.row + B + b, H, u);
}

/* h_masked_0 = D_r(h_0): the carried h has no kernel of this layer before it. */
__global__ void __launch_bounds__(CELL_THREADS)
    fwd_cublas_mask_first(int64_t H, const float *h, MaskSite site, float *h_masked)
{
    int64_t b = blockIdx.x, u = (int64_t)blockIdx.y * CELL_THREADS + threadIdx.x;
    if (u < H) h_masked[b * H + u] = h[b * H + u] * mask_factor(mask_open(site), b, H, u);
}

extern "C" cudaError_t fwd_cublas_prepare(void)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, fwd_cublas_cell);
    return error ? error : cudaFuncGetAttributes(&attributes, fwd_cublas_mask_first);
}

extern "C" cudaError_t fwd_cublas_run(const LstmContext *context, const LstmForward *p)
{
    int64_t T = p->shape.T, B = p->shape.B, H = p->shape.H,
            tiles = (H + CELL_THREADS - 1) / CELL_THREADS;
    assert(T > 0 && B > 0 && B <= INT32_MAX && H > 0 && tiles <= 65535);
    assert((p->y || !p->output.on) && (p->h_masked || !p->recurrent.on));
    LaunchShape shape = {dim3((unsigned)B, (unsigned)tiles), dim3(CELL_THREADS), 0, context->stream,
                         false};
    cudaError_t error = cudaSuccess;

    if (p->h_masked)
        error = launch(shape, fwd_cublas_mask_first, H, p->h, p->recurrent, p->h_masked);
    for (int64_t t = 0; t < T && !error; t++) {
        const float *h_before = (p->h_masked ? p->h_masked : p->h) + t * B * H;
        ForwardStep step = {H,
                            t * B,
                            p->b_ih,
                            p->b_hh,
                            p->gates + t * B * 4 * H,
                            p->c + t * B * H,
                            p->c + (t + 1) * B * H,
                            p->h + (t + 1) * B * H,
                            p->y ? p->y + t * B * H : nullptr,
                            p->h_masked && t + 1 < T ? p->h_masked + (t + 1) * B * H : nullptr,
                            p->output,
                            p->recurrent};
        error = gemm_error(gemm_rowmajor(context->blas, 0, 1, B, 4 * H, H, 1.0f, h_before, p->w_hh,
                                         1.0f, step.gates));
        if (!error) error = launch(shape, fwd_cublas_cell, step);
    }
    return error;
}
