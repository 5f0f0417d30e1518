#include "options.h"

#include <argp.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "number.h"

/* argp's keys: above the characters, so that none becomes a one-letter option. */
enum { KEY_QUIET = 0x100, KEY_HELP, KEY_PRESET, KEY_OPTION = 0x200, KEY_SETTING = 0x300 };
enum { MAX_OPTIONS = 64, DOC_SIZE = 256 };

static const char preset_takes[] = "small, medium, large or demo";

/* What argp is given, and what its parser needs to answer. */
typedef struct Table {
    struct argp_option option[MAX_OPTIONS + 1];
    char doc[MAX_OPTIONS][DOC_SIZE];
    int n;
    CommandLine *line;
    Error *e;
} Table;

/* ---- the table: a command's own options, its settings, and what every command has ---- */

/* One group each: argp sorts by name within a group, and the lists have an order that reads better. */
static struct argp_option *add(Table *t, const char *name, int key, const char *arg)
{
    assert(t->n < MAX_OPTIONS);
    t->option[t->n] =
        (struct argp_option){.name = name, .key = key, .arg = arg, .doc = t->doc[t->n], .group = t->n + 1};
    return &t->option[t->n++];
}

static char *doc_of(Table *t, const struct argp_option *o) { return t->doc[o - t->option]; }

static const char *setting_arg(const SettingInfo *info)
{
    switch (info->type) {
    case TYPE_INT:
    case TYPE_U64: return "N";
    case TYPE_DOUBLE: return "X";
    case TYPE_PATH: return strcmp(info->name, "data") ? "F" : "DIR";
    default: return "NAME";
    }
}

static void table_fill(Table *t, CommandLine *line)
{
    Settings defaults;
    settings_defaults(&defaults);
    if (line->preset) {
        struct argp_option *o = add(t, "preset", KEY_PRESET, "NAME");
        snprintf(doc_of(t, o), DOC_SIZE,
                 "values to start from: %s (default small); an option given beside it beats it",
                 preset_takes);
    }
    for (int i = 0; i < line->n_options; i++) {
        const Option *own = &line->options[i];
        struct argp_option *o = add(t, own->name, KEY_OPTION + i, own->arg);
        bool text = own->type <= OPTION_PATHS || own->type == OPTION_FLAG; /* says it in its help already */
        snprintf(doc_of(t, o), DOC_SIZE, "%s%s%s%s%s%s", own->help, text ? "" : ": ", text ? "" : own->takes,
                 own->initial ? " (default " : "", own->initial ? own->initial : "", own->initial ? ")" : "");
    }
    for (int i = 0; line->settings && line->settings[i]; i++) {
        int k = settings_find(line->settings[i]);
        assert(k >= 0 && k < (int)(sizeof line->setting / sizeof line->setting[0]));
        const SettingInfo *info = settings_info(k);
        struct argp_option *o = add(t, info->name, KEY_SETTING + k, setting_arg(info));
        char value[64];
        settings_show(&defaults, k, value, sizeof value);
        double number = strtod(value, NULL);
        bool counts = info->type == TYPE_INT || info->type == TYPE_DOUBLE;
        /* A bound that is off unless given (max-steps -1, threads 0) has no default that one could write. */
        bool shown = value[0] && !line->no_defaults &&
                     (!counts || (info->low_open ? number > info->low : number >= info->low));
        int n = snprintf(doc_of(t, o), DOC_SIZE, "%s", info->help);
        if (info->type != TYPE_PATH)
            n += snprintf(doc_of(t, o) + n, DOC_SIZE - (size_t)n, ": %s", info->takes);
        if (shown) snprintf(doc_of(t, o) + n, DOC_SIZE - (size_t)n, " (default %s)", value);
    }
    strcpy(doc_of(t, add(t, "quiet", KEY_QUIET, NULL)), "no progress and no hints on standard error");
    strcpy(doc_of(t, add(t, "help", KEY_HELP, NULL)), "print this page");
}

static const struct argp_option *table_find(const Table *t, const char *name, size_t length)
{
    for (int i = 0; i < t->n; i++)
        if (strlen(t->option[i].name) == length && !memcmp(t->option[i].name, name, length))
            return &t->option[i];
    return NULL;
}

/* ---- values ---- */

static const char *takes_of(const CommandLine *line, int key)
{
    if (key >= KEY_SETTING) return settings_info(key - KEY_SETTING)->takes;
    if (key >= KEY_OPTION) return line->options[key - KEY_OPTION].takes;
    return preset_takes;
}

void path_list_free(PathList *l)
{
    for (int i = 0; i < l->n; i++) free(l->path[i]);
    free(l->path);
    *l = (PathList){0};
}

static bool is_path(const char *value) { return value[0] && strcmp(value, "-"); }

/* Whether value[0..n) became the list's last path. */
static bool path_add(PathList *l, const char *value, size_t n)
{
    char **path = realloc(l->path, (size_t)(l->n + 1) * sizeof *path);
    if (!path) return false;
    l->path = path;
    l->path[l->n] = strndup(value, n);
    if (!l->path[l->n]) return false;
    return is_path(l->path[l->n++]);
}

static bool paths_set(PathList *l, const char *value)
{
    struct stat file;
    if (!stat(value, &file)) return path_add(l, value, strlen(value));
    for (;; value++) {
        size_t n = strcspn(value, ",");
        if (!path_add(l, value, n)) return false;
        value += n;
        if (!*value) return true;
    }
}

static bool option_set(const Option *o, const char *value)
{
    switch (o->type) {
    case OPTION_TEXT: *(const char **)o->value = value; return value[0] != 0;
    case OPTION_PATH: *(const char **)o->value = value; return is_path(value);
    case OPTION_PATHS: return paths_set(o->value, value);
    case OPTION_INT: return number_int(value, o->low, o->high, o->value);
    case OPTION_U64: return number_u64(value, o->value);
    case OPTION_DOUBLE: {
        double v;
        if (!number_double(value, &v) || v < o->low || v > o->high) return false;
        *(double *)o->value = v;
        return true;
    }
    case OPTION_FLAG: *(bool *)o->value = true; return true;
    case OPTION_CHOICE: {
        int64_t index = number_choice(o->choices, value);
        if (index >= 0) *(int64_t *)o->value = index;
        return index >= 0;
    }
    }
    return false;
}

/* ---- the line before argp: every fault that argp would tell in its own words, or not at all ---- */

/* Names that other programs have for an option of this one. */
static const struct {
    const char *name, *hint;
} foreign[] = {
    {"dropout", "--keep takes the share that is kept, 0.65 for a dropout of 0.35"},
    {"nhid", "--hidden takes the units of a layer"},
    {"emsize", "an embedding has the width of a layer, --hidden"},
    {"nlayers", "--layers takes how many there are"},
    {"bptt", "--seq takes the steps of a minibatch"},
    {"batch-size", "--batch takes the rows of a minibatch"},
    {"learning-rate", "--lr takes it"},
    {"lr-decay", "--decay takes what lr is divided by"},
    {"steps", "--max-steps takes when to end"},
    {"log-interval", "--log-every takes it"},
    {"tied", "the weights of encoder and decoder are not tied here"},
    {"cuda", "--backend cuda runs on a GPU"},
    {"gpu", "--backend cuda runs on a GPU"},
    {"device", "--backend cuda runs on a GPU, and CUDA_VISIBLE_DEVICES says which"},
    {"checkpoint", "--save writes one, --resume goes on from one, --weights reads one"},
    {"model", "--save writes a checkpoint, --resume goes on from one, --weights reads one"},
    {"output", "--save takes a checkpoint's file, --log-json a log's"},
    {"verbose", "everything is told unless --quiet is given"},
};

static int refuse_name(const Table *t, const char *name, size_t length, Error *e)
{
    char full[512] = "", dashed[64];
    int matches = 0;
    snprintf(dashed, sizeof dashed, "%.*s", (int)(length < sizeof dashed ? length : 0), name);
    for (char *p = dashed; *p; p++)
        if (*p == '_') *p = '-';
    const struct argp_option *meant = table_find(t, dashed, strlen(dashed));
    if (meant)
        return error_set(e, EXIT_USAGE, "--%.*s is not an option: it is written --%s", (int)length, name,
                         meant->name);
    const char *hint = NULL;
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0] && !hint; i++)
        if (!strcmp(foreign[i].name, dashed)) hint = foreign[i].hint;
    for (int i = 0; i < t->n && length; i++) {
        if (strncmp(t->option[i].name, name, length)) continue;
        size_t n = strlen(full);
        snprintf(full + n, sizeof full - n, "%s--%s", matches++ ? " or " : "", t->option[i].name);
    }
    if (matches)
        return error_set(e, EXIT_USAGE, "--%.*s is not an option: names are written in full, %s%s%s",
                         (int)length, name, full, hint ? "; " : "", hint ? hint : "");
    return error_set(e, EXIT_USAGE, "--%.*s is not an option of plstm %s%s%s", (int)length, name,
                     t->line->command, hint ? ": " : "", hint ? hint : "");
}

static bool may_repeat(const CommandLine *line, int key)
{
    return key >= KEY_OPTION && key < KEY_OPTION + line->n_options &&
           line->options[key - KEY_OPTION].type == OPTION_PATHS;
}

static int check_line(const Table *t, int argc, char **argv, Error *e)
{
    bool seen[MAX_OPTIONS] = {false};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-' || !word[1]) continue; /* an operand: the parser counts them */
        if (!strcmp(word, "--")) break;
        if (word[1] != '-')
            return error_set(e, EXIT_USAGE, "%s is not an option of plstm %s: options begin with two dashes",
                             word, t->line->command);
        const char *name = word + 2, *equals = strchr(name, '=');
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        const struct argp_option *o = table_find(t, name, length);
        if (!o) return refuse_name(t, name, length, e);
        if (!o->arg) {
            if (equals) return error_set(e, EXIT_USAGE, "--%s takes no value, not '%s'", o->name, equals + 1);
            if (o->key == KEY_HELP) return EXIT_DONE; /* printed before what follows is looked at */
        }
        if (seen[o - t->option] && !may_repeat(t->line, o->key))
            return error_set(e, EXIT_USAGE, "--%s is given twice", o->name);
        seen[o - t->option] = true;
        if (!o->arg) continue;
        if (equals) continue;
        const char *value = ++i < argc ? argv[i] : NULL;
        if (!value)
            return error_set(e, EXIT_USAGE, "--%s takes %s, and nothing follows it", o->name,
                             takes_of(t->line, o->key));
        /* `--save --quiet`: a value was forgotten. A value that does begin so is written --save=--quiet. */
        if (!strncmp(value, "--", 2))
            return error_set(e, EXIT_USAGE, "--%s takes %s, and the option %s follows it", o->name,
                             takes_of(t->line, o->key), value);
    }
    return EXIT_DONE;
}

/* ---- argp ---- */

static error_t parser(int key, char *arg, struct argp_state *state)
{
    Table *t = state->input;
    CommandLine *line = t->line;
    Error *e = t->e;
    int code = EXIT_DONE;
    if (line->helped) return 0;
    if (key == KEY_QUIET) {
        line->quiet = true;
    } else if (key == KEY_HELP) {
        argp_help(state->root_argp, stdout, ARGP_HELP_SHORT_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG,
                  state->name);
        line->helped = true;
    } else if (key == KEY_PRESET) {
        Settings scratch;
        settings_defaults(&scratch);
        if (!settings_is_preset(arg)) code = settings_preset(&scratch, arg, e);
        line->preset_value = arg;
    } else if (key >= KEY_SETTING && key < KEY_SETTING + settings_count()) {
        Settings scratch;
        settings_defaults(&scratch);
        code = settings_set(&scratch, key - KEY_SETTING, arg, e);
        line->setting[key - KEY_SETTING] = arg;
    } else if (key >= KEY_OPTION && key < KEY_OPTION + line->n_options) {
        const Option *o = &line->options[key - KEY_OPTION];
        if (!option_set(o, arg))
            code = error_set(e, EXIT_USAGE, "--%s takes %s, not '%s'", o->name, o->takes, arg);
    } else if (key == ARGP_KEY_ARG) {
        if (!line->operand)
            code =
                error_set(e, EXIT_USAGE, "plstm %s takes options only, and '%s' is none", line->command, arg);
        else if (line->operands)
            code = path_add(line->operands, arg, strlen(arg))
                       ? EXIT_DONE
                       : error_set(e, EXIT_USAGE, "plstm %s takes %s, not '%s'", line->command, line->operand,
                                   arg);
        else if (line->operand_value)
            code = error_set(e, EXIT_USAGE, "plstm %s takes one %s, and '%s' is one more", line->command,
                             line->operand, arg);
        else line->operand_value = arg;
    } else if (key == ARGP_KEY_END) {
        if (line->operand && !line->operand_value && !(line->operands && line->operands->n))
            code =
                error_set(e, EXIT_USAGE, "plstm %s takes %s, which is missing", line->command, line->operand);
    } else {
        return ARGP_ERR_UNKNOWN;
    }
    return code ? EINVAL : 0;
}

int options_parse(CommandLine *line, int argc, char **argv, Error *e)
{
    Table t = {.line = line, .e = e};
    table_fill(&t, line);
    int code = check_line(&t, argc, argv, e);
    if (code) return code;

    char name[64];
    snprintf(name, sizeof name, "plstm %s", line->command);
    char *first = argv[0];
    argv[0] = name; /* what argp calls the program */
    const struct argp argp = {
        .options = t.option, .parser = parser, .args_doc = line->operand, .doc = line->summary};
    error_t failed =
        argp_parse(&argp, argc, argv, ARGP_IN_ORDER | ARGP_NO_HELP | ARGP_NO_ERRS | ARGP_NO_EXIT, NULL, &t);
    argv[0] = first;
    if (line->helped) return EXIT_DONE;
    if (failed == ENOMEM) return error_set(e, EXIT_FAILED, "memory ran out while the command line was read");
    return failed ? e->code : EXIT_DONE;
}

int options_settings(const CommandLine *line, Settings *s, Error *e)
{
    settings_defaults(s);
    int task = settings_find("task");
    if (line->setting[task]) s->task = line->setting[task];
    char names[PRESET_NAMES];
    int code = EXIT_DONE;
    if (line->preset_value || settings_preset_names(s->task, names)[0])
        code = settings_preset(s, line->preset_value, e);
    for (int i = 0; i < settings_count() && !code; i++)
        if (line->setting[i]) code = settings_set(s, i, line->setting[i], e);
    return code;
}
