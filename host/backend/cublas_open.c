#include "cublas_open.h"

#include <cublasLt.h>
#include <cublas_v2.h>

#ifdef CUDA_EMU

int cublas_open(Error *e)
{
    (void)e;
    return EXIT_DONE; /* tests/emu defines the functions itself */
}

#else

#include <dlfcn.h>
#include <stddef.h>

/* Every function of cuBLAS that the program calls: X(name, parameters, arguments). */
#define CUBLAS_FUNCTIONS(X)                                                                        \
    X(cublasCreate_v2, (cublasHandle_t * handle), (handle))                                        \
    X(cublasDestroy_v2, (cublasHandle_t handle), (handle))                                         \
    X(cublasGetVersion_v2, (cublasHandle_t handle, int *version), (handle, version))               \
    X(cublasSetStream_v2, (cublasHandle_t handle, cudaStream_t stream), (handle, stream))          \
    X(cublasSetWorkspace_v2, (cublasHandle_t handle, void *workspace, size_t bytes),               \
      (handle, workspace, bytes))                                                                  \
    X(cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode), (handle, mode))               \
    X(cublasSetAtomicsMode, (cublasHandle_t handle, cublasAtomicsMode_t mode), (handle, mode))     \
    X(cublasSgemm_v2,                                                                              \
      (cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,    \
       int k, const float *alpha, const float *A, int lda, const float *B, int ldb,                \
       const float *beta, float *C, int ldc),                                                      \
      (handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc))                      \
    X(cublasGemmEx,                                                                                \
      (cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,    \
       int k, const void *alpha, const void *A, cudaDataType Atype, int lda, const void *B,        \
       cudaDataType Btype, int ldb, const void *beta, void *C, cudaDataType Ctype, int ldc,        \
       cublasComputeType_t computeType, cublasGemmAlgo_t algo),                                    \
      (handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb, beta, C, Ctype, ldc,  \
       computeType, algo))

/* Every function of cuBLASLt that the program calls. dlsym finds them through cuBLAS, since it also
 * searches the libraries with which a library was linked. */
#define LT_FUNCTIONS(X)                                                                            \
    X(cublasLtCreate, (cublasLtHandle_t * handle), (handle))                                       \
    X(cublasLtDestroy, (cublasLtHandle_t handle), (handle))                                        \
    X(cublasLtMatmulDescCreate,                                                                    \
      (cublasLtMatmulDesc_t * desc, cublasComputeType_t compute, cudaDataType_t scale),            \
      (desc, compute, scale))                                                                      \
    X(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t desc), (desc))                              \
    X(cublasLtMatmulDescSetAttribute,                                                              \
      (cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name, const void *value,          \
       size_t bytes),                                                                              \
      (desc, name, value, bytes))                                                                  \
    X(cublasLtMatrixLayoutCreate,                                                                  \
      (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t cols,           \
       int64_t ld),                                                                                \
      (layout, type, rows, cols, ld))                                                              \
    X(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), (layout))                      \
    X(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference), (preference))     \
    X(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference), (preference))      \
    X(cublasLtMatmulPreferenceSetAttribute,                                                        \
      (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name,           \
       const void *value, size_t bytes),                                                           \
      (preference, name, value, bytes))                                                            \
    X(cublasLtMatmulAlgoGetHeuristic,                                                              \
      (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,               \
       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,               \
       cublasLtMatmulPreference_t preference, int wanted,                                          \
       cublasLtMatmulHeuristicResult_t *results, int *found),                                      \
      (handle, desc, a, b, c, d, preference, wanted, results, found))                              \
    X(cublasLtMatmulAlgoCheck,                                                                     \
      (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,               \
       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,               \
       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result),                 \
      (handle, desc, a, b, c, d, algo, result))                                                    \
    X(cublasLtMatmul,                                                                              \
      (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *A,       \
       cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,        \
       const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,                 \
       const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream),      \
      (handle, desc, alpha, A, a, B, b, beta, C, c, D, d, algo, workspace, bytes, stream))

#define POINTER(name, parameters, arguments) static cublasStatus_t(*name##_at) parameters;
CUBLAS_FUNCTIONS(POINTER)
LT_FUNCTIONS(POINTER)
static size_t (*lt_version)(void);
static const char *(*status_name)(cublasStatus_t), *(*status_string)(cublasStatus_t);

/* Defines the functions under their own names, so that callers call them as if the library were
 * linked. Before cublas_open has succeeded, they return CUBLAS_STATUS_NOT_INITIALIZED. */
#define FORWARD(name, parameters, arguments)                                                       \
    cublasStatus_t CUBLASWINAPI name parameters                                                    \
    {                                                                                              \
        return name##_at ? name##_at arguments : CUBLAS_STATUS_NOT_INITIALIZED;                    \
    }
CUBLAS_FUNCTIONS(FORWARD)
LT_FUNCTIONS(FORWARD)

size_t CUBLASWINAPI cublasLtGetVersion(void) { return lt_version ? lt_version() : 0; }

static const char unopened[] = "cublas_open was not called";

const char *CUBLASWINAPI cublasGetStatusName(cublasStatus_t status)
{
    return status_name ? status_name(status) : unopened;
}

const char *CUBLASWINAPI cublasGetStatusString(cublasStatus_t status)
{
    return status_name ? status_string(status) : unopened;
}

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
static const char library_name[] = "libcublas.so." TEXT(CUBLAS_VER_MAJOR);

int cublas_open(Error *e)
{
    if (status_name) return EXIT_DONE;
    void *library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return error_set(
            e, EXIT_NO_DEVICE,
            "the cuda backend needs %s, which was found neither beside the program, nor "
            "where it was linked, nor on LD_LIBRARY_PATH (%s); a CUDA %d toolkit or the "
            "Python package nvidia-cublas has it",
            library_name, dlerror(), CUBLAS_VER_MAJOR);
    const char *missing = NULL;
    /* The POSIX way to store an object pointer as a function pointer. */
#define FIND(pointer, name)                                                                        \
    if (!(*(void **)&(pointer) = dlsym(library, name))) missing = name;
#define FIND_IT(name, parameters, arguments) FIND(name##_at, #name)
    CUBLAS_FUNCTIONS(FIND_IT)
    LT_FUNCTIONS(FIND_IT)
    FIND(lt_version, "cublasLtGetVersion")
    FIND(status_string, "cublasGetStatusString")
    FIND(status_name, "cublasGetStatusName") /* last: once it is set, all are */
    if (!missing) return EXIT_DONE;
    status_name = NULL;
    dlclose(library);
    return error_set(e, EXIT_NO_DEVICE,
                     "%s has no %s: it belongs to another CUDA version than this program was built "
                     "with (%d.%d)",
                     library_name, missing, CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR);
}

#endif
