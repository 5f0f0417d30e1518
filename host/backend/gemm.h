/* gemm: the matrix products over all positions of a window, by cuBLASLt. Each shape runs with an
 * algorithm that is chosen once: the library's first suggestion or, with PLSTM_TUNE=1 in the
 * environment, the fastest of its suggestions. The algorithms of training are chosen when the
 * backend opens. A checkpoint records them as text, so that a resumed run has the same bits. */
#ifndef PLSTM_BACKEND_GEMM_H
#define PLSTM_BACKEND_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cublasLt.h>
#include <cublas_v2.h>

#include "kernels/gemm.h"
#include "kernels/plan.h"
#include "host/plan/device.h"
#include "host/base/error.h"

/* C (m,n) = op(A) op(B), row-major, as in gemm_rows (kernels/gemm.h). */
typedef struct GemmShape {
    int ta, tb;
    int64_t m, n, k;
    GemmRows rows;
} GemmShape;

typedef struct GemmEntry {
    GemmShape shape;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c; /* column-major: a describes B, b describes A */
    cublasLtMatmulAlgo_t algorithm;
    bool chosen;   /* false: the library suggests no algorithm, and gemm_rows runs instead */
    bool recorded; /* used by training, hence recorded in checkpoints */
} GemmEntry;

enum { GEMM_ENTRIES = 256, GEMM_TEXT = 1600 };

typedef struct Gemm {
    LstmPrecision precision;
    cublasHandle_t blas;
    cudaStream_t stream;
    void *workspace; /* device, shared with blas on the same stream */
    size_t workspace_bytes;
    uint32_t alignment; /* of operands, bytes */
    const char *record; /* the resumed run's algorithms; NULL where they are not valid here */
    bool tune;
    char head[128]; /* library, device and precision for which algorithms are valid */
    char remark[256];
    cublasLtHandle_t lt;
    GemmEntry list[GEMM_ENTRIES];
    int n;
    int next; /* entry of a full list that was evicted last */
} Gemm;

/* blas, stream and workspace belong to the caller and outlive *p, as does record (a text of
 * gemm_text, or NULL). Operands begin at multiples of `offset` elements of their tensors. On
 * failure the exit code is that of cublas_failed (cublas_check.h). gemm_close frees *p and also
 * accepts one that was only zeroed. */
int gemm_open(Gemm *p, LstmPrecision precision, const DeviceFacts *device, cublasHandle_t blas,
              cudaStream_t stream, void *workspace, size_t workspace_bytes, int64_t offset,
              const char *record, Error *e);
void gemm_close(Gemm *p);

/* Chooses the algorithm of one product of training. A, B and C are operands of that shape; only
 * tuning uses them, and it overwrites C. */
int gemm_prepare(Gemm *p, GemmShape shape, const void *A, const void *B, float *C, Error *e);

/* Enqueues one product on the stream, all in device memory. A and B are float, or bfloat16 in bf16.
 * A shape that was not prepared gets the library's first suggestion. */
int gemm_run(Gemm *p, GemmShape shape, const void *A, const void *B, float *C, Error *e);

/* Writes the algorithms of the prepared shapes as one line of less than `size` bytes; those that do
 * not fit are left out. */
void gemm_text(const Gemm *p, char *out, size_t size);

#endif
