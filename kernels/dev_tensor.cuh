/* dev_tensor: products on tensor cores, and transposition of 8x8 matrices of 16-bit elements. All
 * 32 lanes of a warp call these functions together.
 *
 * Fragments lie as in the PTX manual. With g = lane / 4 and q = lane % 4, and with the element of
 * the lower column (a, d) or row (b) in the lower half of each register:
 *   bf16  a[0..3]: row g, g + 8, g, g + 8; columns 2q, 2q + 1, for a[2] and a[3] 8 further
 *         b[0..1]: column g; rows 2q, 2q + 1, for b[1] 8 further
 *   tf32  a[0..3]: row g, g + 8, g, g + 8; column q, for a[2] and a[3] 4 further
 *         b[0..1]: column g; row q, for b[1] 4 further
 *   d     d[0], d[1]: row g, columns 2q, 2q + 1; d[2], d[3]: row g + 8 */
#ifndef PLSTM_DEV_TENSOR_CUH
#define PLSTM_DEV_TENSOR_CUH

#include <kernels/dev_memory.cuh>

#if DEV_ARCH == 0 || DEV_ARCH >= 800

/* d (16,8) += a (16,16) * b (16,8) for bfloat16 pairs, accumulated in float32 in an order that the
 * hardware chooses. */
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, "
                 "%6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* d (16,8) += a (16,8) * b (8,8) for float32 words, of which the tensor core uses the sign, the
 * exponent and 10 bits of the mantissa. */
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4],
                                         const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, "
                 "%6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Returns x rounded to the bits that mma_tf32 uses: to nearest, ties away from zero. */
__device__ __forceinline__ unsigned tf32_round(float x)
{
    unsigned v;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(v) : "f"(x));
    return v;
}

/* Transposes an 8x8 matrix in the registers of a warp. A lane passes row lane / 4, columns 2 *
 * (lane % 4) and the next, and receives the same elements of the transpose. */
__device__ __forceinline__ unsigned movmatrix_trans(unsigned x)
{
    unsigned v;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(v) : "r"(x));
    return v;
}

#endif
#endif
