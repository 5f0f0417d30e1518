/* footprints: what the planner knows of every variant, from variants.def. Needs no CUDA. */
#include "plan.h"
#include "tiles.h"

#define T(resident, chunk, batch, threads, registers) {resident, chunk, batch, threads, registers},
#define COUNT(tiles)                                  (int)(sizeof tiles / sizeof tiles[0])

#define STEPWISE(name_, summary_)                                                                            \
    const LstmFootprint lstm_footprint_##name_ = {.name = #name_, .summary = summary_};
#define PERSISTENT(name_, packed_, shared_, summary_, forward, backward)                                     \
    static const LstmTile name_##_forward[] = {forward(T)}, name_##_backward[] = {backward(T)};              \
    const LstmFootprint lstm_footprint_##name_ = {                                                           \
        .name = #name_,                                                                                      \
        .summary = summary_,                                                                                 \
        .tile = {name_##_forward, name_##_backward},                                                         \
        .tiles = {COUNT(name_##_forward), COUNT(name_##_backward)},                                          \
        .shared_weights = shared_,                                                                           \
        .packed = packed_,                                                                                   \
    };
#include "variants.def"
#undef STEPWISE
#undef PERSISTENT

const LstmFootprint *const lstm_footprints[] = {
#define STEPWISE(name, summary)                                      &lstm_footprint_##name,
#define PERSISTENT(name, packed, shared, summary, forward, backward) &lstm_footprint_##name,
#include "variants.def"
    0};
