#include "gemm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gemm.h"
#include "cublas_check.h"
#include "host/plan/precision.h"

/* Tuning times at most CANDIDATES suggestions, each TRIES times over TIMES products. WORDS is the
 * size of an algorithm in 64-bit words. */
enum {
    CANDIDATES = 16,
    TRIES = 3,
    TIMES = 10,
    WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t)
};

/* ---- opening and closing ---- */

int gemm_open(Gemm *p, LstmPrecision precision, const DeviceFacts *device, cublasHandle_t blas,
              cudaStream_t stream, void *workspace, size_t workspace_bytes, int64_t offset,
              const char *record, Error *e)
{
    const char *tune = getenv("PLSTM_TUNE");
    int64_t bytes = offset * (precision == PRECISION_BF16 ? 2 : 4);
    *p = (Gemm){.precision = precision,
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
                 "the recorded GEMM algorithms are for another library, GPU or precision; new ones "
                 "are chosen, and the last bits may differ from those of an uninterrupted run");
    return EXIT_DONE;
}

static void entry_close(GemmEntry *entry)
{
    /* A release only repeats an error that an earlier call has returned. */
    if (entry->desc) cublasLtMatmulDescDestroy(entry->desc);
    if (entry->a) cublasLtMatrixLayoutDestroy(entry->a);
    if (entry->b) cublasLtMatrixLayoutDestroy(entry->b);
    if (entry->c) cublasLtMatrixLayoutDestroy(entry->c);
    *entry = (GemmEntry){0};
}

void gemm_close(Gemm *p)
{
    for (int i = 0; i < p->n; i++) entry_close(&p->list[i]);
    if (p->lt) cublasLtDestroy(p->lt);
    *p = (Gemm){0};
}

/* ---- one product ---- */

static int entry_run(const Gemm *p, const GemmEntry *entry, const void *A, const void *B, float *C,
                     Error *e)
{
    const GemmShape *s = &entry->shape;
    const float alpha = 1, beta = 0;
    if (entry->chosen)
        CUBLAS_TRY(cublasLtMatmul(p->lt, entry->desc, &alpha, B, entry->a, A, entry->b, &beta, C,
                                  entry->c, C, entry->c, &entry->algorithm, p->workspace,
                                  p->workspace_bytes, p->stream));
    else if (p->precision == PRECISION_BF16)
        CUBLAS_TRY(gemm_rows_bf16(p->blas, s->ta, s->tb, s->m, s->n, s->k, 1, A, B, 0, C, s->rows));
    else CUBLAS_TRY(gemm_rows(p->blas, s->ta, s->tb, s->m, s->n, s->k, 1, A, B, 0, C, s->rows));
    return EXIT_DONE;
}

static int describe(const Gemm *p, GemmEntry *entry, Error *e)
{
    const GemmShape *s = &entry->shape;
    cublasOperation_t first = s->tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                      second = s->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cudaDataType type = p->precision == PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    int64_t a = s->tb ? s->k : s->n, b = s->ta ? s->m : s->k;
    GemmRows rows = {s->rows.a ? s->rows.a : b, s->rows.b ? s->rows.b : a,
                     s->rows.c ? s->rows.c : s->n};
    CUBLAS_TRY(cublasLtMatmulDescCreate(
        &entry->desc,
        p->precision == PRECISION_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
        CUDA_R_32F));
    CUBLAS_TRY(cublasLtMatmulDescSetAttribute(entry->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                              sizeof first));
    CUBLAS_TRY(cublasLtMatmulDescSetAttribute(entry->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                              sizeof second));
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&entry->a, type, (uint64_t)a,
                                          (uint64_t)(s->tb ? s->n : s->k), rows.b));
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&entry->b, type, (uint64_t)b,
                                          (uint64_t)(s->ta ? s->k : s->m), rows.a));
    CUBLAS_TRY(
        cublasLtMatrixLayoutCreate(&entry->c, CUDA_R_32F, (uint64_t)s->n, (uint64_t)s->m, rows.c));
    return EXIT_DONE;
}

/* ---- choosing ---- */

/* Lists the library's suggestions that can run, in the order of its own estimate, best first. Sets
 * *found to their number, 0 if there are none. */
static int suggestions(const Gemm *p, const GemmEntry *entry,
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
        uint32_t alignment = i < 2 ? p->alignment : 16; /* C is a whole tensor */
        status = cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment,
                                                      sizeof alignment);
    }
    cublasStatus_t asked =
        status ? status
               : cublasLtMatmulAlgoGetHeuristic(p->lt, entry->desc, entry->a, entry->b, entry->c,
                                                entry->c, preference, CANDIDATES, result, found);
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

/* Sets *least to the milliseconds that TIMES products take, the minimum of TRIES measurements, or
 * to infinity if the product cannot run. */
static int time_of(const Gemm *p, const GemmEntry *entry, const void *A, const void *B, float *C,
                   const cudaEvent_t event[2], float *least, Error *e)
{
    Error none;
    *least = INFINITY;
    for (int t = 0; t <= TRIES; t++) { /* t = 0 loads the kernel */
        float ms;
        CUDA_TRY(cudaEventRecord(event[0], p->stream));
        for (int i = 0; i < TIMES; i++)
            if (entry_run(p, entry, A, B, C, &none)) return EXIT_DONE;
        CUDA_TRY(cudaEventRecord(event[1], p->stream));
        CUDA_TRY(cudaEventSynchronize(event[1]));
        CUDA_TRY(cudaEventElapsedTime(&ms, event[0], event[1]));
        if (t > 0 && ms < *least) *least = ms;
    }
    return EXIT_DONE;
}

static int fastest(const Gemm *p, GemmEntry *entry, const cublasLtMatmulHeuristicResult_t *result,
                   int found, const void *A, const void *B, float *C, Error *e)
{
    cudaEvent_t event[2] = {0};
    float best = INFINITY, ms;
    GemmEntry tried = *entry;
    int code = EXIT_DONE;
    for (int i = 0; i < 2; i++) CUDA_TRY(cudaEventCreate(&event[i]));
    for (int i = 0; i < found && !code; i++) {
        tried.algorithm = result[i].algo, tried.chosen = true;
        code = time_of(p, &tried, A, B, C, event, &ms, e);
        if (!code && ms < best) best = ms, entry->algorithm = result[i].algo, entry->chosen = true;
    }
    for (int i = 0; i < 2; i++) CUDA_TRY(cudaEventDestroy(event[i]));
    return code;
}

static int item_text(const GemmEntry *entry, char *out, size_t size)
{
    const GemmShape *s = &entry->shape;
    char rows[72] = "";
    if (s->rows.a || s->rows.b || s->rows.c)
        snprintf(rows, sizeof rows, ".%lld.%lld.%lld", (long long)s->rows.a, (long long)s->rows.b,
                 (long long)s->rows.c);
    return snprintf(out, size, "%d.%d.%lld.%lld.%lld%s=", s->ta, s->tb, (long long)s->m,
                    (long long)s->n, (long long)s->k, rows);
}

/* Sets the entry's algorithm from the record. Returns false if the record has none for its shape,
 * or one that this library cannot run. */
static bool parse_recorded(const Gemm *p, GemmEntry *entry)
{
    char item[160] = ";";
    cublasLtMatmulAlgo_t algorithm;
    cublasLtMatmulHeuristicResult_t result;
    uint64_t words[WORDS];
    item_text(entry, item + 1, sizeof item - 1);
    const char *at = strstr(p->record, item);
    if (!at) return false;
    at += strlen(item);
    entry->chosen = strncmp(at, "cublas", 6) != 0;
    if (!entry->chosen) return true;
    for (size_t i = 0; i < WORDS; i++) {
        char *end;
        words[i] = strtoull(at, &end, 16);
        if (end == at || *end != (i + 1 < WORDS ? '.' : *end)) return entry->chosen = false;
        at = end + 1;
    }
    memcpy(&algorithm, words, sizeof algorithm);
    entry->algorithm = algorithm;
    entry->chosen = !cublasLtMatmulAlgoCheck(p->lt, entry->desc, entry->a, entry->b, entry->c,
                                             entry->c, &algorithm, &result) &&
                    result.workspaceSize <= p->workspace_bytes;
    return entry->chosen;
}

/* Frees an entry of a full list. The recorded entries, which are few, stay; the others are evicted
 * in turn. */
static int entry_evict(Gemm *p)
{
    do p->next = (p->next + 1) % GEMM_ENTRIES;
    while (p->list[p->next].recorded);
    entry_close(&p->list[p->next]);
    return p->next;
}

/* Adds a product and chooses its algorithm. A, B and C are used only for tuning, which overwrites
 * C. */
static int entry_add(Gemm *p, GemmShape shape, bool training, const void *A, const void *B,
                     float *C, GemmEntry **to, Error *e)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    int found = 0;
    int at = p->n < GEMM_ENTRIES ? p->n++ : entry_evict(p);
    GemmEntry *entry = *to = &p->list[at];
    *entry = (GemmEntry){.shape = shape, .recorded = training};
    int code = describe(p, entry, e);
    if (code) return code;
    if (training && p->record) {
        if (parse_recorded(p, entry)) return EXIT_DONE;
        snprintf(p->remark, sizeof p->remark,
                 "a recorded GEMM algorithm cannot run here; a new one is chosen, and the last "
                 "bits may differ from those of an uninterrupted run");
    }
    code = suggestions(p, entry, result, &found, e);
    if (code || found == 0) return code;
    if (training && p->tune) return fastest(p, entry, result, found, A, B, C, e);
    entry->algorithm = result[0].algo, entry->chosen = true;
    return EXIT_DONE;
}

/* ---- use ---- */

static bool same_shape(const GemmShape *a, const GemmShape *b)
{
    return a->ta == b->ta && a->tb == b->tb && a->m == b->m && a->n == b->n && a->k == b->k &&
           a->rows.a == b->rows.a && a->rows.b == b->rows.b && a->rows.c == b->rows.c;
}

static GemmEntry *entry_find(Gemm *p, const GemmShape *shape)
{
    for (int i = 0; i < p->n; i++)
        if (same_shape(&p->list[i].shape, shape)) return &p->list[i];
    return NULL;
}

int gemm_prepare(Gemm *p, GemmShape shape, const void *A, const void *B, float *C, Error *e)
{
    GemmEntry *entry = entry_find(p, &shape);
    return entry ? EXIT_DONE : entry_add(p, shape, true, A, B, C, &entry, e);
}

int gemm_run(Gemm *p, GemmShape shape, const void *A, const void *B, float *C, Error *e)
{
    GemmEntry *entry = entry_find(p, &shape);
    int code = entry ? EXIT_DONE : entry_add(p, shape, false, NULL, NULL, NULL, &entry, e);
    return code ? code : entry_run(p, entry, A, B, C, e);
}

void gemm_text(const Gemm *p, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s", p->head);
    for (int i = 0; i < p->n; i++) {
        const GemmEntry *entry = &p->list[i];
        uint64_t words[WORDS];
        char text[160 + 17 * WORDS];
        if (!entry->recorded) continue;
        memcpy(words, &entry->algorithm, sizeof words);
        size_t m = (size_t)item_text(entry, text, sizeof text);
        if (!entry->chosen) m += (size_t)snprintf(text + m, sizeof text - m, "cublas");
        for (size_t w = 0; entry->chosen && w < WORDS; w++)
            m += (size_t)snprintf(text + m, sizeof text - m, "%s%llx", w ? "." : "",
                                  (unsigned long long)words[w]);
        if (n + m + 2 <= size) n += (size_t)snprintf(out + n, size - n, ";%s", text);
    }
}
