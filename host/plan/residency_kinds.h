/* residency_kinds: what the planners of the three kinds share, and the record by which residency.c's one search knows them. Nobody
 * but the planners includes this. */
#ifndef PLSTM_RESIDENCY_KINDS_H
#define PLSTM_RESIDENCY_KINDS_H

#include "override.h"
#include "plan_model.h"

enum { WARP = 32 };

static inline int64_t plan_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t plan_round_up(int64_t n, int64_t unit) { return plan_div_up(n, unit) * unit; }

/* What a plan is free in; everything else of it follows. */
typedef struct PlanLayout {
    const LstmTile *tile;
    int32_t index; /* of the footprint's list */
    int64_t rows, units;
    int32_t replicas; /* KIND_CLUSTER; of the others there are as many as cover the batch */
    int32_t groups, slices;
    int32_t rounds; /* KIND_VECTOR, backward: at least */
    int32_t cluster;
    int32_t exchange; /* of LstmExchange */
    int32_t threads;  /* at most, whole warps */
} PlanLayout;

/* What a planner is asked. */
typedef struct PlanRequest {
    const DeviceFacts *device;
    const LstmShape *shape;
    const LstmFootprint *footprint;
    int precision; /* of LstmPrecision: what the plan computes in, one of the footprint's */
    int backward;
    const PlanOverride *force; /* not NULL */
    const PlanConstants *constants;
} PlanRequest;

/* What kept layouts from being legal, with the smallest amount that was missing. */
typedef struct PlanShortage {
    bool tiles, registers; /* a tile was looked at; one had the registers */
    bool index;
    int64_t blocks,
        of_blocks;   /* fewest blocks that were too many, and how many there are at the same time */
    int32_t cluster; /* they come in clusters of so many */
    int64_t threads, most_threads;
    int64_t shared;
} PlanShortage;

typedef struct ResidencyKind ResidencyKind;

typedef struct PlanSearch {
    const ResidencyKind *kind;
    PlanRequest r;
    int64_t shared; /* bytes that a block can have */
    PlanShortage shortage;
    bool found, settling;
    LstmPlan best;
    double fastest, best_us, best_kept;
} PlanSearch;

struct ResidencyKind {
    bool
        streams; /* what stays neither in registers nor in shared memory comes from L2; else such a shape has no plan */
    /* Writes to *what why the device cannot run the kind under these overrides, and returns true. */
    bool (*lacking)(const DeviceFacts *device, const PlanOverride *force, int backward, char *what,
                    size_t size);
    /* Calls plan_consider for the layouts of one tile: `tile`, `index` and `threads` of *at are set, the rest is 0. */
    void (*candidates)(PlanSearch *s, PlanLayout *at);
    /* The first field of a layout that came from elsewhere which plan_of could not take, or NULL. */
    const char *(*fault)(const PlanLayout *at, const LstmShape *shape, int backward);
    /* Everything but the bytes; nothing is in shared memory. The numbers are within int32. */
    LstmPlan (*plan_of)(const PlanLayout *at, const LstmShape *shape, int backward);
    void (*sizes)(LstmPlan *p); /* sets shared_bytes and scratch_bytes */
    int64_t (*step_bytes)(
        const LstmPlan *p); /* of shared memory, of one step of contraction of all threads */
    int64_t (*largest_index)(const LstmPlan *p); /* that a kernel counts in int32 */
    PlanBytes (*bytes)(const LstmPlan *plan, const LstmShape *shape);
    PlanTime (*predict)(const PlanConstants *c, const DeviceFacts *device, const LstmShape *shape,
                        const LstmPlan *plan);
};

extern const ResidencyKind residency_vector, residency_mma, residency_cluster;

/* The last check of a layout; keeps it where it beats the best one so far. */
void plan_consider(PlanSearch *s, const PlanLayout *at);

/* Numbers of batch rows for a replica, from all to one, each with how many replicas that are: `units` is called for each that
 * the device's blocks leave room for. at->cluster is set. */
void plan_consider_rows(PlanSearch *s, PlanLayout *at,
                        void (*units)(PlanSearch *s, PlanLayout *at, int64_t replicas));

/* Blocks that are resident at once, where they come in clusters of so many. */
int64_t plan_blocks_limit(const DeviceFacts *d, int64_t cluster);

/* A layout fell short of blocks or of threads. */
void plan_lacks_blocks(PlanSearch *s, int64_t blocks, int64_t of, int64_t cluster);
void plan_lacks_threads(PlanSearch *s, int64_t threads, int64_t of);
static inline void plan_lacks(int64_t *slot, int64_t amount)
{
    if (!*slot || amount < *slot) *slot = amount;
}

#endif
