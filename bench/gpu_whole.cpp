// gpu_whole: whole layers by a variant: the input projection, the recurrence and, backward, the
// gradients of input, weights and biases. This is the work of one cuDNN call, so the two are
// comparable. There are no masks.
#include "gpu.h"

#include <algorithm>

#include "oracle.h"
#include "whole.h"

namespace bench_gpu
{

oracle::LayersInput whole_input(const Workload &w, int layers, Precision p, Precision stored)
{
    const int64_t N = w.T * w.B, H = w.H;
    oracle::LayersInput in = {};
    in.layers = layers, in.T = w.T, in.B = w.B, in.H = H, in.operand = p, in.stored = stored;
    const auto draw = [&](uint32_t key, int64_t n, double scale) {
        std::vector<float> v = drawn(key, n, scale);
        // the reference starts from values that the tensors can represent
        oracle::round_all(&v, in.stored);
        return v;
    };
    for (int l = 0; l < layers; l++) {
        const uint32_t key = 100 + 4 * (uint32_t)l;
        in.w_ih.push_back(draw(key, 4 * H * H, w.init)),
            in.w_hh.push_back(draw(key + 1, 4 * H * H, w.init));
        in.b_ih.push_back(draw(key + 2, 4 * H, w.init)),
            in.b_hh.push_back(draw(key + 3, 4 * H, w.init));
    }
    in.x = draw(16, N * H, 1.0), in.dy = draw(64, N * H, 0.01);
    in.h0 = draw(32, layers * w.B * H, 0.5), in.c0 = draw(48, layers * w.B * H, 1.0);
    return in;
}

const WholeKnown &whole_known(const Workload &w, int layers, Precision p, Precision stored)
{
    // In double no operand is rounded, so the reference depends only on the type of the tensors,
    // and precisions with the same type share it.
    static std::string shape, precision;
    static WholeKnown known;
    const std::string now = shape_name(w) + "/" + std::to_string(layers) + "/" + name_of(stored);
    if (now == shape && precision == name_of(p)) return known;
    const oracle::LayersInput in = whole_input(w, layers, p, stored);
    if (now != shape) known.truth = oracle::layers<double>(in);
    known.plain = oracle::layers<float>(in);
    shape = now, precision = name_of(p);
    return known;
}

double whole_flops(const Workload &w, int layers, bool backward)
{
    return (double)layers * (backward ? 3 : 1) * 16.0 * (double)(w.T * w.B) * (double)w.H *
           (double)w.H;
}

double whole_bytes(const Workload &w, int layers, bool backward)
{
    const double weights = 8.0 * (double)(w.H * w.H), N = (double)(w.T * w.B), H = (double)w.H;
    // Forward: weights, x, the saved gates and c, h. Backward: these again, dy, dx, the weight
    // gradients.
    return 4.0 * (double)layers *
           (backward ? 3 * weights + 2 * N * 7 * H + 2 * N * H : weights + N * 7 * H);
}

namespace
{

struct Layer {
    Shared<float> w_ih, w_hh, b_ih, b_hh, gates, h, c, dw_ih, dw_hh, db;
    // bf16: operands of the products over all positions, whose rows begin on 16 bytes, as in the
    // cuda backend
    Shared<uint16_t> w_ih16, h16;
    std::shared_ptr<Launch> forward, backward;
};

struct Whole {
    oracle::LayersInput in;
    std::vector<Layer> layer;
    // dx: of the current layer, then of the layer below, alternating with dx2
    Shared<float> x, dy, dx, dh, dc;
    Shared<float> dx2;
    Shared<uint16_t> x16, dgates16; // bf16
    bool bf16() const { return x16 != nullptr; }
};

// Returns the pitch of the rows of x, h and w_ih in bf16.
int64_t pitch_of(int64_t H) { return (H + 7) / 8 * 8; }

// Returns the rows as bf16 with that pitch.
Shared<uint16_t> pitched(const std::vector<float> &v, int64_t H)
{
    const std::vector<uint16_t> from = bf16_bits(v);
    const size_t rows = from.size() / (size_t)H, pitch = (size_t)pitch_of(H);
    std::vector<uint16_t> to(rows * pitch);
    for (size_t r = 0; r < rows; r++)
        std::copy_n(from.begin() + (std::ptrdiff_t)(r * (size_t)H), H,
                    to.begin() + (std::ptrdiff_t)(r * pitch));
    return device_copy(to);
}

std::vector<float> part(const std::vector<float> &v, int64_t at, int64_t n)
{
    return std::vector<float>(v.begin() + at, v.begin() + at + n);
}

cudaError_t gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, const float *b,
                 float *c)
{
    return gemm_error(gemm_rowmajor(gpu.context.blas, ta, tb, m, n, k, 1.0f, a, b, 0.0f, c));
}
cudaError_t gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const uint16_t *a,
                 const uint16_t *b, float *c, const GemmRows &rows)
{
    return gemm_error(gemm_rows_bf16(gpu.context.blas, ta, tb, m, n, k, 1.0f, a, b, 0.0f, c, rows));
}

cudaError_t forward(const LstmVariant *variant, const Workload &w, const Whole &d)
{
    const int64_t N = w.T * w.B, H = w.H, pitch = pitch_of(H);
    cudaError_t error = cudaSuccess;
    const float *x = d.x->get();
    const uint16_t *x16 = d.bf16() ? d.x16->get() : nullptr;
    for (const Layer &l : d.layer) {
        LstmForward a = {};
        if (!error)
            error = d.bf16() ? gemm(false, true, N, 4 * H, H, x16, l.w_ih16->get(), l.gates->get(),
                                    {pitch, pitch, 0})
                             : gemm(false, true, N, 4 * H, H, x, l.w_ih->get(), l.gates->get());
        a.shape = l.forward->shape;
        a.w_tiles = l.forward->tiles ? l.forward->tiles->get() : nullptr;
        a.w_hh = l.w_hh->get(), a.b_ih = l.b_ih->get(), a.b_hh = l.b_hh->get();
        a.w_packed = l.forward->packed ? l.forward->packed->get() : nullptr;
        a.gates = l.gates->get(), a.h = l.h->get(), a.c = l.c->get();
        // the copy of all steps
        a.h_bf16 = d.bf16() ? l.h16->get() : nullptr, a.bf16_pitch = pitch;
        a.launch = l.forward->args();
        if (!error) error = variant->forward(&gpu.context, &a);
        x = l.h->get() + w.B * H, x16 = d.bf16() ? l.h16->get() + w.B * pitch : nullptr;
    }
    return error;
}

// Computes the gradients of layer i's weights, biases and input from dgates.
cudaError_t products(const Workload &w, const Whole &d, size_t i, const float *dgates,
                     const float *x, float *dx)
{
    const int64_t N = w.T * w.B, H = w.H;
    const Layer &l = d.layer[i];
    cudaError_t error = gemm(true, false, 4 * H, H, N, dgates, x, l.dw_ih->get());
    if (!error) error = gemm(true, false, 4 * H, H, N, dgates, l.h->get(), l.dw_hh->get());
    if (!error) error = column_sums(gpu.context.stream, N, 4 * H, dgates, l.db->get(), nullptr);
    return error ? error : gemm(false, false, N, H, 4 * H, dgates, l.w_ih->get(), dx);
}
cudaError_t products16(const Workload &w, const Whole &d, size_t i, const float *dgates, float *dx)
{
    const int64_t N = w.T * w.B, H = w.H, pitch = pitch_of(H);
    const Layer &l = d.layer[i];
    const uint16_t *x = i ? d.layer[i - 1].h16->get() + w.B * pitch : d.x16->get(),
                   *rounded = d.dgates16->get();
    cudaError_t error = column_sums_bf16(gpu.context.stream, N, 4 * H, dgates, l.db->get(), nullptr,
                                         d.dgates16->get());
    const GemmRows rows = {0, pitch, 0};
    if (!error) error = gemm(true, false, 4 * H, H, N, rounded, x, l.dw_ih->get(), rows);
    if (!error) error = gemm(true, false, 4 * H, H, N, rounded, l.h16->get(), l.dw_hh->get(), rows);
    return error ? error : gemm(false, false, N, H, 4 * H, rounded, l.w_ih16->get(), dx, rows);
}

cudaError_t backward(const LstmVariant *variant, const Workload &w, const Whole &d)
{
    const int64_t H = w.H;
    cudaError_t error = cudaSuccess;
    const float *dy = d.dy->get();
    for (size_t i = d.layer.size(); i-- > 0;) {
        const Layer &l = d.layer[i];
        const float *x = i ? d.layer[i - 1].h->get() + w.B * H : d.x->get();
        float *dx = (i % 2 ? d.dx2 : d.dx)->get(), *dgates = l.gates->get();
        LstmBackward a = {};
        a.shape = l.backward->shape;
        a.w_tiles = l.backward->tiles ? l.backward->tiles->get() : nullptr;
        a.w_hh = l.w_hh->get(), a.h = l.h->get(), a.c = l.c->get(), a.dy = dy;
        a.gates = dgates, a.dh = d.dh->get(), a.dc = d.dc->get();
        a.launch = l.backward->args();
        if (!error) error = variant->backward(&gpu.context, &a);
        if (!error)
            error = d.bf16() ? products16(w, d, i, dgates, dx) : products(w, d, i, dgates, x, dx);
        dy = dx;
    }
    return error;
}

} // namespace

std::shared_ptr<Case> whole_case(const LstmVariant *variant, const Workload &w, Precision p,
                                 int layers, bool back)
{
    const int64_t N = w.T * w.B, H = w.H, row = w.B * H;
    auto c = std::make_shared<Case>();
    begin_variant(c.get(), variant, p);
    Launch(variant, w, p, false); // throws Refused before any memory is allocated
    if (back) Launch(variant, w, p, true);
    auto d = std::make_shared<Whole>();
    d->in = whole_input(w, layers, p, Precision::F32);
    d->x = device_copy(d->in.x), d->dy = device_copy(d->in.dy), d->dx = device_alloc<float>(N * H),
    d->dx2 = device_alloc<float>(N * H);
    d->dh = device_alloc<float>(row), d->dc = device_alloc<float>(row);
    if (p == Precision::BF16)
        d->x16 = pitched(d->in.x, H), d->dgates16 = device_alloc<uint16_t>(4 * N * H);
    for (int i = 0; i < layers; i++) {
        const size_t at = (size_t)i;
        Layer l;
        l.w_ih = device_copy(d->in.w_ih[at]), l.w_hh = device_copy(d->in.w_hh[at]);
        l.b_ih = device_copy(d->in.b_ih[at]), l.b_hh = device_copy(d->in.b_hh[at]);
        l.gates = device_alloc<float>(N * 4 * H), l.h = device_alloc<float>(N * H + row),
        l.c = device_alloc<float>(N * H + row);
        if (d->bf16())
            l.w_ih16 = pitched(d->in.w_ih[at], H),
            l.h16 = device_alloc<uint16_t>((N + w.B) * pitch_of(H));
        l.dw_ih = device_alloc<float>(4 * H * H), l.dw_hh = device_alloc<float>(4 * H * H),
        l.db = device_alloc<float>(4 * H);
        l.forward = std::make_shared<Launch>(variant, w, p, false),
        l.forward->pack(w, l.w_hh->get());
        if (back) l.backward = std::make_shared<Launch>(variant, w, p, true);
        if (back) l.backward->pack(w, l.w_hh->get());
        d->layer.push_back(l);
    }
    c->plan = d->layer[0].forward->plan_text();
    if (back && !c->plan.empty()) c->plan += "; backward " + d->layer[0].backward->plan_text();
    c->precision = p, c->T = w.T, c->words = w.T * (w.true_B ? w.true_B : w.B);
    c->flops = whole_flops(w, layers, back), c->bytes = whole_bytes(w, layers, back);
    c->poison = [d, row, back](int) {
        d->dx->poison(), d->dx2->poison(), d->dh->poison(), d->dc->poison();
        for (size_t i = 0; i < d->layer.size(); i++) {
            const Layer &l = d->layer[i];
            for (const Shared<float> &out : {l.gates, l.h, l.c, l.dw_ih, l.dw_hh, l.db})
                out->poison();
            if (d->bf16()) l.h16->poison(), d->dgates16->poison();
            const size_t bytes = (size_t)row * 4, from = i * (size_t)row;
            upload(l.h->get(), d->in.h0.data() + from, bytes);
            upload(l.c->get(), d->in.c0.data() + from, bytes);
        }
    };
    c->run = [=](int) {
        const cudaError_t error = forward(variant, w, *d);
        return error || !back ? error : backward(variant, w, *d);
    };
    c->check = [=](int) {
        const WholeKnown &k = whole_known(w, layers, p, Precision::F32);
        Verdict all;
        join(&all, compare("y", part(d->layer.back().h->host(), row, N * H), k.truth.y, k.plain.y,
                           2, of_units(w)));
        for (size_t i = 0; i < d->layer.size() && back; i++) {
            join(&all, compare("dw_ih", d->layer[i].dw_ih->host(), k.truth.dw_ih[i],
                               k.plain.dw_ih[i], 3, of_weights(w)));
            join(&all, compare("dw_hh", d->layer[i].dw_hh->host(), k.truth.dw_hh[i],
                               k.plain.dw_hh[i], 3, of_weights(w)));
            join(&all, compare("db", d->layer[i].db->host(), k.truth.db[i], k.plain.db[i], 3,
                               of_biases(w)));
        }
        if (back) join(&all, compare("dx", d->dx->host(), k.truth.dx, k.plain.dx, 3, of_units(w)));
        return all;
    };
    return c;
}

} // namespace bench_gpu
