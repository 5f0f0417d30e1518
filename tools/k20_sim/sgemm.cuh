/* sgemm: a stand-in for cuBLAS, which the simulator cannot run, so that the variant cublas runs
 * unmodified. Code that follows this file calls it as cublasSgemm, as gemm_rowmajor
 * (kernels/gemm.h) does, for the few rows of a time step.
 * Idea       Each block computes ROWS rows of COLUMNS columns. Its threads split k into slices;
 *            each thread sums 2 columns of half the rows over its slice, and the partial sums are
 *            added in shared memory. The operands of the next STEPS of each slice are loaded into
 *            registers while the current ones are multiplied.
 * Operands   A thread does 20 multiply-adds per 8-byte read of weights and five 8-byte reads of x,
 *            which a warp shares.
 * Grid       One block per SMX at H = 200 on a K20: 13 blocks of 64 columns forward, 13 of 16
 *            backward. */
#ifndef PLSTM_K20_SIM_SGEMM_CUH
#define PLSTM_K20_SIM_SGEMM_CUH

#include <cublas_v2.h>

enum { SGEMM_ROWS = 20, SGEMM_STEPS = 8, SGEMM_THREADS = 320 };

/* C (m,n) = A * op(B) + beta * C, row-major without gaps. A is (m,k); B is (k,n), or (n,k) if
 * TRANSPOSED. */
struct SgemmArgs {
    int m, n, k;
    const float *A, *B;
    float beta, *C;
};

template <bool TRANSPOSED, int SLICES>
__global__ void __launch_bounds__(SGEMM_THREADS, 1) sgemm_rows(SgemmArgs a)
{
    enum {
        COLUMNS = SGEMM_THREADS / SLICES, /* a thread sums 2 of them, for half the rows */
        DEPTH = SLICES * SGEMM_STEPS,     /* values of k that are staged at a time */
        PITCH = COLUMNS + 2,
        B_LOADS = DEPTH * COLUMNS / SGEMM_THREADS,
        A_LOADS = (DEPTH * SGEMM_ROWS + SGEMM_THREADS - 1) / SGEMM_THREADS,
        SUMS = SLICES * SGEMM_ROWS * COLUMNS,
        STAGED = DEPTH * (PITCH + SGEMM_ROWS),
        HALF = SGEMM_ROWS / 2
    };
    __shared__ __align__(16) float room[SUMS > STAGED ? SUMS : STAGED];
    float *const bs = room, *const as = room + DEPTH * PITCH; /* [k][column], [k][row] */
    const int tid = (int)threadIdx.x, n0 = (int)blockIdx.x * COLUMNS,
              m0 = (int)blockIdx.y * SGEMM_ROWS;
    const int pair = tid % (COLUMNS / 2), half = tid / (COLUMNS / 2) % 2, slice = tid / COLUMNS;
    const int depth = (a.k + SLICES - 1) / SLICES; /* per slice */
    float next_b[B_LOADS], next_a[A_LOADS], sum[HALF][2];

    auto load = [&](int step) {
#pragma unroll
        for (int i = 0; i < B_LOADS; i++) {
            int e = tid + i * SGEMM_THREADS;
            int j = TRANSPOSED ? e % DEPTH : e / COLUMNS,
                column = TRANSPOSED ? e / DEPTH : e % COLUMNS;
            int at = step + j % SGEMM_STEPS, k = j / SGEMM_STEPS * depth + at, n = n0 + column;
            bool there = at < depth && k < a.k && n < a.n;
            next_b[i] = there ? a.B[TRANSPOSED ? n * a.k + k : k * a.n + n] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < A_LOADS; i++) {
            int e = tid + i * SGEMM_THREADS, j = e % DEPTH, row = e / DEPTH;
            int at = step + j % SGEMM_STEPS, k = j / SGEMM_STEPS * depth + at;
            bool there = row < SGEMM_ROWS && m0 + row < a.m && at < depth && k < a.k;
            next_a[i] = there ? a.A[(m0 + row) * a.k + k] : 0.0f;
        }
    };
#pragma unroll
    for (int r = 0; r < HALF; r++) sum[r][0] = sum[r][1] = 0.0f;
    load(0);
    for (int step = 0; step < depth; step += SGEMM_STEPS) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < B_LOADS; i++) {
            int e = tid + i * SGEMM_THREADS;
            int j = TRANSPOSED ? e % DEPTH : e / COLUMNS,
                column = TRANSPOSED ? e / DEPTH : e % COLUMNS;
            bs[j * PITCH + column] = next_b[i];
        }
#pragma unroll
        for (int i = 0; i < A_LOADS; i++) {
            int e = tid + i * SGEMM_THREADS;
            if (e < DEPTH * SGEMM_ROWS) as[e % DEPTH * SGEMM_ROWS + e / DEPTH] = next_a[i];
        }
        __syncthreads();
        if (step + SGEMM_STEPS < depth) load(step + SGEMM_STEPS);
#pragma unroll
        for (int i = 0; i < SGEMM_STEPS; i++) {
            int j = slice * SGEMM_STEPS + i;
            float2 w = *(const float2 *)(bs + j * PITCH + 2 * pair);
#pragma unroll
            for (int r = 0; r < HALF; r += 2) {
                float2 x = *(const float2 *)(as + j * SGEMM_ROWS + half * HALF + r);
                sum[r][0] += w.x * x.x, sum[r][1] += w.y * x.x;
                sum[r + 1][0] += w.x * x.y, sum[r + 1][1] += w.y * x.y;
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < HALF; r++)
        *(float2 *)(room + (slice * SGEMM_ROWS + half * HALF + r) * COLUMNS + 2 * pair) =
            make_float2(sum[r][0], sum[r][1]);
    __syncthreads();
    for (int e = tid; e < SGEMM_ROWS * COLUMNS; e += SGEMM_THREADS) {
        int row = m0 + e / COLUMNS, n = n0 + e % COLUMNS;
        if (row >= a.m || n >= a.n) continue;
        float total = a.beta != 0.0f ? a.beta * a.C[row * a.n + n] : 0.0f;
        for (int s = 0; s < SLICES; s++) total += room[s * SGEMM_ROWS * COLUMNS + e];
        a.C[row * a.n + n] = total;
    }
}

/* Takes the column-major call that gemm_rowmajor makes: n and m, and B and A, are swapped, and no
 * operand has gaps. */
static cublasStatus_t sim_sgemm(cublasHandle_t, cublasOperation_t of_b, cublasOperation_t of_a,
                                int n, int m, int k, const float *alpha, const float *B, int,
                                const float *A, int, const float *beta, float *C, int)
{
    if (of_a != CUBLAS_OP_N || *alpha != 1.0f) return CUBLAS_STATUS_NOT_SUPPORTED;
    const SgemmArgs args = {m, n, k, A, B, *beta, C};
    const unsigned rows = (unsigned)((m + SGEMM_ROWS - 1) / SGEMM_ROWS);
    if (of_b == CUBLAS_OP_T)
        sgemm_rows<true, 5><<<dim3((unsigned)(n + 63) / 64, rows), SGEMM_THREADS>>>(args);
    else sgemm_rows<false, 20><<<dim3((unsigned)(n + 15) / 16, rows), SGEMM_THREADS>>>(args);
    return cudaPeekAtLastError() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

#undef cublasSgemm
#define cublasSgemm sim_sgemm

#endif
