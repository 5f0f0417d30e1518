/* Tests the log's lines byte by byte, the log of a resumed run, a log that cannot be written, and
 * the progress line on a terminal. */
#include "tests/support/program.h"

#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <pty.h>
#include <time.h>

#include "host/base/json_line.h"
#include "host/train/report.h"

/* The language model task, with access to its data. */
#define task_lm task_lm_here
#include "host/train/tasks/lm.c"
#undef task_lm

/* ---- a run that exists on paper ---- */

static Settings settings;
static TaskData data;

static RunInfo run_info(const char *log, const Counters *resumed)
{
    settings_defaults(&settings);
    settings.log_json = log;
    settings.data = "some/folder";
    settings.epochs = 4;
    settings.backend = "cpu", settings.threads = 2;
    data.corpus = (Corpus){.vocab.V = 6, .split = {{.n = 50}, {.n = 20, .unknown = 3}, {.n = 30}}};
    strcpy(data.corpus.sha256, "abc");
    return (RunInfo){.settings = &settings,
                     .task = &task_lm_here,
                     .data = &data,
                     .shape = model_shape_of_words(6, 200, 2),
                     .device = "a \"quoted\" device",
                     .parameters = 123,
                     .bytes = 4096,
                     .windows = 5,
                     .resumed = resumed};
}

/* report_open prints a header. The tests redirect it and all later output to the folder's file
 * out. */
static int kept_stdout = -1;

static void hide_stdout(void)
{
    fflush(stdout);
    kept_stdout = dup(1);
    int fd = open(in_folder("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(kept_stdout >= 0 && fd >= 0 && dup2(fd, 1) == 1);
    close(fd);
}

static void show_stdout(void)
{
    fflush(stdout);
    assert_int_equal(dup2(kept_stdout, 1), 1);
    close(kept_stdout);
}

static Report *open_report(const char *log, const Counters *resumed)
{
    Report *r = NULL;
    Error e;
    RunInfo info = run_info(log, resumed);
    hide_stdout();
    int code = report_open(&r, &info, true, &e);
    show_stdout();
    if (code) fail_msg("%s", e.text);
    return r;
}

static int open_fails(const char *log, const Counters *resumed, Error *e)
{
    Report *r = NULL;
    RunInfo info = run_info(log, resumed);
    hide_stdout();
    int code = report_open(&r, &info, true, e);
    show_stdout();
    if (!code) report_close(r);
    return code;
}

static EpochInfo epoch_info(double train, double valid, double paper)
{
    EpochInfo epoch = {.epoch = 1, .lr = 1, .seconds = 1};
    epoch.n = lm_figures(&data, &settings, 0, NULL, epoch.figure);
    epoch.n += lm_figures(&data, &settings, 1, NULL, epoch.figure + 1);
    epoch.figure[0].value = train, epoch.figure[1].value = valid, epoch.figure[2].value = paper;
    return epoch;
}

static void tell_split(Report *r, int split, double ppl, double paper, int64_t words)
{
    Error e;
    Figure f[TASK_FIGURES];
    int n = lm_figures(&data, &settings, split, NULL, f);
    f[0].value = ppl, f[1].value = paper;
    assert_int_equal(report_split(r, split, f, n, &(Totals){.scored = words}, &e), 0);
}

static const char *const class_names[] = {"content", "after_short", "after_long", "filler"};

static void class_positions(const int32_t *ids, int64_t n, unsigned char *class_of, double *nats)
{
    static const unsigned char class[] = {1, 0, 0, 3};
    (void)ids;
    for (int64_t i = 0; i < n; i++) class_of[i] = class[i], nats[i] = 0;
}

static const KnownText known = {.classes = 4, .name = class_names, .positions = class_positions};

static void tell_scores(Report *r)
{
    tell_split(r, 1, 8, 4, 19);
    tell_split(r, 2, 8, NAN, 29);
}

static StepInfo step_info(int64_t step)
{
    return (StepInfo){.step = step,
                      .epoch = step / 5 + 1,
                      .minibatch = step % 5,
                      .loss = 0.1,
                      .nats = 2.5,
                      .tokens = 8,
                      .grad_norm = 1.0 / 3,
                      .lr = 1,
                      .words_per_s = 1e4,
                      .epoch_nats = 2.5 * (double)(step % 5 + 1),
                      .epoch_tokens = 8 * (step % 5 + 1)};
}

/* ---- lines ---- */

static void numbers_and_strings(void **state)
{
    (void)state;
    JsonLine l = {0};
    line_begin(&l);
    line_double(&l, "third", 1.0 / 3);
    line_double(&l, "one", 1);
    line_double(&l, "tiny", 5e-324);
    line_double(&l, "inf", INFINITY);
    line_double(&l, "nan", NAN);
    line_int(&l, "int", INT64_MIN);
    line_string(&l, "null", NULL);
    line_string(&l, "text", "a\"b\\c\n\x01\xc3\xa9\xff\xed\xa0\x80\xf0\x9f\x98\x80");
    line_open(&l, "list", '[');
    line_int(&l, NULL, 1);
    line_open(&l, NULL, '{');
    line_close(&l, '}');
    line_close(&l, ']');
    line_string(&l, "last", "");
    line_end(&l);
    assert_string_equal(
        l.text,
        "{\"third\":0.33333333333333331,\"one\":1,\"tiny\":4.9406564584124654e-324,\"inf\":null,"
        "\"nan\":null,"
        "\"int\":-9223372036854775808,\"null\":null,"
        "\"text\":"
        "\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
        "\xf0\x9f\x98\x80\",\"list\":[1,{}],\"last\":\"\"}\n");
    json_t *back = json_loads(l.text, 0, NULL);
    assert_non_null(back);
    json_decref(back);
    line_free(&l);
}

/* Checks every line that a run can write, byte by byte. */
static void each_event(void **state)
{
    (void)state;
    const char *path = in_folder("events.jsonl");
    Report *r = open_report(path, NULL);
    Error e;
    StepInfo step = step_info(0);
    EpochInfo epoch = epoch_info(2.5, NAN, INFINITY);
    epoch.lr = 0.5, epoch.seconds = 0.25;
    hide_stdout();
    assert_int_equal(report_step(r, &step, true, &e), 0);
    step = step_info(1);
    assert_int_equal(report_step(r, &step, false, &e), 0); /* --log-every */
    assert_int_equal(report_epoch(r, &epoch, &e), 0);
    tell_scores(r);
    /* The first of four positions is given; the classes are 0 and 3 of four, and the best
     * perplexity is 1. */
    static int32_t ids[4];
    double nats[4] = {NAN, 1, 2, 3};
    data.known = &known, data.nats = nats, data.split = 2;
    data.corpus.split[2] = (Stream){.ids = ids, .n = 4};
    tell_split(r, 2, 8, NAN, 29);
    data.known = NULL, data.nats = NULL;
    show_stdout();
    report_close(r);
    char *text = file_read(path, NULL), *rest = strchr(text, '\n');
    assert_non_null(rest);
    *rest++ = 0;
    assert_contains(text, "{\"event\":\"run\",\"version\":");
    assert_contains(
        text, ",\"seed\":\"1\",\"dropout_sites\":\"nonrecurrent\",\"backend\":\"cpu\",\"kernel\":"
              "null,\"precision\":\"f32\",");
    assert_contains(text, ",\"max_steps\":null,\"threads\":2,");
    assert_contains(
        text,
        ",\"device\":\"a \\\"quoted\\\" device\",\"corpus\":null,\"corpus_sha256\":\"abc\",\"V\":6,"
        "\"tokens\":{\"train\":50,\"valid\":20,\"test\":30},\"unknown\":{\"train\":0,\"valid\":3,"
        "\"test\":0},"
        "\"windows\":5,\"parameters\":123,\"bytes\":4096}");
    assert_null(strstr(text, "folder")); /* a log has no paths */
    assert_string_equal(
        rest,
        "{\"event\":\"step\",\"step\":0,\"epoch\":1,\"loss\":0.10000000000000001,\"nats\":2.5,"
        "\"tokens\":8,"
        "\"grad_norm\":0.33333333333333331,\"lr\":1,\"words_per_s\":10000}\n"
        "{\"event\":\"epoch\",\"epoch\":1,\"train_ppl\":2.5,\"valid_ppl\":null,\"valid_ppl_paper\":"
        "null,"
        "\"lr\":0.5,\"seconds\":0.25}\n"
        "{\"event\":\"valid\",\"valid_ppl\":8,\"valid_ppl_paper\":4,\"protocol\":\"zaremba\","
        "\"tokens\":19}\n"
        "{\"event\":\"test\",\"test_ppl\":8,\"protocol\":\"zaremba\",\"tokens\":29}\n"
        "{\"event\":\"test\",\"test_ppl\":8,\"protocol\":\"zaremba\",\"tokens\":29,\"best_ppl\":1,"
        "\"classes\":{"
        "\"content\":{\"ppl\":4.4816890703380645,\"best_ppl\":1,\"tokens\":2},"
        "\"after_short\":{\"ppl\":null,\"best_ppl\":null,\"tokens\":0},"
        "\"after_long\":{\"ppl\":null,\"best_ppl\":null,\"tokens\":0},"
        "\"filler\":{\"ppl\":20.085536923187668,\"best_ppl\":1,\"tokens\":1}}}\n");
    free(text);
    /* Every perplexity that is printed for people is followed by its protocol. */
    text = file_read(in_folder("out"), NULL);
    assert_contains(text, "valid perplexity 8.000 (zaremba, 19 words), 4.000 as the paper counts");
    assert_contains(text, "test perplexity 8.000 (zaremba, 29 words)");
    assert_contains(text, "best possible");
    free(text);
}

/* ---- a continued log ---- */

/* Checks the lines of a log, each written as one letter: r run, s step N, e epoch N, v valid, t
 * test. */
static void assert_lines(const char *path, const char *expected)
{
    char *text = file_read(path, NULL), found[1024] = "";
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        json_t *object = json_loads(line, 0, NULL);
        if (!object) fail_msg("not JSON: %s", line);
        const char *event = json_string_value(json_object_get(object, "event"));
        const json_t *number = json_object_get(object, event);
        size_t n = strlen(found);
        snprintf(found + n, sizeof found - n, "%c", event[0]);
        if (json_is_integer(number))
            snprintf(found + n + 1, sizeof found - n - 1, "%d", (int)json_integer_value(number));
        strcat(found, " ");
        json_decref(object);
    }
    assert_string_equal(found, expected);
    free(text);
}

/* Writes a log: epoch 1 (steps 0 to 4), two steps of epoch 2, and the scores of a run that ended
 * there. */
static void write_log(const char *path)
{
    Report *r = open_report(path, NULL);
    Error e;
    EpochInfo epoch = epoch_info(2, 3, 2);
    hide_stdout();
    for (int64_t step = 0; step < 7; step++) {
        StepInfo info = step_info(step);
        if (step == 5) assert_int_equal(report_epoch(r, &epoch, &e), 0);
        assert_int_equal(report_step(r, &info, true, &e), 0);
    }
    tell_scores(r);
    show_stdout();
    report_close(r);
}

static void append(const char *path, const char *text)
{
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void what_a_resumed_log_keeps(void **state)
{
    (void)state;
    const char *path = in_folder("resumed.jsonl");
    const struct {
        Counters at;
        const char *lines;
    } cases[] = {
        {{.step = 7, .epoch = 2, .minibatch = 2}, "r s0 s1 s2 s3 s4 e1 s5 s6 "},
        {{.step = 6, .epoch = 2, .minibatch = 1}, "r s0 s1 s2 s3 s4 e1 s5 "},
        {{.step = 5, .epoch = 2, .minibatch = 0}, "r s0 s1 s2 s3 s4 e1 "},
        /* saved before the epoch was scored */
        {{.step = 5, .epoch = 1, .minibatch = 5}, "r s0 s1 s2 s3 s4 "},
        {{.step = 0, .epoch = 1, .minibatch = 0}, "r "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_log(path);
        assert_lines(path, "r s0 s1 s2 s3 s4 e1 s5 s6 v t ");
        append(path, i % 2 ? "{\"event\":\"step\",\"step\":3,\"ep" : ""); /* truncated by a kill */
        report_close(open_report(path, &cases[i].at));
        assert_lines(path, cases[i].lines);
        assert_int_equal(files_named("resumed.jsonl"), 1); /* no temporary file remains */
    }
    /* The bytes of the kept lines do not change, and the run line is that of the current run. */
    write_log(path);
    char *before = file_read(path, NULL);
    report_close(open_report(path, &cases[0].at));
    char *after = file_read(path, NULL);
    assert_memory_equal(before, after, strlen(after));
    free(before);
    free(after);
}

static void a_log_that_is_not_there(void **state)
{
    (void)state;
    const Counters at = {.step = 7, .epoch = 2, .minibatch = 2};
    const char *path = in_folder("absent.jsonl");
    report_close(open_report(path, &at));
    assert_lines(path, "r ");
    file_write(path, "");
    report_close(open_report(path, &at));
    assert_lines(path, "r ");
    file_write(path, "{\"event\":\"ru"); /* killed within the first line */
    report_close(open_report(path, &at));
    assert_lines(path, "r ");
}

static void a_file_of_somebody_else(void **state)
{
    (void)state;
    const Counters at = {.step = 7, .epoch = 2, .minibatch = 2};
    const char *const foreign[] = {
        "hello\n", "h", "{\"event\":\"eval\",\"split\":\"test\"}\n", "{\"event\": \"run\"}\n",
        "\n",      "[]"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        const char *path = in_folder("foreign");
        file_write(path, foreign[i]);
        Error e;
        assert_int_equal(open_fails(path, &at, &e), EXIT_BAD_DATA);
        assert_contains(e.text, path);
        char *text = file_read(path, NULL);
        assert_string_equal(text, foreign[i]);
        free(text);
        assert_int_equal(files_named("foreign"), 1);
    }
}

static void logs_that_cannot_be_written(void **state)
{
    (void)state;
    Error e;
    assert_int_equal(open_fails(folder, NULL, &e), EXIT_BAD_DATA);
    assert_contains(e.text, "--log-json");
    assert_int_equal(open_fails(in_folder("no-such-folder/log"), NULL, &e), EXIT_BAD_DATA);
    assert_int_equal(open_fails("/dev/full", NULL, &e), EXIT_BAD_DATA);
    assert_contains(e.text, "/dev/full");
    const Counters at = {.step = 1, .epoch = 1, .minibatch = 1};
    assert_int_equal(open_fails("/dev/full", &at, &e), EXIT_BAD_DATA);
}

/* ---- a terminal ---- */

/* Runs plstm on a terminal of `columns` columns; returns its output, malloc'd. */
static char *on_terminal(int columns, const char *const *words)
{
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    int master;
    fflush(NULL);
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    assert_true(pid >= 0);
    if (!pid) {
        const char *path = getenv("PLSTM");
        execv(path ? path : "build/plstm", (char *const *)words);
        _exit(127);
    }
    size_t n = 0, capacity = 1 << 20;
    char *text = malloc(capacity);
    assert_non_null(text);
    struct pollfd wait = {.fd = master, .events = POLLIN};
    while (poll(&wait, 1, 20000) > 0 && n + 1 < capacity) {
        ssize_t got = read(master, text + n, capacity - n - 1);
        if (got <= 0) break; /* EIO: the program has ended */
        n += (size_t)got;
    }
    text[n] = 0;
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(master);
    assert_int_equal(WEXITSTATUS(status), 0);
    return text;
}

/* One line is rewritten and never wraps; only the table remains on the screen. */
static void one_line_rewrites_itself(void **state)
{
    (void)state;
    const char *const words[] = {"plstm", "train",     "--data",   "synthetic", "--hidden",
                                 "64",    "--layers",  "1",        "--batch",   "20",
                                 "--seq", "20",        "--epochs", "2",         "--eval",
                                 "valid", "--threads", "1",        NULL};
    enum { COLUMNS = 60 };
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    char *text = on_terminal(COLUMNS, words);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds =
        (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
    assert_contains(text, "\repoch 1/2  step ");
    assert_contains(text, "train ppl");
    int rewritten = 0;
    for (const char *p = text; (p = strstr(p, "\repoch ")); p++, rewritten++) {
        const char *stop = strstr(p, "\033[K");
        assert_non_null(stop);
        /* The carriage return counts as the column that stays free. */
        assert_true(stop - p <= COLUMNS);
        assert_null(memchr(p, '\n', (size_t)(stop - p)));
    }
    assert_true(rewritten >= 2);
    /* The line is rewritten at most every 0.1 s, and once more at each epoch's start. */
    assert_true(rewritten <= 10 * seconds + 2);
    assert_contains(text, "\r\033[K    1 "); /* cleared before the table's row */
    free(text);

    const char *quiet[20];
    memcpy(quiet, words, sizeof words);
    quiet[18] = "--quiet", quiet[19] = NULL;
    text = on_terminal(COLUMNS, quiet);
    assert_null(strstr(text, "\repoch"));
    assert_contains(text, "parameters");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_strings),      cmocka_unit_test(each_event),

        cmocka_unit_test(what_a_resumed_log_keeps), cmocka_unit_test(a_log_that_is_not_there),
        cmocka_unit_test(a_file_of_somebody_else),  cmocka_unit_test(logs_that_cannot_be_written),
        cmocka_unit_test(one_line_rewrites_itself),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
