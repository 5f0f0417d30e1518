/* nvtx_trace: a library that records a program's NVTX ranges and, if CUPTI and a driver are
 * present, the work of its GPU. It is for machines without Nsight Systems.
 *
 *     NVTX_INJECTION64_PATH=.../libnvtx_trace.so NVTX_TRACE=FILE program
 *
 * FILE is a Chrome trace (JSON), which ui.perfetto.dev and chrome://tracing open and which
 * tools/gpu/profile_read.py summarises. It has one slice per range on its thread and one slice per
 * kernel, copy and fill on its stream, each with the `path` of the ranges that were open at its
 * launch. Times are microseconds since the library was loaded. A program that is killed leaves a
 * file without its last bracket, which all three accept.
 *
 * CUPTI is opened at run time from NVTX_TRACE_CUPTI, else by its usual name. On a machine without
 * it the trace has only the ranges, and the last event of the file says why. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <nvtx3/nvToolsExt.h>

#if __has_include(<cupti.h>)
#include <cupti.h>
#define HAVE_CUPTI 1
#endif

enum { DEPTH = 64, PATHS = 1024, PATH_LENGTH = 256, GPU_TRACK = 1000000 };

typedef struct Open {
    nvtxDomainHandle_t domain;
    int path; /* index into paths[] */
    uint64_t start;
} Open;

static FILE *out;
static uint64_t began; /* time of loading, ns of the monotonic clock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char paths[PATHS][PATH_LENGTH]; /* "step/forward/layer0"; index 0 means no range */
static int path_count = 1;
static _Thread_local Open stack[DEPTH];
static _Thread_local int depth, lost; /* lost: ranges pushed beyond DEPTH */

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the file ---- */

static void put_string(const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        if ((unsigned char)*text >= 0x20) fputc(*text, out);
    }
    fputc('"', out);
}

/* Writes one slice, or nothing once the file is closed. The caller holds the lock. */
static void put_slice(const char *kind, const char *name, long track, uint64_t start, uint64_t end,
                      const char *path)
{
    if (!out) return;
    fprintf(
        out,
        ",\n{\"ph\":\"X\",\"cat\":\"%s\",\"pid\":1,\"tid\":%ld,\"ts\":%.3f,\"dur\":%.3f,\"name\":",
        kind, track, (double)(start - began) * 1e-3, (double)(end - start) * 1e-3);
    put_string(name);
    fputs(",\"args\":{\"path\":", out);
    put_string(path);
    fputs("}}", out);
}

/* ---- ranges ---- */

/* Returns the index of the path `above`/name, which is added if it is new. A range that does not
 * fit, because there are too many paths or its name is too long, counts as the range around it. */
static int path_of(int above, const char *name)
{
    char text[PATH_LENGTH];
    int length = snprintf(text, sizeof text, "%s%s%s", paths[above], above ? "/" : "", name);
    if (length < 0 || length >= (int)sizeof text) return above;
    for (int i = 1; i < path_count; i++)
        if (!strcmp(paths[i], text)) return i;
    if (path_count == PATHS) return above;
    memcpy(paths[path_count], text, sizeof text);
    return path_count++;
}

static void gpu_push(int path);
static void gpu_pop(void);

static int push(nvtxDomainHandle_t domain, const char *name)
{
    if (depth == DEPTH) return lost++, NVTX_NO_PUSH_POP_TRACKING;
    pthread_mutex_lock(&lock);
    int path = path_of(depth ? stack[depth - 1].path : 0, name);
    pthread_mutex_unlock(&lock);
    gpu_push(path);
    stack[depth] = (Open){domain, path, now()};
    return depth++;
}

static int pop(nvtxDomainHandle_t domain)
{
    if (lost) return lost--, NVTX_NO_PUSH_POP_TRACKING;
    uint64_t end = now();
    int at = depth - 1;
    while (at >= 0 && stack[at].domain != domain) at--;
    if (at < 0) return NVTX_NO_PUSH_POP_TRACKING;
    Open range = stack[at];
    memmove(stack + at, stack + at + 1, (size_t)(depth - at - 1) * sizeof *stack);
    depth--;
    gpu_pop();
    const char *path = paths[range.path], *name = strrchr(path, '/');
    pthread_mutex_lock(&lock);
    put_slice("range", name ? name + 1 : path, syscall(SYS_gettid), range.start, end, path);
    pthread_mutex_unlock(&lock);
    return at;
}

static nvtxDomainHandle_t NVTX_API domain_create(const char *name)
{
    static char handles[256]; /* only the addresses matter: they distinguish the domains */
    static int n;
    (void)name;
    return (nvtxDomainHandle_t)(void *)&handles[__atomic_fetch_add(&n, 1, __ATOMIC_RELAXED) % 256];
}

static const char *message(const nvtxEventAttributes_t *event)
{
    return event->messageType == NVTX_MESSAGE_TYPE_ASCII ? event->message.ascii : "unnamed";
}

static int NVTX_API domain_push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event)
{
    return push(domain, message(event));
}

static int NVTX_API domain_pop(nvtxDomainHandle_t domain) { return pop(domain); }
static int NVTX_API plain_push(const char *name) { return push(NULL, name); }
static int NVTX_API plain_push_ex(const nvtxEventAttributes_t *event)
{
    return push(NULL, message(event));
}
static int NVTX_API plain_pop(void) { return pop(NULL); }

/* ---- the GPU ---- */

#ifdef HAVE_CUPTI
/* Later CUPTI versions append fields to a kernel's record; the fields read here have kept their
 * offsets since this version. */
typedef CUpti_ActivityKernel4 Kernel;

#define CUPTI_CALLS(X)                                                                             \
    X(cuptiActivityRegisterTimestampCallback)                                                      \
    X(cuptiActivityRegisterCallbacks)                                                              \
    X(cuptiActivityEnable)                                                                         \
    X(cuptiActivityGetNextRecord)                                                                  \
    X(cuptiActivityPushExternalCorrelationId)                                                      \
    X(cuptiActivityPopExternalCorrelationId)                                                       \
    X(cuptiActivityFlushAll)

#define DECLARE(name) __typeof__(&name) name;
static struct {
    CUPTI_CALLS(DECLARE)
} cupti;
static int gpu_on;
static uint64_t gpu_records, gpu_unplaced;

/* The path of each launch, by its correlation id; CUPTI delivers the record with the path before
 * that of the kernel. This is a ring buffer: a kernel's record arrives long before its entry is
 * overwritten. */
enum { LAUNCHES = 1 << 16 };
static struct {
    uint32_t id;
    int path;
} launches[LAUNCHES];

static void gpu_push(int path)
{
    if (gpu_on)
        cupti.cuptiActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0,
                                                     (uint64_t)path);
}

static void gpu_pop(void)
{
    uint64_t last;
    if (gpu_on)
        cupti.cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last);
}

static void CUPTIAPI buffer_wanted(uint8_t **buffer, size_t *size, size_t *records)
{
    *size = 1 << 20;
    *buffer = aligned_alloc(8, *size);
    *records = 0;
}

static void put_activity(const char *kind, const char *name, uint32_t stream, uint32_t id,
                         uint64_t start, uint64_t end)
{
    int path = launches[id % LAUNCHES].id == id ? launches[id % LAUNCHES].path : 0;
    gpu_records++;
    gpu_unplaced += !path;
    put_slice(kind, name, GPU_TRACK + (long)stream, start, end, paths[path]);
}

static void put_record(CUpti_Activity *record)
{
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const CUpti_ActivityExternalCorrelation *r = (void *)record;
        launches[r->correlationId % LAUNCHES].id = r->correlationId;
        launches[r->correlationId % LAUNCHES].path =
            r->externalId < (uint64_t)path_count ? (int)r->externalId : 0;
        break;
    }
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const Kernel *r = (void *)record;
        put_activity("kernel", r->name ? r->name : "kernel", r->streamId, r->correlationId,
                     r->start, r->end);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const CUpti_ActivityMemcpy5 *r = (void *)record;
        put_activity("copy", "copy", r->streamId, r->correlationId, r->start, r->end);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const CUpti_ActivityMemset4 *r = (void *)record;
        put_activity("fill", "fill", r->streamId, r->correlationId, r->start, r->end);
        break;
    }
    default: break;
    }
}

static void CUPTIAPI buffer_done(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                                 size_t valid)
{
    (void)context, (void)stream, (void)size;
    CUpti_Activity *record = NULL;
    pthread_mutex_lock(&lock);
    while (cupti.cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS)
        put_record(record);
    pthread_mutex_unlock(&lock);
    free(buffer);
}

/* Returns NULL if the GPU is recorded, else the reason why not. */
static const char *gpu_begin(void)
{
    /* Runtime calls are recorded because CUPTI reports external ids only with them. */
    static const CUpti_ActivityKind kinds[] = {
        CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_RUNTIME,
        CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
        CUPTI_ACTIVITY_KIND_MEMSET};
    const char *named = getenv("NVTX_TRACE_CUPTI");
    void *library = dlopen(named ? named : "libcupti.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library && !named) library = dlopen("libcupti.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) return "CUPTI was not found";
#define RESOLVE(name)                                                                              \
    if (!(cupti.name = (__typeof__(cupti.name))dlsym(library, #name)))                             \
        return "CUPTI "                                                                            \
               "lacks " #name;
    CUPTI_CALLS(RESOLVE)
    CUptiResult fault = cupti.cuptiActivityRegisterTimestampCallback(now);
    if (!fault) fault = cupti.cuptiActivityRegisterCallbacks(buffer_wanted, buffer_done);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !fault; i++)
        fault = cupti.cuptiActivityEnable(kinds[i]);
    if (fault) return "CUPTI cannot record: there is no driver, or another profiler uses it";
    gpu_on = 1;
    return NULL;
}

static void gpu_end(void)
{
    if (gpu_on) cupti.cuptiActivityFlushAll(1);
}
#else
static const uint64_t gpu_records = 0, gpu_unplaced = 0;
static void gpu_push(int path) { (void)path; }
static void gpu_pop(void) {}
static const char *gpu_begin(void) { return "built without CUPTI"; }
static void gpu_end(void) {}
#endif

/* ---- beginning and end ---- */

static const char *no_gpu;

static void finish(void)
{
    gpu_end();
    pthread_mutex_lock(&lock);
    fprintf(out, ",\n{\"ph\":\"M\",\"pid\":1,\"name\":\"gpu\",\"args\":{\"note\":");
    put_string(no_gpu ? no_gpu : "recorded by CUPTI");
    fprintf(out, ",\"records\":%llu,\"outside_ranges\":%llu}}\n]\n",
            (unsigned long long)gpu_records, (unsigned long long)gpu_unplaced);
    fclose(out);
    out = NULL;
    pthread_mutex_unlock(&lock);
}

/* Enters a function into NVTX's callback table. */
static void hook(const NvtxExportTableCallbacks *callbacks, NvtxCallbackModule module, unsigned id,
                 NvtxFunctionPointer function)
{
    NvtxFunctionTable table;
    unsigned size = 0;
    if (callbacks->GetModuleFunctionTable(module, &table, &size) && id < size)
        *table[id] = function;
}

__attribute__((visibility("default"))) int NVTX_API
InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
    const char *path = getenv("NVTX_TRACE");
    const NvtxExportTableCallbacks *callbacks =
        (const NvtxExportTableCallbacks *)get_table(NVTX_ETID_CALLBACKS);
    if (!path || !callbacks) return 0;
    if (!(out = fopen(path, "w"))) return perror(path), 0;
    began = now();
    fputs("[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"plstm\"}}",
          out);
    no_gpu = gpu_begin();
    hook(callbacks, NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainCreateA,
         (NvtxFunctionPointer)domain_create);
    hook(callbacks, NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainRangePushEx,
         (NvtxFunctionPointer)domain_push);
    hook(callbacks, NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainRangePop,
         (NvtxFunctionPointer)domain_pop);
    hook(callbacks, NVTX_CB_MODULE_CORE, NVTX_CBID_CORE_RangePushA,
         (NvtxFunctionPointer)plain_push);
    hook(callbacks, NVTX_CB_MODULE_CORE, NVTX_CBID_CORE_RangePushEx,
         (NvtxFunctionPointer)plain_push_ex);
    hook(callbacks, NVTX_CB_MODULE_CORE, NVTX_CBID_CORE_RangePop, (NvtxFunctionPointer)plain_pop);
    atexit(finish);
    return 1;
}
