/* options: one record per option. The command line's parser, --help, a checkpoint's metadata, the
 * log's run line and the comparisons of --resume all follow from it, so that they cannot diverge.
 * settings.c lists the settings of a run; an option that only one command has is listed in that
 * command's file. */
#ifndef PLSTM_OPTIONS_H
#define PLSTM_OPTIONS_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* The type of an option's field. */
typedef enum OptionType {
    TYPE_INT,    /* int64_t */
    TYPE_U64,    /* uint64_t */
    TYPE_DOUBLE, /* double */
    TYPE_CHOICE, /* int64_t: the index in choices */
    TYPE_NAME,   /* const char *, one of choices if there are any */
    TYPE_PATH,   /* const char *, never "-", which many programs read as a stream */
    TYPE_PATHS,  /* PathList; may be given more than once */
    TYPE_FLAG,   /* bool; takes no value */
} OptionType;

/* Files of a TYPE_PATHS. A value that names an existing file is one path; any other value is split
 * at its commas. */
typedef struct PathList {
    char **path; /* (n), each allocated by malloc */
    int n;
} PathList;

/* Appends a copy of a path of `length` bytes. Returns false if it is not a path or memory ran
 * out. */
bool path_list_add(PathList *l, const char *path, size_t length);
void path_list_free(PathList *l);

/* The part that a setting plays in --resume (SPEC 8). */
typedef enum OptionRole {
    ROLE_RUN,   /* not recorded: does not affect the weights, or depends on the machine */
    ROLE_FIXED, /* recorded; a value given with --resume must equal it */
    ROLE_ANEW,  /* recorded; may change with --resume */
} OptionRole;

typedef struct Option {
    const char *name; /* without its dashes; metadata and log use '_' for '-' */
    OptionType type;
    const char *takes; /* for messages and --help: "a whole number from 1 to 65536" */
    double low, high;  /* accepted range of a number; an option that is off has a value below low */
    const char *choices; /* TYPE_CHOICE, TYPE_NAME: "a|b|c", or NULL */
    const char *help;    /* one line for --help */
    size_t at;           /* offset of the field in its record */
    const char *initial; /* the default; NULL: zero, or the preset's value */
    const char *arg;     /* name of the value in --help; NULL: chosen by the type */
    bool needed;         /* the command refuses to run without it */
    /* Only for the settings of a run: */
    OptionRole role;
    bool of_preset; /* --preset sets it */
    /* The tasks that have the setting: NULL: all; "a|b": these; "!a": all but a. The other tasks
     * neither accept nor record it. */
    const char *tasks;
    const char *key; /* key in a checkpoint's metadata if it is not the name */
} Option;

/* Initialisers of the type, takes, low, high and choices of an Option. */
#define TAKES_WHOLE(low, high)            TYPE_INT, "a whole number from " #low " to " #high, low, high, NULL
#define TAKES_WHOLE_AS(takes, low, high)  TYPE_INT, takes, low, high, NULL
#define TAKES_SEED                        TYPE_U64, "a whole number from 0 to 18446744073709551615", 0, 0, NULL
#define TAKES_NUMBER(low, high)           TYPE_DOUBLE, "a number from " #low " to " #high, low, high, NULL
#define TAKES_NUMBER_AS(takes, low, high) TYPE_DOUBLE, takes, low, high, NULL
#define ABOVE_0                           DBL_TRUE_MIN
#define TAKES_CHOICE(takes, choices)      TYPE_CHOICE, takes, 0, 0, choices
#define TAKES_NAME(takes, choices)        TYPE_NAME, takes, 0, 0, choices
#define TAKES_TEXT(takes)                 TYPE_NAME, takes, 0, 0, NULL
#define TAKES_PATH(takes)                 TYPE_PATH, takes, 0, 0, NULL
#define TAKES_PATHS(takes)                TYPE_PATHS, takes, 0, 0, NULL
#define TAKES_NOTHING                     TYPE_FLAG, NULL, 0, 0, NULL

/* Parses value into the field of a record, which keeps a pointer to a string value. EXIT_USAGE:
 * "--keep takes ..., not 'x'". */
int option_parse(const Option *o, void *record, const char *value, Error *e);

/* Writes the field in its canonical spelling: doubles as %.17g, choices by name, u64 in decimal; an
 * empty text for a NULL string and for a PathList or bool. Returns out. */
const char *option_format(const Option *o, const void *record, char *out, size_t size);

/* Writes the field for people: 0.1 and not 0.10000000000000001. */
const char *option_show(const Option *o, const void *record, char *out, size_t size);

/* Writes the field as a member of a log line under the option's name: null if it is off, a u64 as
 * text, since a double does not hold 64 bits. */
struct JsonLine;
void option_json(const Option *o, const void *record, struct JsonLine *l);

/* Returns whether the field is equal in two records; strings are compared by their text, and
 * PathLists are never equal. */
bool option_equal(const Option *o, const void *a, const void *b);
/* Copies the field from one record to another; a string or path list is then shared. */
void option_copy(const Option *o, void *to, const void *from);

/* Writes the name with '_' for '-', at most 39 bytes; returns out. */
enum { OPTION_KEY_SIZE = 40 };
const char *option_key(const char *name, char out[OPTION_KEY_SIZE]);

#endif
