/* backend: the table of operations that model.c calls. One record per backend (reference, cpu, later cuda);
 * each owns its memory: parameters, gradients, one window of activations, the carried state. The order of
 * operations, and nothing else, is model.c's.
 *
 * Names as everywhere: T steps, B batch, H hidden, L layers, V classes; time-major, row-major. Gate order
 * i, f, g, o. */
#ifndef PLSTM_BACKEND_H
#define PLSTM_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "host/base/settings.h"
#include "host/data/batch.h"
#include "host/store/params.h"
#include "kernels/plan.h"

/* Everything that an instance is made for; fixed for its life. */
typedef struct BackendConfig {
    ModelShape shape;
    int64_t T, B; /* capacity: a window has at most T*B positions and at most max(B, 1) rows */
    int64_t
        scored; /* capacity: scored positions of a window; 0: every position of every window is scored */
    int64_t features; /* capacity: feature rows of a window */
    bool hits;        /* ids of the largest logits are kept, and hits counted */
    bool train;       /* false: no gradients are allocated, windows never train */
    double keep;      /* masks: share kept */
    int64_t sites;    /* DropoutSites */
    uint64_t seed;    /* masks */
    int threads;      /* cpu: >= 1 */
    const char *kernel;
    LstmPrecision precision;
    const char
        *plan; /* cuda: note "plan" of the checkpoint that the run goes on from; NULL: none */
    const char
        *algorithms; /* cuda: its note "algorithms", alive as long as the backend; NULL: none */
    bool eager; /* cuda: launch every kernel by itself, never replay a graph (profilers, NVTX) */
} BackendConfig;

/* The settings' part of it: capacity, masks, threads (0 there: all that this process may use), kernels, precision. */
BackendConfig backend_config(const Settings *s, const ModelShape *shape, bool train);

/* One window to run. */
typedef struct Window {
    Batch
        batch; /* the caller's arrays until window_end; or ids and targets NULL: they are window `index` of the
                      stream that train_stream was given */
    int64_t index;
    bool train;   /* masks on, activations kept, gradients will be asked for */
    bool update;  /* an update follows: set by model.c */
    int64_t step; /* of the run; keys the masks */
} Window;

/* A backend may hand the result of an update over some windows later, so that nobody waits for the device;
 * results come in order, each once. A window that was not updated has its result at once. */
typedef struct WindowResult {
    int64_t step; /* of the window that this is the result of; -1: none is there yet */
    bool fault;   /* the step gave up on the device: weights and carried state are as before it */
    double nats;  /* sum over the scored positions of -log p(target) */
    int64_t hits; /* scored positions whose target has the largest logit, with config.hits */
    double grad_norm; /* global L2 norm before clipping; 0 where nothing trained */
} WindowResult;

typedef struct Backend Backend;

/* What an open backend has to tell. Runs whose notes differ may differ in bits: what of their numbers rests on the device
 * and its libraries, for a checkpoint's metadata. */
enum { BACKEND_NOTES = 3 };
typedef struct BackendInfo {
    char device[256]; /* what runs, for the log: "OpenBLAS 0.3.21 SkylakeX, 2 threads" */
    size_t bytes;     /* that it has allocated, on the machine or the device */
    const char *
        kernel; /* that runs, as --kernel takes it, alive as long as the backend; NULL: there are none to choose from */
    const char *
        remark; /* one line that the user should know about the kernels chosen, alive likewise; "": none. Notes "plan"
                           and "algorithms" that are not those of the resumed run are told here */
    int notes;
    struct {
        const char *key; /* static */
        char value[1600];
    } note[BACKEND_NOTES];
} BackendInfo;

/* Functions that return int return an ExitCode and fill *e. */
typedef struct BackendOps {
    const char *name;
    const char *summary; /* one line for --help and tables */

    /* Whether this machine can run it: EXIT_NO_DEVICE says why not. NULL: any can. */
    int (*usable)(Error *e);
    bool by_name_only; /* `auto` passes it over */
    bool f32_only;     /* config->precision is not looked at: the oracle of the others */

    /* Bytes of the machine's memory that open would allocate (an upper bound within a few per cent), so that
     * what cannot fit is refused first. NULL: it allocates a device's, which it asks for room itself. */
    size_t (*bytes)(const BackendConfig *config);
    int (*open)(const BackendConfig *config, Backend **b, Error *e);
    void (*close)(Backend *b);
    void (*info)(const Backend *b, BackendInfo *info);

    /* Parameters and gradients cross as float32, tensor k of params.h, row-major. A gradient is unclipped,
     * that of the last window for which *_backward ran, defined until window_end/update. */
    int (*param_set)(Backend *b, int k, const float *src, Error *e);
    int (*param_get)(Backend *b, int k, float *dst, Error *e);
    int (*grad_get)(Backend *b, int k, float *dst, Error *e);

    /* Carried state (L,B,H), which a window starts from if it carries and which every window leaves; NULL means
     * zeros. state_get is exact: set(get()) changes no bit of what follows.
     */
    int (*state_set)(Backend *b, int64_t B, const float *h, const float *c, Error *e);
    int (*state_get)(Backend *b, int64_t B, float *h, float *c, Error *e);

    /* Gradients of the carried state, (L,B,H), where config.train. state_grad_set: what flows into the h and c that a
     * training window of B rows leaves, in every window from now on; NULL: zero, as after open. wanted: they also
     * work out what flows into the h and c that they began with; state_grad_get reads it after layer_backward of
     * every layer, until the next window. */
    int (*state_grad_set)(Backend *b, int64_t B, const float *dh_n, const float *dc_n, bool wanted,
                          Error *e);
    int (*state_grad_get)(Backend *b, int64_t B, float *dh_0, float *dc_0, Error *e);

    /* Hands over the ids that training windows are cut from (batcher.h), once, so that they need not cross
     * with every window; copied. NULL: the backend takes every window's x and y. */
    int (*train_stream)(Backend *b, const int32_t *ids, int64_t N, int64_t T, int64_t B, Error *e);

    /* One window, in this order. layer_* run for l = 0..L-1 and back. replayed: everything from embedding_forward to
     * embedding_backward is enqueued as a whole by window_end, and must not be called. */
    int (*window_begin)(Backend *b, const Window *w, bool *replayed, Error *e);
    int (*embedding_forward)(Backend *b,
                             Error *e); /* D_0(x^0): rows of the encoder, projected features */
    int (*layer_forward)(Backend *b, int64_t l,
                         Error *e); /* h, c, gates, D_{l+1}(h^l); carries h and c on */
    int (*softmax_forward)(Backend *b,
                           Error *e); /* of the scored positions: logits, nats; training: dlogits in
                                                     place */
    int (*softmax_backward)(
        Backend *b, Error *e); /* decoder's gradients, gradient into the last layer's output */
    int (*layer_backward)(Backend *b, int64_t l,
                          Error *e); /* dw_ih, dw_hh, db, gradient into the layer below */
    int (*embedding_backward)(Backend *b, Error *e);
    int (*update)(Backend *b, double lr, double clip,
                  Error *e); /* norm, clip, w -= lr*dw (SPEC 5) */
    /* Ends the window. Of one that did not train, token_nats (T,B), or NULL, receives -log p of each target, 0
     * where there is none; token_best (T,B), or NULL, the id of the largest logit (the lowest where equal), -1
     * where the position is not scored or config.hits is off. */
    int (*window_end)(Backend *b, WindowResult *r, double *token_nats, int32_t *token_best,
                      Error *e);
    /* The next of the results still owed, waiting for it; step -1: none is. NULL: none ever is. */
    int (*drain)(Backend *b, WindowResult *r, Error *e);
    /* After softmax_forward of a window that does not train: logits of its scored positions number row ..
     * row+rows-1, counted in the order of positions; V_out floats each. */
    int (*logits_get)(Backend *b, int64_t row, int64_t rows, float *dst, Error *e);
} BackendOps;

/* Every backend that this build has, in order of preference for `auto`; NULL-terminated. */
extern const BackendOps *const backends[];

/* By name; "auto" takes the first that can run here. EXIT_USAGE: unknown. EXIT_NO_DEVICE: this build or
 * machine cannot. */
int backend_find(const char *name, const BackendOps **ops, Error *e);

/* Threads that this process may use (its affinity mask, and a cgroup's quota where one is set). */
int backend_threads(void);

#endif
