/* model: one window through a backend (SPEC 1, 5). Knows the order of operations; no arithmetic of its own. */
#ifndef PLSTM_MODEL_H
#define PLSTM_MODEL_H

#include <signal.h>

#include "host/backend/backend.h"

typedef struct Model {
    const BackendOps *ops;
    Backend *backend;
    BackendConfig config;
    const volatile sig_atomic_t
        *interrupt;         /* may be NULL; where it turns non-zero (a signal) scoring
                                               stops and returns 128 + that signal */
    float *kept_h, *kept_c; /* (L,B,H): the training state while a split is scored */
    double *token_nats;     /* (T,B) of the window that was scored last */
    int32_t *token_best;    /* (T,B) */
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

/* Forward only, nothing masked; token_nats and token_best as window_end's (backend.h). */
int model_forward(Model *m, const Window *w, double *token_nats, int32_t *token_best,
                  WindowResult *r, Error *e);

#endif
