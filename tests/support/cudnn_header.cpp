/* This file compiles only if bench/cudnn_api.h agrees with cudnn.h in the numbers and in the kind
 * and size of every result and parameter. tests/gpu/test_cudnn.py compiles it against the header of
 * an installed toolkit. */
#include "bench/cudnn_api.h"

#include <type_traits>
#include <utility>

/* cudnn.h defines some of these names as macros, so they are recorded before it is included. */
constexpr int padded_io = cudnn::CUDNN_RNN_PADDED_IO_ENABLED;

#include <cudnn.h>

static_assert(padded_io == (int)CUDNN_RNN_PADDED_IO_ENABLED, "");
#define SAME(name) static_assert((int)cudnn::name == (int)::name, #name)
SAME(CUDNN_STATUS_SUCCESS);
SAME(CUDNN_DATA_FLOAT);
SAME(CUDNN_DATA_HALF);
SAME(CUDNN_DATA_BFLOAT16);
SAME(CUDNN_DEFAULT_MATH);
SAME(CUDNN_TENSOR_OP_MATH);
SAME(CUDNN_FMA_MATH);
SAME(CUDNN_RNN_ALGO_STANDARD);
SAME(CUDNN_RNN_ALGO_PERSIST_STATIC);
SAME(CUDNN_RNN_ALGO_PERSIST_DYNAMIC);
SAME(CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H);
SAME(CUDNN_FWD_MODE_TRAINING);
SAME(CUDNN_LSTM);
SAME(CUDNN_RNN_DOUBLE_BIAS);
SAME(CUDNN_UNIDIRECTIONAL);
SAME(CUDNN_LINEAR_INPUT);
SAME(CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED);
SAME(CUDNN_WGRAD_MODE_ADD);

/* True if an argument of one type can be passed as the other. */
template <class A, class B>
constexpr bool alike =
    sizeof(A) == sizeof(B) && std::is_pointer<A>::value
                                  == std::is_pointer<B>::value &&std::is_floating_point<A>::value
                                  == std::is_floating_point<B>::value;

template <class A, class... P, class B, class... Q> constexpr bool same(A (*)(P...), B (*)(Q...))
{
    if constexpr (sizeof...(P) != sizeof...(Q)) return false;
    else return alike<A, B> && (alike<P, Q> && ...);
}
#define SAME_FUNCTION(result, name, parameters)                                                    \
    static_assert(same(decltype(cudnn::Api::name)(nullptr), decltype (&::name)(nullptr)), #name);
CUDNN_FUNCTIONS(SAME_FUNCTION)
