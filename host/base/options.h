/* options: one command's line, parsed. argp (glibc) walks it and prints --help; the faults are told in one
 * sentence of our own, which names the option and what it takes, and an option's name must be written in full
 * (argp would take any unique prefix of it, so a script would change its meaning when an option is added). */
#ifndef PLSTM_OPTIONS_H
#define PLSTM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "settings.h"

typedef enum OptionType {
    OPTION_TEXT,
    OPTION_PATH,  /* as text, but not "-", which many programs take for a stream */
    OPTION_PATHS, /* may be given more than once */
    OPTION_INT,
    OPTION_U64,
    OPTION_DOUBLE,
    OPTION_CHOICE,
    OPTION_FLAG, /* takes no value: arg is NULL */
} OptionType;

/* Files of an OPTION_PATHS: a value that names an existing file is one path, another one is cut at its commas. */
typedef struct PathList {
    char **path; /* (n), each malloc'd */
    int n;
} PathList;
void path_list_free(PathList *l);

/* An option that is not a setting of a run. */
typedef struct Option {
    const char *name;
    const char *arg;   /* as --help shows it: "F" */
    const char *takes; /* "a whole number from 1" */
    const char *help;
    const char *initial; /* what holds when it is not given, for --help, or NULL */
    OptionType type;
    double low, high;    /* OPTION_INT, OPTION_DOUBLE */
    const char *choices; /* OPTION_CHOICE: "a|b|c", value is the position */
    void *value; /* const char * (TEXT, PATH), PathList, int64_t, uint64_t, double, int64_t, bool; holds the
                    default before */
} Option;

typedef struct CommandLine {
    const char *command; /* "train" */
    const char *summary; /* above the options in --help */
    const char *operand; /* what the one operand is ("DIR", it must be given), or NULL: there is none */
    PathList *operands;  /* where operands go if there may be more of them than one, or NULL */
    const Option *options;
    int n_options;
    const char *const *settings; /* names of the settings that the command has, NULL-terminated */
    bool preset;                 /* has --preset */
    bool no_defaults;            /* --help shows none for the settings: the command takes some from a file */

    /* Filled by options_parse. */
    const char *operand_value;
    const char *preset_value; /* NULL: not given */
    const char *setting[64];  /* text given for setting i, or NULL */
    bool quiet;
    bool helped; /* --help was asked for and has been printed: nothing else to do */
} CommandLine;

/* argv[0] is the command's name. EXIT_USAGE: one sentence; an option that is given twice is refused, unless it is an
 * OPTION_PATHS. */
int options_parse(CommandLine *line, int argc, char **argv, Error *e);

/* Defaults, then the preset, then the given settings (SPEC 8: an option beats the preset wherever it stands).
 * Settings given on the line are marked in s->given. */
int options_settings(const CommandLine *line, Settings *s, Error *e);

#endif
