/* tuned_gemm: computes gemm_rowmajor (kernels/gemm.h) by the fastest algorithm that cuBLASLt
 * proposes for a shape. This is cuBLAS as tuned by an expert, so that our kernels are compared with
 * a tuned baseline. */
#ifndef PLSTM_BENCH_TUNED_GEMM_H
#define PLSTM_BENCH_TUNED_GEMM_H

#include "kernels/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Like gemm_rowmajor, on the benchmark's stream. The first call with a shape, which must not be
 * captured, times every candidate. If a transposed copy of B is faster, it is made at the first
 * call with B and never updated, so B must not change while a row is measured. */
cublasStatus_t tuned_gemm(cublasHandle_t handle, int ta, int tb, int64_t m, int64_t n, int64_t k,
                          float alpha, const float *A, const float *B, float beta, float *C);

/* kernels/fwd_cublas.cu and bwd_cublas.cu, compiled a second time with these products. */
cudaError_t fwd_tuned_prepare(void);
cudaError_t bwd_tuned_prepare(void);
struct LstmContext;
struct LstmForward;
struct LstmBackward;
cudaError_t fwd_tuned_run(const struct LstmContext *context, const struct LstmForward *p);
cudaError_t bwd_tuned_run(const struct LstmContext *context, const struct LstmBackward *p);

#ifdef __cplusplus
}
#endif

#endif
