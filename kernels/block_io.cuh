/* block_io: the reads and writes of a block's elements (unit, batch row) outside the exchange, the
 * same in every persistent variant. They are the biases and the state carried in before the first
 * step; x_proj or saved tensors on their way in; the cell; and gates, c, h, y or dgates on their
 * way out.
 *
 * `at` is the block's place. each(f) calls f(row, u, item) for every element that the calling
 * thread owns, the same elements at every stage: its batch row and unit within the block, and the
 * index of its floats in shared memory. Forward, these are s.gates[item], s.c[item] and s.h[item];
 * backward, the slots state[slot * stride + item]. Between two __syncthreads they belong to that
 * thread alone. */
#ifndef PLSTM_BLOCK_IO_CUH
#define PLSTM_BLOCK_IO_CUH

#include "cell.cuh"
#include "hidden.cuh"
#include "persistent.cuh"

/* ---- forward ---- */

/* Loads the biases and c_0, and stores D_r(h_0) where dw_hh needs it. Calls do_unit(u) for each
 * unit of the block and do_h(row, u, D_r(h_0)) for each element. */
template <class Shared, class Each, class Unit, class Value>
static __device__ __forceinline__ void forward_carry_in(const LstmForward &p, const BlockPlace &at,
                                                        const Shared &s, Each each, Unit do_unit,
                                                        Value do_h)
{
    int64_t H = p.shape.H;
    for (int32_t u = (int32_t)threadIdx.x; u < at.units; u += (int32_t)blockDim.x) {
        const float *x = p.b_ih + at.unit + u, *y = p.b_hh + at.unit + u;
        s.bias[u] = make_float4(x[0] + y[0], x[H] + y[H], x[2 * H] + y[2 * H], x[3 * H] + y[3 * H]);
        do_unit(u);
    }
    Mask m = mask_open(p.recurrent);
    each([&](int32_t row, int32_t u, int32_t item) {
        int64_t b = at.row + row, n = b * H + at.unit + u;
        s.c[item] = p.c[n];
        float h = hidden_first(p, m, b, at.unit + u);
        hidden_store_first(p, b, n, h);
        do_h(row, u, h);
    });
}

/* Starts to copy the block's part of x_proj_t to s.gates. The thread that stored an element's gates
 * fetches the values that replace them. */
template <class Shared, class Each>
static __device__ __forceinline__ void forward_fetch(const LstmForward &p, const BlockPlace &at,
                                                     const Shared &s, int64_t t, Each each)
{
    int64_t B = p.shape.B, H = p.shape.H;
    each([&](int32_t row, int32_t u, int32_t item) {
        const float *from = p.gates + (t * B + at.row + row) * 4 * H + at.unit + u;
        copy_floats<4>((float *)(s.gates + item), 1, {from, from + H, from + 2 * H, from + 3 * H});
    });
    copy_async_commit();
}

/* Computes gates, c and h of an element from x_proj, biases and the slices' partial sums, which are
 * float4 of gates that are `stride` floats apart. Returns h. */
template <class Shared>
static __device__ __forceinline__ float forward_cell(const Shared &s, int32_t item, int32_t u,
                                                     const float *partial, int32_t slices,
                                                     int32_t stride)
{
    float4 x = s.gates[item], bias = s.bias[u];
    Gates q = {x.x + bias.x, x.y + bias.y, x.z + bias.z, x.w + bias.w};
    auto add = [&](const float4 &sum) { q.i += sum.x, q.f += sum.y, q.g += sum.z, q.o += sum.w; };
#pragma unroll 1
    for (; slices > 1; slices -= 2, partial += 2 * stride) {
        float4 one = *(const float4 *)partial, two = *(const float4 *)(partial + stride);
        add(one), add(two);
    }
    if (slices > 0) add(*(const float4 *)partial);
#if DEV_ARCH > 0 && DEV_ARCH < 700
    CellState now = cell_forward_in_order(&q, s.c[item]);
#else
    CellState now = cell_forward(&q, s.c[item]);
#endif
    s.gates[item] = make_float4(q.i, q.f, q.g, q.o);
    s.c[item] = now.c;
    s.h[item] = now.h;
    return now.h;
}

/* Stores gates, c, h and y of step t, and D_r(h_t) where dw_hh needs it. */
template <class Shared, class Each>
static __device__ __forceinline__ void forward_store(const LstmForward &p, const BlockPlace &at,
                                                     const Shared &s, const MaskBits &bits,
                                                     int64_t t, Each each)
{
    int64_t B = p.shape.B, H = p.shape.H;
    int32_t parity = (int32_t)t & 1;
    each([&](int32_t row, int32_t u, int32_t item) {
        int64_t position = t * B + at.row + row, n = position * H + at.unit + u;
        float4 q = s.gates[item];
        float h = s.h[item], *gates = p.gates + position * 4 * H + at.unit + u;
        gates[0] = q.x, gates[H] = q.y, gates[2 * H] = q.z, gates[3 * H] = q.w;
        p.c[n + B * H] = s.c[item];
        hidden_store(
            p, t, position, n, h,
            [&] { return mask_bits_factor(bits, parity, MASK_OUTPUT, p.output, at, row, u); },
            [&] {
                return mask_bits_factor(bits, parity, MASK_RECURRENT, p.recurrent, at, row, u);
            });
    });
}

/* ---- backward ---- */

/* Slots of an element's state. A step fetches the first ones; the gates are replaced by their
 * gradients. dc is the gradient that flows into c_t from step t+1. */
enum {
    STATE_GATES,
    STATE_C_BEFORE = 4,
    STATE_DY,
    STATE_FETCHED,
    STATE_C = STATE_FETCHED,
    STATE_DC
};

/* Loads c_T and the gradient that flows into it from beyond the window. */
template <class Each>
static __device__ __forceinline__ void backward_carry_in(const LstmBackward &p,
                                                         const BlockPlace &at, float *state,
                                                         int32_t stride, Each each)
{
    int64_t T = p.shape.T, B = p.shape.B, H = p.shape.H;
    each([&](int32_t row, int32_t u, int32_t item) {
        int64_t n = (at.row + row) * H + at.unit + u;
        state[STATE_C * stride + item] = p.c[T * B * H + n];
        state[STATE_DC * stride + item] = p.dc_n ? p.dc_n[n] : 0.0f;
    });
}

/* Starts to copy the block's part of gates_t, c_{t-1} and dy_t to the state. The thread that stored
 * an element's values fetches those that replace them. */
template <class Each>
static __device__ __forceinline__ void backward_fetch(const LstmBackward &p, const BlockPlace &at,
                                                      float *state, int32_t stride, int32_t t,
                                                      Each each)
{
    int64_t B = p.shape.B, H = p.shape.H;
    each([&](int32_t row, int32_t u, int32_t item) {
        int64_t position = t * B + at.row + row, n = position * H + at.unit + u;
        const float *gates = p.gates + position * 4 * H + at.unit + u;
        copy_floats<STATE_FETCHED>(
            state + item, stride,
            {gates, gates + H, gates + 2 * H, gates + 3 * H, p.c + n, p.dy + n});
    });
    copy_async_commit();
}

/* Computes dgates and dc of the element whose slots begin at `state`. Returns the dgates. sent()
 * returns the partial dh from step t+1, summed; it is not called at the last step. */
template <class Sent>
static __device__ __forceinline__ Gates backward_cell(const LstmBackward &p, const BlockPlace &at,
                                                      const MaskBits &bits, int32_t t, int32_t row,
                                                      int32_t u, float *state, int32_t stride,
                                                      Sent sent)
{
    float c = state[STATE_C * stride], c_before = state[STATE_C_BEFORE * stride];
    Gates q = {state[0], state[stride], state[2 * stride], state[3 * stride]};
#if DEV_ARCH > 0 && DEV_ARCH < 700 /* tanh(c) is computed while dh is added up (cell.cuh) */
    float twice = twice_of(c);
#endif
    float dh =
        state[STATE_DY * stride] * mask_bits_factor(bits, t & 1, MASK_OUTPUT, p.output, at, row, u);
    if (t + 1 < p.shape.T) /* step t+1 read h_t masked */
        dh += sent() * mask_bits_factor(bits, t & 1, MASK_RECURRENT, p.recurrent, at, row, u);
    else if (p.dh_n) dh += p.dh_n[(at.row + row) * p.shape.H + at.unit + u];
    float dc = state[STATE_DC * stride];
#if DEV_ARCH > 0 && DEV_ARCH < 700
    CellReady ready = cell_backward_ready_from(q, c_before, tanh_from(c, reciprocal(twice + 1.0f)));
    q = cell_backward_finish(ready, dh, &dc);
#else
    dc = cell_backward(&q, c_before, c, dh, dc);
#endif
    state[STATE_DC * stride] = dc;
    state[STATE_C * stride] = c_before;
    state[0] = q.i, state[stride] = q.f, state[2 * stride] = q.g, state[3 * stride] = q.o;
    return q;
}

/* Stores dgates of step t and, at step 0, the gradient that flows out into c_0, unless dc_0 is
 * NULL. */
template <class Each>
static __device__ __forceinline__ void backward_store(const LstmBackward &p, const BlockPlace &at,
                                                      const float *state, int32_t stride, int32_t t,
                                                      Each each)
{
    int64_t B = p.shape.B, H = p.shape.H;
    each([&](int32_t row, int32_t u, int32_t item) {
        float *gates = p.gates + (t * B + at.row + row) * 4 * H + at.unit + u;
        for (int gate = 0; gate < 4; gate++) gates[gate * H] = state[gate * stride + item];
        if (t == 0 && p.dc_0)
            p.dc_0[(at.row + row) * H + at.unit + u] = state[STATE_DC * stride + item];
    });
}

#endif
