/* Tests masks and initial weights: SPEC 2 and 3's known answers, the published vectors of
 * Philox4x32-10, and librandom123 as reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <Random123/philox.h>

#include "host/store/params.h"
#include "host/base/settings.h"
#include "kernels/philox.h"

#define SPEC_SEED 4886718345u

static void published_vectors(void **state)
{
    (void)state;
    /* These are the kat_vectors of Random123 for philox4x32 with 10 rounds. */
    static const struct {
        uint32_t ctr[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        PhiloxBlock ctr = {{known[i].ctr[0], known[i].ctr[1], known[i].ctr[2], known[i].ctr[3]}};
        PhiloxBlock out = philox4x32_10(ctr, known[i].key[0], known[i].key[1]);
        assert_memory_equal(out.word, known[i].out, sizeof out.word);
    }
}

/* Counters and keys come from another kind of generator, so that all 192 bits vary. */
static void librandom123_agrees(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 100000; i++) {
        uint32_t in[6];
        for (int j = 0; j < 6; j++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            in[j] = (uint32_t)(x >> 16);
        }
        PhiloxBlock ours = philox4x32_10((PhiloxBlock){{in[0], in[1], in[2], in[3]}}, in[4], in[5]);
        philox4x32_ctr_t ctr = {{in[0], in[1], in[2], in[3]}};
        philox4x32_key_t key = {{in[4], in[5]}};
        philox4x32_ctr_t theirs = philox4x32(ctr, key);
        assert_memory_equal(ours.word, theirs.v, sizeof ours.word);
    }
}

static void spec_mask(void **state)
{
    (void)state;
    assert_int_equal(mask_bound(0.35), 1503238553);
    assert_true(mask_bound(1.0) == (uint64_t)1 << 32);
    int sites = sites_count(SITES_NONRECURRENT, 2);
    assert_int_equal(sites, 3);
    assert_int_equal(sites_count(SITES_ALL, 2), 5);
    MaskKey key = mask_key(SPEC_SEED, 5, sites, 1, 0.35);
    PhiloxBlock first = philox_block(key.seed, key.sub, 0);
    static const uint32_t words[4] = {0xdbb6b1a7, 0x9f133a3d, 0x0dc7d6c2, 0x0e9b627e};
    assert_memory_equal(first.word, words, sizeof words);
    static const char *const kept[2] = {"001110001", "011010101"};
    assert_int_equal(mask_pitch(9), 12);
    for (int t = 0; t < 2; t++)
        for (int u = 0; u < 9; u++) {
            unsigned bits = mask_nibble(&key, t, 9, u & ~3);
            assert_int_equal(bits >> (u & 3) & 1, kept[t][u] - '0');
        }
}

static void keep_one_keeps_all(void **state)
{
    (void)state;
    MaskKey key = mask_key(7, 3, 3, 2, 1.0);
    for (int64_t row = 0; row < 2000; row++)
        assert_int_equal(mask_nibble(&key, row, 64, 4 * (row % 16)), 15);
    assert_true(key.scale == 1.0f);
}

/* For each site and step, the number of kept bits is within 5 standard deviations of its mean, and
 * neighbours in every direction (unit, row, site, step, seed) agree as often as independent
 * bits. */
static void kept_share(void **state)
{
    (void)state;
    static const double keeps[] = {0.35, 0.5, 0.8};
    enum { ROWS = 2000, H = 40, N = ROWS * H };
    for (int i = 0; i < 3; i++) {
        double keep = keeps[i], agree = keep * keep + (1 - keep) * (1 - keep);
        MaskKey key = mask_key(1, 10, 3, 1, keep);
        MaskKey others[] = {mask_key(1, 10, 3, 2, keep), mask_key(1, 11, 3, 1, keep),
                            mask_key(2, 10, 3, 1, keep)};
        int kept = 0, same[5] = {0};
        for (int64_t row = 0; row < ROWS; row++)
            for (int64_t u = 0; u < H; u++) {
                int bit = mask_nibble(&key, row, H, u & ~3) >> (u & 3) & 1;
                kept += bit;
                for (int j = 0; j < 3; j++)
                    same[j] += bit == (int)(mask_nibble(&others[j], row, H, u & ~3) >> (u & 3) & 1);
                int64_t next = (u + 1) % H;
                same[3] += bit == (int)(mask_nibble(&key, row, H, next & ~3) >> (next & 3) & 1);
                same[4] += bit == (int)(mask_nibble(&key, row + 1, H, u & ~3) >> (u & 3) & 1);
            }
        assert_true(fabs(kept - N * keep) < 5 * sqrt(N * keep * (1 - keep)));
        for (int j = 0; j < 5; j++)
            assert_true(fabs(same[j] - N * agree) < 5 * sqrt(N * agree * (1 - agree)));
    }
}

static void spec_initial_weights(void **state)
{
    (void)state;
    static const float k0[4] = {-0.0854969695f, -0.0233662333f, -0.0899065062f, 0.0217176918f};
    static const float k1[2] = {0.0443468168f, 0.0279388558f};
    ModelShape shape = {.V_in = 5, .V_out = 5, .H = 3, .L = 1};
    Params p;
    assert_int_equal(params_init(&p, &shape), 0);
    params_draw(&p, SPEC_SEED, 0.1);
    assert_memory_equal(p.data, k0, sizeof k0);
    assert_memory_equal(p.data + p.offset[1], k1, sizeof k1);
    params_free(&p);
}

static void initial_weights_are_uniform(void **state)
{
    (void)state;
    ModelShape shape = {.V_in = 1001, .V_out = 1001, .H = 37, .L = 2};
    Params p;
    assert_int_equal(params_init(&p, &shape), 0);
    params_draw(&p, 3, 0.05);
    int64_t n = p.offset[p.count];
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(fabsf(p.data[i]) <= 0.05f);
        sum += p.data[i], squares += (double)p.data[i] * p.data[i];
    }
    double variance = 0.05 * 0.05 / 3;
    assert_true(fabs(sum / (double)n) < 5 * sqrt(variance / (double)n));
    /* The variance of x^2 for uniform x is (4/45) a^4. */
    assert_true(fabs(squares / (double)n - variance) <
                5 * sqrt(4.0 / 45 / (double)n) * 0.05 * 0.05);
    params_free(&p);
}

static void parameter_names(void **state)
{
    (void)state;
    ModelShape shape = {.V_in = 11, .V_out = 11, .H = 3, .L = 2};
    static const struct {
        const char *name;
        int rank;
        int64_t rows, cols;
    } want[] = {{"encoder.weight", 2, 11, 3},   {"rnn.weight_ih_l0", 2, 12, 3},
                {"rnn.weight_hh_l0", 2, 12, 3}, {"rnn.bias_ih_l0", 1, 12, 0},
                {"rnn.bias_hh_l0", 1, 12, 0},   {"rnn.weight_ih_l1", 2, 12, 3},
                {"rnn.weight_hh_l1", 2, 12, 3}, {"rnn.bias_ih_l1", 1, 12, 0},
                {"rnn.bias_hh_l1", 1, 12, 0},   {"decoder.weight", 2, 11, 3},
                {"decoder.bias", 1, 11, 0}};
    assert_int_equal(params_count(&shape), 11);
    for (int k = 0; k < 11; k++) {
        ParamInfo info = param_info(&shape, k);
        assert_string_equal(info.name, want[k].name);
        assert_int_equal(info.rank, want[k].rank);
        assert_int_equal(info.dim[0], want[k].rows);
        assert_int_equal(info.n, want[k].rows * (want[k].cols ? want[k].cols : 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors),
        cmocka_unit_test(librandom123_agrees),
        cmocka_unit_test(spec_mask),
        cmocka_unit_test(keep_one_keeps_all),
        cmocka_unit_test(kept_share),
        cmocka_unit_test(spec_initial_weights),
        cmocka_unit_test(initial_weights_are_uniform),
        cmocka_unit_test(parameter_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
