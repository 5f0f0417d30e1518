/* group: the set-up shared by the GPU test programs. For tests only; include cmocka.h first. */
#ifndef PLSTM_TESTS_GROUP_H
#define PLSTM_TESTS_GROUP_H

#include <stdio.h>
#include <stdlib.h>

/* Makes standard output line buffered, so that the lines of a killed program are not lost. The
 * environment variable PLSTM_TEST_CASE selects the cases to run (* stands for any text). */
static inline void group_begin(void)
{
    const char *one = getenv("PLSTM_TEST_CASE");
    setvbuf(stdout, NULL, _IOLBF, 1 << 12);
    if (one && one[0]) cmocka_set_test_filter(one);
}

#endif
