#include "machine.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "number.h"

static FILE *open_under(const char *root, const char *path)
{
    char full[3 * PATH_MAX];
    snprintf(full, sizeof full, "%s%s", root, path);
    return fopen(full, "re");
}

/* ---- where the process's control group is mounted ---- */

typedef struct Group {
    char mount[PATH_MAX]; /* where the hierarchy is mounted */
    char path[PATH_MAX];  /* of the group below the mount: "" or "/a/b" */
    bool v2;
} Group;

/* Returns whether a comma-separated list holds a word. */
static bool holds(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, ",");
        if (length == n && !memcmp(at, word, n)) return true;
        at += length + (at[length] == ',');
    }
    return false;
}

/* Finds the process's path in the hierarchy of a v1 controller, or of v2 (controller NULL). */
static bool group_path(const char *root, const char *controller, char path[PATH_MAX])
{
    char line[2 * PATH_MAX];
    bool found = false;
    FILE *f = open_under(root, "/proc/self/cgroup");
    while (f && !found && fgets(line, sizeof line, f)) { /* number:controllers:path */
        char *names = strchr(line, ':'), *at = names ? strchr(names + 1, ':') : NULL;
        if (!at) continue;
        *at++ = 0;
        names++;
        at[strcspn(at, "\n")] = 0;
        found = controller ? holds(names, controller) : !names[0];
        if (found) snprintf(path, PATH_MAX, "%.*s", PATH_MAX - 1, at);
    }
    if (f) fclose(f);
    return found;
}

/* Finds where that hierarchy is mounted, and which part of it the mount shows: a container may see
 * its own group as the root. */
static bool group_mount(const char *root, const char *controller, char mount[PATH_MAX],
                        char part[PATH_MAX])
{
    char line[4 * PATH_MAX], options[512], type[64];
    bool found = false;
    FILE *f = open_under(root, "/proc/self/mountinfo");
    while (f && !found && fgets(line, sizeof line, f)) {
        /* id parent device root mount options ... - type source super-options */
        char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", part, mount) != 2 ||
            sscanf(rest, " - %63s %*s %511s", type, options) != 2)
            continue;
        found = controller ? !strcmp(type, "cgroup") && holds(options, controller)
                           : !strcmp(type, "cgroup2");
    }
    if (f) fclose(f);
    return found;
}

/* Finds the group for a controller ("memory", "cpu"): v1's if the controller has a hierarchy of its
 * own, else v2's. */
static bool group_find(const char *root, const char *controller, Group *g)
{
    char part[PATH_MAX];
    g->v2 =
        !(group_path(root, controller, g->path) && group_mount(root, controller, g->mount, part));
    if (g->v2 && !(group_path(root, NULL, g->path) && group_mount(root, NULL, g->mount, part)))
        return false;
    /* The mount shows the hierarchy from `part` down; a path outside it comes from another
     * namespace. */
    size_t n = strcmp(part, "/") ? strlen(part) : 0;
    if (!strncmp(g->path, part, n) && (g->path[n] == '/' || !g->path[n]))
        memmove(g->path, g->path + n, strlen(g->path + n) + 1);
    else g->path[0] = 0;
    if (!strcmp(g->path, "/")) g->path[0] = 0;
    return true;
}

/* Moves from the process's group to the one above it. Returns false after the topmost one. */
static bool group_up(Group *g)
{
    char *slash = strrchr(g->path, '/');
    if (!slash) return false;
    *slash = 0;
    return true;
}

static FILE *group_open(const char *root, const Group *g, const char *file)
{
    char path[2 * PATH_MAX + 64];
    snprintf(path, sizeof path, "%s%s/%s", g->mount, g->path, file);
    return open_under(root, path);
}

/* Reads a number from a group's file. Returns -1 if there is no such file or it contains "max". */
static long long group_number(const char *root, const Group *g, const char *file)
{
    long long n = -1;
    FILE *f = group_open(root, g, file);
    if (f && fscanf(f, "%lld", &n) != 1) n = -1;
    if (f) fclose(f);
    return n;
}

/* Sums the lines of memory.stat for file pages, which the kernel reclaims before it kills a
 * process. */
static long long group_cache(const char *root, const Group *g)
{
    char key[64];
    long long n, sum = 0;
    const char *prefix = g->v2 ? "" : "total_";
    char active[32], inactive[32];
    snprintf(active, sizeof active, "%sactive_file", prefix);
    snprintf(inactive, sizeof inactive, "%sinactive_file", prefix);
    FILE *f = group_open(root, g, "memory.stat");
    while (f && fscanf(f, "%63s %lld", key, &n) == 2)
        if (!strcmp(key, active) || !strcmp(key, inactive)) sum += n;
    if (f) fclose(f);
    return sum;
}

/* ---- memory ---- */

static size_t machine_left(const char *root)
{
    char line[256];
    unsigned long long kib;
    size_t bytes = SIZE_MAX;
    FILE *f = open_under(root, "/proc/meminfo");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) bytes = (size_t)kib * 1024;
    if (f) fclose(f);
    return bytes;
}

size_t machine_memory_of(const char *root)
{
    size_t left = machine_left(root);
    Group g;
    bool more = group_find(root, "memory", &g);
    for (; more; more = group_up(&g)) {
        long long limit = group_number(root, &g, g.v2 ? "memory.max" : "memory.limit_in_bytes"),
                  used = group_number(root, &g, g.v2 ? "memory.current" : "memory.usage_in_bytes");
        /* A group of v1 without a limit has one near LLONG_MAX. */
        if (limit < 0 || limit >= LLONG_MAX / 2) continue;
        used -= group_cache(root, &g);
        long long room = limit - (used > 0 ? used : 0);
        if (room < 0) room = 0;
        if ((unsigned long long)room < left) left = (size_t)room;
    }
    return left;
}

/* Returns the bytes of address space that `ulimit -v` still allows, or SIZE_MAX. */
static size_t address_space_left(void)
{
    struct rlimit limit;
    unsigned long long pages = 0;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu", &pages) != 1) pages = 0;
    if (f) fclose(f);
    unsigned long long used = pages * (unsigned long long)sysconf(_SC_PAGESIZE);
    return limit.rlim_cur > used ? (size_t)(limit.rlim_cur - used) : 0;
}

size_t machine_memory(void)
{
    size_t machine = machine_memory_of(""), process = address_space_left();
    return machine < process ? machine : process;
}

int machine_fits(size_t bytes, Error *e)
{
    char needed[32], there[32];
    size_t left = machine_memory();
    return bytes <= left ? EXIT_DONE
                         : error_set(e, EXIT_NO_DEVICE,
                                     "this needs %s of memory, but the machine, its container or "
                                     "ulimit leave %s to this process; a smaller --hidden, --batch "
                                     "or --seq needs less",
                                     bytes_text(bytes, needed, sizeof needed),
                                     bytes_text(left, there, sizeof there));
}

/* ---- CPUs ---- */

int machine_quota_of(const char *root)
{
    long long cpus = LLONG_MAX;
    Group g;
    bool more = group_find(root, "cpu", &g);
    for (; more; more = group_up(&g)) {
        long long quota = -1, period = -1;
        if (g.v2) {
            FILE *f = group_open(root, &g, "cpu.max");
            if (f && fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1; /* "max 100000" */
            if (f) fclose(f);
        } else {
            quota = group_number(root, &g, "cpu.cfs_quota_us");
            period = group_number(root, &g, "cpu.cfs_period_us");
        }
        if (quota <= 0 || period <= 0) continue;
        long long n = (quota + period - 1) / period;
        if (n < cpus) cpus = n;
    }
    return cpus < INT_MAX ? (int)cpus : 0;
}

int machine_cpus(void)
{
    cpu_set_t set;
    int cores = 1, quota = machine_quota_of("");
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
    return quota > 0 && quota < cores ? quota : cores;
}
