/* Command lines: names in full, values told by the list of settings, faults in one sentence. The parser is
 * called directly, so that every option and every prefix of it can be tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/options.h"

enum { WORDS = 16 };

static const char **every_setting(void)
{
    static const char *names[64];
    for (int i = 0; i < settings_count(); i++) names[i] = settings_info(i)->name;
    names[settings_count()] = NULL;
    return names;
}

static CommandLine train_line(void)
{
    return (CommandLine){.command = "train", .settings = every_setting(), .preset = true};
}

/* Parses words (without the command's name; NULL ends them). */
static int parse(CommandLine *line, Error *e, const char *const *words)
{
    char *argv[WORDS + 2] = {(char *)line->command};
    int argc = 1;
    for (; words[argc - 1]; argc++) argv[argc] = (char *)words[argc - 1];
    memset(e, 0, sizeof *e);
    return options_parse(line, argc, argv, e);
}
#define PARSE(line, e, ...) parse(line, e, (const char *const[]){__VA_ARGS__, NULL})

static void assert_says(const Error *e, const char *phrase)
{
    if (!strstr(e->text, phrase)) fail_msg("'%s' is not in '%s'", phrase, e->text);
}

/* ---- names ---- */

static bool is_option(const char *name)
{
    return settings_find(name) >= 0 || !strcmp(name, "preset") || !strcmp(name, "quiet") ||
           !strcmp(name, "help");
}

/* glibc's getopt would take each of these for the option that it begins. */
static void every_prefix_is_refused(void **state)
{
    (void)state;
    int tried = 0;
    for (int i = 0; i < settings_count(); i++) {
        const char *name = settings_info(i)->name;
        for (size_t n = 1; n < strlen(name); n++) {
            char prefix[40], joined[48], separate[48], full[48];
            snprintf(prefix, sizeof prefix, "%.*s", (int)n, name);
            if (is_option(prefix)) continue;
            snprintf(full, sizeof full, "--%s", name);
            snprintf(separate, sizeof separate, "--%s", prefix);
            snprintf(joined, sizeof joined, "--%s=1", prefix);
            Error e;
            CommandLine line = train_line();
            assert_int_equal(PARSE(&line, &e, separate, "1"), EXIT_USAGE);
            assert_says(&e, separate);
            assert_says(&e, "in full");
            assert_says(&e, full);
            assert_int_equal(PARSE(&line, &e, joined), EXIT_USAGE);
            assert_says(&e, full);
            tried++;
        }
    }
    assert_true(tried > 100);
}

static void names_that_are_none(void **state)
{
    (void)state;
    Error e;
    CommandLine line = train_line();
    assert_int_equal(PARSE(&line, &e, "--frob", "3"), EXIT_USAGE);
    assert_says(&e, "--frob is not an option of plstm train");
    assert_int_equal(PARSE(&line, &e, "--=3"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &e, "--hiddenx", "3"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &e, "--Hidden", "3"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &e, "--log_every", "3"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &e, "-h"), EXIT_USAGE);
    assert_says(&e, "two dashes");
    assert_int_equal(PARSE(&line, &e, "-?"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &e, "stray"), EXIT_USAGE);
    assert_says(&e, "'stray'");
    assert_int_equal(PARSE(&line, &e, "--", "--hidden"), EXIT_USAGE);
    assert_says(&e, "'--hidden'");
    assert_int_equal(PARSE(&line, &e, "-"), EXIT_USAGE);
    /* argp's own, which we do without */
    assert_int_equal(PARSE(&line, &e, "--usage"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &e, "--version"), EXIT_USAGE);
}

/* ---- values ---- */

static const char *good_value(const SettingInfo *info)
{
    switch (info->type) {
    case TYPE_INT:
    case TYPE_U64: return "7";
    case TYPE_DOUBLE: return "0.5";
    case TYPE_PATH: return "some/file";
    default: return NULL;
    }
}

static void both_spellings(void **state)
{
    (void)state;
    for (int i = 0; i < settings_count(); i++) {
        const SettingInfo *info = settings_info(i);
        char joined[128], separate[64], choice[64];
        const char *value = good_value(info);
        if (!value) {
            snprintf(choice, sizeof choice, "%.*s", (int)strcspn(info->choices ? info->choices : "name", "|"),
                     info->choices ? info->choices : "name");
            value = choice;
        }
        snprintf(separate, sizeof separate, "--%s", info->name);
        snprintf(joined, sizeof joined, "--%s=%s", info->name, value);
        Error e;
        CommandLine a = train_line(), b = train_line();
        Settings s, t;
        if (PARSE(&a, &e, separate, value)) fail_msg("%s", e.text);
        if (PARSE(&b, &e, joined)) fail_msg("%s", e.text);
        assert_string_equal(a.setting[i], value);
        assert_string_equal(b.setting[i], value);
        assert_int_equal(options_settings(&a, &s, &e), EXIT_DONE);
        assert_int_equal(options_settings(&b, &t, &e), EXIT_DONE);
        assert_true(settings_equal(&s, &t, i));
        assert_true(s.given == (uint64_t)1 << i);
        char text[64];
        settings_format(&s, i, text, sizeof text);
        assert_string_equal(text, value);
    }
}

/* Every setting says what it takes, whatever is wrong with its value. */
static void every_bad_value_is_told(void **state)
{
    (void)state;
    const char *const bad_numbers[] = {"",   "x",  "-1", "nan", "inf", "-inf", "0x10",  "1e999", "1 ",
                                       " 1", "1x", "+1", "--1", "1,5", "１",   "1e400", NULL};
    const char *const bad_names[] = {"", "Zaremba", "non", "ALL", "cpu ", NULL};
    int tried = 0;
    for (int i = 0; i < settings_count(); i++) {
        const SettingInfo *info = settings_info(i);
        const char *const *bad = info->type <= TYPE_DOUBLE ? bad_numbers : info->choices ? bad_names : NULL;
        for (; bad && *bad; bad++) {
            char joined[128], told[256];
            snprintf(joined, sizeof joined, "--%s=%s", info->name, *bad);
            snprintf(told, sizeof told, "--%s takes %s, not '%s'", info->name, info->takes, *bad);
            Error e;
            CommandLine line = train_line();
            if (PARSE(&line, &e, joined) != EXIT_USAGE) fail_msg("%s was taken", joined);
            assert_string_equal(e.text, told);
            tried++;
        }
        char separate[64], told[256];
        snprintf(separate, sizeof separate, "--%s", info->name);
        snprintf(told, sizeof told, "--%s takes %s, and nothing follows it", info->name, info->takes);
        Error e;
        CommandLine line = train_line();
        assert_int_equal(PARSE(&line, &e, separate), EXIT_USAGE);
        assert_string_equal(e.text, told);
        assert_int_equal(PARSE(&line, &e, separate, "--quiet"), EXIT_USAGE);
        assert_says(&e, "--quiet follows it");
    }
    assert_true(tried > 200);
}

/* Bounds of SPEC 8 and of sense. */
static void edges(void **state)
{
    (void)state;
    const struct {
        const char *option;
        bool taken;
    } edge[] = {
        {"--keep=0", false},
        {"--keep=0.0", false},
        {"--keep=1e-300", true},
        {"--keep=1", true},
        {"--keep=1.0000001", false},
        {"--keep=.5", true},
        {"--hidden=0", false},
        {"--hidden=1", true},
        {"--hidden=1.5", false},
        {"--hidden=99999999999999999999", false},
        {"--layers=0", false},
        {"--batch=0", false},
        {"--seq=0", false},
        {"--epochs=0", true},
        {"--max-steps=0", true},
        {"--threads=0", false},
        {"--log-every=0", false},
        {"--save-every=0", false},
        {"--save-every=0.01", true},
        {"--clip=0", false},
        {"--decay=0", false},
        {"--lr=0", true},
        {"--seed=0", true},
        {"--seed=18446744073709551615", true},
        {"--seed=18446744073709551616", false},
        {"--seed=-1", false},
        {"--init=0", true},
    };
    for (size_t i = 0; i < sizeof edge / sizeof edge[0]; i++) {
        Error e;
        CommandLine line = train_line();
        int code = PARSE(&line, &e, edge[i].option);
        if (code != (edge[i].taken ? EXIT_DONE : EXIT_USAGE))
            fail_msg("%s: exit %d %s", edge[i].option, code, e.text);
    }
}

static void flags_take_no_value(void **state)
{
    (void)state;
    Error e;
    CommandLine line = train_line();
    assert_int_equal(PARSE(&line, &e, "--quiet=yes"), EXIT_USAGE);
    assert_says(&e, "--quiet takes no value, not 'yes'");
    assert_int_equal(PARSE(&line, &e, "--quiet"), EXIT_DONE);
    assert_true(line.quiet);
}

/* ---- what holds ---- */

static void a_second_one_is_refused(void **state)
{
    (void)state;
    Error e;
    CommandLine line = train_line();
    assert_int_equal(PARSE(&line, &e, "--hidden", "5", "--hidden=6"), EXIT_USAGE);
    assert_says(&e, "--hidden is given twice");
    CommandLine flags = train_line();
    assert_int_equal(PARSE(&flags, &e, "--quiet", "--quiet"), EXIT_USAGE);
    /* but a list of files may grow */
    PathList files = {0};
    const Option own[] = {
        {.name = "weights", .arg = "F", .takes = "files", .type = OPTION_PATHS, .value = &files}};
    CommandLine lists = {.command = "eval", .options = own, .n_options = 1};
    assert_int_equal(PARSE(&lists, &e, "--weights", "a,b", "--weights=c"), EXIT_DONE);
    assert_int_equal(files.n, 3);
    assert_string_equal(files.path[1], "b");
    assert_string_equal(files.path[2], "c");
    path_list_free(&files);
}

static void an_option_beats_the_preset(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        Error e;
        Settings s;
        CommandLine line = train_line();
        int code = order ? PARSE(&line, &e, "--hidden", "9", "--preset", "medium")
                         : PARSE(&line, &e, "--preset=medium", "--hidden=9");
        assert_int_equal(code, EXIT_DONE);
        assert_int_equal(options_settings(&line, &s, &e), EXIT_DONE);
        assert_int_equal(s.hidden, 9);
        assert_int_equal(s.seq, 35);
        assert_true(s.keep == 0.5);
        assert_string_equal(s.preset, "medium");
    }
    Error e;
    CommandLine line = train_line();
    assert_int_equal(PARSE(&line, &e, "--preset=huge"), EXIT_USAGE);
    assert_says(&e, "--preset takes small, medium, large or demo, not 'huge'");
    assert_int_equal(PARSE(&line, &e, "--preset"), EXIT_USAGE);
    assert_says(&e, "--preset takes small, medium, large or demo");
}

static void operands(void **state)
{
    (void)state;
    Error e;
    CommandLine line = {.command = "data", .operand = "DIR"};
    assert_int_equal(PARSE(&line, &e, "--quiet", "folder"), EXIT_DONE);
    assert_string_equal(line.operand_value, "folder");
    CommandLine none = {.command = "data", .operand = "DIR"};
    assert_int_equal(PARSE(&none, &e, "--quiet"), EXIT_USAGE);
    assert_says(&e, "DIR");
    CommandLine two = {.command = "data", .operand = "DIR"};
    assert_int_equal(PARSE(&two, &e, "a", "b"), EXIT_USAGE);
    assert_says(&e, "'b'");
    CommandLine dashed = {.command = "data", .operand = "DIR"};
    assert_int_equal(PARSE(&dashed, &e, "--", "--odd"), EXIT_DONE);
    assert_string_equal(dashed.operand_value, "--odd");
}

static void own_options(void **state)
{
    (void)state;
    const char *text = NULL;
    int64_t count = 3, choice = 0;
    uint64_t seed = 0;
    double number = 1;
    const Option own[] = {
        {.name = "text", .arg = "T", .takes = "words", .help = "", .type = OPTION_TEXT, .value = &text},
        {.name = "count",
         .arg = "N",
         .takes = "1 to 9",
         .help = "",
         .type = OPTION_INT,
         .low = 1,
         .high = 9,
         .value = &count},
        {.name = "number",
         .arg = "X",
         .takes = "0 to 2",
         .help = "",
         .type = OPTION_DOUBLE,
         .high = 2,
         .value = &number},
        {.name = "which",
         .arg = "W",
         .takes = "a or bc",
         .help = "",
         .type = OPTION_CHOICE,
         .choices = "a|bc",
         .value = &choice},
        {.name = "seed",
         .arg = "N",
         .takes = "a whole number",
         .help = "",
         .type = OPTION_U64,
         .value = &seed},
    };
    CommandLine line = {.command = "sample", .options = own, .n_options = 5};
    Error e;
    assert_int_equal(PARSE(&line, &e, "--text=a b", "--count", "9", "--number", "0", "--which", "bc",
                           "--seed", "18446744073709551615"),
                     EXIT_DONE);
    assert_string_equal(text, "a b");
    assert_int_equal(count, 9);
    assert_true(number == 0);
    assert_int_equal(choice, 1);
    assert_true(seed == UINT64_MAX);
    const char *const bad[] = {"--text=",      "--count=0",    "--count=10",  "--count=x",
                               "--number=nan", "--number=2.1", "--which=b",   "--which=bcd",
                               "--which=",     "--seed=-1",    "--number=-1", NULL};
    for (int i = 0; bad[i]; i++) {
        if (PARSE(&line, &e, bad[i]) != EXIT_USAGE) fail_msg("%s was taken", bad[i]);
        assert_says(&e, "takes");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(both_spellings),
        cmocka_unit_test(every_bad_value_is_told),
        cmocka_unit_test(edges),
        cmocka_unit_test(flags_take_no_value),
        cmocka_unit_test(a_second_one_is_refused),
        cmocka_unit_test(an_option_beats_the_preset),
        cmocka_unit_test(operands),
        cmocka_unit_test(own_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
