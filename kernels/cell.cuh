/* cell: the arithmetic of one LSTM unit at one step, forward and backward (SPEC 1). The only copy: every
 * variant calls it, so that all of them round alike. expf and tanhf are the accurate ones; nothing here may
 * be compiled with fast-math. */
#ifndef PLSTM_CELL_CUH
#define PLSTM_CELL_CUH

#include <cuda_runtime.h>

/* i, f, g, o: forward the activations after the nonlinearity, backward their pre-activation gradients. */
struct Gates {
    float i, f, g, o;
};

struct CellState {
    float c, h;
};

/* a holds the pre-activations on entry and the activations on exit. The three exponentials stand before the three quotients, so that none
 * waits for another on a GPU that issues in order. expf overflows to infinity below -88: the quotient is then the 0 that the true
 * value rounds to. */
static __device__ __forceinline__ CellState cell_forward(Gates *a, float c_before)
{
    float i = 1.0f + expf(-a->i), f = 1.0f + expf(-a->f), o = 1.0f + expf(-a->o);
    a->i = 1.0f / i;
    a->f = 1.0f / f;
    a->g = tanhf(a->g);
    a->o = 1.0f / o;
    CellState s;
    s.c = a->f * c_before + a->i * a->g;
    s.h = a->o * tanhf(s.c);
    return s;
}

/* From dh (all that flows into h_t) and dc (what flows into c_t from step t+1) to the gradients of the
 * pre-activations; returns what flows into c_{t-1}. tanh(c) is computed again: cheaper than a saved tensor.
 */
static __device__ __forceinline__ float cell_backward(Gates *a, float c_before, float c, float dh,
                                                      float dc)
{
    Gates s = *a;
    float tanh_c = tanhf(c);
    dc += dh * s.o * (1.0f - tanh_c * tanh_c);
    a->i = dc * s.g * s.i * (1.0f - s.i);
    a->f = dc * c_before * s.f * (1.0f - s.f);
    a->g = dc * s.i * (1.0f - s.g * s.g);
    a->o = dh * tanh_c * s.o * (1.0f - s.o);
    return dc * s.f;
}

#endif
