/* recurrence: one layer's recurrence on the host and on the device, and the plans by which every variant runs it. */
#ifndef PLSTM_TESTS_RECURRENCE_H
#define PLSTM_TESTS_RECURRENCE_H

#include "fixture.h"

enum { NO_SITES, OUTPUT_SITE, ALL_SITES };

typedef struct Recurrence {
    int64_t T, B, H;
    double keep;
    int sites;
} Recurrence;

enum { RECURRENCES = 15 };
extern const Recurrence recurrences[RECURRENCES];

/* What goes in, on the host; and what the oracle makes of it, in double and in float with the operands of its products rounded to
 * `precision`. */
typedef struct Tensors {
    LstmPrecision precision;
    float *w_hh, *b_ih, *b_hh, *x_proj, *h0, *c0, *dy, *packed;
    double *gates, *h, *c, *y, *h_masked, *dgates;
    float *plain_gates, *plain_h, *plain_c, *plain_y, *plain_h_masked, *plain_dgates;
    OracleMask output, recurrent;
} Tensors;

Tensors recurrence_tensors(const Recurrence *k);
/* The float loops of x anew, in another precision. */
void recurrence_rounds(const Recurrence *k, Tensors *x, LstmPrecision precision);

/* Both passes, ready to run on the device. */
typedef struct Passes {
    LstmForward forward;
    LstmBackward backward;
} Passes;

Passes recurrence_passes(const Recurrence *k, const Tensors *x);

/* ---- plans ---- */

/* A way to make a plan. */
typedef struct Making {
    const char *override;
    int streams; /* half of the weights that the plan keeps in shared memory are to be streamed */
    /* The plan is for so many rows more than there are; fewer: it runs in ranges of them. */
    int64_t more_rows;
} Making;

enum { MAKINGS = 6 };
const Making *making_of(const LstmVariant *v, int m);

int persistent(const LstmVariant *v);
/* Whether the variant has the precision, and the device what it needs. */
bool runs_here(const LstmVariant *v, LstmPrecision precision);
LstmPrecision first_precision(const LstmVariant *v); /* that it runs in where one has to do */

/* The pass's plan, its scratch with `epoch` in every barrier word. 0: that making has no plan. */
int launch_made(const LstmVariant *v, const LstmShape *of, int backward, const Making *m,
                uint32_t epoch, LstmPlan *plan, LstmLaunch *launch);

/* ---- one case ---- */

/* What the plans that were run have in them, by variant and direction. */
typedef struct Seen {
    int runs, ranges, ragged, passes, replicas, groups, slices, chunks, rounds, resident, shared,
        mixed, streamed;
    int clusters;  /* bit per size */
    int exchanges; /* bit per LstmExchange */
} Seen;

/* What runs, for a comparison that fails. */
void told(const char *what, const LstmVariant *v, LstmPrecision precision, const Recurrence *k,
          const Making *m, const LstmPlan *plan);
/* One variant in both directions by one making. */
void recurrence_case(const LstmVariant *v, const Recurrence *k, const Tensors *x, const Making *m,
                     Seen seen[2]);
/* Whether the plans of a variant took every path that it has; `must`: fails the test where they did not. */
bool seen_all(const LstmVariant *v, const Seen seen[2], bool must);

#endif
