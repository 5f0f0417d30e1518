/* lstm: the contract of the recurrence of one layer, and the record that each variant of it fills.
 * Clean C11.
 *
 * There are T steps, batch B and H hidden units. Tensors are time-major and row-major, in gate
 * order i, f, g, o. All tensors are float32 in device memory and belong to the caller. The saved
 * tensors (h, c, gates) are the contract between the passes: any forward works with any backward.
 *
 *     a_t = x_proj_t + b_ih + b_hh + W_hh D_r(h_{t-1})
 *     i, f, o = sigmoid and g = tanh of the quarters of a_t
 *     c_t = f * c_{t-1} + i * g        h_t = o * tanh(c_t)        y_t = D_o(h_t)
 *
 * D_o is the layer's output site, D_r its recurrent site (only with `--dropout-sites all`). Masks
 * are drawn when an operand is read or written (philox.h, SPEC 2) and are never stored.
 *
 * A kernel takes shapes, pointers and a stream, and returns a cudaError_t. It never allocates,
 * prints or synchronises. */
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

/* The position of the run, in device memory, so that a captured graph advances it without the host.
 * step_begin (layers.h) advances it; all other kernels only read it. */
typedef struct StepState {
    int64_t step;   /* of the run; the masks depend on it */
    int64_t window; /* of the training stream: the minibatch of the epoch */
    int64_t next_step, next_window;
    int64_t slot; /* of the ring of results */
    double lr, clip;
} StepState;

/* What a kernel needs to draw the mask of one site; sub = state->step * sites + site. A bound of
 * 2^32 keeps everything. on = 0: the site is not masked, and state may be NULL. */
typedef struct MaskSite {
    const StepState *state; /* device */
    uint64_t seed, bound;
    float scale;
    int32_t sites, site, on;
} MaskSite;

/* A kernel that waits writes this record when it times out (grid_barrier.cuh). Once `set` is
 * non-zero, the update changes nothing. Device memory. */
typedef struct FaultRecord {
    uint32_t set;
    /* The block that waited, its step, the count it waited for, and the count that the first
     * missing block had reached. */
    uint32_t block, step, expected, seen;
    uint32_t missing[8]; /* one bit per block of the grid */
} FaultRecord;

/* What a launch of a persistent variant needs besides its tensors. */
typedef struct LstmLaunch {
    /* For the shape's H and the pass's direction. NULL: the variant has no plans. */
    const LstmPlan *plan;
    /* plan->scratch_bytes of device memory, zeroed when allocated. It serves no other plan, ever;
     * launches in one stream may share it. */
    void *scratch;
    uint32_t poll_limit; /* polls of a missing block before a wait times out; 0: never */
} LstmLaunch;

/* The streams, handles and scratch of a backend, created once; kernels own none of them. The handle
 * runs on `stream` with a workspace that its owner set. Passes use it as it is, since
 * cublasSetStream would drop that workspace. */
typedef struct LstmContext {
    cudaStream_t stream;
    cublasHandle_t blas;
    FaultRecord *fault; /* device */
    /* Whether the device supports cooperative launches, which persistent variants then use. */
    int32_t cooperative;
} LstmContext;

typedef struct LstmForward {
    LstmShape shape;
    const float *w_hh; /* (4H,H) */
    /* (H,H,4): w_hh as [k][unit][gate] if the footprint is `packed`, otherwise NULL. */
    const float *w_packed;
    /* w_hh in bfloat16 fragments (tensor.h) if the plan's precision is bf16, otherwise NULL. */
    const void *w_tiles;
    const float *b_ih, *b_hh; /* (4H) */
    float *gates;             /* (T,B,4H): in, x_proj = W_ih D(x) without biases; out, i, f, g, o */
    float *h, *c;             /* (T+1,B,H): in, row 0; out, the others; h unmasked */
    float *y; /* (T,B,H): D_o(h_1..T). NULL if the site is off: readers then use h from row 1 on. */
    float *h_masked; /* (T,B,H): D_r(h_0..T-1), for dw_hh; NULL if the site is off */
    /* Copies rounded to bfloat16, with the same bits as those of round_bf16 (layers.h), for
     * products over all positions; NULL: no copy is written. A row begins `bf16_pitch` elements
     * after the one before it, and nothing is written between rows. sm_80 and up. */
    uint16_t *h_bf16; /* of h_masked, (T,B,H); if that is NULL, of h, (T+1,B,H) */
    uint16_t *y_bf16; /* of y, (T,B,H); NULL if y is */
    int64_t bf16_pitch;
    MaskSite output, recurrent;
    LstmLaunch launch;
} LstmForward;

typedef struct LstmBackward {
    LstmShape shape;
    const float *w_hh;   /* (4H,H) */
    const void *w_tiles; /* the same copy as LstmForward.w_tiles */
    const float *h, *c;  /* (T+1,B,H), as forward left them */
    const float *dy;     /* (T,B,H): the gradient of y; D_o is applied when it is read */
    float *gates;        /* (T,B,4H): in, i, f, g, o; out, dgates (pre-activation) */
    float *dh, *dc;      /* (B,H): scratch */
    /* (B,H). No two of these four, dh and dc may be the same tensor. dh_n and dc_n flow into h_T
     * and c_T from beyond the window and are added to the gradients that dy gives; NULL: zero. dh_0
     * and dc_0 flow out of the window into h_0 and c_0; NULL: not computed. No site masks h_T or
     * h_0 themselves. */
    const float *dh_n, *dc_n;
    float *dh_0, *dc_0;
    MaskSite output, recurrent;
    LstmLaunch launch;
} LstmBackward;

/* One way to run the recurrence. variants.def lists all variants; whatever chooses or measures them
 * iterates over that list. */
typedef struct LstmVariant {
    const LstmFootprint *footprint; /* name, summary, and the facts that a plan needs */
    /* Call once per device, outside any capture. Loads every kernel (lazy loading would stall a
     * capture) and, for a variant with plans, raises the shared memory of each instance to the
     * device's limit. */
    cudaError_t (*prepare)(void);
    /* Sets *blocks to the number of blocks of the plan's kernel that the current device holds at
     * once, which follows from the compiled kernel's registers and shared memory. A plan with more
     * must not be launched. NULL: the variant has no plans. */
    cudaError_t (*resident_blocks)(const LstmPlan *plan, int *blocks);
    cudaError_t (*forward)(const LstmContext *context, const LstmForward *p);
    cudaError_t (*backward)(const LstmContext *context, const LstmBackward *p);
    /* Returns the number of launches of one pass, GEMMs included, for tests and tables. A recurrent
     * mask may add one to forward. dh_0 adds a GEMM to backward and, with a recurrent mask, a
     * kernel. A variant with plans takes that many for each range of batch rows (plan_ranges). */
    int (*launches)(const LstmShape *shape, int backward);
} LstmVariant;

/* NULL-terminated, in the order of lstm_footprints. */
extern const LstmVariant *const lstm_variants[];

/* Packs w_hh of H units into w_packed (pack.cu). Call it after weights were set; the update
 * (layers.h) keeps w_packed current. */
cudaError_t lstm_pack(cudaStream_t stream, int64_t H, const float *w_hh, float *w_packed);

/* Packs w_hh into w_tiles, which is tensor_copy_bytes(H) (tensor.h) of device memory, 16-byte
 * aligned. Call it when lstm_pack is called. */
cudaError_t lstm_pack_tiles(cudaStream_t stream, int64_t H, const float *w_hh, void *w_tiles);

/* The last part of every variant's backward: computes dh_0 from the dgates of step 0, unless dh_0
 * is NULL (state_gradient.cu). */
cudaError_t lstm_state_gradient(const LstmContext *context, const LstmBackward *p);
cudaError_t lstm_state_gradient_prepare(void);

#ifdef __cplusplus
}
#endif

#endif
