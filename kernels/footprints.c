/* footprints: the facts about every variant that the planner needs, from variants.def. Needs no
 * CUDA. */
#include "plan.h"
#include "tiles.h"

#define T(resident, chunk, batch, threads, registers)                                              \
    {resident, chunk, batch, threads, registers, PRECISION_F32, 0},
/* An instance of a variant with tensor.h's tiles. */
#define M(precision, stacked, resident, batch, threads, registers)                                 \
    {resident, 0, batch, threads, registers, PRECISION_##precision, stacked},
#define COUNT(tiles) (int)(sizeof tiles / sizeof tiles[0])

#define STEPWISE(name_, sm_, toolkit_, summary_)                                                   \
    const LstmFootprint lstm_footprint_##name_ = {.name = #name_,                                  \
                                                  .summary = summary_,                             \
                                                  .kind = KIND_STEPWISE,                           \
                                                  .precisions =                                    \
                                                      1u << PRECISION_F32 | 1u << PRECISION_TF32,  \
                                                  .min_sm = sm_,                                   \
                                                  .toolkit = toolkit_};
#define PERSISTENT(name_, sm_, toolkit_, packed_, shared_, summary_, forward, backward)            \
    static const LstmTile name_##_forward[] = {forward(T)}, name_##_backward[] = {backward(T)};    \
    const LstmFootprint lstm_footprint_##name_ = {                                                 \
        .name = #name_,                                                                            \
        .summary = summary_,                                                                       \
        .tile = {name_##_forward, name_##_backward},                                               \
        .tiles = {COUNT(name_##_forward), COUNT(name_##_backward)},                                \
        .shared_weights = shared_,                                                                 \
        .packed = packed_,                                                                         \
        .kind = KIND_VECTOR,                                                                       \
        .precisions = 1u << PRECISION_F32,                                                         \
        .grid_barrier = 1,                                                                         \
        .min_sm = sm_,                                                                             \
        .toolkit = toolkit_,                                                                       \
    };
#define TENSOR(name_, sm_, toolkit_, kind_, barrier_, precisions_, summary_, forward, backward)    \
    static const LstmTile name_##_forward[] = {forward(M)}, name_##_backward[] = {backward(M)};    \
    const LstmFootprint lstm_footprint_##name_ = {                                                 \
        .name = #name_,                                                                            \
        .summary = summary_,                                                                       \
        .tile = {name_##_forward, name_##_backward},                                               \
        .tiles = {COUNT(name_##_forward), COUNT(name_##_backward)},                                \
        .shared_weights = 1,                                                                       \
        .kind = kind_,                                                                             \
        .precisions = precisions_,                                                                 \
        .grid_barrier = barrier_,                                                                  \
        .reads_tiles = 1,                                                                          \
        .min_sm = sm_,                                                                             \
        .toolkit = toolkit_,                                                                       \
    };
#include "variants.def"
#undef STEPWISE
#undef PERSISTENT
#undef TENSOR

const LstmFootprint *const lstm_footprints[] = {
#define STEPWISE(name, ...)   &lstm_footprint_##name,
#define PERSISTENT(name, ...) &lstm_footprint_##name,
#define TENSOR(name, ...)     &lstm_footprint_##name,
#include "variants.def"
    0};
