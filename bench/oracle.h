// oracle: the loops of tests/support/oracle.h for whole recurrences, layers and products. In double
// it is the reference; in float, with the operands rounded to a precision, it gives the error that
// the precision may have. The products are cblas_dgemm and cblas_sgemm, so that the check before
// the timing is cheap; sound() compares them with loops that sum in the order of the index.
#ifndef PLSTM_BENCH_ORACLE_H
#define PLSTM_BENCH_ORACLE_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <cblas.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "axes.h"

namespace oracle
{

using axes::Precision;
using std::int64_t;

// Computes C (m,n) = op(A) * op(B) + beta * C, row-major and packed, as in gemm.h.
inline void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const double *A,
                 const double *B, double beta, double *C)
{
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)k, 1.0, A, (int)(ta ? m : k), B, (int)(tb ? k : n), beta, C,
                (int)n);
}
inline void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *A, const float *B,
                 float beta, float *C)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)k, 1.0f, A, (int)(ta ? m : k), B, (int)(tb ? k : n), beta, C,
                (int)n);
}

} // namespace oracle

#define ORACLE_PRODUCT(rows, m, n, x, w, out) oracle::gemm(false, false, rows, n, m, x, w, 1, out)
#include "tests/support/oracle_both.h"

namespace oracle
{

inline float half_of(float x) { return __half2float(__float2half(x)); }

// The rounding of an operand that a library passes to a matrix unit, or of a value stored in that
// type.
inline OracleRound round_of(Precision p)
{
    return p == Precision::BF16   ? oracle_bf16
           : p == Precision::F16  ? half_of
           : p == Precision::TF32 ? oracle_tf32_cut
                                  : nullptr;
}
inline float rounded(float x, Precision p) { return p == Precision::F32 ? x : round_of(p)(x); }
inline double rounded(double x, Precision) { return x; }

template <class R> void round_all(std::vector<R> *v, Precision p)
{
    if (p == Precision::F32) return;
    for (R &x : *v) x = rounded(x, p);
}

// Returns n values, rounded as operands of a product in R.
template <class R, class S> std::vector<R> operand_of(const S *v, size_t n, Precision p)
{
    std::vector<R> to(n);
#pragma omp parallel for
    for (int64_t i = 0; i < (int64_t)n; i++) to[(size_t)i] = rounded((R)v[i], p);
    return to;
}

// Returns C (m,n) = op(A) * op(B), row-major, of rounded operands.
template <class R, class S>
std::vector<R> product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const R *A, const S *B,
                       Precision operand)
{
    const std::vector<R> a = operand_of<R>(A, (size_t)(m * k), operand),
                         b = operand_of<R>(B, (size_t)(k * n), operand);
    std::vector<R> C((size_t)(m * n));
    gemm(ta, tb, m, n, k, a.data(), b.data(), 0, C.data());
    return C;
}

// Returns single elements of such a C; `at` has their row-major indices.
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
    OracleRound operand = nullptr, stored = nullptr;
};
// The saved tensors: gates (T,B,4H), h and c (T+1,B,H).
template <class R> struct Saved {
    std::vector<R> gates, h, c;
};

// Sets the rounding of the loops until the end of the scope; double is never rounded.
struct Rounding {
    template <class R> Rounding(const Cell &cell, R)
    {
        const bool plain = sizeof(R) == sizeof(float);
        oracle_operand = plain ? cell.operand : nullptr,
        oracle_stored = plain ? cell.stored : nullptr;
    }
    ~Rounding() { oracle_operand = oracle_stored = nullptr; }
};
static const OracleMask everything = {};

// Runs the recurrence forward. The inputs are row 0 of h and c, and x_proj in gates; the other rows
// are outputs. `from` is the first step; the results of earlier steps are already there.
template <class R> void recur(const Cell &cell, Saved<R> *s, int64_t from = 0)
{
    const int64_t B = cell.B, H = cell.H, T = cell.T - from, done = from * B * H;
    const std::vector<R> w(cell.w_hh, cell.w_hh + 4 * H * H), b_ih(cell.b_ih, cell.b_ih + 4 * H),
        b_hh(cell.b_hh, cell.b_hh + 4 * H);
    std::vector<R> y((size_t)(T * B * H)), h_masked(y.size());
    const auto forward = [](auto... of) {
        if constexpr (sizeof(R) == sizeof(float)) forward_f32(of...);
        else forward_f64(of...);
    };
    const Rounding rounding(cell, R());
    forward(T, B, H, w.data(), b_ih.data(), b_hh.data(), s->gates.data() + 4 * done,
            s->h.data() + done, s->c.data() + done, y.data(), h_masked.data(), &everything,
            &everything);
}

// Returns dgates (T,B,4H) from the tensors saved by a forward pass and from dh (T,B,H), the
// gradient from the layer above; S is the type of the saved tensors.
template <class R, class S>
std::vector<R> recur_back(const Cell &cell, const Saved<S> &s, const std::vector<R> &above)
{
    const int64_t B = cell.B, H = cell.H;
    const std::vector<R> w(cell.w_hh, cell.w_hh + 4 * H * H), c(s.c.begin(), s.c.end());
    std::vector<R> gates(s.gates.begin(), s.gates.end()), carry((size_t)(2 * B * H));
    const auto backward = [](auto... of) {
        if constexpr (sizeof(R) == sizeof(float)) backward_f32(of...);
        else backward_f64(of...);
    };
    const Rounding rounding(cell, R());
    backward(cell.T, B, H, w.data(), c.data(), above.data(), gates.data(), carry.data(),
             &everything, &everything);
    return gates;
}

// Compares the products above with loops, on a tiny shape, since a library that chose wrong kernels
// for this CPU must not serve as the reference. Returns a sentence if they differ, else an empty
// string.
inline std::string sound()
{
    const int64_t m = 7, n = 5, k = 33;
    std::vector<float> A((size_t)(m * k)), B((size_t)(k * n));
    for (size_t i = 0; i < A.size(); i++) A[i] = (float)((int)(i * 37 % 101) - 50) / 64;
    for (size_t i = 0; i < B.size(); i++) B[i] = (float)((int)(i * 53 % 89) - 44) / 64;
    const std::vector<double> A64(A.begin(), A.end());
    for (int trans = 0; trans < 4; trans++) {
        const bool ta = trans & 1, tb = trans & 2;
        const std::vector<double> truth =
            product(ta, tb, m, n, k, A64.data(), B.data(), Precision::F32);
        for (Precision p : {Precision::F32, Precision::BF16}) {
            const std::vector<float> fast = product(ta, tb, m, n, k, A.data(), B.data(), p);
            for (int64_t e = 0; e < m * n; e++) {
                const int64_t i = e / n, j = e % n;
                double sum = 0, exact = 0, size = 0;
                for (int64_t l = 0; l < k; l++) {
                    const float a = A[(size_t)(ta ? l * m + i : i * k + l)],
                                b = B[(size_t)(tb ? j * k + l : l * n + j)];
                    sum += (double)rounded(a, p) * rounded(b, p), exact += (double)a * b,
                        size += std::fabs((double)a * b);
                }
                if (std::fabs(fast[(size_t)e] - sum) > (double)k * size * 0x1p-24 ||
                    std::fabs(truth[(size_t)e] - exact) > (double)k * size * 0x1p-53)
                    return "OpenBLAS's product differs from plain loops at element " +
                           std::to_string(e) + "; OPENBLAS_CORETYPE chooses its kernels";
            }
        }
    }
    return "";
}

// ---- whole layers, with inputs of width H ----

struct LayersInput {
    int64_t layers, T, B, H;
    Precision operand = Precision::F32, stored = Precision::F32;
    std::vector<std::vector<float>> w_ih, w_hh, b_ih, b_hh; // of each layer
    std::vector<float> x, h0, c0, dy; // (T,B,H), (layers,B,H), (layers,B,H), (T,B,H)
};
template <class R> struct LayersOutput {
    std::vector<Saved<R>> saved; // of each layer
    std::vector<R> y, dx;        // (T,B,H)
    std::vector<std::vector<R>> dw_ih, dw_hh, db;
};

inline Cell cell_of(const LayersInput &in, int64_t l)
{
    const size_t i = (size_t)l;
    return {in.T,
            in.B,
            in.H,
            in.w_hh[i].data(),
            in.b_ih[i].data(),
            in.b_hh[i].data(),
            round_of(in.operand),
            round_of(in.stored)};
}

template <class R> LayersOutput<R> layers(const LayersInput &in)
{
    const int64_t T = in.T, H = in.H, G = 4 * H, N = T * in.B, row = in.B * H;
    LayersOutput<R> out;
    std::vector<std::vector<R>> x = {{in.x.begin(), in.x.end()}};
    for (int64_t l = 0; l < in.layers; l++) {
        Saved<R> s;
        s.gates =
            product(false, true, N, G, H, x.back().data(), in.w_ih[(size_t)l].data(), in.operand);
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
        out.dw_hh[i] =
            product(true, false, G, H, N, dgates.data(), out.saved[i].h.data(), in.operand);
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
