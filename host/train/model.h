/* model: one window through a backend, and a split scored (SPEC 1, 5, 6). Knows the order of operations and
 * the scoring protocols; no arithmetic of its own but sums of nats in double. */
#ifndef PLSTM_MODEL_H
#define PLSTM_MODEL_H

#include <signal.h>

#include "host/backend/backend.h"
#include "host/data/corpus.h"

typedef struct Model {
    const BackendOps *ops;
    Backend *backend;
    BackendConfig config;
    const volatile sig_atomic_t *interrupt; /* may be NULL; where it turns non-zero (a signal) model_score
                                               stops and returns 128 + that signal */
    float *kept_h, *kept_c;                 /* (L,B,H): the training state while a split is scored */
    int32_t *window_x, *window_y;           /* (T,B): the batcher's windows while a split is scored */
    double *token_nats;                     /* (T,B) */
} Model;

/* ops from backend_find; parameters are zero until model_set_params. */
int model_open(Model *m, const BackendOps *ops, const BackendConfig *config, Error *e);
void model_close(Model *m);

int model_set_params(Model *m, const Params *p, Error *e);
int model_get_params(Model *m, Params *p, Error *e);
int model_get_grads(Model *m, Params *p, Error *e); /* after model_gradients */

/* Forward, backward, update of one minibatch. *r is the result that came back during it: this minibatch's,
 * that of an earlier one, or none (r->step says which); nats and grad_norm are those before that one's
 * update. */
int model_train_step(Model *m, const Window *w, double lr, double clip, WindowResult *r, Error *e);

/* The next result that is still owed for a train step, in order; r->step is -1 when there is none. */
int model_drain(Model *m, WindowResult *r, Error *e);

/* Forward and backward without update; gradients stay readable by model_get_grads until the next window. */
int model_gradients(Model *m, const Window *w, WindowResult *r, Error *e);

/* Forward only, nothing masked; token_nats (T,B) or NULL. */
int model_forward(Model *m, const Window *w, double *token_nats, WindowResult *r, Error *e);

/* Called for each scored target: its position in the stream (1..n-1), its id, its nats. Under sequential
 * scoring positions come in order; under batched scoring time-major within a window. */
typedef void (*ScoreVisitor)(void *user, int64_t position, int32_t id, double nats);

typedef struct Score {
    double nats;
    int64_t tokens;   /* scored */
    double ppl;       /* exp(nats / tokens) */
    double ppl_paper; /* exp(nats / (B*(floor(N/B)-1))) for batched scoring, NAN for sequential (SPEC 6) */
    bool fault;       /* a window gave up on the device (backend.h): it failed, and the weights are whole */
} Score;

/* How a split is scored. rows 0: one sequential stream from a zero state, N-1 tokens, in windows of at most
 * T*B positions of the model's capacity. rows > 0: SPEC 4's cut into `rows` rows and windows of `seq`, state
 * carried from zero. The training state of the backend is kept aside and put back. EXIT_BAD_DATA when the
 * split is too short; what names it. */
int model_score(Model *m, const Stream *stream, const char *what, int64_t rows, int64_t seq,
                ScoreVisitor visit, void *user, Score *score, Error *e);

/* rows for a split under a protocol: valid under zaremba is batched, everything else is sequential. */
int64_t score_rows(int64_t protocol, int split, int64_t batch);

#endif
