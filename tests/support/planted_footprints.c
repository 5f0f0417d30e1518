/* planted_footprints: kernels/footprints.c with the footprints of planted_variants.c's four
 * variants, in the same order. */
#include "kernels/plan.h"

#define lstm_footprints true_footprints
#include "kernels/footprints.c"
#undef lstm_footprints

#define PLANTED(name_)                                                                             \
    const LstmFootprint planted_footprint_##name_ = {.name = #name_,                               \
                                                     .summary = "for tests",                       \
                                                     .kind = KIND_STEPWISE,                        \
                                                     .precisions = 1u << PRECISION_F32,            \
                                                     .min_sm = 35,                                 \
                                                     .toolkit = 11080};
PLANTED(wrong)
PLANTED(hangs)
PLANTED(ends)
PLANTED(unready)

const LstmFootprint *const lstm_footprints[] = {
#define STEPWISE(name, ...)   &lstm_footprint_##name,
#define PERSISTENT(name, ...) &lstm_footprint_##name,
#define TENSOR(name, ...)     &lstm_footprint_##name,
#include "kernels/variants.def"
    &planted_footprint_wrong, &planted_footprint_hangs, &planted_footprint_ends,
    &planted_footprint_unready, 0};
