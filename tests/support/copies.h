/* copies: the packed copies of w_hh (4H,H) that kernels read, made in plain loops by the
 * definitions of lstm.h. For tests only. The caller owns all buffers and zeroes the destination,
 * since padding is not written. */
#ifndef PLSTM_TESTS_COPIES_H
#define PLSTM_TESTS_COPIES_H

#include <stdint.h>
#include <string.h>

#include "host/plan/precision.h"
#include "kernels/tensor.h"

/* Writes LstmForward's w_packed to `to` (H,H,4): the four gates' weights of one k and one unit are
 * adjacent. */
static inline void copy_packed(const float *w_hh, int64_t H, float *to)
{
    for (int64_t k = 0; k < H; k++)
        for (int64_t unit = 0; unit < H; unit++)
            for (int64_t gate = 0; gate < 4; gate++)
                to[(k * H + unit) * 4 + gate] = w_hh[(gate * H + unit) * H + k];
}

/* Returns the bits of x rounded to bfloat16, to nearest, ties to even. */
static inline uint16_t copy_bf16(float x)
{
    float rounded = precision_round(PRECISION_BF16, x);
    uint32_t u;
    memcpy(&u, &rounded, sizeof u);
    return (uint16_t)(u >> 16);
}

/* Writes LstmForward's w_tiles to `to`, which has tensor_copy_bytes(H) bytes: lane 4g + q holds row
 * g or g + 8 of a tile's 16, and columns 2q and 2q + 1 or those plus 8. */
static inline void copy_tiles(const float *w_hh, int64_t H, uint16_t *to)
{
    int64_t rows = tensor_row_tiles(H), across = tensor_k_tiles(H, PRECISION_BF16);
    for (int64_t r = 0; r < 16 * rows; r++)
        for (int64_t k = 0; k < 16 * across; k++) {
            int64_t g = r % 8, q = k % 8 / 2, word = (k % 16 / 8) * 2 + r % 16 / 8;
            int64_t at = (((r / 16 * across + k / 16) * 32 + 4 * g + q) * 4 + word) * 2 + k % 2;
            if (r / 4 < H && k < H) to[at] = copy_bf16(w_hh[(r % 4 * H + r / 4) * H + k]);
        }
}

#endif
