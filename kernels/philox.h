/* philox: counter-based random bits, Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011), and the two pure functions that the program draws with
 * them: dropout masks (SPEC 2) and initial weights (SPEC 3).
 *
 * This is the host's counterpart of cuRAND's `curand_Philox4x32_10`; tests check that they agree
 * bit for bit. Plain C11 that also compiles as C++ and CUDA; it has no state. */
#ifndef PLSTM_PHILOX_H
#define PLSTM_PHILOX_H

#include <stdint.h>

typedef struct PhiloxBlock {
    uint32_t word[4];
} PhiloxBlock;

/* Returns ten rounds on the counter `ctr` under the key (key0, key1). */
static inline PhiloxBlock philox4x32_10(PhiloxBlock ctr, uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * ctr.word[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * ctr.word[2];
        PhiloxBlock next = {{(uint32_t)(p1 >> 32) ^ ctr.word[1] ^ key0, (uint32_t)p1,
                             (uint32_t)(p0 >> 32) ^ ctr.word[3] ^ key1, (uint32_t)p0}};
        ctr = next;
        key0 += 0x9E3779B9u; /* golden ratio */
        key1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    return ctr;
}

/* Returns block q of subsequence sub: the words of cuRAND's curand_init(seed, sub, 4 * q) and four
 * calls of curand(). */
static inline PhiloxBlock philox_block(uint64_t seed, uint64_t sub, uint64_t q)
{
    PhiloxBlock ctr = {{(uint32_t)q, (uint32_t)(q >> 32), (uint32_t)sub, (uint32_t)(sub >> 32)}};
    return philox4x32_10(ctr, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* ---- dropout masks, SPEC 2 ---- */

/* The values that determine the mask of one site in one minibatch. bound = floor(keep * 2^32); 2^32
 * keeps everything. */
typedef struct MaskKey {
    uint64_t seed;
    uint64_t sub;   /* step * sites + site */
    uint64_t bound; /* a unit is kept iff its word < bound */
    /* 1/keep, rounded once to float32; the reference backend uses 1/keep in double. */
    float scale;
} MaskKey;

static inline uint64_t mask_bound(double keep) { return (uint64_t)(keep * 4294967296.0); }

static inline MaskKey mask_key(uint64_t seed, int64_t step, int sites, int site, double keep)
{
    MaskKey k = {seed, (uint64_t)step * (uint64_t)sites + (uint64_t)site, mask_bound(keep),
                 (float)(1.0 / keep)};
    return k;
}

/* Returns H rounded up to a multiple of 4, which is the row pitch of element indices. */
static inline int64_t mask_pitch(int64_t H) { return (H + 3) & ~(int64_t)3; }

/* Returns the kept bits of units u to u + 3 (u a multiple of 4) of row t * B + b: bit i is set iff
 * unit u + i is kept. */
static inline unsigned mask_nibble(const MaskKey *k, int64_t row, int64_t H, int64_t u)
{
    PhiloxBlock w = philox_block(k->seed, k->sub, (uint64_t)(row * mask_pitch(H) + u) >> 2);
    return (unsigned)(w.word[0] < k->bound) | (unsigned)(w.word[1] < k->bound) << 1 |
           (unsigned)(w.word[2] < k->bound) << 2 | (unsigned)(w.word[3] < k->bound) << 3;
}

/* ---- initial weights, SPEC 3 ---- */

/* Returns four consecutive elements 4q to 4q + 3 of tensor number k, uniform in [-init, init]. */
static inline void init_four(uint64_t seed, uint32_t k, uint64_t q, double init, float out[4])
{
    PhiloxBlock w = philox_block(seed, (uint64_t)0x494E4954u << 32 | k, q);
    for (int i = 0; i < 4; i++) {
        int64_t centred = 2 * (int64_t)w.word[i] + 1 - ((int64_t)1 << 32);
        out[i] = (float)((double)centred * (init * 0x1p-32));
    }
}

#endif
