/* gemm: row-major matrix products by cuBLAS, whose matrices are column-major. Clean C11, shared by
 * the kernels and the CUDA backend, so that the mapping is written once.
 *
 * A row-major (r,c) matrix is the column-major (c,r) transpose in the same memory, so C = A * B is
 * computed as C' = B' * A'. */
#ifndef PLSTM_GEMM_H
#define PLSTM_GEMM_H

#include <assert.h>
#include <limits.h>
#include <stdint.h>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

/* Distance between rows of A, B and C, in elements; 0: no gaps. */
typedef struct GemmRows {
    int64_t a, b, c;
} GemmRows;

/* C (m,n) = alpha * op(A) * op(B) + beta * C, where op(A) is (m,k) and op(B) is (k,n). ta and tb
 * transpose: A is then stored as (k,m), B as (n,k). C must not overlap A or B. With beta = 0 it is
 * not read; what lies between its rows is neither read nor written. The product runs on the
 * handle's stream, in its math mode and with its workspace. alpha and beta are host values, which a
 * captured graph keeps. */
static inline cublasStatus_t gemm_rows(cublasHandle_t handle, int ta, int tb, int64_t m, int64_t n,
                                       int64_t k, float alpha, const float *A, const float *B,
                                       float beta, float *C, GemmRows rows)
{
    assert(m > 0 && n > 0 && k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    int64_t lda = rows.a ? rows.a : ta ? m : k, ldb = rows.b ? rows.b : tb ? k : n;
    return cublasSgemm(handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                       (int)n, (int)m, (int)k, &alpha, B, (int)ldb, A, (int)lda, &beta, C,
                       (int)(rows.c ? rows.c : n));
}

/* gemm_rows with A and B in bfloat16; sums and C are float32. Needs sm_80. */
static inline cublasStatus_t gemm_rows_bf16(cublasHandle_t handle, int ta, int tb, int64_t m,
                                            int64_t n, int64_t k, float alpha, const uint16_t *A,
                                            const uint16_t *B, float beta, float *C, GemmRows rows)
{
    assert(m > 0 && n > 0 && k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    int64_t lda = rows.a ? rows.a : ta ? m : k, ldb = rows.b ? rows.b : tb ? k : n;
    return cublasGemmEx(handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                        (int)n, (int)m, (int)k, &alpha, B, CUDA_R_16BF, (int)ldb, A, CUDA_R_16BF,
                        (int)lda, &beta, C, CUDA_R_32F, (int)(rows.c ? rows.c : n),
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

/* gemm_rows and gemm_rows_bf16 without gaps between rows. */
static inline cublasStatus_t gemm_rowmajor(cublasHandle_t handle, int ta, int tb, int64_t m,
                                           int64_t n, int64_t k, float alpha, const float *A,
                                           const float *B, float beta, float *C)
{
    GemmRows none = {0, 0, 0};
    return gemm_rows(handle, ta, tb, m, n, k, alpha, A, B, beta, C, none);
}
static inline cublasStatus_t gemm_rowmajor_bf16(cublasHandle_t handle, int ta, int tb, int64_t m,
                                                int64_t n, int64_t k, float alpha,
                                                const uint16_t *A, const uint16_t *B, float beta,
                                                float *C)
{
    GemmRows none = {0, 0, 0};
    return gemm_rows_bf16(handle, ta, tb, m, n, k, alpha, A, B, beta, C, none);
}

/* Returns the CUDA error that is closest to a cuBLAS status, for functions that return only the
 * former. */
static inline cudaError_t gemm_error(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return cudaSuccess;
    case CUBLAS_STATUS_NOT_INITIALIZED: return cudaErrorInitializationError;
    case CUBLAS_STATUS_ALLOC_FAILED: return cudaErrorMemoryAllocation;
    case CUBLAS_STATUS_INVALID_VALUE: return cudaErrorInvalidValue;
    case CUBLAS_STATUS_EXECUTION_FAILED: return cudaErrorLaunchFailure;
    default: return cudaErrorUnknown;
    }
}

#endif
