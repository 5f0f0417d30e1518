/* params: the one list of parameter tensors (SPEC 7). Everything that iterates over the parameters
 * (backends, checkpoints, initial weights, tests) iterates over this list in this order, so that
 * tensor index k means the same everywhere. */
#ifndef PLSTM_PARAMS_H
#define PLSTM_PARAMS_H

#include <stddef.h>
#include <stdint.h>

typedef struct ModelShape {
    int64_t V_in;  /* input vocabulary; 0: no position's input is an id */
    int64_t F;     /* floats per feature row; 0: no position's input is one */
    int64_t V_out; /* classes of the softmax */
    int64_t H;     /* hidden units */
    int64_t L;     /* layers */
} ModelShape;

/* Returns the shape of a language model, which reads and predicts the same words. */
static inline ModelShape model_shape_of_words(int64_t V, int64_t H, int64_t L)
{
    ModelShape s = {V, 0, V, H, L};
    return s;
}

/* For each layer, in order: X(field, name with the layer's number as %d, rows, cols); cols 0 marks
 * a vector. */
#define PARAMS_OF_LAYER(X)                                                                         \
    X(w_ih, "rnn.weight_ih_l%d", 4 * s->H, s->H)                                                   \
    X(w_hh, "rnn.weight_hh_l%d", 4 * s->H, s->H)                                                   \
    X(b_ih, "rnn.bias_ih_l%d", 4 * s->H, 0)                                                        \
    X(b_hh, "rnn.bias_hh_l%d", 4 * s->H, 0)

enum { PARAM_W_IH, PARAM_W_HH, PARAM_B_IH, PARAM_B_HH, PARAMS_PER_LAYER };

/* Each returns the number of a tensor in the list; -1 if the shape has no such tensor. */
static inline int param_encoder(const ModelShape *s) { return s->V_in > 0 ? 0 : -1; }
static inline int param_input_weight(const ModelShape *s) { return s->F > 0 ? s->V_in > 0 : -1; }
static inline int param_input_bias(const ModelShape *s)
{
    return s->F > 0 ? 1 + (s->V_in > 0) : -1;
}
static inline int param_of_layer(const ModelShape *s, int64_t l, int which)
{
    return (s->V_in > 0) + 2 * (s->F > 0) + PARAMS_PER_LAYER * (int)l + which;
}
static inline int param_decoder_weight(const ModelShape *s) { return param_of_layer(s, s->L, 0); }
static inline int param_decoder_bias(const ModelShape *s) { return param_of_layer(s, s->L, 1); }
static inline int params_count(const ModelShape *s) { return param_of_layer(s, s->L, 2); }

typedef struct ParamInfo {
    char name[40];  /* PyTorch's state_dict name */
    int rank;       /* 1 or 2 */
    int64_t dim[2]; /* row-major */
    int64_t n;      /* elements */
} ParamInfo;

/* Returns name and shape of tensor k, 0 <= k < params_count(s). */
ParamInfo param_info(const ModelShape *s, int k);

/* Returns the number of elements of all tensors together. */
int64_t params_elements(const ModelShape *s);

/* All parameters on the host, float32, in one block; tensor k starts at data + offset[k]. */
typedef struct Params {
    ModelShape shape;
    int count;
    int64_t *offset; /* (count + 1) */
    float *data;     /* (offset[count]) */
} Params;

/* Allocates the block without filling it. Returns 0, or -1 if memory ran out (then there is nothing
 * to free). */
int params_init(Params *p, const ModelShape *s);
void params_free(Params *p);

/* Fills every tensor as SPEC 3 says: uniform in [-init, init], a pure function of (seed, k,
 * element). */
void params_draw(Params *p, uint64_t seed, double init);
/* Fills one tensor in the same way; dst holds param_info(s, k).n floats. */
void param_draw(const ModelShape *s, int k, uint64_t seed, double init, float *dst);

#endif
