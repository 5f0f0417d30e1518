/* same_bits: every kernel once on small shapes: a number that all their bits went into. */
#ifndef PLSTM_TESTS_SAME_BITS_H
#define PLSTM_TESTS_SAME_BITS_H

#include <stdint.h>

uint64_t digest(void);

#endif
