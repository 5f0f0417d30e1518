/* Tests the device side: shuffles, votes, reductions, atomics, barriers, groups, shared memory,
 * small arithmetic, also under many random schedules, since the results must not depend on the
 * order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda_runtime_api.h"
#include "emu.h"
#include "device_kernels.h"

enum { WORDS = 64, TENSOR_WORDS = 512, SEEDS = 20 };

static void run(cudaError_t (*kernel)(unsigned *, cudaStream_t), const unsigned *start,
                unsigned *out, unsigned long long seed, size_t words = WORDS)
{
    void *p = nullptr;
    emu_seed(seed);
    assert_int_equal(cudaMalloc(&p, words * 4), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, start, words * 4, cudaMemcpyHostToDevice), cudaSuccess);
    cudaError_t launched = kernel((unsigned *)p, nullptr),
                copied = cudaMemcpy(out, p, words * 4, cudaMemcpyDeviceToHost);
    if (*emu_report()) print_message("%s\n", emu_report());
    assert_int_equal(launched, cudaSuccess);
    assert_int_equal(copied, cudaSuccess);
    assert_int_equal(cudaFree(p), cudaSuccess);
    emu_seed(0);
}

static void test_warp_ops(void **)
{
    const unsigned zero[WORDS] = {0};
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        unsigned out[WORDS];
        run(kernel_warp_ops, zero, out, seed);
        for (unsigned warp = 0; warp < 2; warp++) {
            const unsigned want[] = {27 + warp,
                                     3 + warp,
                                     9 + warp,
                                     15 + warp, /* no lane is 6 below lane 5: its own value */
                                     15 + warp,
                                     21 + warp,
                                     63 + warp,
                                     0x49249249u,
                                     1,
                                     0,
                                     0xffu,
                                     0xffffffffu + 1u,
                                     0,
                                     496,
                                     (unsigned)-10,
                                     (unsigned)-9,
                                     0, /* 3 - 3: as unsigned numbers, wrapped ones are larger */
                                     0x40,
                                     31,
                                     0,
                                     4,
                                     1u << 6,
                                     0xaaaau,
                                     16,
                                     0xffffffffu,
                                     3 + warp + 5000u + warp * 400000u,
                                     7};
            for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
                /* Word 19, the xor of 5 * lane over 32 lanes, is compared below. Word 24 is
                 * __activemask, which may differ. */
                if (i != 19 && i != 24) assert_int_equal(out[warp * 32 + i], want[i]);
            assert_true(out[warp * 32 + 24] & 1u << 5);
            unsigned x = 0;
            for (unsigned lane = 0; lane < 32; lane++) x ^= lane * 5;
            assert_int_equal(out[warp * 32 + 19], x);
        }
    }
}

static void test_atomics(void **)
{
    unsigned start[WORDS] = {0};
    start[12] = 1000;
    start[15] = 0xffffffffu;
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        unsigned out[WORDS];
        run(kernel_atomics, start, out, seed);
        float f;
        double d;
        unsigned long long u;
        memcpy(&f, &out[2], sizeof f);
        memcpy(&d, &out[4], sizeof d);
        memcpy(&u, &out[6], sizeof u);
        assert_int_equal(out[0], 2016);
        assert_int_equal((int)out[1], -64);
        assert_true(f == 32.0f);
        assert_true(d == 16.0);
        assert_true(u == 1ull << 36);
        assert_int_equal((int)out[8], -128);
        assert_int_equal(out[9], 63);
        assert_int_equal((int)out[10], 0);
        assert_int_equal((int)out[11], -63);
        assert_int_equal(out[12], 37);
        assert_int_equal(out[13], 64 % 10);
        assert_int_equal(out[14], 6); /* 0, 9, 8, ... 0, 9: period 10, 64 steps down */
        assert_int_equal(out[15], 0);
        assert_int_equal(out[16], 0xffffffffu);
        assert_int_equal(out[17], 0);
        assert_int_equal(out[18], 0);
        assert_int_equal(out[19], 77);
        assert_int_equal(out[20], 0);
        assert_int_equal(out[22], 0);
        assert_int_equal(out[21], 8);
        assert_int_equal(out[23], 128);
        assert_int_equal(out[24], 9);
        memcpy(&f, &out[25], sizeof f);
        assert_true(f == 1.5f);
    }
}

static void test_blocks(void **)
{
    const unsigned zero[WORDS] = {0};
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        unsigned out[WORDS];
        run(kernel_blocks, zero, out, seed);
        const unsigned want[] = {720, 4320, 1, 2, 3, 1, 1, 96, 8, 1, 0, 231, 422, 1, 6};
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) assert_int_equal(out[i], want[i]);
    }
}

static void test_memory(void **)
{
    const unsigned zero[WORDS] = {0};
    unsigned out[WORDS];
    emu_check_uninitialised(0); /* the kernel reads the poison */
    run(kernel_memory, zero, out, 0);
    emu_check_uninitialised(1);
    assert_int_equal(out[0], 1);
    assert_int_equal(out[1], 7);
    assert_int_equal(out[2], 48);
    assert_int_equal(out[3], 10);
    assert_int_equal(out[4], 0x3e00);
    assert_int_equal(out[5], 0xc010);
    assert_int_equal(out[6], 12);
    assert_int_equal(out[7], 0xdbb6b1a7u); /* SPEC.md section 2: sub = step 5 * 3 sites + site 1 */
    assert_int_equal(out[8], 0x9f133a3du);
    assert_int_equal(out[9], 0xdbb6b1a7u);
    assert_int_equal(out[10], 1);
    assert_int_equal(out[11], 8 + 3100 + 40000);
    assert_int_equal(out[12], 3 + 8);
    assert_int_equal(out[13], 0x77441100u);
    assert_int_equal(out[14], 10);
}

static int a_of(int row, int k) { return (row * 3 + k * 5) % 11 - 5; }
static int b_of(int k, int column) { return (k * 7 + column * 2) % 9 - 4; }

/* Small integers give exact results. ldmatrix must load the fragments of mma, and movmatrix must
 * give those of ldmatrix_trans, which checks the layouts against each other. */
static void test_tensor(void **)
{
    const unsigned zero[TENSOR_WORDS] = {0};
    assert_int_equal(emu_device_select("A100"), 0);
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        unsigned out[TENSOR_WORDS];
        run(kernel_tensor, zero, out, seed, TENSOR_WORDS);
        for (int row = 0; row < 16; row++)
            for (int column = 0; column < 8; column++) {
                int exact16 = row - column, exact8 = row - column;
                for (int k = 0; k < 16; k++) exact16 += a_of(row, k) * b_of(k, column);
                for (int k = 0; k < 8; k++) exact8 += a_of(row, k) * b_of(k, column);
                float d[3];
                for (int i = 0; i < 3; i++) memcpy(&d[i], &out[128 * i + row * 8 + column], 4);
                assert_true(d[0] == (float)exact16);
                assert_true(d[1] == (float)exact16);
                assert_true(d[2] == (float)exact8);
            }
        for (int lane = 0; lane < 32; lane++) {
            float low, high; /* rows 2q and 2q + 1 of column g */
            unsigned bits[2] = {out[384 + lane] << 16, out[384 + lane] & 0xffff0000u};
            memcpy(&low, &bits[0], 4);
            memcpy(&high, &bits[1], 4);
            assert_true(low == (float)a_of(2 * (lane % 4), lane / 4));
            assert_true(high == (float)a_of(2 * (lane % 4) + 1, lane / 4));
            assert_int_equal(out[416 + lane], out[384 + lane]);
        }
        const unsigned rounded[] = {0x3f802000u, 0x3f800000u, 0xbf802000u, 0x3f804000u,
                                    0x7f800000u, 0xff800000u, 0x7f800000u, 0};
        for (int i = 0; i < 8; i++) assert_int_equal(out[448 + i], rounded[i]);
    }
    /* The V100 has neither of these operations. */
    assert_int_equal(emu_device_select("V100"), 0);
    void *p = nullptr;
    emu_quiet(1);
    assert_int_equal(cudaMalloc(&p, TENSOR_WORDS * 4), cudaSuccess);
    assert_int_equal(kernel_tensor((unsigned *)p, nullptr), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorNoKernelImageForDevice);
    assert_non_null(strstr(emu_report(), "needs sm_75, this device is sm_70"));
    emu_quiet(0);
    emu_reset();
}

/* Asynchronous copies on a device that supports them, and on one where they are loads and
 * stores. */
static void test_copies(void **)
{
    unsigned start[WORDS];
    for (unsigned i = 0; i < WORDS; i++) start[i] = i;
    const char *devices[] = {"K20", "H200"};
    for (const char *device : devices) {
        assert_int_equal(emu_device_select(device), 0);
        for (unsigned seed = 0; seed < SEEDS; seed++) {
            unsigned out[WORDS];
            run(kernel_copies, start, out, seed);
            for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(out[i], 44 + i);
                assert_int_equal(out[4 + i], 48 + 4 * i + 100 * (51 + 4 * i));
                assert_int_equal(out[8 + i], 40 + i);
                assert_int_equal(out[12 + i], 41 + 2 * (i % 2) + 43);
            }
        }
    }
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warp_ops), cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_blocks),   cmocka_unit_test(test_memory),
        cmocka_unit_test(test_copies),   cmocka_unit_test(test_tensor),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
