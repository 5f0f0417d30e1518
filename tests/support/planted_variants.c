/* planted_variants: kernels/variants.c with four more records, to test the handling of faulty
 * kernels: `wrong` computes wrong results, `hangs` never returns, `ends` ends the process, and the
 * driver refuses to prepare `unready`. tests/gpu/test_bench_gpu.py checks that a wrong kernel gets
 * no time; tests/tools/test_rehearsal.py checks that each of the four loses only its own rows.
 * planted_footprints.c has their footprints, which the planner reads. */
#include <stdlib.h>
#include <unistd.h>

#include "kernels/variants.h"

#define lstm_variants true_variants
#include "kernels/variants.c"
#undef lstm_variants

/* Adds b_ih twice and b_hh never. */
static cudaError_t wrong_forward(const LstmContext *context, const LstmForward *p)
{
    LstmForward q = *p;
    q.b_hh = p->b_ih;
    return fwd_cublas_run(context, &q);
}

/* Computes T - 1 steps, each with the cell state of the step after it. */
static cudaError_t wrong_backward(const LstmContext *context, const LstmBackward *p)
{
    LstmBackward q = *p;
    q.shape.T -= 1;
    q.c += q.shape.B * q.shape.H;
    return bwd_cublas_run(context, &q);
}

static cudaError_t hangs_forward(const LstmContext *context, const LstmForward *p)
{
    (void)context, (void)p;
    while (pause()) continue;
    return cudaErrorUnknown;
}

static cudaError_t ends_forward(const LstmContext *context, const LstmForward *p)
{
    (void)context, (void)p;
    abort();
}

static cudaError_t never_prepared(void) { return cudaErrorInvalidValue; }

#define PLANTED(name_, prepare_, forward_, backward_)                                              \
    extern const LstmFootprint planted_footprint_##name_;                                          \
    static const LstmVariant name_ = {.footprint = &planted_footprint_##name_,                     \
                                      .prepare = prepare_,                                         \
                                      .forward = forward_,                                         \
                                      .backward = backward_,                                       \
                                      .launches = stepwise_launches};
PLANTED(wrong, cublas_prepare, wrong_forward, wrong_backward)
PLANTED(hangs, cublas_prepare, hangs_forward, cublas_backward)
PLANTED(ends, cublas_prepare, ends_forward, cublas_backward)
PLANTED(unready, never_prepared, fwd_cublas_run, bwd_cublas_run)

const LstmVariant *const lstm_variants[] = {
#define STEPWISE(name, ...)   &name##_variant,
#define PERSISTENT(name, ...) &name##_variant,
#define TENSOR(name, ...)     &name##_variant,
#include "kernels/variants.def"
    &wrong, &hangs, &ends, &unready, NULL};
