/* residency_kinds: what the planners of the three kinds share, and the record of each kind through
 * which the search in residency.c calls its planner. Only the planners include this header. */
#ifndef PLSTM_RESIDENCY_KINDS_H
#define PLSTM_RESIDENCY_KINDS_H

#include "override.h"
#include "cost_model.h"

enum { WARP = 32 };

static inline int64_t plan_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t plan_round_up(int64_t n, int64_t unit) { return plan_div_up(n, unit) * unit; }

/* The free choices of a plan; all its other fields follow from them. */
typedef struct PlanLayout {
    const LstmTile *tile;
    int32_t index; /* in the footprint's list */
    int64_t rows, units;
    /* chosen only in KIND_CLUSTER; the other kinds have as many as cover the batch */
    int32_t replicas;
    int32_t groups, slices;
    int32_t rounds; /* the fewest; only for backward in KIND_VECTOR */
    int32_t cluster;
    int32_t exchange; /* an LstmExchange */
    int32_t threads;  /* the most, in whole warps */
} PlanLayout;

/* The arguments of a search. */
typedef struct PlanRequest {
    const DeviceFacts *device;
    const LstmShape *shape;
    const LstmFootprint *footprint;
    int precision; /* the LstmPrecision in which the plan computes, one of the footprint's */
    int backward;
    const PlanOverride *force; /* not NULL */
    const CostConstants *constants;
} PlanRequest;

/* Why layouts were not legal, with the amounts of the layout that came closest. */
typedef struct PlanShortage {
    bool tiles, registers; /* a tile was considered; a tile had enough registers */
    bool index;            /* a kernel would count past 2^31 */
    /* the fewest blocks that were too many, and how many fit at once */
    int64_t blocks, of_blocks;
    int32_t cluster;               /* blocks per cluster */
    int64_t threads, most_threads; /* threads that were too many, and how many a block can have */
    int64_t shared;                /* bytes per block that were too many */
} PlanShortage;

typedef struct ResidencyKind ResidencyKind;

typedef struct PlanSearch {
    const ResidencyKind *kind;
    PlanRequest r;
    int64_t shared; /* bytes that a block can have */
    PlanShortage shortage;
    /* settling: this is the second round, which chooses among the layouts near the lowest time */
    bool found, settling;
    LstmPlan best;
    /* lowest time of the first round; time of `best`, and the score of what it keeps on the SM */
    double fastest, best_us, best_kept;
} PlanSearch;

struct ResidencyKind {
    /* Whether weights that fit neither in registers nor in shared memory are streamed from L2; if
     * not, such a shape has no plan. */
    bool streams;
    /* Returns true if the device cannot run the kind at this shape (NULL: at any) under these
     * overrides, and writes the reason to `what`. */
    bool (*lacking)(const DeviceFacts *device, const LstmShape *shape, const PlanOverride *force,
                    int backward, char *what, size_t size);
    /* Calls plan_consider for the layouts of one tile: `tile`, `index` and `threads` of *at are
     * set, the others are 0. */
    void (*candidates)(PlanSearch *s, PlanLayout *at);
    /* Returns the first field of a layout from elsewhere that plan_of could not process, or
     * NULL. */
    const char *(*fault)(const PlanLayout *at, const LstmShape *shape, int backward);
    /* Computes all fields but the bytes, with no weights in shared memory. The numbers must fit in
     * int32. */
    LstmPlan (*plan_of)(const PlanLayout *at, const LstmShape *shape, int backward);
    void (*sizes)(LstmPlan *p); /* sets shared_bytes and scratch_bytes */
    /* Returns the bytes of shared memory that one step of contraction takes for all threads. */
    int64_t (*step_bytes)(const LstmPlan *p);
    /* Returns the largest index that a kernel counts in int32. */
    int64_t (*largest_index)(const LstmPlan *p);
    CostBytes (*bytes)(const DeviceFacts *device, const LstmShape *shape, const LstmPlan *plan);
    CostTime (*predict)(const CostConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *plan);
};

extern const ResidencyKind residency_vector, residency_mma, residency_cluster;

/* Makes the last checks of a layout and keeps its plan if that beats the best one so far. */
void plan_consider(PlanSearch *s, const PlanLayout *at);

/* Calls `units` for each number of batch rows per replica, from all to one, for which the device's
 * blocks leave room, with the number of replicas that results. at->cluster must be set. */
void plan_consider_rows(PlanSearch *s, PlanLayout *at,
                        void (*units)(PlanSearch *s, PlanLayout *at, int64_t replicas));

/* Returns the number of co-resident blocks if they come in clusters of that size. */
int64_t plan_blocks_limit(const DeviceFacts *d, int64_t cluster);

/* Record that a layout was short of blocks or of threads. */
void plan_lacks_blocks(PlanSearch *s, int64_t blocks, int64_t of, int64_t cluster);
void plan_lacks_threads(PlanSearch *s, int64_t threads, int64_t of);
static inline void plan_lacks(int64_t *slot, int64_t amount)
{
    if (!*slot || amount < *slot) *slot = amount;
}

#endif
