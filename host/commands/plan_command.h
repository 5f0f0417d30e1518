/* plan_command: what `plstm plan` and `plstm variants` print. */
#ifndef PLSTM_PLAN_COMMAND_H
#define PLSTM_PLAN_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "host/base/error.h"

/* The paper's model, or all of them. */
typedef enum PlanPreset { PLAN_SMALL, PLAN_MEDIUM, PLAN_LARGE, PLAN_ALL } PlanPreset;
#define PLAN_PRESETS "small|medium|large|all"

#define PLAN_PRECISIONS "f32|tf32|bf16|all"

typedef struct PlanOptions {
    const char *device; /* a profile's name, "all" of them, or NULL: the present GPU or, without one, H200 */
    int64_t preset;     /* PlanPreset */
    int64_t hidden, batch, seq; /* 0: the preset's */
    int64_t precision;          /* of LstmPrecision, or PRECISIONS: all */
    const char *kernel;         /* NAME, FWD/BWD, or NULL or "auto": every variant in both directions */
    const char *plan;           /* override (plan_override_parse), or NULL */
    const char *constants;      /* file of constants that beat the built-in ones, or NULL */
    bool json;                  /* an object per line in place of tables */
} PlanOptions;

/* The table, or lines, of every variant and direction that is asked for, each a plan or the sentence that says what ran out.
 * EXIT_USAGE, EXIT_BAD_DATA: the first fault of the options. EXIT_NO_DEVICE: nothing of what was asked for has a plan. */
int plan_command(const PlanOptions *o, FILE *out, Error *e);

/* Every variant of the recurrence, and whether this build can run it. */
int variants_command(FILE *out, Error *e);

#endif
