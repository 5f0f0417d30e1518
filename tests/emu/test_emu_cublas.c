/* Tests the cuBLAS shim: results against plain loops in double, checks and codes, pointer modes,
 * streams and graphs, TF32, injected faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cublasLt.h"
#include "cublas_v2.h"
#include "cuda_runtime.h"
#include "emu.h"
#include "device_kernels.h"

#define OK(call) assert_int_equal((call), 0)

enum { M = 7, N = 5, K = 9, LD = 11, BATCH = 3, SIZE = LD * LD };

static float a_host[BATCH * SIZE], b_host[BATCH * SIZE], c_host[BATCH * SIZE], got[BATCH * SIZE];
static cublasHandle_t handle;

static int setup(void **state)
{
    (void)state;
    emu_reset();
    emu_quiet(1);
    emu_device_select("H200");
    unsigned s = 7;
    for (int i = 0; i < BATCH * SIZE; i++) {
        a_host[i] = (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
        b_host[i] = (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
        c_host[i] = (float)((s = s * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
    }
    return cublasCreate(&handle);
}

static int teardown(void **state)
{
    (void)state;
    return cublasDestroy(handle) || emu_live_objects() != 0;
}

static float *upload(const float *host, size_t n)
{
    void *p;
    OK(cudaMalloc(&p, n * sizeof *host));
    OK(cudaMemcpy(p, host, n * sizeof *host, cudaMemcpyHostToDevice));
    return p;
}

static float truncated(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    u = (u + 0x1000u) & ~0x1fffu;
    memcpy(&x, &u, 4);
    return x;
}

static double product(int ta, int tb, int batch, int row, int col, double alpha, double beta,
                      int tf32)
{
    double sum = 0;
    for (int k = 0; k < K; k++) {
        float a = a_host[batch * SIZE + (ta ? row * LD + k : k * LD + row)];
        float b = b_host[batch * SIZE + (tb ? k * LD + col : col * LD + k)];
        sum += tf32 ? (double)truncated(a) * truncated(b) : (double)a * b;
    }
    return alpha * sum + (beta != 0 ? beta * c_host[batch * SIZE + col * LD + row] : 0);
}

/* A sum has K products of at most 1/4 in float, so its error stays below K * 2^-24. */
static void check(int ta, int tb, int batches, double alpha, double beta, int tf32)
{
    for (int i = 0; i < batches; i++)
        for (int col = 0; col < N; col++)
            for (int row = 0; row < LD; row++) {
                float v = got[i * SIZE + col * LD + row];
                if (row < M)
                    assert_true(fabs((double)v - product(ta, tb, i, row, col, alpha, beta, tf32)) <
                                1e-6);
                else /* Nothing is written between M and LD. */
                    assert_true(v == c_host[i * SIZE + col * LD + row]);
            }
}

static void test_gemm(void **state)
{
    (void)state;
    float *a = upload(a_host, BATCH * SIZE), *b = upload(b_host, BATCH * SIZE),
          *c = upload(c_host, BATCH * SIZE);
    const float alpha = 0.75f, beta = -0.5f, zero = 0.0f;
    for (int ta = 0; ta < 2; ta++)
        for (int tb = 0; tb < 2; tb++) {
            cublasOperation_t oa = ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                              ob = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
            OK(cudaMemcpy(c, c_host, sizeof c_host, cudaMemcpyHostToDevice));
            OK(cublasSgemm(handle, oa, ob, M, N, K, &alpha, a, LD, b, LD, &beta, c, LD));
            OK(cudaMemcpy(got, c, sizeof got, cudaMemcpyDeviceToHost));
            check(ta, tb, 1, alpha, beta, 0);
            OK(cudaMemcpy(c, c_host, sizeof c_host, cudaMemcpyHostToDevice));
            OK(cublasSgemmStridedBatched(handle, oa, ob, M, N, K, &alpha, a, LD, SIZE, b, LD, SIZE,
                                         &beta, c, LD, SIZE, BATCH));
            OK(cudaMemcpy(got, c, sizeof got, cudaMemcpyDeviceToHost));
            check(ta, tb, BATCH, alpha, beta, 0);
            OK(cudaMemcpy(c, c_host, sizeof c_host, cudaMemcpyHostToDevice));
            OK(cublasGemmEx(handle, oa, ob, M, N, K, &alpha, a, CUDA_R_32F, LD, b, CUDA_R_32F, LD,
                            &beta, c, CUDA_R_32F, LD, CUBLAS_COMPUTE_32F_FAST_TF32,
                            CUBLAS_GEMM_DEFAULT));
            OK(cudaMemcpy(got, c, sizeof got, cudaMemcpyDeviceToHost));
            check(ta, tb, 1, alpha, beta, 1);
        }
    /* With beta = 0 C is not read, not even a NaN in it. */
    memset(got, 0xff, sizeof got);
    OK(cudaMemset(c, 0xff, sizeof got));
    OK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &alpha, a, LD, b, LD, &zero, c, LD));
    OK(cudaMemcpy(got, c, sizeof got, cudaMemcpyDeviceToHost));
    assert_true(fabs(got[3] - product(0, 0, 0, 3, 0, alpha, 0, 0)) < 1e-6);
    /* The math mode has the same effect as the compute type, unless the type is pedantic. */
    OK(cudaMemcpy(c, c_host, sizeof c_host, cudaMemcpyHostToDevice));
    OK(cublasSetMathMode(handle, CUBLAS_TF32_TENSOR_OP_MATH));
    OK(cublasGemmStridedBatchedEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, &alpha, a, CUDA_R_32F,
                                  LD, SIZE, b, CUDA_R_32F, LD, SIZE, &beta, c, CUDA_R_32F, LD, SIZE,
                                  BATCH, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    OK(cudaMemcpy(got, c, sizeof got, cudaMemcpyDeviceToHost));
    check(0, 0, BATCH, alpha, beta, 1);
    OK(cudaFree(a));
    OK(cudaFree(b));
    OK(cudaFree(c));
}

static void test_refusals(void **state)
{
    (void)state;
    float *a = upload(a_host, SIZE), one = 1.0f;
    cublasMath_t mode;
    int version;
    assert_int_equal(
        cublasSgemm(NULL, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a, 1, a, 1, &one, a, 1),
        CUBLAS_STATUS_NOT_INITIALIZED);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, -1, 1, 1, &one, a, 1, a, 1, &one, a, 1),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 1, 1, &one, a, 3, a, 1, &one, a, 4),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, 4, 1, 2, &one, a, 1, a, 2, &one, a, 4),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 1, 1, &one, a, 4, a, 1, &one, a, 3),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, NULL, a, 1, a, 1, &one, a, 1),
        CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasSgemm(handle, (cublasOperation_t)7, CUBLAS_OP_N, 1, 1, 1, &one, a, 1, a,
                                 1, &one, a, 1),
                     CUBLAS_STATUS_INVALID_VALUE);
    /* An empty product has nothing to do. */
    OK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 0, 1, 1, &one, NULL, 1, NULL, 1, &one, NULL,
                   1));
    assert_int_equal(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a, CUDA_R_64F, 1,
                                  a, CUDA_R_64F, 1, &one, a, CUDA_R_64F, 1, CUBLAS_COMPUTE_32F,
                                  CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(cublasSetMathMode(handle, (cublasMath_t)9), CUBLAS_STATUS_INVALID_VALUE);
    OK(cublasGetMathMode(handle, &mode));
    assert_int_equal(mode, CUBLAS_DEFAULT_MATH);
    assert_int_equal(cublasSetPointerMode(handle, (cublasPointerMode_t)2),
                     CUBLAS_STATUS_INVALID_VALUE);
    /* The first workspace is misaligned; the second is longer than its allocation. */
    assert_int_equal(cublasSetWorkspace(handle, (char *)a + 4, 64), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasSetWorkspace(handle, a, 1 << 20), CUBLAS_STATUS_INVALID_VALUE);
    OK(cublasSetWorkspace(handle, a, 256));
    OK(cublasSetAtomicsMode(handle, CUBLAS_ATOMICS_NOT_ALLOWED));
    OK(cublasGetVersion(handle, &version));
    assert_true(version > 0);
    assert_string_equal(cublasGetStatusString(CUBLAS_STATUS_ALLOC_FAILED),
                        "the resource allocation failed");
    assert_string_equal(cublasGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED),
                        "CUBLAS_STATUS_NOT_SUPPORTED");
    OK(cudaFree(a));
}

/* A matrix that is too small causes an illegal address when the work runs. */
static void test_out_of_range(void **state)
{
    (void)state;
    float *a = upload(a_host, 15), *c = upload(c_host, 16), one = 1.0f;
    OK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, a, 4, c, 4, &one, c, 4));
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    assert_non_null(strstr(emu_report(), "cublasSgemm"));
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, c, 1, c, 1, &one, c, 1),
        CUBLAS_STATUS_EXECUTION_FAILED);
    cublasDestroy(handle);
    OK(cudaDeviceReset());
    OK(cublasCreate(&handle));
}

static void test_streams_and_graphs(void **state)
{
    (void)state;
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *a = upload(a_host, SIZE), *b = upload(b_host, SIZE), *c = upload(c_host, SIZE);
    float scalars_host[3] = {2.0f, 0.0f, -1.0f}, *scalars = upload(scalars_host, 3);
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cublasSetStream(handle, s));
    OK(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_DEVICE));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    OK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, M, N, K, scalars, a, LD, b, LD, scalars + 1, c,
                   LD));
    OK(cublasSnrm2(handle, 3, a, 1, scalars + 2));
    OK(cudaStreamEndCapture(s, &graph));
    size_t n = 0;
    OK(cudaGraphGetNodes(graph, NULL, &n));
    assert_int_equal(n, 2);
    OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cudaMemcpy(got, c, SIZE * 4, cudaMemcpyDeviceToHost));
    assert_true(got[0] == c_host[0]);
    OK(cudaGraphLaunch(exec, s));
    scalars_host[0] = 3.0f; /* the second replay sees another alpha: it is read on the device */
    OK(cudaMemcpyAsync(scalars, scalars_host, 4, cudaMemcpyHostToDevice, s));
    OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    OK(cudaMemcpy(got, c, SIZE * 4, cudaMemcpyDeviceToHost));
    assert_true(fabs(got[2] - product(0, 0, 0, 2, 0, 3, 0, 0)) < 2e-6);
    float norm;
    OK(cudaMemcpy(&norm, scalars + 2, 4, cudaMemcpyDeviceToHost));
    assert_true(fabs(norm - sqrt((double)a_host[0] * a_host[0] + (double)a_host[1] * a_host[1] +
                                 (double)a_host[2] * a_host[2])) < 1e-6);
    /* cuBLAS calls are queued in order with kernels. */
    OK(cublasSetPointerMode(handle, CUBLAS_POINTER_MODE_HOST));
    float two = 2.0f, dot = -1.0f, one = 1.0f;
    OK(cudaMemset(c, 0, SIZE * 4));
    OK(cudaDeviceSynchronize());
    OK(kernel_add_one(c, 4, s));
    OK(cublasSscal(handle, 4, &two, c, 1));
    OK(cublasSaxpy(handle, 4, &one, c, 1, c, 1));
    OK(cublasSdot(handle, 4, c, 1, c, 1, &dot)); /* waits: the result is on the host */
    assert_true(dot == 64.0f);
    OK(cublasSgemv(handle, CUBLAS_OP_T, M, N, &one, a, LD, b, 1, &(float){0}, c, 1));
    OK(cudaStreamSynchronize(s));
    OK(cudaMemcpy(got, c, 16, cudaMemcpyDeviceToHost));
    double sum = 0;
    for (int i = 0; i < M; i++) sum += (double)a_host[LD + i] * b_host[i];
    assert_true(fabs(got[1] - sum) < 1e-6);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaGraphDestroy(graph));
    OK(cublasSetStream(handle, NULL));
    OK(cudaStreamDestroy(s));
    OK(cudaFree(a));
    OK(cudaFree(b));
    OK(cudaFree(c));
    OK(cudaFree(scalars));
}

static void test_bfloat16(void **state)
{
    (void)state;
    uint16_t ones[16], out[16];
    float one = 1.0f, zero = 0.0f, wide[16];
    void *p, *q;
    for (int i = 0; i < 16; i++) ones[i] = 0x3f80;
    OK(cudaMalloc(&p, sizeof ones));
    OK(cudaMalloc(&q, sizeof wide));
    OK(cudaMemcpy(p, ones, sizeof ones, cudaMemcpyHostToDevice));
    OK(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, p, CUDA_R_16BF, 4, p,
                    CUDA_R_16BF, 4, &zero, q, CUDA_R_32F, 4, CUBLAS_COMPUTE_32F,
                    CUBLAS_GEMM_DEFAULT));
    OK(cudaMemcpy(wide, q, sizeof wide, cudaMemcpyDeviceToHost));
    assert_true(wide[15] == 4.0f);
    OK(cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, p, CUDA_R_16BF, 4, p,
                    CUDA_R_16BF, 4, &zero, q, CUDA_R_16BF, 4, CUBLAS_COMPUTE_32F,
                    CUBLAS_GEMM_DEFAULT));
    OK(cudaMemcpy(out, q, sizeof out, cudaMemcpyDeviceToHost));
    assert_int_equal(out[15], 0x4080);
    OK(cudaFree(p));
    OK(cudaFree(q));
}

static void test_injected(void **state)
{
    (void)state;
    cublasHandle_t other = NULL;
    float *a = upload(a_host, SIZE), one = 1.0f;
    emu_fail_call(EMU_CALL_CUBLAS, 1, cudaSuccess);
    assert_int_equal(cublasCreate(&other), CUBLAS_STATUS_ALLOC_FAILED);
    emu_fail_call(EMU_CALL_CUBLAS, 2, cudaSuccess);
    OK(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH));
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a, 1, a, 1, &one, a, 1),
        CUBLAS_STATUS_EXECUTION_FAILED);
    assert_string_equal(emu_failed_call(), "cublasSgemm_v2");
    emu_vanish_at(1);
    assert_int_equal(
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a, 1, a, 1, &one, a, 1),
        CUBLAS_STATUS_EXECUTION_FAILED);
    emu_vanish_at(0);
    OK(cudaFree(a));
}

/* Tests D (M,N) = A (M,K) * B (K,N), column-major, and the cases that are refused. */
static void test_lt(void **state)
{
    (void)state;
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t la, lb, ld, other;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[4], checked;
    int n = 0;
    uint64_t none = 0, bytes = M * N * 4;
    uint32_t aligned = 4;
    float one = 1, zero = 0, result[2][M * N];
    float *a = upload(a_host, SIZE), *b = upload(b_host, SIZE), *d = upload(c_host, SIZE),
          *workspace = upload(c_host, SIZE);
    OK(cublasLtCreate(&lt));
    OK(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    OK(cublasLtMatrixLayoutCreate(&la, CUDA_R_32F, M, K, M));
    OK(cublasLtMatrixLayoutCreate(&lb, CUDA_R_32F, K, N, K));
    OK(cublasLtMatrixLayoutCreate(&ld, CUDA_R_32F, M, N, M));
    OK(cublasLtMatrixLayoutCreate(&other, CUDA_R_32F, N, M, N));
    OK(cublasLtMatmulPreferenceCreate(&preference));
    for (int i = 0; i < 4; i++)
        OK(cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i, &aligned, sizeof aligned));
    OK(cublasLtMatmulAlgoGetHeuristic(lt, desc, la, lb, ld, ld, preference, 4, found, &n));
    assert_int_equal(n, 2); /* without a workspace there is no sum in halves */
    OK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &bytes, sizeof bytes));
    OK(cublasLtMatmulAlgoGetHeuristic(lt, desc, la, lb, ld, ld, preference, 4, found, &n));
#define MATMUL(D, layout, algorithm, size)                                                         \
    cublasLtMatmul(lt, desc, &one, a, la, b, lb, &zero, D, layout, D, layout, algorithm,           \
                   workspace, size, NULL)
    assert_int_equal(n, 3);
    assert_int_equal(found[0].state, CUBLAS_STATUS_NOT_SUPPORTED); /* it would not run */
    assert_int_equal(MATMUL(d, ld, &found[0].algo, bytes), CUBLAS_STATUS_INVALID_VALUE);
    for (int i = 0; i < 2; i++) {
        OK(cublasLtMatmulAlgoCheck(lt, desc, la, lb, ld, ld, &found[i + 1].algo, &checked));
        assert_int_equal(checked.workspaceSize, i ? bytes : none);
        OK(cublasLtMatmul(lt, desc, &one, a, la, b, lb, &zero, d, ld, d, ld, &found[i + 1].algo,
                          workspace, bytes, NULL));
        OK(cudaMemcpy(result[i], d, sizeof result[i], cudaMemcpyDeviceToHost));
        for (int row = 0; row < M; row++)
            for (int col = 0; col < N; col++) {
                double sum = 0;
                for (int k = 0; k < K; k++)
                    sum += (double)a_host[k * M + row] * b_host[col * K + k];
                assert_true(fabs(result[i][col * M + row] - sum) < 1e-6);
            }
    }
    assert_memory_not_equal(result[0], result[1], sizeof result[0]);

    assert_int_equal(MATMUL(d, other, &found[1].algo, bytes), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(MATMUL(d, ld, &found[2].algo, bytes - 1), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(MATMUL((float *)((char *)d + 2), ld, &found[2].algo, bytes),
                     CUBLAS_STATUS_INVALID_VALUE);
    cublasLtMatmulAlgo_t foreign = found[1].algo;
    foreign.data[1]++;
    assert_int_equal(cublasLtMatmulAlgoCheck(lt, desc, la, lb, ld, ld, &foreign, &checked),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    foreign.data[0] = 0;
    assert_int_equal(MATMUL(d, ld, &foreign, bytes), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_not_equal(emu_live_objects(), 0);
    OK(cublasLtMatmulPreferenceDestroy(preference));
    OK(cublasLtMatrixLayoutDestroy(la)), OK(cublasLtMatrixLayoutDestroy(lb)),
        OK(cublasLtMatrixLayoutDestroy(ld));
    OK(cublasLtMatrixLayoutDestroy(other)), OK(cublasLtMatmulDescDestroy(desc)),
        OK(cublasLtDestroy(lt));
    assert_int_equal(cublasLtDestroy(lt), CUBLAS_STATUS_NOT_INITIALIZED);
    OK(cudaFree(a)), OK(cudaFree(b)), OK(cudaFree(d)), OK(cudaFree(workspace));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gemm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_range, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streams_and_graphs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bfloat16, setup, teardown),
        cmocka_unit_test_setup_teardown(test_injected, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lt, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
