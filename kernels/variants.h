/* variants: the entry points of the passes, named after variants.def. Only variants.c, which puts
 * them into records, and the files that define them include this header, so that compilers hold
 * both to one signature. Clean C11. */
#ifndef PLSTM_VARIANTS_H
#define PLSTM_VARIANTS_H

#include "lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define STEPWISE(name, ...)                                                                        \
    cudaError_t fwd_##name##_prepare(void);                                                        \
    cudaError_t fwd_##name##_run(const LstmContext *context, const LstmForward *p);                \
    cudaError_t bwd_##name##_prepare(void);                                                        \
    cudaError_t bwd_##name##_run(const LstmContext *context, const LstmBackward *p);
#define PERSISTENT(name, ...)                                                                      \
    STEPWISE(name, __VA_ARGS__)                                                                    \
    cudaError_t fwd_##name##_resident(const LstmPlan *plan, int *blocks);                          \
    cudaError_t bwd_##name##_resident(const LstmPlan *plan, int *blocks);
#define TENSOR(name, ...) PERSISTENT(name, __VA_ARGS__)
#include "variants.def"
#undef TENSOR
#undef STEPWISE
#undef PERSISTENT

#ifdef __cplusplus
}
#endif

#endif
