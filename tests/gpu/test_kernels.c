/* Tests the kernels of the training step, one by one, against plain loops in double (oracle.h), on
 * the device of the CUDA runtime that this program is linked with: the emulated one or a GPU.
 *
 * The bound is that of test_backend_cpu.c: float32 kernels evaluate the formulas of the plain float
 * loop with sums in another order. So their error against double may be at most 2 times that of the
 * loop (3 times for gradients and derived values), plus 4 ulp of the largest value for values that
 * the plain loop gets right by luck. The largest errors of each tensor are compared. Masks, ids,
 * copies and single products are equal bit for bit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/suites/fixture.h"
#include "tests/gpu/suites/same_bits.h"
#include "tests/support/group.h"

#ifdef CUDA_EMU
#include "emu.h"
#endif

int main(int argc, char **argv)
{
#ifdef CUDA_EMU
    /* Protecting device memory from the host around every call takes longer than the kernels;
     * another build does it. */
    if (strcmp(emu_mode(), "asan")) setenv("EMU_PROTECT", "0", 0);
#endif
    /* A child process of same_bits_under_any_schedule prints only the digest. */
    if (argc == 2 && !strcmp(argv[1], "--digest")) {
        if (fixture_setup(NULL) || device_missing()) return 1;
        printf("%llx\n", (unsigned long long)digest());
        return fixture_teardown(NULL);
    }
    group_begin();
    static const KernelSuite *const suites[] = {&layers_suite, &update_suite, &recurrence_suite,
                                                &same_bits_suite};
    enum { SUITES = sizeof suites / sizeof suites[0] };
    size_t n = 0, at = 0;
    for (int s = 0; s < SUITES; s++) n += suites[s]->n;
    struct CMUnitTest tests[n];
    for (int s = 0; s < SUITES; at += suites[s++]->n)
        memcpy(tests + at, suites[s]->tests, suites[s]->n * sizeof *tests);
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
