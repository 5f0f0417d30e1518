#include "products.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gemm.h"
#include "cublas_check.h"
#include "host/plan/precision.h"

enum {
    CANDIDATES = 16,
    TRIES = 3,
    TIMES = 10,
    WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t)
};

/* ---- life ---- */

int products_open(Products *p, LstmPrecision precision, const DeviceFacts *device,
                  cublasHandle_t blas, cudaStream_t stream, void *workspace, size_t workspace_bytes,
                  int64_t offset, const char *record, Error *e)
{
    const char *tune = getenv("PLSTM_TUNE");
    int64_t bytes = offset * (precision == PRECISION_BF16 ? 2 : 4);
    *p = (Products){.precision = precision,
                    .blas = blas,
                    .stream = stream,
                    .workspace = workspace,
                    .workspace_bytes = workspace_bytes,
                    .alignment = (uint32_t)(bytes & -bytes) < 16 ? (uint32_t)(bytes & -bytes) : 16,
                    .tune = tune && tune[0] && strcmp(tune, "0")};
    CUBLAS_TRY(cublasLtCreate(&p->lt));
    snprintf(p->head, sizeof p->head, "cuBLASLt %zu sm_%d%d %d SMs %s workspace %zu alignment %u",
             cublasLtGetVersion(), device->major, device->minor, device->sms,
             precision_name(precision), workspace_bytes, p->alignment);
    size_t n = strlen(p->head);
    if (record && !strncmp(record, p->head, n) && record[n] == ';') p->record = record + n;
    else if (record && record[0])
        snprintf(p->remark, sizeof p->remark,
                 "the recorded GEMM algorithms are of another library, GPU or precision: they are "
                 "chosen "
                 "anew, and the "
                 "last bits may differ from those of an uninterrupted run");
    return EXIT_DONE;
}

static void product_close(Product *one)
{
    /* Releases say again what failed before; there is nobody left to tell. */
    if (one->desc) cublasLtMatmulDescDestroy(one->desc);
    if (one->a) cublasLtMatrixLayoutDestroy(one->a);
    if (one->b) cublasLtMatrixLayoutDestroy(one->b);
    if (one->c) cublasLtMatrixLayoutDestroy(one->c);
    *one = (Product){0};
}

void products_close(Products *p)
{
    for (int i = 0; i < p->n; i++) product_close(&p->list[i]);
    if (p->lt) cublasLtDestroy(p->lt);
    *p = (Products){0};
}

/* ---- one product ---- */

static int product_run(const Products *p, const Product *one, const void *A, const void *B,
                       float *C, Error *e)
{
    const ProductShape *s = &one->shape;
    const float alpha = 1, beta = 0;
    if (one->chosen)
        CUBLAS_TRY(cublasLtMatmul(p->lt, one->desc, &alpha, B, one->a, A, one->b, &beta, C, one->c,
                                  C, one->c, &one->algorithm, p->workspace, p->workspace_bytes,
                                  p->stream));
    else if (p->precision == PRECISION_BF16)
        CUBLAS_TRY(gemm_rows_bf16(p->blas, s->ta, s->tb, s->m, s->n, s->k, 1, A, B, 0, C, s->rows));
    else CUBLAS_TRY(gemm_rows(p->blas, s->ta, s->tb, s->m, s->n, s->k, 1, A, B, 0, C, s->rows));
    return EXIT_DONE;
}

static int describe(const Products *p, Product *one, Error *e)
{
    const ProductShape *s = &one->shape;
    cublasOperation_t first = s->tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                      second = s->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cudaDataType type = p->precision == PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    int64_t a = s->tb ? s->k : s->n, b = s->ta ? s->m : s->k;
    GemmRows rows = {s->rows.a ? s->rows.a : b, s->rows.b ? s->rows.b : a,
                     s->rows.c ? s->rows.c : s->n};
    CUBLAS_TRY(cublasLtMatmulDescCreate(
        &one->desc,
        p->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        CUDA_R_32F));
    CUBLAS_TRY(cublasLtMatmulDescSetAttribute(one->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                              sizeof first));
    CUBLAS_TRY(cublasLtMatmulDescSetAttribute(one->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                              sizeof second));
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&one->a, type, (uint64_t)a,
                                          (uint64_t)(s->tb ? s->n : s->k), rows.b));
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&one->b, type, (uint64_t)b,
                                          (uint64_t)(s->ta ? s->k : s->m), rows.a));
    CUBLAS_TRY(
        cublasLtMatrixLayoutCreate(&one->c, CUDA_R_32F, (uint64_t)s->n, (uint64_t)s->m, rows.c));
    return EXIT_DONE;
}

/* ---- choosing ---- */

/* The library's suggestions that can run, the best first by its own estimate; *found = 0 where it has none. */
static int suggestions(const Products *p, const Product *one,
                       cublasLtMatmulHeuristicResult_t result[CANDIDATES], int *found, Error *e)
{
    const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t preference;
    uint64_t bytes = p->workspace_bytes;
    CUBLAS_TRY(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    for (int i = 0; i < 4 && !status; i++) {
        uint32_t alignment = i < 2 ? p->alignment : 16; /* results are whole tensors */
        status = cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment,
                                                      sizeof alignment);
    }
    cublasStatus_t asked =
        status ? status
               : cublasLtMatmulAlgoGetHeuristic(p->lt, one->desc, one->a, one->b, one->c, one->c,
                                                preference, CANDIDATES, result, found);
    status = cublasLtMatmulPreferenceDestroy(preference);
    if (asked == CUBLAS_STATUS_NOT_SUPPORTED) asked = CUBLAS_STATUS_SUCCESS, *found = 0;
    CUBLAS_TRY(asked);
    CUBLAS_TRY(status);
    int listed = *found;
    *found = 0;
    for (int i = 0; i < listed; i++)
        if (result[i].state == CUBLAS_STATUS_SUCCESS) result[(*found)++] = result[i];
    return EXIT_DONE;
}

/* Milliseconds of TIMES products in a row, the least of a few tries; infinite where it cannot run. */
static int time_of(const Products *p, const Product *one, const void *A, const void *B, float *C,
                   const cudaEvent_t event[2], float *least, Error *e)
{
    Error none;
    *least = INFINITY;
    for (int t = 0; t <= TRIES; t++) { /* the first loads what it needs */
        float ms;
        CUDA_TRY(cudaEventRecord(event[0], p->stream));
        for (int i = 0; i < TIMES; i++)
            if (product_run(p, one, A, B, C, &none)) return EXIT_DONE;
        CUDA_TRY(cudaEventRecord(event[1], p->stream));
        CUDA_TRY(cudaEventSynchronize(event[1]));
        CUDA_TRY(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (t > 0 && ms < *least) *least = ms;
    }
    return EXIT_DONE;
}

static int fastest(const Products *p, Product *one, const cublasLtMatmulHeuristicResult_t *result,
                   int found, const void *A, const void *B, float *C, Error *e)
{
    cudaEvent_t event[2] = {0};
    float best = INFINITY, ms;
    Product tried = *one;
    int code = EXIT_DONE;
    for (int i = 0; i < 2; i++) CUDA_TRY(cudaEventCreate(&event[i]));
    for (int i = 0; i < found && !code; i++) {
        tried.algorithm = result[i].algo, tried.chosen = true;
        code = time_of(p, &tried, A, B, C, event, &ms, e);
        if (!code && ms < best) best = ms, one->algorithm = result[i].algo, one->chosen = true;
    }
    for (int i = 0; i < 2; i++) CUDA_TRY(cudaEventDestroy(event[i]));
    return code;
}

static int item_text(const Product *one, char *out, size_t size)
{
    const ProductShape *s = &one->shape;
    char rows[72] = "";
    if (s->rows.a || s->rows.b || s->rows.c)
        snprintf(rows, sizeof rows, ".%lld.%lld.%lld", (long long)s->rows.a, (long long)s->rows.b,
                 (long long)s->rows.c);
    return snprintf(out, size, "%d.%d.%lld.%lld.%lld%s=", s->ta, s->tb, (long long)s->m,
                    (long long)s->n, (long long)s->k, rows);
}

/* Takes the record's algorithm; false: it has none that this library would run. */
static bool take_recorded(const Products *p, Product *one)
{
    char item[160] = ";";
    cublasLtMatmulAlgo_t algorithm;
    cublasLtMatmulHeuristicResult_t result;
    uint64_t words[WORDS];
    item_text(one, item + 1, sizeof item - 1);
    const char *at = strstr(p->record, item);
    if (!at) return false;
    at += strlen(item);
    one->chosen = strncmp(at, "cublas", 6) != 0;
    if (!one->chosen) return true;
    for (size_t i = 0; i < WORDS; i++) {
        char *end;
        words[i] = strtoull(at, &end, 16);
        if (end == at || *end != (i + 1 < WORDS ? '.' : *end)) return one->chosen = false;
        at = end + 1;
    }
    memcpy(&algorithm, words, sizeof algorithm);
    one->algorithm = algorithm;
    one->chosen = !cublasLtMatmulAlgoCheck(p->lt, one->desc, one->a, one->b, one->c, one->c,
                                           &algorithm, &result) &&
                  result.workspaceSize <= p->workspace_bytes;
    return one->chosen;
}

/* Makes room in a full list: recorded products, of which there are few, stay; the others go in turn. */
static int product_evict(Products *p)
{
    do p->next = (p->next + 1) % PRODUCTS;
    while (p->list[p->next].recorded);
    product_close(&p->list[p->next]);
    return p->next;
}

/* Adds a product; A, B and C only where it may be tuned. */
static int product_add(Products *p, ProductShape shape, bool training, const void *A, const void *B,
                       float *C, Product **to, Error *e)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    int found = 0;
    int at = p->n < PRODUCTS ? p->n++ : product_evict(p);
    Product *one = *to = &p->list[at];
    *one = (Product){.shape = shape, .recorded = training};
    int code = describe(p, one, e);
    if (code) return code;
    if (training && p->record) {
        if (take_recorded(p, one)) return EXIT_DONE;
        snprintf(p->remark, sizeof p->remark,
                 "a recorded GEMM algorithm cannot run here: it is chosen anew, and the last bits "
                 "may differ "
                 "from those "
                 "of an uninterrupted run");
    }
    code = suggestions(p, one, result, &found, e);
    if (code || found == 0) return code;
    if (training && p->tune) return fastest(p, one, result, found, A, B, C, e);
    one->algorithm = result[0].algo, one->chosen = true;
    return EXIT_DONE;
}

/* ---- use ---- */

static bool same_shape(const ProductShape *a, const ProductShape *b)
{
    return a->ta == b->ta && a->tb == b->tb && a->m == b->m && a->n == b->n && a->k == b->k &&
           a->rows.a == b->rows.a && a->rows.b == b->rows.b && a->rows.c == b->rows.c;
}

static Product *product_find(Products *p, const ProductShape *shape)
{
    for (int i = 0; i < p->n; i++)
        if (same_shape(&p->list[i].shape, shape)) return &p->list[i];
    return NULL;
}

int products_prepare(Products *p, ProductShape shape, const void *A, const void *B, float *C,
                     Error *e)
{
    Product *one = product_find(p, &shape);
    return one ? EXIT_DONE : product_add(p, shape, true, A, B, C, &one, e);
}

int products_run(Products *p, ProductShape shape, const void *A, const void *B, float *C, Error *e)
{
    Product *one = product_find(p, &shape);
    int code = one ? EXIT_DONE : product_add(p, shape, false, NULL, NULL, NULL, &one, e);
    return code ? code : product_run(p, one, A, B, C, e);
}

void products_text(const Products *p, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s", p->head);
    for (int i = 0; i < p->n; i++) {
        const Product *one = &p->list[i];
        uint64_t words[WORDS];
        char text[160 + 17 * WORDS];
        if (!one->recorded) continue;
        memcpy(words, &one->algorithm, sizeof words);
        size_t m = (size_t)item_text(one, text, sizeof text);
        if (!one->chosen) m += (size_t)snprintf(text + m, sizeof text - m, "cublas");
        for (size_t w = 0; one->chosen && w < WORDS; w++)
            m += (size_t)snprintf(text + m, sizeof text - m, "%s%llx", w ? "." : "",
                                  (unsigned long long)words[w]);
        if (n + m + 2 <= size) n += (size_t)snprintf(out + n, size - n, ";%s", text);
    }
}
