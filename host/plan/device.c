#include "device.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cluster.h"

/* ---- profiles ---- */

#define MIB(n) ((size_t)(n) << 20)

/* Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". Clocks
 * are boost clocks of the SXM boards (K20, K40: base clocks, which these boards sustain). For the
 * B200 only the limits of its compute capability are verified. */
static const struct Profile {
    const char *name;
    DeviceFacts facts;
} profiles[] = {
#define PROFILE(key, major_, minor_, sms_, clock, memory_clock, bits, memory_, l2_, shared_sm,     \
                shared_most, reserved, blocks, cooperative_, clusters_)                            \
    {                                                                                              \
        key,                                                                                       \
        {                                                                                          \
            .name = key, .index = -1, .major = major_, .minor = minor_, .sms = sms_,               \
            .memory = memory_, .l2 = l2_, .shared_per_block = 49152,                               \
            .shared_per_block_most = shared_most, .shared_per_sm = shared_sm,                      \
            .shared_reserved = reserved, .registers_per_sm = 65536, .threads_per_sm = 2048,        \
            .blocks_per_sm = blocks, .clock_mhz = clock, .memory_clock_mhz = memory_clock,         \
            .memory_bus_bits = bits, .cooperative = cooperative_, .clusters = clusters_,           \
            .ecc = true                                                                            \
        }                                                                                          \
    }
    PROFILE("K20", 3, 5, 13, 705, 2600, 320, MIB(4743), 1310720, 49152, 49152, 0, 16, false, false),
    PROFILE("K40", 3, 5, 15, 745, 3004, 384, MIB(11441), 1572864, 49152, 49152, 0, 16, false,
            false),
    PROFILE("V100", 7, 0, 80, 1530, 877, 4096, MIB(16160), 6291456, 98304, 98304, 0, 32, true,
            false),
    PROFILE("A100", 8, 0, 108, 1410, 1215, 5120, MIB(40442), 41943040, 167936, 166912, 1024, 32,
            true, false),
    PROFILE("H100", 9, 0, 132, 1980, 2619, 5120, MIB(81090), 52428800, 233472, 232448, 1024, 32,
            true, true),
    PROFILE("H200", 9, 0, 132, 1980, 3201, 6144, MIB(143167), 62914560, 233472, 232448, 1024, 32,
            true, true),
    PROFILE("B200", 10, 0, 148, 1965, 3996, 8192, MIB(182642), 132120576, 233472, 232448, 1024, 32,
            true, true),
#undef PROFILE
};
enum { PROFILES = sizeof profiles / sizeof profiles[0] };

const char *device_profile_name(int i) { return i >= 0 && i < PROFILES ? profiles[i].name : NULL; }

const DeviceFacts *device_profile(const char *name)
{
    for (int i = 0; i < PROFILES; i++)
        if (!strcmp(profiles[i].name, name)) return &profiles[i].facts;
    return NULL;
}

const char *device_like(const DeviceFacts *device)
{
    int like = 0;
    for (int i = 0; i < PROFILES; i++)
        if (strstr(device->name, profiles[i].name)) return profiles[i].name;
    for (int i = 1; i < PROFILES; i++) {
        const DeviceFacts *f = &profiles[i].facts;
        if (10 * f->major + f->minor <= 10 * device->major + device->minor) like = i;
    }
    return profiles[like].name;
}

/* ---- clusters ---- */

/* The SMs of each GPC, of the devices for which they are known. They are not measured: for both
 * devices they are derived from the published numbers of clusters (66, 30, 15 and 7 clusters of 2,
 * 4, 8 and 16 blocks). */
static const struct {
    const char *name;
    int sms[8];
} gpcs[] = {
    {"H100", {18, 18, 18, 18, 18, 18, 16, 8}},
    {"H200", {18, 18, 18, 18, 18, 18, 16, 8}},
};

int device_clusters(const DeviceFacts *device, int size)
{
    int n = 0;
    if (size == 1) return device->sms;
    if (!device->clusters || size < 1 || size > CLUSTER_BLOCKS) return 0;
    for (size_t i = 0; i < sizeof gpcs / sizeof gpcs[0]; i++) {
        if (strcmp(gpcs[i].name, device_like(device)) != 0) continue;
        for (int g = 0; g < 8; g++) n += gpcs[i].sms[g] / size;
        /* Other boards of that name and parts of one (MIG) have fewer SMs. */
        return n < device->sms / size ? n : device->sms / size;
    }
    return device->sms / CLUSTER_BLOCKS * (CLUSTER_BLOCKS / size);
}

#ifdef PLSTM_CUDA

#include "cuda_check.h"

bool device_built(void) { return true; }

/* ---- facts ---- */

int device_count(int *n, Error *e)
{
    *n = 0;
    cudaError_t status = cudaGetDeviceCount(n);
    if (status == cudaSuccess && *n == 0) status = cudaErrorNoDevice;
    if (status == cudaErrorInsufficientDriver)
        return error_set(
            e, EXIT_NO_DEVICE,
            "no GPU can be used: there is no NVIDIA driver, or one too old for CUDA %d.%d (%s); "
            "--backend cpu "
            "runs everywhere",
            CUDART_VERSION / 1000, CUDART_VERSION / 10 % 100, cudaGetErrorName(status));
    if (status == cudaErrorNoDevice)
        return error_set(e, EXIT_NO_DEVICE,
                         "no GPU can be used: the driver finds none (%s; CUDA_VISIBLE_DEVICES may "
                         "hide it); --backend cpu "
                         "runs everywhere",
                         cudaGetErrorName(status));
    CUDA_TRY(status);
    return EXIT_DONE;
}

int device_facts(int index, DeviceFacts *f, Error *e)
{
    struct cudaDeviceProp p;
    int clock_khz = 0, memory_khz = 0;
    *f = (DeviceFacts){.index = index};
    CUDA_TRY(cudaGetDeviceProperties(&p, index));
    CUDA_TRY(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, index));
    CUDA_TRY(cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, index));
    CUDA_TRY(cudaDriverGetVersion(&f->driver));
    CUDA_TRY(cudaRuntimeGetVersion(&f->runtime));
#ifdef CUDA_EMU
    snprintf(f->name, sizeof f->name, "emulated %.80s", p.name);
#else
    snprintf(f->name, sizeof f->name, "%.90s", p.name);
#endif
    f->major = p.major, f->minor = p.minor, f->sms = p.multiProcessorCount;
    f->memory = p.totalGlobalMem, f->l2 = (size_t)p.l2CacheSize;
    f->shared_per_block = p.sharedMemPerBlock, f->shared_per_block_most = p.sharedMemPerBlockOptin;
    f->shared_per_sm = p.sharedMemPerMultiprocessor,
    f->shared_reserved = p.reservedSharedMemPerBlock;
    f->registers_per_sm = p.regsPerMultiprocessor,
    f->threads_per_sm = p.maxThreadsPerMultiProcessor;
    f->blocks_per_sm = p.maxBlocksPerMultiProcessor;
    f->clock_mhz = clock_khz / 1000, f->memory_clock_mhz = memory_khz / 1000,
    f->memory_bus_bits = p.memoryBusWidth;
    f->cooperative = p.cooperativeLaunch, f->ecc = p.ECCEnabled;
#if CUDART_VERSION >= 12000
    f->clusters = p.clusterLaunch;
#endif
    return EXIT_DONE;
}

#else

bool device_built(void) { return false; }

int device_count(int *n, Error *e)
{
    *n = 0;
    return error_set(
        e, EXIT_NO_DEVICE,
        "this build of plstm has no cuda backend and so sees no GPU; make with nvcc on "
        "PATH, or NVCC=..., adds it");
}

int device_facts(int index, DeviceFacts *facts, Error *e)
{
    *facts = (DeviceFacts){.index = index};
    return device_count(&index, e);
}

#endif
