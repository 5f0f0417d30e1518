// gpu_layers: the kernels of a training step besides the recurrence, and its matrix products.
#include "gpu.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "oracle.h"

extern "C" {
#include "host/data/batcher.h"
#include "host/store/params.h"
#include "host/backend/gemm.h"
}

namespace bench_gpu
{

namespace
{

// Returns the bytes of `words` floats or ids, 4 bytes each.
double bytes_of(int64_t words) { return 4.0 * (double)words; }

int64_t distinct(const std::vector<int32_t> &ids)
{
    return (int64_t)std::set<int32_t>(ids.begin(), ids.end()).size();
}

} // namespace

// ---- the other layers ----

std::shared_ptr<Case> embedding_forward_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B, H = w.H;
    auto encoder_host = std::make_shared<std::vector<float>>(drawn(1, V * H, w.init));
    auto ids_host = std::make_shared<std::vector<std::vector<int32_t>>>();
    auto ids = std::make_shared<std::vector<Shared<int32_t>>>();
    auto x = std::make_shared<std::vector<Shared<float>>>();
    auto encoder = device_copy(*encoder_host);
    for (int s = 0; s < sets; s++) {
        ids_host->push_back(drawn_ids((uint64_t)s, N));
        ids->push_back(device_copy(ids_host->back())), x->push_back(device_alloc<float>(N * H));
    }
    c->sets = sets;
    c->bytes = bytes_of(N + distinct((*ids_host)[0]) * H + N * H);
    c->poison = [x](int s) { (*x)[(size_t)s]->poison(); };
    c->run = [=](int s) {
        EmbeddingTable table = {};
        table.encoder = encoder->get();
        return embedding_forward(gpu.context.stream, N, H, (*ids)[(size_t)s]->get(), &table,
                                 mask_site(w, 0), (*x)[(size_t)s]->get());
    };
    c->check = [=](int s) {
        std::vector<float> right((size_t)(N * H));
        MaskKey key = mask_key(seed, the_step, (int)L + 1, 0, w.keep);
        for (int64_t n = 0; n < N; n++)
            for (int64_t u = 0; u < H; u++) {
                float kept =
                    w.keep < 1
                        ? (mask_nibble(&key, n, H, u & ~int64_t{3}) >> (u & 3) & 1 ? key.scale : 0)
                        : 1;
                right[(size_t)(n * H + u)] =
                    (*encoder_host)[(size_t)((*ids_host)[(size_t)s][(size_t)n] * H + u)] * kept;
            }
        return same("x", (*x)[(size_t)s]->host(), right);
    };
    return c;
}

template <class R>
std::vector<R> embedding_sums(const std::vector<int32_t> &ids, const std::vector<float> &dx,
                              int64_t H, const MaskKey *key)
{
    std::vector<R> rows_of(dx.size());
    std::map<int32_t, int64_t> seen;
    for (int64_t n = 0; n < (int64_t)ids.size(); n++) {
        int64_t to = seen.emplace(ids[(size_t)n], n).first->second;
        for (int64_t u = 0; u < H; u++) {
            bool kept = !key || (mask_nibble(key, n, H, u & ~int64_t{3}) >> (u & 3) & 1);
            R scale = key ? (R)key->scale : 1;
            rows_of[(size_t)(to * H + u)] += kept ? (R)dx[(size_t)(n * H + u)] * scale : 0;
        }
    }
    return rows_of;
}

std::shared_ptr<Case> embedding_backward_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B, H = w.H;
    struct Set {
        std::vector<int32_t> ids_host;
        std::vector<float> dx_host;
        Shared<int32_t> ids, first;
        Shared<float> dx, rows;
    };
    auto data = std::make_shared<std::vector<Set>>();
    for (int s = 0; s < sets; s++) {
        Set d;
        d.ids_host = drawn_ids((uint64_t)s, N), d.dx_host = drawn(16 + (uint32_t)s, N * H, 0.01);
        d.ids = device_copy(d.ids_host), d.dx = device_copy(d.dx_host);
        d.first = device_alloc<int32_t>(N), d.rows = device_alloc<float>(N * H);
        data->push_back(d);
    }
    c->sets = sets;
    c->bytes = bytes_of(2 * N + N * H + distinct((*data)[0].ids_host) * H);
    c->poison = [data](int s) {
        (*data)[(size_t)s].rows->poison(), (*data)[(size_t)s].first->poison();
    };
    c->run = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        return embedding_backward(gpu.context.stream, N, H, d.ids->get(), d.dx->get(),
                                  mask_site(w, 0), d.rows->get(), d.first->get());
    };
    c->check = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        MaskKey key = mask_key(seed, the_step, (int)L + 1, 0, w.keep);
        const MaskKey *mask = w.keep < 1 ? &key : nullptr;
        std::vector<float> ours = d.rows->host();
        std::vector<int32_t> first = d.first->host();
        for (int64_t n = 0; n < N; n++) // the kernel does not write the rows of repeated words
            if (first[(size_t)n] == 0) std::fill_n(ours.begin() + n * H, H, 0.0f);
        return compare("rows", ours, embedding_sums<double>(d.ids_host, d.dx_host, H, mask),
                       embedding_sums<float>(d.ids_host, d.dx_host, H, mask), 3);
    };
    return c;
}

template <class R>
void softmax(std::vector<R> *z, std::vector<R> *nats, const std::vector<float> &bias,
             const std::vector<int32_t> &target, R inverse_B)
{
    const int64_t N = (int64_t)target.size(), n_words = (int64_t)bias.size();
#pragma omp parallel for
    for (int64_t n = 0; n < N; n++) {
        R *row = z->data() + n * n_words, top = -std::numeric_limits<R>::infinity(), sum = 0;
        for (int64_t v = 0; v < n_words; v++) top = std::max(top, row[v] += (R)bias[(size_t)v]);
        for (int64_t v = 0; v < n_words; v++) sum += std::exp(row[v] - top);
        (*nats)[(size_t)n] = top + std::log(sum) - row[target[(size_t)n]];
        for (int64_t v = 0; v < n_words; v++)
            row[v] = (std::exp(row[v] - top) / sum - (v == target[(size_t)n] ? 1 : 0)) * inverse_B;
    }
}

std::shared_ptr<Case> softmax_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B;
    struct Set {
        std::vector<float> host;
        std::vector<int32_t> target_host;
        Shared<float> logits, kept, nats;
        Shared<int32_t> target;
    };
    auto bias_host = std::make_shared<std::vector<float>>(drawn(2, V, 0.1));
    auto bias = device_copy(*bias_host);
    auto data = std::make_shared<std::vector<Set>>();
    const float inverse_B = 1.0f / (float)w.B;
    for (int s = 0; s < sets; s++) {
        Set d;
        d.host = drawn(16 + (uint32_t)s, N * V, 5.0), d.target_host = drawn_ids((uint64_t)s, N);
        d.kept = device_copy(d.host), d.logits = device_alloc<float>(N * V),
        d.nats = device_alloc<float>(N);
        d.target = device_copy(d.target_host);
        data->push_back(d);
    }
    c->sets = sets;
    c->bytes = bytes_of(2 * N * V + V + 2 * N);
    c->poison = [data](int s) { (*data)[(size_t)s].nats->poison(); };
    c->restore = [data](int s) {
        (*data)[(size_t)s].logits->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        return softmax_xent(gpu.context.stream, N, V, bias->get(), d.target->get(), 1, inverse_B,
                            d.logits->get(), d.nats->get(), nullptr);
    };
    c->check = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        std::vector<double> z(d.host.begin(), d.host.end()), nats((size_t)N);
        std::vector<float> zf = d.host, nats_f((size_t)N);
        softmax<double>(&z, &nats, *bias_host, d.target_host, 1.0 / (double)w.B);
        softmax<float>(&zf, &nats_f, *bias_host, d.target_host, inverse_B);
        Verdict all = compare("nats", d.nats->host(), nats, nats_f, 2);
        join(&all, compare("dlogits", d.logits->host(), z, zf, 3));
        return all;
    };
    return c;
}

template <class R> std::vector<R> sums(const std::vector<float> &m, int64_t cols)
{
    std::vector<R> out((size_t)cols);
    for (size_t i = 0; i < m.size(); i++) out[i % (size_t)cols] += (R)m[i];
    return out;
}

std::shared_ptr<Case> column_sums_case(const Workload &w, int64_t cols)
{
    auto c = std::make_shared<Case>();
    const int64_t N = w.T * w.B;
    auto host = std::make_shared<std::vector<std::vector<float>>>();
    auto m = std::make_shared<std::vector<Shared<float>>>();
    auto out = device_alloc<float>(cols);
    for (int s = 0; s < sets; s++)
        host->push_back(drawn(16 + (uint32_t)s, N * cols, 0.01)),
            m->push_back(device_copy(host->back()));
    c->sets = sets;
    c->bytes = bytes_of(N * cols + cols);
    c->poison = [out](int) { out->poison(); };
    c->run = [=](int s) {
        return column_sums(gpu.context.stream, N, cols, (*m)[(size_t)s]->get(), out->get(),
                           nullptr);
    };
    c->check = [=](int s) {
        return compare("sums", out->host(), sums<double>((*host)[(size_t)s], cols),
                       sums<float>((*host)[(size_t)s], cols), 3);
    };
    return c;
}

// The parameters and gradients of a whole model in the backend's layout, with a separate encoder.
struct Optimizer {
    std::vector<float> weights_host, grads_host, encoder_host, rows_host;
    std::vector<int32_t> ids_host, first_host;
    Shared<float> weights, weights_kept, grads, encoder, encoder_kept, rows, nats;
    Shared<int32_t> ids, first;
    Shared<double> partial;
    Shared<StepResult> results;
    SgdArgs args = {};
};

std::shared_ptr<Optimizer> optimizer(const Workload &w)
{
    auto o = std::make_shared<Optimizer>();
    ModelShape shape = {};
    shape = model_shape_of_words(V, w.H, L);
    const int64_t N = w.T * w.B, dense = params_elements(&shape) - V * w.H;
    o->weights_host = drawn(1, dense, w.init), o->grads_host = drawn(2, dense, 0.01);
    o->encoder_host = drawn(3, V * w.H, w.init), o->rows_host = drawn(4, N * w.H, 0.01);
    o->ids_host = drawn_ids(0, N);
    std::map<int32_t, int> seen;
    for (int32_t id : o->ids_host) o->first_host.push_back(seen[id]++ == 0);
    o->weights_kept = device_copy(o->weights_host), o->weights = device_copy(o->weights_host);
    o->grads = device_copy(o->grads_host), o->rows = device_copy(o->rows_host);
    o->encoder_kept = device_copy(o->encoder_host), o->encoder = device_copy(o->encoder_host);
    o->ids = device_copy(o->ids_host), o->first = device_copy(o->first_host);
    o->nats = device_copy(drawn(5, N, 1.0));
    o->partial = device_alloc<double>(sgd_partials(dense, N)),
    o->results = device_alloc<StepResult>(1);
    SgdArgs &a = o->args;
    a.state = gpu.state->get(), a.fault = gpu.fault->get(), a.weights = o->weights->get(),
    a.grads = o->grads->get();
    a.dense = dense, a.encoder = o->encoder->get(), a.rows = o->rows->get(), a.ids = o->ids->get();
    a.first = o->first->get(), a.N = N, a.H = w.H, a.nats = o->nats->get(), a.scored = N,
    a.partial = o->partial->get();
    a.results = o->results->get();
    return o;
}

double true_norm(const Optimizer &o)
{
    double sum = 0;
    for (float g : o.grads_host) sum += (double)g * g;
    for (size_t i = 0; i < o.rows_host.size(); i++)
        if (o.first_host[i / (size_t)o.args.H]) sum += (double)o.rows_host[i] * o.rows_host[i];
    return std::sqrt(sum);
}

std::shared_ptr<Case> sgd_norm_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    auto o = optimizer(w);
    c->bytes = bytes_of(o->args.dense + distinct(o->ids_host) * w.H);
    c->poison = [o](int) { o->partial->poison(); };
    c->run = [o](int) { return sgd_norm(gpu.context.stream, &o->args); };
    c->check = [o](int) {
        Verdict v;
        double sum = 0, right = true_norm(*o);
        for (double p : o->partial->host()) sum += p;
        // Squares of floats are exact in double, so the only error is from the order of about 1e8
        // sums.
        v.error = std::fabs(std::sqrt(sum) - right) / right + (spoil ? 1 : 0), v.bound = 1e-9;
        if (!(v.error <= v.bound)) v.fault = "wrong: the gradient norm";
        return v;
    };
    return c;
}

std::shared_ptr<Case> sgd_update_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    auto o = optimizer(w);
    c->bytes = bytes_of(
        3 * (o->args.dense + distinct(o->ids_host) * w.H)); // weight and gradient in, weight out
    c->restore = [o](int) {
        o->weights->copy_from(*o->weights_kept, gpu.context.stream);
        o->encoder->copy_from(*o->encoder_kept, gpu.context.stream);
    };
    c->poison = [o](int) {
        CHECK(sgd_norm(gpu.context.stream, &o->args));
        gpu.wait();
    };
    c->run = [o](int) { return sgd_update(gpu.context.stream, &o->args); };
    c->check = [o](int) {
        const double norm = true_norm(*o), scale = norm > 5 ? 5 / norm : 1, lr = 0.5;
        std::vector<double> truth(o->weights_host.begin(), o->weights_host.end());
        std::vector<float> plain = o->weights_host;
        const float rate = (float)(lr * scale);
        for (size_t i = 0; i < plain.size(); i++)
            truth[i] -= lr * scale * (double)o->grads_host[i], plain[i] -= rate * o->grads_host[i];
        Verdict all = compare("weights", o->weights->host(), truth, plain, 3);
        truth.assign(o->encoder_host.begin(), o->encoder_host.end()), plain = o->encoder_host;
        const size_t H = (size_t)o->args.H;
        for (size_t i = 0; i < o->rows_host.size(); i++)
            if (o->first_host[i / H]) {
                size_t at = (size_t)o->ids_host[i / H] * H + i % H;
                truth[at] -= lr * scale * (double)o->rows_host[i],
                    plain[at] -= rate * o->rows_host[i];
            }
        join(&all, compare("encoder", o->encoder->host(), truth, plain, 3));
        return all;
    };
    return c;
}

std::shared_ptr<Case> step_begin_case(const Workload &w)
{
    auto c = std::make_shared<Case>();
    const int64_t n = 64 * w.B * (w.T + 1);
    auto host = std::make_shared<std::vector<int32_t>>(drawn_ids(0, n));
    auto ids = device_copy(*host);
    auto x = device_alloc<int32_t>(w.T * w.B), y = device_alloc<int32_t>(w.T * w.B);
    auto first = device_copy(std::vector<StepState>(1)),
         state = device_copy(std::vector<StepState>(1));
    c->bytes = bytes_of(3 * w.T * w.B);
    c->restore = [=](int) { state->copy_from(*first, gpu.context.stream); };
    c->poison = [=](int) { x->poison(), y->poison(); };
    c->run = [=](int) {
        return step_begin(gpu.context.stream, state->get(), 4, ids->get(), n, w.T, w.B, x->get(),
                          y->get(), CarriedRows{});
    };
    c->check = [=](int) {
        Batcher b;
        Error e;
        std::vector<int32_t> right_x((size_t)(w.T * w.B)), right_y((size_t)(w.T * w.B));
        if (batcher_init(&b, host->data(), n, w.B, w.T, "bench", &e)) fail(e.text);
        batcher_window(&b, 0, right_x.data(), right_y.data());
        Verdict all = same("x", x->host(), right_x);
        join(&all, same("y", y->host(), right_y));
        return all;
    };
    return c;
}
// ---- matrix products ----

std::vector<Product> products(const Workload &w)
{
    const int64_t N = w.T * w.B, H = w.H, G = 4 * H;
    return {{"x_proj", false, true, N, G, H, 'x', 'w', ' ', H},
            {"dx", false, false, N, H, G, ' ', 'w', ' ', H},
            {"dw_ih", true, false, G, H, N, ' ', 'x', 'w', H},
            {"logits", false, true, N, V, H, 'x', 'w', ' ', H},
            {"dh", false, false, N, H, V, ' ', 'w', ' ', H},
            {"dw_dec", true, false, V, H, N, ' ', 'x', 'w', H}};
}

GemmRows product_rows(const Product &p, Precision precision)
{
    const auto pitch = [&](char whose) -> int64_t {
        const int64_t unit = whose == ' '                                   ? 1
                             : precision == Precision::BF16                 ? 8
                             : precision == Precision::TF32 && whose == 'w' ? 4
                                                                            : 1;
        return p.width % unit ? p.width + unit - p.width % unit : 0;
    };
    return {pitch(p.a), pitch(p.b), pitch(p.c)};
}

namespace
{

// Returns `rows` rows of `width` numbers, `pitch` apart with zeros between them; pitch 0: no gaps.
template <class T>
std::vector<T> spread(const std::vector<T> &x, int64_t rows, int64_t width, int64_t pitch)
{
    if (!pitch) return x;
    std::vector<T> out((size_t)(rows * pitch));
    for (int64_t r = 0; r < rows; r++)
        std::copy_n(x.begin() + r * width, width, out.begin() + r * pitch);
    return out;
}

} // namespace

// Runs a product as the cuda backend does (host/backend/gemm.h): by cuBLASLt with the library's
// first suggestion, or with PLSTM_TUNE=1 its fastest; with the backend's gaps between rows, or
// without gaps.
std::shared_ptr<Case> product_case(const Product &p, Precision precision, bool gaps)
{
    if (precision != Precision::F32 && gpu.facts.major < 8)
        throw Refused(std::string("products in ") + name_of(precision) + " need sm_80");
    auto c = std::make_shared<Case>();
    auto host = std::make_shared<std::vector<std::vector<float>>>();
    auto a = std::make_shared<std::vector<Shared<float>>>();
    auto b_host = std::make_shared<std::vector<float>>(drawn(1, p.k * p.n, 0.1));
    auto a16 = std::make_shared<std::vector<Shared<uint16_t>>>();
    const bool bf16 = precision == Precision::BF16;
    const GemmRows rows = gaps ? product_rows(p, precision) : GemmRows{0, 0, 0};
    const int64_t a_rows = p.ta ? p.k : p.m, a_width = p.ta ? p.m : p.k, b_rows = p.tb ? p.n : p.k,
                  b_width = p.tb ? p.k : p.n, c_pitch = rows.c ? rows.c : p.n;
    auto b = bf16 ? nullptr : device_copy(spread(*b_host, b_rows, b_width, rows.b));
    auto b16 = bf16 ? device_copy(spread(bf16_bits(*b_host), b_rows, b_width, rows.b)) : nullptr;
    auto out = device_alloc<float>(p.m * c_pitch);
    for (int s = 0; s < sets; s++) {
        host->push_back(drawn(16 + (uint32_t)s, p.m * p.k, 0.5));
        if (bf16)
            a16->push_back(device_copy(spread(bf16_bits(host->back()), a_rows, a_width, rows.a)));
        else a->push_back(device_copy(spread(host->back(), a_rows, a_width, rows.a)));
    }
    const std::shared_ptr<Gemm> algorithm(new Gemm(), [](Gemm *of) {
        gemm_close(of);
        delete of;
    });
    const GemmShape shape = {p.ta, p.tb, p.m, p.n, p.k, rows};
    const int64_t offset = gaps && bf16 ? (p.width + 7) / 8 * 8 : p.width;
    const auto A = [=](int s) -> const void * {
        return bf16 ? (const void *)(*a16)[(size_t)s]->get() : (*a)[(size_t)s]->get();
    };
    const void *B = bf16 ? (const void *)b16->get() : b->get();
    Error e;
    if (gemm_open(algorithm.get(), lstm_precision_of(precision), &gpu.facts, gpu.context.blas,
                  gpu.context.stream, gpu.workspace->get(), Gpu::workspace_bytes, offset, nullptr,
                  &e) ||
        gemm_prepare(algorithm.get(), shape, A(0), B, out->get(), &e))
        fail(e.text);
    c->sets = sets, c->precision = precision,
    c->flops = 2.0 * (double)p.m * (double)p.n * (double)p.k;
    c->bytes = bytes_of(p.m * p.n) + bytes_of(p.m * p.k + p.k * p.n) / (bf16 ? 2 : 1);
    c->poison = [out](int) { out->poison(); };
    c->run = [=](int s) {
        (void)b, (void)b16; // b and b16 own B
        Error why;
        if (gemm_run(algorithm.get(), shape, A(s), B, out->get(), &why)) fail(why.text);
        return cudaSuccess;
    };
    c->check = [=](int s) {
        std::vector<int64_t> at;
        for (int64_t e = 0; e < 509; e++)
            at.push_back((int64_t)((double)e / 509 * (double)(p.m * p.n)));
        std::vector<float> all = out->host(), ours;
        for (int64_t i : at) ours.push_back(all[(size_t)(i / p.n * c_pitch + i % p.n)]);
        const std::vector<float> &A = (*host)[(size_t)s];
        Verdict v = compare(
            "C", ours,
            oracle::product_elements<double>(p.ta, p.tb, p.m, p.n, p.k, A, *b_host, at, precision),
            oracle::product_elements<float>(p.ta, p.tb, p.m, p.n, p.k, A, *b_host, at, precision),
            2);
        for (int64_t i = 0; i < p.m * c_pitch; i++)
            if (std::isnan(all[(size_t)i]) != (i % c_pitch >= p.n))
                v.fault = "wrong: an element of C was not written, or one between its rows was";
        return v;
    };
    return c;
}

} // namespace bench_gpu
