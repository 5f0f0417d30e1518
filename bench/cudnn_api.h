// cudnn_api: the part of cuDNN's C API that an LSTM needs, versions 8 and 9. The library is opened
// at run time and not needed at build time, so its functions, types and numbers are declared here;
// tests/gpu/test_cudnn.py compares them with cudnn.h if that is installed. Enumerations are passed
// as int, as in the ABI.
#ifndef PLSTM_BENCH_CUDNN_API_H
#define PLSTM_BENCH_CUDNN_API_H

#include <cstddef>
#include <cstdint>
#include <string>

#include <cuda_runtime_api.h>

namespace cudnn
{

using Handle = struct HandleOf *;
using Tensor = struct TensorOf *;
using Dropout = struct DropoutOf *;
using Rnn = struct RnnOf *;
using RnnData = struct RnnDataOf *;

// These names and numbers are cudnn.h's.
enum : int {
    CUDNN_STATUS_SUCCESS = 0,
    CUDNN_DATA_FLOAT = 0,
    CUDNN_DATA_HALF = 2,
    CUDNN_DATA_BFLOAT16 = 9,
    CUDNN_DEFAULT_MATH = 0,
    CUDNN_TENSOR_OP_MATH = 1,
    CUDNN_FMA_MATH = 3,
    CUDNN_RNN_ALGO_STANDARD = 0,
    CUDNN_RNN_ALGO_PERSIST_STATIC = 1,
    CUDNN_RNN_ALGO_PERSIST_DYNAMIC = 2,
    CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H = 3,
    CUDNN_FWD_MODE_TRAINING = 1,
    CUDNN_LSTM = 2,
    CUDNN_RNN_DOUBLE_BIAS = 2,
    CUDNN_UNIDIRECTIONAL = 0,
    CUDNN_LINEAR_INPUT = 0,
    CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED = 0,
    CUDNN_RNN_PADDED_IO_ENABLED = 1,
    CUDNN_WGRAD_MODE_ADD = 0,
};

// X(result, name, parameters)
#define CUDNN_FUNCTIONS(X)                                                                         \
    X(size_t, cudnnGetVersion, (void))                                                             \
    X(const char *, cudnnGetErrorString, (int status))                                             \
    X(int, cudnnCreate, (Handle * handle))                                                         \
    X(int, cudnnDestroy, (Handle handle))                                                          \
    X(int, cudnnSetStream, (Handle handle, cudaStream_t stream))                                   \
    X(int, cudnnCreateTensorDescriptor, (Tensor * desc))                                           \
    X(int, cudnnDestroyTensorDescriptor, (Tensor desc))                                            \
    X(int, cudnnSetTensorNdDescriptor,                                                             \
      (Tensor desc, int type, int n, const int dim[], const int stride[]))                         \
    X(int, cudnnGetTensorNdDescriptor,                                                             \
      (const Tensor desc, int most, int *type, int *n, int dim[], int stride[]))                   \
    X(int, cudnnCreateDropoutDescriptor, (Dropout * desc))                                         \
    X(int, cudnnDestroyDropoutDescriptor, (Dropout desc))                                          \
    X(int, cudnnSetDropoutDescriptor,                                                              \
      (Dropout desc, Handle handle, float dropout, void *states, size_t bytes,                     \
       unsigned long long seed))                                                                   \
    X(int, cudnnCreateRNNDescriptor, (Rnn * desc))                                                 \
    X(int, cudnnDestroyRNNDescriptor, (Rnn desc))                                                  \
    X(int, cudnnSetRNNDescriptor_v8,                                                               \
      (Rnn desc, int algo, int cell, int bias, int direction, int input, int type,                 \
       int math_precision, int math_type, int32_t input_size, int32_t hidden_size,                 \
       int32_t projection_size, int32_t layers, Dropout dropout, uint32_t flags))                  \
    X(int, cudnnBuildRNNDynamic, (Handle handle, Rnn desc, int batch))                             \
    X(int, cudnnGetRNNTempSpaceSizes,                                                              \
      (Handle handle, Rnn desc, int mode, RnnData x, size_t *work, size_t *reserve))               \
    X(int, cudnnGetRNNWeightSpaceSize, (Handle handle, Rnn desc, size_t * bytes))                  \
    X(int, cudnnGetRNNWeightParams,                                                                \
      (Handle handle, Rnn desc, int32_t layer, size_t bytes, const void *weights, int32_t linear,  \
       Tensor matrix, void **matrix_at, Tensor bias, void **bias_at))                              \
    X(int, cudnnCreateRNNDataDescriptor, (RnnData * desc))                                         \
    X(int, cudnnDestroyRNNDataDescriptor, (RnnData desc))                                          \
    X(int, cudnnSetRNNDataDescriptor,                                                              \
      (RnnData desc, int type, int layout, int length, int batch, int vector, const int lengths[], \
       void *padding))                                                                             \
    X(int, cudnnRNNForward,                                                                        \
      (Handle handle, Rnn desc, int mode, const int32_t lengths[], RnnData x_desc, const void *x,  \
       RnnData y_desc, void *y, Tensor h_desc, const void *hx, void *hy, Tensor c_desc,            \
       const void *cx, void *cy, size_t weight_bytes, const void *weights, size_t work_bytes,      \
       void *work, size_t reserve_bytes, void *reserve))                                           \
    X(int, cudnnRNNBackwardData_v8,                                                                \
      (Handle handle, Rnn desc, const int32_t lengths[], RnnData y_desc, const void *y,            \
       const void *dy, RnnData x_desc, void *dx, Tensor h_desc, const void *hx, const void *dhy,   \
       void *dhx, Tensor c_desc, const void *cx, const void *dcy, void *dcx, size_t weight_bytes,  \
       const void *weights, size_t work_bytes, void *work, size_t reserve_bytes, void *reserve))   \
    X(int, cudnnRNNBackwardWeights_v8,                                                             \
      (Handle handle, Rnn desc, int mode, const int32_t lengths[], RnnData x_desc, const void *x,  \
       Tensor h_desc, const void *hx, RnnData y_desc, const void *y, size_t weight_bytes,          \
       void *dweights, size_t work_bytes, void *work, size_t reserve_bytes, void *reserve))

struct Api {
#define CUDNN_POINTER(result, name, parameters) result(*name) parameters;
    CUDNN_FUNCTIONS(CUDNN_POINTER)
#undef CUDNN_POINTER
    std::string from; // path of the opened file
};

// Opens libcudnn once: the file that PLSTM_CUDNN names, or the newest of versions 9 and 8 on
// LD_LIBRARY_PATH, in the system's folders, in toolkits under /usr/local or in a Python package.
// Returns nullptr, with a sentence, if there is none.
const Api *open(std::string *why_not);

} // namespace cudnn

#endif
