/* Tests Philox and the 16-bit formats: known answers, and equality bit for bit with the real
 * toolkit's headers if one is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

extern "C" {
#include <cmocka.h>
}

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "curand_kernel.h"

#include "numerics_cases.h"

static FILE *oracle;
static unsigned long long compared, different;

static void compare(uint32_t word)
{
    uint32_t real = 0;
    if (fread(&real, sizeof real, 1, oracle) != 1 || real != word) {
        if (different++ < 5)
            print_message("word %llu: %08x, the toolkit has %08x\n", compared, word, real);
    }
    compared++;
}

static void test_against_toolkit(void **)
{
    const char *build = getenv("PLSTM_BUILD");
    std::string path = std::string(build ? build : "build") + "/emu/numerics_oracle";
    if (access(path.c_str(), X_OK) != 0) {
        print_message("no CUDA toolkit with curand_kernel.h was found when this was built\n");
        skip();
    }
    oracle = popen(path.c_str(), "r");
    assert_non_null(oracle);
    cases_conversions(compare);
    unsigned long long conversions = compared;
    cases_philox(compare);
    int rest = fgetc(oracle);
    assert_int_equal(rest, EOF);
    assert_int_equal(pclose(oracle), 0);
    assert_true(conversions > 4000000 && compared - conversions > 100000);
    assert_int_equal(different, 0);
}

/* Compares with the known-answer vectors for philox4x32-10 of Random123 (Salmon et al.). */
static void test_known_answers(void **)
{
    uint4 v = curand_Philox4x32_10(make_uint4(0, 0, 0, 0), make_uint2(0, 0));
    assert_int_equal(v.x, 0x6627e8d5u);
    assert_int_equal(v.y, 0xe169c58du);
    assert_int_equal(v.z, 0xbc57ac4cu);
    assert_int_equal(v.w, 0x9b00dbd8u);
    v = curand_Philox4x32_10(make_uint4(~0u, ~0u, ~0u, ~0u), make_uint2(~0u, ~0u));
    assert_int_equal(v.x, 0x408f276du);
    assert_int_equal(v.y, 0x41c83b0eu);
    assert_int_equal(v.z, 0xa20bc7c6u);
    assert_int_equal(v.w, 0x6d5451fdu);
}

static void test_formats(void **)
{
    assert_int_equal(half_bits(__float2half(65519.0f)), 0x7bff);
    assert_int_equal(half_bits(__float2half(65520.0f)), 0x7c00);
    assert_int_equal(half_bits(__float2half(5.9604645e-8f)), 1);
    /* Half of the smallest number is a tie and rounds to even. */
    assert_int_equal(half_bits(__float2half(2.9802322e-8f)), 0);
    assert_int_equal(half_bits(__float2half(-0.0f)), 0x8000);
    assert_int_equal(bfloat_bits(__float2bfloat16(1.00390625f)), 0x3f80); /* a tie */
    assert_int_equal(bfloat_bits(__float2bfloat16(1.01171875f)), 0x3f82);
    __half2 h = __floats2half2_rn(1.0f, 2.0f);
    assert_true(__low2float(h) == 1.0f && __high2float(h) == 2.0f);
    assert_true(__half2float(__hfma(__float2half(3.0f), __float2half(5.0f), __float2half(1.0f))) ==
                16.0f);
    __nv_bfloat162 b =
        __hadd2(__floats2bfloat162_rn(1.0f, 2.0f), __floats2bfloat162_rn(0.5f, 0.25f));
    assert_true(__bfloat1622float2(b).x == 1.5f && __bfloat1622float2(b).y == 2.25f);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_against_toolkit),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
