/* layers: the kernels of a training step besides the recurrence (lstm.h). Clean C11. Shapes are
 * those of lstm.h, with L layers, a vocabulary of V and N = T * B positions. Every function
 * enqueues on the stream and returns the launch's error; every sum has a fixed order; nothing
 * allocates or waits. layers_prepare loads every kernel; call it once per device, outside any
 * capture. */
#ifndef PLSTM_LAYERS_H
#define PLSTM_LAYERS_H

#include "lstm.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t layers_prepare(void);

/* The parts of layers_prepare, one per file. */
cudaError_t step_prepare(void);
cudaError_t pack_prepare(void); /* lstm_pack, lstm.h */
cudaError_t embedding_prepare(void);
cudaError_t rows_prepare(void);
cudaError_t softmax_xent_prepare(void);
cudaError_t sgd_prepare(void);
cudaError_t round_prepare(void);

/* Rows of n elements that a kernel of the step copies in addition to its own work. Rows are
 * `from_pitch` and `to_pitch` elements apart. rows = 0: none. */
typedef struct CarriedRows {
    const float *from;
    float *to;
    int64_t rows, n, from_pitch, to_pitch;
} CarriedRows;

/* ---- step.cu ---- */

/* Advances the state (step = next_step, window = next_window, and so on; slot to the next of
 * `slots`) and copies the window's ids: x (T,B) = stream[row_start(b) + window * T + t] and y (T,B)
 * the id after it, with row_start over n ids as in SPEC 4. If ids is NULL, it only advances the
 * state. It also copies the carried state in. */
cudaError_t step_begin(cudaStream_t stream, StepState *state, int64_t slots, const int32_t *ids,
                       int64_t n, int64_t T, int64_t B, int32_t *x, int32_t *y,
                       CarriedRows carried);

/* ---- embedding.cu ---- */

/* What a position reads. An id >= 0 selects that row of the encoder; EMBEDDING_ZERO selects an
 * input of zeros; an id below that selects row EMBEDDING_ZERO - 1 - id of `projected`, plus
 * bias. */
enum { EMBEDDING_ZERO = -1 };
typedef struct EmbeddingTable {
    const float *encoder; /* (V_in,H); NULL if no id is >= 0 */
    /* (rows,H): feature rows after their product. NULL if no id is below EMBEDDING_ZERO. */
    const float *projected;
    const float *bias; /* (H) */
} EmbeddingTable;

/* x (N,H) = D(row of ids). */
cudaError_t embedding_forward(cudaStream_t stream, int64_t N, int64_t H, const int32_t *ids,
                              const EmbeddingTable *table, MaskSite site, float *x);

/* Computes embedding_forward's x rounded to bfloat16, with the same bits as round_bf16 gives: x
 * (N,H) of 16 bits, rows `pitch` elements apart, between which nothing is written. sm_80 and up, as
 * is everything here that rounds. */
cudaError_t embedding_forward_bf16(cudaStream_t stream, int64_t N, int64_t H, const int32_t *ids,
                                   const EmbeddingTable *table, MaskSite site, uint16_t *x,
                                   int64_t pitch);

/* Computes the encoder's sparse gradient. For each id, row n of rows (N,H) at the first position n
 * that has the id receives the sum of D(dx) over all positions with that id, in order of position.
 * first[n] is 1 at these positions and 0 elsewhere, where the row is not written. A position whose
 * id is below 0 has no row. */
cudaError_t embedding_backward(cudaStream_t stream, int64_t N, int64_t H, const int32_t *ids,
                               const float *dx, MaskSite site, float *rows, int32_t *first);

/* ---- rows.cu ---- */

/* Sets row i of to (rows) to row index[i] of from, or to zeros if index[i] < 0. A row has row_bytes
 * bytes, an even number. to and from must not overlap. */
cudaError_t rows_pick(cudaStream_t stream, int64_t rows, size_t row_bytes, const int32_t *index,
                      const void *from, void *to);

/* Does the same for rows of H floats and applies D: row i of to = D(from[index[i]]), with the mask
 * of row index[i]. If index[i] < 0, row i is zeros. */
cudaError_t rows_masked(cudaStream_t stream, int64_t rows, int64_t H, const int32_t *index,
                        const float *from, MaskSite site, float *to);

/* ---- softmax_xent.cu ---- */

/* Takes logits (N,V) without bias, for any V and any alignment of rows. nats[n] = -log
 * softmax(logits + bias)[target]. If train is set, logits become (softmax - onehot) / B in place,
 * otherwise logits + bias. best (N), unless NULL, receives the id of the largest logit, the lowest
 * of equal ones. A row whose target is below 0 is not scored: its nats are 0, its best is -1, its
 * gradient is zeros, and its logits stay as they are. A row that fits in shared memory is read only
 * once. */
cudaError_t softmax_xent(cudaStream_t stream, int64_t N, int64_t V, const float *bias,
                         const int32_t *targets, int train, float inverse_B, float *logits,
                         float *nats, int32_t *best);

/* Sums m (rows, cols) over its rows into out (cols), in a fixed order; `also`, unless NULL,
 * receives a copy. */
cudaError_t column_sums(cudaStream_t stream, int64_t rows, int64_t cols, const float *m, float *out,
                        float *also);

/* Does the same and also stores m rounded to bfloat16 (rows, cols). The sums are those of the
 * unrounded values, with the same bits. */
cudaError_t column_sums_bf16(cudaStream_t stream, int64_t rows, int64_t cols, const float *m,
                             float *out, float *also, uint16_t *rounded);

/* ---- round.cu ---- */

/* A tensor (rows, width) to be rounded; rows = 0: none. */
typedef struct RoundSpan {
    const float *from;
    uint16_t *to; /* bfloat16, rows `pitch` elements apart, between which nothing is written */
    int64_t rows, width, pitch;
} RoundSpan;

cudaError_t round_bf16(cudaStream_t stream, RoundSpan first, RoundSpan second);

/* ---- sgd.cu ---- */

/* The result of one step, in a ring; the host reads it a few steps late. */
typedef struct StepResult {
    int64_t step;
    double nats, grad_norm;
    int64_t hits;
    uint32_t fault;
    uint32_t pad;
} StepResult;

/* A w_hh (4H,H) among the dense parameters, with the packed copies (lstm.h) that the update also
 * writes; NULL: there is no such copy. */
typedef struct SgdPacked {
    int64_t at;      /* its first element; a multiple of 4 */
    float *w_packed; /* (H,H,4) */
    void *w_tiles;   /* bfloat16 fragments (tensor.h); sm_80 and up */
} SgdPacked;

typedef struct SgdArgs {
    const StepState *state;
    const FaultRecord *fault;
    /* Dense parameters: all tensors but the encoder, `dense` elements in one block of weights and
     * one of gradients. */
    float *weights;
    const float *grads;
    int64_t dense;
    /* The encoder, NULL if there is none; rows and first as embedding_backward left them. */
    float *encoder;
    const float *rows;
    const int32_t *ids, *first;
    int64_t N, H;
    const SgdPacked *packed; /* [packed_n] device, in order of `at`; NULL if there are none */
    int64_t packed_n;
    /* (dense): the weights in bfloat16, element by element, without the packed tensors. NULL: they
     * are not needed. */
    uint16_t *rounded;
    const float *nats; /* (scored) */
    /* (scored), as in softmax_xent. best NULL: hits are not counted. */
    const int32_t *best, *targets;
    int64_t scored;
    double *partial; /* (sgd_partials(dense, N)): scratch */
    /* The update copies these as carry_state (carry.h) does, that is, unless fault->set. */
    CarriedRows carried;
    StepResult *results; /* [slots]; results[state->slot] is written */
} SgdArgs;

int64_t sgd_partials(int64_t dense, int64_t N);

/* The first pass: writes the sums of squares of every gradient, dense and sparse, into partial, in
 * a fixed order. */
cudaError_t sgd_norm(cudaStream_t stream, const SgdArgs *a);
/* The second pass: computes the norm and the clip scale, does w -= lr * (scale * dw) for dense and
 * sparse parameters (SPEC 5), and writes the step's result with the sum of nats. If fault->set, the
 * weights and their packed copies stay as they are and the result says so. Packing does not change
 * any bit of a weight. */
cudaError_t sgd_update(cudaStream_t stream, const SgdArgs *a);

#ifdef __cplusplus
}
#endif

#endif
