/* The host API: calls and their errors, streams, events and graphs.
 *
 * Work is queued and runs when the host waits for it, at the last moment that CUDA allows, so that
 * a missing synchronisation shows in every run. An operation waits for the earlier ones on its
 * stream and for the events of cudaStreamWaitEvent. Operations of the legacy stream wait for
 * everything queued before on blocking streams, and the reverse.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <set>

#include "core.h"

bool device_set(const char *name); /* device.cpp */

/* ---- calls, errors, injected faults ---- */

static cudaError_t last_error, sticky_error;
static unsigned long call_count[EMU_CALL_KINDS], fail_at[EMU_CALL_KINDS], vanish_at;
static cudaError_t fail_error[EMU_CALL_KINDS];
static std::string failed_call;
static bool initialised;
static long launches;

/* Writes a line at the end of the process, like tests/support/launch_count.c with a real driver. */
static void write_launches()
{
    if (FILE *f = fopen(getenv("PLSTM_LAUNCHES"), "a")) fprintf(f, "%ld\n", launches), fclose(f);
}

static void initialise()
{
    initialised = true;
    if (const char *s = getenv("EMU_DEVICE"))
        if (!device_set(s))
            fprintf(stderr, "emu: EMU_DEVICE=%s is no profile; using %s\n", s, emu_device->key);
    if (const char *s = getenv("EMU_SEED")) sched_seed(strtoull(s, nullptr, 10));
    if (const char *s = getenv("EMU_QUIET")) emu_quiet(atoi(s));
    if (const char *s = getenv("EMU_WATCHDOG")) sched_watchdog(atof(s));
    if (const char *s = getenv("EMU_PROTECT")) arena_set_protection(atoi(s) != 0);
    if (const char *s = getenv("EMU_UNINIT")) emu_check_uninitialised(atoi(s));
    if (getenv("PLSTM_LAUNCHES")) atexit(write_launches);
    arena_init();
}

extern "C" const char *emu_mode(void)
{
#if defined(EMU_RACE)
    return "race";
#elif FIBER_ASAN
    return "asan";
#else
    return "plain";
#endif
}

#ifndef EMU_RACE
extern "C" void emu_check_uninitialised(int) {}
#else
extern "C" void emu_check_uninitialised(int on) { race_check_uninitialised(on != 0); }
#endif

#if FIBER_ASAN
/* Abandoned fibers never run their destructors, so tests check leaks with emu_live_bytes and
 * emu_live_objects. */
extern "C" const char *__asan_default_options()
{
    return "detect_leaks=0:detect_stack_use_after_return=0";
}
#endif

static cudaError_t usual_error(enum emu_call kind)
{
    switch (kind) {
    case EMU_CALL_ALLOC: return cudaErrorMemoryAllocation;
    case EMU_CALL_LAUNCH: return cudaErrorLaunchOutOfResources;
    default: return cudaErrorUnknown;
    }
}

cudaError_t emu_return(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

cudaError_t emu_enter(const char *call, enum emu_call kind)
{
    if (!initialised) initialise();
    unsigned long n = ++call_count[EMU_CALL_ANY];
    unsigned long k = kind == EMU_CALL_ANY ? 0 : ++call_count[kind];
    launches += kind == EMU_CALL_LAUNCH;
    if (vanish_at && n >= vanish_at) {
        failed_call = call;
        return emu_return(cudaErrorDevicesUnavailable);
    }
    for (int which : {(int)EMU_CALL_ANY, (int)kind}) {
        unsigned long now = which == EMU_CALL_ANY ? n : k;
        if (fail_at[which] && now == fail_at[which]) {
            fail_at[which] = 0;
            failed_call = call;
            return emu_return(fail_error[which] != cudaSuccess ? fail_error[which]
                                                               : usual_error(kind));
        }
    }
    return sticky_error != cudaSuccess ? emu_return(sticky_error) : cudaSuccess;
}

#define ENTER(kind)                                                                                \
    do {                                                                                           \
        cudaError_t entered_ = emu_enter(__func__, kind);                                          \
        if (entered_ != cudaSuccess) return entered_;                                              \
    } while (0)
#define REFUSE(condition, error)                                                                   \
    do {                                                                                           \
        if (condition) return emu_return(error);                                                   \
    } while (0)

extern "C" void emu_fail_call(enum emu_call kind, unsigned long n, cudaError_t error)
{
    fail_at[kind] = n ? call_count[kind] + n : 0;
    fail_error[kind] = error;
}
extern "C" void emu_vanish_at(unsigned long n) { vanish_at = n ? call_count[EMU_CALL_ANY] + n : 0; }
extern "C" unsigned long emu_calls(enum emu_call kind) { return call_count[kind]; }
extern "C" void emu_calls_clear(void) { memset(call_count, 0, sizeof call_count); }
extern "C" const char *emu_failed_call(void) { return failed_call.c_str(); }

extern "C" const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(name, value, text)                                                                    \
    case name: return #name;
        EMU_CUDA_ERRORS(NAME)
#undef NAME
    }
    return "unrecognized error code";
}

extern "C" const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define TEXT(name, value, text)                                                                    \
    case name: return text;
        EMU_CUDA_ERRORS(TEXT)
#undef TEXT
    }
    return "unrecognized error code";
}

extern "C" cudaError_t cudaPeekAtLastError(void) { return last_error; }
extern "C" cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = sticky_error;
    return e;
}

/* ---- queues ---- */

struct Op {
    OpKind kind;
    EmuWork *work;
    emu_stream *stream;
    std::vector<std::shared_ptr<Op>> after;
    bool done = false;
    ~Op()
    {
        if (work && --work->refs == 0) delete work;
    }
};

struct emu_graph_node {
    cudaGraphNodeType type;
    OpKind kind;
    EmuWork *work;
    std::vector<emu_graph_node *> after;
};

struct emu_graph {
    std::vector<std::unique_ptr<emu_graph_node>> nodes;
    ~emu_graph()
    {
        for (auto &n : nodes)
            if (n->work && --n->work->refs == 0) delete n->work;
    }
};

struct emu_graph_exec {
    std::vector<EmuWork *> works; /* in an order that respects the edges */
    int refs = 1;
    ~emu_graph_exec()
    {
        for (auto *w : works)
            if (w && --w->refs == 0) delete w;
    }
};

struct Capture {
    emu_graph *graph;
    emu_stream *origin;
    cudaStreamCaptureMode mode;
    bool invalid = false;
    std::set<emu_stream *> streams;
};

struct emu_stream {
    bool blocking = true;
    std::deque<std::shared_ptr<Op>> ops;
    std::shared_ptr<Op> last;
    Capture *capture = nullptr;
    std::vector<emu_graph_node *> frontier; /* the nodes on which the next captured node depends */
};

struct emu_event {
    unsigned flags = 0;
    bool recorded = false;
    std::shared_ptr<Op> op;
    double seconds = 0;
    bool captured = false; /* it was last recorded in a capturing stream */
    Capture *capture = nullptr;
    std::vector<emu_graph_node *> frontier;
    std::shared_ptr<int> life = std::make_shared<int>(0); /* record operations outlive the handle */
};

static emu_stream legacy;
static std::vector<emu_stream *> streams;
static std::set<emu_event *> events;
static std::set<emu_graph *> graphs;
static std::set<emu_graph_exec *> execs;
static std::set<Capture *> captures;
static uint64_t order_state;
size_t cublas_live_handles(); /* in cublas.cpp, or in none.cpp if no BLAS is linked */
__attribute__((weak)) size_t cublas_live_handles() { return 0; }

static double now_seconds()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static emu_stream *stream_of(cudaStream_t s)
{
    if (s == nullptr || s == cudaStreamLegacy) return &legacy;
    return std::find(streams.begin(), streams.end(), s) != streams.end() ? s : nullptr;
}
bool emu_stream_valid(cudaStream_t s) { return stream_of(s) != nullptr; }

static void op_run(Op *op)
{
    cudaError_t error = cudaSuccess;
    op->done = true;
    if (op->work && sticky_error == cudaSuccess) error = op->work->run();
    std::string text;
    if (error == cudaSuccess && (op->kind == OP_KERNEL || op->kind == OP_GRAPH) &&
        !arena_check_guards(&text)) {
        emu_note("%s", text.c_str());
        error = cudaErrorIllegalAddress;
    }
    if (error != cudaSuccess && sticky_error == cudaSuccess)
        /* An asynchronous fault ends the context, as on a device. */
        sticky_error = last_error = error;
}

/* Runs the stream up to and including `upto` (all of it if NULL), and the operations for which
 * these wait. */
static void drain(emu_stream *s, const Op *upto)
{
    while (!s->ops.empty() && !(upto && upto->done)) {
        std::shared_ptr<Op> op = s->ops.front();
        for (auto &before : op->after)
            if (!before->done) drain(before->stream, before.get());
        op->after.clear();
        if (op->done) continue;
        s->ops.pop_front();
        op_run(op.get());
    }
}

struct Unlocked {
    Unlocked() { arena_unlock(); }
    ~Unlocked()
    {
        arena_lock();
        sched_signals();
    }
};

static cudaError_t drain_stream(emu_stream *s, const Op *upto)
{
    Unlocked u;
    drain(s, upto);
    return sticky_error;
}

static cudaError_t drain_all()
{
    Unlocked u;
    std::vector<emu_stream *> order = {&legacy};
    order.insert(order.end(), streams.begin(), streams.end());
    if (order_state) /* random schedules use any order that the dependencies allow */
        for (size_t i = order.size(); i > 1; i--) {
            order_state = order_state * 6364136223846793005ull + 1442695040888963407ull;
            std::swap(order[i - 1], order[(size_t)(order_state >> 33) % i]);
        }
    for (auto *s : order) drain(s, nullptr);
    return sticky_error;
}

extern "C" void emu_seed(unsigned long long seed)
{
    sched_seed(seed);
    order_state = seed;
}

static bool any_capture_forbids()
{
    for (auto *c : captures)
        if (c->mode != cudaStreamCaptureModeRelaxed) return true;
    return false;
}

/* Calls that wait, or that might allocate, may not be made while a stream is being captured. */
static cudaError_t capture_forbids(emu_stream *s)
{
    if (s && s->capture) {
        s->capture->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    if (!s && any_capture_forbids()) {
        for (auto *c : captures)
            if (c->mode != cudaStreamCaptureModeRelaxed) c->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    if (s == &legacy)
        for (auto *c : captures)
            if (c->origin->blocking) {
                c->invalid = true;
                return cudaErrorStreamCaptureImplicit;
            }
    return cudaSuccess;
}

static cudaGraphNodeType node_type(OpKind kind)
{
    switch (kind) {
    case OP_COPY: return cudaGraphNodeTypeMemcpy;
    case OP_SET: return cudaGraphNodeTypeMemset;
    case OP_HOST: return cudaGraphNodeTypeHost;
    default: return cudaGraphNodeTypeKernel;
    }
}

static bool ranges_overlap(const HostRange &a, const HostRange &b)
{
    const char *x = (const char *)a.at, *y = (const char *)b.at;
    return x < y + b.bytes && y < x + a.bytes;
}

static bool host_range_pending(const HostRange &r, bool only_writers)
{
    auto in = [&](const emu_stream &s) {
        for (auto &op : s.ops)
            if (op->work)
                for (auto &h : op->work->host)
                    if ((h.written || !only_writers) && ranges_overlap(h, r)) return true;
        return false;
    };
    if (in(legacy)) return true;
    for (auto *s : streams)
        if (in(*s)) return true;
    return false;
}

/* Takes ownership of one reference to work. */
static cudaError_t enqueue(emu_stream *s, OpKind kind, EmuWork *work, std::shared_ptr<Op> *out)
{
    if (s->capture) {
        if (s->capture->invalid) {
            delete work;
            return cudaErrorStreamCaptureInvalidated;
        }
        auto node = std::make_unique<emu_graph_node>();
        node->type = node_type(kind);
        node->kind = kind;
        node->work = work;
        node->after = s->frontier;
        s->frontier = {node.get()};
        s->capture->graph->nodes.push_back(std::move(node));
        return cudaSuccess;
    }
    cudaError_t forbidden = s == &legacy ? capture_forbids(s) : cudaSuccess;
    if (forbidden != cudaSuccess) {
        delete work;
        return forbidden;
    }
    auto op = std::make_shared<Op>();
    op->kind = kind;
    op->work = work;
    op->stream = s;
    if (s == &legacy) {
        for (auto *other : streams)
            if (other->blocking && !other->ops.empty()) op->after.push_back(other->ops.back());
    } else if (s->blocking && !legacy.ops.empty()) {
        op->after.push_back(legacy.ops.back());
    }
    s->ops.push_back(op);
    s->last = op;
    if (out) *out = op;
    return cudaSuccess;
}

cudaError_t emu_enqueue(cudaStream_t stream, OpKind kind, EmuWork *work)
{
    emu_stream *s = stream_of(stream);
    if (!s) {
        delete work;
        return emu_return(cudaErrorInvalidResourceHandle);
    }
    return emu_return(enqueue(s, kind, work, nullptr));
}

/* ---- kernels ---- */

struct KernelWork final : EmuWork {
    EmuBody *body;
    const void *kernel;
    dim3 grid, block;
    size_t shared, shared_limit;
    bool cooperative;
    unsigned cluster;
    int resident;
    ~KernelWork() override { delete body; }
    cudaError_t run() override
    {
        Grid g = {};
        g.kernel = kernel;
        g.body = body;
        g.grid = grid;
        g.block = block;
        g.blocks = grid.x * grid.y * grid.z;
        g.threads = block.x * block.y * block.z;
        g.dynamic_shared = shared;
        g.shared_limit = shared_limit;
        g.cooperative = cooperative;
        g.cluster = cluster;
        g.resident_max = (unsigned)resident;
        return sched_run(&g);
    }
};

cudaError_t emu_launch(const cudaLaunchConfig_t *config, const void *kernel, EmuBody *body,
                       const char *call)
{
    std::unique_ptr<EmuBody> owned(body);
    cudaError_t e = emu_enter(call, EMU_CALL_LAUNCH);
    if (e != cudaSuccess) return e;
    REFUSE(!config || !kernel, cudaErrorInvalidDeviceFunction);
    emu_stream *s = stream_of(config->stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    bool cooperative = false;
    unsigned cluster = 0;
    int resident = 0;
    std::string why;
    e = device_check_launch(config, kernel, &cooperative, &cluster, &resident, &why);
    if (e != cudaSuccess) {
        emu_note("launch of %s refused: %s (%s)", emu_function_name(kernel).c_str(), why.c_str(),
                 cudaGetErrorName(e));
        return emu_return(e);
    }
    auto *w = new KernelWork();
    w->body = owned.release();
    w->kernel = kernel;
    w->grid = config->gridDim;
    w->block = config->blockDim;
    w->shared = config->dynamicSmemBytes;
    w->shared_limit = emu_device->prop.sharedMemPerBlockOptin;
    w->cooperative = cooperative;
    w->cluster = cluster;
    w->resident = resident;
    return emu_return(enqueue(s, OP_KERNEL, w, nullptr));
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr,
                                            int value)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!func, cudaErrorInvalidDeviceFunction);
    KernelInfo *k = device_kernel(func);
    switch (attr) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
        REFUSE(value < 0 ||
                   (size_t)value + k->static_shared > emu_device->prop.sharedMemPerBlockOptin,
               cudaErrorInvalidValue);
        k->max_dynamic = value;
        break;
    case cudaFuncAttributePreferredSharedMemoryCarveout:
        REFUSE(value < -1 || value > 100, cudaErrorInvalidValue);
        break;
    case cudaFuncAttributeNonPortableClusterSizeAllowed:
        REFUSE(!emu_device->prop.clusterLaunch, cudaErrorNotSupported);
        k->non_portable_cluster = value != 0;
        break;
    default: return emu_return(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaFuncSetCacheConfig(const void *func, enum cudaFuncCache)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!func, cudaErrorInvalidDeviceFunction);
    return cudaSuccess;
}

extern "C" cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attr, const void *func)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!attr, cudaErrorInvalidValue);
    REFUSE(!func, cudaErrorInvalidDeviceFunction);
    const KernelInfo *k = device_kernel(func);
    memset(attr, 0, sizeof *attr);
    attr->sharedSizeBytes = k->static_shared;
    attr->numRegs = k->registers ? k->registers : 64;
    int threads =
        emu_device->prop.regsPerBlock / ((attr->numRegs * 32 + 255) / 256 * 256) / 4 * 4 * 32;
    attr->maxThreadsPerBlock = threads < emu_device->prop.maxThreadsPerBlock
                                   ? threads
                                   : emu_device->prop.maxThreadsPerBlock;
    attr->ptxVersion = attr->binaryVersion = emu_device->prop.major * 10 + emu_device->prop.minor;
    attr->maxDynamicSharedSizeBytes =
        k->max_dynamic >= 0 ? k->max_dynamic
                            : (int)(emu_device->prop.sharedMemPerBlock - k->static_shared);
    attr->preferredShmemCarveout = -1;
    return cudaSuccess;
}

extern "C" cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *func,
                                                                     int block_size, size_t smem)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!blocks || block_size <= 0, cudaErrorInvalidValue);
    REFUSE(!func, cudaErrorInvalidDeviceFunction);
    *blocks = device_occupancy(device_kernel(func), (unsigned)block_size, smem);
    return cudaSuccess;
}

extern "C" cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks,
                                                                              const void *func,
                                                                              int block_size,
                                                                              size_t smem, unsigned)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, func, block_size, smem);
}

extern "C" cudaError_t cudaOccupancyMaxActiveClusters(int *clusters, const void *func,
                                                      const cudaLaunchConfig_t *config)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!clusters || !config, cudaErrorInvalidValue);
    REFUSE(!func, cudaErrorInvalidDeviceFunction);
    REFUSE(!emu_device->prop.clusterLaunch, cudaErrorNotSupported);
    unsigned size = 0;
    std::string why;
    cudaError_t e = device_cluster(config, func, &size, &why);
    REFUSE(e != cudaSuccess, e);
    /* The manual says: "the cluster size must be specified in config". */
    REFUSE(size == 0, cudaErrorInvalidClusterSize);
    const dim3 &b = config->blockDim;
    *clusters =
        device_clusters(device_kernel(func), b.x * b.y * b.z, config->dynamicSmemBytes, size);
    /* The manual does not say whether the answer is this error or 0 where every GPC is too small. */
    REFUSE(*clusters == 0 &&
               device_occupancy(device_kernel(func), b.x * b.y * b.z, config->dynamicSmemBytes) > 0,
           cudaErrorInvalidClusterSize);
    return cudaSuccess;
}

/* ---- device ---- */

extern "C" cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t e = emu_enter(__func__, EMU_CALL_ANY);
    if (e == cudaErrorDevicesUnavailable) e = emu_return(cudaErrorNoDevice);
    if (count) *count = e == cudaErrorNoDevice ? 0 : 1;
    return e;
}

extern "C" cudaError_t cudaSetDevice(int device)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(device != 0, cudaErrorInvalidDevice);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!device, cudaErrorInvalidValue);
    *device = 0;
    return cudaSuccess;
}

extern "C" cudaError_t cudaSetDeviceFlags(unsigned)
{
    ENTER(EMU_CALL_ANY);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!prop, cudaErrorInvalidValue);
    REFUSE(device != 0, cudaErrorInvalidDevice);
    *prop = emu_device->prop;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!value, cudaErrorInvalidValue);
    REFUSE(device != 0, cudaErrorInvalidDevice);
    const cudaDeviceProp &p = emu_device->prop;
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxBlockDimX: *value = p.maxThreadsDim[0]; break;
    case cudaDevAttrMaxBlockDimY: *value = p.maxThreadsDim[1]; break;
    case cudaDevAttrMaxBlockDimZ: *value = p.maxThreadsDim[2]; break;
    case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: *value = p.maxGridSize[1]; break;
    case cudaDevAttrMaxGridDimZ: *value = p.maxGridSize[2]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrTotalConstantMemory: *value = (int)p.totalConstMem; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMaxPitch: *value = (int)p.memPitch; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = p.regsPerBlock; break;
    case cudaDevAttrClockRate: *value = emu_device->clock_khz; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrKernelExecTimeout: *value = 0; break;
    case cudaDevAttrIntegrated: *value = 0; break;
    case cudaDevAttrCanMapHostMemory: *value = 1; break;
    case cudaDevAttrComputeMode: *value = 0; break;
    case cudaDevAttrConcurrentKernels: *value = 1; break;
    case cudaDevAttrEccEnabled: *value = p.ECCEnabled; break;
    case cudaDevAttrPciBusId: *value = p.pciBusID; break;
    case cudaDevAttrPciDeviceId: *value = p.pciDeviceID; break;
    case cudaDevAttrPciDomainId: *value = p.pciDomainID; break;
    case cudaDevAttrTccDriver: *value = 0; break;
    case cudaDevAttrMemoryClockRate: *value = emu_device->memory_clock_khz; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrAsyncEngineCount: *value = p.asyncEngineCount; break;
    case cudaDevAttrUnifiedAddressing: *value = p.unifiedAddressing; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrStreamPrioritiesSupported: *value = p.streamPrioritiesSupported; break;
    case cudaDevAttrGlobalL1CacheSupported: *value = p.globalL1CacheSupported; break;
    case cudaDevAttrLocalL1CacheSupported: *value = p.localL1CacheSupported; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = p.regsPerMultiprocessor; break;
    case cudaDevAttrManagedMemory: *value = p.managedMemory; break;
    case cudaDevAttrComputePreemptionSupported: *value = p.computePreemptionSupported; break;
    case cudaDevAttrCooperativeLaunch: *value = p.cooperativeLaunch; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    case cudaDevAttrHostRegisterSupported: *value = p.hostRegisterSupported; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = p.maxBlocksPerMultiProcessor; break;
    case cudaDevAttrMaxPersistingL2CacheSize: *value = p.persistingL2CacheMaxSize; break;
    case cudaDevAttrMaxAccessPolicyWindowSize: *value = p.accessPolicyMaxWindowSize; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *value = (int)p.reservedSharedMemPerBlock; break;
    case cudaDevAttrMemoryPoolsSupported: *value = p.memoryPoolsSupported; break;
    case cudaDevAttrClusterLaunch: *value = p.clusterLaunch; break;
    default: return emu_return(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *id, int len, int device)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!id || len < 13, cudaErrorInvalidValue);
    REFUSE(device != 0, cudaErrorInvalidDevice);
    snprintf(id, (size_t)len, "0000:01:00.0");
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    ENTER(EMU_CALL_ANY);
    cudaError_t e = capture_forbids(nullptr);
    REFUSE(e != cudaSuccess, e);
    return emu_return(drain_all());
}

static void forget_everything()
{
    legacy.ops.clear();
    legacy.last.reset();
    legacy.frontier.clear();
    legacy.capture = nullptr;
    for (auto *s : streams) delete s;
    streams.clear();
    for (auto *e : events) delete e;
    events.clear();
    for (auto *c : captures) {
        delete c->graph;
        delete c;
    }
    captures.clear();
    for (auto *g : graphs) delete g;
    graphs.clear();
    for (auto *x : execs)
        if (--x->refs == 0) delete x;
    execs.clear();
    arena_reset();
    device_forget_kernels();
    sticky_error = last_error = cudaSuccess;
}

extern "C" cudaError_t cudaDeviceReset(void)
{
    cudaError_t e = emu_enter(__func__, EMU_CALL_ANY);
    if (e != cudaSuccess && e != sticky_error) return e;
    forget_everything();
    return cudaSuccess;
}

extern "C" void emu_reset(void)
{
    if (!initialised) initialise();
    forget_everything();
    memset(call_count, 0, sizeof call_count);
    memset(fail_at, 0, sizeof fail_at);
    vanish_at = 0;
    failed_call.clear();
    emu_report_clear();
}

extern "C" int emu_device_select(const char *name)
{
    if (!initialised) initialise();
    if (!device_set(name)) return -1;
    forget_everything();
    return 0;
}

extern "C" cudaError_t cudaDeviceSetLimit(enum cudaLimit, size_t)
{
    ENTER(EMU_CALL_ANY);
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetLimit(size_t *value, enum cudaLimit limit)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!value, cudaErrorInvalidValue);
    *value = limit == cudaLimitMallocHeapSize ? 8 << 20 : limit == cudaLimitStackSize ? 1024 : 0;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!version, cudaErrorInvalidValue);
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaRuntimeGetVersion(int *version)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!version, cudaErrorInvalidValue);
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaProfilerStart(void)
{
    ENTER(EMU_CALL_ANY);
    return cudaSuccess;
}
extern "C" cudaError_t cudaProfilerStop(void)
{
    ENTER(EMU_CALL_ANY);
    return cudaSuccess;
}

/* ---- memory ---- */

extern "C" cudaError_t cudaMalloc(void **ptr, size_t size)
{
    ENTER(EMU_CALL_ALLOC);
    REFUSE(!ptr, cudaErrorInvalidValue);
    cudaError_t e = capture_forbids(nullptr);
    REFUSE(e != cudaSuccess, e);
    *ptr = nullptr;
    if (size == 0) return cudaSuccess;
    REFUSE(size > emu_device->prop.totalGlobalMem -
                      std::min(emu_device->prop.totalGlobalMem, arena_live_bytes()),
           cudaErrorMemoryAllocation);
    *ptr = arena_alloc(size, false);
    REFUSE(!*ptr, cudaErrorMemoryAllocation);
    return cudaSuccess;
}

/* A release takes effect even if the call returns an error, since on a device it may return the
 * error of earlier work. */
static cudaError_t release(void *ptr, bool host, cudaError_t entered)
{
    if (!ptr) return entered;
    cudaError_t e = capture_forbids(nullptr);
    REFUSE(e != cudaSuccess, e);
    drain_all();
    const Allocation *a = arena_find(ptr);
    std::string text;
    if (a && a->at == ptr && sticky_error == cudaSuccess && !arena_check_guards(&text)) {
        emu_note("%s", text.c_str());
        sticky_error = last_error = cudaErrorIllegalAddress;
    }
    bool known = arena_free(ptr, host);
    if (entered != cudaSuccess) return entered;
    REFUSE(!known, host ? cudaErrorInvalidValue : cudaErrorInvalidValue);
    return emu_return(sticky_error);
}

extern "C" cudaError_t cudaFree(void *ptr)
{
    return release(ptr, false, emu_enter(__func__, EMU_CALL_ANY));
}
extern "C" cudaError_t cudaFreeHost(void *ptr)
{
    return release(ptr, true, emu_enter(__func__, EMU_CALL_ANY));
}

static cudaError_t host_alloc(void **ptr, size_t size)
{
    REFUSE(!ptr, cudaErrorInvalidValue);
    cudaError_t e = capture_forbids(nullptr);
    REFUSE(e != cudaSuccess, e);
    *ptr = nullptr;
    if (size == 0) return cudaSuccess;
    *ptr = arena_alloc(size, true);
    REFUSE(!*ptr, cudaErrorMemoryAllocation);
    /* The host's writes to this memory are not tracked, so it counts as written. */
    RACE(race_host_wrote(*ptr, size));
    return cudaSuccess;
}

extern "C" cudaError_t cudaMallocHost(void **ptr, size_t size)
{
    ENTER(EMU_CALL_ALLOC);
    return host_alloc(ptr, size);
}

extern "C" cudaError_t cudaHostAlloc(void **ptr, size_t size, unsigned int)
{
    ENTER(EMU_CALL_ALLOC);
    return host_alloc(ptr, size);
}

extern "C" cudaError_t cudaMallocManaged(void **ptr, size_t size, unsigned int)
{
    ENTER(EMU_CALL_ALLOC);
    return host_alloc(ptr, size);
}

extern "C" cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned int)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!device || !arena_find(host) || !arena_is_host(host), cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!free_bytes || !total_bytes, cudaErrorInvalidValue);
    *total_bytes = emu_device->prop.totalGlobalMem;
    *free_bytes = *total_bytes - std::min(*total_bytes, arena_live_bytes());
    return cudaSuccess;
}

extern "C" cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *ptr)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!a, cudaErrorInvalidValue);
    const Allocation *found = arena_find(ptr);
    a->type = !found        ? cudaMemoryTypeUnregistered
              : found->host ? cudaMemoryTypeHost
                            : cudaMemoryTypeDevice;
    a->device = found ? 0 : -2;
    a->devicePointer = found ? (void *)ptr : nullptr;
    a->hostPointer = found && found->host ? (void *)ptr : nullptr;
    return cudaSuccess;
}

extern "C" size_t emu_live_bytes(void) { return arena_live_bytes(); }
extern "C" size_t emu_live_objects(void)
{
    return arena_live_host() + streams.size() + events.size() + graphs.size() + execs.size() +
           cublas_live_handles();
}

/* The whole range must be in one live allocation. */
static bool device_range(const void *p, size_t n)
{
    const Allocation *a = arena_find(p);
    return a && (const unsigned char *)p + n <= a->at + a->bytes;
}

static uint64_t hash_bytes(const void *p, size_t n)
{
    const unsigned char *b = (const unsigned char *)p;
    uint64_t h = 0xcbf29ce484222325ull;
    for (; n >= 8; n -= 8, b += 8) {
        uint64_t w;
        memcpy(&w, b, 8);
        h = (h ^ w) * 0x100000001b3ull;
        h ^= h >> 29;
    }
    for (; n; n--, b++) h = (h ^ *b) * 0x100000001b3ull;
    return h;
}

static cudaError_t copy_kind(void *dst, const void *src, enum cudaMemcpyKind kind, bool *to_device,
                             bool *from_device)
{
    *to_device = arena_is_device(dst);
    *from_device = arena_is_device(src);
    bool host_dst = !*to_device, host_src = !*from_device;
    switch (kind) {
    case cudaMemcpyHostToHost: return host_dst && host_src ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyHostToDevice:
        return (*to_device || arena_is_host(dst)) && host_src ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToHost:
        return host_dst && (*from_device || arena_is_host(src)) ? cudaSuccess
                                                                : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToDevice:
        return (*to_device || arena_is_host(dst)) && (*from_device || arena_is_host(src))
                   ? cudaSuccess
                   : cudaErrorInvalidValue;
    case cudaMemcpyDefault: return cudaSuccess;
    }
    return cudaErrorInvalidMemcpyDirection;
}

struct CopyWork final : EmuWork {
    void *dst;
    const void *src;
    size_t dpitch, spitch, width, height;
    /* a pageable source, copied at the call like CUDA's staging buffer */
    std::vector<unsigned char> staged;
    bool check_source = false;
    uint64_t source_hash = 0;
    cudaError_t run() override
    {
        if (check_source && hash_bytes(src, width * height) != source_hash) {
            emu_note("a copy was not waited for: the %zu bytes of pinned memory at %p (%s) changed "
                     "between "
                     "cudaMemcpyAsync and "
                     "the copy",
                     width * height, src, arena_describe(src).c_str());
            return cudaErrorIllegalAddress;
        }
        const unsigned char *s = staged.empty() ? (const unsigned char *)src : staged.data();
        for (size_t y = 0; y < height; y++)
            memmove((unsigned char *)dst + y * dpitch, s + y * spitch, width);
#ifdef EMU_RACE
        for (size_t y = 0; y < height; y++) {
            if (staged.empty())
                race_copied((unsigned char *)dst + y * dpitch, s + y * spitch, width);
            else race_host_wrote((unsigned char *)dst + y * dpitch, width);
        }
#endif
        return cudaSuccess;
    }
};

static cudaError_t copy(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width,
                        size_t height, enum cudaMemcpyKind kind, cudaStream_t stream, bool wait)
{
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    if (width == 0 || height == 0) return cudaSuccess;
    REFUSE(!dst || !src, cudaErrorInvalidValue);
    REFUSE(width > dpitch || width > spitch, cudaErrorInvalidPitchValue);
    bool to_device, from_device;
    cudaError_t e = copy_kind(dst, src, kind, &to_device, &from_device);
    REFUSE(e != cudaSuccess, e);
    size_t dspan = dpitch * (height - 1) + width, sspan = spitch * (height - 1) + width;
    bool dst_pinned = arena_is_host(dst), src_pinned = arena_is_host(src);
    REFUSE((to_device || dst_pinned) && !device_range(dst, dspan), cudaErrorInvalidValue);
    REFUSE((from_device || src_pinned) && !device_range(src, sspan), cudaErrorInvalidValue);
    if (wait) {
        e = capture_forbids(s);
        REFUSE(e != cudaSuccess, e);
    }
    auto *w = new CopyWork();
    w->dst = dst;
    w->src = src;
    w->dpitch = dpitch;
    w->spitch = spitch;
    w->width = width;
    w->height = height;
    bool pageable_dst = !to_device && !dst_pinned, pageable_src = !from_device && !src_pinned;
    /* CUDA waits for the stream, copies a pageable source to a staging buffer and returns: the
     * bytes may still be in flight, and a stream that is not ordered by the legacy stream may not
     * see them yet. */
    bool staged = pageable_src && to_device;
    if (!s->capture) {
        if (staged && wait && (e = drain_stream(s, nullptr)) != cudaSuccess) {
            delete w;
            return emu_return(e);
        }
        if (pageable_src && (staged || !wait)) {
            w->staged.assign((const unsigned char *)src, (const unsigned char *)src + sspan);
        } else if (src_pinned && !wait && height == 1 &&
                   !host_range_pending(HostRange{src, width, false}, true)) {
            w->check_source = true;
            w->source_hash = hash_bytes(src, width);
        }
        if (dst_pinned && !wait && height == 1 &&
            !host_range_pending(HostRange{dst, width, true}, false) &&
            !(src_pinned &&
              ranges_overlap(HostRange{src, width, false}, HostRange{dst, width, false})))
            memset(dst, 0xFF, width); /* the target must not be read before the wait */
    }
    if (!to_device) w->host.push_back(HostRange{dst, dspan, true});
    if (!from_device) w->host.push_back(HostRange{src, sspan, false});
    std::shared_ptr<Op> op;
    e = enqueue(s, OP_COPY, w, &op);
    REFUSE(e != cudaSuccess, e);
    /* CUDA returns from a copy to pageable memory only when it is done, whichever function is
     * called. */
    if (op && ((wait && !(to_device && from_device) && !staged) || pageable_dst))
        return emu_return(drain_stream(s, op.get()));
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemcpy(void *dst, const void *src, size_t count,
                                  enum cudaMemcpyKind kind)
{
    ENTER(EMU_CALL_COPY);
    return copy(dst, count, src, count, count, 1, kind, nullptr, true);
}

extern "C" cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count,
                                       enum cudaMemcpyKind kind, cudaStream_t stream)
{
    ENTER(EMU_CALL_COPY);
    return copy(dst, count, src, count, count, 1, kind, stream, false);
}

extern "C" cudaError_t cudaMemcpy2D(void *dst, size_t dpitch, const void *src, size_t spitch,
                                    size_t width, size_t height, enum cudaMemcpyKind kind)
{
    ENTER(EMU_CALL_COPY);
    return copy(dst, dpitch, src, spitch, width, height, kind, nullptr, true);
}

extern "C" cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch,
                                         size_t width, size_t height, enum cudaMemcpyKind kind,
                                         cudaStream_t stream)
{
    ENTER(EMU_CALL_COPY);
    return copy(dst, dpitch, src, spitch, width, height, kind, stream, false);
}

static cudaError_t set(void *ptr, int value, size_t count, cudaStream_t stream, bool wait)
{
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    if (count == 0) return cudaSuccess;
    REFUSE(!device_range(ptr, count), cudaErrorInvalidValue);
    if (wait) {
        cudaError_t e = capture_forbids(s);
        REFUSE(e != cudaSuccess, e);
    }
    return emu_return(enqueue(s, OP_SET, emu_work([=] {
                                  memset(ptr, value, count);
                                  RACE(race_host_wrote(ptr, count));
                                  return cudaSuccess;
                              }),
                              nullptr));
}

extern "C" cudaError_t cudaMemset(void *ptr, int value, size_t count)
{
    ENTER(EMU_CALL_COPY);
    return set(ptr, value, count, nullptr, true);
}

extern "C" cudaError_t cudaMemsetAsync(void *ptr, int value, size_t count, cudaStream_t stream)
{
    ENTER(EMU_CALL_COPY);
    return set(ptr, value, count, stream, false);
}

/* ---- streams ---- */

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!stream || flags > cudaStreamNonBlocking, cudaErrorInvalidValue);
    auto *s = new emu_stream();
    s->blocking = flags != cudaStreamNonBlocking;
    streams.push_back(s);
    *stream = s;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
extern "C" cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}

extern "C" cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER(EMU_CALL_ANY);
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t entered = emu_enter(__func__, EMU_CALL_ANY);
    auto i = std::find(streams.begin(), streams.end(), stream);
    if (i == streams.end())
        return entered != cudaSuccess ? entered : emu_return(cudaErrorInvalidResourceHandle);
    drain_stream(stream, nullptr); /* work that is still queued runs first */
    if (stream->capture) stream->capture->invalid = true, stream->capture->streams.erase(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return entered;
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTER(EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    cudaError_t e = capture_forbids(s);
    REFUSE(e != cudaSuccess, e);
    return emu_return(drain_stream(s, nullptr));
}

/* A query lets one operation run, so that a loop of queries ends, but never the first time. */
extern "C" cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    ENTER(EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    cudaError_t e = capture_forbids(s);
    REFUSE(e != cudaSuccess, e);
    if (s->ops.empty()) return emu_return(sticky_error);
    std::shared_ptr<Op> first = s->ops.front();
    drain_stream(s, first.get());
    return cudaErrorNotReady;
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    ENTER(EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    REFUSE(!s || !events.count(event), cudaErrorInvalidResourceHandle);
    if (event->captured) {
        REFUSE(!captures.count(event->capture), cudaErrorCapturedEvent);
        if (!s->capture) {
            REFUSE(s == &legacy, cudaErrorStreamCaptureImplicit);
            s->capture = event->capture;
            s->capture->streams.insert(s);
            s->frontier = event->frontier;
            return cudaSuccess;
        }
        REFUSE(s->capture != event->capture, cudaErrorStreamCaptureMerge);
        for (auto *n : event->frontier)
            if (std::find(s->frontier.begin(), s->frontier.end(), n) == s->frontier.end())
                s->frontier.push_back(n);
        return cudaSuccess;
    }
    if (s->capture) {
        s->capture->invalid = true;
        return emu_return(cudaErrorStreamCaptureIsolation);
    }
    if (!event->recorded || event->op->done) return cudaSuccess;
    std::shared_ptr<Op> op;
    cudaError_t e = enqueue(s, OP_WAIT, nullptr, &op);
    REFUSE(e != cudaSuccess, e);
    op->after.push_back(event->op);
    return cudaSuccess;
}

extern "C" cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *data)
{
    ENTER(EMU_CALL_LAUNCH);
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    REFUSE(!fn, cudaErrorInvalidValue);
    return emu_return(enqueue(s, OP_HOST, emu_work([=] {
                                  arena_lock(); /* device memory stays inaccessible for host code */
                                  fn(data);
                                  arena_unlock();
                                  return cudaSuccess;
                              }),
                              nullptr));
}

/* ---- events ---- */

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!event, cudaErrorInvalidValue);
    *event = new emu_event();
    (*event)->flags = flags;
    events.insert(*event);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t entered = emu_enter(__func__, EMU_CALL_ANY);
    if (!events.erase(event))
        return entered != cudaSuccess ? entered : emu_return(cudaErrorInvalidResourceHandle);
    delete event;
    return entered;
}

extern "C" cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream,
                                                unsigned int)
{
    ENTER(EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    REFUSE(!s || !events.count(event), cudaErrorInvalidResourceHandle);
    if (s->capture) {
        event->captured = true;
        event->capture = s->capture;
        event->frontier = s->frontier;
        return cudaSuccess;
    }
    std::weak_ptr<int> life = event->life;
    std::shared_ptr<Op> op;
    cudaError_t e = enqueue(s, OP_RECORD, emu_work([event, life] {
                                if (!life.expired()) event->seconds = now_seconds();
                                return cudaSuccess;
                            }),
                            &op);
    REFUSE(e != cudaSuccess, e);
    event->captured = false;
    event->recorded = true;
    event->op = op;
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!events.count(event), cudaErrorInvalidResourceHandle);
    REFUSE(event->captured, cudaErrorCapturedEvent);
    cudaError_t e = capture_forbids(nullptr);
    REFUSE(e != cudaSuccess, e);
    if (!event->recorded || event->op->done) return emu_return(sticky_error);
    return emu_return(drain_stream(event->op->stream, event->op.get()));
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!events.count(event), cudaErrorInvalidResourceHandle);
    REFUSE(event->captured, cudaErrorCapturedEvent);
    if (!event->recorded || event->op->done) return emu_return(sticky_error);
    emu_stream *s = event->op->stream;
    std::shared_ptr<Op> first = s->ops.front();
    drain_stream(s, first.get());
    return cudaErrorNotReady;
}

extern "C" cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!ms, cudaErrorInvalidValue);
    REFUSE(!events.count(start) || !events.count(end) || !start->recorded || !end->recorded ||
               ((start->flags | end->flags) & cudaEventDisableTiming),
           cudaErrorInvalidResourceHandle);
    if (!start->op->done || !end->op->done) return cudaErrorNotReady;
    *ms = (float)((end->seconds - start->seconds) * 1e3);
    return cudaSuccess;
}

/* ---- graphs ---- */

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    ENTER(EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    REFUSE(s == &legacy, cudaErrorStreamCaptureUnsupported);
    REFUSE(s->capture, cudaErrorIllegalState);
    auto *c = new Capture();
    c->graph = new emu_graph();
    c->origin = s;
    c->mode = mode;
    c->streams.insert(s);
    captures.insert(c);
    s->capture = c;
    s->frontier.clear();
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    cudaError_t entered = emu_enter(__func__, EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    if (graph) *graph = nullptr;
    if (!s || !graph || !s->capture) {
        REFUSE(entered != cudaSuccess, entered);
        return emu_return(!s       ? cudaErrorInvalidResourceHandle
                          : !graph ? cudaErrorInvalidValue
                                   : cudaErrorIllegalState);
    }
    Capture *c = s->capture;
    REFUSE(c->origin != s, cudaErrorStreamCaptureUnmatched);
    /* Everything captured on other streams must have been joined into this one. */
    std::set<emu_graph_node *> reached;
    std::vector<emu_graph_node *> todo = s->frontier;
    while (!todo.empty()) {
        emu_graph_node *n = todo.back();
        todo.pop_back();
        if (reached.insert(n).second) todo.insert(todo.end(), n->after.begin(), n->after.end());
    }
    bool joined = reached.size() == c->graph->nodes.size();
    for (auto *member : c->streams) {
        member->capture = nullptr;
        member->frontier.clear();
    }
    captures.erase(c);
    emu_graph *g = c->graph;
    bool invalid = c->invalid;
    delete c;
    if (entered != cudaSuccess || invalid || !joined) {
        delete g;
        return entered != cudaSuccess ? entered
                                      : emu_return(invalid ? cudaErrorStreamCaptureInvalidated
                                                           : cudaErrorStreamCaptureUnjoined);
    }
    graphs.insert(g);
    *graph = g;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                             enum cudaStreamCaptureStatus *status)
{
    ENTER(EMU_CALL_ANY);
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    REFUSE(!status, cudaErrorInvalidValue);
    *status = !s->capture           ? cudaStreamCaptureStatusNone
              : s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned int)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!graph, cudaErrorInvalidValue);
    *graph = new emu_graph();
    graphs.insert(*graph);
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t entered = emu_enter(__func__, EMU_CALL_ANY);
    if (!graphs.erase(graph))
        return entered != cudaSuccess ? entered : emu_return(cudaErrorInvalidValue);
    delete graph;
    return entered;
}

extern "C" cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!graphs.count(graph) || !count, cudaErrorInvalidValue);
    if (nodes)
        for (size_t i = 0; i < *count; i++)
            nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
    if (!nodes || *count > graph->nodes.size()) *count = graph->nodes.size();
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, enum cudaGraphNodeType *type)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!node || !type, cudaErrorInvalidValue);
    *type = node->type;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                                     unsigned long long)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!exec || !graphs.count(graph), cudaErrorInvalidValue);
    auto *x = new emu_graph_exec();
    for (auto &n : graph->nodes) { /* nodes were added in an order that respects the edges */
        if (n->work) n->work->refs++;
        x->works.push_back(n->work);
    }
    execs.insert(x);
    *exec = x;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                            unsigned long long flags)
{
    return cudaGraphInstantiateWithFlags(exec, graph, flags);
}

extern "C" cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    ENTER(EMU_CALL_ANY);
    REFUSE(!execs.count(exec), cudaErrorInvalidValue);
    REFUSE(!stream_of(stream), cudaErrorInvalidResourceHandle);
    return cudaSuccess;
}

struct GraphWork final : EmuWork {
    emu_graph_exec *exec;
    ~GraphWork() override
    {
        if (--exec->refs == 0) delete exec;
    }
    cudaError_t run() override
    {
        for (auto *w : exec->works) {
            cudaError_t e = w ? w->run() : cudaSuccess;
            if (e != cudaSuccess) return e;
        }
        return cudaSuccess;
    }
};

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    ENTER(EMU_CALL_LAUNCH);
    REFUSE(!execs.count(exec), cudaErrorInvalidValue);
    emu_stream *s = stream_of(stream);
    REFUSE(!s, cudaErrorInvalidResourceHandle);
    auto *w = new GraphWork();
    w->exec = exec;
    exec->refs++;
    for (auto *part : exec->works)
        if (part) w->host.insert(w->host.end(), part->host.begin(), part->host.end());
    return emu_return(enqueue(s, OP_GRAPH, w, nullptr));
}

extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t entered = emu_enter(__func__, EMU_CALL_ANY);
    if (!execs.erase(exec))
        return entered != cudaSuccess ? entered : emu_return(cudaErrorInvalidValue);
    if (--exec->refs == 0) delete exec;
    return entered;
}
