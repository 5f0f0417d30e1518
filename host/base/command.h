/* command: what a command takes, and the one walker of its line. Faults are told in one sentence, which names the option
 * and what it takes; an option's name must be written in full, so that no script changes its meaning when an option is
 * added. */
#ifndef PLSTM_COMMAND_H
#define PLSTM_COMMAND_H

#include <stdio.h>

#include "settings.h"

typedef struct CommandLine CommandLine;

/* A command: its file under host/commands/ defines one, and main.c lists it. */
typedef struct Command {
    const char *name;    /* "train" */
    const char *summary; /* of `plstm --help` */
    const char *about;   /* above the options of its own --help */
    const char *remark;  /* below them, or NULL */
    const Option *
        options; /* its own, of a record of `size` bytes, which is zero but for their initial values */
    int n_options;
    size_t size;
    const char *settings; /* that it has: "data|backend", "" all of them; NULL: none */
    const char
        *operand;  /* what is named without an option ("DIR") and must be given; NULL: nothing is */
    bool operands; /* more of them than one may be given */
    bool preset;   /* has --preset */
    bool no_defaults; /* --help shows none for the settings: the command takes some from a file */
    int (*run)(const CommandLine *line, Error *e);
} Command;

/* options and n_options of a list, and the record that it fills. */
#define COMMAND_OPTIONS(list, record)                                                              \
    .options = (list), .n_options = sizeof(list) / sizeof(list)[0], .size = sizeof(record)

/* A line, parsed. */
struct CommandLine {
    const Command *command;
    void *own;          /* the record of its own options */
    Settings settings;  /* defaults, then the preset, then what was given, which is marked */
    const char *preset; /* NULL: not given */
    PathList operands;
    bool quiet;
    bool help;   /* was asked for and has been printed: nothing else to do */
    FILE *notes; /* where remarks for people go; NULL: --quiet */
};

/* argv[0] is the command's name. EXIT_USAGE: one sentence; an option that is given twice is refused, unless it is a
 * TYPE_PATHS. SPEC 8: an option beats the preset wherever it stands. command_line_free is due also where it fails. */
int command_parse(CommandLine *line, const Command *command, int argc, char **argv, Error *e);
void command_line_free(CommandLine *line);

/* "--data takes a folder, and is missing"; returns EXIT_USAGE. */
int option_missing(const char *name, const char *takes, Error *e);

#endif
