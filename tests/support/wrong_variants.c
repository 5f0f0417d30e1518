/* kernels/variants.c with one record more, `wrong`, whose passes do not compute what they are asked for: tests/gpu/test_bench_gpu.py links
 * bench_gpu with it and sees that a wrong kernel gets no time. */
#include "kernels/variants.h"

#define lstm_variants true_variants
#include "kernels/variants.c"
#undef lstm_variants

/* The input's bias twice, the hidden one never. */
static cudaError_t wrong_forward(const LstmContext *context, const LstmForward *p)
{
    LstmForward q = *p;
    q.b_hh = p->b_ih;
    return fwd_cublas_run(context, &q);
}

/* The cell states of one step later. */
static cudaError_t wrong_backward(const LstmContext *context, const LstmBackward *p)
{
    LstmBackward q = *p;
    q.shape.T -= 1;
    q.c += q.shape.B * q.shape.H;
    return bwd_cublas_run(context, &q);
}

static const LstmFootprint wrong_footprint = {.name = "wrong", .summary = "for tests"};
static const LstmVariant wrong = {
    .footprint = &wrong_footprint,
    .prepare = cublas_prepare,
    .forward = wrong_forward,
    .backward = wrong_backward,
    .launches = stepwise_launches,
};

const LstmVariant *const lstm_variants[] = {&cublas_variant, &wrong, NULL};
