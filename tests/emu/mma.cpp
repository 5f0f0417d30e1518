/* The emulated mma.sync, ldmatrix and movmatrix: all 32 lanes meet, and the last one computes for
 * all. Fragments have the layouts of the PTX manual; products are exact and summed in double, so
 * that each result is rounded once. */
#include <math.h>
#include <string.h>

#include "core.h"

struct Mma {
    EmuLane lane; /* must be first, since the meeting passes this address */
    float *d;
    const unsigned *a, *b;
};

struct Ldmatrix {
    EmuLane lane;
    unsigned *r;
    int matrices, transposed;
    const unsigned char *row;
    uintptr_t pc;
};

static void need_arch(int arch, const char *what, const char *file, int line)
{
    if (emu_device_arch() < arch)
        emu_fault(cudaErrorNoKernelImageForDevice, "%s at %s:%d needs sm_%d, this device is sm_%d",
                  what, file, line, arch / 10, emu_device_arch() / 10);
}

static float from_bits(unsigned bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Computes d += a * b with a (16,K), b (K,8) and d (16,8). kernels/dev_tensor.cuh lists the rows
 * and columns of each register. */
static void mma_run(Warp *w, int op)
{
    enum { M = 16, N = 8 };
    int K = op == EMU_MMA_BF16 ? 16 : 8;
    float a[M][16], b[16][N];
    for (int lane = 0; lane < 32; lane++) {
        const Mma *x = (const Mma *)(const void *)w->lane[lane]->operand;
        int g = lane / 4, q = lane % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + i % 2 * 8;
            if (op == EMU_MMA_BF16) {
                int k = 2 * q + i / 2 * 8;
                a[row][k] = from_bits(x->a[i] << 16);
                a[row][k + 1] = from_bits(x->a[i] & 0xffff0000u);
            } else {
                a[row][q + i / 2 * 4] = from_bits(x->a[i] & 0xffffe000u);
            }
        }
        for (int i = 0; i < 2; i++) {
            if (op == EMU_MMA_BF16) {
                int k = 2 * q + i * 8;
                b[k][g] = from_bits(x->b[i] << 16);
                b[k + 1][g] = from_bits(x->b[i] & 0xffff0000u);
            } else {
                b[q + i * 4][g] = from_bits(x->b[i] & 0xffffe000u);
            }
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        float *d = ((const Mma *)(const void *)w->lane[lane]->operand)->d;
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
            double sum = d[i];
            for (int k = 0; k < K; k++) sum += (double)a[row][k] * b[k][column];
            d[i] = (float)sum;
        }
    }
}

static void ldmatrix_run(Warp *w)
{
    for (int lane = 0; lane < 32; lane++) {
        Thread *t = w->lane[lane];
        const Ldmatrix *x = (const Ldmatrix *)(const void *)t->operand;
        for (int m = 0; m < x->matrices; m++) {
            unsigned short pair[2];
            for (int i = 0; i < 2; i++) {
                /* The pair of elements lies in a row or, transposed, in a column. */
                int near = lane / 4, far = 2 * (lane % 4) + i;
                const Thread *source = w->lane[8 * m + (x->transposed ? far : near)];
                const unsigned char *row = ((const Ldmatrix *)(const void *)source->operand)->row;
                const unsigned char *at = row + 2 * (x->transposed ? near : far);
                RACE(race_plain(t, at, 2, false, x->pc));
                memcpy(&pair[i], at, 2);
            }
            x->r[m] = pair[0] | (unsigned)pair[1] << 16;
        }
    }
}

static void movmatrix_run(Warp *w)
{
    unsigned short m[8][8];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 2; i++)
            m[lane / 4][2 * (lane % 4) + i] =
                (unsigned short)(w->lane[lane]->operand->in >> (16 * i));
    for (int lane = 0; lane < 32; lane++)
        w->lane[lane]->operand->out =
            m[2 * (lane % 4)][lane / 4] | (unsigned)m[2 * (lane % 4) + 1][lane / 4] << 16;
}

void tensor_run(Warp *w, int op)
{
    if (op == EMU_LDMATRIX) ldmatrix_run(w);
    else if (op == EMU_MOVMATRIX) movmatrix_run(w);
    else mma_run(w, op);
}

extern "C" void emu_mma(int op, float *d, const unsigned *a, const unsigned *b, const char *file,
                        int line)
{
    need_arch(800, "mma.sync", file, line);
    Mma x = {{}, d, a, b};
    emu_warp_op(op, 0xffffffffu, &x.lane, file, line);
}

extern "C" void emu_ldmatrix(unsigned *r, int matrices, const void *row, int transposed,
                             const char *file, int line)
{
    Thread *t = emu_thread;
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    need_arch(750, "ldmatrix", file, line);
    if ((int)(t->index % 32) < 8 * matrices) {
        if (((uintptr_t)row & 15) != 0)
            emu_fault(cudaErrorMisalignedAddress,
                      "ldmatrix of a misaligned row: %s names %s at %s:%d", emu_who(t).c_str(),
                      arena_describe(row).c_str(), file, line);
        if ((size_t)((const unsigned char *)row - t->block->shared) >= SHARED_WINDOW)
            emu_fault(cudaErrorIllegalAddress,
                      "ldmatrix reads the block's own shared memory: %s names %s at %s:%d",
                      emu_who(t).c_str(), arena_describe(row).c_str(), file, line);
    }
    Ldmatrix x = {{}, r, matrices, transposed, (const unsigned char *)row, pc};
    emu_warp_op(EMU_LDMATRIX, 0xffffffffu, &x.lane, file, line);
}

extern "C" unsigned emu_movmatrix(unsigned x, const char *file, int line)
{
    need_arch(750, "movmatrix", file, line);
    return (unsigned)emu_warp_word(EMU_MOVMATRIX, 0xffffffffu, x, 0, 32, file, line);
}

extern "C" unsigned emu_tf32_round(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return 0x7fffffffu;
    return isinf(x) ? bits : (bits + 0x1000u) & 0xffffe000u;
}
