/* Compares sgemm_run with sums in double, at sizes around every block's edge, in all four layouts,
 * and with rows longer than their content.
 *
 * Bound  Each of the k products and each of the k additions rounds by at most u = 2^-24 of the sum
 *        of magnitudes so far. So, in any order of addition, the error is at most 2 * k * u of the
 *        sum of |a * b|. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/backend/sgemm.h"
#include "kernels/philox.h"

enum { GAP = 3 /* floats after each row, which must not be written */ };

static const struct {
    int64_t m, n, k;
} sizes[] = {
    {1, 1, 1},     {3, 5, 7},     {6, 16, 4},   {12, 32, 9},    {13, 33, 383},      {7, 17, 385},
    {144, 16, 11}, {145, 47, 13}, {289, 1, 40}, {1, 4097, 770}, {5, 8200, 2 * 384},
};

static float *random_rows(int64_t rows, int64_t columns, uint64_t stream)
{
    int64_t n = rows * (columns + GAP);
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)philox_block(1, stream, (uint64_t)i / 4).word[i % 4] * 0x1p-31f - 1;
    return x;
}

static void follows_double(void **state)
{
    (void)state;
    float *room = aligned_alloc(64, (SGEMM_ROOM + 16) * sizeof *room);
    assert_true(sgemm_open(1));
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int layout = 0; layout < 4; layout++) {
            bool a_t = layout & 1, b_t = layout & 2;
            int64_t m = sizes[s].m, n = sizes[s].n, k = sizes[s].k;
            int64_t lda = (a_t ? m : k) + GAP, ldb = (b_t ? k : n) + GAP, ldc = n + GAP;
            float *A = random_rows(a_t ? k : m, a_t ? m : k, 1),
                  *B = random_rows(b_t ? n : k, b_t ? k : n, 2);
            float *C = random_rows(m, n, 3), *before = random_rows(m, n, 3);
            sgemm_run(a_t, b_t, m, n, k, A, lda, B, ldb, C, ldc, room);
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < ldc; j++) {
                    if (j >= n) {
                        assert_true(C[i * ldc + j] == before[i * ldc + j]);
                        continue;
                    }
                    double sum = 0, magnitude = 0;
                    for (int64_t p = 0; p < k; p++) {
                        double term = (double)A[a_t ? p * lda + i : i * lda + p] *
                                      (double)B[b_t ? j * ldb + p : p * ldb + j];
                        sum += term, magnitude += fabs(term);
                    }
                    assert_true(fabs((double)C[i * ldc + j] - sum) <=
                                2 * (double)k * 0x1p-24 * magnitude);
                }
            free(A), free(B), free(C), free(before);
        }
    free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
