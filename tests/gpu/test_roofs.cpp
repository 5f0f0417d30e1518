/* bench/roofs.cpp: measured constants as roofs, and the floor that follows from them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <stdexcept>

extern "C" {
#include <cmocka.h>
}

#include "bench/roofs.h"

using axes::Precision;

namespace
{

/* What roofs_read makes of a file with this text; its sentence where it refuses. */
Roofs read_text(const char *text, std::string *refused)
{
    char path[] = "/tmp/plstm-roofs-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) && !close(file));
    Roofs r;
    try {
        r = roofs_read(path);
    } catch (const std::runtime_error &sentence) {
        *refused = sentence.what();
    }
    remove(path);
    return r;
}

void the_better_of_two_ways_is_the_roof(void **)
{
    std::string refused;
    Roofs r = read_text("{\"gpu\": \"some GPU\", \"constants\": {\"copy\": {\"value\": 3e12}, "
                        "\"copy_kernel\": {\"value\": 4e12},"
                        " \"fma_f32\": {\"value\": 60e12}, \"gemm_f32\": {\"value\": 50e12}, \"gemm_tf32\": "
                        "{\"value\": 400e12},"
                        " \"gemm_bf16\": {\"error\": \"wrong: C\"}, \"flag_hop\": {\"value\": 0.65}}}",
                        &refused);
    assert_string_equal(refused.c_str(), "");
    assert_string_equal(r.gpu.c_str(), "some GPU");
    assert_true(r.bytes == 4e12 && r.hop == 0.65);
    assert_true(r.flops(Precision::F32) == 60e12 && r.flops(Precision::TF32) == 400e12);
    assert_true(r.flops(Precision::BF16) == 0 && r.flops(Precision::F16) == 0);
}

void what_is_no_constants_is_refused(void **)
{
    for (const char *text : {"", "{", "[]", "{}", "{\"constants\": 3}"}) {
        std::string refused;
        read_text(text, &refused);
        if (refused.empty()) fail_msg("'%s' was read", text);
    }
    std::string refused;
    try {
        roofs_read("/nonexistent/constants.json");
    } catch (const std::runtime_error &sentence) {
        refused = sentence.what();
    }
    assert_true(refused.find("/nonexistent/constants.json cannot be read") == 0);
}

void floors(void **)
{
    Roofs r;
    r.bytes = 1e12, r.f32 = 10e12, r.hop = 0.5;
    /* 20 us of arithmetic, 10 us of bytes, 35 hops of 0.5 us. */
    assert_true(fabs(floor_us(r, Precision::F32, 200e6, 10e6, 0) - 20) < 1e-9);
    assert_true(fabs(floor_us(r, Precision::F32, 200e6, 10e6, 35) - 37.5) < 1e-9);
    assert_true(fabs(floor_us(r, Precision::F32, 0, 90e6, 35) - 90) < 1e-9);
    assert_true(fabs(floor_us(r, Precision::F32, 0, 10e6, 0) - 10) < 1e-9);
}

void no_floor_without_its_roofs(void **)
{
    Roofs r;
    r.bytes = 1e12, r.f32 = 10e12;
    assert_true(floor_us(r, Precision::TF32, 1e6, 1e6, 0) == 0);
    assert_true(floor_us(r, Precision::F32, 1e6, 1e6, 35) == 0);
    assert_true(floor_us(Roofs(), Precision::F32, 0, 1e6, 0) == 0);
    assert_true(floor_us(r, Precision::TF32, 0, 1e6, 0) > 0);
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_better_of_two_ways_is_the_roof),
        cmocka_unit_test(what_is_no_constants_is_refused),
        cmocka_unit_test(floors),
        cmocka_unit_test(no_floor_without_its_roofs),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
