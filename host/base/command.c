#include "command.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"
#include "output.h"

static const Option option_preset = {
    "preset", TAKES_TEXT("small, medium, large or demo"),
    "values to start from: lm has small (the default), medium, large and demo; any other "
    "task has one of its own name and demo; an option given beside it overrides it",
    .at = offsetof(CommandLine, preset)};
static const Option option_quiet = {"quiet", TAKES_NOTHING,
                                    "no progress and no hints on standard error",
                                    .at = offsetof(CommandLine, quiet)};
static const Option option_help = {"help", TAKES_NOTHING, "print this page",
                                   .at = offsetof(CommandLine, help)};

/* An option that the command has, the record that holds its field, and whether the command line
 * gives it. */
typedef struct Entry {
    const Option *option;
    void *record;
    bool given;
    const char *value; /* kept for a setting, which is parsed after the preset */
} Entry;

enum { MOST_ENTRIES = 64 };
typedef struct Table {
    Entry entry[MOST_ENTRIES];
    int n;
    CommandLine *line;
} Table;

/* ---- the table: --preset, own options, settings, and what every command has ---- */

static void add(Table *t, const Option *o, void *record)
{
    assert(t->n < MOST_ENTRIES);
    t->entry[t->n++] = (Entry){o, record, false, NULL};
}

static void table_fill(Table *t)
{
    CommandLine *line = t->line;
    const Command *c = line->command;
    if (c->preset) add(t, &option_preset, line);
    for (int i = 0; i < c->n_options; i++) add(t, &c->options[i], line->own);
    for (int i = 0; c->settings && i < settings_count(); i++)
        if (!c->settings[0] || choice_index(c->settings, settings_info(i)->name) >= 0)
            add(t, settings_info(i), &line->settings);
    add(t, &option_quiet, line);
    add(t, &option_help, line);
}

static Entry *table_find(Table *t, const char *name, size_t length)
{
    for (int i = 0; i < t->n; i++)
        if (strlen(t->entry[i].option->name) == length &&
            !memcmp(t->entry[i].option->name, name, length))
            return &t->entry[i];
    return NULL;
}

static bool is_setting(const Entry *entry, const CommandLine *line)
{
    return entry->record == &line->settings;
}

/* ---- --help ---- */

enum { HELP_COLUMN = 29, HELP_WIDTH = 79 };

/* Prints words after the `at` columns that are already printed; later lines begin at `column`. */
static void print_words(const char *text, int column, int at)
{
    for (bool first = true; *text; first = false) {
        int n = (int)strcspn(text, " ");
        if (!first && at + 1 + n > HELP_WIDTH) {
            printf("\n%*s", column, "");
            at = column, first = true;
        }
        at += printf("%s%.*s", first ? "" : " ", n, text);
        text += n + (int)strspn(text + n, " ");
    }
    printf("\n");
}

static void print_option(const Entry *entry, const CommandLine *line)
{
    static const char *const by_type[] = {
        [TYPE_INT] = "N",     [TYPE_U64] = "N",  [TYPE_DOUBLE] = "X",       [TYPE_CHOICE] = "NAME",
        [TYPE_NAME] = "NAME", [TYPE_PATH] = "F", [TYPE_PATHS] = "F[,F...]", [TYPE_FLAG] = NULL};
    const Option *o = entry->option;
    const char *arg = o->arg ? o->arg : by_type[o->type];
    char text[1024], shown[64];
    const char *value = o->initial ? o->initial : "";
    bool setting = is_setting(entry, line);
    if (setting)
        value =
            line->command->no_defaults ? "" : option_show(o, entry->record, shown, sizeof shown);
    /* A bound that is off unless given (max-steps -1, threads 0) has no default to print. */
    if (o->type <= TYPE_DOUBLE && o->type != TYPE_U64 && strtod(value, NULL) < o->low) value = "";
    /* The help texts of these options do not say what they take. */
    bool told = o->type <= TYPE_DOUBLE || o->choices || (setting && o->type == TYPE_NAME);
    snprintf(text, sizeof text, "%s%s%s%s%s%s", o->help, told ? ": " : "", told ? o->takes : "",
             value[0] ? " (default " : "", value, value[0] ? ")" : "");
    int at = printf("      --%s%s%s", o->name, arg ? "=" : "", arg ? arg : "");
    at += printf("%*s", at < HELP_COLUMN ? HELP_COLUMN - at : 3, "");
    print_words(text, HELP_COLUMN, at);
}

static void print_help(const Table *t)
{
    const Command *c = t->line->command;
    printf("Usage: plstm %s [OPTION...]%s%s\n", c->name, c->operand ? " " : "",
           c->operand ? c->operand : "");
    print_words(c->about, 0, 0);
    printf("\n");
    settings_defaults(&t->line->settings);
    for (int i = 0; i < t->n; i++) print_option(&t->entry[i], t->line);
    if (c->remark) printf("\n"), print_words(c->remark, 0, 0);
}

/* ---- errors ---- */

/* Names by which other programs call options of this one, and what to use here. */
static const struct {
    const char *name, *hint;
} foreign[] = {
    {"dropout",
     "--keep takes the share of values that is kept, such as 0.65 for a dropout of 0.35"},
    {"nhid", "--hidden takes the number of units per layer"},
    {"emsize", "embeddings are as wide as a layer, see --hidden"},
    {"nlayers", "--layers takes the number of layers"},
    {"bptt", "--seq takes the number of time steps per minibatch"},
    {"batch-size", "--batch takes the number of rows per minibatch"},
    {"learning-rate", "--lr takes the learning rate"},
    {"lr-decay", "--decay takes the divisor of the learning rate"},
    {"steps", "--max-steps takes the number of minibatches"},
    {"log-interval", "--log-every takes the interval"},
    {"tied", "the weights of encoder and decoder are not tied here"},
    {"cuda", "--backend cuda runs on a GPU"},
    {"gpu", "--backend cuda runs on a GPU"},
    {"device", "--backend cuda runs on a GPU, and CUDA_VISIBLE_DEVICES says which"},
    {"checkpoint", "--save writes one, --resume continues from one, --weights reads one"},
    {"model", "--save writes a checkpoint, --resume continues from one, --weights reads one"},
    {"output", "--save takes the checkpoint's file, --log-json the log's"},
    {"verbose", "all messages are printed unless --quiet is given"},
};

static int refuse_name(Table *t, const char *name, size_t length, Error *e)
{
    char full[512] = "", dashed[64];
    int matches = 0;
    snprintf(dashed, sizeof dashed, "%.*s", (int)(length < sizeof dashed ? length : 0), name);
    for (char *p = dashed; *p; p++)
        if (*p == '_') *p = '-';
    if (table_find(t, dashed, strlen(dashed)))
        return error_set(e, EXIT_USAGE, "--%.*s is not an option: write --%s", (int)length, name,
                         dashed);
    const char *hint = NULL;
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0] && !hint; i++)
        if (!strcmp(foreign[i].name, dashed)) hint = foreign[i].hint;
    for (int i = 0; i < t->n && length; i++) {
        if (strncmp(t->entry[i].option->name, name, length)) continue;
        size_t n = strlen(full);
        snprintf(full + n, sizeof full - n, "%s--%s", matches++ ? " or " : "",
                 t->entry[i].option->name);
    }
    if (matches)
        return error_set(e, EXIT_USAGE,
                         "--%.*s is not an option: names must be written in full, %s%s%s",
                         (int)length, name, full, hint ? "; " : "", hint ? hint : "");
    return error_set(e, EXIT_USAGE, "--%.*s is not an option of plstm %s%s%s", (int)length, name,
                     t->line->command->name, hint ? ": " : "", hint ? hint : "");
}

int option_missing(const char *name, const char *takes, Error *e)
{
    return error_set(e, EXIT_USAGE, "--%s is required; it takes %s", name, takes);
}

/* ---- parsing the words ---- */

static int parse_operand(CommandLine *line, const char *word, Error *e)
{
    const Command *c = line->command;
    if (!c->operand)
        return error_set(e, EXIT_USAGE, "unexpected argument '%s': plstm %s takes options only",
                         word, c->name);
    if (line->operands.n && !c->operands)
        return error_set(e, EXIT_USAGE, "unexpected argument '%s': plstm %s takes one argument, %s",
                         word, c->name, c->operand);
    return path_list_add(&line->operands, word, strlen(word))
               ? EXIT_DONE
               : error_set(e, EXIT_USAGE, "plstm %s takes %s, not '%s'", c->name, c->operand_takes,
                           word);
}

/* Parses the option at argv[*at] and its value, which may be the next word. */
static int parse_option(Table *t, int argc, char **argv, int *at, Error *e)
{
    const char *name = argv[*at] + 2, *equals = strchr(name, '='),
               *value = equals ? equals + 1 : NULL;
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    Entry *entry = table_find(t, name, length);
    if (!entry) return refuse_name(t, name, length, e);
    const Option *o = entry->option;
    if (o->type == TYPE_FLAG && value)
        return error_set(e, EXIT_USAGE, "--%s takes no value, but '%s' is given", o->name, value);
    if (entry->given && o->type != TYPE_PATHS)
        return error_set(e, EXIT_USAGE, "--%s is given twice", o->name);
    entry->given = true;
    if (o->type != TYPE_FLAG && !value) {
        if (++*at == argc)
            return error_set(e, EXIT_USAGE, "--%s takes %s, but no value follows it", o->name,
                             o->takes);
        /* `--save --quiet` lacks a value. A value that really begins with dashes is written
         * --save=--quiet. */
        if (!strncmp(value = argv[*at], "--", 2))
            return error_set(e, EXIT_USAGE, "--%s takes %s, but the option %s follows it", o->name,
                             o->takes, value);
    }
    entry->value = value;
    return is_setting(entry, t->line) ? EXIT_DONE : option_parse(o, entry->record, value, e);
}

static int walk(Table *t, int argc, char **argv, Error *e)
{
    bool operands_only = false;
    int code = EXIT_DONE;
    for (int i = 1; i < argc && !code && !t->line->help; i++) {
        const char *word = argv[i];
        if (operands_only || word[0] != '-' || !word[1]) code = parse_operand(t->line, word, e);
        else if (!strcmp(word, "--")) operands_only = true;
        else if (word[1] == '-') code = parse_option(t, argc, argv, &i, e);
        else
            code = error_set(e, EXIT_USAGE,
                             "%s is not an option of plstm %s: options begin with two dashes", word,
                             t->line->command->name);
    }
    return code;
}

/* Applies the defaults, then the preset of the task, then the settings that were given. */
static int settings_make(Table *t, Error *e)
{
    Settings *s = &t->line->settings;
    char names[PRESET_NAMES];
    int code = EXIT_DONE;
    settings_defaults(s);
    const Entry *task = table_find(t, "task", 4);
    if (task && task->given) s->task = task->value;
    if (settings_preset_names(s->task, names)[0]) code = settings_preset(s, t->line->preset, e);
    for (int i = 0; i < t->n && !code; i++)
        if (is_setting(&t->entry[i], t->line) && t->entry[i].given)
            code = settings_set(s, settings_find(t->entry[i].option->name), t->entry[i].value, e);
    return code;
}

static PathList *own_paths(const CommandLine *line, int i)
{
    return (PathList *)((char *)line->own + line->command->options[i].at);
}

/* Refuses a file that is given twice: it would count twice in an average. */
static int each_once(const char *dashes, const char *name, const PathList *l, Error *e)
{
    for (int i = 0; i < l->n; i++)
        for (int j = 0; j < i; j++)
            if (same_file(l->path[j], l->path[i]))
                return error_set(
                    e, EXIT_USAGE, "%s%s takes each file once, but %s is given twice%s%s", dashes,
                    name, l->path[i], strcmp(l->path[i], l->path[j]) ? ", also as " : "",
                    strcmp(l->path[i], l->path[j]) ? l->path[j] : "");
    return EXIT_DONE;
}

/* Checks that nothing is missing and no file is given twice. */
static int complete(const Table *t, Error *e)
{
    const CommandLine *line = t->line;
    const Command *c = line->command;
    for (int i = 0; i < t->n; i++)
        if (t->entry[i].option->needed && !t->entry[i].given)
            return option_missing(t->entry[i].option->name, t->entry[i].option->takes, e);
    if (c->operand && !line->operands.n)
        return error_set(e, EXIT_USAGE, "%s is missing: plstm %s takes %s", c->operand, c->name,
                         c->operand_takes);
    int code = each_once("plstm ", c->name, &line->operands, e);
    for (int i = 0; i < c->n_options && !code; i++)
        if (c->options[i].type == TYPE_PATHS)
            code = each_once("--", c->options[i].name, own_paths(line, i), e);
    return code;
}

int command_parse(CommandLine *line, const Command *c, int argc, char **argv, Error *e)
{
    Table t = {.line = line};
    *line = (CommandLine){.command = c, .own = calloc(1, c->size + 1)};
    if (!line->own)
        return error_set(e, EXIT_FAILED, "memory ran out while the command line was read");
    table_fill(&t);
    int code = EXIT_DONE;
    for (int i = 0; i < c->n_options && !code; i++)
        if (c->options[i].initial)
            code = option_parse(&c->options[i], line->own, c->options[i].initial, e);
    if (!code) code = walk(&t, argc, argv, e);
    line->notes = line->quiet ? NULL : stderr;
    if (!code && line->help) print_help(&t);
    if (code || line->help) return code;
    code = settings_make(&t, e);
    return code ? code : complete(&t, e);
}

void command_line_free(CommandLine *line)
{
    for (int i = 0; line->own && i < line->command->n_options; i++)
        if (line->command->options[i].type == TYPE_PATHS) path_list_free(own_paths(line, i));
    path_list_free(&line->operands);
    free(line->own);
}
