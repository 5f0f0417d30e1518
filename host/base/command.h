/* command: the description of a command, and the parser of its command line. An error is one
 * sentence that names the option and the values it takes. Option names must be written in full, so
 * that adding an option never changes the meaning of a script. */
#ifndef PLSTM_COMMAND_H
#define PLSTM_COMMAND_H

#include <stdio.h>

#include "settings.h"

typedef struct CommandLine CommandLine;

/* A command. Its file under host/commands/ defines one, and main.c lists it. */
typedef struct Command {
    const char *name;      /* "train" */
    const char *summary;   /* its line in `plstm --help` */
    const char *about;     /* printed above the options in its own --help */
    const char *remark;    /* printed below them, or NULL */
    const Option *options; /* its own options, in a record of `size` bytes */
    int n_options;
    size_t size;
    const char *settings;      /* the settings that it has: "data|backend"; "": all; NULL: none */
    const char *operand;       /* name of its required argument ("DIR"); NULL: it takes none */
    const char *operand_takes; /* what the operand may be, for messages: "a folder" */
    bool operands;             /* more than one operand may be given */
    bool preset;               /* has --preset */
    bool no_defaults; /* --help prints no defaults of settings, since a file may set them */
    int (*run)(const CommandLine *line, Error *e); /* returns an ExitCode */
} Command;

/* Initialises options and n_options from a list, and size from the type of the record that it
 * fills. */
#define COMMAND_OPTIONS(list, record)                                                              \
    .options = (list), .n_options = sizeof(list) / sizeof(list)[0], .size = sizeof(record)

/* A parsed command line. */
struct CommandLine {
    const Command *command;
    void *own;          /* record of the command's own options */
    Settings settings;  /* defaults, then the preset, then what was given, which is marked */
    const char *preset; /* NULL: not given */
    PathList operands;
    bool quiet;
    bool help;   /* --help was given and has been printed: there is nothing else to do */
    FILE *notes; /* where remarks for people are printed; NULL with --quiet */
};

/* Parses the command line; argv[0] is the command's name. An option that is given twice is refused
 * unless it is a TYPE_PATHS. An option overrides the preset wherever it stands (SPEC 8).
 * EXIT_USAGE: one sentence. Call command_line_free also after a failure. */
int command_parse(CommandLine *line, const Command *command, int argc, char **argv, Error *e);
void command_line_free(CommandLine *line);

/* Writes "--data is required; it takes a folder" and returns EXIT_USAGE. */
int option_missing(const char *name, const char *takes, Error *e);

#endif
