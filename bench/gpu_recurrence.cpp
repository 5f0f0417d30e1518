// gpu_recurrence: the recurrence of one layer by a variant, forward and backward, and the plain loops that it
// must agree with.
#include "gpu.h"

#include <algorithm>

namespace bench_gpu
{

namespace
{

template <class R> struct Recurrence {
    std::vector<R> gates, h, c, y;
};

struct RecurrenceInput {
    Workload w;
    bool tf32;
    std::vector<float> w_hh, b_ih, b_hh, x_proj, h0, c0, dy;
    MaskKey mask;
    bool masked;
};

template <class R> R factor(const RecurrenceInput &in, int64_t row, int64_t u)
{
    if (!in.masked) return 1;
    unsigned kept = mask_quad(&in.mask, row, in.w.H, u & ~int64_t{3});
    return kept >> (u & 3) & 1 ? (R)(1 / in.w.keep) : 0;
}

template <class R> Recurrence<R> forward(const RecurrenceInput &in)
{
    const int64_t T = in.w.T, B = in.w.B, H = in.w.H, G = 4 * H;
    Recurrence<R> out;
    out.gates.assign(in.x_proj.begin(), in.x_proj.end());
    out.h.assign((size_t)((T + 1) * B * H), 0), out.c = out.h, out.y.assign((size_t)(T * B * H), 0);
    std::copy(in.h0.begin(), in.h0.end(), out.h.begin());
    std::copy(in.c0.begin(), in.c0.end(), out.c.begin());
    std::vector<R> wt((size_t)(H * G)); // (H,4H): neighbours in memory are neighbours in a row of the result
#pragma omp parallel for
    for (int64_t k = 0; k < H; k++)
        for (int64_t j = 0; j < G; j++)
            wt[(size_t)(k * G + j)] = operand((R)in.w_hh[(size_t)(j * H + k)], in.tf32);
    const int64_t tile = 64;
    for (int64_t t = 0; t < T; t++) {
        R *gates = &out.gates[(size_t)(t * B * G)];
        const R *h = &out.h[(size_t)(t * B * H)];
#pragma omp parallel for
        for (int64_t j0 = 0; j0 < G; j0 += tile)
            for (int64_t b = 0; b < B; b++)
                for (int64_t k = 0; k < H; k++) {
                    R x = operand(h[b * H + k], in.tf32);
                    for (int64_t j = j0; j < std::min(G, j0 + tile); j++)
                        gates[b * G + j] += x * wt[(size_t)(k * G + j)];
                }
#pragma omp parallel for
        for (int64_t n = 0; n < B * H; n++) {
            int64_t b = n / H, u = n % H, now = (t + 1) * B * H + n;
            R *a = gates + b * G + u;
            for (int g = 0; g < 4; g++) {
                R sum = a[g * H] + ((R)in.b_ih[(size_t)(g * H + u)] + (R)in.b_hh[(size_t)(g * H + u)]);
                a[g * H] = g == 2 ? std::tanh(sum) : 1 / (1 + std::exp(-sum));
            }
            out.c[(size_t)now] = a[H] * out.c[(size_t)(now - B * H)] + a[0] * a[2 * H];
            out.h[(size_t)now] = a[3 * H] * std::tanh(out.c[(size_t)now]);
            out.y[(size_t)(t * B * H + n)] = out.h[(size_t)now] * factor<R>(in, t * B + b, u);
        }
    }
    return out;
}

// dgates (T,B,4H) from what a forward pass left.
template <class R> std::vector<R> backward(const RecurrenceInput &in, const Recurrence<float> &saved)
{
    const int64_t T = in.w.T, B = in.w.B, H = in.w.H, G = 4 * H, tile = 64;
    std::vector<R> gates(saved.gates.begin(), saved.gates.end()), dh((size_t)(B * H)), dc((size_t)(B * H));
    std::vector<R> w((size_t)(G * H));
#pragma omp parallel for
    for (int64_t i = 0; i < G * H; i++) w[(size_t)i] = operand((R)in.w_hh[(size_t)i], in.tf32);
    for (int64_t t = T - 1; t >= 0; t--) {
        R *now = &gates[(size_t)(t * B * G)];
#pragma omp parallel for
        for (int64_t n = 0; n < B * H; n++) {
            int64_t b = n / H, u = n % H;
            R *a = now + b * G + u, i = a[0], f = a[H], g = a[2 * H], o = a[3 * H];
            R tc = std::tanh((R)saved.c[(size_t)((t + 1) * B * H + n)]);
            R down = (R)in.dy[(size_t)(t * B * H + n)] * factor<R>(in, t * B + b, u) + dh[(size_t)n];
            R flow = down * o * (1 - tc * tc) + dc[(size_t)n];
            a[0] = flow * g * i * (1 - i);
            a[H] = flow * (R)saved.c[(size_t)(t * B * H + n)] * f * (1 - f);
            a[2 * H] = flow * i * (1 - g * g);
            a[3 * H] = down * tc * o * (1 - o);
            dc[(size_t)n] = flow * f;
        }
#pragma omp parallel for
        for (int64_t k0 = 0; k0 < H; k0 += tile)
            for (int64_t b = 0; b < B; b++) {
                R *to = &dh[(size_t)(b * H)];
                for (int64_t k = k0; k < std::min(H, k0 + tile); k++) to[k] = 0;
                for (int64_t j = 0; j < G; j++) {
                    R x = operand(now[b * G + j], in.tf32);
                    for (int64_t k = k0; k < std::min(H, k0 + tile); k++) to[k] += x * w[(size_t)(j * H + k)];
                }
            }
    }
    return gates;
}
RecurrenceInput recurrence_input(const Workload &w, bool tf32, uint32_t set)
{
    const int64_t N = w.T * w.B;
    RecurrenceInput in;
    in.w = w, in.tf32 = tf32;
    in.w_hh = drawn(1, 4 * w.H * w.H, w.init);
    in.b_ih = drawn(2, 4 * w.H, w.init), in.b_hh = drawn(3, 4 * w.H, w.init);
    in.x_proj = drawn(16 + set, N * 4 * w.H, 1.0);
    in.h0 = drawn(32 + set, w.B * w.H, 0.5), in.c0 = drawn(48 + set, w.B * w.H, 1.0);
    in.dy = drawn(64 + set, N * w.H, 0.01);
    in.masked = w.keep < 1;
    in.mask = mask_key(seed, the_step, (int)L + 1, 1, w.keep);
    return in;
}

// One set's tensors.
struct RecurrenceSet {
    RecurrenceInput in;
    Recurrence<float> plain; // saved tensors that backward starts from
    Shared<float> gates, kept, h, c, y, dy, dh, dc;
};

double recurrence_flops(const Workload &w) { return 8.0 * (double)(w.T * w.B) * (double)w.H * (double)w.H; }
} // namespace

std::shared_ptr<Case> forward_case(const LstmVariant *variant, const Workload &w, bool tf32)
{
    auto c = std::make_shared<Case>();
    auto data = std::make_shared<std::vector<RecurrenceSet>>();
    const int64_t row = w.B * w.H;
    for (int s = 0; s < sets; s++) {
        RecurrenceSet d;
        d.in = recurrence_input(w, tf32, (uint32_t)s);
        d.kept = on_device(d.in.x_proj), d.gates = room<float>(w.T * w.B * 4 * w.H);
        d.h = room<float>((w.T + 1) * row), d.c = room<float>((w.T + 1) * row);
        d.y = room<float>(w.T * row);
        data->push_back(d);
    }
    auto w_hh = on_device((*data)[0].in.w_hh), b_ih = on_device((*data)[0].in.b_ih),
         b_hh = on_device((*data)[0].in.b_hh);
    c->sets = sets, c->tf32 = tf32, c->flops = recurrence_flops(w), c->T = w.T;
    c->poison = [data, row](int s) {
        RecurrenceSet &d = (*data)[(size_t)s];
        d.h->poison(), d.c->poison(), d.y->poison();
        CHECK(cudaMemcpy(d.h->get(), d.in.h0.data(), (size_t)row * 4, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpy(d.c->get(), d.in.c0.data(), (size_t)row * 4, cudaMemcpyHostToDevice));
    };
    c->restore = [data](int s) {
        (*data)[(size_t)s].gates->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const RecurrenceSet &d = (*data)[(size_t)s];
        LstmForward p = {};
        p.shape = {w.T, w.B, w.H};
        p.w_hh = w_hh->get(), p.b_ih = b_ih->get(), p.b_hh = b_hh->get();
        p.gates = d.gates->get(), p.h = d.h->get(), p.c = d.c->get();
        p.output = mask_site(w, 1);
        p.y = p.output.on ? d.y->get() : nullptr;
        return variant->forward(&gpu.context, &p);
    };
    c->check = [data](int s) {
        RecurrenceSet &d = (*data)[(size_t)s];
        Verdict all;
        if (s > 0 && !spoil) return all; // one set against the loops; the others differ in numbers alone
        Recurrence<double> truth = forward<double>(d.in);
        Recurrence<float> plain = forward<float>(d.in);
        join(&all, compare("gates", d.gates->host(), truth.gates, plain.gates, 2));
        join(&all, compare("c", d.c->host(), truth.c, plain.c, 2));
        join(&all, compare("h", d.h->host(), truth.h, plain.h, 2));
        if (d.in.masked) join(&all, compare("y", d.y->host(), truth.y, plain.y, 2));
        return all;
    };
    return c;
}

std::shared_ptr<Case> backward_case(const LstmVariant *variant, const Workload &w, bool tf32)
{
    auto c = std::make_shared<Case>();
    auto data = std::make_shared<std::vector<RecurrenceSet>>();
    for (int s = 0; s < sets; s++) {
        RecurrenceSet d;
        d.in = recurrence_input(w, tf32, (uint32_t)s);
        // A pass over random saved tensors costs what one over true ones costs; the set that is checked has
        // true ones.
        if (s == 0) {
            d.plain = forward<float>(d.in);
        } else {
            d.plain = (*data)[0].plain;
        }
        d.kept = on_device(d.plain.gates), d.gates = room<float>(w.T * w.B * 4 * w.H);
        d.h = on_device(d.plain.h), d.c = on_device(d.plain.c), d.dy = on_device(d.in.dy);
        d.dh = room<float>(w.B * w.H), d.dc = room<float>(w.B * w.H);
        data->push_back(d);
    }
    auto w_hh = on_device((*data)[0].in.w_hh);
    c->sets = sets, c->tf32 = tf32, c->flops = recurrence_flops(w), c->T = w.T;
    c->poison = [data](int s) { (*data)[(size_t)s].dh->poison(), (*data)[(size_t)s].dc->poison(); };
    c->restore = [data](int s) {
        (*data)[(size_t)s].gates->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const RecurrenceSet &d = (*data)[(size_t)s];
        LstmBackward p = {};
        p.shape = {w.T, w.B, w.H};
        p.w_hh = w_hh->get(), p.h = d.h->get(), p.c = d.c->get(), p.dy = d.dy->get();
        p.gates = d.gates->get(), p.dh = d.dh->get(), p.dc = d.dc->get();
        p.output = mask_site(w, 1);
        return variant->backward(&gpu.context, &p);
    };
    c->check = [data](int s) {
        RecurrenceSet &d = (*data)[(size_t)s];
        if (s > 0 && !spoil) return Verdict();
        return compare("dgates", d.gates->host(), backward<double>(d.in, d.plain),
                       backward<float>(d.in, d.plain), 3);
    };
    return c;
}

} // namespace bench_gpu
