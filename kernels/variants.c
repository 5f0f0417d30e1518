/* variants: every way to run the recurrence, in reading order. */
#include "variants.h"

static cudaError_t cublas_prepare(void)
{
    cudaError_t error = fwd_cublas_prepare();
    return error ? error : bwd_cublas_prepare();
}

/* One GEMM and one pointwise kernel a step; backward's last step, which has no step before it, needs no GEMM.
 */
static int cublas_launches(const LstmShape *shape, int backward)
{
    return (int)(2 * shape->T - (backward ? 1 : 0));
}

const LstmVariant lstm_cublas = {
    .name = "cublas",
    .summary = "per step one cuBLAS GEMM and one pointwise kernel; nothing stays on chip between steps",
    .prepare = cublas_prepare,
    .forward = fwd_cublas_run,
    .backward = bwd_cublas_run,
    .launches = cublas_launches,
};

const LstmVariant *const lstm_variants[] = {
    &lstm_cublas,
    NULL,
};
