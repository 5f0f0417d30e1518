/* fwd_cublas: forward recurrence as it is usually done, with one GEMM and one pointwise kernel per
 * step.
 * Idea       The baseline. A GEMM with beta = 1 adds D_r(h_{t-1}) W_hh' to x_proj_t in the saved
 *            gates; then one kernel applies biases, nonlinearities, cell and masks. The kernel that
 *            computes h also writes its masked copies.
 * Residency  Nothing stays on the chip between launches: W_hh (16 * H * H bytes) is read from L2 or
 *            DRAM at every step.
 * Partition  A block owns CELL_THREADS units of one batch row, a thread one unit: loads are
 *            coalesced for every H, and there are enough threads to hide latency at batch 20. A
 *            thread also draws the words of its three neighbours, which the latency of the loads
 *            hides.
 * Barrier    The kernel boundary, twice per step.
 * Limits     none; T * B and 4 * H must fit in an int (cuBLAS).
 * Measured   not yet measured. Predicted for an H200, B 20, float32, with its launches: 5.71 us
 *            per step at H 200, 6.72 at H 650 and 11.58 at H 1500. */
#include <assert.h>

#include "cell.cuh"
#include "hidden.cuh"
#include "launch.cuh"
#include "gemm.h"
#include "variants.h"

enum { CELL_THREADS = 128 };

/* Finishes step t, whose product is in the gates: adds the biases and computes the cell, the masks
 * and the bfloat16 copies. */
__global__ void __launch_bounds__(CELL_THREADS) fwd_cublas_cell(LstmForward p, int64_t t)
{
    int64_t b = blockIdx.x, B = p.shape.B, H = p.shape.H,
            u = (int64_t)blockIdx.y * CELL_THREADS + threadIdx.x;
    if (u >= H) return;
    int64_t row = t * B + b, n = row * H + u;
    float *gates = p.gates + row * 4 * H + u, *c = p.c + n;
    Gates a;
    a.i = gates[0] + (p.b_ih[u] + p.b_hh[u]);
    a.f = gates[H] + (p.b_ih[H + u] + p.b_hh[H + u]);
    a.g = gates[2 * H] + (p.b_ih[2 * H + u] + p.b_hh[2 * H + u]);
    a.o = gates[3 * H] + (p.b_ih[3 * H + u] + p.b_hh[3 * H + u]);
    CellState s = cell_forward(&a, *c);
    gates[0] = a.i, gates[H] = a.f, gates[2 * H] = a.g, gates[3 * H] = a.o;
    c[B * H] = s.c;
    if (t == 0 && p.h_bf16 && !p.h_masked) hidden_store_first(p, b, n, p.h[n]);
    hidden_store(
        p, t, row, n, s.h, [&] { return mask_factor(mask_open(p.output), row, H, u); },
        [&] { return mask_factor(mask_open(p.recurrent), row + B, H, u); });
}

/* Stores h_masked_0 = D_r(h_0): no kernel of this layer computes the carried h. */
__global__ void __launch_bounds__(CELL_THREADS) fwd_cublas_mask_first(LstmForward p)
{
    int64_t b = blockIdx.x, u = (int64_t)blockIdx.y * CELL_THREADS + threadIdx.x;
    if (u >= p.shape.H) return;
    hidden_store_first(p, b, b * p.shape.H + u, hidden_first(p, mask_open(p.recurrent), b, u));
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
    assert(forward_tensors_sound(p));
    LaunchShape shape = {dim3((unsigned)B, (unsigned)tiles), dim3(CELL_THREADS), 0, context->stream,
                         false};
    cudaError_t error = cudaSuccess;

    if (p->h_masked) error = launch(shape, fwd_cublas_mask_first, *p);
    for (int64_t t = 0; t < T && !error; t++) {
        const float *h_before = (p->h_masked ? p->h_masked : p->h) + t * B * H;
        error = gemm_error(gemm_rowmajor(context->blas, 0, 1, B, 4 * H, H, 1.0f, h_before, p->w_hh,
                                         1.0f, p->gates + t * B * 4 * H));
        if (!error) error = launch(shape, fwd_cublas_cell, *p, t);
    }
    return error;
}
