/* group: what the programs of GPU tests do before their cases. For tests only; cmocka.h comes first. */
#ifndef PLSTM_TESTS_GROUP_H
#define PLSTM_TESTS_GROUP_H

#include <stdio.h>
#include <stdlib.h>

/* Lines leave at once, so that a program that is ended has said what it did. The environment's PLSTM_TEST_CASE runs the cases of that name
 * alone (* stands for any text). */
static inline void group_begin(void)
{
    const char *one = getenv("PLSTM_TEST_CASE");
    setvbuf(stdout, NULL, _IOLBF, 1 << 12);
    if (one && one[0]) cmocka_set_test_filter(one);
}

#endif
