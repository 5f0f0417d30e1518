#include "backend.h"

#include <sched.h>
#include <stdio.h>

BackendConfig backend_config(const Settings *s, const ModelShape *shape, bool train)
{
    return (BackendConfig){.shape = *shape,
                           .T = s->seq,
                           .B = s->batch,
                           .train = train,
                           .keep = s->keep,
                           .sites = s->sites,
                           .seed = s->seed,
                           .threads = s->threads > 0 ? (int)s->threads : backend_threads(),
                           .kernel = s->kernel,
                           .precision = s->precision};
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
