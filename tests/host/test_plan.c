/* Tests the output of plstm plan and plstm variants, line by line, on any machine. */
#include "kernels/plan.h"
#include "kernels/variants.h"
#include "tests/support/program.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *line_next(char **text)
{
    char *end = strchr(*text, '\n');
    json_error_t fault;
    if (!end) return NULL;
    *end = 0;
    json_t *object = json_loads(*text, 0, &fault);
    if (!object) fail_msg("%s: %s", fault.text, *text);
    *text = end + 1;
    return object;
}

static const char *text_of(json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}
static double number_of(json_t *o, const char *key)
{
    if (!json_is_number(json_object_get(o, key))) fail_msg("no number %s", key);
    return json_number_value(json_object_get(o, key));
}

/* ---- lines ---- */

static void a_line_per_variant_and_pass(void **state)
{
    (void)state;
    int variants = 0;
    while (lstm_footprints[variants]) variants++;
    /* Variants without bf16 are planned in f32. */
    Run run = plstm("plan --device H200 --precision bf16 --json");
    assert_int_equal(run.code, 0);
    assert_string_equal(run.err, "");
    char *at = run.out;
    int n = 0;
    for (json_t *o; (o = line_next(&at)); n++) {
        static const int Hs[] = {200, 650, 1500}, Ts[] = {20, 35, 35};
        static const char *const presets[] = {"small", "medium", "large"};
        assert_string_equal(text_of(o, "device"), "H200");
        assert_string_equal(text_of(o, "preset"), presets[n / (2 * variants)]);
        assert_true(number_of(o, "H") == Hs[n / (2 * variants)] && number_of(o, "B") == 20 &&
                    number_of(o, "T") == Ts[n / (2 * variants)]);
        const LstmFootprint *f = lstm_footprints[n / 2 % variants];
        assert_string_equal(text_of(o, "variant"), f->name);
        assert_string_equal(text_of(o, "precision"),
                            f->precisions >> PRECISION_BF16 & 1 ? "bf16" : "f32");
        assert_string_equal(text_of(o, "pass"), n % 2 ? "backward" : "forward");
        if (json_object_get(o, "refused")) { /* one cluster cannot hold every H */
            assert_true(f->tile[0] && !f->grid_barrier);
            json_decref(o);
            continue;
        }
        assert_true(number_of(o, "model_us_per_step") > 0);
        json_t *terms = json_object_get(o, "model_us"), *term;
        const char *name;
        double sum = 0;
        json_object_foreach(terms, name, term) sum += json_number_value(term);
        assert_true(fabs(sum - number_of(o, "model_us_per_step")) < 1e-9);
        if (f->tile[0]) {
            assert_true(number_of(o, "replicas") * number_of(o, "blocks") <= 132);
            assert_true(number_of(o, "resident_registers") + number_of(o, "resident_shared") <=
                        1.000001);
            assert_true(number_of(o, "exchanged_bytes") > 0 && number_of(o, "streamed_bytes") >= 0);
            assert_memory_equal(text_of(o, "plan"),
                                n % 2 ? "backward=1,tile=" : "backward=0,tile=", 16);
        } else {
            assert_null(json_object_get(o, "plan"));
        }
        json_decref(o);
    }
    assert_int_equal(n, 3 * variants * 2);
    run_free(&run);
}

static void options_select(void **state)
{
    (void)state;
    Run run = plstm(
        "plan --device K20 --preset medium --hidden 64 --batch 3 --seq 5 --kernel reg/l2 --json "
        "--plan blocks=4,replicas=2");
    assert_int_equal(run.code, 0);
    char *at = run.out;
    for (int backward = 0; backward < 2; backward++) {
        json_t *o = line_next(&at);
        assert_true(number_of(o, "H") == 64 && number_of(o, "B") == 3 && number_of(o, "T") == 5);
        assert_string_equal(text_of(o, "variant"), backward ? "l2" : "reg");
        assert_true(json_is_null(json_object_get(o, "preset")));
        assert_true(number_of(o, "blocks") == 4 && number_of(o, "replicas") == 2);
        json_decref(o);
    }
    assert_null(line_next(&at));
    run_free(&run);
    run = plstm("plan --device all --preset small --kernel reg --json");
    assert_int_equal(run.code, 0);
    at = run.out;
    int n = 0;
    for (json_t *o; (o = line_next(&at)); n++) {
        static const char *const devices[] = {"K20", "K40", "V100", "A100", "H100", "H200", "B200"};
        if (n / 2 < 7) assert_string_equal(text_of(o, "device"), devices[n / 2]);
        json_decref(o);
    }
    assert_true(n >= 14); /* more if this machine has a GPU */
    run_free(&run);
}

static void a_refusal_is_a_line_and_a_code(void **state)
{
    (void)state;
    Run run = plstm("plan --device K20 --preset small --kernel reg --plan blocks=14 --json");
    assert_int_equal(run.code, 4);
    assert_one_line(run.err);
    assert_contains(run.err, "none of the requested variants has a plan");
    char *at = run.out;
    json_t *o = line_next(&at);
    assert_contains(text_of(o, "refused"), "needs 14 co-resident blocks; the device holds 13");
    assert_null(json_object_get(o, "model_us_per_step"));
    json_decref(o);
    run_free(&run);
    run = plstm("plan --device K20 --preset small --plan blocks=14");
    assert_int_equal(run.code, 0); /* cublas needs no co-resident blocks */
    assert_contains(run.out,
                    "reg      forward  reg forward with H 200 and B 20 has no plan on K20 with "
                    "blocks=14: it needs 14 co-resident blocks");
    run_free(&run);
}

/* ---- tables ---- */

static void tables_are_for_people(void **state)
{
    (void)state;
    Run run = plstm("plan --device K20 --preset small");
    assert_int_equal(run.code, 0);
    assert_contains(
        run.out,
        "K20 (profile), sm_35, 13 SMs; small: H 200, B 20, T 20; constants from the literature\n");
    assert_contains(run.out, "us/step");
    assert_contains(run.out, "\nreg      forward         1     13     384       168   48784      "
                             "100.0       0.0            0 ");
    assert_contains(run.out, "\nauto     ");
    assert_contains(run.out, "; each with its share of the launch, us per launch / T\n");
    assert_contains(run.out, "\nmma      forward  mma forward has no plan on K20: tensor cores");
    char *line = strstr(run.out, "\nvariant"), *end;
    size_t width = 0;
    for (int i = 0; i < 5; i++, line = end) { /* columns end where their headings end */
        end = strchr(line + 1, '\n');
        if (i == 0) width = (size_t)(end - line);
        assert_int_equal(end - line, width);
    }
    run_free(&run);
    run = plstm("plan");
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "; small: H 200");
    assert_contains(run.out, "; medium: H 650");
    assert_contains(run.out, "; large: H 1500");
    run_free(&run);
    run = plstm("plan --batch 5");
    assert_contains(run.out, "; H 200, B 5, T 20;");
    run_free(&run);
    run = plstm("variants");
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "\ncublas ");
    assert_contains(run.out, "\nreg ");
    assert_contains(run.out, "the control that isolates residency");
    for (int i = 0; lstm_footprints[i]; i++) { /* the column of GPUs names the footprint's min_sm */
        char name[32], gpus[32];
        snprintf(name, sizeof name, "\n%s ", lstm_footprints[i]->name);
        snprintf(gpus, sizeof gpus, " sm_%d and up ", lstm_footprints[i]->min_sm);
        const char *at = strstr(run.out, name), *found = at ? strstr(at, " sm_") : NULL;
        assert_non_null(found);
        assert_memory_equal(found, gpus, strlen(gpus));
    }
    run_free(&run);
}

static void a_row_says_which_exchange_its_plan_has(void **state)
{
    (void)state;
    Run run = plstm("plan --device H200 --preset small --precision bf16");
    assert_int_equal(run.code, 0);
    for (char *line = strtok(run.out, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(!strstr(line, "  exchange 2, words") == !!strncmp(line, "mma ", 4));
    run_free(&run);
    run =
        plstm("plan --device H200 --preset small --precision bf16 --kernel mma --plan exchange=1");
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "  exchange 1, flags\n");
    assert_null(strstr(run.out, "words"));
    run_free(&run);
}

static void the_environment_is_reported(void **state)
{
    (void)state;
    setenv("PLSTM_PLAN", "blocks=4", 1);
    Run run = plstm("plan --device H200 --preset small --kernel reg --json");
    assert_int_equal(run.code, 0);
    assert_one_line(run.err);
    assert_contains(run.err,
                    "the environment variable PLSTM_PLAN constrains these plans: blocks=4");
    assert_contains(run.out, "\"blocks\":4,");
    run_free(&run);
    run = plstm("plan --device H200 --preset small --kernel reg --json --plan blocks=5");
    assert_int_equal(run.code, 0);
    assert_contains(run.err, "--plan replaces the environment variable PLSTM_PLAN, blocks=4");
    assert_contains(run.out, "\"blocks\":5,");
    run_free(&run);
    run = plstm("plan --device H200 --preset small --kernel reg --quiet");
    assert_string_equal(run.err, "");
    run_free(&run);
    setenv("PLSTM_PLAN", "", 1);
    run = plstm("plan --device H200 --preset small --kernel reg");
    assert_string_equal(run.err, "");
    run_free(&run);
    unsetenv("PLSTM_PLAN");
}

static void constants_come_from_a_file(void **state)
{
    (void)state;
    const char *path = in_folder("constants.json");
    file_write(path, "{\"gpu\": \"NVIDIA H200\", \"constants\": {\"flag_hop\": {\"value\": 50, "
                     "\"unit\": \"us\"}}}");
    Run run = plstm("plan --device H200 --preset small --constants %s", path);
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "; constants from the literature, 1 of them measured\n");
    assert_contains(run.out, "auto     cublas forward");
    run_free(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_per_variant_and_pass),
        cmocka_unit_test(options_select),
        cmocka_unit_test(a_refusal_is_a_line_and_a_code),
        cmocka_unit_test(tables_are_for_people),
        cmocka_unit_test(a_row_says_which_exchange_its_plan_has),
        cmocka_unit_test(the_environment_is_reported),
        cmocka_unit_test(constants_come_from_a_file),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
