/* cell: the arithmetic of one LSTM unit at one step, forward and backward (SPEC 1). This is the
 * only copy: every variant calls it, so that all of them round alike. expf and tanhf are the
 * accurate versions; nothing here may be compiled with fast-math. */
#ifndef PLSTM_CELL_CUH
#define PLSTM_CELL_CUH

#include <kernels/dev_memory.cuh>

/* Forward these are the activations, after the nonlinearity; backward, the gradients of the
 * pre-activations. */
struct Gates {
    float i, f, g, o;
};

struct CellState {
    float c, h;
};

/* a holds the pre-activations on entry and the activations on exit. The three exponentials come
 * before the three reciprocals, so that none waits for another on a GPU that issues in order. For x
 * below -88, expf(-x) overflows to infinity and the reciprocal is 0, to which the true value
 * rounds. A correctly rounded quotient would cost a branch each and make no difference that a test
 * can detect. */
static __device__ __forceinline__ CellState cell_forward(Gates *a, float c_before)
{
    float i = 1.0f + expf(-a->i), f = 1.0f + expf(-a->f), o = 1.0f + expf(-a->o);
    a->i = reciprocal(i);
    a->f = reciprocal(f);
    a->g = tanhf(a->g);
    a->o = reciprocal(o);
    CellState s;
    s.c = a->f * c_before + a->i * a->g;
    s.h = a->o * tanhf(s.c);
    return s;
}

/* The part of the backward pass that does not depend on the gradients: a kernel computes it before
 * it waits for dh. */
struct CellReady {
    float c, i, f, g, o; /* factors of dh into dc; of dc into di, df and dg; of dh into do */
    float forget;        /* factor of dc into what flows into c_{t-1} */
};

/* Computes the factors from tanh(c); s holds the activations. */
static __device__ __forceinline__ CellReady cell_backward_ready_from(const Gates &s, float c_before,
                                                                     float tanh_c)
{
    CellReady r;
    r.c = s.o * (1.0f - tanh_c * tanh_c);
    r.i = s.g * s.i * (1.0f - s.i);
    r.f = c_before * s.f * (1.0f - s.f);
    r.g = s.i * (1.0f - s.g * s.g);
    r.o = tanh_c * s.o * (1.0f - s.o);
    r.forget = s.f;
    return r;
}

/* tanh(c) is computed again, which is cheaper than saving a tensor of it. */
static __device__ __forceinline__ CellReady cell_backward_ready(const Gates &s, float c_before,
                                                                float c)
{
    return cell_backward_ready_from(s, c_before, tanhf(c));
}

/* Computes the gradients of the pre-activations from dh (all that flows into h_t) and *dc (what
 * flows into c_t from step t+1). On return *dc is what flows into c_{t-1}. */
static __device__ __forceinline__ Gates cell_backward_finish(const CellReady &r, float dh,
                                                             float *dc)
{
    float into_c = *dc + dh * r.c;
    Gates d = {into_c * r.i, into_c * r.f, into_c * r.g, dh * r.o};
    *dc = into_c * r.forget;
    return d;
}

/* The whole backward cell. a holds the activations on entry and the gradients of the
 * pre-activations on exit. Returns what flows into c_{t-1}. */
static __device__ __forceinline__ float cell_backward(Gates *a, float c_before, float c, float dh,
                                                      float dc)
{
    *a = cell_backward_finish(cell_backward_ready(*a, c_before, c), dh, &dc);
    return dc;
}

#if DEV_ARCH > 0 && DEV_ARCH < 700
/* cell_forward for a GPU whose warps wait for each result that they use. The powers and the
 * reciprocals of all gates are in flight before the first is used, whereas expf and tanhf would
 * each wait for their own. Both functions are therefore written out as CUDA 11.8 has them, which
 * gives the same bits. */

/* Returns exp(2 |x|). */
static __device__ __forceinline__ float twice_of(float x)
{
    return power_of_two(fabsf(x) * 2.88539004f);
}

/* Returns tanh(x), given r = 1 / (exp(2 |x|) + 1), without a branch, which would diverge within a
 * warp. */
static __device__ __forceinline__ float tanh_from(float x, float r)
{
    float size = fabsf(x), square = x * x;
    float large = copysignf(size >= 9.01091385f ? 1.0f : fmaf(r, -2.0f, 1.0f), x);
    float small = fmaf(0.0157396831f, square, -0.0523039624f);
    small = fmaf(small, square, 0.133152977f), small = fmaf(small, square, -0.333327681f);
    return size >= 0.6f ? large : fmaf(small * square, x, x);
}

static __device__ __forceinline__ CellState cell_forward_in_order(Gates *a, float c_before)
{
    enum { GATES = 3 };
    float x[GATES] = {-a->i, -a->f, -a->o}, whole[GATES], rest[GATES], divisor[GATES];
    float twice = twice_of(a->g);
#pragma unroll
    for (int n = 0; n < GATES; n++) whole[n] = __saturatef(fmaf(x[n], 0.00572498003f, 0.5f));
#pragma unroll
    for (int n = 0; n < GATES; n++) whole[n] = __fmaf_rd(whole[n], 252.0f, 12582913.0f);
#pragma unroll
    for (int n = 0; n < GATES; n++) rest[n] = fmaf(x[n], 1.44269502f, -(whole[n] - 12583039.0f));
#pragma unroll
    for (int n = 0; n < GATES; n++) rest[n] = power_of_two(fmaf(x[n], 1.92596303e-08f, rest[n]));
#pragma unroll
    for (int n = 0; n < GATES; n++) /* 1 + exp(x) */
        divisor[n] = fmaf(rest[n], __uint_as_float(__float_as_uint(whole[n]) << 23), 1.0f);
    float tanh_g = reciprocal(twice + 1.0f);
    a->i = reciprocal(divisor[0]), a->f = reciprocal(divisor[1]), a->o = reciprocal(divisor[2]);
    a->g = tanh_from(a->g, tanh_g);
    CellState s;
    s.c = a->f * c_before + a->i * a->g;
    s.h = a->o * tanh_from(s.c, reciprocal(twice_of(s.c) + 1.0f));
    return s;
}
#endif

#endif
