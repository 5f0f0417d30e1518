#include "tile.h"

#include <stddef.h>

/* An array that is only indexed by constants is kept in registers. */
#define EACH_ROW _Pragma("GCC unroll 16")

#define TILE(R, V)                                                                                 \
    static void tile_##R##x##V(int64_t K, const float *a, const float *w, float *out,              \
                               int64_t pitch, bool more, const float *ahead, int64_t step)         \
    {                                                                                              \
        Vec sum[R][V];                                                                             \
        EACH_ROW for (int r = 0; r < R; r++) for (int v = 0; v < V; v++) sum[r][v] = (Vec){0};     \
        for (int64_t k = 0; k < K; k++, a += R, w += V * LANES, ahead += step) {                   \
            Vec wk[V];                                                                             \
            for (int v = 0; v < V; v++) wk[v] = *(const Vec *)(w + v * LANES);                     \
            __builtin_prefetch(ahead);                                                             \
            EACH_ROW for (int r = 0; r < R; r++)                                                   \
            {                                                                                      \
                Vec ar = vec_all(a[r]);                                                            \
                for (int v = 0; v < V; v++) sum[r][v] += ar * wk[v];                               \
            }                                                                                      \
        }                                                                                          \
        EACH_ROW for (int r = 0; r < R; r++) for (int v = 0; v < V; v++)                           \
        {                                                                                          \
            float *to = out + r * pitch + v * LANES;                                               \
            vec_store(to, more ? vec_load(to) + sum[r][v] : sum[r][v]);                            \
        }                                                                                          \
    }
#define TILES(R) TILE(R, 1) TILE(R, 2)
TILE_EACH_ROWS(TILES)

#define NARROW(R) tile_##R##x1,
#define WIDE(R)   tile_##R##x2,
TileFunction *const tile_functions[2][TILE_ROWS + 1] = {{NULL, TILE_EACH_ROWS(NARROW)},
                                                        {NULL, TILE_EACH_ROWS(WIDE)}};
