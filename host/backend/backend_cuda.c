/* backend_cuda: the backend on one NVIDIA GPU, by kernels/ and cuBLAS. Everything is float32 except
 * the operands of matrix products, which --precision rounds.
 *
 * Memory     There is one device block, carved once by `carve`, which also computes its size, one
 *            pinned host block, and a device block of its own for the training stream; a step
 *            allocates nothing. cuBLAS's workspace is a part of the first block, so that its choice
 *            of algorithms does not depend on how much memory is free.
 * Stream     Everything runs on one stream; the host waits for it only where it needs a value.
 * Steps      The first training step of a shape launches kernel by kernel (libraries load lazily),
 *            the second is captured, and from then on a step is one graph launch. Step number,
 *            window, lr and result slot live in device memory (StepState) and advance inside the
 *            graph. The host keeps its own copy and uploads it only where a step is not the one
 *            that this copy predicts: a new epoch, a new lr, a resumed run. Windows without an
 *            update, or with gradients of the carried state, always launch kernel by kernel.
 * Batches    The windows of the stream given to train_stream are cut on the device. Any other
 *            window's ids, targets, lists of rows and features reach it in one copy from a pinned
 *            block; each step in flight has its own block. Graphs are kept per shape: (T, B, scored
 *            rows, feature rows), the last two rounded up to 64 and padded with rows that do not
 *            count, unless every position is such a row. The most recently used graphs are kept.
 *            Only scored positions reach the decoder.
 * Precision  tf32: cuBLAS rounds the operands of its products, and the recurrence's kernel rounds
 *            its own. bf16: products over all positions read bfloat16 copies beside the float32
 *            tensors. Each copy is written by a kernel that has the values: those of the weights by
 *            the update, those of the embedded words by the embedding, those of h and y by the
 *            recurrence, and those of the gradients by the kernel that sums their columns for the
 *            bias. Sums are float32.
 * Rows       The rows of a weight that a product over all positions reads, and in bf16 those of x,
 *            h and features, begin at multiples of 16 bytes, as the tensor memory accelerator
 *            requires: they are `pitch` elements apart, a multiple of 8 in bf16 and of 4 in tf32.
 *            The gaps between rows are always zero, so that update and norm run over whole tensors.
 *            In tf32 x and h have no gaps: they are the recurrence's own tensors, and copies would
 *            take longer than the products gain.
 * Products   gemm.c runs them by cuBLASLt, with algorithms that are chosen once and recorded in
 *            checkpoints.
 * Recurrence recurrence.c chooses kernels and plans once. Each plan's scratch lies in the device
 *            block, as do the packed copies of w_hh if a kernel reads them; param_set and the
 *            update write them.
 * Results    sgd_update writes them into a pinned ring, and the host reads each result SLOTS - 1
 *            steps later, when it has long arrived.
 * Bits       There are no float atomics, every sum has a fixed order, and cuBLAS has one stream and
 *            one workspace, with atomics off: a run that is repeated, replayed or resumed has the
 *            same bits. */
#include "backend_cuda.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/carry.h"
#include "kernels/gemm.h"
#include "kernels/layers.h"
#include "kernels/philox.h"
#include "kernels/tensor.h"
#include "cublas_open.h"
#include "cublas_check.h"
#include "host/plan/device.h"
#include "host/base/number.h"
#include "nvtx.h"
#include "host/plan/precision.h"
#include "gemm.h"
#include "recurrence.h"

enum {
    SLOTS = 4,   /* entries of the ring of results */
    PIECE = 256, /* bytes; every part of a block begins at a multiple of it */
    GRAPHS = 32, /* kept at once */
    ROUNDED = 64 /* rows of a list are rounded up to this */
};

/* Everything that the launches of a window depend on. */
typedef struct StepShape {
    int64_t T, B;
    int64_t scored, features; /* rows of their lists, rounded up */
    bool gathered;            /* not every position is scored: a list selects rows */
    bool of_stream;
} StepShape;

/* A training step of one shape: run once, then captured. */
typedef struct StepGraph {
    StepShape shape;
    cudaGraph_t graph;
    cudaGraphExec_t launch; /* NULL: not captured yet */
    int64_t used;           /* step count of its last use; 0: the entry is free */
} StepGraph;

/* How the current window runs. */
typedef enum Mode {
    EAGER,   /* each operation launches its kernels */
    CAPTURE, /* each operation adds its kernels to the graph, which window_end launches */
    REPLAY,  /* window_end launches the graph */
} Mode;

struct Backend {
    BackendConfig config;
    DeviceFacts device;
    Recurrence recurrence;
    uint32_t poll_limit;
    int cublas_version;
    LstmContext context;
    Gemm gemm;
    char remark[1400]; /* remarks of recurrence and gemm, for the user */
    bool eager;        /* never capture */
    Ranges ranges;
    char (*layer_name)[32]; /* [L] */

    Window w;
    StepShape shape; /* of the current window */
    Mode mode;
    bool capturing, updated;
    StepGraph graph[GRAPHS], *step; /* step: the graph of the current window if an update follows */
    int64_t uses;

    StepState state;  /* what the device's copy holds once everything enqueued has run */
    bool state_known; /* false: the host must upload state before the next step */

    cudaEvent_t done[SLOTS];
    int64_t issued, returned; /* numbers of results */

    /* The ids of the training stream, in a device block of their own. */
    int32_t *stream;
    int64_t stream_n, stream_T, stream_B;

    /* Device memory. */
    void *memory;
    size_t bytes;
    float *encoder;        /* (V_in,H); NULL if no input is an id */
    float *dense, *ddense; /* all other parameters and their gradients, tensors at dense_at */
    int64_t dense_n;       /* elements, including the gaps between tensors, which are zero */
    int64_t *dense_at;     /* [count] host */
    float **w_packed;      /* [L] host; (H,H,4) of each w_hh; NULL if forward does not read it */
    void **w_tiles;    /* [L] host; bfloat16 fragments of each w_hh; NULL if no kernel reads them */
    SgdPacked *packed; /* [L] device; both copies of each w_hh, for the update */
    void *scratch[PLANS];
    float *rows;    /* (N,H) the encoder's gradient, sparse */
    int32_t *first; /* (N) 1 where a position is the first of its id, which has the id's row */
    /* [L+1] host; (N,H) masked inputs; NULL, except for x[0], if nothing is ever masked; in bf16
     * x[0] is NULL, too */
    float **x;
    float **h_masked; /* [L] host; (N,H), only with SITES_ALL */
    float *hc; /* (2L, (N+B)*H): h of every layer, then c, each (T+1,B,H) of the current window */
    float **gates;       /* [L] host; (N,4H); shared by all layers if nothing trains */
    float *dy, *dh, *dc; /* (N,H), (B,H), (B,H) */
    /* R: rows of the softmax, N if every position of every window is scored; n: feature rows. Both
     * are rounded up. */
    float *logits, *nats; /* (R,V), (R) */
    int32_t *best;        /* (R); NULL unless config.hits */
    /* (R,H) scored rows of the decoder's input, as its product reads them; NULL if R is always N */
    void *picked;
    float *dpicked; /* (R,H) their gradients */
    /* (n,H) features after their product, then their gradients; NULL if there are none */
    float *projected;
    uint16_t *features_bf16; /* (n,F) */
    double *partial;
    /* Tensors of bfloat16; NULL in other precisions. */
    uint16_t *dense_bf16; /* the dense block; w_hh is not updated if it has packed copies */
    uint16_t **x_bf16;    /* [L+1] host; like x, but x_bf16[0] is never NULL */
    /* [L] host; (N+B,H) h, or (N,H) h_masked; shared by all layers if nothing trains */
    uint16_t **h_bf16;
    /* max(R*V, N*4H, n*H): dlogits, then dgates, then the gradients of projected features */
    uint16_t *d_bf16;
    float *carried; /* (2L,B,H): h of every layer, then c */
    /* (4,L,B,H): dh_n, dc_n, dh_0, dc_0 of every layer; NULL unless config.train */
    float *state_grad;
    bool state_grad_in, state_grad_out; /* layer_backward reads dh_n, dc_n; writes dh_0, dc_0 */
    char *batch_device;                 /* a window's BatchLayout, to which the next six point */
    int32_t *x_ids, *y_ids; /* (N) ids as the embedding reads them (layers.h), (R) targets */
    int32_t *row_of;        /* (R) position of scored row i, -1: none */
    int32_t *place_of;      /* (N) scored row of position n, -1: none */
    int32_t *feature_of;    /* (n) position of feature row i, -1: none */
    float *features;        /* (n,F) */
    StepState *state_device;
    void *workspace;

    /* Pinned host memory. */
    char *pinned;
    StepResult *results; /* [SLOTS] written by the device */
    char *batch_host;    /* [SLOTS] like batch_device: one for each step in flight */
    float *nats_host;    /* (R) */
    int32_t *best_host;  /* (R); NULL unless config.hits */
    FaultRecord *fault_host;
};

/* ---- memory ---- */

typedef struct Arena {
    char *base;
    size_t used;
} Arena;

static void *arena_alloc(Arena *a, int64_t n, size_t size)
{
    size_t at = a->used;
    a->used += ((size_t)n * size + PIECE - 1) / PIECE * PIECE;
    return a->base ? a->base + at : NULL;
}

static float *arena_floats(Arena *a, int64_t n) { return arena_alloc(a, n, sizeof(float)); }

static int64_t positions(const BackendConfig *g) { return g->T * g->B; }

static int in_layer(const Backend *b, int64_t l, int which)
{
    return param_of_layer(&b->config.shape, l, which);
}

static int64_t rounded(int64_t rows) { return (rows + ROUNDED - 1) / ROUNDED * ROUNDED; }

/* Return the most rows of the softmax, and of features, that a window can have. */
static int64_t most_scored(const BackendConfig *g)
{
    return g->scored ? rounded(g->scored) : positions(g);
}
static int64_t most_features(const BackendConfig *g) { return rounded(g->features); }

/* Offsets in bytes of a window's ids and lists, on the device and in the pinned block from which
 * they are copied. */
typedef struct BatchLayout {
    size_t x_ids, y_ids, row_of, place_of, feature_of, features, bytes;
} BatchLayout;

static size_t piece(size_t *at, int64_t n)
{
    size_t here = *at;
    *at += ((size_t)n * sizeof(int32_t) + PIECE - 1) / PIECE * PIECE;
    return here;
}

static BatchLayout batch_layout(int64_t N, int64_t scored, int64_t features, int64_t F,
                                bool gathered)
{
    BatchLayout l = {0};
    l.x_ids = piece(&l.bytes, N), l.y_ids = piece(&l.bytes, scored);
    l.row_of = piece(&l.bytes, gathered ? scored : 0),
    l.place_of = piece(&l.bytes, gathered ? N : 0);
    l.feature_of = piece(&l.bytes, features), l.features = piece(&l.bytes, features * F);
    return l;
}

static BatchLayout largest_batch(const BackendConfig *g)
{
    return batch_layout(positions(g), most_scored(g), most_features(g), g->shape.F, g->scored > 0);
}

/* Returns whether training masks anything: at keep 1 a mask changes nothing. */
static bool masks(const BackendConfig *g)
{
    return g->train && g->sites != SITES_NONE && g->keep < 1;
}

/* Returns the workspace size that cuBLAS's manual recommends. */
static size_t workspace_bytes(const DeviceFacts *device)
{
    return (size_t)(device->major >= 9 ? 32 : 4) << 20;
}

/* Returns the pitch, in elements, of a product's operand whose rows have n elements. */
static int64_t row_pitch(LstmPrecision precision, int64_t n)
{
    int64_t unit = precision == PRECISION_BF16 ? 8 : precision == PRECISION_TF32 ? 4 : 1;
    return (n + unit - 1) / unit * unit;
}

/* Returns the pitch of x, h and features, which have gaps only in bf16. */
static int64_t input_pitch(const Backend *b, int64_t n)
{
    return b->config.precision == PRECISION_BF16 ? row_pitch(PRECISION_BF16, n) : n;
}

/* The layout of a parameter tensor on the device. w_hh, which the recurrence reads, the encoder and
 * vectors have no gaps. */
typedef struct ParamRows {
    int64_t rows, width, pitch;
} ParamRows;

static ParamRows param_rows(const BackendConfig *g, int k)
{
    ParamInfo info = param_info(&g->shape, k);
    bool recurrent = false;
    for (int64_t l = 0; l < g->shape.L; l++)
        recurrent |= k == param_of_layer(&g->shape, l, PARAM_W_HH);
    if (info.rank == 1 || recurrent || k == param_encoder(&g->shape))
        return (ParamRows){1, info.n, info.n};
    return (ParamRows){info.dim[0], info.dim[1], row_pitch(g->precision, info.dim[1])};
}

/* Returns the number of elements of the dense block. at (may be NULL) receives the offset of each
 * tensor. */
static int64_t dense_layout(const BackendConfig *g, int64_t *at)
{
    int64_t n = 0;
    for (int k = 0; k < params_count(&g->shape); k++) {
        ParamRows r = param_rows(g, k);
        if (at) at[k] = n;
        if (k != param_encoder(&g->shape)) n += (r.rows * r.pitch + 63) / 64 * 64;
    }
    return n;
}

/* Sets every device pointer of *b; with a->base NULL, only counts the bytes. To set pointers, the
 * arrays of the host must already be allocated. */
static void carve(Backend *b, Arena *a)
{
    const BackendConfig *g = &b->config;
    int64_t V = g->shape.V_out, H = g->shape.H, L = g->shape.L, N = positions(g), B = g->B;
    int64_t V_in = g->shape.V_in, F = g->shape.F, R = most_scored(g), n = most_features(g);
    bool masked = masks(g);
    int64_t H_pitch = input_pitch(b, H);
    b->dense_n = dense_layout(g, NULL);
    b->encoder = V_in ? arena_floats(a, V_in * H) : NULL;
    b->dense = arena_floats(a, b->dense_n);
    b->ddense = g->train ? arena_floats(a, b->dense_n) : NULL;
    bool packed = b->recurrence.forward->footprint->packed,
         tiles = recurrence_reads_tiles(&b->recurrence);
    for (int64_t l = 0; l < L; l++) {
        float *w_packed = packed ? arena_floats(a, 4 * H * H) : NULL;
        void *w_tiles = tiles ? arena_alloc(a, (int64_t)tensor_copy_bytes(H), 1) : NULL;
        if (a->base) b->w_packed[l] = w_packed, b->w_tiles[l] = w_tiles;
    }
    b->packed = (packed || tiles) && g->train ? arena_alloc(a, L, sizeof *b->packed) : NULL;
    for (int i = 0; i < PLANS; i++)
        b->scratch[i] = b->recurrence.planned[i]
                            ? arena_alloc(a, (int64_t)b->recurrence.plan[i].scratch_bytes, 1)
                            : NULL;
    b->rows = g->train && V_in ? arena_floats(a, N * H) : NULL;
    b->first = g->train ? arena_alloc(a, N, sizeof(int32_t)) : NULL;
    for (int64_t l = 0; l <= L; l++) {
        bool bf16 = b->config.precision == PRECISION_BF16, own = l == 0 || masked;
        float *x = own && !(bf16 && l == 0) ? arena_floats(a, N * H) : NULL;
        uint16_t *x_bf16 = own && bf16 ? arena_alloc(a, N * H_pitch, sizeof *x_bf16) : NULL;
        if (a->base) b->x[l] = x, b->x_bf16[l] = x_bf16;
        if (l == L) break;
        uint16_t *h_bf16 =
            bf16 && (l == 0 || g->train) ? arena_alloc(a, (N + B) * H_pitch, sizeof *h_bf16) : NULL;
        if (a->base) b->h_bf16[l] = h_bf16 ? h_bf16 : b->h_bf16[0];
        float *own_gates = l == 0 || g->train ? arena_floats(a, 4 * N * H) : NULL;
        float *hm = masked && g->sites == SITES_ALL ? arena_floats(a, N * H) : NULL;
        if (a->base) b->gates[l] = own_gates ? own_gates : b->gates[0], b->h_masked[l] = hm;
    }
    b->hc = arena_floats(a, 2 * L * (N + B) * H);
    b->dy = g->train ? arena_floats(a, N * H) : NULL;
    b->dh = g->train ? arena_floats(a, B * H) : NULL,
    b->dc = g->train ? arena_floats(a, B * H) : NULL;
    b->logits = arena_floats(a, R * V), b->nats = arena_floats(a, R);
    b->best = g->hits ? arena_alloc(a, R, sizeof *b->best) : NULL;
    b->partial = g->train ? arena_alloc(a, sgd_partials(b->dense_n, N), sizeof(double)) : NULL;
    bool bf16 = b->config.precision == PRECISION_BF16;
    b->dense_bf16 = bf16 ? arena_alloc(a, b->dense_n, sizeof *b->dense_bf16) : NULL;
    int64_t d = R * V > 4 * N * H ? R * V : 4 * N * H;
    b->d_bf16 = bf16 && g->train ? arena_alloc(a, d > n * H ? d : n * H, sizeof *b->d_bf16) : NULL;
    b->picked =
        g->scored ? arena_alloc(a, R * H_pitch, bf16 ? sizeof(uint16_t) : sizeof(float)) : NULL;
    b->dpicked = g->scored && g->train ? arena_floats(a, R * H) : NULL;
    b->projected = n ? arena_floats(a, n * H) : NULL;
    b->features_bf16 =
        n && bf16 ? arena_alloc(a, n * input_pitch(b, F), sizeof *b->features_bf16) : NULL;
    b->carried = arena_floats(a, 2 * L * B * H);
    b->state_grad = g->train ? arena_floats(a, 4 * L * B * H) : NULL;
    b->batch_device = arena_alloc(a, (int64_t)largest_batch(g).bytes, 1);
    b->state_device = arena_alloc(a, 1, sizeof *b->state_device);
    b->context.fault = arena_alloc(a, 1, sizeof *b->context.fault);
    b->workspace = arena_alloc(a, (int64_t)workspace_bytes(&b->device), 1);
}

static size_t carve_pinned(Backend *b, Arena *a)
{
    b->results = arena_alloc(a, SLOTS, sizeof *b->results);
    b->batch_host = arena_alloc(a, SLOTS, largest_batch(&b->config).bytes);
    b->nats_host = arena_floats(a, most_scored(&b->config));
    b->best_host =
        b->config.hits ? arena_alloc(a, most_scored(&b->config), sizeof *b->best_host) : NULL;
    b->fault_host = arena_alloc(a, 1, sizeof *b->fault_host);
    return a->used;
}

/* ---- choices: precision, poll limit ---- */

static bool set_and_on(const char *value, const char *off)
{
    return value && value[0] && strcmp(value, "0") && strcmp(value, off);
}

/* Sets *math, cuBLAS's mode for the precision. Refuses environment variables that would change the
 * precision of cuBLAS's products, and tf32 and bf16 on a GPU below sm_80. */
static int choose_precision(const Backend *b, cublasMath_t *math, Error *e)
{
    static const char *const emulation[] = {"CUBLAS_EMULATE_SINGLE_PRECISION",
                                            "CUBLAS_EMULATION_STRATEGY"};
    const char *tf32 = getenv("NVIDIA_TF32_OVERRIDE");
    /* In bf16, too, the recurrence of some kernels is a float32 product of cuBLAS. */
    bool f32 = b->config.precision != PRECISION_TF32;
    *math = f32 ? CUBLAS_DEFAULT_MATH : CUBLAS_TF32_TENSOR_OP_MATH;
    if (f32 && set_and_on(tf32, "0"))
        return error_set(e, EXIT_USAGE,
                         "NVIDIA_TF32_OVERRIDE is set to '%s', which would round the operands of "
                         "float32 products to 10 bits; unset it, or give --precision tf32",
                         tf32);
    if (!f32 && tf32 && !strcmp(tf32, "0"))
        return error_set(
            e, EXIT_USAGE,
            "NVIDIA_TF32_OVERRIDE is set to '0', which turns --precision tf32 off; unset it");
    for (size_t i = 0; f32 && i < sizeof emulation / sizeof emulation[0]; i++)
        if (set_and_on(getenv(emulation[i]), "default"))
            return error_set(e, EXIT_USAGE,
                             "%s is set to '%s', which lets cuBLAS compute float32 products from "
                             "bfloat16 ones; unset it",
                             emulation[i], getenv(emulation[i]));
    if (b->config.precision != PRECISION_F32 && b->device.major < 8)
        return error_set(e, EXIT_NO_DEVICE,
                         "--precision %s needs a GPU from sm_80, but %s is sm_%d%d; f32 "
                         "runs on it",
                         precision_name(b->config.precision), b->device.name, b->device.major,
                         b->device.minor);
    return EXIT_DONE;
}

/* Sets after how many polls of a missing block a kernel times out: by default some seconds, since
 * L2 answers each load. */
static int choose_poll_limit(Backend *b, Error *e)
{
    const char *text = getenv("PLSTM_POLL_LIMIT");
    int64_t limit = 1 << 22;
    if (text && text[0] && !parse_int(text, 0, UINT32_MAX, &limit))
        return error_set(e, EXIT_USAGE,
                         "PLSTM_POLL_LIMIT is set to '%s'; it takes a whole number from 0, where 0 "
                         "waits forever",
                         text);
    b->poll_limit = (uint32_t)limit;
    return EXIT_DONE;
}

/* ---- copies that the host waits for ---- */

static int upload(Backend *b, void *to, const void *from, size_t bytes, Error *e)
{
    CUDA_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, b->context.stream));
    CUDA_TRY(cudaStreamSynchronize(b->context.stream));
    return EXIT_DONE;
}

static int download(Backend *b, void *to, const void *from, size_t bytes, Error *e)
{
    CUDA_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, b->context.stream));
    CUDA_TRY(cudaStreamSynchronize(b->context.stream));
    return EXIT_DONE;
}

/* ---- opening and closing ---- */

static void cuda_close(Backend *b)
{
    if (!b) return;
    /* A release only repeats an error that an earlier call has returned. */
    if (b->capturing) {
        cudaGraph_t half = NULL;
        cudaStreamEndCapture(b->context.stream, &half);
        if (half) cudaGraphDestroy(half);
    }
    gemm_close(&b->gemm);
    if (b->context.stream) cudaStreamSynchronize(b->context.stream);
    for (int i = 0; i < GRAPHS; i++) {
        if (b->graph[i].launch) cudaGraphExecDestroy(b->graph[i].launch);
        if (b->graph[i].graph) cudaGraphDestroy(b->graph[i].graph);
    }
    for (int i = 0; i < SLOTS; i++)
        if (b->done[i]) cudaEventDestroy(b->done[i]);
    if (b->context.blas) cublasDestroy(b->context.blas);
    if (b->context.stream) cudaStreamDestroy(b->context.stream);
    if (b->stream) cudaFree(b->stream);
    if (b->memory) cudaFree(b->memory);
    if (b->pinned) cudaFreeHost(b->pinned);
    ranges_free(&b->ranges);
    free(b->dense_at), free(b->w_packed), free(b->w_tiles), free(b->x), free(b->x_bf16),
        free(b->h_bf16);
    free(b->h_masked), free(b->gates), free(b->layer_name);
    free(b);
}

/* Initialises packed copies of zero parameters, the update's list of them, and barriers at which no
 * block has arrived. */
static int open_recurrence_memory(Backend *b, Error *e)
{
    int64_t L = b->config.shape.L, H = b->config.shape.H;
    for (int64_t l = 0; l < L && b->w_packed[l]; l++)
        CUDA_TRY(cudaMemsetAsync(b->w_packed[l], 0, (size_t)(4 * H * H) * sizeof(float),
                                 b->context.stream));
    for (int64_t l = 0; l < L && b->w_tiles[l]; l++)
        CUDA_TRY(cudaMemsetAsync(b->w_tiles[l], 0, tensor_copy_bytes(H), b->context.stream));
    for (int i = 0; i < PLANS; i++)
        if (b->scratch[i])
            CUDA_TRY(cudaMemsetAsync(b->scratch[i], 0, b->recurrence.plan[i].scratch_bytes,
                                     b->context.stream));
    if (!b->packed) return EXIT_DONE;
    SgdPacked *list = calloc((size_t)L, sizeof *list);
    if (!list) return error_set(e, EXIT_FAILED, "the cuda backend ran out of memory");
    for (int64_t l = 0; l < L; l++)
        list[l] =
            (SgdPacked){b->dense_at[in_layer(b, l, PARAM_W_HH)], b->w_packed[l], b->w_tiles[l]};
    int code = upload(b, b->packed, list, (size_t)L * sizeof *list, e);
    free(list);
    return code;
}

/* Zeros the gaps between the rows of bf16 operands, which nothing else writes. */
static int open_gaps(Backend *b, Error *e)
{
    int64_t H = b->config.shape.H, F = b->config.shape.F, N = positions(&b->config);
    size_t row = (size_t)input_pitch(b, H) * sizeof(uint16_t);
    if (input_pitch(b, H) != H)
        for (int64_t l = 0; l <= b->config.shape.L; l++) {
            if (b->x_bf16[l])
                CUDA_TRY(cudaMemsetAsync(b->x_bf16[l], 0, (size_t)N * row, b->context.stream));
            if (l < b->config.shape.L && b->h_bf16[l])
                CUDA_TRY(cudaMemsetAsync(b->h_bf16[l], 0, (size_t)(N + b->config.B) * row,
                                         b->context.stream));
        }
    if (b->features_bf16 && input_pitch(b, F) != F)
        CUDA_TRY(cudaMemsetAsync(b->features_bf16, 0,
                                 (size_t)(most_features(&b->config) * input_pitch(b, F)) *
                                     sizeof *b->features_bf16,
                                 b->context.stream));
    return EXIT_DONE;
}

static int open_memory(Backend *b, Error *e)
{
    size_t room = 0, all = 0;
    Arena a = {NULL, 0};
    carve(b, &a);
    size_t bytes = b->bytes = a.used;
    CUDA_TRY(cudaMemGetInfo(&room, &all));
    if (bytes > room)
        return error_set(e, EXIT_NO_DEVICE,
                         "this model needs %.2f GB on the GPU, but %s has %.2f of %.2f GB left; a "
                         "smaller --hidden, --batch or --seq needs less",
                         (double)bytes * 1e-9, b->device.name, (double)room * 1e-9,
                         (double)all * 1e-9);
    CUDA_TRY(cudaMalloc(&b->memory, bytes));
    a = (Arena){b->memory, 0};
    carve(b, &a);
    a = (Arena){NULL, 0};
    bytes = carve_pinned(b, &a);
    CUDA_TRY(cudaHostAlloc((void **)&b->pinned, bytes, cudaHostAllocDefault));
    a = (Arena){b->pinned, 0};
    carve_pinned(b, &a);
    /* Parameters start as zeros, as the table requires; gaps between tensors stay zero. */
    if (b->encoder)
        CUDA_TRY(cudaMemsetAsync(b->encoder, 0,
                                 (size_t)(b->config.shape.V_in * b->config.shape.H) * sizeof(float),
                                 b->context.stream));
    else if (b->first) /* without an encoder, no position is the first of an id */
        CUDA_TRY(cudaMemsetAsync(b->first, 0, (size_t)positions(&b->config) * sizeof *b->first,
                                 b->context.stream));
    CUDA_TRY(cudaMemsetAsync(b->dense, 0, (size_t)b->dense_n * sizeof(float), b->context.stream));
    if (b->ddense)
        CUDA_TRY(
            cudaMemsetAsync(b->ddense, 0, (size_t)b->dense_n * sizeof(float), b->context.stream));
    if (b->dense_bf16)
        CUDA_TRY(cudaMemsetAsync(b->dense_bf16, 0, (size_t)b->dense_n * sizeof *b->dense_bf16,
                                 b->context.stream));
    int code = open_gaps(b, e);
    if (code) return code;
    CUDA_TRY(cudaMemsetAsync(b->carried, 0,
                             (size_t)(2 * b->config.shape.L * b->config.B * b->config.shape.H) *
                                 sizeof(float),
                             b->context.stream));
    CUDA_TRY(cudaMemsetAsync(b->context.fault, 0, sizeof *b->context.fault, b->context.stream));
    return open_recurrence_memory(b, e);
}

static int open_cublas(Backend *b, cublasMath_t math, Error *e)
{
    CUBLAS_TRY(cublasCreate(&b->context.blas));
    CUBLAS_TRY(cublasGetVersion(b->context.blas, &b->cublas_version));
    /* The stream must be set before the workspace: cublasSetStream resets the workspace. */
    CUBLAS_TRY(cublasSetStream(b->context.blas, b->context.stream));
    CUBLAS_TRY(cublasSetWorkspace(b->context.blas, b->workspace, workspace_bytes(&b->device)));
    CUBLAS_TRY(cublasSetMathMode(b->context.blas, math));
    CUBLAS_TRY(cublasSetAtomicsMode(b->context.blas, CUBLAS_ATOMICS_NOT_ALLOWED));
    return EXIT_DONE;
}

/* Returns a pitch in the form of GemmRows: 0 if there are no gaps. */
static int64_t row_gap(int64_t width, int64_t pitch) { return pitch == width ? 0 : pitch; }

/* Chooses the algorithms of the six products of a training window, each for one layer or the
 * softmax. If batches differ in shape, nothing is chosen here: each product gets the library's
 * first suggestion when it first runs. */
static int open_gemm(Backend *b, Error *e)
{
    const ModelShape *s = &b->config.shape;
    int64_t N = positions(&b->config), V = s->V_out, H = s->H;
    int code = gemm_open(&b->gemm, b->config.precision, &b->device, b->context.blas,
                         b->context.stream, b->workspace, workspace_bytes(&b->device),
                         input_pitch(b, H), b->config.algorithms, e);
    if (code || !b->config.train || b->config.scored || b->config.features) return code;
    bool bf16 = b->config.precision == PRECISION_BF16;
    int ih = in_layer(b, 0, PARAM_W_IH), dec = param_decoder_weight(s);
    const void *x = bf16 ? (const void *)b->x_bf16[0] : b->x[0];
    int64_t p = row_gap(H, input_pitch(b, H)), w = row_gap(H, row_pitch(b->config.precision, H));
    const void *weight[2], *d[2] = {b->logits, b->gates[0]};
    for (int i = 0; i < 2; i++) {
        int64_t at = b->dense_at[i ? ih : dec];
        weight[i] = bf16 ? (const void *)(b->dense_bf16 + at) : b->dense + at;
        if (bf16) d[i] = b->d_bf16;
    }
    const struct {
        GemmShape shape;
        const void *A, *B;
        float *C;
    } step[] = {
        {{0, 1, N, 4 * H, H, {p, w, 0}}, x, weight[1], b->gates[0]},
        {{0, 1, N, V, H, {p, w, 0}}, x, weight[0], b->logits},
        {{1, 0, V, H, N, {0, p, w}}, d[0], x, b->ddense + b->dense_at[dec]},
        {{0, 0, N, H, V, {0, w, 0}}, d[0], weight[0], b->dy},
        {{1, 0, 4 * H, H, N, {0, p, w}}, d[1], x, b->ddense + b->dense_at[ih]},
        {{0, 0, N, H, 4 * H, {0, w, 0}}, d[1], weight[1], b->dy},
    };
    for (size_t i = 0; i < sizeof step / sizeof step[0] && !code; i++)
        code = gemm_prepare(&b->gemm, step[i].shape, step[i].A, step[i].B, step[i].C, e);
    return code;
}

static int open_device(Backend *b, Error *e)
{
    cublasMath_t math;
    int devices, code = device_count(&devices, e);
    if (!code) code = device_facts(0, &b->device, e);
    if (!code) code = choose_precision(b, &math, e);
    if (!code) code = recurrence_choose(&b->recurrence, &b->config, &b->device, e);
    if (!code) code = choose_poll_limit(b, e);
    if (!code) code = cublas_open(e);
    if (code) return code;
    CUDA_TRY(cudaSetDevice(0));
    CUDA_TRY(cudaStreamCreateWithFlags(&b->context.stream, cudaStreamNonBlocking));
    for (int i = 0; i < SLOTS; i++)
        CUDA_TRY(cudaEventCreateWithFlags(&b->done[i], cudaEventDisableTiming));
    /* Every kernel is loaded now: loading one lazily would wait for the device, or break a
     * capture. */
    CUDA_TRY(layers_prepare());
    CUDA_TRY(carry_prepare());
    b->context.cooperative = b->device.cooperative;
    code = recurrence_prepare(&b->recurrence, &b->config, &b->device, e);
    if (!code) code = open_memory(b, e);
    if (!code) code = open_cublas(b, math, e);
    if (!code) code = open_gemm(b, e);
    if (!code)
        snprintf(b->remark, sizeof b->remark, "%s%s%s", b->recurrence.remark,
                 b->recurrence.remark[0] && b->gemm.remark[0] ? "; " : "", b->gemm.remark);
    return code;
}

static int cuda_open(const BackendConfig *g, Backend **out, Error *e)
{
    int64_t L = g->shape.L;
    Backend *b = calloc(1, sizeof *b);
    if (!b) return error_set(e, EXIT_FAILED, "the cuda backend ran out of memory");
    b->config = *g;
    const char *eager = getenv("PLSTM_EAGER");
    b->eager = g->eager || (eager && eager[0] && strcmp(eager, "0"));
    b->dense_at = calloc((size_t)params_count(&g->shape), sizeof *b->dense_at);
    b->w_packed = calloc((size_t)L, sizeof *b->w_packed),
    b->w_tiles = calloc((size_t)L, sizeof *b->w_tiles);
    b->x_bf16 = calloc((size_t)L + 1, sizeof *b->x_bf16),
    b->h_bf16 = calloc((size_t)L, sizeof *b->h_bf16);
    b->x = calloc((size_t)L + 1, sizeof *b->x),
    b->h_masked = calloc((size_t)L, sizeof *b->h_masked);
    b->gates = calloc((size_t)L, sizeof *b->gates),
    b->layer_name = calloc((size_t)L, sizeof *b->layer_name);
    b->state.slot = SLOTS - 1; /* the first result goes to slot 0 */
    ranges_init(&b->ranges);
    int code = EXIT_DONE;
    if (!b->dense_at || !b->w_packed || !b->w_tiles || !b->x || !b->x_bf16 || !b->h_bf16 ||
        !b->h_masked || !b->gates || !b->layer_name)
        code = error_set(e, EXIT_FAILED, "the cuda backend ran out of memory");
    if (!code) {
        dense_layout(g, b->dense_at);
        for (int64_t l = 0; l < L; l++)
            snprintf(b->layer_name[l], sizeof b->layer_name[l], "layer%lld", (long long)l);
        code = open_device(b, e);
    }
    if (code) cuda_close(b);
    else *out = b;
    return code;
}

/* Note "gemm" holds the facts by which cuBLAS selects the algorithms of a stepwise recurrence: its
 * version, the architecture, the number of SMs, the precision and the workspace. Note "algorithms"
 * records those of the other products. */
static void cuda_info(const Backend *b, BackendInfo *info)
{
    const DeviceFacts *d = &b->device;
    enum { NOTE = sizeof info->note[0].value };
    _Static_assert((int)NOTE >= (int)RECURRENCE_TEXT && (int)NOTE >= (int)GEMM_TEXT,
                   "a note holds all plans, and all algorithms");
    *info = (BackendInfo){.kernel = b->recurrence.kernel, .remark = b->remark, .bytes = b->bytes};
    if (b->stream) info->bytes += (size_t)b->stream_n * sizeof *b->stream;
    snprintf(info->device, sizeof info->device, "%s, sm_%d%d, %d SMs, CUDA %d.%d, cuBLAS %d.%d.%d",
             d->name, d->major, d->minor, d->sms, d->runtime / 1000, d->runtime / 10 % 100,
             b->cublas_version / 10000, b->cublas_version / 100 % 100, b->cublas_version % 100);
    info->note[0].key = "gemm";
    snprintf(info->note[0].value, NOTE,
             "cuBLAS %d sm_%d%d %d SMs %s workspace %zu default algorithms", b->cublas_version,
             d->major, d->minor, d->sms, precision_name(b->config.precision), workspace_bytes(d));
    info->note[1].key = "plan";
    recurrence_text(&b->recurrence, info->note[1].value, NOTE);
    info->notes = info->note[1].value[0] ? 2 : 1;
    if (!b->config.train) return;
    info->note[info->notes].key = "algorithms";
    gemm_text(&b->gemm, info->note[info->notes++].value, NOTE);
}

static int cuda_usable(Error *e)
{
    int n, code = device_count(&n, e);
    if (!code) code = cublas_open(e);
    if (!code) CUDA_TRY(layers_prepare()); /* fails if the kernels were not compiled for this GPU */
    return code;
}

/* Returns the graph that was used last. */
cudaGraph_t cuda_graph(const Backend *b)
{
    const StepGraph *last = NULL;
    for (int i = 0; i < GRAPHS; i++)
        if (b->graph[i].launch && (!last || b->graph[i].used > last->used)) last = &b->graph[i];
    return last ? last->graph : NULL;
}

int cuda_graphs(const Backend *b)
{
    int n = 0;
    for (int i = 0; i < GRAPHS; i++) n += b->graph[i].launch != NULL;
    return n;
}

float *cuda_input(const Backend *b) { return b->x[0]; }

FaultRecord *cuda_fault(const Backend *b) { return b->context.fault; }

const Recurrence *cuda_recurrence(const Backend *b) { return &b->recurrence; }

void *cuda_scratch(const Backend *b, int which) { return b->scratch[which]; }

/* ---- parameters and state ---- */

static float *param(const Backend *b, int k)
{
    return k == param_encoder(&b->config.shape) ? b->encoder : b->dense + b->dense_at[k];
}

static float *grad(const Backend *b, int k) { return b->ddense + b->dense_at[k]; }

/* Copies a tensor between the device, where its rows may have gaps, and the host, where they have
 * none, and waits for the copy. */
static int copy_rows(Backend *b, void *to, int64_t to_pitch, const void *from, int64_t from_pitch,
                     ParamRows r, enum cudaMemcpyKind kind, Error *e)
{
    size_t width = (size_t)r.width * sizeof(float);
    if (to_pitch == from_pitch) /* takes any length; the rows of the other call are below 2 GB */
        CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)r.rows * width, kind, b->context.stream));
    else
        CUDA_TRY(cudaMemcpy2DAsync(to, (size_t)to_pitch * sizeof(float), from,
                                   (size_t)from_pitch * sizeof(float), width, (size_t)r.rows, kind,
                                   b->context.stream));
    CUDA_TRY(cudaStreamSynchronize(b->context.stream));
    return EXIT_DONE;
}

static int cuda_param_set(Backend *b, int k, const float *src, Error *e)
{
    ParamRows r = param_rows(&b->config, k);
    int code = copy_rows(b, param(b, k), r.pitch, src, r.width, r, cudaMemcpyHostToDevice, e);
    if (code) return code;
    for (int64_t l = 0; l < b->config.shape.L; l++) {
        if (k != in_layer(b, l, PARAM_W_HH)) continue;
        if (b->w_packed[l])
            CUDA_TRY(lstm_pack(b->context.stream, b->config.shape.H, param(b, k), b->w_packed[l]));
        if (b->w_tiles[l])
            CUDA_TRY(
                lstm_pack_tiles(b->context.stream, b->config.shape.H, param(b, k), b->w_tiles[l]));
    }
    if (b->dense_bf16 && k != param_encoder(&b->config.shape))
        CUDA_TRY(round_bf16(b->context.stream,
                            (RoundSpan){param(b, k), b->dense_bf16 + b->dense_at[k], 1,
                                        r.rows * r.pitch, r.rows * r.pitch},
                            (RoundSpan){0}));
    return EXIT_DONE;
}

static int cuda_param_get(Backend *b, int k, float *dst, Error *e)
{
    ParamRows r = param_rows(&b->config, k);
    return copy_rows(b, dst, r.width, param(b, k), r.pitch, r, cudaMemcpyDeviceToHost, e);
}

/* Gathers the encoder's gradient from the first position of each word. */
static int encoder_grad(Backend *b, float *dst, Error *e)
{
    int64_t N = b->shape.T * b->shape.B, H = b->config.shape.H;
    float *rows = malloc((size_t)(N * H) * sizeof *rows);
    int32_t *ids = malloc((size_t)N * sizeof *ids), *first = malloc((size_t)N * sizeof *first);
    int code = rows && ids && first ? EXIT_DONE
                                    : error_set(e, EXIT_FAILED, "memory ran out for a gradient");
    if (!code) code = download(b, rows, b->rows, (size_t)(N * H) * sizeof *rows, e);
    if (!code) code = download(b, ids, b->x_ids, (size_t)N * sizeof *ids, e);
    if (!code) code = download(b, first, b->first, (size_t)N * sizeof *first, e);
    if (!code) memset(dst, 0, (size_t)(b->config.shape.V_in * H) * sizeof *dst);
    for (int64_t n = 0; !code && n < N; n++)
        if (first[n]) memcpy(dst + ids[n] * H, rows + n * H, (size_t)H * sizeof *dst);
    free(first), free(ids), free(rows);
    return code;
}

static int cuda_grad_get(Backend *b, int k, float *dst, Error *e)
{
    if (k == param_encoder(&b->config.shape)) return encoder_grad(b, dst, e);
    ParamRows r = param_rows(&b->config, k);
    return copy_rows(b, dst, r.width, grad(b, k), r.pitch, r, cudaMemcpyDeviceToHost, e);
}

static int cuda_state_set(Backend *b, int64_t B, const float *h, const float *c, Error *e)
{
    assert(B <= b->config.B);
    size_t n = (size_t)(b->config.shape.L * B * b->config.shape.H), half = n * sizeof(float);
    const float *from[2] = {h, c};
    if (!h && !c) {
        CUDA_TRY(cudaMemsetAsync(b->carried, 0, 2 * half, b->context.stream));
        return EXIT_DONE;
    }
    for (int i = 0; i < 2; i++) {
        float *to = b->carried + (size_t)i * n;
        int code = EXIT_DONE;
        if (!from[i]) CUDA_TRY(cudaMemsetAsync(to, 0, half, b->context.stream));
        else code = upload(b, to, from[i], half, e);
        if (code) return code;
    }
    return EXIT_DONE;
}

static int cuda_state_get(Backend *b, int64_t B, float *h, float *c, Error *e)
{
    size_t n = (size_t)(b->config.shape.L * B * b->config.shape.H), half = n * sizeof(float);
    int code = download(b, h, b->carried, half, e);
    return code ? code : download(b, c, b->carried + n, half, e);
}

/* Returns the rows (B,H) of layer l in gradient i of the state (0 to 3: dh_n, dc_n, dh_0, dc_0). */
static float *state_grad(const Backend *b, int64_t B, int i, int64_t l)
{
    return b->state_grad + (i * b->config.shape.L + l) * B * b->config.shape.H;
}

static int cuda_state_grad_set(Backend *b, int64_t B, const float *dh_n, const float *dc_n,
                               bool wanted, Error *e)
{
    assert(B <= b->config.B && b->config.train);
    size_t bytes = (size_t)(b->config.shape.L * B * b->config.shape.H) * sizeof(float);
    const float *from[2] = {dh_n, dc_n};
    b->state_grad_in = dh_n || dc_n, b->state_grad_out = wanted;
    for (int i = 0; i < 2 && b->state_grad_in; i++) {
        float *to = state_grad(b, B, i, 0);
        int code = EXIT_DONE;
        if (!from[i]) CUDA_TRY(cudaMemsetAsync(to, 0, bytes, b->context.stream));
        else code = upload(b, to, from[i], bytes, e);
        if (code) return code;
    }
    return EXIT_DONE;
}

static int cuda_state_grad_get(Backend *b, int64_t B, float *dh_0, float *dc_0, Error *e)
{
    assert(b->state_grad_out);
    size_t bytes = (size_t)(b->config.shape.L * B * b->config.shape.H) * sizeof(float);
    int code = download(b, dh_0, state_grad(b, B, 2, 0), bytes, e);
    return code ? code : download(b, dc_0, state_grad(b, B, 3, 0), bytes, e);
}

static int cuda_train_stream(Backend *b, const int32_t *ids, int64_t N, int64_t T, int64_t B,
                             Error *e)
{
    assert(T == b->config.T && B == b->config.B && !b->stream);
    CUDA_TRY(cudaMalloc((void **)&b->stream, (size_t)N * sizeof *ids));
    b->stream_n = N, b->stream_T = T, b->stream_B = B;
    return upload(b, b->stream, ids, (size_t)N * sizeof *ids, e);
}

/* ---- the current window ---- */

static float *h_of(const Backend *b, int64_t l)
{
    return b->hc + l * (positions(&b->config) + b->config.B) * b->config.shape.H;
}

static float *c_of(const Backend *b, int64_t l) { return h_of(b, b->config.shape.L + l); }

/* Returns the mask of D_site in the current window. */
static MaskSite site_of(const Backend *b, int64_t site)
{
    const BackendConfig *g = &b->config;
    int sites = sites_count(g->sites, g->shape.L);
    if (!b->w.train || !masks(g) || site >= sites) return (MaskSite){.on = 0};
    return (MaskSite){.state = b->state_device,
                      .seed = g->seed,
                      .bound = mask_bound(g->keep),
                      .scale = (float)(1.0 / g->keep),
                      .sites = sites,
                      .site = (int32_t)site,
                      .on = 1};
}

static MaskSite recurrent_site(const Backend *b, int64_t l)
{
    return site_of(b, b->config.shape.L + 1 + l);
}

/* An operand of a product over all positions, in the type of the precision: float or bfloat16. */
typedef const void *Operand;

/* Returns the input of layer l, or of the softmax if l = L. If it is not masked, it is row 1 and
 * later of the h of layer l-1. */
static Operand input_of(const Backend *b, int64_t l)
{
    bool own = l == 0 || site_of(b, l).on;
    int64_t first = b->w.batch.B * input_pitch(b, b->config.shape.H);
    if (b->config.precision == PRECISION_BF16) return own ? b->x_bf16[l] : b->h_bf16[l - 1] + first;
    return own ? b->x[l] : h_of(b, l - 1) + first;
}

/* Returns h_0 .. h_{T-1} of layer l, as the recurrence read them. */
static Operand h_before_of(const Backend *b, int64_t l)
{
    if (b->config.precision == PRECISION_BF16) return b->h_bf16[l];
    return recurrent_site(b, l).on ? b->h_masked[l] : h_of(b, l);
}

static Operand weight_of(const Backend *b, int k)
{
    if (b->config.precision == PRECISION_BF16) return b->dense_bf16 + b->dense_at[k];
    return param(b, k);
}

static LstmShape shape_of(const Backend *b)
{
    return (LstmShape){.T = b->w.batch.T,
                       .B = b->w.batch.B,
                       .H = b->config.shape.H,
                       .precision = b->config.precision};
}

/* Computes to (m,n) = x w^T for inputs x (m,k) and a weight w (n,k). */
static int product_forward(Backend *b, int64_t m, int64_t n, int64_t k, Operand x, int weight,
                           float *to, Error *e)
{
    GemmRows rows = {row_gap(k, input_pitch(b, k)),
                     row_gap(k, param_rows(&b->config, weight).pitch), 0};
    return gemm_run(&b->gemm, (GemmShape){0, 1, m, n, k, rows}, x, weight_of(b, weight), to, e);
}

/* Computes the gradient (m,n) of a weight as d^T x, for gradients d (k,m) and inputs x (k,n). */
static int product_weight(Backend *b, int64_t m, int64_t n, int64_t k, Operand d, Operand x,
                          int weight, Error *e)
{
    ParamRows r = param_rows(&b->config, weight);
    GemmRows rows = {0, row_gap(n, input_pitch(b, n)), r.rows == 1 ? 0 : row_gap(n, r.pitch)};
    return gemm_run(&b->gemm, (GemmShape){1, 0, m, n, k, rows}, d, x, grad(b, weight), e);
}

/* Computes to (m,n) = d w for gradients d (m,k) and a weight w (k,n). */
static int product_back(Backend *b, int64_t m, int64_t n, int64_t k, Operand d, int weight,
                        float *to, Error *e)
{
    GemmRows rows = {0, row_gap(n, param_rows(&b->config, weight).pitch), 0};
    return gemm_run(&b->gemm, (GemmShape){0, 0, m, n, k, rows}, d, weight_of(b, weight), to, e);
}

/* Sets db, and its copy `also` unless that is NULL, to the column sums of the gradient d
 * (rows,cols). Sets *operand to d in the products' type. */
static int bias_gradient(Backend *b, int64_t rows, int64_t cols, const float *d, float *db,
                         float *also, Operand *operand, Error *e)
{
    *operand = b->config.precision == PRECISION_BF16 ? (Operand)b->d_bf16 : d;
    if (b->config.precision == PRECISION_BF16)
        CUDA_TRY(column_sums_bf16(b->context.stream, rows, cols, d, db, also, b->d_bf16));
    else CUDA_TRY(column_sums(b->context.stream, rows, cols, d, db, also));
    return EXIT_DONE;
}

static int recurrence_failed(const LstmVariant *variant, const char *pass, cudaError_t status,
                             Error *e)
{
    char call[64];
    snprintf(call, sizeof call, "the %s recurrence by kernel %s", pass, variant->footprint->name);
    return cuda_failed(e, status, call, __FILE__, __LINE__);
}

/* Returns the launch arguments of the current window: the plan of the pass, its scratch and the
 * poll limit. */
static LstmLaunch launch_of(const Backend *b, bool backward)
{
    const LstmPlan *plan = recurrence_plan(&b->recurrence, backward, b->w.batch.B);
    return (LstmLaunch){.plan = plan,
                        .scratch = plan ? b->scratch[plan - b->recurrence.plan] : NULL,
                        .poll_limit = b->poll_limit};
}

static void range(Backend *b, const char *name)
{
    if (b->mode == EAGER) ranges_push(&b->ranges, name);
}

/* Ends ranges until `open` are left: 1 leaves that of the step, 2 also that of the pass. */
static void range_end(Backend *b, int open) { ranges_pop_to(&b->ranges, open); }

/* ---- the step's state, on the host and on the device ---- */

static int state_upload(Backend *b, Error *e)
{
    /* It waits, since the host changes the state for the next step and the copy may be
     * asynchronous. */
    int code = upload(b, b->state_device, &b->state, sizeof b->state, e);
    b->state_known = code == EXIT_DONE;
    return code;
}

/* Ensures that step_begin advances to the current window: uploads the state if the device's copy
 * predicts another. */
static int state_foretell(Backend *b, Error *e)
{
    StepState *s = &b->state;
    if (b->state_known && s->next_step == b->w.step && s->next_window == b->w.index)
        return EXIT_DONE;
    s->next_step = b->w.step, s->next_window = b->w.index;
    return state_upload(b, e);
}

/* Advances the host's copy as step_begin does. */
static void state_advance(Backend *b)
{
    StepState *s = &b->state;
    s->step = s->next_step++, s->window = s->next_window++;
    s->slot = (s->slot + 1) % SLOTS;
}

/* ---- results ---- */

static int fault_error(const Backend *b, Error *e)
{
    const FaultRecord *f = b->fault_host;
    char plans[RECURRENCE_TEXT];
    enum { BITS = 32, NAMED = 8 };
    char names[NAMED * 8] = "";
    int missing = 0;
    for (unsigned i = 0; i < BITS * sizeof f->missing / sizeof f->missing[0]; i++) {
        size_t at = strlen(names);
        if (!(f->missing[i / BITS] >> i % BITS & 1) || missing++ >= NAMED) continue;
        snprintf(names + at, sizeof names - at, "%s%u", at ? ", " : "", i);
    }
    char who[NAMED * 8 + 64] =
        "the late ones have arrived since or, within a cluster, are not known";
    if (missing)
        snprintf(who, sizeof who, "%d block%s (%s%s) did not arrive", missing,
                 missing == 1 ? "" : "s", names, missing > NAMED ? ", ..." : "");
    recurrence_text(&b->recurrence, plans, sizeof plans);
    return error_set(
        e, EXIT_FAILED,
        "a step timed out on the GPU: block %u waited at step %u of the recurrence for count %u, "
        "saw %u, and %s; another program on the GPU may hold its SMs (see nvidia-smi), and "
        "--kernel "
        "cublas waits for no block; kernel %s, plan %.500s",
        f->block, f->step, f->expected, f->seen, who, b->recurrence.kernel, plans);
}

static int take_result(Backend *b, WindowResult *r, Error *e)
{
    int64_t slot = b->returned % SLOTS;
    CUDA_TRY(cudaEventSynchronize(b->done[slot]));
    StepResult s = b->results[slot];
    b->returned++;
    *r = (WindowResult){.step = s.step,
                        .fault = s.fault != 0,
                        .nats = s.nats,
                        .hits = s.hits,
                        .grad_norm = s.grad_norm};
    if (!s.fault) return EXIT_DONE;
    b->returned = b->issued; /* the steps after a fault do nothing either */
    int code = download(b, b->fault_host, b->context.fault, sizeof *b->fault_host, e);
    return code ? code : fault_error(b, e);
}

static int cuda_drain(Backend *b, WindowResult *r, Error *e)
{
    *r = (WindowResult){.step = -1};
    return b->returned < b->issued ? take_result(b, r, e) : EXIT_DONE;
}

/* ---- the window's ids and lists ---- */

static StepShape shape_of_step(const Window *w)
{
    const Batch *batch = &w->batch;
    int64_t N = batch->T * batch->B;
    return (StepShape){.T = batch->T,
                       .B = batch->B,
                       .scored = batch->n_scored == N ? N : rounded(batch->n_scored),
                       .features = batch->n_features == N ? N : rounded(batch->n_features),
                       .gathered = batch->n_scored < N,
                       .of_stream = !batch->ids};
}

/* Sets the pointers into batch_device for the current window. */
static BatchLayout batch_place(Backend *b)
{
    const StepShape *s = &b->shape;
    BatchLayout l =
        batch_layout(s->T * s->B, s->scored, s->features, b->config.shape.F, b->shape.gathered);
    char *base = b->batch_device;
    b->x_ids = (int32_t *)(base + l.x_ids), b->y_ids = (int32_t *)(base + l.y_ids);
    b->row_of = (int32_t *)(base + l.row_of), b->place_of = (int32_t *)(base + l.place_of);
    b->feature_of = (int32_t *)(base + l.feature_of), b->features = (float *)(base + l.features);
    return l;
}

/* Writes the window's ids and lists into a pinned block. */
static void batch_fill(const Backend *b, const BatchLayout *l, char *to)
{
    const Batch *batch = &b->w.batch;
    const StepShape *s = &b->shape;
    int32_t *x = (int32_t *)(to + l->x_ids), *y = (int32_t *)(to + l->y_ids);
    int32_t *row_of = (int32_t *)(to + l->row_of), *place_of = (int32_t *)(to + l->place_of);
    int32_t *feature_of = (int32_t *)(to + l->feature_of), scored = 0, features = 0;
    for (int32_t n = 0; n < s->T * s->B; n++) {
        int32_t id = batch->ids[n], target = batch->targets[n];
        x[n] = id >= 0 ? id : id == ID_PADDING ? EMBEDDING_ZERO : EMBEDDING_ZERO - 1 - features;
        if (id == ID_FEATURES) feature_of[features++] = n;
        if (b->shape.gathered) place_of[n] = target == TARGET_NONE ? -1 : scored;
        if (target == TARGET_NONE) continue;
        if (b->shape.gathered) row_of[scored] = n;
        y[scored++] = target;
    }
    assert(scored == batch->n_scored && features == batch->n_features);
    for (; scored < s->scored; scored++) row_of[scored] = y[scored] = -1;
    size_t row = (size_t)b->config.shape.F * sizeof(float);
    if (features) memcpy(to + l->features, batch->features, (size_t)features * row);
    memset(to + l->features + (size_t)features * row, 0, (size_t)(s->features - features) * row);
    for (; features < s->features; features++) feature_of[features] = -1;
}

/* Copies the window's ids and lists to the device, in stream order before the step, from a pinned
 * block that no step in flight reads: at most SLOTS - 1 steps are in flight, and a window without
 * an update ends before the next begins. */
static int batch_upload(Backend *b, Error *e)
{
    BatchLayout l = batch_place(b);
    if (b->shape.of_stream) return EXIT_DONE;
    char *from = b->batch_host + (size_t)(b->issued % SLOTS) * largest_batch(&b->config).bytes;
    batch_fill(b, &l, from);
    CUDA_TRY(
        cudaMemcpyAsync(b->batch_device, from, l.bytes, cudaMemcpyHostToDevice, b->context.stream));
    return EXIT_DONE;
}

/* ---- graphs ---- */

static bool same_shape(const StepShape *a, const StepShape *b)
{
    return a->T == b->T && a->B == b->B && a->scored == b->scored && a->features == b->features &&
           a->gathered == b->gathered && a->of_stream == b->of_stream;
}

/* Sets b->step to the entry of the window's shape, and *met to whether it existed. A new shape
 * replaces the entry that was used longest ago. */
static int graph_find(Backend *b, bool *met, Error *e)
{
    StepGraph *oldest = &b->graph[0];
    *met = true;
    for (int i = 0; i < GRAPHS; i++) {
        b->step = &b->graph[i];
        if (b->step->used && same_shape(&b->step->shape, &b->shape)) return EXIT_DONE;
        if (b->step->used < oldest->used) oldest = b->step;
    }
    b->step = oldest;
    *met = false;
    if (oldest->launch) {
        CUDA_TRY(cudaStreamSynchronize(b->context.stream)); /* the old graph may still be running */
        CUDA_TRY(cudaGraphExecDestroy(oldest->launch));
        CUDA_TRY(cudaGraphDestroy(oldest->graph));
    }
    *oldest = (StepGraph){.shape = b->shape};
    return EXIT_DONE;
}

/* Chooses the mode: a shape's first step launches kernel by kernel, and its second is captured. */
static int choose_mode(Backend *b, Error *e)
{
    bool met = false;
    b->mode = EAGER, b->step = NULL;
    /* Only windows without gradients of the state have graphs. */
    if (b->eager || !b->w.update || b->state_grad_in || b->state_grad_out) return EXIT_DONE;
    int code = graph_find(b, &met, e);
    if (code) return code;
    b->step->used = ++b->uses;
    if (met) b->mode = b->step->launch ? REPLAY : CAPTURE;
    return EXIT_DONE;
}

/* Return h and c of every layer, as the first kernel of a step copies them into the window
 * (carried_in), and as its last kernel copies them out (carried_out). */
static CarriedRows carried_in(const Backend *b)
{
    int64_t H = b->config.shape.H, n = b->w.batch.B * H;
    return (CarriedRows){b->carried, b->hc, 2 * b->config.shape.L,
                         n,          n,     (positions(&b->config) + b->config.B) * H};
}
static CarriedRows carried_out(const Backend *b)
{
    CarriedRows in = carried_in(b);
    return (CarriedRows){
        b->hc + b->w.batch.T * in.n, b->carried, in.rows, in.n, in.to_pitch, in.from_pitch};
}

/* ---- forward ---- */

static int cuda_window_begin(Backend *b, const Window *w, bool *replayed, Error *e)
{
    int64_t T = w->batch.T, B = w->batch.B, N = T * B;
    bool of_stream = !w->batch.ids;
    assert(N <= positions(&b->config) && B <= b->config.B && (!w->train || b->config.train));
    assert(w->batch.n_scored == N || (b->config.scored && w->batch.n_scored <= b->config.scored));
    assert(w->batch.n_features <= b->config.features && (!w->train || w->batch.n_scored > 0));
    assert(!of_stream ||
           (w->update && b->stream && T == b->stream_T && B == b->stream_B && w->index >= 0));
    b->w = *w;
    b->shape = shape_of_step(w);
    b->updated = false;
    range_end(b, 0);
    int code = w->batch.carry ? EXIT_DONE : cuda_state_set(b, B, NULL, NULL, e);
    if (!code) code = batch_upload(b, e);
    if (!code) code = choose_mode(b, e);
    if (code) return code;
    if (b->mode == EAGER)
        ranges_push(&b->ranges, w->train ? "step" : "score"), ranges_push(&b->ranges, "forward");
    else ranges_push(&b->ranges, "step");
    if ((*replayed = b->mode == REPLAY)) return EXIT_DONE;

    if (b->mode == CAPTURE) {
        CUDA_TRY(cudaStreamBeginCapture(b->context.stream, cudaStreamCaptureModeThreadLocal));
        b->capturing = true;
    }
    if (w->update) {
        code = b->mode == EAGER ? state_foretell(b, e) : EXIT_DONE;
        if (code) return code;
        CUDA_TRY(step_begin(b->context.stream, b->state_device, SLOTS, of_stream ? b->stream : NULL,
                            b->stream_n, T, B, b->x_ids, b->y_ids, carried_in(b)));
        if (b->mode == EAGER) state_advance(b);
    } else if (w->train) {
        b->state.step = w->step, b->state.next_step = w->step + 1, b->state.next_window = -1;
        code = state_upload(b, e);
        if (code) return code;
    }
    CarriedRows c = carried_in(b);
    if (!w->update)
        CUDA_TRY(cudaMemcpy2DAsync(c.to, (size_t)c.to_pitch * sizeof(float), c.from,
                                   (size_t)c.from_pitch * sizeof(float),
                                   (size_t)c.n * sizeof(float), (size_t)c.rows,
                                   cudaMemcpyDeviceToDevice, b->context.stream));
    return EXIT_DONE;
}

/* Returns the features in the products' type. */
static Operand features_of(const Backend *b)
{
    return b->config.precision == PRECISION_BF16 ? (Operand)b->features_bf16 : b->features;
}

static int cuda_embedding_forward(Backend *b, Error *e)
{
    const ModelShape *s = &b->config.shape;
    int64_t N = b->shape.T * b->shape.B, n = b->shape.features;
    EmbeddingTable table = {.encoder = b->encoder};
    if (n) {
        table.projected = b->projected, table.bias = param(b, param_input_bias(s));
        if (b->features_bf16)
            CUDA_TRY(round_bf16(
                b->context.stream,
                (RoundSpan){b->features, b->features_bf16, n, s->F, input_pitch(b, s->F)},
                (RoundSpan){0}));
        int code = product_forward(b, n, s->H, s->F, features_of(b), param_input_weight(s),
                                   b->projected, e);
        if (code) return code;
    }
    if (b->config.precision == PRECISION_BF16)
        CUDA_TRY(embedding_forward_bf16(b->context.stream, N, s->H, b->x_ids, &table, site_of(b, 0),
                                        b->x_bf16[0], input_pitch(b, s->H)));
    else
        CUDA_TRY(embedding_forward(b->context.stream, N, s->H, b->x_ids, &table, site_of(b, 0),
                                   b->x[0]));
    return EXIT_DONE;
}

static int cuda_layer_forward(Backend *b, int64_t l, Error *e)
{
    int64_t N = b->w.batch.T * b->w.batch.B, H = b->config.shape.H;
    MaskSite output = site_of(b, l + 1), recurrent = recurrent_site(b, l);
    range(b, b->layer_name[l]);
    int code =
        product_forward(b, N, 4 * H, H, input_of(b, l), in_layer(b, l, PARAM_W_IH), b->gates[l], e);
    if (code) return code;
    LstmForward p = {.shape = shape_of(b),
                     .w_hh = param(b, in_layer(b, l, PARAM_W_HH)),
                     .w_packed = b->w_packed[l],
                     .w_tiles = b->w_tiles[l],
                     .b_ih = param(b, in_layer(b, l, PARAM_B_IH)),
                     .b_hh = param(b, in_layer(b, l, PARAM_B_HH)),
                     .gates = b->gates[l],
                     .h = h_of(b, l),
                     .c = c_of(b, l),
                     .y = output.on ? b->x[l + 1] : NULL,
                     .h_masked = recurrent.on ? b->h_masked[l] : NULL,
                     .h_bf16 = b->h_bf16[l],
                     .y_bf16 = output.on ? b->x_bf16[l + 1] : NULL,
                     .bf16_pitch = input_pitch(b, H),
                     .output = output,
                     .recurrent = recurrent,
                     .launch = launch_of(b, false)};
    const LstmVariant *variant = b->recurrence.forward;
    cudaError_t status = variant->forward(&b->context, &p);
    if (status) return recurrence_failed(variant, "forward", status, e);
    range_end(b, 2);
    return EXIT_DONE;
}

/* Returns the input of the decoder's products: the rows of the scored positions. */
static Operand decoder_input(const Backend *b)
{
    return b->shape.gathered ? b->picked : input_of(b, b->config.shape.L);
}

static int cuda_softmax_forward(Backend *b, Error *e)
{
    const ModelShape *s = &b->config.shape;
    int64_t R = b->shape.scored;
    size_t element = b->config.precision == PRECISION_BF16 ? sizeof(uint16_t) : sizeof(float);
    if (!R) { /* a window without scored positions */
        range_end(b, 1);
        return EXIT_DONE;
    }
    if (b->shape.gathered)
        CUDA_TRY(rows_pick(b->context.stream, R, (size_t)input_pitch(b, s->H) * element, b->row_of,
                           input_of(b, s->L), b->picked));
    int code = product_forward(b, R, s->V_out, s->H, decoder_input(b), param_decoder_weight(s),
                               b->logits, e);
    if (code) return code;
    CUDA_TRY(softmax_xent(b->context.stream, R, s->V_out, param(b, param_decoder_bias(s)), b->y_ids,
                          b->w.train, 1.0f / (float)b->w.batch.B, b->logits, b->nats, b->best));
    range_end(b, 1);
    return EXIT_DONE;
}

/* ---- backward ---- */

static int cuda_softmax_backward(Backend *b, Error *e)
{
    const ModelShape *s = &b->config.shape;
    int64_t N = b->shape.T * b->shape.B, R = b->shape.scored;
    range(b, "backward");
    Operand dlogits;
    int code =
        bias_gradient(b, R, s->V_out, b->logits, grad(b, param_decoder_bias(s)), NULL, &dlogits, e);
    if (!code)
        code = product_weight(b, s->V_out, s->H, R, dlogits, decoder_input(b),
                              param_decoder_weight(s), e);
    if (!code)
        code = product_back(b, R, s->H, s->V_out, dlogits, param_decoder_weight(s),
                            b->shape.gathered ? b->dpicked : b->dy, e);
    if (!code && b->shape.gathered)
        CUDA_TRY(rows_pick(b->context.stream, N, (size_t)s->H * sizeof(float), b->place_of,
                           b->dpicked, b->dy));
    return code;
}

static int cuda_layer_backward(Backend *b, int64_t l, Error *e)
{
    int64_t N = b->w.batch.T * b->w.batch.B, H = b->config.shape.H;
    range(b, b->layer_name[l]);
    LstmBackward p = {.shape = shape_of(b),
                      .w_hh = param(b, in_layer(b, l, PARAM_W_HH)),
                      .w_tiles = b->w_tiles[l],
                      .h = h_of(b, l),
                      .c = c_of(b, l),
                      .dy = b->dy,
                      .gates = b->gates[l],
                      .dh = b->dh,
                      .dc = b->dc,
                      .dh_n = b->state_grad_in ? state_grad(b, b->w.batch.B, 0, l) : NULL,
                      .dc_n = b->state_grad_in ? state_grad(b, b->w.batch.B, 1, l) : NULL,
                      .dh_0 = b->state_grad_out ? state_grad(b, b->w.batch.B, 2, l) : NULL,
                      .dc_0 = b->state_grad_out ? state_grad(b, b->w.batch.B, 3, l) : NULL,
                      .output = site_of(b, l + 1),
                      .recurrent = recurrent_site(b, l),
                      .launch = launch_of(b, true)};
    const LstmVariant *variant = b->recurrence.backward;
    cudaError_t status = variant->backward(&b->context, &p);
    if (status) return recurrence_failed(variant, "backward", status, e);
    Operand dgates;
    int code = bias_gradient(b, N, 4 * H, b->gates[l], grad(b, in_layer(b, l, PARAM_B_IH)),
                             grad(b, in_layer(b, l, PARAM_B_HH)), &dgates, e);
    if (!code)
        code =
            product_weight(b, 4 * H, H, N, dgates, input_of(b, l), in_layer(b, l, PARAM_W_IH), e);
    if (!code)
        code = product_weight(b, 4 * H, H, N, dgates, h_before_of(b, l), in_layer(b, l, PARAM_W_HH),
                              e);
    if (!code) code = product_back(b, N, H, 4 * H, dgates, in_layer(b, l, PARAM_W_IH), b->dy, e);
    range_end(b, 2);
    return code;
}

/* Computes the gradients of the input projection; they are zero if the window has no features. */
static int features_backward(Backend *b, Error *e)
{
    const ModelShape *s = &b->config.shape;
    int64_t n = b->shape.features;
    float *dw = grad(b, param_input_weight(s)), *db = grad(b, param_input_bias(s));
    if (!n) {
        ParamRows r = param_rows(&b->config, param_input_weight(s));
        CUDA_TRY(
            cudaMemsetAsync(dw, 0, (size_t)(r.rows * r.pitch) * sizeof *dw, b->context.stream));
        CUDA_TRY(cudaMemsetAsync(db, 0, (size_t)s->H * sizeof *db, b->context.stream));
        return EXIT_DONE;
    }
    Operand dprojected;
    CUDA_TRY(
        rows_masked(b->context.stream, n, s->H, b->feature_of, b->dy, site_of(b, 0), b->projected));
    int code = bias_gradient(b, n, s->H, b->projected, db, NULL, &dprojected, e);
    return code ? code
                : product_weight(b, s->H, s->F, n, dprojected, features_of(b),
                                 param_input_weight(s), e);
}

static int cuda_embedding_backward(Backend *b, Error *e)
{
    if (b->encoder)
        CUDA_TRY(embedding_backward(b->context.stream, b->shape.T * b->shape.B, b->config.shape.H,
                                    b->x_ids, b->dy, site_of(b, 0), b->rows, b->first));
    int code = b->config.shape.F ? features_backward(b, e) : EXIT_DONE;
    range_end(b, 1);
    return code;
}

/* ---- the end of a window ---- */

static int cuda_update(Backend *b, double lr, double clip, Error *e)
{
    bool new_rate = b->state.lr != lr || b->state.clip != clip;
    b->updated = true;
    if (new_rate) {
        b->state.lr = lr, b->state.clip = clip;
        b->state_known = false; /* window_end uploads the state before a graph launch */
    }
    if (b->mode == REPLAY) return EXIT_DONE;
    range(b, "update");
    if (b->mode == EAGER && new_rate) {
        int code = state_upload(b, e);
        if (code) return code;
    }
    SgdArgs a = {.state = b->state_device,
                 .fault = b->context.fault,
                 .weights = b->dense,
                 .grads = b->ddense,
                 .dense = b->dense_n,
                 .encoder = b->encoder,
                 .rows = b->rows,
                 .ids = b->x_ids,
                 .first = b->first,
                 .N = b->w.batch.T * b->w.batch.B,
                 .H = b->config.shape.H,
                 .packed = b->packed,
                 .packed_n = b->packed ? b->config.shape.L : 0,
                 .rounded = b->dense_bf16,
                 .nats = b->nats,
                 .best = b->best,
                 .targets = b->y_ids,
                 .scored = b->shape.scored,
                 .partial = b->partial,
                 .carried = carried_out(b),
                 .results = b->results};
    CUDA_TRY(sgd_norm(b->context.stream, &a));
    CUDA_TRY(sgd_update(b->context.stream, &a));
    range_end(b, 1);
    return EXIT_DONE;
}

static int launch_graph(Backend *b, Error *e)
{
    if (b->mode == CAPTURE) {
        b->capturing = false;
        CUDA_TRY(cudaStreamEndCapture(b->context.stream, &b->step->graph));
        CUDA_TRY(cudaGraphInstantiateWithFlags(&b->step->launch, b->step->graph, 0));
    }
    int code = state_foretell(b, e);
    if (code) return code;
    CUDA_TRY(cudaGraphLaunch(b->step->launch, b->context.stream));
    state_advance(b);
    return EXIT_DONE;
}

/* Returns the result of a window without an update at once. */
static int result_now(Backend *b, WindowResult *r, double *token_nats, int32_t *token_best,
                      Error *e)
{
    const Batch *batch = &b->w.batch;
    int64_t R = b->shape.scored, i = 0;
    if (R)
        CUDA_TRY(cudaMemcpyAsync(b->nats_host, b->nats, (size_t)R * sizeof *b->nats_host,
                                 cudaMemcpyDeviceToHost, b->context.stream));
    if (R && b->best)
        CUDA_TRY(cudaMemcpyAsync(b->best_host, b->best, (size_t)R * sizeof *b->best_host,
                                 cudaMemcpyDeviceToHost, b->context.stream));
    CUDA_TRY(cudaMemcpyAsync(b->fault_host, b->context.fault, sizeof *b->fault_host,
                             cudaMemcpyDeviceToHost, b->context.stream));
    CUDA_TRY(cudaStreamSynchronize(b->context.stream));
    *r = (WindowResult){.step = b->w.step, .fault = b->fault_host->set != 0};
    if (r->fault) return fault_error(b, e);
    for (int64_t n = 0; n < batch->T * batch->B; n++) {
        bool scored = batch->targets[n] != TARGET_NONE;
        double nats = scored ? (double)b->nats_host[i] : 0;
        int32_t best = scored && b->best ? b->best_host[i] : -1;
        r->nats += nats;
        r->hits += scored && best == batch->targets[n];
        if (token_nats) token_nats[n] = nats;
        if (token_best) token_best[n] = best;
        i += scored;
    }
    return EXIT_DONE;
}

static int cuda_window_end(Backend *b, WindowResult *r, double *token_nats, int32_t *token_best,
                           Error *e)
{
    CarriedRows c = carried_out(b);
    int code = EXIT_DONE;
    *r = (WindowResult){.step = -1};
    assert(b->updated == b->w.update);
    if (!b->updated) CUDA_TRY(carry_state(b->context.stream, b->context.fault, c));
    if (b->mode != EAGER) code = launch_graph(b, e);
    else if (!b->updated) code = result_now(b, r, token_nats, token_best, e);
    range_end(b, 0);
    if (code || !b->updated) return code;
    assert(!token_nats && !token_best && b->state.slot == b->issued % SLOTS);
    CUDA_TRY(cudaEventRecord(b->done[b->issued % SLOTS], b->context.stream));
    b->issued++;
    return b->issued - b->returned == SLOTS ? take_result(b, r, e) : EXIT_DONE;
}

static int cuda_logits_get(Backend *b, int64_t row, int64_t rows, float *dst, Error *e)
{
    int64_t V = b->config.shape.V_out;
    return download(b, dst, b->logits + row * V, (size_t)(rows * V) * sizeof *dst, e);
}

const BackendOps backend_cuda = {
    .name = "cuda",
    .summary = "kernels and cuBLAS on an NVIDIA GPU",
    .usable = cuda_usable,
#ifdef CUDA_EMU
    .by_name_only = true, /* for tests */
#endif
    .open = cuda_open,
    .close = cuda_close,
    .info = cuda_info,
    .param_set = cuda_param_set,
    .param_get = cuda_param_get,
    .grad_get = cuda_grad_get,
    .state_set = cuda_state_set,
    .state_get = cuda_state_get,
    .state_grad_set = cuda_state_grad_set,
    .state_grad_get = cuda_state_grad_get,
    .train_stream = cuda_train_stream,
    .window_begin = cuda_window_begin,
    .embedding_forward = cuda_embedding_forward,
    .layer_forward = cuda_layer_forward,
    .softmax_forward = cuda_softmax_forward,
    .softmax_backward = cuda_softmax_backward,
    .layer_backward = cuda_layer_backward,
    .embedding_backward = cuda_embedding_backward,
    .update = cuda_update,
    .window_end = cuda_window_end,
    .drain = cuda_drain,
    .logits_get = cuda_logits_get,
};
