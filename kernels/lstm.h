/* lstm: the contract of the recurrence of one layer, and the record that a variant of it fills. Clean C11.
 *
 * T steps, B batch, H hidden units; time-major, row-major; gate order i, f, g, o. All tensors are float32 in device memory and the
 * caller's. The saved tensors (h, c, gates) are the contract between the passes: any forward runs with any backward.
 *
 *     a_t  = x_proj_t + b_ih + b_hh + W_hh D_r(h_{t-1})        i, f, o = sigmoid, g = tanh of a_t's quarters
 *     c_t  = f c_{t-1} + i g        h_t = o tanh(c_t)        y_t = D_o(h_t)
 *
 * D_o is the layer's output site, D_r its recurrent site (`--dropout-sites all` only). Masks are drawn where an operand is read or
 * written (philox.h, SPEC 2) and never stored.
 *
 * A kernel takes shapes, pointers, a stream; returns cudaError_t; never allocates, prints or synchronises. */
#ifndef PLSTM_LSTM_H
#define PLSTM_LSTM_H

#include <stddef.h>
#include <stdint.h>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a step of the run stands, in device memory: what a captured graph advances by itself. step_begin (layers.h) moves it on; every
 * other kernel only reads it. */
typedef struct StepState {
    int64_t step;   /* of the run: keys the masks */
    int64_t window; /* of the training stream: minibatch of the epoch */
    int64_t next_step, next_window;
    int64_t slot; /* of the ring of results */
    double lr, clip;
} StepState;

/* What a kernel needs to draw the mask of one site: sub = state->step * sites + site. bound 2^32 keeps everything; on = 0: the
 * site is not masked and state may be NULL. */
typedef struct MaskSite {
    const StepState *state; /* device */
    uint64_t seed, bound;
    float scale;
    int32_t sites, site, on;
} MaskSite;

/* What a kernel that waits writes when it gives up (grid_barrier.cuh); the update changes nothing once `set` is non-zero. Device memory. */
typedef struct FaultRecord {
    uint32_t set;
    uint32_t block, step, expected,
        seen; /* who waited, at which step, for which count, and what the first missing block had reached */
    uint32_t missing[8]; /* bit per block of the grid */
} FaultRecord;

/* What a launch of a persistent variant needs beside its tensors. */
typedef struct LstmLaunch {
    const LstmPlan
        *plan; /* for H of the shape, in the pass's direction; NULL: the variant has none */
    void *
        scratch; /* plan->scratch_bytes of device memory, zeroed when made; one plan's for good, launches in one stream share it */
    uint32_t poll_limit; /* looks at a missing block before giving up; 0: never */
} LstmLaunch;

/* Streams, handles and scratch of a backend, made once; kernels own none of it. The handle runs on `stream` with a workspace set by its
 * owner: passes use it as it is, since cublasSetStream would drop that workspace. */
typedef struct LstmContext {
    cudaStream_t stream;
    cublasHandle_t blas;
    FaultRecord *fault; /* device */
    int32_t
        cooperative; /* whether the device launches cooperatively, as persistent variants then do */
} LstmContext;

typedef struct LstmForward {
    LstmShape shape;
    const float *w_hh; /* (4H,H) */
    const float *
        w_packed; /* (H,H,4): [k][unit][gate] of w_hh, where the footprint says packed; else NULL */
    const void *
        w_tiles; /* w_hh in bfloat16 fragments (tensor.h), where the plan's precision is bf16; else NULL */
    const float *b_ih, *b_hh; /* (4H) */
    float *gates;             /* (T,B,4H): in x_proj = W_ih D(x) without biases; out i, f, g, o */
    float *h, *c;             /* (T+1,B,H): row 0 in, the others out; h unmasked */
    float
        *y; /* (T,B,H): D_o(h_1..T); NULL where the site is off: the reader takes h from row 1 on */
    float *h_masked; /* (T,B,H): D_r(h_0..T-1), for dw_hh; NULL where the site is off */
    /* Copies rounded to bfloat16, bit for bit those of round_bf16 (layers.h), for products over all positions; NULL: not wanted.
     * A row begins `bf16_pitch` elements after the one before it, and nothing is written between rows. sm_80 and up. */
    uint16_t *h_bf16; /* of h_masked, (T,B,H); where that is NULL, of h, (T+1,B,H) */
    uint16_t *y_bf16; /* of y, (T,B,H); NULL where y is */
    int64_t bf16_pitch;
    MaskSite output, recurrent;
    LstmLaunch launch;
} LstmForward;

typedef struct LstmBackward {
    LstmShape shape;
    const float *w_hh;   /* (4H,H) */
    const void *w_tiles; /* as forward's: the same copy */
    const float *h, *c;  /* (T+1,B,H), as forward left them */
    const float *dy;     /* (T,B,H): gradient into y; D_o is applied as it is read */
    float *gates;        /* (T,B,4H): in i, f, g, o; out dgates (pre-activation) */
    float *dh, *dc;      /* (B,H): scratch */
    /* (B,H), none of them another of these or scratch: the gradients that flow into h_T and c_T from beyond the window, added to what dy
     * gives; NULL: zero. And those that flow out of it into h_0 and c_0; NULL: not wanted. No site masks h_T or h_0 themselves. */
    const float *dh_n, *dc_n;
    float *dh_0, *dc_0;
    MaskSite output, recurrent;
    LstmLaunch launch;
} LstmBackward;

/* One way to run the recurrence. variants.def lists them all; everything that chooses or measures walks that list. */
typedef struct LstmVariant {
    const LstmFootprint *footprint; /* name, summary, what a plan needs */
    /* Once per device, outside any capture: loads every kernel (lazy loading would stall a capture) and, for a variant with
     * plans, raises the shared memory of each instance as far as the device goes. */
    cudaError_t (*prepare)(void);
    /* How many blocks of the plan's kernel the current device holds at once, from the compiled kernel's own registers and
     * shared memory; a plan with more must not be launched. NULL: no plans. */
    cudaError_t (*resident_blocks)(const LstmPlan *plan, int *blocks);
    cudaError_t (*forward)(const LstmContext *context, const LstmForward *p);
    cudaError_t (*backward)(const LstmContext *context, const LstmBackward *p);
    /* Launches of one pass, GEMMs included, for tests and tables; a recurrent mask may add one to forward, dh_0 adds a GEMM to
     * backward, and with a recurrent mask a kernel. A variant with plans takes as many for each range of batch rows (plan_ranges). */
    int (*launches)(const LstmShape *shape, int backward);
} LstmVariant;

extern const LstmVariant
    *const lstm_variants[]; /* NULL-terminated, in the order of lstm_footprints */

/* w_packed from w_hh of H units (pack.cu): after weights were set; the update (layers.h) keeps it current. */
cudaError_t lstm_pack(cudaStream_t stream, int64_t H, const float *w_hh, float *w_packed);

/* The same for w_tiles: tensor_copy_bytes(H) (tensor.h) of device memory, 16-byte aligned. */
cudaError_t lstm_pack_tiles(cudaStream_t stream, int64_t H, const float *w_hh, void *w_tiles);

/* The end of every variant's backward: dh_0, where it is wanted, from the dgates of step 0 (state_gradient.cu). */
cudaError_t lstm_state_gradient(const LstmContext *context, const LstmBackward *p);
cudaError_t lstm_state_gradient_prepare(void);

#ifdef __cplusplus
}
#endif

#endif
