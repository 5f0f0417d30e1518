/* tuned_fwd: kernels/fwd_cublas.cu with tuned products (tuned_gemm.h). */
#include "tuned_gemm.h"

#define gemm_rowmajor         tuned_gemm
#define fwd_cublas_prepare    fwd_tuned_prepare
#define fwd_cublas_run        fwd_tuned_run
#define fwd_cublas_cell       fwd_tuned_cell
#define fwd_cublas_mask_first fwd_tuned_mask_first
#include "kernels/fwd_cublas.cu"
