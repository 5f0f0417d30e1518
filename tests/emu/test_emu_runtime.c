/* Tests the host side of the emulated runtime, in C11: devices and their refusals, memory, streams,
 * events, graphs, injected faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda_runtime.h"
#include "emu.h"
#include "device_kernels.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

static int setup(void **state)
{
    (void)state;
    emu_reset();
    emu_quiet(1);
    return emu_device_select("H200");
}

static float *device_floats(size_t n, float value)
{
    void *p = NULL;
    float *host = malloc(n * sizeof *host);
    for (size_t i = 0; i < n; i++) host[i] = value;
    OK(cudaMalloc(&p, n * sizeof(float)));
    OK(cudaMemcpy(p, host, n * sizeof(float), cudaMemcpyHostToDevice));
    free(host);
    return p;
}

static float first_of(const float *p)
{
    float v = -1.0f;
    OK(cudaMemcpy(&v, p, sizeof v, cudaMemcpyDeviceToHost));
    return v;
}

/* ---- devices ---- */

static void test_profiles(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int arch, sms, shared_block, shared_optin, shared_sm, cooperative, cluster, blocks,
            reserved;
        int blocks_per_sm; /* 256 threads, 64 registers, 40,000 bytes of dynamic shared memory */
    } want[] = {
        {"K20", 35, 13, 49152, 49152, 49152, 0, 0, 16, 0, 1},
        {"K40", 35, 15, 49152, 49152, 49152, 0, 0, 16, 0, 1},
        {"V100", 70, 80, 49152, 98304, 98304, 1, 0, 32, 0, 2},
        {"A100", 80, 108, 49152, 166912, 167936, 1, 0, 32, 1024, 4},
        {"H100", 90, 132, 49152, 232448, 233472, 1, 1, 32, 1024, 4},
        {"H200", 90, 132, 49152, 232448, 233472, 1, 1, 32, 1024, 4},
        {"B200", 100, 148, 49152, 232448, 233472, 1, 1, 32, 1024, 4},
    };
    for (int i = 0; i < 7; i++) {
        struct cudaDeviceProp p;
        int v;
        assert_string_equal(emu_device_name(i), want[i].key);
        assert_int_equal(emu_device_select(want[i].key), 0);
        OK(cudaGetDeviceProperties(&p, 0));
        assert_int_equal(p.major * 10 + p.minor, want[i].arch);
        assert_int_equal(p.multiProcessorCount, want[i].sms);
        assert_int_equal(p.sharedMemPerBlock, want[i].shared_block);
        assert_int_equal(p.sharedMemPerBlockOptin, want[i].shared_optin);
        assert_int_equal(p.sharedMemPerMultiprocessor, want[i].shared_sm);
        assert_int_equal(p.cooperativeLaunch, want[i].cooperative);
        OK(cudaDeviceGetAttribute(&v, cudaDevAttrClusterLaunch, 0));
        assert_int_equal(v, want[i].cluster);
        OK(cudaDeviceGetAttribute(&v, cudaDevAttrMaxBlocksPerMultiprocessor, 0));
        assert_int_equal(v, want[i].blocks);
        OK(cudaDeviceGetAttribute(&v, cudaDevAttrReservedSharedMemoryPerBlock, 0));
        assert_int_equal(v, want[i].reserved);
        OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&v, kernel_shaped_address(), 256, 40000));
        assert_int_equal(v, want[i].blocks_per_sm);
    }
    assert_null(emu_device_name(7));
    assert_int_equal(emu_device_select("Voodoo2"), -1);
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    OK(cudaSetDevice(0));
}

static int occupancy(int threads, int registers, size_t shared)
{
    int v = -1;
    emu_set_registers(kernel_shaped_address(), registers);
    OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&v, kernel_shaped_address(), threads, shared));
    emu_set_registers(kernel_shaped_address(), 0);
    return v;
}

/* Compares with results of NVIDIA's occupancy calculator. */
static void test_occupancy(void **state)
{
    (void)state;
    assert_int_equal(occupancy(1024, 32, 0), 2); /* threads */
    assert_int_equal(occupancy(1024, 33, 0), 1); /* 40 registers after rounding: 48 warps */
    assert_int_equal(occupancy(32, 16, 0), 32);  /* blocks */
    assert_int_equal(occupancy(256, 255, 0), 1); /* 8160 per warp, 8 warps */
    assert_int_equal(occupancy(256, 128, 0), 2);
    assert_int_equal(occupancy(96, 168, 0), 4); /* 5376 per warp: 12 warps, in units of 4 */
    assert_int_equal(occupancy(256, 32, 232448), 1);
    assert_int_equal(occupancy(256, 32, 232449), 0);
    assert_int_equal(occupancy(256, 32, 115712), 2); /* 2 * (115712 + 1024) = 233472 exactly */
    assert_int_equal(occupancy(256, 32, 115713), 1);
    assert_int_equal(occupancy(512, 256, 0), 0); /* more than 255 registers */
    emu_device_select("K20");
    assert_int_equal(occupancy(256, 32, 24576), 2);
    assert_int_equal(occupancy(256, 32, 24577), 1);
    assert_int_equal(occupancy(32, 16, 0), 16);
    assert_int_equal(occupancy(256, 203, 40960), 1);
}

static void test_refusals(void **state)
{
    (void)state;
    float *x = device_floats(64, 0.0f);
    const void *k = kernel_shaped_address();
    assert_int_equal(kernel_shaped(x, 64, 1, 1025, 0, 0, NULL), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaSuccess); /* not sticky */
    assert_int_equal(kernel_shaped(x, 64, 0, 32, 0, 0, NULL), cudaErrorInvalidConfiguration);
    /* More than 48 KB of shared memory needs an opt-in. */
    assert_int_equal(kernel_shaped(x, 64, 1, 64, 49153, 0, NULL), cudaErrorInvalidValue);
    OK(kernel_shaped(x, 64, 1, 64, 49152, 0, NULL));
    OK(cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, 60000));
    OK(kernel_shaped(x, 64, 1, 64, 60000, 0, NULL));
    assert_int_equal(kernel_shaped(x, 64, 1, 64, 60001, 0, NULL), cudaErrorInvalidValue);
    assert_int_equal(cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, 232449),
                     cudaErrorInvalidValue);
    emu_set_registers(k, 128);
    assert_int_equal(kernel_shaped(x, 64, 1, 1024, 0, 0, NULL), cudaErrorLaunchOutOfResources);
    OK(kernel_shaped(x, 64, 1, 512, 0, 0, NULL));
    OK(kernel_shaped(x, 64, 132, 512, 0, 1, NULL));
    assert_int_equal(kernel_shaped(x, 64, 133, 512, 0, 1, NULL),
                     cudaErrorCooperativeLaunchTooLarge);
    emu_set_registers(k, 0);
    assert_non_null(strstr(emu_report(), "refused"));
    OK(cudaDeviceSynchronize());
    OK(cudaFree(x));

    assert_int_equal(emu_device_select("K20"), 0);
    x = device_floats(64, 0.0f);
    /* This device has no cooperative launch. */
    assert_int_equal(kernel_shaped(x, 64, 1, 64, 0, 1, NULL), cudaErrorNotSupported);
    /* H = 200 in shared memory on 13 SMs needs 52,608 bytes per block. */
    assert_int_equal(cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, 52608),
                     cudaErrorInvalidValue);
    assert_int_equal(kernel_shaped(x, 64, 13, 256, 52608, 0, NULL), cudaErrorInvalidValue);
    OK(kernel_shaped(x, 64, 13, 256, 49152, 0, NULL));
    OK(cudaFree(x));
}

/* cudaMemcpy from pageable memory returns when the bytes are staged, so a stream that does not wait
 * for the legacy stream may run earlier. */
static void test_pageable_copy(void **state)
{
    (void)state;
    float *x = device_floats(64, 1.0f), fresh[64], *seen;
    cudaStream_t beside;
    for (int i = 0; i < 64; i++) fresh[i] = 2.0f;
    OK(cudaMallocHost((void **)&seen, sizeof *seen));
    OK(cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking));
    OK(cudaDeviceSynchronize());
    for (int waits = 0; waits < 2; waits++) {
        OK(cudaMemcpy(x, fresh, sizeof fresh, cudaMemcpyHostToDevice));
        if (waits) OK(cudaDeviceSynchronize());
        OK(cudaMemcpyAsync(seen, x, sizeof *seen, cudaMemcpyDeviceToHost, beside));
        OK(cudaStreamSynchronize(beside));
        assert_true(*seen == (waits ? 2.0f : 1.0f));
    }
    OK(cudaStreamDestroy(beside));
    OK(cudaFreeHost(seen));
    OK(cudaFree(x));
}

static void test_clusters(void **state)
{
    (void)state;
    float *x = device_floats(64, 0.0f);
    const void *k = kernel_shaped_address();
    const size_t one = 120000; /* bytes of shared memory with which an SM holds one block */
    int n = -1;
    OK(cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448));
    assert_int_equal(kernel_clusters(&n, 256, one, 16), cudaErrorInvalidClusterSize);
    assert_int_equal(kernel_clustered(x, 64, 16, 64, one, 16, NULL), cudaErrorInvalidClusterSize);
    OK(cudaFuncSetAttribute(k, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    const struct {
        unsigned size;
        int clusters;
    } want[] = {{1, 132}, {2, 66}, {4, 30}, {8, 15}, {16, 7}};
    /* The call needs a cluster size. */
    assert_int_equal(kernel_clusters(&n, 256, one, 0), cudaErrorInvalidClusterSize);
    for (int i = 0; i < 5; i++) {
        OK(kernel_clusters(&n, 256, one, want[i].size));
        assert_int_equal(n, want[i].clusters);
        OK(kernel_clustered(x, 64, want[i].size * 2, 64, one, want[i].size, NULL));
    }
    OK(kernel_clusters(&n, 256, 40000, 16)); /* four blocks per SM */
    assert_int_equal(n, 30);
    OK(kernel_clusters(&n, 256, 232449, 4)); /* no SM holds such a block */
    assert_int_equal(n, 0);
    assert_int_equal(kernel_clusters(&n, 256, one, 17), cudaErrorInvalidClusterSize);
    assert_int_equal(kernel_clustered(x, 64, 6, 64, one, 4, NULL), cudaErrorInvalidClusterSize);
    assert_non_null(strstr(emu_report(), "refused"));
    OK(kernel_clustered(x, 64, 6, 64, one, 1, NULL));
    OK(cudaDeviceSynchronize());
    assert_true(first_of(x) == 6.0f);
    OK(cudaFree(x));
    emu_gpc_sms(1); /* no GPC has two SMs */
    assert_int_equal(kernel_clusters(&n, 256, one, 2), cudaErrorInvalidClusterSize);
    assert_int_equal(emu_device_select("A100"), 0);
    x = device_floats(64, 0.0f);
    assert_int_equal(kernel_clusters(&n, 256, 0, 2), cudaErrorNotSupported);
    assert_int_equal(kernel_clustered(x, 64, 2, 64, 0, 2, NULL), cudaErrorNotSupported);
    assert_int_equal(cudaFuncSetAttribute(k, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
                     cudaErrorNotSupported);
    OK(cudaFree(x));
}

/* ---- memory ---- */

static void test_memory(void **state)
{
    (void)state;
    void *p = NULL, *q = NULL;
    size_t before, after, total;
    unsigned char bytes[16];
    OK(cudaMemGetInfo(&before, &total));
    OK(cudaMalloc(&p, 1000));
    OK(cudaMemGetInfo(&after, &total));
    assert_int_equal(before - after, 1000);
    OK(cudaMemcpy(bytes, p, 16, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 16; i++) assert_int_equal(bytes[i], 0xff);
    OK(cudaMemset(p, 5, 1000));
    assert_int_equal(cudaMemset(p, 5, 1001), cudaErrorInvalidValue);
    OK(cudaMalloc(&q, 1000));
    OK(cudaMemcpy(q, p, 1000, cudaMemcpyDeviceToDevice));
    OK(cudaMemcpy(bytes, (char *)q + 990, 10, cudaMemcpyDefault));
    assert_int_equal(bytes[9], 5);
    assert_int_equal(cudaMemcpy(bytes, (char *)q + 990, 11, cudaMemcpyDeviceToHost),
                     cudaErrorInvalidValue);
    /* The direction contradicts the pointers. */
    assert_int_equal(cudaMemcpy(p, q, 10, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    struct cudaPointerAttributes a;
    OK(cudaPointerGetAttributes(&a, (char *)p + 5));
    assert_int_equal(a.type, cudaMemoryTypeDevice);
    OK(cudaPointerGetAttributes(&a, bytes));
    assert_int_equal(a.type, cudaMemoryTypeUnregistered);
    assert_int_equal(emu_live_bytes(), 2000);
    OK(cudaFree(p));
    OK(cudaFree(q));
    OK(cudaFree(NULL));
    assert_int_equal(cudaFree(q), cudaErrorInvalidValue); /* it is freed already */
    assert_int_equal(emu_live_bytes(), 0);
    OK(cudaMallocHost(&p, 100));
    assert_int_equal(emu_live_objects(), 1);
    memset(p, 1, 100);
    OK(cudaFreeHost(p));
    assert_int_equal(emu_live_objects(), 0);
    assert_int_equal(cudaMalloc(&p, (size_t)200 << 30), cudaErrorMemoryAllocation);
    assert_null(p);
    float grid[6] = {1, 2, 3, 4, 5, 6}, back[4] = {0};
    OK(cudaMalloc(&p, 64));
    OK(cudaMemcpy2D(p, 16, grid, 12, 8, 2, cudaMemcpyHostToDevice));
    OK(cudaMemcpy2D(back, 8, p, 16, 8, 2, cudaMemcpyDeviceToHost));
    assert_true(back[0] == 1 && back[1] == 2 && back[2] == 4 && back[3] == 5);
    OK(cudaFree(p));
}

/* ---- streams and events ---- */

static void test_streams_are_lazy(void **state)
{
    (void)state;
    cudaStream_t a, b;
    cudaEvent_t event;
    float *pinned = NULL, *x = device_floats(64, 1.0f);
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    OK(cudaEventCreate(&event));
    OK(cudaMallocHost((void **)&pinned, 64 * sizeof *pinned));
    pinned[0] = 0.0f;
    OK(cudaDeviceSynchronize());
    OK(kernel_add_one(x, 64, a));
    OK(cudaMemcpyAsync(pinned, x, 64 * sizeof(float), cudaMemcpyDeviceToHost, a));
    assert_true(pinned[0] != pinned[0]); /* poisoned until the wait */
    OK(cudaEventRecord(event, a));
    assert_int_equal(cudaStreamQuery(a), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
    OK(cudaStreamSynchronize(b)); /* a wait for another stream runs nothing here */
    OK(cudaEventSynchronize(event));
    assert_true(pinned[0] == 2.0f);
    OK(cudaStreamQuery(a));
    OK(cudaEventQuery(event));
    /* b waits for a through an event, whichever stream is synchronised. */
    for (unsigned seed = 0; seed < 10; seed++) {
        emu_seed(seed);
        OK(cudaMemsetAsync(x, 0, 64 * sizeof(float), a));
        OK(kernel_add_one(x, 64, a));
        OK(cudaEventRecord(event, a));
        OK(cudaStreamWaitEvent(b, event, 0));
        OK(kernel_twice(x, 64, b));
        OK(seed % 2 ? cudaStreamSynchronize(b) : cudaDeviceSynchronize());
        assert_true(first_of(x) == 2.0f);
        OK(cudaDeviceSynchronize());
    }
    emu_seed(0);
    cudaEvent_t later;
    float ms = -1.0f;
    OK(cudaEventCreate(&later));
    assert_int_equal(cudaEventElapsedTime(&ms, event, later), cudaErrorInvalidResourceHandle);
    OK(cudaEventRecord(later, b));
    OK(cudaEventSynchronize(later));
    OK(cudaEventElapsedTime(&ms, event, later));
    assert_true(ms >= 0.0f);
    OK(cudaEventDestroy(event));
    OK(cudaEventDestroy(later));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    assert_int_equal(cudaStreamSynchronize(a), cudaErrorInvalidResourceHandle);
    OK(cudaFreeHost(pinned));
    OK(cudaFree(x));
    assert_int_equal(emu_live_objects(), 0);
}

/* Blocking streams and the legacy stream wait for each other. */
static void test_legacy_stream(void **state)
{
    (void)state;
    cudaStream_t s;
    float *x = device_floats(64, 1.0f);
    OK(cudaStreamCreate(&s));
    for (unsigned seed = 0; seed < 6; seed++) {
        emu_seed(seed);
        OK(cudaMemset(x, 0, 256));
        OK(kernel_add_one(x, 64, s));
        OK(kernel_twice(x, 64, NULL));
        OK(kernel_add_one(x, 64, s));
        OK(cudaStreamSynchronize(s));
        assert_true(first_of(x) == 3.0f);
    }
    emu_seed(0);
    OK(cudaStreamDestroy(s));
    OK(cudaFree(x));
}

static void count_call(void *data) { ++*(int *)data; }

/* ---- graphs ---- */

static void test_graphs(void **state)
{
    (void)state;
    cudaStream_t s, t;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int calls = 0;
    float *x = device_floats(64, 1.0f), *y = device_floats(64, 1.0f);
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    OK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamIsCapturing(s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    OK(kernel_add_one(x, 64, s));
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(t, fork, 0));
    OK(cudaMemsetAsync(y, 0, 256, t));
    OK(kernel_add_one(y, 64, t));
    OK(cudaEventRecord(join, t));
    OK(kernel_twice(x, 64, s));
    OK(cudaStreamWaitEvent(s, join, 0));
    OK(cudaMemcpyAsync(y, x, 4, cudaMemcpyDeviceToDevice, s));
    OK(cudaLaunchHostFunc(s, count_call, &calls));
    OK(cudaStreamEndCapture(s, &graph));
    assert_true(first_of(x) == 1.0f); /* nothing has run */
    size_t n = 0;
    OK(cudaGraphGetNodes(graph, NULL, &n));
    assert_int_equal(n, 6);
    cudaGraphNode_t nodes[6];
    int kinds[8] = {0};
    OK(cudaGraphGetNodes(graph, nodes, &n));
    for (size_t i = 0; i < n; i++) {
        enum cudaGraphNodeType type;
        OK(cudaGraphNodeGetType(nodes[i], &type));
        kinds[type]++;
    }
    assert_int_equal(kinds[cudaGraphNodeTypeKernel], 3);
    assert_int_equal(kinds[cudaGraphNodeTypeMemset], 1);
    assert_int_equal(kinds[cudaGraphNodeTypeMemcpy], 1);
    assert_int_equal(kinds[cudaGraphNodeTypeHost], 1);
    OK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(exec, s));
    OK(cudaStreamSynchronize(s));
    assert_true(first_of(x) == 22.0f); /* 1 -> 4 -> 10 -> 22 */
    assert_true(first_of(y) == 22.0f);
    assert_int_equal(calls, 3);
    OK(cudaGraphExecDestroy(exec));

    /* These calls are forbidden during a capture. */
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    void *p;
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(t, fork, 0));
    OK(kernel_add_one(y, 64, t));
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnjoined);
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(t));
    OK(cudaEventDestroy(fork));
    OK(cudaEventDestroy(join));
    OK(cudaFree(x));
    OK(cudaFree(y));
    assert_int_equal(emu_live_objects(), 0);
    assert_int_equal(emu_live_bytes(), 0);
}

/* ---- injected faults ---- */

/* A small program that releases its resources whichever call fails. Returns the first error. */
static cudaError_t program(float *result)
{
    void *x = NULL, *y = NULL;
    cudaStream_t s = NULL;
    float host[64] = {0};
    cudaError_t e = cudaMalloc(&x, sizeof host);
    if (e == cudaSuccess) e = cudaMalloc(&y, sizeof host);
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s);
    if (e == cudaSuccess) e = kernel_add_one(x, 64, s);
    if (e == cudaSuccess) e = cudaMemcpyAsync(y, x, sizeof host, cudaMemcpyDeviceToDevice, s);
    if (e == cudaSuccess) e = cudaStreamSynchronize(s);
    if (e == cudaSuccess) e = cudaMemcpy(result, y, sizeof *result, cudaMemcpyDeviceToHost);
    cudaError_t f = s ? cudaStreamDestroy(s) : cudaSuccess;
    cudaError_t g = cudaFree(x), h = cudaFree(y);
    return e != cudaSuccess ? e : f != cudaSuccess ? f : g != cudaSuccess ? g : h;
}

static void test_every_call_fails_once(void **state)
{
    (void)state;
    float v = 0.0f;
    emu_calls_clear();
    OK(program(&v));
    assert_true(v == 1.0f);
    unsigned long calls = emu_calls(EMU_CALL_ANY);
    assert_int_equal(calls, 11);
    assert_int_equal(emu_calls(EMU_CALL_ALLOC), 2);
    assert_int_equal(emu_calls(EMU_CALL_LAUNCH), 1);
    assert_int_equal(emu_calls(EMU_CALL_COPY), 3);
    for (unsigned long n = 1; n <= calls; n++) {
        emu_reset();
        emu_fail_call(EMU_CALL_ANY, n, cudaErrorECCUncorrectable);
        assert_int_equal(program(&v), cudaErrorECCUncorrectable);
        assert_true(strlen(emu_failed_call()) > 0);
        assert_int_equal(emu_live_bytes(), 0);
        assert_int_equal(emu_live_objects(), 0);
        OK(program(&v)); /* one call has failed, and the device still works */
    }
    emu_fail_call(EMU_CALL_ALLOC, 2, cudaSuccess);
    assert_int_equal(program(&v), cudaErrorMemoryAllocation);
    emu_fail_call(EMU_CALL_LAUNCH, 1, cudaSuccess);
    assert_int_equal(program(&v), cudaErrorLaunchOutOfResources);
    emu_fail_call(EMU_CALL_COPY, 3, cudaSuccess);
    assert_int_equal(program(&v), cudaErrorUnknown);
    OK(program(&v));
}

static void test_device_vanishes(void **state)
{
    (void)state;
    float v;
    int count = -1;
    for (unsigned long n = 1; n <= 11; n++) {
        emu_reset();
        emu_vanish_at(n);
        assert_int_equal(program(&v), cudaErrorDevicesUnavailable);
        assert_int_equal(cudaGetDeviceCount(&count), cudaErrorNoDevice);
        assert_int_equal(count, 0);
        assert_int_equal(emu_live_bytes(), 0);
    }
    emu_vanish_at(0);
    OK(program(&v));
}

/* A fault in a kernel ends the context: every later call returns the error until the device is
 * reset. */
static void test_sticky(void **state)
{
    (void)state;
    if (strcmp(emu_mode(), "asan") == 0) {
        print_message("under ASan + UBSan the bad access itself ends the process\n");
        skip();
    }
    float v;
    OK(kernel_add_one(NULL, 64, NULL));
    cudaError_t e = cudaDeviceSynchronize();
    assert_int_equal(e, cudaErrorIllegalAddress);
    assert_non_null(strstr(emu_report(), "illegal memory access"));
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_int_equal(program(&v), cudaErrorIllegalAddress);
    assert_string_equal(cudaGetErrorName(e), "cudaErrorIllegalAddress");
    assert_string_equal(cudaGetErrorString(e), "an illegal memory access was encountered");
    OK(cudaDeviceReset());
    OK(program(&v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_profiles, setup),
        cmocka_unit_test_setup(test_occupancy, setup),
        cmocka_unit_test_setup(test_refusals, setup),
        cmocka_unit_test_setup(test_pageable_copy, setup),
        cmocka_unit_test_setup(test_clusters, setup),
        cmocka_unit_test_setup(test_memory, setup),
        cmocka_unit_test_setup(test_streams_are_lazy, setup),
        cmocka_unit_test_setup(test_legacy_stream, setup),
        cmocka_unit_test_setup(test_graphs, setup),
        cmocka_unit_test_setup(test_every_call_fails_once, setup),
        cmocka_unit_test_setup(test_device_vanishes, setup),
        cmocka_unit_test_setup(test_sticky, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
