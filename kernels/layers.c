/* layers: prepares the kernels of all layer files in one call. */
#include "layers.h"

cudaError_t layers_prepare(void)
{
    cudaError_t (*const files[])(void) = {step_prepare,         embedding_prepare, rows_prepare,
                                          softmax_xent_prepare, sgd_prepare,       pack_prepare,
                                          round_prepare};
    cudaError_t error = cudaSuccess;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && !error; i++) error = files[i]();
    return error;
}
