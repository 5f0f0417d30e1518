/* Compiles the real toolkit's headers as host code and writes the words of numerics_cases.h to
 * standard output, for test_emu_numerics. */
#include <stdio.h>

#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <curand_kernel.h>

#include "numerics_cases.h"

static void emit(uint32_t word) { fwrite(&word, sizeof word, 1, stdout); }

int main()
{
    cases_conversions(emit);
    cases_philox(emit);
    return ferror(stdout) != 0 || fflush(stdout) != 0;
}
