/* Bounds the effect of --precision on a window's gradients, on the cpu backend, which simulates it,
 * and on the cuda backend.
 *
 * The bound is a running first-order analysis of rounding errors, in the probabilistic manner of
 * N. J. Higham and T. Mary (SIAM J. Sci. Comput. 41, 2019). Every value of the window is computed
 * in double together with s, the standard deviation of its error, by these rules:
 *
 *   - Rounding an operand to p significant bits has a relative error of at most u = 2^-p (bf16: p =
 *     8, tf32: p = 11; f32: operands are not rounded). If the error is uniform on its interval, its
 *     variance is at most u^2/3 of the operand's square.
 *   - A product's sum_k a_k b_k of K terms has 2 K such errors, and the errors of a_k and b_k
 *     themselves. Errors of different terms are treated as independent, of mean 0, so their
 *     variances add:
 *         s^2 = sum (2 u^2/3 (a_k b_k)^2 + a_k^2 s(b_k)^2 + b_k^2 s(a_k)^2)
 *     and the float32 roundings of the sum add at most K 2^-24 sum |a_k b_k| to s.
 *   - f(x) has s = |f'(x)| s(x). A product of two values and a sum of two values are as above,
 *     without operand rounding. Each result is rounded to float32, which adds 1 unit of 2^-24, or 4
 *     units for a function. So s propagates through all T steps, forward and backward.
 *   - Sums over positions without factors (gradients of biases and words) have terms whose errors
 *     come from the same rounded weights: their s are added, which is valid for any correlation.
 *
 * So E ||error||^2 = ||s||^2 over a gradient's tensor. The error against the double reference must
 * be ||error|| <= 2 ||s||. To show that this test can fail, a fault is planted: sums that are also
 * kept in bfloat16, whose error over K = 200 positions is about sqrt(K)/2 = 7 times that of the
 * operands' rounding. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>
#include <cmocka.h>

#include "host/backend/backend_cpu.h"
#include "host/backend/backend_cuda.h"
#include "host/backend/backend_reference.h"
#include "host/plan/device.h"
#include "host/train/model.h"
#include "host/plan/precision.h"
#include "kernels/philox.h"

#include "tests/support/group.h"
#ifdef CUDA_EMU
#include "emu.h"
#endif

enum { V = 31, H = 32, L = 2, T = 4, B = 50, N = T * B, STEP = 77, ALLOWED = 2 };
static const double keep = 0.5, float_ulp = 0x1p-24;

/* ---- the planted fault ---- */

/* Sums are kept in bfloat16 in every product of OpenBLAS, which the emulated cuBLAS uses, and in
 * the products of the cpu backend, whose sgemm_run the linker wraps. */

static bool sums_in_bf16;

static float bf16(float x) { return precision_round(PRECISION_BF16, x); }

void cblas_sgemm(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE ta,
                 const enum CBLAS_TRANSPOSE tb, const blasint m, const blasint n, const blasint k,
                 const float alpha, const float *a, const blasint lda, const float *b,
                 const blasint ldb, const float beta, float *c, const blasint ldc)
{
    if (!sums_in_bf16) {
        static void (*real)(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, blasint,
                            blasint, blasint, float, const float *, blasint, const float *, blasint,
                            float, float *, blasint);
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, "cblas_sgemm");
        real(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    bool rows = order == CblasRowMajor, a_by_row = rows == (ta == CblasNoTrans),
         b_by_row = rows == (tb == CblasNoTrans);
    for (blasint i = 0; i < m; i++)
        for (blasint j = 0; j < n; j++) {
            float *to = c + (rows ? i * ldc + j : j * ldc + i), sum = 0;
            for (blasint p = 0; p < k; p++)
                sum = bf16(sum + a[a_by_row ? i * lda + p : p * lda + i] *
                                     b[b_by_row ? p * ldb + j : j * ldb + p]);
            *to = (beta == 0 ? 0 : beta * *to) + alpha * sum;
        }
}

void __real_sgemm_run(bool, bool, int64_t, int64_t, int64_t, const float *, int64_t, const float *,
                      int64_t, float *, int64_t, float *);
void __wrap_sgemm_run(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const float *A,
                      int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc, float *room)
{
    if (sums_in_bf16)
        cblas_sgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans,
                    (blasint)m, (blasint)n, (blasint)k, 1, A, (blasint)lda, B, (blasint)ldb, 0, C,
                    (blasint)ldc);
    else __real_sgemm_run(a_t, b_t, m, n, k, A, lda, B, ldb, C, ldc, room);
}

/* ---- values with the standard deviation of their errors ---- */

typedef struct Value {
    double v, s;
} Value;

static double operand_variance; /* u^2/3 of the current precision */

static Value exact(double v) { return (Value){v, 0}; }
static Value rounded(double v, double s, double ulps)
{
    return (Value){v, s + ulps * float_ulp * fabs(v)};
}
/* sum is for correlated errors, add for independent ones. */
static Value sum(Value a, Value b) { return rounded(a.v + b.v, a.s + b.s, 1); }
static Value add(Value a, Value b) { return rounded(a.v + b.v, hypot(a.s, b.s), 1); }
static Value scale(double f, Value a) { return rounded(f * a.v, fabs(f) * a.s, 1); }
static Value times(Value a, Value b) { return rounded(a.v * b.v, hypot(a.v * b.s, b.v * a.s), 1); }
static Value one_less(Value a) { return rounded(1 - a.v, a.s, 1); }
static Value sigmoid(Value a)
{
    double y = 1 / (1 + exp(-a.v));
    return rounded(y, y * (1 - y) * a.s, 4);
}
static Value hyperbolic(Value a)
{
    double y = tanh(a.v);
    return rounded(y, (1 - y * y) * a.s, 4);
}

/* Returns the sum over n values of k of a[k * a_step] * b[k * b_step], with operands rounded to the
 * precision. */
static Value dot(int n, const Value *a, int a_step, const Value *b, int b_step)
{
    double v = 0, squares = 0, magnitude = 0, brought = 0;
    for (int k = 0; k < n; k++, a += a_step, b += b_step) {
        double p = a->v * b->v;
        v += p, squares += p * p, magnitude += fabs(p);
        brought += a->v * a->v * b->s * b->s + b->v * b->v * a->s * a->s;
    }
    return (Value){v, sqrt(2 * operand_variance * squares + brought) + n * float_ulp * magnitude};
}

/* ---- the window: SPEC 1 and 5, with dropout on the non-recurrent sites ---- */

static double factor(int site, int row, int u)
{
    MaskKey key = mask_key(42, STEP, L + 1, site, keep);
    return mask_nibble(&key, row, H, u & ~3) >> (u & 3) & 1 ? 1 / keep : 0;
}

static void mask_rows(int site, const Value *from, Value *to)
{
    for (int i = 0; i < N * H; i++) to[i] = scale(factor(site, i / H, i % H), from[i]);
}

typedef struct Layer {
    Value x[N * H], h[(N + B) * H], c[(N + B) * H], gates[N * 4 * H];
} Layer;

static void layer_forward(Layer *l, const Value *w_ih, const Value *w_hh, const Value *b_ih,
                          const Value *b_hh)
{
    for (int n = 0; n < N; n++)
        for (int u = 0; u < H; u++) {
            Value a[4], *c = l->c + (n + B) * H + u;
            for (int gate = 0; gate < 4; gate++) {
                int j = gate * H + u;
                a[gate] = add(add(dot(H, l->x + n * H, 1, w_ih + j * H, 1),
                                  dot(H, l->h + n * H, 1, w_hh + j * H, 1)),
                              add(b_ih[j], b_hh[j]));
                a[gate] = l->gates[n * 4 * H + j] =
                    gate == 2 ? hyperbolic(a[gate]) : sigmoid(a[gate]);
            }
            *c = add(times(a[1], l->c[n * H + u]), times(a[0], a[2]));
            l->h[(n + B) * H + u] = times(a[3], hyperbolic(*c));
        }
}

/* Replaces dy by the gradient into the layer's masked input, and gates by dgates. */
static void layer_backward(Layer *l, const Value *w_ih, const Value *w_hh, Value *dy, Value *dw_ih,
                           Value *dw_hh, Value *db)
{
    static Value dc[B * H];
    for (int n = N - 1; n >= 0; n--)
        for (int u = 0; u < H; u++) {
            Value *gates = l->gates + n * 4 * H + u, *later = l->gates + (n + B) * 4 * H;
            bool last = n >= N - B;
            Value i = gates[0], f = gates[H], g = gates[2 * H], o = gates[3 * H];
            Value tc = hyperbolic(l->c[(n + B) * H + u]);
            Value dh = dy[n * H + u], *carry = &dc[n % B * H + u];
            if (!last) dh = add(dh, dot(4 * H, later, 1, w_hh + u, H));
            Value into_c = times(times(dh, o), one_less(times(tc, tc)));
            if (!last) into_c = add(into_c, *carry);
            gates[0] = times(times(into_c, g), times(i, one_less(i)));
            gates[H] = times(times(into_c, l->c[n * H + u]), times(f, one_less(f)));
            gates[2 * H] = times(times(into_c, i), one_less(times(g, g)));
            gates[3 * H] = times(times(dh, tc), times(o, one_less(o)));
            *carry = times(into_c, f);
        }
    for (int j = 0; j < 4 * H; j++) {
        db[j] = exact(0);
        for (int n = 0; n < N; n++) db[j] = sum(db[j], l->gates[n * 4 * H + j]);
        for (int k = 0; k < H; k++) {
            dw_ih[j * H + k] = dot(N, l->gates + j, 4 * H, l->x + k, H);
            dw_hh[j * H + k] = dot(N, l->gates + j, 4 * H, l->h + k, H);
        }
    }
    for (int n = 0; n < N; n++)
        for (int k = 0; k < H; k++)
            dy[n * H + k] = dot(4 * H, l->gates + n * 4 * H, 1, w_ih + k, H);
}

static Layer layers[L];
static int32_t x_ids[N], y_ids[N];

/* Returns the values and s of all gradients, at the offsets of p: [offset[count]], which the caller
 * frees. */
static Value *bounds(const Params *p, LstmPrecision precision)
{
    static const double u[PRECISIONS] = {0, 0x1p-11, 0x1p-8};
    static Value dlogits[N * V], dy[N * H], x_softmax[N * H];
    operand_variance = u[precision] * u[precision] / 3;
    Value *w = calloc((size_t)p->offset[p->count], sizeof *w),
          *d = calloc((size_t)p->offset[p->count], sizeof *d);
    for (int64_t i = 0; i < p->offset[p->count]; i++) w[i] = exact(p->data[i]);
#define AT(array, l, which) (array + p->offset[param_of_layer(&p->shape, l, which)])
    for (int i = 0; i < N * H; i++)
        layers[0].x[i] = scale(factor(0, i / H, i % H), w[x_ids[i / H] * H + i % H]);
    for (int l = 0; l < L; l++) {
        memset(layers[l].h, 0, sizeof(Value) * B * H),
            memset(layers[l].c, 0, sizeof(Value) * B * H);
        layer_forward(&layers[l], AT(w, l, PARAM_W_IH), AT(w, l, PARAM_W_HH), AT(w, l, PARAM_B_IH),
                      AT(w, l, PARAM_B_HH));
        mask_rows(l + 1, layers[l].h + B * H, l + 1 < L ? layers[l + 1].x : x_softmax);
    }
    const Value *w_dec = w + p->offset[param_decoder_weight(&p->shape)],
                *b_dec = w + p->offset[param_decoder_bias(&p->shape)];
    for (int n = 0; n < N; n++) {
        Value *z = dlogits + n * V;
        double sum = 0, spread = 0;
        for (int v = 0; v < V; v++)
            z[v] = add(dot(H, x_softmax + n * H, 1, w_dec + v * H, 1), b_dec[v]),
            sum += exp(z[v].v);
        for (int v = 0; v < V; v++) spread += exp(z[v].v) / sum * z[v].s;
        for (int v = 0; v < V; v++) { /* the derivative: dp_v = p_v (dz_v - sum p dz) */
            double share = exp(z[v].v) / sum;
            z[v] = scale(1.0 / B, add(rounded(share, share * (z[v].s + spread), 8 + V),
                                      exact(v == y_ids[n] ? -1 : 0)));
        }
    }
    Value *dw = d + p->offset[param_decoder_weight(&p->shape)],
          *db = d + p->offset[param_decoder_bias(&p->shape)];
    for (int v = 0; v < V; v++) {
        for (int n = 0; n < N; n++) db[v] = sum(db[v], dlogits[n * V + v]);
        for (int k = 0; k < H; k++) dw[v * H + k] = dot(N, dlogits + v, V, x_softmax + k, H);
    }
    for (int i = 0; i < N * H; i++) dy[i] = dot(V, dlogits + i / H * V, 1, w_dec + i % H, H);
    for (int l = L - 1; l >= 0; l--) {
        mask_rows(l + 1, dy, dy);
        layer_backward(&layers[l], AT(w, l, PARAM_W_IH), AT(w, l, PARAM_W_HH), dy,
                       AT(d, l, PARAM_W_IH), AT(d, l, PARAM_W_HH), AT(d, l, PARAM_B_IH));
        memcpy(AT(d, l, PARAM_B_HH), AT(d, l, PARAM_B_IH), sizeof(Value) * 4 * H);
    }
    mask_rows(0, dy, dy);
    for (int i = 0; i < N * H; i++)
        d[x_ids[i / H] * H + i % H] = add(d[x_ids[i / H] * H + i % H], dy[i]);
    free(w);
    return d;
}

/* ---- gradients against the bound ---- */

static Params weights;

static void prepare(void)
{
    assert_int_equal(params_init(&weights, &(ModelShape){.V_in = V, .V_out = V, .H = H, .L = L}),
                     0);
    params_draw(&weights, 5, 0.3);
    for (int i = 0; i < N; i++) {
        PhiloxBlock w = philox_block(11, 0, (uint64_t)i);
        x_ids[i] = (int32_t)(w.word[0] % V), y_ids[i] = (int32_t)(w.word[1] % V);
    }
}

/* Returns the exit code of open; if that is 0, *grads receives the gradients of the window. */
static int gradients(const BackendOps *ops, const char *kernel, LstmPrecision precision,
                     Params *grads, Error *e)
{
    BackendConfig config = {.shape = model_shape_of_words(V, H, L),
                            .T = T,
                            .B = B,
                            .train = true,
                            .keep = keep,
                            .sites = SITES_NONRECURRENT,
                            .seed = 42,
                            .threads = 1,
                            .kernel = kernel,
                            .precision = precision};
    Window w = {.batch = batch_of_tokens(T, B, x_ids, y_ids), .train = true, .step = STEP};
    WindowResult r;
    Model m;
    int code = model_open(&m, ops, &config, e);
    if (code) return code;
    assert_int_equal(model_set_params(&m, &weights, e), 0);
    assert_int_equal(ops->state_set(m.backend, B, NULL, NULL, e), 0);
    assert_int_equal(model_gradients(&m, &w, &r, e), 0);
    assert_int_equal(params_init(grads, &config.shape), 0);
    assert_int_equal(model_get_grads(&m, grads, e), 0);
    model_close(&m);
    return 0;
}

/* Returns the largest ||error|| / ||s|| over all tensors, and the name of that tensor. */
static double worst_share(const Params *ours, const Params *reference, const Value *bound,
                          char name[48])
{
    double worst = 0;
    for (int p = 0; p < ours->count; p++) {
        double error = 0, s = 0;
        for (int64_t i = ours->offset[p]; i < ours->offset[p + 1]; i++) {
            error += pow((double)ours->data[i] - (double)reference->data[i], 2);
            s += pow(bound[i].s, 2);
        }
        double share = sqrt(error / s);
        if (!(share <= worst))
            worst = share, snprintf(name, 48, "%s", param_info(&ours->shape, p).name);
    }
    return worst;
}

static Params reference;
static Value *bound[PRECISIONS];

static int setup(void **state)
{
    (void)state;
    Error e;
    prepare();
    assert_int_equal(gradients(&backend_reference, "auto", PRECISION_F32, &reference, &e), 0);
    for (int p = 0; p < PRECISIONS; p++) bound[p] = bounds(&weights, (LstmPrecision)p);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int p = 0; p < PRECISIONS; p++) free(bound[p]);
    params_free(&reference), params_free(&weights);
    return 0;
}

/* The values that were computed with the bounds equal the reference's gradients. */
static void values_are_the_references(void **state)
{
    (void)state;
    for (int p = 0; p < reference.count; p++) {
        double largest = 0;
        for (int64_t i = reference.offset[p]; i < reference.offset[p + 1]; i++)
            largest = fmax(largest, fabs(bound[0][i].v));
        for (int64_t i = reference.offset[p]; i < reference.offset[p + 1]; i++)
            assert_true(fabs(bound[0][i].v - (double)reference.data[i]) <= 1e-7 * largest);
    }
}

static void check(const BackendOps *ops, const char *kernel, LstmPrecision precision)
{
    Params ours;
    Error e;
    char name[48] = "";
    int code = gradients(ops, kernel, precision, &ours, &e);
    if (code == EXIT_NO_DEVICE) {
        print_message("%s %s: %s\n", kernel, precision_name(precision), e.text);
        return;
    }
    if (code) fail_msg("%s %s: %s", kernel, precision_name(precision), e.text);
    double share = worst_share(&ours, &reference, bound[precision], name);
    params_free(&ours);
    print_message("%s %s %s: error at most %.2f s (%s)\n", ops->name, kernel,
                  precision_name(precision), share, name);
    assert_true(share <= ALLOWED);
}

/* A sanitised build takes many times as long, so it runs only a part; the plain build runs the
 * rest. */
static bool slow_build(void)
{
#ifdef CUDA_EMU
    return strcmp(emu_mode(), "plain") != 0;
#else
    return false;
#endif
}

static void cpu_keeps_to_the_bound(void **state)
{
    (void)state;
    for (int p = 0; p < PRECISIONS; p++) check(&backend_cpu, "auto", (LstmPrecision)p);
}

/* Runs every kernel in every precision, including unsupported ones, in which its recurrence is
 * float32. */
static void cuda_keeps_to_the_bound(void **state)
{
    (void)state;
    Error e;
    int n;
    if (device_count(&n, &e)) {
        print_message("skipped: %s\n", e.text);
        skip();
    }
    for (int v = 0; lstm_variants[v]; v++)
        for (int p = slow_build() ? PRECISION_BF16 : 0; p < PRECISIONS; p++)
            if (lstm_precision(lstm_variants[v]->footprint, (LstmPrecision)p) >= 0)
                check(&backend_cuda, lstm_variants[v]->footprint->name, (LstmPrecision)p);
}

/* A tf32 run is not a float32 run, nor a bf16 run a tf32 run: each violates the next finer
 * bound. */
static void each_bound_is_of_its_precision(void **state)
{
    (void)state;
    for (int p = 1; p < PRECISIONS; p++) {
        Params ours;
        Error e;
        char name[48] = "";
        assert_int_equal(gradients(&backend_cpu, "auto", (LstmPrecision)p, &ours, &e), 0);
        double share = worst_share(&ours, &reference, bound[p - 1], name);
        print_message("cpu %s: %.2f s of %s (%s)\n", precision_name((LstmPrecision)p), share,
                      precision_name((LstmPrecision)(p - 1)), name);
        assert_true(share > ALLOWED);
        params_free(&ours);
    }
}

static void sums_in_bf16_break_the_bound(void **state)
{
    (void)state;
    Error e;
    int n;
#ifdef CUDA_EMU
    bool emulated = !device_count(&n, &e);
#else
    bool emulated = false; /* no fault can be planted in a real cuBLAS */
    (void)n;
#endif
    for (int i = 0; i < 1 + emulated; i++) {
        Params ours;
        char name[48] = "";
        sums_in_bf16 = true;
        int code = gradients(i ? &backend_cuda : &backend_cpu, i ? "reg" : "auto", PRECISION_BF16,
                             &ours, &e);
        sums_in_bf16 = false;
        assert_int_equal(code, 0);
        double share = worst_share(&ours, &reference, bound[PRECISION_BF16], name);
        print_message("%s, sums in bfloat16: %.2f s (%s)\n", i ? "cuda" : "cpu", share, name);
        assert_true(share > ALLOWED);
        params_free(&ours);
    }
}

int main(void)
{
    group_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_the_references),
        cmocka_unit_test(cpu_keeps_to_the_bound),
        cmocka_unit_test(cuda_keeps_to_the_bound),
        cmocka_unit_test(each_bound_is_of_its_precision),
        cmocka_unit_test(sums_in_bf16_break_the_bound),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
