/* override: constraints on a plan, for tests and ablations, and their text form (PLSTM_PLAN). */
#ifndef PLSTM_OVERRIDE_H
#define PLSTM_OVERRIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

/* Constraints on a plan; 0 leaves the choice to the planner. Blocks, replicas, slices and, where a
 * replica is one cluster, cluster are upper limits: the plan has fewer where so many would leave
 * some without units, batch rows or steps of contraction. */
typedef struct PlanOverride {
    int32_t blocks;  /* per replica */
    int32_t threads; /* per block, at most */
    /* registers per thread that hold weights, at most: forward 4 per step of contraction, backward
     * 16 */
    int32_t registers;
    int32_t shared; /* bytes of shared memory per block, at most */
    int32_t replicas, groups, slices, batch;
    int32_t tile;     /* index in the footprint's list, from 1 */
    int32_t cluster;  /* blocks per cluster */
    int32_t exchange; /* LstmExchange: 1 flags, 2 words */
} PlanOverride;

/* Parses "blocks=4,replicas=2,registers=64,shared=8192" into *o: names of PlanOverride's fields,
 * each at most once, with whole numbers from 1; the empty text constrains nothing. EXIT_USAGE: the
 * sentence says what was found and what is accepted. */
int plan_override_parse(const char *text, PlanOverride *o, Error *e);

/* Writes the override in its text form, "" if it constrains nothing. */
enum { PLAN_OVERRIDE_TEXT = 192 };
void plan_override_text(const PlanOverride *o, char *out, size_t size);

/* Parses the environment variable PLSTM_PLAN; without it the override constrains nothing.
 * EXIT_USAGE as plan_override_parse, naming the variable. */
int plan_override_env(PlanOverride *o, Error *e);

/* Parses one name=number of a comma-separated list and moves *text past it; the number is at least
 * 0. Returns false if *text does not begin with one. */
bool plan_pair_next(const char **text, char name[32], int64_t *value);

#endif
