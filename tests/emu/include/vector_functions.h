/* make_float4 and its kin live with the types in the emulated toolkit. */
#include "vector_types.h"
