/* same_bits: runs every kernel once on small shapes and returns a digest of all result bits. */
#ifndef PLSTM_TESTS_SAME_BITS_H
#define PLSTM_TESTS_SAME_BITS_H

#include <stdint.h>

uint64_t digest(void);

#endif
