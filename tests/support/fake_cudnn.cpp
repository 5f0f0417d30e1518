/* fake_cudnn: a stand-in for cuDNN with the functions of bench/cudnn_api.h, computed by the plain
 * loops of bench/oracle.h in the emulator's memory, which is host memory. It stores weights in a
 * layout of its own (biases first, layers and gates from last to first, with gaps), so that only a
 * caller that queries every address packs them correctly. It adds weight gradients to the existing
 * values, checks the order of calls, and refuses the cases that it declares unsupported. Its work
 * runs in the stream's order.
 *
 * Environment: FAKE_CUDNN_LOG names a file that receives one line per call; FAKE_CUDNN_WRONG=1
 * swaps two gates.
 *
 * tests/gpu/test_cudnn.py uses it. Its answers are not those of the real library. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/cudnn_api.h"
#include "bench/oracle.h"

using namespace cudnn;
using axes::Precision;

namespace
{

enum {
    BAD_PARAM = 2000,
    NOT_SUPPORTED = 3000,
    SUPPORTED_SMALL_H = 24,
    GAP = 64 /* bytes between pieces */
};

struct TensorRecord {
    int type, n, dim[8], stride[8];
};
struct RnnRecord {
    int algo, type, math_type, H, layers, built_for;
    uint32_t flags;
};
struct DataRecord {
    int type, T, B, vector;
};

/* Logs a condition on the arguments that does not hold and returns BAD_PARAM from the caller. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            note("BAD_PARAM %s: %s", __func__, #condition);                                        \
            return BAD_PARAM;                                                                      \
        }                                                                                          \
    } while (0)

__attribute__((format(printf, 1, 2))) void note(const char *format, ...)
{
    const char *path = getenv("FAKE_CUDNN_LOG");
    FILE *f = path ? fopen(path, "a") : nullptr;
    if (!f) return;
    va_list list;
    va_start(list, format);
    vfprintf(f, format, list);
    va_end(list);
    fputc('\n', f);
    fclose(f);
}

size_t size_of(int type) { return type == CUDNN_DATA_FLOAT ? 4 : 2; }

Precision stored_as(int type)
{
    return type == CUDNN_DATA_HALF       ? Precision::F16
           : type == CUDNN_DATA_BFLOAT16 ? Precision::BF16
                                         : Precision::F32;
}

std::vector<float> load(const void *at, size_t n, int type)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) {
        unsigned short bits;
        if (type == CUDNN_DATA_FLOAT) memcpy(&v[i], (const char *)at + 4 * i, 4);
        else {
            memcpy(&bits, (const char *)at + 2 * i, 2);
            v[i] = type == CUDNN_DATA_HALF ? emu_half_float(bits) : emu_bfloat_float(bits);
        }
    }
    return v;
}

void store(void *at, const float *v, size_t n, int type)
{
    for (size_t i = 0; i < n; i++) {
        unsigned short bits = type == CUDNN_DATA_HALF ? emu_half_bits(v[i]) : emu_bfloat_bits(v[i]);
        if (type == CUDNN_DATA_FLOAT) memcpy((char *)at + 4 * i, &v[i], 4);
        else memcpy((char *)at + 2 * i, &bits, 2);
    }
}

/* ---- weights ---- */

size_t piece(const RnnRecord &r, size_t elements) { return elements * size_of(r.type) + GAP; }

/* Offsets in bytes within the weight space: the biases of all layers come first, then the matrices;
 * the last layer and the last linear layer come first in both. */
size_t bias_at(const RnnRecord &r, int layer, int linear)
{
    return GAP + (size_t)((r.layers - 1 - layer) * 8 + 7 - linear) * piece(r, (size_t)r.H);
}
size_t matrix_at(const RnnRecord &r, int layer, int linear)
{
    const size_t biases = GAP + (size_t)r.layers * 8 * piece(r, (size_t)r.H);
    return biases +
           (size_t)((r.layers - 1 - layer) * 8 + 7 - linear) * piece(r, (size_t)r.H * (size_t)r.H);
}
size_t weight_bytes_of(const RnnRecord &r)
{
    return matrix_at(r, 0, 0) + piece(r, (size_t)r.H * (size_t)r.H);
}

/* Returns the gate of linear layers `linear` and `linear` + 4: 0 input, 1 forget, 2 new, 3
 * output. */
int gate_of(int linear)
{
    const char *wrong = getenv("FAKE_CUDNN_WRONG");
    int gate = linear % 4;
    return wrong && *wrong == '1' && gate < 2 ? 1 - gate : gate;
}

/* ---- work ---- */

/* One call of the library, which `run` carries out when the stream reaches it. The reserve space
 * holds what backward needs besides its arguments. */
struct Call {
    cudaStream_t stream;
    RnnRecord rnn;
    DataRecord data;
    const void *x = nullptr, *hx = nullptr, *cx = nullptr, *dy = nullptr;
    const void *weights = nullptr;
    void *y = nullptr, *hy = nullptr, *cy = nullptr, *dx = nullptr, *dhx = nullptr, *dcx = nullptr,
         *dweights = nullptr;
    float *reserve = nullptr; /* x, h0, c0, then dy */
    enum { FORWARD, DATA, WEIGHTS } kind = FORWARD;
};

oracle::LayersInput input_of(const Call &c)
{
    const RnnRecord &r = c.rnn;
    const size_t H = (size_t)r.H, N = (size_t)(c.data.T * c.data.B),
                 states = (size_t)(r.layers * c.data.B) * H;
    oracle::LayersInput in = {};
    in.layers = r.layers, in.T = c.data.T, in.B = c.data.B, in.H = r.H;
    in.stored = stored_as(r.type);
    in.operand = r.type != CUDNN_DATA_FLOAT      ? in.stored
                 : r.math_type == CUDNN_FMA_MATH ? Precision::F32
                                                 : Precision::TF32;
    in.x.assign(c.reserve, c.reserve + N * H);
    in.h0.assign(c.reserve + N * H, c.reserve + N * H + states);
    in.c0.assign(c.reserve + N * H + states, c.reserve + N * H + 2 * states);
    in.dy.assign(c.reserve + N * H + 2 * states, c.reserve + 2 * N * H + 2 * states);
    for (int l = 0; l < r.layers; l++) {
        std::vector<float> w[2], b[2];
        for (int linear = 0; linear < 8; linear++) {
            const int of = linear / 4 * 4 + gate_of(linear);
            std::vector<float> m =
                load((const char *)c.weights + matrix_at(r, l, of), H * H, r.type);
            std::vector<float> bias = load((const char *)c.weights + bias_at(r, l, of), H, r.type);
            w[linear / 4].insert(w[linear / 4].end(), m.begin(), m.end());
            b[linear / 4].insert(b[linear / 4].end(), bias.begin(), bias.end());
        }
        in.w_ih.push_back(w[0]), in.w_hh.push_back(w[1]), in.b_ih.push_back(b[0]),
            in.b_hh.push_back(b[1]);
    }
    return in;
}

void add_to(char *at, const float *v, size_t n, int type)
{
    std::vector<float> sum = load(at, n, type);
    for (size_t i = 0; i < n; i++) sum[i] += v[i];
    store(at, sum.data(), n, type);
}

void run(void *data)
{
    const Call &c = *(const Call *)data;
    const RnnRecord &r = c.rnn;
    const int type = r.type;
    const size_t H = (size_t)r.H, N = (size_t)(c.data.T * c.data.B), row = (size_t)c.data.B * H,
                 states = (size_t)r.layers * row;
    if (c.kind == Call::FORWARD) {
        store(c.reserve, load(c.x, N * H, type).data(), N * H, CUDNN_DATA_FLOAT);
        store(c.reserve + N * H, load(c.hx, states, type).data(), states, CUDNN_DATA_FLOAT);
        store(c.reserve + N * H + states, load(c.cx, states, type).data(), states,
              CUDNN_DATA_FLOAT);
        std::fill_n(c.reserve + N * H + 2 * states, N * H, 0.0f);
    } else if (c.kind == Call::DATA) {
        store(c.reserve + N * H + 2 * states, load(c.dy, N * H, type).data(), N * H,
              CUDNN_DATA_FLOAT);
    }
    const oracle::LayersOutput<float> out = oracle::layers<float>(input_of(c));
    if (c.kind == Call::FORWARD) {
        store(c.y, out.y.data(), N * H, type);
        for (size_t l = 0; l < (size_t)r.layers; l++) {
            store((char *)c.hy + l * row * size_of(type), out.saved[l].h.data() + N * H, row, type);
            store((char *)c.cy + l * row * size_of(type), out.saved[l].c.data() + N * H, row, type);
        }
    } else if (c.kind == Call::DATA) {
        store(c.dx, out.dx.data(), N * H, type);
    } else {
        for (int l = 0; l < r.layers; l++)
            for (int linear = 0; linear < 8; linear++) {
                const size_t gate = (size_t)gate_of(linear), at = (size_t)l;
                const std::vector<float> &dw = linear < 4 ? out.dw_ih[at] : out.dw_hh[at];
                char *space = (char *)c.dweights;
                add_to(space + matrix_at(r, l, linear), dw.data() + gate * H * H, H * H, type);
                add_to(space + bias_at(r, l, linear), out.db[at].data() + gate * H, H, type);
            }
    }
}

/* Enqueues a call on its stream, also into a graph. The copy of the call is never freed, since the
 * replays of a graph need it. */
int enqueue(const Call &c)
{
    return cudaLaunchHostFunc(c.stream, run, new Call(c)) == cudaSuccess ? 0 : 4000;
}

size_t reserve_bytes_of(const RnnRecord &r, const DataRecord &d)
{
    const size_t H = (size_t)r.H, N = (size_t)(d.T * d.B), states = (size_t)(r.layers * d.B) * H;
    return 4 * (2 * N * H + 2 * states);
}

/* cudnnRNNBackwardWeights_v8 has no weights argument, so it uses the address that
 * cudnnRNNBackwardData_v8 received. */
std::map<const void *, const void *> weights_of; /* by reserve space */

/* Create, use and destroy the objects to which the opaque pointers point. */
template <class R, class P> R *record(P p) { return (R *)p; }
template <class R, class P> int create(P *p)
{
    *p = (P) new R();
    return 0;
}
template <class R, class P> int destroy(P p)
{
    delete (R *)p;
    return 0;
}

int supported(const RnnRecord &r, const DataRecord &d)
{
    const bool half = r.type != CUDNN_DATA_FLOAT;
    if (r.algo == CUDNN_RNN_ALGO_PERSIST_STATIC && (r.H % 32 || d.B % 4)) return NOT_SUPPORTED + 2;
    if (r.algo == CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H && r.H > SUPPORTED_SMALL_H)
        return NOT_SUPPORTED + 2;
    if (r.algo == CUDNN_RNN_ALGO_PERSIST_DYNAMIC && half) return NOT_SUPPORTED + 3;
    return 0;
}

} // namespace

extern "C" {

size_t cudnnGetVersion(void) { return 91900; }

const char *cudnnGetErrorString(int status)
{
    switch (status) {
    case 0: return "CUDNN_STATUS_SUCCESS";
    case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case NOT_SUPPORTED + 2: return "CUDNN_STATUS_NOT_SUPPORTED_SHAPE";
    case NOT_SUPPORTED + 3: return "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE";
    default: return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

int cudnnCreate(Handle *handle) { return create<cudaStream_t>(handle); }
int cudnnDestroy(Handle handle) { return destroy<cudaStream_t>(handle); }
int cudnnSetStream(Handle handle, cudaStream_t stream)
{
    note("cudnnSetStream");
    *record<cudaStream_t>(handle) = stream;
    return 0;
}

int cudnnCreateTensorDescriptor(Tensor *desc) { return create<TensorRecord>(desc); }
int cudnnDestroyTensorDescriptor(Tensor desc) { return destroy<TensorRecord>(desc); }
int cudnnSetTensorNdDescriptor(Tensor desc, int type, int n, const int dim[], const int stride[])
{
    TensorRecord *t = record<TensorRecord>(desc);
    REQUIRE(n >= 3 && n <= 8);
    t->type = type, t->n = n;
    std::copy(dim, dim + n, t->dim), std::copy(stride, stride + n, t->stride);
    note("cudnnSetTensorNdDescriptor type=%d dims=%d,%d,%d strides=%d,%d,%d", type, dim[0], dim[1],
         dim[2], stride[0], stride[1], stride[2]);
    return 0;
}
int cudnnGetTensorNdDescriptor(const Tensor desc, int most, int *type, int *n, int dim[],
                               int stride[])
{
    const TensorRecord *t = record<TensorRecord>(desc);
    *type = t->type, *n = t->n;
    std::copy(t->dim, t->dim + std::min(most, t->n), dim),
        std::copy(t->stride, t->stride + std::min(most, t->n), stride);
    return 0;
}

int cudnnCreateDropoutDescriptor(Dropout *desc) { return create<float>(desc); }
int cudnnDestroyDropoutDescriptor(Dropout desc) { return destroy<float>(desc); }
int cudnnSetDropoutDescriptor(Dropout desc, Handle handle, float dropout, void *, size_t,
                              unsigned long long)
{
    REQUIRE(handle && dropout == 0.0f);
    *record<float>(desc) = 1.0f;
    return 0;
}

int cudnnCreateRNNDescriptor(Rnn *desc) { return create<RnnRecord>(desc); }
int cudnnDestroyRNNDescriptor(Rnn desc) { return destroy<RnnRecord>(desc); }
int cudnnSetRNNDescriptor_v8(Rnn desc, int algo, int cell, int bias, int direction, int input,
                             int type, int math_precision, int math_type, int32_t input_size,
                             int32_t hidden_size, int32_t projection_size, int32_t layers,
                             Dropout dropout, uint32_t flags)
{
    /* cudnnSetDropoutDescriptor has set it to 1. */
    REQUIRE(record<float>(dropout) && *record<float>(dropout) == 1.0f);
    REQUIRE(input_size == hidden_size && projection_size == hidden_size && layers >= 1);
    REQUIRE(math_precision == CUDNN_DATA_FLOAT);
    *record<RnnRecord>(desc) = {algo, type, math_type, hidden_size, layers, 0, flags};
    note("cudnnSetRNNDescriptor_v8 algo=%d cell=%d bias=%d direction=%d input=%d type=%d "
         "math_precision=%d "
         "math_type=%d sizes=%d,%d,%d "
         "layers=%d flags=%u",
         algo, cell, bias, direction, input, type, math_precision, math_type, input_size,
         hidden_size, projection_size, layers, flags);
    return 0;
}

int cudnnBuildRNNDynamic(Handle handle, Rnn desc, int batch)
{
    REQUIRE(handle);
    note("cudnnBuildRNNDynamic batch=%d", batch);
    record<RnnRecord>(desc)->built_for = batch;
    return 0;
}

int cudnnGetRNNTempSpaceSizes(Handle, Rnn desc, int mode, RnnData x, size_t *work, size_t *reserve)
{
    const RnnRecord &r = *record<RnnRecord>(desc);
    const DataRecord &d = *record<DataRecord>(x);
    REQUIRE(mode == CUDNN_FWD_MODE_TRAINING && d.vector == r.H && d.type == r.type);
    *work = 1000, *reserve = reserve_bytes_of(r, d);
    return supported(r, d);
}

int cudnnGetRNNWeightSpaceSize(Handle, Rnn desc, size_t *bytes)
{
    *bytes = weight_bytes_of(*record<RnnRecord>(desc));
    return 0;
}

int cudnnGetRNNWeightParams(Handle, Rnn desc, int32_t layer, size_t bytes, const void *weights,
                            int32_t linear, Tensor matrix, void **matrix_out, Tensor bias,
                            void **bias_out)
{
    const RnnRecord &r = *record<RnnRecord>(desc);
    REQUIRE(layer >= 0 && layer < r.layers && linear >= 0 && linear < 8 &&
            bytes == weight_bytes_of(r));
    *record<TensorRecord>(matrix) = {r.type, 3, {1, r.H, r.H}, {r.H * r.H, r.H, 1}};
    *record<TensorRecord>(bias) = {r.type, 3, {1, r.H, 1}, {r.H, 1, 1}};
    *matrix_out = (char *)weights + matrix_at(r, layer, linear);
    *bias_out = (char *)weights + bias_at(r, layer, linear);
    note("cudnnGetRNNWeightParams layer=%d linear=%d", layer, linear);
    return 0;
}

int cudnnCreateRNNDataDescriptor(RnnData *desc) { return create<DataRecord>(desc); }
int cudnnDestroyRNNDataDescriptor(RnnData desc) { return destroy<DataRecord>(desc); }
int cudnnSetRNNDataDescriptor(RnnData desc, int type, int layout, int length, int batch, int vector,
                              const int lengths[], void *padding)
{
    for (int b = 0; b < batch; b++) REQUIRE(lengths[b] == length);
    REQUIRE(padding == nullptr);
    *record<DataRecord>(desc) = {type, length, batch, vector};
    note("cudnnSetRNNDataDescriptor type=%d layout=%d length=%d batch=%d vector=%d", type, layout,
         length, batch, vector);
    return 0;
}

/* Checks the arguments that all three calls have and stores the stream and descriptors in *c.
 * Returns a status. */
static int check_call(Handle handle, Rnn desc, const int32_t lengths[], RnnData data, Tensor h_desc,
                      Tensor c_desc, size_t weight_bytes, size_t work_bytes, size_t reserve_bytes,
                      Call *c)
{
    REQUIRE(handle && lengths);
    c->stream = *record<cudaStream_t>(handle);
    c->rnn = *record<RnnRecord>(desc), c->data = *record<DataRecord>(data);
    const RnnRecord &r = c->rnn;
    const DataRecord &d = c->data;
    for (Tensor one : {h_desc, c_desc}) {
        if (!one) continue;
        const TensorRecord *t = record<TensorRecord>(one);
        REQUIRE(t->n == 3 && t->type == r.type && t->dim[0] == r.layers && t->dim[1] == d.B &&
                t->dim[2] == r.H);
        REQUIRE(t->stride[0] == d.B * r.H && t->stride[1] == r.H && t->stride[2] == 1);
    }
    REQUIRE(weight_bytes == weight_bytes_of(r) && work_bytes >= 1000 &&
            reserve_bytes >= reserve_bytes_of(r, d));
    REQUIRE(r.algo != CUDNN_RNN_ALGO_PERSIST_DYNAMIC || r.built_for == d.B);
    return supported(r, d);
}

int cudnnRNNForward(Handle handle, Rnn desc, int mode, const int32_t lengths[], RnnData x_desc,
                    const void *x, RnnData y_desc, void *y, Tensor h_desc, const void *hx, void *hy,
                    Tensor c_desc, const void *cx, void *cy, size_t weight_bytes,
                    const void *weights, size_t work_bytes, void *work, size_t reserve_bytes,
                    void *reserve)
{
    Call c;
    int status = check_call(handle, desc, lengths, x_desc, h_desc, c_desc, weight_bytes, work_bytes,
                            reserve_bytes, &c);
    if (status) return status;
    REQUIRE(mode == CUDNN_FWD_MODE_TRAINING && y_desc && work && x && y && hx && hy && cx && cy &&
            weights && reserve);
    note("cudnnRNNForward");
    c.kind = Call::FORWARD, c.x = x, c.y = y, c.hx = hx, c.hy = hy, c.cx = cx, c.cy = cy,
    c.weights = weights;
    c.reserve = (float *)reserve;
    return enqueue(c);
}

int cudnnRNNBackwardData_v8(Handle handle, Rnn desc, const int32_t lengths[], RnnData y_desc,
                            const void *y, const void *dy, RnnData x_desc, void *dx, Tensor h_desc,
                            const void *hx, const void *dhy, void *dhx, Tensor c_desc,
                            const void *cx, const void *dcy, void *dcx, size_t weight_bytes,
                            const void *weights, size_t work_bytes, void *work,
                            size_t reserve_bytes, void *reserve)
{
    Call c;
    int status = check_call(handle, desc, lengths, x_desc, h_desc, c_desc, weight_bytes, work_bytes,
                            reserve_bytes, &c);
    if (status) return status;
    REQUIRE(y_desc && y && dy && dx && hx && cx && !dhy && !dcy && dhx && dcx && weights && work &&
            reserve);
    note("cudnnRNNBackwardData_v8");
    c.kind = Call::DATA, c.dy = dy, c.dx = dx, c.weights = weights, c.reserve = (float *)reserve;
    weights_of[reserve] = weights;
    return enqueue(c);
}

int cudnnRNNBackwardWeights_v8(Handle handle, Rnn desc, int mode, const int32_t lengths[],
                               RnnData x_desc, const void *x, Tensor h_desc, const void *hx,
                               RnnData y_desc, const void *y, size_t weight_bytes, void *dweights,
                               size_t work_bytes, void *work, size_t reserve_bytes, void *reserve)
{
    Call c;
    int status = check_call(handle, desc, lengths, x_desc, h_desc, nullptr, weight_bytes,
                            work_bytes, reserve_bytes, &c);
    if (status) return status;
    REQUIRE(mode == CUDNN_WGRAD_MODE_ADD && x && hx && y_desc && y && dweights && work && reserve);
    note("cudnnRNNBackwardWeights_v8");
    REQUIRE(weights_of.count(reserve)); /* cudnnRNNBackwardData_v8 must come first */
    c.kind = Call::WEIGHTS, c.weights = weights_of[reserve], c.dweights = dweights,
    c.reserve = (float *)reserve;
    return enqueue(c);
}
}
