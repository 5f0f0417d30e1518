/* cell: the arithmetic of one LSTM unit at one step, forward and backward (SPEC 1). The only copy: every
 * variant calls it, so that all of them round alike. expf and tanhf are the accurate ones; nothing here may
 * be compiled with fast-math. */
#ifndef PLSTM_CELL_CUH
#define PLSTM_CELL_CUH

#include <kernels/dev_memory.cuh>

/* i, f, g, o: forward the activations after the nonlinearity, backward their pre-activation gradients. */
struct Gates {
    float i, f, g, o;
};

struct CellState {
    float c, h;
};

/* a holds the pre-activations on entry and the activations on exit. The three exponentials stand before the three reciprocals, so that none
 * waits for another on a GPU that issues in order. expf overflows to infinity below -88: the reciprocal is then the 0 that the true
 * value rounds to. A rounded quotient would cost a branch each and no bit of the result that a test can tell. */
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

/* What of the backward pass does not depend on the gradients: a kernel that waits for dh has it ready by then. */
struct CellReady {
    float c, i, f, g, o; /* dh to dc; dc to the pre-activations of i, f and g; dh to that of o */
    float forget;        /* dc to what flows into c_{t-1} */
};

/* s holds the activations. tanh(c) is computed again: cheaper than a saved tensor. */
static __device__ __forceinline__ CellReady cell_backward_ready(const Gates &s, float c_before,
                                                                float c)
{
    CellReady r;
    float tanh_c = tanhf(c);
    r.c = s.o * (1.0f - tanh_c * tanh_c);
    r.i = s.g * s.i * (1.0f - s.i);
    r.f = c_before * s.f * (1.0f - s.f);
    r.g = s.i * (1.0f - s.g * s.g);
    r.o = tanh_c * s.o * (1.0f - s.o);
    r.forget = s.f;
    return r;
}

/* From dh (all that flows into h_t) and dc (what flows into c_t from step t+1) to the gradients of the pre-activations; *dc is then
 * what flows into c_{t-1}. */
static __device__ __forceinline__ Gates cell_backward_finish(const CellReady &r, float dh,
                                                             float *dc)
{
    float into_c = *dc + dh * r.c;
    Gates d = {into_c * r.i, into_c * r.f, into_c * r.g, dh * r.o};
    *dc = into_c * r.forget;
    return d;
}

/* Both: a holds the activations on entry and the gradients of the pre-activations on exit; returns what flows into c_{t-1}. */
static __device__ __forceinline__ float cell_backward(Gates *a, float c_before, float c, float dh,
                                                      float dc)
{
    *a = cell_backward_finish(cell_backward_ready(*a, c_before, c), dh, &dc);
    return dc;
}

#endif
