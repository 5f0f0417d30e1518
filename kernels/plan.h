/* plan: the launch of a persistent variant. Clean C11 that also compiles as CUDA C++; needs no
 * toolkit.
 *
 * A persistent variant runs the recurrence of one layer, in one direction, in one launch. A plan
 * describes that launch: host/plan/residency.c returns it, a kernel is started with it, and `plstm
 * plan` prints it. The sizes by which a kernel carves its shared memory and its exchange buffer are
 * computed here and nowhere else, so the planner and the kernels cannot disagree.
 *
 * Grid       There are `replicas` copies of `blocks` blocks. Each replica holds all the weights and
 *            has `rows` batch rows of its own (the last replica has what is left of B). Block p of
 *            a replica owns the units p * units to p * units + units - 1 of H (the last block may
 *            own fewer) with the four gate rows of each, in both directions.
 * Threads    Forward: thread (g * slices + s) * units + u computes, for unit u of the block, the
 *            four gates' partial sums over k = s * depth to s * depth + depth - 1, for the `batch`
 *            rows of group g. Backward: thread (g * slices + s) * quads + q computes the partial dh
 *            of the four k = q, q + quads, q + 2 * quads and q + 3 * quads from the units s * depth
 *            to s * depth + depth - 1 of the block; if 4 * quads < H, it does so for the following
 *            k, in `rounds` rounds. A pass covers batch * groups rows; a step takes `passes`
 *            passes.
 * Ranges     rows * replicas may be less than B, if the state of more rows does not fit in a block.
 *            Batch rows do not interact in the recurrence, so the launch is repeated for the
 *            remaining rows.
 * Residency  Of a thread's `depth` steps of contraction (forward: k; backward: units), the first
 *            `resident` are kept in registers and the next `shared` in shared memory; the last
 *            `streamed` are read from L2 in every pass. `resident` is a template argument; weights
 *            beyond depth are zero.
 *
 * Variants on tensor cores and in clusters divide the work differently: see mma.h and cluster.h. */
#ifndef PLSTM_PLAN_H
#define PLSTM_PLAN_H

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define PLAN_HD __host__ __device__
#else
#define PLAN_HD
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The arithmetic of the recurrent products: float32; operands rounded to 10 bits of mantissa
 * (cvt.rna.tf32); operands rounded to bfloat16, to nearest even. Products are accumulated in
 * float32 everywhere, and activations, c, sums and saved tensors are always float32. */
typedef enum LstmPrecision {
    PRECISION_F32,
    PRECISION_TF32,
    PRECISION_BF16,
    PRECISIONS
} LstmPrecision;

typedef struct LstmShape {
    int64_t T, B, H;
    /* The precision that is asked for; a variant that does not have it computes in float32. */
    LstmPrecision precision;
} LstmShape;

/* How a variant divides the work. The kind determines what the fields of a plan mean. */
typedef enum LstmKind {
    KIND_STEPWISE, /* launches at every step, so it needs no plan */
    KIND_VECTOR,   /* float32 multiply-adds of the threads, grid barrier */
    KIND_MMA,      /* tensor cores, exchange through L2 */
    KIND_CLUSTER   /* tensor cores, exchange through the shared memory of one cluster */
} LstmKind;

/* How the blocks of a replica learn that the data they need has arrived. */
typedef enum LstmExchange {
    EXCHANGE_CLUSTER, /* KIND_CLUSTER: an mbarrier of the receiver counts the bytes */
    EXCHANGE_FLAG,    /* a word per block, released after the data (grid_barrier.cuh) */
    EXCHANGE_WORDS,   /* each data word is its own flag (word_exchange.cuh) */
    EXCHANGES
} LstmExchange;

/* One compiled instance of a persistent kernel. */
typedef struct LstmTile {
    /* Steps of contraction whose weights a thread keeps in registers: 4 floats each forward, 16
     * backward (KIND_MMA, KIND_CLUSTER: contraction tiles of a warp). */
    int32_t resident;
    /* Forward: k per slice that are staged at a time, a divisor of resident. Backward: 0. */
    int32_t chunk;
    int32_t batch;     /* batch rows per thread (KIND_VECTOR, even) or per pass */
    int32_t threads;   /* the most per block */
    int32_t registers; /* per thread, as __launch_bounds__(threads, 1) promises */
    /* Only KIND_MMA and KIND_CLUSTER (tensor.h) use these: */
    int32_t precision; /* an LstmPrecision */
    int32_t stacked;   /* m tiles of 16 rows per warp */
} LstmTile;

/* The facts about a variant that the planner needs. */
typedef struct LstmFootprint {
    const char *name;
    const char *summary; /* one line */
    /* [0] forward, [1] backward. Both are NULL for a variant that needs no plan. */
    const LstmTile *tile[2];
    int tiles[2];
    int shared_weights; /* whether weights may stay in shared memory */
    int packed;         /* whether forward reads w_packed (lstm.h) */
    LstmKind kind;
    unsigned precisions; /* one bit per LstmPrecision that it has instances of */
    /* Whether all blocks of a replica meet at every step; the scratch then ends with a word per
     * block. */
    int grid_barrier;
    /* Whether it computes in the tiles of tensor.h: units in fours, batch in eights, w_tiles in
     * bf16. */
    int reads_tiles;
    int min_sm;  /* lowest compute capability: 10 * major + minor */
    int toolkit; /* oldest CUDA toolkit that compiles it, as a CUDA_VERSION */
} LstmFootprint;

/* Returns the precision in which the variant computes if the shape asks for `precision`, or -1 if
 * it has neither that precision nor float32. */
static inline int lstm_precision(const LstmFootprint *f, LstmPrecision precision)
{
    return f->precisions >> precision & 1 ? (int)precision
           : f->precisions & 1u           ? PRECISION_F32
                                          : -1;
}

/* Every variant of kernels/variants.def in its order, NULL-terminated (footprints.c). */
extern const LstmFootprint *const lstm_footprints[];

/* Every field of a plan, as F(name, type). PLAN_FIELDS lists them in the order of the text form
 * (host/plan/residency.c). In memory `kind` comes first, since it determines how the others are
 * read. */
#define PLAN_FIELDS(F) PLAN_LAYOUT(F) PLAN_KIND(F) PLAN_SIZES(F)
#define PLAN_KIND(F)   F(kind, int32_t) /* an LstmKind */
#define PLAN_LAYOUT(F)                                                                             \
    F(backward, int32_t)                                                                           \
    F(tile, int32_t) /* index in the footprint's list */                                           \
    F(replicas, int32_t)                                                                           \
    F(blocks, int32_t) /* per replica */                                                           \
    F(threads, int32_t)                                                                            \
    F(units, int32_t) /* per block */                                                              \
    F(rows, int32_t)  /* per replica */                                                            \
    F(batch, int32_t)                                                                              \
    F(groups, int32_t)                                                                             \
    F(passes, int32_t)                                                                             \
    F(slices, int32_t)                                                                             \
    F(depth, int32_t)                                                                              \
    F(resident, int32_t) /* the tile's; it may exceed depth */                                     \
    F(shared, int32_t)                                                                             \
    F(streamed, int32_t) /* shared + streamed = the rest of depth */                               \
    F(chunk, int32_t)    /* forward: k per slice staged at a time */                               \
    F(chunks, int32_t)   /* forward: how many cover max(depth, resident) */                        \
    F(quads, int32_t)    /* KIND_VECTOR backward: 4*quads*rounds >= H; else tile.stacked */        \
    F(rounds, int32_t)
#define PLAN_SIZES(F)                                                                              \
    F(precision, int32_t)    /* the tile's LstmPrecision */                                        \
    F(cluster, int32_t)      /* blocks per cluster; 1: no cluster */                               \
    F(exchange, int32_t)     /* an LstmExchange */                                                 \
    F(shared_bytes, size_t)  /* dynamic, per block */                                              \
    F(scratch_bytes, size_t) /* device memory: exchange, then one barrier word per block */

typedef struct LstmPlan {
#define F(field, type) type field;
    PLAN_KIND(F) PLAN_LAYOUT(F) PLAN_SIZES(F)
#undef F
} LstmPlan;

/* ---- counts that planner and kernels share ---- */

static PLAN_HD inline int64_t plan_div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static PLAN_HD inline int64_t plan_max(int64_t a, int64_t b) { return a > b ? a : b; }

/* Launches of one pass over the time steps: one per range of batch rows. */
static PLAN_HD inline int64_t plan_ranges(const LstmPlan *p, int64_t B)
{
    return plan_div_up(B, (int64_t)p->rows * p->replicas);
}

/* Floats that the batch rows of a thread's tile take in memory: whole 16-byte words. */
static PLAN_HD inline int32_t plan_pitch(int32_t batch) { return (batch + 3) / 4 * 4; }

/* The most groups of four units of a mask row that `units` neighbouring units can touch. */
static PLAN_HD inline int32_t plan_mask_nibbles(int32_t units) { return (units + 2) / 4 + 1; }

/* Floats of one slice of a staged chunk: an odd number of 16-byte words, so that the slices that
 * one warp reads at the same time lie in different banks. */
static PLAN_HD inline int32_t plan_slice_stride(const LstmPlan *p)
{
    int32_t words = p->chunk * plan_pitch(p->batch) / 4;
    return 4 * (words | 1);
}

/* Floats of a staged chunk. */
static PLAN_HD inline int64_t plan_chunk_floats(const LstmPlan *p)
{
    return (int64_t)p->groups * p->slices * plan_slice_stride(p);
}

/* Slices that are left after the upper half has been added to the lower half. */
static PLAN_HD inline int32_t plan_folded(int32_t slices) { return (slices + 1) / 2; }

/* Returns how many partial sums of an element remain after every warp has added up its own slices
 * by shuffles between lanes 16 and 8 apart (forward, sm_70 and up). Those lanes have the same unit
 * only if `units` divides 8, and each of them adds up one of four batch rows. Returns 0 if the plan
 * does not qualify or would gain nothing. */
static PLAN_HD inline int32_t plan_warp_sums(const LstmPlan *p)
{
    int32_t sums = (int32_t)plan_div_up(p->slices * p->units, 32) * (8 / p->units);
    int32_t so = !p->backward && p->groups == 1 && p->batch == 4 && 8 % p->units == 0;
    return so && p->slices > 1 && sums <= plan_folded(p->slices) ? sums : 0;
}

/* Elements (unit, batch row) of a block in one pass; the batch rows of the tile vary fastest. */
static PLAN_HD inline int64_t plan_items(const LstmPlan *p)
{
    return (int64_t)p->units * p->groups * p->batch;
}

/* Words of a block's mask bits. */
static PLAN_HD inline int64_t plan_mask_words(const LstmPlan *p)
{
    return 4 * (int64_t)p->rows * plan_mask_nibbles(p->units);
}

/* Floats that one producer sends to one consumer in one pass: [units][groups][pitch]. */
static PLAN_HD inline int64_t plan_parcel_floats(const LstmPlan *p)
{
    return (int64_t)p->units * p->groups * plan_pitch(p->batch);
}

/* Groups of threads that sum the producers' parcels in parallel: as many as the block's threads
 * allow, and at most one per producer. */
static PLAN_HD inline int32_t plan_gather_groups(const LstmPlan *p)
{
    int64_t columns = plan_parcel_floats(p) / 4, groups = p->threads / columns;
    return (int32_t)(groups < 1 ? 1 : groups > p->blocks ? p->blocks : groups);
}

/* Units of a pass's dgates in shared memory: the last slice reads as many units as a thread has
 * weights for in registers. */
static PLAN_HD inline int64_t plan_unit_rows(const LstmPlan *p)
{
    return plan_max(p->units, (int64_t)(p->slices - 1) * p->depth + p->resident);
}

/* Floats of the slices' partial sums: forward [folded][groups*units][batch|1] float4, backward [the
 * other slices][groups][batch][quads] float4. */
static PLAN_HD inline int64_t plan_partial_floats(const LstmPlan *p)
{
    int64_t folded = plan_folded(p->slices);
    return p->backward ? (p->slices - folded) * p->groups * p->quads * 4 * plan_pitch(p->batch)
                       : 4 * folded * p->groups * p->units * (p->batch | 1);
}

/* ---- a block's shared memory ----
 * A list has an X(type, name, words, what) per piece, in the order in which the pieces are carved.
 * `words` is the number of 32-bit words under the plan p; every piece begins on 16 bytes, as
 * dev_memory.cuh's Smem carves. From a list, PIECES defines the struct of the sizes, the function
 * that fills it for a plan, and the function that adds up its bytes; the kernels define the struct
 * of the addresses and its carving (persistent.cuh). */

static PLAN_HD inline size_t plan_piece_bytes(int64_t words)
{
    return (size_t)(words + 3) / 4 * 16;
}

#define PIECE_MEMBER(type, name, words, what) int64_t name;
#define PIECE_WORDS(type, name, words, what)  f.name = words;
#define PIECE_BYTES(type, name, words, what)  +plan_piece_bytes(f.name)
#define PIECES(Pieces, function, bytes, LIST)                                                      \
    typedef struct Pieces {                                                                        \
        LIST(PIECE_MEMBER)                                                                         \
    } Pieces;                                                                                      \
    static PLAN_HD inline Pieces function(const LstmPlan *p)                                       \
    {                                                                                              \
        Pieces f;                                                                                  \
        LIST(PIECE_WORDS)                                                                          \
        return f;                                                                                  \
    }                                                                                              \
    static PLAN_HD inline size_t bytes(const LstmPlan *p)                                          \
    {                                                                                              \
        Pieces f = function(p);                                                                    \
        return 0 LIST(PIECE_BYTES);                                                                \
    }

/* KIND_VECTOR. The slices' partial sums lie in `work` and overwrite what was there before. */
#define FORWARD_PIECES(X)                                                                          \
    X(float4, weights, 4 * (int64_t)p->shared * p->slices * p->units,                              \
      "[shared][slices*units] of gates")                                                           \
    X(float, work, plan_max(2 * plan_chunk_floats(p), plan_partial_floats(p)),                     \
      "two staged chunks of h")                                                                    \
    X(float4, gates, 4 * p->passes * plan_items(p),                                                \
      "[passes][items]: x_proj on the way in, gates out")                                          \
    X(float, c, p->passes *plan_items(p), "[passes][items]")                                       \
    X(float, h, p->passes *plan_items(p), "[passes][items]")                                       \
    X(float4, bias, 4 * (int64_t)p->units, "[units] of gates")                                     \
    X(uint32_t, masks, plan_mask_words(p), "[2 steps][2 sites][rows][mask nibbles] of four bits")  \
    X(int32_t, place, p->units, "[units]: where a unit's rows lie in the exchange")                \
    X(uint32_t, flag, 4, "the barrier's")
#define BACKWARD_PIECES(X)                                                                         \
    X(float4, weights, 16 * (int64_t)p->shared * p->slices * p->quads * p->rounds,                 \
      "[shared][4 gates][rounds*slices*quads] of the thread's k")                                  \
    X(float, work,                                                                                 \
      plan_max(plan_gather_groups(p) * plan_parcel_floats(p), plan_partial_floats(p)),             \
      "[gather groups][parcel]: sums of gathered partial dh")                                      \
    X(float, dgates, (int64_t)p->passes *plan_unit_rows(p) * 4 * p->groups * plan_pitch(p->batch), \
      "[passes][units][4 gates][groups*pitch], zero where there is no unit or row")                \
    X(float, state, 8 * p->passes * plan_items(p), "[8 slots][passes][items] (block_io.cuh)")      \
    X(uint32_t, masks, plan_mask_words(p), "[2 steps][2 sites][rows][mask nibbles] of four bits")  \
    X(uint32_t, flag, 4, "the barrier's")
PIECES(ForwardPieces, plan_forward_pieces, plan_forward_bytes, FORWARD_PIECES)
PIECES(BackwardPieces, plan_backward_pieces, plan_backward_bytes, BACKWARD_PIECES)

static PLAN_HD inline size_t plan_shared_bytes(const LstmPlan *p)
{
    return p->backward ? plan_backward_bytes(p) : plan_forward_bytes(p);
}

/* Floats that one replica exchanges at one step: forward h as [passes][chunks][staged chunk],
 * backward partial dh as [passes][consumer][producer][parcel]. Two such buffers alternate. */
static PLAN_HD inline int64_t plan_exchange_floats(const LstmPlan *p)
{
    if (p->backward) return (int64_t)p->passes * p->blocks * p->blocks * plan_parcel_floats(p);
    return (int64_t)p->passes * p->chunks * plan_chunk_floats(p);
}

static PLAN_HD inline size_t plan_scratch_bytes(const LstmPlan *p)
{
    size_t exchange = (size_t)(2 * p->replicas * plan_exchange_floats(p)) * sizeof(float);
    return exchange + (size_t)p->replicas * (size_t)p->blocks * sizeof(uint32_t);
}

#ifdef __cplusplus
}
#endif

#endif
