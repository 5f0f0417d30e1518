/* variants: the records of the variants in variants.def. */
#include "variants.h"

/* Each step has one GEMM and one pointwise kernel. Backward's last step has no step before it and
 * needs no GEMM. */
static int stepwise_launches(const LstmShape *shape, int backward)
{
    return (int)(2 * shape->T - (backward ? 1 : 0));
}

static int persistent_launches(const LstmShape *shape, int backward)
{
    (void)shape, (void)backward;
    return 1;
}

/* The functions that stepwise and persistent variants have in common. */
#define PASSES(name)                                                                               \
    extern const LstmFootprint lstm_footprint_##name;                                              \
    static cudaError_t name##_prepare(void)                                                        \
    {                                                                                              \
        cudaError_t error = fwd_##name##_prepare();                                                \
        if (!error) error = bwd_##name##_prepare();                                                \
        return error ? error : lstm_state_gradient_prepare();                                      \
    }                                                                                              \
    static cudaError_t name##_backward(const LstmContext *context, const LstmBackward *p)          \
    {                                                                                              \
        cudaError_t error = bwd_##name##_run(context, p);                                          \
        return error ? error : lstm_state_gradient(context, p);                                    \
    }

#define STEPWISE(name, ...)                                                                        \
    PASSES(name)                                                                                   \
    static const LstmVariant name##_variant = {                                                    \
        .footprint = &lstm_footprint_##name,                                                       \
        .prepare = name##_prepare,                                                                 \
        .forward = fwd_##name##_run,                                                               \
        .backward = name##_backward,                                                               \
        .launches = stepwise_launches,                                                             \
    };
#define PERSISTENT(name, ...)                                                                      \
    PASSES(name)                                                                                   \
    static cudaError_t name##_resident(const LstmPlan *plan, int *blocks)                          \
    {                                                                                              \
        return plan->backward ? bwd_##name##_resident(plan, blocks)                                \
                              : fwd_##name##_resident(plan, blocks);                               \
    }                                                                                              \
    static const LstmVariant name##_variant = {                                                    \
        .footprint = &lstm_footprint_##name,                                                       \
        .prepare = name##_prepare,                                                                 \
        .resident_blocks = name##_resident,                                                        \
        .forward = fwd_##name##_run,                                                               \
        .backward = name##_backward,                                                               \
        .launches = persistent_launches,                                                           \
    };
#define TENSOR(name, ...) PERSISTENT(name, __VA_ARGS__)
#include "variants.def"
#undef TENSOR
#undef STEPWISE
#undef PERSISTENT
#undef PASSES

const LstmVariant *const lstm_variants[] = {
#define STEPWISE(name, ...)   &name##_variant,
#define PERSISTENT(name, ...) &name##_variant,
#define TENSOR(name, ...)     &name##_variant,
#include "variants.def"
    NULL};
