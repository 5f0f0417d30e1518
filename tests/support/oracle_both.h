/* oracle_both: oracle.h in double (suffix f64), which is the reference, and in float (suffix f32),
 * whose error bounds that of a kernel. Define ORACLE_PRODUCT before the include to replace the
 * matrix product. */
#ifndef PLSTM_TESTS_ORACLE_BOTH_H
#define PLSTM_TESTS_ORACLE_BOTH_H

#define REAL   double
#define SUFFIX f64
#include "tests/support/oracle.h"
#undef REAL
#undef SUFFIX
#define REAL   float
#define SUFFIX f32
#include "tests/support/oracle.h"
#undef REAL
#undef SUFFIX

#endif
