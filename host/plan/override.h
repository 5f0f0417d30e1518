/* override: what a plan must keep to, for tests and ablations, and its text form (PLSTM_PLAN). */
#ifndef PLSTM_OVERRIDE_H
#define PLSTM_OVERRIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"

/* What a plan must keep to, for tests and ablations; 0 leaves the choice to the planner. */
typedef struct PlanOverride {
    int32_t blocks;  /* of a replica; fewer where units are then fewer than blocks */
    int32_t threads; /* of a block, at most */
    int32_t
        registers; /* per thread that hold weights, at most: forward 4 a step of contraction, backward 16 */
    int32_t shared; /* bytes of shared memory of a block, at most */
    int32_t replicas, groups, slices, batch;
    int32_t tile;     /* of the footprint's list, from 1 */
    int32_t cluster;  /* blocks of one */
    int32_t exchange; /* of LstmExchange: 1 flags, 2 words */
} PlanOverride;

/* Parses "blocks=4,replicas=2,registers=64,shared=8192" into *o: names of PlanOverride's fields, each at most once, whole
 * numbers from 1; the empty text leaves everything free. EXIT_USAGE: what was found and what it takes. */
int plan_override_parse(const char *text, PlanOverride *o, Error *e);

/* The override in its own text form, "" where all is free. */
enum { PLAN_OVERRIDE_TEXT = 192 };
void plan_override_text(const PlanOverride *o, char *out, size_t size);

/* The environment's PLSTM_PLAN, free where it is not set. EXIT_USAGE as plan_override_parse, naming the variable. */
int plan_override_env(PlanOverride *o, Error *e);

/* One name=number of a list that commas separate, moving *text past it; the number is at least 0. False: it is none. */
bool plan_pair_next(const char **text, char name[32], int64_t *value);

#endif
