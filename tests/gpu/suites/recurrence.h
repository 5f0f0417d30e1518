/* recurrence: one layer's recurrence on the host and on the device, and the plans with which every
 * variant runs it. Memory belongs to the fixture and lives until release. */
#ifndef PLSTM_TESTS_RECURRENCE_H
#define PLSTM_TESTS_RECURRENCE_H

#include "fixture.h"

enum { NO_SITES, OUTPUT_SITE, ALL_SITES };

typedef struct RecurrenceCase {
    int64_t T, B, H;
    double keep;
    int sites;
} RecurrenceCase;

enum { RECURRENCE_CASES = 15 };
extern const RecurrenceCase recurrence_cases[RECURRENCE_CASES];

/* The inputs on the host, and the oracle's results in double and in float. The operands of the
 * float loops' products are rounded to `precision`. */
typedef struct Tensors {
    LstmPrecision precision;
    float *w_hh, *b_ih, *b_hh, *x_proj, *h0, *c0, *dy, *packed;
    double *gates, *h, *c, *y, *h_masked, *dgates;
    float *plain_gates, *plain_h, *plain_c, *plain_y, *plain_h_masked, *plain_dgates;
    OracleMask output, recurrent;
} Tensors;

Tensors recurrence_tensors(const RecurrenceCase *k);
/* Runs the oracle's float loops again in another precision and replaces x's plain_* results. */
void recurrence_rounds(const RecurrenceCase *k, Tensors *x, LstmPrecision precision);

/* Both passes, prepared on the device. */
typedef struct Passes {
    LstmForward forward;
    LstmBackward backward;
} Passes;

Passes recurrence_passes(const RecurrenceCase *k, const Tensors *x);

/* ---- plans ---- */

/* One way to make a plan: an override, and changes to the plan that results from it. */
typedef struct PlanCase {
    const char *override;
    int streams; /* whether to stream half of the weights that the plan keeps in shared memory */
    /* The plan is made for this many rows more than there are. With a negative number it runs in
     * ranges of rows. */
    int64_t more_rows;
} PlanCase;

enum { PLAN_CASES = 6 };
const PlanCase *plan_case_of(const LstmVariant *v, int m);

int persistent(const LstmVariant *v);
/* Returns whether the variant computes in the precision and the device has what it needs. */
bool runs_here(const LstmVariant *v, LstmPrecision precision);
/* Returns the precision for tests that use only one. */
LstmPrecision first_precision(const LstmVariant *v);

/* Makes the pass's plan, and the launch with its scratch, which has `epoch` in every barrier word.
 * Returns 0 if no such plan exists. */
int launch_plan_case(const LstmVariant *v, const LstmShape *of, int backward, const PlanCase *m,
                     uint32_t epoch, LstmPlan *plan, LstmLaunch *launch);

/* ---- one case ---- */

/* The paths that the plans run so far have taken, by variant and direction. */
typedef struct Seen {
    int runs, ranges, ragged, passes, replicas, groups, slices, chunks, rounds, resident, shared,
        mixed, streamed;
    int in_warp;   /* forward plans whose warps add up their slices */
    int clusters;  /* one bit per size */
    int exchanges; /* one bit per LstmExchange */
} Seen;

/* Describes the running case, for the message of a failing comparison. */
void told(const char *what, const LstmVariant *v, LstmPrecision precision, const RecurrenceCase *k,
          const PlanCase *m, const LstmPlan *plan);
/* Runs one variant in both directions with one kind of plan. */
void check_recurrence(const LstmVariant *v, const RecurrenceCase *k, const Tensors *x,
                      const PlanCase *m, Seen seen[2]);
/* Returns whether the plans of a variant took every path that it has; with `must` the test fails if
 * they did not. */
bool seen_all(const LstmVariant *v, const Seen seen[2], bool must);

#endif
