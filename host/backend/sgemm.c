#include "sgemm.h"

#if defined(PLSTM_CBLAS)

#include <stdio.h>

#include <cblas.h>

#include "blas.h"

#if defined(PLSTM_CBLAS_BLIS)
extern void bli_thread_set_num_threads(int64_t n);
extern const char *bli_info_get_version_str(void);

const char *sgemm_name(void)
{
    static char name[64];
    snprintf(name, sizeof name, "BLIS %s", bli_info_get_version_str());
    return name;
}

bool sgemm_open(int threads)
{
    (void)threads;
    bli_thread_set_num_threads(1); /* threads per product */
    return true;
}
#else
const char *sgemm_name(void)
{
    static char name[96];
    char version[32] = "";
    sscanf(openblas_get_config(), "OpenBLAS %31s", version);
    snprintf(name, sizeof name, "OpenBLAS %s %s", version, openblas_get_corename());
    return name;
}

bool sgemm_open(int threads)
{
    openblas_set_num_threads(threads);
    return blas_has_room(threads);
}
#endif

void sgemm_run(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
               const float *B, int64_t ldb, float *C, int64_t ldc, float *room)
{
    (void)room;
    cblas_sgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)k, 1.0f, A, (int)lda, B, (int)ldb, 0.0f, C, (int)ldc);
}

#else

#include <stddef.h>
#include <stdio.h>

#include "tile.h"

/* cut() fills CUT_PANELS panels at a time and prefetches CUT_AHEAD rows ahead. */
enum {
    CUT_PANELS = 4,
    CUT_AHEAD = 8 /* rows */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

typedef float Four __attribute__((vector_size(16)));

static inline Four four_load(const float *from)
{
    Four v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* Sets to[k*pitch + j] = from[j*ld + k] for j < n: n rows become columns, four by four. The rows
 * that lie `ahead` rows further on are prefetched. */
static void transpose(const float *from, int64_t ld, int64_t n, int64_t K, float *to, int64_t pitch,
                      int64_t ahead)
{
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *f = from + j * ld, *next = f + ahead * ld;
        int64_t k = 0;
        for (; k + 4 <= K; k += 4) {
            for (int64_t i = 0; i < 4; i++) __builtin_prefetch(next + i * ld + k);
            Four a = four_load(f + k), b = four_load(f + ld + k), c = four_load(f + 2 * ld + k),
                 d = four_load(f + 3 * ld + k);
            Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            Four AB = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                 CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5),
            b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            c = __builtin_shufflevector(AB, CD, 0, 1, 4, 5),
            d = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
            float *t = to + k * pitch + j;
            memcpy(t, &a, sizeof a), memcpy(t + pitch, &b, sizeof b);
            memcpy(t + 2 * pitch, &c, sizeof c), memcpy(t + 3 * pitch, &d, sizeof d);
        }
        for (; k < K; k++)
            for (int64_t i = 0; i < 4; i++) to[k * pitch + j + i] = f[i * ld + k];
    }
    for (; j + 2 <= n; j += 2) {
        const float *f = from + j * ld, *next = f + ahead * ld;
        int64_t k = 0;
        for (; k + 4 <= K; k += 4) {
            for (int64_t i = 0; i < 2; i++) __builtin_prefetch(next + i * ld + k);
            Four a = four_load(f + k), b = four_load(f + ld + k);
            Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                 AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            float *t = to + k * pitch + j;
            memcpy(t, &ab, 8), memcpy(t + pitch, (const char *)&ab + 8, 8);
            memcpy(t + 2 * pitch, &AB, 8), memcpy(t + 3 * pitch, (const char *)&AB + 8, 8);
        }
        for (; k < K; k++) to[k * pitch + j] = f[k], to[k * pitch + j + 1] = f[ld + k];
    }
    for (; j < n; j++)
        for (int64_t k = 0; k < K; k++) to[k * pitch + j] = from[j * ld + k];
}

/* Sets to[(j/width)*K*width + k*width + j%width] = from[k*ld + j] for j < n, a multiple of width:
 * rows are cut into panels, a few panels at a time so that whole cache lines are read. */
static inline void cut(const float *from, int64_t ld, int64_t n, int64_t K, float *to,
                       int64_t width)
{
    for (int64_t j0 = 0; j0 < n; j0 += CUT_PANELS * width) {
        int64_t end = least(n, j0 + CUT_PANELS * width);
        for (int64_t k = 0; k < K; k++) {
            const float *next = from + (k + CUT_AHEAD) * ld;
            for (int64_t j = j0; j < end; j += 16) __builtin_prefetch(next + j);
            for (int64_t j = j0; j < end; j += width)
                memcpy(to + j * K + k * width, from + k * ld + j, (size_t)width * sizeof *to);
        }
    }
}

/* Packs rows first..first+m-1 and terms k0..k0+K-1 of op(A) into panels (k, TILE_ROWS); the last
 * panel may be narrower. */
static void pack_a(bool a_t, const float *A, int64_t lda, int64_t first, int64_t m, int64_t k0,
                   int64_t K, float *to)
{
    if (!a_t) {
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            int64_t rows = least(m - i, TILE_ROWS);
            transpose(A + (first + i) * lda + k0, lda, rows, K, to + i * K, rows, TILE_ROWS);
        }
        return;
    }
    const float *from = A + k0 * lda + first;
    int64_t whole = m / TILE_ROWS * TILE_ROWS, rest = m - whole;
    cut(from, lda, whole, K, to, TILE_ROWS);
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < rest; i++) to[whole * K + k * rest + i] = from[k * lda + whole + i];
}

/* Packs columns first..first+n-1 and terms k0..k0+K-1 of op(B) into panels (k, TILE_WIDTH), padded
 * with zeros. */
static void pack_b(bool b_t, const float *B, int64_t ldb, int64_t first, int64_t n, int64_t k0,
                   int64_t K, float *to)
{
    int64_t whole = n / TILE_WIDTH * TILE_WIDTH, rest = n - whole;
    if (rest) memset(to + whole * K, 0, (size_t)(K * TILE_WIDTH) * sizeof *to);
    if (b_t) {
        const float *from = B + first * ldb + k0;
        for (int64_t j = 0; j < n; j += TILE_WIDTH)
            transpose(from + j * ldb, ldb, least(n - j, TILE_WIDTH), K, to + j * K, TILE_WIDTH,
                      TILE_WIDTH);
        return;
    }
    const float *from = B + k0 * ldb + first;
    cut(from, ldb, whole, K, to, TILE_WIDTH);
    for (int64_t k = 0; k < (rest ? K : 0); k++)
        memcpy(to + whole * K + k * TILE_WIDTH, from + k * ldb + whole, (size_t)rest * sizeof *to);
}

/* Sets C (m,n) to the product of the packed blocks or, with `more`, adds the product to C. */
static void multiply(int64_t m, int64_t n, int64_t K, const float *a, const float *b, float *C,
                     int64_t ldc, bool more)
{
    int64_t tiles = (m + TILE_ROWS - 1) / TILE_ROWS, step = (TILE_WIDTH + tiles - 1) / tiles;
    for (int64_t j = 0; j < n; j += TILE_WIDTH) {
        int64_t columns = least(n - j, TILE_WIDTH);
        const float *panel = b + j * K,
                    *ahead = j + TILE_WIDTH < n ? panel + TILE_WIDTH * K : panel;
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            int64_t rows = least(m - i, TILE_ROWS);
            TileFunction *tile = tile_functions[1][rows];
            const float *next = ahead + i / TILE_ROWS * K * step;
            float *to = C + i * ldc + j;
            for (int64_t r = 0; r < rows; r++)
                __builtin_prefetch(to + r * ldc, 1),
                    __builtin_prefetch(to + r * ldc + TILE_WIDTH - 1, 1);
            if (columns == TILE_WIDTH) {
                tile(K, a + i * K, panel, to, ldc, more, next, step);
            } else {
                float edge[TILE_ROWS * TILE_WIDTH];
                tile(K, a + i * K, panel, edge, TILE_WIDTH, false, next, step);
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t c = 0; c < columns; c++)
                        to[r * ldc + c] =
                            edge[r * TILE_WIDTH + c] + (more ? to[r * ldc + c] : 0.0f);
            }
        }
    }
}

void sgemm_run(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
               const float *B, int64_t ldb, float *C, int64_t ldc, float *room)
{
    float *b = room, *a = room + SGEMM_K * SGEMM_N;
    for (int64_t j = 0; j < n; j += SGEMM_N)
        for (int64_t p = 0; p < k; p += SGEMM_K) {
            int64_t columns = least(n - j, SGEMM_N), terms = least(k - p, SGEMM_K);
            pack_b(b_t, B, ldb, j, columns, p, terms, b);
            for (int64_t i = 0; i < m; i += SGEMM_M) {
                int64_t rows = least(m - i, SGEMM_M);
                pack_a(a_t, A, lda, i, rows, p, terms, a);
                multiply(rows, columns, terms, a, b, C + i * ldc + j, ldc, p > 0);
            }
        }
}

const char *sgemm_name(void)
{
    static char name[48];
    snprintf(name, sizeof name, "own tiles of %d x %d", TILE_ROWS, TILE_WIDTH);
    return name;
}

bool sgemm_open(int threads)
{
    (void)threads;
    return true;
}

#endif
