/* Tests the frame for tasks (TASKS 1, 3, 5) on the reference and the cpu backend: batches with
 * padding, features and positions that are not scored. */
#include "tests/support/program.h"

#include "host/backend/backend_cpu.h"
#include "tests/support/frame_case.h"

static const BackendOps *const both[] = {&backend_reference, &backend_cpu};

static void poison_reference(Backend *b, const int32_t *ids, int64_t N, int64_t H)
{
    for (int64_t i = 0; i < N * H; i++)
        if (ids[i / H] == ID_PADDING) reference_input(b)[i] = (double)toy_poison_value(i);
}

static void poison_cpu(Backend *b, const int32_t *ids, int64_t N, int64_t H)
{
    for (int64_t i = 0; i < N * H; i++)
        if (ids[i / H] == ID_PADDING) cpu_input(b)[i] = toy_poison_value(i);
}

static void cpu_follows_reference(void **state)
{
    (void)state;
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++)
        for (DropoutSites sites = SITES_NONRECURRENT; sites <= SITES_NONE; sites++) {
            BackendConfig config = toy_config(kind, 23, 2);
            config.sites = sites;
            toy_follows_reference(&backend_cpu, kind, &config);
        }
}

static void padding_changes_no_bit(void **state)
{
    (void)state;
    for (ToyKind kind = 0; kind < TOY_KINDS; kind++)
        for (int p = 0; p < PRECISIONS; p++) {
            BackendConfig config = toy_config(kind, 18, 2);
            config.precision = (LstmPrecision)p;
            if (!p)
                toy_padding_changes_nothing(&backend_reference, kind, &config, poison_reference);
            toy_padding_changes_nothing(&backend_cpu, kind, &config, poison_cpu);
        }
}

static void scores_of_windows_and_of_whole_sequences(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        for (ToyKind kind = 0; kind < TOY_KINDS; kind++) {
            BackendConfig config = toy_config(kind, 18, 2);
            toy_scores(both[i], kind, &config);
        }
}

static void resume_inside_an_epoch(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        for (ToyKind kind = 0; kind < TOY_KINDS; kind++) toy_resumes(both[i]->name, "auto", kind);
}

static void language_model(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) lm_is_a_direct_loop(both[i], "auto");
}

/* A file of one task cannot start a run of another. */
static void weights_of_another_task(void **state)
{
    (void)state;
    Settings s = frame_settings("cpu", "auto");
    s.task = "toy", s.preset = "toy", s.data = "0", s.max_steps = 1, s.save = in_folder("toy.st");
    assert_int_equal(frame_train(&s, &toy_task, NULL), 0);
    Run run = plstm("train --data synthetic --hidden 10 --max-steps 1 --init-weights %s",
                    in_folder("toy.st"));
    assert_int_equal(run.code, EXIT_BAD_DATA);
    assert_contains(run.err, "is of task toy, but this run is of task lm");
    run_free(&run);
    run = plstm("eval --data synthetic --weights %s", in_folder("toy.st"));
    assert_int_equal(run.code, EXIT_BAD_DATA);
    assert_contains(run.err, "was trained for task 'toy', which this plstm does not know");
    run_free(&run);
    run = plstm("train --resume %s --data synthetic", in_folder("toy.st"));
    assert_int_equal(run.code, EXIT_BAD_DATA);
    run_free(&run);
    run = plstm("sample --weights %s", in_folder("toy.st"));
    assert_int_equal(run.code, EXIT_BAD_DATA);
    assert_contains(run.err, "is of task toy");
    run_free(&run);
    run = plstm("train --data synthetic --max-length 3");
    assert_int_equal(run.code, EXIT_USAGE);
    assert_contains(run.err, "--max-length is not an option of --task lm");
    run_free(&run);
    run = plstm("train --data synthetic --task speech");
    assert_int_equal(run.code, EXIT_USAGE);
    assert_contains(run.err, "--task takes lm");
    run_free(&run);
}

/* Checks the tensors and their order (TASKS 2). */
static void parameters_by_shape(void **state)
{
    (void)state;
    static const struct {
        ModelShape shape;
        const char *first, *second, *third;
    } cases[] = {
        {{.V_in = 5, .V_out = 3, .H = 4, .L = 1},
         "encoder.weight",
         "rnn.weight_ih_l0",
         "rnn.weight_hh_l0"},
        {{.F = 6, .V_out = 3, .H = 4, .L = 2}, "input.weight", "input.bias", "rnn.weight_ih_l0"},
        {{.V_in = 5, .F = 6, .V_out = 5, .H = 4, .L = 1},
         "encoder.weight",
         "input.weight",
         "input.bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ModelShape *s = &cases[i].shape;
        assert_string_equal(param_info(s, 0).name, cases[i].first);
        assert_string_equal(param_info(s, 1).name, cases[i].second);
        assert_string_equal(param_info(s, 2).name, cases[i].third);
        ParamInfo last = param_info(s, params_count(s) - 2);
        assert_string_equal(last.name, "decoder.weight");
        assert_true(last.dim[0] == s->V_out && last.dim[1] == s->H);
        if (!s->F) continue;
        ParamInfo input = param_info(s, param_input_weight(s)),
                  bias = param_info(s, param_input_bias(s));
        assert_true(input.dim[0] == s->H && input.dim[1] == s->F && bias.rank == 1 &&
                    bias.n == s->H);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_by_shape),
        cmocka_unit_test(cpu_follows_reference),
        cmocka_unit_test(padding_changes_no_bit),
        cmocka_unit_test(scores_of_windows_and_of_whole_sequences),
        cmocka_unit_test(resume_inside_an_epoch),
        cmocka_unit_test(language_model),
        cmocka_unit_test(weights_of_another_task),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
