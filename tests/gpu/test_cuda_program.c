/* Tests the program on the cuda backend, from the command line: train, stop, resume, eval,
 * ensembles, sample, dump, devices. It uses the emulated GPU unless it is linked with the real
 * runtime. */
#include "tests/support/cuda_program.h"

#include <jansson.h>
#include <math.h>

#include "host/plan/device.h"
#include "kernels/plan.h"
#include "tests/support/group.h"

#define MODEL "--hidden 9 --layers 2 --batch 2 --seq 3 --keep 0.6 --init 0.2 --threads 1 --quiet"

static const char *corpus; /* path of the corpus of all tests */

static int set_up(void **state)
{
    if (folder_make(state)) return -1;
    cuda_program_choose();
    corpus = small_corpus();
    return 0;
}

/* ---- logs ---- */

/* Returns the lines of a log with one event, without times. */
static json_t *events(const char *path, const char *event)
{
    json_t *list = json_array();
    char *text = file_read(path, NULL), *save;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        const char *is = json_string_value(json_object_get(object, "event"));
        json_object_del(object, "words_per_s");
        json_object_del(object, "seconds");
        if (!strcmp(is, event)) json_array_append(list, object);
        json_decref(object);
    }
    free(text);
    return list;
}

static void assert_logs_equal(const char *a, const char *b)
{
    static const char *const kinds[] = {"step", "epoch", "valid", "test"};
    for (int i = 0; i < 4; i++) {
        json_t *x = events(a, kinds[i]), *y = events(b, kinds[i]);
        if (!json_equal(x, y)) fail_msg("the %s lines of %s and %s differ", kinds[i], a, b);
        json_decref(x), json_decref(y);
    }
}

static double number(const json_t *list, size_t i, const char *key)
{
    const json_t *value = json_object_get(json_array_get(list, i), key);
    if (!json_is_number(value)) fail_msg("event %zu has no %s", i, key);
    return json_number_value(value);
}

/* ---- training ---- */

static void resume_gives_the_same_bytes(void **state)
{
    (void)state;
    static const int stop[] = {1, 2, 6, 17, 18, 21}; /* an epoch has 18 minibatches */
    const char *whole = in_folder("whole.st"), *log = in_folder("whole.jsonl"),
               *part = in_folder("part.st"), *log2 = in_folder("part.jsonl");
    plstm_expect(0,
                 "train --data %s --backend cuda " MODEL
                 " --epochs 2 --max-steps 24 --save %s --log-json %s",
                 corpus, whole, log);
    json_t *steps = events(log, "step"), *epochs = events(log, "epoch");
    assert_int_equal(json_array_size(steps), 24);
    for (size_t i = 0; i < 24; i++) assert_true(number(steps, i, "step") == (double)i);
    assert_int_equal(json_array_size(epochs), 1);
    json_decref(steps), json_decref(epochs);
    bool all = getenv("PLSTM_LONG") != NULL;
    for (size_t i = 0; i < sizeof stop / sizeof stop[0]; i++) {
        if (!all && i % 3 != 2) continue;
        plstm_expect(0,
                     "train --data %s --backend cuda " MODEL
                     " --epochs 2 --max-steps %d --save %s --log-json %s",
                     corpus, stop[i], part, log2);
        plstm_expect(0,
                     "train --data %s --resume %s --max-steps 24 --save %s --log-json %s --threads "
                     "1 --quiet",
                     corpus, part, part, log2);
        assert_files_equal(whole, part);
        assert_logs_equal(log, log2);
    }
    setenv("PLSTM_EAGER", "1", 1);
    plstm_expect(0,
                 "train --data %s --backend cuda " MODEL
                 " --epochs 2 --max-steps 24 --save %s --log-json %s",
                 corpus, part, log2);
    unsetenv("PLSTM_EAGER");
    assert_files_equal(whole, part);
    assert_logs_equal(log, log2);
}

/* cpu and cuda read each other's checkpoints and reach the same losses. */
static void checkpoints_move_between_backends(void **state)
{
    (void)state;
    static const char *const route[][3] = {
        {"cpu", "cpu", "cpu"}, {"cpu", "cuda", "cpu"}, {"cuda", "cpu", "cuda"}};
    const char *path = in_folder("moved.st"), *log = in_folder("moved.jsonl");
    double loss[3];
    for (int i = 0; i < 3; i++) {
        plstm_expect(0,
                     "train --data %s --backend %s " MODEL
                     " --eval none --max-steps 5 --save %s --log-json %s",
                     corpus, route[i][0], path, log);
        for (int j = 1; j < 3; j++)
            plstm_expect(
                0,
                "train --data %s --resume %s --backend %s --eval none --max-steps %d --save %s "
                "--log-json %s --threads 1 "
                "--quiet",
                corpus, path, route[i][j], 5 + 5 * j, path, log);
        json_t *steps = events(log, "step");
        assert_int_equal(json_array_size(steps), 15);
        loss[i] = number(steps, 14, "loss");
        json_decref(steps);
    }
    for (int i = 1; i < 3; i++)
        if (!(fabs(loss[i] - loss[0]) < 1e-4 * loss[0]))
            fail_msg("loss %.9g and %.9g", loss[i], loss[0]);
}

/* Sets loss to the losses of 15 steps on `backend`: 5 steps with each kernel of the route, each
 * continuing from the checkpoint of the one before. */
static void losses_of(const char *backend, const char *const route[3], double loss[15])
{
    const char *path = in_folder("route.st"), *log = in_folder("route.jsonl");
    for (int i = 0; i < 3; i++) {
        char resume[PATH_MAX + 16] = "", first[64];
        if (i) snprintf(resume, sizeof resume, "--resume %s", path);
        snprintf(first, sizeof first, "--kernel %s", route[i]);
        plstm_expect(0,
                     "train --data %s --backend %s %s %s %s --dropout-sites all --eval none "
                     "--max-steps %d --save %s "
                     "--log-json %s",
                     corpus, backend, MODEL, resume, first, 5 * i + 5, path, log);
    }
    json_t *steps = events(log, "step");
    assert_int_equal(json_array_size(steps), 15);
    for (size_t i = 0; i < 15; i++) loss[i] = number(steps, i, "loss");
    json_decref(steps);
}

/* With every variant, and after a change of variant at a checkpoint, the losses are those of the
 * cpu backend. */
static void every_kernel_follows_cpu(void **state)
{
    (void)state;
    enum { MOST = 16 };
    static const char *const any[] = {"auto", "auto", "auto"};
    const char *name[MOST];
    double wanted[15], loss[15];
    int n = 0;
    for (int v = 0; lstm_footprints[v] && n < MOST; v++)
        if (lstm_footprints[v]->precisions >> PRECISION_F32 & 1)
            name[n++] = lstm_footprints[v]->name;
    losses_of("cpu", any, wanted);
    for (int r = 0; r < n;
         r++) { /* one variant throughout, and each of the others beside its neighbours */
        char pair[64];
        snprintf(pair, sizeof pair, "%s/%s", name[(r + 1) % n], name[r]);
        const char *route[3] = {name[r], pair, r == 1 ? "auto" : name[(r + 2) % n]};
        if (r == 0) route[0] = route[1] = route[2] = name[n - 1];
        losses_of("cuda", route, loss);
        for (int i = 0; i < 15; i++)
            if (!(fabs(loss[i] - wanted[i]) < 1e-5 * wanted[i]))
                fail_msg("kernel %s, step %d: loss %.9g, on the cpu %.9g", route[i / 5], i, loss[i],
                         wanted[i]);
    }
}

static int times(const char *text, const char *phrase)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, phrase)); at++) n++;
    return n;
}

/* `auto` prints once what it chose and why. The log and the checkpoint record the kernel, and the
 * checkpoint also its plans. A run that resumes from it keeps them, or prints that it cannot. */
static void auto_decides_once(void **state)
{
    (void)state;
    const char *path = in_folder("auto.st"), *log = in_folder("auto.jsonl");
    char quoted[64];
    size_t n;
    Run run = plstm("train --data %s --backend cuda --hidden 40 --layers 2 --batch 2 --seq 3 "
                    "--threads 1 --max-steps 3 "
                    "--eval none --save %s --log-json %s",
                    corpus, path, log);
    assert_int_equal(run.code, 0);
    assert_int_equal(times(run.err, "plstm: kernel auto: "), 1);
    run_free(&run);
    json_t *lines = events(log, "run");
    const char *kernel = json_string_value(json_object_get(json_array_get(lines, 0), "kernel"));
    assert_string_not_equal(kernel, "auto");
    snprintf(quoted, sizeof quoted, "\"kernel\":\"%s\"", kernel);
    char *file = file_read(path, &n);
    assert_non_null(memmem(file, n, quoted, strlen(quoted)));
    if (strcmp(kernel, "cublas")) assert_non_null(memmem(file, n, "\"plan\":\"", 8));
    free(file);
    json_decref(lines);
    run = plstm("train --data %s --resume %s --max-steps 4 --eval none --threads 1", corpus, path);
    assert_int_equal(run.code, 0);
    assert_int_equal(times(run.err, "kernel auto"), 0);
    assert_int_equal(times(run.err, "differ"), 0);
    run_free(&run);
    run = plstm("train --data %s --resume %s --kernel auto --max-steps 4 --eval none --threads 1",
                corpus, path);
    assert_int_equal(run.code, 0);
    assert_int_equal(times(run.err, "plstm: kernel auto: "), 1);
    run_free(&run);
#ifdef CUDA_EMU
    setenv("EMU_DEVICE", "K20", 1); /* fewer multiprocessors than the plan has blocks */
    run = plstm("train --data %s --resume %s --max-steps 4 --eval none --threads 1", corpus, path);
    setenv("EMU_DEVICE", "A100", 1);
    assert_int_equal(run.code, 0);
    assert_contains(run.err, "the recorded plan cannot run here");
    run_free(&run);
#endif
}

/* A file records kernels and products; a run that resumes elsewhere prints that its bits may
 * differ. */
static void files_record_kernels_and_products(void **state)
{
    (void)state;
    const char *path = in_folder("notes.st");
    size_t n;
    plstm_expect(0,
                 "train --data %s --backend cuda --kernel cublas/cublas " MODEL
                 " --eval none --max-steps 2 --save %s",
                 corpus, path);
    char *file = file_read(path, &n);
    plstm_expect(
        0,
        "train --data %s --resume %s --backend auto --max-steps 3 --eval none --threads 1 --quiet",
        corpus, path);
    assert_non_null(memmem(file, n, "\"kernel\":\"cublas\"", 17));
    assert_non_null(memmem(file, n, "\"gemm\":\"cuBLAS ", 15));
    free(file);
    Run run =
        plstm("train --data %s --resume %s --max-steps 3 --eval none --threads 1", corpus, path);
    assert_int_equal(run.code, 0);
    assert_null(strstr(run.err, "last bits"));
    run_free(&run);
#ifdef CUDA_EMU
    setenv("EMU_DEVICE", "V100", 1);
    run = plstm("train --data %s --resume %s --max-steps 3 --eval none --threads 1", corpus, path);
    setenv("EMU_DEVICE", "A100", 1);
    assert_int_equal(run.code, 0);
    assert_contains(run.err, "its last bits may differ");
    run_free(&run);
#endif
}

static void divergence_names_its_step(void **state)
{
    (void)state;
    const char *path = in_folder("diverged.st"), *log = in_folder("diverged.jsonl");
    /* With the last backend NaNs are sent from block to block. An empty word holds a NaN with other
     * bits, so no block waits for a word that has arrived. */
    static const char *const backend[] = {"cpu", "cuda", "cuda --kernel mma --precision bf16"};
    for (int i = 0; i < 3; i++) {
        Run run = plstm("train --data %s --backend %s " MODEL
                        " --lr 1e30 --clip 1e30 --hold 0 --decay 1e-10 --epochs 3 --eval none "
                        "--save %s --log-json %s",
                        corpus, backend[i], path, log);
        assert_int_equal(run.code, 5);
        assert_one_line(run.err);
        json_t *steps = events(log, "step");
        size_t last = json_array_size(steps) - 1;
        char phrase[64];
        snprintf(phrase, sizeof phrase, "diverged at step %d:", (int)last);
        assert_contains(run.err, phrase);
        json_decref(steps);
        /* The cuda run saturates exactly and survives until lr overflows in the second epoch. */
        if (file_exists(path)) {
            Run info = plstm("info %s", path);
            assert_int_equal(info.code, 0);
            assert_contains(info.out, "at the end of epoch 1");
            run_free(&info);
        }
        run_free(&run);
    }
}

/* After a signal the run waits for pending results, so the log has a line for every minibatch that
 * the file counts. */
static void a_signal_leaves_a_checkpoint(void **state)
{
    (void)state;
    const char *path = in_folder("signal.st"), *log = in_folder("signal.jsonl"),
               *whole = in_folder("unstopped.st");
    char line[2048], *words[MAX_WORDS];
    snprintf(line, sizeof line,
             "train --data %s --backend cuda " MODEL
             " --epochs 1000 --eval none --save %s --log-json %s",
             corpus, path, log);
    line_cut(line, words);
    pid_t pid = program_start(words, 0);
    wait_for_lines(log, 6);
    kill(pid, SIGINT);
    Run run = program_finish(pid);
    assert_int_equal(run.code, 130);
    run_free(&run);
    json_t *steps = events(log, "step");
    int done = (int)json_array_size(steps);
    json_decref(steps);
    plstm_expect(
        0, "train --data %s --resume %s --max-steps %d --eval none --save %s --threads 1 --quiet",
        corpus, path, done + 3, path);
    plstm_expect(0,
                 "train --data %s --backend cuda " MODEL
                 " --epochs 1000 --max-steps %d --eval none --save %s",
                 corpus, done + 3, whole);
    assert_files_equal(whole, path);
}

/* ---- the other commands ---- */

static void train_two(const char *a, const char *b)
{
    if (file_exists(a)) return;
    plstm_expect(0, "train --data %s --backend cpu " MODEL " --eval none --max-steps 12 --save %s",
                 corpus, a);
    plstm_expect(0,
                 "train --data %s --backend cpu --hidden 6 --layers 1 --batch 2 --seq 3 --keep 0.6 "
                 "--init 0.2 "
                 "--threads 1 --quiet --seed 2 --eval none --max-steps 12 --save %s",
                 corpus, b);
}

/* Checks that the numbers of two outputs agree to a relative 1e-4 and that the words are equal. */
static void assert_alike(const char *a, const char *b)
{
    while (*a || *b) {
        if (*a == *b) {
            a++, b++;
            continue;
        }
        while (a[-1] >= '0' && a[-1] <= '9')
            a--, b--; /* back to the first digit, at most to a decimal point */
        char *end_a, *end_b;
        double x = strtod(a, &end_a), y = strtod(b, &end_b);
        if (end_a == a || end_b == b) fail_msg("outputs differ: '%.60s' and '%.60s'", a, b);
        if (!(fabs(x - y) <= 1e-4 * fabs(y) + 2e-3)) fail_msg("%g and %g", x, y);
        a = end_a, b = end_b;
    }
}

static void eval_and_sample_agree_with_cpu(void **state)
{
    (void)state;
    const char *a = in_folder("one.st"), *b = in_folder("two.st");
    train_two(a, b);
    char line[6][512];
    snprintf(line[0], sizeof line[0], "eval --weights %s --data %s", a, corpus);
    snprintf(line[1], sizeof line[1], "eval --weights %s --data %s --split valid", a, corpus);
    snprintf(line[2], sizeof line[2], "eval --weights %s,%s --data %s", a, b, corpus);
    snprintf(line[3], sizeof line[3],
             "eval --weights %s,%s --data %s --split valid --protocol sequential", b, a, corpus);
    snprintf(line[4], sizeof line[4], "sample --weights %s --words 30 --seed 5 --quiet", a);
    snprintf(line[5], sizeof line[5],
             "sample --weights %s --words 12 --temperature 0 --prompt cat --quiet", b);
    for (int i = 0; i < 6; i++) {
        Run cpu = plstm("%s --backend cpu --threads 1", line[i]),
            cuda = plstm("%s --backend cuda --threads 1", line[i]);
        if (cuda.code || cpu.code)
            fail_msg("%s: %d and %d: %s%s", line[i], cpu.code, cuda.code, cpu.err, cuda.err);
        if (i > 3) assert_string_equal(cpu.out, cuda.out);
        else {
            /* from_y begins after the line with the device's name. */
            const char *split = i & 1 ? "valid" : "test", *from_x = strstr(cpu.out, split),
                       *from_y = strstr(cuda.out, split);
            assert_true(from_x && from_y);
            assert_alike(from_x, from_y);
        }
        run_free(&cpu), run_free(&cuda);
    }
}

static void dump_agrees_with_cpu(void **state)
{
    (void)state;
    double loss[2], norm[2];
    static const char *const backend[] = {"cpu", "cuda"};
    for (int i = 0; i < 2; i++) {
        Run run =
            plstm("dump --what grads --data %s --hidden 9 --layers 2 --batch 2 --seq 3 --keep 0.6 "
                  "--init 0.2 --step 4 --threads 1 "
                  "--backend %s --out %s",
                  corpus, backend[i], in_folder("grads.st"));
        assert_int_equal(run.code, 0);
        json_t *line = json_loads(run.out, 0, NULL);
        loss[i] = json_number_value(json_object_get(line, "loss")),
        norm[i] = json_number_value(json_object_get(line, "grad_norm"));
        json_decref(line);
        run_free(&run);
    }
    assert_true(loss[0] > 0 && fabs(loss[1] - loss[0]) < 1e-5 * loss[0]);
    assert_true(norm[0] > 0 && fabs(norm[1] - norm[0]) < 1e-5 * norm[0]);
}

static void devices_are_listed(void **state)
{
    (void)state;
    Run run = plstm("devices");
    assert_int_equal(run.code, 0);
    assert_contains(run.out, "CUDA ");
    assert_contains(run.out, "registers");
#ifdef CUDA_EMU
    assert_contains(run.out, "emulated NVIDIA A100");
#endif
    run_free(&run);
}

static void bad_choices_are_refused(void **state)
{
    (void)state;
    Run run =
        plstm("train --data %s --backend cuda " MODEL " --kernel nosuch --max-steps 1", corpus);
    assert_int_equal(run.code, 2);
    assert_contains(run.err, "cublas");
    run_free(&run);
    setenv("NVIDIA_TF32_OVERRIDE", "1", 1);
    plstm_expect(2, "train --data %s --backend cuda " MODEL " --max-steps 1", corpus);
    plstm_expect(
        0, "train --data %s --backend cuda " MODEL " --max-steps 1 --eval none --precision tf32",
        corpus);
    plstm_expect(0, "train --data %s --backend cpu " MODEL " --max-steps 1 --eval none", corpus);
    unsetenv("NVIDIA_TF32_OVERRIDE");
}

int main(void)
{
    group_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_gives_the_same_bytes),
        cmocka_unit_test(checkpoints_move_between_backends),
        cmocka_unit_test(every_kernel_follows_cpu),
        cmocka_unit_test(auto_decides_once),
        cmocka_unit_test(files_record_kernels_and_products),
        cmocka_unit_test(divergence_names_its_step),
        cmocka_unit_test(a_signal_leaves_a_checkpoint),
        cmocka_unit_test(eval_and_sample_agree_with_cpu),
        cmocka_unit_test(dump_agrees_with_cpu),
        cmocka_unit_test(devices_are_listed),
        cmocka_unit_test(bad_choices_are_refused),
    };
    Error e;
    int n;
    if (device_count(&n, &e)) {
        printf("1..0 # SKIP %s\n", e.text);
        return getenv("REQUIRE_GPU") != NULL;
    }
    return cmocka_run_group_tests(tests, set_up, folder_remove);
}
