/* model: runs one window through a backend (SPEC 1, 5). It decides the order of operations and has
 * no arithmetic of its own. */
#ifndef PLSTM_MODEL_H
#define PLSTM_MODEL_H

#include <signal.h>

#include "host/backend/backend.h"

typedef struct Model {
    const BackendOps *ops;
    Backend *backend;
    BackendConfig config;
    /* may be NULL; when it becomes non-zero (a signal), scoring stops and returns 128 + that
     * signal */
    const volatile sig_atomic_t *interrupt;
    float *kept_h, *kept_c; /* (L,B,H): the training state while a split is scored */
    double *token_nats;     /* (T,B) of the window that was scored last */
    int32_t *token_best;    /* (T,B) */
} Model;

/* Opens a backend from backend_find; its parameters are zero until model_set_params. Closed by
 * model_close; on failure nothing stays open. */
int model_open(Model *m, const BackendOps *ops, const BackendConfig *config, Error *e);
void model_close(Model *m);

/* Copy all parameters, or all gradients, between the backend and *p (host memory). */
int model_set_params(Model *m, const Params *p, Error *e);
int model_get_params(Model *m, Params *p, Error *e);
int model_get_grads(Model *m, Params *p, Error *e); /* after model_gradients */

/* Runs forward, backward and update of one minibatch. *r is the result that the backend returned
 * meanwhile: that of this minibatch, that of an earlier one, or none (r->step is then -1). nats and
 * grad_norm are from before the update by that minibatch. */
int model_train_step(Model *m, const Window *w, double lr, double clip, WindowResult *r, Error *e);

/* Returns the next outstanding result of a train step, in order; r->step is -1 if there is none. */
int model_drain(Model *m, WindowResult *r, Error *e);

/* Runs forward and backward without an update; model_get_grads can read the gradients until the
 * next window. */
int model_gradients(Model *m, const Window *w, WindowResult *r, Error *e);

/* Runs forward only, with nothing masked; token_nats and token_best as in window_end
 * (backend.h). */
int model_forward(Model *m, const Window *w, double *token_nats, int32_t *token_best,
                  WindowResult *r, Error *e);

#endif
