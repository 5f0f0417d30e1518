/* tile: vectors of the CPU's own width, and the product that shares registers with the recurrence
 * and its cell.
 *
 * Vec         One register of floats: 16 of them with AVX-512, 8 with AVX, 4 with SSE2 or NEON.
 *             Vectors wider than the CPU's would be split into parts that pass through the stack.
 * Tile        out (R, 2 vectors) = a (K,R)^T w (K, 2 vectors), for R batch rows. The 2 R sums stay
 *             in registers for all of K; a step of k loads two vectors of w, which serve every row,
 *             and R broadcasts of a. TILE_ROWS is the largest number of rows whose sums leave room
 *             for the two weights and a broadcast.
 * Object code tests/host/test_tile_code.py compiles tile.c for several CPUs, and fails on a tile
 *             whose loop touches the stack. */
#ifndef PLSTM_TILE_H
#define PLSTM_TILE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* clang-format off */
#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 12 };
#define TILE_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif defined(__AVX__)
enum { LANES = 8, TILE_ROWS = 6 };
#define TILE_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#elif defined(__aarch64__)
enum { LANES = 4, TILE_ROWS = 8 };
#define TILE_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#else
enum { LANES = 4, TILE_ROWS = 5 };
#define TILE_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5)
#endif
/* clang-format on */

enum { TILE_WIDTH = 2 * LANES };

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t IVec __attribute__((vector_size(LANES * sizeof(float))));

/* Runs a tile. a, w and out are as described above, for one or two vectors. w is aligned to a
 * vector; rows of `out` are `pitch` floats apart. `more`: the tile adds to out instead of setting
 * it. While it runs, the tile prefetches `step` floats per k starting at `ahead`: its share of the
 * next weights, which lie beyond the second-level cache. */
typedef void TileFunction(int64_t K, const float *a, const float *w, float *out, int64_t pitch,
                          bool more, const float *ahead, int64_t step);

/* The tiles, as [vectors - 1][rows]; the entries of 0 rows are NULL. */
extern TileFunction *const tile_functions[2][TILE_ROWS + 1];

static inline Vec vec_load(const float *from)
{
    Vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void vec_store(float *to, Vec v) { memcpy(to, &v, sizeof v); }

/* Returns x in every lane. `x - 0` folds to x at compile time; `0 + x` does not, since it differs
 * for x = -0. */
static inline Vec vec_all(float x) { return x - (Vec){0}; }

/* Returns in each lane `yes` where pick is all ones, `no` where it is 0. */
static inline Vec vec_select(IVec pick, Vec yes, Vec no)
{
    return (Vec)((pick & (IVec)yes) | (~pick & (IVec)no));
}

#endif
