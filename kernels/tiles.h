/* tiles: the compiled instances of each persistent variant. T(resident, chunk, batch, threads,
 * registers) has the members of an LstmTile (plan.h). The kernels instantiate these lists and the
 * planner chooses from them, so the two cannot disagree. */
#ifndef PLSTM_TILES_H
#define PLSTM_TILES_H

/* Without resident weights a thread needs few registers for them, so many batch rows share each
 * weight that is read. */
#define FWD_L2_TILES(T)                                                                            \
    T(0, 8, 4, 256, 255) T(0, 8, 10, 256, 255) T(0, 8, 20, 256, 255) T(0, 8, 2, 640, 96)
#define BWD_L2_TILES(T)                                                                            \
    T(0, 0, 4, 256, 255) T(0, 0, 10, 384, 168) T(0, 0, 20, 256, 255) T(0, 0, 4, 640, 96)
#define FWD_SMEM_TILES(T) FWD_L2_TILES(T)
#define BWD_SMEM_TILES(T) BWD_L2_TILES(T)
/* A thread holds 4 registers per step of contraction forward and 16 backward, and 4 accumulators
 * per batch row. */
#define FWD_REG_TILES(T)                                                                           \
    T(8, 8, 4, 256, 255)                                                                           \
    T(16, 8, 4, 256, 255)                                                                          \
    T(36, 12, 4, 256, 255)                                                                         \
    T(26, 13, 10, 256, 255) T(32, 8, 10, 256, 255) T(16, 8, 20, 256, 255) T(17, 17, 10, 384, 168)
#define BWD_REG_TILES(T)                                                                           \
    T(2, 0, 4, 256, 255)                                                                           \
    T(8, 0, 4, 256, 255)                                                                           \
    T(8, 0, 10, 256, 255) T(9, 0, 10, 256, 255) T(3, 0, 10, 384, 168) T(4, 0, 20, 256, 255)

/* Variant cluster: M(precision, stacked, resident, batch, threads, registers). A lane holds 4
 * registers per resident tile (stacked * resident of them) and 4 accumulators per m tile and 8
 * batch rows; forward holds the accumulators once per chain of cluster.cuh's product. The first two
 * tiles of each list are for H = 650, the others for smaller H. A forward warp has one m tile: more
 * warps read B from shared memory more often than fewer warps with two m tiles each would, but
 * together their registers hold more of w_hh. */
#define FWD_CLUSTER_TILES(M)                                                                       \
    M(BF16, 1, 30, 8, 384, 168)                                                                    \
    M(BF16, 1, 22, 24, 384, 168)                                                                   \
    M(BF16, 1, 13, 8, 512, 128)                                                                    \
    M(BF16, 1, 5, 8, 768, 80)                                                                      \
    M(TF32, 1, 40, 8, 256, 255) M(TF32, 1, 25, 8, 384, 168) M(TF32, 1, 13, 8, 512, 128)
#define BWD_CLUSTER_TILES(M)                                                                       \
    M(BF16, 6, 8, 8, 256, 255)                                                                     \
    M(BF16, 6, 6, 16, 256, 255)                                                                    \
    M(BF16, 1, 10, 8, 512, 128)                                                                    \
    M(BF16, 1, 5, 8, 512, 128) M(TF32, 1, 20, 8, 512, 128) M(TF32, 2, 9, 8, 512, 128)

/* Variant mma, with the same members. A lane holds 4 registers for each of stacked * resident
 * tiles, 4 accumulators for each of stacked * batch / 8 tiles, and the operands that are being
 * loaded. */
#define FWD_MMA_TILES(M)                                                                           \
    M(BF16, 1, 4, 8, 128, 255)                                                                     \
    M(BF16, 4, 6, 8, 256, 255)                                                                     \
    M(BF16, 3, 12, 24, 256, 255)                                                                   \
    M(TF32, 1, 4, 8, 128, 255) M(TF32, 4, 8, 8, 256, 255) M(TF32, 3, 10, 24, 256, 255)
#define BWD_MMA_TILES(M)                                                                           \
    M(BF16, 1, 8, 8, 128, 255)                                                                     \
    M(BF16, 1, 24, 8, 256, 255)                                                                    \
    M(BF16, 4, 8, 24, 256, 255)                                                                    \
    M(TF32, 1, 8, 8, 128, 255) M(TF32, 1, 32, 8, 256, 255) M(TF32, 4, 8, 24, 256, 255)

#endif
