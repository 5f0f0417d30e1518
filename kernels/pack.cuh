/* pack: w_hh (4H,H) -> w_packed (H,H,4), which is [k][unit][gate], in tiles of PACK_UNITS units x 4
 * gates against PACK_K of k. A tile is transposed in shared memory, so that a warp moves 32
 * neighbouring floats on either side. */
#ifndef PLSTM_PACK_CUH
#define PLSTM_PACK_CUH

#include <kernels/dev_memory.cuh>
#include "plan.h"
#include "tensor.cuh"

enum {
    PACK_K = 32,
    PACK_UNITS = 8, /* 4 * PACK_UNITS = 32 floats for a warp, too */
    PACK_THREADS = PACK_K * PACK_UNITS,
    PACK_PITCH = PACK_K + 1,
    PACK_FLOATS = 4 * PACK_UNITS * PACK_PITCH /* in shared memory: [gate][unit][k] */
};

static __host__ __device__ __forceinline__ int64_t pack_tiles(int64_t H)
{
    return plan_div_up(H, PACK_UNITS) * plan_div_up(H, PACK_K);
}

/* The element of a tile that this thread loads, for gate 0. That of the next gate lies H * H
 * elements further on in w_hh and PACK_GATE further on in the tile. */
struct PackElement {
    int64_t at; /* index in w_hh; -1: beyond H */
    int32_t shared;
};
enum { PACK_GATE = PACK_UNITS * PACK_PITCH };

static __device__ __forceinline__ PackElement pack_element(int64_t H, int64_t tile)
{
    int32_t unit = (int32_t)threadIdx.x / PACK_K, k = (int32_t)threadIdx.x % PACK_K;
    int64_t across = plan_div_up(H, PACK_K), row = tile / across * PACK_UNITS + unit,
            column = tile % across * PACK_K + k;
    PackElement e = {row < H && column < H ? row * H + column : -1, unit * PACK_PITCH + k};
    return e;
}

/* Stores the tile from shared memory as [k][unit][gate]. */
static __device__ __forceinline__ void pack_store(const float *tile_floats, int64_t H, int64_t tile,
                                                  float *w_packed)
{
    int32_t gate = (int32_t)threadIdx.x % 4, unit = (int32_t)threadIdx.x % PACK_K / 4;
    int64_t across = plan_div_up(H, PACK_K), row = tile / across * PACK_UNITS + unit;
    for (int32_t k = (int32_t)threadIdx.x / PACK_K; k < PACK_K; k += PACK_UNITS) {
        int64_t column = tile % across * PACK_K + k;
        if (row < H && column < H)
            w_packed[(column * H + row) * 4 + gate] =
                tile_floats[gate * PACK_GATE + unit * PACK_PITCH + k];
    }
}

#if DEV_ARCH == 0 || DEV_ARCH >= 800

enum {
    PACK_ROW_TILES = PACK_UNITS / TENSOR_UNITS, /* row tiles of tensor.h in one tile of this file */
    PACK_K_TILES = PACK_K / 16
};

/* Stores the tile from shared memory as bfloat16 fragments (tensor.h); each of the first warps
 * stores one. What lies beyond H must be zero in the tile. */
static __device__ __forceinline__ void pack_store_tiles(const float *tile_floats, int64_t H,
                                                        int64_t tile, uint4 *w_tiles)
{
    int32_t lane = (int32_t)threadIdx.x & 31, one = (int32_t)threadIdx.x / 32;
    int64_t across = plan_div_up(H, PACK_K), k_tiles = tensor_k_tiles(H, PRECISION_BF16);
    int64_t row = tile / across * PACK_ROW_TILES + one / PACK_K_TILES,
            column = tile % across * PACK_K_TILES + one % PACK_K_TILES;
    if (one >= PACK_ROW_TILES * PACK_K_TILES || row >= tensor_row_tiles(H) || column >= k_tiles)
        return;
    uint32_t w[4];
    for (int i = 0; i < 4; i++) {
        int32_t r = one / PACK_K_TILES * TENSOR_ROWS + lane / 4 + (i & 1) * 8,
                k = one % PACK_K_TILES * 16 + lane % 4 * 2 + (i >> 1) * 8;
        const float *at = tile_floats + (r & 3) * PACK_GATE + (r >> 2) * PACK_PITCH + k;
        w[i] = tensor_pair(at[0], at[1]);
    }
    w_tiles[(row * k_tiles + column) * 32 + lane] = make_uint4(w[0], w[1], w[2], w[3]);
}

#endif

#endif
