/* layers: the kernels of a training step beside the recurrence (lstm.h). Clean C11. Shapes as in lstm.h, L layers, V vocabulary; N = T*B
 * positions. Every function enqueues on the stream and returns the launch's error; every sum has a fixed order; nothing is
 * allocated, nothing waits. `layers_prepare` loads every kernel once per device, outside any capture. */
#ifndef PLSTM_LAYERS_H
#define PLSTM_LAYERS_H

#include "lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t layers_prepare(void);

/* Its parts, one per file. */
cudaError_t step_prepare(void);
cudaError_t pack_prepare(void); /* lstm_pack, lstm.h */
cudaError_t embedding_prepare(void);
cudaError_t rows_prepare(void);
cudaError_t softmax_xent_prepare(void);
cudaError_t sgd_prepare(void);
cudaError_t round_prepare(void);

/* Rows of n elements that a step copies on its way: `from_pitch` and `to_pitch` elements from row to row; rows 0: none. */
typedef struct CarriedRows {
    const float *from;
    float *to;
    int64_t rows, n, from_pitch, to_pitch;
} CarriedRows;

/* ---- step.cu ---- */

/* Moves the state on (step = next_step, window = next_window, and so on, slot to the next of `slots`) and copies the window's ids:
 * x (T,B) = stream[row_start(b) + window*T + t], y (T,B) the id after it; row_start as SPEC 4 over n ids. ids NULL: the state only
 * moves on. And copies the carried state in. */
cudaError_t step_begin(cudaStream_t stream, StepState *state, int64_t slots, const int32_t *ids,
                       int64_t n, int64_t T, int64_t B, int32_t *x, int32_t *y,
                       CarriedRows carried);

/* ---- embedding.cu ---- */

/* What a position reads: id >= 0 that row of the encoder; EMBEDDING_ZERO nothing, its input is zeros; below it, row
 * EMBEDDING_ZERO - 1 - id of `projected` plus bias. */
enum { EMBEDDING_ZERO = -1 };
typedef struct EmbeddingTable {
    const float *encoder; /* (V_in,H); NULL where no id is >= 0 */
    const float *
        projected; /* (rows,H) feature rows after their product; NULL where no id is below EMBEDDING_ZERO */
    const float *bias; /* (H) */
} EmbeddingTable;

/* x (N,H) = D(row of ids) */
cudaError_t embedding_forward(cudaStream_t stream, int64_t N, int64_t H, const int32_t *ids,
                              const EmbeddingTable *table, MaskSite site, float *x);

/* The same rounded to bfloat16, x (N,H) of 16 bits, bit for bit embedding_forward's x through round_bf16, `pitch` elements from row
 * to row, between which nothing is written. sm_80 and up, as everything here that rounds. */
cudaError_t embedding_forward_bf16(cudaStream_t stream, int64_t N, int64_t H, const int32_t *ids,
                                   const EmbeddingTable *table, MaskSite site, uint16_t *x,
                                   int64_t pitch);

/* The encoder's gradient, sparse: row n of rows (N,H) receives the sum, in order of position, of D(dx) over all positions with the id of
 * position n where n is the first such position; first[n] = 1 there and 0 elsewhere, whose rows are not written. A position
 * whose id is below 0 has no row. */
cudaError_t embedding_backward(cudaStream_t stream, int64_t N, int64_t H, const int32_t *ids,
                               const float *dx, MaskSite site, float *rows, int32_t *first);

/* ---- rows.cu ---- */

/* Row i of to (rows) = row index[i] of from, zeros where index[i] < 0. A row has row_bytes, an even number. to and from do not
 * overlap. */
cudaError_t rows_pick(cudaStream_t stream, int64_t rows, size_t row_bytes, const int32_t *index,
                      const void *from, void *to);

/* The same for float rows (H), D applied: row i of to = D(from[index[i]]), the mask being that of row index[i]. */
cudaError_t rows_masked(cudaStream_t stream, int64_t rows, int64_t H, const int32_t *index,
                        const float *from, MaskSite site, float *to);

/* ---- softmax_xent.cu ---- */

/* logits (N,V) without bias, any V, any alignment of rows. nats[n] = -log softmax(logits + bias)[target]. train: logits become
 * (softmax - onehot) / B in place; otherwise logits + bias. best (N), or NULL, receives the id of the largest logit, the lowest where
 * equal. A row whose target is below 0 is not scored: nats 0, best -1, its gradient zeros, its logits left as they are. One pass over
 * the row where it fits in shared memory. */
cudaError_t softmax_xent(cudaStream_t stream, int64_t N, int64_t V, const float *bias,
                         const int32_t *targets, int train, float inverse_B, float *logits,
                         float *nats, int32_t *best);

/* out (cols) = sum over rows of m (rows, cols), in a fixed order; `also` (may be NULL) receives a copy. */
cudaError_t column_sums(cudaStream_t stream, int64_t rows, int64_t cols, const float *m, float *out,
                        float *also);

/* The same, and m rounded to bfloat16 (rows, cols) on the way: the sums are those of the unrounded values, with the same bits. */
cudaError_t column_sums_bf16(cudaStream_t stream, int64_t rows, int64_t cols, const float *m,
                             float *out, float *also, uint16_t *rounded);

/* ---- round.cu ---- */

/* (rows, width) to be rounded; rows = 0: none. */
typedef struct RoundSpan {
    const float *from;
    uint16_t *to; /* bfloat16, `pitch` elements from row to row, between which nothing is written */
    int64_t rows, width, pitch;
} RoundSpan;

cudaError_t round_bf16(cudaStream_t stream, RoundSpan first, RoundSpan second);

/* ---- sgd.cu ---- */

/* One result of a step, in a ring: read by the host a few steps late. */
typedef struct StepResult {
    int64_t step;
    double nats, grad_norm;
    int64_t hits;
    uint32_t fault;
    uint32_t pad;
} StepResult;

/* A w_hh (4H,H) of the dense parameters whose packed copies (lstm.h) the update writes too; NULL: there is none of that kind. */
typedef struct SgdPacked {
    int64_t at;      /* its first element: a multiple of 4 */
    float *w_packed; /* (H,H,4) */
    void *w_tiles;   /* bfloat16 fragments (tensor.h); sm_80 and up */
} SgdPacked;

typedef struct SgdArgs {
    const StepState *state;
    const FaultRecord *fault;
    /* Dense parameters: one block each of weights and gradients, all tensors but the encoder, `dense` elements. */
    float *weights;
    const float *grads;
    int64_t dense;
    /* The encoder, NULL where there is none: rows and first as embedding_backward left them. */
    float *encoder;
    const float *rows;
    const int32_t *ids, *first;
    int64_t N, H;
    const SgdPacked *packed; /* [packed_n] device, in order of `at`; NULL where there are none */
    int64_t packed_n;
    uint16_t *
        rounded; /* (dense) the weights in bfloat16, element by element, packed tensors left out; NULL: nobody reads them */
    const float *nats; /* (scored) */
    const int32_t *best,
        *targets; /* (scored) as softmax_xent has them; best NULL: no hits are counted */
    int64_t scored;
    double *partial; /* (sgd_partials(dense, N)) scratch */
    CarriedRows
        carried; /* copied by the update, unless fault->set: as carry_state (carry.h) does */
    StepResult *results; /* [slots]: results[state->slot] is written */
} SgdArgs;

int64_t sgd_partials(int64_t dense, int64_t N);

/* Pass one: sums of squares of every gradient, dense and sparse, in a fixed order, into partial. */
cudaError_t sgd_norm(cudaStream_t stream, const SgdArgs *a);
/* Pass two: norm, clip scale, w -= lr * (scale * dw) for dense and sparse (SPEC 5), and the step's result with the sum of nats. Where
 * fault->set the weights and their packed copies stay as they are and the result says so. No bit of a weight depends on packing. */
cudaError_t sgd_update(cudaStream_t stream, const SgdArgs *a);

#ifdef __cplusplus
}
#endif

#endif
