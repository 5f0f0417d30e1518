/* backend: the table of operations that model.c calls. There is one record per backend (reference,
 * cpu, cuda). Each backend owns its memory: parameters, gradients, the activations of one window,
 * the carried state. model.c decides the order of operations and nothing else.
 *
 * Names as everywhere: T steps, B batch, H hidden, L layers, V classes; time-major, row-major. Gate
 * order i, f, g, o. */
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

/* The fixed properties of an instance. */
typedef struct BackendConfig {
    ModelShape shape;
    int64_t T, B; /* capacity: a window has at most T*B positions and at most max(B, 1) rows */
    /* capacity: scored positions of a window; 0: every position of every window is scored */
    int64_t scored;
    int64_t features; /* capacity: feature rows of a window */
    bool hits;        /* the ids of the largest logits are kept and hits are counted */
    bool train;       /* false: no gradients are allocated, and windows never train */
    double keep;      /* masks: share of values kept */
    int64_t sites;    /* DropoutSites */
    uint64_t seed;    /* masks */
    int threads;      /* cpu: >= 1 */
    const char *kernel;
    LstmPrecision precision;
    /* cuda: note "plan" of the resumed run's checkpoint; NULL: none */
    const char *plan;
    /* cuda: note "algorithms" of the same checkpoint, which outlives the backend; NULL: none */
    const char *algorithms;
    /* cuda: launch every kernel separately and never replay a graph (profilers, NVTX) */
    bool eager;
} BackendConfig;

/* Returns the configuration that the settings decide: capacity, masks, threads (setting 0: all that
 * this process may use), kernels, precision. */
BackendConfig backend_config(const Settings *s, const ModelShape *shape, bool train);

/* One window to run. */
typedef struct Window {
    /* The caller's arrays until window_end. If ids and targets are NULL, the batch is window
     * `index` of the stream that train_stream received. */
    Batch batch;
    int64_t index;
    bool train;   /* masks are on, activations are kept, and gradients follow */
    bool update;  /* an update follows; set by model.c */
    int64_t step; /* number of the step in the run; keys the masks */
} Window;

/* A backend may return the result of an update several windows later, so that the host does not
 * wait for the device; results come in order, each once. The result of a window without an update
 * is returned at once. */
typedef struct WindowResult {
    int64_t step; /* step of the window whose result this is; -1: there is none yet */
    bool fault;   /* the step timed out on the device: weights and carried state are as before it */
    double nats;  /* sum over the scored positions of -log p(target) */
    int64_t hits; /* scored positions whose target has the largest logit, if config.hits */
    double grad_norm; /* global L2 norm before clipping; 0 if nothing was trained */
} WindowResult;

typedef struct Backend Backend;

/* Facts about an open backend. The notes are the device and library facts that determine a run's
 * exact bits, for a checkpoint's metadata: runs with different notes may differ in bits. */
enum { BACKEND_NOTES = 3 };
typedef struct BackendInfo {
    char device[256]; /* what computes, for the log: "OpenBLAS 0.3.21 SkylakeX, 2 threads" */
    size_t bytes;     /* allocated on the machine or the device */
    /* kernel in use, in the form of --kernel, alive as long as the backend; NULL: there is no
     * choice */
    const char *kernel;
    /* One line for the user about the choice of kernels, alive as long as the backend; "": none. It
     * reports notes "plan" and "algorithms" that differ from the resumed run's. */
    const char *remark;
    int notes;
    struct {
        const char *key; /* static storage */
        char value[1600];
    } note[BACKEND_NOTES];
} BackendInfo;

/* Functions that return int return an ExitCode and fill *e on failure. */
typedef struct BackendOps {
    const char *name;
    const char *summary; /* one line for --help and tables */

    /* Checks whether this machine can run the backend; EXIT_NO_DEVICE says why not. NULL: any
     * machine can. */
    int (*usable)(Error *e);
    bool by_name_only; /* `auto` skips it */
    bool f32_only;     /* it ignores config->precision, since it is the oracle of the others */

    /* Returns the bytes of the machine's memory that open would allocate (an upper bound within a
     * few per cent), so that a model that cannot fit is refused first. NULL: the backend allocates
     * on a device, and checks that itself. */
    size_t (*bytes)(const BackendConfig *config);

    /* Opens an instance, whose parameters and carried state are zero; close frees it. If open
     * fails, there is nothing to close. */
    int (*open)(const BackendConfig *config, Backend **b, Error *e);
    void (*close)(Backend *b);
    void (*info)(const Backend *b, BackendInfo *info); /* fills *info */

    /* Parameters and gradients cross this interface as float32, tensor k of params.h, row-major. A
     * gradient is unclipped and belongs to the last window for which *_backward ran; it is defined
     * until window_end or update. */
    int (*param_set)(Backend *b, int k, const float *src, Error *e);
    int (*param_get)(Backend *b, int k, float *dst, Error *e);
    int (*grad_get)(Backend *b, int k, float *dst, Error *e);

    /* The carried state (L,B,H): a window that carries starts from it, and every window leaves one.
     * NULL means zeros. state_get is exact: set(get()) changes no bit of what follows. */
    int (*state_set)(Backend *b, int64_t B, const float *h, const float *c, Error *e);
    int (*state_get)(Backend *b, int64_t B, float *h, float *c, Error *e);

    /* The gradients of the carried state, (L,B,H), if config.train. state_grad_set sets the
     * gradient that flows into the final h and c of a training window of B rows, for every window
     * from now on; NULL: zero, as after open. wanted: windows also compute the gradient that flows
     * into their initial h and c; state_grad_get reads it after layer_backward of every layer,
     * until the next window. */
    int (*state_grad_set)(Backend *b, int64_t B, const float *dh_n, const float *dc_n, bool wanted,
                          Error *e);
    int (*state_grad_get)(Backend *b, int64_t B, float *dh_0, float *dc_0, Error *e);

    /* Copies the ids from which training windows are cut (batcher.h), once, so that windows need
     * not bring them. NULL: every window brings its x and y. */
    int (*train_stream)(Backend *b, const int32_t *ids, int64_t N, int64_t T, int64_t B, Error *e);

    /* The operations of a window, in this order; layer_* run for l = 0..L-1 and in reverse.
     * replayed: window_end enqueues everything from embedding_forward to embedding_backward as a
     * whole, and these must not be called. */
    int (*window_begin)(Backend *b, const Window *w, bool *replayed, Error *e);
    /* Computes D_0(x^0) from rows of the encoder and projected features. */
    int (*embedding_forward)(Backend *b, Error *e);
    /* Computes h, c, gates and D_{l+1}(h^l); carries h and c. */
    int (*layer_forward)(Backend *b, int64_t l, Error *e);
    /* Computes logits and nats of the scored positions; in training, dlogits replace the logits. */
    int (*softmax_forward)(Backend *b, Error *e);
    /* Computes the decoder's gradients, and the gradient into the last layer's output. */
    int (*softmax_backward)(Backend *b, Error *e);
    /* Computes dw_ih, dw_hh, db, and the gradient into the output of the layer below. */
    int (*layer_backward)(Backend *b, int64_t l, Error *e);
    int (*embedding_backward)(Backend *b, Error *e);
    /* Computes the gradient norm, clips and sets w -= lr * dw (SPEC 5). */
    int (*update)(Backend *b, double lr, double clip, Error *e);
    /* Ends the window. If it did not train, token_nats (T,B), or NULL, receives -log p of each
     * target, 0 where there is none, and token_best (T,B), or NULL, the id of the largest logit
     * (the lowest among equals), -1 where the position is not scored or config.hits is off. */
    int (*window_end)(Backend *b, WindowResult *r, double *token_nats, int32_t *token_best,
                      Error *e);
    /* Waits for the next outstanding result and returns it; step -1: there is none. drain is NULL
     * if a backend never has one. */
    int (*drain)(Backend *b, WindowResult *r, Error *e);
    /* After softmax_forward of a window that does not train: copies the logits of scored positions
     * number row .. row+rows-1, counted in the order of positions, to dst (rows,V_out). */
    int (*logits_get)(Backend *b, int64_t row, int64_t rows, float *dst, Error *e);
} BackendOps;

/* Every backend of this build, in the order in which `auto` prefers them; NULL-terminated. */
extern const BackendOps *const backends[];

/* Finds a backend by name; "auto" finds the first that this machine can run. EXIT_USAGE: there is
 * no such name. EXIT_NO_DEVICE: this build or machine cannot run it. */
int backend_find(const char *name, const BackendOps **ops, Error *e);

/* Returns the number of threads that this process may use (its affinity mask, and the quota of a
 * cgroup if there is one). */
int backend_threads(void);

#endif
