// gpu_cudnn: whole layers by cuDNN through its C API, the peer of every variant. One call does
// forward (and saves what backward needs), two more all gradients. The descriptors are those of
// PyTorch's nn.LSTM: two biases, no projection, sequences of one length in padded layout, no
// dropout.
//
// This file was written from cuDNN's documentation; tests run it against a stand-in
// (tests/support/fake_cudnn.cpp).
#include "gpu.h"

#include "cudnn_api.h"
#include "whole.h"

namespace bench_gpu
{

const std::vector<const char *> cudnn_algorithms = {"cudnn-standard", "cudnn-static",
                                                    "cudnn-dynamic", "cudnn-small-h"};

namespace
{

const int algorithm_numbers[] = {
    cudnn::CUDNN_RNN_ALGO_STANDARD, cudnn::CUDNN_RNN_ALGO_PERSIST_STATIC,
    cudnn::CUDNN_RNN_ALGO_PERSIST_DYNAMIC, cudnn::CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H};
// Linear layers 0 to 3 read the input, 4 to 7 the hidden state; each four are i, f, g, o.
const int GATES = 4;

const cudnn::Api &api()
{
    std::string why_not;
    const cudnn::Api *found = cudnn::open(&why_not);
    if (!found) throw Refused(why_not);
    return *found;
}

// Throws Refused if the library does not support the call; any other error is a fault.
void check(int status, const char *call)
{
    if (status == cudnn::CUDNN_STATUS_SUCCESS) return;
    const std::string name = api().cudnnGetErrorString(status),
                      said = std::string(call, strcspn(call, "(")) + ": " + name;
    if (name.find("NOT_SUPPORTED") != std::string::npos ||
        name.find("ARCH_MISMATCH") != std::string::npos)
        throw Refused(said);
    fail("cuDNN failed: " + said);
}
#define CUDNN(call) check(api().call, #call)

cudnn::Handle handle()
{
    static cudnn::Handle one = nullptr; // never destroyed
    if (!one) {
        CUDNN(cudnnCreate(&one));
        CUDNN(cudnnSetStream(one, gpu.context.stream));
    }
    return one;
}

// A descriptor that is destroyed with its owner.
template <class T> class Owned
{
  public:
    Owned(int (*create)(T *), int (*destroy)(T), const char *name) : destroy(destroy)
    {
        check(create(&at), name);
    }
    ~Owned() { destroy(at); }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    T get() const { return at; }

  private:
    T at = nullptr;
    int (*destroy)(T);
};

size_t element(Precision p) { return p == Precision::F16 || p == Precision::BF16 ? 2 : 4; }

void store(char *at, float x, Precision p)
{
    if (p == Precision::F16) {
        const __half h = __float2half(x);
        std::memcpy(at, &h, 2);
    } else if (p == Precision::BF16) {
        const __nv_bfloat16 h = __float2bfloat16(x);
        std::memcpy(at, &h, 2);
    } else {
        std::memcpy(at, &x, 4);
    }
}

float load(const char *at, Precision p)
{
    float x;
    __half h;
    __nv_bfloat16 b;
    if (p == Precision::F16) return std::memcpy((void *)&h, at, 2), __half2float(h);
    if (p == Precision::BF16) return std::memcpy((void *)&b, at, 2), __bfloat162float(b);
    return std::memcpy(&x, at, 4), x;
}

// Returns the type of the tensors in memory.
Precision memory_of(Precision p) { return p == Precision::TF32 ? Precision::F32 : p; }

std::vector<char> stored(const std::vector<float> &v, Precision p)
{
    std::vector<char> to(v.size() * element(p));
    for (size_t i = 0; i < v.size(); i++) store(&to[i * element(p)], v[i], p);
    return to;
}

std::vector<float> loaded(const std::vector<char> &from, Precision p)
{
    std::vector<float> v(from.size() / element(p));
    for (size_t i = 0; i < v.size(); i++) v[i] = load(&from[i * element(p)], p);
    return v;
}

// The place of a matrix or a bias in the weight space: element (r, c) is at `offset` bytes plus r
// rows and c columns of elements.
struct Place {
    size_t offset = 0;
    int64_t rows = 0, columns = 0, row_stride = 0, column_stride = 0;
};

struct Peer {
    Workload w;
    Precision p;
    int layers;
    oracle::LayersInput in;
    Owned<cudnn::Dropout> dropout{api().cudnnCreateDropoutDescriptor,
                                  api().cudnnDestroyDropoutDescriptor,
                                  "cudnnCreateDropoutDescriptor"};
    Owned<cudnn::Rnn> rnn{api().cudnnCreateRNNDescriptor, api().cudnnDestroyRNNDescriptor,
                          "cudnnCreateRNNDescriptor"};
    Owned<cudnn::RnnData> x_desc{api().cudnnCreateRNNDataDescriptor,
                                 api().cudnnDestroyRNNDataDescriptor,
                                 "cudnnCreateRNNDataDescriptor"};
    Owned<cudnn::RnnData> y_desc{api().cudnnCreateRNNDataDescriptor,
                                 api().cudnnDestroyRNNDataDescriptor,
                                 "cudnnCreateRNNDataDescriptor"};
    Owned<cudnn::Tensor> h_desc{api().cudnnCreateTensorDescriptor,
                                api().cudnnDestroyTensorDescriptor, "cudnnCreateTensorDescriptor"};
    Owned<cudnn::Tensor> c_desc{api().cudnnCreateTensorDescriptor,
                                api().cudnnDestroyTensorDescriptor, "cudnnCreateTensorDescriptor"};
    std::vector<std::vector<Place>> matrix, bias; // [layer][linear layer]
    Shared<int32_t> lengths;
    Shared<char> weights, dweights, x, y, dy, dx, h, c, hy, cy, dh, dc, work, reserve;

    Peer(size_t algorithm, const Workload &w, Precision p, int layers);
    Place place(cudnn::Tensor desc, const void *at, int64_t rows, int64_t columns) const;
    void find_places();
    std::vector<char> packed() const;
    // Gathers all four gates of one layer from a copy of the gradients: (4H,H) or (4H).
    std::vector<float> gathered(const std::vector<char> &space, const std::vector<Place> &of,
                                int first) const;
    void forward();
    void backward();
};

Peer::Peer(size_t algorithm, const Workload &w, Precision p, int layers)
    : w(w), p(p), layers(layers), in(whole_input(w, layers, p, memory_of(p)))
{
    const bool half = element(p) == 2;
    const int type = p == Precision::F16    ? cudnn::CUDNN_DATA_HALF
                     : p == Precision::BF16 ? cudnn::CUDNN_DATA_BFLOAT16
                                            : cudnn::CUDNN_DATA_FLOAT,
              math = half                   ? cudnn::CUDNN_TENSOR_OP_MATH
                     : p == Precision::TF32 ? cudnn::CUDNN_DEFAULT_MATH
                                            : cudnn::CUDNN_FMA_MATH;
    const int H = (int)w.H, B = (int)w.B, T = (int)w.T, states[] = {layers, B, H},
              strides[] = {B * H, H, 1};
    const std::vector<int> length((size_t)B, T);
    CUDNN(cudnnSetDropoutDescriptor(dropout.get(), handle(), 0.0f, nullptr, 0, 0));
    CUDNN(cudnnSetRNNDescriptor_v8(
        rnn.get(), algorithm_numbers[algorithm], cudnn::CUDNN_LSTM, cudnn::CUDNN_RNN_DOUBLE_BIAS,
        cudnn::CUDNN_UNIDIRECTIONAL, cudnn::CUDNN_LINEAR_INPUT, type, cudnn::CUDNN_DATA_FLOAT, math,
        H, H, H, layers, dropout.get(), cudnn::CUDNN_RNN_PADDED_IO_ENABLED));
    if (algorithm_numbers[algorithm] == cudnn::CUDNN_RNN_ALGO_PERSIST_DYNAMIC)
        CUDNN(cudnnBuildRNNDynamic(handle(), rnn.get(), B));
    for (cudnn::RnnData desc : {x_desc.get(), y_desc.get()})
        CUDNN(cudnnSetRNNDataDescriptor(desc, type, cudnn::CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED,
                                        T, B, H, length.data(), nullptr));
    for (cudnn::Tensor desc : {h_desc.get(), c_desc.get()})
        CUDNN(cudnnSetTensorNdDescriptor(desc, type, 3, states, strides));
    size_t weight_bytes = 0, work_bytes = 0, reserve_bytes = 0;
    CUDNN(cudnnGetRNNWeightSpaceSize(handle(), rnn.get(), &weight_bytes));
    CUDNN(cudnnGetRNNTempSpaceSizes(handle(), rnn.get(), cudnn::CUDNN_FWD_MODE_TRAINING,
                                    x_desc.get(), &work_bytes, &reserve_bytes));
    weights = device_alloc<char>((int64_t)weight_bytes),
    dweights = device_alloc<char>((int64_t)weight_bytes);
    work = device_alloc<char>((int64_t)work_bytes + 16),
    reserve = device_alloc<char>((int64_t)reserve_bytes + 16);
    find_places();
    weights = device_copy(packed());
    lengths = device_copy(std::vector<int32_t>(length.begin(), length.end()));
    x = device_copy(stored(in.x, p)), dy = device_copy(stored(in.dy, p));
    h = device_copy(stored(in.h0, p)), c = device_copy(stored(in.c0, p));
    for (Shared<char> *one : {&y, &dx}) *one = device_alloc<char>((int64_t)x->bytes());
    for (Shared<char> *one : {&hy, &cy, &dh, &dc}) *one = device_alloc<char>((int64_t)h->bytes());
}

Place Peer::place(cudnn::Tensor desc, const void *at, int64_t rows, int64_t columns) const
{
    int type = -1, n = 0, dim[8] = {}, stride[8] = {};
    CUDNN(cudnnGetTensorNdDescriptor(desc, 8, &type, &n, dim, stride));
    const char *base = weights->get();
    Place found = {(size_t)((const char *)at - base), rows, columns, 0, 0};
    if (n == 3) found.row_stride = stride[1], found.column_stride = stride[2];
    const int64_t last = (rows - 1) * found.row_stride + (columns - 1) * found.column_stride;
    if (n != 3 || dim[0] != 1 || dim[1] != rows || dim[2] != columns || (const char *)at < base ||
        found.offset + (size_t)(last + 1) * element(p) > weights->bytes())
        fail("cuDNN stores a weight or bias in a shape that this program does not support");
    return found;
}

void Peer::find_places()
{
    Owned<cudnn::Tensor> m(api().cudnnCreateTensorDescriptor, api().cudnnDestroyTensorDescriptor,
                           "cudnnCreateTensorDescriptor"),
        b(api().cudnnCreateTensorDescriptor, api().cudnnDestroyTensorDescriptor,
          "cudnnCreateTensorDescriptor");
    matrix.assign((size_t)layers, {}), bias = matrix;
    for (int l = 0; l < layers; l++)
        for (int linear = 0; linear < 2 * GATES; linear++) {
            void *m_at = nullptr, *b_at = nullptr;
            CUDNN(cudnnGetRNNWeightParams(handle(), rnn.get(), l, weights->bytes(), weights->get(),
                                          linear, m.get(), &m_at, b.get(), &b_at));
            matrix[(size_t)l].push_back(place(m.get(), m_at, w.H, w.H));
            bias[(size_t)l].push_back(place(b.get(), b_at, w.H, 1));
        }
}

std::vector<char> Peer::packed() const
{
    std::vector<char> space(weights->bytes());
    const auto put = [&](const Place &at, const float *from) {
        for (int64_t r = 0; r < at.rows; r++)
            for (int64_t c = 0; c < at.columns; c++)
                store(&space[at.offset +
                             (size_t)(r * at.row_stride + c * at.column_stride) * element(p)],
                      from[r * at.columns + c], p);
    };
    for (size_t l = 0; l < (size_t)layers; l++)
        for (int gate = 0; gate < GATES; gate++) {
            const int64_t row = gate * w.H;
            put(matrix[l][(size_t)gate], &in.w_ih[l][(size_t)(row * w.H)]);
            put(matrix[l][(size_t)(gate + GATES)], &in.w_hh[l][(size_t)(row * w.H)]);
            put(bias[l][(size_t)gate], &in.b_ih[l][(size_t)row]);
            put(bias[l][(size_t)(gate + GATES)], &in.b_hh[l][(size_t)row]);
        }
    return space;
}

std::vector<float> Peer::gathered(const std::vector<char> &space, const std::vector<Place> &of,
                                  int first) const
{
    std::vector<float> all;
    for (int gate = 0; gate < GATES; gate++) {
        const Place &at = of[(size_t)(first + gate)];
        for (int64_t r = 0; r < at.rows; r++)
            for (int64_t c = 0; c < at.columns; c++)
                all.push_back(
                    load(&space[at.offset +
                                (size_t)(r * at.row_stride + c * at.column_stride) * element(p)],
                         p));
    }
    return all;
}

void Peer::forward()
{
    CUDNN(cudnnRNNForward(handle(), rnn.get(), cudnn::CUDNN_FWD_MODE_TRAINING, lengths->get(),
                          x_desc.get(), x->get(), y_desc.get(), y->get(), h_desc.get(), h->get(),
                          hy->get(), c_desc.get(), c->get(), cy->get(), weights->bytes(),
                          weights->get(), work->bytes(), work->get(), reserve->bytes(),
                          reserve->get()));
}

void Peer::backward()
{
    CUDNN(cudnnRNNBackwardData_v8(handle(), rnn.get(), lengths->get(), y_desc.get(), y->get(),
                                  dy->get(), x_desc.get(), dx->get(), h_desc.get(), h->get(),
                                  nullptr, dh->get(), c_desc.get(), c->get(), nullptr, dc->get(),
                                  weights->bytes(), weights->get(), work->bytes(), work->get(),
                                  reserve->bytes(), reserve->get()));
    // cuDNN adds to the existing gradients.
    CHECK(cudaMemsetAsync(dweights->get(), 0, dweights->bytes(), gpu.context.stream));
    CUDNN(cudnnRNNBackwardWeights_v8(handle(), rnn.get(), cudnn::CUDNN_WGRAD_MODE_ADD,
                                     lengths->get(), x_desc.get(), x->get(), h_desc.get(), h->get(),
                                     y_desc.get(), y->get(), dweights->bytes(), dweights->get(),
                                     work->bytes(), work->get(), reserve->bytes(), reserve->get()));
}

} // namespace

std::string cudnn_problem()
{
    std::string why_not;
    cudnn::open(&why_not);
    return why_not;
}

std::string cudnn_description()
{
    std::string why_not;
    const cudnn::Api *found = cudnn::open(&why_not);
    return found ? std::to_string(found->cudnnGetVersion()) + " " + found->from : why_not;
}

std::shared_ptr<Case> cudnn_case(size_t algorithm, const Workload &w, Precision p, int layers,
                                 bool back)
{
    auto d = std::make_shared<Peer>(algorithm, w, p, layers);
    auto c = std::make_shared<Case>();
    c->precision = p, c->peer = true;
    c->T = w.T, c->words = w.T * (w.true_B ? w.true_B : w.B);
    c->flops = whole_flops(w, layers, back),
    c->bytes = whole_bytes(w, layers, back) * (double)element(p) / 4;
    c->poison = [d](int) {
        for (const Shared<char> &one :
             {d->y, d->dx, d->hy, d->cy, d->dh, d->dc, d->dweights, d->work, d->reserve})
            one->poison();
    };
    c->run = [d, back](int) {
        d->forward();
        if (back) d->backward();
        return cudaSuccess;
    };
    c->check = [=](int) {
        const WholeKnown &k = whole_known(w, layers, p, memory_of(p));
        const Precision s = d->in.stored;
        Verdict all;
        join(&all, compare("y", loaded(d->y->host(), p), k.truth.y, k.plain.y, 2, of_units(w), s));
        if (!back) return all;
        join(&all,
             compare("dx", loaded(d->dx->host(), p), k.truth.dx, k.plain.dx, 3, of_units(w), s));
        const std::vector<char> grads = d->dweights->host();
        for (size_t l = 0; l < (size_t)layers; l++) {
            join(&all, compare("dw_ih", d->gathered(grads, d->matrix[l], 0), k.truth.dw_ih[l],
                               k.plain.dw_ih[l], 3, of_weights(w), s));
            join(&all, compare("dw_hh", d->gathered(grads, d->matrix[l], GATES), k.truth.dw_hh[l],
                               k.plain.dw_hh[l], 3, of_weights(w), s));
            join(&all, compare("db_ih", d->gathered(grads, d->bias[l], 0), k.truth.db[l],
                               k.plain.db[l], 3, of_biases(w), s));
            join(&all, compare("db_hh", d->gathered(grads, d->bias[l], GATES), k.truth.db[l],
                               k.plain.db[l], 3, of_biases(w), s));
        }
        return all;
    };
    return c;
}

} // namespace bench_gpu
