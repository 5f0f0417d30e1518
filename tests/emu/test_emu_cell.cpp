/* Compares both forms of the cell's forward pass (kernels/cell.cuh) with a cell in double. The form
 * for GPUs that issue in order, such as the K20, is compiled into no other program of the
 * emulator. */
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <vector>

extern "C" {
#include <cmocka.h>
}

#include "cell_kernels.h"
#include "emu.h"

/* Half a unit in the last place of 1. */
static const double u = 0x1p-24;

/* Returns how much a sigmoid s may err. exp(-x) has a relative error of 4 u from 2^r (two units in
 * the last place, 2^-22) and of 0.7 u from r (two roundings below 1); of this, s gets the factor
 * 1 - s. The sum 1 + exp(-x) and its reciprocal (one unit in the last place) add 1 u and 2 u of s.
 * A value below the smallest normal number is 0. */
static double sigmoid_bound(double s) { return s * (4.7 * (1 - s) + 3) * u + 0x1p-126; }

/* How much a tanh may err.
 *   From x = 0.6 on it is 1 - 2 r with r = 1 / (E + 1) and E = exp(2 x). E has a relative error of
 *     (4 + 3 x) u, which 2 r gets with the factor 2 r (1 - r). This is largest at 0.6: 2.1 u. E + 1
 *     adds 2 r u = 0.46 u, the reciprocal 0.93 u, and the last rounding 0.5 u.
 *   Below 0.6 it is a polynomial that is off by at most two units in the last place, as CUDA states
 *     for tanhf: 2 u. */
static const double TANH_BOUND = 4 * u;

static double drawn(double range)
{
    static uint32_t state = 2463534242u;
    state = state * 1664525u + 1013904223u;
    return range * ((double)(state >> 8) / 8388608.0 - 1.0);
}

static std::vector<CellCase> inputs()
{
    std::vector<CellCase> cells;
    for (double range : {0.05, 1.0, 4.0, 20.0})
        for (int n = 0; n < 2000; n++)
            cells.push_back({(float)drawn(range), (float)drawn(range), (float)drawn(range),
                             (float)drawn(range), (float)drawn(3), 0});
    /* These are where a form changes, and where a sigmoid or its exponential leaves the range of
     * floats. */
    for (float x : {0.0f, 0.59999996f, 0.6f, 0.55f, 9.0109138f, 9.01091385f, 15.0f, 87.0f, 88.0f,
                    89.0f, 103.0f, 120.0f, 1e6f, 1e30f})
        for (float sign : {-1.0f, 1.0f})
            for (float c : {0.0f, 0.6f, -1.0f})
                cells.push_back({sign * x, -sign * x, sign * x, sign * x, c, 0});
    return cells;
}

template <class T> static T *on_device(const std::vector<T> &from)
{
    void *p = nullptr;
    size_t bytes = from.size() * sizeof(T);
    assert_int_equal(cudaMalloc(&p, bytes), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, from.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
    return (T *)p;
}

template <class T> static void fetch(std::vector<T> &to, T *p)
{
    assert_int_equal(cudaMemcpy(to.data(), p, to.size() * sizeof(T), cudaMemcpyDeviceToHost),
                     cudaSuccess);
    cudaFree(p);
}

static int far(const CellCase &x, const CellCase &y)
{
    const double i = 1 / (1 + exp(-(double)x.i)), f = 1 / (1 + exp(-(double)x.f)),
                 g = tanh((double)x.g), o = 1 / (1 + exp(-(double)x.o)), c = f * x.c + i * g;
    const double of_i = sigmoid_bound(i), of_f = sigmoid_bound(f), of_o = sigmoid_bound(o);
    /* Each factor's error is multiplied by the other factor; two products and a sum are rounded. */
    const double of_c = of_f * fabs(x.c) + of_i + TANH_BOUND + 2 * (fabs(x.c) + 1) * u;
    const struct {
        double error, bound;
    } all[] = {{y.i - i, of_i}, {y.f - f, of_f}, {y.g - g, TANH_BOUND},
               {y.o - o, of_o}, {y.c - c, of_c}, {y.h - o * tanh(c), of_o + of_c + TANH_BOUND + u}};
    for (const auto &e : all)
        if (!(fabs(e.error) <= e.bound)) {
            print_message("i %g f %g g %g o %g c %g: number %d is off by %.3g u, at most %.3g\n",
                          (double)x.i, (double)x.f, (double)x.g, (double)x.o, (double)x.c,
                          (int)(&e - all), e.error / u, e.bound / u);
            return 1;
        }
    return 0;
}

static void compare(int in_order)
{
    const std::vector<CellCase> cells = inputs();
    std::vector<CellCase> out = cells;
    CellCase *p = on_device(cells);
    assert_int_equal(kernel_cells(p, (int)cells.size(), in_order), cudaSuccess);
    fetch(out, p);
    int bad = 0;
    for (size_t n = 0; n < cells.size() && bad < 5; n++) bad += far(cells[n], out[n]);
    assert_int_equal(bad, 0);
}

static void test_cell(void **) { compare(0); }
static void test_cell_in_order(void **) { compare(1); }

/* A NaN in any input reaches the output. */
static void test_nan_is_kept(void **)
{
    for (int in_order = 0; in_order < 2; in_order++) {
        std::vector<CellCase> out(5, CellCase{0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0});
        out[0].i = out[1].f = out[2].g = out[3].o = out[4].c = NAN;
        CellCase *p = on_device(out);
        assert_int_equal(kernel_cells(p, 5, in_order), cudaSuccess);
        fetch(out, p);
        for (const CellCase &cell : out) assert_true(isnan(cell.h));
    }
}

/* Compares __fmaf_rd with the C library's fmaf in that rounding mode. */
static void test_rounded_down(void **)
{
    std::vector<float> x, want;
    for (int n = 0; n < 3000; n++) {
        /* A third of the cases has the cell's own operands: a fraction, 252, and about
         * 1.5 * 2^23. */
        float a = (float)(n % 3 ? drawn(1) : fabs(drawn(1))), b = n % 3 ? (float)drawn(3) : 252.0f,
              c = n % 3 == 1 ? (float)drawn(1e-7)
                  : n % 3    ? (float)drawn(1)
                             : 12582913.0f;
        x.insert(x.end(), {a, b, c});
    }
    fesetround(FE_DOWNWARD);
    for (size_t n = 0; n < x.size(); n += 3) {
        volatile float a = x[n];
        want.push_back(fmaf(a, x[n + 1], x[n + 2]));
    }
    fesetround(FE_TONEAREST);
    float *p = on_device(x);
    assert_int_equal(kernel_round_down(p, (int)want.size()), cudaSuccess);
    fetch(x, p);
    for (size_t n = 0; n < want.size(); n++) assert_true(x[3 * n] == want[n]);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cell),
        cmocka_unit_test(test_cell_in_order),
        cmocka_unit_test(test_nan_is_kept),
        cmocka_unit_test(test_rounded_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
