/* tuned_bwd: kernels/bwd_cublas.cu with tuned products (tuned_gemm.h). */
#include "tuned_gemm.h"

#define gemm_rowmajor      tuned_gemm
#define bwd_cublas_prepare bwd_tuned_prepare
#define bwd_cublas_run     bwd_tuned_run
#define bwd_cublas_cell    bwd_tuned_cell
#include "kernels/bwd_cublas.cu"
