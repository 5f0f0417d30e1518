/* hidden: h of an element (batch row b, unit u) before the first step and after every step of a
 * forward pass, the same in every variant. It is stored in the float32 tensors of lstm.h and in
 * their bfloat16 copies. D_r is the dropout of the recurrent site (lstm.h), the identity without
 * one. */
#ifndef PLSTM_HIDDEN_CUH
#define PLSTM_HIDDEN_CUH

#include "bf16.cuh"
#include "mask.cuh"

/* Returns whether p has every tensor that its masks and copies need. */
static inline bool forward_tensors_sound(const LstmForward *p)
{
    bool copies = p->h_bf16 || p->y_bf16;
    return (p->y || !(p->output.on || p->y_bf16)) && (p->h_masked || !p->recurrent.on) &&
           (!copies || p->bf16_pitch >= p->shape.H);
}

/* Returns D_r(h_0), which step 0 reads. */
static __device__ __forceinline__ float hidden_first(const LstmForward &p, const Mask &m, int64_t b,
                                                     int64_t u)
{
    return p.h[b * p.shape.H + u] * mask_factor(m, b, p.shape.H, u);
}

/* Stores x as element u of `row` of a bfloat16 copy, unless `to` is NULL; n = row * H + u. */
static __device__ __forceinline__ void hidden_copy(const LstmForward &p, uint16_t *to, int64_t row,
                                                   int64_t n, float x)
{
    store_bf16(to, n + row * (p.bf16_pitch - p.shape.H), x);
}

/* Stores h = D_r(h_0) where dw_hh needs it; n = b * H + u. */
static __device__ __forceinline__ void hidden_store_first(const LstmForward &p, int64_t b,
                                                          int64_t n, float h)
{
    if (p.h_masked) p.h_masked[n] = h;
    hidden_copy(p, p.h_bf16, b, n, h);
}

/* Stores h_t and y_t, and D_r(h_t) where dw_hh needs it; row = t * B + b, n = row * H + u. output()
 * and recurrent() return the factors of the masks; each is called only if its masked tensor
 * exists. */
template <class Output, class Recurrent>
static __device__ __forceinline__ void hidden_store(const LstmForward &p, int64_t t, int64_t row,
                                                    int64_t n, float h, Output output,
                                                    Recurrent recurrent)
{
    int64_t B = p.shape.B, next = n + B * p.shape.H;
    p.h[next] = h;
    if (p.y) {
        float y = h * output();
        p.y[n] = y;
        hidden_copy(p, p.y_bf16, row, n, y);
    }
    if (!p.h_masked) hidden_copy(p, p.h_bf16, row + B, next, h);
    else if (t + 1 < p.shape.T) {
        float x = h * recurrent();
        p.h_masked[next] = x;
        hidden_copy(p, p.h_bf16, row + B, next, x);
    }
}

#endif
