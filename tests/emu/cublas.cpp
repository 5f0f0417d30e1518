/* cuBLAS and cuBLASLt over OpenBLAS. Arguments are checked at the call, with cuBLAS's codes; the
 * arithmetic is queued. It differs from the library as follows. OpenBLAS computes the sums, so
 * tests compare with a tolerance. TF32 rounds the inputs to 10 fraction bits (to nearest, ties away
 * from zero) on devices that have it and computes in float; 16-bit inputs are widened, and sums are
 * float. cuBLASLt has two algorithms for each product, whose results differ in bits: one sums over
 * k as a whole, the other in two halves, of which the second is in the workspace. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include <algorithm>
#include <set>
#include <vector>

#include "core.h"
#include "include/cublasLt.h"
#include "include/cublas_v2.h"
#include "include/cuda_bf16.h"
#include "include/cuda_fp16.h"

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
    cublasAtomicsMode_t atomics = CUBLAS_ATOMICS_NOT_ALLOWED;
    void *workspace = nullptr;
    size_t workspace_bytes = 0;
};

static std::set<cublasHandle_t> handles;
static std::set<const void *> lt_objects; /* handles, descriptors, layouts, preferences */

size_t cublas_live_handles(); /* used by runtime.cpp */
size_t cublas_live_handles() { return handles.size() + lt_objects.size(); }

static cublasStatus_t enter(const char *call, cublasStatus_t on_failure)
{
    return emu_enter(call, EMU_CALL_CUBLAS) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : on_failure;
}

#define ENTER()                                                                                    \
    do {                                                                                           \
        if (enter(__func__, CUBLAS_STATUS_EXECUTION_FAILED) != CUBLAS_STATUS_SUCCESS)              \
            return CUBLAS_STATUS_EXECUTION_FAILED;                                                 \
        if (!handles.count(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;                          \
    } while (0)
#define REFUSE(condition)                                                                          \
    do {                                                                                           \
        if (condition) return CUBLAS_STATUS_INVALID_VALUE;                                         \
    } while (0)

/* ---- handle ---- */

extern "C" cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    if (enter(__func__, CUBLAS_STATUS_ALLOC_FAILED) != CUBLAS_STATUS_SUCCESS)
        return CUBLAS_STATUS_ALLOC_FAILED;
    REFUSE(!handle);
    *handle = new cublasContext();
    handles.insert(*handle);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    cublasStatus_t entered = enter(__func__, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!handles.erase(handle))
        return entered != CUBLAS_STATUS_SUCCESS ? entered : CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return entered;
}

extern "C" cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int *version)
{
    ENTER();
    REFUSE(!version);
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    ENTER();
    handle->stream = stream;
    handle->workspace = nullptr; /* a new stream restores the default workspace, as documented */
    handle->workspace_bytes = 0;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t *stream)
{
    ENTER();
    REFUSE(!stream);
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace,
                                                size_t bytes)
{
    ENTER();
    REFUSE(((uintptr_t)workspace & 255) != 0);
    if (workspace && bytes) {
        const Allocation *a = arena_find(workspace);
        REFUSE(!a || (unsigned char *)workspace + bytes > a->at + a->bytes);
    }
    handle->workspace = workspace;
    handle->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    ENTER();
    int plain = (int)mode & ~(int)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    REFUSE(plain < CUBLAS_DEFAULT_MATH || plain > CUBLAS_TF32_TENSOR_OP_MATH);
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode)
{
    ENTER();
    REFUSE(!mode);
    *mode = handle->math;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode)
{
    ENTER();
    REFUSE(mode != CUBLAS_POINTER_MODE_HOST && mode != CUBLAS_POINTER_MODE_DEVICE);
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t *mode)
{
    ENTER();
    REFUSE(!mode);
    *mode = handle->pointers;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode)
{
    ENTER();
    REFUSE(mode != CUBLAS_ATOMICS_NOT_ALLOWED && mode != CUBLAS_ATOMICS_ALLOWED);
    handle->atomics = mode;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasGetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t *mode)
{
    ENTER();
    REFUSE(!mode);
    *mode = handle->atomics;
    return CUBLAS_STATUS_SUCCESS;
}

#define STATUSES(X)                                                                                \
    X(CUBLAS_STATUS_SUCCESS, "success")                                                            \
    X(CUBLAS_STATUS_NOT_INITIALIZED, "the library was not initialized")                            \
    X(CUBLAS_STATUS_ALLOC_FAILED, "the resource allocation failed")                                \
    X(CUBLAS_STATUS_INVALID_VALUE, "an unsupported value or parameter was passed to the function") \
    X(CUBLAS_STATUS_ARCH_MISMATCH,                                                                 \
      "the function requires an architectural feature absent from the device")                     \
    X(CUBLAS_STATUS_MAPPING_ERROR, "an access to GPU memory space failed")                         \
    X(CUBLAS_STATUS_EXECUTION_FAILED, "the function failed to launch on the GPU")                  \
    X(CUBLAS_STATUS_INTERNAL_ERROR, "an internal operation failed")                                \
    X(CUBLAS_STATUS_NOT_SUPPORTED, "the functionality requested is not supported")                 \
    X(CUBLAS_STATUS_LICENSE_ERROR, "the functionality requested requires some license")

extern "C" const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
#define NAME(name, text)                                                                           \
    case name: return #name;
        STATUSES(NAME)
#undef NAME
    }
    return "unknown status";
}

extern "C" const char *cublasGetStatusString(cublasStatus_t status)
{
    switch (status) {
#define TEXT(name, text)                                                                           \
    case name: return text;
        STATUSES(TEXT)
#undef TEXT
    }
    return "unknown status";
}

/* ---- products ---- */

struct Scalar { /* alpha or beta: read at the call, or on the device when the work runs */
    bool device;
    const float *at;
    float value;
    float get() const { return device ? *at : value; }
};

static Scalar scalar(cublasHandle_t handle, const void *p)
{
    bool device = handle->pointers == CUBLAS_POINTER_MODE_DEVICE;
    return Scalar{device, (const float *)p, device ? 0.0f : *(const float *)p};
}

static bool reachable(const void *p, size_t bytes)
{
    const Allocation *a = arena_find(p);
    return a && (const unsigned char *)p + bytes <= a->at + a->bytes;
}

static cudaError_t out_of_range(const char *call, const void *p)
{
    emu_note("%s touches %s", call, arena_describe(p).c_str());
    return cudaErrorIllegalAddress;
}

static float tf32(float x)
{
    unsigned u = __float_as_uint(x);
    if ((u & 0x7f800000u) == 0x7f800000u) return x;
    return __uint_as_float((u + 0x1000u) & ~0x1fffu);
}

static size_t type_size(cudaDataType t) { return t == CUDA_R_32F ? 4 : 2; }

/* Returns a matrix as floats: the matrix itself, or a rounded or widened copy in *copy. */
static const float *as_float(const void *p, cudaDataType type, size_t n, bool round,
                             std::vector<float> *copy)
{
    if (type == CUDA_R_32F && !round) return (const float *)p;
    copy->resize(n);
    for (size_t i = 0; i < n; i++)
        (*copy)[i] = type == CUDA_R_32F   ? tf32(((const float *)p)[i])
                     : type == CUDA_R_16F ? emu_half_float(((const unsigned short *)p)[i])
                                          : emu_bfloat_float(((const unsigned short *)p)[i]);
    return copy->data();
}

struct Gemm {
    const char *call;
    cublasOperation_t ta, tb;
    int m, n, k, lda, ldb, ldc, batch;
    Scalar alpha, beta;
    const void *a, *b;
    void *c;
    cudaDataType at, bt, ct;
    long long sa, sb, sc;
    bool round;

    cudaError_t run() const
    {
        size_t ca = (size_t)(ta == CUBLAS_OP_N ? k : m), ra = (size_t)(ta == CUBLAS_OP_N ? m : k);
        size_t cb = (size_t)(tb == CUBLAS_OP_N ? n : k), rb = (size_t)(tb == CUBLAS_OP_N ? k : n);
        size_t na = ca ? (size_t)lda * (ca - 1) + ra : 0, nb = cb ? (size_t)ldb * (cb - 1) + rb : 0;
        size_t nc = (size_t)ldc * (size_t)(n - 1) + (size_t)m;
        if (alpha.device && !reachable(alpha.at, 4)) return out_of_range(call, alpha.at);
        if (beta.device && !reachable(beta.at, 4)) return out_of_range(call, beta.at);
        float al = alpha.get(), be = beta.get();
        std::vector<float> a_copy, b_copy, c_copy;
        for (int i = 0; i < batch; i++) {
            const unsigned char *ai = (const unsigned char *)a + (size_t)(i * sa) * type_size(at);
            const unsigned char *bi = (const unsigned char *)b + (size_t)(i * sb) * type_size(bt);
            unsigned char *ci = (unsigned char *)c + (size_t)(i * sc) * type_size(ct);
            if (k > 0 && !reachable(ai, na * type_size(at))) return out_of_range(call, ai);
            if (k > 0 && !reachable(bi, nb * type_size(bt))) return out_of_range(call, bi);
            if (!reachable(ci, nc * type_size(ct))) return out_of_range(call, ci);
            const float *fa = as_float(ai, at, k ? na : 0, round, &a_copy),
                        *fb = as_float(bi, bt, k ? nb : 0, round, &b_copy);
            float *fc = (float *)ci;
            if (ct != CUDA_R_32F) {
                c_copy.assign(nc, 0.0f);
                if (be != 0.0f) as_float(ci, ct, nc, false, &c_copy);
                fc = c_copy.data();
            }
            if (be == 0.0f) /* C is not read then, not even a NaN in it */
                for (int col = 0; col < n; col++)
                    memset(fc + (size_t)col * (size_t)ldc, 0, (size_t)m * sizeof(float));
            if (k == 0) {
                for (int col = 0; col < n; col++)
                    for (int row = 0; row < m; row++)
                        fc[(size_t)col * (size_t)ldc + (size_t)row] *= be;
            } else {
                cblas_sgemm(CblasColMajor, ta == CUBLAS_OP_N ? CblasNoTrans : CblasTrans,
                            tb == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m, n, k, al, fa, lda, fb,
                            ldb, be, fc, ldc);
            }
            if (ct != CUDA_R_32F)
                for (int col = 0; col < n; col++)
                    for (int row = 0; row < m; row++) {
                        size_t at_c = (size_t)col * (size_t)ldc + (size_t)row;
                        ((unsigned short *)ci)[at_c] =
                            ct == CUDA_R_16F ? emu_half_bits(fc[at_c]) : emu_bfloat_bits(fc[at_c]);
                    }
#ifdef EMU_RACE
            for (int col = 0; col < n; col++)
                race_host_wrote(ci + (size_t)col * (size_t)ldc * type_size(ct),
                                (size_t)m * type_size(ct));
#endif
        }
        return cudaSuccess;
    }
};

static cublasStatus_t queue(cublasHandle_t handle, EmuWork *work)
{
    return emu_enqueue(handle->stream, OP_KERNEL, work) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}

static bool known_op(cublasOperation_t op)
{
    return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C;
}
static bool known_type(cudaDataType t)
{
    return t == CUDA_R_32F || t == CUDA_R_16F || t == CUDA_R_16BF;
}

static cublasStatus_t gemm(const char *call, cublasHandle_t handle, cublasOperation_t ta,
                           cublasOperation_t tb, int m, int n, int k, const void *alpha,
                           const void *A, cudaDataType at, int lda, long long sa, const void *B,
                           cudaDataType bt, int ldb, long long sb, const void *beta, void *C,
                           cudaDataType ct, int ldc, long long sc, int batch,
                           cublasComputeType_t compute)
{
    REFUSE(!known_op(ta) || !known_op(tb));
    REFUSE(m < 0 || n < 0 || k < 0 || batch < 0);
    REFUSE(lda < std::max(1, ta == CUBLAS_OP_N ? m : k));
    REFUSE(ldb < std::max(1, tb == CUBLAS_OP_N ? k : n));
    REFUSE(ldc < std::max(1, m));
    REFUSE(!alpha || !beta);
    bool combination = known_type(at) && at == bt && known_type(ct) &&
                       (ct == CUDA_R_32F || ct == at) &&
                       (compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                        (at == CUDA_R_32F && (compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                                              compute == CUBLAS_COMPUTE_32F_FAST_16F ||
                                              compute == CUBLAS_COMPUTE_32F_FAST_16BF)));
    if (!combination) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (at == CUDA_R_16BF && emu_device->prop.major < 8) return CUBLAS_STATUS_ARCH_MISMATCH;
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    REFUSE(!C || (k > 0 && (!A || !B)));
    if (!emu_stream_valid(handle->stream)) return CUBLAS_STATUS_EXECUTION_FAILED;
    int math = (int)handle->math & 3;
    bool round = at == CUDA_R_32F && emu_device->prop.major >= 8 &&
                 compute != CUBLAS_COMPUTE_32F_PEDANTIC && math != CUBLAS_PEDANTIC_MATH &&
                 (compute == CUBLAS_COMPUTE_32F_FAST_TF32 || math == CUBLAS_TF32_TENSOR_OP_MATH);
    Gemm g = {
        call, ta, tb, m,  n,  k,  lda, ldb, ldc, batch, scalar(handle, alpha), scalar(handle, beta),
        A,    B,  C,  at, bt, ct, sa,  sb,  sc,  round};
    return queue(handle, emu_work([g] { return g.run(); }));
}

extern "C" cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t ta,
                                         cublasOperation_t tb, int m, int n, int k,
                                         const float *alpha, const float *A, int lda,
                                         const float *B, int ldb, const float *beta, float *C,
                                         int ldc)
{
    ENTER();
    return gemm("cublasSgemm", handle, ta, tb, m, n, k, alpha, A, CUDA_R_32F, lda, 0, B, CUDA_R_32F,
                ldb, 0, beta, C, CUDA_R_32F, ldc, 0, 1, CUBLAS_COMPUTE_32F);
}

extern "C" cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta,
                                                    cublasOperation_t tb, int m, int n, int k,
                                                    const float *alpha, const float *A, int lda,
                                                    long long int sa, const float *B, int ldb,
                                                    long long int sb, const float *beta, float *C,
                                                    int ldc, long long int sc, int batch)
{
    ENTER();
    return gemm("cublasSgemmStridedBatched", handle, ta, tb, m, n, k, alpha, A, CUDA_R_32F, lda, sa,
                B, CUDA_R_32F, ldb, sb, beta, C, CUDA_R_32F, ldc, sc, batch, CUBLAS_COMPUTE_32F);
}

static bool known_algo(cublasGemmAlgo_t a)
{
    return ((int)a >= -1 && (int)a <= 23) || ((int)a >= 99 && (int)a <= 115);
}

extern "C" cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta,
                                       cublasOperation_t tb, int m, int n, int k, const void *alpha,
                                       const void *A, cudaDataType at, int lda, const void *B,
                                       cudaDataType bt, int ldb, const void *beta, void *C,
                                       cudaDataType ct, int ldc, cublasComputeType_t compute,
                                       cublasGemmAlgo_t algo)
{
    ENTER();
    REFUSE(!known_algo(algo));
    return gemm("cublasGemmEx", handle, ta, tb, m, n, k, alpha, A, at, lda, 0, B, bt, ldb, 0, beta,
                C, ct, ldc, 0, 1, compute);
}

extern "C" cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
    const void *alpha, const void *A, cudaDataType at, int lda, long long int sa, const void *B,
    cudaDataType bt, int ldb, long long int sb, const void *beta, void *C, cudaDataType ct, int ldc,
    long long int sc, int batch, cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    ENTER();
    REFUSE(!known_algo(algo));
    return gemm("cublasGemmStridedBatchedEx", handle, ta, tb, m, n, k, alpha, A, at, lda, sa, B, bt,
                ldb, sb, beta, C, ct, ldc, sc, batch, compute);
}

/* ---- vectors ---- */

static size_t span(int n, int inc) { return n > 0 ? (size_t)(n - 1) * (size_t)abs(inc) + 1 : 0; }

extern "C" cublasStatus_t cublasSgemv_v2(cublasHandle_t handle, cublasOperation_t trans, int m,
                                         int n, const float *alpha, const float *A, int lda,
                                         const float *x, int incx, const float *beta, float *y,
                                         int incy)
{
    ENTER();
    REFUSE(!known_op(trans) || m < 0 || n < 0 || lda < std::max(1, m) || incx == 0 || incy == 0 ||
           !alpha || !beta);
    if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
    REFUSE(!A || !x || !y);
    Scalar al = scalar(handle, alpha), be = scalar(handle, beta);
    return queue(handle, emu_work([=] {
                     int nx = trans == CUBLAS_OP_N ? n : m, ny = trans == CUBLAS_OP_N ? m : n;
                     if (!reachable(A, ((size_t)lda * (size_t)(n - 1) + (size_t)m) * 4))
                         return out_of_range("cublasSgemv", A);
                     if (!reachable(x, span(nx, incx) * 4)) return out_of_range("cublasSgemv", x);
                     if (!reachable(y, span(ny, incy) * 4)) return out_of_range("cublasSgemv", y);
                     if (be.get() == 0.0f)
                         for (int i = 0; i < ny; i++) y[(size_t)i * (size_t)abs(incy)] = 0.0f;
                     cblas_sgemv(CblasColMajor, trans == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m,
                                 n, al.get(), A, lda, x, incx, be.get(), y, incy);
                     RACE(race_host_wrote(y, span(ny, incy) * 4));
                     return cudaSuccess;
                 }));
}

extern "C" cublasStatus_t cublasSscal_v2(cublasHandle_t handle, int n, const float *alpha, float *x,
                                         int incx)
{
    ENTER();
    if (n <= 0 || incx <= 0) return CUBLAS_STATUS_SUCCESS;
    REFUSE(!alpha || !x);
    Scalar al = scalar(handle, alpha);
    return queue(handle, emu_work([=] {
                     if (!reachable(x, span(n, incx) * 4)) return out_of_range("cublasSscal", x);
                     cblas_sscal(n, al.get(), x, incx);
                     return cudaSuccess;
                 }));
}

extern "C" cublasStatus_t cublasSaxpy_v2(cublasHandle_t handle, int n, const float *alpha,
                                         const float *x, int incx, float *y, int incy)
{
    ENTER();
    if (n <= 0) return CUBLAS_STATUS_SUCCESS;
    REFUSE(!alpha || !x || !y);
    Scalar al = scalar(handle, alpha);
    return queue(handle, emu_work([=] {
                     if (!reachable(x, span(n, incx) * 4)) return out_of_range("cublasSaxpy", x);
                     if (!reachable(y, span(n, incy) * 4)) return out_of_range("cublasSaxpy", y);
                     cblas_saxpy(n, al.get(), x, incx, y, incy);
                     return cudaSuccess;
                 }));
}

/* A result on the host makes the call wait, as in cuBLAS; a result on the device is queued like
 * other work. */
static cublasStatus_t reduce(cublasHandle_t handle, EmuWork *work)
{
    bool wait = handle->pointers == CUBLAS_POINTER_MODE_HOST;
    cublasStatus_t status = queue(handle, work);
    if (status == CUBLAS_STATUS_SUCCESS && wait &&
        cudaStreamSynchronize(handle->stream) != cudaSuccess)
        status = CUBLAS_STATUS_EXECUTION_FAILED;
    return status;
}

static void store_result(float *result, float value)
{
    *result = value;
    RACE(race_host_wrote(result, sizeof value));
}

extern "C" cublasStatus_t cublasSdot_v2(cublasHandle_t handle, int n, const float *x, int incx,
                                        const float *y, int incy, float *result)
{
    ENTER();
    REFUSE(!result || (n > 0 && (!x || !y)));
    return reduce(handle, emu_work([=] {
                      if (n > 0 && !reachable(x, span(n, incx) * 4))
                          return out_of_range("cublasSdot", x);
                      if (n > 0 && !reachable(y, span(n, incy) * 4))
                          return out_of_range("cublasSdot", y);
                      store_result(result, n > 0 ? cblas_sdot(n, x, incx, y, incy) : 0.0f);
                      return cudaSuccess;
                  }));
}

extern "C" cublasStatus_t cublasSnrm2_v2(cublasHandle_t handle, int n, const float *x, int incx,
                                         float *result)
{
    ENTER();
    REFUSE(!result || (n > 0 && !x));
    return reduce(handle, emu_work([=] {
                      if (n > 0 && !reachable(x, span(n, incx) * 4))
                          return out_of_range("cublasSnrm2", x);
                      store_result(result, n > 0 && incx > 0 ? cblas_snrm2(n, x, incx) : 0.0f);
                      return cudaSuccess;
                  }));
}

/* ---- cuBLASLt ---- */

struct cublasLtContext {
};
struct EmuMatmulDesc {
    cublasComputeType_t compute;
    cublasOperation_t ta = CUBLAS_OP_N, tb = CUBLAS_OP_N;
};
struct EmuMatrixLayout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};
struct EmuMatmulPreference {
    uint64_t workspace = 0;
    /* alignment of A, B, C and D in bytes: the library's default */
    uint32_t alignment[4] = {256, 256, 256, 256};
};

#define LT_ENTER(object)                                                                           \
    do {                                                                                           \
        if (enter(__func__, CUBLAS_STATUS_EXECUTION_FAILED) != CUBLAS_STATUS_SUCCESS)              \
            return CUBLAS_STATUS_EXECUTION_FAILED;                                                 \
        if (!lt_objects.count(object)) return CUBLAS_STATUS_NOT_INITIALIZED;                       \
    } while (0)

template <class T> static cublasStatus_t lt_create(const char *call, T **to, T made)
{
    if (enter(call, CUBLAS_STATUS_ALLOC_FAILED) != CUBLAS_STATUS_SUCCESS)
        return CUBLAS_STATUS_ALLOC_FAILED;
    REFUSE(!to);
    *to = new T(made);
    lt_objects.insert(*to);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T> static cublasStatus_t lt_destroy(const char *call, T *object)
{
    cublasStatus_t entered = enter(call, CUBLAS_STATUS_EXECUTION_FAILED);
    if (!lt_objects.erase(object))
        return entered != CUBLAS_STATUS_SUCCESS ? entered : CUBLAS_STATUS_NOT_INITIALIZED;
    delete object;
    return entered;
}

extern "C" cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    return lt_create(__func__, handle, cublasLtContext());
}

extern "C" cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    return lt_destroy(__func__, handle);
}

extern "C" size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }

extern "C" cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc,
                                                   cublasComputeType_t compute, cudaDataType scale)
{
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    EmuMatmulDesc made;
    made.compute = compute;
    return lt_create(__func__, desc, made);
}

extern "C" cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    return lt_destroy(__func__, desc);
}

extern "C" cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                                         cublasLtMatmulDescAttributes_t name,
                                                         const void *value, size_t bytes)
{
    LT_ENTER(desc);
    cublasOperation_t op;
    REFUSE(!value || bytes != sizeof op);
    memcpy(&op, value, sizeof op);
    REFUSE(!known_op(op) ||
           (name != CUBLASLT_MATMUL_DESC_TRANSA && name != CUBLASLT_MATMUL_DESC_TRANSB));
    (name == CUBLASLT_MATMUL_DESC_TRANSA ? desc->ta : desc->tb) = op;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout,
                                                     cudaDataType type, uint64_t rows,
                                                     uint64_t cols, int64_t ld)
{
    REFUSE(!known_type(type) || rows == 0 || cols == 0 || rows > INT32_MAX || cols > INT32_MAX ||
           ld < (int64_t)rows || ld > INT32_MAX);
    return lt_create(__func__, layout, EmuMatrixLayout{type, rows, cols, ld});
}

extern "C" cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    return lt_destroy(__func__, layout);
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    return lt_create(__func__, preference, EmuMatmulPreference());
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    return lt_destroy(__func__, preference);
}

extern "C" cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                     size_t bytes)
{
    LT_ENTER(preference);
    REFUSE(!value);
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        REFUSE(bytes != sizeof preference->workspace);
        memcpy(&preference->workspace, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    }
    int which = (int)name - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    REFUSE(which < 0 || which > 3 || bytes != sizeof preference->alignment[0]);
    memcpy(&preference->alignment[which], value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* The words of an algorithm: [0] this mark and the algorithm's number, [1] the product, [2] bytes
 * of workspace, [3] the alignments of A, B, C and D. */
enum { LT_MARK = 0x4c74, LT_WHOLE = 1, LT_HALVES = 2 };

static uint64_t lt_product(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                           cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t d)
{
    uint64_t h = 0xcbf29ce484222325u;
    const uint64_t parts[] = {(uint64_t)desc->compute,
                              (uint64_t)desc->ta,
                              (uint64_t)desc->tb,
                              (uint64_t)a->type,
                              a->rows,
                              a->cols,
                              b->rows,
                              b->cols,
                              (uint64_t)d->type};
    for (uint64_t part : parts) h = (h ^ part) * 0x100000001b3u;
    return h;
}

/* Checks that the layouts a, b, c and d fit a product. */
static cublasStatus_t lt_check(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                               cublasLtMatrixLayout_t d)
{
    for (const void *p :
         {(const void *)desc, (const void *)a, (const void *)b, (const void *)c, (const void *)d})
        if (!lt_objects.count(p)) return CUBLAS_STATUS_NOT_INITIALIZED;
    bool na = desc->ta == CUBLAS_OP_N, nb = desc->tb == CUBLAS_OP_N;
    uint64_t m = na ? a->rows : a->cols, k = na ? a->cols : a->rows, n = nb ? b->cols : b->rows;
    REFUSE(k != (nb ? b->rows : b->cols) || m != d->rows || n != d->cols || c->rows != m ||
           c->cols != n);
    REFUSE(c->type != d->type || c->ld != d->ld);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                               cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                               cublasLtMatmulPreference_t preference, int wanted,
                               cublasLtMatmulHeuristicResult_t *results, int *found)
{
    LT_ENTER(handle);
    REFUSE(!lt_objects.count(preference) || wanted < 1 || !results || !found);
    cublasStatus_t status = lt_check(desc, a, b, c, d);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    *found = 0;
    /* The library also lists algorithms that it would not run, whose state shows that; list one. */
    if (wanted > 1) {
        results[*found] = cublasLtMatmulHeuristicResult_t();
        results[(*found)++].state = CUBLAS_STATUS_NOT_SUPPORTED;
    }
    for (int i = LT_WHOLE; i <= LT_HALVES && *found < wanted; i++) {
        uint64_t workspace = i == LT_HALVES ? d->rows * d->cols * sizeof(float) : 0, alignment = 0;
        if (workspace > preference->workspace) continue;
        for (int j = 0; j < 4; j++)
            alignment |= (uint64_t)(i == LT_HALVES ? std::min(preference->alignment[j], 16u) : 2u)
                         << 16 * j;
        cublasLtMatmulHeuristicResult_t r = {};
        r.algo.data[0] = LT_MARK | (uint64_t)i << 32, r.algo.data[1] = lt_product(desc, a, b, d);
        r.algo.data[2] = workspace, r.algo.data[3] = alignment;
        r.workspaceSize = (size_t)workspace, r.state = CUBLAS_STATUS_SUCCESS, r.wavesCount = 1;
        results[(*found)++] = r;
    }
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                        cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                        cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                        const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
    LT_ENTER(handle);
    REFUSE(!algo || !result);
    cublasStatus_t status = lt_check(desc, a, b, c, d);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    uint64_t number = algo->data[0] >> 32;
    REFUSE((algo->data[0] & 0xffffffffu) != LT_MARK || (number != LT_WHOLE && number != LT_HALVES));
    if (algo->data[1] != lt_product(desc, a, b, d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    *result = cublasLtMatmulHeuristicResult_t();
    result->algo = *algo, result->workspaceSize = (size_t)algo->data[2],
    result->state = CUBLAS_STATUS_SUCCESS;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                         const void *alpha, const void *A, cublasLtMatrixLayout_t a,
                                         const void *B, cublasLtMatrixLayout_t b, const void *beta,
                                         const void *C, cublasLtMatrixLayout_t c, void *D,
                                         cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
                                         void *workspace, size_t workspace_bytes,
                                         cudaStream_t stream)
{
    cublasLtMatmulHeuristicResult_t checked;
    cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, desc, a, b, c, d, algo, &checked);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    REFUSE(!alpha || !beta || !A || !B || !C || !D || C != D);
    REFUSE(checked.workspaceSize > workspace_bytes);
    const void *const operands[] = {A, B, C, D};
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)operands[i] % (algo->data[3] >> 16 * i & 0xffff))
            return CUBLAS_STATUS_INVALID_VALUE;
    if (!emu_stream_valid(stream)) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (a->type == CUDA_R_16BF && emu_device->prop.major < 8) return CUBLAS_STATUS_ARCH_MISMATCH;
    bool round = a->type == CUDA_R_32F && desc->compute == CUBLAS_COMPUTE_32F_FAST_TF32 &&
                 emu_device->prop.major >= 8;
    bool na = desc->ta == CUBLAS_OP_N, nb = desc->tb == CUBLAS_OP_N;
    int k = (int)(na ? a->cols : a->rows), half = algo->data[0] >> 32 == LT_HALVES ? k / 2 : 0;
    Scalar al = {false, nullptr, *(const float *)alpha},
           be = {false, nullptr, *(const float *)beta};
    Gemm whole = {"cublasLtMatmul",
                  desc->ta,
                  desc->tb,
                  (int)d->rows,
                  (int)d->cols,
                  k,
                  (int)a->ld,
                  (int)b->ld,
                  (int)d->ld,
                  1,
                  al,
                  be,
                  A,
                  B,
                  D,
                  a->type,
                  b->type,
                  d->type,
                  0,
                  0,
                  0,
                  round};
    Gemm first = whole, second = whole;
    first.k = half, second.k = k - half;
    second.a = (const char *)A + (size_t)half * (na ? (size_t)a->ld : 1) * type_size(a->type);
    second.b = (const char *)B + (size_t)half * (nb ? 1 : (size_t)b->ld) * type_size(b->type);
    second.c = workspace, second.ct = CUDA_R_32F, second.ldc = (int)d->rows,
    second.beta.value = 0.0f;
    REFUSE(half && d->type != CUDA_R_32F);
    EmuWork *work = emu_work([=] {
        if (!half) return whole.run();
        cudaError_t error = second.run();
        if (!error) error = first.run();
        for (int col = 0; col < second.n && !error; col++)
            for (int row = 0; row < second.m; row++)
                ((float *)D)[(size_t)col * (size_t)first.ldc + (size_t)row] +=
                    ((const float *)workspace)[(size_t)col * (size_t)second.ldc + (size_t)row];
        return error;
    });
    return emu_enqueue(stream, OP_KERNEL, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                               : CUBLAS_STATUS_EXECUTION_FAILED;
}
