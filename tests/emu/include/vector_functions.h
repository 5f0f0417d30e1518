/* In the emulated toolkit make_float4 and the like are defined with the types. */
#include "vector_types.h"
