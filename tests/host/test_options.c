/* Tests command lines: options have full names, their values are those of the list of settings, and
 * a fault is one sentence. The parser is called directly, so that every option and every prefix of
 * it can be tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/command.h"

enum { WORDS = 16 };

static const Command train = {.name = "train", .settings = "", .preset = true};

/* Parses words (without the command's name; NULL ends them); the caller must call
 * command_line_free. */
static int parse(CommandLine *line, const Command *command, Error *e, const char *const *words)
{
    char *argv[WORDS + 2] = {(char *)command->name};
    int argc = 1;
    for (; words[argc - 1]; argc++) argv[argc] = (char *)words[argc - 1];
    memset(e, 0, sizeof *e);
    return command_parse(line, command, argc, argv, e);
}
#define PARSE(line, command, e, ...)                                                               \
    parse(line, command, e, (const char *const[]){__VA_ARGS__, NULL})

/* Parses words like `parse`, if only the exit code and the sentence matter. */
static int told(const Command *command, Error *e, const char *const *words)
{
    CommandLine line;
    int code = parse(&line, command, e, words);
    command_line_free(&line);
    return code;
}
#define TOLD(command, e, ...) told(command, e, (const char *const[]){__VA_ARGS__, NULL})

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

/* glibc's getopt would accept each of these prefixes as its option. */
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
            assert_int_equal(TOLD(&train, &e, separate, "1"), EXIT_USAGE);
            assert_says(&e, separate);
            assert_says(&e, "in full");
            assert_says(&e, full);
            assert_int_equal(TOLD(&train, &e, joined), EXIT_USAGE);
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
    assert_int_equal(TOLD(&train, &e, "--frob", "3"), EXIT_USAGE);
    assert_says(&e, "--frob is not an option of plstm train");
    assert_int_equal(TOLD(&train, &e, "--=3"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "--hiddenx", "3"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "--Hidden", "3"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "--log_every", "3"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "-h"), EXIT_USAGE);
    assert_says(&e, "two dashes");
    assert_int_equal(TOLD(&train, &e, "-?"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "stray"), EXIT_USAGE);
    assert_says(&e, "'stray'");
    assert_int_equal(TOLD(&train, &e, "--", "--hidden"), EXIT_USAGE);
    assert_says(&e, "'--hidden'");
    assert_int_equal(TOLD(&train, &e, "-"), EXIT_USAGE);
    /* Other programs have --usage, and plstm has --version, but `train` has neither. */
    assert_int_equal(TOLD(&train, &e, "--usage"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "--version"), EXIT_USAGE);
}

/* ---- values ---- */

static const char *good_value(const Option *info)
{
    switch (info->type) {
    case TYPE_INT:
    case TYPE_U64: return "7";
    case TYPE_DOUBLE: return "0.5";
    case TYPE_PATH: return "some/file";
    case TYPE_FLAG: return "";
    default: return NULL;
    }
}

static void both_spellings(void **state)
{
    (void)state;
    for (int i = 0; i < settings_count(); i++) {
        const Option *info = settings_info(i);
        char joined[128], separate[64], choice[64];
        const char *value = good_value(info);
        if (!value) {
            snprintf(choice, sizeof choice, "%.*s",
                     (int)strcspn(info->choices ? info->choices : "name", "|"),
                     info->choices ? info->choices : "name");
            value = choice;
        }
        snprintf(separate, sizeof separate, "--%s", info->name);
        snprintf(joined, sizeof joined, "--%s=%s", info->name, value);
        Error e;
        CommandLine a, b;
        bool flag = info->type == TYPE_FLAG;
        if (PARSE(&a, &train, &e, separate, flag ? "--quiet" : value)) fail_msg("%s", e.text);
        if (PARSE(&b, &train, &e, flag ? separate : joined)) fail_msg("%s", e.text);
        assert_true(option_equal(info, &a.settings, &b.settings));
        assert_true(a.settings.given == (uint64_t)1 << i && b.settings.given == a.settings.given);
        char text[64];
        assert_string_equal(option_format(info, &a.settings, text, sizeof text), value);
        command_line_free(&a), command_line_free(&b);
    }
}

/* Whatever is wrong with a setting's value, the sentence has the setting's valid values. */
static void every_bad_value_is_told(void **state)
{
    (void)state;
    const char *const bad_numbers[] = {"",     "x",     "-1", "nan",   "inf", "-inf",
                                       "0x10", "1e999", "1 ", " 1",    "1x",  "+1",
                                       "--1",  "1,5",   "１", "1e400", NULL};
    const char *const bad_names[] = {"", "Zaremba", "non", "ALL", "cpu ", NULL};
    int tried = 0;
    for (int i = 0; i < settings_count(); i++) {
        const Option *info = settings_info(i);
        const char *const *bad = info->type <= TYPE_DOUBLE ? bad_numbers
                                 : info->choices           ? bad_names
                                                           : NULL;
        for (; bad && *bad; bad++) {
            char joined[128], said[256];
            snprintf(joined, sizeof joined, "--%s=%s", info->name, *bad);
            snprintf(said, sizeof said, "--%s takes %s, not '%s'", info->name, info->takes, *bad);
            Error e;
            if (TOLD(&train, &e, joined) != EXIT_USAGE) fail_msg("%s was taken", joined);
            assert_string_equal(e.text, said);
            tried++;
        }
        if (info->type == TYPE_FLAG) continue;
        char separate[64], said[256];
        snprintf(separate, sizeof separate, "--%s", info->name);
        snprintf(said, sizeof said, "--%s takes %s, but no value follows it", info->name,
                 info->takes);
        Error e;
        assert_int_equal(TOLD(&train, &e, separate), EXIT_USAGE);
        assert_string_equal(e.text, said);
        assert_int_equal(TOLD(&train, &e, separate, "--quiet"), EXIT_USAGE);
        assert_says(&e, "--quiet follows it");
    }
    assert_true(tried > 200);
}

/* Checks the bounds of SPEC 8 and other sensible bounds. */
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
        int code = TOLD(&train, &e, edge[i].option);
        if (code != (edge[i].taken ? EXIT_DONE : EXIT_USAGE))
            fail_msg("%s: exit %d %s", edge[i].option, code, e.text);
    }
}

static void flags_take_no_value(void **state)
{
    (void)state;
    Error e;
    CommandLine line;
    assert_int_equal(TOLD(&train, &e, "--quiet=yes"), EXIT_USAGE);
    assert_says(&e, "--quiet takes no value, but 'yes' is given");
    assert_int_equal(TOLD(&train, &e, "--force=1"), EXIT_USAGE);
    assert_int_equal(PARSE(&line, &train, &e, "--quiet"), EXIT_DONE);
    assert_true(line.quiet && !line.notes && !line.settings.force);
    command_line_free(&line);
    assert_int_equal(PARSE(&line, &train, &e, "--force"), EXIT_DONE);
    assert_true(!line.quiet && line.notes == stderr && line.settings.force);
    command_line_free(&line);
}

/* ---- repetitions, presets, operands ---- */

static void a_second_one_is_refused(void **state)
{
    (void)state;
    Error e;
    assert_int_equal(TOLD(&train, &e, "--hidden", "5", "--hidden=6"), EXIT_USAGE);
    assert_says(&e, "--hidden is given twice");
    assert_int_equal(TOLD(&train, &e, "--quiet", "--quiet"), EXIT_USAGE);
    assert_int_equal(TOLD(&train, &e, "--preset=demo", "--preset=demo"), EXIT_USAGE);
    /* Only a list of files may be given in several options. */
    const Option own[] = {{"weights", TAKES_PATHS("files"), "", .at = 0, .needed = true}};
    const Command lists = {.name = "eval", COMMAND_OPTIONS(own, PathList)};
    CommandLine line;
    assert_int_equal(PARSE(&line, &lists, &e, "--weights", "a,b", "--weights=c"), EXIT_DONE);
    const PathList *files = line.own;
    assert_int_equal(files->n, 3);
    assert_string_equal(files->path[1], "b");
    assert_string_equal(files->path[2], "c");
    command_line_free(&line);
    assert_int_equal(TOLD(&lists, &e, "--quiet"), EXIT_USAGE);
    assert_says(&e, "--weights is required; it takes files");
}

static void an_option_beats_the_preset(void **state)
{
    (void)state;
    Error e;
    for (int order = 0; order < 2; order++) {
        CommandLine line;
        int code = order ? PARSE(&line, &train, &e, "--hidden", "9", "--preset", "medium")
                         : PARSE(&line, &train, &e, "--preset=medium", "--hidden=9");
        assert_int_equal(code, EXIT_DONE);
        const Settings *s = &line.settings;
        assert_true(s->hidden == 9 && s->seq == 35 && s->keep == 0.5);
        assert_string_equal(s->preset, "medium");
        command_line_free(&line);
    }
    assert_int_equal(TOLD(&train, &e, "--preset=huge"), EXIT_USAGE);
    assert_says(&e, "--preset takes small, medium, large or demo, not 'huge'");
    assert_int_equal(TOLD(&train, &e, "--preset"), EXIT_USAGE);
    assert_says(&e, "--preset takes small, medium, large or demo");
}

/* A preset sets exactly the settings that the list marks `of_preset`; --resume relies on the
 * mark. */
static void presets_set_what_the_list_says(void **state)
{
    (void)state;
    Settings small, untouched, probe;
    Error e;
    memset(&untouched, 0xff, sizeof untouched);
    untouched.task = "lm";
    probe = untouched, settings_defaults(&small);
    assert_int_equal(settings_preset(&probe, "small", &e), EXIT_DONE);
    for (int i = 0; i < settings_count(); i++) {
        const Option *o = settings_info(i);
        bool set = memcmp((char *)&probe + o->at, (char *)&untouched + o->at,
                          o->type == TYPE_FLAG ? 1 : 8) != 0;
        if (set != o->of_preset) fail_msg("--preset and %s", o->name);
    }
}

static void operands(void **state)
{
    (void)state;
    Error e;
    CommandLine line;
    const Command data = {.name = "data", .operand = "DIR", .operand_takes = "a folder"},
                  files = {.name = "ensemble",
                           .operand = "F...",
                           .operand_takes = "files",
                           .operands = true};
    assert_int_equal(PARSE(&line, &data, &e, "--quiet", "folder"), EXIT_DONE);
    assert_string_equal(line.operands.path[0], "folder");
    command_line_free(&line);
    assert_int_equal(TOLD(&data, &e, "--quiet"), EXIT_USAGE);
    assert_says(&e, "DIR is missing: plstm data takes a folder");
    assert_int_equal(TOLD(&data, &e, "a", "b"), EXIT_USAGE);
    assert_says(&e, "unexpected argument 'b': plstm data takes one argument, DIR");
    assert_int_equal(PARSE(&line, &data, &e, "--", "--odd"), EXIT_DONE);
    assert_string_equal(line.operands.path[0], "--odd");
    command_line_free(&line);
    assert_int_equal(PARSE(&line, &files, &e, "a", "b"), EXIT_DONE);
    assert_int_equal(line.operands.n, 2);
    command_line_free(&line);
    assert_int_equal(TOLD(&files, &e, "a", "-"), EXIT_USAGE);
    assert_says(&e, "plstm ensemble takes files, not '-'");
    assert_int_equal(TOLD(&data, &e, ""), EXIT_USAGE);
    assert_says(&e, "plstm data takes a folder, not ''");
}

typedef struct Own {
    const char *text;
    int64_t count, choice;
    uint64_t seed;
    double number;
} Own;

static void own_options(void **state)
{
    (void)state;
    const Option own[] = {
        {"text", TAKES_TEXT("words"), "", .at = offsetof(Own, text)},
        {"count", TAKES_WHOLE(1, 9), "", .at = offsetof(Own, count), "3"},
        {"number", TAKES_NUMBER(0, 2), "", .at = offsetof(Own, number), "1"},
        {"which", TAKES_CHOICE("a or bc", "a|bc"), "", .at = offsetof(Own, choice), "a"},
        {"seed", TAKES_SEED, "", .at = offsetof(Own, seed)},
    };
    const Command sample = {.name = "sample", COMMAND_OPTIONS(own, Own)};
    Error e;
    CommandLine line;
    const Own *o;
    assert_int_equal(PARSE(&line, &sample, &e, NULL), EXIT_DONE);
    o = line.own;
    assert_true(!o->text && o->count == 3 && o->number == 1 && o->choice == 0 && o->seed == 0);
    command_line_free(&line);
    assert_int_equal(PARSE(&line, &sample, &e, "--text=a b", "--count", "9", "--number", "0",
                           "--which", "bc", "--seed", "18446744073709551615"),
                     EXIT_DONE);
    o = line.own;
    assert_string_equal(o->text, "a b");
    assert_true(o->count == 9 && o->number == 0 && o->choice == 1 && o->seed == UINT64_MAX);
    command_line_free(&line);
    const char *const bad[] = {"--text=",      "--count=0",    "--count=10",  "--count=x",
                               "--number=nan", "--number=2.1", "--which=b",   "--which=bcd",
                               "--which=",     "--seed=-1",    "--number=-1", NULL};
    for (int i = 0; bad[i]; i++) {
        if (TOLD(&sample, &e, bad[i]) != EXIT_USAGE) fail_msg("%s was taken", bad[i]);
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
        cmocka_unit_test(presets_set_what_the_list_says),
        cmocka_unit_test(operands),
        cmocka_unit_test(own_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
