/* copies: the copies of w_hh (4H,H) that kernels read, by the definitions of lstm.h. For tests
 * only; both buffers must be zero. */
#ifndef PLSTM_TESTS_COPIES_H
#define PLSTM_TESTS_COPIES_H

#include <stdint.h>
#include <string.h>

#include "host/plan/precision.h"
#include "kernels/tensor.h"

/* LstmForward's w_packed: to (H,H,4). */
static inline void copy_packed(const float *w_hh, int64_t H, float *to)
{
    for (int64_t k = 0; k < H; k++)
        for (int64_t unit = 0; unit < H; unit++)
            for (int64_t gate = 0; gate < 4; gate++)
                to[(k * H + unit) * 4 + gate] = w_hh[(gate * H + unit) * H + k];
}

/* x rounded to nearest even in bfloat16. */
static inline uint16_t copy_bf16(float x)
{
    float rounded = precision_round(PRECISION_BF16, x);
    uint32_t u;
    memcpy(&u, &rounded, sizeof u);
    return (uint16_t)(u >> 16);
}

/* LstmForward's w_tiles: lane 4g + q has row g or g + 8 of 16, columns 2q and 2q + 1 or those plus
 * 8. to: tensor_copy_bytes(H). */
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
