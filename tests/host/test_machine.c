/* Tests the limits of containers, which are read from files in the kernel's formats for /proc and
 * /sys, here in the test's own folder; and that signals inherited as ignored stay ignored. */
#include "tests/support/program.h"

#include "host/base/machine.h"
#include "host/base/signals.h"

/* Writes a file and its parent folders in the test's folder. */
static void put(const char *path, const char *text)
{
    char full[2 * PATH_MAX];
    snprintf(full, sizeof full, "%s%s", folder, path);
    for (char *slash = full + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(full, 0700);
        *slash = '/';
    }
    file_write(full, text);
}

static void afresh(void)
{
    char command[PATH_MAX + 32];
    snprintf(command, sizeof command, "rm -rf '%s'/*", folder);
    assert_int_equal(system(command), 0);
    put("/proc/meminfo",
        "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n");
}

enum { KIB = 1024, MIB = 1024 * 1024 };

static void without_groups_the_machine_decides(void **state)
{
    (void)state;
    afresh();
    assert_int_equal(machine_memory_of(folder), (size_t)8000000 * KIB);
    assert_int_equal(machine_quota_of(folder), 0);
    char command[PATH_MAX + 32];
    snprintf(command, sizeof command, "rm -rf '%s'/*", folder);
    assert_int_equal(system(command), 0);
    assert_true(machine_memory_of(folder) == SIZE_MAX);
    assert_true(machine_cpus() >= 1 && machine_memory() > 0);
}

static void version_two(void **state)
{
    (void)state;
    afresh();
    put("/proc/self/cgroup", "0::/user.slice/job\n");
    put("/proc/self/mountinfo",
        "24 30 0:22 / /proc rw,nosuid - proc proc rw\n"
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    put("/sys/fs/cgroup/user.slice/job/memory.max", "419430400\n");
    put("/sys/fs/cgroup/user.slice/job/memory.current", "104857600\n");
    put("/sys/fs/cgroup/user.slice/job/memory.stat",
        "anon 83886080\nfile 20971520\ninactive_file 10485760\nactive_file 5242880\n");
    put("/sys/fs/cgroup/user.slice/job/cpu.max", "150000 100000\n");
    /* The limit is 400 MiB; 100 MiB are in use, of which 15 are reclaimable file pages. */
    assert_int_equal(machine_memory_of(folder), 315 * MIB);
    assert_int_equal(machine_quota_of(folder), 2);
    /* A parent group has a lower limit; "max" means no limit. */
    put("/sys/fs/cgroup/user.slice/job/memory.max", "max\n");
    put("/sys/fs/cgroup/user.slice/memory.max", "209715200\n");
    put("/sys/fs/cgroup/user.slice/memory.current", "0\n");
    put("/sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/user.slice/cpu.max", "50000 100000\n");
    assert_int_equal(machine_memory_of(folder), 200 * MIB);
    assert_int_equal(machine_quota_of(folder), 1);
    /* With more in use than the limit, nothing is left (and not a huge number). */
    put("/sys/fs/cgroup/user.slice/memory.current", "999999999999\n");
    assert_int_equal(machine_memory_of(folder), 0);
}

/* In a container without its own cgroup namespace, the path is the host's, and the mount shows only
 * a part of the tree. */
static void version_two_in_a_container(void **state)
{
    (void)state;
    afresh();
    put("/proc/self/cgroup", "0::/docker/abc\n");
    put("/proc/self/mountinfo",
        "30 24 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n");
    put("/sys/fs/cgroup/memory.max", "419430400\n");
    put("/sys/fs/cgroup/memory.current", "0\n");
    put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_int_equal(machine_memory_of(folder), 400 * MIB);
    assert_int_equal(machine_quota_of(folder), 3);
    put("/proc/self/cgroup", "0::/\n"); /* with its own namespace */
    put("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n");
    assert_int_equal(machine_memory_of(folder), 400 * MIB);
    put("/proc/self/cgroup", "0::/../other\n"); /* outside the mounted part */
    put("/proc/self/mountinfo",
        "30 24 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n");
    assert_int_equal(machine_memory_of(folder), 400 * MIB);
}

static void version_one(void **state)
{
    (void)state;
    afresh();
    put("/proc/self/cgroup",
        "12:cpu,cpuacct:/docker/abc\n7:memory:/docker/abc/inner\n1:name=systemd:/x\n0::/y\n");
    put("/proc/self/mountinfo",
        "33 32 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "34 32 0:30 / /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "35 32 0:31 / /sys/fs/cgroup/unified ro - cgroup2 cgroup rw\n");
    /* This number means that there is no limit. */
    put("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "1\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "419430400\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n");
    put("/sys/fs/cgroup/memory/memory.stat",
        "inactive_file 1\ntotal_inactive_file 10485760\ntotal_active_file 0\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    assert_int_equal(machine_memory_of(folder), 310 * MIB);
    assert_int_equal(machine_quota_of(folder), 0);
    put("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "400000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    assert_int_equal(machine_quota_of(folder), 4);
}

static void files_that_say_nothing(void **state)
{
    (void)state;
    static const char *const groups[] = {"", "garbage\n", "0::\n", ":::::\n", "0:memory\n"};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        afresh();
        put("/proc/self/cgroup", groups[i]);
        put("/proc/self/mountinfo",
            "garbage\n30 24 - cgroup2\n30 24 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
        put("/sys/fs/cgroup/memory.max", "lots\n");
        put("/sys/fs/cgroup/cpu.max", "\n");
        assert_int_equal(machine_memory_of(folder), (size_t)8000000 * KIB);
        assert_int_equal(machine_quota_of(folder), 0);
    }
}

static void ignored_signals_stay_ignored(void **state)
{
    (void)state;
    static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE};
    SignalHandlers old;
    struct sigaction now;
    for (int ignored = 0; ignored < 5; ignored++) {
        void (*before)(int) = signal(all[ignored], SIG_IGN);
        signals_catch(&old, NULL);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(sigaction(all[i], NULL, &now), 0);
            assert_true((now.sa_handler == SIG_IGN) == (i == ignored));
        }
        assert_int_equal(raise(all[ignored]), 0);
        assert_int_equal(*signals_caught(), 0);
        int other = all[(ignored + 1) % 5];
        assert_int_equal(raise(other), 0);
        assert_int_equal(*signals_caught(), other);
        if (other == SIGPIPE)
            assert_int_equal(raise(SIGPIPE), 0); /* every write to a broken pipe raises it */
        signals_restore(&old);
        assert_int_equal(sigaction(all[ignored], NULL, &now), 0);
        assert_true(now.sa_handler == SIG_IGN);
        signal(all[ignored], before);
        assert_string_equal(signals_name(SIGUSR1), "SIGUSR1");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups_the_machine_decides),
        cmocka_unit_test(version_two),
        cmocka_unit_test(version_two_in_a_container),
        cmocka_unit_test(version_one),
        cmocka_unit_test(files_that_say_nothing),
        cmocka_unit_test(ignored_signals_stay_ignored),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
