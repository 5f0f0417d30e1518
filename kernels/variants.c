/* variants: the records of variants.def's list. */
#include "variants.h"

/* One GEMM and one pointwise kernel a step; backward's last step, which has no step before it, needs no GEMM. */
static int stepwise_launches(const LstmShape *shape, int backward)
{
    return (int)(2 * shape->T - (backward ? 1 : 0));
}

#define STEPWISE(name, summary)                                                                              \
    extern const LstmFootprint lstm_footprint_##name;                                                        \
    static cudaError_t name##_prepare(void)                                                                  \
    {                                                                                                        \
        cudaError_t error = fwd_##name##_prepare();                                                          \
        return error ? error : bwd_##name##_prepare();                                                       \
    }                                                                                                        \
    static const LstmVariant name##_variant = {                                                              \
        .footprint = &lstm_footprint_##name,                                                                 \
        .prepare = name##_prepare,                                                                           \
        .forward = fwd_##name##_run,                                                                         \
        .backward = bwd_##name##_run,                                                                        \
        .launches = stepwise_launches,                                                                       \
    };
#define PERSISTENT(name, packed, shared, summary, forward, backward)
#include "variants.def"
#undef STEPWISE
#undef PERSISTENT

const LstmVariant *const lstm_variants[] = {
#define STEPWISE(name, summary)                                      &name##_variant,
#define PERSISTENT(name, packed, shared, summary, forward, backward)
#include "variants.def"
    NULL};
