/* The emulator's counterpart of kernels/dev_tensor.cuh, which describes each function, and in
 * addition ldmatrix. */
#ifndef EMU_DEV_TENSOR_CUH
#define EMU_DEV_TENSOR_CUH

#include <kernels/dev_memory.cuh>

#if DEV_ARCH >= 800
EMU_INLINE void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMU_AT)
{
    emu_mma(EMU_MMA_BF16, d, a, b, file, line);
}
EMU_INLINE void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMU_AT)
{
    emu_mma(EMU_MMA_TF32, d, a, b, file, line);
}
EMU_INLINE unsigned tf32_round(float x) { return emu_tf32_round(x); }
#endif

#if DEV_ARCH >= 750
/* Loads N (1, 2 or 4) 8x8 matrices from shared memory. Lane 8 * k + i gives the address of row i of
 * matrix k (16 bytes, a multiple of 16); the addresses of lanes from 8 * N on are ignored. r[k]
 * receives two elements of matrix k: row lane / 4, columns 2 * (lane % 4) and the next. */
template <int N> EMU_INLINE void ldmatrix(unsigned (&r)[N], const void *row, EMU_AT)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
    emu_ldmatrix(r, N, row, 0, file, line);
}

/* The same with each matrix transposed: r[k] receives the elements of column lane / 4, rows
 * 2 * (lane % 4) and the next. */
template <int N> EMU_INLINE void ldmatrix_trans(unsigned (&r)[N], const void *row, EMU_AT)
{
    static_assert(N == 1 || N == 2 || N == 4, "ldmatrix loads 1, 2 or 4 matrices");
    emu_ldmatrix(r, N, row, 1, file, line);
}
EMU_INLINE unsigned movmatrix_trans(unsigned x, EMU_AT) { return emu_movmatrix(x, file, line); }
#endif

#endif
