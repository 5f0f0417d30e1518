// gpu_tuned: see tuned_gemm.h.
#include "tuned_gemm.h"

#include "gpu.h"

#include <algorithm>
#include <cublasLt.h>
#include <map>
#include <tuple>

namespace bench_gpu
{

namespace
{

// A product with the arguments of gemm_rowmajor.
struct Shape {
    int ta, tb;
    int64_t m, n, k;
    bool adds; // whether beta is not 0
    Precision precision;

    bool operator<(const Shape &o) const
    {
        return std::tie(ta, tb, m, n, k, adds, precision) <
               std::tie(o.ta, o.tb, o.m, o.n, o.k, o.adds, o.precision);
    }
};

Precision precision = Precision::F32; // of the current row

cublasLtHandle_t lt()
{
    static cublasLtHandle_t handle = nullptr; // never destroyed
    if (!handle) CHECK(cublasLtCreate(&handle));
    return handle;
}

const int most_candidates = 32;

class Candidates
{
  public:
    explicit Candidates(const Shape &s)
    {
        const cublasComputeType_t compute =
            s.precision == Precision::TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
        // cuBLAS is column-major and computes C' = B' * A', so its first operand is our B.
        const cublasOperation_t first = s.tb ? CUBLAS_OP_T : CUBLAS_OP_N,
                                second = s.ta ? CUBLAS_OP_T : CUBLAS_OP_N;
        CHECK(cublasLtMatmulDescCreate(&product, compute, CUDA_R_32F));
        CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                             sizeof first));
        CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                             sizeof second));
        layout(&b, s.tb ? s.k : s.n, s.tb ? s.n : s.k);
        layout(&a, s.ta ? s.m : s.k, s.ta ? s.k : s.m);
        layout(&c, s.n, s.m);
        cublasLtMatmulPreference_t preference;
        const size_t bytes = Gpu::workspace_bytes;
        // The operands are rows of larger tensors, so the start of a step determines the alignment.
        const auto aligned = [](int64_t elements) { return elements % 4 ? 4u : 16u; };
        const uint32_t of_a = aligned(s.m * s.k), of_b = aligned(s.k * s.n),
                       of_c = aligned(s.m * s.n);
        CHECK(cublasLtMatmulPreferenceCreate(&preference));
        const struct {
            cublasLtMatmulPreferenceAttributes_t name;
            const void *value;
            size_t size;
        } wanted_of_it[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes},
                            {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &of_b, sizeof of_b},
                            {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &of_a, sizeof of_a},
                            {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of_c, sizeof of_c},
                            {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of_c, sizeof of_c}};
        for (const auto &one : wanted_of_it)
            CHECK(cublasLtMatmulPreferenceSetAttribute(preference, one.name, one.value, one.size));
        found.resize(most_candidates);
        int n = 0;
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
            lt(), product, b, a, c, c, preference, most_candidates, found.data(), &n);
        found.resize(status == CUBLAS_STATUS_SUCCESS ? (size_t)n : 0);
        found.erase(
            std::remove_if(found.begin(), found.end(),
                           [](const auto &one) { return one.state != CUBLAS_STATUS_SUCCESS; }),
            found.end());
    }
    size_t count() const { return found.size(); }
    cublasStatus_t run(size_t i, float alpha, const float *A, const float *B, float beta,
                       float *C) const
    {
        return cublasLtMatmul(lt(), product, &alpha, B, b, A, a, &beta, C, c, C, c, &found[i].algo,
                              gpu.workspace->get(), Gpu::workspace_bytes, gpu.context.stream);
    }

  private:
    // The descriptors are never destroyed; there is one set per shape.
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    std::vector<cublasLtMatmulHeuristicResult_t> found;

    static void layout(cublasLtMatrixLayout_t *to, int64_t rows, int64_t columns)
    {
        CHECK(cublasLtMatrixLayoutCreate(to, CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, rows));
    }
};

struct Choice {
    std::shared_ptr<Candidates> candidates;
    size_t index = 0;
    bool transposed = false; // whether B is read from a transposed copy
};

std::map<Shape, Choice> choices;
std::map<const float *, Shared<float>> copies; // the transposed copy of each B
std::string chosen;

// Returns the transposed copy of B (rows,columns).
const float *copy_of(const float *B, int64_t rows, int64_t columns)
{
    Shared<float> &copy = copies[B];
    if (copy) return copy->get();
    std::vector<float> from((size_t)(rows * columns)), to(from.size());
    gpu.wait();
    CHECK(cudaMemcpy(from.data(), B, from.size() * 4, cudaMemcpyDeviceToHost));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[(size_t)(c * rows + r)] = from[(size_t)(r * columns + c)];
    copy = device_copy(to);
    return copy->get();
}

const unsigned queueing_cycles = 300000; // about 0.2 ms, in which that many launches queue up

// Returns the microseconds of one product among many, the least of a few tries, or NaN if it cannot
// run.
double time_of(const std::function<cublasStatus_t()> &product)
{
    const int tries = tiny ? 1 : 5, times = tiny ? 1 : 20;
    double best = INFINITY;
    for (int t = 0; t < tries + 1; t++) { // the first try loads the kernels
        float ms = 0;
        // Without the delay the launches would take longer than small products.
        CHECK(constants_delay(gpu.context.stream, queueing_cycles, gpu.clock));
        CHECK(cudaEventRecord(gpu.before, gpu.context.stream));
        for (int i = 0; i < times; i++)
            if (product() != CUBLAS_STATUS_SUCCESS) return NAN;
        CHECK(cudaEventRecord(gpu.after, gpu.context.stream));
        CHECK(cudaEventSynchronize(gpu.after));
        CHECK(cudaEventElapsedTime(&ms, gpu.before, gpu.after));
        if (t > 0) best = std::min(best, (double)ms * 1e3 / times);
    }
    return best;
}

Choice tuned(const Shape &s, const float *A, const float *B)
{
    Choice best;
    double least = INFINITY;
    Device<float> C((size_t)(s.m * s.n)); // the caller's C must not change
    CHECK(cudaMemset(C.get(), 0, C.bytes()));
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaDeviceSynchronize());
    for (bool transposed : {false, true}) {
        Shape other = s;
        other.tb = transposed ? !s.tb : s.tb;
        const float *from = transposed ? copy_of(B, s.tb ? s.n : s.k, s.tb ? s.k : s.n) : B;
        auto candidates = std::make_shared<Candidates>(other);
        for (size_t i = 0; i < candidates->count(); i++) {
            const double us = time_of(
                [&] { return candidates->run(i, 1.0f, A, from, s.adds ? 1.0f : 0.0f, C.get()); });
            if (us < least)
                least = us, best.candidates = candidates, best.index = i,
                best.transposed = transposed;
        }
    }
    if (!best.candidates) throw Refused("cuBLASLt has no algorithm for a product of this shape");
    return best;
}

std::string text_of(const Choice &c)
{
    return "algorithm=" + std::to_string(c.index + 1) + "/" +
           std::to_string(c.candidates->count()) +
           (c.transposed ? " weights=transposed" : " weights=as-stored");
}

int launches(const LstmShape *shape, int backward)
{
    return (int)(2 * shape->T - (backward ? 1 : 0));
}

cudaError_t prepare_both()
{
    const cudaError_t error = fwd_tuned_prepare();
    return error ? error : bwd_tuned_prepare();
}

LstmFootprint footprint()
{
    LstmFootprint f = {};
    f.name = "cublas_tuned",
    f.summary =
        "cublas with the fastest of cuBLASLt's algorithms and the better layout of the weights";
    return f;
}
const LstmFootprint tuned_footprint = footprint();

LstmVariant variant()
{
    LstmVariant v = {};
    v.footprint = &tuned_footprint, v.prepare = prepare_both, v.launches = launches;
    v.forward = fwd_tuned_run, v.backward = bwd_tuned_run;
    return v;
}

} // namespace

const LstmVariant cublas_tuned = variant();

void tuned_begin(Precision p)
{
    precision = p;
    copies.clear();
    chosen.clear();
}

std::string tuned_label() { return chosen; }

} // namespace bench_gpu

using namespace bench_gpu;

extern "C" cublasStatus_t tuned_gemm(cublasHandle_t, int ta, int tb, int64_t m, int64_t n,
                                     int64_t k, float alpha, const float *A, const float *B,
                                     float beta, float *C)
{
    const Shape s = {ta, tb, m, n, k, beta != 0, precision};
    if (!choices.count(s)) choices[s] = tuned(s, A, B);
    const Choice &c = choices[s];
    if (chosen.empty()) chosen = text_of(c);
    return c.candidates->run(c.index, alpha, A,
                             c.transposed ? copy_of(B, tb ? n : k, tb ? k : n) : B, beta, C);
}
