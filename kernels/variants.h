/* variants: the entry points of the passes, one line per file; only variants.c, which puts them into records,
 * includes this (and the files themselves, so that compilers hold both to one signature). Clean C11. */
#ifndef PLSTM_VARIANTS_H
#define PLSTM_VARIANTS_H

#include "lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* fwd_cublas.cu, bwd_cublas.cu */
cudaError_t fwd_cublas_prepare(void);
cudaError_t fwd_cublas_run(const LstmContext *context, const LstmForward *p);
cudaError_t bwd_cublas_prepare(void);
cudaError_t bwd_cublas_run(const LstmContext *context, const LstmBackward *p);

#ifdef __cplusplus
}
#endif

#endif
