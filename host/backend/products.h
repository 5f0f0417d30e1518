/* products: the matrix products over all positions of a window, by cuBLASLt, each with an algorithm that is chosen once. What
 * training uses is chosen when the backend opens and told as text, for a checkpoint: a run that goes on from it has the same
 * bits. The library's first suggestion is taken, or with PLSTM_TUNE=1 in the environment the fastest of its suggestions. */
#ifndef PLSTM_PRODUCTS_H
#define PLSTM_PRODUCTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cublasLt.h>
#include <cublas_v2.h>

#include "kernels/gemm.h"
#include "kernels/plan.h"
#include "host/plan/device.h"
#include "host/base/error.h"

/* C (m,n) = op(A) op(B), row-major, as gemm_rows (kernels/gemm.h) has it. */
typedef struct ProductShape {
    int ta, tb;
    int64_t m, n, k;
    GemmRows rows;
} ProductShape;

typedef struct Product {
    ProductShape shape;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c; /* in the library's order: a is our B */
    cublasLtMatmulAlgo_t algorithm;
    bool chosen;   /* false: the library suggests none, cuBLAS's own product runs */
    bool recorded; /* a training's */
} Product;

enum { PRODUCTS = 256, PRODUCTS_TEXT = 1600 };

typedef struct Products {
    LstmPrecision precision;
    cublasHandle_t blas;
    cudaStream_t stream;
    void *workspace; /* device, shared with blas on the same stream */
    size_t workspace_bytes;
    uint32_t alignment; /* of operands, bytes */
    const char *
        record; /* of the run that goes on, or NULL: where it is of the same library, device and precision */
    bool tune;
    char head[128]; /* what algorithms rest on */
    char remark[256];
    cublasLtHandle_t lt;
    Product list[PRODUCTS];
    int n;
    int next; /* where a full list makes room for one that is not recorded */
} Products;

/* blas, stream, workspace are the caller's and outlive *p, as does record (a text of products_text, or NULL). Operands begin at
 * multiples of `offset` elements of their tensors. EXIT_FAILED: the library's error. products_close frees *p, also one that was
 * only zeroed. */
int products_open(Products *p, LstmPrecision precision, const DeviceFacts *device,
                  cublasHandle_t blas, cudaStream_t stream, void *workspace, size_t workspace_bytes,
                  int64_t offset, const char *record, Error *e);
void products_close(Products *p);

/* Chooses the algorithm of a training's product. A, B, C are operands of such a product, of which C may be overwritten. */
int products_prepare(Products *p, ProductShape shape, const void *A, const void *B, float *C,
                     Error *e);

/* Enqueues one; A and B are float, in bf16 bfloat16. A shape that was not prepared gets the library's first suggestion. */
int products_run(Products *p, ProductShape shape, const void *A, const void *B, float *C, Error *e);

/* What was chosen for the products that were prepared, on one line. */
void products_text(const Products *p, char *out, size_t size);

#endif
