#include "blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cblas.h>

const char *blas_better_core(const char *core, bool avx2_fma, bool avx512)
{
    /* Cores whose kernels use AVX2 with FMA, or better. */
    static const char *const fast[] = {"Haswell", "Zen", "SkylakeX", "Cooperlake", "SapphireRapids"};
    for (size_t i = 0; i < sizeof fast / sizeof fast[0]; i++)
        if (!strcasecmp(core, fast[i])) return NULL;
    return avx512 ? "SKYLAKEX" : avx2_fma ? "HASWELL" : NULL;
}

void blas_ensure_core(char **argv)
{
#if defined(__x86_64__)
    if (getenv("OPENBLAS_CORETYPE")) return;
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const char *core = openblas_get_corename(), *better = blas_better_core(core, avx2, avx512);
    if (!better || setenv("OPENBLAS_CORETYPE", better, 1)) return;
    fprintf(stderr, "plstm: OpenBLAS takes this CPU for a %s; starting again with OPENBLAS_CORETYPE=%s\n",
            core, better);
    execv("/proc/self/exe", argv);
#else
    (void)argv;
#endif
}
