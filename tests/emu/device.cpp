/* The device profiles: their facts, the occupancy of their SMs, and the launches that they refuse.
 *
 * Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; the
 * occupancy rules are those of NVIDIA's occupancy calculator. Clocks are boost clocks of the SXM
 * boards.
 */
#include <stdio.h>
#include <string.h>

#include <unordered_map>

#include "core.h"

struct Facts {
    const char *key, *name;
    int major, minor, sms, clock_khz, memory_clock_khz, bus_bits;
    size_t memory_mb, l2_bytes, persisting_l2, shared_per_sm, shared_optin, shared_reserved;
    int blocks_per_sm, shared_unit;
};

static const Facts facts[] = {
    {"K20", "Tesla K20c", 3, 5, 13, 705500, 2600000, 320, 4743, 1310720, 0, 49152, 49152, 0, 16,
     256},
    {"K40", "Tesla K40m", 3, 5, 15, 745000, 3004000, 384, 11441, 1572864, 0, 49152, 49152, 0, 16,
     256},
    {"V100", "Tesla V100-SXM2-16GB", 7, 0, 80, 1530000, 877000, 4096, 16160, 6291456, 0, 98304,
     98304, 0, 32, 256},
    {"A100", "NVIDIA A100-SXM4-40GB", 8, 0, 108, 1410000, 1215000, 5120, 40442, 41943040, 31457280,
     167936, 166912, 1024, 32, 128},
    {"H100", "NVIDIA H100 80GB HBM3", 9, 0, 132, 1980000, 2619000, 5120, 81090, 52428800, 32768000,
     233472, 232448, 1024, 32, 128},
    {"H200", "NVIDIA H200", 9, 0, 132, 1980000, 3201000, 6144, 143167, 62914560, 39321600, 233472,
     232448, 1024, 32, 128},
    /* Not verified: the name, memory, clocks, bus width and the part of L2 that can be set
     * aside. */
    {"B200", "NVIDIA B200", 10, 0, 148, 1965000, 3996000, 8192, 182642, 132120576, 82575360, 233472,
     232448, 1024, 32, 128},
};
enum { PROFILES = sizeof facts / sizeof facts[0] };

/* SMs of each GPC; a cluster is within one GPC. With this layout 66, 30, 15 and 7 clusters of 2, 4,
 * 8 and 16 blocks fit at one block per SM. Real boards differ. The B200's layout is not
 * verified. */
static const struct {
    const char *key;
    int sms[8];
} gpcs[] = {
    {"H100", {18, 18, 18, 18, 18, 18, 16, 8}},
    {"H200", {18, 18, 18, 18, 18, 18, 16, 8}},
    {"B200", {20, 20, 18, 18, 18, 18, 18, 18}},
};

static DeviceProfile profile_make(const Facts &f)
{
    DeviceProfile d = {};
    d.key = f.key;
    d.clock_khz = f.clock_khz;
    d.memory_clock_khz = f.memory_clock_khz;
    d.shared_unit = f.shared_unit;
    d.register_unit = 256;
    d.warp_unit = 4;
    d.max_registers = 255;
    for (const auto &g : gpcs)
        if (strcmp(g.key, f.key) == 0) memcpy(d.gpc_sms, g.sms, sizeof d.gpc_sms);
    cudaDeviceProp &p = d.prop;
    snprintf(p.name, sizeof p.name, "%s", f.name);
    p.totalGlobalMem = f.memory_mb << 20;
    p.sharedMemPerBlock = 49152;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.memPitch = 2147483647;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = 2147483647;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.totalConstMem = 65536;
    p.major = f.major;
    p.minor = f.minor;
    p.textureAlignment = 512;
    p.multiProcessorCount = f.sms;
    p.canMapHostMemory = 1;
    p.concurrentKernels = 1;
    p.ECCEnabled = 1;
    p.pciBusID = 1;
    p.asyncEngineCount = f.major >= 7 ? 3 : 2;
    p.unifiedAddressing = 1;
    p.memoryBusWidth = f.bus_bits;
    p.l2CacheSize = (int)f.l2_bytes;
    p.persistingL2CacheMaxSize = (int)f.persisting_l2;
    p.maxThreadsPerMultiProcessor = 2048;
    p.streamPrioritiesSupported = 1;
    p.globalL1CacheSupported = p.localL1CacheSupported = 1;
    p.sharedMemPerMultiprocessor = f.shared_per_sm;
    p.managedMemory = 1;
    p.computePreemptionSupported = f.major >= 6;
    p.cooperativeLaunch = f.major >= 6;
    p.sharedMemPerBlockOptin = f.shared_optin;
    p.maxBlocksPerMultiProcessor = f.blocks_per_sm;
    p.accessPolicyMaxWindowSize = f.major >= 8 ? 134213632 : 0;
    p.reservedSharedMemPerBlock = f.shared_reserved;
    p.hostRegisterSupported = 1;
    p.memoryPoolsSupported = f.major >= 6;
    p.clusterLaunch = f.major >= 9;
    return d;
}

static DeviceProfile current = profile_make(facts[5]); /* H200 */
const DeviceProfile *emu_device = &current;

extern "C" void emu_gpc_sms(int sms)
{
    for (int &gpc : current.gpc_sms) gpc = sms;
}

extern "C" const char *emu_device_name(int i)
{
    return i >= 0 && i < PROFILES ? facts[i].key : nullptr;
}

bool device_set(const char *name)
{
    for (const auto &f : facts)
        if (strcasecmp(f.key, name) == 0) {
            current = profile_make(f);
            return true;
        }
    return false;
}

/* ---- kernels ---- */

static std::unordered_map<const void *, KernelInfo> kernels;

KernelInfo *device_kernel(const void *kernel) { return &kernels[kernel]; }
void device_forget_kernels()
{
    for (auto &k : kernels) { /* ptxas's numbers stay valid, but the program's settings are lost */
        k.second.max_dynamic = -1;
        k.second.non_portable_cluster = false;
    }
}

extern "C" void emu_set_registers(const void *kernel, int registers)
{
    kernels[kernel].registers = registers;
}
extern "C" void emu_set_static_shared(const void *kernel, size_t bytes)
{
    kernels[kernel].static_shared = bytes;
}

static int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

int device_registers(const KernelInfo *k, unsigned threads)
{
    if (k->registers > 0) return k->registers;
    /* If unknown, assume that the kernel was compiled for the block size of the launch. */
    int room =
        emu_device->prop.regsPerBlock / (int)(threads ? (threads + 31) / 32 * 32 : 32) / 8 * 8;
    return room < 64 ? room : 64;
}

/* Returns how many blocks of one kernel an SM holds at once: the least of four limits. */
int device_occupancy(const KernelInfo *k, unsigned threads, size_t dynamic)
{
    const cudaDeviceProp &p = emu_device->prop;
    if (threads == 0 || threads > (unsigned)p.maxThreadsPerBlock) return 0;
    int warps = (int)(threads + 31) / 32;
    int by_warps = p.maxThreadsPerMultiProcessor / 32 / warps;
    int registers = device_registers(k, threads), by_registers = 1 << 20;
    if (registers > emu_device->max_registers) return 0;
    int per_warp = round_up(registers * 32, emu_device->register_unit);
    int warps_held =
        p.regsPerMultiprocessor / per_warp / emu_device->warp_unit * emu_device->warp_unit;
    by_registers = warps_held / warps;
    size_t shared = k->static_shared + dynamic + p.reservedSharedMemPerBlock;
    if (k->static_shared + dynamic > p.sharedMemPerBlockOptin) return 0;
    shared = (shared + (size_t)emu_device->shared_unit - 1) / (size_t)emu_device->shared_unit *
             (size_t)emu_device->shared_unit;
    int by_shared = shared ? (int)(p.sharedMemPerMultiprocessor / shared) : 1 << 20;
    int blocks = by_warps;
    for (int other : {by_registers, by_shared, p.maxBlocksPerMultiProcessor})
        if (other < blocks) blocks = other;
    return blocks;
}

/* Returns how many clusters of `size` blocks are resident on the device at once. */
int device_clusters(const KernelInfo *k, unsigned threads, size_t dynamic, unsigned size)
{
    int per_sm = device_occupancy(k, threads, dynamic), clusters = 0;
    for (int sms : emu_device->gpc_sms) clusters += sms * per_sm / (int)size;
    return clusters;
}

cudaError_t device_cluster(const cudaLaunchConfig_t *c, const void *kernel, unsigned *cluster,
                           std::string *why)
{
    char s[256] = "";
    cudaError_t error = cudaSuccess;
    *cluster = 0;
    for (unsigned i = 0; i < c->numAttrs; i++) {
        const auto &d = c->attrs[i].val.clusterDim;
        if (c->attrs[i].id != cudaLaunchAttributeClusterDimension) continue;
        *cluster = d.x;
        if (!emu_device->prop.clusterLaunch) {
            snprintf(s, sizeof s, "the device has no clusters");
            error = cudaErrorNotSupported;
        } else if (d.y != 1 || d.z != 1) {
            snprintf(s, sizeof s, "clusters along y or z are not emulated");
            error = cudaErrorNotSupported;
        } else if (d.x == 0 || d.x > 16) {
            snprintf(s, sizeof s, "a cluster of %u blocks; 16 are the most", d.x);
            error = cudaErrorInvalidClusterSize;
        } else if (d.x > 8 && !device_kernel(kernel)->non_portable_cluster) {
            snprintf(s, sizeof s,
                     "a cluster of %u blocks; more than 8 need "
                     "cudaFuncAttributeNonPortableClusterSizeAllowed",
                     d.x);
            error = cudaErrorInvalidClusterSize;
        } else if (c->gridDim.x % d.x != 0) {
            snprintf(s, sizeof s, "clusters of %u blocks do not divide a grid of %u", d.x,
                     c->gridDim.x);
            error = cudaErrorInvalidClusterSize;
        }
    }
    *why = s;
    return error;
}

cudaError_t device_check_launch(const cudaLaunchConfig_t *c, const void *kernel, bool *cooperative,
                                unsigned *cluster, int *resident, std::string *why)
{
    const cudaDeviceProp &p = emu_device->prop;
    const KernelInfo *k = device_kernel(kernel);
    const dim3 &g = c->gridDim, &b = c->blockDim;
    char s[256] = "";
    auto refuse = [&](cudaError_t error) {
        *why = s;
        return error;
    };
    *cooperative = false;
    for (unsigned i = 0; i < c->numAttrs; i++) {
        const cudaLaunchAttribute &a = c->attrs[i];
        if (a.id == cudaLaunchAttributeCooperative) *cooperative = a.val.cooperative != 0;
    }
    size_t threads = (size_t)b.x * b.y * b.z, blocks = (size_t)g.x * g.y * g.z;
    if (threads == 0 || blocks == 0 || b.x > (unsigned)p.maxThreadsDim[0] ||
        b.y > (unsigned)p.maxThreadsDim[1] || b.z > (unsigned)p.maxThreadsDim[2] ||
        threads > (size_t)p.maxThreadsPerBlock || g.x > (unsigned)p.maxGridSize[0] ||
        g.y > (unsigned)p.maxGridSize[1] || g.z > (unsigned)p.maxGridSize[2]) {
        snprintf(s, sizeof s, "grid (%u,%u,%u) block (%u,%u,%u) is outside the device's limits",
                 g.x, g.y, g.z, b.x, b.y, b.z);
        return refuse(cudaErrorInvalidConfiguration);
    }
    size_t shared_limit =
        k->max_dynamic >= 0 ? (size_t)k->max_dynamic : p.sharedMemPerBlock - k->static_shared;
    if (c->dynamicSmemBytes > shared_limit ||
        c->dynamicSmemBytes + k->static_shared > p.sharedMemPerBlockOptin) {
        snprintf(s, sizeof s,
                 "%zu bytes of dynamic and %zu of static shared memory; the kernel may use %zu "
                 "(raise it with "
                 "cudaFuncSetAttribute up to %zu)",
                 c->dynamicSmemBytes, k->static_shared, shared_limit, p.sharedMemPerBlockOptin);
        return refuse(cudaErrorInvalidValue);
    }
    int registers = device_registers(k, (unsigned)threads);
    int warps = (int)(threads + 31) / 32;
    if (registers > emu_device->max_registers ||
        round_up(registers * 32, emu_device->register_unit) *
                round_up(warps, emu_device->warp_unit) >
            p.regsPerBlock) {
        snprintf(s, sizeof s, "%d registers for each of %zu threads do not fit %d per block",
                 registers, threads, p.regsPerBlock);
        return refuse(cudaErrorLaunchOutOfResources);
    }
    cudaError_t e = device_cluster(c, kernel, cluster, why);
    if (e != cudaSuccess) return e;
    if (*cooperative && !p.cooperativeLaunch) {
        snprintf(s, sizeof s, "the device has no cooperative launch");
        return refuse(cudaErrorNotSupported);
    }
    int per_sm = device_occupancy(k, (unsigned)threads, c->dynamicSmemBytes);
    *resident = per_sm * p.multiProcessorCount;
    if (*resident == 0) {
        snprintf(s, sizeof s, "no SM can hold a block");
        return refuse(cudaErrorLaunchOutOfResources);
    }
    if (*cluster > 1) {
        *resident =
            device_clusters(k, (unsigned)threads, c->dynamicSmemBytes, *cluster) * (int)*cluster;
        if (*resident == 0) {
            snprintf(s, sizeof s, "no GPC can hold a cluster of %u such blocks", *cluster);
            return refuse(cudaErrorInvalidClusterSize);
        }
    }
    if (*cooperative && blocks > (size_t)*resident) {
        snprintf(s, sizeof s, "%zu blocks in a cooperative launch, the device holds %d", blocks,
                 *resident);
        return refuse(cudaErrorCooperativeLaunchTooLarge);
    }
    if ((blocks + 1) * threads > 0xffffffffu) {
        snprintf(s, sizeof s, "more than 2^32 threads in one launch are not emulated");
        return refuse(cudaErrorNotSupported);
    }
    return cudaSuccess;
}
