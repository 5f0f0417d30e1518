/* recurrence: one layer's recurrence on the host and on the device, and the plans by which every
 * variant runs it. */
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

/* The inputs on the host, and the oracle's results in double and in float, with the operands of its
 * products rounded to `precision`. */
typedef struct Tensors {
    LstmPrecision precision;
    float *w_hh, *b_ih, *b_hh, *x_proj, *h0, *c0, *dy, *packed;
    double *gates, *h, *c, *y, *h_masked, *dgates;
    float *plain_gates, *plain_h, *plain_c, *plain_y, *plain_h_masked, *plain_dgates;
    OracleMask output, recurrent;
} Tensors;

Tensors recurrence_tensors(const RecurrenceCase *k);
/* Runs the float loops of x again in another precision. */
void recurrence_rounds(const RecurrenceCase *k, Tensors *x, LstmPrecision precision);

/* Both passes, prepared on the device. */
typedef struct Passes {
    LstmForward forward;
    LstmBackward backward;
} Passes;

Passes recurrence_passes(const RecurrenceCase *k, const Tensors *x);

/* ---- plans ---- */

/* One way to make a plan: an override, and what is changed in the plan that it gives. */
typedef struct PlanCase {
    const char *override;
    int streams; /* stream half of the weights that the plan keeps in shared memory */
    /* Make the plan for this many rows more than there are; if fewer, it runs in ranges of rows. */
    int64_t more_rows;
} PlanCase;

enum { PLAN_CASES = 6 };
const PlanCase *plan_case_of(const LstmVariant *v, int m);

int persistent(const LstmVariant *v);
/* Whether the variant has the precision, and the device what it needs. */
bool runs_here(const LstmVariant *v, LstmPrecision precision);
LstmPrecision first_precision(const LstmVariant *v); /* the one that is used if one suffices */

/* Makes the pass's plan, and its scratch with `epoch` in every barrier word. Returns 0 if there is
 * no such plan. */
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
/* Whether the plans of a variant took every path that it has; with `must` it fails the test if they
 * did not. */
bool seen_all(const LstmVariant *v, const Seen seen[2], bool must);

#endif
