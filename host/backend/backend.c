#include "backend.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "backend_cpu.h"
#ifdef PLSTM_CUDA
#include "backend_cuda.h"
#endif
#include "backend_reference.h"

const BackendOps *const backends[] = {
#ifdef PLSTM_CUDA
    &backend_cuda,
#endif
    &backend_cpu,
    &backend_reference,
    NULL,
};

int backend_find(const char *name, const BackendOps **ops, Error *e)
{
    bool any = !strcmp(name, "auto");
    for (int i = 0; backends[i]; i++) {
        const BackendOps *b = backends[i];
        if (any ? b->by_name_only : strcmp(b->name, name) != 0) continue;
        int code = b->usable ? b->usable(e) : EXIT_DONE;
        if (code && !any) return code;
        if (code) continue;
        *ops = b;
        e->code = EXIT_DONE; /* what kept `auto` from another is no fault */
        return EXIT_DONE;
    }
    if (!strcmp(name, "cuda"))
        return error_set(e, EXIT_NO_DEVICE,
                         "this build of plstm has no cuda backend; --backend cpu runs everywhere");
    return error_set(e, EXIT_USAGE, "--backend takes auto, cpu, cuda or reference, not '%s'", name);
}

/* CPUs' worth of time that a cgroup (v2, or v1's cpu controller) grants, rounded up; 0: no limit found. */
static int cgroup_quota(void)
{
    long long quota = -1, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        if (fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1; /* "max 100000": no limit */
        fclose(f);
    } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(f, "%lld", &quota) != 1) quota = -1;
        fclose(f);
        if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(f, "%lld", &period) != 1) period = 0;
            fclose(f);
        }
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int backend_threads(void)
{
    cpu_set_t set;
    int cores = 1, quota = cgroup_quota();
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
    return quota > 0 && quota < cores ? quota : cores;
}
