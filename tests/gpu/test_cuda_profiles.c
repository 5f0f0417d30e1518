/* Checks that the device profiles (host/plan/device.c) agree with the runtime: on the emulator for
 * each of its GPUs, on a real GPU for that one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/plan/device.h"

#include "tests/support/group.h"
#ifdef CUDA_EMU
#include "emu.h"
#endif

/* Compares the facts that a plan and its cost model use; clocks and memory differ slightly from
 * board to board. */
static void assert_like(const DeviceFacts *real, const DeviceFacts *profile)
{
    assert_int_equal(real->major, profile->major);
    assert_int_equal(real->minor, profile->minor);
    assert_int_equal(real->sms, profile->sms);
    assert_int_equal(real->shared_per_block, profile->shared_per_block);
    assert_int_equal(real->shared_per_block_most, profile->shared_per_block_most);
    assert_int_equal(real->shared_per_sm, profile->shared_per_sm);
    assert_int_equal(real->shared_reserved, profile->shared_reserved);
    assert_int_equal(real->registers_per_sm, profile->registers_per_sm);
    assert_int_equal(real->threads_per_sm, profile->threads_per_sm);
    assert_int_equal(real->blocks_per_sm, profile->blocks_per_sm);
    assert_int_equal(real->cooperative, profile->cooperative);
    assert_int_equal(real->clusters, profile->clusters);
}

static void profiles_are_what_the_runtime_says(void **state)
{
    (void)state;
    DeviceFacts f;
    Error e;
#ifdef CUDA_EMU
    int n = 0;
    for (; device_profile_name(n); n++) {
        const DeviceFacts *profile = device_profile(device_profile_name(n));
        assert_int_equal(emu_device_select(profile->name), 0);
        if (device_facts(0, &f, &e)) fail_msg("%s", e.text);
        assert_string_equal(device_like(&f), profile->name);
        assert_like(&f, profile);
        assert_true(f.l2 == profile->l2 && f.memory == profile->memory &&
                    f.clock_mhz == profile->clock_mhz);
        assert_true(f.memory_clock_mhz == profile->memory_clock_mhz &&
                    f.memory_bus_bits == profile->memory_bus_bits);
    }
    assert_null(emu_device_name(n)); /* the emulator has no other */
#else
    int n;
    if (device_count(&n, &e) || device_facts(0, &f, &e)) {
        print_message("no GPU here: %s\n", e.text);
        skip();
    }
    if (!strstr(f.name, device_like(&f))) {
        print_message("%s is none of the profiles\n", f.name);
        skip();
    }
    assert_like(&f, device_profile(device_like(&f)));
#endif
}

int main(void)
{
    group_begin();
    const struct CMUnitTest tests[] = {cmocka_unit_test(profiles_are_what_the_runtime_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
