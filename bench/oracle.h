// oracle: the LSTM of kernels/lstm.h in plain loops. In double it is the truth; in float, with the operands rounded as a precision rounds
// them, it is the measure of the error that a precision may have. Sums run in order of the index.
#ifndef PLSTM_BENCH_ORACLE_H
#define PLSTM_BENCH_ORACLE_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "axes.h"

namespace oracle
{

using axes::Precision;
using std::int64_t;

// As a matrix unit reads an operand (TF32: ten bits of the fraction, the others cut off), or as memory of that type keeps a value.
inline float rounded(float x, Precision p)
{
    uint32_t bits;
    switch (p) {
    case Precision::F32: return x;
    case Precision::BF16: return __bfloat162float(__float2bfloat16(x));
    case Precision::F16: return __half2float(__float2half(x));
    case Precision::TF32: break;
    }
    std::memcpy(&bits, &x, 4);
    bits &= 0xffffe000u;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline double rounded(double x, Precision) { return x; }

template <class R> void round_all(std::vector<R> *v, Precision p)
{
    if (p == Precision::F32) return;
    for (R &x : *v) x = rounded(x, p);
}

// C (m,n) = op(A) op(B), row-major, as gemm.h has it.
template <class R, class S>
std::vector<R> product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const R *A, const S *B,
                       Precision operand)
{
    std::vector<R> C((size_t)(m * n)),
        b((size_t)(k * n)); // b: neighbours in memory are neighbours in a row of C
#pragma omp parallel for
    for (int64_t l = 0; l < k; l++)
        for (int64_t j = 0; j < n; j++)
            b[(size_t)(l * n + j)] = rounded((R)B[tb ? j * k + l : l * n + j], operand);
#pragma omp parallel for
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++) {
            const R a = rounded(A[ta ? l * m + i : i * k + l], operand);
            R *c = &C[(size_t)(i * n)];
            for (int64_t j = 0; j < n; j++) c[j] += a * b[(size_t)(l * n + j)];
        }
    return C;
}

// Single elements of such a C, `at` counted row by row.
template <class R>
std::vector<R> product_elements(bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                                const std::vector<float> &A, const std::vector<float> &B,
                                const std::vector<int64_t> &at, Precision operand)
{
    std::vector<R> out(at.size());
    for (size_t e = 0; e < at.size(); e++) {
        const int64_t i = at[e] / n, j = at[e] % n;
        for (int64_t l = 0; l < k; l++)
            out[e] += rounded((R)A[(size_t)(ta ? l * m + i : i * k + l)], operand) *
                      rounded((R)B[(size_t)(tb ? j * k + l : l * n + j)], operand);
    }
    return out;
}

// One layer's recurrence.
struct Cell {
    int64_t T, B, H;
    const float *w_hh, *b_ih, *b_hh; // (4H,H), (4H), (4H)
    Precision operand = Precision::F32, stored = Precision::F32;
};
// (T,B,4H), (T+1,B,H), (T+1,B,H)
template <class R> struct Saved {
    std::vector<R> gates, h, c;
};

// Row 0 of h and c and the gates, which hold x_proj, are in; the rest is out.
template <class R> void recur(const Cell &cell, Saved<R> *s)
{
    const int64_t B = cell.B, H = cell.H, G = 4 * H, tile = 64;
    std::vector<R> wt((size_t)(H * G)); // (H,4H): neighbours in memory are neighbours in a row of the result
#pragma omp parallel for
    for (int64_t k = 0; k < H; k++)
        for (int64_t j = 0; j < G; j++)
            wt[(size_t)(k * G + j)] = rounded((R)cell.w_hh[j * H + k], cell.operand);
    for (int64_t t = 0; t < cell.T; t++) {
        R *gates = &s->gates[(size_t)(t * B * G)];
        const R *h = &s->h[(size_t)(t * B * H)];
#pragma omp parallel for
        for (int64_t j0 = 0; j0 < G; j0 += tile)
            for (int64_t b = 0; b < B; b++)
                for (int64_t k = 0; k < H; k++) {
                    const R x = rounded(h[b * H + k], cell.operand);
                    for (int64_t j = j0; j < std::min(G, j0 + tile); j++)
                        gates[b * G + j] += x * wt[(size_t)(k * G + j)];
                }
#pragma omp parallel for
        for (int64_t n = 0; n < B * H; n++) {
            const int64_t b = n / H, u = n % H, now = (t + 1) * B * H + n;
            R *a = gates + b * G + u;
            for (int g = 0; g < 4; g++) {
                const R sum = a[g * H] + ((R)cell.b_ih[g * H + u] + (R)cell.b_hh[g * H + u]);
                a[g * H] = rounded(g == 2 ? std::tanh(sum) : 1 / (1 + std::exp(-sum)), cell.stored);
            }
            s->c[(size_t)now] = rounded(a[H] * s->c[(size_t)(now - B * H)] + a[0] * a[2 * H], cell.stored);
            s->h[(size_t)now] = rounded(a[3 * H] * std::tanh(s->c[(size_t)now]), cell.stored);
        }
    }
}

// dgates (T,B,4H) from what a forward pass left and from dh (T,B,H), the gradient that comes from above; S is the type of what was saved.
template <class R, class S>
std::vector<R> recur_back(const Cell &cell, const Saved<S> &s, const std::vector<R> &above)
{
    const int64_t B = cell.B, H = cell.H, G = 4 * H, tile = 64;
    std::vector<R> gates(s.gates.begin(), s.gates.end()), dh((size_t)(B * H)), dc((size_t)(B * H)),
        w((size_t)(G * H));
#pragma omp parallel for
    for (int64_t i = 0; i < G * H; i++) w[(size_t)i] = rounded((R)cell.w_hh[i], cell.operand);
    for (int64_t t = cell.T - 1; t >= 0; t--) {
        R *now = &gates[(size_t)(t * B * G)];
#pragma omp parallel for
        for (int64_t n = 0; n < B * H; n++) {
            const int64_t b = n / H, u = n % H;
            R *a = now + b * G + u;
            const R i = a[0], f = a[H], g = a[2 * H], o = a[3 * H];
            const R tc = std::tanh((R)s.c[(size_t)((t + 1) * B * H + n)]);
            const R down = above[(size_t)(t * B * H + n)] + dh[(size_t)n];
            const R flow = down * o * (1 - tc * tc) + dc[(size_t)n];
            a[0] = rounded(flow * g * i * (1 - i), cell.stored);
            a[H] = rounded(flow * (R)s.c[(size_t)(t * B * H + n)] * f * (1 - f), cell.stored);
            a[2 * H] = rounded(flow * i * (1 - g * g), cell.stored);
            a[3 * H] = rounded(down * tc * o * (1 - o), cell.stored);
            dc[(size_t)n] = flow * f;
        }
#pragma omp parallel for
        for (int64_t k0 = 0; k0 < H; k0 += tile)
            for (int64_t b = 0; b < B; b++) {
                R *to = &dh[(size_t)(b * H)];
                for (int64_t k = k0; k < std::min(H, k0 + tile); k++) to[k] = 0;
                for (int64_t j = 0; j < G; j++) {
                    const R x = rounded(now[b * G + j], cell.operand);
                    for (int64_t k = k0; k < std::min(H, k0 + tile); k++) to[k] += x * w[(size_t)(j * H + k)];
                }
            }
    }
    return gates;
}

// ---- whole layers, inputs of H as well ----

struct LayersInput {
    int64_t layers, T, B, H;
    Precision operand = Precision::F32, stored = Precision::F32;
    std::vector<std::vector<float>> w_ih, w_hh, b_ih, b_hh; // of each layer
    std::vector<float> x, h0, c0, dy;                       // (T,B,H), (layers,B,H), (layers,B,H), (T,B,H)
};
template <class R> struct LayersOutput {
    std::vector<Saved<R>> saved; // of each layer
    std::vector<R> y, dx;        // (T,B,H)
    std::vector<std::vector<R>> dw_ih, dw_hh, db;
};

inline Cell cell_of(const LayersInput &in, int64_t l)
{
    const size_t i = (size_t)l;
    return {in.T, in.B, in.H, in.w_hh[i].data(), in.b_ih[i].data(), in.b_hh[i].data(), in.operand, in.stored};
}

template <class R> LayersOutput<R> layers(const LayersInput &in)
{
    const int64_t T = in.T, H = in.H, G = 4 * H, N = T * in.B, row = in.B * H;
    LayersOutput<R> out;
    std::vector<std::vector<R>> x = {{in.x.begin(), in.x.end()}};
    for (int64_t l = 0; l < in.layers; l++) {
        Saved<R> s;
        s.gates = product(false, true, N, G, H, x.back().data(), in.w_ih[(size_t)l].data(), in.operand);
        round_all(&s.gates, in.stored);
        s.h.assign(in.h0.begin() + l * row, in.h0.begin() + (l + 1) * row),
            s.h.resize((size_t)((T + 1) * row));
        s.c.assign(in.c0.begin() + l * row, in.c0.begin() + (l + 1) * row),
            s.c.resize((size_t)((T + 1) * row));
        recur(cell_of(in, l), &s);
        x.emplace_back(s.h.begin() + row, s.h.end());
        out.saved.push_back(std::move(s));
    }
    out.y = x.back();
    std::vector<R> above(in.dy.begin(), in.dy.end());
    out.dw_ih.resize((size_t)in.layers), out.dw_hh = out.dw_ih, out.db = out.dw_ih;
    for (int64_t l = in.layers - 1; l >= 0; l--) {
        const size_t i = (size_t)l;
        const std::vector<R> dgates = recur_back(cell_of(in, l), out.saved[i], above);
        out.dw_ih[i] = product(true, false, G, H, N, dgates.data(), x[i].data(), in.operand);
        out.dw_hh[i] = product(true, false, G, H, N, dgates.data(), out.saved[i].h.data(), in.operand);
        out.db[i].assign((size_t)G, 0);
        for (size_t e = 0; e < dgates.size(); e++) out.db[i][e % (size_t)G] += dgates[e];
        above = product(false, false, N, H, G, dgates.data(), in.w_ih[i].data(), in.operand);
        round_all(&out.dw_ih[i], in.stored), round_all(&out.dw_hh[i], in.stored);
        round_all(&out.db[i], in.stored), round_all(&above, in.stored);
    }
    out.dx = above;
    return out;
}

} // namespace oracle

#endif
