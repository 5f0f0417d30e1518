/* The planner: every plan is legal and covers the work once, overrides force what they name, what does not fit is a sentence,
 * and the text forms come back whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../host/residency.h"

static const LstmFootprint *variant(const char *name)
{
    for (int i = 0; lstm_footprints[i]; i++)
        if (!strcmp(lstm_footprints[i]->name, name)) return lstm_footprints[i];
    fail_msg("no variant %s", name);
    return NULL;
}

static PlanConstants constants_of(const char *device)
{
    PlanConstants c;
    Error e;
    if (plan_constants(device_profile(device), NULL, &c, &e)) fail_msg("%s", e.text);
    return c;
}

static LstmPlan planned(const char *device, const char *name, int backward, int64_t H, int64_t B,
                        const char *force)
{
    LstmPlan p;
    PlanOverride o;
    Error e;
    PlanConstants c = constants_of(device);
    LstmShape shape = {35, B, H};
    if (plan_override_parse(force, &o, &e) ||
        lstm_plan(device_profile(device), &shape, variant(name), backward, &o, &c, &p, &e) ||
        plan_check(&p, device_profile(device), &shape, variant(name), &e))
        fail_msg("%s", e.text);
    return p;
}

/* ---- text ---- */

static void overrides_are_read(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "blocks", "blocks=", "blocks=0",          "blocks=-1", "blocks=1,",  "blocks=1;tile=2",  "block=1",
        ",",      "=1",      "blocks=1,blocks=2", "blocks=1 ", "blocks=0x2", "blocks=2147483648"};
    PlanOverride o;
    Error e;
    char text[PLAN_OVERRIDE_TEXT];
    assert_int_equal(plan_override_parse("blocks=4,replicas=2,registers=64,shared=8192", &o, &e), 0);
    assert_true(o.blocks == 4 && o.replicas == 2 && o.registers == 64 && o.shared == 8192);
    assert_true(!o.threads && !o.groups && !o.slices && !o.batch && !o.tile);
    assert_int_equal(plan_override_parse("tile=9,batch=8,slices=7,groups=6,threads=5", &o, &e), 0);
    assert_true(o.tile == 9 && o.batch == 8 && o.slices == 7 && o.groups == 6 && o.threads == 5 && !o.blocks);
    plan_override_text(&o, text, sizeof text);
    assert_string_equal(text, "threads=5,groups=6,slices=7,batch=8,tile=9");
    assert_int_equal(plan_override_parse("", &o, &e), 0);
    plan_override_text(&o, text, sizeof text);
    assert_string_equal(text, "");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(plan_override_parse(bad[i], &o, &e), EXIT_USAGE);
        assert_non_null(strstr(e.text, bad[i]));
    }
}

static void plans_come_back_from_their_text(void **state)
{
    (void)state;
    char text[PLAN_TEXT], longer[PLAN_TEXT + 32];
    LstmPlan read;
    Error e;
    for (int backward = 0; backward < 2; backward++) {
        LstmPlan p = planned("H200", "reg", backward, 650, 20, "");
        plan_text(&p, text, sizeof text);
        assert_true(strlen(text) < PLAN_TEXT - 100);
        assert_int_equal(plan_parse(text, &read, &e), 0);
        plan_text(&read, longer, sizeof longer);
        assert_string_equal(longer, text);
        assert_true(read.units == p.units && read.shared_bytes == p.shared_bytes);
    }
    snprintf(longer, sizeof longer, "%s,tile=1", text);
    assert_int_equal(plan_parse(longer, &read, &e), EXIT_BAD_DATA);
    snprintf(longer, sizeof longer, "%s,more=1", text);
    assert_int_equal(plan_parse(longer, &read, &e), EXIT_BAD_DATA);
    *strrchr(text, ',') = 0;
    assert_int_equal(plan_parse(text, &read, &e), EXIT_BAD_DATA);
    assert_int_equal(plan_parse("", &read, &e), EXIT_BAD_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overrides_are_read),
        cmocka_unit_test(plans_come_back_from_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
