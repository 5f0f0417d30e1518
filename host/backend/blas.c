#include "blas.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

/* The address is NULL in a program that is not linked with OpenBLAS. */
extern char *openblas_get_corename(void) __attribute__((weak));

enum {
    /* Bytes per thread: OpenBLAS maps a little more than 128 MiB on these CPUs. */
    BLAS_BUFFER = 136 << 20,
    BLAS_THREADS = 64 /* the most threads that Debian's build uses */
};

/* Code that runs before main also runs before the sanitizer. */
#if defined(__SANITIZE_ADDRESS__)
#define EARLY __attribute__((no_sanitize("address")))
#else
#define EARLY
#endif

EARLY bool blas_has_room(int threads)
{
    if (!openblas_get_corename) return true;
    size_t bytes = (size_t)threads * BLAS_BUFFER;
    void *probe = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED) return false;
    munmap(probe, bytes);
    return true;
}

/* Returns the number of threads with which OpenBLAS will start. getenv may not work yet. */
EARLY static int threads_at_start(char **environment)
{
    static const char name[] = "OMP_NUM_THREADS=";
    cpu_set_t set;
    long threads = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    for (char **e = environment; *e; e++)
        if (!strncmp(*e, name, sizeof name - 1)) {
            long asked = strtol(*e + sizeof name - 1, NULL, 10);
            if (asked > 0) threads = asked;
        }
    return (int)(threads < BLAS_THREADS ? threads : BLAS_THREADS);
}

EARLY static void check_room(int argc, char **argv, char **environment)
{
    static const char text[] =
        "plstm: OpenBLAS cannot start: it needs 136 MiB of address space per thread "
        "(ulimit -v, OMP_NUM_THREADS)\n";
    (void)argc, (void)argv;
    if (!openblas_get_corename || blas_has_room(threads_at_start(environment))) return;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(1);
    _exit(1);
}

/* Shared libraries are initialised before main, and OpenBLAS would retry forever if it had no room.
 * check_room runs before any of these initialisers. */
__attribute__((section(".preinit_array"),
               used)) static void (*const at_start)(int, char **, char **) = check_room;

const char *blas_better_core(const char *core, bool avx2_fma, bool avx512)
{
    /* Cores whose kernels use AVX2 with FMA, or better. */
    static const char *const fast[] = {"Haswell", "Zen", "SkylakeX", "Cooperlake",
                                       "SapphireRapids"};
    for (size_t i = 0; i < sizeof fast / sizeof fast[0]; i++)
        if (!strcasecmp(core, fast[i])) return NULL;
    return avx512 ? "SKYLAKEX" : avx2_fma ? "HASWELL" : NULL;
}

void blas_ensure_core(char **argv, FILE *notes)
{
#if defined(__x86_64__)
    if (!openblas_get_corename || getenv("OPENBLAS_CORETYPE")) return;
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const char *core = openblas_get_corename(), *better = blas_better_core(core, avx2, avx512);
    if (!better || setenv("OPENBLAS_CORETYPE", better, 1)) return;
    if (notes)
        fprintf(
            notes,
            "plstm: OpenBLAS treats this CPU as a %s; starting again with OPENBLAS_CORETYPE=%s\n",
            core, better);
    execv("/proc/self/exe", argv);
#else
    (void)argv, (void)notes;
#endif
}
