/* backend_cpu: float32 on OpenMP and the tiles of tile.h; the backend for machines without a GPU.
 *
 * Work        The products over all T*B positions (input projections, softmax, every weight
 *             gradient) are computed by sgemm.h. The recurrence is computed here: one parallel
 *             region per layer and direction for all T steps, like a persistent kernel.
 * Partition   A thread owns a contiguous range of vectors of hidden units (tile.h: a vector has as
 *             many as the CPU's registers have lanes) and four rows of W_hh for each unit, in both
 *             directions.
 * Weights     W_hh is packed once per window, layer and direction into panels of two vectors and
 *             stretches of K_BLOCK terms, in the order in which its owner reads them. A panel is
 *             used for all rows of the batch, tile by tile, from the first two caches while the
 *             next panel is prefetched, so that each step loads every weight only once from beyond
 *             these caches. Every other step visits the panels in reverse order, and so begins with
 *             those that the previous step left in the caches.
 * Exchange    The threads exchange h_t in the forward pass and dgates_t in the backward pass. The
 *             owner of a unit writes its values in the layout that all threads read, (k, rows),
 *             into two alternating buffers.
 * Barrier     There is one barrier per step, between the last write of a step's exchange buffer and
 *             its first read. Double buffering makes one suffice: a thread can write buffer t+1
 *             only after all have passed barrier t and so have finished with buffer t-1.
 * Order       Every sum has a fixed order for a given thread count: the same thread count gives the
 *             same bits.
 * Precision   tf32 and bf16 are simulated, for their effect on training: both operands of every
 *             product are rounded as tensor cores round them; sums and everything else stay
 *             float32. The rounded copies cost time; float32 runs without them.
 * Memory      All memory is one block, carved once by `carve`, which also computes its size; a step
 *             allocates nothing. */
#include <assert.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/philox.h"
#include "backend_cpu.h"
#include "host/plan/precision.h"
#include "sgemm.h"
#include "tile.h"

enum {
    SPIN_POLLS = 256, /* before a waiting thread yields its CPU: some microseconds */
    GATES = 4,        /* i, f, g, o */
    /* Terms per stretch of the recurrent product: the batch's operand of a stretch stays in the
     * second-level cache, and a panel of weights nearly fits into the first. */
    K_BLOCK = 512,
    /* Elements whose squares are summed in float32 before the sum is added to a double. */
    SUM_CHUNK = 8192
};

/* One iteration per lane, compiled to one vector instruction each. The pragma is needed, because
 * the compiler would unroll so short a loop before it considers vectorising it. */
#define EACH_LANE _Pragma("omp simd") for (int j = 0; j < LANES; j++)

struct Backend {
    BackendConfig config;
    struct {
        /* scored, features: rows of the softmax and of features */
        int64_t T, B, step, scored, features;
        const int32_t *ids, *targets;
        const float *feature; /* (features,F) */
        bool train, gathered; /* gathered: not every position is scored */
    } w;
    int threads; /* threads at work: config.threads, or fewer if the model is too small to share */
    int64_t vectors; /* vectors of LANES units that cover H */
    double nats, grad_norm;
    /* number of distinct ids in the window; the encoder's gradient is defined only in their rows */
    int64_t distinct;

    float **param, **grad;   /* [count] into params, grads */
    float *params, *grads;   /* all tensors, each 64-byte aligned */
    float **h, **c, **gates; /* [L] (T+1,B,H), (T+1,B,H), (T*B,4H) */
    /* [L+1] (T*B,H): masked inputs; if nothing is masked, x[l+1] is h[l] from row 1 on */
    float **x;
    float **x_own;      /* [L+1] the buffers of x */
    float **hm;         /* [L] (T*B,H) masked h_{t-1}, only with SITES_ALL */
    float *dy;          /* (T*B,H) */
    float *logits;      /* (R,V), R being the scored positions of a window */
    double *token_nats; /* (R) */
    int32_t *best;      /* (R) ids of the largest logits; NULL unless config.hits */
    int32_t *row_of;    /* (R) position of scored row i; NULL if every position is scored */
    /* (R,H) rows of the softmax's input, and their gradients; NULL if every position is scored */
    float *picked, *dpicked;
    int32_t *feature_of;      /* (features) position of feature row i */
    float *projected;         /* (features,H) after the product, then their gradients */
    float *state_h, *state_c; /* (L,B,H) */
    float *bias;              /* (4H) b_ih + b_hh of the current layer */
    float *packed; /* (vectors*LANES,4H): W_hh of the current layer in the recurrence's order */
    float *sum;    /* the recurrent product of the current step: see Share */
    float *exchange[2];  /* (tiles, H or 4H, rows of a tile) */
    float *carry;        /* (vectors,B,LANES): dc of step t+1 times its f */
    float *bias_sum;     /* (vectors,4,LANES): column sums of dgates */
    float *bias_part;    /* (threads,V): column sums of dlogits */
    float *product_part; /* (threads-1,T*B,H): the other threads' parts of a product */
    float *room;         /* (threads,SGEMM_ROOM): packed blocks of a product's operands */
    float *operand[2];   /* rounded copies of a product's operands; NULL in f32 */
    double *partial;     /* sums of squares, one per chunk */
    int32_t *slot_of_id; /* (V_in) index of the id in the lists below; -1: not in this window */
    /* (T*B) each. id_of_slot, first and last: each distinct id, its first and its last position;
     * next: the id's next position after each position, or -1. */
    int32_t *id_of_slot, *first, *last, *next;
    struct Arrival {
        _Atomic unsigned epoch;
        char pad[60];
    } * arrival;          /* [threads] */
    float *state_grad[4]; /* (L,B,H) dh_n, dc_n, dh_0, dc_0; NULL unless config.train */
    bool state_grad_in, state_grad_out; /* layer_backward reads dh_n, dc_n; writes dh_0, dc_0 */
    void *memory;
    size_t memory_bytes;
};

/* ---- memory ---- */

typedef struct Arena {
    char *base;
    size_t used;
} Arena;

static void *arena_alloc(Arena *a, int64_t n, size_t size)
{
    size_t at = a->used;
    a->used += ((size_t)n * size + 63) & ~(size_t)63;
    return a->base ? a->base + at : NULL;
}

static float *arena_floats(Arena *a, int64_t n) { return arena_alloc(a, n, sizeof(float)); }

static int64_t positions(const BackendConfig *g) { return g->T * g->B; }
static int64_t vectors_of(const ModelShape *s) { return (s->H + LANES - 1) / LANES; }
static int64_t chunks_of(int64_t n) { return (n + SUM_CHUNK - 1) / SUM_CHUNK; }

/* Returns the number of threads that pay off, at most config.threads: one, and one more for every
 * two million multiply-adds per window. For fewer, synchronising costs more than a thread saves. */
static int threads_of(const BackendConfig *g)
{
    double work = (double)positions(g) * (double)g->shape.H *
                  (double)(8 * g->shape.H * g->shape.L + g->shape.V_out);
    return work < (double)g->threads * 2e6 ? 1 + (int)(work / 2e6) : g->threads;
}

/* Sets every pointer of *b; with a->base NULL, only counts the bytes. */
static void carve(Backend *b, Arena *a)
{
    const BackendConfig *g = &b->config;
    int64_t V = g->shape.V_out, H = g->shape.H, L = g->shape.L, N = positions(g), B = g->B;
    int64_t vectors = vectors_of(&g->shape), rows = B + TILE_ROWS; /* tiles of rows are padded */
    int count = params_count(&g->shape);
    float **param = arena_alloc(a, count, sizeof *b->param),
          **grad = arena_alloc(a, count, sizeof *b->grad);
    float **h = arena_alloc(a, L, sizeof *b->h), **c = arena_alloc(a, L, sizeof *b->c),
          **gates = arena_alloc(a, L, sizeof *b->gates);
    float **x = arena_alloc(a, L + 1, sizeof *b->x),
          **x_own = arena_alloc(a, L + 1, sizeof *b->x_own),
          **hm = arena_alloc(a, L, sizeof *b->hm);
    int64_t chunks = 0;
    for (int k = 0; k < count; k++) {
        int64_t n = param_info(&g->shape, k).n;
        float *p = arena_floats(a, n), *d = g->train ? arena_floats(a, n) : NULL;
        chunks += k == param_encoder(&g->shape) ? N * chunks_of(H) : chunks_of(n);
        if (a->base) param[k] = p, grad[k] = d;
    }
    for (int64_t l = 0; l <= L; l++) {
        float *own = arena_floats(a, N * H);
        if (a->base) x_own[l] = x[l] = own;
        if (l == L) break;
        float *hl = arena_floats(a, (N + B) * H), *cl = arena_floats(a, (N + B) * H),
              *gl = arena_floats(a, 4 * N * H);
        float *ml = g->train && g->sites == SITES_ALL ? arena_floats(a, N * H) : NULL;
        if (a->base) h[l] = hl, c[l] = cl, gates[l] = gl, hm[l] = ml;
    }
    b->param = param, b->grad = grad, b->h = h, b->c = c, b->gates = gates, b->x = x,
    b->x_own = x_own, b->hm = hm;
    b->dy = g->train ? arena_floats(a, N * H) : NULL;
    int64_t R = g->scored ? g->scored : N, features = g->features, F = g->shape.F;
    b->logits = arena_floats(a, R * V);
    b->token_nats = arena_alloc(a, R, sizeof(double));
    b->best = g->hits ? arena_alloc(a, R, sizeof *b->best) : NULL;
    b->row_of = g->scored ? arena_alloc(a, R, sizeof *b->row_of) : NULL;
    b->picked = g->scored ? arena_floats(a, R * H) : NULL;
    b->dpicked = g->scored && g->train ? arena_floats(a, R * H) : NULL;
    b->feature_of = features ? arena_alloc(a, features, sizeof *b->feature_of) : NULL;
    b->projected = features ? arena_floats(a, features * H) : NULL;
    b->state_h = arena_floats(a, L * B * H), b->state_c = arena_floats(a, L * B * H);
    for (int i = 0; i < 4; i++) b->state_grad[i] = g->train ? arena_floats(a, L * B * H) : NULL;
    b->bias = arena_floats(a, 4 * H);
    b->packed = arena_floats(a, vectors * GATES * H * LANES);
    /* The last panel of each thread may be half full. */
    b->sum = arena_floats(a, (vectors * GATES + g->threads) * LANES * rows);
    for (int i = 0; i < 2; i++) b->exchange[i] = arena_floats(a, rows * (g->train ? GATES * H : H));
    b->carry = arena_floats(a, B * vectors * LANES);
    b->bias_sum = arena_floats(a, vectors * GATES * LANES);
    b->bias_part = g->train ? arena_floats(a, g->threads * V) : NULL;
    b->product_part = g->train ? arena_floats(a, (g->threads - 1) * N * H) : NULL;
    b->room = arena_floats(a, g->threads * (int64_t)SGEMM_ROOM);
    int64_t wide = V > 4 * H ? V : 4 * H;
    bool rounds = g->precision > PRECISION_F32;
    int64_t left = N * wide, right = (N > wide ? N : wide) * H, widest = F > H ? F : H;
    if (left < features * widest) left = features * widest;
    if (right < F * (features > H ? features : H)) right = F * (features > H ? features : H);
    b->operand[0] = rounds ? arena_floats(a, left) : NULL;
    b->operand[1] = rounds ? arena_floats(a, right) : NULL;
    b->partial = g->train ? arena_alloc(a, chunks, sizeof(double)) : NULL;
    b->slot_of_id = arena_alloc(a, g->shape.V_in, sizeof(int32_t));
    b->id_of_slot = arena_alloc(a, N, sizeof(int32_t)),
    b->first = arena_alloc(a, N, sizeof(int32_t));
    b->last = arena_alloc(a, N, sizeof(int32_t)), b->next = arena_alloc(a, N, sizeof(int32_t));
    b->arrival = arena_alloc(a, g->threads, sizeof *b->arrival);
}

static size_t cpu_bytes(const BackendConfig *g)
{
    Backend b = {.config = *g};
    Arena a = {NULL, 0};
    carve(&b, &a);
    return a.used;
}

static void cpu_close(Backend *b)
{
    if (!b) return;
    if (b->memory) munmap(b->memory, b->memory_bytes);
    free(b);
}

static int cpu_open(const BackendConfig *g, Backend **out, Error *e)
{
    Backend *b = calloc(1, sizeof *b);
    if (!b) return error_set(e, EXIT_FAILED, "the cpu backend ran out of memory");
    b->config = *g;
    b->memory_bytes = cpu_bytes(g);
    b->memory =
        mmap(NULL, b->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->memory == MAP_FAILED) {
        b->memory = NULL;
        size_t bytes = b->memory_bytes;
        cpu_close(b);
        return error_set(e, EXIT_FAILED, "the cpu backend could not allocate %zu bytes", bytes);
    }
    /* Huge pages save TLB misses; a failure only costs speed. */
    madvise(b->memory, b->memory_bytes, MADV_HUGEPAGE);
    Arena a = {b->memory, 0};
    carve(b, &a);
    b->vectors = vectors_of(&g->shape);
    for (int64_t v = 0; v < g->shape.V_in; v++) b->slot_of_id[v] = -1;
    omp_set_dynamic(0);
    b->threads = threads_of(g);
    omp_set_num_threads(b->threads);
    if (!sgemm_open(b->threads)) {
        cpu_close(b);
        return error_set(
            e, EXIT_FAILED,
            "the matrix library has no room for its buffers in this address space (ulimit -v)");
    }
    *out = b;
    return EXIT_DONE;
}

static void cpu_info(const Backend *b, BackendInfo *info)
{
    LstmPrecision precision = b->config.precision;
    *info = (BackendInfo){.bytes = b->memory_bytes, .remark = ""};
    snprintf(info->device, sizeof info->device, "CPU, %s, %d thread%s%s%s", sgemm_name(),
             b->threads, b->threads == 1 ? "" : "s",
             precision == PRECISION_F32 ? "" : ", simulated ",
             precision == PRECISION_F32 ? "" : precision_name(precision));
}

/* ---- parameters and state ---- */

static int in_layer(const Backend *b, int64_t l, int which)
{
    return param_of_layer(&b->config.shape, l, which);
}

static int64_t param_elements(const Backend *b, int k) { return param_info(&b->config.shape, k).n; }

float *cpu_input(Backend *b) { return b->x_own[0]; }

static int cpu_param_set(Backend *b, int k, const float *src, Error *e)
{
    (void)e;
    memcpy(b->param[k], src, (size_t)param_elements(b, k) * sizeof *src);
    return EXIT_DONE;
}

static int cpu_param_get(Backend *b, int k, float *dst, Error *e)
{
    (void)e;
    memcpy(dst, b->param[k], (size_t)param_elements(b, k) * sizeof *dst);
    return EXIT_DONE;
}

static int cpu_grad_get(Backend *b, int k, float *dst, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H;
    if (k != param_encoder(&b->config.shape)) {
        memcpy(dst, b->grad[k], (size_t)param_elements(b, k) * sizeof *dst);
        return EXIT_DONE;
    }
    memset(dst, 0, (size_t)param_elements(b, k) * sizeof *dst);
    for (int64_t s = 0; s < b->distinct; s++) {
        int64_t at = b->id_of_slot[s] * H;
        memcpy(dst + at, b->grad[k] + at, (size_t)H * sizeof *dst);
    }
    return EXIT_DONE;
}

static void copy_or_zero(float *to, const float *from, int64_t n)
{
    if (from) memcpy(to, from, (size_t)n * sizeof *to);
    else memset(to, 0, (size_t)n * sizeof *to);
}

static int cpu_state_set(Backend *b, int64_t B, const float *h, const float *c, Error *e)
{
    (void)e;
    assert(B <= b->config.B);
    copy_or_zero(b->state_h, h, b->config.shape.L * B * b->config.shape.H);
    copy_or_zero(b->state_c, c, b->config.shape.L * B * b->config.shape.H);
    return EXIT_DONE;
}

static int cpu_state_get(Backend *b, int64_t B, float *h, float *c, Error *e)
{
    (void)e;
    memcpy(h, b->state_h, (size_t)(b->config.shape.L * B * b->config.shape.H) * sizeof *h);
    memcpy(c, b->state_c, (size_t)(b->config.shape.L * B * b->config.shape.H) * sizeof *c);
    return EXIT_DONE;
}

static int cpu_state_grad_set(Backend *b, int64_t B, const float *dh_n, const float *dc_n,
                              bool wanted, Error *e)
{
    (void)e;
    assert(B <= b->config.B && b->config.train);
    b->state_grad_in = dh_n || dc_n, b->state_grad_out = wanted;
    copy_or_zero(b->state_grad[0], dh_n, b->config.shape.L * B * b->config.shape.H);
    copy_or_zero(b->state_grad[1], dc_n, b->config.shape.L * B * b->config.shape.H);
    return EXIT_DONE;
}

static int cpu_state_grad_get(Backend *b, int64_t B, float *dh_0, float *dc_0, Error *e)
{
    (void)e;
    assert(b->state_grad_out);
    memcpy(dh_0, b->state_grad[2],
           (size_t)(b->config.shape.L * B * b->config.shape.H) * sizeof *dh_0);
    memcpy(dc_0, b->state_grad[3],
           (size_t)(b->config.shape.L * B * b->config.shape.H) * sizeof *dc_0);
    return EXIT_DONE;
}

/* ---- arithmetic of a vector; NaNs propagate ---- */

/* Loads the n valid lanes of a vector at the edge of H; the others are zero. */
static inline Vec lanes_load(const float *from, int64_t n)
{
    if (n == LANES) return vec_load(from);
    Vec v = {0};
    memcpy(&v, from, (size_t)n * sizeof *from);
    return v;
}

static inline void lanes_store(float *to, Vec v, int64_t n)
{
    memcpy(to, &v, n == LANES ? sizeof v : (size_t)n * sizeof *to);
}

/* exp by Cody and Waite's reduction and a polynomial of degree 6 (coefficients: Cephes expf);
 * within 2 ulp on [-87, 88]. Outside that range the argument is clamped: for a sigmoid or a softmax
 * term exp(-87) and exp(88) are as good as 0 and infinity. */
static inline Vec exp_vec(Vec x)
{
    x = vec_select(x > 88.0f, vec_all(88.0f), x);
    x = vec_select(x < -87.0f, vec_all(-87.0f), x);
    /* Adding 1.5 * 2^23 leaves round(x / ln 2) in the low bits. */
    Vec shifted = x * 1.44269504088896341f + 12582912.0f;
    Vec n = shifted - 12582912.0f;
    Vec r = x - n * 0.693359375f - n * -2.12194440e-4f;
    Vec p = vec_all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.0f);
    return p * (Vec)(((IVec)shifted << 23) + 0x3F800000); /* times 2^n */
}

static inline Vec sigmoid_vec(Vec x) { return 1.0f / (1.0f + exp_vec(-x)); }

/* Below |x| = 0.625 an odd polynomial (Cephes tanhf) keeps the relative error at an ulp or two;
 * above, tanh(x) is computed as 1 - 2/(1 + e^2x). */
static inline Vec tanh_vec(Vec x)
{
    Vec z = x * x;
    Vec p = vec_all(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    Vec small = p * z * x + x;
    Vec large = 1.0f - 2.0f / (1.0f + exp_vec(2.0f * x));
    return vec_select(z < 0.390625f, small, large);
}

/* ---- masks: SPEC 2, as many Philox blocks at a time as a vector has lanes ---- */

/* Sets factor[LANES*i ..] to 0 or 1/keep for the LANES elements that start at group of four number
 * q + i*stride, i = 0..3. */
static void mask_factors(const MaskKey *key, uint64_t q, uint64_t stride, float factor[4 * LANES])
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    /* The bound is below 2^32, since keep < 1 where anything is masked. */
    uint32_t k0 = (uint32_t)key->seed, k1 = (uint32_t)(key->seed >> 32),
             bound = (uint32_t)key->bound;
    float scale = key->scale;
    for (int j = 0; j < LANES; j++) {
        uint64_t at = q + (uint64_t)(j / (LANES / 4)) * stride + (uint64_t)(j % (LANES / 4));
        c0[j] = (uint32_t)at, c1[j] = (uint32_t)(at >> 32);
        c2[j] = (uint32_t)key->sub, c3[j] = (uint32_t)(key->sub >> 32);
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) EACH_LANE
        {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[j], p1 = (uint64_t)0xCD9E8D57u * c2[j];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[j] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[j] ^ k1;
            c0[j] = n0, c1[j] = (uint32_t)p1, c2[j] = n2, c3[j] = (uint32_t)p0;
        }
    EACH_LANE
    {
        factor[4 * j] = c0[j] < bound ? scale : 0.0f;
        factor[4 * j + 1] = c1[j] < bound ? scale : 0.0f;
        factor[4 * j + 2] = c2[j] < bound ? scale : 0.0f;
        factor[4 * j + 3] = c3[j] < bound ? scale : 0.0f;
    }
}

/* Sets to[u] = D(from[u]) for units 0..H-1 of element row t*B + b; to may equal from. */
static void mask_row(const MaskKey *key, int64_t row, int64_t H, const float *from, float *to)
{
    uint64_t q = (uint64_t)(row * mask_pitch(H)) >> 2;
    for (int64_t u = 0; u < H; u += 4 * LANES, q += LANES) {
        float factor[4 * LANES];
        mask_factors(key, q, LANES / 4, factor);
        int64_t n = H - u < 4 * LANES ? H - u : 4 * LANES;
        for (int64_t i = 0; i < n; i++) to[u + i] = from[u + i] * factor[i];
    }
}

/* Computes the factors of units u..u+LANES-1 of four element rows starting at `row`, for the
 * recurrent sites of SITES_ALL, which pass through the cell one vector of units at a time. Where H
 * ends inside the vector, the last factors are not used. */
static void mask_four_rows(const MaskKey *key, int64_t row, int64_t H, int64_t u,
                           float factor[4 * LANES])
{
    uint64_t pitch = (uint64_t)mask_pitch(H);
    mask_factors(key, ((uint64_t)row * pitch + (uint64_t)u) >> 2, pitch >> 2, factor);
}

/* Returns whether this window masks the site; if so, sets *key. With keep = 1 nothing is masked,
 * since every element would be kept at scale 1. */
static bool masked(const Backend *b, int site, MaskKey *key)
{
    const BackendConfig *g = &b->config;
    int sites = sites_count(g->sites, g->shape.L);
    if (!b->w.train || g->sites == SITES_NONE || g->keep == 1.0 || site >= sites) return false;
    *key = mask_key(g->seed, b->w.step, sites, site, g->keep);
    return true;
}

static int recurrent_site(const Backend *b, int64_t l) { return (int)(b->config.shape.L + 1 + l); }

/* Applies D_site to all positions; to may equal from. */
static void mask_positions(const Backend *b, int site, const float *from, float *to)
{
    MaskKey key;
    int64_t N = b->w.T * b->w.B, H = b->config.shape.H;
    if (masked(b, site, &key)) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < N; n++) mask_row(&key, n, H, from + n * H, to + n * H);
    } else if (to != from) {
        memcpy(to, from, (size_t)(N * H) * sizeof *to);
    }
}

/* ---- operands, rounded to the precision ---- */

/* Rounds n floats; to may equal from. There is one loop per precision, so that each is
 * vectorised. */
static void round_floats(LstmPrecision precision, const float *from, float *to, int64_t n)
{
    if (precision == PRECISION_TF32) {
        for (int64_t i = 0; i < n; i++) to[i] = precision_round(PRECISION_TF32, from[i]);
    } else {
        for (int64_t i = 0; i < n; i++) to[i] = precision_round(PRECISION_BF16, from[i]);
    }
}

/* Returns the n floats of operand number `which` of a product, rounded to the precision. */
static const float *operand(const Backend *b, int which, const float *from, int64_t n)
{
    if (b->config.precision == PRECISION_F32) return from;
    float *to = b->operand[which];
    int64_t chunks = chunks_of(n);
#pragma omp parallel for schedule(static) num_threads(b->threads)
    for (int64_t i = 0; i < chunks; i++) {
        int64_t at = i * SUM_CHUNK;
        round_floats(b->config.precision, from + at, to + at,
                     n - at < SUM_CHUNK ? n - at : SUM_CHUNK);
    }
    return to;
}

/* ---- matrix products over all positions ---- */

/* Computes C (m,n) = op(A) op(B), row-major; op(A) is (m,k). Each thread computes a slab of C by
 * itself. The longer side of C is cut at multiples of 48, a multiple of most register tiles'
 * heights, so that few tiles are split. */
static void sgemm(const Backend *b, bool a_t, bool b_t, int64_t m, int64_t n, int64_t k,
                  const float *A, const float *B, float *C)
{
    A = operand(b, 0, A, m * k), B = operand(b, 1, B, k * n);
    bool by_rows = m >= n;
    int64_t side = by_rows ? m : n, lda = a_t ? m : k, ldb = b_t ? k : n;
#pragma omp parallel num_threads(b->threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads(), units = (side + 47) / 48;
        int64_t first = units * me / team * 48, end = units * (me + 1) / team * 48;
        if (end > side) end = side;
        const float *from_a = A, *from_b = B;
        float *to = C;
        int64_t rows = m, cols = n;
        if (by_rows) from_a += a_t ? first : first * lda, to += first * n, rows = end - first;
        else from_b += b_t ? first * ldb : first, to += first, cols = end - first;
        if (first < end)
            sgemm_run(a_t, b_t, rows, cols, k, from_a, lda, from_b, ldb, to, n,
                      b->room + me * SGEMM_ROOM);
    }
}

/* Computes the same product for a k that is by far the longest side (dlogits times the decoder's
 * weights): each thread sums over its own stretch of k, so that no operand is packed twice, and the
 * partial products are added in the order of the threads. A (m,k), B (k,n). */
static void sgemm_long(const Backend *b, int64_t m, int64_t n, int64_t k, const float *A,
                       const float *B, float *C)
{
    A = operand(b, 0, A, m * k), B = operand(b, 1, B, k * n);
#pragma omp parallel num_threads(b->threads)
    {
        int64_t me = omp_get_thread_num(), team = omp_get_num_threads(), first = k * me / team,
                end = k * (me + 1) / team;
        float *to = me == 0 ? C : b->product_part + (me - 1) * m * n;
        if (first < end)
            sgemm_run(false, false, m, n, end - first, A + first, k, B + first * n, n, to, n,
                      b->room + me * SGEMM_ROOM);
        else memset(to, 0, (size_t)(m * n) * sizeof *to);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m * n; i++)
            for (int64_t part = 0; part < team - 1; part++)
                C[i] += b->product_part[part * m * n + i];
    }
}

/* ---- the recurrence's own product ---- */

/* The batch, cut into tiles of equal height; the last tile is padded with rows of zeros. */
typedef struct Tiling {
    int64_t tiles, rows; /* rows per tile */
} Tiling;

static Tiling tiling_of(int64_t B)
{
    int64_t tiles = (B + TILE_ROWS - 1) / TILE_ROWS;
    return (Tiling){tiles, (B + tiles - 1) / tiles};
}

/* A thread's share of a layer's recurrence in one direction: the columns of its product (K,columns)
 * for its vectors first..end-1 of hidden units. In the forward direction a vector of units has
 * GATES columns (i, f, g, o), in the backward direction one. Two columns make a panel; the last
 * panel may be half full. */
typedef struct Share {
    int64_t first, end; /* vectors of units */
    int64_t K, columns; /* columns: in vectors */
    int64_t panels, stretches;
    float *packed; /* (stretch, panel, k of the stretch, columns of the panel) */
    float *sum;    /* (panel, row, 2 columns) */
    int64_t rows;  /* of the batch, padded to whole tiles */
} Share;

static Share share_of(const Backend *b, int me, int team, bool forward, Tiling tiling)
{
    int64_t H = b->config.shape.H, wide = forward ? GATES : 1;
    Share s = {.first = b->vectors * me / team, .end = b->vectors * (me + 1) / team};
    s.K = forward ? H : GATES * H, s.columns = (s.end - s.first) * wide;
    s.panels = (s.columns + 1) / 2, s.stretches = (s.K + K_BLOCK - 1) / K_BLOCK;
    s.rows = tiling.tiles * tiling.rows;
    s.packed = b->packed + s.first * GATES * H * LANES;
    s.sum = b->sum + (s.first * wide + me) * LANES * s.rows;
    return s;
}

static int64_t stretch_terms(const Share *s, int64_t stretch)
{
    int64_t left = s->K - stretch * K_BLOCK;
    return left < K_BLOCK ? left : K_BLOCK;
}

static int64_t panel_vectors(const Share *s, int64_t panel)
{
    return 2 * panel + 1 < s->columns ? 2 : 1;
}

static float *panel_weights(const Share *s, int64_t stretch, int64_t panel)
{
    return s->packed +
           (stretch * K_BLOCK * s->columns + panel * 2 * stretch_terms(s, stretch)) * LANES;
}

/* Returns the sums of one column of a row, as a vector of LANES. */
static const float *column_sum(const Share *s, int64_t column, int64_t row)
{
    return s->sum + (column / 2 * s->rows + row) * TILE_WIDTH + column % 2 * LANES;
}

/* Packs W_hh (4H,H) in the order of Share.packed. Units past H are zero. */
static void pack(const Backend *b, const Share *s, bool forward, const float *w_hh)
{
    int64_t H = b->config.shape.H;
    for (int64_t stretch = 0; stretch < s->stretches; stretch++)
        for (int64_t column = 0; column < s->columns; column++) {
            int64_t k0 = stretch * K_BLOCK, terms = stretch_terms(s, stretch),
                    pitch = panel_vectors(s, column / 2) * LANES;
            float *to = panel_weights(s, stretch, column / 2) + column % 2 * LANES;
            int64_t u = (s->first + (forward ? column / GATES : column)) * LANES,
                    n = H - u < LANES ? H - u : LANES;
            if (n < LANES)
                for (int64_t k = 0; k < terms; k++) vec_store(to + k * pitch, (Vec){0});
            if (forward) {
                const float *from = w_hh + (column % GATES * H + u) * H + k0;
                for (int64_t j = 0; j < n; j++)
                    for (int64_t k = 0; k < terms; k++) to[k * pitch + j] = from[j * H + k];
            } else {
                for (int64_t k = 0; k < terms; k++)
                    lanes_store(to + k * pitch, lanes_load(w_hh + (k0 + k) * H + u, n), n);
            }
        }
    if (b->config.precision != PRECISION_F32)
        round_floats(b->config.precision, s->packed, s->packed, s->K * s->columns * LANES);
}

/* Computes sum = operand^T W of one step; operand is an exchange buffer. backwards: visits the
 * panels in reverse order. */
static void multiply(const Share *s, Tiling tiling, const float *operand, bool backwards)
{
    int64_t count = s->stretches * s->panels;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = backwards ? count - 1 - i : i, then = backwards ? at - 1 : at + 1;
        int64_t stretch = at / s->panels, panel = at % s->panels, terms = stretch_terms(s, stretch);
        const float *w = panel_weights(s, stretch, panel), *ahead = w;
        if (i + 1 < count) ahead = panel_weights(s, then / s->panels, then % s->panels);
        int64_t step = i + 1 < count ? (TILE_WIDTH + tiling.tiles - 1) / tiling.tiles : 0;
        TileFunction *tile = tile_functions[panel_vectors(s, panel) - 1][tiling.rows];
        for (int64_t j = 0; j < tiling.tiles; j++)
            tile(terms, operand + (j * s->K + stretch * K_BLOCK) * tiling.rows, w,
                 s->sum + (panel * s->rows + j * tiling.rows) * TILE_WIDTH, TILE_WIDTH,
                 i >= s->panels, ahead + j * terms * step, step);
    }
}

/* Pauses between two polls of another thread's word. */
static inline void spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Synchronises the team: thread `me` has finished step number `epoch` (1, 2, ...). */
static void team_barrier(Backend *b, int me, int team, unsigned epoch)
{
    atomic_store_explicit(&b->arrival[me].epoch, epoch, memory_order_release);
    for (int other = 0; other < team; other++)
        for (int polls = 0;
             atomic_load_explicit(&b->arrival[other].epoch, memory_order_acquire) < epoch;
             polls++) {
            if (polls < SPIN_POLLS) spin_pause();
            else sched_yield(); /* if threads outnumber cores, this lets the late thread run */
        }
}

static void team_reset(Backend *b)
{
    for (int i = 0; i < b->threads; i++)
        atomic_store_explicit(&b->arrival[i].epoch, 0, memory_order_relaxed);
}

/* Writes a vector of one batch row into an exchange buffer (tile, k, row of tile), at unit or gate
 * row k. */
static inline void exchange_put(float *exchange, Tiling t, int64_t K, int64_t row, int64_t k,
                                const float *lanes, int64_t n)
{
    float *to = exchange + (row / t.rows * K + k) * t.rows + row % t.rows;
    for (int64_t j = 0; j < n; j++) to[j * t.rows] = lanes[j];
}

/* ---- forward ---- */

static int cpu_window_begin(Backend *b, const Window *w, bool *replayed, Error *e)
{
    *replayed = false;
    (void)e;
    const Batch *batch = &w->batch;
    assert(batch->B <= b->config.B && batch->T * batch->B <= positions(&b->config));
    assert(!w->train || b->config.train);
    b->w.T = batch->T, b->w.B = batch->B, b->w.step = w->step, b->w.train = w->train;
    b->w.ids = batch->ids, b->w.targets = batch->targets, b->w.feature = batch->features;
    b->w.gathered = batch->n_scored < batch->T * batch->B;
    b->w.scored = b->w.features = 0;
    assert(batch->n_features <= b->config.features && (!w->train || batch->n_scored > 0));
    assert(batch->n_scored <= b->config.scored || (!b->config.scored && !b->w.gathered));
    for (int32_t n = 0; n < batch->T * batch->B; n++) {
        if (batch->ids[n] == ID_FEATURES) b->feature_of[b->w.features++] = n;
        if (batch->targets[n] == TARGET_NONE) continue;
        if (b->row_of) b->row_of[b->w.scored] = n;
        b->w.scored++;
    }
    assert(b->w.scored == batch->n_scored && b->w.features == batch->n_features);
    if (!batch->carry) cpu_state_set(b, batch->B, NULL, NULL, e);
    b->grad_norm = 0;
    return EXIT_DONE;
}

static int cpu_embedding_forward(Backend *b, Error *e)
{
    (void)e;
    MaskKey key;
    bool mask = masked(b, 0, &key);
    const ModelShape *s = &b->config.shape;
    int64_t N = b->w.T * b->w.B, H = s->H, features = b->w.features;
    const float *encoder = s->V_in ? b->param[param_encoder(s)] : NULL;
    float *x = b->x[0] = b->x_own[0];
    if (features) {
        const float *bias = b->param[param_input_bias(s)];
        sgemm(b, false, true, features, H, s->F, b->w.feature, b->param[param_input_weight(s)],
              b->projected);
        for (int64_t i = 0; i < features; i++)
            for (int64_t u = 0; u < H; u++) b->projected[i * H + u] += bias[u];
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        int32_t id = b->w.ids[n];
        if (id < 0) {
            memset(x + n * H, 0, (size_t)H * sizeof *x);
            continue;
        }
        const float *from = encoder + id * H;
        if (mask) mask_row(&key, n, H, from, x + n * H);
        else memcpy(x + n * H, from, (size_t)H * sizeof *x);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < features; i++) {
        int64_t n = b->feature_of[i];
        const float *from = b->projected + i * H;
        if (mask) mask_row(&key, n, H, from, x + n * H);
        else memcpy(x + n * H, from, (size_t)H * sizeof *x);
    }
    return EXIT_DONE;
}

/* Computes one vector of units of one step, whose recurrent product is complete. Writes gates, c, h
 * of step t. */
static void forward_cell(Backend *b, int64_t l, int64_t t, const Share *share, int64_t vector,
                         float *exchange, Tiling tiling, const MaskKey *recurrent)
{
    int64_t H = b->config.shape.H, B = b->w.B, u = vector * LANES,
            n = H - u < LANES ? H - u : LANES;
    int64_t column = (vector - share->first) * GATES;
    Vec bias[GATES];
    float factor[4 * LANES];
    for (int gate = 0; gate < GATES; gate++) bias[gate] = lanes_load(b->bias + gate * H + u, n);
    for (int64_t r = 0; r < B; r++) {
        int64_t at = t * B + r;
        float *gates = b->gates[l] + at * GATES * H + u;
        Vec a[GATES];
        for (int gate = 0; gate < GATES; gate++)
            a[gate] = lanes_load(gates + gate * H, n) +
                      vec_load(column_sum(share, column + gate, r)) + bias[gate];
        Vec i = sigmoid_vec(a[0]), f = sigmoid_vec(a[1]), g = tanh_vec(a[2]), o = sigmoid_vec(a[3]);
        Vec c = f * lanes_load(b->c[l] + at * H + u, n) + i * g;
        Vec h = o * tanh_vec(c);
        lanes_store(gates, i, n);
        lanes_store(gates + H, f, n);
        lanes_store(gates + 2 * H, g, n);
        lanes_store(gates + 3 * H, o, n);
        lanes_store(b->c[l] + (at + B) * H + u, c, n);
        lanes_store(b->h[l] + (at + B) * H + u, h, n);
        if (recurrent && t + 1 < b->w.T) { /* the input of step t+1's recurrent product */
            if (r % 4 == 0) mask_four_rows(recurrent, at + B, H, u, factor);
            h *= vec_load(factor + r % 4 * LANES);
            lanes_store(b->hm[l] + (at + B) * H + u, h, n);
        }
        if (b->config.precision != PRECISION_F32)
            round_floats(b->config.precision, (float *)&h, (float *)&h, LANES);
        exchange_put(exchange, tiling, H, r, u, (const float *)&h, n);
    }
}

static int cpu_layer_forward(Backend *b, int64_t l, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, T = b->w.T, B = b->w.B, N = T * B;
    const float *w_hh = b->param[in_layer(b, l, PARAM_W_HH)];
    const float *b_ih = b->param[in_layer(b, l, PARAM_B_IH)],
                *b_hh = b->param[in_layer(b, l, PARAM_B_HH)];
    MaskKey recurrent_key;
    const MaskKey *recurrent =
        masked(b, recurrent_site(b, l), &recurrent_key) ? &recurrent_key : NULL;
    Tiling tiling = tiling_of(B);

    sgemm(b, false, true, N, 4 * H, H, b->x[l], b->param[in_layer(b, l, PARAM_W_IH)], b->gates[l]);
    for (int64_t j = 0; j < 4 * H; j++) b->bias[j] = b_ih[j] + b_hh[j];
    memcpy(b->h[l], b->state_h + l * B * H, (size_t)(B * H) * sizeof(float));
    memcpy(b->c[l], b->state_c + l * B * H, (size_t)(B * H) * sizeof(float));
    for (int i = 0; i < 2; i++)
        memset(b->exchange[i], 0, (size_t)(tiling.tiles * tiling.rows * H) * sizeof(float));
    const float *h0 = b->h[l];
    if (recurrent) {
        for (int64_t row = 0; row < B; row++)
            mask_row(recurrent, row, H, b->h[l] + row * H, b->hm[l] + row * H);
        h0 = b->hm[l];
    }
    for (int64_t row = 0; row < B; row++)
        exchange_put(b->exchange[0], tiling, H, row, 0, h0 + row * H, H);
    if (b->config.precision != PRECISION_F32)
        round_floats(b->config.precision, b->exchange[0], b->exchange[0],
                     tiling.tiles * tiling.rows * H);

    team_reset(b);
#pragma omp parallel num_threads(b->threads)
    {
        int me = omp_get_thread_num(), team = omp_get_num_threads();
        Share share = share_of(b, me, team, true, tiling);
        pack(b, &share, true, w_hh);
        for (int64_t t = 0; t < T; t++) {
            multiply(&share, tiling, b->exchange[t & 1], t & 1);
            for (int64_t vector = share.first; vector < share.end; vector++)
                forward_cell(b, l, t, &share, vector, b->exchange[~t & 1], tiling, recurrent);
            if (t + 1 < T) team_barrier(b, me, team, (unsigned)t + 1);
        }
    }
    memcpy(b->state_h + l * B * H, b->h[l] + N * H, (size_t)(B * H) * sizeof(float));
    memcpy(b->state_c + l * B * H, b->c[l] + N * H, (size_t)(B * H) * sizeof(float));

    MaskKey key;
    b->x[l + 1] = b->h[l] + B * H;
    if (masked(b, (int)l + 1, &key)) {
        b->x[l + 1] = b->x_own[l + 1];
        mask_positions(b, (int)l + 1, b->h[l] + B * H, b->x[l + 1]);
    }
    return EXIT_DONE;
}

/* Computes softmax and cross-entropy of one row of logits in place; returns its nats. With `train`
 * the row becomes dlogits and is added to bias_sum. *best (unless NULL) becomes the lowest id of
 * the largest logit. The exp terms are summed LANES wide over stretches of 64 vectors, and the
 * stretches in double. */
static double softmax_row(float *z, const float *bias, int64_t V, int32_t target, bool train,
                          float inverse_B, float *bias_sum, int32_t *best)
{
    int64_t whole = V - V % LANES;
    Vec tops = vec_all(-INFINITY);
    for (int64_t v = 0; v < whole; v += LANES) {
        Vec a = vec_load(z + v) + vec_load(bias + v);
        vec_store(z + v, a);
        tops = vec_select(a <= tops, tops, a); /* a NaN propagates */
    }
    float top = -INFINITY;
    for (int64_t v = whole; v < V; v++) {
        z[v] += bias[v];
        top = z[v] <= top ? top : z[v];
    }
    for (int j = 0; j < LANES; j++) top = tops[j] <= top ? top : tops[j];
    double z_target = (double)z[target], sum = 0;
    if (best) {
        *best = -1;
        for (int64_t v = 0; v < V && *best < 0; v++)
            if (z[v] == top) *best = (int32_t)v;
    }

    for (int64_t v = 0; v < V;) {
        Vec part = {0};
        int64_t stop = v + 64 * LANES < whole ? v + 64 * LANES : whole;
        for (; v < stop; v += LANES) {
            Vec p = exp_vec(vec_load(z + v) - top);
            if (train) vec_store(z + v, p);
            part += p;
        }
        if (v == whole && v < V) { /* the edge of V */
            Vec p = exp_vec(lanes_load(z + v, V - v) - top);
            if (train) lanes_store(z + v, p, V - v);
            for (int64_t j = 0; j < V - v; j++) part[j] += p[j];
            v = V;
        }
        for (int j = 0; j < LANES; j++) sum += (double)part[j];
    }
    if (train) {
        float scale = (float)((double)inverse_B / sum);
        float before = bias_sum[target];
        for (int64_t v = 0; v < V; v++) {
            z[v] *= scale;
            bias_sum[v] += z[v];
        }
        z[target] -= inverse_B;
        bias_sum[target] = before + z[target];
    }
    return (double)top + log(sum) - z_target;
}

/* Returns the position of scored row i. */
static int64_t position_of(const Backend *b, int64_t i) { return b->w.gathered ? b->row_of[i] : i; }

/* Copies scored rows: row i of `to` = row from_of[i] of `from`, or row to_of[i] of `to` = row i of
 * `from`; NULL: i itself. */
static void rows_copy(const Backend *b, const int32_t *from_of, const float *from,
                      const int32_t *to_of, float *to)
{
    int64_t H = b->config.shape.H;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b->w.scored; i++)
        memcpy(to + (to_of ? to_of[i] : i) * H, from + (from_of ? from_of[i] : i) * H,
               (size_t)H * sizeof *to);
}

/* Returns the input of the decoder's products: the rows of the scored positions. */
static const float *decoder_input(const Backend *b)
{
    return b->w.gathered ? b->picked : b->x[b->config.shape.L];
}

static int cpu_softmax_forward(Backend *b, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, V = b->config.shape.V_out, R = b->w.scored;
    const float *bias = b->param[param_decoder_bias(&b->config.shape)];
    float inverse_B = 1.0f / (float)b->w.B; /* the cost is a mean over b, SPEC 5 */
    bool train = b->w.train;
    b->nats = 0;
    if (!R) return EXIT_DONE; /* a window without scored positions */
    if (b->w.gathered) rows_copy(b, b->row_of, b->x[b->config.shape.L], NULL, b->picked);
    sgemm(b, false, true, R, V, H, decoder_input(b),
          b->param[param_decoder_weight(&b->config.shape)], b->logits);
#pragma omp parallel num_threads(b->threads)
    {
        float *bias_sum = train ? b->bias_part + omp_get_thread_num() * V : NULL;
        if (train) memset(bias_sum, 0, (size_t)V * sizeof *bias_sum);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < R; i++)
            b->token_nats[i] =
                softmax_row(b->logits + i * V, bias, V, b->w.targets[position_of(b, i)], train,
                            inverse_B, bias_sum, b->best ? &b->best[i] : NULL);
    }
    for (int64_t i = 0; i < R; i++) b->nats += b->token_nats[i];
    return EXIT_DONE;
}

/* The window did not train, so softmax_row left the logits, including their bias, in place. */
static int cpu_logits_get(Backend *b, int64_t row, int64_t rows, float *dst, Error *e)
{
    (void)e;
    assert(!b->w.train);
    memcpy(dst, b->logits + row * b->config.shape.V_out,
           (size_t)(rows * b->config.shape.V_out) * sizeof *dst);
    return EXIT_DONE;
}

/* ---- backward ---- */

static int cpu_softmax_backward(Backend *b, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, V = b->config.shape.V_out, L = b->config.shape.L,
            R = b->w.scored;
    int weight = param_decoder_weight(&b->config.shape),
        bias = param_decoder_bias(&b->config.shape);
#pragma omp parallel for schedule(static)
    for (int64_t v = 0; v < V; v++) {
        float sum = 0;
        for (int i = 0; i < b->threads; i++) sum += b->bias_part[i * V + v];
        b->grad[bias][v] = sum;
    }
    sgemm(b, true, false, V, H, R, b->logits, decoder_input(b), b->grad[weight]);
    sgemm_long(b, R, H, V, b->logits, b->param[weight], b->w.gathered ? b->dpicked : b->dy);
    if (b->w.gathered) {
        memset(b->dy, 0, (size_t)(b->w.T * b->w.B * H) * sizeof *b->dy);
        rows_copy(b, NULL, b->dpicked, b->row_of, b->dy);
    }
    mask_positions(b, (int)L, b->dy, b->dy);
    return EXIT_DONE;
}

/* Computes one vector of units of one step of the backward recurrence, whose product W_hh^T
 * dgates_{t+1} is complete, except at the last step, which has none. The step's gate gradients are
 * added to db (4,LANES). */
static void backward_cell(Backend *b, int64_t l, int64_t t, const Share *share, int64_t vector,
                          float *exchange, Tiling tiling, const MaskKey *recurrent, float *db)
{
    int64_t H = b->config.shape.H, B = b->w.B, u = vector * LANES,
            n = H - u < LANES ? H - u : LANES;
    float factor[4 * LANES];
    Vec bias[GATES];
    for (int gate = 0; gate < GATES; gate++) bias[gate] = vec_load(db + gate * LANES);
    for (int64_t r = 0; r < B; r++) {
        int64_t at = t * B + r;
        float *gates = b->gates[l] + at * GATES * H + u;
        float *carry = b->carry + (vector * B + r) * LANES;
        Vec i = lanes_load(gates, n), f = lanes_load(gates + H, n),
            g = lanes_load(gates + 2 * H, n), o = lanes_load(gates + 3 * H, n);
        Vec c_before = lanes_load(b->c[l] + at * H + u, n),
            tc = tanh_vec(lanes_load(b->c[l] + (at + B) * H + u, n));
        Vec dh = lanes_load(b->dy + at * H + u, n), dc_later = {0};
        if (t + 1 < b->w.T) {
            Vec through_h = vec_load(column_sum(share, vector - share->first, r));
            if (recurrent && r % 4 == 0) mask_four_rows(recurrent, at + B, H, u, factor);
            dh += recurrent ? through_h * vec_load(factor + r % 4 * LANES) : through_h;
            dc_later = vec_load(carry);
        } else if (b->state_grad_in) {
            dh += lanes_load(b->state_grad[0] + (l * B + r) * H + u, n);
            dc_later = lanes_load(b->state_grad[1] + (l * B + r) * H + u, n);
        }
        Vec dc = dh * o * (1.0f - tc * tc) + dc_later;
        Vec da[GATES] = {dc * g * i * (1.0f - i), dc * c_before * f * (1.0f - f),
                         dc * i * (1.0f - g * g), dh * tc * o * (1.0f - o)};
        vec_store(carry, dc * f);
        if (t == 0 && b->state_grad_out)
            lanes_store(b->state_grad[3] + (l * B + r) * H + u, dc * f, n);
        for (int gate = 0; gate < GATES; gate++) {
            lanes_store(gates + gate * H, da[gate], n);
            bias[gate] += da[gate];
            if (b->config.precision != PRECISION_F32)
                round_floats(b->config.precision, (float *)&da[gate], (float *)&da[gate], LANES);
            if (t > 0)
                exchange_put(exchange, tiling, GATES * H, r, gate * H + u, (const float *)&da[gate],
                             n);
        }
    }
    for (int gate = 0; gate < GATES; gate++) vec_store(db + gate * LANES, bias[gate]);
}

static int cpu_layer_backward(Backend *b, int64_t l, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, T = b->w.T, B = b->w.B, N = T * B;
    MaskKey recurrent_key;
    const MaskKey *recurrent =
        masked(b, recurrent_site(b, l), &recurrent_key) ? &recurrent_key : NULL;
    Tiling tiling = tiling_of(B);
    float *db = b->grad[in_layer(b, l, PARAM_B_IH)];
    for (int i = 0; i < 2; i++)
        memset(b->exchange[i], 0, (size_t)(tiling.tiles * tiling.rows * GATES * H) * sizeof(float));

    team_reset(b);
#pragma omp parallel num_threads(b->threads)
    {
        int me = omp_get_thread_num(), team = omp_get_num_threads();
        Share share = share_of(b, me, team, false, tiling);
        pack(b, &share, false, b->param[in_layer(b, l, PARAM_W_HH)]);
        memset(b->bias_sum + share.first * GATES * LANES, 0,
               (size_t)((share.end - share.first) * GATES * LANES) * sizeof *b->bias_sum);
        for (int64_t t = T - 1; t >= 0; t--) {
            if (t + 1 < T) multiply(&share, tiling, b->exchange[t & 1], t & 1);
            for (int64_t vector = share.first; vector < share.end; vector++)
                backward_cell(b, l, t, &share, vector, b->exchange[~t & 1], tiling, recurrent,
                              b->bias_sum + vector * GATES * LANES);
            if (t > 0) team_barrier(b, me, team, (unsigned)(T - t));
        }
        for (int64_t vector = share.first; vector < share.end; vector++)
            for (int64_t gate = 0; gate < GATES; gate++) {
                int64_t u = vector * LANES, n = H - u < LANES ? H - u : LANES;
                lanes_store(db + gate * H + u,
                            vec_load(b->bias_sum + (vector * GATES + gate) * LANES), n);
            }
    }

    const float *dgates = b->gates[l];
    sgemm(b, true, false, 4 * H, H, N, dgates, b->x[l], b->grad[in_layer(b, l, PARAM_W_IH)]);
    sgemm(b, true, false, 4 * H, H, N, dgates, recurrent ? b->hm[l] : b->h[l],
          b->grad[in_layer(b, l, PARAM_W_HH)]);
    memcpy(b->grad[in_layer(b, l, PARAM_B_HH)], db, (size_t)(4 * H) * sizeof *db);
    sgemm(b, false, false, N, H, 4 * H, dgates, b->param[in_layer(b, l, PARAM_W_IH)], b->dy);
    mask_positions(b, (int)l, b->dy, b->dy);
    if (b->state_grad_out) {
        float *dh_0 = b->state_grad[2] + l * B * H;
        sgemm(b, false, false, B, H, 4 * H, dgates, b->param[in_layer(b, l, PARAM_W_HH)], dh_0);
        for (int64_t row = 0; recurrent && row < B; row++)
            mask_row(recurrent, row, H, dh_0 + row * H, dh_0 + row * H);
    }
    return EXIT_DONE;
}

/* Computes the gradients of the input projection from dy, which is already masked. They are zero if
 * the window has no features. */
static void features_backward(Backend *b)
{
    const ModelShape *s = &b->config.shape;
    int64_t H = s->H, features = b->w.features;
    float *dw = b->grad[param_input_weight(s)], *db = b->grad[param_input_bias(s)];
    memset(db, 0, (size_t)H * sizeof *db);
    if (!features) memset(dw, 0, (size_t)(H * s->F) * sizeof *dw);
    for (int64_t i = 0; i < features; i++) {
        const float *dx = b->dy + b->feature_of[i] * H;
        memcpy(b->projected + i * H, dx, (size_t)H * sizeof *dx);
        for (int64_t u = 0; u < H; u++) db[u] += dx[u];
    }
    if (features) sgemm(b, true, false, H, s->F, features, b->projected, b->w.feature, dw);
}

/* The encoder's gradient has at most T*B non-zero rows: only those are written, counted in the norm
 * and applied. The positions of one word are added in order of time, whichever thread adds them. */
static int cpu_embedding_backward(Backend *b, Error *e)
{
    (void)e;
    if (b->config.shape.F) features_backward(b);
    int64_t N = b->w.T * b->w.B, H = b->config.shape.H;
    b->distinct = 0;
    for (int32_t n = 0; n < N; n++) {
        int32_t id = b->w.ids[n];
        b->next[n] = -1;
        if (id < 0) continue;
        int32_t slot = b->slot_of_id[id];
        if (slot < 0) {
            slot = b->slot_of_id[id] = (int32_t)b->distinct++;
            b->id_of_slot[slot] = id;
            b->first[slot] = n;
        } else {
            b->next[b->last[slot]] = n;
        }
        b->last[slot] = n;
    }
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < b->distinct; s++) {
        float *dw = b->grad[param_encoder(&b->config.shape)] + b->id_of_slot[s] * H;
        memcpy(dw, b->dy + b->first[s] * H, (size_t)H * sizeof *dw);
        for (int32_t n = b->next[b->first[s]]; n >= 0; n = b->next[n])
            for (int64_t u = 0; u < H; u++) dw[u] += b->dy[n * H + u];
        b->slot_of_id[b->id_of_slot[s]] = -1;
    }
    return EXIT_DONE;
}

static double sum_of_squares(const float *g, int64_t n)
{
    Vec part = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) part += vec_load(g + i) * vec_load(g + i);
    Vec edge = lanes_load(g + i, n - i);
    part += edge * edge;
    double total = 0;
    for (int j = 0; j < LANES; j++) total += (double)part[j];
    return total;
}

static int cpu_update(Backend *b, double lr, double clip, Error *e)
{
    (void)e;
    int64_t H = b->config.shape.H, n_partial = b->distinct;
    int count = params_count(&b->config.shape);
    int encoder = param_encoder(&b->config.shape);
    const float *dencoder = encoder < 0 ? NULL : b->grad[encoder];
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < b->distinct; s++)
        b->partial[s] = sum_of_squares(dencoder + b->id_of_slot[s] * H, H);
    for (int k = 0; k < count; k++) {
        if (k == encoder) continue;
        int64_t n = param_elements(b, k), chunks = chunks_of(n);
        double *partial = b->partial + n_partial;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < chunks; i++) {
            int64_t at = i * SUM_CHUNK;
            partial[i] = sum_of_squares(b->grad[k] + at, n - at < SUM_CHUNK ? n - at : SUM_CHUNK);
        }
        n_partial += chunks;
    }
    double sum = 0;
    for (int64_t i = 0; i < n_partial; i++) sum += b->partial[i];
    b->grad_norm = sqrt(sum);
    float rate = (float)(b->grad_norm > clip ? lr * (clip / b->grad_norm) : lr);

#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < b->distinct; s++) {
        float *w = b->param[encoder] + b->id_of_slot[s] * H;
        const float *dw = dencoder + b->id_of_slot[s] * H;
        for (int64_t u = 0; u < H; u++) w[u] -= rate * dw[u];
    }
    for (int k = 0; k < count; k++) {
        if (k == encoder) continue;
        float *w = b->param[k];
        const float *dw = b->grad[k];
        int64_t n = param_elements(b, k);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) w[i] -= rate * dw[i];
    }
    return EXIT_DONE;
}

static int cpu_window_end(Backend *b, WindowResult *r, double *token_nats, int32_t *token_best,
                          Error *e)
{
    (void)e;
    *r = (WindowResult){.step = b->w.step, .nats = b->nats, .grad_norm = b->grad_norm};
    for (int64_t n = 0; n < b->w.T * b->w.B; n++) {
        if (token_nats) token_nats[n] = 0;
        if (token_best) token_best[n] = -1;
    }
    for (int64_t i = 0; i < b->w.scored; i++) {
        int64_t n = position_of(b, i);
        if (token_nats) token_nats[n] = b->token_nats[i];
        if (!b->best) continue;
        r->hits += b->best[i] == b->w.targets[n];
        if (token_best) token_best[n] = b->best[i];
    }
    return EXIT_DONE;
}

const BackendOps backend_cpu = {
    .name = "cpu",
    .summary = "float32 on OpenMP; tf32 and bf16 simulated",
    .bytes = cpu_bytes,
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .param_set = cpu_param_set,
    .param_get = cpu_param_get,
    .grad_get = cpu_grad_get,
    .state_set = cpu_state_set,
    .state_get = cpu_state_get,
    .state_grad_set = cpu_state_grad_set,
    .state_grad_get = cpu_state_grad_get,
    .window_begin = cpu_window_begin,
    .embedding_forward = cpu_embedding_forward,
    .layer_forward = cpu_layer_forward,
    .softmax_forward = cpu_softmax_forward,
    .softmax_backward = cpu_softmax_backward,
    .layer_backward = cpu_layer_backward,
    .embedding_backward = cpu_embedding_backward,
    .update = cpu_update,
    .window_end = cpu_window_end,
    .logits_get = cpu_logits_get,
};
