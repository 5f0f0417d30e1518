/* gemm: row-major matrix products by cuBLAS, whose matrices are column-major. Clean C11, shared by the
 * kernels and the CUDA backend: the mapping is written once.
 *
 * A row-major (r,c) matrix is the column-major (c,r) transpose in the same memory, so C = A B is asked for as
 * C' = B' A'. */
#ifndef PLSTM_GEMM_H
#define PLSTM_GEMM_H

#include <assert.h>
#include <limits.h>
#include <stdint.h>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

/* C (m,n) = alpha op(A) op(B) + beta C; op(A) is (m,k), op(B) (k,n), all without gaps between rows. ta, tb:
 * op transposes, so that A is stored (k,m), B (n,k). C must not overlap A or B; with beta = 0 it is not read.
 * Runs on the stream, in the math mode and with the workspace that the handle has; alpha and beta are host
 * values, which a captured graph keeps. */
static inline cublasStatus_t gemm_rowmajor(cublasHandle_t handle, int ta, int tb, int64_t m,
                                           int64_t n, int64_t k, float alpha, const float *A,
                                           const float *B, float beta, float *C)
{
    assert(m > 0 && n > 0 && k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    return cublasSgemm(handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                       (int)n, (int)m, (int)k, &alpha, B, (int)(tb ? k : n), A, (int)(ta ? m : k),
                       &beta, C, (int)n);
}

/* The same with A and B in bfloat16; sums and C are float32. sm_80 and up. */
static inline cublasStatus_t gemm_rowmajor_bf16(cublasHandle_t handle, int ta, int tb, int64_t m,
                                                int64_t n, int64_t k, float alpha,
                                                const uint16_t *A, const uint16_t *B, float beta,
                                                float *C)
{
    assert(m > 0 && n > 0 && k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX);
    return cublasGemmEx(handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                        (int)n, (int)m, (int)k, &alpha, B, CUDA_R_16BF, (int)(tb ? k : n), A,
                        CUDA_R_16BF, (int)(ta ? m : k), &beta, C, CUDA_R_32F, (int)n,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

/* The CUDA error that says most nearly what a cuBLAS status says, for functions that return only that. */
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
