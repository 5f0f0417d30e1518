/* Tests the ranges that a profiler sees, recorded by an injection library (nvtx_record.c): in eager
 * mode step, forward, each layer, backward and update; in a replay only step. */
#include "tests/support/cuda_program.h"

#include "host/plan/device.h"
#include "tests/support/group.h"

static char library[PATH_MAX], *text;

static int set_up(void **state)
{
    cuda_program_choose();
    return folder_make(state);
}

/* Trains for `steps` minibatches; `text` receives the recorded ranges. */
static void train(int steps, const char *eager, const char *more)
{
    const char *path = in_folder("ranges");
    setenv("NVTX_INJECTION64_PATH", library, 1);
    setenv("NVTX_RECORD", path, 1);
    setenv("PLSTM_EAGER", eager, 1);
    plstm_expect(
        0,
        "train --data %s --backend cuda --hidden 5 --layers 2 --batch 2 --seq 3 --max-steps %d "
        "--threads 1 --quiet %s",
        small_corpus(), steps, more);
    unsetenv("NVTX_INJECTION64_PATH");
    free(text);
    text = file_read(path, NULL);
}

static int count(const char *line)
{
    int n = 0;
    size_t length = strlen(line);
    for (const char *at = text; (at = strstr(at, line)); at += length)
        n += at[length] == '\n' && (at == text || at[-1] == '\n');
    return n;
}

/* Checks that every range that was pushed is popped, and that no other pop occurs. */
static void assert_nested(void)
{
    int open = 0;
    for (const char *at = text; at && *at; at = strchr(at, '\n'), at += at != NULL) {
        if (!strncmp(at, "push", 4)) open++;
        if (!strncmp(at, "pop", 3)) open--;
        assert_true(open >= 0 && open <= 3);
    }
    assert_int_equal(open, 0);
}

static void eager_marks_passes_and_layers(void **state)
{
    (void)state;
    train(2, "1", "--eval none");
    static const char step[] =
        "push step\npush forward\npush layer0\npop\npush layer1\npop\npop\n"
        "push backward\npush layer1\npop\npush layer0\npop\npop\npush update\npop\npop\n";
    char want[2 * sizeof step + 32];
    snprintf(want, sizeof want, "domain plstm\n%s%s", step, step);
    assert_string_equal(text, want);
}

static void replay_marks_steps(void **state)
{
    (void)state;
    train(9, "0", "--eval none");
    assert_int_equal(count("domain plstm"), 1);
    assert_int_equal(count("push step"), 9);
    assert_int_equal(count("push forward"), 1); /* only in the first step, which warms up */
    assert_nested();
    /* After this, steps have no inner ranges. */
    const char *last = strstr(text, "push update\npop\npop\n");
    assert_non_null(last);
    last += strlen("push update\npop\npop\n");
    for (int i = 0; i < 8; i++, last += strlen("push step\npop\n"))
        assert_int_equal(strncmp(last, "push step\npop\n", 14), 0);
    assert_string_equal(last, "");
}

static void scoring_is_marked(void **state)
{
    (void)state;
    train(1, "1", "--eval test");
    assert_int_equal(count("push step"), 1);
    assert_true(count("push score") >= 1 && count("push forward") == count("push score") + 1);
    assert_nested();
}

static int tear_down(void **state)
{
    free(text);
    return folder_remove(state);
}

int main(void)
{
    group_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eager_marks_passes_and_layers),
        cmocka_unit_test(replay_marks_steps),
        cmocka_unit_test(scoring_is_marked),
    };
    Error e;
    int n;
    char absolute[PATH_MAX];
    snprintf(absolute, sizeof absolute, "%.3900s/tests/nvtx_record.so", build_folder());
    if (!realpath(absolute, library)) {
        printf("1..0 # SKIP NVTX's headers, which come with the CUDA toolkit, were not found when "
               "this was "
               "built\n");
        return 0;
    }
    if (device_count(&n, &e)) {
        printf("1..0 # SKIP %s\n", e.text);
        return getenv("REQUIRE_GPU") != NULL;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
